"""What losses and metrics need: dtypes, shapes, labels, reductions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad_nn._numbers import (
    DOUBLE,
    checked_indices,
    computed_in,
    narrow,
    refuse_complex,
)

Reduction = Literal["mean", "sum", "none"]


def as_array(x: Any) -> Any:
    if hasattr(x, "dtype"):
        return x
    _refuse_pair(x)
    return np.asarray(x)


def _refuse_pair(x: Any) -> None:
    """Raise ArgumentError for what a model's `train` returns, outputs and parameters."""
    match x:
        case (outputs, dict() | tuple()) if hasattr(outputs, "dtype"):
            raise ArgumentError(
                "a pair of outputs and parameters, as model.train returns it, is in the place of "
                "an array. Take the two apart: outputs, params = model.train(params, x, key)."
            )
        case _:
            pass


def as_floats(*values: Any) -> tuple[list[Any], np.dtype[Any]]:
    """Values in the dtype that a loss of them is computed in, and the loss's own.

    Differences and products of small integers would wrap: 0 - 16 is 240 in uint8.
    """
    for value in values:
        _refuse_pair(value)
    # Python's numbers take the dtype of what they meet.
    dtype = np.result_type(*[getattr(v, "dtype", v) for v in values])
    dtype = dtype if dtype.kind in "fc" else DOUBLE
    wide = computed_in(dtype)
    return [narrow(as_array(v), wide) for v in values], dtype


def real_alike(name: str, *values: Any) -> tuple[list[Any], np.dtype[Any]]:
    """Real values of one shape in the dtype to compute in, and the loss's own."""
    for value in values[1:]:
        check_alike(name, values[0], value)
    refuse_complex(name, *values)
    return as_floats(*values)


def check_alike(name: str, predictions: Any, targets: Any) -> None:
    _refuse_pair(predictions)
    found, wanted = np.shape(predictions), np.shape(targets)
    if found != wanted:
        hint = " (y[:, None] adds an axis, x[:, 0] drops one)" if _only_ones(found, wanted) else ""
        raise ShapeError(
            f"{name}: predictions have shape {found} and targets {wanted}; they are compared "
            f"element by element and must be the same{hint}."
        )


def _only_ones(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def check_signs(name: str, targets: Any) -> None:
    """Raise ArgumentError for targets that are not all -1 and 1, where they have values."""
    right: Any = (targets == 1) | (targets == -1)
    if isinstance(right, np.ndarray) and not right.all():
        raise ArgumentError(
            f"{name}: targets must be -1 or 1, and others are among them. From 0 and 1 they are "
            "made by 2 * targets - 1."
        )


def checked_classes(
    name: str, targets: Any, classes: int, ignore_index: int | None = None
) -> tuple[Any, Any]:
    """Classes to index with, and which examples count; None if all do.

    Raises:
        IndexRangeError: a class is out of range and not the one to be ignored.
    """
    counts = None
    if ignore_index is not None:
        counts = targets != ignore_index
        targets = fnp.where(counts, targets, 0)

    def problem(low: Any, high: Any) -> str:
        return _no_class(name, classes, f"they go from {low} to {high}")

    return checked_indices(targets, classes, problem), counts


def _no_class(name: str, classes: int, found: str) -> str:
    return (
        f"{name}: targets must be classes from 0 to {classes - 1}, as the predictions have "
        f"{classes} of them, but {found}. To leave examples out, give them a label of their own "
        "and pass it as ignore_index=, such as -100."
    )


def of_classes(name: str, scores: Any, places: Any) -> Any:
    """The scores of classes that `checked_classes` has given, along the last axis."""
    with fg.index_error(_no_class(name, scores.shape[-1], "{index} is among them")):
        return np.take_along_axis(scores, places, axis=-1)


def class_numbers(count: int) -> Any:
    return np.arange(count)


def checked_weight(name: str, weight: Any, count: int, like: Any) -> Any:
    """Weights of classes in the dtype of what they weigh.

    Raises:
        ShapeError: they are not one for each class.
    """
    weight = as_array(weight)
    refuse_complex(name, weight)
    if weight.shape != (count,):
        raise ShapeError(
            f"{name}: weight must have shape ({count},), one for each class, not {weight.shape}"
        )
    return narrow(weight, like.dtype)


def positive(x: Any) -> Any:
    """The positive part, whose derivative at 0 is 0."""
    return fnp.where(x <= 0, 0, x)


def _unreduced(losses: Any) -> Any:
    return losses


_REDUCTIONS: dict[str, Any] = {"mean": np.mean, "sum": np.sum, "none": _unreduced}


def reduced(
    name: str, losses: Any, reduction: str, dtype: np.dtype[Any], shares: Any = None
) -> Any:
    """The losses reduced and rounded once; their mean is that by the shares, where there are."""
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    if reduction == "mean" and shares is not None:
        return narrow(np.sum(losses) / np.sum(shares), dtype)
    return narrow(_REDUCTIONS[reduction](losses), dtype)
