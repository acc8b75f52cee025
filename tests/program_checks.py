"""What must hold of every program: the checks shared by the tests and the long run.

A program's function takes arrays and gives a tuple of arrays, so that the transformations
below can be stacked in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad as fg
from conftest import HAS_LLVM
from contract import inner, numeric_jvp
from funcgrad.core.evaluate import run_graph
from programs import Program

Function = Callable[..., tuple[Any, ...]]
BATCH = 2


def assert_close(found: Sequence[Any], expected: Sequence[Any], tol: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert np.shape(f) == np.shape(e)
        np.testing.assert_allclose(f, e, rtol=tol, atol=tol)


def backends() -> Sequence[str]:
    """Those that can be used on this machine."""
    return ("numpy", "llvm") if HAS_LLVM else ("numpy",)


def directions(args: Sequence[Any], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=np.shape(a))) for a in args]


def as_function(program: Program) -> Function:
    return lambda *args: (program(*args),)


# --- single transformations -----------------------------------------------------------


def check_recording(program: Program) -> None:
    """Traced, run equation by equation and compiled: the same numbers, type by type."""
    args = program.arguments()
    expected = program(*args)
    graph = fg.make_graph(program)(*args).check()
    assert_close(run_graph(graph, args), [expected])
    assert graph.outputs[0].aval.dtype == np.asarray(expected).dtype
    for backend in backends():
        assert_close([fg.jit(program, backend=backend)(*args)], [expected])


def check_derivatives(program: Program) -> None:
    """vjp is the transpose of jvp; jvp is what finite differences say, where they say anything."""
    args = program.arguments()
    tangents = directions(args, 1)
    out, out_tangent = fg.jvp(program, tuple(args), tuple(tangents))
    again, pullback = fg.vjp(program, *args)
    assert_close([out, again], [program(*args)] * 2)
    (ct,) = directions([out], 2)
    cts = pullback(ct)
    for a, c in zip(args, cts, strict=True):
        assert np.shape(a) == np.shape(c)
    left, right = inner([out_tangent], [ct]), inner(tangents, cts)
    scale = 1 + abs(left) + sum(float(np.sum(np.abs(c))) for c in cts)
    assert abs(left - right) <= 1e-9 * scale
    _, pushforward = fg.linearize(program, *args)
    assert_close([pushforward(*tangents)], [out_tangent])
    if program.smooth:
        expected = numeric_jvp(as_function(program), args, tangents)
        assert_close([out_tangent], expected, tol=1e-6)


def check_symmetry(program: Program) -> None:
    """uᵀHv = vᵀHu for the Hessian of the sum, forward over reverse."""
    args = tuple(program.arguments())
    gradient = fg.grad(lambda *xs: np.sum(program(*xs)), argnums=tuple(range(len(args))))
    u, v = directions(args, 3), directions(args, 4)
    _, hu = fg.jvp(gradient, args, tuple(u))
    _, hv = fg.jvp(gradient, args, tuple(v))
    left, right = inner(hv, u), inner(hu, v)
    assert abs(left - right) <= 1e-8 * (1 + abs(left))


def check_vmap(program: Program) -> None:
    args = program.arguments(batch=BATCH)
    expected = loop(as_function(program))(*args)
    assert_close(fg.vmap(as_function(program))(*args), expected)
    last = [np.moveaxis(a, 0, -1) for a in args]
    (found,) = fg.vmap(as_function(program), in_axes=-1, out_axes=-1)(*last)
    assert_close([np.moveaxis(found, -1, 0)], expected)


# --- compositions ---------------------------------------------------------------------


def weighted(function: Function) -> Callable[..., Any]:
    """A scalar of a function's results; the weights depend on their shapes alone."""

    def total(*args: Any) -> Any:
        outs = function(*args)
        weights = directions(outs, 5)
        scalar = 0.0
        for o, w in zip(outs, weights, strict=True):
            scalar = scalar + np.sum(o * w)
        return scalar

    return total


def grad(function: Function) -> Function:
    return lambda *args: fg.grad(weighted(function), argnums=tuple(range(len(args))))(*args)


def jvp(function: Function) -> Function:
    return lambda *args: fg.jvp(function, args, tuple(directions(args, 6)))[1]


def vmap(function: Function) -> Function:
    return lambda *args: fg.vmap(function)(*[fg.numpy.stack([a, a * 0.5]) for a in args])


def jit(function: Function) -> Function:
    return fg.jit(function)


def loop(function: Function) -> Function:
    """vmap by hand."""

    def looped(*args: Any) -> tuple[Any, ...]:
        rows = [function(*[a[i] for a in args]) for i in range(BATCH)]
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    return looped


def vmap_by_hand(function: Function) -> Function:
    return lambda *args: loop(function)(*[np.stack([a, a * 0.5]) for a in args])


def jvp_by_hand(function: Function) -> Function:
    return lambda *args: tuple(numeric_jvp(function, args, directions(args, 6)))


def grad_by_hand(function: Function) -> Function:
    """Its projections on two directions only: a whole numerical gradient would be slow."""
    scalar = weighted(function)

    def projected(*args: Any) -> tuple[Any, ...]:
        return tuple(
            numeric_jvp(lambda *xs: (scalar(*xs),), args, directions(args, seed))[0]
            for seed in (7, 8)
        )

    return projected


def project(gradient: Function) -> Function:
    """What `grad_by_hand` gives, from the gradient."""

    def projected(*args: Any) -> tuple[Any, ...]:
        cts = gradient(*args)
        return tuple(inner(cts, directions(args, seed)) for seed in (7, 8))

    return projected


TRANSFORMS: dict[str, Callable[[Function], Function]] = {
    "grad": grad,
    "jvp": jvp,
    "vmap": vmap,
    "jit": jit,
}
REFERENCES: dict[str, tuple[Callable[[Function], Function], float]] = {
    "grad": (grad_by_hand, 2e-6),
    "jvp": (jvp_by_hand, 2e-6),
    "vmap": (vmap_by_hand, 1e-9),
    "jit": (lambda function: function, 1e-9),
}


def check_composition(outer: str, inner_name: str, program: Program) -> None:
    """outer(inner(f)), against the outer transformation done by hand of inner(f)."""
    args = program.arguments()
    inside = TRANSFORMS[inner_name](as_function(program))
    found = TRANSFORMS[outer](inside)
    if outer == "grad":
        found = project(found)
    by_hand, tol = REFERENCES[outer]
    assert_close(found(*args), by_hand(inside)(*args), tol)


def check_compiled(program: Program) -> None:
    """Each backend computes the same, also derivatives, and of many examples at once."""
    scalar = weighted(as_function(program))
    gradient = fg.grad(scalar, argnums=tuple(range(len(program.inputs))))
    one, many = program.arguments(), program.arguments(batch=37)
    for function, args in ((gradient, one), (fg.vmap(program), many), (fg.vmap(gradient), many)):
        found = [fg.tree.leaves(fg.jit(function, backend=b)(*args)) for b in backends()]
        for other in found[1:]:
            assert_close(other, found[0])


def check_all(program: Program) -> None:
    """Every check that applies to the program."""
    check_recording(program)
    check_derivatives(program)
    check_vmap(program)
    check_compiled(program)
    if program.smooth:
        check_symmetry(program)
        for outer in TRANSFORMS:
            for inner_name in TRANSFORMS:
                check_composition(outer, inner_name, program)
