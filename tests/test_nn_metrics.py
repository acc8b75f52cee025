"""Metrics against counting, compiled and not; running means."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, IndexRangeError, OperandTypeError, ShapeError

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(40, 5))
TARGETS = RNG.integers(0, 4, 40)  # no example of class 4
PREDICTED = np.where(SCORES.argmax(axis=-1) == 3, 0, SCORES.argmax(axis=-1))  # none of class 3
WRAPS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "jit to NumPy": lambda f: fg.jit(f, backend="numpy"),
}
MODES = pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))


@MODES
def test_accuracy(wrap):
    assert wrap(nn.accuracy)(np.eye(4)[[0, 1, 2, 3]], np.array([0, 1, 2, 0])) == 0.75
    assert wrap(nn.accuracy)(np.eye(2), np.array([0, 0])) == 0.5


@MODES
@pytest.mark.parametrize("k", [1, 2, 4, 5, 9])
def test_top_k_accuracy(k, wrap):
    best = np.argsort(-SCORES, axis=-1)[:, :k]
    want = np.mean([y in row for y, row in zip(TARGETS, best, strict=True)])
    assert wrap(lambda x, y: nn.top_k_accuracy(x, y, k))(SCORES, TARGETS) == want
    if k == 1:
        assert want == nn.accuracy(SCORES, TARGETS)


def test_scores_that_are_nan_are_not_among_the_best():
    assert nn.top_k_accuracy(np.array([[np.nan, 0.0]]), np.array([0]), 1) == 0


@MODES
def test_confusion_matrix(wrap):
    want = np.zeros((5, 5), int)
    for y, p in zip(TARGETS, PREDICTED, strict=True):
        want[y, p] += 1
    have = wrap(lambda p, y: nn.confusion_matrix(p, y, 5))(PREDICTED, TARGETS)
    np.testing.assert_array_equal(have, want)
    assert have.dtype == np.int64
    of_scores = wrap(nn.confusion_matrix)(SCORES, TARGETS)
    np.testing.assert_array_equal(
        of_scores, nn.confusion_matrix(SCORES.argmax(axis=-1), TARGETS, 5)
    )
    together = nn.confusion_matrix(np.stack([PREDICTED] * 2), np.stack([TARGETS] * 2), 5)
    np.testing.assert_array_equal(together, 2 * want)


def counted(name, c):
    right = np.sum((c == PREDICTED) & (c == TARGETS))
    predicted, there = np.sum(c == PREDICTED), np.sum(c == TARGETS)
    whole = {"precision": predicted, "recall": there, "f1": (predicted + there) / 2}[name]
    return right / whole if whole else 0.0


@MODES
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_shares_of_classes(name, wrap):
    metric = getattr(nn, name)
    each = [counted(name, c) for c in range(5)]
    for average, want in (
        ("none", each),
        ("macro", np.mean(each)),
        ("micro", np.mean(PREDICTED == TARGETS)),
    ):
        have = wrap(lambda p, y, a=average: metric(p, y, 5, a))(PREDICTED, TARGETS)
        np.testing.assert_allclose(have, want, rtol=1e-14)


@MODES
def test_the_mean_is_over_classes_that_occur(wrap):
    for name, want in (("precision", 0.75), ("recall", 0.75), ("f1", 2 / 3)):
        metric = getattr(nn, name)
        # Of five classes 1 and 3 are predicted or there.
        have = wrap(lambda p, y, m=metric: m(p, y, 5))(np.array([1, 3, 3]), np.array([1, 1, 3]))
        np.testing.assert_allclose(have, want)
        assert wrap(metric)(np.eye(3)[[0, 0, 1]], np.array([0, 0, 1])) == 1
        # A class that is predicted and has no example counts, as 0.
        have = wrap(metric)(np.eye(3)[[0, 2]], np.array([0, 0]))
        np.testing.assert_allclose(have, {"precision": 1, "recall": 0.5, "f1": 2 / 3}[name] / 2)
        assert metric(np.zeros((0, 3)), np.zeros(0, int)) == 0


@MODES
def test_running_means(wrap):
    values, weights = RNG.normal(size=7), RNG.integers(1, 9, 7)
    mean, update = nn.RunningMean(), wrap(nn.RunningMean.update)
    for value, weight in zip(values, weights, strict=True):
        mean = update(mean, value, weight)
    np.testing.assert_allclose(mean.value, np.average(values, weights=weights))
    assert nn.RunningMean().value == 0
    total, _ = fg.scan(lambda m, x: (m.update(x), None), nn.RunningMean(0.0, 0.0), values)
    np.testing.assert_allclose(total.value, np.mean(values))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.accuracy(SCORES, TARGETS[:, None]), ShapeError, r"\(40,\), got targets of sh"),
        (lambda: nn.top_k_accuracy(SCORES, TARGETS, 0), ArgumentError, "k must be a positive int"),
        (lambda: nn.top_k_accuracy(SCORES, TARGETS + 2), IndexRangeError, "from 0 to 4"),
        (lambda: nn.confusion_matrix(PREDICTED, TARGETS), ArgumentError, "num_classes says of how"),
        (lambda: nn.confusion_matrix(PREDICTED, TARGETS, 3), IndexRangeError, "from 0 to 2"),
        (lambda: nn.confusion_matrix(SCORES, TARGETS, 4), ArgumentError, "num_classes is 4, and"),
        (lambda: nn.confusion_matrix(SCORES, TARGETS * 1.0), OperandTypeError, "got float64"),
        (lambda: nn.f1(SCORES, TARGETS, average="mean"), ArgumentError, "'macro', 'micro' or"),
        (lambda: nn.accuracy(SCORES * 1j, TARGETS), OperandTypeError, "real numbers"),
    ],
)
def test_misuse(call, error, message):
    with pytest.raises(error, match=message):
        call()
