"""Views of buffers: strided parts, as NumPy's views of arrays are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.core.graph import Eqn
from funcgrad.core.view_map import ViewMap
from funcgrad.records import NamedTuple


class View(NamedTuple):
    """Part of a buffer, strides and offset counted in elements."""

    buffer: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def contiguous(self) -> bool:
        return self.strides == row_major(self.shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return _row_major(tuple(shape))


@lru_cache(maxsize=1024)
def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def contiguous(buffer: Buffer | None, shape: Sequence[int]) -> View:
    return View(buffer, tuple(shape), row_major(shape), 0)


def map_of(eqn: Eqn) -> ViewMap:
    """Where the elements of a view lie in its operand."""
    assert eqn.prim.view is not None
    return eqn.prim.view(eqn.ins[0].aval.shape, **eqn.params)


def parts_of(eqn: Eqn) -> Sequence[ViewMap]:
    """The part of an assembled array that each operand becomes."""
    assert eqn.prim.assembles is not None
    return eqn.prim.assembles(*(a.aval.shape for a in eqn.ins), **eqn.params)


def place_of(eqn: Eqn) -> ViewMap:
    """The part of the result that an operand is added to."""
    assert eqn.prim.accumulates is not None
    return eqn.prim.accumulates(eqn.ins[0].aval.shape, **eqn.params)


def view_of(eqn: Eqn, base: View) -> View | None:
    """The view that an equation makes of its operand's; None where only a copy has it."""
    return through(map_of(eqn), base, eqn.outs[0].aval.shape)


def through(found: ViewMap, base: View, shape: Sequence[int]) -> View | None:
    """A view, of this shape, of a view; None where only a copy has it."""
    strides = base.strides if found.source == base.shape else _reshaped(base, found.source)
    if strides is None:
        return None
    offset = base.offset + sum(strides[axis] * position for axis, position in found.fixed)
    offset += sum(strides[a.axis] * a.start for a in found.axes if a is not None)
    steps = tuple(0 if a is None else strides[a.axis] * a.step for a in found.axes)
    return View(base.buffer, tuple(shape), steps, offset)


def part(found: ViewMap, buffer: Buffer | None, shape: Sequence[int]) -> View:
    """A part, of this shape, of an array that is put together in a buffer."""
    view = through(found, contiguous(buffer, found.source), shape)
    assert view is not None
    return view


def elements(view: View) -> np.ndarray:
    """The number of each element of a view in its buffer."""
    places = np.full(view.shape, view.offset, np.int64)
    for axis, (n, step) in enumerate(zip(view.shape, view.strides, strict=True)):
        along = [1] * len(view.shape)
        along[axis] = n
        places = places + (np.arange(n) * step).reshape(along)
    return places


def _reshaped(base: View, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The strides of a reshaped view, as NumPy finds them; None where it needs a copy."""
    if base.contiguous or not prod(shape):
        return row_major(shape)
    old = [(n, s) for n, s in zip(base.shape, base.strides, strict=True) if n != 1]
    new: list[int] = []
    i = 0
    for n in shape:
        if n == 1:
            new.append(0)
            continue
        length, step = old[i]
        while length % n:
            following, small = old[i + 1]
            if step != small * following:
                return None
            length, step = length * following, small
            i += 1
        new.append(step * (length // n))
        old[i] = (length // n, step)
        i += length == n
    return tuple(new)
