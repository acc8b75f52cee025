"""Losses of scores for classes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError
from funcgrad_nn._numbers import checked, refuse_complex
from funcgrad_nn.activations import shifted_logits, softplus

from ._common import (
    Reduction,
    as_array,
    as_floats,
    checked_classes,
    checked_weight,
    class_numbers,
    of_classes,
    positive,
    real_alike,
    reduced,
)

__all__ = [
    "cross_entropy",
    "multi_margin",
    "multilabel_margin",
    "multilabel_soft_margin",
    "nll",
]


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Any:
    """Cross-entropy between targets and softmax(logits), without overflow or underflow.

    Args:
        logits: unnormalised log-probabilities, shape ``(..., classes)``; of images (N, C, H, W),
            ``np.moveaxis(logits, 1, -1)``.
        targets: classes, integers of shape ``(...)`` from 0 to ``classes - 1``; or their
            probabilities, floats of the shape of the logits.
        weight: of each class, shape ``(classes,)``; by default 1.
        ignore_index: a label whose examples do not count: their losses are 0, and left out of the
            mean. By default none; PyTorch's is -100.
        label_smoothing: from 0 to 1; the targets are mixed in this proportion with equal
            probabilities for all classes.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``. The mean
            of examples with classes is by the weights of these, as in PyTorch; it is NaN where
            there are none.

    Returns:
        The loss, of the logits' dtype (with probabilities: what it promotes to with theirs).

    Raises:
        ShapeError: the targets' shape is neither of the two, or that of the weight is another.
        OperandTypeError: targets for classes are no integers, or those for probabilities no
            floats; complex logits.
        IndexRangeError: a class is out of range, negative ones included; under ``fg.jit``,
            where targets have no values, when it is computed; under ``fg.vmap`` an IndexError.
        ArgumentError: an unknown reduction, ``label_smoothing`` out of range, or ``ignore_index``
            for probabilities.

    >>> logits = np.array([[2.0, 0.0, -1000.0], [0.0, 0.0, 0.0]])
    >>> nn.cross_entropy(logits, np.array([0, 2]), reduction="none").round(4)
    array([0.1269, 1.0986])
    >>> nn.cross_entropy(logits[1:], np.array([[0.5, 0.5, 0.0]])).round(4)
    np.float64(1.0986)
    >>> nn.cross_entropy(logits, np.array([0, -100]), ignore_index=-100).round(4)
    np.float64(0.1269)
    """
    name = "cross_entropy"
    label_smoothing = checked(name, "label_smoothing", label_smoothing, 0, 1)
    logits, targets, dtype = _scores(name, logits, targets)
    shifted, log_total = shifted_logits(logits)
    weights = None if weight is None else checked_weight(name, weight, shifted.shape[-1], shifted)
    total, shares = np.squeeze(log_total, -1), None
    if targets.shape == shifted.shape:
        _refuse_ignoring(name, ignore_index)
        losses = -_expected(name, shifted - log_total, targets, weights)
    else:
        picked, shares = _picked(name, shifted, targets, weights, ignore_index)
        losses = _shared(total - picked, shares)
    if label_smoothing:
        even = total - np.mean(shifted, axis=-1)
        if weights is not None:
            even = np.mean(weights * (log_total - shifted), axis=-1)
        if ignore_index is not None:
            even = fnp.where(targets != ignore_index, even, 0)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * even
    return reduced(name, losses, reduction, dtype, shares)


def nll(
    log_probs: Any,
    targets: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Any:
    """Negative log-likelihood of targets, given log-probabilities.

    ``nll(log_softmax(logits), targets)`` is ``cross_entropy(logits, targets)``.

    Args:
        log_probs: shape ``(..., classes)``.
        targets, weight, ignore_index: as for :func:`cross_entropy`.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, OperandTypeError, IndexRangeError, ArgumentError: as for
            :func:`cross_entropy`.

    >>> nn.nll(np.log([[0.5, 0.25, 0.25]]), np.array([0])).round(4)
    np.float64(0.6931)
    """
    log_probs, targets, dtype = _scores("nll", log_probs, targets)
    weights = None
    if weight is not None:
        weights = checked_weight("nll", weight, log_probs.shape[-1], log_probs)
    if log_probs.ndim and targets.shape == log_probs.shape:
        _refuse_ignoring("nll", ignore_index)
        losses = -_expected("nll", log_probs, targets, weights)
        return reduced("nll", losses, reduction, dtype)
    picked, shares = _picked("nll", log_probs, targets, weights, ignore_index)
    return reduced("nll", _shared(-picked, shares), reduction, dtype, shares)


def _scores(name: str, scores: Any, targets: Any) -> tuple[Any, Any, np.dtype[Any]]:
    """Scores for classes and targets, both ready to be computed with, and the loss's dtype."""
    scores, targets = as_array(scores), as_array(targets)
    refuse_complex(name, scores, targets)
    if targets.shape == scores.shape and targets.dtype.kind == "f":
        (scores, targets), dtype = as_floats(scores, targets)
    else:
        (scores,), dtype = as_floats(scores)
    return scores, targets, dtype


def _refuse_ignoring(name: str, ignore_index: int | None) -> None:
    if ignore_index is not None:
        raise ArgumentError(
            f"{name}: ignore_index is for classes, and these targets are probabilities. Give "
            "examples that do not count probabilities of 0."
        )


def _expected(name: str, scores: Any, targets: Any, weights: Any) -> Any:
    """The mean of the scores over the target probabilities."""
    if targets.dtype.kind != "f":
        raise OperandTypeError(
            f"{name}: targets of the predictions' shape {scores.shape} are probabilities and must "
            f"be floats, got {targets.dtype}. For classes give integers of shape "
            f"{scores.shape[:-1]}; probabilities of 0 and 1 can be converted with "
            "targets.astype(np.float32)."
        )
    # 0 * -inf would be NaN where a class is impossible in both.
    impossible = (targets == 0) & (scores == -np.inf)
    shares = targets if weights is None else targets * weights
    return np.sum(shares * fnp.where(impossible, 0, scores), axis=-1)


def _picked(
    name: str, scores: Any, targets: Any, weights: Any = None, ignore_index: int | None = None
) -> tuple[Any, Any]:
    """The score of each target class, and how much each example counts; None if all do by 1."""
    shape, wanted = scores.shape, targets.shape
    if not shape or wanted != shape[:-1]:
        # As PyTorch has them.
        second = len(shape) > 2 and wanted == (shape[0], *shape[2:])
        hint = " Classes are the last axis: np.moveaxis(logits, 1, -1)." if second else ""
        raise ShapeError(
            f"{name}: predictions of shape {shape} take classes as integers of shape "
            f"{shape[:-1]} or probabilities of shape {shape}, got targets of shape {wanted}.{hint}"
        )
    if targets.dtype.kind not in "iu":
        raise OperandTypeError(
            f"{name}: classes must be integers, got {targets.dtype} of shape {wanted}. Convert "
            f"them with targets.astype(int), or give probabilities of shape {shape}."
        )
    places, counts = checked_classes(name, targets, shape[-1], ignore_index)
    places = np.expand_dims(places, -1)
    picked = np.squeeze(of_classes(name, scores, places), -1)
    if weights is None:
        return picked, None if counts is None else counts.astype(scores.dtype)
    along = np.broadcast_to(weights, shape)
    shares = np.squeeze(of_classes(name, along, places), -1)
    return picked, shares if counts is None else fnp.where(counts, shares, 0)


def _shared(losses: Any, shares: Any) -> Any:
    """Losses times shares, where 0 times infinity is 0."""
    if shares is None:
        return losses
    return shares * fnp.where(shares == 0, 0, losses)


# -- Margins -------------------------------------------------------------------------------------


def multi_margin(
    scores: Any,
    targets: Any,
    *,
    p: Literal[1, 2] = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: Reduction = "mean",
) -> Any:
    """By how much the scores of other classes come within a margin of the target's.

    With target y, of each example: ``sum(max(0, margin - x[y] + x[i])**p for i != y) / classes``;
    as PyTorch's ``multi_margin_loss``.

    Args:
        scores: shape ``(..., classes)``.
        targets: classes, integers of shape ``(...)``.
        p: 1 or 2.
        margin: how much higher the target's score must be.
        weight: of each target class, shape ``(classes,)``. The mean is not by the weights.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, OperandTypeError, IndexRangeError, ArgumentError: as for
            :func:`cross_entropy`.

    >>> nn.multi_margin(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3])).round(4)
    np.float64(0.325)
    """
    name = "multi_margin"
    if p not in (1, 2):
        raise ArgumentError(f"{name}: p must be 1 or 2, not {p!r:.60}")
    margin = checked(name, "margin", margin, -np.inf)
    targets = as_array(targets)
    refuse_complex(name, scores)
    (scores,), dtype = as_floats(scores)
    weights = None if weight is None else checked_weight(name, weight, scores.shape[-1], scores)
    picked, shares = _picked(name, scores, targets, weights)
    over = positive(margin - np.expand_dims(picked, -1) + scores) ** p
    others = targets[..., None] != class_numbers(scores.shape[-1])
    losses = np.sum(fnp.where(others, over, 0), axis=-1) / scores.shape[-1]
    return reduced(name, losses if shares is None else shares * losses, reduction, dtype)


def multilabel_margin(scores: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """By how much the scores of other classes come within 1 of those of each of several targets.

    Of each example: ``sum(max(0, 1 - x[y] + x[i]) for y in targets for i not in targets)``, over
    the number of classes; as PyTorch's ``multilabel_margin_loss``.

    Args:
        scores: shape ``(..., classes)``.
        targets: classes, integers of the same shape; what follows the first negative one does not
            count.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, OperandTypeError, IndexRangeError, ArgumentError: as for
            :func:`cross_entropy`.

    >>> x = np.array([[0.1, 0.2, 0.4, 0.8]])
    >>> nn.multilabel_margin(x, np.array([[3, 0, -1, 1]])).round(4)
    np.float64(0.85)
    """
    name = "multilabel_margin"
    targets = as_array(targets)
    refuse_complex(name, scores)
    (scores,), dtype = as_floats(scores)
    if not scores.shape or targets.shape != scores.shape or targets.dtype.kind not in "iu":
        raise ShapeError(
            f"{name}: predictions of shape {scores.shape} take classes as integers of the same "
            f"shape, with -1 behind the last; got {targets.dtype} of shape {targets.shape}"
        )
    valid: Any = np.cumsum(targets < 0, axis=-1) == 0
    classes = scores.shape[-1]
    places, _ = checked_classes(name, fnp.where(valid, targets, 0), classes)
    picked = of_classes(name, scores, places)
    ours = valid[..., None]
    hits = ours & (places[..., None] == class_numbers(classes))
    others = ~np.any(hits, axis=-2, keepdims=True)
    over = positive(1.0 - np.expand_dims(picked, -1) + np.expand_dims(scores, -2))
    losses = np.sum(fnp.where(ours & others, over, 0), axis=(-2, -1)) / classes
    return reduced(name, losses, reduction, dtype)


def multilabel_soft_margin(
    logits: Any, targets: Any, *, weight: Any = None, reduction: Reduction = "mean"
) -> Any:
    """Binary cross-entropy of each class on its own, its mean over the classes.

    As PyTorch's ``multilabel_soft_margin_loss``.

    Args:
        logits: log-odds, shape ``(..., classes)``.
        targets: 0 and 1, or probabilities, of the same shape.
        weight: of each class, shape ``(classes,)``.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction.

    >>> nn.multilabel_soft_margin(np.array([[0.0, 2.0]]), np.array([[1.0, 0.0]])).round(4)
    np.float64(1.41)
    """
    name = "multilabel_soft_margin"
    (x, t), dtype = real_alike(name, logits, targets)
    losses = softplus(x) - t * x
    if weight is not None:
        losses = losses * checked_weight(name, weight, x.shape[-1], x)
    return reduced(name, np.mean(losses, axis=-1), reduction, dtype)
