"""What the machine can do at most: moving memory, and multiplying matrices by NumPy's BLAS."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import environment
from benchmarks.harness import Work

MOVED = 512 << 20  # bytes read and written; well beyond any cache
MATRIX = 2048
TRIES = 7
KINDS = {"copying": np.copyto, "updating in place": lambda target, _: np.negative(target, target)}


@dataclass(frozen=True)
class Roofline:
    """Rates measured: bytes a second by kind and threads, flops a second by dtype."""

    moving: dict[tuple[str, int], float]
    products: dict[str, float]

    def least_seconds(self, work: Work) -> float:
        """What the work's bytes, or its matrix products, take at these rates."""
        moving = work.moved / max(self.moving.values())
        return max(moving, work.flops / self.products[work.dtype])

    def __str__(self) -> str:
        moving = (
            f"{kind} {rate * 1e-9:.3g} GB/s with {threads} thread{'s'[: threads > 1]}"
            for (kind, threads), rate in self.moving.items()
        )
        products = (f"{dtype} {rate * 1e-9:.3g}" for dtype, rate in self.products.items())
        return (
            f"{', '.join(moving)} (bytes read and written); matrix products in GFLOP/s: "
            f"{', '.join(products)}"
        )


class Moving:
    """Reads and writes ``moved`` bytes, half of them each, a share of them in each thread."""

    def __init__(self, kind: str, moved: int, threads: int = 0) -> None:
        threads = threads or environment.cores()
        arrays = (np.ones(moved // 16) for _ in range(2))  # written, so that no page is shared
        parts = [np.array_split(array, threads) for array in arrays]
        self._shares, self._move = list(zip(*parts, strict=True)), KINDS[kind]
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> None:
        list(self._pool.map(self._move_share, self._shares))

    def _move_share(self, share: tuple[Any, Any]) -> None:
        self._move(*share)


def measure() -> Roofline:
    """The best of several tries of each."""
    cores = environment.cores()
    moving = {
        (kind, threads): MOVED / _best_seconds(Moving(kind, MOVED, threads))
        for kind in KINDS
        for threads in sorted({1, cores})
    }
    return Roofline(moving, {dtype: _product_rate(dtype) for dtype in ("float32", "float64")})


def _product_rate(dtype: str) -> float:
    a = np.random.default_rng(0).random((MATRIX, MATRIX)).astype(dtype)
    out = np.empty_like(a)
    return 2 * MATRIX**3 / _best_seconds(lambda: np.matmul(a, a, out=out))


def _best_seconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(TRIES):
        start = perf_counter()
        call()
        best = min(best, perf_counter() - start)
    return best
