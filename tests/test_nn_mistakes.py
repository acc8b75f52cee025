"""Mistakes that users make with models and optimisers: each is an error that says what to write."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError

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
