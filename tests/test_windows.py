"""Sliding windows: NumPy's answers in every mode, and kernels that read them without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import funcgrad as fg
import funcgrad.numpy as fnp
from conftest import HAS_LLVM
from funcgrad.core.binding import bind
from funcgrad.errors import ShapeError, UnsupportedFunctionError
from funcgrad.primitives import windows as primitives

BACKENDS = ["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not HAS_LLVM, reason="llvm"))]
by_backend = pytest.mark.parametrize("backend", BACKENDS)


def numbers(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def correlate(x: Any, w: Any) -> Any:
    return np.sum(sliding_window_view(x, len(w)) * w, -1)


def pool(x: Any, k: int = 2, step: int = 2) -> Any:
    windows = sliding_window_view(x, (k, k), axis=(-2, -1))
    return np.max(windows[..., ::step, ::step, :, :], axis=(-2, -1))


def box(x: Any, *k: int) -> Any:
    return np.mean(sliding_window_view(x, k), axis=tuple(range(-len(k), 0)))


# Functions of a matrix.
PROGRAMS: dict[str, Callable[..., Any]] = {
    "windows": lambda m: sliding_window_view(m, (2, 3)),
    "correlation": lambda m: correlate(m[:, 1], m[0, :3]),
    "box": lambda m: box(m, 3, 3),
    "max pool": pool,
    "far apart": lambda m: pool(m, 2, 3),
    "overlapping": lambda m: pool(m, 3, 2),
    "of a function": lambda m: box(np.exp(m), 2, 2),
    "of a few operations": lambda m: box(m * 2.0 + 1.0, 2, 2),
    "of a norm": lambda m: box(m / np.sum(m * m, 1, keepdims=True), 2, 2),
    "function of": lambda m: np.sum(np.tanh(sliding_window_view(m, 3, 0)), -1),
    "dilated": lambda m: np.sum(sliding_window_view(m, 5, 1)[..., ::2] * m[0, :3], -1),
    "backwards": lambda m: np.max(sliding_window_view(m[::-1, ::-2], 2, 1), -1),
    "turned": lambda m: np.sum(sliding_window_view(m.T, 3, 0), -1),
    "whole axis": lambda m: np.sum(sliding_window_view(m, len(m), 0), -1),
    "of one": lambda m: np.sum(sliding_window_view(m, 1, 0), -1),
    "long": lambda m: np.sum(sliding_window_view(m.reshape(-1), 40), -1),
    "function of long": lambda m: np.sum(np.tanh(sliding_window_view(m.reshape(-1), 70)), -1),
    "long correlation": lambda m: correlate(m.reshape(-1), m[:6].reshape(-1)),
    "twice": lambda m: np.sum(sliding_window_view(m, (2, 3), (1, 1)), (-2, -1)),
    "of windows": lambda m: np.sum(sliding_window_view(sliding_window_view(m, 3, 0), 2, 2), -1),
    "one of each": lambda m: sliding_window_view(m, (2, 3))[:, :, 1, 2] * 2.0,
    "reshaped": lambda m: sliding_window_view(m, 3, 1).reshape(-1, 3) @ m[:3, :2],
    "product": lambda m: sliding_window_view(m, 3, 1) @ m[0, :3],
    "contraction": lambda m: np.einsum("ijab,ab->ij", sliding_window_view(m, (2, 2)), m[:2, :2]),
    "extremes of rows": lambda m: np.max(sliding_window_view(m, 3, 1), (1, 2)),
    "with itself": lambda m: sliding_window_view(m, 3, 1) - m[:, :-2, None],
    "beside itself": lambda m: (np.exp(m), np.sum(sliding_window_view(np.exp(m), 2, 1), -1)),
}
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda m: m,
    "Fortran": np.asfortranarray,
    "backwards": lambda m: np.ascontiguousarray(m[::-1, ::-1])[::-1, ::-1],
    "apart": lambda m: np.repeat(np.repeat(m, 2, 0), 3, 1)[::2, ::3],
}


def assert_close(found: Any, expected: Any, tol: float = 1e-12) -> None:
    for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert (np.shape(f), f.dtype) == (np.shape(e), e.dtype)
        np.testing.assert_allclose(f, e, tol, tol)


@by_backend
@pytest.mark.parametrize("name", PROGRAMS)
def test_numpys_answers(backend: str, name: str) -> None:
    function = PROGRAMS[name]
    compiled = fg.jit(function, backend=backend)
    for shape in ((9, 12), (40, 51)):
        m = numbers(*shape)
        for layout in LAYOUTS.values():
            assert_close(compiled(layout(m)), function(m))


@by_backend
@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives(backend: str, name: str) -> None:
    """Against windows that are picked by an index, in both modes and in batches."""
    function, m = PROGRAMS[name], numbers(9, 12)

    def loss(m: Any) -> Any:
        return sum(np.sum(np.sin(y)) for y in fg.tree.leaves(function(m)))

    found = fg.grad(loss)(m)
    assert_close(fg.jit(fg.grad(loss), backend=backend)(m), found, 1e-10)
    direction = numbers(9, 12, 1)[..., 0]
    slope = fg.jit(lambda m, t: fg.jvp(loss, (m,), (t,))[1], backend=backend)(m, direction)
    np.testing.assert_allclose(slope, np.sum(found * direction), 1e-9, 1e-9)
    near = (loss(m + 1e-6 * direction) - loss(m - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(slope, near, 1e-4, 1e-4)
    batch = np.stack([m, m[::-1], m * 0.5])
    expected = np.stack([fg.grad(loss)(x) for x in batch])
    assert_close(fg.jit(fg.vmap(fg.grad(loss)), backend=backend)(batch), expected, 1e-9)


@by_backend
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8", "bool", "complex64"])
def test_dtypes(backend: str, dtype: str) -> None:
    m = (numbers(9, 300) * 4).astype(dtype)
    for function in (lambda m: np.sum(sliding_window_view(m, 3, 1), -1), lambda m: box(m, 2, 2)):
        found, expected = fg.jit(function, backend=backend)(m), function(m)
        assert_close(found, expected, 1e-3 if dtype == "float16" else 1e-5)


@by_backend
def test_half_precision_adds_up_in_single(backend: str) -> None:
    x = np.full(6000, 1.0, np.float16)
    sums = fg.jit(lambda x: np.sum(sliding_window_view(x, 3000), -1), backend=backend)(x)
    assert sums.dtype == np.float16 and (sums == 3000).all()
    slope = fg.grad(lambda x: np.sum(sliding_window_view(x, 3000).astype(np.float32)))
    assert fg.jit(slope, backend=backend)(x).max() == 3000
    few = fg.grad(lambda x: np.sum(sliding_window_view(x, 20)[::4] * np.float16(0.1)))
    np.testing.assert_allclose(fg.jit(few, backend=backend)(x)[100:110], 5 * 0.1, 2e-3)


# Shapes, axes, windows, strides, dilations.
OVERLAPS = [
    ((1000,), (0,), (9,), (1,), (1,)),
    ((1000,), (0,), (200,), (1,), (1,)),
    ((1000,), (0,), (990,), (2,), (1,)),
    ((1000,), (0,), (40,), (7,), (3,)),
    ((70, 3), (0,), (40,), (2,), (1,)),
    ((3, 70), (1,), (40,), (1,), (1,)),
    ((2, 30, 3, 31), (3, 1), (9, 8), (1, 2), (2, 1)),
    ((2, 20, 19), (1, 2), (3, 4), (5, 3), (1, 1)),
    ((20, 19, 18), (0, 1, 2), (2, 3, 2), (1, 1, 1), (1, 1, 1)),
]


@by_backend
@pytest.mark.parametrize("case", OVERLAPS)
def test_windows_are_added_up(backend: str, case: tuple[tuple[int, ...], ...]) -> None:
    shape, whole = case[0], numbers(*case[0])
    params = dict(zip(("axes", "window", "stride", "dilation"), case[1:], strict=True))
    parts = primitives.windows.impl(whole, **params)
    places = primitives.windows.impl(np.arange(whole.size).reshape(shape), **params)
    weights = numbers(*parts.shape)

    def loss(x: Any) -> Any:
        return np.sum(bind(primitives.windows, x, **params) * weights)

    expected = np.zeros(whole.size)
    np.add.at(expected, places, weights)
    for dtype, tol in (("float64", 1e-10), ("float32", 1e-4)):
        found = fg.jit(fg.grad(loss), backend=backend)(whole.astype(dtype))
        assert_close(found, expected.reshape(shape).astype(dtype), tol)


# --- kernels -------------------------------------------------------------------------------

SINGLE = numbers(200, 300, dtype=np.float32)
ONE_KERNEL: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "correlation": (correlate, (SINGLE.reshape(-1), SINGLE[0, :9])),
    "box": (lambda m: box(m, 3, 3), (SINGLE,)),
    "three axes": (lambda m: box(m, 2, 3, 2), (SINGLE.reshape(30, 40, 50),)),
    "max pool": (pool, (SINGLE.reshape(2, 5, 60, 100),)),
    "padded": (lambda m: box(np.pad(m, 1), 3, 3), (SINGLE,)),
    "few operations": (lambda m: box(m * 2.0 + 1.0, 3, 3), (SINGLE,)),
    "function of": (lambda m: np.max(np.sqrt(sliding_window_view(m * m, 3, 1)), -1), (SINGLE,)),
    "long": (lambda m: np.sum(sliding_window_view(m, 100, 1), -1), (SINGLE,)),
    "long correlation": (correlate, (SINGLE.reshape(-1), SINGLE[0, :100])),
}


def lowered(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, int]:
    """A plan's steps, and the bytes of its temporaries."""
    plan = str(fg.jit(function, backend="llvm").lower(*args).plan)
    head, *steps = plan.split("\n}")[0].splitlines()
    room = int(head.split("arena of ")[1].split()[0].replace(",", ""))
    return "\n".join(steps), room


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel_reads_windows_where_they_are(name: str) -> None:
    steps, room = lowered(*ONE_KERNEL[name])
    assert len(steps.splitlines()) == 1 and "kernel" in steps
    assert room == 0


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
def test_what_takes_long_is_computed_once() -> None:
    steps, room = lowered(lambda m: box(np.exp(m), 3, 3), (SINGLE,))
    assert steps.count("kernel") == 2
    assert room <= SINGLE.nbytes + 64


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
@pytest.mark.parametrize("name", ONE_KERNEL)
def test_gradients_call_nothing(name: str) -> None:
    function, args = ONE_KERNEL[name]
    steps, room = lowered(fg.grad(lambda *a: np.sum(function(*a) ** 2)), args)
    assert "call" not in steps
    # Sums and means have no array of windows on the way back either.
    assert room <= 3 * SINGLE.nbytes or name in ("max pool", "function of")


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
def test_gradients_of_windows_that_do_not_meet_are_one_kernel() -> None:
    x = SINGLE.reshape(2, 5, 60, 100)
    steps, room = lowered(fg.grad(lambda x: np.sum(pool(x) ** 2)), (x,))
    assert len(steps.splitlines()) == 1 and room == 0
    # Windows that meet would compute what they share again.
    steps, room = lowered(fg.grad(lambda x: np.sum(pool(x, 3, 1) ** 2)), (x,))
    assert steps.count("kernel") == 2


# --- the call ------------------------------------------------------------------------------


def test_axes_and_windows_as_numpy_takes_them() -> None:
    m = numbers(4, 5, 6)
    cases = [((2, 3, 1), None), (2, 1), ((2,), -1), ([2, 3], [0, -1]), ((0, 5), (0, 1))]
    for window, axis in cases:
        expected = sliding_window_view(m, window, axis)
        found = fg.jit(lambda m, w=window, a=axis: sliding_window_view(m, w, a))(m)
        np.testing.assert_array_equal(found, expected)
        ours = fnp.lib.stride_tricks.sliding_window_view(m, window, axis)
        np.testing.assert_array_equal(ours, found)


def test_results_are_the_callers() -> None:
    x = numbers(5)
    for backend in ("numpy", "llvm") if HAS_LLVM else ("numpy",):
        found = fg.jit(lambda x: sliding_window_view(x, 2), backend=backend)(x)
        found[0, 1] = 7.0
        assert found[1, 0] == x[1] != 7.0


@pytest.mark.parametrize(
    ("window", "axis"), [(6, 0), (-1, 0), ((2, 2), 0), (2, None), ((2, 5), (1, 1))]
)
def test_windows_that_do_not_fit(window: Any, axis: Any) -> None:
    m = numbers(4, 5)
    with pytest.raises(ValueError):
        sliding_window_view(m, window, axis)
    with pytest.raises(ShapeError):
        fg.jit(lambda m: sliding_window_view(m, window, axis))(m)


def test_no_writing() -> None:
    with pytest.raises(UnsupportedFunctionError, match="writeable"):
        fg.jit(lambda x: sliding_window_view(x, 2, writeable=True))(numbers(4))


@by_backend
def test_views_of_small_arrays_may_be_large(backend: str) -> None:
    def spread(x: Any) -> Any:
        return np.exp(np.broadcast_to((x + x)[:, None], (9, 20))[:, 3])

    x = numbers(9)
    assert_close(fg.jit(spread, backend=backend)(x), spread(x))


# --- beside other steps ----------------------------------------------------------------------


def recurrence(m: Any) -> Any:
    def step(h: Any, row: Any) -> tuple[Any, Any]:
        near = np.sum(sliding_window_view(np.pad(h, 1), 3), -1)
        return np.tanh(near + row), np.max(sliding_window_view(h, 4), -1)

    return fg.scan(step, m[0], m)


# Functions of a matrix of some size, whose windows reach over rows and parts of steps.
BESIDE: dict[str, Callable[[Any], Any]] = {
    "rows of a product": lambda m: np.max(sliding_window_view(m @ m[:150].T, 3, 0), -1),
    "columns of a product": lambda m: np.sum(sliding_window_view(m @ m[:150].T, 3, 1), -1),
    "a product of windows": lambda m: sliding_window_view(m[0], 100) @ m[:100],
    "stacks of windows": lambda m: np.swapaxes(sliding_window_view(m, 5, 1), 0, 1) @ m[:5, :7],
    "a scan": recurrence,
    "a sum over places": lambda m: np.sum(sliding_window_view(m, (3, 3)) * m[:3, :3], (0, 1)),
    "a sum of all": lambda m: np.sum(sliding_window_view(m, 7, 1) ** 2),
    "a gather": lambda m: sliding_window_view(m, 4, 0)[np.array([5, 0, -1]), 1:9],
    "a choice": lambda m: fg.cond(np.sum(m) > 0, lambda: box(m, 2, 2), lambda: box(-m, 2, 2)),
}


@by_backend
@pytest.mark.parametrize("name", BESIDE)
def test_beside_other_steps(backend: str, name: str) -> None:
    function, m = BESIDE[name], numbers(300, 200)
    assert_close(fg.jit(function, backend=backend)(m), function(m), 1e-9)

    def loss(m: Any) -> Any:
        return sum(np.sum(np.sin(y)) for y in fg.tree.leaves(function(m)))

    assert_close(fg.jit(fg.grad(loss), backend=backend)(m), fg.grad(loss)(m), 1e-8)


@by_backend
def test_results_in_the_place_of_what_windows_read(backend: str) -> None:
    def smooth(m: Any) -> Any:
        return box(np.pad(m, 1), 3, 3) + m

    m = numbers(300, 200)
    expected = smooth(m)
    assert_close(fg.jit(smooth, backend=backend, donate_argnums=0)(m), expected)
