"""The dtypes that elementwise equations compute in."""

from __future__ import annotations

import numpy as np

from funcgrad.backends.loops.decompose import THREEFRY, WORD
from funcgrad.core.aval import promotion_kind, resolve_ufunc
from funcgrad.core.graph import Eqn

BOOL = np.dtype(bool)


def loop_dtypes(eqn: Eqn) -> tuple[np.dtype, ...]:
    """The dtypes an elementwise equation converts its operands to before it computes."""
    out, name = eqn.outs[0].aval.dtype, eqn.prim.name
    if name == "where":
        return (BOOL, out, out)
    if name in ("masked", "gate"):
        return (out, BOOL)
    if name in THREEFRY:
        return (WORD,) * 4
    if name in ("convert", "stop_gradient"):
        return (eqn.ins[0].aval.dtype,)
    impl = eqn.prim.impl
    if isinstance(impl, np.ufunc):
        return resolve_ufunc(impl, tuple(promotion_kind(a.aval) for a in eqn.ins))[: impl.nin]
    return (out,) * len(eqn.ins)
