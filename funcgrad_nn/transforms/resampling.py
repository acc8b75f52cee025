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


_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}


def weights(starts: Array, lengths: Array, size: int, total: int, interpolation: str) -> Array:
    """(n, size, total): what each of `total` pixels counts in each of `size` new ones.

    The new ones cover the `lengths` pixels from `starts` on. Where they are fewer, each is a mean
    over all that it covers, as in Pillow, so that fine patterns do not turn into coarse ones.
    """
    kernel, support = _KERNELS[interpolation]
    scale = (lengths / size)[:, None, None]
    width = np.maximum(scale, 1.0)
    centers = (np.arange(size) + 0.5)[:, None] * scale
    positions = np.arange(total) - starts[:, None, None] + 0.5
    inside = (positions > 0) & (positions < lengths[:, None, None])
    near = np.abs(positions - centers) < support * width
    result = np.where(inside & near, kernel((positions - centers) / width), 0.0)
    return (result / result.sum(axis=2, keepdims=True)).astype(np.float32)


def resample_boxes(
    image: Array, corners: Array, boxes: Array, size: tuple[int, int], interpolation: str
) -> Array:
    """From each of (N, C, H, W) a box, resized.

    Args:
        corners: (N, 2) or (1, 2), the first row and column.
        boxes: likewise, the height and width.
    """
    if interpolation not in _KERNELS:
        raise ArgumentError(
            f"interpolation must be one of {tuple(_KERNELS)}, not {interpolation!r}"
        )
    height, width = image.shape[2:]
    rows = weights(corners[:, 0], boxes[:, 0], size[0], height, interpolation)[:, None]
    columns = weights(corners[:, 1], boxes[:, 1], size[1], width, interpolation)[:, None]
    image = np.ascontiguousarray(image, np.promote_types(image.dtype, np.float32))
    return rows @ image @ np.ascontiguousarray(columns.swapaxes(2, 3))


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
        image = layout.floats("Resize", batch)
        corner, box = np.zeros((1, 2), np.intp), np.array([old])
        result = resample_boxes(image, corner, box, new, self.interpolation)
        return layout.from_floats(result, batch)
