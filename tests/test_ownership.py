"""What transformations return is the caller's alone: in memory of its own, in native order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

X, C, T = np.arange(6.0).reshape(2, 3), np.ones((2, 3)), np.full((2, 3), 2.0)
ROWS = np.ones((1, 3))


def same(*args: Any) -> Any:
    return args[0] if len(args) == 1 else args


RESULTS: dict[str, Callable[[], Any]] = {
    "vmap": lambda: fg.vmap(same)(X),
    "vmap, views": lambda: fg.vmap(lambda x: (x[:2], x.reshape(3, 1), x.T))(X),
    "vmap, constants": lambda: fg.vmap(lambda x: (C, C[0], x))(X),
    "vmap, repeated": lambda: fg.vmap(lambda x: (np.sum(C), x[0] * 0.0 + C[0]))(X),
    "vmap, axes": lambda: fg.vmap(same, in_axes=1, out_axes=1)(X),
    "vmap, not mapped": lambda: fg.vmap(lambda x, y: (y, x), in_axes=(0, None), out_axes=(None, 0))(
        X, C
    ),
    "vmap, casts": lambda: fg.vmap(lambda x: (x.astype(float), np.real(x), +x))(X),
    "cond": lambda: fg.cond(True, same, lambda x: -x, X),
    "cond, views": lambda: fg.cond(True, lambda x: (x.T, x[0]), lambda x: (-x.T, x[1]), X),
    "cond, constants": lambda: fg.cond(False, lambda x: -x, lambda x: C, X),
    "cond, closure": lambda: fg.cond(True, lambda: X, lambda: -X),
    "switch": lambda: fg.switch(0, [same, lambda x: -x], X),
    "scan": lambda: fg.scan(lambda c, x: (c, (x, c, C)), X, ROWS),
    "scan, no steps": lambda: fg.scan(lambda c, x: (c + 1, x), X, ROWS[:0]),
    "map": lambda: fg.map(same, X),
    "fori_loop": lambda: fg.fori_loop(0, 3, lambda i, x: x, X),
    "fori_loop, no steps": lambda: fg.fori_loop(0, 0, lambda i, x: x + 1, X),
    "while_loop": lambda: fg.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1]), (0, X)),
    "vjp": lambda: fg.vjp(lambda x: (x, x.T, C), X)[0],
    "vjp, aux": lambda: fg.vjp(lambda x: (x, (x, C)), X, has_aux=True)[::2],
    "pullback": lambda: fg.vjp(lambda x, y: (x + y, x.T), X, C)[1]((T, T.T)),
    "jvp": lambda: fg.jvp(same, (X,), (T,)),
    "jvp, views": lambda: fg.jvp(lambda x: (x, x.T, x[0]), (X,), (T,)),
    "jvp, constants": lambda: fg.jvp(lambda x: (C, C.T, x), (X,), (T,)),
    "jvp, aux": lambda: fg.jvp(lambda x: (x, (x, C)), (X,), (T,), has_aux=True),
    "linearize": lambda: fg.linearize(same, X)[0],
    "pushforward": lambda: fg.linearize(lambda x: (x, x.T), X)[1](T),
    "grad, aux": lambda: fg.grad(lambda x: (np.sum(x), (x, C, x.T)), has_aux=True)(X),
    "grad": lambda: fg.grad(lambda x: np.sum(x * C))(X),
    "value_and_grad": lambda: fg.value_and_grad(lambda x: (np.sum(x * T), x), has_aux=True)(X),
    "jacrev": lambda: fg.jacrev(same)(X),
    "jacfwd": lambda: fg.jacfwd(same)(X),
    "at.set": lambda: (fg.at(X)[...].set(C), fg.at(X)[:].set(1.0), fg.at(X)[:].apply(lambda x: C)),
    "jit": lambda: fg.jit(lambda x: (x, x.T, x[0], C))(X),
    "jit to NumPy": lambda: fg.jit(lambda x: (x, x.T, x[0], C), backend="numpy")(X),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_share_no_memory(name: str) -> None:
    arrays = [x for x in fg.tree.leaves(RESULTS[name]()) if isinstance(x, np.ndarray)]
    assert arrays or name == "fori_loop, no steps"
    for i, x in enumerate(arrays):
        assert x.flags.writeable
        for other in (X, C, T, ROWS, *arrays[:i]):
            assert not np.shares_memory(x, other)


MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: f,
    "vmap": lambda f: lambda x: fg.tree.map(lambda y: y[0], fg.vmap(f)(x[None])),
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
}


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16"])
@pytest.mark.parametrize("mode", MODES)
def test_results_are_in_native_byte_order(mode: str, dtype: str) -> None:
    foreign = np.arange(1.0, 4.0).astype(">" + dtype)
    native = foreign.astype("=" + dtype)

    def loss(x: Any) -> Any:
        return np.sum(np.real(x * x))

    functions: list[Callable[[Any], Any]] = [
        same,
        fg.grad(loss),
        fg.grad(lambda x: np.sum(np.real(x))),
        lambda x: fg.vjp(same, x)[0],
        lambda x: fg.vjp(lambda x: x[::-1], x)[1](x),
        lambda x: fg.jvp(same, (x,), (x,)),
        lambda x: fg.jvp(lambda x: x * x, (x,), (x,)),
        fg.vmap(same),
        lambda x: fg.cond(True, same, same, x),
        lambda x: fg.scan(lambda c, y: (c, y), x, x),
        lambda x: fg.value_and_grad(lambda x: (loss(x), x), has_aux=True)(x),
        fg.jacrev(lambda x: np.real(x)),
        lambda x: fg.linearize(same, x)[1](x),
    ]
    for f in functions[1 if mode == "eager" else 0 :]:
        found = fg.tree.leaves(MODES[mode](f)(foreign))
        expected = fg.tree.leaves(MODES[mode](f)(native))
        for a, b in zip(found, expected, strict=True):
            assert a.dtype.isnative
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
