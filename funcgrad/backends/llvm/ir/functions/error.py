"""The error function and its kin. Coefficients: minimax (Remez exchange)."""

from __future__ import annotations

import math

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    at_most,
    constant,
    copysign,
    fma,
    polynomial,
    select,
    sqrt,
)
from funcgrad.backends.llvm.ir.functions.exponential import (
    exp_of_rest,
    reduced,
    scaled_down,
    two_to,
)
from funcgrad.backends.llvm.ir.functions.logarithm import log_and_error

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
# erfinv(x) = x p(t) with w = -log(1 - x**2): each piece begins at a w, and has t = w - c the
# first time, then sqrt(w) - c. The first two coefficients are one number. 2**-28.6 and 2**-53.3.
_ERFINV = {
    "float": (
        (0.0, 0.0, (
            0.886226952, -2.4599963e-08, 0.232013553, 0.0115503594, -0.00233861548,
            -0.000121888814, 4.0389823e-05, 5.88514558e-06, -2.51335609e-06, 3.12693402e-07,
            -1.74592536e-08, 3.48479079e-10,
        )),
        (5.0, 3.0, (
            2.83297682, -1.59305777e-08, 1.00167525, 0.00944526121, -0.00764286425, 0.00568810757,
            -0.00356641458, 0.0014736834, -0.000121579593, -0.000275310216, 0.000161661024,
            -3.07838673e-05,
        )),
    ),
    "double": (
        (0.0, 3.125, (
            1.6536545626831027, 0.0, 0.24015818242558834, -0.006033670871426996,
            -0.0007407025341545547, 0.000186734208020529, -1.3882523394196402e-05,
            -1.3654691772635683e-06, 4.234788171195084e-07, -2.9070389895870177e-08,
            -4.112660642263982e-09, 1.051222567031445e-09, -5.414294650857501e-11,
            -1.2978504210805849e-11, 2.6305035218965825e-12, -8.079290599003757e-14,
            -4.001590964420839e-14, 6.533339501826799e-15, -3.9876626888965905e-17,
            -1.234483904025116e-16, 1.5545101300786195e-17, 6.956362580372375e-19,
            -3.487608862085776e-19, 1.6540585935957892e-20, 3.21929942521666e-21,
            -3.0018541376766925e-22,
        )),
        (6.25, 3.25, (
            3.0838856104922208, 0.0, 1.0052589676941657, 0.005370914553570889,
            -0.003751208508262778, 0.002491442097019084, -0.00168827553425593,
            0.0009532893630653218, -0.00035503783078085134, 2.4031263193058833e-05,
            6.828724850447698e-05, -4.731901575547764e-05, 1.246443424451178e-05,
            2.9258244188435947e-06, -3.9840799104870015e-06, 1.4985459041393716e-06,
            -3.0262086054549436e-08, -2.7118676733280126e-07, 1.339391426763929e-07,
            6.344063762894844e-10, -1.6186331689876883e-08,
        )),
        (16.0, 5.0, (
            4.849906401408584, 0.0, 1.010300464864545, -0.00013871931838023834,
            -0.0002150301198046556, 7.599527809858633e-05, -1.9681771101666667e-05,
            4.5260525128878805e-06, -9.930262320852769e-07, 2.2905286524818703e-07,
            -6.756961640038601e-08, 2.9018551624040998e-08, -1.5221425853968087e-08,
            7.821556180766522e-09, -3.5224749369076347e-09, 1.3159083234201143e-09,
            -3.911983737176011e-10, 6.959520962732599e-11, 1.982048657956917e-11,
            -2.0392776441405586e-11, 4.834260940676857e-12,
        )),
    ),
}  # fmt: skip


def erf(x: Term) -> Term:
    """Both formulas by one polynomial: choosing coefficients costs less than evaluating two."""
    ty = x.value.ty
    size = at_most(abs(x), _ERF_END[ty])
    near = size < 1.0
    far_ones = _ERF_FAR[ty]
    near_ones = _padded(_ERF_NEAR[ty], len(far_ones))
    chosen = [select(near, constant(x, a), b) for a, b in zip(near_ones, far_ones, strict=True)]
    p = polynomial(select(near, size * size, size), chosen)
    power = reduced(p)
    far = fma(two_to(power.shifted), -exp_of_rest(power.r), 1.0)
    return copysign(select(near, fma(size, p, size), far), x)


def erfc(x: Term) -> Term:
    """In float64 for float32, as too many roundings add up."""
    wide = x.resized("double") if x.single else x
    size = at_most(abs(wide), _ERFC_END[x.value.ty])
    shift, first, second, *others = _ERFCX[x.value.ty]
    under = size + shift
    inverse = 1.0 / under
    q = (size - shift) * inverse
    square = size * size
    power = reduced(-square)
    # What is lost in the square matters to its exponential.
    rest = power.r - fma(size, size, -square)
    if not x.single:
        # What is lost in the sum and the quotients.
        lost = fma(inverse, under, -1.0) + inverse * (size - (under - shift))
        rest = rest - lost
        q = fma(fma(-q, size, fma(q + 1.0, -shift, size)), inverse, q)
    # The first two terms one by one, as sums of even and odd ones would cancel.
    p = fma(q, fma(q, polynomial(q, others), second), first)
    positive = exp_of_rest(rest) * (inverse * p)
    if x.single:
        positive = positive * two_to(power.shifted)
    else:
        positive = scaled_down(positive, power.shifted)
    return select(wide < 0.0, 2.0 - positive, positive).resized(x.value.ty)


def erfinv(x: Term) -> Term:
    ty = x.value.ty
    logarithm, error = log_and_error(fma(-x, x, 1.0))
    w = -logarithm
    root = sqrt(w)
    pieces = _ERFINV[ty]
    most = max(len(coefficients) for _, _, coefficients in pieces)
    (_, centre, coefficients), *others = pieces
    t = w - centre if centre else w
    chosen = [constant(x, c) for c in _padded(coefficients, most)]
    for start, centre, coefficients in others:
        here = w >= start
        t = select(here, root - centre, t)
        chosen = [
            select(here, constant(x, c), before)
            for c, before in zip(_padded(coefficients, most), chosen, strict=True)
        ]
    # The slope of p is about 1/5 where the error of w matters.
    rest = fma(error, -0.2, polynomial(t, chosen[1:]))
    result = fma(x, chosen[0], x * rest)
    result = select(abs(x) < 1.0, result, math.nan)
    return select(abs(x).equals(1.0), x * math.inf, result)


def _padded(coefficients: tuple[float, ...], length: int) -> tuple[float, ...]:
    return coefficients + (0.0,) * (length - len(coefficients))
