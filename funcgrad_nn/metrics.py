"""Metrics of classifiers, and running means of anything.

Predictions are scores of shape ``(..., classes)``, such as logits, of which the highest counts; or
classes already, integers of the targets' shape.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError

from ._numbers import DOUBLE, as_number, refuse_complex
from .losses._common import as_array, checked_classes, of_classes

Average = Literal["macro", "micro", "none"]

__all__ = [
    "RunningMean",
    "accuracy",
    "confusion_matrix",
    "f1",
    "precision",
    "recall",
    "top_k_accuracy",
]


def accuracy(predictions: Any, targets: Any) -> Any:
    """The share of examples whose highest score is that of their class.

    Args:
        predictions: logits or probabilities, shape ``(..., classes)``.
        targets: classes, integers of shape ``(...)``.

    Raises:
        ShapeError: the shapes do not fit.
        OperandTypeError: complex predictions.

    >>> nn.accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    np.float64(0.5)
    """
    scores, targets = _scores("accuracy", predictions, targets)
    return np.mean(np.argmax(scores, axis=-1) == targets, dtype=DOUBLE)


def top_k_accuracy(predictions: Any, targets: Any, k: int = 5) -> Any:
    """The share of examples for which fewer than k classes have a higher score than their own.

    Args:
        predictions: logits or probabilities, shape ``(..., classes)``.
        targets: classes, integers of shape ``(...)``.
        k: 1 or more.

    Raises:
        ShapeError: the shapes do not fit.
        OperandTypeError: complex predictions.
        IndexRangeError: a class is out of range.
        ArgumentError: k is no positive integer.

    >>> nn.top_k_accuracy(np.array([[0.1, 0.3, 0.6], [0.8, 0.15, 0.05]]), np.array([1, 2]), k=2)
    np.float64(0.5)
    """
    name = "top_k_accuracy"
    number = as_number(k)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ArgumentError(f"{name}: k must be a positive integer, not {k!r:.60}")
    scores, targets = _scores(name, predictions, targets)
    places, _ = checked_classes(name, targets, scores.shape[-1])
    own = of_classes(name, scores, np.expand_dims(places, -1))
    # A score that is NaN is never among the best.
    above = np.sum(~(scores <= own), axis=-1)
    return np.mean(above < k, dtype=DOUBLE)


def _scores(name: str, predictions: Any, targets: Any) -> tuple[Any, Any]:
    scores, targets = as_array(predictions), as_array(targets)
    refuse_complex(name, scores)
    if not scores.shape or scores.shape[:-1] != targets.shape:
        raise ShapeError(
            f"{name}: predictions of shape {scores.shape} take classes of shape "
            f"{scores.shape[:-1]}, got targets of shape {targets.shape}."
        )
    return scores, targets


def confusion_matrix(predictions: Any, targets: Any, num_classes: int | None = None) -> Any:
    """How many examples of each class, by row, are predicted as each class, by column.

    Args:
        predictions: scores of shape ``(..., classes)``, or classes of shape ``(...)``.
        targets: classes, integers of shape ``(...)``.
        num_classes: needed for predictions that are classes.

    Returns:
        int64 of shape ``(classes, classes)``; those of batches can be added up.

    Raises:
        ShapeError: the shapes do not fit.
        OperandTypeError: complex predictions, or targets that are no integers.
        IndexRangeError: a class is out of range.
        ArgumentError: ``num_classes`` is missing, or is not what the scores have.

    >>> nn.confusion_matrix(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), num_classes=2)
    array([[1, 1],
           [0, 2]])
    """
    name = "confusion_matrix"
    predicted, targets, count = _classes(name, predictions, targets, num_classes)
    classes = np.arange(count)
    rows = np.reshape(targets, (-1, 1)) == classes
    columns = np.reshape(predicted, (-1, 1)) == classes
    return rows.astype(np.int64).T @ columns.astype(np.int64)


def _classes(
    name: str, predictions: Any, targets: Any, num_classes: int | None
) -> tuple[Any, Any, int]:
    """Predicted classes, those of the targets, and how many there are."""
    predictions, targets = as_array(predictions), as_array(targets)
    if targets.dtype.kind not in "iu":
        raise OperandTypeError(f"{name}: classes must be integers, got {targets.dtype}")
    if predictions.shape == targets.shape:
        if predictions.dtype.kind not in "iu" or num_classes is None:
            raise ArgumentError(
                f"{name}: predictions of the targets' shape are classes: they must be integers, "
                "and num_classes says of how many"
            )
        count = num_classes
        predicted, _ = checked_classes(name, predictions, count)
    else:
        scores, targets = _scores(name, predictions, targets)
        count, predicted = scores.shape[-1], np.argmax(scores, axis=-1)
        if num_classes not in (None, count):
            raise ArgumentError(
                f"{name}: num_classes is {num_classes}, and the scores are those of {count}"
            )
    return predicted, checked_classes(name, targets, count)[0], count


def precision(
    predictions: Any, targets: Any, num_classes: int | None = None, average: Average = "macro"
) -> Any:
    """The share of each class's predictions that are right; 0 for one never predicted.

    Args:
        predictions, targets, num_classes: as for :func:`confusion_matrix`.
        average: ``"macro"``, the mean over the classes that are predicted or have examples, as in
            scikit-learn; ``"micro"``, all predictions counted together, which is the accuracy; or
            ``"none"``, for each class.

    Raises:
        ShapeError, OperandTypeError, IndexRangeError: as for :func:`confusion_matrix`.
        ArgumentError: as there; or an unknown average.

    >>> nn.precision(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 2, "none").round(4)
    array([1.    , 0.6667])
    """
    return _shares("precision", predictions, targets, num_classes, average)


def recall(
    predictions: Any, targets: Any, num_classes: int | None = None, average: Average = "macro"
) -> Any:
    """The share of each class's examples that are predicted so; 0 for one without examples.

    Args, errors: as for :func:`precision`.

    >>> nn.recall(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 2, "none")
    array([0.5, 1. ])
    """
    return _shares("recall", predictions, targets, num_classes, average)


def f1(
    predictions: Any, targets: Any, num_classes: int | None = None, average: Average = "macro"
) -> Any:
    """The harmonic mean of each class's precision and recall; 0 where both are.

    Args, errors: as for :func:`precision`.

    >>> nn.f1(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 2, "none").round(4)
    array([0.6667, 0.8   ])
    """
    return _shares("f1", predictions, targets, num_classes, average)


def _shares(
    name: str, predictions: Any, targets: Any, num_classes: int | None, average: Average
) -> Any:
    if average not in ("macro", "micro", "none"):
        raise ArgumentError(f"{name}: average must be 'macro', 'micro' or 'none', not {average!r}")
    predicted, targets, count = _classes(name, predictions, targets, num_classes)
    matrix = confusion_matrix(predicted, targets, count)
    right: Any = np.diagonal(matrix)
    wholes = {
        "precision": np.sum(matrix, axis=0),
        "recall": np.sum(matrix, axis=1),
        "f1": (np.sum(matrix, axis=0) + np.sum(matrix, axis=1)) / 2,
    }
    whole = wholes[name]
    if average == "micro":
        right, whole = np.sum(right), np.sum(whole)
    shares: Any = fnp.where(whole == 0, 0.0, right / fnp.where(whole == 0, 1, whole))
    if average != "macro":
        return shares
    occurs = np.sum(matrix, axis=0) + np.sum(matrix, axis=1) > 0
    # A class that does not occur has the share 0. Of no examples at all the mean is 0.
    return np.sum(shares) / np.maximum(np.sum(occurs), 1)


class RunningMean(NamedTuple):
    """The mean of values that come one after the other: immutable, and a pytree of arrays.

    Attributes:
        total: the weighted sum of the values.
        weight: the sum of their weights.

    >>> mean = nn.RunningMean()
    >>> for loss, examples in ((0.5, 32), (0.25, 32), (1.0, 16)):
    ...     mean = mean.update(loss, examples)
    >>> float(mean.value)
    0.5
    """

    total: Any = 0.0
    weight: Any = 0.0

    def update(self, value: Any, weight: Any = 1.0) -> RunningMean:
        """The mean with one more value, such as a batch's loss, weighted by the batch's length.

        >>> float(nn.RunningMean().update(2.0).update(4.0).value)
        3.0
        """
        return RunningMean(self.total + value * weight, self.weight + weight)

    @property
    def value(self) -> Any:
        """The mean; 0 of no values."""
        return self.total / fnp.where(self.weight == 0, 1.0, self.weight)
