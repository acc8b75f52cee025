"""The kernels of erf, erfc, erfinv and fma: accuracy over their whole range, and their ends."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.binding import bind
from funcgrad.primitives import _special, special

RNG = np.random.default_rng(0)
TINY = 10.0 ** RNG.uniform(-300, 0, 100)


def erfc_arguments() -> np.ndarray:
    return np.concatenate([RNG.uniform(-6, 26.5, 1000), RNG.uniform(-1.3, 1.3, 500), -TINY, TINY])


def erf_arguments() -> np.ndarray:
    return np.concatenate([RNG.uniform(-7, 7, 1000), RNG.uniform(-1.3, 1.3, 500), TINY])


def erfinv_arguments() -> np.ndarray:
    near_one = 1 - 10.0 ** RNG.uniform(-15.5, 0, 300)
    return np.concatenate([RNG.uniform(-1, 1, 500), near_one, -near_one, TINY])


CASES = {
    "erf": (_special.erf, mpmath.erf, erf_arguments),
    "erfc": (_special.erfc, mpmath.erfc, erfc_arguments),
    "erfinv": (_special.erfinv, mpmath.erfinv, erfinv_arguments),
}


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 3.0), (np.float32, 0.51)])
@pytest.mark.parametrize("name", CASES)
def test_accuracy(name, dtype, bound):
    function, exact, arguments = CASES[name]
    x = arguments().astype(dtype)
    x = x[np.abs(x) >= np.finfo(dtype).tiny]
    if name == "erfinv":
        x = x[np.abs(x) < 1]
    got = function(x)
    assert got.dtype == dtype
    with mpmath.workdps(40):
        want = [exact(mpmath.mpf(float(v))) for v in x]
        error = [abs(mpmath.mpf(float(g)) - w) for g, w in zip(got, want, strict=True)]
    unit = np.spacing(np.abs(np.array(want, np.float64)).astype(dtype)).astype(np.float64)
    # Below the normal numbers the unit no longer shrinks with the number.
    ulps = np.array(error, np.float64) / np.maximum(unit, np.finfo(dtype).smallest_subnormal)
    assert ulps.max() <= bound, (x[ulps.argmax()], ulps.max())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ends(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)
    np.testing.assert_array_equal(_special.erf(x), np.array([1, -1, np.nan, 0, -0.0], dtype))
    assert np.signbit(_special.erf(x)[4])
    np.testing.assert_array_equal(_special.erfc(x), np.array([0, 2, np.nan, 1, 1], dtype))
    ends = np.array([1, -1, 0, 2, -1.5, np.nan], dtype)
    want = np.array([np.inf, -np.inf, 0, np.nan, np.nan, np.nan], dtype)
    for inverse in (_special.erfinv, _special.erfinv_of_draws):
        np.testing.assert_array_equal(inverse(ends), want)
        assert inverse(ends).dtype == dtype


@pytest.mark.parametrize("function", [_special.erf, _special.erfc, _special.erfinv])
def test_shapes_and_dtypes(function):
    assert np.shape(function(np.float32(0.5))) == ()
    assert function(np.float32(0.5)).dtype == np.float32
    assert function(0).dtype == np.float64
    assert function(np.zeros((0, 3))).shape == (0, 3)
    x = np.linspace(-0.9, 0.9, 12).reshape(3, 4)
    np.testing.assert_array_equal(function(x[:, ::2]), function(x)[:, ::2])
    np.testing.assert_array_equal(function(x.T), function(x).T)


def test_large_arrays_are_computed_in_pieces():
    x = np.linspace(-0.999, 0.999, 50_001)
    np.testing.assert_array_equal(_special.erfinv(x)[::1000], _special.erfinv(x[::1000]))


def rounded(value: Fraction, dtype: type) -> np.floating:
    """The nearest number of the dtype, and of two as near the even one."""
    nearest = dtype(float(value))
    candidates = [np.nextafter(nearest, dtype(s * np.inf)) for s in (-1, 1)] + [nearest]
    distances = [abs(Fraction(float(c)) - value) for c in candidates]
    closest = [c for c, d in zip(candidates, distances, strict=True) if d == min(distances)]
    return min(closest, key=lambda c: int(c.view(f"u{c.itemsize}")) % 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype):
    x = RNG.uniform(0, 1, 400).astype(dtype)
    y = (RNG.normal(size=400) * 10.0 ** RNG.integers(-6, 7, 400)).astype(dtype)
    z = (RNG.normal(size=400) * 10.0 ** RNG.integers(-6, 7, 400)).astype(dtype)
    got = _special.fma(x, y, z)
    assert got.dtype == dtype
    want = [
        rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), dtype)
        for a, b, c in zip(x, y, z, strict=True)
    ]
    np.testing.assert_array_equal(got, np.array(want, dtype))


def test_fma_of_single_precision_where_two_roundings_err():
    # x y + z = 1 + 2**-23 + 2**-24 - 2**-70: below the midpoint of two float32, but in float64
    # it is that midpoint, whose rounding to even would go up.
    x, y = np.float32(2.0**-12 * (1 + 2.0**-23)), np.float32(2.0**-12 * (1 - 2.0**-23))
    z = np.float32(1 + 2.0**-23)
    assert np.float32(float(x) * float(y) + float(z)) != z
    np.testing.assert_array_equal(_special.fma(np.array([x, -x]), y, np.array([z, -z])), [z, -z])
    assert _special.fma(x, y, z) == z
    # An exact midpoint does go to even.
    np.testing.assert_array_equal(
        _special.fma(np.float32(2.0**-24), np.float32(1), z), 1 + 2.0**-22
    )


def test_fma_broadcasts_and_keeps_weak_scalars():
    x = RNG.uniform(size=(2, 3)).astype(np.float32)
    got = _special.fma(x, 0.1, np.float32(0.3))
    assert got.dtype == np.float32 and got.shape == (2, 3)
    np.testing.assert_array_equal(got, _special.fma(x, np.float32(0.1), np.float32(0.3)))
    assert _special.fma(x.astype(np.float64), 0.1, 1).dtype == np.float64


def test_derivatives():
    for prim in (special.erf, special.erfc, special.erfinv, special.erfinv_of_draws):
        x, step = 0.4, 1e-6
        slope = fg.grad(lambda v, p=prim: bind(p, v))(x)
        difference = (prim.impl(x + step) - prim.impl(x - step)) / (2 * step)
        np.testing.assert_allclose(slope, difference, rtol=1e-8)
    slopes = fg.grad(lambda a, b, c: bind(special.fma, a, b, c), argnums=(0, 1, 2))(2.0, 3.0, 5.0)
    np.testing.assert_array_equal(slopes, (3.0, 2.0, 1.0))


def test_complex_numbers_are_refused():
    with pytest.raises(fg.errors.OperandTypeError, match="real numbers only"):
        fg.eval_shape(lambda z: bind(special.erf, z), np.zeros(3, np.complex128))
