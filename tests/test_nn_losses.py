"""Losses: values, derivatives, extreme predictions, reductions, bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special, stats

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

WEIGHT = np.array([0.5, 1.0, 2.0, 3.0])
COUNTS = RNG.poisson(2.0, (5, 3)).astype(float)
COUNTS[0] = [0, 1, 2]
SIGNS = np.where(RNG.random((5, 3)) < 0.5, -1, 1)
LISTS = np.array(
    [[1, 2, -1, 0], [-1, 3, 3, 3], [0, 1, 3, -1], [3, -1, -1, 2], [2, 0, -1, -1], [1, 1, -1, 0]]
)


def cosine(x, y):
    return np.sum(x * y, -1) / np.sqrt((norm(x) ** 2 + 1e-12) * (norm(y) ** 2 + 1e-12))


def norm(x, p=2):
    return np.sum(np.abs(x) ** p, axis=-1) ** (1 / p)


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
    "smooth_l1": (
        lambda x, **options: nn.smooth_l1(x, Y, beta=0.7, **options),
        X,
        lambda x: special.huber(0.7, x - Y) / 0.7,
    ),
    "smooth_l1, beta 0": (
        lambda x, **options: nn.smooth_l1(x, Y, beta=0.0, **options),
        X,
        lambda x: np.abs(x - Y),
    ),
    "cross_entropy, probabilities weighted": (
        lambda x, **options: nn.cross_entropy(x, PROBS, weight=WEIGHT, **options),
        LOGITS,
        lambda x: -(WEIGHT * PROBS * special.log_softmax(x, axis=-1)).sum(axis=-1),
    ),
    "binary_cross_entropy": (
        lambda x, **options: nn.binary_cross_entropy(x, BITS, weight=Y**2, **options),
        special.expit(X),
        lambda x: -np.log(np.where(BITS == 1, x, 1 - x)) * Y**2,
    ),
    "binary_cross_entropy_with_logits, weighted": (
        lambda x, **options: nn.binary_cross_entropy_with_logits(
            x, BITS, weight=Y**2, pos_weight=np.array([3.0, 1.0, 0.5]), **options
        ),
        X,
        lambda x: -Y**2 * np.log(np.where(BITS == 1, special.expit(x), special.expit(-x)))
        * np.where(BITS == 1, [3.0, 1.0, 0.5], 1),
    ),
    "kl_div": (
        lambda x, **options: nn.kl_div(x, PROBS, **options),
        special.log_softmax(LOGITS, axis=-1),
        lambda x: PROBS * (np.log(PROBS) - x),
    ),
    "kl_div, logarithms": (
        lambda x, **options: nn.kl_div(x, np.log(PROBS), log_target=True, **options),
        special.log_softmax(LOGITS, axis=-1),
        lambda x: PROBS * (np.log(PROBS) - x),
    ),
    "poisson_nll": (
        lambda x, **options: nn.poisson_nll(x, COUNTS, **options),
        X,
        lambda x: np.exp(x) - COUNTS * x,
    ),
    "poisson_nll, full": (
        lambda x, **options: nn.poisson_nll(
            x, COUNTS, log_input=False, full=True, eps=0.1, **options
        ),
        np.abs(X) + 0.1,
        lambda x: x - COUNTS * np.log(x + 0.1) + np.where(
            COUNTS > 1, special.xlogy(COUNTS, COUNTS) - COUNTS
            + 0.5 * np.log(2 * np.pi * np.maximum(COUNTS, 1)), 0
        ),
    ),
    "gaussian_nll": (
        lambda x, **options: nn.gaussian_nll(x, Y, X[:, 0] ** 2, full=True, **options),
        X,
        lambda x: -stats.norm.logpdf(Y, x, np.abs(X[:, :1])),
    ),
    "gaussian_nll, of the variance": (
        lambda x, **options: nn.gaussian_nll(Y, X, x, **options),
        Y**2 + 0.1,
        lambda x: -stats.norm.logpdf(Y, X, np.sqrt(x)) - 0.5 * np.log(2 * np.pi),
    ),
    "hinge": (
        lambda x, **options: nn.hinge(x, SIGNS, margin=0.7, **options),
        X,
        lambda x: np.maximum(0, 0.7 - SIGNS * x),
    ),
    "soft_margin": (
        lambda x, **options: nn.soft_margin(x, SIGNS, **options),
        X,
        lambda x: np.log1p(np.exp(-SIGNS * x)),
    ),
    "hinge_embedding": (
        lambda x, **options: nn.hinge_embedding(x, SIGNS, margin=0.7, **options),
        X,
        lambda x: np.where(SIGNS == 1, x, np.maximum(0, 0.7 - x)),
    ),
    "margin_ranking": (
        lambda x, **options: nn.margin_ranking(x, Y, SIGNS, margin=0.3, **options),
        X,
        lambda x: np.maximum(0, 0.3 - SIGNS * (x - Y)),
    ),
    "cosine_embedding": (
        lambda x, **options: nn.cosine_embedding(x, Y, SIGNS[:, 0], margin=0.2, **options),
        X,
        lambda x: np.where(SIGNS[:, 0] == 1, 1 - cosine(x, Y), np.maximum(0, cosine(x, Y) - 0.2)),
    ),
    "triplet": (
        lambda x, **options: nn.triplet(x, Y, Y[::-1], margin=2.0, swap=True, **options),
        X,
        lambda x: np.maximum(
            0,
            2 + norm(x - Y + 1e-6)
            - np.minimum(norm(x - Y[::-1] + 1e-6), norm(Y - Y[::-1] + 1e-6)),
        ),
    ),
    "triplet, p": (
        lambda x, **options: nn.triplet(x, Y, Y[::-1], margin=2.0, p=3.0, eps=0.1, **options),
        X,
        lambda x: np.maximum(0, 2 + norm(x - Y + 0.1, 3) - norm(x - Y[::-1] + 0.1, 3)),
    ),
    "multi_margin": (
        lambda x, **options: nn.multi_margin(x, LABELS, margin=0.7, weight=WEIGHT, **options),
        LOGITS,
        lambda x: np.array([
            WEIGHT[y] * sum(max(0, 0.7 - r[y] + r[i]) for i in range(4) if i != y) / 4
            for r, y in zip(x, LABELS, strict=True)
        ]),
    ),
    "multi_margin, squared": (
        lambda x, **options: nn.multi_margin(x, LABELS, p=2, **options),
        LOGITS,
        lambda x: np.array([
            sum(max(0, 1 - r[y] + r[i]) ** 2 for i in range(4) if i != y) / 4
            for r, y in zip(x, LABELS, strict=True)
        ]),
    ),
    "multilabel_margin": (
        lambda x, **options: nn.multilabel_margin(x, LISTS, **options),
        LOGITS,
        lambda x: np.array([
            sum(
                max(0, 1 - r[y] + r[i])
                for y in ys[: list(ys).index(-1)]
                for i in {0, 1, 2, 3} - {*ys[: list(ys).index(-1)]}
            ) / 4
            for r, ys in zip(x, LISTS, strict=True)
        ]),
    ),
    "multilabel_soft_margin": (
        lambda x, **options: nn.multilabel_soft_margin(
            x, BITS, weight=np.array([3.0, 1.0, 0.5]), **options
        ),
        X,
        lambda x: -np.mean(
            np.log(np.where(BITS == 1, special.expit(x), special.expit(-x))) * [3.0, 1.0, 0.5], -1
        ),
    ),
}  # fmt: skip
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
    for backend in "numpy", None:
        value, slope = fg.jit(fg.value_and_grad(loss), backend=backend)(x)
        np.testing.assert_allclose(value, loss(x), rtol=1e-13)
        np.testing.assert_allclose(slope, fg.grad(loss)(x), rtol=1e-12, atol=1e-15)
    many = np.stack([x, 0.5 * x, 0.9 * x])
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


# -- Labels that do not count, weights of classes ------------------------------------------------

IGNORED = np.where(np.arange(6) % 3 == 1, -100, LABELS)


def classified(loss, x):
    return x.copy() if loss is nn.cross_entropy else special.log_softmax(x, axis=-1)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, lambda f: fg.jit(f, backend="numpy")])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignore", [None, -100, 1])
def test_weights_and_ignored_labels(ignore, weight, smoothing, wrap):
    """The mean is by the weights, and by those that count."""
    labels = IGNORED if ignore == -100 else LABELS
    counts = labels != (ignore if ignore is not None else 99)
    places, scores = np.where(counts, labels, 0), special.log_softmax(LOGITS, axis=-1)
    weights = np.ones(4) if weight is None else weight
    shares = np.where(counts, weights[places], 0)
    each = -(1 - smoothing) * shares * scores[np.arange(6), places]
    each -= np.where(counts, smoothing * (weights * scores).mean(axis=-1), 0)
    options = {"weight": weight, "ignore_index": ignore, "label_smoothing": smoothing}
    for loss in (nn.cross_entropy, nn.nll):
        if loss is nn.nll:
            if smoothing:
                continue
            del options["label_smoothing"]
        for reduction, want in (
            ("none", each), ("sum", each.sum()), ("mean", each.sum() / shares.sum()),
        ):  # fmt: skip
            have = wrap(lambda x, y, o=options, r=reduction, f=loss: f(x, y, **o, reduction=r))
            np.testing.assert_allclose(have(classified(loss, LOGITS), labels), want, rtol=1e-12)


@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.nll])
def test_ignored_examples_have_no_slope(loss):
    x = classified(loss, LOGITS)
    x[1] = [-np.inf, 0, 0, 0]
    slope = fg.grad(lambda x: loss(x, IGNORED, ignore_index=-100))(x)
    np.testing.assert_array_equal(slope[IGNORED == -100], 0)
    assert np.all(np.isfinite(slope))
    for dtype in np.uint8, np.int8, np.uint64:
        labels = np.where(IGNORED < 0, 100, IGNORED).astype(dtype)
        value = loss(LOGITS, labels, ignore_index=100)
        np.testing.assert_allclose(value, loss(LOGITS, IGNORED, ignore_index=-100))
        assert loss(LOGITS, LABELS.astype(dtype), ignore_index=-100) == loss(LOGITS, LABELS)


@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.nll])
def test_other_labels_out_of_range_are_errors_beside_ignored_ones(loss):
    for wrong in -1, 4:
        labels = np.where(LABELS == 3, wrong, IGNORED)
        assert wrong in labels or wrong == 4
        labels[0] = wrong
        for wrap in lambda f: f, fg.jit, lambda f: fg.jit(f, backend="numpy"), fg.grad:
            with pytest.raises(IndexError):
                wrap(lambda x, y: loss(x, y, ignore_index=-100))(LOGITS, labels)


def test_weights_are_rounded_to_the_losses_dtype():
    x = LOGITS.astype(np.float32)
    assert nn.cross_entropy(x, LABELS, weight=WEIGHT).dtype == np.float32
    assert nn.cross_entropy(x.astype(np.float16), LABELS, weight=WEIGHT).dtype == np.float16
    assert nn.binary_cross_entropy_with_logits(x, x > 0, pos_weight=WEIGHT).dtype == np.float32


def test_misuse_of_weights_and_ignored_labels():
    with pytest.raises(ShapeError, match=r"weight must have shape \(4,\), one for each class"):
        nn.cross_entropy(LOGITS, LABELS, weight=np.ones(3))
    with pytest.raises(ArgumentError, match="ignore_index is for classes"):
        nn.cross_entropy(LOGITS, PROBS, ignore_index=-100)
    with pytest.raises(ShapeError, match=r"pos_weight of shape \(2,\) does not broadcast"):
        nn.binary_cross_entropy_with_logits(X, BITS, pos_weight=np.ones(2))
    with pytest.raises(ArgumentError, match="from 0 to 1, but they go from -"):
        nn.binary_cross_entropy(X, BITS)


# -- Elements and pairs at their ends ------------------------------------------------------------


def test_binary_cross_entropy_of_certain_predictions():
    p, t = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    loss = lambda p: nn.binary_cross_entropy(p, t, reduction="sum")  # noqa: E731
    np.testing.assert_allclose(nn.binary_cross_entropy(p, t, reduction="none"), [0, 100, 100, 0])
    np.testing.assert_allclose(fg.grad(loss)(p), [0, -1e12, 1e12, 0])


def test_divergence_of_impossible_classes():
    x, t = np.log([[1.0, 1e-300]]) * [[1, np.inf]], np.array([[1.0, 0.0]])
    for targets, log_target in ((t, False), (np.log(np.maximum(t, 1e-320)) * [[1, np.inf]], True)):
        targets = np.where(np.isnan(targets), 0, targets)
        loss = lambda x, t=targets, log=log_target: nn.kl_div(x, t, log_target=log)  # noqa: E731
        value, slope = fg.value_and_grad(loss)(np.array([[0.0, -np.inf]]))
        assert value == 0
        np.testing.assert_allclose(slope, [[-0.5, 0]])
    assert nn.kl_div(x, t, reduction="batchmean") == 0


def test_batchmean():
    x = special.log_softmax(LOGITS, axis=-1)
    want = nn.kl_div(x, PROBS, reduction="sum") / 6
    assert nn.kl_div(x, PROBS, reduction="batchmean") == want


def test_low_variances_are_replaced_and_still_differentiated():
    loss = lambda v: nn.gaussian_nll(X, Y, v, eps=0.5, reduction="sum")  # noqa: E731
    low, replaced = np.full((5, 3), 0.01), np.full((5, 3), 0.5)
    assert loss(low) == loss(replaced)
    np.testing.assert_allclose(fg.grad(loss)(low), fg.grad(loss)(replaced))
    with pytest.raises(ArgumentError, match="a variance is negative, -1"):
        loss(-np.ones((5, 3)))
    with pytest.raises(ShapeError, match=r"var has shape \(3,\), which does not fit"):
        loss(np.ones(3))


def test_distances_of_equal_vectors_have_finite_slopes():
    same = np.ones((2, 3))
    for loss in (
        lambda x: nn.triplet(x, same, same),
        lambda x: nn.cosine_embedding(x * 0, same, np.array([1, -1])),
    ):
        assert np.all(np.isfinite(fg.grad(loss)(same)))


@pytest.mark.parametrize(
    "loss",
    [
        nn.hinge, nn.soft_margin, nn.hinge_embedding, lambda x, y: nn.margin_ranking(x, x, y),
        lambda x, y: nn.cosine_embedding(x[:, None], x[:, None], y),
    ],
)  # fmt: skip
def test_targets_of_0_and_1_where_signs_are_wanted(loss):
    with pytest.raises(ArgumentError, match=r"targets must be -1 or 1.*2 \* targets - 1"):
        loss(np.ones(2), np.array([0, 1]))
    single = np.ones(2, np.float32)
    assert loss(single, np.array([-1, 1])).dtype == np.float32
    assert fg.jit(loss)(single, np.array([-1, 1])).dtype == np.float32


# -- CTC -----------------------------------------------------------------------------------------

STEPS = special.log_softmax(RNG.normal(size=(4, 5, 3)), axis=-1)
SPOKEN = np.array([[1, 2, 1], [1, 1, 9], [2, -1, 0], [2, 2, 2]])
SPOKEN_LENGTHS = np.array([3, 2, 0, 3])


def likelihood(scores, labels, blank):
    """The sum over all alignments, one by one."""
    total = 0.0
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        merged = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
        if [c for c in merged if c != blank] == list(labels):
            total += np.exp(sum(scores[i, c] for i, c in enumerate(path)))
    return total


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, lambda f: fg.jit(f, backend="numpy")])
@pytest.mark.parametrize("lengths", [None, np.array([4, 5, 3, 5]), np.array([2, 2, 0, 4])])
def test_ctc_is_the_sum_over_alignments(lengths, wrap):
    steps = [5] * 4 if lengths is None else lengths
    with np.errstate(divide="ignore"):
        want = -np.log([
            likelihood(x[:n], y[:m], 0)
            for x, n, y, m in zip(STEPS, steps, SPOKEN, SPOKEN_LENGTHS, strict=True)
        ])  # fmt: skip

    def loss(x, targets, **options):
        return nn.ctc(x, targets, lengths, SPOKEN_LENGTHS, **options)

    have = {
        reduction: wrap(lambda x, t, r=reduction: loss(x, t, reduction=r))(STEPS, SPOKEN)
        for reduction in ("none", "sum", "mean")
    }
    np.testing.assert_allclose(have["none"], want, rtol=1e-12)
    np.testing.assert_allclose(have["sum"], want.sum(), rtol=1e-12)
    np.testing.assert_allclose(have["mean"], np.mean(want / [3, 2, 1, 3]), rtol=1e-12)
    # Impossible sequences have no slope, and do not make others NaN.
    slope = wrap(fg.grad(lambda x, t: loss(x, t, reduction="sum")))(STEPS, SPOKEN)
    finite = wrap(fg.grad(lambda x, t: loss(x, t, reduction="sum", zero_infinity=True)))
    np.testing.assert_allclose(slope, finite(STEPS, SPOKEN))
    np.testing.assert_array_equal(slope[np.isinf(want)], 0)
    direction, h = RNG.normal(size=STEPS.shape), 1e-6
    each = [loss(STEPS + s * h * direction, SPOKEN, zero_infinity=True) for s in (1, -1)]
    exact = np.vdot(finite(STEPS, SPOKEN) / 4, direction)
    mean = fg.grad(lambda x: loss(x, SPOKEN, zero_infinity=True))(STEPS)
    np.testing.assert_allclose(np.vdot(mean, direction), (each[0] - each[1]) / (2 * h), rtol=1e-6)
    assert np.isfinite(exact)


def test_ctc_with_another_blank_and_impossible_classes():
    scores = STEPS.copy()
    scores[:, :, 1] = -np.inf
    labels = np.array([[0, 1]] * 4)
    want = [-np.log(likelihood(x, [0], 2)) for x in STEPS]
    have = nn.ctc(STEPS, labels, target_lengths=np.ones(4, int), blank=2, reduction="none")
    np.testing.assert_allclose(have, want, rtol=1e-12)
    value, slope = fg.value_and_grad(lambda x: nn.ctc(x, labels, blank=2, reduction="sum"))(scores)
    assert value == np.inf
    np.testing.assert_array_equal(slope, 0)


def test_ctc_of_single_precision_and_misuse():
    assert nn.ctc(STEPS.astype(np.float32), SPOKEN[:1].repeat(4, 0)).dtype == np.float32
    with pytest.raises(IndexRangeError, match="from 0 to 2"):
        nn.ctc(STEPS, SPOKEN)
    for wrap in fg.jit, lambda f: fg.jit(f, backend="numpy"):
        with pytest.raises(IndexError):
            wrap(nn.ctc)(STEPS, SPOKEN)
    with pytest.raises(ShapeError, match=r"\(batch, steps, classes\) and labels of shape"):
        nn.ctc(STEPS[0], SPOKEN[0])
    with pytest.raises(IndexRangeError, match="input_lengths must be from 0 to 5"):
        nn.ctc(STEPS, SPOKEN, np.array([6, 1, 1, 1]))
    with pytest.raises(ShapeError, match=r"target_lengths must be integers of shape \(4,\)"):
        nn.ctc(STEPS, SPOKEN, None, np.ones(3, int))
    with pytest.raises(OperandTypeError, match="labels must be integers, got float64"):
        nn.ctc(STEPS, SPOKEN.astype(float))


def test_misuse_of_margins():
    with pytest.raises(ArgumentError, match="p must be 1 or 2, not 3"):
        nn.multi_margin(LOGITS, LABELS, p=3)
    with pytest.raises(ShapeError, match="integers of the same shape, with -1 behind the last"):
        nn.multilabel_margin(LOGITS, LABELS)
    for wrap in lambda f: f, fg.jit:
        with pytest.raises(IndexError):
            wrap(nn.multilabel_margin)(LOGITS, np.where(LISTS == 3, 4, LISTS))
    with pytest.raises(ArgumentError, match="triplet: margin must be positive"):
        nn.triplet(X, Y, Y, margin=0)


# -- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 1), (4,), (6, 5), ()])
def test_classes_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError) as caught:
        nn.cross_entropy(LOGITS, np.zeros(shape, int))
    for part in ("(6, 4)", "integers of shape (6,)", f"targets of shape {shape}"):
        assert part in str(caught.value)


def test_classes_as_the_second_axis():
    images, labels = np.zeros((2, 3, 4, 5)), np.zeros((2, 4, 5), int)
    for loss in (nn.cross_entropy, nn.nll):
        with pytest.raises(ShapeError, match=r"last axis: np\.moveaxis\(logits, 1, -1\)\.$"):
            loss(images, labels)
    nn.cross_entropy(np.moveaxis(images, 1, -1), labels)


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
    "loss",
    [
        nn.mse,
        nn.l1,
        nn.huber,
        nn.smooth_l1,
        nn.kl_div,
        nn.poisson_nll,
        nn.binary_cross_entropy,
        nn.binary_cross_entropy_with_logits,
        nn.multilabel_soft_margin,
        lambda x, y: nn.hinge(x, y + 1),
        lambda x, y: nn.soft_margin(x, y + 1),
        lambda x, y: nn.hinge_embedding(x, y + 1),
        lambda x, y: nn.margin_ranking(x, y, y + 1),
        lambda x, y: nn.triplet(x, x, y),
        lambda x, y: nn.cosine_embedding(x, y, y),
        lambda x, y: nn.gaussian_nll(x, y, y),
    ],
    ids=lambda f: f.__name__,
)
def test_shapes_are_not_broadcast(loss):
    with pytest.raises(ShapeError, match=r"\(5, 1\) and targets \(5,\).*x\[:, 0\] drops one"):
        loss(np.zeros((5, 1)), np.zeros(5))
    with pytest.raises(ShapeError, match=r"\(5, 3\) and targets \(3,\); .*must be the same\.$"):
        loss(np.zeros((5, 3)), np.zeros(3))


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
