"""Special functions where the obvious formula would leave no digits: far tails, large numbers."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.scipy import special

MODES = {
    "plain": lambda f: f,
    "eager": lambda f: lambda *xs: fg.vjp(f, *xs)[0],
    "vmap": fg.vmap,
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
}
SMALL = np.array([1e-300, 1e-100, 1e-30, 1e-20, 1e-10, 1e-8, 1e-3, 0.07, 0.08, 0.4])
LARGE = np.array([0.5, 2.0, 9.5, 10.0, 12.0, 1e5, 1e9, 1e15])


@pytest.fixture(params=MODES)
def mode(request):
    if request.param == "llvm" and not HAS_LLVM:
        pytest.skip("llvmlite is not installed")
    return MODES[request.param]


def test_quantiles_of_small_probabilities(mode):
    want = []
    for p in SMALL:
        with mpmath.workdps(400):
            tail = mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(p)))
            want.append(
                float(mpmath.findroot(lambda x, p=p: mpmath.log(mpmath.ncdf(x) / p), -tail))
            )
    np.testing.assert_allclose(mode(special.ndtri)(SMALL), want, rtol=1e-13)
    single = SMALL[2:].astype(np.float32)
    np.testing.assert_allclose(mode(special.ndtri)(single), want[2:], rtol=2e-6)


def test_ends_of_quantiles(mode):
    ends = np.array([0.0, 1.0, -1e-9, 1.5, np.nan])
    with np.errstate(all="ignore"):
        found = mode(special.ndtri)(ends)
        slopes = fg.vmap(fg.grad(special.ndtri))(np.array([0.0, 1e-20]))
    np.testing.assert_array_equal(found, [-np.inf, np.inf, np.nan, np.nan, np.nan])
    # The reciprocal of the density.
    np.testing.assert_allclose(slopes, [np.inf, 1.067472533301398e19], rtol=1e-11)


def test_beta_of_large_numbers(mode):
    a, b = (x.ravel() for x in np.meshgrid(LARGE, LARGE))
    with mpmath.workdps(60):
        gammas = [[mpmath.loggamma(mpmath.mpf(x)) for x in v] for v in (a, b)]
        sums = [mpmath.loggamma(mpmath.mpf(x) + mpmath.mpf(y)) for x, y in zip(a, b, strict=True)]
        want = [float(p + q - r) for p, q, r in zip(gammas[0], gammas[1], sums, strict=True)]
    np.testing.assert_allclose(mode(special.betaln)(a, b), want, rtol=1e-12, atol=1e-14)


def test_beta_of_a_negative_and_a_large_number(mode):
    a = np.array([-0.5, -0.5, -1e-3, -1.5, -20.5, -20.5, -2.25, -(2.0**-1022)])
    b = np.array([1e10, 1.7e308, 1e5, 1e300, 31.0, 25.0, 1e200, 1.7e308])
    with mpmath.workdps(400):
        terms = [[mpmath.mpf(x) for x in pair] for pair in zip(a, b, strict=True)]
        gamma = [[mpmath.loggamma(x).real for x in (p, q, p + q)] for p, q in terms]
        want = [float(p + q - r) for p, q, r in gamma]
    np.testing.assert_allclose(mode(special.betaln)(a, b), want, rtol=1e-12)
    np.testing.assert_allclose(mode(special.betaln)(b, a), want, rtol=1e-12)
    single = mode(special.betaln)(a[:3].astype(np.float32), b[[0, 2, 2]].astype(np.float32))
    wanted = special.betaln(a[:3], b[[0, 2, 2]])
    np.testing.assert_allclose(single, wanted, rtol=4e-6)


def test_beta_at_infinity(mode):
    a = np.array([np.inf, np.inf, np.inf, np.inf, -np.inf])
    b = np.array([0.5, 1.7e308, np.inf, -0.5, 1.7e308])
    found = mode(special.betaln)(a, b)
    np.testing.assert_array_equal(found, [-np.inf, -np.inf, -np.inf, np.inf, -np.inf])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_relative_entropy_keeps_the_dtype(mode, dtype):
    x, y = np.array([0.5, 0.0, -1.0], dtype), np.array([0.25, 1.0, 1.0], dtype)
    found = mode(special.rel_entr)(x, y)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [0.5 * np.log(2), 0, np.inf], rtol=1e-3)
