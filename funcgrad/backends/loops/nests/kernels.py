"""Kernels that are written by hand, and how kernels are cut into chunks for threads."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from funcgrad.backends.loops.nests.collapse import merge_axes, renamed
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.nest import (
    INDEXED,
    Axis,
    Kernel,
    Load,
    Loop,
    Op,
    Param,
    Ref,
    Store,
    affine,
)
from funcgrad.backends.loops.nests.views import View
from funcgrad.records import replace

# Operations that take so many cheap ones count as so many.
SLOW, _FUNCTION_WORK = 4, 12


def work_of(kernel: Kernel) -> int:
    """Scalar operations, roughly."""
    total = 0
    for loop, rows in kernel.passes():
        cost = 1
        for s in loop.body:
            cost += _FUNCTION_WORK if type(s) is Op and s.cost >= SLOW else 1
        total += rows * cost * prod(a.extent for a in loop.axes)
    return max(total, kernel.rows)


def chunking(kernel: Kernel, limits: Limits) -> tuple[int, int]:
    """How many rows (or elements, where there are none) there are, and how many make a chunk.

    It depends on the kernel alone, so that sums are formed alike by any number of threads.
    """
    if kernel.outer:
        count, grain = kernel.rows, 1
    else:
        count = max([loop.axes[-1].extent for loop in kernel.loops()], default=1)
        grain = limits.grain
    work = work_of(kernel)
    if not kernel.parallel or work < limits.parallel_work:
        return count, count
    streams = max(2, kernel.elements // limits.stream, work // (8 * limits.parallel_work))
    chunks = min(limits.chunks, count, max(2, work // (limits.parallel_work // 2)), streams)
    kept = sum(p.size for p in kernel.params if p.role == "partial")
    if kept:
        chunks = min(chunks, max(1, kernel.elements // (4 * kept)))
    chunk = -(-count // chunks)
    if any(block.outer for _, block, _ in far_loads(kernel, limits)):
        # Neighbouring rows share the cache lines that they read.
        chunk = max(chunk, min(limits.far_together, kernel.rows // 4))
    return count, -(-chunk // grain) * grain


def far_loads(kernel: Kernel, limits: Limits) -> Iterator[tuple[Load, Axis, Axis]]:
    """Loads that step along the inner axis by many elements, and along the one around it by one;
    with these two axes, the inner one last."""
    for loop in kernel.body:
        axes = (*kernel.outer, *loop.axes) if type(loop) is Loop else ()
        if len(axes) > 1 and axes[-2].extent >= limits.far_rows:
            for s in _far_along(kernel, loop, limits):
                if abs(s.index.step(axes[-2])) == 1:
                    yield s, axes[-2], axes[-1]


def _far_along(kernel: Kernel, loop: Loop, limits: Limits) -> Iterator[Load]:
    inner = loop.axes[-1]
    for s in loop.body if inner.extent >= limits.far_length else ():
        if type(s) is Load and kernel.params[s.array].role == "in" and not s.index.dynamic:
            if abs(s.index.step(inner)) > limits.far_step:
                yield s


def neighbours_together(kernel: Kernel, limits: Limits) -> Kernel:
    """The kernel, its rows in such an order that neighbours read neighbouring elements.

    Where the inner axis is the slowest of an operand, as in `x.transpose(2, 1, 0)`, its fastest
    becomes the last one of those that count rows.
    """
    in_any_order = kernel.parallel and all(p.role != "partial" for p in kernel.params)
    if not in_any_order or len(kernel.outer) < 2 or any(far_loads(kernel, limits)):
        return kernel
    for loop in kernel.body:
        if type(loop) is Loop and len(loop.axes) == 1:
            for s in _far_along(kernel, loop, limits):
                for axis in kernel.outer:
                    if abs(s.index.step(axis)) == 1 and axis.extent >= limits.far_rows:
                        others = (a for a in kernel.outer if a is not axis)
                        return replace(kernel, outer=(*others, axis))
    return kernel


def copy_nest(source: View, destination: View) -> Kernel:
    """A kernel that copies one view to another."""
    axes = [Axis(n, False) for n in source.shape] or [Axis(1, False)]
    have, want = source.buffer.dtype, destination.buffer.dtype
    value = Ref(have, 2)
    terms = list(zip(axes, source.strides, strict=False))
    body: list[Any] = [Load(value, 0, affine(source.offset, terms))]
    stored = value
    if have != want:
        stored = Ref(want, 2)
        body.append(Op(stored, "convert", (value,)))
    terms = list(zip(axes, destination.strides, strict=False))
    body.append(Store(1, affine(destination.offset, terms), stored))
    return _rows_of(
        [Param(have, source.buffer.size, "in"), Param(want, destination.buffer.size, "out")],
        axes,
        body,
    )


def _rows_of(params: list[Param], axes: list[Axis], body: list[Any]) -> Kernel:
    """A kernel of one pass, its axes merged where they can be; the last one is inner."""
    changes: dict[Any, Any] = {}
    merged = merge_axes(axes, [s.index for s in body if isinstance(s, INDEXED)], changes)
    body = [renamed(s, changes) for s in body]
    for axis in merged[:-1]:
        axis.outer = True
    return Kernel(params, tuple(merged[:-1]), [], [Loop(merged[-1:], body, [])])
