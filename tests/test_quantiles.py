"""Quantiles, percentiles and medians: all slices, all methods, among NaN and infinities."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _surface import assert_same, check, check_modes, check_values, check_vmap
from funcgrad.errors import (
    ArgumentError,
    IndexRangeError,
    OperandTypeError,
    ShapeError,
    UnsupportedFunctionError,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5))
M = RNG.standard_normal((4, 5))
V = RNG.standard_normal(7)
HOLES = np.where(RNG.random((4, 5)) < 0.3, np.nan, M)
AXES = [None, 0, -1, (0, 2), (1, 0, 2)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
def test_quantiles(axis, keepdims):
    options = {"axis": axis, "keepdims": keepdims}
    check(lambda x: np.median(x, **options), A, order=1)
    check_values(lambda x: np.quantile(x, [[0.0, 0.31], [0.5, 1.0]], **options), A)
    check(lambda x: np.quantile(x, 0.31, **options), A, order=1)
    check(lambda x: np.percentile(x, 77, **options), A, order=1)
    check_vmap(lambda x: np.percentile(x, [20.0, 77.0], **options), A)


METHODS = """
    linear lower higher midpoint nearest hazen weibull median_unbiased normal_unbiased
    inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf
""".split()


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_quantiles(method):
    f = lambda x: np.quantile(x, np.array([0.0, 0.21, 0.5, 0.99, 1.0]), 0, method=method)  # noqa: E731
    check(f, M, order=1)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_quantiles_of_few(n):
    for f in (np.median, lambda x: np.quantile(x, 0.3), lambda x: np.quantile(x, [0, 1])):
        check(f, V[:n], order=1)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantiles_among_nan(axis):
    for f in (
        lambda x: np.nanquantile(x, [0.1, 0.6], axis=axis),
        lambda x: np.nanpercentile(x, 40.0, axis=axis, keepdims=True),
        lambda x: np.nanmedian(x, axis=axis),
        lambda x: np.quantile(x, 0.4, axis=axis),
        lambda x: np.median(x, axis=axis),
    ):
        assert_same(fg.jit(f)(HOLES), f(HOLES))
        assert_same(fg.vjp(f, HOLES)[0], f(HOLES))
    gradient = fg.grad(lambda x: np.nansum(np.nanmedian(x, axis=axis)))(HOLES)
    np.testing.assert_array_equal(gradient[np.isnan(HOLES)], 0)
    np.testing.assert_allclose(np.sum(gradient), np.size(np.nanmedian(HOLES, axis=axis)))


def test_quantiles_of_infinities():
    x = np.array([-np.inf, 1.0, np.inf, np.inf])
    for q in (0.0, 0.25, 0.9, 1.0):
        with np.errstate(invalid="ignore"):
            expected = np.quantile(x, q)
        np.testing.assert_equal(fg.jit(lambda x: np.quantile(x, q))(x), expected)  # noqa: B023


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_dtypes_of_quantiles(dtype):
    x = (10 * np.abs(V)).astype(dtype)
    for f in (
        np.median,
        lambda x: np.quantile(x, 0.3),
        lambda x: np.quantile(x, np.array([0.3])),
        lambda x: np.percentile(x, 30.0),
        lambda x: np.percentile(x, np.array([30, 40])),
    ):
        if dtype is bool and f is not np.median:
            continue
        assert_same(fg.jit(f)(x), f(x), rtol=2e-7)


def test_a_traced_quantile_has_a_derivative():
    q = lambda q: np.quantile(V, q)  # noqa: E731
    ordered = np.sort(V)
    np.testing.assert_allclose(fg.jit(q)(0.3), q(0.3))
    np.testing.assert_allclose(fg.grad(q)(0.3), 6 * (ordered[2] - ordered[1]))


# --- odd slices -----------------------------------------------------------------------

INF, NAN = np.inf, np.nan
ROWS = np.array([[1, NAN, 3], [NAN, NAN, NAN], [4, 5, NAN], [9, 8, 7]])
ODD = {
    "the last valid": [1.0, NAN, 3.0, 2.0],
    "one": [5.0],
    "one valid": [NAN, 5.0],
    "none valid": [NAN, NAN],
    "infinite": [INF, 5.0, 4.0],
    "both infinities": [-INF, 1.0, INF, NAN],
    "near the largest": [1e308, 1e308, 9e307],
    "rows": ROWS,
}


@pytest.mark.parametrize("case", ODD)
def test_odd_slices(case):
    x, q = np.array(ODD[case]), np.array([0.0, 1 / 3, 0.5, 1.0])
    axes = (None, -1, 0, (0, 1)) if x.ndim == 2 else (None, -1)
    for name in ("median", "quantile", "percentile"):
        args = {"median": (), "quantile": (q,), "percentile": (100 * q,)}[name]
        fs = [getattr(np, name), getattr(np, f"nan{name}")]
        check_modes(lambda x: [f(x, *args, axis=i, keepdims=True) for f in fs for i in axes], x)  # noqa: B023


@pytest.mark.parametrize("method", METHODS)
def test_methods_among_nan(method):
    def f(x):
        return (
            np.nanquantile(x, [0.0, 0.3, 0.5, 1.0], -1, method=method),
            np.nanpercentile(x, 40, 0, method=method, keepdims=True),
        )

    check_modes(f, ROWS)


def test_derivatives_keep_clear_of_nan():
    for f in (np.nanmedian, lambda x: np.nanquantile(x, 1.0), lambda x: np.nanpercentile(x, 50)):
        for grad in (fg.grad(f), fg.jit(fg.grad(f)), fg.jacfwd(f)):
            with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="All-NaN"):
                f(np.array([NAN]))
            assert grad(np.array([1.0, NAN])).tolist() == [1, 0]
            assert grad(np.array([NAN, NAN])).tolist() == [0, 0]
    assert fg.grad(np.nanmedian)(np.array([INF, 5.0, 4.0])).tolist() == [0, 1, 0]


Q = [0, 1, 0.3, np.float32(0.3), np.float16([0.3, 1]), [0, 1], [[0.2]]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "i1", "i8", "u8"])
def test_dtypes_of_positions_and_elements(dtype):
    """The dtypes are NumPy's, and so are integers that go round at the ends of their range."""
    ends = np.iinfo(dtype) if dtype[0] in "iu" else np.finfo(np.float16)
    x = np.array([ends.max, 3, ends.min, ends.max], dtype)
    check_modes(lambda x: [f(x, q) for f in (np.quantile, np.nanquantile) for q in Q], x)
    methods = ("midpoint", "averaged_inverted_cdf")
    check_modes(lambda x: [np.quantile(x, Q[4], method=m) for m in methods], x)
    check_modes(lambda x: (np.median(x), np.nanmedian(x)), x)


def test_medians_of_nothing():
    for shape, axis in (((0,), None), ((0, 3), 0), ((0, 3), 1), ((2, 0), None)):
        fs = [lambda x, f=f: f(x, axis=axis, keepdims=True) for f in (np.median, np.nanmedian)]  # noqa: B023
        check_modes(lambda x: [f(x) for f in fs], np.zeros(shape))  # noqa: B023
    check_modes(lambda x: np.nanquantile(x, 0.3, 0), np.zeros((0, 3)))


def test_complex_medians():
    for x in ([1 + 2j, 1, 3], [NAN + 1j, 2, 3], [2j, 1]):
        check_modes(np.median, np.array(x))
        check_modes(np.nanmedian, np.array(x))


def test_traced_quantiles_beyond_the_range_are_nan():
    f = fg.jit(lambda q: np.quantile(V, q))
    assert np.isnan(f(np.array([-0.1, 1.1, NAN]))).all()
    with pytest.raises(ArgumentError, match="0 to 1"):
        fg.grad(lambda q: np.quantile(V, q))(1.5)


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.quantile(x, 1.5), ArgumentError),
        (lambda x: np.percentile(x, [50.0, np.nan]), ArgumentError),
        (lambda x: np.nanpercentile(x, 101), ArgumentError),
        (lambda x: np.quantile(x, [[[0.5]]]), ShapeError),
        (lambda x: np.quantile(x, 0.5, weights=np.ones(7)), UnsupportedFunctionError),
        (lambda x: np.nanquantile(x, 0.5, method="best"), ArgumentError),
        (lambda x: np.quantile(x + 0j, 0.5), OperandTypeError),
        (lambda x: np.quantile(x > 0, 0.5), OperandTypeError),
        (lambda x: np.quantile(x[:0], 0.5), IndexRangeError),
    ],
)
def test_refused(f, error):
    with pytest.raises(error):
        fg.jit(f)(V)
