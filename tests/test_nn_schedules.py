"""Schedules against their formulas, at integers, on arrays and in programs."""

from __future__ import annotations

import math

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError

S = nn.schedules


def wave(start, end, share):
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def one_cycle(t, way=wave):
    """PyTorch's OneCycleLR of 0.5 over 20 steps."""
    first, last, top = 0.02, 2e-6, 0.3 * 20 - 1
    return way(first, 0.5, t / top) if t <= top else way(0.5, last, (t - top) / (19 - top))


CASES = {
    "constant": (S.constant(0.5), lambda t: 0.5),
    "linear": (S.linear(0.1, 0.5, 10), lambda t: 0.1 + 0.4 * min(t, 10) / 10),
    "step": (S.step(0.5, 3, 0.5), lambda t: 0.5 * 0.5 ** (t // 3)),
    "multi_step": (S.multi_step(0.5, [2, 7, 7]), lambda t: 0.5 * 0.1 ** ((t >= 2) + 2 * (t >= 7))),
    "multi_step, none": (S.multi_step(0.5, []), lambda t: 0.5),
    "exponential": (S.exponential(0.5, 0.9), lambda t: 0.5 * 0.9**t),
    "polynomial": (
        S.polynomial(0.5, 10, 2.0, 0.1),
        lambda t: 0.1 + 0.4 * (1 - min(t, 10) / 10) ** 2,
    ),
    "cosine": (S.cosine(0.5, 10, 0.1), lambda t: wave(0.5, 0.1, min(t, 10) / 10)),
    "cosine_restarts": (S.cosine_restarts(0.5, 7, 0.1), lambda t: wave(0.5, 0.1, t % 7 / 7)),
    "warmup_cosine": (
        S.warmup_cosine(0.5, 4, 10, 0.1, 0.2),
        lambda t: 0.1 + 0.4 * t / 4 if t < 4 else wave(0.5, 0.2, min(t - 4, 6) / 6),
    ),
    "one_cycle": (S.one_cycle(0.5, 20), one_cycle),
    "one_cycle, linear": (
        S.one_cycle(0.5, 20, anneal="linear"),
        lambda t: one_cycle(t, lambda start, end, share: start + (end - start) * share),
    ),
    "warmup": (
        S.warmup(S.exponential(0.5, 0.9), 5, 0.1),
        lambda t: 0.1 + 0.4 * t / 5 if t < 5 else 0.5 * 0.9 ** (t - 5),
    ),
    "join": (
        S.join([S.constant(0.5), S.exponential(0.4, 0.5), S.linear(1.0, 0.0, 4)], [3, 6]),
        lambda t: 0.5 if t < 3 else 0.4 * 0.5 ** (t - 3) if t < 6 else 1 - min(t - 6, 4) / 4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    rate, formula = CASES[name]
    steps = np.arange(20)
    want = [formula(int(t)) for t in steps]
    np.testing.assert_allclose([rate(int(t)) for t in steps], want, rtol=1e-12, atol=1e-15)
    for have in (
        rate(steps),
        fg.vmap(rate)(steps),
        fg.jit(rate)(steps),
        fg.jit(rate, backend="numpy")(steps),
        fg.scan(lambda c, t: (c, rate(t)), 0, steps)[1],
    ):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_rates_of_optimizers(name):
    rate, formula = CASES[name]
    optimizer = nn.sgd(rate)
    params = np.zeros(1, np.float32)
    state, update = optimizer.init(params), fg.jit(optimizer.update)
    for _ in range(4):
        params, state = update(np.ones(1, np.float32), state, params)
    assert params.dtype == np.float32
    np.testing.assert_allclose(params, -sum(formula(t) for t in range(4)), rtol=1e-5)


def test_schedules_are_named_after_their_calls():
    assert S.cosine(0.1, 10).__name__ == "cosine(0.1, 10)"
    assert S.step(0.1, step_size=3).__name__ == "step(0.1, step_size=3)"
    joined = S.join([S.constant(0.1), S.warmup(np.negative, 2)], [5])
    assert joined.__name__ == "join([constant(0.1), warmup(negative, 2)], [5])"


def pytorchs_plateau(metrics, rate, factor, patience, threshold, cooldown, low, mode, relative):
    """The algorithm of ReduceLROnPlateau."""
    best, bad, waiting, rates = math.inf if mode == "min" else -math.inf, 0, 0, []
    for metric in metrics:
        share = threshold if relative else 0
        if mode == "min":
            better = metric < best * (1 - share) - (0 if relative else threshold)
        else:
            better = metric > best * (1 + share) + (0 if relative else threshold)
        best, bad = (metric, 0) if better else (best, bad + 1)
        if waiting > 0:
            waiting, bad = waiting - 1, 0
        if bad > patience:
            lower = max(rate * factor, low)
            rate = lower if rate - lower > 1e-8 else rate
            waiting, bad = cooldown, 0
        rates.append(rate)
    return rates


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (1, 3)])
def test_plateau(mode, threshold_mode, patience, cooldown):
    metrics = np.round(np.random.default_rng(0).random(40) + 1, 2)
    plateau = S.plateau(
        0.5, 0.5, patience, 0.05, cooldown, 0.01, mode=mode, threshold_mode=threshold_mode
    )
    want = pytorchs_plateau(
        metrics, 0.5, 0.5, patience, 0.05, cooldown, 0.01, mode, threshold_mode == "rel"
    )
    for update in plateau.update, fg.jit(plateau.update), fg.jit(plateau.update, backend="numpy"):
        state, rates = plateau.init(), []
        for metric in metrics:
            state = update(state, metric)
            rates.append(float(state.rate))
        np.testing.assert_allclose(rates, want)
    assert min(want) < 0.5


def test_metrics_that_are_no_numbers_are_no_better():
    plateau = S.plateau(0.5, patience=0)
    assert float(plateau.update(plateau.init(), math.nan).rate) == 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S.cosine(0.1, 0), "cosine: steps must be an integer from 1 on, not 0"),
        (lambda: S.step(0.1, 2.5), "step: step_size must be an integer from 1 on, not 2.5"),
        (lambda: S.warmup_cosine(0.1, 10, 10), "steps must be an integer from 11 on, not 10"),
        (lambda: S.join([S.constant(0.1)], [3]), "one boundary fewer than schedules"),
        (lambda: S.join([S.constant(0.1)] * 3, [3, 2]), "each later than the one before"),
        (lambda: S.one_cycle(0.1, 10, anneal="exp"), "anneal must be 'cos' or 'linear'"),
        (lambda: S.plateau(0.1, factor=1.0), "factor must be below 1"),
        (lambda: S.plateau(0.1, mode="low"), "mode must be one of"),
        (lambda: S.plateau(0.1, patience=-1), "patience must be an integer from 0 on, not -1"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
