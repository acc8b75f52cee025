"""Pure functions of arrays as contenders: the same call, compiled by each library.

A result is a tree of arrays; contenders are compared by its leaves in the order of JAX's trees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from benchmarks.harness import Contender

OURS = "funcgrad"
OURS_ON_NUMPY = "funcgrad, NumPy backend"
COMPILED_TORCH = "torch.compile"


def contender(name: str, function: Callable[..., Any], *args: Any) -> Contender:
    """Calls that return when their work is done; the last result is what they came to."""
    last: list[Any] = [None]

    def call() -> None:
        last[0] = function(*args)

    return Contender(name, call, outcome=lambda: leaves(last[0]))


def leaves(result: Any) -> list[np.ndarray]:
    """The arrays of a tree of dicts, lists and tuples; dicts by name, as JAX orders them."""
    if isinstance(result, dict):
        return [leaf for key in sorted(result) for leaf in leaves(result[key])]
    if isinstance(result, (list, tuple)):
        return [leaf for part in result for leaf in leaves(part)]
    return [np.asarray(result.detach() if hasattr(result, "detach") else result)]


def ours(function: Callable[..., Any], *args: Any) -> list[Contender]:
    """Compiled by the backend that `jit` chooses; and by the one for NumPy, for comparison."""
    import funcgrad as fg

    return [
        contender(OURS, fg.jit(function), *args),
        contender(OURS_ON_NUMPY, fg.jit(function, backend="numpy"), *args),
    ]


def jax(function: Callable[..., Any], *args: Any) -> Contender:
    """Compiled by XLA, given arrays that are its own."""
    import jax

    compiled = jax.jit(function)
    on_device = jax.tree.map(jax.numpy.asarray, args)
    return contender("JAX jit", lambda: jax.block_until_ready(compiled(*on_device)))


def torch(
    function: Callable[..., Any], *args: Any, wrt: Sequence[int] = (0,), gradient_only: bool = False
) -> list[Contender]:
    """A loss, its value and gradients by some of its arguments: eager, and compiled if it can be.

    The gradient of one argument is given bare, as by `value_and_grad` elsewhere.
    """
    import torch

    tensors = [torch.tensor(arg) for arg in args]
    for index in wrt:
        tensors[index].requires_grad_()
    by = [tensors[index] for index in wrt]

    def evaluation(loss_fn: Callable[..., Any]) -> Callable[[], Any]:
        def evaluate() -> Any:
            loss = loss_fn(*tensors)
            grads = torch.autograd.grad(loss, by)
            found = grads[0] if len(grads) == 1 else grads
            return found if gradient_only else (loss.detach(), found)

        return evaluate

    contenders = [contender("PyTorch", evaluation(function))]
    if can_compile_torch():
        contenders.append(contender(COMPILED_TORCH, evaluation(torch.compile(function))))
    return contenders


@cache
def can_compile_torch() -> bool:
    """Whether `torch.compile` works here: on a CPU it needs a C++ compiler."""
    import torch

    try:
        torch.compile(lambda x: x + 1.0)(torch.ones(1))
    except Exception as error:  # torch wraps whatever its compilers raise in classes of its own
        print(f"{COMPILED_TORCH} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
        return False
    return True
