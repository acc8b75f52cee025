"""Calls that `funcgrad.random` and `jax.random` must answer alike.

Each is written once, for either module: ``call(random, key)``. `test_random.py` compares
funcgrad's answers with JAX's recorded ones; `benchmarks/check_random.py` records them, and
compares the two modules on more seeds and sizes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SEEDS = (0, 1, 42, 2**31, 2**40 + 7, 2**63 - 1, -1, -5)
SHAPES = ((), (1,), (5,), (10,), (11,), (2, 3, 5), (0,), (3, 0))
FLOATS = (np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """A call, and how far apart the answers may be: relative to an answer, and absolutely."""

    name: str
    call: Callable[[Any, Any], Any]
    rtol: float = 0.0
    atol: float = 0.0


def digest(array: np.ndarray) -> np.ndarray:
    """A large array's checksum, shape and dtype."""
    return np.array([zlib.crc32(np.ascontiguousarray(array)), *array.shape, array.dtype.itemsize])


def equal(got: Any, want: Any, case: Case) -> bool:
    """Whether two answers agree in shape, dtype and, to the case's tolerance, value."""
    got, want = np.asarray(got), np.asarray(want)
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return False
    if case.rtol == case.atol == 0.0:
        return bool(np.array_equal(got, want))
    return bool(np.allclose(got, want, rtol=case.rtol, atol=case.atol))


def _ulps(dtype: Any, count: float) -> float:
    return count * float(np.finfo(dtype).eps)


def _label(*parts: Any) -> str:
    return " ".join(getattr(p, "__name__", str(p)) for p in parts)


def _bits() -> list[Case]:
    cases = [
        Case(_label("bits", d, s), lambda r, k, s=s, d=d: r.bits(k, s, d))
        for d in (np.uint8, np.uint16, np.uint32, np.uint64)
        for s in SHAPES
    ]
    cases += [
        Case(_label("split", n), lambda r, k, n=n: r.split(k, n))
        for n in (0, 1, 2, 3, 11, (), (2, 3), (3, 0))
    ]
    cases += [
        Case(_label("fold_in", n), lambda r, k, n=n: r.fold_in(k, n)) for n in (0, 5, 2**32 - 1)
    ]
    # Beyond a block of counters, and beyond one row of it.
    cases += [
        Case(
            _label("bits, large", d), lambda r, k, d=d: digest(np.asarray(r.bits(k, (7, 9001), d)))
        )
        for d in (np.uint8, np.uint32, np.uint64)
    ]
    return cases


_BOUNDS = ((-1, 1), (-0.3, 1.7), (np.array([0.0, 5.0, -2.5]), 7.5), (3.0, 1.0), (1000.0, 1000.1))


def _uniform() -> list[Case]:
    cases = [
        Case(_label("uniform", d, s), lambda r, k, s=s, d=d: r.uniform(k, s, d))
        for d in (*FLOATS, np.float16)
        for s in SHAPES
    ]
    cases += [
        Case(
            _label("uniform", d, "between", *map(str, (a, b))),
            lambda r, k, d=d, a=a, b=b: r.uniform(k, (17, 3), d, minval=a, maxval=b),
        )
        for d in FLOATS
        for a, b in _BOUNDS
    ]
    cases += [
        Case("bernoulli", lambda r, k: r.bernoulli(k)),
        Case("bernoulli 0.3", lambda r, k: r.bernoulli(k, 0.3, (7, 3))),
        Case("bernoulli float32", lambda r, k: r.bernoulli(k, np.float32(0.3), (21,))),
        Case("bernoulli by p", lambda r, k: r.bernoulli(k, np.linspace(0, 1, 9))),
        Case("bernoulli broadcast", lambda r, k: r.bernoulli(k, np.linspace(0, 1, 3), (4, 3))),
    ]
    return cases


def _continuous() -> list[Case]:
    cases = []
    for d in FLOATS:
        few = _ulps(d, 4)
        for s in SHAPES:
            cases += [
                Case(_label("normal", d, s), lambda r, k, s=s, d=d: r.normal(k, s, d), few),
                Case(_label("gumbel", d, s), lambda r, k, s=s, d=d: r.gumbel(k, s, d), few, few),
            ]
        # XLA's log1p is up to 130 ulp off between -0.42 and -0.29.
        far = _ulps(d, 150)
        cases += [
            Case(_label("exponential", d), lambda r, k, d=d: r.exponential(k, (37,), d), far),
            Case(
                _label("truncated_normal", d),
                lambda r, k, d=d: r.truncated_normal(k, -2.0, 1.5, (37,), d),
                4 * few,
                few,
            ),
            Case(
                _label("truncated_normal broadcast", d),
                lambda r, k, d=d: r.truncated_normal(
                    k, np.array([-1.0, 0.0], d), np.ones((3, 1), d), dtype=d
                ),
                4 * few,
                few,
            ),
        ]
    cases += [
        Case("normal complex64", lambda r, k: r.normal(k, (5,), np.complex64), 1e-6),
        Case("normal complex128", lambda r, k: r.normal(k, (5,), np.complex128), 1e-15),
        Case("normal float16", lambda r, k: r.normal(k, (40,), np.float16), 2e-3),
    ]
    return cases


_RANGES = (
    (np.int64, 0, 10),
    (np.int64, -7, 2**40),
    (np.int64, -(2**63), 2**63 - 1),
    (np.int32, -3, 7),
    (np.int32, 0, 2**31),
    (np.int32, -(2**31), 2**40),
    (np.uint32, 0, 2**32),
    (np.uint32, 0, 64),
    (np.int8, -300, 5),
    (np.int8, -128, 128),
    (np.uint8, 0, 256),
    (np.uint8, -5, 5),
    (np.uint16, 0, 2**16),
    (np.int16, -1000, 1000),
    (np.int64, 5, 5),
    (np.int64, 5, 2),
    (np.int64, np.array([0, 10, -3]), np.array([[5], [20]])),
    (np.int32, np.array([0, 10, -(2**31)]), np.array([[5], [2**31]])),
    (np.uint8, np.array([0, 10, -4]), np.array([[5], [300]])),
)


def _integers() -> list[Case]:
    cases = [
        Case(
            _label("randint", d, *map(str, (a, b))),
            lambda r, k, d=d, a=a, b=b: r.randint(k, (2, 3), a, b, d),
        )
        for d, a, b in _RANGES
    ]
    cases += [
        Case(_label("randint", s), lambda r, k, s=s: r.randint(k, s, 0, 1000, np.int64))
        for s in SHAPES
    ]
    table = np.arange(24.0).reshape(2, 3, 4)
    cases += [
        Case(_label("permutation", n), lambda r, k, n=n: r.permutation(k, n))
        for n in (0, 1, 2, 17, 1000, 2000)
    ]
    for axis in (0, 1, -1):
        for own in (False, True):
            cases.append(
                Case(
                    _label("permutation of rows", axis, own),
                    lambda r, k, axis=axis, own=own: r.permutation(k, table, axis, own),
                )
            )
    return cases


_LOGITS = np.sin(np.arange(24.0)).reshape(2, 3, 4) * 2
_WEIGHTS = np.array([0.1, 0.0, 0.4, 0.25, 0.25])


def _choices() -> list[Case]:
    cases = [
        Case(_label("categorical", axis, shape, d), lambda r, k, d=d, axis=axis, shape=shape: (
            r.categorical(k, _LOGITS.astype(d), axis=axis, shape=shape)
        ))
        for d in FLOATS
        for axis, shape in ((-1, None), (0, None), (1, (5, 2, 4)), (2, (2, 3)), (-3, (6, 3, 4)))
    ]  # fmt: skip
    cases += [
        Case(
            "categorical broadcast",
            lambda r, k: r.categorical(k, _LOGITS[:1], axis=1, shape=(3, 5, 4)),
        ),
        Case(
            "categorical without replacement",
            # JAX's are int32.
            lambda r, k: np.asarray(
                r.categorical(k, _LOGITS, axis=1, shape=(3, 2, 4), replace=False)
            ).astype(np.int64),
        ),
        Case("choice", lambda r, k: r.choice(k, 7, (5, 2))),
        Case("choice of one", lambda r, k: r.choice(k, 7)),
        Case("choice without replacement", lambda r, k: r.choice(k, 12, (5, 2), replace=False)),
        Case("choice of rows", lambda r, k: r.choice(k, _LOGITS, (4,), axis=1)),
        Case("choice of rows, once", lambda r, k: r.choice(k, _LOGITS, (3,), False, axis=1)),
        Case("choice by weight", lambda r, k: r.choice(k, 5, (30,), p=_WEIGHTS)),
        Case("choice by weight, once", lambda r, k: r.choice(k, 5, (4,), False, _WEIGHTS)),
        Case(
            "choice by weight of rows",
            lambda r, k: r.choice(k, _LOGITS, (2, 2), p=_WEIGHTS[2:4], axis=0),
        ),
    ]
    return cases


CASES = [*_bits(), *_uniform(), *_continuous(), *_integers(), *_choices()]
