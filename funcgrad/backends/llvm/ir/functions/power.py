"""power, cbrt and hypot.

x**y = exp(y log(x)), the logarithm in twice the precision.

Sums of two floats are written (high, low). With s = f/(2 + f),
log(1 + f) = 2 atanh(s) = s (2 + s**2 (2/3 + s**2 q(s**2))), where q is small enough to be taken
in simple precision. Its coefficients are minimax for the relative error (Remez exchange).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    at_least,
    at_most,
    choose,
    constant,
    copysign,
    fma,
    intrinsic,
    polynomial,
    select,
    sqrt,
)
from funcgrad.backends.llvm.ir.functions.exponential import (
    exp_of_rest,
    limits,
    reduced,
    scaled,
    two_to,
)
from funcgrad.backends.llvm.ir.functions.logarithm import normalised, unordered_least

# 2**-34.5 and 2**-69.1 of log(1 + f) for |s| <= 1/5.
_TAIL = {
    "float": (0.40000388, 0.285258502, 0.238687724),
    "double": (
        0.39999999999999725, 0.28571428571577345, 0.22222222191238142, 0.1818182152737265,
        0.1538440655714924, 0.1334114783349611, 0.11592297574721841, 0.12571866509218665,
    ),
}  # fmt: skip
_TWO_THIRDS = {
    "float": (float.fromhex("0x1.555556p-1"), float.fromhex("-0x1.555556p-26")),
    "double": (float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55")),
}
# The high part of log(2) ends in zeros: its product with an exponent is exact.
_LN2 = {
    "float": (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
    "double": (float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42")),
}

# cbrt(1 + f): 2**-13.7 and 2**-28.1 for |f| <= 1/3; Newton's method doubles the bits.
_CBRT = {
    "float": (
        1.00006819, 0.33304888, -0.115961678, 0.0681200176,
    ),
    "double": (
        0.9999999985744721, 0.33333324462980984, -0.11111062291154944, 0.06173894356566455,
        -0.04117995929663125, 0.0298430579407801, -0.022913441525552445, 0.022859000920043903,
        -0.020390303261164245,
    ),
}  # fmt: skip

Pair = tuple[Term, Term]


def power(x: Term, y: Term) -> Term:
    simple = _SIMPLE.get(y.literal) if y.literal is not None else None
    return simple(x) if simple else _general_power(x, y)


def _rooted(formula: Callable[[Term], Term], of_infinity: float) -> Callable[[Term], Term]:
    """A formula over a root, with what C's pow has for -0 and -inf."""
    return lambda x: select(x.equals(-math.inf), of_infinity, formula(x + 0.0))


def _squared(x: Term) -> Term:
    return x * x


# Exponents whose products, quotients and roots round too seldom to leave the bound.
_SIMPLE: dict[float, Callable[[Term], Term]] = {
    0.0: lambda x: constant(x, 1.0),
    1.0: lambda x: x,
    2.0: _squared,
    3.0: lambda x: x * x * x,
    4.0: lambda x: _squared(_squared(x)),
    -1.0: lambda x: 1.0 / x,
    -2.0: lambda x: _squared(1.0 / x),
    0.5: sqrt,  # NumPy does so too
    1.5: _rooted(lambda x: x * sqrt(x), math.inf),
    -0.5: _rooted(lambda x: 1.0 / sqrt(x), 0.0),
}


def _general_power(x: Term, y: Term) -> Term:
    size = abs(x)
    whole = intrinsic("rint", y).equals(y)
    half = y * 0.5
    odd = whole & intrinsic("rint", half).differs(half)
    high, low = precise_log(size)
    # Powers of these are those of exp: 0, infinity and NaN.
    high = select((x < 0.0) & whole.negated(), math.nan, high)
    high = select(unordered_least(size, math.inf), size, high)
    high = select(size.equals(0.0), -math.inf, high)
    result = _exp_of_product(y, high, low)
    result = (result.bits | select(odd, x.bits & x.format.sign, 0)).float
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def _exp_of_product(y: Term, high: Term, low: Term) -> Term:
    """exp(y (high + low))."""
    # Greater factors make nothing new, and infinity times 0 would be NaN.
    y = at_least(at_most(y, 2.0**66), -(2.0**66))
    product = y * high
    ends = limits(y)
    inside = at_least(at_most(product, ends.infinite), ends.zero)
    rest = select(inside.equals(product), fma(y, low, fma(y, high, -product)), 0.0)
    power = reduced(inside)
    return scaled(exp_of_rest(power.r + rest), power.shifted, inside < 0.0, inside)


def precise_log(x: Term) -> Pair:
    """log(x) of a positive finite x."""
    ty = x.value.ty
    k, m = normalised(x)
    atanh = _twice_atanh(*_quotient(m - 1.0))
    high_two, low_two = _LN2[ty]
    high, low = _fast_two_sum(k * high_two, atanh[0])
    return high, low + fma(k, low_two, atanh[1])


def _quotient(f: Term) -> Pair:
    """f / (2 + f)."""
    under = f + 2.0
    under_low = f - (under - 2.0)
    inverse = 1.0 / under
    high = f * inverse
    return high, (fma(-high, under, f) - high * under_low) * inverse


def _twice_atanh(s: Term, s_low: Term) -> Pair:
    ty = s.value.ty
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    first, first_low = _TWO_THIRDS[ty]
    tail = z * polynomial(z, _TAIL[ty])
    b, b_low = _fast_two_sum(first, tail)
    v = z * b
    v_low = fma(z, b, -v) + fma(z, b_low + first_low, z_low * b)
    w, w_low = _fast_two_sum(2.0, v)
    high = s * w
    return high, fma(s, w, -high) + fma(s, w_low + v_low, s_low * w)


def _fast_two_sum(a: Term | float, b: Term) -> Pair:
    """a + b for |a| >= |b| or a = 0 (T. J. Dekker, 1971)."""
    total = a + b
    return total, b - (total - a)


def cbrt(x: Term) -> Term:
    """x = 2**(3q) v with 1/3 <= v < 8/3, and one step of Newton's method."""
    ty = x.value.ty
    k, m = normalised(abs(x))
    shifted = fma(k, 1 / 3, x.format.rounder)
    rest = fma(shifted - x.format.rounder, -3.0, k)
    up, down = rest > 0.0, rest < 0.0
    guess = polynomial(m - 1.0, _CBRT[ty])
    guess = guess * select(up, constant(x, 2 ** (1 / 3)), choose(down, x, 2 ** (-1 / 3), 1.0))
    v = m * select(up, constant(x, 2.0), choose(down, x, 0.5, 1.0))
    square = guess * guess
    root = guess - fma(square, guess, -v) / (square * 3.0)
    result = copysign(root * two_to(shifted), x)
    # Zeros, infinities and NaN are their own roots.
    ends = x.equals(0.0) | abs(x).equals(math.inf) | x.unordered(x)
    return select(ends, x, result)


def hypot(x: Term, y: Term) -> Term:
    """The root of the squares, scaled by the power of two below the greater one."""
    f = x.format
    a, b = abs(x), abs(y)
    less = a < b
    high, low = select(less, b, a), select(less, a, b)
    exponent = high.bits & ((2 * f.bias + 1) << f.fraction)
    exponent = intrinsic("smax", exponent, constant(exponent, 1 << f.fraction))
    exponent = intrinsic("smin", exponent, constant(exponent, (2 * f.bias - 1) << f.fraction))
    scale = ((2 * f.bias << f.fraction) - exponent).float
    low = low * scale
    high = high * scale
    root = sqrt(fma(high, high, low * low)) * exponent.float
    return select(a.equals(math.inf) | b.equals(math.inf), math.inf, root)
