"""log and what is made of it.

x = 2**k (1 + f) with 2/3 <= 1 + f < 4/3. Coefficients: minimax for the relative error of
log(1 + f) (Remez exchange), which is given beside them.
"""

from __future__ import annotations

import math

from funcgrad.backends.llvm.functions.arithmetic import (
    Term,
    choose,
    constant,
    fma,
    polynomial,
    select,
)
from funcgrad.backends.llvm.functions.exponential import LN2

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


def split(x: Term) -> tuple[Term, Term]:
    """x = 2**k m for a normal x > 0: k as a float, and m in [2/3, 4/3)."""
    f = x.format
    exponent = (x.bits - _TWO_THIRDS[x.value.kind]) >> f.fraction
    return exponent.converted(), (x.bits - (exponent << f.fraction)).float


def normalised(x: Term) -> tuple[Term, Term]:
    """`split` of subnormal numbers too."""
    f = x.format
    tiny = x < f.least
    k, m = split(select(tiny, x * 2.0 ** (f.fraction + 1), x))
    return k + choose(tiny, x, -f.fraction - 1.0, 0.0), m


def log_tail(f: Term) -> Term:
    """log(1 + f) - f for -1/3 <= f < 1/3."""
    half = f * f * 0.5
    if f.single:
        return fma(f * f * f, polynomial(f, _SINGLE), -half)
    s = f / (f + 2.0)
    return fma(s, fma(s * s, polynomial(s * s, _DOUBLE), half), -half)


def ended(x: Term, y: Term) -> Term:
    """y, a logarithm of x, with what it is for the x that are not positive and finite."""
    y = select(unordered_least(x, math.inf), x, y)
    return select(x <= 0.0, choose(x.equals(0.0), x, -math.inf, math.nan), y)


def unordered_least(x: Term, bound: float) -> Term:
    """x >= bound, or NaN."""
    return Term(x.w, x.w.compare("fcmp uge", x.value, x.lift(bound)))


def log(x: Term) -> Term:
    high, low = LN2[x.value.kind]
    k, m = normalised(x)
    f = m - 1.0
    return ended(x, fma(k, constant(x, high), f + fma(k, low, log_tail(f))))
