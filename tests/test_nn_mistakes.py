"""Mistakes that users make with models and optimisers: each is an error that says what to write."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, IndexRangeError, LayerShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)).astype(np.float32)
Y = np.array([0, 1, 1, 0])
MODEL = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm(5), nn.Linear(5, 2))
PARAMS = MODEL.init(0, 3)
OPTIMIZERS = {
    "sgd": nn.sgd(0.1),
    "momentum": nn.sgd(0.1, momentum=0.9),
    "adam": nn.adam(1e-3),
    "clipped": nn.clip_by_global_norm(nn.adamw(1e-3), 1.0),
}


def loss_fn(params, x=X):
    return nn.cross_entropy(MODEL(params, x), Y)


def loss_and_params(params, x=X):
    outputs, params = MODEL.train(params, x)
    return nn.cross_entropy(outputs, Y), params


# -- Optimisers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_with_gradients_and_parameters_exchanged(name):
    optimizer = OPTIMIZERS[name]
    state, grads = optimizer.init(PARAMS), fg.grad(loss_fn)(PARAMS)
    with pytest.raises(ArgumentError, match=r"other way round. Call params, state = optimizer.upd"):
        optimizer.update(PARAMS, state, grads)
    params, state = optimizer.update(grads, state, PARAMS)
    with pytest.raises(ArgumentError, match="other way round"):
        optimizer.update(params, state, fg.jit(fg.grad(loss_fn))(params))


@pytest.mark.parametrize("has_aux", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_exchanged_where_it_is_traced(name, has_aux):
    optimizer = OPTIMIZERS[name]

    @fg.jit
    def step(params, state):
        if has_aux:
            grads, params = fg.grad(loss_and_params, has_aux=True)(params)
        else:
            grads = fg.grad(loss_fn)(params)
        return optimizer.update(params, state, grads)

    with pytest.raises(ArgumentError, match="other way round"):
        step(PARAMS, optimizer.init(PARAMS))


def test_update_in_order_is_no_mistake_wherever_its_arguments_come_from():
    optimizer, start = nn.sgd(0.5), {"w": np.ones(2)}
    state = optimizer.init(start)
    # The gradient of |w|² / 2 is w itself.
    moved, state = optimizer.update(start, state, start)
    np.testing.assert_array_equal(moved["w"], [0.5, 0.5])

    # Gradients that are inputs, of parameters that are computed, twice.
    def twice(grads, state, params):
        params = fg.tree.map(lambda p: p.astype(np.float32), params)
        params, state = optimizer.update(grads, state, params)
        return optimizer.update(grads, state, params)

    for wrap in (fg.jit, lambda f: f):
        np.testing.assert_array_equal(wrap(twice)(moved, state, start)[0]["w"], [0.5, 0.5])

    # Another's update as a gradient, and parameters that are a gradient of something else.
    @fg.jit
    def step(dual):
        params = fg.grad(lambda d: np.sum(d["w"] ** 2) / 2)(dual)
        grads = fg.grad(lambda p: np.sum(p["w"]))(params)
        return optimizer.update(grads, state, params)

    np.testing.assert_array_equal(step(start)[0]["w"], [0.5, 0.5])


def test_parts_of_the_calls_of_an_optimizer_that_are_missing():
    optimizer, params = nn.adam(1e-3), {"w": np.ones(2)}
    state = optimizer.init(params)
    with pytest.raises(ArgumentError, match=r"adam: update takes.*got 2 of the three. Call params"):
        optimizer.update(params, state)
    with pytest.raises(ArgumentError, match=r"adam: init takes the parameters"):
        optimizer.init()
    with pytest.raises(ArgumentError, match=r"adam: an optimiser is made already.*optimizer.upd"):
        optimizer(params)


def test_a_rate_that_is_true():
    with pytest.raises(ArgumentError, match=r"learning_rate must be a number.*not True"):
        nn.sgd(True)


# -- A model in the place of its parameters ------------------------------------------------------

TAKES_PARAMETERS = {
    "adam: init": nn.adam(1e-3).init,
    "sgd: init": nn.sgd(1e-3).init,
    "num_parameters": nn.num_parameters,
    "named_parameters": nn.named_parameters,
    "trainable": nn.trainable,
}


@pytest.mark.parametrize("name", TAKES_PARAMETERS)
def test_a_model_in_the_place_of_its_parameters(name):
    with pytest.raises(ArgumentError, match=f"{name} takes parameters.*a layer, Sequential.*init"):
        TAKES_PARAMETERS[name](MODEL)


def test_a_model_that_is_saved(tmp_path):
    with pytest.raises(ArgumentError, match=r"save takes parameters.*model.init\(seed, input_sh"):
        nn.save(tmp_path / "m.safetensors", MODEL)
    assert not list(tmp_path.iterdir())


# -- Shapes without their batch axis, or with one too many ---------------------------------------

MLP = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
CNN = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (MLP, (64, 28, 28)),
        (MLP, (64, 1, 28, 28)),
        (CNN, (64, 3, 28, 28)),
        (nn.Conv2d(3, 8, 3), (64, 3, 28, 28)),
        (nn.LSTM(4, 5), (64, 7, 4)),
        (nn.BatchNorm1d(784), (64, 784)),
    ],
)
def test_init_with_the_batch_axis(model, shape):
    with pytest.raises(LayerShapeError) as caught:
        model.init(0, shape)
    said = f"drop the batch axis, init(seed, {shape[1:]}) in place of init(seed, {shape})."
    assert said in str(caught.value)
    assert "Write" not in str(caught.value)
    model.init(0, shape[1:])


def test_init_with_a_shape_that_fits_neither_way():
    with pytest.raises(LayerShapeError, match=r"layer 1, Linear.*Write Linear\(900, 10\)"):
        MLP.init(0, (30, 30))
    with pytest.raises(LayerShapeError, match=r"layout='NHWC'"):
        CNN.init(0, (28, 28, 3))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (MLP, (28, 28)),
        (CNN, (3, 28, 28)),
        (nn.BatchNorm1d(4), (4,)),
        (nn.BatchNorm(4), (4,)),
        (nn.BatchNorm2d(4), (4, 5, 5)),
        (nn.LSTM(4, 5), (7, 4)),
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_one_example_in_the_place_of_a_batch(model, shape, train):
    params = model.init(0, shape)
    x = np.ones(shape, np.float32)
    call = model.train if train else model
    for wrap in (fg.jit, lambda f: f):
        with pytest.raises(LayerShapeError) as caught:
            wrap(call)(params, x)
        assert f"of shape {shape} are one example" in str(caught.value)
        assert "x[None]" in str(caught.value)
        assert "Write" not in str(caught.value)
    model(params, x[None])


def test_a_window_larger_than_the_inputs_is_noticed_by_init():
    with pytest.raises(LayerShapeError, match=r"Conv2d"):
        nn.Conv2d(3, 8, 9).init(0, (3, 5, 5))


# -- init ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), r"takes a seed and a shape, and was given no shape. Write params"),
        ((), r"was given neither"),
        (((3,),), r"takes a seed or a key first, then the shape, and was given \(3,\) first"),
        (((3,), 0), r"takes a seed or a key first"),
    ],
)
def test_arguments_of_init(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        nn.Linear(3, 4).init(*arguments)


def test_init_of_a_class():
    with pytest.raises(ArgumentError, match=r"init was called on a class. Make the layer first"):
        nn.Linear.init(0, 4)


# -- Blocks --------------------------------------------------------------------------------------


class Block(nn.Layer):
    def __init__(self, hidden):
        self.fc = nn.Linear(3, hidden)
        self.act = nn.ReLU()
        self.scale = nn.Parameter((hidden,), nn.init.constant(2.0))

    def apply(self, params, x):
        return self.act({}, self.fc(params["fc"], x)) * params["scale"]


def test_parameters_and_bare_layers_that_init_sets():
    block = Block(5)
    params = block.init(0, 3)
    assert list(params) == ["scale", "fc", "act"]
    np.testing.assert_array_equal(params["scale"], np.full(5, 2, np.float32))
    expected = np.maximum(X @ params["fc"]["weight"] + params["fc"]["bias"], 0) * 2
    np.testing.assert_allclose(block(params, X), expected, rtol=1e-6)
    assert block == Block(5) and hash(block) == hash(Block(5)) and block != Block(6)
    state = nn.torch.to_state_dict(block, params)
    again = nn.torch.from_state_dict(block, state)
    np.testing.assert_array_equal(again["scale"], params["scale"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), r"was given an array of shape \(3,\).*Write nn.Parameter\(\(3, 4\)"),
        ((np.zeros(3), nn.init.zeros()), r"an array of shape \(3,\)"),
        (((3,),), r"takes what draws the parameter as its second argument"),
        (((3,), nn.init.ones), r"nn.Parameter\(\(3,\), nn.init.ones\(\)\)"),
    ],
)
def test_what_declares_no_parameter(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        nn.Parameter(*arguments)


def block_of(apply):
    class Net(nn.Layer):
        fc: nn.Linear

    Net.apply = apply
    return Net(nn.Linear(3, 2))


BLOCKS = {
    "wrong key": (lambda s, p, x: s.fc(p["linear"], x), r"takes 'linear' out of params, .*'fc'"),
    "nothing": (lambda s, p, x: [s.fc(p["fc"], x)].clear(), r"apply returned None"),
    "the whole": (lambda s, p, x: s.fc(p, x), r"whole of params.*Write self.fc\(params\['fc'\], x"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_with_mistakes(name):
    apply, message = BLOCKS[name]
    with pytest.raises(ArgumentError, match=message):
        block_of(apply).init(0, 3)


def test_mistakes_in_calls_of_layers_without_layers_in_them():
    class Nothing(nn.Layer):
        def apply(self, params, x):
            x * 2

    with pytest.raises(ArgumentError, match=r"Nothing.apply returned None"):
        Nothing()({}, X)

    class Scale(nn.Layer):
        scale = nn.Parameter(3, nn.init.ones())

        def apply(self, params, x):
            return x * params["sacle"]

    layer = Scale()
    with pytest.raises(ArgumentError, match=r"'sacle' out of params, which has 'scale'"):
        layer(layer.init(0, 3), X)

    # A table of the user's own, looked up elsewhere.
    class Table(nn.Layer):
        def apply(self, params, x):
            return look_up(x)

    with pytest.raises(KeyError, match="other"):
        Table()({}, X)


def look_up(x):
    return {}["other"]


@pytest.mark.parametrize("name", ["__call__", "call"])
def test_apply_by_another_name(name):
    with pytest.raises(ArgumentError, match=rf"Net writes {name}. Write apply\(self, params, x\)"):
        type("Net", (nn.Layer,), {name: lambda self, params, x: x})


# -- Labels under jit ----------------------------------------------------------------------------

EMBEDDING = nn.Embedding(3, 2)
TABLE = EMBEDDING.init(0, ())
SCORES = np.log(np.full((4, 3), 1 / 3, np.float32))
LABELLED = {
    "cross_entropy": lambda s, y: nn.cross_entropy(s, y),
    "cross_entropy of some": lambda s, y: nn.cross_entropy(s, y, ignore_index=-7),
    "cross_entropy, weighed": lambda s, y: nn.cross_entropy(s, y, weight=np.ones(3)),
    "cross_entropy's gradient": lambda s, y: fg.grad(nn.cross_entropy)(s, y),
    "nll": lambda s, y: nn.nll(s, y),
    "multi_margin": lambda s, y: nn.multi_margin(s, y),
    "top_k_accuracy": lambda s, y: nn.top_k_accuracy(s, y),
    "Embedding": lambda s, y: EMBEDDING(TABLE, y),
}


@pytest.mark.parametrize("label", [-1, -100, 3, 255])
@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_labels_out_of_range_are_named_under_jit(backend, name, label):
    function = fg.jit(LABELLED[name], backend=backend)
    function(SCORES, np.array([0, 1, 2, 2]))
    with pytest.raises(IndexRangeError) as caught:
        function(SCORES, np.array([0, 1, label, 2]))
    said = str(caught.value)
    assert f"but {label} is among them." in said and "from 0 to 2" in said
    assert said.startswith(name.replace("'", " ").replace(",", " ").split()[0])
    assert "test_nn_mistakes.py:" in said
    assert ("ignore_index=" in said) == (name != "Embedding")


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_indices_of_the_users_own_are_told_as_before(backend):
    def function(s, y, i):
        return nn.cross_entropy(s, y) + s[i, 0]

    with pytest.raises(IndexError, match=r"index 9 is out of bounds") as caught:
        fg.jit(function, backend=backend)(SCORES, np.array([0, 1, 2, 2]), np.array([9]))
    assert "cross_entropy" not in str(caught.value)


def test_apply_without_parameters():
    with pytest.raises(ArgumentError, match=r"Net.apply takes self and x alone. Write apply"):

        class Net(nn.Layer):
            def apply(self, x):
                return x

    class Any(nn.Layer):
        def apply(self, *args):
            return args[1]

    assert Any()({}, X) is X


def test_the_state_in_the_place_of_the_parameters_is_told_as_that():
    optimizer = nn.sgd(0.1, momentum=0.9)
    state, grads = optimizer.init(PARAMS), fg.grad(loss_fn)(PARAMS)
    with pytest.raises(ArgumentError, match=r"second argument must be the state.*its third one is"):
        optimizer.update(PARAMS, grads, state)


def test_parameters_as_attributes():
    block = block_of(lambda s, p, x: s.fc(p.fc, x))
    with pytest.raises(ArgumentError, match=r"asks for params.fc, .* Write params\['fc'\]"):
        block.init(0, 3)
    with pytest.raises(ArgumentError, match=r"asks for params.fc"):
        block({"fc": nn.Linear(3, 2).init(0, 3)}, X)
    # Other attributes are missed as ever.
    with pytest.raises(AttributeError, match="nowhere"):
        block_of(lambda s, p, x: s.fc(p["fc"], x).nowhere).init(0, 3)


def test_inputs_that_are_no_arrays():
    layer = nn.Linear(3, 2)
    params = layer.init(0, 3)
    with pytest.raises(ArgumentError, match=r"Linear takes an array, and was given a list. Make"):
        layer(params, [[1.0, 2.0, 3.0]])
    with pytest.raises(ArgumentError, match=r"outputs, params = model.train\(params, x, key\)"):
        layer(params, nn.Identity().train({}, X))


def test_what_the_message_of_a_pooling_layer_says_once():
    with pytest.raises(LayerShapeError) as caught:
        nn.MaxPool2d(2)({}, np.zeros((3, 8, 8), np.float32))
    assert str(caught.value).count("x[None]") == 1
