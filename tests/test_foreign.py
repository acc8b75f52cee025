"""Primitives of users, whose implementations keep what they are given and return what they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.core.binding import bind
from funcgrad.core.declarations import elementwise, nondifferentiable
from funcgrad.core.primitive import sample

pytestmark = pytest.mark.usefixtures("own_primitives")

Function = Callable[..., Any]


def by(backend: str) -> Function:
    return lambda f: fg.jit(f, backend=backend)


MODES: dict[str, Function] = {
    "eager": lambda f: f,
    "vmap": lambda f: lambda x: fg.tree.map(lambda y: y[0], fg.vmap(f)(x[None])),
    "numpy": by("numpy"),
    "grad": lambda f: (
        lambda x: fg.value_and_grad(lambda x: (np.sum(x), f(x)), has_aux=True)(x)[0][1]
    ),
}
if HAS_LLVM:
    MODES["llvm"] = by("llvm")
every_mode = pytest.mark.parametrize("mode", MODES)
# The NumPy backend writes into buffers of the second size that nobody reads any longer.
every_size = pytest.mark.parametrize("n", [3, 5000])


def foreign(impl: Function) -> Function:
    prim = nondifferentiable(
        f"foreign{id(impl)}",
        impl,
        shape=lambda x: x.strong(),
        batch=lambda prim, args, *_: (bind(prim, *args), True),
        samples=[sample((3,))],
    )
    return lambda x: bind(prim, x)


def row(x: np.ndarray) -> np.ndarray:
    """Of what a function gets of a batch of one, or of an array, the array."""
    return x.reshape(-1)


@every_mode
@every_size
@pytest.mark.parametrize("part", [lambda x: x, lambda x: x[..., ::2]])
def test_what_a_function_keeps_stays_as_it_is(part: Function, n: int, mode: str) -> None:
    kept: list[np.ndarray] = []

    def keep(x: np.ndarray) -> np.ndarray:
        kept.append(part(x))
        return x + 0.0

    keep_p = foreign(keep)

    def f(x: Any) -> Any:
        y = keep_p(x * 2.0)
        for k in range(3):
            y = np.sort(np.sin(y) + k)
        z = keep_p(y) * 2.0 + 1.0
        return np.sort(z) + z, y + z

    run, x = MODES[mode](f), np.linspace(0.0, 1.0, n)
    for scale in (1.0, 3.0):
        kept.clear()
        expected = [x * scale * 2.0]
        y = expected[0]
        for k in range(3):
            y = np.sort(np.sin(y) + k)
        for result in run(x * scale):
            result[...] = -1.0
        for found, want in zip(kept, [*expected, y], strict=True):
            np.testing.assert_allclose(row(found), part(want), rtol=1e-12)


@every_mode
@every_size
def test_each_round_of_a_loop_may_keep(n: int, mode: str) -> None:
    kept: list[np.ndarray] = []
    keep_p = foreign(lambda x: kept.append(x) or x * 1.0)

    def step(c: Any, x: Any) -> Any:
        y = keep_p(c + x)
        return fg.cond(np.sum(y) >= 0, lambda: keep_p(y + 1.0), lambda: y), keep_p(x)

    def scan(x: Any) -> Any:
        return fg.scan(step, x * 1.0, np.stack([x, x, x]))

    def whole(x: Any) -> Any:
        return fg.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, keep_p(s[1] + x)), (0, x * 1.0)
        )[1]

    x = np.full(n, 1.0)
    MODES[mode](scan)(x)
    assert sorted(np.unique(k).item() for k in kept) == [1, 1, 1, 2, 3, 4, 5, 6, 7]
    kept.clear()
    MODES[mode](whole)(x)
    assert sorted(np.unique(k).item() for k in kept) == [2, 3, 4]


@every_mode
@every_size
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[...], lambda x: x[::-1][::-1]])
def test_a_result_may_be_the_argument_or_a_view_of_it(view: Function, n: int, mode: str) -> None:
    by_host = foreign(view)
    name = f"foreign elementwise{id(view)}"
    prim = elementwise(name, view, lambda g, ans, x: g, samples=[sample((3,))])

    for function in (by_host, lambda x: bind(prim, x)):
        x = np.full(n, 1.0)

        def f(x: Any, function: Function = function) -> Any:
            y = x * 3.0
            z = function(y)
            return function(x) + 1.0, z * 2.0 + y, function(x)

        run = MODES[mode](f)
        for _ in range(2):
            found = run(x)
            for have, want in zip(found, (2.0, 9.0, 1.0), strict=True):
                np.testing.assert_array_equal(have, np.full(n, want))
            found[2][...] = 50.0
            np.testing.assert_array_equal(x, np.full(n, 1.0))


@every_mode
@every_size
def test_a_result_may_be_an_array_that_changes_later(n: int, mode: str) -> None:
    state = np.zeros((1, n) if mode == "vmap" else n)

    def step(x: np.ndarray) -> np.ndarray:
        state[...] += x
        return state

    step_p = foreign(step)

    def f(x: Any) -> Any:
        first = step_p(x * 1.0) + 0.0 * x
        second = step_p(x * 2.0)
        return first * 10.0 + second, second

    run, x = MODES[mode](f), np.full(n, 1.0)
    for start in (0.0, 3.0):
        found, second = run(x)
        np.testing.assert_array_equal(found, np.full(n, 11.0 * start + 13.0))
        second[...] = -1.0
        np.testing.assert_array_equal(row(state), np.full(n, start + 3.0))


@every_size
@pytest.mark.parametrize("mode", [m for m in MODES if m != "grad"])
def test_derivatives_read_results_as_they_were(n: int, mode: str) -> None:
    state = np.zeros(n)

    def step(x: np.ndarray) -> np.ndarray:
        state[...] += 1.0
        return state if x.ndim == 1 else np.broadcast_to(state, x.shape)

    step_p = foreign(step)

    def loss(x: Any) -> Any:
        return np.sum(x * step_p(x) * 10.0 + x * step_p(x * 2.0))

    np.testing.assert_array_equal(MODES[mode](fg.grad(loss))(np.ones(n)), np.full(n, 12.0))


@every_mode
def test_arguments_are_read_only(mode: str) -> None:
    def write(x: np.ndarray) -> np.ndarray:
        x += 1.0
        return x

    write_p, x = foreign(write), np.ones(3)
    for function in (write_p, lambda x: write_p(x * 2.0)):
        with pytest.raises(ValueError, match="read-only"):
            MODES[mode](function)(x)
    np.testing.assert_array_equal(x, np.ones(3))


@every_mode
def test_several_results_may_be_one_array(mode: str) -> None:
    prim = nondifferentiable(
        "twice the same",
        lambda x: (x, x[...], x),
        shape=lambda x: (x.strong(),) * 3,
        batch=lambda prim, args, *_: (bind(prim, *args), [True] * 3),
        samples=[sample((3,))],
        multiple=True,
    )

    def f(x: Any) -> Any:
        a, b, c = bind(prim, x * 1.0)
        return a + 1.0, b * 2.0, c, a

    for have, want in zip(MODES[mode](f)(np.ones(5000)), (2.0, 2.0, 1.0, 1.0), strict=True):
        np.testing.assert_array_equal(have, np.full(5000, want))
