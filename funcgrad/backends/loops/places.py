"""Where in a value an element lies, in terms of a kernel's axes."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.loops.nest import Index
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


def positions(entry: Any, n: int) -> range:
    """The positions that an entry of an index names on an axis of that length."""
    return range(*slice(*entry).indices(n)) if type(entry) is tuple else range(n)[entry:][:1]


def broadcast(atom: Any, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places of an operand that broadcasts to a result."""
    shape = atom.aval.shape
    own = places[len(places) - len(shape) :]
    return tuple(ZERO if n == 1 else p for n, p in zip(shape, own, strict=True))


def through_view(eqn: Eqn, places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The places of a view's operand."""
    name, shape = eqn.prim.name, eqn.ins[0].aval.shape
    if name == "transpose":
        found: list[Any] = [ZERO] * len(shape)
        for place, p in zip(places, eqn.params["perm"], strict=True):
            found[p] = place
        return tuple(found)
    if name == "broadcast_to":
        return broadcast(eqn.ins[0], places)
    if name == "reshape":
        supply = iter(p for n, p in zip(eqn.outs[0].aval.shape, places, strict=True) if n != 1)
        return tuple(ZERO if n == 1 else next(supply) for n in shape)
    if name == "flip":
        axes = eqn.params["axes"]
        turned = [mapped(p, n - 1, -1) for n, p in zip(shape, places, strict=True)]
        return tuple(turned[i] if i in axes else p for i, p in enumerate(places))
    if name == "index":
        supply = iter(places)
        found = []
        for n, e in zip(shape, eqn.params["idx"], strict=True):
            r = positions(e, n)
            found.append(mapped(next(supply) if type(e) is tuple else ZERO, r.start, r.step))
        return tuple(found)
    return places
