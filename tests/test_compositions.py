"""What is made of several operations is NumPy's own, over odd inputs, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _modes import check
from _versions import since
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError, UnsupportedFunctionError

INF, NAN = np.inf, np.nan
X = np.array([-1.0, -0.0, 0.5, 1.0, 1.5, 2.0, 3.0, NAN, INF, -INF])
Z = np.array([complex(INF, 1.26), complex(1.26, -INF), complex(NAN, 2), -0.375 + 12.5j])
ENDS = {d: np.array([np.iinfo(d).max, np.iinfo(d).min, 0, 3], d) for d in ("u1", "i1", "i8", "u8")}
ENDS["?"] = np.array([True, False, True, False])

# --- places among bins ----------------------------------------------------------------

BINS = {
    "rising": [0.0, 1.0, 2.0],
    "falling": [2.0, 1.0, 0.0],
    "equal": [1.0, 1.0],
    "falling, with equals": [2.0, 2.0, 1.0],
    "one": [1.0],
    "none": [],
}


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("case", BINS)
def test_digitize(case, right):
    bins = np.array(BINS[case])
    check(lambda xp, x: xp.digitize(x, bins, right=right), X)
    # Under jit and vmap the order of the bins shows only when the program runs.
    check(lambda xp, x, bins: xp.digitize(x, bins, right), X, bins)
    check(lambda xp, x, bins: xp.digitize(x, bins, right), ENDS["u1"], bins.astype("i1"))


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.digitize(x, [0.0, 2.0, 1.0]), ArgumentError),
        (lambda x: np.digitize(x, [[0.0, 2.0]]), ArgumentError),
        (lambda x: np.digitize(x + 1j, [0.0, 2.0]), OperandTypeError),
        (lambda x: np.digitize(x, np.array([0.0, 2j])), OperandTypeError),
    ],
)
def test_bins_that_are_none(f, error):
    for transformed in (fg.jit(f), fg.vmap(f), lambda x: fg.vjp(f, x)):
        with pytest.raises(error):
            transformed(np.zeros((2, 3)))


# --- interpolation --------------------------------------------------------------------

VALUES = {
    "falling": [9, 5, 1],
    "infinite": [INF, 1.0, -INF],
    "equal infinities": [INF, INF, 2.0],
    "with NaN": [1.0, NAN, 3.0],
    "large": [1e200, -1e200, 1e308],
}


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "c16"])
@pytest.mark.parametrize("case", VALUES)
def test_interp(case, dtype):
    if (dtype == "u1" and case != "falling") or (dtype == "f4" and case == "large"):
        return
    fp, xp = np.array(VALUES[case]).astype(dtype), np.array([0.0, 1.0, 2.0])

    def f(np, x, at, fp):
        return (
            np.interp(x, at, fp),
            np.interp(x, at, fp, left=-5, right=NAN),
            np.interp(x, at, fp, period=2.5),
        )

    check(f, X, xp, fp)
    check(f, np.float32(X), np.array([0, 1, 1], "u1"), fp)


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4"])
def test_interp_is_in_double_precision(dtype):
    x = np.array([1, 0, 2]).astype(dtype)
    check(lambda np, x: np.interp(x, [0, 1, 5], [False, True, True]), x)
    check(lambda np, x: np.interp(x, x[:1], x[:1], right=7), x)
    check(lambda np, x: np.interp(np.float64(0.3), [0, 1], x[1:]), x)


def test_derivatives_of_interp_at_points_and_beyond():
    xp, fp = np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 2.0])
    slopes = [fg.grad(lambda x: np.interp(x, xp, fp))(x) for x in (-1.0, 0.0, 1.0, 3.0, 4.0)]
    assert slopes == [0, 2, -0.5, -0.5, 0]
    by_values = fg.jacrev(lambda fp: np.interp(np.array([-1.0, 0.25, 1.0, 3.0]), xp, fp))(fp)
    np.testing.assert_array_equal(by_values, [[1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0, 1]])
    # An infinite end elsewhere does no harm.
    assert fg.grad(lambda x: np.interp(x, xp, np.array([1.0, 3.0, INF])))(0.5) == 2
    assert fg.grad(lambda x: np.interp(x, xp, fp).astype(np.float32))(np.float32(0.5)).dtype == "f4"


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: np.interp(x, [0.0, 1.0], [1.0]), ShapeError),
        (lambda x: np.interp(x, [], []), ShapeError),
        (lambda x: np.interp(x, [[0.0, 1.0]], [[1.0, 2.0]]), ShapeError),
        (lambda x: np.interp(x + 1j, [0.0, 1.0], [1.0, 2.0]), OperandTypeError),
        (lambda x: np.interp(x, [0.0, 1.0], [1.0, 2.0], left=1j), OperandTypeError),
        (lambda x: np.interp(x, [0.0, 1.0], [1.0, 2.0], period=0), ArgumentError),
    ],
)
def test_what_interp_refuses(f, error):
    for transformed in (fg.jit(f), lambda x: fg.vjp(f, x)):
        with pytest.raises(error):
            transformed(np.zeros(3))


# --- equality -------------------------------------------------------------------------

PAIRS = {
    "unsigned": (ENDS["u1"], ENDS["u1"][::-1]),
    "bool": (ENDS["?"], ENDS["?"][::-1]),
    "signed": (ENDS["i1"], np.full(4, -128, "i1")),
    "long": (ENDS["i8"], np.full(4, -(2**63))),
    "mixed": (ENDS["u8"], ENDS["i8"]),
    "floats": (X, X[::-1]),
    "the same": (X, X),
    "float16": (np.float16(X), np.float32(X)),
    "complex": (Z, Z),
    "bool and int": (ENDS["?"], ENDS["i1"]),
    "empty": (X[:0], X[:0]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_closeness(case):
    def f(xp, a, b):
        return (
            xp.isclose(a, b),
            xp.isclose(a, b, equal_nan=True),
            xp.isclose(a, b, rtol=0.5, atol=1),
            xp.isclose(a, 1),
            xp.isclose(-1, b),
            xp.isclose(INF, a),
            xp.isclose(a, 2.0, rtol=INF),
            xp.allclose(a, b, atol=3),
            xp.allclose(a, a, equal_nan=True),
            xp.array_equal(a, b),
            xp.array_equal(a, a, equal_nan=True),
        )

    check(f, *PAIRS[case])


@pytest.mark.parametrize("x", [X, ENDS["?"], X[:0], np.float32(2), Z], ids=str)
def test_equality_with_what_is_no_number(x):
    check(lambda xp, x: (x == None, x != None, x == None, x == "a", x != "a", x == b"a"), x)  # noqa: E711


# --- rounding and parts ---------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, -1, 3, -3, 400, -400])
def test_round(decimals):
    for x in (X * 1.26, np.float32(X * 55.5), Z):
        check(lambda xp, x: xp.round(x, decimals), x)
    # What would be no integer converts as the processor has it.
    if decimals != -400:
        for x in (ENDS["i1"], ENDS["u1"], ENDS["i8"] // 3):
            check(lambda xp, x: xp.round(x, decimals), x)


def test_infinite_parts_stay_apart():
    check(lambda xp, z: xp.nan_to_num(z, nan=7, posinf=INF, neginf=3), Z)
    check(lambda xp, z: xp.nan_to_num(z, posinf=None, neginf=-INF), np.complex64(Z))
    # Derivatives of real and imaginary part: d|z|^2 = 2 re, 2 im.
    f = lambda re, im: np.sum(np.abs(np.nan_to_num(re + 1j * im)) ** 2)  # noqa: E731
    grads = fg.grad(f, (0, 1))(np.array([3.0]), np.array([4.0]))
    np.testing.assert_allclose(grads, [[6], [8]])
    np.testing.assert_allclose(fg.jvp(f, (np.ones(1), np.ones(1)), (np.ones(1), np.ones(1)))[1], 4)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "i8", "f2", "f4", "c8"])
def test_parts_and_differences(dtype):
    x = np.array([1, 0, 3, 1, 0]).astype(dtype)

    def f(xp, x):
        return (
            xp.angle(x),
            xp.angle(x, deg=True),
            xp.real(x),
            xp.imag(x),
            xp.diff(x, 0),
            xp.diff(x, 2),
            xp.diff(x, 9),
            xp.trapezoid(x),
            xp.sort_complex(x),
            xp.nan_to_num(x),
        )

    check(f, x)
    for other in (
        *since("2.1.0", {"": lambda xp, x: xp.clip(x, None, None)}).values(),
        lambda xp, x: xp.isposinf(x),
        lambda xp, x: xp.isneginf(x),
        lambda xp, x: xp.ediff1d(x, to_begin=[1, 2], to_end=0),
        lambda xp, x: xp.ediff1d(x, to_end=[1.5]),
        lambda xp, x: xp.diff(x[0], 1),
        lambda xp, x: xp.diff(x, -1),
        lambda xp, x: xp.polyval(x, 2),
        lambda xp, x: xp.polyval(x[0], 2),
        lambda xp, x: xp.partition(x[:0], 3),
        lambda xp, x: xp.partition(x, 5),
    ):
        check(other, x)


# --- order in memory ------------------------------------------------------------------

LAYOUTS = {
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(6.0).reshape(3, 2).T,
    "negative": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "moved": np.moveaxis(np.arange(12.0).reshape(3, 2, 2), 0, 1),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_order_in_memory(name):
    x = LAYOUTS[name]
    for order in ("C", "F", None):
        check(lambda xp, x: (xp.ravel(x, order=order), x.flatten(order or "C")), x)  # noqa: B023
        check(lambda xp, x: xp.reshape(x, (2, -1), order=order), x)  # noqa: B023
    # One axis has one order, whatever its stride.
    check(lambda xp, x: (x[0, 0].ravel("K"), x[0].ravel()[::-1].flatten("A")), x)
    check(lambda xp, x: xp.ravel(x[:1, :1], order="K"), x)
    for f in (
        lambda x: np.ravel(x, order="K"),
        lambda x: x.ravel("A"),
        lambda x: x.flatten(order="K"),
        lambda x: x.reshape(-1, order="A"),
    ):
        for transformed in (
            fg.jit(f),
            lambda x, f=f: fg.vjp(f, x),
            lambda x, f=f: fg.vmap(f)(x[None]),
        ):
            with pytest.raises(UnsupportedFunctionError, match=r"no layout in memory.*order='C'"):
                transformed(x)
    with pytest.raises(ArgumentError, match="none of C, F, A"):
        fg.jit(lambda x: x.reshape(-1, order="K"))(x)


# --- dtypes ---------------------------------------------------------------------------


def test_comparisons_in_a_dtype():
    """`dtype=` of a comparison is that of its result; operands stay what they are."""
    for ufunc in (np.less, np.equal, np.not_equal, np.greater_equal, np.logical_and):
        check(lambda xp, x: ufunc(x, x[::-1] / 2, dtype=bool), X)  # noqa: B023
    check(lambda xp, x: (np.isnan(x, dtype=bool), np.signbit(x, dtype=bool)), X)


@pytest.mark.parametrize("dtype", [object, "S3", "U3", "M8[s]"])
def test_arrays_of_no_numbers(dtype):
    functions = [lambda x: x.astype(dtype)]
    if dtype is object:
        functions.append(lambda x: np.less(x, 1, dtype=object))
    for f in functions:
        for transformed in (fg.jit(f), fg.vmap(f), lambda x, f=f: fg.vjp(f, x)):
            with pytest.raises(OperandTypeError, match="works on numbers"):
                transformed(np.ones(3))
