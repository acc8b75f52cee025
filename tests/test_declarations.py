"""What a declaration says is all that the transformations and backends need to know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.declarations import elementwise, linear
from funcgrad.core.primitive import REGISTRY, Samples, sample
from funcgrad.core.view_map import Along, ViewMap

NEEDS_LLVM = pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")
X = np.linspace(-3.0, 3.0, 12_000).reshape(300, 40)

pytestmark = pytest.mark.usefixtures("own_primitives")


def cost(function: Any, *args: Any) -> Any:
    return fg.jit(function, backend="llvm").lower(*args).cost()


def check(function: Any, expected: Any, *args: Any) -> None:
    """By each backend, and as it is, what NumPy gives."""
    for found in (
        function(*args),
        fg.jit(function, backend="numpy")(*args),
        *([fg.jit(function, backend="llvm")(*args)] if HAS_LLVM else []),
    ):
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        rtol = 1e-12 if np.asarray(expected).dtype == np.float64 else 1e-5
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


# --- elementwise ----------------------------------------------------------------------


def _log_cosh(x):
    return np.logaddexp(x, -x) - 0.6931471805599453


def declare_log_cosh() -> Any:
    prim = elementwise("log_cosh", _log_cosh, lambda g, ans, x: g * np.tanh(x), dtypes="f")
    return lambda x: bind(prim, x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.int8])
def test_an_implementation_of_numpy_functions_gives_its_dtype(dtype: Any) -> None:
    log_cosh = declare_log_cosh()
    x = (X * 3).astype(dtype)
    check(log_cosh, _log_cosh(x), x)
    check(fg.vmap(log_cosh), _log_cosh(x), x)


@NEEDS_LLVM
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_an_implementation_of_numpy_functions_fuses(dtype: Any) -> None:
    log_cosh, x = declare_log_cosh(), (X * 3).astype(dtype)

    def around(f: Any) -> Any:
        return lambda x: np.sum(np.sin(f(x)) * x, axis=-1)

    for wrap in (around, lambda f: fg.vmap(around(f))):
        found, expected = cost(wrap(log_cosh), x), cost(wrap(_log_cosh), x)
        assert found.kernels == expected.kernels == 1
        assert found.library_calls == 0


@NEEDS_LLVM
def test_its_gradient_and_its_use_in_a_loop_fuse() -> None:
    log_cosh = declare_log_cosh()
    found = fg.jit(fg.grad(lambda x: np.sum(log_cosh(np.sin(x)) ** 2)), backend="llvm")
    np.testing.assert_allclose(
        found(X), 2 * _log_cosh(np.sin(X)) * np.tanh(np.sin(X)) * np.cos(X), atol=1e-12
    )
    assert found.lower(X).cost().library_calls == 0

    def steps(x: Any) -> Any:
        return fg.fori_loop(0, 3, lambda i, c: log_cosh(c) + x, x)

    assert cost(steps, X).library_calls == 0
    assert cost(steps, X[0, :5]).library_calls == 0


def test_what_looks_at_values_is_called() -> None:
    def impl(x):
        return np.sin(x) if np.all(x > 0) else np.cos(x)

    prim = elementwise("by_value", impl, lambda g, ans, x: g, dtypes="f")
    check(lambda x: bind(prim, x) * 2, np.cos(X) * 2, X)
    check(lambda x: bind(prim, x) * 2, np.sin(X + 4) * 2, X + 4)
    if HAS_LLVM:
        assert cost(lambda x: bind(prim, x) * 2, X).library_calls == 1


@NEEDS_LLVM
def test_a_changed_implementation_is_not_taken_for_the_old_one() -> None:
    """Programs are kept between processes by the names of primitives."""

    def declared(factor: float) -> Any:
        prim = elementwise("scaled", lambda x: x * factor, lambda g, ans, x: g * factor)
        found = fg.jit(lambda x: bind(prim, x), backend="llvm")(X)
        del REGISTRY["scaled"]
        return found

    np.testing.assert_array_equal(declared(2.0), X * 2.0)
    np.testing.assert_array_equal(declared(3.0), X * 3.0)


# --- views ----------------------------------------------------------------------------


def _odd_columns(x):
    return x[:, 1::2].T


def _map(shape: tuple[int, ...]) -> ViewMap:
    return ViewMap(shape, (Along(1, 1, 2), Along(0)))


def _transpose(ct: Any, x: Any) -> Any:
    zeros = np.zeros_like(ct.T)
    return np.stack([zeros, ct.T], axis=-1).reshape(x.shape)


def test_a_view_is_known_by_its_map() -> None:
    prim = linear(
        "odd_columns",
        _odd_columns,
        _transpose,
        shape=lambda x: Aval((x.shape[1] // 2, x.shape[0]), x.dtype),
        batch=lambda *args: None,
        samples=[sample((3, 4))],
        view=_map,
    )

    def f(x: Any) -> Any:
        return np.sum(np.sin(bind(prim, x) + 1.0) * 2.0, axis=0)

    check(f, np.sum(np.sin(_odd_columns(X) + 1.0) * 2.0, axis=0), X)
    check(f, np.sum(np.sin(_odd_columns(X[:3, :4]) + 1.0) * 2.0, axis=0), X[:3, :4])
    if HAS_LLVM:
        found = cost(f, X)
        assert (found.kernels, found.library_calls) == (1, 0)
    gradient = fg.grad(lambda x: np.sum(bind(prim, x) ** 2))(X)
    np.testing.assert_array_equal(gradient[:, 1::2], 2 * X[:, 1::2])
    np.testing.assert_array_equal(gradient[:, ::2], 0)


def test_samples_may_wait_until_they_are_asked_for() -> None:
    made: list[int] = []

    def samples() -> Any:
        made.append(1)
        return [sample((3,)), sample((2, 0))]

    prim = elementwise(
        "tenfold", lambda x: 10 * x, lambda g, ans, x: 10 * g, samples=Samples(samples)
    )
    assert REGISTRY["tenfold"] is prim
    assert not made
    assert [s.args for s in prim.samples] == [((3,),), ((2, 0),)]
    assert (len(prim.samples), made) == (2, [1])
