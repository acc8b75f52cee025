"""Where an image's rows, columns and channels are.

Integers are as files and Pillow have them, (H, W) or (H, W, C); floats as :class:`ToArray` makes
them and layers take them, (H, W) or (C, H, W).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ShapeError

Array = NDArray[Any]


def channels_first(batch: Array) -> bool:
    return batch.dtype.kind == "f"


def planes(name: str, batch: Array) -> Array:
    """A batch as (N, A, H, W, B), where the channels are A or B, and the other is 1.

    Raises:
        ShapeError: the samples are no images of that layout.
    """
    if batch.dtype.kind not in "buif" or batch.ndim not in (3, 4):
        raise ShapeError(
            f"{name} takes images, (H, W) or (H, W, C) of integers or (C, H, W) of floats; a "
            f"sample here is {batch.dtype}{list(batch.shape[1:])}"
        )
    if batch.ndim == 3:
        return batch[:, None, :, :, None]
    first = channels_first(batch)
    count, other = (batch.shape[1], batch.shape[3]) if first else (batch.shape[3], batch.shape[1])
    if count > 4 and other <= 4:
        kind, has, wants = ("floats", "last", "first") if first else ("integers", "first", "last")
        way = (
            "ToArray() makes such ones" if first else "np.moveaxis(images, -3, -1) makes such ones"
        )
        raise ShapeError(
            f"{name} takes images of {kind} with the channels {wants}; a sample here is "
            f"{batch.dtype}{list(batch.shape[1:])}, with the channels {has}. {way}."
        )
    return batch[..., None] if first else batch[:, None]


def restored(result: Array, like: Array) -> Array:
    """What became of :func:`planes`, with the axes of the batch it was made of."""
    if like.ndim == 3:
        return result[:, 0, :, :, 0]
    return result[..., 0] if channels_first(like) else result[:, 0]


def floats(name: str, batch: Array) -> Array:
    """A batch as (N, C, H, W) in floats of its own scale."""
    five = planes(name, batch)
    if channels_first(batch):
        return five[..., 0]
    return np.moveaxis(five[:, 0], -1, 1).astype(np.float32)


def rounded(result: Array, dtype: np.dtype[Any]) -> Array:
    """Floats in a dtype: integers are rounded, and end where it ends."""
    if dtype.kind == "f":
        return np.ascontiguousarray(result, dtype)
    high = np.iinfo(dtype).max if dtype.kind in "iu" else 1
    low = np.iinfo(dtype).min if dtype.kind == "i" else 0
    whole = np.rint(result)
    return np.ascontiguousarray(np.clip(whole, low, high, out=whole), dtype)


def from_floats(result: Array, like: Array) -> Array:
    """Results of computing with :func:`floats` in the dtype and layout of the batch."""
    whole = rounded(result, like.dtype)
    five = whole[..., None] if channels_first(like) else np.moveaxis(whole, 1, -1)[:, None]
    return np.ascontiguousarray(restored(five, like))


def size(name: str, batch: Array) -> tuple[int, int]:
    """Height and width."""
    _, _, height, width, _ = planes(name, batch).shape
    return height, width


def as_integers(value: Any) -> tuple[int, ...]:
    """An integer, or several; nothing if they are none."""
    values: list[Any] = list(value) if np.iterable(value) else [value]
    if not all(isinstance(n, (int, np.integer)) for n in values):
        return ()
    return tuple(int(n) for n in values)
