"""Programs in which the library's sorting is called: what the way there and back costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Result, check_agreement, compare

SORTS, LENGTH = 100, 8


def measure() -> list[Result]:
    """A loop of short sorts, compiled, beside the same loop in Python and in XLA."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg

    rows = np.random.default_rng(0).standard_normal((SORTS, LENGTH))

    def of_jax(rows: Any) -> Any:
        return jax.lax.map(lambda row: jnp.sort(row) * 2.0, rows)

    def of_numpy(rows: Any) -> Any:
        return np.stack([np.sort(row) * 2.0 for row in rows])

    contenders = [
        functions.ours(lambda rows: fg.map(lambda row: np.sort(row) * 2.0, rows), rows)[0],
        functions.jax(of_jax, rows),
        functions.contender("NumPy, the plain function", of_numpy, rows),
    ]
    check_agreement(contenders, calls=1)
    return compare(f"jitted loop of {SORTS} sorts of {LENGTH} numbers", contenders, {})
