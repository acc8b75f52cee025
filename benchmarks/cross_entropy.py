"""Softmax cross-entropy with integer targets: value, and gradient by the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, Work, check_agreement, compare

EXAMPLES, CLASSES = 8192, 1000
PLAN = Plan(rounds=15, repeats=3, loop_s=0.0)
BARS = {("JAX jit", "PyTorch"): Bar(2.5, at_least=True)}


def make_logits(examples: int = EXAMPLES, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Logits (examples, classes) float32 and targets (examples,) int64."""
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.standard_normal((examples, classes), dtype=np.float32)
    return logits, rng.integers(0, classes, examples)


def value_and_grad_by_hand(logits: np.ndarray, targets: np.ndarray) -> tuple[Any, np.ndarray]:
    """NumPy alone: softmax less one-hot, in one array."""
    rows = np.arange(len(targets))
    probs = logits - logits.max(axis=1, keepdims=True)
    picked = probs[rows, targets]
    np.exp(probs, out=probs)
    total = probs.sum(axis=1, keepdims=True)
    value = (np.log(total[:, 0]) - picked).mean()
    probs *= 1.0 / (len(targets) * total)
    probs[rows, targets] -= np.float32(1.0 / len(targets))
    return value, probs


def measure() -> list[Result]:
    """The mean over the examples, float32."""
    import jax
    import jax.numpy as jnp
    import torch

    import funcgrad as fg
    import funcgrad_nn as nn

    def of_jax(logits: Any, targets: Any) -> Any:
        log_probs = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(log_probs, targets[:, None], axis=1))

    logits, targets = make_logits()
    contenders = [
        *functions.ours(fg.value_and_grad(nn.cross_entropy), logits, targets),
        functions.jax(jax.value_and_grad(of_jax), logits, targets),
        *functions.torch(torch.nn.functional.cross_entropy, logits, targets),
        functions.contender("NumPy by hand", value_and_grad_by_hand, logits, targets),
    ]
    check_agreement(contenders, calls=1, rtol=1e-4, atol=1e-9)
    what = f"speed-up of value and gradient of cross-entropy, {EXAMPLES}×{CLASSES} float32"
    return compare(what, contenders, BARS, PLAN, True, Work(2 * logits.nbytes))
