"""log and what is made of it.

x = 2**k (1 + f) with 2/3 <= 1 + f < 4/3. Coefficients: minimax for the relative error of
log(1 + f) (Remez exchange), which is given beside them.
"""

from __future__ import annotations

import math

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Operand,
    Term,
    choose,
    constant,
    copysign,
    fma,
    intrinsic,
    polynomial,
    select,
)
from funcgrad.backends.llvm.ir.functions.exponential import LN2, exp2, exp_of_negative

# The bits of 2/3.
_TWO_THIRDS = {"float": 0x3F2AAAAB, "double": 0x3FE5555555555555}
# log(1 + f) = f - f**2/2 + f**3 p(f) for |f| <= 1/3: 2**-27.4.
_SINGLE = (
    0.333332151, -0.249997973, 0.200104043, -0.16680485, 0.140058994, -0.121842906, 0.139842734,
    -0.128915623,
)  # fmt: skip
# log(1 + f) = 2 atanh(s) = 2s + s**3 p(s**2) for s = f/(2 + f), |s| <= 1/5: 2**-62.7. The
# division costs less than the ten coefficients that a polynomial in f would have besides.
_DOUBLE = (
    0.666666666666666, 0.4000000000005666, 0.28571428555831474, 0.22222224296256562,
    0.18181665877414907, 0.15391112266617968, 0.13173587780784665, 0.13843156858274885,
)  # fmt: skip


# In two parts, the first rounded to the nearest.
_LOG2_E = {
    "float": (1.44269502, 1.92596303e-08),
    "double": (1.4426950408889634, 2.0355273740931033e-17),
}
_LOG10_E = {
    "float": (0.434294492, -1.010305e-08),
    "double": (0.4342944819032518, 1.098319650216765e-17),
}
_LOG10_2 = {
    "float": (0.30103001, -1.43209888e-08),
    "double": (0.3010299956639812, -2.8037281277851704e-18),
}


def split(x: Term) -> tuple[Term, Term]:
    """x = 2**k m for a normal x > 0: k as a float, and m in [2/3, 4/3)."""
    f = x.format
    exponent = (x.bits - _TWO_THIRDS[x.value.ty]) >> f.fraction
    return exponent.converted(), (x.bits - (exponent << f.fraction)).float


def normalised(x: Term) -> tuple[Term, Term]:
    """`split` of subnormal numbers too."""
    f = x.format
    tiny = x < f.least
    k, m = split(select(tiny, x * 2.0 ** (f.fraction + 1), x))
    return k + choose(tiny, x, -f.fraction - 1.0, 0.0), m


def log_tail(f: Term, offset: Operand = 0.0) -> Term:
    """log(1 + f) - f + offset for -1/3 <= f < 1/3."""
    square = f * f
    if f.single:
        return fma(square, fma(f, polynomial(f, _SINGLE, square), -0.5), offset)
    half = square * 0.5
    s = f / (f + 2.0)
    return fma(s, fma(s * s, polynomial(s * s, _DOUBLE), half), offset - half)


def ended(x: Term, y: Term) -> Term:
    """y, a logarithm of x, with what it is for the x that are not positive and finite."""
    y = select(unordered_least(x, math.inf), x, y)
    return select(x <= 0.0, choose(x.equals(0.0), x, -math.inf, math.nan), y)


def unordered_least(x: Term, bound: float) -> Term:
    """x >= bound, or NaN."""
    return Term(x.w, x.w.compare("fcmp uge", x.value, x.lift(bound)))


def log(x: Term) -> Term:
    k, m = normalised(x)
    return ended(x, _sum(k, m - 1.0))


def _sum(k: Term, f: Term, offset: Operand = 0.0) -> Term:
    """log(2**k (1 + f)) + offset."""
    high, low = LN2[f.value.ty]
    return fma(k, high, f + log_tail(f, fma(k, low, offset)))


def log_and_error(x: Term) -> tuple[Term, Term]:
    """log(x) of a normal x > 0, and what was rounded off it."""
    high, low = LN2[x.value.ty]
    k, m = split(x)
    f = m - 1.0
    small = log_tail(f, k * low)
    rest = f + small
    total = fma(k, high, rest)
    return total, (fma(k, high, -total) + rest) + ((f - rest) + small)


def log2(x: Term) -> Term:
    return _log_to_base(x, (1.0, 0.0), *_LOG2_E[x.value.ty])


def log10(x: Term) -> Term:
    return _log_to_base(x, _LOG10_2[x.value.ty], *_LOG10_E[x.value.ty])


def _log_to_base(x: Term, of_two: tuple[float, float], high: float, low: float) -> Term:
    """The logarithm of 2 and that of e are given in two parts."""
    k, m = normalised(x)
    f = m - 1.0
    rest = fma(f, high, fma(log_tail(f), high, f * low))
    if of_two[1]:
        rest = fma(k, of_two[1], rest)
    return ended(x, fma(k, of_two[0], rest))


def log1p(x: Term) -> Term:
    one_more = x + 1.0
    return copysign(ended(one_more, log1p_of(x, one_more)), x)


def log1p_of(x: Term, one_more: Term, low: Operand = 0.0) -> Term:
    """log(1 + x) for -1 < x < inf, of x and 1 + x, where `low` was rounded off x.

    What is lost in 1 + x is added to the 1 + f that is made of it.
    """
    f = x.format
    exponent = (one_more.bits - _TWO_THIRDS[x.value.ty]) >> f.fraction
    m = (one_more.bits - (exponent << f.fraction)).float
    # Beyond 2**64 nothing is lost that matters, and 2**-k might underflow.
    bounded = intrinsic("smin", exponent, constant(exponent, 64))
    scale = ((f.bias - bounded) << f.fraction).float
    lost = x - (one_more - 1.0)
    nearly = m - 1.0
    rest = fma(scale, lost, nearly)
    lost = lost + low if isinstance(low, Term) else lost
    return _sum(exponent.converted(), rest, fma(scale, lost, nearly - rest))


def _log1p_of_power(small: Term) -> Term:
    return log1p_of(small, small + 1.0)


def logaddexp(x: Term, y: Term) -> Term:
    greatest, apart = _greatest_and_gap(x, y)
    return greatest + _log1p_of_power(exp_of_negative(-apart))


def logaddexp2(x: Term, y: Term) -> Term:
    greatest, apart = _greatest_and_gap(x, y)
    high, _ = _LOG2_E[x.value.ty]
    # Two roundings: that log2(2) is 1 matters where the greater is -1.
    return greatest + _log1p_of_power(exp2(-apart)) * high


def _greatest_and_gap(x: Term, y: Term) -> tuple[Term, Term]:
    """max(x, y), and |x - y|, which is 0 of equal infinities and NaN where one is NaN."""
    return select(x > y, x, y), abs(select(x.equals(y), 0.0, x - y))
