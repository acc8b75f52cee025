"""Indices that are constant counts: what they pick, with the axes that they do not fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

from funcgrad.backends.loops.nests.iota import counted_axis, is_iota
from funcgrad.core.graph import Const

ROWS, COLUMNS = 100, 130
PICKS = {
    "diagonal": (np.arange(ROWS), np.arange(ROWS)),
    "part of the diagonal": (np.arange(64), np.arange(64)),
    "all rows": (np.arange(ROWS), np.arange(ROWS) * 7 % COLUMNS),
    "some rows": (np.arange(64), np.arange(64) * 7 % COLUMNS),
    "all columns": (np.arange(COLUMNS) * 3 % ROWS, np.arange(COLUMNS)),
    "some columns": (np.arange(64) * 3 % ROWS, np.arange(64)),
    "one column": (np.arange(ROWS), np.full(ROWS, 7)),
    "one of each row": (np.arange(ROWS)[:, None], np.arange(ROWS)[:, None] * 7 % COLUMNS),
    "two of each row": (np.arange(ROWS)[:, None], np.arange(2 * ROWS).reshape(-1, 2) % 7),
    "one of each row twice": (np.arange(ROWS)[:, None], np.full((ROWS, 2), 5)),
    "everything": (np.arange(ROWS)[:, None], np.arange(COLUMNS)[None]),
    "a block": (np.arange(64)[:, None], np.arange(40)[None]),
    "rows of a block": (np.arange(ROWS)[:, None], np.arange(40)[None]),
    "columns of a block": (np.arange(64)[:, None], np.arange(COLUMNS)[None]),
    "unsigned": (np.arange(64, dtype=np.uint8), np.arange(64, dtype=np.uint32)),
}


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def same_by_both(function: Callable[..., Any], *args: Any) -> None:
    found = [fg.jit(function, backend=backend)(*args) for backend in ("numpy", "llvm")]
    for one, other in zip(*map(fg.tree.leaves, found), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("pick", PICKS)
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("before", [np.sin, softmax], ids=["sin", "softmax"])
def test_elements_by_constant_indices(
    pick: str, square: bool, before: Callable[[Any], Any]
) -> None:
    i, j = PICKS[pick]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COLUMNS if square else ROWS, COLUMNS))
    weights = rng.normal(size=np.broadcast(i, j).shape)

    def picked(x: Any) -> Any:
        values = before(x)
        return values, values[i, j] * weights

    same_by_both(picked, x)
    same_by_both(fg.grad(lambda x: picked(x)[1].sum()), x)
    same_by_both(fg.grad(lambda x: (picked(x)[1] ** 2).sum()), x)
    same_by_both(lambda x: fg.at(before(x))[i, j].add(weights), x)
    same_by_both(lambda x: fg.at(before(x))[i, j].set(weights), x)


@pytest.mark.parametrize("count", [1, 2, 64, COLUMNS - 1, COLUMNS])
@pytest.mark.parametrize("reduce", [np.min, np.sum])
def test_the_first_results_of_rows(count: int, reduce: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).normal(size=(COLUMNS, COLUMNS))
    first = np.arange(count)

    def both(x: Any) -> Any:
        rows = reduce(x, axis=1)
        return rows, np.take(rows, first), np.take(x, first, axis=1).sum(0)

    same_by_both(both, x)
    same_by_both(fg.grad(lambda x: (both(x)[1] ** 2).sum() + both(x)[2].sum()), x)


def test_what_counts() -> None:
    def constant(value: Any) -> Const:
        return Const(np.asarray(value))

    assert counted_axis(constant(np.arange(5)), 5) == 0
    assert counted_axis(constant(np.arange(5)[None, :, None]), 5) == 1
    assert counted_axis(constant(np.arange(5)), 6) is None
    assert counted_axis(constant(np.arange(5)), 4) is None
    assert counted_axis(constant(np.arange(1, 6)), 5) is None
    assert counted_axis(constant(np.arange(6).reshape(2, 3)), 6) is None
    assert counted_axis(constant([0]), 1) is None
    assert counted_axis(constant(np.arange(5.0)), 5) is None
    assert is_iota(constant(np.arange(6).reshape(2, 3)))
    assert not is_iota(constant([0, 2, 1]))
