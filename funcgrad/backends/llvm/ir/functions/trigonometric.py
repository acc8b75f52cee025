"""sin and cos: x = n pi/2 + r with |r| <= pi/4, and polynomials of r.

pi/2 is subtracted in three parts, of which the first leaves no rounding error under an fma.
Coefficients: minimax for the relative error (Remez exchange), which is given beside them.
"""

from __future__ import annotations

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    constant,
    fma,
    intrinsic,
    polynomial,
    select,
)
from funcgrad.backends.llvm.ir.functions.far_angle import far_angle
from funcgrad.backends.llvm.ir.writer import Value
from funcgrad.records import NamedTuple

_TWO_OVER_PI = 0.6366197723675814
# All rounded down: the rest of a zero keeps its sign.
_HALF_PI = {
    "float": ("0x1.921fb4p+0", "0x1.4442dp-24", "0x1.846988p-48"),
    "double": ("0x1.921fb54442d18p+0", "0x1.1a62633145c06p-54", "0x1.c1cd129024e08p-107"),
}
# Up to here 2**-24 or 2**-53 of n is little beside 1, and of the fourth part of pi/2 too.
_BOUND = {"float": 2.0**17, "double": 2.0**30}
# sin(r) = r + r**3 p(r**2): 2**-27.8 and 2**-57.7 for |r| <= 0.794.
_SIN = {
    "float": (-0.166666538, 0.00833210628, -0.000195078814),
    "double": (
        -0.16666666666666627, 0.008333333333321069, -0.00019841269828698298,
        2.7557313298609185e-06, -2.5050695475057455e-08, 1.5893112768644832e-10,
    ),
}  # fmt: skip
# cos(r) = 1 - r**2/2 + r**4 p(r**2): 2**-32.7 and 2**-63.7 for |r| <= 0.794.
_COS = {
    "float": (0.0416666456, -0.00138872978, 2.44300845e-05),
    "double": (
        0.04166666666666658, -0.001388888888887097, 2.480158728752795e-05,
        -2.7557313791559123e-07, 2.0875647488491528e-09, -1.1355743878333841e-11,
    ),
}  # fmt: skip


# tan(r) = r + r**3 p(r**2): 2**-29.3 for |r| <= 0.794.
_TAN = (
    0.333333522, 0.133325711, 0.0540709756, 0.0212226454, 0.0109954095, -0.000118547199,
    0.00448143389,
)  # fmt: skip
# sin(pi r) / pi = r + r**3 p(r**2): 2**-27.2 and 2**-61.3 for |r| <= 1/2.
_SINC = {
    "float": (
        -1.64493334, 0.811715841, -0.190443262, 0.0247162916,
    ),
    "double": (
        -1.6449340668482264, 0.8117424252833462, -0.19075182412167532, 0.0261478478079426,
        -0.0023460809132894453, 0.00014842791656991339, -6.9722673087242374e-06,
        2.4518330664200254e-07,
    ),
}  # fmt: skip


class Angle(NamedTuple):
    """|x| as n pi/2 + r: the sine and the cosine of r, and n in the low bits of an integer."""

    sin: Term
    cos: Term
    n: Term


def angle(x: Term) -> Angle:
    """Shared by all functions of one x."""
    key = ("angle", x.value.ref, x.value.type)
    known = x.w.known.get(key)
    if known is None:
        r, n = _or_far(abs(x), *_reduced(abs(x)))
        known = x.w.known[key] = Angle(sin_of_rest(r), cos_of_rest(r), n)
    return known


def sin(x: Term) -> Term:
    a = angle(x)
    f = x.format
    sign = (x.bits ^ (a.n << (f.width - 2))) & f.sign
    return (select(_odd(a.n), a.cos, a.sin).bits ^ sign).float


def cos(x: Term) -> Term:
    a = angle(x)
    f = x.format
    sign = ((a.n + 1) << (f.width - 2)) & f.sign
    return (select(_odd(a.n), a.sin, a.cos).bits ^ sign).float


def tan(x: Term) -> Term:
    if x.single:
        r, low, n = _or_far(abs(x), *_reduced_precisely(abs(x)))
        square = r * r
        low = fma(low, square, low)
        over = r + fma(r * square, polynomial(square, _TAN), low)
        under = constant(x, 1.0)
    else:
        over, under, n = angle(x)
    odd = _odd(n)
    ratio = select(odd, -under, over) / select(odd, over, under)
    return (ratio.bits ^ (x.bits & x.format.sign)).float


def sinc(x: Term) -> Term:
    """sin(pi x) / (pi x)."""
    n = intrinsic("rint", x)
    half = n * 0.5
    r = x - n
    square = r * r
    over = fma(r * square, polynomial(square, _SINC[x.value.ty]), r)
    ratio = over / x
    result = select(intrinsic("rint", half).differs(half), -ratio, ratio)
    return select(x.equals(0.0), 1.0, result)


def sin_of_rest(r: Term) -> Term:
    square = r * r
    return fma(r * square, polynomial(square, _SIN[r.value.ty]), r)


def cos_of_rest(r: Term) -> Term:
    square = r * r
    return fma(square, fma(square, polynomial(square, _COS[r.value.ty]), -0.5), 1.0)


def _odd(n: Term) -> Term:
    return (n & 1).differs(0)


def _reduced(size: Term) -> tuple[Term, Term]:
    """r, and n in the low bits of an integer, of 0 <= `size` <= _BOUND."""
    shifted = fma(size, _TWO_OVER_PI, size.format.rounder)
    n = shifted - size.format.rounder
    r = size
    for part in _HALF_PI[size.value.ty]:
        r = fma(n, -float.fromhex(part), r)
    return r, shifted.bits


def _reduced_precisely(size: Term) -> tuple[Term, Term, Term]:
    """r, what was rounded off it, and n as in `_reduced`."""
    first, second, third = (float.fromhex(part) for part in _HALF_PI[size.value.ty])
    shifted = fma(size, _TWO_OVER_PI, size.format.rounder)
    n = shifted - size.format.rounder
    exact = fma(n, -first, size)
    product = n * second
    nearly = exact - product
    rest = (exact - nearly) - product - fma(n, second, -product)
    rest = fma(n, -third, rest)
    r = nearly + rest
    return r, (nearly - r) + rest, shifted.bits


def _or_far(size: Term, *usual: Term) -> list[Term]:
    """`usual`, which ends in n, but of sizes beyond _BOUND by `far_angle`."""
    w, ty, lanes = size.w, size.value.ty, size.value.lanes
    far = size > _BOUND[ty]

    def write() -> list[Value]:
        packed = far_angle(w, size.value)
        rest = Term(w, w.shuffle(packed, range(lanes)))
        rounded = rest.resized(ty)
        rounded_off = (rest - rounded.resized("double")).resized(ty)
        turns = w.cast("fptosi", w.shuffle(packed, range(lanes, 2 * lanes)), usual[-1].value.ty)
        parts = [rounded.value, rounded_off.value][: len(usual) - 1]
        pairs = zip([*parts, turns], usual, strict=True)
        return [w.select(far.value, a, b.value) for a, b in pairs]

    found = w.replaced(w.any(far.value), [v.value for v in usual], write)
    return [Term(w, v) for v in found]
