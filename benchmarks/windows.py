"""Windows that overlap: a correlation, and the gradient of max-pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Plan, Result, Work, check_agreement, compare

LENGTH, TAPS = 1_000_000, 9
IMAGES, SIDE = (32, 64), 64
PLAN = Plan(rounds=15, repeats=3, loop_s=0.0)


def measure() -> list[Result]:
    """One kernel each here, without a copy of the windows in memory."""
    return [*_correlation(), *_pooling_gradient()]


def _windows(x: Any, shape: Any, axis: Any) -> Any:
    return np.lib.stride_tricks.sliding_window_view(x, shape, axis)


def _correlation() -> list[Result]:
    import jax.numpy as jnp
    import torch

    rng = np.random.default_rng(0)
    x, taps = (rng.standard_normal(n, dtype=np.float32) for n in (LENGTH, TAPS))

    def of_numpy(x: Any, taps: Any) -> Any:
        return _windows(x, TAPS, 0) @ taps

    def of_torch(x: Any, taps: Any) -> Any:
        return torch.nn.functional.conv1d(x[None, None], taps[None, None])[0, 0]

    tensors = torch.tensor(x), torch.tensor(taps)
    contenders = [
        *functions.ours(of_numpy, x, taps),
        functions.jax(lambda x, taps: jnp.correlate(x, taps), x, taps),
        functions.contender("PyTorch", of_torch, *tensors),
        functions.contender("NumPy, the plain function", of_numpy, x, taps),
    ]
    check_agreement(contenders, calls=1, rtol=1e-4, atol=1e-4)
    what = f"correlation of {LENGTH:,} numbers with {TAPS} taps, float32"
    return compare(what, contenders, {}, PLAN, work=Work(2 * x.nbytes))


def _pooling_gradient() -> list[Result]:
    import jax
    import jax.numpy as jnp
    import torch

    import funcgrad as fg

    shape = (*IMAGES, SIDE, SIDE)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    def of_numpy(x: Any) -> Any:
        return np.sum(np.max(_windows(x, (2, 2), (2, 3))[:, :, ::2, ::2], (-2, -1)) ** 2)

    def of_jax(x: Any) -> Any:
        window = (1, 1, 2, 2)
        pooled = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        return jnp.sum(pooled**2)

    def of_torch(x: Any) -> Any:
        return (torch.nn.functional.max_pool2d(x, 2) ** 2).sum()

    contenders = [
        *functions.ours(fg.grad(of_numpy), x),
        functions.jax(jax.grad(of_jax), x),
        *functions.torch(of_torch, x, gradient_only=True),
    ]
    check_agreement(contenders, calls=1, rtol=1e-5, atol=1e-6)
    what = f"gradient of 2×2 max-pooling of {shape}, float32"
    return compare(what, contenders, {}, PLAN, work=Work(2 * x.nbytes))
