"""Order: sorting, places in what is sorted."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _surface import assert_same, check
from funcgrad.errors import (
    InPlaceError,
    ShapeError,
    TracerValueError,
    UnsupportedFunctionError,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5))
M = RNG.standard_normal((4, 5))
V = RNG.standard_normal(7)
EDGES = np.array([-1.0, -0.3, 0.4, 1.1])
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
        (lambda x: np.searchsorted(x, 1.0, side="top"), ValueError),
        (lambda x: np.searchsorted(x[None], x), ShapeError),
    ],
)
def test_refused(f, error):
    with pytest.raises(error):
        fg.jit(f)(V)
