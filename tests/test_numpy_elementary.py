"""Choices, comparisons, parts, differences and norms through np. on tracers."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from _surface import assert_same, check, check_values
from _versions import since

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((3, 4))
V = RNG.standard_normal(5)
HOLES = np.array([1.0, np.nan, -np.inf, np.inf, -2.0])

SMOOTH = {
    "where": (lambda x: np.where(x > 0, x, 2 * x), M),
    "where of numbers": (lambda x: np.where(x > 0, x, 0) + np.where(x > 1, 1.0, x), M),
    "where of a float condition": (lambda x: np.where(x - x[0], x, 1.0), M),
    "where of a list": (lambda x: np.where([True, False, False, True], x, x[0]), M),
    "select": (lambda x: np.select([x < -1, x < 0, x > 1], [x, x**2, np.sin(x)], 0.5), M),
    "clip": (lambda x: np.clip(x, -0.5, 0.5), M),
    "clip below": (lambda x: np.clip(x, 0, None), M),
    **since("2.1.0", {"clip by keywords": (lambda x: np.clip(x, max=0.1), M)}),
    "clip by arrays": (lambda x: np.clip(x, x[0] - 0.1, np.arange(4.0)), M),
    "clip method": (lambda x: x.clip(-0.5, 0.5) + x.clip(max=0.25) + x.clip(min=0.2), M),
    "nan_to_num": (lambda x: np.nan_to_num(x), M),
    "round": (lambda x: np.round(x, 1) + x.round() + np.around(x * 100, -1), M),
    "fix": (lambda x: np.fix(x) + x, M),
    "real": (lambda x: np.real(x) + x.real + x.conj() + np.conj(x), M),
    "imag": (lambda x: np.imag(x * 1j) + x.imag, M),
    "angle": (lambda x: np.angle(x + 1j) + np.angle(x - 2j, deg=True), M),
    "complex parts": (lambda x: np.imag(np.exp(1j * x)) * np.abs(x + 2j), M),
    "diff": (lambda x: np.diff(x), A),
    "diff twice": (lambda x: np.diff(x, n=2, axis=1), A),
    "diff with ends": (lambda x: np.diff(x, axis=0, prepend=0.0, append=x[:1]), A),
    "ediff1d": (lambda x: np.ediff1d(x, to_begin=[1.0, 2.0], to_end=x[0, 0]), M),
    "trapezoid": (lambda x: np.trapezoid(x, dx=0.5), A),
    "trapezoid over x": (lambda x: np.trapezoid(x, np.arange(3.0) ** 2, axis=1), A),
    "trapezoid over traced x": (lambda x: np.trapezoid(x**2, x, axis=0), A),
    "cross": (lambda x: np.cross(x[:, 0], x[:, 1]), M),
    "cross along": (lambda x: np.cross(x, [1.0, 2.0, 3.0], axisa=0, axisc=0), M),
    "linalg.cross": (lambda x: np.linalg.cross(x, x[:, ::-1], axis=0), M),
    "kron": (lambda x: np.kron(x, x[:2, 0]), M),
    "kron of higher rank": (lambda x: np.kron(x, np.arange(6.0).reshape(1, 3, 2)), M),
    "sinc": (lambda x: np.sinc(x), np.array([-1.5, -0.3, 0.0, 1e-9, 0.1, 0.31, 0.32, 2.0])),
    "interp": (lambda x: np.interp(x, [-1.0, 0.0, 0.5, 2.0], [1.0, -1.0, 2.0, 0.0]), M),
    "interp between": (lambda x: np.interp(0.3, [-1.0, 0.0, 2.0], x[:, 0], left=1.0), M),
    "interp, periodic": (lambda x: np.interp(x, [0.1, 0.4, 0.9], [1.0, 3.0, 2.0], period=1), M),
    "polyval": (lambda x: np.polyval([1.0, -2.0, 3.0], x), M),
    "polyval by coefficients": (lambda x: np.polyval(x[:, 0], 0.7), M),
    "astype": (lambda x: x.astype(np.float64) * np.astype(x > 0, np.float32), M),
    "norm": (lambda x: np.linalg.norm(x), A),
    "norm, Frobenius": (lambda x: np.linalg.norm(x, axis=(0, 2)), A),
    "norm of rows": (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), A),
    **{
        f"vector norm {p}": (lambda x, p=p: np.linalg.norm(x, p, axis=1), A)
        for p in (1, 2, 3, 0.5, 2.5, np.inf, -np.inf, 0, -1)
    },
    **{
        f"matrix norm {p}": (lambda x, p=p: np.linalg.norm(x, p, axis=(0, -1), keepdims=True), A)
        for p in ("fro", 1, -1, np.inf, -np.inf)
    },
    "matrix norm of a matrix": (lambda x: np.linalg.norm(x, 1), M),
    "vector_norm": (lambda x: np.linalg.vector_norm(x) + np.linalg.vector_norm(x, ord=3), A),
    "vector_norm along": (lambda x: np.linalg.vector_norm(x, axis=(0, 2), keepdims=True), A),
    "matrix_norm": (lambda x: np.linalg.matrix_norm(x, ord=np.inf), A),
    "outer of a ufunc": (lambda x: np.subtract.outer(x, x[0]), M),
    "logaddexp.outer": (lambda x: np.logaddexp.outer(x[0], x), M),
}


# NumPy 2.5 deprecates np.fix, which users of earlier ones still have.
@pytest.mark.filterwarnings("ignore:.*fix.*:DeprecationWarning")
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth(name):
    f, x = SMOOTH[name]
    check(f, x, order=2 if name in ("sinc", "where", "norm", "angle", "select") else 1)


VALUES = {
    "isclose": lambda x: np.isclose(x, x + 1e-9),
    "isclose of NaN": lambda x: np.isclose(x, HOLES, equal_nan=True),
    "nan_to_num": lambda x: np.nan_to_num(x, nan=-1.0, posinf=9.0),
    "isposinf": lambda x: (np.isposinf(x), np.isneginf(x)),
    "isreal": lambda x: (np.isreal(x), np.iscomplex(np.where(x > 0, 1j, 1))),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    check_values(VALUES[name], HOLES)


def test_equality_as_a_whole():
    def f(x):
        return (
            np.allclose(x, x + 1e-9),
            np.array_equal(x, x),
            np.array_equal(x, x[:2]),
            np.array_equal(x * np.nan, x * np.nan, equal_nan=True),
            np.array_equiv(x, x[None]),
            np.array_equiv(x, x[:2]),
        )

    expected = [True, True, False, True, True, False]
    assert [bool(b) for b in fg.jit(f)(V)] == expected
    assert [bool(b) for b in fg.vjp(f, V)[0]] == expected


def test_what_is_known_without_values():
    def f(x):
        assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 0)) == ((3, 4), 2, 12, 3)
        assert (x.nbytes, x.itemsize, len(x)) == (48, 4, 3)
        assert np.result_type(x, np.float64) == np.float64
        assert np.result_type(x, 1.0) == np.float32
        assert np.can_cast(x.dtype, np.float64)
        assert np.isrealobj(x)
        assert np.iscomplexobj(x + 1j)
        assert np.iscomplexobj(np.zeros_like(x, dtype=complex)) is True
        return x

    fg.jit(f)(M.astype(np.float32))


def test_positions_need_values():
    x = np.array([0.0, 2.0, 0.0, 3.0])

    def f(x):
        (i,) = np.nonzero(x)
        assert_same([np.where(x > 0)[0], x.nonzero()[0], np.flatnonzero(x)], [i, i, i])
        assert_same(np.argwhere(x), i[:, None])
        return np.sum(x[i] ** 2)

    np.testing.assert_array_equal(fg.grad(f)(x), 2 * x)
    with pytest.raises(fg.errors.TracerValueError, match=r"np\.nonzero"):
        fg.jit(f)(x)


def test_in_place_functions_are_refused():
    for f in (
        lambda x: np.copyto(x, 0.0),
        lambda x: np.put(x, [0], 1.0),
        lambda x: np.place(x, x > 0, 1.0),
        lambda x: np.putmask(x, x > 0, 1.0),
        lambda x: np.fill_diagonal(x, 1.0),
        lambda x: np.put_along_axis(x, np.zeros((3, 1), int), 1.0, 1),
        lambda x: x.fill(0.0),
    ):
        with pytest.raises(fg.errors.InPlaceError, match=r"(?s)fg\.at.*test_numpy_elementary"):
            fg.jit(f)(M)
    with pytest.raises(fg.errors.InPlaceError):
        fg.jit(lambda x: np.copyto(np.zeros((3, 4)), x))(M)


def test_bad_options():
    with pytest.raises(fg.errors.ArgumentError, match="2 conditions and 1 choices"):
        fg.jit(lambda x: np.select([x > 0, x < 0], [x]))(M)
    with pytest.raises(fg.errors.ShapeError, match=r"\(3, 4\)"):
        fg.jit(lambda x: np.cross(x, x))(M)
    with pytest.raises(fg.errors.UnsupportedFunctionError, match="singular values"):
        fg.jit(lambda x: np.linalg.norm(x, 2))(M)
    with pytest.raises(fg.errors.ArgumentError, match=r"axis.*\(2, 3, 4\)"):
        fg.jit(lambda x: np.linalg.norm(x, 2))(A)
    with pytest.raises(TypeError, match="cannot cast"):
        fg.jit(lambda x: x.astype(np.int32, casting="safe"))(M)
    with pytest.raises(fg.errors.UnsupportedFunctionError, match=r"np\.unwrap"):
        fg.jit(np.unwrap)(V)
    with pytest.raises(fg.errors.UnsupportedFunctionError, match="casting="):
        fg.jit(lambda x: np.clip(x, 0, 1, casting="safe"))(V)


@pytest.mark.parametrize("p", [None, 1, 2, 3, np.inf])
def test_norm_of_zero_has_a_finite_derivative(p):
    gradient = fg.grad(lambda x: np.linalg.norm(x, p))(np.zeros(3))
    assert np.all(np.isfinite(gradient))
    if p != np.inf:
        np.testing.assert_array_equal(gradient, np.zeros(3))


def test_sinc_at_zero():
    for order, value in ((1, 0.0), (2, -(np.pi**2) / 3), (3, 0.0), (4, np.pi**4 / 5)):
        f = np.sinc
        for _ in range(order):
            f = fg.grad(f)
        np.testing.assert_allclose(f(0.0), value, atol=1e-12)


@pytest.mark.parametrize("step", [1e-8, 1e-3, 0.3182, 0.3184])
def test_sinc_is_smooth_where_its_formulas_meet(step):
    # By Taylor's series around 0, to beyond float64's accuracy.
    x = step
    y = np.pi * x
    slope = np.pi * sum(
        (-1.0) ** k * 2 * k * y ** (2 * k - 1) / float(np.prod(np.arange(1.0, 2 * k + 2)))
        for k in range(1, 15)
    )
    np.testing.assert_allclose(fg.grad(np.sinc)(x), slope, rtol=1e-13)


def test_the_derivative_of_sinc_by_its_series_and_by_its_terms() -> None:
    x = np.linspace(0.1, 1.2, 23)
    expected = (np.cos(np.pi * x) - np.sinc(x)) / x
    np.testing.assert_allclose(fg.vmap(fg.grad(np.sinc))(x), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(fg.vmap(fg.grad(np.sinc))(-x), -expected, rtol=1e-12, atol=1e-13)
    assert fg.grad(np.sinc)(0.0) == 0.0
