"""`np.interp`: piecewise linear functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError, at_line
from funcgrad.numpy.convert import as_array
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.selection import take
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.elementwise import cast

_F64, _C128 = np.dtype(np.float64), np.dtype(np.complex128)


def _as(dtype: np.dtype, x: Any) -> Any:
    """x in double precision, in which NumPy interpolates whatever it is given."""
    x = as_array(x)
    if not np.can_cast(x.dtype, dtype):
        raise at_line(OperandTypeError, f"np.interp needs real numbers here, got {aval_of(x)}")
    return cast(x, dtype)


@implements(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    fp = as_array(fp)
    value = _C128 if fp.dtype.kind == "c" else _F64
    x, xp, fp = _as(_F64, x), _as(_F64, xp), _as(value, fp)
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise at_line(
            ShapeError,
            f"np.interp needs as many xp as fp, at least one; got {aval_of(xp)}, {aval_of(fp)}",
        )
    if period is not None:
        x, xp, fp = _unrolled(x, xp, fp, period)
        left = right = None
    left = fp[0] if left is None else _as(value, left)
    right = fp[-1] if right is None else _as(value, right)
    inside = fp[0] if len(xp) == 1 else _between(x, xp, fp)
    return np.where(x < xp[0], left, np.where(x > xp[-1], right, inside))


def _unrolled(x: Any, xp: Any, fp: Any, period: Any) -> tuple[Any, Any, Any]:
    """One period, and a point more at either side."""
    if np.ndim(period) == 0 and type(period) in (int, float) and period == 0:
        raise at_line(ArgumentError, "np.interp: a period is not zero")
    period = np.abs(period)
    x, xp = np.remainder(x, period), np.remainder(xp, period)
    order = np.argsort(xp)
    xp, fp = take(xp, order), take(fp, order)
    xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
    return x, xp, np.concatenate([fp[-1:], fp, fp[:1]])


def _between(x: Any, xp: Any, fp: Any) -> Any:
    """On the line through the points around x; beyond the ends, on the last line there."""
    place = np.searchsorted(xp, x, side="right") - 1
    first = np.minimum(np.maximum(place, 0), len(xp) - 2)
    # The point from which the value is exact where x hits it; from the last one only there.
    near = np.minimum(np.maximum(place, 0), len(xp) - 1)
    far = 2 * first + 1 - near
    ends = take(xp, near), take(xp, far)
    if fp.dtype == _F64:
        return _on_line(x, ends, (take(fp, near), take(fp, far)))
    re, im = (_on_line(x, ends, (take(part, near), take(part, far))) for part in (fp.real, fp.imag))
    return bind(ew.complex_, re, np.where(np.isnan(x), 0, im))


def _on_line(x: Any, ends: tuple[Any, Any], values: tuple[Any, Any]) -> Any:
    (near, far), (value, other) = ends, values
    width = far - near
    slope = np.where(width == 0, 0, (other - value) / np.where(width == 0, 1, width))
    found, back = value + slope * (x - near), other + slope * (x - far)
    # As NumPy has it where an end is infinite: the value that is hit, or the line from the other
    # end, or what both ends are.
    back = np.where((x == near) | np.isnan(back) & (value == other), value, back)
    return np.where(np.isnan(found) & ~np.isnan(x), back, found)
