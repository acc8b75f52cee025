"""The gradient of the potential energy of two thousand bodies, over all pairs.

The energy is softened as by H. C. Plummer (1911): distances are the root of r² + ε².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Plan, Result, check_agreement, compare

BODIES = 2000
SOFTENING = 1e-2  # ε²
PLAN = Plan(rounds=11, repeats=2, loop_s=0.0)
BARS = {"JAX jit": Bar(3.0, at_least=True)}


def make_bodies(count: int = BODIES) -> tuple[np.ndarray, np.ndarray]:
    """Positions (count, 3) and masses (count,), float32."""
    rng = np.random.default_rng(0)
    positions = rng.standard_normal((count, 3), dtype=np.float32)
    return positions, rng.uniform(0.5, 1.5, count).astype(np.float32) / np.float32(count**0.5)


def make_energy(xp: Any) -> Callable[[Any, Any], Any]:
    """The potential energy, spelled once; a body's energy with itself is a constant."""

    def energy(positions: Any, masses: Any) -> Any:
        apart = positions[:, None] - positions
        distances = xp.sqrt(xp.sum(apart * apart, -1) + SOFTENING)
        return -0.5 * xp.sum(masses[:, None] * masses / distances)

    return energy


def gradient_by_hand(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """NumPy alone: one matrix of all pairs, and a matrix product for the sums."""
    pulls = np.full((len(masses), len(masses)), SOFTENING, positions.dtype)
    for along in positions.T:
        apart = along[:, None] - along
        pulls += np.square(apart, out=apart)
    inverse = np.reciprocal(np.sqrt(pulls, out=pulls), out=pulls)
    inverse *= np.square(inverse)
    sums = inverse @ np.column_stack((masses, masses[:, None] * positions))
    return masses[:, None] * (positions * sums[:, :1] - sums[:, 1:])


def measure() -> list[Result]:
    """The gradient by the positions, float32."""
    import jax
    import jax.numpy as jnp
    import torch

    import funcgrad as fg
    from benchmarks import by_numba

    positions, masses = bodies = make_bodies()
    softening = np.float32(SOFTENING)
    contenders = [
        *functions.ours(fg.grad(make_energy(np)), *bodies),
        functions.jax(jax.grad(make_energy(jnp)), *bodies),
        *functions.torch(make_energy(torch), *bodies, gradient_only=True),
        functions.contender("numba by hand", by_numba.forces, positions, masses, softening),
        functions.contender("NumPy by hand", gradient_by_hand, positions, masses),
    ]
    check_agreement(contenders, calls=1, rtol=1e-3, atol=1e-3)
    what = f"speed-up of the energy gradient of {BODIES:,} bodies, all pairs, float32"
    return compare(what, contenders, BARS, PLAN, True)
