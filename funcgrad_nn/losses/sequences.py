"""The loss of sequences without alignment: CTC."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import OperandTypeError, ShapeError
from funcgrad_nn._numbers import checked_indices, refuse_complex

from ._common import Reduction, as_array, as_floats, checked_classes, of_classes, reduced

__all__ = ["ctc"]


def ctc(
    log_probs: Any,
    targets: Any,
    input_lengths: Any = None,
    target_lengths: Any = None,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: Reduction = "mean",
) -> Any:
    """Connectionist temporal classification: minus the log-probability of a sequence of labels.

    That is the sum over all alignments: labels may be held for several steps, and blanks come
    before, after, and between them, in any case between equal ones. A. Graves et al. (2006),
    *Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent
    Neural Networks*; as PyTorch's ``ctc_loss``, but with the batch's axis first.

    Args:
        log_probs: logarithms of probabilities, shape ``(batch, steps, classes)``; see
            :func:`log_softmax`.
        targets: labels, integers of shape ``(batch, length)``. What stands behind an example's
            length may be anything.
        input_lengths: how many steps of each example count, shape ``(batch,)``; by default all.
        target_lengths: how many labels, likewise.
        blank: the class that stands for no label.
        zero_infinity: whether the loss is 0 where no alignment is possible, and infinite otherwise;
            its derivative is 0 there in both cases.
        reduction: of the losses of shape ``(batch,)``: ``"sum"``, ``"none"``, or ``"mean"``, for
            which each is divided by its number of labels first.

    Raises:
        ShapeError: the shapes do not fit.
        OperandTypeError: labels or lengths are no integers; complex numbers.
        IndexRangeError: a label or length is out of range; labels under ``fg.jit`` too.
        ArgumentError: an unknown reduction.

    >>> x = np.log(np.full((1, 3, 2), 0.5))
    >>> np.exp(-nn.ctc(x, np.array([[1]]), reduction="sum")).round(4)
    np.float64(0.75)
    """
    name, targets = "ctc", as_array(targets)
    refuse_complex(name, log_probs)
    (scores,), dtype = as_floats(log_probs)
    if scores.ndim != 3 or targets.ndim != 2 or targets.shape[0] != scores.shape[0]:
        raise ShapeError(
            f"{name}: takes log-probabilities of shape (batch, steps, classes) and labels of shape "
            f"(batch, length), got {scores.shape} and {targets.shape}"
        )
    batch, steps, classes = scores.shape
    length = targets.shape[1]
    if targets.dtype.kind not in "iu":
        raise OperandTypeError(f"{name}: labels must be integers, got {targets.dtype}")
    steps_of = _lengths(name, "input_lengths", input_lengths, batch, steps)
    length_of = _lengths(name, "target_lengths", target_lengths, batch, length)
    labels = fnp.where(np.arange(length) < length_of[:, None], targets, blank)
    labels, _ = checked_classes(name, labels, classes)
    losses = -_log_likelihood(name, scores, labels, steps_of, length_of, blank)
    if zero_infinity:
        losses = fnp.where(losses == np.inf, 0, losses)
    if reduction == "mean":
        losses = losses / np.maximum(length_of, 1).astype(losses.dtype)
    return reduced(name, losses, reduction, dtype)


def _lengths(name: str, option: str, lengths: Any, batch: int, most: int) -> Any:
    if lengths is None:
        return np.full(batch, most)
    lengths = as_array(lengths)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise ShapeError(
            f"{name}: {option} must be integers of shape ({batch},), got {lengths.dtype} of shape "
            f"{lengths.shape}"
        )
    return checked_indices(
        lengths,
        most + 1,
        lambda low, high: (
            f"{name}: {option} must be from 0 to {most}, but they go from {low} to {high}"
        ),
    )


def _log_likelihood(
    name: str, scores: Any, labels: Any, steps_of: Any, length_of: Any, blank: int
) -> Any:
    """The log-probability of each example's labels, -inf where it is 0."""
    batch, length = labels.shape
    # A blank, then each label with a blank behind it.
    spaced = np.stack([labels, np.full((batch, length), blank)], axis=-1)
    states = np.concatenate(
        [np.full((batch, 1), blank), np.reshape(spaced, (batch, 2 * length))], axis=1
    )
    before = np.concatenate([np.full((batch, 2), blank), states[:, :-2]], axis=1)
    # A blank may be left out between labels that differ.
    jumps = ((states != blank) & (states != before))[:, : 2 * length + 1]
    emitted = of_classes(name, scores, states[:, None, :])

    def shifted(paths: Any, by: int) -> Any:
        none = np.full((batch, by), -np.inf, scores.dtype)
        return np.concatenate([none, paths], axis=1)[:, : 2 * length + 1]

    def step(paths: Any, now: Any) -> tuple[Any, None]:
        time, emission = now
        jumped = fnp.where(jumps, shifted(paths, 2), -np.inf)
        grown = _log_sum(paths, shifted(paths, 1), jumped) + emission
        first = fnp.where(np.arange(2 * length + 1) < 2, emission, -np.inf)
        grown = fnp.where(time == 0, first, grown)
        return fnp.where((time < steps_of)[:, None], grown, paths), None

    start = np.full((batch, 2 * length + 1), -np.inf, scores.dtype)
    # Without any step, only no labels are possible.
    start = fnp.where((steps_of == 0)[:, None] & (np.arange(2 * length + 1) == 0), 0, start)
    paths, _ = fg.scan(step, start, (np.arange(emitted.shape[1]), np.moveaxis(emitted, 1, 0)))
    last = 2 * length_of[:, None]
    in_blank = np.take_along_axis(paths, last, axis=1)[:, 0]
    in_label = np.take_along_axis(paths, np.maximum(last - 1, 0), axis=1)[:, 0]
    return _log_sum(in_blank, fnp.where(length_of > 0, in_label, -np.inf))


def _log_sum(*parts: Any) -> Any:
    """log(sum(exp)), with derivatives of 0 where all are -inf."""
    top = parts[0]
    for part in parts[1:]:
        top = np.maximum(top, part)
    top = fg.stop_gradient(fnp.where(np.isfinite(top), top, 0))
    total: Any = sum(np.exp(part - top) for part in parts)
    some = total > 0
    return fnp.where(some, np.log(fnp.where(some, total, 1)) + top, -np.inf)
