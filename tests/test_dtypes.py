"""Dtypes that are asked for: what is computed in them is what NumPy computes, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _modes import MODES, check, outcome

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


# --- truth, and what else depends on the dtype ----------------------------------------

PARTS = (0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan)
GRID = np.array([complex(re, im) for re in PARTS for im in PARTS])
TRUTHS = {
    "astype": lambda xp, x: x.astype(bool),
    "and": lambda xp, x: xp.logical_and(x, x[::-1]),
    "or": lambda xp, x: xp.logical_or(x, False),
    "xor": lambda xp, x: xp.logical_xor(x, True),
    "not": lambda xp, x: xp.logical_not(x),
    "any": lambda xp, x: xp.any(x),
    "all": lambda xp, x: xp.all(x),
    "where": lambda xp, x: xp.where(x, 1.5, 2),
    "count_nonzero": lambda xp, x: xp.count_nonzero(x),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_complex_numbers_are_true_where_either_part_is(name):
    for x in (COMPLEX, GRID, np.array([1j]), np.zeros(2, np.complex64)):
        check(TRUTHS[name], x)


def test_a_branch_on_an_imaginary_number():
    def chosen(x):
        return 1.0 if x else 2.0

    assert float(fg.jvp(lambda x: x * chosen(x), (1j,), (1.0 + 0j,))[1].real) == 1.0
    assert fg.cond(np.complex128(1j), lambda: 1.0, lambda: 2.0) == 1.0


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_signs(dtype):
    check(lambda xp, x: xp.sign(x), GRID.astype(dtype))


BOOLEANS = {
    "round": lambda xp, x: xp.round(x),
    "round to decimals": lambda xp, x: xp.round(x, 1),
    "angle": lambda xp, x: xp.angle(x),
    "square": lambda xp, x: x**2,
    "cube": lambda xp, x: x**3,
    "power": lambda xp, x: xp.power(x, 2),
    "root": lambda xp, x: x**0.5,
    "powers of itself": lambda xp, x: x**x,
    "max": lambda xp, x: xp.max(x, initial=0),
    "plus": lambda xp, x: +x,
}


@pytest.mark.parametrize("name", BOOLEANS)
def test_booleans_become_the_numbers_that_numpy_makes_of_them(name):
    check(BOOLEANS[name], BOOLS)


@pytest.mark.parametrize("power", [2, 0.5, -1, 3, 0])
def test_complex_powers(power):
    check(lambda xp, x: x**power, GRID)


# --- conversions ----------------------------------------------------------------------

# NaN, infinities, and numbers on both sides of every integer dtype's limits.
LIMITS = [0.5, 1.9, 127.0, 128.0, 200.5, 256.0, 300.7, 32768.0, 65536.0, 70000.0]
LIMITS += [2.0**k + d for k in (31, 32, 40, 62, 63, 64) for d in (0, -0.5, -1, 7, 2.0 ** (k - 20))]
BEYOND = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, *LIMITS, *(-x for x in LIMITS)])
INTEGERS = "int8 uint8 int16 uint16 int32 int64 uint64".split()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex128"])
def test_numbers_that_an_integer_dtype_cannot_hold(dtype):
    with np.errstate(all="ignore"):
        x = BEYOND.astype(dtype)
    modes = ("eager", "vmap", "numpy", "llvm")
    check(lambda xp, x: [x.astype(name) for name in INTEGERS], x, modes=modes)
    check(lambda xp, x: [x.astype(name) for name in INTEGERS], x[0], modes=modes)


def test_uint32_of_numbers_out_of_range():
    # NumPy has two answers, as the elements lie; all of ours are that for a single number.
    with np.errstate(all="ignore"):
        wanted = BEYOND.astype(np.int64).astype(np.uint32)
    for mode in ("eager", "vmap", "numpy", "llvm"):
        got = outcome(lambda run=MODES[mode]: run(lambda xp, x: x.astype("u4"), (BEYOND,)))
        np.testing.assert_array_equal(got, wanted)


# --- neighbours -----------------------------------------------------------------------


def test_a_neighbour_moves_along_with_its_number():
    x, y = np.array([1.0, -2.0, 3.0]), np.array([2.0, 2.0, -np.inf])
    slopes = fg.grad(lambda x, y: np.sum(np.nextafter(x, y) * [1.0, 2.0, 3.0]), (0, 1))(x, y)
    np.testing.assert_array_equal(slopes[0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(slopes[1], [0.0, 0.0, 0.0])
    for backend in ("numpy", "llvm"):
        slope = fg.jit(fg.grad(lambda x: np.sum(np.nextafter(x, 5.0) ** 2)), backend=backend)(x)
        np.testing.assert_allclose(slope, 2 * x)
