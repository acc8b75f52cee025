"""What the machine can do at most: copying memory, and multiplying matrices by NumPy's BLAS."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from benchmarks import environment

COPIED = 256 << 20  # bytes read and written; well beyond any cache
MATRIX = 2048
TRIES = 7


class Copying:
    """Moves ``moved`` bytes, half of them read and half written, a share in each thread."""

    def __init__(self, moved: int, threads: int = 0) -> None:
        threads = threads or environment.cores()
        source, target = np.ones(moved // 16), np.zeros(moved // 16)
        parts = np.array_split(source, threads), np.array_split(target, threads)
        self._parts = list(zip(*parts, strict=True))
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> None:
        if len(self._parts) == 1:
            _copy(self._parts[0])
        else:
            list(self._pool.map(_copy, self._parts))


def _copy(part: tuple[np.ndarray, np.ndarray]) -> None:
    np.copyto(part[1], part[0])


def describe() -> str:
    """Copy bandwidth by threads and the rate of matrix products, in one line."""
    cores = environment.cores()
    copies = [
        f"{_bandwidth(threads):.1f} GB/s with {threads} thread{'s'[: threads > 1]}"
        for threads in sorted({1, cores})
    ]
    rates = [f"{name} {_product_rate(dtype):.0f} GFLOP/s" for name, dtype in _PRODUCTS]
    return f"copying moves {' and '.join(copies)}, bytes read and written counted; " + ", ".join(
        rates
    )


_PRODUCTS = (("sgemm", np.float32), ("dgemm", np.float64))


def _bandwidth(threads: int) -> float:
    copying = Copying(COPIED, threads)
    return COPIED / min(_seconds(copying) for _ in range(TRIES)) * 1e-9


def _product_rate(dtype: type) -> float:
    a = np.random.default_rng(0).random((MATRIX, MATRIX)).astype(dtype)
    out = np.empty_like(a)
    seconds = min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(TRIES))
    return 2 * MATRIX**3 / seconds * 1e-9


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
