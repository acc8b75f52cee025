"""What a branch, a loop's body or an inner function computes belongs to it, run or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors

A = np.arange(5.0)

Function = Callable[..., Any]


def _along(f: Function, x: Any) -> Any:
    return fg.vmap(f)(np.stack([x, x]))[0]


MODES: dict[str, Callable[[Function, Any], Any]] = {
    "eager": lambda f, x: f(x),
    "value of grad": lambda f, x: fg.value_and_grad(f)(x)[0],
    "value of jvp": lambda f, x: fg.jvp(f, (x,), (1.0,))[0],
    "vmap": _along,
    "map": lambda f, x: fg.map(f, np.stack([x]))[0],
    "scan": lambda f, x: fg.scan(lambda c, _: (f(c), None), x, None, 1)[0],
    "numpy": lambda f, x: fg.jit(f, backend="numpy")(x),
    "llvm": lambda f, x: fg.jit(f)(x),
}
GRADIENTS: dict[str, Callable[[Function, Any], Any]] = {
    "grad": lambda f, x: fg.grad(f)(x),
    "jacfwd": lambda f, x: fg.jacfwd(f)(x),
    "linearize": lambda f, x: fg.linearize(f, x)[1](1.0),
    "vmap": lambda f, x: _along(fg.grad(f), x),
    "map": lambda f, x: fg.map(fg.grad(f), np.stack([x]))[0],
    "numpy": lambda f, x: fg.jit(fg.grad(f), backend="numpy")(x),
    "llvm": lambda f, x: fg.jit(fg.grad(f))(x),
    "grad of jit": lambda f, x: fg.grad(fg.jit(f))(x),
    "forward over reverse": lambda f, x: fg.jvp(fg.grad(f), (x,), (1.0,))[0],
    "checkpoint": lambda f, x: fg.grad(fg.checkpoint(f))(x),
}


@pytest.fixture(autouse=True)
def _warnings_fail() -> Any:
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        yield


# Each has a branch that would give NaN, raise or hang where it is not taken, by 0.0 and by 2.0.
SAFE: dict[str, tuple[Function, float]] = {
    "log": (lambda x: fg.cond(x > 5, lambda: np.log(x), lambda: 0.0 * x), 0.0),
    "sqrt": (lambda x: fg.cond(x > 5, lambda: np.sqrt(x), lambda: 0.0 * x), 0.0),
    "quotient": (lambda x: fg.cond(x > 5, lambda: x / (x - x), lambda: 0.0 * x), 0.0),
    "power": (lambda x: fg.cond(x > 5, lambda: (x - 2.0) ** 0.5, lambda: 0.0 * x), 0.0),
    "switch": (
        lambda x: fg.switch((x > 5) * 1, [lambda: 0.0 * x, lambda: np.log(x), lambda: 1 / x]),
        0.0,
    ),
    "loop": (
        lambda x: fg.cond(
            x > 5, lambda: fg.while_loop(lambda s: s < 3, lambda s: s * 1.0, x), lambda: 0.0 * x
        ),
        0.0,
    ),
    "nested": (
        lambda x: fg.cond(
            x > 5,
            lambda: fg.cond(x < 9, lambda: np.log(x), lambda: 1 / x),
            lambda: fg.scan(lambda c, _: (c + 0.0 * x, None), 0.0, None, 2)[0],
        ),
        0.0,
    ),
    "gradient": (
        lambda x: fg.cond(x > 5, lambda: fg.grad(np.sqrt)(x), lambda: 0.0 * x),
        0.0,
    ),
    "gradient at a constant": (
        lambda x: fg.cond(x > 5, lambda: x * fg.grad(np.sqrt)(0.0), lambda: 0.0 * x),
        0.0,
    ),
    "jit": (lambda x: fg.cond(x > 5, lambda: fg.jit(np.log)(x), lambda: 0.0 * x), 0.0),
    "jit of nothing": (
        lambda x: fg.cond(x > 5, lambda: fg.jit(lambda: np.log(x))(), lambda: 0.0 * x),
        0.0,
    ),
    "checkpoint": (
        lambda x: fg.cond(x > 5, lambda: fg.checkpoint(lambda: np.log(x))(), lambda: 0.0 * x),
        0.0,
    ),
    "vmap": (
        lambda x: fg.cond(
            x > 5, lambda: np.sum(fg.vmap(lambda a: np.log(x) * a)(A)), lambda: 0.0 * x
        ),
        0.0,
    ),
    "no steps": (lambda x: fg.scan(lambda c, _: (c + np.log(x), None), 0.0 * x, None, 0)[0], 0.0),
    "no fori": (lambda x: fg.fori_loop(3, 3, lambda i, c: c + np.sqrt(x), 0.0 * x), 0.0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SAFE)
def test_values(name: str, mode: str) -> None:
    f, expected = SAFE[name]
    if name == "loop" and mode in ("value of grad",):
        pytest.skip("reverse mode does not go through while_loop")
    # What is closed over is a plain number there, of which NumPy computes at once.
    with np.errstate(all="ignore" if mode == "eager" else None):
        for x in (0.0, 2.0):
            assert MODES[mode](f, np.float64(x)) == expected


@pytest.mark.parametrize("mode", GRADIENTS)
@pytest.mark.parametrize("name", SAFE)
def test_gradients(name: str, mode: str) -> None:
    if name == "loop" and mode not in ("jacfwd", "linearize"):
        pytest.skip("reverse mode does not go through while_loop")
    f, _ = SAFE[name]
    for x in (0.0, 2.0):
        assert GRADIENTS[mode](f, np.float64(x)) == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_an_index_out_of_range_in_a_branch_that_is_not_taken(mode: str) -> None:
    for i, expected in ((2, 2.0), (7, -1.0)):

        def f(x: Any, i: Any = i) -> Any:
            j = (x * 0).astype(int) + i
            return fg.cond(j < 3, lambda: fg.at(A * 1.0)[j].get(), lambda: -1.0)

        assert MODES[mode](f, np.float64(0.0)) == expected
    for i in (7, np.int64(7)):
        assert fg.cond(i < 3, lambda i=i: A[i], lambda: -1.0) == -1.0
        assert fg.cond(i < 3, lambda i=i: fg.at(A)[i].get(), lambda: -1.0) == -1.0
        assert fg.cond(i > 3, lambda: -1.0, lambda i=i: A[i]) == -1.0
        with pytest.raises(IndexError):
            fg.cond(i > 3, lambda i=i: A[i], lambda: -1.0)


def test_work_in_a_branch_that_is_not_taken_costs_nothing() -> None:
    calls: list[int] = []

    @fg.custom_jvp
    def counted(x: Any) -> Any:
        return x

    @counted.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        calls.append(1)
        return primals[0], tangents[0]

    x = np.ones(3)
    for taken, expected in ((False, 0), (True, 1)):
        calls.clear()
        with fg.debug_nans(), np.errstate(all="ignore"):
            fg.grad(
                lambda x, taken=taken: fg.cond(
                    np.sum(x) * taken > 0, lambda: np.sum(counted(x)), lambda: np.sum(x)
                )
            )(x)
        assert (len(calls) > 0) == (expected > 0)


def test_debug_nans_raises_no_false_alarm() -> None:
    def f(x: Any) -> Any:
        return fg.cond(x > 0, lambda: np.log(x), lambda: x * 2.0)

    with fg.debug_nans(), np.errstate(all="ignore"):
        assert fg.grad(f)(-1.0) == fg.grad(fg.jit(f))(-1.0) == fg.jit(fg.grad(f))(-1.0) == 2.0
        with pytest.raises(errors.NaNError):
            fg.grad(lambda x: fg.cond(x < 0, lambda: np.log(x), lambda: x * 2.0))(-1.0)


def test_checkpoint_of_a_closure_keeps_the_arguments_only() -> None:
    def layer(x: Any) -> Any:
        return np.sum(np.sin(np.exp(np.sin(x))))

    def names(f: Function) -> list[str]:
        return [e.prim.name for e in fg.make_graph(fg.grad(f))(np.ones(3)).eqns]

    assert names(lambda x: fg.checkpoint(lambda: layer(x))()) == names(fg.checkpoint(layer))


def test_values_of_what_is_closed_over_may_be_asked_for() -> None:
    def f(w: Any) -> Any:
        def body(c: Any, _: Any) -> Any:
            c = c * w if w > 1.0 else c
            positive = (V * w)[V * w > 0]
            inner = fg.grad(lambda z: z * z if z > 1.0 else z)(2.0)
            return c + np.sum(positive) * 0.0 + inner * 0.0 + int(w > 0) * 0.0, None

        return fg.scan(body, 1.0, None, 2)[0]

    V = np.array([1.0, -1.0])
    assert fg.value_and_grad(f)(3.0) == (9.0, 6.0)
    with pytest.raises(errors.TracerValueError):
        fg.jit(f)(3.0)


def test_constants_of_a_body_are_folded_where_that_does_no_harm() -> None:
    def body(c: Any, _: Any) -> Any:
        return c + fg.jit(lambda: np.sum(fg.at(A)[1:].get()))(), None

    graph = fg.make_graph(lambda x: fg.scan(body, x, None, 3)[0])(1.0)
    scan = graph.eqns[-1]
    assert [e.prim.name for e in scan.params["body"].eqns] == ["add"]
    risky = fg.make_graph(lambda p: fg.cond(p, lambda: fg.jit(np.log)(-1.0), lambda: 1.0))
    switch = risky(True).eqns[-1]
    assert [e.prim.name for e in switch.params["branches"][1].eqns] == ["log"]


def test_a_recursion_error_leaves_nothing_behind() -> None:
    def deep(x: Any) -> Any:
        return deep(fg.vmap(lambda y: y * 1.0)(x))

    with pytest.raises(RecursionError):
        fg.grad(lambda x: np.sum(deep(x)))(np.ones(3))

    from funcgrad.core.open_recorders import current, deferring

    assert current.top is current.owner is None
    assert not deferring
    fg.vmap(lambda x: x * A)(np.ones(3))
    assert not current.kept


def test_ctrl_c_as_a_recording_ends_leaves_nothing_behind(monkeypatch: Any) -> None:
    from funcgrad.core.open_recorders import current, deferring
    from funcgrad.core.tracer import Recorder

    end = Recorder.__exit__

    def interrupted(self: Any, *error: Any) -> None:
        monkeypatch.setattr(Recorder, "__exit__", end)
        raise KeyboardInterrupt

    def branch(x: Any) -> Any:
        monkeypatch.setattr(Recorder, "__exit__", interrupted)
        return x

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fg.cond(True, branch, lambda x: x, 1.0)
        assert fg.fori_loop(0, 3, lambda i, c: c + 1.0, 0.0) == 3.0
        assert type(fg.at(A)[1].get()) is np.float64
        assert fg.grad(fg.jit(np.sin))(0.0) == 1.0
        assert current.top is current.owner is None
        assert not deferring


TABLE = np.arange(3.0) * 10
LOOKUPS: dict[str, Function] = {
    "get": lambda x, i: x * 0.0 + fg.at(TABLE * 1.0)[i].get(),
    "take": lambda x, i: x * 0.0 + fnp.take(TABLE, i[None])[0],
    "set": lambda x, i: np.sum(fg.at(np.zeros(3))[i].set(x) * TABLE / 10.0) * 10.0 / x,
    "add": lambda x, i: np.sum(fg.at(np.zeros(3))[i].add(x) * TABLE) / x,
    "power": lambda x, i: x * 0.0 + (i**i) * 0.0 + fg.at(TABLE * 1.0)[i].get(),
}


@pytest.mark.parametrize("name", LOOKUPS)
@pytest.mark.parametrize("mode", ["vmap", "vmap of jit", "numpy", "llvm", "grad"])
def test_examples_raise_nothing_in_branches_that_they_do_not_take(name: str, mode: str) -> None:
    look_up = LOOKUPS[name]

    def by_number(x: Any) -> Any:
        return fg.cond(x >= 9, lambda: look_up(x, (x - 9).astype(int)), lambda: -1.0 * x)

    def by_integer(x: Any, i: Any) -> Any:
        return fg.cond(i >= 9, lambda: look_up(x, i - 9), lambda: -1.0 * x)

    batched: dict[str, Callable[..., Any]] = {
        "vmap": fg.vmap,
        "vmap of jit": lambda f: fg.vmap(fg.jit(f)),
        "numpy": lambda f: fg.jit(fg.vmap(f), backend="numpy"),
        "llvm": lambda f: fg.jit(fg.vmap(f)),
        "grad": lambda f: (
            lambda *xs: fg.value_and_grad(
                lambda x: (np.sum(fg.vmap(f)(x, *xs[1:])), fg.vmap(f)(x, *xs[1:])), has_aux=True
            )(xs[0])[0][1]
        ),
    }
    for indices in (np.arange(1, 12), np.arange(1, 5)):
        x = indices * 1.0
        expected = np.where(indices < 9, -x, TABLE[np.maximum(indices - 9, 0)])
        np.testing.assert_allclose(batched[mode](by_number)(x), expected)
        np.testing.assert_allclose(batched[mode](by_integer)(x, indices), expected)
        slopes = fg.grad(lambda x: np.sum(batched["llvm"](by_number)(x)))(x)
        np.testing.assert_allclose(slopes[indices < 9], -1.0)


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">c16", ">i4"])
def test_branches_and_bodies_return_arrays_of_another_byte_order(dtype: str) -> None:
    swapped = np.arange(3).astype(dtype)
    plain = swapped.astype(swapped.dtype.newbyteorder("="))

    def f(p: Any) -> Any:
        first = fg.cond(p, lambda: swapped, lambda: plain * 2)
        second = fg.scan(lambda c, _: (c, swapped), 0, None, 2)[1][1]
        return first, fg.switch(p * 1, [lambda: plain, lambda: swapped]), second

    for p in (True, False):
        batched = fg.vmap(f)(np.array([p]))
        for found in (f(p), fg.jit(f)(p), fg.jit(f, backend="numpy")(p), [b[0] for b in batched]):
            for result, expected in zip(found, (f(p)[0], plain, plain), strict=True):
                assert result.dtype == plain.dtype and result.dtype.isnative
                np.testing.assert_array_equal(result, expected)
