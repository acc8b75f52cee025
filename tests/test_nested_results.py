"""Results that belong to an enclosing transformation: what flows through them is not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

# Each gives `a` itself, by way of a transformation of a function that closes over it.
THROUGH: dict[str, Callable[[Any], Any]] = {
    "value_and_grad": lambda a: fg.value_and_grad(lambda x: a)(1.0)[0],
    "aux of grad": lambda a: fg.grad(lambda x: (x * x, a), has_aux=True)(1.0)[1],
    "vjp": lambda a: fg.vjp(lambda x: (a, x), 1.0)[0][0],
    "aux of vjp": lambda a: fg.vjp(lambda x: (x, {"a": a}), 1.0, has_aux=True)[2]["a"],
    "jvp": lambda a: fg.jvp(lambda x: (a, x * x), (1.0,), (1.0,))[0][0],
    "linearize": lambda a: fg.linearize(lambda x: (a, x * x), 1.0)[0][0],
    "aux of jacfwd": lambda a: fg.jacfwd(lambda x: (x, a), has_aux=True)(1.0)[1],
    "vmap": lambda a: fg.vmap(lambda x: a)(np.ones(2))[1],
    "vmap without an axis": lambda a: fg.vmap(lambda x: a, out_axes=None)(np.ones(2)),
    "jit": lambda a: fg.jit(lambda x: a)(1.0),
    "cond": lambda a: fg.cond(True, lambda x: a, lambda x: x, 1.0),
    "scan": lambda a: fg.scan(lambda c, x: (a, c), 0.0, np.ones(3))[0],
    "fori_loop": lambda a: fg.fori_loop(0, 2, lambda i, c: a, 0.0),
    "checkpoint": lambda a: fg.checkpoint(lambda x: a)(1.0),
    "two deep": lambda a: fg.value_and_grad(lambda x: fg.value_and_grad(lambda y: a)(x)[0])(1.0)[0],
}


@pytest.mark.parametrize("name", THROUGH)
def test_outer_values_are_results(name: str) -> None:
    through = THROUGH[name]
    assert through(2.0) == 2.0
    assert fg.jit(through)(2.0) == 2.0
    np.testing.assert_array_equal(fg.vmap(through)(np.arange(2.0)), np.arange(2.0))


@pytest.mark.parametrize("name", THROUGH)
def test_derivatives_flow_through_outer_values(name: str) -> None:
    through = THROUGH[name]

    def cube(a: Any) -> Any:
        return through(a) ** 2 * a

    assert fg.grad(cube)(2.0) == 12.0
    assert fg.jit(fg.grad(cube))(2.0) == 12.0
    assert fg.grad(fg.grad(cube))(2.0) == 12.0
    assert fg.jvp(cube, (2.0,), (1.0,)) == (8.0, 12.0)
    np.testing.assert_array_equal(fg.vmap(fg.grad(cube))(np.arange(2.0)), [0.0, 3.0])


@pytest.mark.parametrize("name", THROUGH)
def test_tracers_that_leaked_are_no_results(name: str) -> None:
    leaked: list[Any] = []
    fg.grad(lambda x: leaked.append(x) or x)(1.0)
    with pytest.raises(fg.errors.LeakedTracerError, match="leaked out of grad"):
        THROUGH[name](leaked[0])
