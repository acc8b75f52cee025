"""Donated arguments: results take their memory where that is safe, and never else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad as fg
from array_programs import ArrayProgram, array_programs
from program_checks import assert_close

pytest.importorskip("llvmlite")

jit = partial(fg.jit, backend="llvm")
N = 1000


def array(seed: int = 0, shape: Any = N, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(dtype)


# --- where it is done -------------------------------------------------------------------


def adam(params: Any, mean: Any, square: Any, grads: Any) -> Any:
    mean = fg.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
    square = fg.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, square, grads)
    params = fg.tree.map(lambda p, m, v: p - 0.01 * m / (np.sqrt(v) + 1e-8), params, mean, square)
    return params, mean, square


@pytest.mark.parametrize("leaves", [1, 40])
def test_an_optimiser_runs_in_place(leaves: int) -> None:
    shapes = [(7 + k, 31) if k % 3 else (200 + k,) for k in range(leaves)]
    trees = [
        {f"p{k}": np.abs(array(99 * t + k, s, np.float32)) for k, s in enumerate(shapes)}
        for t in range(4)
    ]
    expected = adam(*trees)
    step = jit(adam, donate_argnums=(0, 1, 2))
    found = step(*fg.tree.map(np.copy, trees[:3]), trees[3])
    given_ = fg.tree.map(np.copy, trees[:3])
    found = step(*given_, trees[3])
    for g, f, e in zip(*map(fg.tree.leaves, (given_, found, expected)), strict=True):
        assert f is g
        np.testing.assert_allclose(f, e, rtol=1e-6)


SAFE: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: np.sin(x) * 2.0,
    "unchanged": lambda x: x,
    "rows": lambda x: x - np.mean(x, axis=-1, keepdims=True),
    "softmax": lambda x: np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True),
    "columns": lambda x: x - np.mean(x, axis=0, keepdims=True),
    "a reduction as well": lambda x: (x * 2.0, np.sum(x)),
    "one element": lambda x: fg.at(x)[3].set(1.0),
}
UNSAFE: dict[str, Callable[[Any], Any]] = {
    "backwards": lambda x: x[::-1] * 2.0,
    "transposed": lambda x: x.T + x,
    "shifted": lambda x: np.concatenate([x[1:], x[:1]]) + 1.0,
    "gathered": lambda x: x[np.arange(x.shape[0]) // 2] * 2.0,
    "product": lambda x: np.tanh(x @ x),
    "read later": lambda x: (x * 2.0, np.cumsum(x[::-1], axis=0)),
    "broadcast": lambda x: x * x[:1],
    "a column": lambda x: x - x[:, :1],
    "sorted and read": lambda x: np.sort(x, axis=0) * x[::-1],
    "loop": lambda x: fg.fori_loop(0, 3, lambda i, c: np.tanh(c + x.T), x),
}


@pytest.mark.parametrize("name", [*SAFE, *UNSAFE])
def test_results_are_right(name: str) -> None:
    function = {**SAFE, **UNSAFE}[name]
    x = array(1, (40, 40))
    expected = function(x.copy())
    f = jit(function, donate_argnums=0)
    for _ in range(2):
        given_ = x.copy()
        found = f(given_)
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        if name in SAFE:
            assert fg.tree.leaves(found)[0] is given_


@given(array_programs())
@settings(max_examples=30)
def test_random_programs(program: ArrayProgram) -> None:
    args = program.arguments()
    expected = fg.jit(program, backend="numpy")(*args)
    everything = tuple(range(len(args)))
    found = jit(program, donate_argnums=everything)(*[a.copy() for a in args])
    assert_close(found, expected, program.tolerance)
    for k, a in enumerate(found):
        for b in found[k + 1 :]:
            assert not np.may_share_memory(a, b)


# --- where it is not --------------------------------------------------------------------


def frozen(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


AWKWARD: dict[str, Callable[[], np.ndarray]] = {
    "read-only": lambda: frozen(array()),
    "strided": lambda: array(0, 2 * N)[::2],
    "backwards": lambda: array()[::-1],
    "unaligned": lambda: np.frombuffer(bytearray(8 * N + 1), np.uint8)[1:].view(np.float64),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_arrays_that_cannot_be_written_to(name: str) -> None:
    x, y = AWKWARD[name](), array(2)
    before = x.copy()
    found = jit(lambda x, y: x + y, donate_argnums=0)(x, y)
    assert not np.may_share_memory(found, x)
    assert found.flags.writeable
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(found, before + y)


def test_arguments_that_overlap() -> None:
    f = jit(lambda x, y: x + 2.0 * y, donate_argnums=0)
    both = jit(lambda x, y: (x + y, x - y), donate_argnums=(0, 1))
    whole = array(3, 3 * N // 2)
    kept = whole.copy()
    for x, y in ((whole[:N], whole[:N]), (whole[:N], whole[-N:]), (whole[-N:], whole[:N])):
        expected, sums = x + 2.0 * y, (x + y, x - y)
        np.testing.assert_array_equal(f(x, y), expected)
        np.testing.assert_array_equal(whole, kept)
        np.testing.assert_array_equal(both(x, y), sums)
        np.testing.assert_array_equal(whole, kept)
    x, y = whole[:500], whole[500:1000]
    g = jit(lambda x, y: x + 2.0 * y, donate_argnums=0)
    assert g(x, y) is x


def test_other_arguments_stay_as_they_are() -> None:
    x, y, z = array(0), array(1), array(2)
    f = jit(lambda x, y, z: (x + y, y * z, z - x), donate_argnums=1)
    before = x.copy(), z.copy()
    results = f(x, y, z)
    assert sum(r is y for r in results) == 1
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(z, before[1])
    assert not any(r is x or r is z for r in results)


def test_other_dtypes_and_shapes_are_no_match() -> None:
    f = jit(lambda x: (x.astype(np.float32), x[:-1], np.sum(x)), donate_argnums=0)
    x = array()
    before = x.copy()
    f(x)
    np.testing.assert_array_equal(x, before)


# --- which arguments --------------------------------------------------------------------


def test_names_numbers_and_static_arguments() -> None:
    def f(n: int, x: Any, y: Any, *, z: Any) -> Any:
        return n * x, y + z, z * 2.0

    for options, named in (
        ({"donate_argnums": 1}, "x"),
        ({"donate_argnums": -1}, "y"),
        ({"donate_argnames": "z"}, "z"),
        ({"donate_argnames": ("x", "z")}, "xz"),
        ({"donate_argnums": 2, "donate_argnames": "z"}, "yz"),
    ):
        for static in ({}, {"static_argnums": 0}, {"static_argnames": "n"}):
            arrays = {"x": array(0), "y": array(1), "z": array(2)}
            before = {k: v.copy() for k, v in arrays.items()}
            results = jit(f, **options, **static)(3, arrays["x"], arrays["y"], z=arrays["z"])
            expected = f(3, before["x"], before["y"], z=before["z"])
            for found, e in zip(results, expected, strict=True):
                np.testing.assert_array_equal(found, e)
            for name, a in arrays.items():
                assert any(r is a for r in results) == (name in named)
            by_name = {k: v.copy() for k, v in before.items()}
            results = jit(f, **options, **static)(n=3, **by_name)
            for name, a in by_name.items():
                assert any(r is a for r in results) == (name in named)


def test_mistakes() -> None:
    with pytest.raises(fg.errors.ArgumentError, match="donate_argnums has 2"):
        fg.jit(lambda x: x, donate_argnums=2)
    with pytest.raises(fg.errors.ArgumentError, match="donate_argnames has 'y'"):
        fg.jit(lambda x: x, donate_argnames="y")
    with pytest.raises(fg.errors.ArgumentError, match="both static and donated"):
        fg.jit(lambda x, y: x, donate_argnums=(0, 1), static_argnames="x")


def test_numpy_source_overwrites_nothing() -> None:
    x = array()
    before = x.copy()
    found = fg.jit(lambda x: x * 2.0, donate_argnums=0, backend="numpy")(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(found, 2.0 * before)


def test_under_transformations_donation_means_nothing() -> None:
    f = jit(lambda x: np.sum(x * x), donate_argnums=0)
    g = jit(lambda x: x * 2.0, donate_argnums=0)
    x = array()
    before = x.copy()
    fg.grad(f)(x)
    fg.vmap(g)(x.reshape(10, 100))
    fg.grad(lambda x: np.sum(g(x)))(x)
    np.testing.assert_array_equal(x, before)


def test_references_are_counted() -> None:
    import sys

    f = jit(lambda x, y: (x + y, y), donate_argnums=0)
    x, y = array(0), array(1)
    f(x, y)
    before = sys.getrefcount(x), sys.getrefcount(y)
    for _ in range(100):
        f(x, y)
    assert (sys.getrefcount(x), sys.getrefcount(y)) == before
