"""Elementwise primitives: a formula sheet.

`g` is a tangent or a cotangent, `ans` the result; see `core.primitive.elementwise`.
Python scalars in the formulas are weak, so float32 stays float32.
"""

from __future__ import annotations

from math import factorial, log, pi
from typing import Any

import numpy as np

from funcgrad.core.aval import BOOL, Aval, aval_of, broadcast_shapes, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.declarations import (
    batch_elementwise,
    elementwise,
    elementwise_nondifferentiable,
    linear,
)
from funcgrad.core.primitive import (
    HALF,
    narrow,
    sample,
    shape_of,
    unbroadcast,
    widen,
)
from funcgrad.errors import OperandTypeError, at_line
from funcgrad.primitives.discrete import comparisons

LN2, LN10 = log(2.0), log(10.0)
PYTHON_NUMBERS = (int, float, complex)


def _in_single(partial: Any) -> Any:
    """A rule whose terms may overflow where its result does not: float16 is done in float32."""

    def rule(g: Any, ans: Any, *ins: Any) -> Any:
        if g.dtype != HALF:
            return partial(g, ans, *ins)
        wide = [widen(x) if hasattr(x, "dtype") else x for x in (g, ans, *ins)]
        return narrow(partial(*wide), HALF)

    return rule


# --- arithmetic -----------------------------------------------------------------------


def _is_one(x: Any) -> bool:
    return type(x) in PYTHON_NUMBERS and x == 1 and type(x) is not complex


def _unless_weak(x: Any) -> Any:
    """x itself as an existing equal value of x * 1 and x / 1.

    A weak x could change the result's dtype, and complex products make NaN of infinities.
    """
    aval = aval_of(x)
    return None if aval.weak or aval.dtype.kind == "c" else x


def _simplify_mul(ins: Any, params: Any) -> Any:
    x, y = ins
    if _is_one(y):
        return _unless_weak(x)
    return _unless_weak(y) if _is_one(x) else None


def _simplify_div(ins: Any, params: Any) -> Any:
    x, y = ins
    return _unless_weak(x) if _is_one(y) and aval_of(x).inexact else None


add = elementwise(
    "add",
    np.add,
    lambda g, ans, x, y: g,
    lambda g, ans, x, y: g,
    infix="+",
    cost=1,
    dtypes="fci",
    linear_in=((0, 1),),
)
sub = elementwise(
    "sub",
    np.subtract,
    lambda g, ans, x, y: g,
    lambda g, ans, x, y: -g,
    infix="-",
    cost=1,
    dtypes="fci",
    linear_in=((0, 1),),
)
mul = elementwise(
    "mul",
    np.multiply,
    lambda g, ans, x, y: g * y,
    lambda g, ans, x, y: g * x,
    infix="*",
    simplify=_simplify_mul,
    dtypes="fci",
    cost=1,
    linear_in=((0,), (1,)),
)
div = elementwise(
    "div",
    np.true_divide,
    lambda g, ans, x, y: g / y,
    lambda g, ans, x, y: -g * ans / y,
    infix="/",
    simplify=_simplify_div,
    domain=(0.5, 2.0),
    cost=4,
    linear_in=((0,),),
)
neg = elementwise(
    "neg", np.negative, lambda g, ans, x: -g, infix="-", dtypes="fci", cost=1, linear_in=((0,),)
)
square = elementwise("square", np.square, lambda g, ans, x: (2 * g) * x, dtypes="fci", cost=1)
reciprocal = elementwise(
    "reciprocal",
    np.reciprocal,
    lambda g, ans, x: -g * ans * ans,
    domain=(0.5, 2.0),
    cost=4,
)
abs_ = elementwise(
    "abs",
    np.absolute,
    lambda g, ans, x: g * np.sign(x),
    domain=(0.5, 2.0),
    dtypes="fi",
    cost=1,
)


def _real_power(x: Any, y: Any) -> Any:
    # Python's own power raises at 0 and where it overflows, and leaves the real numbers below 0.
    return np.power(x, y) if type(x) in (float, complex) else x**y


def _power_by_base(g: Any, ans: Any, x: Any, y: Any) -> Any:
    if type(y) in PYTHON_NUMBERS:
        if y == 0:
            return None
        if y == 1:
            return g
        return (2 * g) * x if y == 2 else (y * g) * _real_power(x, y - 1)
    # At 0 ** 0 the derivative is 0, where 0 ** (0 - 1) would be infinite. Elsewhere the
    # exponent must stay as it is, for derivatives by it.
    return g * (y * _real_power(x, np.where((x == 0) & (y == 0), 1, y - 1)))


def _power_by_exponent(g: Any, ans: Any, x: Any, y: Any) -> Any:
    # The limit at x = 0 is 0 for y > 0, where 0 * log(0) would be NaN.
    return g * (ans * np.log(np.where(x == 0, 1, x)))


power = elementwise(
    "power",
    np.power,
    _power_by_base,
    _power_by_exponent,
    infix="**",
    domain=(0.5, 2.0),
    simplify=lambda ins, params: _unless_weak(ins[0]) if _is_one(ins[1]) else None,
)
hypot = elementwise(
    "hypot",
    np.hypot,
    lambda g, ans, x, y: g * (x / np.where(ans == 0, 1, ans)),
    lambda g, ans, x, y: g * (y / np.where(ans == 0, 1, ans)),
    domain=(0.5, 2.0),
    dtypes="f",
)
fmod = elementwise(
    "fmod",
    np.fmod,
    lambda g, ans, x, y: g,
    lambda g, ans, x, y: -g * np.rint(np.divide(x - ans, y)),
    domain=(0.6, 0.9),
    dtypes="f",
)
remainder = elementwise(
    "remainder",
    np.remainder,
    lambda g, ans, x, y: g,
    lambda g, ans, x, y: -g * np.floor_divide(x, y),
    infix="%",
    domain=(0.6, 0.9),
    dtypes="f",
    cost=8,
)
floor_divide = elementwise_nondifferentiable(
    "floor_divide",
    np.floor_divide,
    arity=2,
    infix="//",
    samples=[sample((3,), (3,), domain=(0.6, 0.9))],
    dtypes="fi",
    cost=8,
)

# --- exponentials and logarithms ------------------------------------------------------

exp = elementwise("exp", np.exp, lambda g, ans, x: g * ans)
exp2 = elementwise("exp2", np.exp2, lambda g, ans, x: g * (ans * LN2))
expm1 = elementwise("expm1", np.expm1, lambda g, ans, x: g * (ans + 1))
log_ = elementwise("log", np.log, lambda g, ans, x: g / x, domain=(0.5, 2.0))
log2 = elementwise("log2", np.log2, lambda g, ans, x: g / (x * LN2), domain=(0.5, 2.0))
log10 = elementwise(
    "log10", np.log10, _in_single(lambda g, ans, x: g / (x * LN10)), domain=(0.5, 2.0)
)
log1p = elementwise("log1p", np.log1p, lambda g, ans, x: g / (x + 1), domain=(-0.5, 2.0))
sqrt = elementwise("sqrt", np.sqrt, lambda g, ans, x: g * 0.5 / ans, domain=(0.5, 2.0), cost=5)


def _root(x):
    return np.sqrt(x)


# A square root whose derivative at 0 is 0: for lengths and deviations, which have a minimum
# there, 0 lies in the subgradient, where the square root's own derivative is infinite.
root = elementwise(
    "root",
    _root,
    lambda g, ans, x: np.where(ans == 0, 0, g * 0.5 / np.where(ans == 0, 1, ans)),
    source=lambda names, params: f"np.sqrt({names[0]})",
    domain=(0.5, 2.0),
    cost=5,
)
cbrt = elementwise(
    "cbrt", np.cbrt, lambda g, ans, x: g / (3 * ans * ans), domain=(0.5, 2.0), dtypes="f"
)


def _logistic(x):
    # exp(-|x|) cannot overflow, and keeps full relative accuracy in the lower tail.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


logistic = elementwise("logistic", _logistic, lambda g, ans, x: g * (ans * (1 - ans)), dtypes="f")


def _difference(x: Any, y: Any) -> Any:
    # Equal infinities: -inf - -inf is NaN, but the two weigh the same.
    return np.where(np.isinf(x) & (x == y), 0, x - y)


logaddexp = elementwise(
    "logaddexp",
    np.logaddexp,
    lambda g, ans, x, y: g * bind(logistic, _difference(x, y)),
    lambda g, ans, x, y: g * bind(logistic, _difference(y, x)),
    dtypes="f",
)
logaddexp2 = elementwise(
    "logaddexp2",
    np.logaddexp2,
    lambda g, ans, x, y: g * bind(logistic, LN2 * _difference(x, y)),
    lambda g, ans, x, y: g * bind(logistic, LN2 * _difference(y, x)),
    dtypes="f",
)

# --- trigonometric and hyperbolic -----------------------------------------------------

sin = elementwise("sin", np.sin, lambda g, ans, x: g * np.cos(x))
cos = elementwise("cos", np.cos, lambda g, ans, x: g * -np.sin(x))
tan = elementwise("tan", np.tan, lambda g, ans, x: g * (1 + ans * ans), domain=(-1, 1))
arcsin = elementwise(
    "arcsin", np.arcsin, lambda g, ans, x: g / np.sqrt(1 - x * x), domain=(-0.8, 0.8)
)
arccos = elementwise(
    "arccos", np.arccos, lambda g, ans, x: -g / np.sqrt(1 - x * x), domain=(-0.8, 0.8)
)
arctan = elementwise(
    "arctan", np.arctan, _in_single(lambda g, ans, x: g / (1 + x * x)), domain=(-0.8, 0.8)
)


def _over_square(part: Any, x: Any, y: Any) -> Any:
    """part / (x**2 + y**2), without squares that overflow or underflow."""
    r = np.hypot(x, y)
    return part / r / r


arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    _in_single(lambda g, ans, y, x: g * _over_square(x, x, y)),
    _in_single(lambda g, ans, y, x: g * _over_square(-y, x, y)),
    domain=(0.5, 2.0),
    dtypes="f",
)
sinh = elementwise("sinh", np.sinh, lambda g, ans, x: g * np.cosh(x))
cosh = elementwise("cosh", np.cosh, lambda g, ans, x: g * np.sinh(x))
tanh = elementwise("tanh", np.tanh, lambda g, ans, x: g * (1 - ans * ans))
arcsinh = elementwise(
    "arcsinh",
    np.arcsinh,
    _in_single(lambda g, ans, x: g / np.sqrt(x * x + 1)),
    domain=(-0.8, 0.8),
)
arccosh = elementwise(
    "arccosh",
    np.arccosh,
    lambda g, ans, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)),
    domain=(1.5, 3.0),
)
arctanh = elementwise(
    "arctanh", np.arctanh, _in_single(lambda g, ans, x: g / (1 - x * x)), domain=(-0.8, 0.8)
)


# sin(y)/y = 1 - y**2/3! + y**4/5! - ...; the coefficients of its derivative over y, in y**2.
_SINC_SLOPE = [(-1) ** k * 2 * k / factorial(2 * k + 1) for k in range(11, 0, -1)]


def _sinc_slope(x: Any) -> Any:
    """The derivative of sin(pi x) / (pi x): near 0, where its terms cancel, by the series."""
    y = pi * x
    near = np.abs(y) < 1
    squared = np.where(near, y * y, 0)
    series = _SINC_SLOPE[0] * squared
    for c in _SINC_SLOPE[1:-1]:
        series = (series + c) * squared
    far = np.where(near, 1, y)
    return pi * np.where(
        near, y * (series + _SINC_SLOPE[-1]), (np.cos(far) - np.sin(far) / far) / far
    )


def _sinc(x):
    return np.sinc(x)


sinc = elementwise(
    "sinc",
    _sinc,
    _in_single(lambda g, ans, x: g * _sinc_slope(x)),
    source=lambda names, params: f"np.sinc({names[0]})",
)
deg2rad = elementwise("deg2rad", np.deg2rad, lambda g, ans, x: g * (pi / 180), dtypes="f", cost=1)
rad2deg = elementwise("rad2deg", np.rad2deg, lambda g, ans, x: g * (180 / pi), dtypes="f", cost=1)

# --- choices --------------------------------------------------------------------------


# x where the mask is True, else 0.
def masked(x, mask, out=None):
    if x.size > 1 and x.shape == mask.shape and x.dtype.itemsize <= 8:
        # On the bits: a product would make NaN of infinities, np.where is slow on random masks.
        bits = f"i{x.dtype.itemsize}"
        into = None if out is None else out.view(bits)
        return np.bitwise_and(x.view(bits), -mask.view(np.int8), into).view(x.dtype)
    kept = np.where(mask, x, 0)
    if out is not None:
        out[...] = kept
    return kept


def _split_ties(g, x, y, out=None):
    ties = x == y
    kept = masked(g, x >= y, out)
    if np.any(ties):
        kept = np.where(ties, kept * 0.5, kept)
        if out is not None:
            out[...] = kept
    return kept


# g where x > y, half of it where they are equal, else 0: what each operand of a maximum gets.
split_ties = elementwise(
    "split_ties",
    _split_ties,
    lambda t, ans, g, x, y: bind(split_ties, t, x, y),
    None,
    None,
    dtype=lambda g, x, y: g.dtype,
    takes_out=True,
    dtypes="f",
    cost=1,
    linear_in=((0,),),
)


def _choose(g: Any, mine: Any, tie: Any) -> Any:
    """g where this operand is chosen, half of it where both are, else 0."""
    return np.where(mine, g, np.where(tie, g * 0.5, 0))


maximum = elementwise(
    "maximum",
    np.maximum,
    lambda g, ans, x, y: bind(split_ties, g, x, y),
    lambda g, ans, x, y: bind(split_ties, g, y, x),
    dtypes="fi",
    cost=1,
)
minimum = elementwise(
    "minimum",
    np.minimum,
    lambda g, ans, x, y: bind(split_ties, g, y, x),
    lambda g, ans, x, y: bind(split_ties, g, x, y),
    dtypes="fi",
    cost=1,
)
fmax = elementwise(
    "fmax",
    np.fmax,
    lambda g, ans, x, y: _choose(g, (x > y) | (y != y), x == y),
    lambda g, ans, x, y: _choose(g, ~((x >= y) | (y != y)), x == y),
    dtypes="fi",
    cost=1,
)
fmin = elementwise(
    "fmin",
    np.fmin,
    lambda g, ans, x, y: _choose(g, (x < y) | (y != y), x == y),
    lambda g, ans, x, y: _choose(g, ~((x <= y) | (y != y)), x == y),
    dtypes="fi",
    cost=1,
)
copysign = elementwise(
    "copysign",
    np.copysign,
    lambda g, ans, x, y: np.where(np.signbit(x) == np.signbit(ans), g, -g),
    None,
    domain=(0.5, 2.0),
    dtypes="f",
    cost=1,
)
# The neighbour moves along with x; y but tells the direction.
nextafter = elementwise("nextafter", np.nextafter, lambda g, ans, x, y: g, None, dtypes="f")
heaviside = elementwise(
    "heaviside",
    np.heaviside,
    None,
    lambda g, ans, x, y: np.where(x == 0, g, 0),
    dtypes="f",
    cost=1,
)
ldexp = elementwise(
    "ldexp",
    np.ldexp,
    lambda g, ans, x, i: np.ldexp(g, i),
    None,
    samples=[sample((3,), np.array([-1, 0, 2]))],
    dtypes="f",
)


def _where_dtype(cond: Aval, x: Aval, y: Aval) -> np.dtype:
    return result_dtype(x, y)


_CONDITION = np.array([True, False, True])
where = elementwise(
    "where",
    np.where,
    None,
    lambda g, ans, c, x, y: np.where(c, g, 0),
    lambda g, ans, c, x, y: np.where(c, 0, g),
    dtype=_where_dtype,
    samples=[
        sample(_CONDITION, (3,), (3,)),
        sample(_CONDITION, (2, 3), ()),
        sample(np.array(True), (3,), (2, 1)),
    ],
    dtypes="fci",
    cost=1,
    linear_in=((1, 2),),
    operand_dtypes=lambda out, test, x, y: (BOOL, out, out),
)

# --- complex numbers ------------------------------------------------------------------
# Cotangents follow JAX's convention: <ct, out> = Re(sum(ct * out)), without conjugation.


def _convert(x, dtype):
    if hasattr(x, "astype"):
        return x.astype(dtype)
    if type(x) is int and dtype == np.int64:
        # An OverflowError where it does not fit, rather than another number.
        return np.int64(x)
    return np.asarray(x).astype(dtype)[()]


def _real_parts(*avals: Aval) -> np.dtype:
    return np.real(np.empty(0, avals[0].dtype)).dtype


_UINT32 = np.dtype(np.uint32)


def cast(x: Any, dtype: Any) -> Any:
    """x as dtype; the real part where a complex x becomes real, and of truth values both parts."""
    have = aval_of(x)
    if have.dtype.kind == "c":
        kind = np.dtype(dtype).kind
        if kind == "b":
            return bind(comparisons["not_equal"], x, 0)
        if kind != "c":
            x = bind(real, bind(convert, x, dtype=have.dtype) if have.weak else x)
            have = aval_of(x)
    if have.dtype.kind == "f" and dtype == _UINT32:
        # What is out of range NumPy converts in one way or another, as the elements lie.
        x = bind(convert, x, dtype=np.dtype(np.int64))
    if have.dtype == dtype and not have.weak:
        return x
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiucb":
        raise at_line(OperandTypeError, f"{have} cannot become {dtype}: funcgrad works on numbers")
    return bind(convert, x, dtype=dtype)


def _elementwise_aval(dtype: Any) -> Any:
    return lambda *avals, **params: Aval(
        broadcast_shapes(*[a.shape for a in avals]), dtype(*avals, **params)
    )


def _linear_elementwise(name: str, impl: Any, transpose: Any, dtype: Any, **options: Any) -> Any:
    return linear(
        name,
        impl,
        transpose,
        shape=_elementwise_aval(dtype),
        batch=batch_elementwise,
        **options,
    )


convert = _linear_elementwise(
    "convert",
    _convert,
    # Integers and booleans do not change with what they are made from.
    lambda ct, x, dtype: cast(ct, aval_of(x).dtype) if dtype.kind in "fc" else None,
    lambda x, dtype: dtype,
    samples=[sample((3,), dtype=np.dtype(np.float32)), sample((), dtype=np.dtype(np.complex128))],
    source=lambda names, params: f"{names[0]}.astype(np.{params['dtype'].name})",
    dtypes="fi",
    cost=1,
    operand_dtypes=lambda out, x: (x,),
)
_COMPLEX = np.array([1.0 + 2.0j, -0.5j, 3.0])
real = _linear_elementwise(
    "real",
    lambda x: np.positive(np.real(x)),
    lambda ct, x: cast(ct, aval_of(x).dtype),
    _real_parts,
    samples=[sample(_COMPLEX)],
    source=lambda names, params: f"np.positive(np.real({names[0]}))",
    dtypes="c",
)
imag = _linear_elementwise(
    "imag",
    lambda x: np.positive(np.imag(x)),
    lambda ct, x: cast(ct, aval_of(x).dtype) * -1j,
    _real_parts,
    samples=[sample(_COMPLEX)],
    source=lambda names, params: f"np.positive(np.imag({names[0]}))",
    dtypes="c",
)
conj = _linear_elementwise(
    "conj",
    np.conjugate,
    lambda ct, x: np.conjugate(ct),
    lambda x: x.dtype,
    samples=[sample(_COMPLEX)],
    dtypes="c",
)


def _complex(re, im):
    # re + 1j * im would make NaN of an infinity's other part.
    out = np.zeros_like(re == im, dtype=np.result_type(re.dtype, im.dtype, np.complex64))
    out.real, out.imag = re, im
    return out[()]


def _complex_transpose(ct: Any, re: Any, im: Any) -> list[Any]:
    parts = (cast(ct, aval_of(re).dtype), cast(ct * 1j, aval_of(im).dtype))
    return [unbroadcast(part, shape_of(x)) for part, x in zip(parts, (re, im), strict=True)]


complex_ = _linear_elementwise(
    "complex",
    _complex,
    _complex_transpose,
    lambda re, im: np.result_type(re.dtype, im.dtype, np.complex64),
    over=(0, 1),
    samples=[sample((3,), (3,)), sample((2, 3), (3,)), sample((), (2, 1))],
    dtypes="f",
)
