"""The dtypes that elementwise equations compute in."""

from __future__ import annotations

import numpy as np

from funcgrad.core.aval import promotion_kind, resolve_ufunc
from funcgrad.core.graph import Eqn

BOOL = np.dtype(bool)
INT64 = np.dtype(np.int64)
# The integer dtypes that do not hold all of int64.
NARROW = tuple(map(np.dtype, ("i1", "u1", "i2", "u2", "i4", "u4", "u8")))


def narrow_range(dtype: np.dtype) -> tuple[int, int]:
    """The least number of a narrow dtype, and how many there are of those that int64 has, too.

    The count is written as int64 has its bits.
    """
    limits, most = np.iinfo(dtype), np.iinfo(INT64).max
    count = min(limits.max, most) - limits.min + 1
    return limits.min, count if count <= most else -count


def narrow_code(dtype: np.dtype) -> int:
    """What stands for a narrow dtype where else the size of an axis is reported."""
    return -1 - NARROW.index(dtype)


def loop_dtypes(eqn: Eqn) -> tuple[np.dtype, ...]:
    """The dtypes an elementwise equation converts its operands to before it computes."""
    out, prim = eqn.outs[0].aval.dtype, eqn.prim
    if prim.operand_dtypes is not None:
        return tuple(prim.operand_dtypes(out, *(a.aval.dtype for a in eqn.ins)))
    impl = prim.impl
    if isinstance(impl, np.ufunc):
        return resolve_ufunc(impl, tuple(promotion_kind(a.aval) for a in eqn.ins))[: impl.nin]
    return (out,) * len(eqn.ins)
