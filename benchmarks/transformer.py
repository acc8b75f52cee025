"""A stack of pre-norm transformer blocks, each with parameters of its own, in a plain Python loop.

A. Vaswani et al. (2017), *Attention Is All You Need*; norms before each part as in R. Xiong et al.
(2020), *On Layer Normalization in the Transformer Architecture*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LAYERS, WIDTH, HEADS = 24, 128, 4
BATCH, LENGTH = 4, 64

Params = dict[str, Any]


def make_params(layers: int = LAYERS, width: int = WIDTH) -> list[Params]:
    """For each block: weights (inputs, outputs) by their inputs' number, gains 1, biases 0."""
    rng = np.random.default_rng(0)
    shapes = {
        "qkv": (width, 3 * width),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    blocks = []
    for _ in range(layers):
        block: Params = {}
        for name, (inputs, outputs) in shapes.items():
            weight = rng.standard_normal((inputs, outputs), dtype=np.float32)
            block[name] = weight * np.float32(inputs**-0.5)
            block[f"{name}_bias"] = np.zeros(outputs, np.float32)
        for name in ("norm1", "norm2"):
            block[name] = np.ones(width, np.float32)
            block[f"{name}_bias"] = np.zeros(width, np.float32)
        blocks.append(block)
    return blocks


def make_tokens() -> np.ndarray:
    """Embedded tokens (batch, length, width), float32."""
    return np.random.default_rng(1).standard_normal((BATCH, LENGTH, WIDTH), dtype=np.float32)


def make_loss(
    xp: Any, softmax: Callable[[Any], Any], gelu: Callable[[Any], Any]
) -> Callable[[list[Params], Any], Any]:
    """The mean square of what the stack makes of the tokens, spelled once for all libraries."""

    def norm(x: Any, gain: Any, bias: Any) -> Any:
        centred = x - xp.mean(x, axis=-1, keepdims=True)
        variance = xp.mean(centred * centred, axis=-1, keepdims=True)
        return centred / xp.sqrt(variance + 1e-5) * gain + bias

    def attention(block: Params, x: Any) -> Any:
        batch, length, width = x.shape
        qkv = x @ block["qkv"] + block["qkv_bias"]
        qkv = xp.reshape(qkv, (batch, length, 3, HEADS, width // HEADS))
        q, k, v = (xp.swapaxes(qkv[:, :, part], 1, 2) for part in range(3))
        scores = q @ xp.swapaxes(k, 2, 3) * (1.0 / math.sqrt(width // HEADS))
        mixed = xp.swapaxes(softmax(scores) @ v, 1, 2)
        return xp.reshape(mixed, (batch, length, width)) @ block["out"] + block["out_bias"]

    def loss(blocks: list[Params], x: Any) -> Any:
        for block in blocks:
            x = x + attention(block, norm(x, block["norm1"], block["norm1_bias"]))
            hidden = norm(x, block["norm2"], block["norm2_bias"]) @ block["up"]
            hidden = gelu(hidden + block["up_bias"])
            x = x + hidden @ block["down"] + block["down_bias"]
        return xp.mean(x * x)

    return loss


def funcgrad_function() -> Callable[..., Any]:
    """Value and gradient by all parameters, before it is compiled."""
    import funcgrad as fg
    import funcgrad_nn as nn

    return fg.value_and_grad(make_loss(np, nn.softmax, nn.gelu))


def jax_function() -> Callable[..., Any]:
    """The same for JAX."""
    import jax

    def gelu(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=False)

    return jax.value_and_grad(make_loss(jax.numpy, jax.nn.softmax, gelu))
