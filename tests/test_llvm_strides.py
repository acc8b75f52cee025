"""Kernels that read or write arrays in steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.loops.nests.nest import Combine

pytest.importorskip("llvmlite")


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, 1, keepdims=True))
    return e / np.sum(e, 1, keepdims=True)


# Of two arrays of the same shape, of which the first is a transposed view within the program.
PROGRAMS: dict[str, Callable[..., Any]] = {
    "add": lambda t, y: t + y,
    "scale": lambda t, y: t * 2,
    "rows": lambda t, y: t * y[:, :1] + y[0],
    "sum": lambda t, y: np.sum(t * y),
    "row sums": lambda t, y: np.sum(t * y, 1),
    "column sums": lambda t, y: np.sum(t * y, 0),
    "extremes": lambda t, y: (np.max(t * y, 1), t - y),
    "softmax": lambda t, y: softmax(t + y),
    "reversed": lambda t, y: t[:, ::-1] + y,
    "last first": lambda t, y: (t[::-1] + y, np.sum(t[::-1] * y, 1)),
    "parts": lambda t, y: t[1:, 2:] * y[:-1, :-2],
    "several": lambda t, y: t[1:] + t[:-1] * y[1:],
}


def arrays(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    x, y = (rng.integers(-99, 99, shape).astype(dtype) for _ in "xy")
    return x, y


def agree(found: Any, expected: Any) -> None:
    for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(f), np.asarray(e))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(37, 33), (5, 300), (4, 259), (700, 521)])
def test_transposed_views_give_what_copies_give(
    name: str, dtype: str, shape: tuple[int, ...]
) -> None:
    if dtype == "bool" and name not in ("rows", "sum"):
        return
    program = PROGRAMS[name]
    y, x = arrays(shape, dtype)
    x = np.ascontiguousarray(x.T)
    viewed = fg.jit(lambda x, y: program(x.T, y), backend="llvm")(x, y)
    copied = fg.jit(program, backend="llvm")(np.ascontiguousarray(x.T), y)
    agree(viewed, copied)


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0), (0, 3, 2, 1), (3, 2, 0, 1)])
def test_axes_in_any_order(order: tuple[int, ...]) -> None:
    shape = (3, 41, 7, 50)[-len(order) :]
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y = np.ones(x.transpose(order).shape, np.float32)
    for program in (PROGRAMS["add"], PROGRAMS["sum"]):
        found = fg.jit(lambda x, y, p=program: p(x.transpose(order), y), backend="llvm")(x, y)
        copied = fg.jit(program, backend="llvm")(np.ascontiguousarray(x.transpose(order)), y)
        np.testing.assert_allclose(found, copied, 1e-6)


def test_several_threads_and_pieces_of_a_block() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((1003, 1003), dtype=np.float32) for _ in "xy")
    for name in ("add", "sum", "row sums", "softmax", "column sums"):
        program = PROGRAMS[name]
        viewed = fg.jit(lambda x, y, p=program: p(x.T, y), backend="llvm")(x, y)
        copied = fg.jit(program, backend="llvm")(np.ascontiguousarray(x.T), y)
        np.testing.assert_allclose(viewed, copied, 2e-5, 2e-5)


# Sums over all pairs, of which each row has a part for every element.
PAIRS: dict[str, Callable[..., Any]] = {
    "sums": lambda p, m: np.sum((p[:, None] - p) * m, 0),
    "both": lambda p, m: [np.sum((p[:, None] - p) * m, a) for a in (0, 1)],
    "extremes": lambda p, m: [f(p[:, None] * p, 0) for f in (np.max, np.min)],
    "one by one": lambda p, m: [
        np.sum(p[:, None, k] * p[:, k] + m[0, 0], 0) for k in range(p.shape[1])
    ],
    "flipped": lambda p, m: np.sum((p[:, None] - p[::-1]) * m, 0)[::-1],
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("count", [1, 7, 40, 333])
def test_parts_of_sums_may_lie_in_any_order(name: str, width: int, count: int) -> None:
    p, m = arrays((count, width), "int64")
    agree(fg.jit(PAIRS[name], backend="llvm")(p, m), PAIRS[name](p, m))


@pytest.mark.parametrize("count", [12, 700])
def test_gradients_by_positions(count: int) -> None:
    def energy(p: Any) -> Any:
        apart = p[:, None] - p
        return np.sum(1.0 / np.sqrt(np.sum(apart * apart, -1) + 0.1))

    for width in (2, 3, 4):
        p = np.random.default_rng(width).standard_normal((count, width))
        found = fg.jit(fg.grad(energy), backend="llvm")(p)
        np.testing.assert_allclose(found, fg.grad(energy)(p), 1e-9, 1e-9)
        again = fg.jit(fg.grad(energy), backend="llvm")(p)
        np.testing.assert_array_equal(found, again)


def test_parts_are_accumulated_in_order() -> None:
    p, m = arrays((900, 3), "float32")
    kernels = fg.jit(PAIRS["sums"], backend="llvm").lower(p, m).kernels
    steps = [
        s.index.step(loop.axes[-1])
        for kernel in kernels
        for loop in kernel.loops()
        for s in loop.body
        if type(s) is Combine
    ]
    assert steps
    assert set(steps) == {1}


@pytest.mark.parametrize("step", [-4, -3, -2, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_steps_up_to_the_last_element(step: int, dtype: str) -> None:
    for n in (1, 5, 32, 127, 129, 257):
        x = (np.arange(n) % 7 < 3).astype(dtype)
        m = np.stack([x, x[::-1], x])
        for first in range(min(abs(step), n)):
            part = slice(first, None, step) if step > 0 else slice(n - 1 - first, None, step)
            program = lambda x, m, part=part: (x[part] == 0, m[:, part] > 0)  # noqa: E731
            agree(fg.jit(program, backend="llvm")(x, m), program(x, m))
