"""Convolution and pooling layers: values, parameters, printing, and what they refuse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, LayerShapeError

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 4, 9, 8)).astype(np.float32)

CONVS: list[tuple[Any, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9)),
    (nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2), (4, 9, 8)),
    (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=((1, 0), (2, 1)), layout="NHWC"), (9, 8, 4)),
    (nn.Conv3d(4, 2, (1, 2, 3), bias=False), (4, 3, 4, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2), (4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, layout="NHWC"), (5, 4, 4)),
    (nn.ConvTranspose3d(4, 2, 2, stride=(1, 2, 1), dilation=2), (4, 3, 4, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), CONVS, ids=lambda value: repr(value))
def test_convolutions(layer, shape):
    params = layer.init(1, shape)
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    transposed = "Transpose" in type(layer).__name__
    options: dict[str, Any] = {"output_padding": layer.output_padding} if transposed else {}
    expected = (fg.conv_transpose if transposed else fg.conv)(
        x, params["weight"], strides=layer.stride, padding=layer.padding, dilation=layer.dilation,
        groups=layer.groups, layout=layer.layout, **options,
    )  # fmt: skip
    if layer.bias:
        assert params["bias"].shape == (layer.out_channels,)
        behind = layer.layout == "NHWC"
        bias = params["bias"]
        expected += bias if behind else bias.reshape(1, -1, *[1] * (len(shape) - 1))
    else:
        assert list(params) == ["weight"]
    y = layer(params, x)
    assert y.dtype == np.float32 and params["weight"].dtype == np.float32
    np.testing.assert_allclose(y, expected, 1e-5, 1e-6)
    assert layer.output_shape(params, shape) == y.shape[1:]
    grads = fg.jit(fg.grad(lambda p: np.sum(layer(p, x) ** 2)))(params)
    assert fg.tree.map(np.shape, grads) == fg.tree.map(np.shape, params)


@pytest.mark.parametrize(
    ("layer", "shape", "inputs"),
    [
        (nn.Conv2d(8, 500, (3, 5), groups=2), (500, 4, 3, 5), 4 * 15),
        (nn.Conv2d(8, 500, (3, 5), layout="NHWC"), (3, 5, 8, 500), 8 * 15),
        # PyTorch counts the second axis of the weight.
        (nn.ConvTranspose1d(500, 6, 3, groups=2), (500, 3, 3), 3 * 3),
        (nn.ConvTranspose1d(500, 6, 3, layout="NWC"), (3, 6, 500), 6 * 3),
    ],
)
def test_weights_are_drawn_as_in_pytorch(layer, shape, inputs):
    spatial = (9,) * layer.rank
    example = (
        (*spatial, layer.in_channels) if layer.channels_last else (layer.in_channels, *spatial)
    )
    params = layer.init(0, example)
    assert params["weight"].shape == shape and params["weight"].flags.c_contiguous
    bound = 1 / np.sqrt(inputs)
    for array in params.values():
        assert np.abs(array).max() <= bound
    assert np.abs(params["weight"]).max() > 0.99 * bound
    assert abs(params["weight"].mean()) < 0.05 * bound


def test_initialisers_see_channels_last():
    for layout, shape in ((None, (3, 8, 8)), ("NHWC", (8, 8, 3))):
        layer = nn.Conv2d(
            3, 400, 5, layout=layout, weight_init=nn.init.he_normal(), bias_init=nn.init.ones()
        )
        params = layer.init(0, shape)
        assert np.std(params["weight"]) == pytest.approx(np.sqrt(2 / 75), rel=0.02)
        assert (params["bias"] == 1).all()
    seen = nn.init.orthogonal()(fg.random.split(fg.random.key(0))[0], (5, 5, 3, 40))
    layer = nn.Conv2d(3, 40, 5, weight_init=nn.init.orthogonal())
    np.testing.assert_array_equal(
        layer.init(0, (3, 8, 8))["weight"], np.transpose(seen, (3, 2, 0, 1))
    )


def test_layouts_draw_the_same_and_compute_the_same():
    first, last = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1, layout="NHWC")
    p, q = first.init(0, (4, 9, 8)), last.init(0, (9, 8, 4))
    np.testing.assert_array_equal(np.transpose(q["weight"], (3, 2, 0, 1)), p["weight"])
    y = last(q, np.moveaxis(IMAGES, 1, -1))
    np.testing.assert_allclose(np.moveaxis(y, -1, 1), first(p, IMAGES), 1e-5, 1e-5)


def test_init_under_jit_and_vmap():
    layer = nn.Conv2d(4, 6, 3)
    keys = fg.random.split(fg.random.key(0), 3)
    ensemble = fg.jit(fg.vmap(lambda key: layer.init(key, (4, 9, 8))))(keys)
    outputs = fg.vmap(layer, in_axes=(0, None))(ensemble, IMAGES)
    assert outputs.shape == (3, 2, 6, 7, 6)
    one = layer(layer.init(keys[1], (4, 9, 8)), IMAGES)
    np.testing.assert_allclose(outputs[1], one, 1e-4, 1e-5)


POOLS: list[tuple[Any, Any]] = [
    (nn.MaxPool2d(2), lambda x: fg.max_pool(x, 2)),
    (nn.MaxPool2d(3, 1, 1, 2), lambda x: fg.max_pool(x, 3, strides=1, padding=1, dilation=2)),
    (nn.AvgPool2d((2, 3), padding=1), lambda x: fg.avg_pool(x, (2, 3), padding=1)),
    (
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda x: fg.avg_pool(x, 3, strides=2, padding=1, count_include_pad=False),
    ),
    (nn.MaxPool2d(2, layout="NHWC"), lambda x: fg.max_pool(x, 2, layout="NHWC")),
    (nn.AvgPool2d(2, layout="NHWC"), lambda x: fg.avg_pool(x, 2, layout="NHWC")),
    (nn.GlobalAvgPool(), lambda x: x.mean((2, 3))),
    (nn.GlobalMaxPool(channels_last=True), lambda x: x.max((1, 2))),
    (nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdims=True)),
    (nn.AdaptiveAvgPool2d((3, 4)), lambda x: fg.avg_pool(x, (3, 2))),
    (nn.AdaptiveAvgPool2d((3, 2), layout="NHWC"), lambda x: adaptive(x, (3, 2), (1, 2))),
    (nn.AdaptiveAvgPool2d((4, 11)), lambda x: adaptive(x, (4, 11), (2, 3))),
]


def adaptive(x, counts, axes):
    for count, axis in zip(counts, axes, strict=True):
        n = x.shape[axis]
        rows = [
            np.mean(x.take(range(i * n // count, -(-(i + 1) * n // count)), axis), axis)
            for i in range(count)
        ]
        x = np.stack(rows, axis)
    return x


@pytest.mark.parametrize(("layer", "function"), POOLS, ids=[repr(layer) for layer, _ in POOLS])
def test_pooling(layer, function):
    assert layer.init(0, IMAGES.shape[1:]) == {}
    y = layer({}, IMAGES)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, function(IMAGES), 1e-5, 1e-6)
    np.testing.assert_allclose(fg.jit(layer)({}, IMAGES), y, 1e-5, 1e-6)


def test_pooling_over_other_axes():
    x = RNG.normal(size=(2, 3, 6))
    np.testing.assert_array_equal(nn.MaxPool1d(2)({}, x), x.reshape(2, 3, 3, 2).max(-1))
    np.testing.assert_allclose(nn.AvgPool1d(3)({}, x), x.reshape(2, 3, 2, 3).mean(-1))
    volume = RNG.normal(size=(1, 2, 4, 4, 4))
    blocks = volume.reshape(1, 2, 2, 2, 2, 2, 2, 2)
    np.testing.assert_array_equal(nn.MaxPool3d(2)({}, volume), blocks.max((3, 5, 7)))
    np.testing.assert_allclose(nn.AvgPool3d(2)({}, volume), blocks.mean((3, 5, 7)))
    whole = np.arange(8).reshape(1, 1, 2, 4)
    np.testing.assert_allclose(nn.AdaptiveAvgPool2d((1, 3))({}, whole), [[[[2.5, 3.5, 4.5]]]])


def test_a_network_learns():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3),
        nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 2),
    )  # fmt: skip
    params = model.init(0, (1, 8, 8))
    # Horizontal and vertical stripes.
    stripes = np.tile(np.arange(8) % 4 < 2, (8, 1))
    images = np.stack([np.roll(stripes if i % 2 else stripes.T, i, -1) for i in range(16)])
    x, y = images[:, None].astype(np.float32), np.arange(16) % 2
    optimizer = nn.adam(0.02)
    state = optimizer.init(params)

    @fg.jit
    def step(params, state):
        loss, grads = fg.value_and_grad(lambda p: nn.cross_entropy(model(p, x), y))(params)
        return *optimizer.update(grads, state, params), loss

    for _ in range(60):
        params, state, loss = step(params, state)
    assert loss < 0.1
    assert "Conv2d" in str(nn.summary(model, (1, 8, 8)))


def test_layers_are_values():
    layer = nn.Conv2d(3, 4, (3, 3), padding=((1, 1), (0, 0)))
    assert layer == nn.Conv2d(3, 4, [3, 3], padding=[(1, 1), (0, 0)])  # type: ignore[arg-type]
    assert hash(layer) == hash(copy.deepcopy(layer))
    assert pickle.loads(pickle.dumps(layer)) == layer != nn.Conv2d(3, 4, 3)


def test_printing():
    assert repr(nn.Conv2d(3, 4, 3)) == "Conv2d(in_channels=3, out_channels=4, kernel_size=3)"
    layer = nn.ConvTranspose1d(
        3, 4, 3, stride=2, bias=False, layout="NWC", weight_init=nn.init.he_normal()
    )
    assert repr(layer) == (
        "ConvTranspose1d(in_channels=3, out_channels=4, kernel_size=3, stride=2, bias=False, "
        "layout='NWC', weight_init=he_normal())"
    )
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2)"
    assert repr(nn.AdaptiveAvgPool2d(1)) == "AdaptiveAvgPool2d(output_size=1)"


# -- Bad input -----------------------------------------------------------------------------------


def refused(layer, shape, *parts, params=None):
    with pytest.raises(LayerShapeError) as caught:
        if params is None:
            nn.Sequential(nn.ReLU(), layer).init(0, shape)
        else:
            layer(params, np.ones(shape, np.float32))
    for part in parts:
        assert part in str(caught.value), caught.value


def test_shapes_that_do_not_fit_are_named():
    layer = nn.Conv2d(3, 4, 3)
    refused(layer, (5, 8, 8), "layer 1, Conv2d", "C = 3, got (5, 8, 8)", "in_channels=5")
    refused(layer, (8, 8), "(C, H, W)", "expand_dims")
    refused(layer, (8, 8, 3), "layout='NHWC'")
    refused(nn.Conv2d(3, 4, 3, layout="NHWC"), (3, 8, 8), "layout='NCHW'")
    refused(layer, (3, 2, 8), "Conv2d", "window of 3")
    params = layer.init(0, (3, 8, 8))
    refused(layer, (3, 8, 8), "(N, C, H, W)", "x[None]", params=params)
    refused(nn.Conv2d(3, 5, 3), (1, 3, 8, 8), "what init has made", "(5,)", params=params)
    refused(nn.MaxPool2d(2), (3, 8, 8), "MaxPool2d", "x[None]", params={})
    refused(nn.MaxPool2d(9), (1, 3, 8, 8), "window of 9", params={})
    refused(nn.AdaptiveAvgPool2d(1), (3, 8, 8), "NCHW", params={})
    refused(nn.GlobalAvgPool(), (3, 8), "space", params={})


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: nn.Conv2d(0, 4, 3), "in_channels must be a positive integer"),
        (lambda: nn.Conv2d(3, 4.0, 3), "out_channels"),  # type: ignore[arg-type]
        (lambda: nn.Conv2d(3, 4, (3,)), "one for each of 2"),
        (lambda: nn.Conv2d(3, 4, 0), "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "divisible by groups=2"),
        (lambda: nn.Conv2d(3, 4, 3, layout="NCW"), "'NCHW' or 'NHWC'"),
        (lambda: nn.MaxPool1d(2, layout="NHWC"), "'NCW' or 'NWC'"),
    ],
)
def test_settings_that_do_not_fit(make, part):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert part in str(caught.value)
