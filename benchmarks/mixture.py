"""The gradient of a Gaussian mixture's log-likelihood: the objective "GMM" of ADBench.

F. Srajer, Z. Kukelova, A. Fitzgibbon (2018), *A Benchmark of Selected Algorithmic Differentiation
Tools on Some Problems in Computer Vision and Machine Learning*. The inverse covariances are given
by their Cholesky factors, logarithms of the diagonals first; the prior is Wishart's with γ = 1 and
m = 0, but for its constant, which no gradient has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, Work, check_agreement, compare

DIMENSIONS, COMPONENTS, POINTS = 20, 25, 10_000
PLAN = Plan(rounds=9, repeats=2, loop_s=0.0)
BARS = {("JAX jit", "PyTorch"): Bar(1.5, at_least=True)}

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def make_problem(d: int = DIMENSIONS, k: int = COMPONENTS, n: int = POINTS) -> Arrays:
    """Log-weights (k,), means (k, d), packed factors (k, d (d + 1) / 2), points (n, d); float64."""
    rng = np.random.default_rng(0)
    factors = 0.2 * rng.standard_normal((k, d * (d + 1) // 2))
    return rng.standard_normal(k), rng.random((k, d)), factors, rng.standard_normal((n, d))


def unpacking(d: int) -> np.ndarray:
    """Where each entry of a (d, d) factor is: diagonal, columns below it, then one zero."""
    index = np.full((d, d), d * (d + 1) // 2)
    np.fill_diagonal(index, np.arange(d))
    columns, rows = np.triu_indices(d, 1)
    index[rows, columns] = d + np.arange(len(rows))
    return index


def make_objective(xp: Any, logsumexp: Callable[[Any], Any], index: Any) -> Callable[..., Any]:
    """The log-likelihood with its prior, constants left out, spelled once for all libraries."""
    d = len(index)

    def objective(weights: Any, means: Any, packed: Any, points: Any) -> Any:
        diagonal, below = xp.exp(packed[:, :d]), packed[:, d:]
        log_roots = xp.sum(packed[:, :d], -1)
        factors = xp.concatenate([diagonal, below, xp.zeros_like(packed[:, :1])], -1)[:, index]
        scaled = xp.einsum("kij,nkj->nki", factors, points[:, None] - means)
        inner = weights + log_roots - 0.5 * xp.sum(scaled * scaled, -1)
        likelihood = xp.sum(logsumexp(inner)) - len(points) * logsumexp(weights)
        return likelihood + 0.5 * (xp.sum(diagonal * diagonal) + xp.sum(below * below))

    return objective


def gradient_by_hand(
    weights: np.ndarray, means: np.ndarray, packed: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NumPy alone: one component after the other, each with two matrix products."""
    d = points.shape[1]
    index = unpacking(d)
    diagonal = np.exp(packed[:, :d])
    factors = np.hstack([diagonal, packed[:, d:], np.zeros((len(packed), 1))])[:, index]
    centred = points - means[:, None]  # (k, n, d)
    scaled = centred @ factors.swapaxes(1, 2)
    shares = (weights + packed[:, :d].sum(axis=1))[:, None] - 0.5 * np.vecdot(scaled, scaled)
    shares -= shares.max(axis=0)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=0)
    totals, prior = shares.sum(axis=1), np.exp(weights - weights.max())
    scaled *= -shares[:, :, None]
    d_means = -(scaled.sum(axis=1)[:, None] @ factors)[:, 0]
    d_factors = scaled.swapaxes(1, 2) @ centred
    below = np.tril_indices(d, -1)
    d_packed = packed.copy()
    on_diagonal = np.diagonal(d_factors, axis1=1, axis2=2)
    d_packed[:, :d] = totals[:, None] + (on_diagonal + diagonal) * diagonal
    d_packed[:, index[below]] += d_factors[:, *below]
    return totals - len(points) * prior / prior.sum(), d_means, d_packed


def measure() -> list[Result]:
    """The gradient by weights, means and factors, float64."""
    import jax
    import jax.numpy as jnp
    import torch

    import funcgrad as fg
    from funcgrad.scipy import special

    problem, by, index = make_problem(), (0, 1, 2), unpacking(DIMENSIONS)
    ours = make_objective(np, partial(special.logsumexp, axis=-1), index)
    of_jax = make_objective(jnp, partial(jax.nn.logsumexp, axis=-1), index)
    of_torch = make_objective(torch, partial(torch.logsumexp, dim=-1), torch.tensor(index))
    contenders = [
        *functions.ours(fg.grad(ours, argnums=by), *problem),
        functions.jax(jax.grad(of_jax, argnums=by), *problem),
        *functions.torch(of_torch, *problem, wrt=by, gradient_only=True),
        functions.contender("NumPy by hand", gradient_by_hand, *problem),
    ]
    check_agreement(contenders, calls=1, rtol=1e-7, atol=1e-7)
    # Each point's product with each factor, and the two products of its gradient.
    work = Work(flops=3 * 2 * POINTS * COMPONENTS * DIMENSIONS**2, dtype="float64")
    what = (
        f"speed-up of a Gaussian mixture's gradient (d={DIMENSIONS}, k={COMPONENTS}, n={POINTS:,})"
    )
    return compare(what, contenders, BARS, PLAN, True, work)
