"""From pictures to what layers take: arrays of floats; labels as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError
from funcgrad_nn._numbers import checked_indices

from .base import Transform
from .layout import channels_first, planes

Array = NDArray[Any]


class ToArray(Transform):
    """Images (H, W) or (H, W, C) as (C, H, W) in float32; bytes become numbers from 0 to 1.

    What PyTorch's ``ToTensor`` does. It takes pictures of Pillow's and arrays; of other dtypes than
    uint8 the values stay as they are.

    >>> ToArray()(np.array([[[255, 0, 51]]], np.uint8)).ravel()
    array([1. , 0. , 0.2], dtype=float32)
    >>> ToArray()(np.zeros((28, 28), np.uint8)).shape
    (1, 28, 28)
    """

    def apply(self, states: Any, batch: Array) -> Array:
        if batch.ndim not in (3, 4) or batch.dtype.kind not in "buif":
            raise ShapeError(
                f"ToArray takes images (H, W) or (H, W, C); a sample here is "
                f"{batch.dtype}{list(batch.shape[1:])}"
            )
        first = batch[:, None] if batch.ndim == 3 else np.moveaxis(batch, -1, 1)
        result = np.empty(first.shape, np.float32)
        # Copying pixel by pixel would have inner loops as short as there are channels.
        for channel in range(first.shape[1]):
            result[:, channel] = first[:, channel]
        if batch.dtype == np.uint8:
            result /= np.float32(255)
        return result


class Normalize(Transform):
    """Subtract a mean and divide by a standard deviation, by channel.

    Args:
        mean: a number, or one for each channel.
        std: likewise; not 0.

    Raises:
        ArgumentError: a standard deviation is 0.
        OperandTypeError: the images are integers.
        ShapeError: there are other channels than numbers.

    >>> Normalize([0.5, 0.25], [0.5, 0.25])(np.ones((2, 1, 1), np.float32)).ravel()
    array([1., 3.], dtype=float32)
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = mean, std
        self._mean, self._std = (np.asarray(value, np.float64).ravel() for value in (mean, std))
        if not (self._std != 0).all():
            raise ArgumentError(f"Normalize: std must not be 0, got {std!r}")

    def apply(self, states: Any, batch: Array) -> Array:
        return self.apply_to_own(states, batch.copy())

    def apply_to_own(self, states: Any, batch: Array) -> Array:
        if not channels_first(batch):
            raise OperandTypeError(
                f"Normalize takes floats, not {batch.dtype}: put ToArray() before it"
            )
        channels = planes("Normalize", batch).shape[1]
        for option, values in (("mean", self._mean), ("std", self._std)):
            if len(values) not in (1, channels):
                raise ShapeError(
                    f"Normalize has {len(values)} numbers for {option}, but a sample here has "
                    f"{channels} channels: its shape is {batch.shape[1:]}"
                )
        shape = (-1, 1, 1) if batch.ndim == 4 else (-1, 1)
        batch -= self._mean.astype(batch.dtype).reshape(shape)
        batch /= self._std.astype(batch.dtype).reshape(shape)
        return batch


class OneHot(Transform):
    """Labels as rows with a 1 at the label's place.

    Args:
        num_classes: how many classes there are.

    Raises:
        IndexRangeError: a label is negative or not less than `num_classes`.
        OperandTypeError: labels are no integers.

    >>> OneHot(3)(2)
    array([0., 0., 1.], dtype=float32)
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def apply(self, states: Any, batch: Array) -> Array:
        return one_hot_rows("OneHot", batch, self.num_classes)


def one_hot_rows(name: str, labels: Array, num_classes: int) -> Array:
    if labels.dtype.kind not in "iu":
        raise OperandTypeError(f"{name} takes labels that are integers, not {labels.dtype}")
    checked_indices(
        labels,
        num_classes,
        lambda low, high: (
            f"{name}: labels must be from 0 to {num_classes - 1}, as there are {num_classes} "
            f"classes; here they are from {low} to {high}"
        ),
    )
    rows = np.zeros((*labels.shape, num_classes), np.float32)
    np.put_along_axis(rows, labels[..., None].astype(np.intp), 1, axis=-1)
    return rows
