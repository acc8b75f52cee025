"""Optimisers of optimisers: clipping, accumulation, averages, parts of the parameters."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, OperandTypeError, TreeMismatchError

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.normal(size=(3, 2)), "b": RNG.normal(size=2)}
GRADS = [fg.tree.map(lambda p: RNG.normal(size=p.shape), PARAMS) for _ in range(6)]
WRAPS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "jit to NumPy": lambda f: fg.jit(f, backend="numpy"),
}
MODES = pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))


def run(optimizer, grads=GRADS, wrap=lambda f: f, params=PARAMS):
    state, update = optimizer.init(params), wrap(optimizer.update)
    for g in grads:
        params, state = update(g, state, params)
    return params, state


def same(ours, theirs):
    assert fg.tree.structure(ours) == fg.tree.structure(theirs)
    for one, other in zip(fg.tree.leaves(ours), fg.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def whole_norm(grads):
    return np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in grads.values()))


def each(change):
    return lambda grads: {name: change(g) for name, g in grads.items()}


CLIPS = {
    "whole": (
        nn.clip_by_global_norm,
        lambda limit, g: each(lambda x: x * min(1, limit / whole_norm(g)))(g),
    ),
    "each": (
        nn.clip_by_norm,
        lambda limit, g: each(lambda x: x * min(1, limit / np.sqrt(np.sum(x**2))))(g),
    ),
    "values": (nn.clip_by_value, lambda limit, g: each(lambda x: np.clip(x, -limit, limit))(g)),
}


@MODES
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("limit", [0.5, 2.0, 100.0])
def test_clipping(name, limit, wrap):
    make, formula = CLIPS[name]
    ours, _ = run(make(nn.adam(0.1), limit), wrap=wrap)
    theirs, _ = run(nn.adam(0.1), [formula(limit, g) for g in GRADS])
    same(ours, theirs)


def test_clipping_of_nothing_and_of_halves():
    zeros = fg.tree.map(np.zeros_like, PARAMS)
    for make, _ in CLIPS.values():
        same(run(make(nn.sgd(0.1), 1.0), [zeros])[0], PARAMS)
    half = {"w": np.full(4, 6e4, np.float16)}
    moved, _ = run(nn.clip_by_global_norm(nn.sgd(1.0), 1.0), [half], params={"w": half["w"] * 0})
    np.testing.assert_allclose(moved["w"], -0.5, rtol=1e-3)


def test_norms_of_complex_gradients():
    grads = {"w": np.array([3j, 4.0])}
    moved, _ = run(
        nn.clip_by_global_norm(nn.sgd(1.0), 1.0), [grads], params={"w": np.zeros(2) * 1j}
    )
    np.testing.assert_allclose(moved["w"], [-0.6j, -0.8])
    with pytest.raises(OperandTypeError, match="clip_by_value is defined for real numbers"):
        run(nn.clip_by_value(nn.sgd(1.0), 1.0), [grads], params=grads)


def test_states_of_layers_are_no_gradients():
    layer = nn.BatchNorm(2)
    params = layer.init(0, 2)
    grads = fg.tree.map(lambda p: np.full(p.shape, 100.0), params)
    for make in (nn.clip_by_global_norm, nn.clip_by_norm, nn.clip_by_value):
        optimizer = make(nn.sgd(1.0), 1.0)
        moved, _ = optimizer.update(grads, optimizer.init(params), params)
        assert moved["running"] is params["running"]
        assert np.all(np.abs(moved["weight"] - params["weight"]) > 0.4)


@MODES
def test_accumulation_is_a_step_by_the_mean(wrap):
    optimizer = nn.accumulate(nn.adam(lambda step: 0.1 / (1 + step)), 3)
    ours, state = run(optimizer, wrap=wrap)
    means = [
        fg.tree.map(lambda *g: np.mean(g, axis=0), *GRADS[:3]),
        fg.tree.map(lambda *g: np.mean(g, axis=0), *GRADS[3:]),
    ]
    theirs, inner = run(nn.adam(lambda step: 0.1 / (1 + step)), means)
    same(ours, theirs)
    same(state.inner, inner)
    same(run(optimizer, GRADS[:2], wrap)[0], PARAMS)


@MODES
def test_averages(wrap):
    trail = [run(nn.sgd(0.1), GRADS[: i + 1])[0] for i in range(6)]
    want = trail[0]
    for params in trail[1:]:
        want = fg.tree.map(lambda a, p: 0.8 * a + 0.2 * p, want, params)
    params, state = run(nn.ema(nn.sgd(0.1), 0.8), wrap=wrap)
    same(params, trail[-1])
    same(nn.averaged(params, state), want)
    params, state = run(nn.polyak(nn.sgd(0.1)), wrap=wrap)
    same(nn.averaged(params, state), fg.tree.map(lambda *p: np.mean(p, axis=0), *trail))


def test_averages_keep_dtypes_and_states():
    layer = nn.BatchNorm(2)
    params = layer.init(0, 2, np.float16)
    optimizer = nn.ema(nn.sgd(0.1), 0.9)
    state = optimizer.init(params)
    params, state = optimizer.update(fg.tree.map(np.ones_like, params), state, params)
    mean = nn.averaged(params, state)
    assert mean["running"] is params["running"]
    assert mean["weight"].dtype == np.float16 and state.average["weight"].dtype == np.float32


def test_averages_are_copies():
    """What is donated is overwritten."""
    params = np.ones(3)
    state = nn.ema(nn.sgd(0.1)).init(params)
    assert not np.shares_memory(state.average, params)


@MODES
@pytest.mark.parametrize("where", ["w", lambda path, leaf: path == "w" and leaf.ndim == 2])
def test_frozen_parameters(where, wrap):
    optimizer = nn.freeze(nn.adam(0.1), where)
    ours, state = run(optimizer, wrap=wrap)
    theirs, inner = run(nn.adam(0.1))
    same(ours, {"w": PARAMS["w"], "b": theirs["b"]})
    # There is no state for what stays.
    assert len(fg.tree.leaves(state)) == len(fg.tree.leaves(inner)) - 2


@MODES
def test_groups(wrap):
    optimizer = nn.groups({"b": nn.sgd(0.5), lambda path, leaf: True: nn.adam(0.1)})
    ours, state = run(optimizer, wrap=wrap)
    sgd, adam = run(nn.sgd(0.5))[0], run(nn.adam(0.1))[0]
    same(ours, {"w": adam["w"], "b": sgd["b"]})
    assert isinstance(state, tuple) and isinstance(state[1], nn.AdamState)


def test_paths_are_those_of_named_parameters():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3), nn.Linear(3, 1))
    params = model.init(0, 2)
    seen = []
    nn.freeze(nn.sgd(0.1), lambda path, leaf: seen.append(path)).init(params)
    assert seen == list(nn.named_parameters(params))
    optimizer = nn.groups({"*.bias": nn.sgd(0.0), "0.*": nn.sgd(0.1), "*": nn.sgd(0.2)})
    grads = fg.tree.map(np.ones_like, params)
    moved, _ = optimizer.update(grads, optimizer.init(params), params)
    by = {
        name: round(float(np.mean(params_then - moved_now)), 3)
        for (name, params_then), moved_now in zip(
            nn.named_parameters(params).items(), nn.named_parameters(moved).values(), strict=True
        )
    }
    assert by == {
        "0.bias": 0, "0.weight": 0.1, "1.bias": 0, "1.weight": 0.2, "2.bias": 0, "2.weight": 0.2,
    }  # fmt: skip


def test_nested_combinators_train_in_a_scan():
    optimizer = nn.ema(nn.clip_by_global_norm(nn.accumulate(nn.freeze(nn.adam(0.1), "b"), 2), 1.0))

    def step(carry, grads):
        params, state = carry
        return optimizer.update(grads, state, params), None

    stacked = fg.tree.map(lambda *g: np.stack(g), *GRADS)
    (params, _), _ = fg.jit(lambda p: fg.scan(step, (p, optimizer.init(p)), stacked))(PARAMS)
    same(params, run(optimizer)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.clip_by_global_norm(1.0, nn.sgd(0.1)), "max_norm must be a number"),
        (lambda: nn.clip_by_norm(1.0, 1.0), "clip_by_norm: the first argument must be an optimis"),
        (lambda: nn.clip_by_value(nn.sgd(0.1), -1), "limit must not be negative, got -1"),
        (lambda: nn.accumulate(nn.sgd(0.1), 0), "steps must be an integer from 1 on, not 0"),
        (lambda: nn.ema(nn.sgd(0.1), 1.0), "ema: decay must be from 0 to below 1, not 1.0"),
        (lambda: nn.freeze("*.bias", nn.sgd(0.1)), "freeze: the first argument must be an optimis"),
        (lambda: nn.groups([nn.sgd(0.1)]), "groups: takes a dict of optimisers"),
        (lambda: nn.groups({}), "groups: takes a dict of optimisers"),
        (lambda: nn.groups({"w": nn.sgd(0.1)}).init(PARAMS), "no optimiser is for 'b'"),
        (lambda: nn.averaged(PARAMS, nn.adam().init(PARAMS)), "not a AdamState"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_gradients_of_another_structure():
    for optimizer in (nn.freeze(nn.sgd(0.1), "w"), nn.groups({"*": nn.sgd(0.1)})):
        state = optimizer.init(PARAMS)
        with pytest.raises(TreeMismatchError):
            optimizer.update({"w": GRADS[0]["w"]}, state, PARAMS)
