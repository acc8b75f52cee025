"""Losses: how far predictions are from targets; and accuracy.

Each takes predictions first and targets second, both with the batch axis first, and reduces what it
finds for each example (or element) to its mean, its sum, or not at all.

The loss has the dtype that predictions and targets promote to, and integers count as float64.
float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError

from ._numbers import (
    DOUBLE,
    as_number,
    checked,
    checked_indices,
    computed_in,
    narrow,
    refuse_complex,
    squared_size,
)
from .activations import shifted_logits, softplus

Reduction = Literal["mean", "sum", "none"]

__all__ = [
    "accuracy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber",
    "l1",
    "mse",
    "nll",
]


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Any:
    """Cross-entropy between targets and softmax(logits), without overflow or underflow.

    Args:
        logits: unnormalised log-probabilities, shape ``(..., classes)``.
        targets: classes, integers of shape ``(...)`` from 0 to ``classes - 1``; or their
            probabilities, floats of the shape of the logits. (To leave examples out, give them
            any class, take ``reduction="none"`` and average over the others.)
        label_smoothing: from 0 to 1; the targets are mixed in this proportion with equal
            probabilities for all classes.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss, of the logits' dtype (with probabilities: what it promotes to with theirs).

    Raises:
        ShapeError: the targets' shape is neither of the two.
        OperandTypeError: targets for classes are no integers, or those for probabilities no
            floats; complex logits.
        IndexRangeError: a class is out of range, negative ones included; under ``fg.jit`` and
            ``fg.vmap``, where targets have no values, an IndexError when it is computed, whose
            message shows the number of classes in place of a negative one.
        ArgumentError: an unknown reduction, or ``label_smoothing`` out of range.

    >>> logits = np.array([[2.0, 0.0, -1000.0], [0.0, 0.0, 0.0]])
    >>> cross_entropy(logits, np.array([0, 2]), reduction="none").round(4)
    array([0.1269, 1.0986])
    >>> cross_entropy(logits[1:], np.array([[0.5, 0.5, 0.0]])).round(4)
    np.float64(1.0986)
    """
    label_smoothing = checked("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    logits, targets, dtype = _scores("cross_entropy", logits, targets)
    shifted, log_total = shifted_logits(logits)
    if targets.shape == shifted.shape:
        losses = -_expected("cross_entropy", shifted - log_total, targets)
    else:
        losses = np.squeeze(log_total, -1) - _expected("cross_entropy", shifted, targets)
    if label_smoothing:
        even = np.squeeze(log_total, -1) - np.mean(shifted, axis=-1)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * even
    return _reduced("cross_entropy", losses, reduction, dtype)


def nll(log_probs: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """Negative log-likelihood of targets, given log-probabilities.

    ``nll(log_softmax(logits), targets)`` is ``cross_entropy(logits, targets)``.

    Args:
        log_probs: shape ``(..., classes)``.
        targets: as for :func:`cross_entropy`.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, OperandTypeError, IndexRangeError, ArgumentError: as for
            :func:`cross_entropy`.

    >>> nll(np.log([[0.5, 0.25, 0.25]]), np.array([0])).round(4)
    np.float64(0.6931)
    """
    log_probs, targets, dtype = _scores("nll", log_probs, targets)
    return _reduced("nll", -_expected("nll", log_probs, targets), reduction, dtype)


def _as_array(x: Any) -> Any:
    return x if hasattr(x, "dtype") else np.asarray(x)


def _as_floats(*values: Any) -> tuple[list[Any], np.dtype[Any]]:
    """Values in the dtype that a loss of them is computed in, and the loss's own.

    Differences and products of small integers would wrap: 0 - 16 is 240 in uint8.
    """
    # Python's numbers take the dtype of what they meet.
    dtype = np.result_type(*[getattr(v, "dtype", v) for v in values])
    dtype = dtype if dtype.kind in "fc" else DOUBLE
    wide = computed_in(dtype)
    return [narrow(_as_array(v), wide) for v in values], dtype


def _scores(name: str, scores: Any, targets: Any) -> tuple[Any, Any, np.dtype[Any]]:
    """Scores for classes and targets, both ready to be computed with, and the loss's dtype."""
    scores, targets = _as_array(scores), _as_array(targets)
    refuse_complex(name, scores, targets)
    if targets.shape == scores.shape and targets.dtype.kind == "f":
        (scores, targets), dtype = _as_floats(scores, targets)
    else:
        (scores,), dtype = _as_floats(scores)
    return scores, targets, dtype


def _expected(name: str, scores: Any, targets: Any) -> Any:
    """The score of each target class, or the mean of the scores over the target probabilities."""
    shape, wanted = np.shape(scores), targets.shape
    if not shape or wanted not in (shape, shape[:-1]):
        raise ShapeError(
            f"{name}: predictions of shape {shape} take classes as integers of shape "
            f"{shape[:-1]} or probabilities of shape {shape}, got targets of shape {wanted}."
        )
    if wanted == shape:
        if targets.dtype.kind != "f":
            raise OperandTypeError(
                f"{name}: targets of the predictions' shape {shape} are probabilities and must be "
                f"floats, got {targets.dtype}. For classes give integers of shape {shape[:-1]}; "
                "probabilities of 0 and 1 can be converted with targets.astype(np.float32)."
            )
        # 0 * -inf would be NaN where a class is impossible in both.
        impossible = (targets == 0) & (scores == -np.inf)
        return np.sum(targets * np.where(impossible, 0, scores), axis=-1)
    if targets.dtype.kind not in "iu":
        raise OperandTypeError(
            f"{name}: classes must be integers, got {targets.dtype} of shape {wanted}. Convert "
            f"them with targets.astype(int), or give probabilities of shape {shape}."
        )
    places = np.expand_dims(_checked_classes(name, targets, shape[-1]), -1)
    return np.squeeze(np.take_along_axis(scores, places, axis=-1), -1)


def _checked_classes(name: str, targets: Any, classes: int) -> Any:
    def problem(low: Any, high: Any) -> str:
        return (
            f"{name}: targets must be classes from 0 to {classes - 1}, as the predictions have "
            f"{classes} of them, but they go from {low} to {high}. To leave examples out, give "
            'them class 0, take reduction="none" and average over the others.'
        )

    return checked_indices(targets, classes, problem)


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, reduction: Reduction = "mean"
) -> Any:
    """Cross-entropy between targets and sigmoid(logits), without overflow or underflow.

    ``softplus(x) - t x``, smooth everywhere, so that second derivatives are right at 0 as well.

    Args:
        logits: log-odds, of any shape.
        targets: probabilities, or 0 and 1, of the same shape.
        reduction: of the losses of that shape: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction.

    >>> binary_cross_entropy_with_logits(np.array([0.0, 1000.0]), np.array([1.0, 1.0])).round(4)
    np.float64(0.3466)
    """
    name = "binary_cross_entropy_with_logits"
    _check_alike(name, logits, targets)
    refuse_complex(name, logits, targets)
    (logits, targets), dtype = _as_floats(logits, targets)
    return _reduced(name, softplus(logits) - targets * logits, reduction, dtype)


def mse(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """Squared error, by default its mean; of complex numbers the squared absolute value.

    Args:
        predictions: of any shape.
        targets: of the same shape.
        reduction: of the squares: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ; they are not broadcast, as ``(n,)`` against ``(n, 1)`` would
            compare each prediction with each target.
        ArgumentError: an unknown reduction.

    >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(2.0)
    """
    error, dtype = _error("mse", predictions, targets)
    return _reduced("mse", squared_size(error), reduction, dtype)


def _error(name: str, predictions: Any, targets: Any) -> tuple[Any, np.dtype[Any]]:
    """Predictions less targets, and the dtype of a loss of that."""
    _check_alike(name, predictions, targets)
    (predictions, targets), dtype = _as_floats(predictions, targets)
    return predictions - targets, np.finfo(dtype).dtype


def l1(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """Absolute error, by default its mean.

    Args, errors: as for :func:`mse`.

    >>> l1(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(1.0)
    """
    error, dtype = _error("l1", predictions, targets)
    return _reduced("l1", np.abs(error), reduction, dtype)


def huber(
    predictions: Any, targets: Any, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """Half the squared error up to ``delta``, beyond it growing linearly.

    P. Huber (1964), *Robust Estimation of a Location Parameter*.

    Args:
        predictions: of any shape.
        targets: of the same shape.
        delta: the error where the two parts meet, positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or a ``delta`` that is not positive.

    >>> huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])
    """
    delta = as_number(delta)
    if not delta > 0:
        raise ArgumentError(f"huber: delta must be positive, not {delta!r}")
    error, dtype = _error("huber", predictions, targets)
    size = np.abs(error)
    losses = fnp.where(size <= delta, squared_size(error) * 0.5, (size - 0.5 * delta) * delta)
    return _reduced("huber", losses, reduction, dtype)


def accuracy(predictions: Any, targets: Any) -> Any:
    """The share of examples whose highest score is that of their class.

    Args:
        predictions: logits or probabilities, shape ``(..., classes)``.
        targets: classes, integers of shape ``(...)``.

    Raises:
        ShapeError: the shapes do not fit.
        OperandTypeError: complex predictions.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    np.float64(0.5)
    """
    targets = _as_array(targets)
    refuse_complex("accuracy", predictions)
    if np.shape(predictions)[:-1] != targets.shape:
        raise ShapeError(
            f"accuracy: predictions of shape {np.shape(predictions)} take classes of shape "
            f"{np.shape(predictions)[:-1]}, got targets of shape {targets.shape}."
        )
    return _reduced("accuracy", np.argmax(predictions, axis=-1) == targets, "mean", DOUBLE)


def _check_alike(name: str, predictions: Any, targets: Any) -> None:
    found, wanted = np.shape(predictions), np.shape(targets)
    if found != wanted:
        hint = " (y[:, None] adds an axis, x[:, 0] drops one)" if _only_ones(found, wanted) else ""
        raise ShapeError(
            f"{name}: predictions have shape {found} and targets {wanted}; they are compared "
            f"element by element and must be the same{hint}."
        )


def _only_ones(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def _unreduced(losses: Any) -> Any:
    return losses


_REDUCTIONS: dict[str, Any] = {"mean": np.mean, "sum": np.sum, "none": _unreduced}


def _reduced(name: str, losses: Any, reduction: str, dtype: np.dtype[Any]) -> Any:
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    return narrow(_REDUCTIONS[reduction](losses), dtype)
