"""exp and what is made of it.

x = n ln 2 + r with |r| <= ln(2)/2, and e**r by a polynomial. ln 2 is subtracted in two parts,
of which the first leaves no rounding error under an fma. Coefficients: minimax for the
relative error (Remez exchange), which is given beside them.
"""

from __future__ import annotations

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    at_least,
    at_most,
    choose,
    copysign,
    fma,
    polynomial,
    select,
)
from funcgrad.records import NamedTuple

LOG2_E = 1.4426950408889634
LN2 = {
    "float": (float.fromhex("0x1.62e43p-1"), float.fromhex("-0x1.05c61p-29")),
    "double": (float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56")),
}
# e**r = 1 + r + r**2 q(r): 2**-28.0 and 2**-57.8 of e**r for |r| <= 0.34675.
_EXP = {
    "float": (0.49999994, 0.166665211, 0.0416683927, 0.00836874265, 0.0013814423),
    "double": (
        0.5000000000000011, 0.1666666666666653, 0.04166666666653065, 0.008333333333441724,
        0.001388888894307198, 0.0001984126959175063, 2.4801493854671325e-05,
        2.7557527322659683e-06, 2.7629954846565187e-07, 2.5014988396188433e-08,
    ),
}  # fmt: skip
# 2**r = 1 + r q(r): 2**-25.9 and 2**-55.0 of 2**r for |r| <= 1/2.
_EXP2 = {
    "float": (
        0.693147182, 0.240226477, 0.0555033237, 0.00961843692, 0.00133988715, 0.000153533998,
    ),
    "double": (
        0.6931471805599453, 0.2402265069591013, 0.055504108664820084, 0.009618129107594128,
        0.0013333558146774098, 0.00015403530457103293, 1.5252733493540476e-05,
        1.321543528651178e-06, 1.0178199434506385e-07, 7.073782543822347e-09,
        4.434787489857781e-10,
    ),
}  # fmt: skip


# tanh(x) = x + x**3 p(x**2)/q(x**2), q from a Pade approximant: 2**-32.1 and 2**-54.1 for
# |x| <= 9/16, where the other formula begins to be better.
_TANH_NEAR = 0.5625
_TANH = {
    "float": ((-0.333333343, -0.00174279092, 6.18325066e-05), (1.0, 0.405228764)),
    "double": (
        (-0.3333333333333358, -0.020512820512784278, -0.0001998001999201195),
        (1.0, 0.46153846153846156, 0.023310023310023312, 0.0002072002072002072),
    ),
}  # fmt: skip


class Limits(NamedTuple):
    """Beyond these, results are 0, infinite or what they tend to."""

    zero: float
    infinite: float
    zero_base_2: float
    infinite_base_2: float
    expm1: float
    tanh: float


_LIMITS = {
    "float": Limits(-105.0, 89.0, -151.0, 129.0, -18.0, 9.02),
    "double": Limits(-746.0, 710.0, -1076.0, 1025.0, -40.0, 19.1),
}


def limits(x: Term) -> Limits:
    return _LIMITS[x.value.ty]


class Reduced(NamedTuple):
    """A power as 2**n e**r.

    Attributes:
        shifted: n + `Format.rounder`, whose low bits are n.
        n: a whole number.
        r: what is left.
    """

    shifted: Term
    n: Term
    r: Term


def reduced(x: Term, scale: float = 1.0) -> Reduced:
    """e**(scale * x) for a power of two `scale`."""
    high, low = LN2[x.value.ty]
    shifted = fma(x, LOG2_E * scale, x.format.rounder)
    n = shifted - x.format.rounder
    return Reduced(shifted, n, fma(n, -low, fma(n, -high, x if scale == 1.0 else x * scale)))


def exp_of_rest(r: Term) -> Term:
    """e**r for |r| <= ln(2)/2."""
    return fma(r, fma(r, polynomial(r, _EXP[r.value.ty]), 1.0), 1.0)


def expm1_of_rest(r: Term) -> Term:
    """e**r - 1 for |r| <= ln(2)/2."""
    square = r * r
    return fma(square, polynomial(r, _EXP[r.value.ty], square), r)


def two_to(shifted: Term, offset: int = 0) -> Term:
    """2**(n + offset), a normal number, from n + `Format.rounder`."""
    f = shifted.format
    return ((shifted.bits + (f.bias + offset)) << f.fraction).float


def scaled(y: Term, shifted: Term, negative: Term, origin: Term) -> Term:
    """y 2**n, rounded once, for a y near 1, where 2**n itself may overflow or underflow.

    Half of the exponents' range is taken off n, which is then added to y's exponent, and then
    given back. That spoils NaN, which `origin`, a finite number or NaN, brings back: sums and
    shifts run beside the products, which limit the speed. `negative` says where n is.
    """
    f = y.format
    half = (f.bias + 1) // 2
    offset = choose(negative, y.bits, half, -half)
    nearly = (y.bits + ((shifted.bits + offset) << f.fraction)).float
    return fma(nearly, choose(negative, y, 2.0**-half, 2.0**half), origin - origin)


def exp(x: Term) -> Term:
    ends = limits(x)
    x = at_least(at_most(x, ends.infinite), ends.zero)
    power = reduced(x)
    return scaled(exp_of_rest(power.r), power.shifted, x < 0.0, x)


def exp2(x: Term) -> Term:
    ends = limits(x)
    x = at_least(at_most(x, ends.infinite_base_2), ends.zero_base_2)
    shifted = x + x.format.rounder
    r = x - (shifted - x.format.rounder)
    return scaled(fma(r, polynomial(r, _EXP2[x.value.ty]), 1.0), shifted, x < 0.0, x)


def expm1(x: Term) -> Term:
    ends = limits(x)
    bounded = at_least(at_most(x, ends.infinite), ends.expm1)
    power = reduced(bounded)
    # Half of it, as 2**n may overflow where the result does not.
    scale = two_to(power.shifted, -1)
    half = fma(scale, expm1_of_rest(power.r), scale - 0.5)
    return copysign(half + half, x)


def tanh(x: Term) -> Term:
    """1 - 2 / (exp(2 |x|) + 1), or near 0 a rational function: one division serves both."""
    ty = x.value.ty
    size = at_most(abs(x), limits(x).tanh)
    power = reduced(size, 2.0)
    square = size * size
    top, bottom = _TANH[ty]
    near = size < _TANH_NEAR
    over = select(near, size * square * polynomial(square, top), -2.0)
    under = fma(two_to(power.shifted), expm1_of_rest(power.r) + 1.0, 1.0)
    under = select(near, polynomial(square, bottom), under)
    return copysign(select(near, size, 1.0) + over / under, x)


def logistic(x: Term) -> Term:
    """1 / (1 + exp(-x)), by exp(-|x|), which cannot overflow."""
    small = exp_of_negative(-abs(x))
    base = select(x < 0.0, small, 1.0)
    # base / (1 + small), but the errors of the quotient come in as little as they can.
    return fma(-base, small / (small + 1.0), base)


def exp_of_negative(x: Term) -> Term:
    """exp(x) for x <= 0."""
    power = reduced(at_least(x, limits(x).zero))
    return scaled_down(exp_of_rest(power.r), power.shifted)


def scaled_down(y: Term, shifted: Term) -> Term:
    """y 2**n for n <= 0, rounded once; n may be below the normal numbers' exponents."""
    half = (y.format.bias + 1) // 2
    return y * two_to(shifted, half) * 2.0**-half
