"""Derivatives at Python numbers are those at NumPy's: no exception of Python's arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "x + y": lambda x, y: x + y,
    "x * y": lambda x, y: x * y,
    "x / y": lambda x, y: x / y,
    "1 / x": lambda x, y: 1 / x,
    "x ** y": lambda x, y: x**y,
    "y ** x": lambda x, y: y**x,
    "x ** 2": lambda x, y: x**2,
    "x ** -1": lambda x, y: x**-1,
    "x ** -2": lambda x, y: x**-2,
    "x ** 0.5": lambda x, y: x**0.5,
    "x ** 1.5": lambda x, y: x**1.5,
    "abs": lambda x, y: abs(x) * 1.0,
    "sqrt": lambda x, y: np.sqrt(x),
    "log": lambda x, y: np.log(x),
    "tan": lambda x, y: np.tan(x),
    "exp": lambda x, y: np.exp(x),
    "power": lambda x, y: np.power(x, y),
    "reciprocal": lambda x, y: np.reciprocal(x),
    "arctanh": lambda x, y: np.arctanh(x),
    "where": lambda x, y: np.where(x == 0, x / y, x * y),
}
REAL: dict[str, Callable[[Any, Any], Any]] = {
    "x // y": lambda x, y: x // y + x,
    "x % y": lambda x, y: x % y,
    "divmod": lambda x, y: divmod(x, y)[1],
    "arctan2": lambda x, y: np.arctan2(x, y),
    "hypot": lambda x, y: np.hypot(x, y),
}
FLOATS = [0.0, -1.0, 2.5, float("inf"), 1e-320, 1e308]
COMPLEX = [0j, 1j, complex("inf"), 1e200 + 1e200j]
MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "grad": lambda f: fg.grad(f, argnums=0),
    "numpy": lambda f: fg.jit(fg.grad(f), backend="numpy"),
    "llvm": lambda f: fg.jit(fg.grad(f), backend="llvm"),
    "jvp": lambda f: lambda x, y: fg.jvp(lambda x: f(x, y), (x,), (x * 0 + 1,))[1],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() | REAL.keys()))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_derivatives_at_odd_numbers(name: str, mode: str) -> None:
    function = (FUNCTIONS | REAL)[name]
    derivative = MODES[mode](lambda x, y: np.real(function(x, y)))
    values = [itertools.product(FLOATS, FLOATS)]
    if name in FUNCTIONS:
        values.append(itertools.product(COMPLEX, COMPLEX))
    for x, y in itertools.chain(*values):
        with np.errstate(all="ignore"):
            # The other argument is a constant: its derivative, if any, is not asked for.
            found = derivative(x, y)
            expected = derivative(np.asarray(x)[()], y)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"{x}, {y}")


def test_operators_without_a_meaning_are_errors_of_ours() -> None:
    for function in (lambda z: z // 2.0, lambda z: z % 2.0, lambda z: 2.0 // z):
        for transform in (fg.grad, fg.jit):
            with pytest.raises(errors.OperandTypeError, match=r"test_python_numbers.py:\d+"):
                transform(lambda z, f=function: np.real(f(z)))(1j)
