"""sinh, cosh, and the inverse hyperbolic functions.

With x = n ln 2 + r, S = (2**n - 2**-n)/2 and C = (2**n + 2**-n)/2 (both nearly exact):
sinh(x) = S cosh(r) + C sinh(r) and cosh(x) = C cosh(r) + S sinh(r), without a division and
without cancellation. Coefficients: minimax (Remez exchange).
"""

from __future__ import annotations

import math

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
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
from funcgrad.backends.llvm.ir.functions.exponential import Reduced, limits, reduced, two_to
from funcgrad.backends.llvm.ir.functions.logarithm import ended, log1p_of

# sinh(r) = r + r**3 p(r**2): 2**-34.3 and 2**-65.1 for |r| <= 0.34675.
_SINH = {
    "float": (
        0.166666672, 0.00833317544, 0.000199740985,
    ),
    "double": (
        0.16666666666666666, 0.008333333333334426, 0.00019841269837078755, 2.7557326242695423e-06,
        2.50467633172009e-08, 1.7584645297256235e-10,
    ),
}  # fmt: skip
# cosh(r) = 1 + r**2 p(r**2): 2**-33.2 and 2**-70.0 for |r| <= 0.34675.
_COSH = {
    "float": (
        0.5, 0.0416664593, 0.00139354286,
    ),
    "double": (
        0.5, 0.041666666666666685, 0.0013888888888873283, 2.4801587349202178e-05,
        2.755725181961582e-07, 2.092176992687761e-09,
    ),
}  # fmt: skip
# From here on log(2 x) is as good as arcsinh(x) and arccosh(x), and squares may overflow.
_LARGE = {"float": 2.0**14, "double": 2.0**28}


def sinh(x: Term) -> Term:
    c, s, odd, even = _parts(x)
    half = s + fma(even, s, odd * c)
    return copysign(half + half, x)


def cosh(x: Term) -> Term:
    c, s, odd, even = _parts(x)
    half = c + fma(even, c, odd * s)
    return half + half


def _parts(x: Term) -> tuple[Term, Term, Term, Term]:
    """C/2, S/2, sinh(r) and cosh(r) - 1 of |x|. Halves, as C may overflow where cosh does not."""
    power = reduced(at_most(abs(x), limits(x).infinite + 0.5))
    square = power.r * power.r
    odd = fma(power.r * square, polynomial(square, _SINH[x.value.ty]), power.r)
    even = square * polynomial(square, _COSH[x.value.ty])
    up, down = _quarters(power)
    return up + down, up - down, odd, even


def _quarters(power: Reduced) -> tuple[Term, Term]:
    """2**(n - 2) and 2**(-n - 2), or 0 where that would be subnormal."""
    f = power.r.format
    up = two_to(power.shifted, -2)
    bits = ((2 * f.bias - 4) << f.fraction) - up.bits
    return up, intrinsic("smax", bits, constant(bits, 0)).float


def arcsinh(x: Term) -> Term:
    """log(1 + |x| + x**2 / (1 + sqrt(x**2 + 1)))."""
    size = abs(x)
    large = size > _LARGE[x.value.ty]
    square = size * size
    rise = square / (sqrt(square + 1.0) + 1.0)
    more = size + rise
    return copysign(_log_of_sum(size, more, rise - (more - size), large), x)


def arccosh(x: Term) -> Term:
    """log(1 + t + sqrt(t (t + 2))) with t = x - 1."""
    t = x - 1.0
    large = t > _LARGE[x.value.ty]
    root = sqrt(fma(t, t, t + t))
    more = t + root
    result = _log_of_sum(x, more, t - (more - root), large)
    return select(t < 0.0, math.nan, result)


def _log_of_sum(x: Term, more: Term, low: Term, large: Term) -> Term:
    """log(1 + more + low), or log(2 x) where x is large."""
    one_more = select(large, x, more + 1.0)
    more = select(large, one_more - 1.0, more)
    logarithm = log1p_of(more, one_more, select(large, constant(x, 0.0), low))
    return ended(one_more, logarithm + choose(large, x, math.log(2.0), 0.0))


def arctanh(x: Term) -> Term:
    """log(1 + q) / 2 with q = 2 |x| / (1 - |x|)."""
    size = abs(x)
    twice, under = size + size, 1.0 - size
    q = twice / under
    lost = fma(-q, under, twice) - q * ((1.0 - under) - size)
    # 1 / (1 - |x|) = (q + 2) / 2
    low = lost * fma(q, 0.5, 1.0)
    one_more = q + 1.0
    return copysign(ended(one_more, log1p_of(q, one_more, low)) * 0.5, x)
