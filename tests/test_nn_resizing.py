"""Layers that change shapes: upsampling, padding, shuffling; sizes left open; residuals."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, LayerShapeError, TrainingModeError

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 3, 5, 4))
WRAPS = {"eager": lambda f: f, "llvm": fg.jit, "numpy": partial(fg.jit, backend="numpy")}
MODES = pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))


def linear(row, length, corners, step):
    places = np.arange(length) * (len(row) - 1) / max(1, length - 1)
    if not corners:
        places = (np.arange(length) + 0.5) * step - 0.5
    # Beyond the ends, `interp` takes the last element.
    return np.interp(places, np.arange(len(row)), row)


def nearest(row, length, corners, step):
    return row[np.floor(np.arange(length) * step).astype(int)]


def cubic(row, length, corners, step):
    def kernel(x):
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    found = np.zeros(length)
    for i in range(length):
        at = i * (len(row) - 1) / max(1, length - 1) if corners else (i + 0.5) * step - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            found[i] += kernel(at - tap) * row[min(max(tap, 0), len(row) - 1)]
    return found


def upsampled(x, rows, lengths, corners, steps):
    for axis, (length, step) in enumerate(zip(lengths, steps, strict=True), 2):
        x = np.apply_along_axis(rows, axis, x, length, corners, step)
    return x


@MODES
@pytest.mark.parametrize(
    ("mode", "rows", "corners"),
    [
        ("nearest", nearest, False),
        ("bilinear", linear, False),
        ("bilinear", linear, True),
        ("bicubic", cubic, False),
        ("bicubic", cubic, True),
    ],
)
@pytest.mark.parametrize("size", [(9, 8), (10, 12), (3, 1), (5, 4)])
def test_upsample_to_a_size(mode, rows, corners, size, wrap):
    layer = nn.Upsample(size, mode=mode, align_corners=corners)
    steps = [n / m for n, m in zip((5, 4), size, strict=True)]
    expected = upsampled(IMAGES, rows, size, corners, steps)
    y = wrap(layer)({}, IMAGES)
    np.testing.assert_allclose(y, expected, 1e-12, 1e-12)
    last = nn.Upsample(size, mode=mode, align_corners=corners, channels_last=True)
    turned = wrap(last)({}, np.moveaxis(IMAGES, 1, -1))
    np.testing.assert_allclose(np.moveaxis(turned, -1, 1), expected, 1e-12, 1e-12)
    # Linear in x: the gradient is the transpose.
    c, d = RNG.normal(size=y.shape), RNG.normal(size=IMAGES.shape)
    grad = wrap(fg.grad(lambda x: np.sum(layer({}, x) * c)))(IMAGES)
    np.testing.assert_allclose(np.sum(grad * d), np.sum(layer({}, d) * c), 1e-10)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 2.5, 3])
def test_upsample_by_a_factor(factor):
    # Its inverse is how far places are apart, also where the length was rounded down.
    x = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    for mode, rows in (("nearest", nearest), ("linear", linear)):
        y = nn.Upsample(scale_factor=factor, mode=mode)({}, x)
        expected = upsampled(x, rows, [int(5 * factor)], False, [1 / factor])
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, 1e-5, 1e-6)
    assert nn.Upsample(scale_factor=2, mode="trilinear")({}, x[..., None, None]).shape == (
        2, 3, 10, 2, 2,
    )  # fmt: skip
    exact = nn.Upsample(scale_factor=1.5, mode="nearest-exact")({}, np.arange(4.0)[None, None])
    np.testing.assert_array_equal(exact, [[[0, 1, 1, 2, 3, 3]]])


@MODES
def test_pixels_are_shuffled_and_back(wrap):
    x = RNG.normal(size=(2, 8, 3, 5))
    y = wrap(nn.PixelShuffle(2))({}, x)
    expected = np.zeros((2, 2, 6, 10))
    for c, i, j in product(range(2), range(2), range(2)):
        expected[:, c, i::2, j::2] = x[:, c * 4 + i * 2 + j]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(wrap(nn.PixelUnshuffle(2))({}, y), x)
    last = nn.PixelShuffle(2, channels_last=True)({}, np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), y)
    back = nn.PixelUnshuffle(2, channels_last=True)({}, last)
    np.testing.assert_array_equal(np.moveaxis(back, -1, 1), x)


PADDED = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", PADDED)
def test_pad(mode):
    widths = ((0, 0), (0, 0), (2, 1), (3, 0))
    expected = np.pad(IMAGES, widths, PADDED[mode])
    layer = nn.Pad([(2, 1), (3, 0)], mode)  # type: ignore[arg-type]
    np.testing.assert_array_equal(layer({}, IMAGES), expected)
    np.testing.assert_array_equal(fg.jit(layer)({}, IMAGES), expected)
    last = nn.Pad(((2, 1), (3, 0)), mode, channels_last=True)({}, np.moveaxis(IMAGES, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), expected)
    assert (
        layer == nn.Pad(((2, 1), (3, 0)), mode) and nn.Pad(1, value=7)({}, IMAGES)[0, 0, 0, 0] == 7
    )


@pytest.mark.parametrize("mode", PADDED)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("padding", [2, (1, 2), "same"])
def test_convolutions_pad_with_what_is_asked_for(mode, layout, padding):
    layer = nn.Conv2d(3, 2, (3, 2), padding=padding, padding_mode=mode, layout=layout)
    x = IMAGES if layout == "NCHW" else np.moveaxis(IMAGES, 1, -1)
    params = layer.init(0, x.shape[1:], np.float64)
    pairs = {2: [(2, 2), (2, 2)], (1, 2): [(1, 1), (2, 2)], "same": [(1, 1), (0, 1)]}[padding]
    widths = [(0, 0), (0, 0), *pairs] if layout == "NCHW" else [(0, 0), *pairs, (0, 0)]
    valid = nn.Conv2d(3, 2, (3, 2), layout=layout)
    expected = valid(params, np.pad(x, widths, PADDED[mode]))
    np.testing.assert_allclose(layer(params, x), expected, 1e-12, 1e-12)
    np.testing.assert_allclose(fg.jit(layer)(params, x), expected, 1e-10, 1e-12)
    assert layer.output_shape(params, x.shape[1:]) == expected.shape[1:]


def windows(n, k, s, p, d):
    """What windows cover, by PyTorch's rule for ceil_mode."""
    count = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
    if (count - 1) * s >= n + p:
        count -= 1
    return [[i * s - p + j * d for j in range(k)] for i in range(count)]


@pytest.mark.parametrize("wrap", [WRAPS["eager"], WRAPS["llvm"]], ids=["eager", "llvm"])
def test_pools_in_ceil_mode(wrap):
    for n, k, s, p, d in product((1, 4, 5, 7), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        if 2 * p > k or n + 2 * p < d * (k - 1) + 1:
            continue
        x = RNG.normal(size=(1, 2, n))
        places = windows(n, k, s, p, d)
        inside = [[i for i in window if 0 <= i < n] for window in places]
        layer = nn.MaxPool1d(k, s, p, d, ceil_mode=True)
        expected = np.stack([x[..., i].max(-1, initial=-np.inf) for i in inside], -1)
        np.testing.assert_array_equal(wrap(layer)({}, x), expected)
        low = wrap(lambda x, k=k, s=s, p=p, d=d: fg.min_pool(
            x, k, strides=s, padding=p, dilation=d, ceil_mode=True
        ))(x)  # fmt: skip
        np.testing.assert_array_equal(
            low, np.stack([x[..., i].min(-1, initial=np.inf) for i in inside], -1)
        )
        if d > 1:
            continue
        sums = np.stack([x[..., i].sum(-1) for i in inside], -1)
        for counted in (True, False):
            sizes = [
                len([i for i in w if (-p <= i < n + p if counted else 0 <= i < n)]) for w in places
            ]
            y = wrap(nn.AvgPool1d(k, s, p, True, counted))({}, x)
            np.testing.assert_allclose(y, sums / sizes, 1e-12, 1e-14)


def test_pools_in_ceil_mode_over_images():
    layer = nn.MaxPool2d(2, ceil_mode=True)
    assert layer.output_shape({}, (3, 5, 4)) == (3, 3, 2)
    grad = fg.grad(lambda x: np.sum(layer({}, x)))(IMAGES)
    assert grad.sum() == 2 * 3 * 6 and set(grad.ravel()) == {0, 1}
    y = nn.AvgPool2d(2, ceil_mode=True, layout="NHWC")({}, np.moveaxis(IMAGES, 1, -1))
    np.testing.assert_allclose(y[:, 2, 0], IMAGES[:, :, 4, :2].mean(-1))
    np.testing.assert_allclose(
        nn.AdaptiveAvgPool3d((1, 3, 2))({}, IMAGES[:, None]).sum((2, 3, 4)).ravel(),
        nn.AdaptiveAvgPool2d((3, 2))({}, IMAGES.mean(1, keepdims=True)).sum((1, 2, 3)),
    )


def test_residual():
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    layer = nn.Residual(block)
    params = layer.init(0, 4)
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    assert list(params) == ["block"]
    np.testing.assert_array_equal(layer(params, x), x + block(params["block"], x))
    both = nn.Residual(nn.Linear(4, 2), nn.Linear(4, 2, bias=False))
    params = both.init(0, 4)
    a, b = params["block"], params["shortcut"]["weight"]
    np.testing.assert_allclose(both(params, x), x @ a["weight"] + a["bias"] + x @ b, 1e-6)
    trained = nn.Residual(nn.Sequential(nn.BatchNorm(4), nn.Dropout(0.5)))
    _, new = trained.train(trained.init(0, 4), x, 0)
    assert (new["block"][0]["running"].mean != 0).all()


def test_unflatten():
    x = RNG.normal(size=(2, 24, 3))
    np.testing.assert_array_equal(nn.Unflatten(1, (2, 3, 4))({}, x), x.reshape(2, 2, 3, 4, 3))
    np.testing.assert_array_equal(nn.Unflatten(-2, [4, -1])({}, x), x.reshape(2, 4, 6, 3))  # type: ignore[arg-type]
    np.testing.assert_array_equal(nn.Unflatten(2, (1, 3))({}, x), x[:, :, None])
    model = nn.Sequential(nn.Linear(5, 12), nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 1, 2))
    assert model.output_shape(model.init(0, 5), 5) == (1, 1, 1)


# -- Sizes left open -----------------------------------------------------------------------------

OPEN: list[tuple[Any, Any, tuple[int, ...]]] = [
    (nn.Linear(None, 3), nn.Linear(4, 3), (4,)),
    (nn.Conv2d(None, 6, 3, groups=2), nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    (nn.Conv1d(None, 6, 3, layout="NWC"), nn.Conv1d(4, 6, 3, layout="NWC"), (5, 4)),
    (nn.ConvTranspose2d(None, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5)),
    (
        nn.ConvTranspose1d(None, 6, 3, layout="NWC"),
        nn.ConvTranspose1d(4, 6, 3, layout="NWC"),
        (5, 4),
    ),
    (nn.BatchNorm(None), nn.BatchNorm(4), (4, 5)),
    (nn.BatchNorm2d(None, axis=-1), nn.BatchNorm2d(4, axis=-1), (5, 5, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "closed", "shape"), OPEN, ids=lambda value: repr(value)[:40])
def test_sizes_left_open_are_found_by_init(layer, closed, shape):
    params = layer.init(3, shape)
    same = fg.tree.map(np.array_equal, params, closed.init(3, shape))
    assert all(fg.tree.leaves(same))
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    np.testing.assert_array_equal(layer(params, x), closed(params, x))
    assert layer != closed and "None" in repr(layer)
    # The parameters are made for these inputs, and for no others.
    for other in {3, 5, 8} - {shape[-1]}:
        wrong = np.ones([2, *[other if n == 4 else n for n in shape]], np.float32)
        with pytest.raises(LayerShapeError, match=r"\b4\b"):
            layer(params, wrong)


def test_sizes_left_open_in_a_model():
    model = nn.Sequential(
        nn.Conv2d(None, 4, 3),
        nn.BatchNorm(None),
        nn.Flatten(),
        nn.Linear(None, 5),
        nn.Linear(None, 2),
    )
    params = model.init(0, (3, 6, 6))
    assert [p["weight"].shape for p in params if p] == [(4, 3, 3, 3), (4,), (64, 5), (5, 2)]
    assert nn.summary(model, (3, 6, 6)).parameters == nn.num_parameters(params)

    class Block(nn.Layer):
        hidden: nn.Linear

        def apply(self, params, x):
            return self.hidden(params["hidden"], np.concatenate([x, x], axis=1))

    assert Block(nn.Linear(None, 2)).init(0, 3)["hidden"]["weight"].shape == (6, 2)
    refused = nn.Conv2d(None, 4, 3, groups=2)
    with pytest.raises(LayerShapeError, match="a multiple of 2"):
        refused.init(0, (3, 6, 6))
    with pytest.raises(LayerShapeError, match="axis of features"):
        nn.Linear(None, 4).init(0, ())


# -- Activations, dropout ------------------------------------------------------------------------


def test_softmin_and_softmax_over_channels():
    e = np.exp(-IMAGES)
    np.testing.assert_allclose(nn.Softmin(2)({}, IMAGES), e / e.sum(2, keepdims=True), 1e-12)
    e = np.exp(IMAGES)
    np.testing.assert_allclose(nn.Softmax2d()({}, IMAGES), e / e.sum(1, keepdims=True), 1e-12)
    with pytest.raises(LayerShapeError, match="batch, channels"):
        nn.Softmax2d()({}, IMAGES[0])


def test_softplus_of_another_slope():
    x = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(nn.Softplus(2.5)({}, x), np.log1p(np.exp(2.5 * x)) / 2.5, 1e-12)
    # pytest turns warnings into errors.
    assert np.isnan(nn.softplus(np.array([np.nan]))).all()


def test_rrelu():
    layer = nn.RReLU(0.1, 0.5)
    x = RNG.normal(size=(4, 1000)).astype(np.float32)
    np.testing.assert_allclose(layer({}, x), np.where(x > 0, x, 0.3 * x), 1e-6)
    y, params = layer.train({}, x, 1)
    slopes = (y / x)[x < 0]
    assert params == {} and y.dtype == np.float32 and (y[x > 0] == x[x > 0]).all()
    assert 0.1 <= slopes.min() < 0.11 and 0.49 < slopes.max() <= 0.5
    assert slopes.mean() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(TrainingModeError):
        layer.train({}, x)


def test_alpha_dropout_keeps_mean_and_variance():
    x = RNG.normal(size=(1, 100_000))
    y, _ = nn.AlphaDropout(0.3).train({}, x, 0)
    assert abs(y.mean()) < 0.02 and y.std() == pytest.approx(1, abs=0.02)
    values, counts = np.unique(y, return_counts=True)
    dropped = values[counts.argmax()]
    assert counts.max() == pytest.approx(30_000, rel=0.05) and dropped < -1
    np.testing.assert_array_equal(nn.AlphaDropout(0.0).train({}, x, 0)[0], x)
    assert not nn.AlphaDropout(1.0).train({}, x, 0)[0].any()
    assert nn.AlphaDropout()({}, x) is x


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: nn.Upsample(), "size or scale_factor"),
        (lambda: nn.Upsample(2, 2.0), "not both"),
        (lambda: nn.Upsample(0), "size must be a positive integer"),
        (lambda: nn.Upsample(1.5), "size must be a positive integer"),  # type: ignore[arg-type]
        (lambda: nn.Upsample(scale_factor=-1), "scale_factor must be a positive number"),
        (lambda: nn.Upsample(2, mode="cubic"), "'bicubic'"),  # type: ignore[arg-type]
        (lambda: nn.Upsample(2, align_corners=True), "mode='nearest'"),
        (lambda: nn.PixelShuffle(0), "upscale_factor"),
        (lambda: nn.PixelUnshuffle(1.5), "downscale_factor"),  # type: ignore[arg-type]
        (lambda: nn.Pad(-1), "non-negative"),
        (lambda: nn.Pad(1, "mirror"), "'replicate'"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="same"), "'circular'"),  # type: ignore[arg-type]
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "cut off"),
        (lambda: nn.Residual(np.tanh), "nn.Lambda"),  # type: ignore[arg-type]
        (lambda: nn.Residual(nn.ReLU(), 3), "shortcut must be a layer"),  # type: ignore[arg-type]
        (lambda: nn.Unflatten(1, (2, -1, -1)), "one may be -1"),
        (lambda: nn.Unflatten(0, (2, 2)), "batch"),
        (lambda: nn.RReLU(0.5, 0.1), "lower=0.5"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(make, part):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape", "part"),
    [
        (nn.Upsample(2, mode="linear"), (2, 3, 4, 4), "1 of space"),
        (nn.Upsample(2), (3, 4), "x[None]"),
        (nn.Upsample(scale_factor=0.1), (1, 1, 4), "no elements"),
        (nn.PixelShuffle(2), (1, 6, 2, 2), "multiple of 2²"),
        (nn.PixelUnshuffle(2), (1, 1, 3, 2), "2 does not divide"),
        (nn.Pad(3, "reflect"), (1, 1, 3, 5), "'reflect' takes more"),
        (nn.Pad(4, "circular"), (1, 1, 3, 5), "'circular' takes more"),
        (nn.Pad(1, "replicate"), (1, 1, 0), "'replicate'"),
        (nn.Residual(nn.Lambda(lambda x: x[:, :1])), (2, 3), "the block gives shape (2, 1)"),
        (nn.Unflatten(1, (2, 2)), (2, 3), "the length 4"),
        (nn.Unflatten(1, (2, -1)), (2, 3), "a multiple of 2"),
        (nn.Unflatten(-2, (2, 2)), (4, 3), "along axis -2"),
    ],
)
def test_inputs_that_do_not_fit(layer, shape, part):
    params = {"block": {}} if isinstance(layer, nn.Residual) else {}
    with pytest.raises(LayerShapeError) as caught:
        layer(params, np.ones(shape))
    assert part in str(caught.value)
    with pytest.raises(ArgumentError, match="2 numbers for 1"):
        nn.Upsample((2, 2))({}, np.ones((1, 1, 4)))
