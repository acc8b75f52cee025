"""What a call of a compiled function costs when the function does next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Bar, Contender, Result, check_agreement, compare

LEAVES = {
    f"{name}{layer}": np.full(shape, 0.5, np.float32)
    for layer in (1, 2, 3)
    for name, shape in (("w", (2, 3)), ("b", (3,)))
}


def one_leaf(params: dict[str, Any]) -> Any:
    """Six leaves in, a sum of three numbers out."""
    return params["b3"] + 1.0


def measure() -> list[Result]:
    """A jitted function of a dict with six leaves."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg

    ours = fg.jit(one_leaf, backend="numpy")
    theirs = jax.jit(one_leaf)
    on_device = {name: jnp.asarray(value) for name, value in LEAVES.items()}
    contenders = [
        _call("funcgrad", ours, LEAVES),
        _call("JAX jit", theirs, on_device, jax.block_until_ready),
        _call("JAX jit, given NumPy arrays", theirs, LEAVES, jax.block_until_ready),
        _call("NumPy, the plain function", one_leaf, LEAVES),
    ]
    check_agreement(contenders)
    what = "dispatch of a jitted function of a 6-leaf dict"
    return compare(what, contenders, {"JAX jit": Bar(1.0)})


def _call(
    name: str,
    function: Callable[[Any], Any],
    params: Any,
    wait: Callable[[Any], object] = lambda value: value,
) -> Contender:
    result = function(params)

    def call() -> None:
        nonlocal result
        result = function(params)

    return Contender(name, call, lambda: wait(result), lambda: [result])
