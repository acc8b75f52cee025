"""Sums, products, extrema, statistics and running reductions through np. on tracers."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from _surface import check

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4))
MATRIX = RNG.standard_normal((3, 4))
VECTOR = RNG.standard_normal(5)
MASK = RNG.random((2, 3, 4)) < 0.7
MASK[0, 0, 0] = True
WEIGHTS = RNG.random((3, 4)) + 0.5

AXES = [None, 0, -1, (0, 2), (-1, 0, 1), ()]
NAMES = ["sum", "prod", "mean", "var", "std", "max", "min", "ptp"]


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_reductions(name, axis):
    f = getattr(np, name)
    if axis == ():
        # Of single elements, the deviation is 0 everywhere.
        check(lambda x: f(x, axis=axis), A, order=1)
        return
    check(lambda x: f(x, axis=axis), A, order=1)
    check(lambda x: f(x, axis=axis, keepdims=True), A, order=2 if axis == -1 else 1)


METHODS = ["sum", "prod", "mean", "var", "std", "max", "min", "argmax", "argmin", "any", "all"]


@pytest.mark.parametrize("name", [*METHODS, "cumsum", "cumprod"])
def test_methods(name):
    check(lambda x: getattr(x, name)(), MATRIX, order=1)
    check(lambda x: getattr(x, name)(axis=1), MATRIX, order=1)


OPTIONS = {
    "sum of masked": lambda x: np.sum(x, axis=1, where=MASK),
    "sum with initial": lambda x: np.sum(x, axis=(0, 1), initial=2.5),
    "prod of masked": lambda x: np.prod(x, axis=2, where=MASK, initial=2.0),
    "max of masked": lambda x: np.max(x, axis=2, where=MASK, initial=-1.0),
    "min with initial": lambda x: np.min(x, axis=2, initial=0.25),
    "mean of masked": lambda x: np.mean(x, axis=(0, 1), where=MASK, keepdims=True),
    "mean of all masked": lambda x: x.mean(where=MASK),
    "var of masked": lambda x: np.var(x, axis=1, where=MASK, ddof=0.5),
    "std with ddof": lambda x: np.std(x, axis=-1, ddof=1),
    "var with correction": lambda x: np.var(x, axis=-1, correction=1),
    "var about a mean": lambda x: np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True)),
    "sum in float32": lambda x: np.sum(x, axis=0, dtype=np.float64),
    "any": lambda x: np.any(x > 1, axis=(0, 2), keepdims=True),
    "all of masked": lambda x: np.all(x > -1, axis=0, where=MASK),
    "argmax": lambda x: np.argmax(x, axis=-2),
    "argmax of all": lambda x: np.argmax(x, keepdims=True),
    "argmin kept": lambda x: np.argmin(x, axis=1, keepdims=True),
    "count_nonzero": lambda x: np.count_nonzero(x > 0, axis=(0, 1)),
    "average": lambda x: np.average(x, axis=1),
    "weighted average": lambda x: np.average(x, axis=(1, 2), weights=WEIGHTS),
    "weighted average, axes reversed": lambda x: np.average(x, axis=(2, 1), weights=WEIGHTS.T),
    "weighted average, returned": lambda x: np.average(
        x, axis=2, weights=WEIGHTS[0], returned=True
    ),
    "average, returned": lambda x: np.average(x, axis=2, returned=True),
    "average by traced weights": lambda x: np.average(MATRIX, weights=np.exp(x[0])),
    "nansum": lambda x: np.nansum(np.where(MASK, x, np.nan), axis=1),
    "nanprod": lambda x: np.nanprod(np.where(MASK, x, np.nan), axis=1),
    "nanmean": lambda x: np.nanmean(np.where(MASK, x, np.nan), axis=2),
    "nanvar": lambda x: np.nanvar(np.where(MASK, x, np.nan), axis=(0, 1)),
    "nanstd": lambda x: np.nanstd(np.where(MASK, x, np.nan)),
    "nanmax": lambda x: np.nanmax(np.where(MASK, x, np.nan), axis=2),
    "nanmin": lambda x: np.nanmin(np.where(MASK, x, np.nan), axis=2, keepdims=True),
    "cumsum of all": lambda x: np.cumsum(x),
    "cumsum": lambda x: np.cumsum(x, axis=-2),
    "cumprod": lambda x: np.cumprod(x, axis=1),
    "nancumsum": lambda x: np.nancumsum(np.where(MASK, x, np.nan), axis=1),
    "nancumprod": lambda x: np.nancumprod(np.where(MASK, x, np.nan)),
    "add.reduce": lambda x: np.add.reduce(x),
    "multiply.reduce": lambda x: np.multiply.reduce(x, axis=(1, 2)),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=1, keepdims=True),
    "minimum.reduce": lambda x: np.minimum.reduce(x, axis=None),
    "fmax.reduce": lambda x: np.fmax.reduce(np.where(MASK, x, np.nan), axis=2),
    "fmin.reduce": lambda x: np.fmin.reduce(np.where(MASK, x, np.nan), axis=2),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x, axis=1),
    "logical_or.reduce": lambda x: np.logical_or.reduce(x > 0, axis=1),
    "logical_and.reduce": lambda x: np.logical_and.reduce(x > 0),
    "add.accumulate": lambda x: np.add.accumulate(x, axis=1),
    "multiply.accumulate": lambda x: np.multiply.accumulate(x),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x, axis=2),
    "minimum.accumulate": lambda x: np.minimum.accumulate(x, axis=1),
    "logaddexp.accumulate": lambda x: np.logaddexp.accumulate(x, axis=2),
}
if hasattr(np, "cumulative_sum"):
    OPTIONS["cumulative_sum"] = lambda x: np.cumulative_sum(x, axis=1, include_initial=True)
    OPTIONS["cumulative_prod"] = lambda x: np.cumulative_prod(x, axis=1)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    check(OPTIONS[name], A, order=2 if "prod" in name or "accumulate" in name else 1)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "complex64"]
)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "cumsum", "cumprod"])
def test_dtypes_are_numpys(name, dtype):
    x = np.array([[1, 0, 2], [3, 1, 1]], dtype)
    for f in (getattr(np, name), lambda x: getattr(np, name)(x, axis=1)):
        plain = f(x)
        graph = fg.make_graph(f)(x).check()
        assert graph.out_avals[0].dtype == plain.dtype
        compiled = fg.jit(f)(x)
        assert compiled.dtype == plain.dtype
        np.testing.assert_allclose(compiled, plain, rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("f", [np.max, np.min, np.maximum.reduce])
def test_ties_share_equally(f):
    x = np.array([2.0, -2.0, 2.0, -2.0, 0.0])
    gradient = fg.grad(f)(x)
    np.testing.assert_array_equal(gradient, np.where(x == f(x), 0.5, 0))
    _, tangent = fg.jvp(f, (x,), (np.arange(5.0),))
    assert tangent == np.sum(gradient * np.arange(5.0))


def test_running_ties_share_equally():
    x = np.array([1.0, 3.0, 3.0, 2.0])
    jacobian = fg.jacrev(np.maximum.accumulate)(x)
    half = [0, 0.5, 0.5, 0]
    np.testing.assert_array_equal(jacobian, [[1, 0, 0, 0], [0, 1, 0, 0], half, half])
    np.testing.assert_array_equal(jacobian, fg.jacfwd(np.maximum.accumulate)(x))


@pytest.mark.parametrize("zeros", [(), (1,), (0, 3), (1, 2, 3)])
def test_products_with_zeros(zeros):
    x = np.array([2.0, 3.0, 5.0, 7.0])
    x[list(zeros)] = 0.0
    n = len(x)
    others = [np.prod(np.delete(x, i)) for i in range(n)]
    np.testing.assert_allclose(fg.grad(np.prod)(x), others)
    pairs = [[np.prod(np.delete(x, [i, j])) if i != j else 0 for j in range(n)] for i in range(n)]
    np.testing.assert_allclose(fg.hessian(np.prod)(x), pairs)
    running = [
        [np.prod(np.delete(x[: i + 1], j)) if j <= i else 0 for j in range(n)] for i in range(n)
    ]
    np.testing.assert_allclose(fg.jacrev(np.cumprod)(x), running)
    np.testing.assert_allclose(fg.jacfwd(np.cumprod)(x), running)
    np.testing.assert_allclose(fg.hessian(lambda x: np.cumprod(x)[-1])(x), pairs)


def test_deviation_of_equal_elements_has_derivative_zero():
    x = np.full(4, 3.0)
    np.testing.assert_array_equal(fg.grad(np.std)(x), np.zeros(4))


def test_extremum_of_nan_is_the_nan():
    value, gradient = fg.value_and_grad(np.max)(np.array([1.0, np.nan]))
    assert np.isnan(value)
    np.testing.assert_array_equal(gradient, [0.0, 1.0])


@pytest.mark.parametrize("f", [np.max, np.argmin])
def test_extremum_over_nothing(f):
    with pytest.raises(ValueError, match=r"empty axis|zero-size|empty sequence"):
        fg.make_graph(f)(np.zeros(0))
    with pytest.raises(ValueError, match=r"empty axis|zero-size|empty sequence"):
        fg.vjp(f, np.zeros(0))
    assert fg.jit(lambda x: np.max(x, initial=1.0))(np.zeros(0)) == 1.0


def test_masked_extremum_needs_initial():
    with pytest.raises(fg.errors.ArgumentError, match="needs initial="):
        fg.grad(lambda x: np.max(x, where=x > 0))(np.ones(3))


@pytest.mark.parametrize("axis", [2, -3, (0, 0)])
def test_axis_out_of_range(axis):
    with pytest.raises(fg.errors.AxisError, match=r"(?s)axis.*test_numpy_reductions"):
        fg.grad(lambda x: np.sum(np.mean(x, axis=axis)))(np.ones((2, 2)))


@pytest.mark.parametrize("f", [np.sum, np.mean, np.max, np.cumsum, np.add.reduce])
def test_out_is_refused(f):
    with pytest.raises(fg.errors.OutArgumentError):
        fg.grad(lambda x: f(x, out=np.zeros(())))(np.ones(3))
    with pytest.raises(fg.errors.OutArgumentError):
        fg.grad(lambda x: x.sum(0, None, np.zeros(())))(np.ones(3))


def test_reductions_of_python_numbers():
    assert fg.grad(lambda x: np.sum(x) + np.mean(x) + np.max(x))(2.0) == 3.0
    assert fg.grad(lambda x: fnp.mean([x, 2 * x, 3.0]))(2.0) == 1.0
