"""`funcgrad.scipy.special`: values, derivatives, and what happens at the edges."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import funcgrad as fg
from _surface import check
from funcgrad.scipy import special

RNG = np.random.default_rng(0)
M = RNG.standard_normal((3, 4))
INF = np.inf

SMOOTH = {
    "logsumexp": (lambda x: special.logsumexp(x), M),
    "logsumexp along": (lambda x: special.logsumexp(x, axis=1, keepdims=True), M),
    "logsumexp of two axes": (lambda x: special.logsumexp(x[None], axis=(0, -1)), M),
    "logsumexp, weighted": (lambda x: special.logsumexp(x, axis=0, b=np.arange(1.0, 5.0)), M),
    "logsumexp by traced weights": (lambda x: special.logsumexp(M, axis=1, b=x * x), M),
    "logsumexp with signs": (lambda x: special.logsumexp(x, 1, b=M, return_sign=True), M),
    "softmax": (lambda x: special.softmax(x, axis=-1), M),
    "log_softmax": (lambda x: special.log_softmax(x, axis=0), M),
    "expit": (special.expit, M),
    "log_expit": (special.log_expit, M),
    "logit": (special.logit, np.abs(np.tanh(M)) + 0.01),
    "softplus": (special.softplus, M),
    "ndtr": (special.ndtr, M),
    "ndtri": (special.ndtri, np.abs(np.tanh(M)) * 0.9 + 0.05),
    "log_ndtr": (special.log_ndtr, M * 8),
    "xlogy": (lambda x: special.xlogy(x, np.exp(x[0])), M),
    "xlog1py": (lambda x: special.xlog1py(x, np.exp(x[0])), M),
    "entr": (special.entr, np.exp(M)),
    "rel_entr": (lambda x: special.rel_entr(np.exp(x), np.exp(x[::-1] * 2)), M),
    "erf": (lambda x: special.erf(x) + special.erfc(2 * x), M),
    "erfinv": (special.erfinv, np.tanh(M) * 0.9),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth(name):
    f, x = SMOOTH[name]
    check(f, x, order=2 if "sign" not in name else 1)


def test_integers_become_floats():
    for f in (special.expit, special.logsumexp, special.erf, special.softmax):
        assert np.asarray(f(np.array([0, 1]))).dtype == np.float64
        assert fg.jit(f)(np.array([0, 1])).dtype == np.float64


def test_logsumexp_over_nothing_but_minus_infinity():
    x = np.array([[-INF, -INF], [-INF, 0.0], [INF, 0.0]])
    f = lambda x: special.logsumexp(x, axis=1)  # noqa: E731
    value, pull = fg.vjp(f, x)
    np.testing.assert_array_equal(value, [-INF, 0.0, INF])
    np.testing.assert_array_equal(pull(np.ones(3))[0], [[0, 0], [0, 1], [1, 0]])
    _, tangent = fg.jvp(f, (x,), (np.ones_like(x),))
    np.testing.assert_array_equal(tangent, [0, 1, 1])
    assert special.logsumexp(np.zeros(0)) == -INF


def test_logsumexp_of_large_numbers():
    for shift in (-1000.0, 1000.0):
        value, gradient = fg.value_and_grad(special.logsumexp)(np.array([shift, shift]))
        np.testing.assert_allclose(value, shift + np.log(2.0))
        np.testing.assert_array_equal(gradient, [0.5, 0.5])
    # A weight of 0 hides its element, however large.
    assert special.logsumexp(np.array([1e4, 0.0]), b=np.array([0.0, 1.0])) == 0.0
    value, sign = special.logsumexp(np.array([0.0, 0.0]), b=np.array([1.0, -3.0]), return_sign=True)
    assert (float(value), float(sign)) == (np.log(2.0), -1.0)


def test_tails():
    x = np.array([-800.0, -40.0, 40.0, 800.0])
    np.testing.assert_array_equal(special.expit(x)[[0, 3]], [0.0, 1.0])
    np.testing.assert_allclose(special.expit(x)[1], np.exp(-40.0))
    np.testing.assert_allclose(special.log_expit(x)[:2], x[:2])
    np.testing.assert_allclose(special.softplus(x)[2:], x[2:])
    for f in (special.expit, special.log_expit, special.softplus, special.log_ndtr):
        assert np.all(np.isfinite(fg.vjp(f, x)[1](np.ones(4))[0]))


@pytest.mark.parametrize("x", [-30.0, -10.001, -9.999, -1.0, 0.0, 2.0, 9.0])
def test_log_ndtr_against_mpmath(x):
    with mpmath.workdps(50):
        value = mpmath.log(mpmath.ncdf(x))
        slope = mpmath.npdf(x) / mpmath.ncdf(x)
    np.testing.assert_allclose(float(special.log_ndtr(x)), float(value), rtol=2e-14)
    np.testing.assert_allclose(fg.grad(special.log_ndtr)(x), float(slope), rtol=2e-14)


@pytest.mark.parametrize(
    ("f", "args", "value", "gradient"),
    [
        (special.xlogy, (0.0, 0.0), 0.0, (-INF, 0.0)),
        (special.xlogy, (0.0, 2.0), 0.0, (np.log(2.0), 0.0)),
        (special.xlogy, (2.0, 1.0), 0.0, (0.0, 2.0)),
        (special.xlog1py, (0.0, -1.0), 0.0, (-INF, 0.0)),
        (special.entr, (0.0,), 0.0, (INF,)),
        (special.entr, (1.0,), 0.0, (-1.0,)),
        (special.entr, (-1.0,), -INF, (0.0,)),
        (special.rel_entr, (0.0, 1.0), 0.0, (-INF, 0.0)),
        (special.rel_entr, (0.0, 0.0), 0.0, (0.0, 0.0)),
        (special.rel_entr, (2.0, 5e-324), 1490.2664382038822, (746.1332191019411, -INF)),
        (special.rel_entr, (1.0, 0.0), INF, (0.0, 0.0)),
        (special.rel_entr, (2.0, 2.0), 0.0, (1.0, -1.0)),
        (special.logit, (0.5,), 0.0, (4.0,)),
    ],
)
def test_edges(f, args, value, gradient):
    with np.errstate(all="ignore"):
        got, slopes = fg.value_and_grad(f, argnums=tuple(range(len(args))))(*args)
    assert got == value
    np.testing.assert_allclose(slopes, gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, lambda f: fg.jit(f, backend="numpy")])
@pytest.mark.parametrize(
    ("f", "point", "mixed"),
    [
        (special.xlogy, (0.0, 2.0), 0.5),
        (special.xlogy, (0.0, 0.0), INF),
        (special.xlogy, (3.0, 0.5), 2.0),
        (special.xlog1py, (0.0, 1.0), 0.5),
        (special.xlog1py, (0.0, -1.0), INF),
    ],
)
def test_second_derivatives_agree_in_either_order(f, point, mixed, wrap, dtype):
    x, y = map(dtype, point)
    with np.errstate(all="ignore"):
        x_last = wrap(fg.grad(lambda x, y: fg.grad(f, 1)(x, y), 0))(x, y)
        y_last = wrap(fg.grad(lambda x, y: fg.grad(f, 0)(x, y), 1))(x, y)
    assert x_last == y_last == mixed and x_last.dtype == dtype


def test_complex_numbers_are_refused():
    with pytest.raises(fg.errors.OperandTypeError, match="real numbers only"):
        fg.jit(special.erf)(1j)
