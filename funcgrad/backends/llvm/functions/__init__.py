"""Elementary and special functions as straight-line LLVM IR over any number of lanes.

`FUNCTIONS[name](w, *values)` writes the function's instructions through a `Writer` and returns
its result. Names are those of the primitives. Within 2 ulp in float32 and 4 ulp in float64 of
the correctly rounded result, with NumPy's results at zeros, infinities, NaN and poles; but
where a result of logaddexp or logaddexp2 is near 0, its digits cancel as NumPy's do, and near the
zeros of gammaln and digamma on the negative axis the error is small beside 1.

Functions of one angle share its reduction: `sin` and `cos` of the same value cost little more
than one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

from funcgrad.backends.llvm.functions.arithmetic import on_values
from funcgrad.backends.llvm.writer import Value

# The functions by the modules that have their formulas.
_MODULES = {
    "exponential": "exp exp2 expm1 tanh logistic",
    "logarithm": "log log2 log10 log1p logaddexp logaddexp2",
    "error": "erf erfc erfinv",
    "gamma": "gammaln digamma",
    "power": "power cbrt hypot",
    "modulo": "fmod remainder floor_divide",
    "hyperbolic": "sinh cosh arcsinh arccosh arctanh",
    "inverse": "arcsin arccos arctan arctan2",
    "trigonometric": "sin cos tan sinc",
}


def _function(module: str, name: str) -> Callable[..., Value]:
    @cache
    def formula() -> Callable[..., Value]:
        # A program needs few of them, and each takes time to load.
        return on_values(getattr(import_module(f"{__name__}.{module}"), name))

    return lambda w, *values: formula()(w, *values)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    name: _function(module, name) for module, names in _MODULES.items() for name in names.split()
}
