"""Neighbouring runs of one kernel are shared by the threads as one, where they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

LEAVES = 12


def leaves(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"w{i:02}": rng.normal(size=shape) for i in range(LEAVES)}


def copied(tree: Any) -> Any:
    return fg.tree.map(np.copy, tree)


def same(fun: Any, params: Any, rtol: float = 1e-13) -> str:
    """The program's text; its results are those of NumPy's, donated or not."""
    expected = fg.jit(fun, backend="numpy")(params)
    for options in ({}, {"donate_argnums": 0}):
        found = fg.jit(fun, backend="llvm", **options)(copied(params))
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)
    return fg.jit(fun, backend="llvm").lower(params).text


@pytest.mark.parametrize("shape", [(30, 40), (300, 400)])
def test_an_update_of_many_leaves_is_one_run(shape: tuple[int, ...]) -> None:
    def update(params: Any) -> Any:
        return {k: v * 0.5 + np.sin(v) for k, v in params.items()}

    text = same(update, leaves(shape))
    assert text.count("call void @fg_parallel") == 1
    assert "@batch." in text


def test_leaves_that_read_each_other_are_right() -> None:
    names = list(leaves((1,)))

    def mixed(params: Any) -> Any:
        around = [*names[1:], names[0]]
        return {a: params[a] * 0.5 + params[b] for a, b in zip(names, around, strict=True)}

    same(mixed, leaves((300, 400)))


def test_a_chain_is_in_order() -> None:
    def chain(params: Any) -> Any:
        found, last = {}, params["w00"]
        for k, v in params.items():
            last = np.flip(last, 0) * 0.5 + v
            found[k] = last
        return found

    same(chain, leaves((300, 400)))


def test_sums_beside_updates() -> None:
    def step(params: Any) -> Any:
        return {k: np.tanh(v) for k, v in params.items()}, [np.sum(v, 0) for v in params.values()]

    same(step, leaves((300, 400)), rtol=1e-11)
