"""Images of other sizes, by weighted means along each axis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ArgumentError

from . import layout
from .base import Transform

Array = NDArray[Any]
Interpolation = Literal["nearest", "bilinear", "bicubic"]


def _triangle(x: Array) -> Array:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: Array) -> Array:
    # R. Keys (1981), "Cubic convolution interpolation for digital image processing", a = -1/2.
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


# What is computed at a time stays in a processor's cache.
_BLOCK_ELEMENTS = 1 << 15

_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}


def _taps(
    starts: Array, lengths: Array, size: int, interpolation: str
) -> tuple[list[Array], list[Array]]:
    """Which pixels new ones are means of, and their weights: for each tap, (n, size) of both.

    The `size` new pixels cover the `lengths` (n,) old ones from `starts` (n,) on. Where they are
    fewer, each is a mean over all that it covers, as in Pillow, so that fine patterns do not turn
    into coarse ones.
    """
    kernel, support = _KERNELS[interpolation]
    starts, lengths = starts[:, None], lengths[:, None]
    scale = lengths / size
    width = np.maximum(scale, 1.0)
    centers = (np.arange(size) + 0.5) * scale
    low = np.maximum(np.floor(centers - support * width + 0.5).astype(np.intp), 0)
    high = np.minimum(np.floor(centers + support * width + 0.5).astype(np.intp), lengths)
    places = [low + tap for tap in range(int((high - low).max()))]
    raw = [np.where(at < high, kernel((at + 0.5 - centers) / width), 0.0) for at in places]
    # One after the other: then more taps, of weight 0, change no bit.
    total = sum(raw[1:], raw[0])
    indices = [np.minimum(at, lengths - 1) + starts for at in places]
    return indices, [(weight / total).astype(np.float32) for weight in raw]


def _resampled(x: Array, taps: tuple[list[Array], list[Array]]) -> Array:
    """(m, size, k) in floats: the means of rows of (m, length, k)."""
    indices, weights = taps
    (m, _, k), size = x.shape, indices[0].shape[1]
    result = np.empty((m, size, k), np.promote_types(x.dtype, np.float32))
    block = max(1, _BLOCK_ELEMENTS // max(1, m * k))
    rows: Array = np.arange(int(m)).reshape(-1, 1)
    for start in range(0, size, block):
        part = slice(start, start + block)
        for tap, (index, weight) in enumerate(zip(indices, weights, strict=True)):
            index = index[:, part]
            picked = x.take(index[0], axis=1) if len(index) == 1 else x[rows, index]
            counted = picked * weight[:, part, None]
            if tap:
                result[:, part] += counted
            else:
                result[:, part] = counted
    return result


def resample_boxes(
    x: Array, corners: Array, boxes: Array, size: tuple[int, int], interpolation: str
) -> Array:
    """From each of (N, A, H, W, B) a box, resized, as (N, A, *size, B) in floats.

    Args:
        corners: (N, 2) or (1, 2), the first row and column.
        boxes: likewise, the height and width.
    """
    if interpolation not in _KERNELS:
        raise ArgumentError(
            f"interpolation must be one of {tuple(_KERNELS)}, not {interpolation!r}"
        )
    n, a, height, width, b = x.shape
    if len(corners) > 1:
        corners, boxes = np.repeat(corners, a, axis=0), np.repeat(boxes, a, axis=0)
    rows = _taps(corners[:, 0], boxes[:, 0], size[0], interpolation)
    columns = _taps(corners[:, 1], boxes[:, 1], size[1], interpolation)
    # Each pass is over rows that lie in memory as one.
    short = _resampled(x.reshape(n * a, height, width * b), rows)
    turned = np.ascontiguousarray(short.reshape(n * a, size[0], width, b).swapaxes(1, 2))
    narrow = _resampled(turned.reshape(n * a, width, size[0] * b), columns)
    return narrow.reshape(n, a, size[1], size[0], b).swapaxes(2, 3)


class Resize(Transform):
    """Images of another size.

    Args:
        size: (height, width); or one number, the length of the shorter side, with the longer one
            in proportion.
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``. Smaller images are means
            over all pixels, as Pillow makes them (but with ``"nearest"``).

    >>> Resize((1, 2))(np.array([[0, 100, 0, 0], [0, 100, 80, 0]], np.uint8))
    array([[49, 31]], dtype=uint8)
    >>> Resize(8)(np.zeros((16, 32, 3), np.uint8)).shape
    (8, 16, 3)
    """

    def __init__(
        self, size: int | tuple[int, int], interpolation: Interpolation = "bilinear"
    ) -> None:
        numbers = layout.as_integers(size)
        if len(numbers) not in (1, 2) or min(numbers) < 1:
            raise ArgumentError(f"Resize: size must be a positive integer or two, not {size!r}")
        if interpolation not in ("nearest", *_KERNELS):
            raise ArgumentError(
                f"Resize: interpolation must be one of {('nearest', *_KERNELS)}, not "
                f"{interpolation!r}"
            )
        self.size, self.interpolation = size, interpolation
        self._numbers = numbers

    def apply(self, states: Any, batch: Array) -> Array:
        old = layout.size("Resize", batch)
        if len(self._numbers) == 2:
            new = self._numbers[0], self._numbers[1]
        else:
            (short,) = self._numbers
            height, width = (max(1, int(short * n / min(old))) for n in old)
            new = (height, width)
        if new == old:
            return batch
        if self.interpolation == "nearest":
            x = layout.planes("Resize", batch)
            for axis in (0, 1):
                source = ((np.arange(new[axis]) + 0.5) * (old[axis] / new[axis])).astype(np.intp)
                x = x.take(source, axis=axis + 2)
            return layout.restored(x, batch)
        x = layout.planes("Resize", batch)
        corner, box = np.zeros((1, 2), np.intp), np.array([old])
        result = resample_boxes(x, corner, box, new, self.interpolation)
        return layout.restored(layout.rounded(result, batch.dtype), batch)
