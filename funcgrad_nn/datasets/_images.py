"""What is common to datasets of images that are kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from funcgrad.errors import ArgumentError
from funcgrad_nn.data import ArrayDataset, TransformedDataset

Split = Literal["train", "test"]


def checked_split(split: str) -> None:
    """Raise ValueError for what is no split."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")


def image_dataset(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    classes: Sequence[str],
    dtype: DTypeLike,
    transform: Callable[..., Any] | None,
    target_transform: Callable[..., Any] | None,
) -> ArrayDataset | TransformedDataset:
    """A dataset of images (n, H, W) or (n, H, W, C) in uint8.

    With a transform they stay that; else they become of a dtype: floats are (n, C, H, W), from 0
    to 1.

    Raises:
        ArgumentError: the dtype is another.
    """
    labels = labels.astype(np.int64)
    if transform is not None:
        plain = ArrayDataset(images, labels, classes=classes)
        return TransformedDataset(plain, transform, target_transform)
    kind = np.dtype(dtype)
    if kind == np.float32:
        first = images if images.ndim == 3 else np.moveaxis(images, -1, 1)
        floats = np.empty(first.shape, np.float32)
        np.divide(first, np.float32(255), out=floats)
        made = ArrayDataset(floats, labels, classes=classes)
    elif kind == np.uint8:
        made = ArrayDataset(images, labels, classes=classes)
    else:
        raise ArgumentError(f"dtype must be np.float32 or np.uint8, not {kind}")
    return made if target_transform is None else TransformedDataset(made, None, target_transform)
