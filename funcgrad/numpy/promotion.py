"""Where Python integers meet dtypes, under NEP 50: they take the dtype of what they meet.

One that the dtype cannot hold is an error; but comparisons are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer
from funcgrad.primitives.elementwise import cast, convert
from funcgrad.primitives.integers import INT64, fit, holds

COMPARISONS = frozenset(
    {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}
)


def _promoted(a: Any, aval: Aval, dtype: np.dtype) -> Any:
    if aval.weak and aval.dtype.kind == "i":
        if dtype.kind in "iu":
            return fit(a, dtype)
        if dtype.kind == "b" and type(a) is int:
            return fit(a, INT64)
    if type(a) is Tracer and (aval.dtype != dtype or aval.weak):
        return cast(a, dtype)
    return a


def promoted(
    ufunc: np.ufunc, args: Sequence[Any], avals: Sequence[Aval], dtypes: Sequence[np.dtype]
) -> tuple[Any, ...]:
    """Operands in the dtypes that NumPy computes a ufunc in; plain ones are left to NumPy."""
    if ufunc in COMPARISONS and dtypes[0].kind in "iu":
        args, dtypes = _comparable(args, avals, dtypes)
    return tuple(map(_promoted, args, avals, dtypes))


def _comparable(
    args: Sequence[Any], avals: Sequence[Aval], dtypes: Sequence[np.dtype]
) -> tuple[Sequence[Any], Sequence[np.dtype]]:
    """Integers that compare as these, of dtypes that hold them."""
    for i in (0, 1):
        a = args[i]
        if type(a) is int:
            if holds(dtypes[i], a):
                return args, dtypes
            # It lies on the same side of all numbers of the dtype.
            stand_ins: list[Any] = [np.int64(1 if a > 0 else -1)] * 2
            stand_ins[1 - i] = np.broadcast_to(np.int64(0), shape_of(args[1 - i]))[()]
            return stand_ins, (INT64, INT64)
    for i in (0, 1):
        other = avals[1 - i]
        if avals[i].weak and type(args[i]) is Tracer and not other.weak:
            numbers, wide = list(args), [INT64, INT64]
            numbers[i] = bind(convert, args[i], dtype=INT64)
            if other.dtype == np.uint64:
                # It compares with int64 as a number does, with no dtype for both.
                wide[1 - i] = other.dtype
            return numbers, wide
    return args, dtypes
