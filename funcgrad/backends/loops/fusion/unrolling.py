"""Which last axes are no loops: each of their elements is computed by code of its own."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.views import map_of
from funcgrad.core.graph import Eqn, Graph


def unrolled_extents(graph: Graph, limits: Limits) -> list[tuple[int, ...]]:
    """The lengths of last axes that are unrolled: short ones that some equation sums over, or over
    all but them, and those of a window's elements, where it does so."""
    found: set[tuple[int, ...]] = set()
    within: dict[int, int] = {}
    columns: set[tuple[int, ...]] = set()
    work: Counter[tuple[int, ...]] = Counter()
    for eqn in graph.eqns:
        if eqn.prim.reduces:
            count, most = _reduced(eqn, within, limits)
            shape = eqn.ins[0].aval.shape
            extents, rest = shape[len(shape) - count :], shape[: len(shape) - count]
            if not rest or prod(rest) < limits.unroll_rows:
                continue
            if 1 < prod(extents) <= most:
                found.add(extents)
            elif set(eqn.params["axes"]) == {*range(len(shape) - 1)}:
                columns.add(shape[-1:])
        elif len(eqn.outs) == 1:
            count = _within(eqn, within, limits)
            if count:
                within[id(eqn.outs[0])] = count
            if not eqn.prim.view:
                work[eqn.outs[0].aval.shape[-1:]] += eqn.prim.cost
    for extents in columns:
        # Code of functions is long.
        count = prod(extents)
        if 1 < count <= limits.unroll_columns and work[extents] * count <= limits.unroll_work:
            found.add(extents)
    return sorted(found, key=lambda extents: (-len(extents), extents))


def _reduced(eqn: Eqn, within: dict[int, int], limits: Limits) -> tuple[int, int]:
    """How many of a reduction's last axes may be unrolled, of how many elements at most."""
    operand, axes = eqn.ins[0], set(eqn.params["axes"])
    rank, count = len(operand.aval.shape), within.get(id(operand), 0)
    window = set(range(rank - count, rank))
    if count and (axes >= window or axes.isdisjoint(window)):
        return count, limits.unroll_window
    return int(axes in ({rank - 1}, {*range(rank - 1)})), limits.unroll


def _within(eqn: Eqn, within: dict[int, int], limits: Limits) -> int:
    """How many of a result's last axes are those of a window's elements."""
    if eqn.prim.view:
        return _window_axes(eqn, within.get(id(eqn.ins[0]), 0))
    if eqn.prim.kind not in ("elementwise", "nondifferentiable") or eqn.prim.assembles:
        return 0
    count = max((within.get(id(a), 0) for a in eqn.ins), default=0)
    shape = eqn.outs[0].aval.shape
    # Code of functions is long.
    work = eqn.prim.cost * prod(shape[len(shape) - count :])
    return count if work <= limits.unroll_work else 0


def _window_axes(eqn: Eqn, before: int) -> int:
    found = map_of(eqn)
    axes: list[Any] = [None if a is None else a.axis for a in found.axes]
    rank = len(found.source)
    known = set(range(rank - before, rank)) if found.source == eqn.ins[0].aval.shape else set()
    count = 0
    for at in reversed(range(len(axes))):
        if axes[at] is None or (axes[at] not in known and axes[at] not in axes[:at]):
            break
        count += 1
    return count
