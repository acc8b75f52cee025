"""What rules of custom functions close over, keep and return, under every transformation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

X = np.array([0.5, -1.0, 2.0])
MODES: dict[str, Callable[[Any], Any]] = {
    "eager": lambda f: f,
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
    "vmap": lambda f: lambda x: fg.tree.map(lambda y: y[0], fg.vmap(f)(np.asarray(x)[None])),
}
every_mode = pytest.mark.parametrize("mode", MODES)


def by_vjp(fun: Any, fwd: Any, bwd: Any, **options: Any) -> Any:
    made = fg.custom_vjp(fun, **options)
    made.defvjp(fwd, bwd)
    return made


def by_jvp(fun: Any, jvp: Any) -> Any:
    made = fg.custom_jvp(fun)
    made.defjvp(jvp)
    return made


# --- tracers that rules hold --------------------------------------------------------------


class Holder:
    """Rules that are methods."""

    def __init__(self, s: Any):
        self.s = s

    def fwd(self, y: Any) -> Any:
        return 2.0 * y, (self.s, "name")

    def bwd(self, kept: Any, ct: Any) -> Any:
        return (ct * (self.s + kept[0]) / 2.0,)


def with_default(s: Any) -> Any:
    def bwd(_: Any, ct: Any, s: Any = s) -> Any:
        return (ct * s,)

    return bwd


# Functions of y with the derivative s, of which they say nothing themselves.
HOLDERS: dict[str, Callable[[Any], Any]] = {
    "bwd": lambda s: by_vjp(lambda y: 2.0 * y, lambda y: (2.0 * y, None), lambda _, ct: (ct * s,)),
    "residual": lambda s: by_vjp(
        lambda y: 2.0 * y, lambda y: (2.0 * y, {"s": (s, 1)}), lambda kept, ct: (ct * kept["s"][0],)
    ),
    "fwd": lambda s: by_vjp(
        lambda y: 2.0 * y, lambda y: (2.0 * y, 1.0 * s), lambda kept, ct: (ct * kept,)
    ),
    "jvp": lambda s: by_jvp(lambda y: 2.0 * y, lambda ys, ts: (2.0 * ys[0], ts[0] * s)),
    "list": lambda s: (
        lambda held: by_vjp(
            lambda y: 2.0 * y, lambda y: (2.0 * y, None), lambda _, ct: (ct * held[0],)
        )
    )([s]),
    "default": lambda s: by_vjp(lambda y: 2.0 * y, lambda y: (2.0 * y, None), with_default(s)),
    "partial": lambda s: by_vjp(
        lambda y: 2.0 * y,
        lambda y: (2.0 * y, None),
        functools.partial(lambda s, _, ct: (ct * s,), s),
    ),
    "method": lambda s: by_vjp(lambda y: 2.0 * y, Holder(s).fwd, Holder(s).bwd),
    "value": lambda s: by_vjp(
        lambda y: 2.0 * y,
        lambda y: (2.0 * y, None),
        lambda _, ct: (ct * s if np.shape(s) == () else np.sum(s) * ct,),
    ),
}
DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: fg.grad(f),
    "vjp": lambda f: lambda x: fg.vjp(f, x)[1](np.ones_like(x))[0],
    "jvp": lambda f: lambda x: fg.jvp(f, (x,), (np.ones_like(x),))[1],
    "linearize": lambda f: lambda x: fg.linearize(f, x)[1](np.ones_like(x)),
    "inner grad": lambda f: lambda x: fg.grad(lambda y: f(x) + 0.0 * y)(1.0) + fg.grad(f)(x),
}


@every_mode
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_rules_may_hold_tracers_of_what_is_differentiated(
    holder: str, derivative: str, mode: str
) -> None:
    def f(x: Any) -> Any:
        return HOLDERS[holder](3.0 * x)(x)

    assert MODES[mode](DERIVATIVES[derivative](f))(1.5) == 4.5


@every_mode
@pytest.mark.parametrize("holder", HOLDERS)
def test_rules_may_hold_tracers_of_enclosing_derivatives(holder: str, mode: str) -> None:
    def slope(s: Any) -> Any:
        return fg.grad(lambda x: HOLDERS[holder](s * s)(x))(1.0)

    assert MODES[mode](slope)(3.0) == 9.0
    assert MODES[mode](fg.grad(slope))(3.0) == 6.0


def test_rules_may_ask_for_values_of_what_they_hold() -> None:
    def f(x: Any) -> Any:
        s = 3.0 * x
        g = by_vjp(
            lambda y: 2.0 * y,
            lambda y: (2.0 * y, None),
            lambda _, ct: (ct * (s if s > 0 else -s),),
        )
        return g(x)

    assert fg.grad(f)(2.0) == 6.0
    assert fg.grad(f)(-2.0) == 6.0


# --- arrays that the user writes to -------------------------------------------------------


def scaled(w: np.ndarray, where: str) -> Any:
    """x * w, whose rules have w from where the name says."""
    if where == "residual":
        return by_vjp(lambda x: x * w, lambda x: (x * w, w), lambda w, ct: (ct * w,))
    if where == "residual in a dict":
        return by_vjp(
            lambda x: x * w, lambda x: (x * w, {"w": [w]}), lambda kept, ct: (ct * kept["w"][0],)
        )
    if where == "view":
        return by_vjp(lambda x: x * w, lambda x: (x * w, w[:]), lambda w, ct: (ct * w,))
    if where == "jvp":
        return by_jvp(lambda x: x * w, lambda xs, ts: (xs[0] * w, ts[0] * w))
    # w itself is a result.
    product = by_vjp(lambda x: w, lambda x: (w, None), lambda _, ct: (0.0 * ct,))
    return lambda x: x * product(x)


PLACES = ["residual", "residual in a dict", "view", "jvp", "result"]
SIZES = [3, 3000, 200_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", PLACES)
def test_rules_read_arrays_as_they_were_when_recorded(where: str, size: int) -> None:
    w, x = np.full(size, 2.0), np.full(size, 3.0)
    y, pull = fg.vjp(scaled(w, where), x)
    w[...] = 50.0
    for _ in range(2):
        np.testing.assert_array_equal(pull(np.ones(size))[0], np.full(size, 2.0))
    np.testing.assert_array_equal(y, np.full(size, 6.0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("derivative", ["grad", "jvp"])
@pytest.mark.parametrize("where", PLACES)
def test_rules_read_arrays_as_they_were_when_called(where: str, derivative: str, size: int) -> None:
    if where == "jvp" and derivative == "jvp":
        pytest.skip("a jvp rule is run when the tangents are known")
    w, x = np.full(size, 2.0), np.full(size, 3.0)

    def f(x: Any) -> Any:
        y = np.sum(scaled(w, where)(x))
        w[...] = 50.0
        return y

    expected = 2.0 if derivative == "grad" else 2.0 * size
    try:
        found = fg.grad(f)(x) if derivative == "grad" else fg.jvp(f, (x,), (np.ones(size),))[1]
    except errors.CapturedWriteError:
        assert size > 3
    else:
        np.testing.assert_array_equal(found, np.full(np.shape(found), expected))
    assert w.flags.writeable


# --- what rules return --------------------------------------------------------------------


def _fwd_with_another_structure(x: Any) -> Any:
    return (x,), None


def _fwd_with_another_shape(x: Any) -> Any:
    return np.sum(x), None


def _fwd_with_another_dtype(x: Any) -> Any:
    return {"y": (2 * x).astype(np.float32)}, None


def _jvp_with_another_structure(xs: Any, ts: Any) -> Any:
    return xs[0], ts[0]


def _jvp_with_another_shape(xs: Any, ts: Any) -> Any:
    return {"y": np.sum(xs[0])}, {"y": np.sum(ts[0])}


@every_mode
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (_fwd_with_another_structure, r"fwd rule returns another structure"),
        (_fwd_with_another_shape, r"fwd rule returns another structure"),
        (_fwd_with_another_dtype, r"fwd rule returns f32\[3\] at \['y'\].*f64\[3\]"),
        (_jvp_with_another_structure, r"jvp rule returns another structure"),
        (_jvp_with_another_shape, r"jvp rule returns f64\[\] at \['y'\].*f64\[3\]"),
    ],
)
def test_rules_return_what_the_function_returns(rule: Any, message: str, mode: str) -> None:
    def function(x: Any) -> Any:
        return {"y": 2 * x}

    if "fwd" in rule.__name__:
        f = by_vjp(function, rule, lambda _, ct: (ct["y"],))
    else:
        f = by_jvp(function, rule)

    with pytest.raises(errors.CustomRuleError, match=message) as caught:
        MODES[mode](fg.grad(lambda x: np.sum(f(x)["y"])))(X)
    assert f"the rule is at {__file__}:{rule.__code__.co_firstlineno}" in str(caught.value)


def test_the_function_is_looked_at_once_and_may_ask_for_values() -> None:
    traced = 0

    def function(x: Any) -> Any:
        nonlocal traced
        traced += 1
        return x if x > 0 else -x

    f = by_vjp(function, lambda x: (np.abs(x), x), lambda x, ct: (ct * np.sign(x),))
    for x in (2.0, -2.0, 3.0):
        assert fg.grad(f)(x) == np.sign(x)
    assert traced == 1


@every_mode
def test_complex_cotangents_of_real_arguments_are_refused(mode: str) -> None:
    f = by_vjp(lambda x: 2 * x, lambda x: (2 * x, None), lambda _, ct: (1j * ct,))
    with pytest.raises(errors.CustomRuleError, match="imaginary part"):
        MODES[mode](fg.grad(lambda x: np.sum(f(x))))(X)
    g = by_jvp(lambda x: 2 * x, lambda xs, ts: (2 * xs[0], 1j * ts[0]))
    with pytest.raises(errors.CustomRuleError, match="imaginary part"):
        MODES[mode](fg.grad(lambda x: np.sum(g(x))))(X)


def _cubed(x: Any, t: Any) -> Any:
    return fg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, t))[1]


@every_mode
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_rules_without_reverse_mode_are_refused_where_they_are_needed(kind: str, mode: str) -> None:
    if kind == "jvp":
        f = by_jvp(lambda x: x**4, lambda xs, ts: (xs[0] ** 4, 4.0 * _cubed(xs[0], ts[0])))
    else:
        slope = fg.grad(lambda x: np.sum(_cubed(x, x)))
        f = by_vjp(lambda x: x**4, lambda x: (x**4, slope(x)), lambda slope, ct: (ct * slope,))

    with pytest.raises(errors.NotDifferentiableError, match="while_loop"):
        MODES[mode](fg.grad(lambda x: np.sum(f(x) + x)))(X)
    found = MODES[mode](fg.grad(lambda x: (np.sum(x * x), f(x)), has_aux=True))(X)
    np.testing.assert_allclose(found[0], 2.0 * X)
    np.testing.assert_allclose(found[1], X**4)


@every_mode
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_python_numbers_beside_float32_stay_weak(kind: str, mode: str) -> None:
    if kind == "vjp":
        f = by_vjp(
            lambda x, y: x * y,
            lambda x, y: (x * y, (x, y)),
            lambda kept, ct: (np.sum(ct * kept[1]), ct * kept[0]),
        )
    else:
        f = by_jvp(
            lambda x, y: x * y,
            lambda xs, ts: (xs[0] * xs[1], ts[0] * xs[1] + xs[0] * ts[1]),
        )
    value, gradient = MODES[mode](fg.value_and_grad(lambda y: np.sum(f(2.0, y))))(
        np.ones(3, np.float32)
    )
    assert value.dtype == gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, np.full(3, 2.0, np.float32))
