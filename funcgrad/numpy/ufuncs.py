"""NumPy's ufuncs on tracers: NumPy's own promotion, then a primitive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from funcgrad.core.aval import Aval, aval_of, promotion_kind, resolve_ufunc
from funcgrad.core.binding import bind
from funcgrad.core.device import is_cupys
from funcgrad.core.primitive import REGISTRY, Primitive
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    OperandTypeError,
    PrimitiveError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.numpy.convert import as_array, check_order, dtype_of
from funcgrad.numpy.promotion import COMPARISONS, promoted
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.contraction import matmul as matmul_p
from funcgrad.primitives.discrete import rounding
from funcgrad.primitives.integers import fit

_F64, _F32 = np.dtype(np.float64), np.dtype(np.float32)
PYTHON_SCALARS = (float, int, complex, bool)


def as_operand(x: Any) -> Any:
    """Lists become arrays, as NumPy has it; everything else stays."""
    if type(x) is Tracer or type(x) is np.ndarray or type(x) in PYTHON_SCALARS:
        return x
    return as_array(x) if isinstance(x, (list, tuple)) else x


def promote_to_ufunc(ufunc: np.ufunc, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert traced operands to the dtypes in which NumPy computes this ufunc."""
    args = tuple(map(as_operand, args))
    avals = [a.aval if type(a) is Tracer else aval_of(a) for a in args]
    return promoted(ufunc, args, avals, _resolve(ufunc, avals))


def _resolve(ufunc: np.ufunc, avals: Sequence[Aval]) -> tuple[np.dtype, ...]:
    try:
        return resolve_ufunc(ufunc, tuple(map(promotion_kind, avals)))
    except TypeError as error:
        raise PrimitiveError.of(f"np.{ufunc.__name__}", avals, error) from error


def is_plain_float(dtype: Any) -> bool:
    """Whether no promotion is needed; by identity, as comparing dtypes costs more."""
    return dtype is _F64 or dtype is _F32


def _dtype(x: Tracer) -> Any:
    return getattr(x.value, "dtype", None)


def unary(prim: Primitive) -> Callable[[Any], Any]:
    ufunc = cast(np.ufunc, prim.impl)

    def call(x: Any) -> Any:
        if type(x) is Tracer and is_plain_float(_dtype(x)):
            return x.rec.record(prim, (x,), {})
        return bind(prim, *promote_to_ufunc(ufunc, (x,)))

    return call


def n_ary(prim: Primitive) -> Callable[..., Any]:
    ufunc = cast(np.ufunc, prim.impl)

    def call(*args: Any) -> Any:
        return bind(prim, *promote_to_ufunc(ufunc, args))

    return call


def binary(prim: Primitive) -> Callable[[Any, Any], Any]:
    """A ufunc of two operands: floats of one dtype, or a float and a number, go straight on."""
    ufunc = cast(np.ufunc, prim.impl)

    def call(x: Any, y: Any) -> Any:
        rec = recorder_of_floats(x, y)
        if rec is not None:
            return rec.record(prim, (x, y), {})
        return bind(prim, *promote_to_ufunc(ufunc, (x, y)))

    return call


def recorder_of_floats(x: Any, y: Any) -> Any:
    """Where to record an operation on x and y if neither needs promotion, else None."""
    if type(x) is not Tracer:
        if type(y) is not Tracer:
            return None
        x, y = y, x
    dtype = getattr(x.value, "dtype", None)
    if dtype is not _F64 and dtype is not _F32:
        return None
    kind = type(y)
    if kind is Tracer:
        if getattr(y.value, "dtype", None) is dtype:
            return x.rec if x.rec.level >= y.rec.level else y.rec
    elif kind is float or kind is int or (kind is np.ndarray and y.dtype is dtype):
        return x.rec
    return None


def _complex_abs(x: Any) -> Any:
    return bind(ew.hypot, bind(ew.real, x), bind(ew.imag, x))


def absolute(x: Any) -> Any:
    (x,) = promote_to_ufunc(np.absolute, (x,))
    if aval_of(x).dtype.kind == "c":
        return _complex_abs(x)
    return x if aval_of(x).dtype.kind in "ub" else bind(ew.abs_, x)


def positive(x: Any) -> Any:
    return promote_to_ufunc(np.positive, (x,))[0]


def conjugate(x: Any) -> Any:
    (x,) = promote_to_ufunc(np.conjugate, (x,))
    return bind(ew.conj, x) if aval_of(x).dtype.kind == "c" else x


def fabs(x: Any) -> Any:
    return absolute(*promote_to_ufunc(np.fabs, (x,)))


def float_power(x: Any, y: Any) -> Any:
    return bind(ew.power, *promote_to_ufunc(np.float_power, (x, y)))


def power(x: Any, y: Any) -> Any:
    y = as_operand(y)
    # `**` by a Python number keeps the number: its derivative is simpler, and safe at 0.
    if type(y) in (int, float) and type(x) is Tracer and aval_of(x).inexact:
        if not aval_of(x).weak:
            return bind(ew.square, x) if y == 2 else bind(ew.power, x, y)
    return bind(ew.power, *promote_to_ufunc(np.power, (x, y)))


def sign(x: Any) -> Any:
    (x,) = promote_to_ufunc(np.sign, (x,))
    if aval_of(x).dtype.kind != "c":
        return bind(rounding["sign"], x)
    parts = bind(ew.real, x), bind(ew.imag, x)
    size = bind(ew.hypot, *parts)
    # An infinite part is the whole direction; two of them have none.
    regular = (np.isinf(parts[0]) == np.isinf(parts[1])) & (size != 0)
    divisor = np.where(regular, size, 1)
    direction = (
        np.where(regular, np.where(regular, p, 1) / divisor, np.where(np.isinf(p), np.sign(p), 0))
        for p in parts
    )
    return bind(ew.complex_, *direction)


def divmod_(x: Any, y: Any) -> tuple[Any, Any]:
    return np.floor_divide(x, y), np.remainder(x, y)


def modf(x: Any) -> tuple[Any, Any]:
    (x,) = promote_to_ufunc(np.modf, (x,))
    infinite = np.isinf(x)
    # fmod(inf, 1) is NaN, while an infinity has the fraction 0 of its own sign.
    fraction = np.fmod(np.where(infinite, np.copysign(np.zeros((), x.dtype), x), x), 1)
    return fraction, np.trunc(x)


def frexp(x: Any) -> tuple[Any, Any]:
    (x,) = promote_to_ufunc(np.frexp, (x,))
    finite = np.isfinite(x)
    exponent = np.where(finite & (x != 0), _exponent(x), 0)
    # Twice half the exponent: 2 ** -exponent alone may overflow.
    half = exponent // 2
    mantissa = np.ldexp(np.ldexp(x, -half), -(exponent - half))
    return mantissa, exponent


def _frexp_exponent(x):
    return np.frexp(x)[1]


_exponent_p = ew.elementwise_nondifferentiable(
    "frexp_exponent",
    _frexp_exponent,
    dtype=lambda x: np.dtype(np.int32),
    dtypes="f",
)


def _exponent(x: Any) -> Any:
    return bind(_exponent_p, x)


def ldexp(x: Any, exponent: Any) -> Any:
    operands = as_operand(x), as_operand(exponent)
    dtypes = _resolve(np.ldexp, list(map(aval_of, operands)))
    # Beside what the other operand becomes, a Python number would take another dtype.
    numbers = [
        dtype.type(a) if type(a) in PYTHON_SCALARS else a
        for a, dtype in zip(promote_to_ufunc(np.ldexp, operands), dtypes, strict=False)
    ]
    return bind(ew.ldexp, *numbers)


def matmul(x: Any, y: Any) -> Any:
    if type(y) is Tracer and type(x) is np.ndarray and x.dtype is _dtype(y):
        return y.rec.record(matmul_p, (x, y), {})
    if type(x) is Tracer and type(y) is np.ndarray and y.dtype is _dtype(x):
        return x.rec.record(matmul_p, (x, y), {})
    return bind(matmul_p, *promote_to_ufunc(np.matmul, (x, y)))


_BY_ARITY: dict[int, Callable[[Primitive], Callable[..., Any]]] = {1: unary, 2: binary}
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    prim.impl: _BY_ARITY.get(prim.impl.nin, n_ary)(prim)
    for prim in REGISTRY.values()
    if isinstance(prim.impl, np.ufunc)
}
UFUNCS |= {
    np.absolute: absolute,
    np.positive: positive,
    np.conjugate: conjugate,
    np.fabs: fabs,
    np.float_power: float_power,
    np.power: power,
    np.sign: sign,
    np.divmod: divmod_,
    np.modf: modf,
    np.frexp: frexp,
    np.ldexp: ldexp,
    np.degrees: UFUNCS[np.rad2deg],
    np.radians: UFUNCS[np.deg2rad],
    np.matmul: matmul,
}


def outer(ufunc: np.ufunc, x: Any, y: Any, **options: Any) -> Any:
    """`ufunc.outer`: every element of x with every element of y."""
    x, y = as_array(x), as_array(y)
    return ufunc(x.reshape(x.shape + (1,) * y.ndim), y, **options)


# What a handler takes by itself, beyond the options of all ufuncs.
OWN_OPTIONS: dict[np.ufunc, tuple[str, ...]] = {}


def with_options(
    ufunc: np.ufunc, handler: Callable[..., Any], inputs: Sequence[Any], options: dict[str, Any]
) -> Any:
    """A ufunc called with `dtype=`, `signature=` or `casting=`: NumPy says what they mean.

    Raises:
        OperandTypeError: NumPy has no such loop, or does not cast so.
        UnsupportedFunctionError: there are other options.
    """
    name = ufunc.__name__
    signature = options.pop("signature", options.pop("sig", None))
    dtype, casting = options.pop("dtype", None), options.pop("casting", "same_kind")
    check_order(options.pop("order", None), name)
    options.pop("subok", None)
    if options.pop("where", True) is not True:
        raise UnsupportedFunctionError.of(
            f"np.{name} with where=",
            "Choose between results with np.where(mask, new, old) instead.",
        )
    own = {o: options.pop(o) for o in OWN_OPTIONS.get(ufunc, ()) if o in options}
    if options:
        raise UnsupportedFunctionError.of(f"np.{name} with {', '.join(options)}=")
    inputs = list(map(as_operand, inputs))
    kinds = [promotion_kind(aval_of(x)) for x in inputs]
    if dtype is not None:
        signature = (*(None,) * ufunc.nin, *(np.dtype(dtype),) * ufunc.nout)
    chosen: dict[str, Any] = {} if signature is None else {"signature": signature}
    try:
        found = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout), casting=casting, **chosen)
    except (TypeError, ValueError) as error:
        raise PrimitiveError.of(f"np.{name}", list(map(aval_of, inputs)), error) from error
    if signature is not None:
        inputs = [_in_loop(x, d) for x, d in zip(inputs, found, strict=False)]
    results = handler(*inputs, **own)
    outs = found[ufunc.nin :]
    if ufunc.nout == 1:
        return ew.cast(results, outs[0])
    return tuple(ew.cast(r, d) for r, d in zip(results, outs, strict=True))


def _in_loop(x: Any, dtype: np.dtype) -> Any:
    """An operand in the dtype that was asked for, which a Python integer must fit."""
    return ew.cast(fit(x, dtype) if type(x) is int and dtype.kind in "iu" else x, dtype)


# --- operators ------------------------------------------------------------------------


def _weaken(out: Any) -> Any:
    """Python numbers combined by operators stay Python numbers."""
    if type(out) is Tracer and isinstance(out.value, np.generic) and out.value.dtype != bool:
        out.value = out.value.item()
        out._aval = None
    return out


def _slow_binary(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    x, y = as_operand(x), as_operand(y)
    if all(type(own_value(v)) in PYTHON_SCALARS or aval_of(v).weak for v in (x, y)):
        prim = _PRIMS[ufunc]
        resolved = _resolve(ufunc, [aval_of(x), aval_of(y)])
        for number, dtype in zip((x, y), resolved, strict=False):
            if type(number) is int and dtype.kind in "iu" and ufunc not in COMPARISONS:
                fit(number, dtype)
        x, y = (_weaken(_weak_cast(v, d)) for v, d in zip((x, y), resolved, strict=False))
        return _weaken(bind(prim, x, y))
    return UFUNCS[ufunc](x, y)


def _weak_cast(x: Any, dtype: np.dtype) -> Any:
    if type(x) is not Tracer or x.dtype == dtype:
        return x
    return bind(ew.convert, x, dtype=dtype)


_PRIMS = {p.impl: p for p in REGISTRY.values() if isinstance(p.impl, np.ufunc)}


_EXACT = frozenset({np.ndarray, np.float64, np.float32})


def binary_operator(ufunc: np.ufunc, reflected: bool = False) -> Callable[[Any, Any], Any]:
    """`__add__` and its like: the common cases first, promotion where it is needed.

    The reflected form is made apart, so that neither pays for the other.
    """
    prim, repeats = _PRIMS[ufunc], ufunc is np.multiply

    def op(x: Any, y: Any) -> Any:
        kind = type(y)
        dtype = getattr(x.value, "dtype", None)
        if dtype is _F64 or dtype is _F32:
            if kind is Tracer:
                if getattr(y.value, "dtype", None) is dtype:
                    rec = x.rec if x.rec.level >= y.rec.level else y.rec
                    return rec.record(prim, (x, y), {})
            elif kind is float or kind is int or (kind in _EXACT and y.dtype is dtype):
                return x.rec.record(prim, (x, y), {})
        if not _is_operand(y) or (repeats and _repeats(x, y)):
            return _ask_other(ufunc, (x, y), y)
        return _slow_binary(ufunc, x, y)

    def rop(x: Any, y: Any) -> Any:
        kind = type(y)
        dtype = getattr(x.value, "dtype", None)
        if dtype is _F64 or dtype is _F32:
            if kind is float or kind is int or (kind in _EXACT and y.dtype is dtype):
                return x.rec.record(prim, (y, x), {})
        if not _is_operand(y) or (repeats and _repeats(x, y)):
            return _ask_other(ufunc, (y, x), y)
        return _slow_binary(ufunc, y, x)

    return rop if reflected else op


_PLAIN = frozenset({Tracer, np.ndarray, *PYTHON_SCALARS, list, tuple})


def _is_operand(y: Any) -> bool:
    """Whether an operator takes y for an array; what answers NumPy in its own way, it does not."""
    kind = type(y)
    if kind in _PLAIN or isinstance(y, (np.generic, *PYTHON_SCALARS)):
        return True
    if isinstance(y, np.ndarray):
        return not answers_itself(y)
    return is_cupys(kind)


def answers_itself(x: Any) -> bool:
    """Whether x is of a class, other than tracers and arrays, that answers ufuncs its own way."""
    answer = getattr(type(x), "__array_ufunc__", np.ndarray.__array_ufunc__)
    return answer is not np.ndarray.__array_ufunc__ and type(x) is not Tracer


def _ask_other(ufunc: np.ufunc, operands: tuple[Any, Any], other: Any) -> Any:
    """What an operator gives where `other` is no array to us, by NumPy's rules.

    Its class may answer the ufunc; else its own operator is tried, or there is none. No element
    equals None or a text.
    """
    if ufunc in (np.equal, np.not_equal) and (other is None or isinstance(other, (str, bytes))):
        return np.full(operands[0].shape, ufunc is np.not_equal)[()]
    if getattr(type(other), "__array_ufunc__", None) is None or not answers_itself(other):
        return NotImplemented
    return ufunc(*operands)


def _repeats(x: Tracer, y: Any) -> bool:
    """Whether `x * y` repeats a sequence, as it does for NumPy's integers, too."""
    return type(y) in (list, tuple) and not x.shape and x.dtype.kind in "iu"


def matmul_operator(x: Tracer, y: Any) -> Any:
    if type(y) is np.ndarray and y.dtype is _dtype(x):
        return x.rec.record(matmul_p, (x, y), {})
    return matmul(x, y) if _is_operand(y) else _ask_other(np.matmul, (x, y), y)


def function_operator(
    ufunc: np.ufunc, function: Callable[[Any, Any], Any], reflected: bool = False
) -> Callable[[Any, Any], Any]:
    """An operator that does what a function does, where the other operand is an array."""

    def op(x: Tracer, y: Any) -> Any:
        operands = (y, x) if reflected else (x, y)
        return function(*operands) if _is_operand(y) else _ask_other(ufunc, operands, y)

    return op


def in_place_operator(
    symbol: str, operate: Callable[[Any, Any], Any]
) -> Callable[[Tracer, Any], Any]:
    """`x += y` and its like: of the shape and dtype that NumPy would write into.

    A number is bound anew, as NumPy's and Python's are; so is a traced array without axes,
    which cannot be told from a number.
    """

    def op(x: Tracer, y: Any) -> Any:
        result = operate(x, y)
        if not x.shape:
            return result
        if type(result) is not Tracer:
            raise at_line(
                OperandTypeError,
                f"x {symbol} y: a traced {x.aval} takes no {type(y).__name__} in place",
            )
        dtype, found = dtype_of(x), dtype_of(result)
        if found is dtype and result.shape == x.shape:
            return result
        if not np.can_cast(found, dtype, "same_kind"):
            raise at_line(
                OperandTypeError,
                f"x {symbol} y: the result is {found}, which x of {dtype} does not hold "
                "(casting='same_kind'); write x = x + y and so on for a new array",
            )
        if result.shape != x.shape:
            raise at_line(
                ShapeError,
                f"x {symbol} y: the result has shape {result.shape}, which x of shape {x.shape} "
                "does not hold; write x = x + y and so on for a new array",
            )
        return ew.cast(result, dtype)

    return op


# As NumPy's own operator has it; np.power does not.
_SCALAR_POWERS = {2: ew.square, 0.5: ew.sqrt, -1: ew.reciprocal}


def power_operator(x: Any, y: Any) -> Any:
    if (type(y) is int or type(y) is float) and is_plain_float(_dtype(x)):
        prim = _SCALAR_POWERS.get(y)
        if prim is None:
            return x.rec.record(ew.power, (x, y), {})
        return x.rec.record(prim, (x,), {})
    if not _is_operand(y):
        return _ask_other(np.power, (x, y), y)
    aval = aval_of(x)
    if aval.weak and aval.dtype.kind == "c" and type(y) in (int, float) and y in _SCALAR_POWERS:
        return _weaken(bind(_SCALAR_POWERS[y], x))
    if aval.weak and (type(y) in PYTHON_SCALARS or aval_of(y).weak):
        return _slow_binary(np.power, x, y)
    if (type(y) is int or type(y) is float) and aval.inexact and y in _SCALAR_POWERS:
        return bind(_SCALAR_POWERS[y], x)
    if aval.dtype == bool and aval.shape and type(y) is int and y == 2:
        return bind(ew.square, ew.cast(x, np.dtype(np.int8)))
    return power(x, y)


def positive_operator(x: Any) -> Any:
    if aval_of(x).dtype == bool:
        raise at_line(OperandTypeError, "+x is not defined for booleans; use x itself")
    return x


def rpower_operator(x: Any, y: Any) -> Any:
    return _slow_binary(np.power, y, x) if _is_operand(y) else _ask_other(np.power, (y, x), y)


def negative_operator(x: Any) -> Any:
    if is_plain_float(_dtype(x)):
        return x.rec.record(ew.neg, (x,), {})
    if aval_of(x).dtype == bool:
        raise OperandTypeError("-x is not defined for booleans; use ~x or np.logical_not(x)")
    return _weaken(bind(ew.neg, x)) if aval_of(x).weak else bind(ew.neg, x)
