"""Branches and loops: like Python's own, under every transformation and nested."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 3)) / 2
XS = RNG.normal(size=(4, 3))


def close(found, expected, tolerance=1e-9):
    found = fg.tree.leaves(found)
    expected = fg.tree.leaves(expected, is_leaf=lambda x: isinstance(x, list))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def python_scan(step, carry, xs, length=None, reverse=False):
    n = len(fg.tree.leaves(xs)[0]) if length is None else length
    ys = [None] * n
    for i in reversed(range(n)) if reverse else range(n):
        carry, ys[i] = step(carry, fg.tree.map(lambda x, i=i: x[i], xs))
    return carry, fg.tree.map(lambda *rows: np.stack(rows), *ys)


# --- each form, as a function of (w, xs), and the same in plain Python ------------------------


def recurrent(scan, **options):
    def loss(w, xs):
        def step(h, x):
            h = np.tanh(w @ h + x)
            return h, np.sum(h * x)

        h, ys = scan(step, np.zeros(3), xs, **options)
        return np.sum(h**2) + np.sum(ys * ys)

    return loss


def nested_scans(scan):
    def loss(w, xs):
        def outer(c, x):
            inner, ys = scan(lambda h, row: (np.sin(h * row + c), h * row), x, w)
            return c * 0.5 + np.sum(inner), np.sum(ys)

        c, ys = scan(outer, 1.0, xs)
        return c * np.sum(ys**2)

    return loss


def power_by_loop(fori_loop):
    def loss(w, xs):
        return np.sum(fori_loop(0, 3, lambda i, v: np.sin(w @ v) * (i + 1), xs[0]) * xs[1])

    return loss


def python_fori(low, high, body, value):
    for i in range(low, high):
        value = body(i, value)
    return value


def branching(cond):
    def loss(w, xs):
        def step(total, x):
            grown = cond(
                np.sum(x) > 0, lambda t: t + np.sum(np.exp(x)), lambda t: t * w[0, 0], total
            )
            return grown, np.sin(grown)

        total, ys = python_scan(step, np.sum(w[0]), xs)
        return total + np.sum(ys)

    return loss


def python_cond(pred, true_fun, false_fun, *operands):
    return np.where(pred, true_fun(*operands), false_fun(*operands))


def branching_in_scan(scan, cond):
    def loss(w, xs):
        def step(total, x):
            grown = cond(x[0] > 0, lambda t: t * np.cos(x), lambda t: w @ t, total)
            return grown, grown[1] * 2

        total, ys = scan(step, w[0], xs)
        return np.sum(total) + np.sum(ys**2)

    return loss


def choosing(switch):
    def loss(w, xs):
        branches = [lambda r: np.sum(r**2), lambda r: np.sum(w @ r), lambda r: np.sum(np.sin(r))]
        return sum(switch(np.sum(x > 0) % 3, branches, x) for x in xs)

    return loss


def python_switch(index, branches, *operands):
    results = [b(*operands) for b in branches]
    return np.select([index == i for i in range(len(results))], results)


def rows(mapping):
    return lambda w, xs: np.sum(np.sin(mapping(lambda x: w @ x, xs)))


def python_map(f, xs):
    return np.stack([f(x) for x in xs])


def checkpointed(checkpoint):
    def loss(w, xs):
        block = checkpoint(lambda h, x: np.tanh(w @ h) * x)
        h = xs[0]
        for x in xs:
            h = block(h, x)
        return np.sum(h)

    return loss


PROGRAMS = {
    "scan": (recurrent(fg.scan), recurrent(python_scan)),
    "reverse": (recurrent(fg.scan, reverse=True), recurrent(python_scan, reverse=True)),
    "nested": (nested_scans(fg.scan), nested_scans(python_scan)),
    "fori": (power_by_loop(fg.fori_loop), power_by_loop(python_fori)),
    "cond": (branching(fg.cond), branching(python_cond)),
    "cond in scan": (
        branching_in_scan(fg.scan, fg.cond),
        branching_in_scan(python_scan, python_cond),
    ),
    "switch": (choosing(fg.switch), choosing(python_switch)),
    "map": (rows(fg.map), rows(python_map)),
    "checkpoint": (checkpointed(fg.checkpoint), checkpointed(lambda f: f)),
}


def jvp(f):
    return lambda w, xs: fg.jvp(f, (w, xs), (np.cos(w), np.sin(xs)))[1]


def linearize(f):
    return lambda w, xs: fg.linearize(f, w, xs)[1](np.cos(w), np.sin(xs))


def over_xs(f):
    return lambda w, xs: fg.vmap(f, in_axes=(None, 0))(w, np.stack([xs, -2 * xs, xs * xs]))


def over_w(f):
    return lambda w, xs: fg.vmap(f, in_axes=(2, None))(np.stack([w, 1 - w], axis=2), xs)


TRANSFORMS = {
    "jit": fg.jit,
    "grad": fg.grad,
    "grad xs": lambda f: fg.grad(f, argnums=1),
    "jvp": jvp,
    "linearize": linearize,
    "vmap xs": over_xs,
    "vmap w": over_w,
}


def scalar(f):
    return lambda w, xs: np.sum(np.sin(f(w, xs)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_as_plain_python(program):
    ours, plain = PROGRAMS[program]
    close(ours(W, XS), plain(W, XS))


@pytest.mark.parametrize("second", TRANSFORMS)
@pytest.mark.parametrize("first", TRANSFORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_transforms(program, first, second):
    ours, plain = (
        TRANSFORMS[second](scalar(TRANSFORMS[first](f)))(W, XS) for f in PROGRAMS[program]
    )
    close(ours, plain)


@pytest.mark.parametrize("program", ["nested", "cond in scan"])
def test_three_derivatives_jitted(program):
    ours, plain = (
        fg.jit(fg.grad(scalar(jvp(scalar(fg.grad(f))))))(W, XS) for f in PROGRAMS[program]
    )
    close(ours, plain)


@pytest.mark.parametrize("program", PROGRAMS)
def test_graphs_are_well_formed(program):
    f = PROGRAMS[program][0]
    fg.make_graph(fg.grad(f))(W, XS).check()
    fg.make_graph(over_xs(fg.grad(f)))(W, XS).check()
    fg.make_graph(jvp(fg.grad(f)))(W, XS).check()


# --- scan -------------------------------------------------------------------------------------

State = namedtuple("State", "count total")


def test_scan_of_pytrees_with_integers():
    def step(state, x):
        total = {"sum": state.total["sum"] + x["a"] * state.count}
        return State(state.count + 1, total), (x["b"], total["sum"])

    def loss(xs):
        last, (bs, sums) = fg.scan(step, State(0, {"sum": 0.0}), xs)
        return last.total["sum"] + np.sum(bs * sums), last

    xs = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([0.5, 0.25, 2.0])}
    grads, last = fg.grad(loss, has_aux=True)(xs)
    assert type(last) is State and last.count == 3 and last.total["sum"] == 8.0
    close(grads, {"a": [0.0, 3.25, 6.0], "b": [0.0, 2.0, 8.0]})
    close(fg.jit(fg.grad(loss, has_aux=True))(xs), (grads, last))


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_scan_without_xs(transform):
    def powers(x):
        return fg.scan(lambda c, _: (c * x, c), 1.0, None, length=4)

    close(transform(powers)(2.0), (16.0, [1.0, 2.0, 4.0, 8.0]))
    assert transform(fg.grad(lambda x: powers(x)[0]))(2.0) == 32.0


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_scan_of_length_zero(transform):
    def f(c, xs):
        return fg.scan(lambda c, x: (c * x, np.stack([c, x])), c, xs)

    empty = np.zeros(0, np.float32)
    carry, ys = transform(f)(np.float32(3), empty)
    assert carry == 3 and ys.shape == (0, 2) and ys.dtype == np.float32
    grads = transform(fg.grad(lambda c, xs: f(c, xs)[0], argnums=(0, 1)))(np.float32(3), empty)
    assert grads[0] == 1 and grads[1].shape == (0,)
    assert transform(lambda v: fg.fori_loop(5, 2, lambda i, v: v + 1, v))(7) == 7


def test_scan_keeps_float32_and_promotes_python_numbers():
    xs = np.arange(3, dtype=np.float32)
    carry, ys = fg.scan(lambda c, x: (c + x, c), 0.0, xs)
    assert carry.dtype == ys.dtype == np.float32
    carry, _ = fg.scan(lambda c, x: (c + x, None), 0, xs)
    assert carry.dtype == np.float32
    carry, _ = fg.scan(lambda c, x: (0.5, c), np.float32(1), xs)
    assert carry.dtype == np.float32
    assert fg.fori_loop(0, 3, lambda i, v: v + i * xs, xs).dtype == np.float32
    assert fg.grad(lambda x: fg.scan(lambda c, x: (c * x, None), 1.0, x)[0])(xs).dtype == np.float32


def test_scan_ys_that_nobody_reads_are_dropped_with_what_made_them():
    def f(w, xs):
        return fg.scan(lambda c, x: (c * w + x, np.exp(c) * x), 0.5, xs)[0]

    text = str(fg.make_graph(fg.grad(f))(2.0, np.ones(3)))
    assert "exp" not in text and text.count("scan[") == 2


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_what_is_not_asked_for_has_no_part_in_the_backward_pass(transform):
    def f(xs):
        # The derivative of the second output is infinite; zero times that would be NaN.
        last, (_roots, plain) = fg.scan(lambda c, x: (c * x, (np.sqrt(x - x), x + c)), 2.0, xs)
        return last + np.sum(plain)

    xs = np.array([1.0, 3.0, 5.0])
    np.testing.assert_allclose(transform(fg.grad(f))(xs), [39.0, 13.0, 7.0])


def test_reverse_mode_runs_each_loop_once_and_keeps_no_constants():
    def f(w, xs):
        return np.sum(fg.scan(lambda h, x: (np.tanh(w @ h + x), None), np.zeros(3), xs)[0])

    graph = fg.make_graph(fg.value_and_grad(f))(W, XS)
    scans = [e for e in graph.eqns if e.prim.name == "scan"]
    assert len(scans) == 2
    # The carry's tanh and the carry itself are kept; W is passed to the backward loop whole.
    assert [o.aval.shape for o in scans[0].outs] == [(3,), (4, 3), (4, 3)]
    assert any(a.aval.shape == (3, 3) for a in scans[1].ins[: scans[1].params["n_consts"]])


def test_nested_reverse_mode_does_not_repeat_inner_loops():
    graph = fg.make_graph(fg.grad(PROGRAMS["nested"][0]))(W, XS)
    assert str(graph).count("scan[") == 4


def test_forward_mode_runs_nested_loops_once():
    graph = fg.make_graph(fg.jit(jvp(PROGRAMS["nested"][0])))(W, XS)
    inner = [sum(e.prim.name == "scan" for e in g.eqns) for g in graph.subgraphs()]
    assert max(inner) == 1


@pytest.mark.parametrize("inner", [lambda f: f, fg.jit], ids=["scan", "jit of scan"])
@pytest.mark.parametrize("reverse", [False, True])
def test_linearize_computes_what_is_known_once(inner, reverse):
    def f(w, xs):
        def step(h, x):
            h = np.tanh(w @ h + np.exp(x))
            return h, (np.sum(h * x), x)

        return fg.scan(step, np.ones(3), xs, reverse=reverse)

    value, push = fg.linearize(inner(f), W, XS)
    expected = fg.jvp(f, (W, XS), (np.cos(W), np.sin(XS)))
    close((value, push(np.cos(W), np.sin(XS))), expected)
    graph = fg.make_graph(push)(W, XS)
    text = str(graph)
    assert "tanh" not in text and "exp" not in text
    close(fg.jit(lambda w: fg.linearize(inner(f), w, XS)[1](np.cos(w), np.sin(XS)))(W), expected[1])


def test_scan_errors():
    xs = np.ones(3)
    with pytest.raises(
        errors.CarryTypeError,
        match=r"\['h'\] it enters a step as f64\[\] and leaves it as f64\[2\]",
    ):
        fg.scan(lambda c, x: ({"h": np.stack([c["h"], x])}, None), {"h": 0.0}, xs)
    with pytest.raises(errors.CarryTypeError, match=r"f32\[\] and leaves it as f64\[\]"):
        fg.scan(lambda c, x: (c + x, None), np.float32(0), xs)
    with pytest.raises(
        errors.TreeMismatchError, match=r"\(\[\*, \*\]\) at \['h'\], where the first"
    ):
        fg.scan(lambda c, x: ({"h": [x, x]}, None), {"h": 0.0}, xs)
    with pytest.raises(errors.TreeMismatchError, match=r"at \['h'\]: the tuple there lacks \[1\]"):
        fg.scan(lambda c, x: ({"h": (x,)}, None), {"h": (0.0, 0.0)}, xs)
    with pytest.raises(errors.TreeMismatchError, match="pair"):
        fg.scan(lambda c, x: c + x, 0.0, xs)
    with pytest.raises(errors.ArgumentError, match=r"3 for xs\[0\].*\n.*4 for xs\[1\]"):
        fg.scan(lambda c, x: (c, None), 0.0, (xs, np.ones(4)))
    with pytest.raises(errors.ArgumentError, match="no axis"):
        fg.scan(lambda c, x: (c, None), 0.0, 1.0)
    with pytest.raises(errors.ArgumentError, match="length="):
        fg.scan(lambda c, x: (c, None), 0.0)
    with pytest.raises(errors.NotAnArrayError, match=r"\['name'\]"):
        fg.scan(lambda c, x: (c, None), {"name": "w"}, xs)
    with pytest.raises(errors.TracerValueError, match="body of scan"):
        fg.scan(lambda c, x: (c if x > 0 else -c, None), 0.0, xs)


def test_errors_name_the_users_line():
    with pytest.raises(errors.CarryTypeError, match=r"test_control\.py"):
        fg.scan(lambda c, x: (x, None), 0, np.ones(3, complex)[:, None])


# --- while_loop and fori_loop -------------------------------------------------------------------


def collatz(n):
    def step(state):
        n, count = state
        return np.where(n % 2 == 0, n // 2, 3 * n + 1), count + 1

    return fg.while_loop(lambda state: state[0] != 1, step, (n, 0))[1]


def test_while_loop():
    assert collatz(27) == fg.jit(collatz)(27) == 111


def test_while_loop_batched_runs_until_the_last_is_done():
    counts = fg.vmap(collatz)(np.array([1, 2, 7, 27]))
    np.testing.assert_array_equal(counts, [0, 1, 16, 111])
    np.testing.assert_array_equal(fg.jit(fg.vmap(collatz))(np.array([1, 2, 7, 27])), counts)


def test_while_loop_batched_with_a_common_condition():
    def f(x):
        return fg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, 1.0))[1]

    np.testing.assert_allclose(fg.vmap(f)(np.array([1.0, 2.0])), [1.0, 8.0])
    graph = fg.make_graph(fg.vmap(f))(np.ones(2))
    (loop,) = [e for e in graph.eqns if e.prim.name == "while"]
    assert loop.params["cond"].out_avals[0].shape == ()


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_forward_mode_through_while_loop(transform):
    def doubled_until(x, limit):
        return fg.while_loop(
            lambda v: v[0] < limit, lambda v: (v[0] * 2, v[1] + v[0] * x), (x, 0.0)
        )

    f = transform(lambda x: fg.jvp(lambda x: doubled_until(x, 10.0), (x,), (1.0,)))
    close(f(1.5), ((12.0, 1.5**2 * 7), (8.0, 2 * 1.5 * 7)))
    close(fg.jacfwd(lambda x: doubled_until(x, 10.0)[0])(1.5), 8.0)
    second = transform(fg.jacfwd(fg.jacfwd(lambda x: doubled_until(x, 10.0)[1])))
    close(second(1.5), 14.0)


def test_reverse_mode_through_while_loop_is_refused():
    def f(x):
        return fg.while_loop(lambda v: v < 10, lambda v: v * 2, x)

    with pytest.raises(errors.NotDifferentiableError, match=r"fg\.scan"):
        fg.grad(f)(1.0)
    with pytest.raises(errors.NotDifferentiableError, match=r"test_control\.py"):
        fg.jit(fg.grad(f))(1.0)
    assert fg.grad(lambda x: f(fg.stop_gradient(x)) * x)(1.0) == 16.0
    assert fg.jit(fg.grad(lambda x: f(fg.stop_gradient(x)) * x))(1.0) == 16.0


def test_while_loop_closes_over_tracers():
    def f(x, scale):
        return fg.while_loop(lambda v: v < 100 * scale, lambda v: v * scale, x)

    assert fg.jit(f)(1.0, 3.0) == 729.0
    value, tangent = fg.jvp(lambda s: f(1.0, s), (3.0,), (1.0,))
    close((value, tangent), (729.0, 6 * 3.0**5))


def test_while_loop_errors():
    with pytest.raises(errors.CarryTypeError, match=r"boolean scalar.*i64"):
        fg.while_loop(lambda v: v, lambda v: v - 1, 3)
    with pytest.raises(errors.CarryTypeError, match=r"boolean scalar.*bool\[3\]"):
        fg.while_loop(lambda v: v < 3, lambda v: v + 1, np.zeros(3))
    with pytest.raises(errors.CarryTypeError, match=r"i64\[\] and leaves it as f64"):
        fg.while_loop(lambda v: v < 3, lambda v: v * 0.5, np.int64(1))


def test_fori_loop_with_traced_bounds():
    def f(n, x):
        return fg.fori_loop(0, n, lambda i, v: v * x + i, 1.0)

    expected = 1.0
    for i in range(5):
        expected = expected * 2.0 + i
    assert fg.jit(f)(5, 2.0) == f(5, 2.0) == expected
    close(fg.vmap(f, in_axes=(0, None))(np.array([0, 5, 2]), 2.0), [1.0, expected, 5.0])
    # The value of n is known under plain grad, so this is a scan.
    close(fg.grad(f, argnums=1)(5, 2.0), fg.jacfwd(fg.jit(f), argnums=1)(5, 2.0))
    with pytest.raises(errors.NotDifferentiableError, match="fori_loop"):
        fg.jit(fg.grad(f, argnums=1))(5, 2.0)


def test_fori_loop_bounds_are_integers():
    with pytest.raises(errors.ArgumentError, match="upper bound"):
        fg.fori_loop(0, 2.5, lambda i, v: v, 1.0)


# --- cond and switch ----------------------------------------------------------------------------


def test_cond_computes_only_one_branch_under_jit():
    calls = fg.jit(lambda x: fg.cond(x > 0, lambda x: np.log(x), lambda x: x * 0, x))
    with np.errstate(all="raise"):
        assert calls(-1.0) == 0.0


def test_cond_takes_numbers_for_predicates():
    f = fg.jit(lambda p: fg.cond(p, lambda: 1, lambda: 2))
    assert (f(0), f(3), f(0.5), f(True)) == (2, 1, 1, 1)
    assert fg.cond(0.0, lambda: 1, lambda: 2) == 2


def test_python_numbers_take_the_other_branchs_dtype():
    def f(p, x):
        return fg.cond(p, lambda: x, lambda: 0)

    for transform in (lambda f: f, fg.jit):
        for p in (True, False):
            assert transform(f)(p, np.float32(2)).dtype == np.float32


def test_switch_clamps_its_index():
    branches = [lambda x: x, lambda x: 2 * x, lambda x: 3 * x]
    for transform in (lambda f: f, fg.jit):
        f = transform(lambda i: fg.switch(i, branches, 1.0))
        assert [f(i) for i in (-5, 0, 1, 2, 9)] == [1, 1, 2, 3, 3]
    np.testing.assert_array_equal(
        fg.vmap(lambda i: fg.switch(i, branches, 1.0))(np.array([-5, 0, 1, 2, 9])), [1, 1, 2, 3, 3]
    )
    assert fg.switch(7, [lambda: 4.0]) == 4.0


def test_batched_cond_keeps_infinite_derivatives_out():
    def safe_log(x):
        return fg.cond(x > 0, np.log, lambda x: 0.0, x)

    x = np.array([0.0, 2.0])
    with np.errstate(all="ignore"):
        found = fg.vmap(fg.grad(safe_log))(x)
        through = fg.grad(lambda x: np.sum(fg.vmap(safe_log)(x)))(x)
        forward = fg.jvp(fg.vmap(safe_log), (x,), (np.ones(2),))[1]
    for derivative in (found, through, forward):
        np.testing.assert_array_equal(derivative, [0.0, 0.5])


def test_cond_with_branches_of_different_residuals():
    def f(p, x, y):
        return fg.cond(p, lambda: np.sum(np.exp(x) * np.sin(y)), lambda: np.sum(np.tanh(x)) * y[0])

    x, y = np.array([0.5, 1.0]), np.array([2.0, 3.0])
    grads = fg.jit(fg.grad(f, argnums=(1, 2)))
    close(grads(True, x, y), (np.exp(x) * np.sin(y), np.exp(x) * np.cos(y)))
    close(grads(False, x, y), (2.0 / np.cosh(x) ** 2, [np.sum(np.tanh(x)), 0.0]))
    hessian = fg.jit(fg.hessian(f, argnums=1))
    close(hessian(True, x, y), np.diag(np.exp(x) * np.sin(y)))


def test_cond_of_which_one_branch_is_constant():
    f = fg.jit(fg.grad(lambda x, p: fg.cond(p, lambda: x**3, lambda: 1.0)))
    assert f(2.0, True) == 12.0 and f(2.0, False) == 0.0


def test_cond_with_integer_results():
    def f(x):
        i, y = fg.cond(x > 0, lambda: (1, x * 2), lambda: (0, x * 3))
        return y * i

    assert fg.jit(fg.grad(f))(2.0) == 2.0 and fg.grad(f)(-2.0) == 0.0


def test_branch_errors():
    with pytest.raises(
        errors.BranchTypeError, match=r"\['y'\] false_fun returns f64\[2\] and true_fun f64\[\]"
    ):
        fg.cond(True, lambda: {"y": np.float64(1)}, lambda: {"y": np.ones(2)})
    with pytest.raises(errors.BranchTypeError, match=r"f32\[\].*f64\[\]|f64\[\].*f32\[\]"):
        fg.cond(True, lambda: np.float32(1), lambda: np.float64(2))
    with pytest.raises(errors.TreeMismatchError, match="true_fun"):
        fg.cond(True, lambda: (1.0, 2.0), lambda: 1.0)
    with pytest.raises(errors.BranchTypeError, match="must be a scalar"):
        fg.cond(np.ones(2) > 0, lambda: 1, lambda: 2)
    with pytest.raises(errors.BranchTypeError, match="integer"):
        fg.switch(0.5, [lambda: 1, lambda: 2])
    with pytest.raises(errors.ArgumentError, match="at least one"):
        fg.switch(0, [])


def test_debug_nans_finds_the_equation_in_a_loop():
    def f(x):
        return fg.scan(lambda c, _: (np.log(c) - 1, None), x, None, 3)[0]

    nan = pytest.raises(errors.NaNError, match=r"log made a NaN.*[\s\S]*test_control")
    with fg.debug_nans(), np.errstate(all="ignore"), nan:
        fg.grad(f)(1.0)


def test_printed_scan():
    graph = fg.make_graph(lambda xs: fg.scan(lambda c, x: (c + x, c), 0.0, xs))(np.ones(3))
    assert str(graph) == (
        "graph(a: f64[3]) {\n"
        "  e: f64[], f: f64[3] = scan[body=graph(b: f64[], c: f64[]) {\n"
        "      d: f64[] = add(b, c)\n"
        "      return d, b\n"
        "    }, length=3, reverse=False, n_consts=0, n_carry=1](0.0:f64, a)\n"
        "  return e, f\n"
        "}"
    )


@pytest.mark.parametrize("size", [1, 2, 5, 7, 9])
@pytest.mark.parametrize("transform", [lambda f: f, fg.jit, fg.jacrev, fg.jacfwd])
def test_map_in_batches(transform, size):
    x = np.arange(7.0)

    def squares(batch_size):
        return lambda x: fg.map(
            lambda row: {"a": row["x"] ** 2, "b": np.stack([row["x"], row["x"]])},
            {"x": x},
            batch_size=batch_size,
        )

    expected, found = (fg.tree.leaves(transform(squares(b))(x)) for b in (None, size))
    for want, have in zip(expected, found, strict=True):
        np.testing.assert_array_equal(have, want)


def test_map_needs_batches_of_something():
    with pytest.raises(errors.ArgumentError, match="batch_size=0"):
        fg.map(np.sin, np.ones(3), batch_size=0)


def test_unrolling_changes_nothing():
    x = np.arange(4.0)
    step = lambda c, y: (c * y + 1, c)  # noqa: E731
    assert fg.scan(step, 1.0, x, unroll=2)[0] == fg.scan(step, 1.0, x)[0]
    assert fg.fori_loop(0, 4, lambda i, c: c + i, 0, unroll=True) == 6


@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_numbers_that_branches_return_are_arrays(transform):
    def f(p, x):
        return fg.cond(p, lambda: 1.0, lambda: 2.0) * x, fg.cond(p, lambda: 1, lambda: 2) * x

    found = transform(f)(True, np.ones(3, np.float32))
    assert [y.dtype for y in found] == [np.float64, np.float64]
