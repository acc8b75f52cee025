"""Activations against their formulas, at infinity, under the transformations, and as layers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import special

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import LayerShapeError, ShapeError, TreeMismatchError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4), scale=3)
SLOPES = np.array([0.3, -0.1, 2.0, 0.0])
WRAPS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "jit to NumPy": lambda f: fg.jit(f, backend="numpy"),
    "vmap": fg.vmap,
}
MODES = pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))


def below(x, scale):
    return scale * np.expm1(np.minimum(x, 0))


# name -> function, layer, formula; and at -inf and inf: the limits of values and of slopes.
CASES = {
    "silu": (nn.silu, nn.SiLU(), lambda x: x * special.expit(x), (0, np.inf), (0, 1)),
    "gelu": (nn.gelu, nn.GELU(), lambda x: x * special.ndtr(x), (0, np.inf), (0, 1)),
    "gelu with tanh": (
        partial(nn.gelu, approximate=True),
        nn.GELU(approximate=True),
        lambda x: x * (1 + np.tanh((x + 0.044715 * x**3) * np.sqrt(2 / np.pi))) / 2,
        (0, np.inf),
        (0, 1),
    ),
    "elu": (
        partial(nn.elu, alpha=0.5),
        nn.ELU(0.5),
        lambda x: np.maximum(x, 0) + below(x, 0.5),
        (-0.5, np.inf),
        (0, 1),
    ),
    "selu": (
        nn.selu,
        nn.SELU(),
        lambda x: 1.0507009873554805 * (np.maximum(x, 0) + below(x, 1.6732632423543772)),
        (-1.7580993408473766, np.inf),
        (0, 1.0507009873554805),
    ),
    "celu": (
        partial(nn.celu, alpha=2.0),
        nn.CELU(2.0),
        lambda x: np.maximum(x, 0) + below(x / 2, 2),
        (-2, np.inf),
        (0, 1),
    ),
    "mish": (nn.mish, nn.Mish(), lambda x: x * np.tanh(np.log1p(np.exp(x))), (0, np.inf), (0, 1)),
    "logsigmoid": (
        nn.logsigmoid, nn.LogSigmoid(), lambda x: np.log(special.expit(x)), (-np.inf, 0), (1, 0),
    ),
    "hardtanh": (
        partial(nn.hardtanh, min_val=-2.0, max_val=0.5),
        nn.Hardtanh(-2.0, 0.5),
        lambda x: np.clip(x, -2, 0.5),
        (-2, 0.5),
        (0, 0),
    ),
    "relu6": (nn.relu6, nn.ReLU6(), lambda x: np.clip(x, 0, 6), (0, 6), (0, 0)),
    "hardsigmoid": (
        nn.hardsigmoid, nn.Hardsigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6, (0, 1), (0, 0),
    ),
    "hardswish": (
        nn.hardswish, nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6, (0, np.inf), (0, 1),
    ),
    "softsign": (nn.softsign, nn.Softsign(), lambda x: x / (1 + np.abs(x)), (-1, 1), (0, 0)),
    "tanhshrink": (
        nn.tanhshrink, nn.Tanhshrink(), lambda x: x - np.tanh(x), (-np.inf, np.inf), (1, 1),
    ),
    "softshrink": (
        partial(nn.softshrink, lambd=1.0),
        nn.Softshrink(1.0),
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 1, 0),
        (-np.inf, np.inf),
        (1, 1),
    ),
    "hardshrink": (
        partial(nn.hardshrink, lambd=1.0),
        nn.Hardshrink(1.0),
        lambda x: x * (np.abs(x) > 1),
        (-np.inf, np.inf),
        (1, 1),
    ),
    "threshold": (
        partial(nn.threshold, threshold=0.5, value=-2.0),
        nn.Threshold(0.5, -2.0),
        lambda x: np.where(x > 0.5, x, -2),
        (-2, np.inf),
        (0, 1),
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", CASES)


@EACH
@MODES
def test_values(name, wrap):
    function, layer, formula, _, _ = CASES[name]
    np.testing.assert_allclose(wrap(function)(X), formula(X), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(layer(layer.init(0, 4), X), function(X))
    single = wrap(function)(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, formula(X), rtol=1e-4, atol=1e-6)


@EACH
@MODES
def test_slopes_against_finite_differences(name, wrap):
    function, _, formula, _, _ = CASES[name]
    h = 1e-6
    numeric = (formula(X + h) - formula(X - h)) / (2 * h)
    slopes = wrap(fg.grad(lambda x: np.sum(function(x))))
    np.testing.assert_allclose(slopes(X), numeric, rtol=1e-6, atol=1e-8)


@EACH
@MODES
def test_curvature_against_finite_differences_of_slopes(name, wrap):
    function = CASES[name][0]
    slope = fg.grad(lambda x: np.sum(function(x)))
    numeric = (slope(X + 1e-6) - slope(X - 1e-6)) / 2e-6
    have = wrap(lambda x: fg.jvp(slope, (x,), (np.ones_like(x),))[1])(X)
    np.testing.assert_allclose(have, numeric, rtol=1e-6, atol=1e-7)


@EACH
@MODES
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinity_and_nan(name, wrap, dtype):
    function, _, _, values, slopes = CASES[name]
    ends = np.array([-np.inf, np.inf], dtype)
    tolerance = 1e-3 if dtype is np.float16 else 1e-6
    np.testing.assert_allclose(wrap(function)(ends), values, rtol=tolerance)
    slope = fg.vmap(fg.grad(function))
    np.testing.assert_allclose(
        wrap(lambda x: slope(x.reshape(-1)))(ends).ravel(), slopes, tolerance
    )
    curvature = fg.vmap(fg.grad(fg.grad(function)))
    np.testing.assert_array_equal(wrap(lambda x: curvature(x.reshape(-1)))(ends).ravel(), 0)
    # np.logaddexp warns of it.
    with np.errstate(invalid="ignore"):
        assert np.isnan(wrap(function)(np.array([np.nan], dtype))).all()


@EACH
def test_largest_numbers(name):
    function, _, _, values, slopes = CASES[name]
    for dtype in np.float16, np.float32, np.float64:
        # Less than what selu multiplies beyond the range.
        largest = np.finfo(dtype).max * dtype(0.9)
        for sign, value, slope in zip((-1, 1), values, slopes, strict=True):
            x = dtype(sign) * largest
            want = slope * x if np.isinf(value) else value
            np.testing.assert_allclose(function(x), want, rtol=1e-3)
            np.testing.assert_allclose(fg.grad(function)(x), slope, rtol=1e-3, atol=1e-3)


def test_slopes_at_kinks_are_pytorchs():
    for function, at, want in (
        (nn.elu, 0.0, 1.0),
        (nn.selu, 0.0, 1.0507009873554805 * 1.6732632423543772),
        (nn.relu6, 0.0, 0.0),
        (nn.relu6, 6.0, 0.0),
        (nn.hardtanh, -1.0, 0.0),
        (nn.hardsigmoid, 3.0, 0.0),
        (nn.hardswish, -3.0, 0.0),
        (nn.hardswish, 3.0, 1.0),
        (nn.softshrink, 0.5, 0.0),
        (nn.hardshrink, -0.5, 0.0),
    ):
        assert fg.grad(function)(at) == pytest.approx(want)


@MODES
def test_glu(wrap):
    np.testing.assert_allclose(wrap(nn.glu)(X), X[:, :2] * special.expit(X[:, 2:]), rtol=1e-14)
    np.testing.assert_array_equal(nn.glu(X, axis=0), nn.GLU(0)({}, X))
    assert nn.GLU().output_shape({}, 4) == (2,)
    with pytest.raises(ShapeError, match=r"axis -1 of \(6, 3\) has an odd length"):
        nn.glu(X[:, :3])


def test_prelu():
    np.testing.assert_array_equal(nn.prelu(X, SLOPES), np.where(X > 0, X, SLOPES * X))
    images = RNG.normal(size=(2, 4, 3, 3))
    along = SLOPES.reshape(4, 1, 1)
    want = np.where(images > 0, images, along * images)
    np.testing.assert_array_equal(nn.prelu(images, SLOPES), want)
    last = np.moveaxis(images, 1, -1)
    np.testing.assert_array_equal(nn.prelu(last, SLOPES, axis=-1), np.moveaxis(want, 1, -1))
    for jit in lambda f: f, fg.jit, lambda f: fg.jit(f, backend="numpy"):
        slope = jit(fg.grad(lambda w: np.sum(nn.prelu(images, w))))(SLOPES)
        np.testing.assert_allclose(slope, np.minimum(images, 0).sum(axis=(0, 2, 3)))
    far = np.array([[np.inf, np.inf]])
    np.testing.assert_array_equal(fg.grad(lambda w: nn.prelu(far, w)[0, 0])(np.ones(2)), 0)
    with pytest.raises(ShapeError, match=r"channel along axis 1 of \(6, 4\), not shape \(3,\)"):
        nn.prelu(X, SLOPES[:3])


def test_prelu_as_a_layer():
    layer = nn.PReLU(4, 0.1)
    params = layer.init(0, 4)
    np.testing.assert_allclose(layer(params, X), np.where(X > 0, X, 0.1 * X), rtol=1e-6)
    assert nn.PReLU().init(0, 4, np.float64)["weight"].tolist() == [0.25]
    with pytest.raises(LayerShapeError, match=r"PReLU.*takes parameters of shapes"):
        layer({"weight": np.ones(3)}, X)
    with pytest.raises(TreeMismatchError):
        layer(None, X)
