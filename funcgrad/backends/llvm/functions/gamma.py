"""The logarithm of the gamma function, and its derivative.

For x > 0 as in `primitives/_gamma.py`, which has the sources and the coefficients for float64,
but without the product between 3 and 8: the error of the logarithm is known here. Numbers that
are not positive and normal are rare: they are computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from funcgrad.backends.llvm.functions.arithmetic import (
    Term,
    choose,
    fma,
    intrinsic,
    polynomial,
    select,
)
from funcgrad.backends.llvm.functions.logarithm import log, log_and_error
from funcgrad.backends.llvm.functions.trigonometric import cos_of_rest, sin_of_rest, sinc
from funcgrad.backends.llvm.writer import Value, Writer
from funcgrad.primitives import _gamma

# As in `primitives/_gamma.py`, for float32: 2**-28.7, 2**-27.6, 2**-26.3 and 2**-32.5.
_NEAR = {
    "float": (
        (0.244249046, 0.235498428, -0.111000486, -0.106697395, -0.0112516284),
        (1.0, 2.40679693, 1.81360817, 0.46445787, 0.0294658616),
    ),
    "double": _gamma.NEAR,
}
_FAR = {"float": (0.0833333284, -0.00277382392, 0.000701118319), "double": _gamma.FAR}
_SLOPE = {
    "float": (
        (0.437880129, -0.140163928, -0.330581069, -0.0601102896, -0.000104837105),
        (1.0, 1.63179207, 0.71168828, 0.0795262903),
    ),
    "double": _gamma.SLOPE,
}
_FAR_SLOPE = {
    "float": (0.0833332762, -0.00832876097, 0.00384523463, -0.00273343432),
    "double": _gamma.FAR_SLOPE,
}
_ROOT = {"float": (1.46163213, 1.24381499e-08), "double": _gamma.ROOT}
_PI = (math.pi, 1.2246467991473532e-16)
# Below the lesser of these gammaln(x) is near -log(x); beyond the greater Stirling's series.
_LOW, _HIGH = 0.8, 3.0
# How many numbers, a power of two, the function of rare ones takes.
_LANES = 8


def gammaln(x: Term) -> Term:
    """Near a zero below -2 the error is at most 2**-51 (1 + gammaln(-x)) besides."""
    return _or_rare(x, _gammaln_of_normal, _gammaln_of_any)


def digamma(x: Term) -> Term:
    """Near a zero below 0 the error is at most 2**-48 besides."""
    return _or_rare(x, _digamma_of_normal, _digamma_of_any)


def _or_rare(x: Term, of_normal: Callable[[Term], Term], of_any: Callable[[Term], Term]) -> Term:
    """`of_normal` of positive normal numbers, infinity and NaN; else `of_any`, in float64."""
    usual = of_normal(x)
    rare = x < x.format.least

    def write() -> list[Value]:
        wide = _called(x.w, of_any, x.resized("double").value)
        return [x.w.select(rare.value, Term(x.w, wide).resized(x.value.kind).value, usual.value)]

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
    while len(parts) > 1:
        both = range(2 * parts[0].lanes)
        parts = [w.shuffle(a, both, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return w.shuffle(parts[0], range(x.lanes)) if x.lanes < _LANES else parts[0]


def _gammaln_of_normal(a: Term) -> Term:
    return _with_near(a)[0]


def _with_near(a: Term) -> tuple[Term, Term]:
    """log(gamma(a)), and log(gamma(1 + a)) where a < _LOW."""
    logarithm, error = log_and_error(a)
    low = a < _LOW
    first = select(low, a, a - 1.0)
    over, under = _NEAR[a.value.kind]
    t = first + 0.25
    ratio = polynomial(t, over) / polynomial(t, under)
    product = fma(first, first, -first)
    other = fma(product, _gamma.NEAR_CONSTANT, product * ratio)
    near = select(low, (other - error) - logarithm, other)
    return select(a < _HIGH, near, _stirling(a, logarithm, error)), other


def _stirling(a: Term, logarithm: Term, error: Term) -> Term:
    inverse = 1.0 / a
    correction = fma(
        inverse, polynomial(inverse * inverse, _FAR[a.value.kind]), _gamma.FAR_CONSTANT
    )
    less = logarithm - 1.0
    error = error + ((logarithm - less) - 1.0)
    base = a - 0.5
    series = fma(base, less, fma(base, error, correction))
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
    series = fma(t, polynomial(t, _FAR_SLOPE[a.value.kind]), inverse * 0.5)
    far = logarithm + (error - series)
    # digamma(1 + a) - 1/a, and what was rounded off the quotient.
    low = a < 1.0
    rounded_off = fma(-inverse, a, 1.0) * inverse
    other = _near_slope(a)
    small = (other - rounded_off) - inverse
    near = select(a < 2.0**-60, -inverse, select(low, small, other))
    result = select(a < _HIGH, near, far)
    return select(a.equals(math.inf), a, result)


def _near_slope(a: Term) -> Term:
    """digamma(a) for 1 <= a < 3, and digamma(1 + a) for a < 1."""
    kind = a.value.kind
    low = a < 1.0
    root, rest = _ROOT[kind]
    distance = (a - choose(low, a, root - 1.0, root)) - rest
    over, under = _SLOPE[kind]
    t = select(low, a, a - 1.0)
    ratio = polynomial(t, over) / polynomial(t, under)
    return fma(distance, _gamma.SLOPE_CONSTANT, distance * ratio)


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
