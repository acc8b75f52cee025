"""Functions with derivative rules of their own, under every transformation."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

X = np.array([0.5, -1.0, 2.0])


# Rules that are wrong on purpose show that they are what is used.


@fg.custom_jvp
def threefold(x):
    return np.sin(x)


@threefold.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return threefold(x), 3 * np.cos(x) * t


@fg.custom_vjp
def fivefold(x, y):
    return np.sin(x) * y


fivefold.defvjp(
    lambda x, y: (fivefold(x, y), (x, y)),
    lambda kept, ct: (5 * np.cos(kept[0]) * kept[1] * ct, np.sin(kept[0]) * ct),
)


def plain_threefold(x):
    # Its derivatives of all orders are those that the rule gives.
    return 3 * np.sin(x) - 2 * fg.stop_gradient(np.sin(x))


def test_without_transformation_the_function_itself_runs():
    np.testing.assert_array_equal(threefold(X), np.sin(X))
    np.testing.assert_array_equal(fivefold(X, 2.0), np.sin(X) * 2.0)
    assert threefold.__name__ == "threefold"


FORMS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "inner jit": lambda f: f,
    "vmap": lambda f: lambda x: fg.vmap(f)(x),
    "jit of vmap": lambda f: fg.jit(fg.vmap(f)),
    "vmap of jit": lambda f: fg.vmap(fg.jit(f)),
}


@pytest.mark.parametrize("form", FORMS)
def test_custom_jvp_in_both_modes(form):
    transform = FORMS[form]
    f = fg.jit(threefold) if form == "inner jit" else threefold
    expected = 3 * np.cos(X)
    each = transform(fg.grad(f)) if "vmap" in form else transform(lambda x: elementwise(f, x))
    np.testing.assert_allclose(each(X), expected)
    forward = transform(lambda x: fg.jvp(f, (x,), (np.ones_like(x),))[1])
    np.testing.assert_allclose(forward(X), expected)


def elementwise(f, x):
    return fg.grad(lambda x: np.sum(f(x)))(x)


@pytest.mark.parametrize("form", ["eager", "jit", "inner jit"])
def test_custom_vjp_in_reverse_mode(form):
    f = fg.jit(fivefold) if form == "inner jit" else fivefold
    grads = FORMS[form](fg.grad(lambda x, y: np.sum(f(x, y)), argnums=(0, 1)))(X, X + 1)
    np.testing.assert_allclose(grads[0], 5 * np.cos(X) * (X + 1))
    np.testing.assert_allclose(grads[1], np.sin(X))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("order", ["grad of vmap", "vmap of grad"])
def test_custom_vjp_batched(axes, order):
    x = X if axes[0] == 0 else X[0]
    y = X + 1 if axes[1] == 0 else X[0]
    if order == "grad of vmap":
        both = fg.grad(lambda x, y: np.sum(fg.vmap(fivefold, axes)(x, y)), argnums=(0, 1))
    else:

        def both(x, y):
            dx, dy = fg.vmap(fg.grad(fivefold, argnums=(0, 1)), axes)(x, y)
            return dx if axes[0] == 0 else dx.sum(), dy if axes[1] == 0 else dy.sum()

    dx, dy = 5 * np.cos(x) * y, np.broadcast_to(np.sin(x), X.shape)
    for transform in (lambda f: f, fg.jit):
        found = transform(both)(x, y)
        np.testing.assert_allclose(found[0], dx if axes[0] == 0 else dx.sum())
        np.testing.assert_allclose(found[1], dy if axes[1] == 0 else dy.sum())


@pytest.mark.parametrize("x_axis", [0, None])
def test_custom_jvp_batched_before_it_is_differentiated(x_axis):
    @fg.custom_jvp
    def product(x, y):
        return x * y

    product.defjvps(lambda t, ans, x, y: 7 * t * y, lambda t, ans, x, y: t * x)
    x = X if x_axis == 0 else 2.0

    def f(x, y):
        return np.sum(fg.vmap(product, (x_axis, 0))(x, y))

    expected = 7 * X if x_axis == 0 else 7 * X.sum()
    np.testing.assert_allclose(fg.grad(f)(x, X), expected)
    np.testing.assert_allclose(fg.jit(fg.jacfwd(f))(x, X), expected)


@pytest.mark.parametrize("f", [threefold, lambda x: fivefold(x, 1.0)], ids=["jvp", "vjp"])
@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_inside_scan_cond_and_checkpoint(f, transform):
    factor = 3 if f is threefold else 5

    def loss(xs):
        def step(c, x):
            y = fg.cond(x > 0, f, lambda x: x, x)
            return c + y, fg.checkpoint(f)(x)

        total, ys = fg.scan(step, 0.0, xs)
        return total + np.sum(ys)

    expected = factor * np.cos(X) * np.where(X > 0, 2, 1) + np.where(X > 0, 0, 1)
    np.testing.assert_allclose(transform(fg.grad(loss))(X), expected)


def test_higher_derivatives_differentiate_the_rule():
    for transform in (lambda f: f, fg.jit):
        for outer in (fg.grad, fg.jacfwd, fg.jacrev):
            second = transform(outer(fg.grad(threefold)))
            np.testing.assert_allclose(second(0.5), -3 * np.sin(0.5))
            second = transform(outer(fg.grad(lambda x: fivefold(x, 1.0))))
            np.testing.assert_allclose(second(0.5), -5 * np.sin(0.5))
        third = transform(fg.grad(fg.grad(fg.grad(threefold))))
        np.testing.assert_allclose(third(0.5), -3 * np.cos(0.5))
        np.testing.assert_allclose(
            transform(fg.hessian(lambda x: np.sum(threefold(x))))(X), np.diag(-3 * np.sin(X))
        )


def test_python_control_flow_on_values_under_grad():
    @fg.custom_jvp
    def f(x):
        return x if x > 0 else 0 * x

    @f.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return f(x), (2 * t if x > 0 else -t)

    assert fg.grad(f)(1.0) == 2.0 and fg.grad(f)(-1.0) == -1.0

    @fg.custom_vjp
    def g(x):
        return abs(float(x)) * 1.0 if x > 0 else x

    g.defvjp(lambda x: (g(x), bool(x > 0)), lambda positive, ct: (ct * (4 if positive else 6),))
    assert fg.grad(g)(1.0) == 4.0 and fg.grad(g)(-1.0) == 6.0


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_nested_batches_and_residuals_that_are_no_arrays(transform):
    @fg.custom_vjp
    def total(x):
        return np.sum(x)

    def bwd(kept, ct):
        shape, name, x = kept
        assert name == "x"
        return (np.broadcast_to(ct, shape) * x,)

    total.defvjp(lambda x: (np.sum(x), (x.shape, "x", x)), bwd)
    x = np.arange(24.0).reshape(2, 3, 4)
    twice = fg.vmap(fg.vmap(total))
    np.testing.assert_array_equal(
        transform(fg.grad(lambda x: np.sum(twice(x) ** 2)))(x), 2 * x.sum(2, keepdims=True) * x
    )


class Point(NamedTuple):
    x: np.ndarray
    label: int


def test_pytrees_and_integers():
    @fg.custom_vjp
    def f(point, weights):
        return {"y": point.x * weights["w"], "n": point.label + 1}

    def bwd(kept, ct):
        point, weights = kept
        return Point(2 * ct["y"] * weights["w"], None), {"w": ct["y"] * point.x, "unused": None}

    f.defvjp(lambda point, weights: (f(point, weights), (point, weights)), bwd)

    def loss(point, weights):
        return np.sum(f(point, weights)["y"])

    weights = {"w": X + 1, "unused": X}
    grads = fg.grad(loss, argnums=1)(Point(X, 3), weights)
    np.testing.assert_array_equal(grads["w"], X)
    np.testing.assert_array_equal(grads["unused"], np.zeros(3))
    grads = fg.jit(fg.grad(lambda x: loss(Point(x, 3), weights)))(X)
    np.testing.assert_array_equal(grads, 2 * (X + 1))


def test_nondiff_argnums():
    def apply(f, x, n):
        return f(x) ** n

    by_jvp = fg.custom_jvp(apply, nondiff_argnums=(0, 2))

    @by_jvp.defjvp
    def _(f, n, primals, tangents):
        (x,), (t,) = primals, tangents
        return by_jvp(f, x, n), 10 * n * t * f(x)

    by_vjp = fg.custom_vjp(apply, nondiff_argnums=(0, 2))
    by_vjp.defvjp(lambda f, x, n: (apply(f, x, n), x), lambda f, n, x, ct: (10 * n * ct * f(x),))
    for custom in (by_jvp, by_vjp):
        for transform in (lambda f: f, fg.jit):
            found = transform(fg.grad(lambda x, c=custom: c(np.exp, x, 2)))(0.5)
            np.testing.assert_allclose(found, 20 * np.exp(0.5))
        traced = fg.jit(lambda x, n, c=custom: fg.grad(lambda x: c(np.exp, x, n))(x))
        np.testing.assert_allclose(traced(0.5, 3), 30 * np.exp(0.5))
        outside = fg.grad(fg.jit(lambda x, n, c=custom: c(np.exp, x, n)))
        np.testing.assert_allclose(outside(0.5, 3), 30 * np.exp(0.5))


def test_keyword_arguments_and_defaults():
    @fg.custom_jvp
    def f(x, scale=2.0):
        return x * scale

    f.defjvps(lambda t, ans, x, scale: 100 * t * scale, None)
    assert fg.grad(f)(1.0) == 200.0
    assert fg.grad(lambda x: f(x, scale=3.0))(1.0) == 300.0
    assert fg.grad(lambda x: f(scale=3.0, x=x))(1.0) == 300.0

    keyword_only = fg.custom_jvp(lambda x, *, scale: x)
    keyword_only.defjvps(lambda t, ans, x: t)
    with pytest.raises(errors.ArgumentError, match="scale"):
        keyword_only(1.0, scale=2.0)


def closing_over(scale, kind):
    """A custom function, whose rules close over `scale` as the function does."""
    if kind == "jvp":
        f = fg.custom_jvp(lambda x: x * scale)
        f.defjvp(lambda primals, tangents: (f(*primals), 2 * tangents[0] * scale))
    else:
        f = fg.custom_vjp(lambda x: x * scale)
        f.defvjp(lambda x: (x * scale, None), lambda _, ct: (2 * ct * scale,))
    return f


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_closing_over_tracers(kind):
    def inner_grad(x, scale):
        return fg.grad(closing_over(scale, kind))(x)

    def inner_jit(x, scale):
        return fg.grad(fg.jit(lambda x: closing_over(scale, kind)(x)))(x)

    def scanned(x, scale):
        def step(c, _):
            return c, closing_over(scale, kind)(c)

        return fg.grad(lambda x: fg.scan(step, x, None, 3)[1][2])(x)

    for f in (inner_grad, inner_jit, scanned):
        assert f(1.0, 3.0) == fg.jit(f)(1.0, 3.0) == 6.0
        np.testing.assert_array_equal(fg.vmap(f, (None, 0))(1.0, X), 2 * X)
        # The derivative is an expression of the scale, so it has derivatives by it.
        assert fg.grad(f, argnums=1)(1.0, 3.0) == 2.0
        assert fg.jit(fg.grad(f, argnums=1))(1.0, 3.0) == 2.0


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_closing_over_tracers_of_a_recording_that_has_ended(kind):
    compiled = fg.jit(lambda x, scale: closing_over(scale, kind)(x))
    np.testing.assert_array_equal(fg.grad(compiled)(1.0, 3.0), 6.0)
    np.testing.assert_array_equal(fg.jit(fg.grad(compiled))(1.0, 3.0), 6.0)
    batched = fg.vmap(lambda x, scale: closing_over(scale, kind)(x), (0, None))
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(batched(x, 3.0)))(X), [6.0] * 3)


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_derivatives_by_what_is_closed_over_are_refused(kind, transform):
    def f(x, scale):
        return closing_over(scale, kind)(x)

    with pytest.raises(errors.NotDifferentiableError, match="closes over"):
        transform(fg.grad(f, argnums=(0, 1)))(1.0, 3.0)
    stopped = transform(fg.grad(lambda x: closing_over(fg.stop_gradient(x), kind)(x)))
    assert stopped(3.0) == 6.0


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_forward_mode_transposes_a_vjp_rule(transform):
    def push(x, y, dx, dy):
        return fg.jvp(fivefold, (x, y), (dx, dy))[1]

    expected = 5 * np.cos(X) * 2.0 * X + np.sin(X) * np.ones(3)
    found = transform(lambda x: push(x, np.full(3, 2.0), x, np.ones(3)))(X)
    np.testing.assert_allclose(found, expected)
    batched = transform(lambda x: fg.jvp(fg.vmap(fivefold, (0, None)), (x, 2.0), (x, 1.0))[1])
    np.testing.assert_allclose(batched(X), expected)
    through = transform(fg.grad(lambda x: np.sum(push(x, 2.0 + 0 * x, x, 1.0 + 0 * x))))
    np.testing.assert_allclose(through(X), 10 * (np.cos(X) - X * np.sin(X)) + np.cos(X), atol=1e-12)


@pytest.mark.parametrize(
    ("backward", "culprit"),
    [
        (lambda x, ct: np.clip(ct, -1, 1), "maximum"),
        (lambda x, ct: ct + 1.0, "add"),
        (lambda x, ct: ct * ct, "mul"),
        (lambda x, ct: x / (1.0 + ct), "add"),
        (lambda x, ct: np.where(ct > 0, ct, 0.0), "greater"),
    ],
)
def test_forward_mode_refuses_a_vjp_rule_that_is_not_linear(backward, culprit):
    @fg.custom_vjp
    def f(x):
        return np.sin(x)

    f.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (backward(x, ct),))
    with pytest.raises(errors.NotDifferentiableError, match=f"linear.*{culprit}"):
        fg.jvp(f, (X,), (X,))
    assert fg.grad(lambda x: np.sum(f(x)))(X).shape == X.shape


@pytest.mark.parametrize(
    "backward",
    [
        lambda x, ct: np.where(x > 0, ct, 0.0) * 2.0 - ct / 3.0,
        lambda x, ct: np.concatenate([ct[1:], np.zeros(1)]),
        lambda x, ct: np.cumsum(ct) @ np.ones((3, 3)),
    ],
)
def test_forward_mode_accepts_a_linear_vjp_rule(backward):
    @fg.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, x), lambda x, ct: (backward(x, ct),))
    _, pullback = fg.vjp(f, X)
    rows = np.stack([pullback(row)[0] for row in np.eye(3)])
    np.testing.assert_allclose(fg.jacfwd(f)(X), rows)


def test_what_rules_return_is_checked():
    @fg.custom_jvp
    def f(x):
        return {"y": x}

    with pytest.raises(errors.CustomRuleError, match="no rule yet"):
        f(1.0)
    f.defjvp(lambda primals, tangents: tangents[0])
    with pytest.raises(errors.CustomRuleError, match=r"must return \(result, tangent\)"):
        fg.grad(lambda x: np.sum(f(x)["y"]))(X)
    f.defjvp(lambda primals, tangents: ({"y": primals[0]}, tangents[0]))
    with pytest.raises(errors.CustomRuleError, match="structure"):
        fg.grad(lambda x: np.sum(f(x)["y"]))(X)
    f.defjvp(lambda primals, tangents: ({"y": primals[0]}, {"y": np.sum(tangents[0])}))
    with pytest.raises(errors.CustomRuleError, match=r"tangent of shape \(\) at \['y'\].*\(3,\)"):
        fg.grad(lambda x: np.sum(f(x)["y"]))(X)

    @fg.custom_vjp
    def g(x, y):
        return x * y

    with pytest.raises(errors.CustomRuleError, match="no rules yet"):
        g(1.0, 1.0)
    for bwd, message in [
        (lambda kept, ct: ct, "each of the 2 arguments"),
        (lambda kept, ct: (ct,), "each of the 2 arguments"),
        (lambda kept, ct: ((ct, ct), ct), "gave a tuple"),
        (lambda kept, ct: (np.sum(ct), ct), r"cotangent of shape \(\) for the argument at \[0\]"),
    ]:
        g.defvjp(lambda x, y: (x * y, None), bwd)
        with pytest.raises(errors.CustomRuleError, match=message):
            fg.grad(lambda x, g=g: np.sum(g(x, x)))(X)
    g.defvjp(lambda x, y: x * y, lambda kept, ct: (ct, ct))
    with pytest.raises(errors.CustomRuleError, match=r"must return \(result, residuals\)"):
        fg.grad(lambda x: np.sum(g(x, x)))(X)


def test_cotangents_keep_float32():
    x = X.astype(np.float32)
    grads = fg.grad(lambda x: np.sum(fivefold(x, x) + threefold(x)))(x)
    assert grads.dtype == np.float32


def test_a_jvp_rule_that_calls_jvp():
    @fg.custom_jvp
    def f(xs):
        return fg.scan(lambda c, x: (c * x, None), 1.0, xs)[0]

    @f.defjvp
    def _(primals, tangents):
        value, tangent = fg.jvp(
            lambda xs: fg.scan(lambda c, x: (c * x, None), 1.0, xs)[0], primals, tangents
        )
        return value, 2 * tangent

    xs = np.array([2.0, 3.0])
    for transform in (lambda f: f, fg.jit):
        value, grads = transform(fg.value_and_grad(f))(xs)
        assert value == 6.0
        np.testing.assert_array_equal(grads, [6.0, 4.0])


def test_printed_call():
    graph = fg.make_graph(threefold)(1.0)
    assert str(graph) == (
        "graph(a: f64~[]) {\n"
        "  e: f64[] = custom_jvp[graph=graph(b: f64~[]) {\n"
        "      c: f64[] = convert[dtype=float64](b)\n"
        "      d: f64[] = sin(c)\n"
        "      return d\n"
        "    }, rule=threefold](a)\n"
        "  return e\n"
        "}"
    )


# --- forward mode through rules that call functions with rules of their own ---------------


@fg.custom_vjp
def solve(a: Any, b: Any) -> Any:
    """The solution of a x = b, for a near the identity."""

    def step(state: Any) -> Any:
        x, rest = state
        return x + rest, b - a @ (x + rest)

    start = (np.zeros_like(b), b)
    return fg.while_loop(lambda state: np.sum(state[1] ** 2) > 1e-26, step, start)[0]


solve.defvjp(
    lambda a, b: (lambda x: (x, (a, x)))(solve(a, b)),
    lambda kept, ct: (lambda y: (-y[:, None] * kept[1], y))(solve(kept[0].T, ct)),
)

BACKENDS: dict[str, Any] = {
    "eager": lambda f: f,
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": fg.jit,
    "vmap": lambda f: lambda x: fg.vmap(f)(np.stack([x, x]))[1],
}


@pytest.mark.parametrize("mode", BACKENDS)
def test_hessians_through_backward_rules_that_call_custom_functions(mode: str) -> None:
    a = np.eye(3) + np.arange(9.0).reshape(3, 3) / 50
    b = np.array([1.0, -2.0, 0.5])

    def cubed(b: Any) -> Any:
        return np.sum(solve(a * (1 + 0.1 * b), b) ** 3)

    def step(b: Any) -> Any:
        return lambda x, _: (x + (b - (a * (1 + 0.1 * b)) @ x), None)

    def unrolled(b: Any) -> Any:
        return np.sum(fg.scan(step(b), np.zeros(3), None, 200)[0] ** 3)

    expected = fg.hessian(unrolled)(b)
    for hessian in (fg.hessian(cubed), fg.jacfwd(fg.jacfwd(cubed)), fg.jacrev(fg.jacfwd(cubed))):
        np.testing.assert_allclose(BACKENDS[mode](hessian)(b), expected, rtol=1e-9)


def _twice(inner: Any, ct: Any) -> Any:
    @fg.custom_vjp
    def twice(x: Any) -> Any:
        return 2.0 * x

    twice.defvjp(lambda x: (twice(x), x), lambda x, ct: (inner(ct),))
    return fg.jvp(twice, (3.0,), (ct,))[1]


def test_what_a_backward_rule_calls_may_be_untraceable_if_it_is_linear() -> None:
    @fg.custom_vjp
    def doubled(x: Any) -> Any:
        return np.float64(math.fsum([float(x), float(x)]))

    doubled.defvjp(lambda x: (doubled(x), None), lambda _, ct: (2.0 * ct,))
    assert _twice(doubled, 1.5) == 3.0

    @fg.custom_vjp
    def clipped(x: Any) -> Any:
        return np.float64(min(max(float(x), -0.5), 0.5))

    clipped.defvjp(lambda x: (clipped(x), x), lambda x, ct: (ct * (np.abs(x) < 0.5),))
    with pytest.raises(errors.NotDifferentiableError, match="linear in the cotangent"):
        _twice(clipped, 1.5)


def _call_of_two(ct: Any) -> Any:
    return fg.jit(lambda zero, ct: (zero * zero, 2.0 * ct))(0.0, ct)


def test_linear_rules_are_recognised_within_loops_branches_and_calls() -> None:
    doubled = fg.custom_jvp(lambda x: 2.0 * x)
    doubled.defjvp(lambda xs, ts: (2.0 * xs[0], 2.0 * ts[0]))
    squared = fg.custom_jvp(lambda x: x * x)
    squared.defjvp(lambda xs, ts: (xs[0] * xs[0], 2.0 * xs[0] * ts[0]))
    linear = [
        lambda ct: fg.scan(lambda c, k: (c + k * ct, None), 0.0, np.array([0.5, 1.5]))[0],
        lambda ct: fg.scan(lambda c, k: (c * k, None), ct, np.array([4.0, 0.5]))[0],
        lambda ct: fg.cond(np.sin(1.0) > 0, lambda: 2.0 * ct, lambda: -ct),
        lambda ct: fg.jit(lambda ct: 2.0 * ct)(ct),
        lambda ct: fg.checkpoint(lambda ct: 2.0 * ct)(ct),
        lambda ct: ct * 2.0 if ct == ct else ct,
        lambda ct: doubled(ct),
        lambda ct: np.exp(_call_of_two(ct)[0]) * _call_of_two(ct)[1],
    ]
    for inner in linear:
        assert _twice(inner, 1.5) == 3.0
    nonlinear = [
        lambda ct: fg.scan(lambda c, k: (c + k * ct, None), 1.0, np.array([0.5, 1.5]))[0],
        lambda ct: fg.scan(lambda c, k: (c * ct, None), ct, np.array([4.0, 0.5]))[0],
        lambda ct: fg.vmap(lambda k: fg.cond(k * ct > 0, lambda: 2.0 * ct, lambda: -ct))(X)[0],
        lambda ct: fg.cond(ct > 0, lambda: 2.0 * ct, lambda: -ct),
        lambda ct: 2.0 * ct if ct > 0 else -ct,
        lambda ct: fg.jit(lambda ct: np.sin(ct))(ct),
        lambda ct: fg.checkpoint(lambda ct: ct * ct)(ct),
        lambda ct: np.sin(fg.jit(lambda ct: 2.0 * ct)(ct)),
        lambda ct: squared(ct),
    ]
    for inner in nonlinear:
        with pytest.raises(errors.NotDifferentiableError, match="linear in the cotangent"):
            _twice(inner, 1.5)


@fg.custom_vjp
def sine(x):
    return np.sin(x)


sine.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda kept, ct: (ct * kept,))


def _python_calls(fun: Any, times: int) -> int:
    """How many functions of Python's the gradient of so many calls runs."""

    def loss(x: Any) -> Any:
        for _ in range(times):
            x = fun(x)
        return x

    count, gradient = 0, fg.grad(loss)

    def count_calls(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    gradient(0.5)
    before = sys.getprofile()
    sys.setprofile(count_calls)
    try:
        gradient(0.5)
    finally:
        sys.setprofile(before)
    return count


def test_a_call_on_a_number_takes_few_calls_of_python():
    # Those of a primitive take a dozen.
    power = 2.0

    @fg.custom_vjp
    def raised(x):
        return x**power

    raised.defvjp(lambda x: (raised(x), power * x ** (power - 1)), lambda kept, ct: (ct * kept,))
    for fun, most in ((threefold, 70), (sine, 22), (raised, 26)):
        assert _python_calls(fun, 30) - _python_calls(fun, 10) < 20 * most


def test_integers_beside_floats_get_no_cotangents_eagerly():
    @fg.custom_vjp
    def times(x, n):
        return x * n, n + 1

    times.defvjp(lambda x, n: ((x * n, n + 1), (x, n)), lambda kept, cts: (cts[0] * kept[1], None))

    def loss(x):
        n = np.floor(x).astype(int)
        y, m = times(x, n)
        return y * times(x, m)[0]

    assert fg.grad(loss)(3.5) == 2 * 3.5 * 3 * 4


def test_results_that_are_python_numbers_become_numpys():
    @fg.custom_vjp
    def one(x):
        return 1.0

    one.defvjp(lambda x: (1.0, None), lambda _, ct: (7.0 * ct,))
    value, gradient = fg.value_and_grad(one)(2.0)
    assert type(value) is np.float64
    assert gradient == 7.0


# --- what rules are given ---------------------------------------------------------------


def _written_to(where: str) -> Any:
    """A function one of whose rules writes to what it is given."""

    def spoil(x: Any) -> Any:
        x *= 3.0
        return x

    function = fg.custom_vjp(lambda y: (spoil(y) if where == "primal" else y) * 1.0)
    function.defvjp(
        lambda y: ((spoil(y) if where == "fwd" else y) * 1.0, None),
        lambda _, ct: (spoil(ct) if where == "bwd" else ct * 1.0,),
    )
    return function


@pytest.mark.parametrize("where", ["fwd", "bwd"])
def test_rules_cannot_write_to_what_others_read(where: str) -> None:
    function, x = _written_to(where), np.array([1.0, 2.0, 3.0])

    def loss(x: Any) -> Any:
        y = 2.0 * x
        return np.sum((function(y) + y) * x)

    with pytest.raises(ValueError, match="read-only"):
        fg.grad(loss)(x)


def test_the_function_cannot_write_to_what_others_read() -> None:
    function = fg.custom_jvp(lambda y: _written_to("primal").fun(y))
    function.defjvp(lambda primals, tangents: (function(*primals), tangents[0] * 1.0))
    y = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        fg.jvp(lambda x: function(x * 1.0), (y,), (y,))


def test_positions_of_nondiff_arguments_are_counted_from_the_start() -> None:
    with pytest.raises(fg.errors.ArgumentError, match=r"nondiff_argnums=\(-1,\)"):
        fg.custom_vjp(lambda x, n: x, nondiff_argnums=(-1,))
