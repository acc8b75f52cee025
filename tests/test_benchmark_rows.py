"""The benchmarks' functions at small sizes: gradients by hand beside funcgrad's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from benchmarks import (
    adam,
    black_scholes,
    cross_entropy,
    functions,
    fused,
    layer_norm,
    mixture,
    mlp,
    n_body,
    scan,
    transformer,
    unrolled,
)
from funcgrad.scipy import special


def assert_alike(got: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    pairs = zip(functions.leaves(got), functions.leaves(expected), strict=True)
    for value, wanted in pairs:
        assert value.shape == wanted.shape
        np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


# Ours, the one by hand, and arguments.
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]


def _fused() -> Case:
    ours = fg.value_and_grad(fused.make_energy(np))
    return ours, fused.value_and_grad_by_hand, (fused.make_points("float64", 50),)


def _cross_entropy() -> Case:
    ours = fg.value_and_grad(nn.cross_entropy)
    return ours, cross_entropy.value_and_grad_by_hand, cross_entropy.make_logits(7, 5)


def _layer_norm() -> Case:
    loss = layer_norm.make_loss(np.mean, np.sqrt, nn.gelu)
    ours = fg.value_and_grad(loss, argnums=(0, 1, 2))
    return ours, layer_norm.value_and_grad_by_hand, layer_norm.make_arrays(6, 9)


def _black_scholes() -> Case:
    ours = black_scholes.make_greeks(black_scholes.make_price(np, special.ndtr), fg)
    return ours, black_scholes.greeks_by_hand, black_scholes.make_options(20)


def _n_body() -> Case:
    positions, masses = (part.astype(np.float64) for part in n_body.make_bodies(12))
    return fg.grad(n_body.make_energy(np)), n_body.gradient_by_hand, (positions, masses)


def _mixture() -> Case:
    logsumexp = partial(special.logsumexp, axis=-1)
    objective = mixture.make_objective(np, logsumexp, mixture.unpacking(3))
    return (
        fg.grad(objective, argnums=(0, 1, 2)),
        mixture.gradient_by_hand,
        mixture.make_problem(3, 4, 30),
    )


def _unrolled() -> Case:
    ours = fg.grad(unrolled.make_loss(np, 6), argnums=(0, 1, 2))
    return ours, unrolled.gradient_by_hand(6), unrolled.make_parameters()


@pytest.mark.parametrize(
    "case",
    [_fused, _cross_entropy, _layer_norm, _black_scholes, _n_body, _mixture, _unrolled],
    ids=lambda case: case.__name__.strip("_"),
)
def test_by_hand(case: Callable[[], Any]) -> None:
    ours, by_hand, args = case()
    expected = ours(*args)
    assert_alike(by_hand(*args), expected)
    assert_alike(fg.jit(ours)(*args), expected)


def test_mixture_density() -> None:
    """Against the normal distribution's density; the factor is the inverse covariance's."""
    stats = pytest.importorskip("scipy.stats")
    weights, means, packed, points = mixture.make_problem(2, 3, 10)
    share, likelihood = np.exp(weights) / np.exp(weights).sum(), np.zeros(len(points))
    prior = 0.0
    for k in range(3):
        log_a, log_b, below = packed[k]
        factor = np.array([[np.exp(log_a), 0.0], [below, np.exp(log_b)]])
        density = stats.multivariate_normal(means[k], np.linalg.inv(factor.T @ factor))
        likelihood += share[k] * density.pdf(points)
        prior += 0.5 * np.square(factor).sum()
    logsumexp = partial(special.logsumexp, axis=-1)
    objective = mixture.make_objective(np, logsumexp, mixture.unpacking(2))
    constant = len(points) * np.log(2.0 * np.pi)
    expected = np.log(likelihood).sum() + constant + prior
    assert objective(weights, means, packed, points) == pytest.approx(expected)


def test_unpacking_is_columnwise_below_the_diagonal() -> None:
    assert mixture.unpacking(3).tolist() == [[0, 6, 6], [3, 1, 6], [4, 5, 2]]


def test_adam_by_hand() -> None:
    grads, params = adam.make_params(2, (3, 4), seed=1), adam.make_params(2, (3, 4))
    optimizer = nn.adam(adam.RATE, adam.BETA1, adam.BETA2, adam.EPS)
    expected, state = dict(params), optimizer.init(params)
    by_hand = {name: value.copy() for name, value in params.items()}
    by_hand_state: Any = adam.zero_state(params)
    for _ in range(3):
        expected, state = optimizer.update(grads, state, expected)
        by_hand, by_hand_state = adam.update_by_hand(grads, by_hand_state, by_hand)
    assert_alike(by_hand, expected)


def test_mlp_of_any_batch_size() -> None:
    contenders = [mlp.funcgrad_contender(5), mlp.numpy_contender(5)]
    for contender in contenders:
        contender.call()
    ours, by_hand = (list(contender.outcome()) for contender in contenders if contender.outcome)
    assert_alike(ours, by_hand, rtol=1e-4)


def test_transformer_gradient() -> None:
    """The derivative along the gradient, by differences in float64."""
    blocks = [
        {name: value.astype(np.float64) for name, value in block.items()}
        for block in transformer.make_params(layers=2, width=8)
    ]
    x = transformer.make_tokens()[:2, :5, :8].astype(np.float64)
    loss = transformer.make_loss(np, nn.softmax, nn.gelu)
    value, grads = fg.value_and_grad(loss)(blocks, x)
    assert value == pytest.approx(loss(blocks, x))
    step = 1e-6
    ahead = fg.tree.map(lambda p, g: p + step * g, blocks, grads)
    behind = fg.tree.map(lambda p, g: p - step * g, blocks, grads)
    expected = sum(float(np.sum(g * g)) for g in functions.leaves(grads))
    assert (loss(ahead, x) - loss(behind, x)) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_numba_loops() -> None:
    pytest.importorskip("numba")
    from benchmarks import by_numba

    start, steps = scan.STATE, 50
    step = scan.make_pendulum_step(np.array, np.sin)
    path = [start := step(start) for _ in range(steps)]
    np.testing.assert_allclose(by_numba.pendulum_path(scan.STATE, scan.SPAN, steps), path)
