"""A pass: kernels are cut into chunks of rows, each of which accumulates in a part of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.kernels import chunking
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.partials import combine_nest, in_order
from funcgrad.backends.loops.planning.plan import ProductAndKernel, RunKernel, Step
from funcgrad.records import replace


def chunked(steps: Sequence[Step], limits: Limits) -> list[Step]:
    """The steps, all kernels with chunks and buffers, followed by what combines their parts."""
    found: list[Step] = []
    # Of kernels that run more than once, by their ids.
    known: dict[int, tuple[int, int]] = {}
    for step in steps:
        if isinstance(step, RunKernel):
            key = id(step.kernel)
            if key not in known:
                known[key] = chunking(step.kernel, limits)
            count, chunk = known[key]
            run, combining = _bound(replace(step, count=count, chunk=chunk), limits)
            found += [run, *combining]
        elif isinstance(step, ProductAndKernel):
            run, combining = _bound(step.run, limits)
            found += [replace(step, run=run), *combining]
        else:
            found.append(step)
    return found


def _cut(run: RunKernel, limits: Limits) -> RunKernel:
    count, chunk = chunking(run.kernel, limits)
    return replace(run, count=count, chunk=chunk)


def _bound(run: RunKernel, limits: Limits) -> tuple[RunKernel, list[RunKernel]]:
    """A run with buffers for what is the kernel's own, and the runs that combine its parts."""
    chunks = -(-run.count // run.chunk)
    kernel, steps = in_order(run.kernel)
    buffers: list[Any] = list(run.buffers)
    combining: list[RunKernel] = []
    for i, p in enumerate(kernel.params):
        if p.role == "scratch":
            buffers[i] = Buffer(p.dtype, p.size * chunks)
        elif p.role == "partial":
            into = buffers[p.into]
            if chunks == 1 and i not in steps:
                buffers[i] = into
                continue
            buffers[i] = Buffer(p.dtype, p.size * chunks)
            combine = RunKernel(combine_nest(p, chunks, steps.get(i, 1)), (buffers[i], into))
            first, more = _bound(_cut(combine, limits), limits)
            combining += [first, *more]
    return replace(run, kernel=kernel, buffers=tuple(buffers)), combining
