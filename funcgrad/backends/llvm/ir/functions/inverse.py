"""arcsin, arccos, arctan and arctan2. Coefficients: minimax (Remez exchange)."""

from __future__ import annotations

import math

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    choose,
    constant,
    copysign,
    fma,
    polynomial,
    select,
    sqrt,
)

# arcsin(x) = x + x**3 p(x**2): 2**-27.6 and 2**-55.9 for |x| <= 1/2.
_ARCSIN = {
    "float": (
        0.166667536, 0.0749525204, 0.0454760529, 0.0241519958, 0.0422120057,
    ),
    "double": (
        0.1666666666666538, 0.07500000000343537, 0.04464285682309023, 0.03038195934697602,
        0.022371753154501673, 0.01735977657594569, 0.013884545106489858, 0.012173626794768506,
        0.0065093583108750365, 0.019577985699944653, -0.01630046771222779, 0.031963348855364504,
    ),
}  # fmt: skip
# arctan(x) = x + x**3 p(x**2): 2**-27.5 and 2**-57.8 for |x| <= 1/2.
_ARCTAN = {
    "float": (
        -0.33333233, 0.199941665, -0.141741723, 0.101555035, -0.0512434915,
    ),
    "double": (
        -0.3333333333333298, 0.19999999999903098, -0.14285714276384034, 0.11111110659525346,
        -0.09090896241382569, 0.07692073854236965, -0.06663809988714897, 0.058582945702286435,
        -0.05121986405216406, 0.04186450269494001, -0.027434091355611343, 0.010116254013847178,
    ),
}  # fmt: skip
_HALF_PI = {
    "float": (float.fromhex("0x1.921fb6p+0"), float.fromhex("-0x1.777a5cp-25")),
    "double": (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54")),
}


def arcsin(x: Term) -> Term:
    """Beyond 1/2, arcsin(x) = pi/2 - 2 arcsin(sqrt((1 - x)/2))."""
    high, low = _HALF_PI[x.value.ty]
    size = abs(x)
    far, root, rest = _arcsin_parts(size)
    twice = root + root
    most = constant(x, high) - twice
    lost = (high - most) - twice
    beyond = most - (rest + rest - (lost + low))
    return copysign(select(far, beyond, root + rest), x)


def arccos(x: Term) -> Term:
    high, low = _HALF_PI[x.value.ty]
    far, root, rest = _arcsin_parts(abs(x))
    negative = x < 0.0
    near = high - (copysign(root, x) + (copysign(rest, x) - low))
    twice = (root + rest) * 2.0
    beyond = select(negative, 2.0 * high - (twice - 2.0 * low), twice)
    return select(far, beyond, near)


def _arcsin_parts(size: Term) -> tuple[Term, Term, Term]:
    """Whether `size` > 1/2, and two parts of arcsin(size), or there of arcsin(sqrt(..))."""
    far = size > 0.5
    square = select(far, fma(size, -0.5, 0.5), size * size)
    root = select(far, sqrt(square), size)
    return far, root, root * square * polynomial(square, _ARCSIN[size.value.ty])


def arctan(x: Term) -> Term:
    size = abs(x)
    inverted = size > 1.0
    low = select(inverted, 1.0, size)
    high = select(inverted, size, constant(x, 1.0))
    return copysign(_arctan_of_ratio(low, high, inverted, None), x)


def arctan2(y: Term, x: Term) -> Term:
    rise, run = abs(y), abs(x)
    steep = rise > run
    low, high = select(steep, run, rise), select(steep, rise, run)
    # Infinities of one size, and zeros, have the angle of ones.
    both = low.equals(math.inf) & high.equals(math.inf)
    low = select(both, 1.0, low)
    high = select(both | high.equals(0.0), 1.0, high)
    # Sums of the two must not overflow.
    scale = choose(high > 2.0 ** (x.format.bias - 27), high, 0.25, 1.0)
    backward = x.bits < 0
    return copysign(_arctan_of_ratio(low * scale, high * scale, steep, backward), y)


def _arctan_of_ratio(low: Term, high: Term, inverted: Term, backward: Term | None) -> Term:
    """An angle in [0, pi], as k pi/4 plus or minus arctan(t) with |t| <= 1/2.

    low / high <= 1 is the tangent, or its inverse; `backward` says where the angle is pi minus
    the one that is meant.
    """
    ty = low.value.ty
    # From here on low - high is exact.
    middle = low > high * 0.5
    t = select(middle, low - high, low) / select(middle, low + high, high)
    k = choose(middle, t, 1.0, 0.0)
    k = select(inverted, 2.0 - k, k)
    flipped = inverted
    if backward is not None:
        k = select(backward, 4.0 - k, k)
        flipped = inverted ^ backward
    square = t * t
    angle = fma(t * square, polynomial(square, _ARCTAN[ty]), t)
    angle = select(flipped, -angle, angle)
    quarter, rest = (0.5 * part for part in _HALF_PI[ty])
    return fma(k, constant(k, quarter), fma(k, constant(k, rest), angle))
