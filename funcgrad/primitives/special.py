"""Special functions that NumPy lacks, elementwise."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.declarations import elementwise
from funcgrad.core.primitive import sample
from funcgrad.primitives import _gamma, _special

_TWO_OVER_ROOT_PI = 2 / sqrt(pi)
_HALF_ROOT_PI = sqrt(pi) / 2


def _float_dtype(x: Aval) -> np.dtype:
    """Floats keep their dtype, integers become float64."""
    if x.dtype.kind == "c":
        raise TypeError(f"defined for real numbers only, not for {x.dtype}")
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)


def _erfinv_slope(g: Any, ans: Any, x: Any) -> Any:
    return g * (_HALF_ROOT_PI * np.exp(ans * ans))


erf = elementwise(
    "erf",
    _special.erf,
    lambda g, ans, x: g * (_TWO_OVER_ROOT_PI * np.exp(-x * x)),
    dtype=_float_dtype,
    dtypes="f",
)
erfc = elementwise(
    "erfc",
    _special.erfc,
    lambda g, ans, x: g * (-_TWO_OVER_ROOT_PI * np.exp(-x * x)),
    dtype=_float_dtype,
    dtypes="f",
)
erfinv = elementwise(
    "erfinv",
    _special.erfinv,
    _erfinv_slope,
    dtype=_float_dtype,
    domain=(-0.9, 0.9),
    dtypes="f",
)
erfinv_of_draws = elementwise(
    "erfinv_of_draws",
    _special.erfinv_of_draws,
    _erfinv_slope,
    dtype=_float_dtype,
    domain=(-0.9, 0.9),
    dtypes="f",
)
fma = elementwise(
    "fma",
    _special.fma,
    lambda g, ans, x, y, z: g * y,
    lambda g, ans, x, y, z: g * x,
    lambda g, ans, x, y, z: g,
    samples=[
        sample((3,), (3,), (3,)),
        sample((2, 3), (3,), ()),
        sample((), (2, 1), (3,)),
        sample((0,), (), (0,)),
    ],
    dtypes="f",
    cost=1,
)


def _xlogy(x, y):
    return x * np.log(np.where((x == 0) & (y == y), 1, y))


def _xlog1py(x, y):
    return x * np.log1p(np.where((x == 0) & (y == y), 0, y))


def _divided(x: Any, y: Any) -> Any:
    """x / y, which at x = 0 is 0 also for y = 0, where its derivative by x is still 1 / y."""
    smallest = np.finfo(aval_of(y).dtype).smallest_subnormal
    return x / np.where((x == 0) & (y == 0), smallest, y)


xlogy = elementwise(
    "xlogy",
    _xlogy,
    lambda g, ans, x, y: g * np.log(y),
    lambda g, ans, x, y: g * _divided(x, y),
    domain=(0.5, 2.0),
    dtypes="f",
)
xlog1py = elementwise(
    "xlog1py",
    _xlog1py,
    lambda g, ans, x, y: g * np.log1p(y),
    lambda g, ans, x, y: g * _divided(x, y + 1),
    domain=(0.5, 2.0),
    dtypes="f",
)


gammaln = elementwise(
    "gammaln",
    _gamma.gammaln,
    lambda g, ans, x: g * bind(digamma, x),
    dtype=_float_dtype,
    domain=(0.5, 4.0),
    dtypes="f",
)
digamma = elementwise(
    "digamma",
    _gamma.digamma,
    lambda g, ans, x: g * bind(polygamma, x, n=1),
    dtype=_float_dtype,
    domain=(0.5, 4.0),
    dtypes="f",
)


polygamma = elementwise(
    "polygamma",
    _gamma.polygamma,
    lambda g, ans, x, n: g * bind(polygamma, x, n=n + 1),
    dtype=lambda x, n: _float_dtype(x),
    samples=[
        sample((3,), domain=(1.0, 4.0), n=1),
        sample((), domain=(-0.8, -0.2), n=2),
        sample((2, 0), n=3),
    ],
    dtypes="f",
)
