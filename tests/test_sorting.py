"""Order: sorting, quantiles, places in what is sorted."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _surface import assert_same, check, check_values, check_vmap
from funcgrad.errors import (
    InPlaceError,
    OperandTypeError,
    ShapeError,
    TracerValueError,
    UnsupportedFunctionError,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5))
M = RNG.standard_normal((4, 5))
V = RNG.standard_normal(7)
HOLES = np.where(RNG.random((4, 5)) < 0.3, np.nan, M)
EDGES = np.array([-1.0, -0.3, 0.4, 1.1])
AXES = [None, 0, -1, (0, 2), (1, 0, 2)]

SORTED = {
    "sort": (lambda x: np.sort(x), A),
    "sort along": (lambda x: np.sort(x, axis=1, kind="stable"), A),
    "sort flat": (lambda x: np.sort(x, axis=None), A),
    "argsort": (lambda x: (np.argsort(x, axis=0), x.argsort(), np.argsort(x, None)), A),
    "argsort, stable": (lambda x: np.argsort(np.round(x), axis=-1, stable=True), A),
    "by argsort": (lambda x: np.take_along_axis(x, np.argsort(-x, axis=0), 0), M),
    "partition": (lambda x: np.partition(x, 2, axis=1)[:, 2], A),
    "argpartition": (lambda x: np.take_along_axis(x, np.argpartition(x, 2)[..., 2:3], -1), A),
    "searchsorted": (lambda x: np.searchsorted(EDGES, x), A),
    "searchsorted, right": (lambda x: np.searchsorted(EDGES, np.round(x, 1), side="right"), A),
    "searchsorted method": (lambda x: np.sort(x).searchsorted(EDGES), V),
    "searchsorted, sorter": (lambda x: np.searchsorted(x, EDGES, sorter=np.argsort(x)), V),
    "digitize": (lambda x: np.digitize(x, EDGES), M),
    "digitize, falling": (lambda x: np.digitize(x, EDGES[::-1], right=True), M),
}


@pytest.mark.parametrize("name", SORTED)
def test_sorting(name):
    f, x = SORTED[name]
    check(f, x, order=1)


def test_sort_of_complex_numbers():
    z = np.round(V) + 1j * V[::-1]
    for f in (np.sort, np.argsort, np.sort_complex):
        assert_same(fg.jit(f)(z), f(z))
    assert_same(fg.vmap(np.sort)(np.stack([z, -z])), np.sort(np.stack([z, -z])))


def test_the_derivative_follows_the_permutation():
    x = np.array([3.0, 1.0, 2.0])
    jacobian = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_array_equal(fg.jacrev(np.sort)(x), jacobian)
    np.testing.assert_array_equal(fg.jacfwd(np.sort)(x), jacobian)
    ties = np.array([1.0, 0.0, 1.0])
    # Equal elements count as ordered by their positions.
    np.testing.assert_array_equal(fg.jacrev(np.sort)(ties), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_sort_has_second_derivatives():
    f = lambda x: np.sum(np.sort(x) ** 3 * np.arange(7.0))  # noqa: E731
    rank = np.argsort(np.argsort(V))
    np.testing.assert_allclose(fg.hessian(f)(V), np.diag(6 * V * rank))


# --- quantiles ------------------------------------------------------------------------


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


# --- places ---------------------------------------------------------------------------


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0)])
def test_searchsorted_over_batches(in_axes):
    tables, values = np.sort(A[:, :, 0]), A[:, 1]
    args = [x[0] if axis is None else x for x, axis in zip((tables, values), in_axes, strict=True)]
    rows = [
        np.searchsorted(
            *(x if axis is None else x[i] for x, axis in zip(args, in_axes, strict=True))
        )
        for i in range(3)
    ]
    assert_same(fg.vmap(np.searchsorted, in_axes=in_axes)(*args), np.stack(rows))
    twice = fg.vmap(fg.vmap(np.searchsorted))(
        np.stack([tables, tables + 1]), np.stack([values] * 2)
    )
    assert_same(twice[1, 2], np.searchsorted(tables[2] + 1, values[2]))


def test_unique_where_values_ride_along():
    x = np.array([2.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(np.unique(x) ** 2))(x), [4, 2, 0, 6])
    for f in (
        np.unique,
        lambda x: np.unique(x, return_index=True, return_counts=True),
        lambda x: np.unique(x, return_inverse=True),
        lambda x: np.unique(np.stack([x, x]), axis=0),
    ):
        assert_same(fg.vjp(f, x)[0], f(x))
    with pytest.raises(TracerValueError, match=r"np\.unique asks for the value"):
        fg.jit(np.unique)(x)


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sort", "partition"])
def test_sorting_in_place(name):
    with pytest.raises(InPlaceError, match=rf"(?s)x = np.{name}\(x\).*test_sorting"):
        fg.grad(lambda x: getattr(x, name)(2) or np.sum(x))(V)


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.sort(x, axis=1), np.exceptions.AxisError),
        (lambda x: np.sort(x, order="a"), UnsupportedFunctionError),
        (lambda x: np.partition(x, 7), ValueError),
        (lambda x: np.quantile(x, 1.5), ValueError),
        (lambda x: np.quantile(x, 0.5, weights=np.ones(7)), UnsupportedFunctionError),
        (lambda x: np.quantile(x, x[0], method="lower"), UnsupportedFunctionError),
        (lambda x: np.nanquantile(x, 0.5, method="lower"), UnsupportedFunctionError),
        (lambda x: np.quantile(x + 0j, 0.5), OperandTypeError),
        (lambda x: np.searchsorted(x, 1.0, side="top"), ValueError),
        (lambda x: np.searchsorted(x[None], x), ShapeError),
    ],
)
def test_refused(f, error):
    with pytest.raises(error):
        fg.jit(f)(V)
