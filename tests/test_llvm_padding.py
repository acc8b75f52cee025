"""Padding, joining and slicing as index maps within kernels: stencils, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.loops.nests.tiling import Tiling, refined, split_request, whole

pytest.importorskip("llvmlite")

Function = Callable[..., Any]
jit = partial(fg.jit, backend="llvm")
by_numpy = partial(fg.jit, backend="numpy")

# Around the widths of vectors, what a round of a loop does, and what threads share.
SIZES = [33, 34, 63, 64, 65, 127, 128, 129, 1023, 1025, 100_003]


def _difference(x: Any) -> Any:
    return (x[1:] - x[:-1]) * 2


def _laplacian(x: Any) -> Any:
    return x[2:] - 2 * x[1:-1] + x[:-2]


def _padded_stencil(x: Any) -> Any:
    p = np.pad(x, (2, 1))
    return p[3:] * 2 - p[2:-1] + p[1:-2] - p[:-3]


def _constant_pad(x: Any) -> Any:
    return np.pad(x, (3, 2), constant_values=7)[1:] + 1


def _roll(x: Any) -> Any:
    return np.roll(x, 1) - 2 * x + np.roll(x, -1)


def _rotate(x: Any) -> Any:
    return np.concatenate([x[1:], x[:1]])


def _halves(x: Any) -> Any:
    n = x.shape[0] // 2
    return np.concatenate([-x[n : 2 * n], x[:n]]) * x[: 2 * n]


def _pairs(x: Any) -> Any:
    n = x.shape[0] // 2 * 2
    return x[:n:2] * x[1:n:2] - x[n - 1 :: -2]


def _every_third(x: Any) -> Any:
    return x[::3] * 2 + np.pad(x[1:][::3], (0, 2))[: x[::3].shape[0]]


def _mirror(x: Any) -> Any:
    return x * x[::-1]


def _uneven(x: Any) -> Any:
    return np.concatenate([x[:5] * 2, x + 1, x[-1:] - 3, np.flip(x)])


def _nested(x: Any) -> Any:
    return np.pad(np.concatenate([x[::2], np.pad(x, 1)[1::3]]), 2)[1:] * 3


FUNCTIONS = [
    *(_difference, _laplacian, _padded_stencil, _constant_pad, _roll, _rotate, _halves, _pairs),
    *(_every_third, _mirror, _uneven, _nested, partial(np.diff, n=2)),
]
IDS = [getattr(f, "__name__", "diff") for f in FUNCTIONS]


def _numbers(shape: Any, dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        found = rng.standard_normal(shape).astype(dtype)
        # Zeros of both signs: what is put beside zeros is added to them.
        return np.where(rng.uniform(size=shape) < 0.1, np.copysign(0, found), found).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def _check(function: Function, *args: Any) -> Any:
    """The same bits as the NumPy backend, by kernels that keep within their arrays."""
    compiled = jit(function)
    found, expected = compiled(*args), by_numpy(function)(*args)
    for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(a), np.signbit(b))
    lowered = compiled.lower(*args)
    for kernel in lowered.kernels:
        kernel.check()
    return lowered


@pytest.mark.parametrize("function", FUNCTIONS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_values_have_the_bits_of_numpy(function: Function, dtype: Any) -> None:
    for n in SIZES:
        _check(function, _numbers(n, dtype))


@pytest.mark.parametrize("function", FUNCTIONS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_have_the_bits_of_numpy(function: Function, dtype: Any) -> None:
    for n in SIZES:
        _check(fg.grad(lambda x: np.sum(function(x) * 3)), _numbers(n, dtype))
        x = _numbers(n, dtype)
        got, want = (j(fg.grad(lambda x: np.sum(function(x) ** 2)))(x) for j in (jit, by_numpy))
        np.testing.assert_allclose(
            got, want, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-5
        )


@pytest.mark.parametrize(
    "function",
    [
        _difference,
        _laplacian,
        lambda x: np.roll(x, 1) - x,
        _rotate,
        _halves,
        _pairs,
        lambda x: np.diff(x),
    ],
)
def test_a_stencils_gradient_is_one_kernel(function: Function) -> None:
    x = _numbers(4096, np.float64)
    lowered = jit(fg.grad(lambda x: np.sum(function(x) ** 2))).lower(x)
    assert lowered.cost().kernels == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.concatenate([np.exp(x), np.sin(x)]),
        lambda x: np.stack([np.sin(x), np.cos(x)], -1),
        lambda x: np.stack([x * 2, x + 1, x - 3]),
        lambda x: np.pad(np.exp(x), 3),
        lambda x: np.concatenate([np.exp(x[:100]), np.tanh(x[50:]), x[:7]]),
        _padded_stencil,
    ],
)
def test_parts_are_computed_in_their_place(function: Function) -> None:
    x = _numbers(1001, np.float64)
    assert jit(function).lower(x).cost().kernels == 1
    np.testing.assert_allclose(jit(function)(x), function(x), rtol=1e-14)


def test_what_two_parts_share_is_computed_once() -> None:
    def polar(r: Any, t: Any) -> Any:
        scale = np.exp(-r)
        return np.stack([scale * np.cos(t), scale * np.sin(t)])

    r, t = _numbers(1000, np.float64), _numbers(1000, np.float64)
    (kernel,) = jit(polar).lower(r, t).kernels
    assert str(kernel).count("exp(") == 1
    np.testing.assert_allclose(jit(polar)(r, t), polar(r, t), rtol=1e-14)


def test_what_something_else_needs_is_not_computed_again() -> None:
    def f(x: Any) -> Any:
        scale = np.exp(x) * 2
        return np.pad(scale * 3, 1), scale + 1

    x = _numbers(1000, np.float64)
    assert "".join(map(str, jit(f).lower(x).kernels)).count("exp(") == 1
    _check(lambda x: np.pad(np.abs(x) * 3, 1) + np.pad(x, 1), x)


def _five_points(u: Any) -> Any:
    beside = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2]
    return beside - 4 * u[1:-1, 1:-1]


MATRIX_FUNCTIONS: dict[str, Function] = {
    "five points": _five_points,
    "padded": lambda u: _five_points(np.pad(u, 1)),
    "differences": lambda u: u[1:, :-1] - u[:-1, 1:],
    "every other": lambda u: u[::2, ::2][:, :2] * 2,
    "beside": lambda u: np.concatenate([u * 2, u[:, ::-1], u[:, :1]], 1),
    "below": lambda u: np.concatenate([u * 2, u[:3], u[::-1]], 0) + 1,
    "stack": lambda u: np.stack([u * 2, u + 1, u.T.T * 3], -1),
    "turned": lambda u: np.pad(u.T, [(1, 0), (0, 2)])[:, 1:] * 2,
    "row": lambda u: np.pad(u[1], 2) + np.pad(u, 2)[0],
    "columns": lambda u: np.stack([u[:, 1] * 2 - u[:, 2], u[:, 2] - u[:, 0]], -1),
    "rolled": lambda u: np.roll(u, 1, 0) - np.roll(u, -1, 1),
    "top": lambda u: np.concatenate([u[1:], u[:1]], 0) - np.max(u + 9, 0),
    "centred": lambda u: np.pad(u, 1) - np.max(np.pad(u, 1), axis=1, keepdims=True),
    "chosen": lambda u: np.take(np.concatenate([u * 2, u]), np.arange(9) % 5, axis=0),
}


@pytest.mark.parametrize("name", MATRIX_FUNCTIONS)
@pytest.mark.parametrize("shape", [(7, 5), (8, 8), (9, 33), (40, 3), (65, 17), (300, 701)])
def test_matrices(name: str, shape: tuple[int, int]) -> None:
    function = MATRIX_FUNCTIONS[name]
    for dtype in (np.float64, np.float32):
        u = _numbers(shape, dtype)
        _check(function, u)
        if name not in ("top", "centred", "chosen"):
            _check(fg.grad(lambda u: np.sum(function(u) * 3)), u)


def test_three_axes() -> None:
    u = _numbers((9, 10, 33), np.float32)

    def stencil(u: Any) -> Any:
        p = np.pad(u, 1)
        return p[2:, 1:-1, 1:-1] - p[:-2, 1:-1, 1:-1] + p[1:-1, 2:, :-2] * p[1:-1, :-2, 2:]

    _check(stencil, u)
    _check(fg.grad(lambda u: np.sum(stencil(u))), u)


def test_reductions_over_what_is_put_together() -> None:
    u = _numbers((50, 37), np.float64)

    def softmax(u: Any) -> Any:
        p = np.concatenate([u[:, 1:], np.pad(u, [(0, 0), (2, 0)])], 1)
        e = np.exp(p - np.max(p, 1, keepdims=True))
        return e / np.sum(e, 1, keepdims=True)

    def totals(u: Any) -> Any:
        p = np.pad(u, 1)
        return np.sum(p[1:] * 2, 0), np.sum(p[:, 1:], 1), np.max(p), np.sum(np.roll(u, 1, 1) * u)

    for function in (softmax, totals):
        for a, b in zip(fg.tree.leaves(jit(function)(u)), fg.tree.leaves(function(u)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int64, np.float32])
def test_other_dtypes(dtype: Any) -> None:
    for n in (35, 64, 1000):
        x = _numbers(n, np.int8).astype(dtype)
        _check(lambda x: np.pad(x, (1, 2)), x)
        _check(lambda x: np.concatenate([x[1:], x[:1], x[::2]]), x)
        _check(lambda x: np.stack([x, x[::-1]], -1), x)
        _check(lambda x: np.concatenate([x, np.arange(40, dtype=np.float64)]), x)
        _check(lambda x: np.where(np.pad(x > 1, (0, 3)), 1, np.pad(x, (3, 0))), x)


def test_nothing_and_single_elements() -> None:
    x, empty = _numbers(50, np.float64), np.zeros(0)
    _check(lambda x, e: np.concatenate([x, e, x[:1]]) + 1, x, empty)
    _check(lambda e: np.pad(e, (20, 30)) * 2, empty)
    _check(lambda x: np.concatenate([x[:0], x[3:3]]), x)
    _check(lambda x: np.pad(x[:1] * 2, (40, 50)), x)
    _check(fg.grad(lambda x: np.sum(x[7:7]) + x[3] * 2), x)
    _check(fg.grad(lambda x: x[-1] * x[0] + np.sum(x[60:])), x)


def test_many_parts() -> None:
    xs = [_numbers(n, np.float64) for n in range(1, 40)]
    _check(lambda *xs: np.concatenate([x * 2 for x in xs]), *xs)
    _check(
        lambda *xs: np.concatenate([x * 2 for x in xs[:8]]), *[x for x in xs if x.size > 33], xs[0]
    )


def _random_program(seed: int, steps: int = 6) -> Function:
    """Slices, padding, joins and a little arithmetic, by chance."""

    def run(x: Any) -> Any:
        rng = np.random.default_rng(seed)
        values = [x]
        for _ in range(steps):
            a = values[rng.integers(len(values))]
            axis = int(rng.integers(a.ndim))
            along = (slice(None),) * axis
            kind = rng.integers(7)
            if min(a.shape) < 4 or kind == 0:
                a = np.pad(a, [tuple(map(int, rng.integers(0, 4, 2))) for _ in a.shape])
            elif kind == 1:
                start, step = int(rng.integers(3)), int(rng.choice([1, 1, 2, 3]))
                a = a[(*along, slice(start, a.shape[axis] - int(rng.integers(2)), step))]
            elif kind == 2:
                a = a[(*along, slice(None, None, int(rng.choice([-1, -2]))))]
            elif kind == 3:
                a = np.concatenate([a[(*along, slice(1, 3))], a * 2], axis)
            elif kind == 4:
                same = [v for v in values if v.shape == a.shape]
                a = a - same[rng.integers(len(same))] * 0.5
            elif kind == 5:
                a = np.roll(a, int(rng.integers(-2, 3)), axis)
            else:
                a = np.diff(np.swapaxes(a, 0, -1), axis=axis) + 1
            values.append(a)
        return values[-1]

    return run


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    shape = [(1000,), (65,), (17, 33), (9, 8), (5, 6, 9)][seed % 5]
    function = _random_program(seed)
    x = _numbers(shape, np.float64)
    _check(function, x)
    _check(fg.grad(lambda x: np.sum(function(x) * 3)), x)


def test_tilings() -> None:
    # Each position is computed once, whatever has been wished.
    from funcgrad.backends.loops.nests.nest import Axis, Index

    for extent in range(1, 40):
        for step in (1, 2, 3):
            tiling = whole(extent)
            for first in (0, 1, 5):
                within = range(first, max(first + 1, extent - 1), step)
                axis = Axis(tiling.count, False)
                place = Index(-2, ((axis, tiling.step),))
                (tiling,) = refined([tiling], [split_request(0, place, within)], 6)
            assert _positions(tiling) == list(range(extent))


def _positions(tiling: Tiling) -> list[int]:
    return sorted(
        s + p.step * j for p in tiling.pieces for j in range(p.begin, p.end) for s in p.starts
    )
