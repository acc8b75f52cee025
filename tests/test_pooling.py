"""Pooling against its definition, in every mode, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError

BACKENDS = ["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not HAS_LLVM, reason="llvm"))]
by_backend = pytest.mark.parametrize("backend", BACKENDS)
Case = dict[str, Any]


def drawn(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 4))

    def option(high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(1, high + 1, rank))

    window, dilation = option(3), option(2) if rng.random() < 0.3 else (1,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    sizes = [int(s + rng.integers(0, 5)) for s in spans]
    strides = option(3) if rng.random() < 0.7 else window
    if rng.random() < 0.3:
        whole = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(sizes, strides, spans, strict=True)
        ]
        padding, pads = "same", [(n // 2, n - n // 2) for n in whole]
    else:
        pads = [tuple(map(int, rng.integers(0, s // 2 + 1, 2))) for s in spans]
        padding = tuple(pads)
    first, last = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[rank]
    layout = first if rng.random() < 0.5 else last
    shape = (2, 3, *sizes) if layout == first else (2, *sizes, 3)
    options = {"strides": strides, "padding": padding, "layout": layout}
    return {
        "shape": shape, "window": window, "options": options, "dilation": dilation,
        "pads": pads, "strides": strides, "first": layout == first,
    }  # fmt: skip


CASES = [drawn(np.random.default_rng(seed)) for seed in range(50)]
POOLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "max": (fg.max_pool, lambda part, whole: np.max(part, -1)),
    "min": (fg.min_pool, lambda part, whole: np.min(part, -1)),
    "avg": (fg.avg_pool, lambda part, whole: np.sum(part, -1) / whole),
    "avg of inputs": (
        lambda x, window, **options: fg.avg_pool(x, window, count_include_pad=False, **options),
        lambda part, whole: np.mean(part, -1),
    ),
}


def options_of(name: str, case: Case) -> dict[str, Any]:
    return {**case["options"], **({} if "avg" in name else {"dilation": case["dilation"]})}


# Means have no dilation.
TRIED = [
    (number, name)
    for number, case in enumerate(CASES)
    for name in POOLS
    if "avg" not in name or set(case["dilation"]) == {1}
]


def defined(x: np.ndarray, reduce: Callable[..., Any], case: Case) -> np.ndarray:
    """The reduction of what lies in the array, for each window by itself."""
    x = x if case["first"] else np.moveaxis(x, -1, 1)
    window, dilation, strides, pads = (case[n] for n in ("window", "dilation", "strides", "pads"))
    counts = [
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip(x.shape[2:], pads, window, dilation, strides, strict=True)
    ]
    rows = []
    for at in np.ndindex(*counts):
        kept = [
            [i * s - p[0] + j * d for j in range(k) if 0 <= i * s - p[0] + j * d < n]
            for i, s, p, k, d, n in zip(
                at, strides, pads, window, dilation, x.shape[2:], strict=True
            )
        ]
        part = x[(slice(None), slice(None), *np.ix_(*kept))]
        rows.append(reduce(part.reshape(*x.shape[:2], -1), np.prod(window)))
    out = np.stack(rows, -1).reshape(*x.shape[:2], *counts)
    return out if case["first"] else np.moveaxis(out, 1, -1)


def assert_close(found: Any, expected: Any, tol: float = 1e-10) -> None:
    assert (np.shape(found), found.dtype) == (np.shape(expected), expected.dtype)
    np.testing.assert_allclose(found, expected, tol, tol)


@pytest.mark.parametrize(("number", "name"), TRIED)
def test_the_definition(number: int, name: str) -> None:
    case, (pool, reduce) = CASES[number], POOLS[name]
    rng, options = np.random.default_rng(number), options_of(name, case)
    x = rng.normal(size=case["shape"])
    assert_close(pool(x, case["window"], **options), defined(x, reduce, case))
    assert pool(x.astype(np.float32), case["window"], **options).dtype == np.float32
    for dtype in (np.int32, np.uint8, np.bool_):
        whole = rng.integers(0, 3, case["shape"]).astype(dtype)
        whole = -whole if dtype is np.int32 else whole
        np.testing.assert_allclose(
            pool(whole, case["window"], **options), defined(whole, reduce, case), 1e-12
        )


@by_backend
@pytest.mark.parametrize(("number", "name"), TRIED[::8])
def test_derivatives(number: int, name: str, backend: str) -> None:
    """First and second ones against differences, and in batches."""
    case, (pool, reduce) = CASES[number], POOLS[name]
    rng, options = np.random.default_rng(number), options_of(name, case)
    # Steps are larger than those of differences, so that these find no other extreme.
    x = rng.permutation(np.prod(case["shape"])).reshape(case["shape"]) / 50
    v = rng.normal(size=x.shape)

    def loss(x: Any) -> Any:
        return np.sum(np.sin(pool(x, case["window"], **options)))

    def slope(x: Any) -> Any:
        return np.sum(fg.grad(loss)(x) * v)

    def difference(function: Any, h: float = 1e-5) -> Any:
        return (function(x + h * v) - function(x - h * v)) / (2 * h)

    np.testing.assert_allclose(
        fg.jit(pool, backend=backend, static_argnums=1, static_argnames=[*options])(
            x, case["window"], **options
        ),
        defined(x, reduce, case),
        1e-10,
        1e-10,
    )
    assert_close(fg.jit(fg.grad(loss), backend=backend)(x), fg.grad(loss)(x))
    np.testing.assert_allclose(slope(x), difference(loss), 1e-5, 1e-5)
    np.testing.assert_allclose(fg.jvp(loss, (x,), (v,))[1], slope(x), 1e-9, 1e-9)
    second = np.sum(fg.jit(fg.grad(slope), backend=backend)(x) * v)
    np.testing.assert_allclose(second, difference(slope), 1e-4, 1e-4)
    batch = np.stack([x, v])
    found = fg.jit(fg.vmap(fg.grad(loss)), backend=backend)(batch)
    assert_close(found, np.stack([fg.grad(loss)(x) for x in batch]))


@by_backend
def test_derivatives_go_to_the_first_extreme(backend: str) -> None:
    x = np.array([[[1.0, 3.0, 3.0, 3.0, 2.0, 2.0]]])
    largest = fg.jit(fg.grad(lambda x: np.sum(fg.max_pool(x, 3))), backend=backend)
    np.testing.assert_array_equal(largest(x), [[[0, 1, 0, 1, 0, 0]]])
    smallest = fg.jit(fg.grad(lambda x: np.sum(fg.min_pool(x, 3))), backend=backend)
    np.testing.assert_array_equal(smallest(x), [[[1, 0, 0, 0, 1, 0]]])
    square = np.ones((1, 1, 4, 4))
    both = fg.jit(
        fg.grad(lambda x: np.sum(fg.max_pool(x, 2, strides=1, padding=1))), backend=backend
    )
    np.testing.assert_array_equal(
        both(square)[0, 0], [[4, 2, 2, 2], [2, 1, 1, 1], [2, 1, 1, 1], [2, 1, 1, 1]]
    )
    slope = fg.jvp(lambda x: fg.max_pool(x, 2), (square,), (np.arange(16.0).reshape(square.shape),))
    np.testing.assert_array_equal(slope[1][0, 0], [[0, 2], [8, 10]])


@by_backend
def test_what_is_no_number_is_an_extreme(backend: str) -> None:
    x = np.array([[[1.0, np.nan, 3.0, 4.0, np.nan, np.nan, -np.inf, -np.inf]]])
    found = fg.jit(lambda x: fg.max_pool(x, 2), backend=backend)(x)
    np.testing.assert_array_equal(found, [[[np.nan, 4, np.nan, -np.inf]]])
    grads = fg.jit(fg.grad(lambda x: np.sum(fg.max_pool(x, 2))), backend=backend)(x)
    np.testing.assert_array_equal(grads, [[[0, 1, 0, 1, 1, 0, 1, 0]]])
    # Infinite elements come before the padding.
    low = np.full((1, 1, 2), -np.inf)
    padded = fg.grad(lambda x: np.sum(fg.max_pool(x, 2, padding=1)))
    np.testing.assert_array_equal(fg.jit(padded, backend=backend)(low), [[[1, 1]]])


@by_backend
def test_half_precision_adds_up_in_single(backend: str) -> None:
    x = np.full((1, 1, 6000), 30.0, np.float16)
    found = fg.jit(lambda x: fg.avg_pool(x, 3000), backend=backend)(x)
    assert found.dtype == np.float16 and (found == 30).all()
    x[0, 0, 2999] = 31
    slope = fg.grad(lambda x: np.sum(fg.max_pool(x, 3000, strides=1).astype(np.float32)))
    assert fg.jit(slope, backend=backend)(x)[0, 0, 2999] == 3000


def test_complex_numbers_have_means() -> None:
    x = np.array([[[1.0 + 2j, 3.0]]], np.complex64)
    found = fg.avg_pool(x, 2, padding=1, count_include_pad=False)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, [[[1 + 2j, 3]]])


IMAGES = np.ones((2, 3, 8, 8))


def fails(kind: type[Exception], *parts: str, of: Any = fg.max_pool, **options: Any) -> None:
    x, window = options.pop("x", IMAGES), options.pop("window", 2)
    with pytest.raises(kind) as caught:
        of(x, window, **options)
    for part in ("_pool", "test_pooling.py", *parts):
        assert part in str(caught.value), caught.value


def test_what_is_refused() -> None:
    fails(ShapeError, "NCHW", "(3, 8, 8)", "x[None]", x=IMAGES[0], window=(2, 2))
    fails(ShapeError, "x[None]", x=IMAGES[0], layout="NCHW")
    fails(ShapeError, "(8, 8)", "one to three", x=IMAGES[0, 0])
    fails(ShapeError, "window of 9", "axis 3", window=(2, 9))
    fails(ArgumentError, "layout='HWC'", "'NHWC'", layout="HWC")
    fails(ShapeError, "NCW", "(2, 3, 8, 8)", layout="NCW")
    fails(ShapeError, "NCW", "(2, 3, 8, 8)", window=(2,))
    fails(ArgumentError, "window", "(2,)", window=(2,), layout="NCHW")
    fails(ArgumentError, "window", "positive", window=0)
    fails(ArgumentError, "strides", strides=(1, 2, 3))
    fails(ArgumentError, "half a window", padding=2)
    fails(ArgumentError, "padding", padding="full")
    fails(ArgumentError, "half a window", padding=2, of=fg.avg_pool)
    fails(OperandTypeError, "complex", x=IMAGES * 1j)
    fails(OperandTypeError, "min_pool", x=IMAGES * 1j, of=fg.min_pool)
