"""Functions with rules of their own: what a call adds to a gradient taken eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Result, check_agreement, compare

CALLS = 50
X = np.arange(3.0)


def measure() -> list[Result]:
    """A chain of calls on three numbers, each with a backward rule written by hand."""
    import autograd
    import autograd.numpy as anp
    import torch
    from autograd.extend import defvjp, primitive

    import funcgrad as fg

    @fg.custom_vjp
    def ours(x: Any) -> Any:
        return np.sin(x)

    ours.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda kept, ct: (ct * kept,))

    theirs = primitive(np.sin)
    defvjp(theirs, lambda _, x: lambda ct: ct * np.cos(x))

    class OfTorch(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            ctx.save_for_backward(args[0])
            return torch.sin(args[0])

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * torch.cos(ctx.saved_tensors[0])

    def chain(function: Callable[[Any], Any], add: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def loss(x: Any) -> Any:
            for _ in range(CALLS):
                x = function(x)
            return add(x)

        return loss

    contenders = [
        functions.contender("funcgrad", fg.grad(chain(ours, np.sum)), X),
        functions.contender("HIPS autograd", autograd.grad(chain(theirs, anp.sum)), X),
        *functions.torch(chain(OfTorch.apply, torch.sum), X, gradient_only=True)[:1],
        functions.contender("funcgrad, without rules", fg.grad(chain(np.sin, np.sum)), X),
    ]
    check_agreement(contenders, calls=1)
    what = f"eager gradient of {CALLS} calls of a function with its own backward rule"
    return compare(what, contenders, {})
