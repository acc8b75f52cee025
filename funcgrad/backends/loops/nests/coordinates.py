"""Where in a value an element lies, in terms of a kernel's axes."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.loops.nests.nest import Index, affine
from funcgrad.backends.loops.nests.views import map_of
from funcgrad.core.graph import Eqn
from funcgrad.core.view_map import ViewMap

# A position on an axis of a value.
Coordinate = Index
ZERO = Index(0)


def mapped(coordinate: Coordinate, start: int, step: int) -> Coordinate:
    """`start + step * coordinate`."""
    terms = tuple((axis, step * s) for axis, s in coordinate.terms)
    return Index(
        start + step * coordinate.const, terms, tuple((r, step * s) for r, s in coordinate.dynamic)
    )


def added(x: Coordinate, y: Coordinate) -> Coordinate:
    index = affine(x.const + y.const, (*x.terms, *y.terms))
    return index._replace(dynamic=(*x.dynamic, *y.dynamic))


def unmapped(coordinate: Coordinate, start: int, step: int) -> Coordinate:
    """`(coordinate - start) / step`, where that is a whole number for all axes' positions."""
    terms = tuple((axis, s // step) for axis, s in coordinate.terms)
    return Index((coordinate.const - start) // step, terms)


def broadcast(atom: Any, coordinates: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
    """The coordinates of an operand that broadcasts to a result."""
    shape = atom.aval.shape
    own = coordinates[len(coordinates) - len(shape) :]
    return tuple(ZERO if n == 1 else p for n, p in zip(shape, own, strict=True))


def through_view(eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
    """The coordinates of a view's operand."""
    found, shape = map_of(eqn), eqn.ins[0].aval.shape
    own = in_source(found, coordinates)
    if found.source == shape:
        return own
    supply = iter(p for n, p in zip(found.source, own, strict=True) if n != 1)
    return tuple(ZERO if n == 1 else next(supply) for n in shape)


def in_source(found: ViewMap, coordinates: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
    """Where in a view's source its elements lie."""
    own = [ZERO] * len(found.source)
    for coordinate, along in zip(coordinates, found.axes, strict=True):
        if along is not None:
            here = mapped(coordinate, along.start, along.step)
            before = own[along.axis]
            own[along.axis] = here if before is ZERO else added(before, here)
    for axis, position in found.fixed:
        own[axis] = Index(position)
    return tuple(own)
