"""gammaln, digamma and polygamma: accuracy against mpmath, their poles, and their derivatives."""

from __future__ import annotations

import runpy
from itertools import pairwise

import mpmath
import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.primitives import _gamma
from funcgrad.scipy import special

RNG = np.random.default_rng(0)
INF, NAN = np.inf, np.nan
ZERO_OF_DIGAMMA = 1.4616321449683622


def near(x: float) -> np.ndarray:
    return x + np.exp(RNG.uniform(-36, -1, 60)) * RNG.choice([-1, 1], 60)


POSITIVE = np.concatenate(
    [
        RNG.uniform(0, 3, 150),
        RNG.uniform(3, 40, 100),
        np.exp(RNG.uniform(-80, 80, 100)),
        near(1.0),
        near(2.0),
        near(ZERO_OF_DIGAMMA),
    ]
)
NEGATIVE = -np.concatenate([RNG.uniform(0, 4, 150), RNG.uniform(4, 100, 50)])
PRECISE = {
    "gammaln": lambda x: mpmath.re(mpmath.loggamma(x)),
    "digamma": mpmath.digamma,
    "polygamma 1": lambda x: mpmath.polygamma(1, x),
    "polygamma 2": lambda x: mpmath.polygamma(2, x),
    "polygamma 5": lambda x: mpmath.polygamma(5, x),
}


def function(name):
    if name.startswith("polygamma"):
        return lambda x: _gamma.polygamma(x, int(name.split()[1]))
    return getattr(_gamma, name)


def precise(name, x):
    with mpmath.workdps(60):
        return [PRECISE[name](mpmath.mpf(float(v))) for v in x]


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 4.0), (np.float32, 0.51)])
@pytest.mark.parametrize("name", PRECISE)
def test_positive_numbers(name, dtype, bound):
    info = np.finfo(dtype)
    x = POSITIVE.astype(dtype)
    got = function(name)(x)
    assert got.dtype == dtype
    for g, e, v in zip(got, precise(name, x), x, strict=True):
        if info.tiny < abs(e) < float(info.max):
            unit = np.spacing(np.abs(dtype(float(e))))
            assert abs(mpmath.mpf(float(g)) - e) <= bound * float(unit), v


@pytest.mark.parametrize("name", PRECISE)
def test_negative_numbers(name):
    """Near a zero the error is small beside the terms that cancel there.

    A derivative's order multiplies the relative error of the cotangent.
    """
    order = int(name.split()[1]) if name.startswith("poly") else 0
    got = function(name)(NEGATIVE)
    beside = precise(name, 1 - NEGATIVE)
    for g, e, b, v in zip(got, precise(name, NEGATIVE), beside, NEGATIVE, strict=True):
        allowed = (4 + 2 * order) * np.spacing(abs(float(e))) + 2.0**-49 * (1 + abs(b))
        if name == "polygamma 2":
            allowed += 2.0**-46  # its other term is as large as 40 at the zeros
        assert abs(mpmath.mpf(float(g)) - e) <= allowed, v


def test_poles_and_ends():
    x = np.array([0.0, -0.0, -1.0, -2.0, -1e30, INF, -INF, NAN, 5e-324, -5e-324])
    small = 744.4400719213812
    want = {
        "gammaln": [INF, INF, INF, INF, INF, INF, INF, NAN, small, small],
        "digamma": [-INF, INF, NAN, NAN, NAN, INF, NAN, NAN, -INF, INF],
        "polygamma 1": [INF, INF, INF, INF, INF, 0, NAN, NAN, INF, INF],
        "polygamma 2": [-INF, INF, NAN, NAN, NAN, 0, NAN, NAN, -INF, INF],
    }
    for name, expected in want.items():
        for dtype in (np.float64, np.float32):
            n = 10 if dtype == np.float64 else 8
            with np.errstate(over="ignore"):
                points = x[:n].astype(dtype)
            got = function(name)(points)
            np.testing.assert_array_equal(got, np.array(expected[:n], dtype), name)
    zeros = special.gammaln(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(zeros, 0.0)
    assert not np.signbit(zeros).any()


def test_shapes_and_dtypes():
    for name in PRECISE:
        f = function(name)
        assert np.shape(f(np.float32(2.5))) == ()
        assert f(np.zeros((0, 3))).shape == (0, 3)
        x = np.linspace(-3.3, 9.1, 12).reshape(3, 4)
        np.testing.assert_array_equal(f(x[:, ::2]), f(x)[:, ::2])
    for f in (special.gammaln, special.digamma, lambda x: special.polygamma(1, x)):
        assert f(np.array([1, 3])).dtype == np.float64
        assert f(np.ones(2, np.float32)).dtype == np.float32
    with pytest.raises(fg.errors.OperandTypeError, match="real numbers only"):
        fg.jit(special.gammaln)(1j)


def test_high_orders():
    for n in (20, 60, 100):
        x = np.array([0.7, 3.0, 50.0, 400.0])
        want = [float(mpmath.polygamma(n, v)) for v in x]
        np.testing.assert_allclose(special.polygamma(n, x), want, rtol=1e-13)
    with pytest.raises(ValueError, match="orders from 0 to 100, not for 101"):
        special.polygamma(101, 1.0)


def test_dimensions_are_from_1():
    for d in (0, -1):
        with pytest.raises(ValueError, match=f"dimensions from 1, not for {d}"):
            special.multigammaln(3.0, d)


@pytest.mark.parametrize("backend", ["numpy", None])
def test_each_is_the_derivative_of_the_one_before(backend):
    x = np.array([-1.3, 0.3, 1.0, 2.5, 20.0])
    chain = [special.gammaln, special.digamma] + [
        lambda v, n=n: special.polygamma(n, v) for n in (1, 2, 3)
    ]
    for f, slope in pairwise(chain):
        found = fg.jit(fg.vmap(fg.grad(f)), backend=backend)(x)
        np.testing.assert_allclose(found, slope(x), rtol=1e-14)


def test_what_is_made_of_them():
    a, b = np.array([0.3, 2.0, 40.0]), np.array([1.5, 3.0, 0.2])
    with mpmath.workdps(30):
        want = [float(mpmath.log(mpmath.beta(p, q))) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(special.betaln(a, b), want, rtol=1e-13)
    # The multivariate gamma function of dimension 1 is gamma.
    np.testing.assert_array_equal(special.multigammaln(a, 1), special.gammaln(a))
    np.testing.assert_allclose(
        special.multigammaln(4.0, 3),
        1.5 * np.log(np.pi) + sum(special.gammaln(np.array([4.0, 3.5, 3.0]))),
        rtol=1e-14,
    )
    assert special.psi is special.digamma
    np.testing.assert_array_equal(special.polygamma(0, a), special.digamma(a))


def test_exported_source_holds_its_own_copy(tmp_path):
    def f(x):
        return fg.value_and_grad(lambda v: np.sum(special.gammaln(v) + special.polygamma(1, v)))(x)

    x = np.array([-0.5, 0.5, 2.5, 5.0, 30.0])
    path = tmp_path / "model.py"
    fg.export(f, x, path=path)
    source = path.read_text(encoding="utf-8")
    assert "import funcgrad" not in source and "from funcgrad" not in source
    scope = runpy.run_path(str(path))
    for got, want in zip(scope["f"](x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["gammaln", "digamma"])
@pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")
def test_arrays_of_any_number_of_elements(name):
    # Small arrays are one vector, of as many lanes as they have elements; -2.5 is a rare one.
    lengths = (1, 3, 7, 8, 9, 12, 20, 24, 33)
    arrays = [np.linspace(-2.5, 5.3, n) for n in lengths]
    compiled = fg.jit(lambda xs: [getattr(special, name)(x) for x in xs], backend="llvm")
    for result, x in zip(compiled(arrays), arrays, strict=True):
        np.testing.assert_allclose(result, getattr(special, name)(x), rtol=1e-12)
