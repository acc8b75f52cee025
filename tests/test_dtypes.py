"""Dtypes that are asked for: what is computed in them is what NumPy computes, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

from _modes import check

U8 = np.array([[255, 100, 3], [7, 250, 2]], np.uint8)
I64 = np.array([[2**62, -100, 3], [-7, 40_000, 2**40]])
BOOLS = np.array([[True, False, True], [True, True, False]])
FLOATS = np.array([[1.5, 100.0, 3.0], [7.0, -2.5, 30.0]], np.float32)
COMPLEX = np.array([[1.5 + 1j, 4, 3j], [-2.5j, 1e-3j, 30]])
ARRAYS = (U8, I64, BOOLS, FLOATS, COMPLEX)
# Which array, and the dtype asked for.
ASKED = [
    (0, np.uint8),
    (0, np.int8),
    (0, bool),
    (0, np.float32),
    (1, np.int8),
    (1, np.uint16),
    (1, np.uint64),
    (2, bool),
    (2, np.int16),
    (2, np.float32),
    (3, np.float64),
    (4, bool),
]
EXACT = [(i, dtype) for i, dtype in ASKED if np.dtype(dtype).kind in "iub"]
SUMS = "sum prod cumsum cumprod nansum nanprod nancumsum nancumprod".split()


@pytest.mark.parametrize("name", SUMS)
def test_sums_and_products(name):
    check(
        lambda xp, *xs: [getattr(xp, name)(xs[i], axis=1, dtype=dtype) for i, dtype in ASKED],
        *ARRAYS,
    )


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "trace"])
def test_methods(name):
    check(lambda xp, *xs: [getattr(xs[i], name)(dtype=dtype) for i, dtype in EXACT], *ARRAYS)


@pytest.mark.parametrize("name", ["mean", "nanmean"])
def test_averages(name):
    narrow = [(i, dtype) for i, dtype in ASKED if i < 3 and dtype is not bool]
    check(
        lambda xp, *xs: [getattr(xp, name)(xs[i], axis=1, dtype=dtype) for i, dtype in narrow],
        *ARRAYS,
    )


@pytest.mark.parametrize("name", ["var", "nanvar"])
def test_variances(name):
    narrow = [(0, np.uint8), (0, np.int16), (2, np.int16), (0, np.float64)]
    check(
        lambda xp, *xs: [getattr(xp, name)(xs[i], axis=1, dtype=dtype) for i, dtype in narrow],
        *ARRAYS,
    )


def test_deviations_in_integers():
    check(lambda xp, x: xp.std(x, axis=1, dtype=np.int16), U8)
    check(lambda xp, x: xp.std(x, dtype=np.int16), U8)


def test_an_average_of_inexact_numbers_is_inexact():
    check(lambda xp, x: xp.nanmean(x, dtype=np.int16), FLOATS)


def test_a_count_beyond_float16():
    x = np.full(70_000, 1.0, np.float16)
    check(lambda xp, x: xp.mean(x), x)


UFUNCS = "add multiply maximum minimum logical_and logical_or fmax fmin".split()
WITH_TRUTH = [(i, dtype) for i, dtype in ASKED if dtype is bool]


@pytest.mark.parametrize("name", UFUNCS)
def test_reduce(name):
    asked = WITH_TRUTH if name.startswith("logical") else ASKED
    check(
        lambda xp, *xs: [
            getattr(xp, name).reduce(xs[i], axis=1, dtype=dtype) for i, dtype in asked
        ],
        *ARRAYS,
    )


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_accumulate(name):
    check(
        lambda xp, *xs: [
            getattr(xp, name).accumulate(xs[i], axis=1, dtype=dtype) for i, dtype in ASKED
        ],
        *ARRAYS,
    )


@pytest.mark.parametrize("name", ["logical_or", "logaddexp"])
def test_dtypes_that_a_ufunc_has_no_loop_for(name):
    check(lambda xp, x: getattr(xp, name).reduce(x, dtype=np.int8), U8)
    check(lambda xp, x: getattr(xp, name).accumulate(x, dtype=np.int8), U8)


@pytest.mark.parametrize(
    "initial", [3, 300, -1, 2.7, True, np.int64(300), np.float64(3.7)], ids=repr
)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_initial(name, initial):
    for x in (U8, BOOLS, FLOATS):
        check(lambda xp, x: getattr(xp, name)(x, axis=1, initial=initial), x)
    check(lambda xp, x: getattr(xp, name)(x, initial=initial), U8[:0])
    if name in ("sum", "prod"):
        check(lambda xp, x: getattr(xp, name)(x, dtype=np.uint8, initial=initial), I64)
