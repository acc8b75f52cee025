"""Elementwise functions that are no ufuncs: choices, comparisons, parts, differences."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.aval import BOOL, Aval, aval_of, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    ArgumentError,
    OperandTypeError,
    OutArgumentError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.numpy.convert import (
    as_array,
    assigned,
    check_device,
    check_order,
    check_out,
    dtype_of,
    normalize_axis,
)
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.ufuncs import as_operand, recorder_of_floats
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.elementwise import cast
from funcgrad.primitives.integers import INT64, fit, holds

# --- choices --------------------------------------------------------------------------


@implements(np.where)
def where(condition: Any, *choices: Any) -> Any:
    if not choices:
        return np.nonzero(condition)
    x, y = choices
    if type(condition) is Tracer and dtype_of(condition) == BOOL:
        if recorder_of_floats(x, y) is not None:
            return bind(ew.where, condition, x, y)
    condition, x, y = map(as_operand, (condition, x, y))
    a, b = aval_of(x), aval_of(y)
    dtype = result_dtype(a, b)
    if type(condition) is Tracer and condition.dtype != bool:
        condition = condition != 0
    return bind(ew.where, condition, _choice(x, a, dtype), _choice(y, b, dtype))


# From this version on NumPy refuses Python integers that the other alternative's dtype cannot hold.
_WHERE_FITS = tuple(map(int, np.__version__.split(".")[:2])) >= (2, 5)


def _choice(x: Any, aval: Aval, dtype: np.dtype) -> Any:
    """One of two alternatives, in the dtype of both."""
    if aval.weak and aval.dtype.kind == "i" and dtype.kind in "iu":
        return fit(x, dtype) if _WHERE_FITS else _wrapped(x, dtype)
    return cast(x, dtype) if type(x) is Tracer and (aval.dtype != dtype or aval.weak) else x


def _wrapped(x: Any, dtype: np.dtype) -> Any:
    """The bits of a Python integer that the dtype has."""
    if type(x) is Tracer:
        return cast(x, dtype)
    return np.int64(x).astype(dtype) if holds(INT64, x) and not holds(dtype, x) else fit(x, dtype)


@implements(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not len(condlist):
        raise at_line(
            ArgumentError,
            "np.select needs as many choices as conditions, and at least one; got "
            f"{len(condlist)} conditions and {len(choicelist)} choices",
        )
    masks = list(map(as_array, condlist))
    if any(mask.dtype != bool for mask in masks):
        raise at_line(OperandTypeError, "np.select takes conditions that are boolean arrays")
    choices = list(map(as_operand, (*choicelist, default)))
    # One dtype for all: it does not depend on the order.
    dtype = result_dtype(*map(aval_of, choices))
    *values, result = [_option(c, aval_of(c), dtype) for c in choices]
    for mask, value in zip(reversed(masks), reversed(values), strict=True):
        result = np.where(mask, value, result)
    return result


def _option(x: Any, aval: Aval, dtype: np.dtype) -> Any:
    """One of the alternatives of `select`, which NumPy casts."""
    if not aval.weak:
        return assigned(x, dtype)
    return _wrapped(x, dtype) if aval.dtype.kind == "i" and dtype.kind in "iu" else x


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
    **options: Any,
) -> Any:
    check_out(out, "clip")
    if options:
        raise UnsupportedFunctionError.of(f"np.clip with {', '.join(options)}=")
    lower, upper = (min if a_min is None else a_min), (max if a_max is None else a_max)
    a = as_array(a)
    if lower is None and upper is None:
        return np.positive(a)
    if a.dtype.kind in "iu":
        limits = np.iinfo(a.dtype)
        lower = _bound(lower, ew.maximum, limits.min)
        upper = _bound(upper, ew.minimum, limits.max)
    if lower is not None:
        a = np.maximum(a, lower)
    return a if upper is None else np.minimum(a, upper)


def _bound(bound: Any, prim: Primitive, limit: int) -> Any:
    """A bound for integers, without what no integer of the dtype is beyond."""
    number = own_value(bound)
    if type(number) is int:
        lies_beyond = number <= limit if prim is ew.maximum else number >= limit
        return None if lies_beyond else bound
    weak = type(bound) is Tracer and bound.aval.weak and bound.dtype.kind == "i"
    return bind(prim, bound, limit) if weak and holds(INT64, limit) else bound


@implements(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    if not copy:
        raise OutArgumentError.of("nan_to_num", "copy=False")
    x = as_array(x)
    if x.dtype.kind == "c":
        return _by_parts(lambda part: nan_to_num(part, copy, nan, posinf, neginf), x)
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(x == np.inf, largest if posinf is None else posinf, x)
    return np.where(x == -np.inf, -largest if neginf is None else neginf, x)


def _by_parts(function: Callable[[Any], Any], z: Any) -> Any:
    """A function of real numbers on the real and the imaginary part."""
    return bind(ew.complex_, function(real(z)), function(imag(z)))


# --- rounding and parts ---------------------------------------------------------------


@implements(np.round, np.around)
def round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    check_out(out, "round")
    a = as_array(a)
    if a.dtype.kind == "b":
        if decimals:
            raise at_line(
                OperandTypeError, f"np.round of booleans to {decimals} decimals is not defined"
            )
        return np.rint(a)
    if a.dtype.kind in "iu":
        if decimals >= 0:
            return a
        unit = _power_of_ten(-decimals)
        return cast(np.rint(a / unit) * unit, a.dtype)
    if a.dtype.kind == "c":
        return _by_parts(lambda part: round(part, decimals), a)
    if decimals == 0:
        return np.rint(a)
    unit = _power_of_ten(abs(decimals))
    return np.rint(a * unit) / unit if decimals > 0 else np.rint(a / unit) * unit


def _power_of_ten(n: int) -> float:
    """10.0**n, infinite where no float is as large."""
    return float(np.power(10.0, n)) if n <= sys.float_info.max_10_exp else np.inf


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    check_out(out, "fix")
    return np.trunc(x)


@implements(np.real)
def real(val: Any) -> Any:
    val = as_array(val)
    return bind(ew.real, val) if val.dtype.kind == "c" else val


@implements(np.imag)
def imag(val: Any) -> Any:
    val = as_array(val)
    return bind(ew.imag, val) if val.dtype.kind == "c" else np.zeros(val.shape, val.dtype)


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    z = as_array(z)
    out = np.arctan2(imag(z) if z.dtype.kind == "c" else 0, real(z))
    return out * (180 / np.pi) if deg else out


@implements(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    a = as_array(a)
    if a.dtype.kind != "c":
        return a
    if tol > 1:
        tol *= np.finfo(a.dtype).eps
    return a.real if bool(np.all(np.abs(a.imag) < tol)) else a


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return as_array(x).dtype.kind == "c"


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return not iscomplexobj(x)


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    return imag(x) != 0


@implements(np.isreal)
def isreal(x: Any) -> Any:
    return imag(x) == 0


def _real_operand(x: Any, name: str) -> Any:
    x = as_array(x)
    if x.dtype.kind == "c":
        raise at_line(OperandTypeError, f"np.{name} needs real numbers, got {aval_of(x)}")
    return x


@implements(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Any:
    check_out(out, "isposinf")
    return _real_operand(x, "isposinf") == np.inf


@implements(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Any:
    check_out(out, "isneginf")
    return _real_operand(x, "isneginf") == -np.inf


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    check_order(order, "copy")
    # A traced array is never written to, so that it is its own copy.
    return as_array(a)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    check_device(device, "astype")
    return cast(as_array(x), np.dtype(dtype))


if hasattr(np, "astype"):  # NumPy 2.1
    implements(np.astype)(astype)

# --- equality -------------------------------------------------------------------------


def _inexact(x: Any) -> Any:
    """x as floats: differences and absolute values of integers may not fit their dtype."""
    aval = aval_of(x)
    if aval.inexact:
        return x
    return x * 1.0 if aval.weak else cast(x, np.result_type(aval.dtype, 1.0))


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b, rtol, atol = map(as_operand, (a, b, rtol, atol))
    b = _inexact(b)
    with np.errstate(invalid="ignore"):
        # Of a Python number the size is one, too, which takes the dtype of the rest.
        near = np.abs(a - b) <= atol + rtol * abs(b)
    close = near & np.isfinite(b) | (a == b)
    return close | (np.isnan(a) & np.isnan(b)) if equal_nan else close


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    return np.all(isclose(a, b, rtol, atol, equal_nan))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a1, a2 = as_array(a1), as_array(a2)
    if a1.shape != a2.shape:
        return False
    same = a1 == a2
    return np.all(same | (np.isnan(a1) & np.isnan(a2)) if equal_nan else same)


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    a1, a2 = as_array(a1), as_array(a2)
    try:
        np.broadcast_shapes(a1.shape, a2.shape)
    except ValueError:
        return False
    return np.all(a1 == a2)


# --- differences and integrals --------------------------------------------------------


def _along(a: Any, axis: int, start: Any, stop: Any) -> Any:
    return a[(slice(None),) * axis + (slice(start, stop),)]


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n == 0:
        return a
    a = as_array(a)
    if n < 0 or a.ndim == 0:
        raise at_line(ArgumentError, f"np.diff needs axes and n >= 0, got {aval_of(a)}, n={n}")
    axis = normalize_axis(axis, a.ndim)
    if prepend is not None or append is not None:
        parts = [a if p is a else _end(p, a, axis) for p in (prepend, a, append) if p is not None]
        a = np.concatenate(parts, axis)
    for _ in range(n):
        upper, lower = _along(a, axis, 1, None), _along(a, axis, None, -1)
        a = upper != lower if a.dtype == bool else upper - lower
    return a


def _end(end: Any, a: Any, axis: int) -> Any:
    """What `diff` puts before or behind a: a number stands for a slice of them."""
    end = as_array(end)
    if end.ndim:
        return end
    return np.broadcast_to(end, (*a.shape[:axis], 1, *a.shape[axis + 1 :]))


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary = np.ravel(as_array(ary))
    ends = [None if end is None else np.ravel(as_array(end)) for end in (to_begin, to_end)]
    for end in ends:
        if end is not None and not np.can_cast(end.dtype, ary.dtype, "same_kind"):
            raise at_line(
                OperandTypeError, f"np.ediff1d: ends of {end.dtype} for an array of {ary.dtype}"
            )
    parts = [ends[0], ary[1:] - ary[:-1], ends[1]]
    return np.concatenate([cast(p, ary.dtype) for p in parts if p is not None])


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = as_array(y)
    axis = normalize_axis(axis, y.ndim)
    if x is not None:
        x = as_array(x)
        dx = diff(x, axis=-1 if x.ndim == 1 else axis)
        if x.ndim == 1:
            dx = dx.reshape((-1,) + (1,) * (y.ndim - axis - 1))
    return np.sum(dx * (_along(y, axis, 1, None) + _along(y, axis, None, -1)) / 2, axis=axis)


@implements(np.cross)
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise at_line(
            ShapeError, f"np.cross takes vectors of three components, got {a.shape} and {b.shape}"
        )
    (a0, a1, a2), (b0, b1, b2) = ([v[..., i] for i in range(3)] for v in (a, b))
    out = np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)
    return np.moveaxis(out, -1, axisc)


@implements(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return cross(x1, x2, axis=axis)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    rank = max(a.ndim, b.ndim)
    shape_a, shape_b = ((1,) * (rank - x.ndim) + x.shape for x in (a, b))
    wide_a = [n for m in shape_a for n in (m, 1)]
    wide_b = [n for m in shape_b for n in (1, m)]
    out = a.reshape(wide_a) * b.reshape(wide_b)
    return out.reshape([m * n for m, n in zip(shape_a, shape_b, strict=True)])


@implements(np.sinc)
def sinc(x: Any) -> Any:
    x = as_array(x)
    return bind(ew.sinc, cast(x, np.dtype(np.float64)) if x.dtype.kind in "iub" else x)


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    p = as_array(p)
    x = as_array(x)
    if p.ndim == 0:
        raise at_line(OperandTypeError, "np.polyval needs a sequence of coefficients, got a number")
    y = np.zeros(x.shape, x.dtype)
    for i in range(p.shape[0]):
        y = y * x + p[i]
    return y
