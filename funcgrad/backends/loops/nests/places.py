"""Where in a value an element lies, in terms of a kernel's axes."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.loops.nests.nest import Index
from funcgrad.backends.loops.nests.views import map_of
from funcgrad.core.graph import Eqn

# A position on an axis of a value.
Place = Index
ZERO = Index(0)


def mapped(place: Place, start: int, step: int) -> Place:
    """`start + step * place`."""
    terms = tuple((axis, step * s) for axis, s in place.terms)
    return Index(start + step * place.const, terms, tuple((r, step * s) for r, s in place.dynamic))


def unmapped(place: Place, start: int, step: int) -> Place:
    """`(place - start) / step`, where that is a whole number for all of the axes' positions."""
    terms = tuple((axis, s // step) for axis, s in place.terms)
    return Index((place.const - start) // step, terms)


def broadcast(atom: Any, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places of an operand that broadcasts to a result."""
    shape = atom.aval.shape
    own = places[len(places) - len(shape) :]
    return tuple(ZERO if n == 1 else p for n, p in zip(shape, own, strict=True))


def through_view(eqn: Eqn, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places of a view's operand."""
    found, shape = map_of(eqn), eqn.ins[0].aval.shape
    own = [ZERO] * len(found.source)
    for place, along in zip(places, found.axes, strict=True):
        if along is not None:
            own[along.axis] = mapped(place, along.start, along.step)
    for axis, position in found.fixed:
        own[axis] = Index(position)
    if found.source == shape:
        return tuple(own)
    supply = iter(p for n, p in zip(found.source, own, strict=True) if n != 1)
    return tuple(ZERO if n == 1 else next(supply) for n in shape)
