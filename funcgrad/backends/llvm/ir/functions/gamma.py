"""The logarithm of the gamma function, and its derivative.

For x > 0 as in `primitives/_gamma.py`, which has the sources and the coefficients for float64;
but here the error of the logarithm is known, so that the product between 3 and 8 is not needed,
nor the rational approximation below 1. Numbers that are not positive and normal are rare: they
are computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    choose,
    fma,
    intrinsic,
    polynomial,
    select,
)
from funcgrad.backends.llvm.ir.functions.logarithm import log, log_and_error
from funcgrad.backends.llvm.ir.functions.trigonometric import cos_of_rest, sin_of_rest, sinc
from funcgrad.backends.llvm.ir.writer import Value, Writer
from funcgrad.primitives import _gamma

# As in `primitives/_gamma.py`; of float32 2**-26.1, 2**-27.9, 2**-27.1 and 2**-30.0 for y >= 1.
_NEAR = {
    "float": (
        0.46875,
        (0.181745589, -0.0293230005, -0.185670614, -0.0349637456),
        (1.0, 1.77710664, 0.807302892, 0.0807833821),
    ),
    "double": (_gamma.NEAR_CONSTANT, *_gamma.NEAR),
}
_FAR = {
    "float": (0.0833333358, -0.00277700298, 0.000772362051, -0.000390956877),
    "double": _gamma.FAR,
}
# (log(2 pi) - 1)/2.
_FAR_CONSTANT = {
    "float": (0.418938547, -1.41681453e-08),
    "double": (_gamma.FAR_CONSTANT, 1.6728209650585413e-17),
}
_SLOPE = {
    "float": (
        0.875,
        (0.375380129, -0.265621841, -0.35280323, -0.0490249544),
        (1.0, 1.5692656, 0.62863034, 0.0584525093),
    ),
    "double": (_gamma.SLOPE_CONSTANT, *_gamma.SLOPE),
}
_FAR_SLOPE = {
    "float": (0.0833331272, -0.0083219111, 0.00375245628, -0.00234819762),
    "double": _gamma.FAR_SLOPE,
}
_ROOT = {"float": (1.46163213, 1.24381499e-08), "double": _gamma.ROOT}
# The derivative of digamma there.
_ROOT_SLOPE = 0.9676722454476212
_PI = (math.pi, 1.2246467991473532e-16)
# Beyond this Stirling's series; below 1 recurrences.
_HIGH = {"float": 2.5, "double": 3.0}
# How many numbers, a power of two, the function of rare ones takes.
_LANES = 8


def gammaln(x: Term) -> Term:
    """Near the zeros below -2 the error is at most 2**-51 (1 + gammaln(1 - x))."""
    return _or_rare(x, _gammaln_of_normal, _gammaln_of_any)


def digamma(x: Term) -> Term:
    """Near the zeros below 0 the error is at most 2**-51 (1 + digamma(1 - x))."""
    return _or_rare(x, _digamma_of_normal, _digamma_of_any)


def _or_rare(x: Term, of_normal: Callable[[Term], Term], of_any: Callable[[Term], Term]) -> Term:
    """`of_normal` of positive normal numbers, infinity and NaN; else `of_any`, in float64."""
    usual = of_normal(x)
    rare = x < x.format.least

    def write() -> list[Value]:
        wide = _called(x.w, of_any, x.resized("double").value)
        return [x.w.select(rare.value, Term(x.w, wide).resized(x.value.ty).value, usual.value)]

    (result,) = x.w.replaced(x.w.any(rare.value), [usual.value], write)
    return Term(x.w, result)


def _called(w: Writer, formula: Callable[[Term], Term], x: Value) -> Value:
    """A formula as a function of `_LANES` doubles, compiled once for whatever calls it."""
    name = f"funcgrad.{formula.__name__.strip('_')}"
    if name not in w.module.functions:
        own = Writer(w.module)
        result = formula(Term(own, Value("%x", "double", _LANES))).value
        body = "\n".join(own.lines)
        head = f"define internal {result.type} @{name}({result.type} %x) cold noinline"
        w.module.define(name, f"{head} {{\nentry:\n{body}\n  ret {result.type} {result.ref}\n}}\n")
    parts = []
    for start in range(0, x.lanes, _LANES):
        picks = [min(start + i, x.lanes - 1) for i in range(_LANES)]
        parts.append(w.call(name, "double", _LANES, [w.shuffle(x, picks)]))
    # Vectors of a whole small array may have any number of lanes.
    parts += parts[-1:] * ((1 << (len(parts) - 1).bit_length()) - len(parts))
    while len(parts) > 1:
        both = range(2 * parts[0].lanes)
        parts = [w.shuffle(a, both, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0] if parts[0].lanes == x.lanes else w.shuffle(parts[0], range(x.lanes))


def _gammaln_of_normal(a: Term) -> Term:
    return _with_near(a)[0]


def _with_near(a: Term) -> tuple[Term, Term]:
    """log(gamma(a)), and log(gamma(1 + a)) where a < 1."""
    logarithm, error = log_and_error(a)
    low = a < 1.0
    first = select(low, a, a - 1.0)
    most, over, under = _NEAR[a.value.ty]
    t = first + 0.25
    ratio = polynomial(t, over) / polynomial(t, under)
    product = fma(first, first, -first)
    other = fma(product, most, product * ratio)
    near = select(low, (other - error) - logarithm, other)
    return select(a < _HIGH[a.value.ty], near, _stirling(a, logarithm, error)), other


def _stirling(a: Term, logarithm: Term, error: Term) -> Term:
    inverse = 1.0 / a
    high, rest = _FAR_CONSTANT[a.value.ty]
    correction = fma(inverse, polynomial(inverse * inverse, _FAR[a.value.ty]), rest)
    less = logarithm - 1.0
    error = error + ((logarithm - less) - 1.0)
    base = a - 0.5
    series = fma(base, less, fma(base, error, correction) + high)
    return select(a.equals(math.inf), a, series)


def _gammaln_of_any(x: Term) -> Term:
    """gamma(-a) gamma(1 + a) = -pi / sin(pi a)."""
    size = abs(x)
    tiny = size < x.format.least
    positive, near = _with_near(select(tiny, 1.0, size))
    positive = select(tiny, -log(size), positive)
    near = select(tiny, 0.0, near)
    small = size < 0.5
    sine = size * abs(sinc(size))
    negative = -log(select(small, sine, size * sine)) - select(small, near, positive)
    negative = select(sine.equals(0.0) | size.equals(math.inf), math.inf, negative)
    return select(x < 0.0, negative, positive)


def _digamma_of_normal(a: Term) -> Term:
    inverse = 1.0 / a
    t = inverse * inverse
    logarithm, error = log_and_error(a)
    series = fma(t, polynomial(t, _FAR_SLOPE[a.value.ty]), inverse * 0.5)
    far = logarithm + (error - series)
    # digamma(1 + a) - 1/a, and what was rounded off the quotient.
    low = a < 1.0
    rounded_off = fma(-inverse, a, 1.0) * inverse
    other = _near_slope(a)
    small = (other - rounded_off) - inverse
    near = select(a < 2.0**-60, -inverse, select(low, small, other))
    result = select(a < _HIGH[a.value.ty], near, far)
    return select(a.equals(math.inf), a, result)


def _near_slope(a: Term) -> Term:
    """digamma(a) for 1 <= a < 3, and digamma(1 + a) for a < 1."""
    ty = a.value.ty
    low = a < 1.0
    root, rest = _ROOT[ty]
    distance = a - choose(low, a, root - 1.0, root)
    most, over, under = _SLOPE[ty]
    t = select(low, a, a - 1.0)
    ratio = polynomial(t, over) / polynomial(t, under)
    return fma(distance, most, fma(distance, ratio, -rest * _ROOT_SLOPE))


def _digamma_of_any(x: Term) -> Term:
    """digamma(-a) = digamma(1 + a) + pi cot(pi a)."""
    size = abs(x)
    nearest = intrinsic("rint", size + size)
    half = nearest * 0.5
    rest = size - half
    angle = rest * _PI[0]
    low = fma(rest, _PI[0], -angle) + rest * _PI[1]
    sine, cosine = sin_of_rest(angle), cos_of_rest(angle)
    sine, cosine = fma(cosine, low, sine), fma(-sine, low, cosine)
    odd = intrinsic("rint", half).differs(half)
    cotangent = select(odd, -sine, cosine) / select(odd, cosine, sine)
    beyond = select(size < 1.0, _near_slope(size), _digamma_of_normal(size) + 1.0 / size)
    negative = fma(cotangent, _PI[0], beyond)
    negative = select(size.equals(intrinsic("rint", size)), math.nan, negative)
    # What is left are subnormal numbers, whose reciprocals overflow or nearly.
    return select(size < 2.0**-60, -1.0 / x, negative)
