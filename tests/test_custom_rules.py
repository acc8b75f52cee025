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


# --- arrays that rules hold ---------------------------------------------------------------


def with_array_default(w: np.ndarray) -> Any:
    def bwd(_: Any, ct: Any, w: np.ndarray = w) -> Any:
        return (ct * w,)

    return by_vjp(lambda x: x * w, lambda x: (x * w, None), bwd)


def calling_itself(w: np.ndarray) -> Any:
    f = by_jvp(lambda x: x * w, lambda xs, ts: (f(xs[0]), ts[0] * w))
    return f


def by_jvps(w: np.ndarray) -> Any:
    f = fg.custom_jvp(lambda x: x * w)
    f.defjvps(lambda t, ans, x: t * w)
    return f


def by_helper(w: np.ndarray) -> Any:
    def scale(ct: Any) -> Any:
        return ct * w

    return by_vjp(lambda x: x * w, lambda x: (x * w, None), lambda _, ct: (scale(ct),))


def by_module(w: np.ndarray) -> Any:
    """The same by a module of its own, in which `w` is a global."""
    module: dict[str, Any] = {"fg": fg, "w": w}
    exec(
        compile(
            "f = fg.custom_vjp(lambda x: x * w)\n"
            "scale = lambda ct: ct * w\n"
            "f.defvjp(lambda x: (x * w, None), lambda _, ct: (scale(ct),))\n",
            "module.py",
            "exec",
        ),
        module,
    )
    return module["f"]


def undifferentiated(w: np.ndarray) -> Any:
    f = by_vjp(
        lambda w, x: x * w,
        lambda w, x: (x * w, None),
        lambda w, _, ct: (ct * w,),
        nondiff_argnums=0,
    )
    return lambda x: f(w, x)


# What multiplies by an array, which its rules hold.
KEEPERS: dict[str, Callable[[np.ndarray], Any]] = {
    "bwd": lambda w: by_vjp(lambda x: x * w, lambda x: (x * w, None), lambda _, ct: (ct * w,)),
    "jvp": lambda w: by_jvp(lambda x: x * w, lambda xs, ts: (xs[0] * w, ts[0] * w)),
    "default": with_array_default,
    "partial": lambda w: by_vjp(
        lambda x: x * w,
        lambda x: (x * w, None),
        functools.partial(lambda w, _, ct: (ct * w[0],), (w,)),
    ),
    "itself": calling_itself,
    "jvps": by_jvps,
    "helper": by_helper,
    "module": by_module,
    "nondiff": undifferentiated,
}
# Those whose array lies where there can be no copy in its place.
LOST: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda w: (
        lambda held: by_vjp(lambda x: x * w, lambda x: (x * w, None), lambda _, ct: (ct * held[0],))
    )([w]),
    "method": lambda w: by_vjp(lambda x: x * w, lambda x: (x * w, None), Multiplier(w).bwd),
}
DERIVED: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: fg.grad(lambda x: np.sum(f(x))),
    "jvp": lambda f: lambda x: fg.jvp(f, (x,), (np.ones_like(x),))[1],
    "vjp": lambda f: lambda x: fg.vjp(f, x)[1](np.ones_like(x))[0],
    "linearize": lambda f: lambda x: fg.linearize(f, x)[1](np.ones_like(x)),
    "twice": lambda f: fg.grad(lambda x: np.sum(fg.grad(lambda y: np.sum(f(y) * y))(x)) / 2.0),
}


class Multiplier:
    def __init__(self, w: np.ndarray):
        self.w = w

    def bwd(self, _: Any, ct: Any) -> Any:
        return (ct * self.w,)


@every_mode
@pytest.mark.parametrize("derivative", DERIVED)
@pytest.mark.parametrize("keeper", {**KEEPERS, **LOST})
def test_rules_read_what_they_hold_as_it_was(keeper: str, derivative: str, mode: str) -> None:
    for size in (3, 3000):
        w, x = np.full(size, 2.0), np.ones(size)

        def f(x: Any, w: np.ndarray = w) -> Any:
            y = {**KEEPERS, **LOST}[keeper](w)(x)
            w[...] = 50.0
            return y

        try:
            found = MODES[mode](DERIVED[derivative](f))(x)
        except errors.CapturedWriteError:
            # Large arrays are held while values ride along.
            assert keeper in LOST or (size > 3 and mode in ("eager", "vmap"))
        else:
            np.testing.assert_array_equal(found, np.full(size, 2.0))
        assert w.flags.writeable


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("keeper", {**KEEPERS, **LOST})
def test_rules_of_compiled_functions_read_what_these_do(keeper: str, backend: str) -> None:
    for size in (3, 3000):
        w, x = np.full(size, 2.0), np.ones(size)
        f = {**KEEPERS, **LOST}[keeper](w)
        run = fg.jit(lambda x, f=f: f(x) * 1.0, backend=backend)
        run(x)
        w[...] = 50.0
        for derivative in DERIVED.values():
            if keeper in LOST:
                with pytest.raises(errors.CapturedWriteError, match="one of its rules reads"):
                    derivative(run)(x)
            else:
                np.testing.assert_array_equal(derivative(run)(x), np.full(size, 2.0))
        np.testing.assert_array_equal(run(x), np.full(size, 2.0))
        if keeper not in LOST:
            # A new call sees what is there now.
            np.testing.assert_array_equal(
                fg.grad(lambda x, f=f: np.sum(f(x)))(x), np.full(size, 50.0)
            )


WITHIN: dict[str, Callable[[Any], Any]] = {
    "scan": lambda f: lambda x: fg.scan(lambda c, _: (f(c), None), x, None, 2)[0] / 2.0,
    "fori_loop": lambda f: lambda x: fg.fori_loop(0, 2, lambda i, c: f(c), x) / 2.0,
    "map": lambda f: lambda x: fg.map(f, x[None])[0],
    "cond": lambda f: lambda x: fg.cond(x[0] > 0.0, f, lambda x: x, x),
    "checkpoint": lambda f: fg.checkpoint(lambda x: f(x)),
    "jit": lambda f: fg.jit(lambda x: f(x)),
    "vmap": lambda f: lambda x: fg.vmap(f)(x[None])[0],
}


@every_mode
@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("size", [3, 200_000])
def test_rules_within_functions_read_what_they_hold_as_it_was(
    size: int, within: str, mode: str
) -> None:
    for keeper in ("bwd", "jvp"):
        for derivative in ("grad", "jvp", "vjp", "linearize"):
            w, x = np.full(size, 2.0), np.ones(size)

            def f(x: Any, w: np.ndarray = w, keeper: str = keeper) -> Any:
                y = WITHIN[within](KEEPERS[keeper](w))(x)
                w[...] = 50.0
                return y

            try:
                found = MODES[mode](DERIVED[derivative](f))(x)
            except errors.CapturedWriteError:
                assert size > 3
            else:
                np.testing.assert_array_equal(found, np.full(size, 2.0))
            assert w.flags.writeable


@pytest.mark.parametrize("size", [3, 3000])
def test_rules_may_write_to_arrays_of_their_own(size: int) -> None:
    seen, count, log = np.zeros(size), np.zeros(1), []

    def bwd(_: Any, ct: Any) -> Any:
        seen[...] = ct
        count[0] += 1
        log.append(count.copy())
        return (ct * 2.0,)

    f = by_vjp(lambda x: 2.0 * x, lambda x: (2.0 * x, None), bwd)
    for k in range(2):
        found = fg.grad(lambda x: np.sum(f(f(f(x)))))(np.ones(size))
        np.testing.assert_array_equal(found, np.full(size, 8.0))
        np.testing.assert_array_equal(seen, np.full(size, 4.0))
        assert count[0] == len(log) == 3 * (k + 1)


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
