"""The error function and its kin. Coefficients: minimax (Remez exchange)."""

from __future__ import annotations

from funcgrad.backends.llvm.functions.arithmetic import (
    Term,
    at_most,
    constant,
    copysign,
    fma,
    polynomial,
    select,
)
from funcgrad.backends.llvm.functions.exponential import exp_of_rest, reduced, scaled_down, two_to

# Beyond this the result is 1.
_ERF_END = {"float": 4.0, "double": 6.0}
# erf(x) = x + x p(x**2): 2**-29.4 and 2**-56.0 for |x| <= 1.
_ERF_NEAR = {
    "float": (
        0.128379166, -0.37612626, 0.112835787, -0.0268533472, 0.0051871622, -0.00079978531,
        7.80690389e-05,
    ),
    "double": (
        0.12837916709551256, -0.37612638903183343, 0.11283791670936949, -0.026866170641958623,
        0.005223977596719906, -0.0008548325482803322, 0.00012055280356494243,
        -1.4924460931301807e-05, 1.6444061399319205e-06, -1.6183032969007175e-07,
        1.3611244496191486e-08, -7.595030661910346e-10,
    ),
}  # fmt: skip
# erf(x) = 1 - exp(p(x)): 2**-29.8 and 2**-54.1 for 1 <= x <= 4 and 6.
_ERF_FAR = {
    "float": (
        -0.000354179851, -1.12703812, -0.638228953, -0.103034422, 0.0218038503, -0.00293922424,
        0.000185533208,
    ),
    "double": (
        -1.0819023811328925e-06, -1.1283685478939216, -0.6366682603917833, -0.10263591495958173,
        0.018862352694510472, 0.0005879208772969955, -0.002102470409020736,
        0.0009226632514404412, -0.0002322020606095613, 2.8689314018308314e-05,
        3.3726076031639507e-06, -2.60998043826639e-06, 6.75230964922417e-07,
        -1.064119326225157e-07, 1.0724121678815706e-08, -6.4093498479005e-10,
        1.739933743638371e-11,
    ),
}  # fmt: skip
# Beyond this the result is 0.
_ERFC_END = {"float": 10.1, "double": 27.3}
# exp(x**2) erfc(x) = p((x - K)/(x + K)) / (x + K): K and p; 2**-28.9 and 2**-53.7.
_ERFCX = {
    "float": (
        3.0,
        1.074006907765117, -0.8833944864499654, 0.5902282985783718, -0.31046600856143486,
        0.11952906762737343, -0.026839825635400636, -0.0012264271507356438, 0.0030803275666435917,
        -0.0004831830281462387, -0.0003253368066812359,
    ),
    "double": (
        4.0,
        1.095995661000491, -0.9765487290808821, 0.7732087022652369, -0.540853831313225,
        0.3308515878780232, -0.1740109372402891, 0.0763815149091542, -0.026370053334628482,
        0.0061120556567058944, -0.0002809589158193497, -0.0004550526883648341,
        0.00017681308655078472, -3.635151734741862e-06, -1.8861784521657064e-05,
        4.694337031142212e-06, 1.4260928607439083e-06, -8.460177818145403e-07,
        -7.797879411931949e-08, 1.239482349490258e-07, 2.611585725621893e-09,
        -1.5395370162019508e-08, -3.839356983061257e-10, 1.0172760274078436e-09,
    ),
}  # fmt: skip


def erf(x: Term) -> Term:
    """Both formulas by one polynomial: choosing coefficients costs less than evaluating two."""
    kind = x.value.kind
    size = at_most(abs(x), _ERF_END[kind])
    near = size < 1.0
    far_ones = _ERF_FAR[kind]
    near_ones = _ERF_NEAR[kind] + (0.0,) * (len(far_ones) - len(_ERF_NEAR[kind]))
    chosen = [select(near, constant(x, a), b) for a, b in zip(near_ones, far_ones, strict=True)]
    p = polynomial(select(near, size * size, size), chosen)
    power = reduced(p)
    far = fma(two_to(power.shifted), -exp_of_rest(power.r), 1.0)
    return copysign(select(near, fma(size, p, size), far), x)


def erfc(x: Term) -> Term:
    """In float64 for float32, as too many roundings add up."""
    wide = x.resized("double") if x.single else x
    size = at_most(abs(wide), _ERFC_END[x.value.kind])
    shift, *coefficients = _ERFCX[x.value.kind]
    inverse = 1.0 / (size + shift)
    q = (size - shift) * inverse
    if not x.single:
        # What is lost in the sum and the quotient.
        q = fma(fma(-q, size, fma(q + 1.0, -shift, size)), inverse, q)
    square = size * size
    power = reduced(-square)
    # What is lost in the square matters to its exponential.
    rest = power.r - fma(size, size, -square)
    positive = exp_of_rest(rest) * (inverse * polynomial(q, coefficients))
    if x.single:
        positive = positive * two_to(power.shifted)
    else:
        positive = scaled_down(positive, power.shifted)
    return select(wide < 0.0, 2.0 - positive, positive).resized(x.value.kind)
