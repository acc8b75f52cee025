"""Elementwise arithmetic and a sum over four million numbers, with its gradient: one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, Work, check_agreement, compare

SIZE = 4_000_000
PLAN = Plan(rounds=15, repeats=3, loop_s=0.0)
BARS = {
    "float32": {
        "JAX jit": Bar(12.0, at_least=True),
        "PyTorch": Bar(8.0, at_least=True),
    },
    "float64": {"JAX jit": Bar(5.0, at_least=True)},
}


def make_energy(xp: Any) -> Callable[[Any], Any]:
    """The function, spelled once; ``xp`` is the library's NumPy-like namespace."""

    def energy(x: Any) -> Any:
        return xp.sum(xp.tanh(x) * xp.exp(-x * x) + xp.sin(x))

    return energy


def value_and_grad_by_hand(x: np.ndarray) -> tuple[Any, np.ndarray]:
    """NumPy alone: (1 − tanh² − 2 x tanh) exp(−x²) + cos, temporaries reused."""
    tanh, bell = np.tanh(x), x * x
    np.exp(np.negative(bell, out=bell), out=bell)
    term = np.sin(x)
    value = np.vdot(tanh, bell) + term.sum()
    grad = tanh * x
    grad *= -2.0
    grad -= np.square(tanh, out=tanh)
    grad += 1.0
    grad *= bell
    grad += np.cos(x, out=term)
    return value, grad


def make_points(dtype: str, size: int = SIZE) -> np.ndarray:
    """Normal, off the centre: the sum of an odd function would be all cancellation."""
    return np.random.default_rng(0).normal(0.5, 1.0, size).astype(dtype)


def measure() -> list[Result]:
    """Value and gradient, float32 and float64."""
    return _measure("float32", rtol=1e-4) + _measure("float64", rtol=1e-10)


def _measure(dtype: str, rtol: float) -> list[Result]:
    import jax
    import jax.numpy as jnp
    import torch

    import funcgrad as fg

    x = make_points(dtype)
    contenders = [
        *functions.ours(fg.value_and_grad(make_energy(np)), x),
        functions.jax(jax.value_and_grad(make_energy(jnp)), x),
        *functions.torch(make_energy(torch), x),
        functions.contender("NumPy by hand", value_and_grad_by_hand, x),
    ]
    check_agreement(contenders, calls=1, rtol=rtol, atol=rtol)
    what = f"speed-up of value and gradient of sum(tanh(x) exp(−x²) + sin(x)), 4M {dtype}"
    return compare(what, contenders, BARS[dtype], PLAN, True, Work(2 * x.nbytes))
