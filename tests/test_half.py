"""float16: what the library itself adds up is added in float32 and rounded once.

In float16 a sum of ones stops growing at 2048, and what is beyond 65504 is infinite. What users
call, np.sum for example, keeps NumPy's meaning.
"""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.scipy import special

N = 5000
RNG = np.random.default_rng(0)


def single(y):
    """A sum that does not saturate itself."""
    return np.sum(y, dtype=np.float64)


def scanned(t):
    ones = np.ones((N, 1), t.dtype)
    total, ys = fg.scan(lambda c, x: (c, x * t), np.zeros((), t.dtype), ones)
    return single(ys) + single(total)


def used_often(t):
    return np.stack([*[t * 1.5 for _ in range(64)], t * 4096.0])


def tangent(f, x):
    return fg.jvp(f, (x,), (np.ones_like(x),))[1]


@fg.custom_vjp
def twice(x, w):
    return x * w


twice.defvjp(lambda x, w: (x * w, (x, w)), lambda kept, ct: (ct * kept[1], ct * kept[0]))

COLUMN, ROWS = np.ones(3), np.ones((N, 3))
SPREAD = RNG.normal(size=(N, 2))
# name -> a derivative, and where.
DERIVATIVES = {
    "a broadcast operand": (
        fg.grad(lambda b: single(np.ones((N, 3), b.dtype) + b)),
        COLUMN,
    ),
    "a product by a number": (
        fg.grad(lambda s: single(np.ones((N, 3), s.dtype) * s)),
        np.array(2.0),
    ),
    "broadcast_to": (fg.grad(lambda b: single(np.broadcast_to(b, (N, 3)))), COLUMN),
    "where": (fg.grad(lambda b: single(np.where(np.ones((N, 3)) > 0, b, 0))), COLUMN),
    "a batch of products, the right operand": (
        fg.grad(lambda w: single(np.ones((N, 2, 1), w.dtype) @ w)),
        np.ones((1, 1, 3)),
    ),
    "a batch of products, the left operand": (
        fg.grad(lambda w: single(w @ np.ones((N, 1, 2), w.dtype))),
        np.ones((3, 1)),
    ),
    "einsum": (
        fg.grad(lambda w: single(np.einsum("nk,j->nj", np.ones((N, 2), w.dtype), w))),
        COLUMN,
    ),
    "the tangent of a sum": (lambda x: tangent(lambda x: np.sum(x, axis=0), x), ROWS),
    "the tangent of a mean": (lambda x: tangent(lambda x: np.mean(x, axis=0), x), ROWS),
    "the tangent of cumsum": (lambda x: tangent(lambda x: np.cumsum(x, axis=0), x), ROWS),
    "cumsum": (fg.grad(lambda x: single(np.cumsum(x, axis=0))), ROWS),
    "max of equals": (fg.grad(lambda x: N * single(np.max(x, axis=0))), ROWS),
    "the tangent of max": (lambda x: tangent(lambda x: np.max(x, axis=0), x), ROWS),
    "min of equals": (fg.grad(lambda x: N * single(np.min(x, axis=0))), ROWS),
    "prod": (fg.grad(lambda x: single(np.prod(x, axis=0))), np.exp(SPREAD[:6])),
    "prod of what overflows on the way": (
        fg.grad(lambda x: single(np.prod(x, axis=0))),
        np.array([300.0, 0.01, 300.0, 0.001, 400.0, 0.02]),
    ),
    "the tangent of prod": (lambda x: tangent(lambda x: np.prod(x, axis=0), x), ROWS),
    "logsumexp": (fg.grad(lambda x: single(special.logsumexp(x, axis=0))), ROWS),
    "the tangent of logsumexp": (
        lambda x: tangent(lambda x: special.logsumexp(x, axis=0), x),
        ROWS,
    ),
    "reads of one place": (fg.grad(lambda t: single(t[np.zeros(N, int)])), COLUMN),
    "reads of one row": (
        fg.grad(lambda t: single(np.take(t, np.zeros(N, int), axis=0))),
        np.ones((2, 3)),
    ),
    "scatter max": (
        fg.grad(lambda t: N * single(fg.at(np.zeros(2, t.dtype))[np.zeros(N, int)].max(t))),
        np.ones(N),
    ),
    "a constant of a scan": (fg.grad(scanned), COLUMN),
    "a constant of fori_loop": (
        fg.grad(lambda t: single(fg.fori_loop(0, N, lambda i, c: c * 0.5 + t, t))),
        np.ones(2),
    ),
    "an operand used many times": (fg.grad(lambda t: single(used_often(t))), np.ones(2)),
    "what is between, used many times": (
        fg.grad(lambda t: single(used_often(t * 0.25))),
        np.ones(2),
    ),
    "an operand that a batch shares": (
        fg.grad(lambda w: single(fg.vmap(twice, in_axes=(0, None))(np.ones(N, w.dtype), w))),
        np.array(1.0),
    ),
    "interp": (
        fg.grad(lambda y: single(np.interp(np.full(N, 0.25), np.arange(2.0), y))),
        np.ones(2),
    ),
}
VALUES = {
    "logsumexp": (lambda x: special.logsumexp(x, axis=0), ROWS),
    "logsumexp with weights": (lambda x: special.logsumexp(x, axis=0, b=x), ROWS),
    "softmax": (lambda x: special.softmax(x, axis=0), ROWS),
    "log_softmax": (lambda x: special.log_softmax(x, axis=0), ROWS),
    "mean": (lambda x: np.mean(x, axis=0), ROWS),
    "additions at one place": (
        lambda x: fg.at(np.zeros(2, x.dtype))[np.zeros(N, int)].add(x),
        np.ones(N),
    ),
    "products at one place": (
        lambda x: fg.at(np.ones(2, x.dtype))[np.zeros(6, int)].multiply(x),
        np.array([300.0, 300.0, 0.01, 300.0, 0.001, 0.5]),
    ),
}


def modes(f, x):
    pair = np.stack([x, x])
    return {
        "eager": f(x),
        "values riding along": fg.vjp(f, x)[0],
        "vmap": fg.vmap(f)(pair)[1],
        "numpy": fg.jit(f, backend="numpy")(x),
        "llvm": fg.jit(f)(x),
        "llvm, vmap": fg.jit(fg.vmap(f))(pair)[1],
    }


def check(f, x):
    want = np.asarray(f(x), np.float64)
    for mode, have in modes(f, x.astype(np.float16)).items():
        assert have.dtype == np.float16, mode
        # Coefficients are float16, and so is the result.
        error = np.abs(have - want) / np.maximum(np.abs(want), 1e-4)
        assert np.max(error) < 4e-3, (mode, have, want)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_sums_of_derivatives(name):
    check(*DERIVATIVES[name])


@pytest.mark.parametrize("name", VALUES)
def test_sums_of_functions(name):
    check(*VALUES[name])


def test_numpy_sums_as_numpy_does():
    # Along the fast axis NumPy adds pairs in float32, along others in float16.
    x = np.ones((N, 3), np.float16)
    for axis in (0, 1, None):
        for mode, have in modes(lambda x, axis=axis: np.sum(x, axis=axis), x).items():
            if "vmap" not in mode:
                assert np.array_equal(have, np.sum(x, axis=axis)), (mode, axis)


# --- derivatives of each element ------------------------------------------------------

POINTS = np.array(
    [
        0,
        1e-4,
        0.01,
        0.3,
        0.9,
        1,
        1.5,
        3,
        10,
        40,
        100,
        260,
        1e3,
        2e4,
        6e4,
        -1e-4,
        -0.3,
        -0.9,
        -1.5,
        -3.2,
        -20,
        -260,
        -1e3,
        -6e4,
    ]
).astype(np.float16)
UNARY = {
    name: getattr(np, name)
    for name in (
        "exp exp2 expm1 log log2 log10 log1p sqrt cbrt sin cos tan arcsin arccos arctan sinh cosh "
        "tanh arcsinh arccosh arctanh sinc deg2rad rad2deg square reciprocal abs"
    ).split()
} | {
    name: getattr(special, name)
    for name in (
        "erf erfc erfinv ndtr ndtri log_ndtr expit log_expit softplus logit entr gammaln digamma"
    ).split()
}
BINARY = {
    name: getattr(np, name)
    for name in (
        "add multiply divide arctan2 fmod remainder logaddexp logaddexp2 maximum copysign"
    ).split()
} | {name: getattr(special, name) for name in "xlogy xlog1py rel_entr betaln".split()}


def near(have, want):
    """Equal but for some units of float16, and for what `1 - tanh(x)**2` and its like cancel."""
    have, want = have.astype(float), want.astype(np.float16).astype(float)
    return np.isclose(have, want, rtol=0.02, atol=5e-4, equal_nan=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
def test_derivatives_by_one_operand(name):
    first = fg.grad(UNARY[name])

    def both(x):
        return fg.vmap(first)(x), fg.vmap(fg.grad(first))(x)

    want = both(POINTS.astype(float))
    for run in both, fg.jit(both), fg.jit(both, backend="numpy"):
        for have, expected in zip(run(POINTS), want, strict=True):
            assert have.dtype == np.float16
            # The argument of sinc's sine is rounded where it matters.
            few = np.abs(POINTS) < 100 if name == "sinc" else POINTS == POINTS
            assert near(have, expected)[few].all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BINARY)
def test_derivatives_by_two_operands(name):
    x, y = (a.ravel() for a in np.meshgrid(POINTS, POINTS))
    # Beyond this a length, which some divide by, is infinite.
    x, y = (a[(np.abs(x) < 4e4) | (np.abs(y) < 4e4)] for a in (x, y))
    both = fg.vmap(fg.grad(BINARY[name], (0, 1)))
    want = both(x.astype(float), y.astype(float))
    for run in both, fg.jit(both), fg.jit(both, backend="numpy"):
        for have, expected in zip(run(x, y), want, strict=True):
            assert have.dtype == np.float16
            assert near(have, expected).all()


def test_loops_that_mix_float16_with_other_floats():
    # What native code does not know is left to NumPy, on which loops of some length are compiled.
    x = np.ones((40, 3), np.float16)

    def summed(x):
        return fg.scan(lambda c, x: (c + x.astype(np.float32), None), np.zeros(3, np.float32), x)[0]

    for f in summed, fg.jit(summed), fg.jit(summed, backend="numpy"):
        assert np.array_equal(f(x), [40, 40, 40])
    assert fg.scan(lambda c, x: (c + x, c), np.ones(0), np.ones((40, 0)))[1].shape == (40, 0)
