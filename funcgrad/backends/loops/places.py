"""Where in a value an element lies, in terms of a kernel's axes."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.loops.nest import Axis, Ref
from funcgrad.core.graph import Eqn

# A position on an axis of a value: `const + sum(axis * step) + value`.
Place = tuple[int, tuple[tuple[Axis, int], ...], Ref | None]
ZERO: Place = (0, (), None)


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
    if name == "index":
        supply = iter(places)
        idx = zip(shape, eqn.params["idx"], strict=True)
        return tuple(next(supply) if type(e) is tuple else (e % n, (), None) for n, e in idx)
    return places
