"""A hidden Markov model's likelihood by a loop in Python, which tracing unrolls.

Its gradient is a program of a few thousand equations on arrays of a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

STATES, SYMBOLS, STEPS = 5, 7, 100


def make_parameters() -> tuple[np.ndarray, ...]:
    """Unnormalised logarithms: of the first state, the transitions and the emissions."""
    rng = np.random.default_rng(0)
    shapes = (STATES,), (STATES, STATES), (STATES, SYMBOLS)
    return tuple(rng.normal(size=shape) for shape in shapes)


def make_loss(np: ModuleType, steps: int = STEPS) -> Callable[..., Any]:
    """The negative log-likelihood of fixed observations, by the forward algorithm [1].

    [1] Rabiner, 1989, "A Tutorial on Hidden Markov Models", equations 18 to 21.
    """
    seen = _observations(steps)

    def logsumexp(x: Any, axis: int) -> Any:
        top = np.max(x, axis=axis, keepdims=True)
        return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis=axis))

    def loss(first: Any, transitions: Any, emissions: Any) -> Any:
        first = first - logsumexp(first, 0)
        transitions = transitions - logsumexp(transitions, 1)[:, None]
        emissions = emissions - logsumexp(emissions, 1)[:, None]
        state = first + emissions[:, seen[0]]
        for symbol in seen[1:]:
            state = logsumexp(state[:, None] + transitions, 0) + emissions[:, symbol]
        return -logsumexp(state, 0)

    return loss


def _observations(steps: int) -> list[int]:
    return np.random.default_rng(1).integers(0, SYMBOLS, steps).tolist()


def funcgrad_function() -> Callable[..., Any]:
    import funcgrad as fg

    return fg.grad(make_loss(np), argnums=(0, 1, 2))


def jax_function() -> Callable[..., Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax.grad(make_loss(jax.numpy), argnums=(0, 1, 2))


def gradient_by_hand(steps: int) -> Callable[..., Any]:
    """By the posterior probabilities of states and transitions, forward and backward [1]."""
    seen = _observations(steps)

    def softmax(x: np.ndarray) -> np.ndarray:
        found = np.exp(x - x.max(-1, keepdims=True))
        return found / found.sum(-1, keepdims=True)

    def gradient(*parameters: np.ndarray) -> tuple[np.ndarray, ...]:
        first, transitions, emissions = map(softmax, parameters)
        forward = [first * emissions[:, seen[0]]]
        for symbol in seen[1:]:
            forward.append(forward[-1] @ transitions * emissions[:, symbol])
        backward = [np.ones(STATES)]
        for symbol in seen[:0:-1]:
            backward.insert(0, transitions @ (emissions[:, symbol] * backward[0]))
        total = forward[-1].sum()
        counts = [np.zeros_like(x) for x in parameters]
        counts[0] += forward[0] * backward[0] / total
        for t, symbol in enumerate(seen):
            counts[2][:, symbol] += forward[t] * backward[t] / total
            if t:
                later = emissions[:, symbol] * backward[t]
                counts[1] += forward[t - 1][:, None] * transitions * later / total
        # Each row's counts, as far as they are not what its probabilities make one expect.
        pairs = zip(counts, (first, transitions, emissions), strict=True)
        return tuple(p * c.sum(-1, keepdims=True) - c for c, p in pairs)

    return gradient
