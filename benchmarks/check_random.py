"""Compare `funcgrad.random` with `jax.random`, and record JAX's answers for the tests.

Run it in an environment that has JAX (the benchmarks' own has)::

    python benchmarks/check_random.py             # compare, on many seeds and large arrays
    python benchmarks/check_random.py --record    # write tests/data/random_values.npz
    python benchmarks/check_random.py --time      # compare speeds

JAX runs with ``jax_enable_x64``, whose defaults are NumPy's. It exits with 1 on a difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]
RECORD = ROOT / "tests" / "data" / "random_values.npz"

import jax  # noqa: E402

import funcgrad.random as ours  # noqa: E402
from random_cases import CASES, FLOATS, SEEDS, Case, equal  # noqa: E402

jax.config.update("jax_enable_x64", True)

# JAX's functions on keys that are plain arrays, as ours are.
_NAMES = [name for name in ours.__all__ if name != "key"]
theirs = SimpleNamespace(
    key=lambda seed: np.asarray(jax.random.PRNGKey(seed)),
    **{name: getattr(jax.random, name) for name in _NAMES},
)


def answers(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray(case.call(r, r.key(seed))) for r in (ours, theirs))


def record() -> None:
    """Write each case's answers for the recorded seeds, stacked over the seeds."""
    arrays = {"key": np.stack([theirs.key(seed) for seed in SEEDS])}
    for case in CASES:
        arrays[case.name] = np.stack(
            [np.asarray(case.call(theirs, theirs.key(seed))) for seed in SEEDS]
        )
    RECORD.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORD, **arrays)
    print(f"{len(CASES)} cases of {len(SEEDS)} seeds, {RECORD.stat().st_size} bytes: {RECORD}")


def compare(seeds: list[int]) -> int:
    """The number of calls answered differently, each with a line."""
    bad = 0
    for seed in seeds:
        if not np.array_equal(ours.key(seed), theirs.key(seed)):
            print(f"key of {seed}: {ours.key(seed)}, JAX {theirs.key(seed)}")
            bad += 1
        for case in CASES:
            got, want = answers(case, seed)
            if not equal(got, want, case):
                bad += 1
                print(f"{case.name}, seed {seed}:\n  {got.ravel()[:6]}\n  {want.ravel()[:6]} (JAX)")
    return bad


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    return np.abs(got - want) / np.spacing(np.abs(want))


def distances(size: int) -> None:
    """How far apart large samples are, in units in the last place."""
    calls = {
        "uniform": lambda r, k, d: r.uniform(k, (size,), d),
        "uniform(-0.3, 1.7)": lambda r, k, d: r.uniform(k, (size,), d, -0.3, 1.7),
        "normal": lambda r, k, d: r.normal(k, (size,), d),
        "truncated_normal(-2, 2)": lambda r, k, d: r.truncated_normal(k, -2.0, 2.0, (size,), d),
        "exponential": lambda r, k, d: r.exponential(k, (size,), d),
        "gumbel": lambda r, k, d: r.gumbel(k, (size,), d),
    }
    for name, call in calls.items():
        for dtype in FLOATS:
            got, want = (np.asarray(call(r, r.key(3), dtype)) for r in (ours, theirs))
            apart = ulps(got, want)
            print(
                f"{name:24} {dtype.__name__}: equal {np.mean(apart == 0):7.2%}, "
                f"99.9 % within {np.percentile(apart, 99.9):.1f} ulp, all within {apart.max():.1f}"
            )


TIMED = {
    "bits": lambda r, k, n: r.bits(k, (n,), np.uint32),
    "uniform float32": lambda r, k, n: r.uniform(k, (n,), np.float32),
    "normal float32": lambda r, k, n: r.normal(k, (n,), np.float32),
    "normal float64": lambda r, k, n: r.normal(k, (n,), np.float64),
    "randint": lambda r, k, n: r.randint(k, (n,), 0, 1000),
    "permutation": lambda r, k, n: r.permutation(k, n),
    "split": lambda r, k, n: r.split(k, n),
}


def best_time(call: Any, module: Any, size: int, repeat: int = 7) -> float:
    key, times = module.key(0), []
    for _ in range(repeat):
        start = time.perf_counter()
        jax.block_until_ready(call(module, key, size))
        times.append(time.perf_counter() - start)
    return min(times[1:])


def speeds() -> None:
    for size in (1, 1_000, 1_000_000):
        for name, call in TIMED.items():
            mine, his = (best_time(call, module, size) * 1e3 for module in (ours, theirs))
            print(f"{name:16} {size:>9}: {mine:9.3f} ms, JAX {his:9.3f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the tests' recorded values")
    parser.add_argument("--time", action="store_true", help="compare speeds")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds beyond the recorded")
    options = parser.parse_args()
    if options.record:
        record()
        return 0
    if options.time:
        speeds()
        return 0
    random_seeds = np.random.default_rng(0).integers(-(2**63), 2**63, options.seeds).tolist()
    bad = compare([*SEEDS, *random_seeds])
    distances(1_000_000)
    print(f"{bad} differences")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
