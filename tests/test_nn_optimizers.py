"""Optimisers against PyTorch's formulas, and under the transformations."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, ShapeError, TreeMismatchError

RNG = np.random.default_rng(0)
START = {"w": RNG.normal(size=(3, 2)), "b": [RNG.normal(size=2), RNG.normal(size=())]}
GRADS = [fg.tree.map(lambda p: RNG.normal(size=p.shape), START) for _ in range(5)]


def run(optimizer, params=START, grads=GRADS, wrap=lambda f: f):
    state, update = optimizer.init(params), wrap(optimizer.update)
    for g in grads:
        params, state = update(g, state, params)
    return params, state


def torch_sgd(p, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """The algorithm in the documentation of torch.optim.SGD, for one array."""
    buffer = None
    for g in grads:
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def torch_adam(p, grads, lr, beta1, beta2, eps, weight_decay, decoupled):
    """The algorithms in the documentation of torch.optim.Adam and AdamW, for one array."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return p


def reference(function, **options):
    leaves = zip(fg.tree.leaves(START), *map(fg.tree.leaves, GRADS), strict=True)
    return [function(p, grads, **options) for p, *grads in leaves]


SGD_OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01},
]


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd_is_pytorchs(options, wrap):
    params, _ = run(nn.sgd(0.1, **options), wrap=wrap)
    assert fg.tree.structure(params) == fg.tree.structure(START)
    for ours, theirs in zip(
        fg.tree.leaves(params), reference(torch_sgd, lr=0.1, **options), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_pytorchs(decoupled, weight_decay, wrap):
    make = nn.adamw if decoupled else nn.adam
    options = {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6, "weight_decay": weight_decay}
    params, _ = run(make(0.1, **options), wrap=wrap)
    expected = reference(torch_adam, lr=0.1, decoupled=decoupled, **options)
    for ours, theirs in zip(fg.tree.leaves(params), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


OPTIMIZERS = {
    "sgd": nn.sgd(0.1, 0.9, nesterov=True, weight_decay=0.1),
    "scheduled": nn.sgd(lambda step: 0.1 * 0.9**step),
    "adam": nn.adam(lambda step: np.minimum(0.1, 0.02 * step), weight_decay=0.1),
    "adamw": nn.adamw(np.float64(0.1)),
}
EACH = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))


@EACH
@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_float32_stays_float32_even_with_float64_gradients(optimizer, wrap):
    single = fg.tree.map(lambda p: p.astype(np.float32), START)
    params, state = run(optimizer, single, wrap=wrap)
    floats = [leaf for leaf in fg.tree.leaves((params, state)) if leaf.dtype.kind == "f"]
    assert {leaf.dtype for leaf in floats} == {np.dtype(np.float32)}


@EACH
def test_update_changes_none_of_its_arguments(optimizer):
    params = fg.tree.map(np.copy, START)
    state = optimizer.init(params)
    kept = fg.tree.map(np.copy, (GRADS[0], state, params))
    optimizer.update(GRADS[0], state, params)
    for before, after in zip(*map(fg.tree.leaves, (kept, (GRADS[0], state, params))), strict=True):
        np.testing.assert_array_equal(before, after)


@EACH
def test_ensemble_under_vmap(optimizer):
    stacked = [fg.tree.map(lambda p: np.stack([p, 2 * p]), tree) for tree in (START, *GRADS)]
    params, *grads = stacked
    state = fg.vmap(optimizer.init)(params)
    update = fg.vmap(optimizer.update)
    for g in grads:
        params, state = update(g, state, params)
    doubled = fg.tree.map(lambda p: 2 * p, START)
    expected, _ = run(optimizer, doubled, [fg.tree.map(lambda g: 2 * g, tree) for tree in GRADS])
    for ours, theirs in zip(fg.tree.leaves(params), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours[1], theirs, rtol=1e-12)


@EACH
def test_training_loop_in_a_scan(optimizer):
    def step(carry, grads):
        params, state = carry
        return optimizer.update(grads, state, params), None

    stacked = fg.tree.map(lambda *g: np.stack(g), *GRADS)
    (params, _), _ = fg.jit(lambda p: fg.scan(step, (p, optimizer.init(p)), stacked))(START)
    expected, _ = run(optimizer)
    for ours, theirs in zip(fg.tree.leaves(params), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_schedule_is_given_the_number_of_updates_before():
    seen = []

    def schedule(step):
        seen.append(int(step))
        return 0.5 if step < 2 else 0.0

    params, state = run(nn.sgd(schedule), np.zeros(1), [np.ones(1)] * 4)
    assert seen == [0, 1, 2, 3] and state.step == 4
    np.testing.assert_array_equal(params, [-1.0])


def test_derivative_with_respect_to_the_learning_rate():
    def trained(rate):
        params, _ = run(nn.sgd(rate), np.array([1.0, 2.0]), [np.array([3.0, -1.0])] * 2)
        return np.sum(params)

    assert fg.grad(trained)(0.1) == pytest.approx(-4.0)


def test_state_without_options_is_empty():
    assert nn.sgd(0.1).init(START) == nn.SGDState(step=None, velocity=None)
    assert fg.tree.leaves(nn.sgd(0.1).init(START)) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.sgd(-0.1), "sgd: learning_rate must not be negative, got -0.1"),
        (lambda: nn.sgd(float("nan")), "learning_rate must not be negative, got nan"),
        (lambda: nn.sgd("0.1"), "must be a number or a function of the step, not '0.1'"),
        (lambda: nn.sgd(0.1, momentum=-1), "momentum must not be negative"),
        (lambda: nn.sgd(0.1, weight_decay=-1), "weight_decay must not be negative"),
        (lambda: nn.sgd(0.1, nesterov=True), "nesterov=True needs momentum"),
        (lambda: nn.adam(eps=-1), "adam: eps must not be negative"),
        (lambda: nn.adamw(beta2=1.0), "adamw: betas must be from 0 to below 1, not 1.0"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@EACH
def test_gradients_that_do_not_fit(optimizer):
    state = optimizer.init(START)
    with pytest.raises(TreeMismatchError):
        optimizer.update({"w": GRADS[0]["w"]}, state, START)
    wrong = {**GRADS[0], "w": np.ones((5, 3, 2))}
    with pytest.raises(ShapeError, match=r"gradient at \['w'\] has shape \(5, 3, 2\).*\(3, 2\)"):
        optimizer.update(wrong, state, START)
