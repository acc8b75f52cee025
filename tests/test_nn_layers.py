"""Layers: what they compute, what they print, how they are nested, and what they refuse."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from scipy import stats

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import (
    ArgumentError,
    LayerShapeError,
    NotAnArrayError,
    RandomKeyError,
    TreeMismatchError,
)

RNG = np.random.default_rng(0)


class Residual(nn.Layer):
    inner: nn.Layer

    def init_params(self, key, input_shape, dtype):
        return self.inner.init(key, input_shape, dtype)

    def apply(self, params, x):
        return x + self.inner(params, x)


class Twice(nn.Layer):
    """The same parameters at two places."""

    inner: nn.Layer

    def init_params(self, key, input_shape, dtype):
        return self.inner.init(key, input_shape, dtype)

    def apply(self, params, x):
        return self.inner(params, self.inner(params, x))


class Branches(nn.Layer):
    parts: tuple[nn.Layer, ...]
    gain: float = 1.0

    def init_params(self, key, input_shape, dtype):
        keys = fg.random.split(key, len(self.parts))
        return [p.init(k, input_shape, dtype) for p, k in zip(self.parts, keys, strict=True)]

    def apply(self, params, x):
        return self.gain * sum(part(p, x) for part, p in zip(self.parts, params, strict=True))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


# -- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (7, 4), (2, 7, 4), (0, 4)])
def test_linear_is_an_affine_map_of_the_last_axis(shape):
    layer = nn.Linear(4, 3)
    params = layer.init(1, (4,))
    x = RNG.normal(size=shape).astype(np.float32)
    y = layer(params, x)
    np.testing.assert_allclose(
        y, np.einsum("...i,io->...o", x, params["weight"]) + params["bias"], rtol=1e-5, atol=1e-6
    )
    assert y.dtype == np.float32


def test_linear_without_bias_has_one_parameter():
    params = nn.Linear(4, 3, bias=False).init(0, (4,))
    assert list(params) == ["weight"]


def test_sequential_chains():
    model = mlp()
    params = model.init(3, (2, 3))
    x = RNG.normal(size=(8, 2, 3)).astype(np.float32)
    hidden = np.maximum(x.reshape(8, 6) @ params[1]["weight"] + params[1]["bias"], 0)
    expected = hidden @ params[3]["weight"] + params[3]["bias"]
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-5, atol=1e-6)


def test_part_of_a_sequential_takes_part_of_the_parameters():
    model = mlp()
    params = model.init(3, (2, 3))
    x = RNG.normal(size=(8, 2, 3)).astype(np.float32)
    half = model[:2](params[:2], x)
    np.testing.assert_array_equal(model[2:](params[2:], half), model(params, x))
    assert model[1] == nn.Linear(6, 5) and len(model) == 4 and list(model)[2] == nn.ReLU()


def test_empty_sequential_is_the_identity():
    model = nn.Sequential()
    x = np.ones((2, 3))
    assert model.init(0, (3,)) == ()
    assert model((), x) is x


ACTIVATIONS = {
    nn.ReLU(): lambda x: np.maximum(x, 0),
    nn.LeakyReLU(0.2): lambda x: np.where(x > 0, x, 0.2 * x),
    nn.Tanh(): np.tanh,
    nn.Sigmoid(): lambda x: 1 / (1 + np.exp(-x)),
    nn.SiLU(): lambda x: x / (1 + np.exp(-x)),
    nn.Softplus(): lambda x: np.log(1 + np.exp(x)),
    nn.GELU(): lambda x: x * stats.norm.cdf(x),
    nn.GELU(approximate=True): lambda x: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    nn.Softmax(): lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
    nn.Softmax(axis=1): lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
    nn.LogSoftmax(): lambda x: x - np.log(np.exp(x).sum(axis=-1, keepdims=True)),
    nn.Identity(): lambda x: x,
    nn.Lambda(np.sin): np.sin,
    nn.Flatten(): lambda x: x.reshape(len(x), -1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_layer_without_parameters(layer, dtype):
    x = RNG.normal(size=(3, 4, 5), scale=2).astype(dtype)
    assert layer.init(0, (4, 5)) == {}
    y = layer({}, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, ACTIVATIONS[layer](x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_derivative_of_layer(layer):
    x, direction = RNG.normal(size=(2, 3, 4, 5))
    f = lambda x: layer({}, x)  # noqa: E731
    h = 1e-6
    numeric = (f(x + h * direction) - f(x - h * direction)) / (2 * h)
    _, tangent = fg.jvp(f, (x,), (direction,))
    np.testing.assert_allclose(tangent, numeric, rtol=1e-6, atol=1e-8)
    y, pullback = fg.vjp(f, x)
    ct = RNG.normal(size=y.shape)
    np.testing.assert_allclose(np.vdot(pullback(ct)[0], direction), np.vdot(ct, tangent))


def test_relu_at_zero_infinity_and_nan():
    x = np.array([-np.inf, -1.0, 0.0, np.inf, np.nan])
    np.testing.assert_array_equal(nn.relu(x), [0, 0, 0, np.inf, np.nan])
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(nn.relu(x)))(np.zeros(2)), [0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_at_extremes(dtype):
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4], dtype)
    for f in (nn.sigmoid, nn.softplus, nn.silu, nn.gelu):
        value, slope = f(x), fg.grad(lambda x, f=f: np.sum(f(x)))(x)
        assert np.isfinite(value).all() and np.isfinite(slope).all()
    np.testing.assert_allclose(nn.sigmoid(dtype(-50)), np.exp(dtype(-50)), rtol=1e-5)
    np.testing.assert_allclose(nn.softmax(x), [0, 0, 0, 0, 1])
    np.testing.assert_allclose(nn.log_softmax(x), x - dtype(1e4))


def test_second_derivatives_at_zero():
    assert fg.grad(fg.grad(nn.softplus))(0.0) == pytest.approx(0.25)
    assert fg.grad(fg.grad(fg.grad(nn.sigmoid)))(0.0) == pytest.approx(-0.125)


def test_one_hot():
    np.testing.assert_array_equal(nn.one_hot(np.array([[1], [3]]), 3), [[[0, 1, 0]], [[0, 0, 0]]])


# -- Parameters ----------------------------------------------------------------------------------


def test_seed_and_key_make_the_same_parameters():
    model = mlp()
    a, b, other = model.init(7, (6,)), model.init(fg.random.key(7), (6,)), model.init(8, (6,))
    for p, q, r in zip(*map(fg.tree.leaves, (a, b, other)), strict=True):
        np.testing.assert_array_equal(p, q)
        assert not np.array_equal(p, r)


def test_no_two_parameters_are_drawn_alike():
    params = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).init(0, (4,))
    assert not np.array_equal(params[0]["weight"], params[1]["weight"])
    assert not np.array_equal(params[0]["weight"][0], params[0]["bias"])


def test_a_layer_added_behind_changes_no_other():
    short, long = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    np.testing.assert_array_equal(short.init(0, (4,))[0]["weight"], long.init(0, (4,))[0]["weight"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_of_parameters(dtype):
    params = mlp().init(0, (6,), dtype)
    assert {leaf.dtype for leaf in fg.tree.leaves(params)} == {np.dtype(dtype)}


def test_float32_stays_float32_through_model_and_gradient():
    model = nn.Sequential(*[layer for layer in ACTIVATIONS if layer != nn.Softmax(axis=1)])
    model = nn.Sequential(nn.Linear(4, 4), model, nn.Linear(4, 2))
    params, x = model.init(0, (4,)), np.ones((3, 4), np.float32)
    loss, grads = fg.value_and_grad(lambda p: np.sum(model(p, x)))(params)
    assert loss.dtype == np.float32
    assert {leaf.dtype for leaf in fg.tree.leaves(grads)} == {np.dtype(np.float32)}


def test_init_under_jit_and_vmap():
    model = mlp()
    keys = fg.random.split(fg.random.key(0), 3)
    ensemble = fg.jit(fg.vmap(lambda key: model.init(key, (6,))))(keys)
    assert ensemble[1]["weight"].shape == (3, 6, 5)
    np.testing.assert_array_equal(ensemble[1]["weight"][2], model.init(keys[2], (6,))[1]["weight"])
    x = np.ones((4, 6), np.float32)
    outputs = fg.vmap(model, in_axes=(0, None))(ensemble, x)
    assert outputs.shape == (3, 4, 3)
    np.testing.assert_allclose(outputs[1], model(model.init(keys[1], (6,)), x), rtol=1e-5)


def test_one_example_is_mapped_over():
    model = mlp()
    params, x = model.init(0, (2, 3)), RNG.normal(size=(5, 2, 3)).astype(np.float32)
    each = np.stack([model(params, one[None])[0] for one in x])
    np.testing.assert_allclose(each, model(params, x), rtol=1e-5, atol=1e-6)


# -- One's own layers ----------------------------------------------------------------------------


def test_shared_parameters_add_their_gradients():
    layer = Twice(nn.Linear(3, 3))
    params = layer.init(0, (3,), np.float64)
    x = RNG.normal(size=(4, 3))
    grads = fg.grad(lambda p: np.sum(layer(p, x) ** 2))(params)

    def unshared(p, q):
        return np.sum(layer.inner(q, layer.inner(p, x)) ** 2)

    first, second = fg.grad(unshared, argnums=(0, 1))(params, params)
    np.testing.assert_allclose(grads["weight"], first["weight"] + second["weight"])


def test_own_layer_within_a_model():
    model = nn.Sequential(Residual(nn.Linear(3, 3)), np.tanh)
    params, x = model.init(0, (3,)), np.ones((2, 3), np.float32)
    expected = np.tanh(x + x @ params[0]["weight"] + params[0]["bias"])
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-6)


def test_own_layers_are_frozen_dataclasses():
    layer = Branches((nn.ReLU(), nn.Tanh()), gain=2.0)
    assert layer == Branches((nn.ReLU(), nn.Tanh()), 2.0) != Branches((nn.ReLU(),), 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.gain = 3.0


def test_layer_without_apply():
    class Nothing(nn.Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing has no method apply"):
        Nothing()({}, np.ones(2))


def test_layers_are_values():
    assert mlp() == mlp() and hash(mlp()) == hash(mlp())
    assert mlp() != nn.Sequential(nn.Flatten())
    assert pickle.loads(pickle.dumps(mlp())) == copy.deepcopy(mlp()) == mlp()
    assert nn.Linear(2, 3, weight_init=nn.init.he_normal()) == nn.Linear(
        2, 3, weight_init=nn.init.he_normal()
    )


def test_lists_of_layers_are_values():
    class Stack(nn.Layer):
        def __init__(self, sizes):
            self.layers = [nn.Linear(size, size) for size in sizes]

        def apply(self, params, x):
            for layer, own in zip(self.layers, params["layers"], strict=True):
                x = layer(own, x)
            return x

    assert Stack([2, 2]) == Stack([2, 2]) != Stack([2])
    assert len({Stack([2, 2]), Stack([2, 2]), Stack([2])}) == 2
    assert Stack([2, 2]).layers == (nn.Linear(2, 2), nn.Linear(2, 2))


def test_model_is_a_static_argument_and_no_pytree():
    model = mlp()
    params, x = model.init(0, (6,)), np.ones((2, 6), np.float32)
    apply = fg.jit(lambda model, params, x: model(params, x), static_argnums=0)
    np.testing.assert_allclose(apply(model, params, x), model(params, x), rtol=1e-6)
    assert fg.tree.leaves(model) == [model]
    with pytest.raises(NotAnArrayError, match="static_argnums"):
        fg.jit(lambda model, params, x: model(params, x))(model, params, x)


# -- Printing ------------------------------------------------------------------------------------

PRINTED = """\
Sequential(
  (0): Flatten()
  (1): Linear(in_features=6, out_features=5, bias=True)
  (2): Residual(
    (inner): Sequential(
      (0): Linear(in_features=5, out_features=5, bias=False)
      (1): LeakyReLU(negative_slope=0.1)
      (2): Lambda(sin)
    )
  )
  (3): Branches(
    gain=2.0
    (parts.0): Softmax(axis=-1)
    (parts.1): Identity()
  )
)"""


def test_printing():
    inner = nn.Sequential(nn.Linear(5, 5, bias=False), nn.LeakyReLU(0.1), np.sin)
    parts = Branches((nn.Softmax(), nn.Identity()), gain=2.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), Residual(inner), parts)
    assert repr(model) == str(model) == PRINTED


def test_printing_initialisers():
    layer = nn.Linear(2, 3, weight_init=nn.init.he_uniform(), bias_init=nn.init.zeros())
    assert repr(layer) == (
        "Linear(in_features=2, out_features=3, bias=True, weight_init=he_uniform(), "
        "bias_init=zeros())"
    )
    assert repr(nn.Sequential()) == "Sequential()"


# -- Bad input -----------------------------------------------------------------------------------


def test_layers_that_do_not_fit_are_named_by_path():
    model = nn.Sequential(
        nn.Linear(6, 5), Residual(nn.Sequential(nn.ReLU(), nn.Linear(4, 5))), nn.ReLU()
    )
    with pytest.raises(LayerShapeError) as caught:
        model.init(0, (6,))
    assert str(caught.value) == (
        "layer 1.inner.1, Linear(in_features=4, out_features=5, bias=True): input_shape must end "
        "in 4, got (5,). Write Linear(5, 5), or change what comes before (nn.Flatten() makes one "
        "axis of all but the batch's)."
    )
    assert caught.value.path == ("1", "inner", "1")


def test_inputs_that_do_not_fit():
    model = nn.Sequential(nn.Linear(6, 5))
    params = model.init(0, (6,))
    with pytest.raises(LayerShapeError, match=r"^layer 0, Linear.* n = 6, got \(2, 7\)"):
        model(params, np.ones((2, 7)))
    with pytest.raises(LayerShapeError, match=r"got \(\)\. Give the inputs an axis"):
        model(params, np.float32(1.0))
    with pytest.raises(LayerShapeError, match=r"^layer 0, Linear.*got \(2, 7\)"):
        fg.jit(fg.grad(lambda p, x: np.sum(model(p, x))))(params, np.ones((2, 7)))
    with pytest.raises(LayerShapeError, match=r"^Flatten\(\): inputs must have a batch axis"):
        nn.Flatten()({}, np.float32(1.0))


def test_a_layer_used_twice_is_named_by_its_place():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Linear(4, 3), layer)
    with pytest.raises(LayerShapeError, match=r"^layer 2, "):
        model.init(0, (4,))


def test_parameters_of_another_layer():
    layer = nn.Linear(4, 3)
    params = layer.init(0, (4,))
    with pytest.raises(LayerShapeError, match=r"\(4, 3\).*\(3,\).*got.*\(4, 2\)"):
        layer(nn.Linear(4, 2).init(0, (4,)), np.ones((1, 4)))
    with pytest.raises(LayerShapeError, match=r"takes parameters of shapes"):
        nn.Linear(4, 3, bias=False)(params, np.ones((1, 4)))
    for wrong in (None, (), (params,), {"weight": 1.0}):
        with pytest.raises((TreeMismatchError, LayerShapeError), match=r"what init has made"):
            layer(wrong, np.ones((1, 4)))


@pytest.mark.parametrize("count", [0, 3])
def test_wrong_number_of_parameter_trees(count):
    model = mlp()
    with pytest.raises(TreeMismatchError, match=rf"4 layers.*got {count}\. .*model\[:2\]"):
        model(({},) * count, np.ones((1, 6)))
    with pytest.raises(TreeMismatchError, match=r"a tuple of 4.* got a dict"):
        model({}, np.ones((1, 6)))


def test_other_errors_say_in_which_layer():
    def broken(x):
        raise KeyError("not mine")

    model = nn.Sequential(nn.Identity(), nn.Sequential(broken))
    for call in (lambda: model.init(0, (2,)), lambda: model(({}, ({},)), np.ones((1, 2)))):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value.__notes__ == [
            "in layer 0 of Sequential: Lambda(broken)",
            "in layer 1 of Sequential: Sequential()",
        ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.ReLU], r"ReLU is a class: write ReLU\(\)"),
        ([[nn.ReLU()]], r"nn\.Sequential\(\*layers\)"),
        ([nn.ReLU(), None], r"not None"),
    ],
)
def test_sequential_of_what_is_no_layer(layers, message):
    with pytest.raises(ArgumentError, match=message):
        nn.Sequential(*layers)


@pytest.mark.parametrize("sizes", [(2.0, 3), (2, -1), ("2", 3), (True, 1)])
def test_linear_of_bad_sizes(sizes):
    with pytest.raises(ArgumentError, match="non-negative integer"):
        nn.Linear(*sizes)


@pytest.mark.parametrize("shape", [None, (2.5,), (None, 6), (-1, 6), "6"])
def test_bad_input_shape(shape):
    with pytest.raises(ArgumentError, match="the shape of one example without the batch axis"):
        mlp().init(0, shape)


def test_bad_key_and_dtype():
    with pytest.raises(RandomKeyError):
        nn.Linear(2, 2).init("seed", (2,))
    with pytest.raises(ArgumentError, match="float dtype, not int64"):
        nn.Linear(2, 2).init(0, (2,), np.int64)


# -- Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((), (2, 60)),
        ((2,), (2, 3, 20)),
        ((1, -2), (2, 12, 5)),
        ((0,), (120,)),
        ((-1,), (2, 3, 4, 5)),
    ],
)
def test_flatten_from_an_axis_to_another(axes, shape):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    y = nn.Flatten(*axes)({}, x)
    assert y.shape == shape
    np.testing.assert_array_equal(y.ravel(), x.ravel())


def test_axes_that_flatten_has_not():
    for axes in ((3,), (2, 1), (-4,)):
        with pytest.raises(LayerShapeError, match="inputs must have axes from"):
            nn.Flatten(*axes)({}, np.ones((2, 3, 4)))
    assert repr(nn.Flatten(2)) == "Flatten(start_dim=2, end_dim=-1)"


def test_batch_norm_without_running_statistics():
    layer, tracked = nn.BatchNorm1d(None, track_running_stats=False), nn.BatchNorm1d(3)
    params = layer.init(0, 3)
    assert params.keys() == {"weight", "bias"}
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    y, after = layer.train(params, x)
    assert after is params
    np.testing.assert_array_equal(layer(params, x), y)
    np.testing.assert_array_equal(y, tracked.train(tracked.init(0, 3), x)[0])
    assert nn.BatchNorm(3, affine=False, track_running_stats=False).init(0, 3) == {}
    with pytest.raises(LayerShapeError, match="inputs must have 3 channels"):
        layer(params, np.ones((6, 4), np.float32))
    with pytest.raises(LayerShapeError, match="more than one number a channel"):
        layer(params, x[:1])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, (2, 3), (4, 5)])
def test_adaptive_maxima(size, last):
    x = RNG.normal(size=(2, 3, 7, 6))
    rows, columns = size if isinstance(size, tuple) else (size, size)

    def pieces(n, count):
        return [slice(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]

    expected = np.array(
        [[x[:, :, a, b].max((2, 3)) for b in pieces(6, columns)] for a in pieces(7, rows)]
    ).transpose(2, 3, 0, 1)
    layer = nn.AdaptiveMaxPool2d(size, layout="NHWC" if last else None)
    given = np.moveaxis(x, 1, -1) if last else x

    def found(x):
        y = layer({}, x)
        return np.moveaxis(y, -1, 1) if last else y

    np.testing.assert_array_equal(found(given), expected)
    np.testing.assert_array_equal(fg.jit(found)(given), expected)
    # Each output is an element, so slopes add up to how many there are.
    slopes = fg.grad(lambda x: np.sum(found(x)))(given)
    assert np.isclose(slopes.sum(), expected.size)
    assert np.isclose(np.sum(slopes * given), expected.sum())


def test_cosines():
    x, y = RNG.normal(size=(2, 4, 5))
    cosine = nn.cosine_similarity(x, y)
    expected = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    np.testing.assert_allclose(cosine, expected)
    np.testing.assert_allclose(nn.cosine_similarity(x.T, y.T, axis=0), expected)
    np.testing.assert_allclose(nn.cosine_similarity(x, y[:1])[0], expected[0])
    assert nn.cosine_similarity(x.astype(np.float16), y.astype(np.float16)).dtype == np.float16
    zero = np.zeros((1, 5))
    assert nn.cosine_similarity(zero, y[:1]) == 0
    slope = fg.grad(lambda x: np.sum(nn.cosine_similarity(x, y[:1])))(zero)
    assert np.isfinite(slope).all()
