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

from funcgrad.backends.llvm.functions import (
    error,
    exponential,
    gamma,
    hyperbolic,
    inverse,
    logarithm,
    modulo,
    power,
    trigonometric,
)
from funcgrad.backends.llvm.functions.arithmetic import on_values
from funcgrad.backends.llvm.writer import Value

_FORMULAS = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "tanh": exponential.tanh,
    "logistic": exponential.logistic,
    "log": logarithm.log,
    "log2": logarithm.log2,
    "log10": logarithm.log10,
    "log1p": logarithm.log1p,
    "softplus": logarithm.softplus,
    "logaddexp": logarithm.logaddexp,
    "logaddexp2": logarithm.logaddexp2,
    "erf": error.erf,
    "erfc": error.erfc,
    "erfinv": error.erfinv,
    "gammaln": gamma.gammaln,
    "digamma": gamma.digamma,
    "power": power.power,
    "fmod": modulo.fmod,
    "remainder": modulo.remainder,
    "floor_divide": modulo.floor_divide,
    "cbrt": power.cbrt,
    "hypot": power.hypot,
    "sinh": hyperbolic.sinh,
    "cosh": hyperbolic.cosh,
    "arcsinh": hyperbolic.arcsinh,
    "arccosh": hyperbolic.arccosh,
    "arctanh": hyperbolic.arctanh,
    "arcsin": inverse.arcsin,
    "arccos": inverse.arccos,
    "arctan": inverse.arctan,
    "arctan2": inverse.arctan2,
    "tan": trigonometric.tan,
    "sinc": trigonometric.sinc,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
}

FUNCTIONS: dict[str, Callable[..., Value]] = {
    name: on_values(formula) for name, formula in _FORMULAS.items()
}
