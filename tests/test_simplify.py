"""Simplification changes no bit: NaN, infinities and signed zeros, and integers that wrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.primitives.call import call
from funcgrad.transforms.simplify import simplify

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, -2.5, np.inf, -np.inf, np.nan, 5e-324, 1.7e308]
PAIRS = np.array([(x, y) for x in SPECIAL for y in SPECIAL]).T
DTYPES = ["f8", "f4", "f2", "c16", "i8", "i1", "u1", "u8"]

# Per case, the operations left of it, where there are fewer.
REWRITES: dict[str, tuple[Callable[[Any, Any], Any], list[str] | None]] = {
    "x + (-y)": (lambda x, y: x + (-y), ["sub"]),
    "(-x) + y": (lambda x, y: (-x) + y, ["sub"]),
    "x - (-y)": (lambda x, y: x - (-y), ["add"]),
    "-(-x)": (lambda x, y: np.negative(-x), []),
    "(-x) * (-y)": (lambda x, y: (-x) * (-y), ["mul"]),
    "x * -1": (lambda x, y: x * -1, ["neg"]),
    "x * 1": (lambda x, y: x * 1, []),
    "x / 1": (lambda x, y: x / 1, []),
    "(-x) * 3": (lambda x, y: (-x) * 3, ["mul"]),
    "-(x * 3)": (lambda x, y: -(x * 3), ["mul"]),
    "-(3 * x)": (lambda x, y: -(3 * x), ["mul"]),
    "(-x) / 3": (lambda x, y: (-x) / 3, ["div"]),
    "x * ones": (lambda x, y: x * np.ones_like(x), []),
    "x + zeros": (lambda x, y: x + np.zeros(x.shape, x.dtype), None),
    "x * zeros": (lambda x, y: x * np.zeros(x.shape, x.dtype), None),
    "x - x": (lambda x, y: x - x, None),
    "broadcasts": (lambda x, y: np.broadcast_to(x[:1], x.shape) * y, None),
    "reshapes": (lambda x, y: x.reshape(-1, 1).reshape(1, -1), ["reshape"]),
    "transposes": (lambda x, y: x.reshape(11, 11).T.T, ["reshape"]),
}


def operands(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        if dtype == "c16":
            x, y = PAIRS[0] + 1j * PAIRS[1], PAIRS[1] + 1j * PAIRS[0]
            return x, y
        if dtype[0] == "f":
            return PAIRS[0].astype(dtype), PAIRS[1].astype(dtype)
        limits = np.iinfo(dtype)
        values = np.array([0, 1, 2, 3, 77, 100, limits.max, limits.min, 5, 6, 7], dtype)
        return np.repeat(values, 11), np.tile(values, 11)


def assert_same_bits(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    if found.dtype.kind == "c":
        assert_same_bits(found.real, expected.real)
        assert_same_bits(found.imag, expected.imag)
        return
    np.testing.assert_array_equal(found, expected)
    if found.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REWRITES)
def test_simplified_functions_give_the_same_bits(name: str, dtype: str) -> None:
    function, _ = REWRITES[name]
    x, y = operands(dtype)
    with np.errstate(all="ignore"):
        try:
            expected = function(x, y)
        except OverflowError:
            pytest.skip(f"NumPy has no such {dtype}")
        assert_same_bits(fg.jit(function)(x, y), expected)
        graph = simplify(fg.make_graph(function)(x, y)).check()
        assert_same_bits(run_graph(graph, [x, y])[0], expected)


@pytest.mark.parametrize("name", [n for n, (_, left) in REWRITES.items() if left is not None])
def test_what_is_left(name: str) -> None:
    function, left = REWRITES[name]
    graph = simplify(fg.make_graph(function)(*operands("f8")))
    assert [eqn.prim.name for eqn in graph.eqns] == left


def test_equal_equations_are_shared_and_dead_ones_dropped() -> None:
    def f(x: Any) -> Any:
        np.exp(x)
        return np.sin(x) * np.sin(x), np.sin(x + 0.0) - np.sin(x + -0.0)

    graph = simplify(fg.make_graph(f)(np.ones(3)))
    names = [eqn.prim.name for eqn in graph.eqns]
    # x + 0.0 and x + -0.0 differ where x is -0.0.
    assert sorted(names) == ["add", "add", "mul", "sin", "sin", "sin", "sub"]


def test_never_x_times_zero() -> None:
    x = np.array([np.inf, np.nan, 1.0])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(fg.jit(lambda x: x * 0)(x), [np.nan, np.nan, 0.0])
        np.testing.assert_array_equal(fg.jit(lambda x: x - x)(x), [np.nan, np.nan, 0.0])


def test_calls_are_inlined() -> None:
    inner = fg.jit(lambda x: np.sin(x) * 2.0)
    graph = fg.make_graph(lambda x: x)(np.ones(3))
    body = inner.lower(np.ones(3)).graph
    outs = [Var(a) for a in body.out_avals]
    calling = Graph(graph.inputs, [Eqn(call, graph.inputs, {"graph": body}, outs)], outs).check()
    assert [eqn.prim.name for eqn in simplify(calling).eqns] == ["sin", "mul"]
