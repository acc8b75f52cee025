"""A convolution of a small image classifier: forwards, and the gradients of inputs and kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Plan, Result, Work, check_agreement, compare

BATCH, CHANNELS, SIDE = 128, (64, 128), 16
PLAN = Plan(rounds=9, repeats=2, loop_s=0.0)


def measure() -> list[Result]:
    """3×3 with padding that keeps the size; channels come first."""
    import jax
    import torch

    import funcgrad as fg

    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, CHANNELS[0], SIDE, SIDE), dtype=np.float32)
    w = rng.standard_normal((CHANNELS[1], CHANNELS[0], 3, 3), dtype=np.float32) / 24
    flops = 2 * w.size * BATCH * SIDE**2

    def of_ours(x: Any, w: Any) -> Any:
        return fg.conv(x, w, padding="same")

    def of_jax(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")

    def of_torch(x: Any, w: Any) -> Any:
        return torch.nn.functional.conv2d(x, w, padding=1)

    def squared(function: Any, total: Any) -> Any:
        return lambda x, w: total(function(x, w) ** 2)

    forwards = [
        *functions.ours(of_ours, x, w),
        functions.jax(of_jax, x, w),
        functions.contender("PyTorch", of_torch, torch.tensor(x), torch.tensor(w)),
    ]
    check_agreement(forwards, calls=1, rtol=1e-3, atol=1e-3)
    size = f"{CHANNELS[0]} to {CHANNELS[1]} channels of {BATCH} images {SIDE}×{SIDE}, float32"
    moved = x.nbytes * 3
    results = compare(f"convolution 3×3, {size}", forwards, {}, PLAN, work=Work(moved, flops))
    gradients = [
        *functions.ours(fg.grad(squared(of_ours, np.sum), (0, 1)), x, w),
        functions.jax(jax.grad(squared(of_jax, jax.numpy.sum), (0, 1)), x, w),
        *functions.torch(squared(of_torch, torch.sum), x, w, wrt=(0, 1), gradient_only=True),
    ]
    check_agreement(gradients, calls=1, rtol=1e-2, atol=1e-1)
    what = f"gradients of the square of a convolution 3×3, {size}"
    return [*results, *compare(what, gradients, {}, PLAN, work=Work(3 * moved, 3 * flops))]
