"""Layer norm and exact GELU, without a linear layer: value, and gradient by data and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, Work, check_agreement, compare

ROWS, WIDTH = 8192, 1024
EPS = 1e-5
PLAN = Plan(rounds=15, repeats=3, loop_s=0.0)
BARS = {("JAX jit", "PyTorch"): Bar(2.5, at_least=True)}

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_arrays(rows: int = ROWS, width: int = WIDTH) -> Arrays:
    """Data (rows, width), gain and bias (width,), float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width), dtype=np.float32)
    gain = rng.uniform(0.5, 1.5, width).astype(np.float32)
    return x, gain, 0.1 * rng.standard_normal(width, dtype=np.float32)


def make_loss(mean: Callable[..., Any], sqrt: Any, gelu: Any) -> Callable[..., Any]:
    """The mean square of the block's result, spelled once for the libraries without a layer."""

    def loss(x: Any, gain: Any, bias: Any) -> Any:
        centred = x - mean(x, axis=-1, keepdims=True)
        variance = mean(centred * centred, axis=-1, keepdims=True)
        result = gelu(centred / sqrt(variance + EPS) * gain + bias)
        return mean(result * result)

    return loss


def value_and_grad_by_hand(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> tuple[Any, Arrays]:
    """NumPy and SciPy alone, the whole array at a time."""
    from scipy.special import ndtr

    scaled = x - x.mean(axis=1, keepdims=True)
    scale = 1.0 / np.sqrt(np.square(scaled).mean(axis=1, keepdims=True) + EPS)
    scaled *= scale
    inner = scaled * gain
    inner += bias
    share = ndtr(inner)
    result = inner * share
    value = np.square(result).mean()
    density = np.exp(-0.5 * inner * inner)
    density *= np.float32((2.0 * np.pi) ** -0.5)
    density *= inner
    density += share
    result *= 2.0 / result.size
    d_inner = np.multiply(result, density, out=result)
    d_gain, d_bias = (d_inner * scaled).sum(axis=0), d_inner.sum(axis=0)
    d_scaled = np.multiply(d_inner, gain, out=d_inner)
    overlap = np.vecdot(d_scaled, scaled)[:, None] / x.shape[1]
    d_scaled -= d_scaled.mean(axis=1, keepdims=True)
    d_scaled -= np.multiply(scaled, overlap, out=scaled)
    d_scaled *= scale
    return value, (d_scaled, d_gain, d_bias)


def measure() -> list[Result]:
    """Value and gradient of the mean square, float32."""
    import jax
    import jax.numpy as jnp
    from torch.nn import functional

    import funcgrad as fg
    import funcgrad_nn as nn

    def of_torch(x: Any, gain: Any, bias: Any) -> Any:
        normal = functional.layer_norm(x, (WIDTH,), gain, bias, EPS)
        return functional.gelu(normal).square().mean()

    args, by = make_arrays(), (0, 1, 2)
    our_loss = make_loss(np.mean, np.sqrt, nn.gelu)
    jax_loss = make_loss(jnp.mean, jnp.sqrt, lambda x: jax.nn.gelu(x, approximate=False))
    contenders = [
        *functions.ours(fg.value_and_grad(our_loss, argnums=by), *args),
        functions.jax(jax.value_and_grad(jax_loss, argnums=by), *args),
        *functions.torch(of_torch, *args, wrt=by),
        functions.contender("NumPy by hand", value_and_grad_by_hand, *args),
    ]
    check_agreement(contenders, calls=1, rtol=1e-3, atol=1e-6)
    what = f"speed-up of value and gradient of layer norm and GELU, {ROWS}×{WIDTH} float32"
    return compare(what, contenders, BARS, PLAN, True, Work(2 * args[0].nbytes))
