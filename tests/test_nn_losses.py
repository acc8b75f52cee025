"""Losses: values, derivatives, extreme predictions, reductions, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import (
    ArgumentError,
    AxisError,
    IndexRangeError,
    OperandTypeError,
    ShapeError,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4), scale=2)
LABELS = np.array([0, 3, 1, 1, 2, 0])
PROBS = special.softmax(RNG.normal(size=(6, 4)), axis=-1)
X, Y = RNG.normal(size=(2, 5, 3))
BITS = (RNG.random((5, 3)) < 0.5).astype(float)

# name -> the loss of each element or example, and its formula in plain NumPy and SciPy.
LOSSES = {
    "cross_entropy, classes": (
        lambda x, **options: nn.cross_entropy(x, LABELS, **options),
        LOGITS,
        lambda x: -special.log_softmax(x, axis=-1)[np.arange(6), LABELS],
    ),
    "cross_entropy, probabilities": (
        lambda x, **options: nn.cross_entropy(x, PROBS, **options),
        LOGITS,
        lambda x: -(PROBS * special.log_softmax(x, axis=-1)).sum(axis=-1),
    ),
    "cross_entropy, smoothed": (
        lambda x, **options: nn.cross_entropy(x, LABELS, label_smoothing=0.2, **options),
        LOGITS,
        lambda x: -((0.8 * np.eye(4)[LABELS] + 0.05) * special.log_softmax(x, axis=-1)).sum(-1),
    ),
    "cross_entropy, probabilities smoothed": (
        lambda x, **options: nn.cross_entropy(x, PROBS, label_smoothing=0.2, **options),
        LOGITS,
        lambda x: -((0.8 * PROBS + 0.05) * special.log_softmax(x, axis=-1)).sum(axis=-1),
    ),
    "nll": (
        lambda x, **options: nn.nll(x, LABELS, **options),
        special.log_softmax(LOGITS, axis=-1),
        lambda x: -x[np.arange(6), LABELS],
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, **options: nn.binary_cross_entropy_with_logits(x, BITS, **options),
        X,
        lambda x: -np.log(np.where(BITS == 1, special.expit(x), special.expit(-x))),
    ),
    "mse": (lambda x, **options: nn.mse(x, Y, **options), X, lambda x: (x - Y) ** 2),
    "l1": (lambda x, **options: nn.l1(x, Y, **options), X, lambda x: np.abs(x - Y)),
    "huber": (
        lambda x, **options: nn.huber(x, Y, delta=0.7, **options),
        X,
        lambda x: special.huber(0.7, x - Y),
    ),
}
CASES = pytest.mark.parametrize("name", LOSSES)


@CASES
def test_value_and_reductions(name):
    loss, x, formula = LOSSES[name]
    each = formula(x)
    np.testing.assert_allclose(loss(x, reduction="none"), each, rtol=1e-12)
    np.testing.assert_allclose(loss(x, reduction="sum"), each.sum(), rtol=1e-12)
    np.testing.assert_allclose(loss(x, reduction="mean"), each.mean(), rtol=1e-12)
    assert loss(x) == loss(x, reduction="mean")


@CASES
def test_gradient_against_finite_differences(name):
    loss, x, _ = LOSSES[name]
    direction, h = RNG.normal(size=x.shape), 1e-6
    numeric = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(np.vdot(fg.grad(loss)(x), direction), numeric, rtol=1e-7, atol=1e-9)


@CASES
def test_second_derivative_against_finite_differences(name):
    loss, x, _ = LOSSES[name]
    gradient, direction, h = fg.grad(loss), RNG.normal(size=x.shape), 1e-6
    numeric = (gradient(x + h * direction) - gradient(x - h * direction)) / (2 * h)
    _, product = fg.jvp(gradient, (x,), (direction,))
    np.testing.assert_allclose(product, numeric, rtol=1e-6, atol=1e-8)


@CASES
def test_jit_and_vmap_change_nothing(name):
    loss, x, _ = LOSSES[name]
    value, slope = fg.jit(fg.value_and_grad(loss))(x)
    np.testing.assert_allclose(value, loss(x), rtol=1e-14)
    np.testing.assert_allclose(slope, fg.grad(loss)(x), rtol=1e-12, atol=1e-15)
    many = np.stack([x, 2 * x, -x])
    np.testing.assert_allclose(fg.vmap(loss)(many), [loss(one) for one in many], rtol=1e-12)


def test_float32_stays_float32():
    x = LOGITS.astype(np.float32)
    for loss in (
        lambda x: nn.cross_entropy(x, LABELS, label_smoothing=0.1),
        lambda x: nn.cross_entropy(x, PROBS.astype(np.float32)),
        lambda x: nn.nll(x, LABELS),
        lambda x: nn.binary_cross_entropy_with_logits(x, np.zeros_like(x)),
        lambda x: nn.mse(x, np.zeros_like(x)),
        lambda x: nn.l1(x, np.zeros_like(x)),
        lambda x: nn.huber(x, np.zeros_like(x), delta=2.0),
    ):
        value, slope = fg.value_and_grad(loss)(x)
        assert value.dtype == slope.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_extreme_logits(dtype):
    x = np.array([[1e30, 0.0, -1e30], [-1e4, 1e4, 0.0], [3e4, 3e4, 3e4]], dtype)
    y = np.array([0, 0, 2])
    value, slope = fg.value_and_grad(lambda x: nn.cross_entropy(x, y, reduction="sum"))(x)
    np.testing.assert_allclose(value, 2e4 + np.log(3), rtol=1e-6)
    expected = [[0, 0, 0], [-1, 1, 0], [1 / 3, 1 / 3, -2 / 3]]
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_cross_entropy_of_impossible_classes():
    x = np.array([[0.0, 0.0, -np.inf]])
    for y in (np.array([1]), np.array([[0.0, 1.0, 0.0]])):
        value, slope = fg.value_and_grad(lambda x, y=y: nn.cross_entropy(x, y))(x)
        np.testing.assert_allclose(value, np.log(2))
        np.testing.assert_allclose(slope, [[0.5, -0.5, 0.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_of_extreme_logits(dtype):
    x = np.array([-1e4, -1e4, 0.0, 1e4, 1e4], dtype)
    y = np.array([0, 1, 1, 1, 0], dtype)
    loss = lambda x: nn.binary_cross_entropy_with_logits(x, y, reduction="none")  # noqa: E731
    np.testing.assert_allclose(loss(x), [0, 1e4, np.log(2), 0, 1e4], rtol=1e-6)
    slope = fg.grad(lambda x: np.sum(loss(x)))(x)
    np.testing.assert_allclose(slope, [0, -1, -0.5, 0, 1], atol=1e-7)


def test_second_derivative_of_binary_cross_entropy_at_zero():
    loss = lambda x: nn.binary_cross_entropy_with_logits(x, np.float64(1.0))  # noqa: E731
    assert fg.grad(fg.grad(loss))(0.0) == pytest.approx(0.25)


def test_sequences_of_predictions():
    x, y = RNG.normal(size=(2, 5, 4)), RNG.integers(0, 4, (2, 5))
    each = nn.cross_entropy(x, y, reduction="none")
    assert each.shape == (2, 5)
    np.testing.assert_allclose(each[1, 2], nn.cross_entropy(x[1, 2], y[1, 2]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_dtypes_of_classes(dtype):
    value = nn.cross_entropy(LOGITS, LABELS.astype(dtype))
    assert value == nn.cross_entropy(LOGITS, LABELS) == nn.cross_entropy(LOGITS, LABELS.tolist())


def test_accuracy():
    assert nn.accuracy(np.eye(4)[[0, 1, 2, 3]], np.array([0, 1, 2, 0])) == 0.75
    assert fg.jit(nn.accuracy)(np.eye(2), np.array([0, 0])) == 0.5


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 1), (4,), (6, 5), ()])
def test_classes_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError) as caught:
        nn.cross_entropy(LOGITS, np.zeros(shape, int))
    for part in ("(6, 4)", "integers of shape (6,)", f"targets of shape {shape}"):
        assert part in str(caught.value)


def test_classes_that_are_no_integers():
    with pytest.raises(OperandTypeError, match=r"float64 of shape \(6,\).*astype\(int\)"):
        nn.cross_entropy(LOGITS, LABELS.astype(float))


@pytest.mark.parametrize("wrong", [-1, 4])
def test_classes_out_of_range(wrong):
    y = np.where(LABELS == 3, wrong, LABELS)
    for loss in (nn.cross_entropy, nn.nll):
        with pytest.raises(IndexRangeError, match=r"classes from 0 to 3.*they go from"):
            fg.grad(loss)(LOGITS, y)


def test_no_examples_are_no_error():
    assert nn.cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="sum") == 0.0


@pytest.mark.parametrize(
    "loss", [nn.mse, nn.l1, nn.huber, nn.binary_cross_entropy_with_logits], ids=lambda f: f.__name__
)
def test_shapes_are_not_broadcast(loss):
    with pytest.raises(ShapeError, match=r"\(5, 1\) and targets \(5,\).*x\[:, 0\] drops one"):
        loss(np.zeros((5, 1)), np.zeros(5))
    with pytest.raises(ShapeError, match=r"\(5, 3\) and targets \(3,\); .*must be the same\.$"):
        loss(np.zeros((5, 3)), np.zeros(3))


def test_accuracy_of_a_wrong_shape():
    with pytest.raises(ShapeError, match=r"\(6, 4\).*\(6,\), got targets of shape \(6, 1\)"):
        nn.accuracy(LOGITS, LABELS[:, None])


@CASES
def test_unknown_reduction(name):
    loss, x, _ = LOSSES[name]
    with pytest.raises(ArgumentError, match="'mean', 'sum' or 'none', not 'average'"):
        loss(x, reduction="average")


def test_options_out_of_range():
    with pytest.raises(ArgumentError, match=r"from 0 to 1, not 1\.5"):
        nn.cross_entropy(LOGITS, LABELS, label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="delta must be positive, not 0"):
        nn.huber(X, Y, delta=0)


def test_errors_from_within_a_layer_name_the_users_line() -> None:
    for transform in (fg.jit, fg.grad):
        with pytest.raises(AxisError, match=r"test_nn_losses\.py:\d+"):
            transform(lambda x: np.sum(nn.softmax(x, axis=5)))(np.ones(3))
