"""Fewer, longer loops: neighbouring axes that every access steps through as through one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from funcgrad.backends.loops.nests.nest import INDEXED, Axis, Index, Kernel, Loop, Rows


def collapse(kernel: Kernel) -> None:
    """Merge neighbouring axes that every access steps through as through one."""
    statements = list(kernel.statements())
    indices = [s.index for s in statements if isinstance(s, INDEXED)]
    indices += [Index(0, ((s.axis, 1),)) for s in statements if type(s) is Rows]
    changes: dict[Axis, Axis | None] = {}
    kernel.outer = merge_axes(kernel.outer, indices, changes)
    kernel.body = [_with_longer_loops(s, indices, changes) for s in kernel.body]
    kernel.setup = [renamed(s, changes) for s in kernel.setup]
    kernel.body = [renamed(s, changes) for s in kernel.body]


def _with_longer_loops(s: Any, indices: list[Index], changes: dict[Axis, Axis | None]) -> Any:
    if type(s) is Loop:
        return Loop(merge_axes(s.axes, indices, changes), s.body, s.reductions)
    if type(s) is Rows:
        return s._replace(body=[_with_longer_loops(x, indices, changes) for x in s.body])
    return s


def merge_axes(
    axes: Sequence[Axis], indices: list[Index], changes: dict[Axis, Axis | None]
) -> tuple[Axis, ...]:
    """Longer axes in place of these; `changes` tells what becomes of each that is merged."""
    groups: list[list[Axis]] = []
    for axis in [a for a in axes if a.extent > 1] or axes[:1]:
        last = groups[-1][-1] if groups else None
        if last is not None and all(i.step(last) == i.step(axis) * axis.extent for i in indices):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    found = []
    for group in groups:
        if len(group) == 1:
            found.append(group[0])
            continue
        # The loops of all passes have the same axes, and must keep doing so.
        new = changes.get(group[-1]) or Axis(prod(a.extent for a in group), group[0].outer)
        changes.update(dict.fromkeys(group[:-1], None))
        changes[group[-1]] = new
        found.append(new)
    return tuple(found)


def renamed(s: Any, changes: dict[Axis, Axis | None]) -> Any:
    if type(s) in (Loop, Rows):
        return s._replace(body=[renamed(x, changes) for x in s.body])
    if not isinstance(s, INDEXED):
        return s
    terms = []
    for axis, step in s.index.terms:
        target = changes.get(axis, axis)
        if target is not None:
            terms.append((target, step))
    return s._replace(index=Index(s.index.const, tuple(terms), s.index.dynamic))
