"""Native programs read an operand only as what it is, whatever object it comes as."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm import backend
from funcgrad.backends.registry import BACKENDS
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Graph, Var
from funcgrad.errors import GraphError

DTYPES = [np.dtype(c) for c in "?bhilqBHILQefdgFDG"]
MODES = ["eager", "numpy", "llvm"]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    BACKENDS.named("llvm")


def native_identity(avals: list[Aval], donated: tuple[int, ...] = ()) -> Any:
    """A native program that gives its operands back, as objects of its own."""
    inputs = [Var(a) for a in avals]
    graph = Graph(inputs, (), inputs)
    return backend._function(backend.prepare(graph), False, donated)


def numbers(dtype: np.dtype) -> list[Any]:
    """Objects that hold a number of this dtype, or one that becomes one."""
    one = np.array(1, dtype)
    spread = np.array([0, 1, 0], dtype)[1:2].reshape(())
    packed = np.zeros(1, np.dtype([("pad", "u1"), ("x", dtype)]))
    packed["x"] = 1
    found = [one, one[()], spread, packed["x"][0], packed["x"].reshape(())]
    found += [pickle.loads(pickle.dumps(one)), one.view(np.ndarray)]
    found += [np.array(1, dtype.newbyteorder()), np.broadcast_to(one, ())]
    python = {"b": [True], "i": [1, True], "u": [1, True], "f": [1, 1.0], "c": [1, 1.0, 1 + 0j]}
    found += python[dtype.kind]
    found += [np.array(1, d) for d in DTYPES if np.can_cast(d, dtype, "same_kind")]
    return found + [d.type(1) for d in DTYPES if np.can_cast(d, dtype, "same_kind")]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weak", [False, True])
def test_numbers_come_as_any_object(dtype: np.dtype, weak: bool) -> None:
    run = native_identity([Aval((), dtype, weak)])
    for given in numbers(dtype):
        (found,) = run(given)
        assert found == 1 and found.dtype == dtype, (given, type(given))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_of_another_kind_are_refused(dtype: np.dtype) -> None:
    run = native_identity([Aval((), dtype)])
    others = [d for d in DTYPES if not np.can_cast(d, dtype, "same_kind")]
    for given in [*(d.type(1) for d in others), *(np.array(1, d) for d in others)]:
        with pytest.raises(GraphError, match="takes"):
            run(given)
    with pytest.raises(GraphError):
        run(np.ones(1, dtype))
    for given in (None, "1", [], object()):
        with pytest.raises((GraphError, TypeError)):
            run(given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("donated", [(), (0,)])
def test_arrays_come_in_any_layout(dtype: np.dtype, donated: tuple[int, ...]) -> None:
    want = np.arange(6).reshape(2, 3).astype(dtype)
    packed = np.zeros((2, 3), np.dtype([("pad", "u1"), ("x", dtype)]))
    packed["x"] = want
    frozen = want.copy()
    frozen.flags.writeable = False
    run = native_identity([Aval((2, 3), dtype)], donated)
    variants = [want.copy(), np.asfortranarray(want), packed["x"], frozen, want.tolist()]
    variants += [pickle.loads(pickle.dumps(want)), want.astype(dtype.newbyteorder())]
    variants += [np.repeat(want, 2, axis=1)[:, ::2]]
    variants += [want.astype(d) for d in DTYPES if np.can_cast(dtype, d, "safe")]
    for given in variants:
        if not np.can_cast(np.asarray(given).dtype, dtype, "same_kind"):
            continue
        (found,) = run(given)
        np.testing.assert_array_equal(found, want)
        assert found.dtype == dtype
    assert not frozen.flags.writeable
    for shape in [(3, 2), (6,), (2, 4), (1, 3), (2, 3, 1), ()]:
        with pytest.raises(GraphError, match="takes"):
            run(np.ones(shape, dtype))


def test_a_call_has_as_many_operands_as_the_program() -> None:
    run = native_identity([Aval((), np.dtype(float)), Aval((2,), np.dtype(float))])
    for operands in [(), (1.0,), (1.0, np.ones(2), 3.0)]:
        with pytest.raises(GraphError, match="operands"):
            run(*operands)


# -- what transformations hand over ------------------------------------------------------


def by(mode: str, fun: Any, **options: Any) -> Any:
    return fun if mode == "eager" else fg.jit(fun, backend=mode, **options)


POINTS: list[Any] = [2.0, np.float64(2), np.array(2.0), np.float32(2), np.array(2, np.float32)]
POINTS += [2 + 1j, np.complex64(2 + 1j), np.array(2 + 1j)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("x", POINTS, ids=lambda x: f"{type(x).__name__}-{np.asarray(x).dtype}")
def test_tangents_and_cotangents_come_as_any_object(mode: str, x: Any) -> None:
    f = by(mode, lambda x: x * 3.0)
    y, pull = fg.vjp(f, x)
    _, pushed = fg.linearize(f, x)
    dtype = np.asarray(y).dtype
    for one in (1.0, dtype.type(1), np.array(1, dtype), np.ones_like(y), np.ones((2,), dtype)[0]):
        if not isinstance(one, np.generic | np.ndarray) and dtype != np.float64:
            continue
        assert pull(one)[0] == 3.0
        tangent = np.asarray(x).dtype.type(1) if not isinstance(one, np.ndarray) else one
        assert fg.jvp(f, (x,), (tangent,))[1] == 3.0
        assert pushed(tangent) == 3.0


CONSUMERS: list[Any] = [
    lambda y, x: np.where(x > 0, y, 1.0),
    lambda y, x: np.maximum(y, 1.0),
    lambda y, x: np.sum(np.stack([y, y])) / 2,
    lambda y, x: np.concatenate([np.reshape(y, (1,)), np.ones(1)])[0],
    lambda y, x: np.broadcast_to(y, (4,))[2],
    lambda y, x: np.reshape(y, (1,))[0],
    lambda y, x: np.squeeze(np.expand_dims(y, 0)),
    lambda y, x: fg.cond(x > 0, lambda y: y, lambda y: -y, y),
    lambda y, x: fg.scan(lambda c, _: (c, None), y, None, 3)[0],
    lambda y, x: fg.fori_loop(0, 40, lambda i, c: c * 1.0, y),
    lambda y, x: np.clip(y, -100.0, 100.0),
    lambda y, x: np.dot(np.ones(3), np.ones(3) * y) / 3,
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", range(len(CONSUMERS)))
def test_derivatives_pass_through_what_follows_a_jitted_function(mode: str, number: int) -> None:
    consume = CONSUMERS[number]
    f = by(mode, lambda x: x * 3.0)
    inner = by(mode, lambda x: f(x) * 1.0)
    for x in (2.0, np.float64(2), np.array(2.0)):
        for g in (f, inner):
            # PLC: a consumer and its function are those of this round.
            def fun(x: Any, g: Any = g) -> Any:
                return consume(g(x), x)

            assert fg.grad(fun)(x) == pytest.approx(3.0)
            assert fg.jvp(fun, (x,), (np.array(1.0),))[1] == pytest.approx(3.0)
            assert fg.linearize(fun, x)[1](np.array(1.0)) == pytest.approx(3.0)
            assert fg.grad(by(mode, fun))(x) == pytest.approx(3.0)
            assert fg.grad(fg.grad(lambda x, fun=fun: fun(x) * x))(x) == pytest.approx(6.0)
            np.testing.assert_allclose(fg.vmap(fg.grad(fun))(np.full(3, 2.0)), 3.0)


@pytest.mark.parametrize("mode", MODES)
def test_integers_and_bools_beside_what_is_differentiated(mode: str) -> None:
    f = by(mode, lambda n, flag, x: np.where(flag, x * n, -x))
    for n in (3, np.int64(3), np.array(3), np.int32(3), np.longlong(3), np.array(3, np.uint8)):
        for flag in (True, np.True_, np.array(True)):
            value, slope = fg.value_and_grad(f, argnums=2)(n, flag, 2.0)
            assert (value, slope) == (6.0, 3.0)
            assert f(n, flag, 2.0) == 6.0


@pytest.mark.parametrize("mode", MODES)
def test_operands_of_loops_come_as_any_object(mode: str) -> None:
    def total(c: Any, xs: Any) -> Any:
        return fg.scan(lambda c, x: (c + x * 1.0, None), c, xs)[0]

    f = by(mode, total)
    for xs in (np.arange(40), np.arange(40.0)[::-1], np.arange(40, dtype=">f8")):
        for c in (0.0, np.float64(0), np.array(0.0)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert f(c, xs) == 780.0
                assert fg.grad(f)(c, xs) == 1.0


def test_donated_arguments_are_arrays_when_they_are_written_to() -> None:
    f = fg.jit(lambda x: x + 1.0, donate_argnums=0, backend="llvm")
    for x in (1.0, np.float64(1), np.array(1.0), np.ones(3), np.ones(3, np.float32)):
        kept = np.array(x)
        for _ in range(3):
            np.testing.assert_array_equal(
                f(np.array(x) if isinstance(x, np.ndarray) else x), kept + 1
            )


def test_integers_beyond_the_dtype_name_the_line() -> None:
    f = fg.jit(lambda n: n + 1, backend="llvm")
    assert f(2**63 - 2) == 2**63 - 1
    assert f(-1) == 0
    with pytest.raises(OverflowError, match="test_llvm_operands"):
        f(2**63)
    assert f(-(2**63)) == 1 - 2**63
