"""Parts of reductions that chunks of rows accumulate: how they are laid out, and combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.loops.nests.nest import (
    Axis,
    Combine,
    Index,
    Kernel,
    Load,
    Loop,
    Param,
    Reduction,
    Ref,
    Rows,
    Store,
    affine,
)
from funcgrad.records import replace

# So many elements are combined side by side, one statement for each.
_FEW = 4


def in_order(kernel: Kernel) -> tuple[Kernel, dict[int, int]]:
    """The kernel, its parts laid out so that the loops reach their elements one after the other.

    Only what combines them reads the parts. An (n, 3) array of sums, which a loop over n would
    reach in steps of three, is accumulated as (3, n).

    Returns:
        the kernel, and for each parameter that is laid out anew the step there was.
    """
    steps = {}
    for number, param in enumerate(kernel.params):
        if param.role == "partial":
            found = _steps(kernel.body, number)
            step = found.pop() if len(found) == 1 else 0
            places = [s.index for s in kernel.statements() if _adds_to(s, number)]
            if step > 1 and None not in [_across(i, step, param.size) for i in places]:
                steps[number] = step
    if not steps:
        return kernel, steps
    sizes = [p.size for p in kernel.params]
    return replace(kernel, body=_moved(kernel.body, steps, sizes)), steps


def _adds_to(s: Any, number: int) -> bool:
    return type(s) is Combine and s.array == number


def _steps(body: Sequence[Any], number: int) -> set[int]:
    """By how many elements loops step where they accumulate."""
    found = set()
    for s in body:
        if type(s) is Loop:
            found |= {abs(x.index.step(s.axes[-1])) for x in s.body if _adds_to(x, number)}
        elif type(s) is Rows:
            found |= _steps(s.body, number)
    return found


def _across(index: Index, step: int, size: int) -> Index | None:
    """Where element `q * step + r` lies in columns, if all terms are of either q or r."""
    if index.dynamic or size % step:
        return None
    length = size // step
    q, r = divmod(index.const, step)
    terms, reach = [], r
    for axis, far in index.terms:
        if far % step:
            reach += far * (axis.extent - 1) if far > 0 else step
        terms.append((axis, far * length if far % step else far // step))
    return Index(r * length + q, tuple(terms)) if reach < step else None


def _moved(body: Sequence[Any], steps: dict[int, int], sizes: Sequence[int]) -> list[Any]:
    found = []
    for s in body:
        if type(s) in (Loop, Rows):
            s = s._replace(body=_moved(s.body, steps, sizes))
        elif type(s) is Combine and s.array in steps:
            s = s._replace(index=_across(s.index, steps[s.array], sizes[s.array]))
        found.append(s)
    return found


def combine_nest(param: Param, chunks: int, step: int = 1) -> Kernel:
    """A kernel that combines the chunks' parts of a reduction, in order.

    Args:
        step: of parts that are laid out anew, what `in_order` tells.
    """
    params = [Param(param.dtype, param.size * chunks, "in"), Param(param.dtype, param.size, "out")]
    if step > 1:
        return _combine_columns(param, chunks, step)
    if param.size == 1:
        axis = Axis(chunks, False)
        value, total = Ref(param.dtype, 2), Ref(param.dtype, 1)
        loop = Loop(
            (axis,), [Load(value, 0, affine(0, [(axis, 1)]))], [Reduction(total, param.op, value)]
        )
        return Kernel(params, (), [], [loop, Store(1, affine(0, []), total)], parallel=False)
    axis, later = Axis(param.size, False), Axis(chunks - 1, False)
    first, value = Ref(param.dtype, 2), Ref(param.dtype, 2)
    place = affine(0, [(axis, 1)])
    start: list[Any] = [Load(first, 0, place), Store(1, place, first)]
    behind = affine(param.size, [(later, param.size), (axis, 1)])
    rest: list[Any] = [Load(value, 0, behind), Combine(1, place, param.op, value)]
    return Kernel(params, (), [], [Loop((axis,), start, []), Loop((later, axis), rest, [])])


def _combine_columns(param: Param, chunks: int, step: int) -> Kernel:
    """All parts are combined in the first one's place, and put into rows from there."""
    dtype, size, length = param.dtype, param.size, param.size // step
    along, later = Axis(length, False), Axis(max(chunks - 1, 1), False)
    columns = Axis(step, False) if step > _FEW else None
    sums: list[Any] = []
    stores: list[Any] = []
    for r in range(1 if columns else step):
        more = [(columns, length)] if columns else []
        here = affine(r * length, [*more, (along, 1)])
        part = affine(size + r * length, [(later, size), *more, (along, 1)])
        value, total = Ref(dtype, 2), Ref(dtype, 2)
        sums += [Load(value, 0, part), Combine(0, here, param.op, value)]
        more = [(columns, 1)] if columns else []
        stores += [Load(total, 0, here), Store(1, affine(r, [*more, (along, step)]), total)]
    inner = (columns, along) if columns else (along,)
    body = [Loop((later, *inner), sums, [])] if chunks > 1 else []
    params = [Param(dtype, size * chunks, "out"), Param(dtype, size, "out")]
    return Kernel(params, (), [], [*body, Loop(inner, stores, [])])
