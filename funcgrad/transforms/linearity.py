"""Whether a recorded function is linear, read off its equations.

A backward rule is meant to be linear in the cotangent; one that clips it, say, is not, and
then has no transpose that forward mode could use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.graph import Eqn, live_eqns
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import Tracer

# Elementwise primitives: linear in all operands jointly, in any one alone, in the first alone.
_JOINTLY = frozenset({"add", "sub", "neg", "where"})
_EITHER = frozenset({"mul"})
_FIRST = frozenset({"div", "masked", "share", "gate"})


def first_nonlinear(
    eqns: Sequence[Eqn], inputs: Iterable[Any], outputs: Sequence[Any]
) -> Primitive | None:
    """The first primitive that keeps `outputs` from being linear in `inputs`; None if none does.

    Equations that hold graphs are not looked into, and count as not linear.
    """
    dependent = set(map(id, inputs))
    for eqn in live_eqns(eqns, outputs):
        flags = [id(a) in dependent for a in eqn.ins]
        if not any(flags):
            continue
        if not _is_linear(eqn, flags):
            return eqn.prim
        dependent.update(map(id, eqn.outs))
    return None


def _is_linear(eqn: Eqn, flags: Sequence[bool]) -> bool:
    prim = eqn.prim
    if any(f and not aval_of(a).inexact for f, a in zip(flags, eqn.ins, strict=True)):
        return False
    if prim.kind == "linear" or prim.name in _JOINTLY:
        return all(
            f or not aval_of(a).inexact or _is_zero(a) for f, a in zip(flags, eqn.ins, strict=True)
        )
    if prim.kind == "bilinear" or prim.name in _EITHER:
        return sum(flags) == 1
    return prim.name in _FIRST and flags[0] and not any(flags[1:])


def _is_zero(a: Any) -> bool:
    return type(a) is not Tracer and not np.any(a)
