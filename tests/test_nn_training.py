"""Training mode: keys, states, who is told of it, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import (
    ArgumentError,
    IndexRangeError,
    LayerShapeError,
    OperandTypeError,
    TrainingModeError,
)

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


class Block(nn.Layer):
    """A block that never notices in which mode it is called."""

    linear: nn.Linear
    norm: nn.BatchNorm
    drop: nn.Dropout

    def apply(self, params, x):
        x = self.norm(params["norm"], self.linear(params["linear"], x))
        return self.drop(params["drop"], np.tanh(x))


def block(p=0.5):
    return Block(nn.Linear(4, 4), nn.BatchNorm(4), nn.Dropout(p))


def model():
    return nn.Sequential(block(), nn.ReLU(), block())


def assert_trees_equal(a, b, **tolerance):
    assert fg.tree.structure(a) == fg.tree.structure(b)
    for x, y in zip(fg.tree.leaves(a), fg.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


# -- What training computes ----------------------------------------------------------------------


def test_evaluation_is_what_it_was():
    layer, x = block(), normal(5, 4)
    params = layer.init(0, 4)
    want = np.tanh((x @ params["linear"]["weight"] + params["linear"]["bias"]) / np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(layer(params, x), want, rtol=1e-5, atol=1e-6)


def test_blocks_train_their_layers():
    layer, x = block(p=0.0), normal(6, 4)
    params = layer.init(0, 4)
    y, new = layer.train(params, x, 1)
    inner = x @ params["linear"]["weight"] + params["linear"]["bias"]
    mean, var = inner.mean(0), inner.var(0)
    np.testing.assert_allclose(y, np.tanh((inner - mean) / np.sqrt(var + 1e-5)), rtol=1e-4)
    np.testing.assert_allclose(new["norm"]["running"].mean, 0.1 * mean, rtol=1e-4, atol=1e-7)
    unbiased = 0.9 + 0.1 * inner.var(0, ddof=1)
    np.testing.assert_allclose(new["norm"]["running"].var, unbiased, rtol=1e-4)
    assert new["linear"] is not None and new["linear"]["weight"] is params["linear"]["weight"]


def test_layers_without_state_give_back_their_parameters():
    layer = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    params, x = layer.init(0, 4), normal(2, 4)
    y, new = layer.train(params, x)
    assert new is params
    np.testing.assert_array_equal(y, layer(params, x))


def test_each_dropout_has_its_key_and_the_same_key_the_same_mask():
    layer = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    x = np.ones((64, 64), np.float32)
    y, _ = layer.train(((), ()), x, fg.random.key(3))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs(np.mean(y > 0) - 0.25) < 0.03, "two masks, not one twice"
    np.testing.assert_array_equal(layer.train(((), ()), x, 3)[0], y)
    assert np.any(layer.train(((), ()), x, 4)[0] != y)


def test_dropout_of_whole_channels():
    x = np.ones((8, 16, 3, 3), np.float32)
    y, _ = nn.Dropout2d(0.25).train({}, x, 0)
    channels = y.reshape(8 * 16, 9)
    assert np.all(channels == channels[:, :1])
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    with pytest.raises(LayerShapeError, match=r"\(batch, channels, height, width\)"):
        nn.Dropout2d().train({}, x[0], 0)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_at_its_limits(p):
    x = np.array([[1.0, np.inf, 3.0]], np.float32)
    y, _ = nn.Dropout(p).train({}, x, 0)
    np.testing.assert_array_equal(y, x if p == 0 else np.zeros_like(x))
    grad = fg.grad(lambda x: np.sum(nn.Dropout(p).train({}, x, 0)[0]))(x)
    np.testing.assert_array_equal(grad, np.full_like(x, 1 - p))


def test_a_shared_layer_is_renewed_twice():
    norm = nn.BatchNorm(3)
    layer = nn.Sequential(norm, nn.Tanh(), norm)
    params, x = layer.init(0, 3), normal(10, 3)
    assert params[2] == {}
    _, new = layer.train(params, x)
    _, once = norm.train(params[0], x)
    middle = np.tanh(norm.train(params[0], x)[0])
    _, twice = norm.train(once, middle)
    assert_trees_equal(new[0], twice, rtol=1e-5, atol=1e-7)


# -- It is a pure function -----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_under_jit(backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    net, x = model(), normal(6, 4)
    params = net.init(0, 4)

    def run(params, x, key):
        return net.train(params, x, key)

    key = fg.random.key(2)
    assert_trees_equal(
        fg.jit(run, backend=backend)(params, x, key), run(params, x, key), rtol=1e-4, atol=1e-6
    )


def test_an_ensemble_and_an_epoch_in_one_call():
    net, optimizer = model(), nn.sgd(0.1, momentum=0.9, weight_decay=0.1)
    xs, ys = normal(5, 8, 4), normal(5, 8, 4)

    def step(carry, batch):
        params, state, key = carry
        x, y = batch
        key, step_key = fg.random.split(key)

        def loss_fn(params):
            outputs, params = net.train(params, x, step_key)
            return nn.mse(outputs, y), params

        (loss, params), grads = fg.value_and_grad(loss_fn, has_aux=True)(params)
        params, state = optimizer.update(grads, state, params)
        return (params, state, key), loss

    def epoch(params, key):
        carry = params, optimizer.init(params), key
        (params, _, _), losses = fg.scan(step, carry, (xs, ys))
        return params, losses

    params, keys = [net.init(i, 4) for i in range(3)], fg.random.split(fg.random.key(0), 3)
    stacked = fg.tree.map(lambda *leaves: np.stack(leaves), *params)
    many, losses = fg.jit(fg.vmap(epoch))(stacked, keys)
    assert losses.shape == (3, 5)
    for i in range(3):
        carry, alone = (params[i], optimizer.init(params[i]), keys[i]), []
        for batch in zip(xs, ys, strict=True):
            carry, loss = step(carry, batch)
            alone.append(loss)
        np.testing.assert_allclose(losses[i], alone, rtol=1e-4)
        one = fg.tree.map(lambda leaf, i=i: leaf[i], many)
        assert_trees_equal(one, carry[0], rtol=1e-3, atol=1e-5)


def test_checkpointed_blocks_train():
    first, second = block(), block()
    params = first.init(0, 4), second.init(1, 4)
    x, keys = normal(6, 4), fg.random.split(fg.random.key(0))

    def loss(params, wrap):
        y, one = wrap(first.train)(params[0], x, keys[0])
        y, two = wrap(second.train)(params[1], y, keys[1])
        return np.sum(y**2), (one, two)

    plain = fg.grad(lambda p: loss(p, lambda f: f), has_aux=True)(params)
    saved = fg.grad(lambda p: loss(p, fg.checkpoint), has_aux=True)(params)
    assert_trees_equal(plain, saved, rtol=1e-5, atol=1e-7)


# -- States and optimisers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [nn.sgd(0.1, 0.9, weight_decay=0.5), nn.adam(0.1, weight_decay=0.5), nn.adamw(0.1)],
)
def test_optimisers_leave_states_alone(optimizer):
    net, x = model(), normal(6, 4)
    params = net.init(0, 4)
    state = optimizer.init(params)
    # No part of the optimiser's state is for a model's state.
    statistics = {id(leaf) for leaf in fg.tree.leaves(params)} - {
        id(leaf) for leaf in fg.tree.leaves(nn.trainable(params))
    }
    assert len(statistics) == 4
    counted = [leaf for leaf in fg.tree.leaves(state) if np.ndim(leaf)]
    assert len(counted) % len(fg.tree.leaves(nn.trainable(params))) == 0

    def loss_fn(params):
        y, params = net.train(params, x, 0)
        return np.sum(y**2), params

    grads, renewed = fg.grad(loss_fn, has_aux=True)(params)
    moved, state = optimizer.update(grads, state, renewed)
    assert fg.tree.structure(moved) == fg.tree.structure(params)
    for i in (0, 2):
        new = moved[i]["norm"]["running"]
        assert_trees_equal(new, renewed[i]["norm"]["running"])
        assert np.all(new.mean != params[i]["norm"]["running"].mean)
        assert np.any(moved[i]["linear"]["weight"] != params[i]["linear"]["weight"])
    optimizer.update(grads, state, moved)


def test_states_have_no_derivatives():
    net, x = model(), normal(6, 4)
    grads = fg.grad(lambda p: np.sum(net.train(p, x, 0)[0] ** 2))(net.init(0, 4))
    assert not any(map(np.any, fg.tree.leaves(grads[0]["norm"]["running"])))

    def through_state(x):
        return np.sum(nn.BatchNorm(4).train(params, x)[1]["running"].var)

    params = nn.BatchNorm(4).init(0, 4)
    assert not np.any(fg.grad(through_state)(x))


def test_numbers_and_names():
    params = model().init(0, 4)
    assert nn.num_parameters(params) == 2 * (16 + 4 + 4 + 4)
    assert list(nn.named_parameters(params))[:2] == ["0.linear.bias", "0.linear.weight"]
    assert nn.summary(model(), 4).parameters == nn.num_parameters(params)


def test_states_are_saved(tmp_path):
    net = model()
    params = net.train(net.init(0, 4), normal(6, 4), 1)[1]
    nn.save(tmp_path / "net.safetensors", params)
    loaded = nn.load(tmp_path / "net.safetensors", like=net.init(5, 4))
    assert_trees_equal(loaded, params)


# -- Refusals ------------------------------------------------------------------------------------


def test_without_a_key():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3))
    params = net.init(0, 4)
    with pytest.raises(TrainingModeError, match=r"Dropout\(p=0.3\) draws .* no key"):
        net.train(params, normal(2, 4))


def test_parameters_that_are_no_part_of_those_given():
    class Cast(nn.Layer):
        norm: nn.BatchNorm

        def apply(self, params, x):
            return self.norm(fg.tree.map(np.copy, params["norm"]), x)

    layer = Cast(nn.BatchNorm(4))
    with pytest.raises(TrainingModeError, match="no part of those given"):
        layer.train({"norm": layer.norm.init(0, 4)}, normal(3, 4))
    with pytest.raises(ArgumentError, match=r"Write init_params\(self, key"):
        layer.init(0, 4)


@pytest.mark.parametrize("inner", [nn.BatchNorm(4), nn.Dropout(0.5)])
def test_within_a_transformation_inside_the_model(inner):
    class Repeated(nn.Layer):
        inner: nn.Layer

        def apply(self, params, x):
            return fg.scan(lambda c, _: (self.inner(params["inner"], c), None), x, length=3)[0]

    layer = Repeated(inner)
    params, x = layer.init(0, 4), normal(3, 4)
    assert layer(params, x).shape == (3, 4)
    with pytest.raises(TrainingModeError, match=r"Call layer.train\(params, x, key\) there"):
        fg.jit(lambda p, x: layer.train(p, x, fg.random.key(0)))(params, x)


def test_one_number_a_channel():
    layer = nn.BatchNorm(4)
    with pytest.raises(LayerShapeError, match="more than one number a channel"):
        layer.train(layer.init(0, 4), normal(1, 4))


# -- Blocks make their parameters ----------------------------------------------------------------


class Classifier(nn.Layer):
    """Written as in PyTorch."""

    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.blocks = [nn.Linear(hidden, hidden) for _ in range(2)]
        self.output = nn.Linear(hidden, outputs)

    def apply(self, params, x):
        x = np.tanh(self.hidden(params["hidden"], x))
        for layer, own in zip(self.blocks, params["blocks"], strict=True):
            x = x + layer(own, x)
        return self.output(params["output"], x)


def test_blocks_written_as_in_pytorch():
    net = Classifier(4, 8, 3)
    params = net.init(0, 4)
    assert fg.tree.map(np.shape, params) == {
        "hidden": {"weight": (4, 8), "bias": (8,)},
        "blocks": ({"weight": (8, 8), "bias": (8,)},) * 2,
        "output": {"weight": (8, 3), "bias": (3,)},
    }
    assert np.any(params["blocks"][0]["weight"] != params["blocks"][1]["weight"])
    assert net(params, normal(2, 4)).shape == (2, 3)
    assert "(blocks.1): Linear(in_features=8" in repr(net)
    with pytest.raises(AttributeError, match="cannot be changed"):
        net.hidden = nn.Linear(4, 8)
    assert pickle.loads(pickle.dumps(net)).init(0, 4)["hidden"]["bias"].shape == (8,)


def test_shapes_flow_through_apply():
    class Pooled(nn.Layer):
        linear: nn.Linear

        def apply(self, params, x):
            return self.linear(params["linear"], np.mean(x, axis=(2, 3)))

    layer = Pooled(nn.Linear(6, 2))
    assert layer.init(0, (6, 5, 5))["linear"]["weight"].shape == (6, 2)
    with pytest.raises(LayerShapeError, match=r"layer linear, Linear\(in_features=6"):
        layer.init(0, (7, 5, 5))


def test_declared_parameters():
    class Affine(nn.Layer):
        size: int
        scale = nn.Parameter(("size", 2), nn.init.ones())
        shift = nn.Parameter("size", nn.init.normal())
        inner: nn.Linear = nn.Linear(3, 3)

        def apply(self, params, x):
            return self.inner(params["inner"], x) * params["scale"][:, 0] + params["shift"]

    layer = Affine(3)
    params = layer.init(0, 3)
    assert fg.tree.map(np.shape, params) == {
        "scale": (3, 2),
        "shift": (3,),
        "inner": {"weight": (3, 3), "bias": (3,)},
    }
    assert layer(params, normal(2, 3)).shape == (2, 3)


def test_layers_that_are_not_called_or_held_twice():
    class Forgetful(nn.Layer):
        used: nn.Linear
        unused: nn.Linear

        def apply(self, params, x):
            return self.used(params["used"], x)

    with pytest.raises(ArgumentError, match="does not call unused"):
        Forgetful(nn.Linear(3, 3), nn.Linear(3, 2)).init(0, 3)
    shared = nn.Linear(3, 3)
    with pytest.raises(ArgumentError, match="used and unused of Forgetful are one layer"):
        Forgetful(shared, shared).init(0, 3)


def test_sequential_shares_what_is_there_twice():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    params, x = net.init(0, 3), normal(4, 3)
    assert params[2] == {} and nn.num_parameters(params) == 12
    want = shared(params[0], np.tanh(shared(params[0], x)))
    np.testing.assert_array_equal(net(params, x), want)
    # Equal layers that are two objects have parameters of their own.
    assert nn.num_parameters(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).init(0, 3)) == 24


def test_embeddings_within_blocks():
    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    params = net.init(0, 7)
    assert net(params, np.arange(7)[None]).shape == (1, 7, 2)
    assert nn.summary(net, 7).rows[-1].output_shape == (7, 2)

    class Tagger(nn.Layer):
        words: nn.Embedding
        output: nn.Linear

        def apply(self, params, x):
            return self.output(params["output"], self.words(params["words"], x))

    layer = Tagger(nn.Embedding(10, 4), nn.Linear(4, 2))
    assert layer(layer.init(0, 7), np.arange(7)[None]).shape == (1, 7, 2)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("bad", [-1, 10])
def test_embeddings_of_no_row(bad, backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    layer = nn.Embedding(10, 3)
    params, x = layer.init(0, 2), np.array([[1, bad]])
    with pytest.raises(IndexRangeError, match="rows from 0 to 9, but they go from"):
        layer(params, x)
    with pytest.raises(IndexError):
        fg.jit(lambda p, x: layer(p, x), backend=backend)(params, x)
    with pytest.raises(OperandTypeError, match="integers, got float64"):
        layer(params, np.ones((1, 2)))


def test_gradient_of_an_embedding_adds_up():
    layer = nn.Embedding(4, 2)
    params = layer.init(0, 3)
    grads = fg.grad(lambda p: np.sum(layer(p, np.array([[1, 1, 3]]))))(params)
    np.testing.assert_array_equal(grads["weight"], [[0, 0], [2, 2], [0, 0], [1, 1]])


# -- What users of PyTorch write -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer, params, x: layer(x), r"Linear takes parameters and inputs: layer\(params"),
        (lambda layer, params, x: nn.ReLU()(x), "{} for a layer that has none"),
        (lambda layer, params, x: layer(x, params), "takes parameters first, then inputs"),
        (lambda layer, params, x: layer.train(), r"Linear.train takes .* layer.train\(params, x, "),
        (lambda layer, params, x: nn.ReLU(x), "ReLU was given an array where its settings belong"),
        (lambda layer, params, x: nn.Linear(x, params), "Linear was given an array where"),
    ],
)
def test_calls_as_in_pytorch(call, message):
    layer = nn.Linear(4, 3)
    with pytest.raises(ArgumentError, match=message):
        call(layer, layer.init(0, 4), normal(2, 4))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("parameters", "what model.init"),
        ("state_dict", "nn.torch.to_state_dict"),
        ("load_state_dict", "nn.torch.from_state_dict"),
        ("eval", "is the evaluation"),
        ("to", "fg.device_put"),
        ("zero_grad", "fg.grad returns new gradients"),
        ("forward", "model\\(params, x\\)"),
    ],
)
def test_attributes_of_pytorch(name, hint):
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{hint}"):
        getattr(nn.Linear(4, 3), name)
    assert not hasattr(nn.Linear(4, 3), "anything")


def test_layers_as_in_pytorch():
    with pytest.raises(ArgumentError, match=r"Write apply\(self, params, x\) instead"):

        class Net(nn.Layer):
            def forward(self, x):
                return x

    class Scaled(nn.Layer):
        def __init__(self):
            self.scale = np.ones(3)

    with pytest.raises(ArgumentError, match=r"Declare it, scale = nn.Parameter\(shape"):
        Scaled()
