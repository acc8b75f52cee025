"""Special functions, named and called as in `scipy.special`; on arrays and on tracers.

Integers and booleans give float64; float32 and float16 stay what they are. Of complex numbers only
`xlogy` and `xlog1py` are defined here. SciPy is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce, wraps
from inspect import signature
from operator import index
from typing import Any, TypeVar

import numpy as np

from funcgrad.core.aval import aval_of, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.primitive import (
    HALF,
    SINGLE,
    narrow,
    widen,
)
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, OperandTypeError, at_line
from funcgrad.numpy.convert import as_array, promote
from funcgrad.numpy.reductions import logsumexp as _logsumexp
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import special as sp
from funcgrad.primitives.discrete import stop_gradient
from funcgrad.primitives.elementwise import cast

# NumPy's types don't tell what is chosen of values of any type.
_where: Callable[..., Any] = np.where

__all__ = [
    "betaln",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "gammaln",
    "log_expit",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "rel_entr",
    "softmax",
    "softplus",
    "xlog1py",
    "xlogy",
]


F = TypeVar("F", bound=Callable[..., Any])
DOUBLE = np.dtype(np.float64)


def _float(x: Any) -> Any:
    x = as_array(x)
    return x if aval_of(x).inexact else cast(x, np.dtype(np.float64))


def _real(name: str, x: Any) -> Any:
    x = _float(x)
    if x.dtype.kind == "c":
        raise at_line(
            OperandTypeError,
            f"special.{name} is defined for real numbers only here, got {x.dtype}: what is "
            "computed of the real part alone would be wrong. Pass x.real if that is meant",
        )
    return x


def _is_number(x: Any) -> bool:
    """Whether x is a Python number, or a tracer that stands for one."""
    if type(x) is Tracer:
        return not hasattr(x.value, "dtype") and x.aval.weak
    return type(x) in (int, float, complex)


def _together(check: Callable[[Any], Any], *operands: Any) -> list[Any]:
    """Operands that pass the check, in one dtype; Python's numbers take that of the others."""
    strong = [check(x) for x in operands if not _is_number(x)]
    if not 0 < len(strong) < len(operands):
        return promote(map(check, operands))
    numbers = [aval_of(x) for x in operands if _is_number(x)]
    dtype = result_dtype(*map(aval_of, strong), *numbers)
    return [check(cast(as_array(x), dtype)) for x in operands]


def _computed_in(wider: dict[np.dtype, np.dtype]) -> Callable[[F], F]:
    """Let a function of real arrays compute in a wider dtype, and round once."""

    def decorate(function: F) -> F:
        name, form = function.__name__, signature(function)

        @wraps(function)
        def wrapper(*args: Any, **named: Any) -> Any:
            if named or len(args) != len(form.parameters):
                args = form.bind(*args, **named).args
            arrays = _together(partial(_real, name), *args)
            dtype = arrays[0].dtype
            wide = wider.get(dtype)
            if wide is None:
                return function(*arrays)
            return cast(function(*[cast(x, wide) for x in arrays]), dtype)

        return wrapper  # type: ignore[return-value]

    return decorate


_in_single = _computed_in({HALF: SINGLE})
# Where what is left of a difference is the result.
_in_double = _computed_in({HALF: DOUBLE, SINGLE: DOUBLE})


def erf(x: Any) -> Any:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.

    Args:
        x: real array of any shape.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.erf(np.array([0.0, 0.5, np.inf])).round(6)
        array([0.    , 0.5205, 1.    ])
    """
    return bind(sp.erf, _real("erf", x))


def erfc(x: Any) -> Any:
    """1 - erf(x), without the cancellation for large x.

    Example:
        >>> from funcgrad.scipy import special
        >>> special.erfc(np.array([1.0, 10.0]))
        array([1.57299207e-01, 2.08848758e-45])
    """
    return bind(sp.erfc, _real("erfc", x))


def erfinv(y: Any) -> Any:
    """The inverse of `erf` on [-1, 1]; NaN outside.

    Example:
        >>> from funcgrad.scipy import special
        >>> special.erfinv(special.erf(np.array([0.25, -0.5])))
        array([ 0.25, -0.5 ])
    """
    return bind(sp.erfinv, _real("erfinv", y))


@_in_single
def ndtr(x: Any) -> Any:
    """The standard normal distribution function.

    Computed by `erfc`, so that the lower tail keeps its relative accuracy.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.ndtr(np.array([0.0, 1.96])).round(3)
        array([0.5  , 0.975])
    """
    return 0.5 * bind(sp.erfc, -x * np.sqrt(0.5).item())


@_in_double
def ndtri(p: Any) -> Any:
    """The inverse of `ndtr`: the quantiles of the standard normal distribution.

    Example:
        >>> from funcgrad.scipy import special
        >>> round(float(special.ndtri(0.975)), 3)
        1.96
    """
    low = p < 0.075
    # Near 0 the difference from 1 would keep no digits of p.
    centre = np.sqrt(2).item() * bind(sp.erfinv, 2 * np.where(low, 0.5, p) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _where(low, -_upper_quantile(np.where(low, p, 0.05)), centre)


# Numerators and denominators for r up to 5 and beyond it, lowest order first.
# Source: M. J. Wichura, "Algorithm AS 241", Applied Statistics 37 (1988).
_NEAR_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def _upper_quantile(p: Any) -> Any:
    """What the normal distribution exceeds with a small probability p."""
    zero = p == 0
    r = np.sqrt(-np.log(np.where(zero, 0.05, p)))
    far = r > 5
    tail = _where(
        far,
        _ratio(np.where(far, r - 5, 0), _FAR_TAIL),
        _ratio(np.where(far, 0, r - 1.6), _NEAR_TAIL),
    )
    # So that the derivative is infinite there, too.
    return _where(zero, -np.log(np.where(zero, p, 1)), tail)


def _ratio(x: Any, orders: Any) -> Any:
    above, below = (reduce(lambda total, c: total * x + c, reversed(series)) for series in orders)
    return above / below


@_in_single
def log_ndtr(x: Any) -> Any:
    """log(ndtr(x)), also where ndtr underflows.

    Below -10 by the continued fraction of Abramowitz and Stegun, 26.2.14.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.log_ndtr(np.array([-40.0, 0.0])).round(4)
        array([-8.046084e+02, -6.931000e-01])
    """
    far = x < -10
    near = np.where(far, 0, x)
    above = near > 0
    tail = 0.5 * bind(sp.erfc, np.where(above, near, -near) * np.sqrt(0.5).item())
    upper = np.where(above, np.log1p(-tail), np.log(np.where(above, 1, tail)))
    t = np.where(far, -x, 10)
    ratio = t
    for k in range(12, 0, -1):
        ratio = t + k / ratio
    lower = -0.5 * t * t - 0.5 * np.log(2 * np.pi).item() - np.log(ratio)
    return np.where(far, lower, upper)


def expit(x: Any) -> Any:
    """The logistic sigmoid, 1 / (1 + exp(-x)), without overflow.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.expit(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    return bind(ew.logistic, _real("expit", x))


def log_expit(x: Any) -> Any:
    """log(expit(x)), exact to rounding in both tails.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.log_expit(np.array([-1000.0, 0.0])).round(4)
        array([-1.000e+03, -6.931e-01])
    """
    return -softplus(-_real("log_expit", x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.softplus(np.array([-1000.0, 1000.0]))
        array([   0., 1000.])
    """
    # NumPy's function warns of a NaN that it is given, and makes none itself.
    with np.errstate(invalid="ignore"):
        return np.logaddexp(_real("softplus", x), 0.0)


@_in_single
def logit(p: Any) -> Any:
    """log(p / (1 - p)), the inverse of `expit`; infinite at 0 and 1, NaN outside.

    Example:
        >>> from funcgrad.scipy import special
        >>> float(special.logit(0.5))
        0.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(p) - np.log1p(-p)


def logsumexp(
    a: Any,
    axis: Any = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """log(sum(b * exp(a))), without overflow.

    Where all of `a` is -inf the result is -inf, and its derivative 0.

    Args:
        a: real array.
        axis: one axis, several, or None for all.
        b: weights that broadcast against `a`; ones if None. They may be negative.
        keepdims: keep the reduced axes with length 1.
        return_sign: return `(log of the absolute value, sign)`; without it a negative sum
            gives NaN.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> from funcgrad.scipy import special
        >>> float(special.logsumexp(np.array([1000.0, 1000.0])).round(4))
        1000.6931
        >>> fg.grad(special.logsumexp)(np.array([-np.inf, 0.0, 0.0]))
        array([0. , 0.5, 0.5])
    """
    check = partial(_real, "logsumexp")
    if b is None and not return_sign:
        return _logsumexp(check(a), axis, keepdims)
    a, weights = np.broadcast_arrays(*_together(check, a, 1.0 if b is None else b))
    dtype, a, weights = a.dtype, widen(a), widen(weights)
    # A weight of 0 takes its element out, also where exp would overflow.
    a = np.where(weights == 0, -np.inf, a)
    top = bind(stop_gradient, np.max(a, axis=axis, keepdims=True, initial=-np.inf))
    top = np.where(np.isfinite(top), top, 0)
    total = np.sum(weights * np.exp(a - top), axis=axis, keepdims=True)
    sign = np.sign(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = narrow(np.log(np.abs(total) if return_sign else total) + top, dtype)
    sign = narrow(sign, dtype)
    if not keepdims:
        out, sign = np.squeeze(out, axis), np.squeeze(sign, axis)
    return (out, sign) if return_sign else out


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) / sum(exp(x)) over `axis` (None: over all of it), without overflow.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.softmax(np.array([1000.0, 1000.0]))
        array([0.5, 0.5])
    """
    x = _real("softmax", x)
    top = bind(stop_gradient, np.max(x, axis=axis, keepdims=True))
    weights = np.exp(widen(x) - top)
    return narrow(weights / np.sum(weights, axis=axis, keepdims=True), x.dtype)


def log_softmax(x: Any, axis: Any = None) -> Any:
    """log(softmax(x)) over `axis`, exact to rounding where softmax would underflow.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.log_softmax(np.array([0.0, -1000.0]))
        array([    0., -1000.])
    """
    x = _real("log_softmax", x)
    # Shifted first: what is near 0 has more digits behind the point.
    top = bind(stop_gradient, np.max(x, axis=axis, keepdims=True))
    shifted = widen(x) - np.where(np.isfinite(top), top, 0)
    return narrow(shifted - _logsumexp(shifted, axis, True), x.dtype)


def xlogy(x: Any, y: Any) -> Any:
    """x * log(y), and 0 where x is 0 and y is no NaN.

    There the derivative by y is 0, and the one by x is log(y), which is -inf for y = 0.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.xlogy(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
        array([0., 0.])
    """
    return bind(sp.xlogy, *_together(_float, x, y))


def xlog1py(x: Any, y: Any) -> Any:
    """x * log1p(y), and 0 where x is 0 and y is no NaN.

    Example:
        >>> from funcgrad.scipy import special
        >>> float(special.xlog1py(0.0, -1.0))
        0.0
    """
    return bind(sp.xlog1py, *_together(_float, x, y))


@_in_single
def entr(x: Any) -> Any:
    """-x * log(x), 0 at 0, -inf below.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.entr(np.array([0.0, 0.5, 1.0])).round(4)
        array([0.    , 0.3466, 0.    ])
    """
    return np.where(x < 0, -np.inf, 0 - xlogy(x, np.where(x < 0, 1, x)))


@_in_single
def rel_entr(x: Any, y: Any) -> Any:
    """x * log(x / y): the summands of the Kullback-Leibler divergence.

    0 where x = 0 and y >= 0; inf where x > 0 and y = 0, or where either is negative.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.rel_entr(np.array([0.0, 0.5]), np.array([0.5, 0.25])).round(4)
        array([0.    , 0.3466])
    """
    inside = (x >= 0) & (y > 0)
    ratio = np.where(inside, x, 1) / np.where(inside, y, 1)
    # Of numbers so far apart that their ratio is none.
    lost = (ratio == np.inf) | (ratio < np.finfo(ratio.dtype).tiny)
    apart = inside & lost & (x > 0) & (x < np.inf) & (y < np.inf)
    close = inside & ~apart
    near_x, near_y = np.where(close, x, 1), np.where(close, y, 1)
    far_x, far_y = np.where(apart, x, 1), np.where(apart, y, 1)
    terms = np.where(apart, far_x * (np.log(far_x) - np.log(far_y)), xlogy(near_x, near_x / near_y))
    missing = np.isnan(x) | np.isnan(y)
    # Python's numbers, chosen last, leave the dtype alone.
    terms = np.where(inside | missing, terms, np.inf)
    return np.where((x == 0) & (y == 0), 0, np.where(missing, np.nan, terms))


def gammaln(x: Any) -> Any:
    """log(abs(gamma(x))); infinite at 0, -1, -2, ...

    Accurate near its zeros at 1 and 2 too.

    Example:
        >>> import numpy as np
        >>> from funcgrad.scipy import special
        >>> special.gammaln(np.array([0.5, 1.0, 5.0])).round(4)
        array([0.5724, 0.    , 3.1781])
    """
    return bind(sp.gammaln, _real("gammaln", x))


def digamma(x: Any) -> Any:
    """The derivative of `gammaln`; NaN at -1, -2, ..., and -inf at 0.

    Example:
        >>> import funcgrad as fg
        >>> from funcgrad.scipy import special
        >>> round(float(special.digamma(1.0)), 6), round(float(fg.grad(special.gammaln)(1.0)), 6)
        (-0.577216, -0.577216)
    """
    return bind(sp.digamma, _real("digamma", x))


psi = digamma


def polygamma(n: int, x: Any) -> Any:
    """The derivative of order `n` of `digamma`.

    At -1, -2, ... it is inf for an odd n, and NaN for an even one, where the sides differ.

    Args:
        n: a whole number from 0 to 100, not traced.
        x: real array of any shape.

    Example:
        >>> from funcgrad.scipy import special
        >>> round(float(special.polygamma(1, 1.0)), 6)
        1.644934
    """
    order = index(n)
    if not 0 <= order <= 100:
        # Further on factorials leave the range of float64.
        raise at_line(
            ArgumentError, f"polygamma is defined for orders from 0 to 100, not for {order}"
        )
    return bind(sp.polygamma, _real("polygamma", x), n=order) if order else digamma(x)


@_in_double
def betaln(a: Any, b: Any) -> Any:
    """log(abs(beta(a, b))): gammaln(a) + gammaln(b) - gammaln(a + b), without cancellation.

    Example:
        >>> from funcgrad.scipy import special
        >>> round(float(special.betaln(2.0, 3.0)), 4)
        -2.4849
    """
    pole = _at_pole(a) | _at_pole(b)
    small, large = np.minimum(a, b), np.maximum(a, b)
    # There the poles of gamma(a) and gamma(a + b) cancel.
    both = pole & (large >= 1) & (large == np.floor(large)) & (small + large < 1)
    a, b = _where(both, 1 - small - large, small), large
    small, large = np.minimum(a, b), np.maximum(a, b)
    endless = large == np.inf
    far = (large >= 10) & (small + large >= 10) & ~endless
    a, b = _where(far | endless, 1, small), _where(far | endless, 1, large)
    out = _where(far, _betaln_far(far, small, large), gammaln(a) + gammaln(b) - gammaln(a + b))
    # The limit: of positive numbers 0, of others infinity.
    s = _where(endless, small, 1)
    out = _where(endless, -s * np.log(np.where(endless, large, 1)), out)
    return _where(pole & ~both, np.inf, out)


def _at_pole(x: Any) -> Any:
    return (x <= 0) & (x == np.floor(x))


def _betaln_far(far: Any, small: Any, large: Any) -> Any:
    """betaln where the logarithms of large numbers would leave no digits of their difference."""
    s, n = np.where(far, small, 1), np.where(far, large, 10)
    ratio = (s + n - 0.5) * np.log1p(s / n) + s * (np.log(n) - 1)
    return gammaln(s) - ratio + (_stirling_rest(n) - _stirling_rest(s + n))


# Source: DLMF 5.11.1, the Bernoulli numbers over 2k (2k - 1).
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def _stirling_rest(x: Any) -> Any:
    """What Stirling's formula leaves of gammaln(x), for x of 10 or more."""
    inverse = 1 / x
    y = inverse * inverse
    return reduce(lambda total, c: total * y + c, reversed(_STIRLING)) * inverse


def multigammaln(a: Any, d: int) -> Any:
    """The logarithm of the multivariate gamma function of dimension `d`, for a > (d - 1)/2.

    Raises:
        ArgumentError: `d` is less than 1.

    Example:
        >>> from funcgrad.scipy import special
        >>> round(float(special.multigammaln(3.0, 2)), 4)
        1.5502
    """
    a, d = _real("multigammaln", a), index(d)
    if d < 1:
        raise at_line(ArgumentError, f"multigammaln is defined for dimensions from 1, not for {d}")
    dtype, a = a.dtype, widen(a)
    constant = d * (d - 1) / 4 * np.log(np.pi).item()
    return narrow(constant + sum(gammaln(a - j / 2) for j in range(d)), dtype)
