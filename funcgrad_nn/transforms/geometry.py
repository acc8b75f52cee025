"""Transforms that move pixels: crops, flips, borders, rotations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ArgumentError, ShapeError
from funcgrad_nn._numbers import checked

from . import layout
from .base import Transform
from .keys import integers, uniform
from .resampling import resample_boxes

Array = NDArray[Any]
Size = int | tuple[int, int]
PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]

_MODES = ("constant", "edge", "reflect", "symmetric")


def as_size(name: str, size: Any) -> tuple[int, int]:
    """(height, width) of one number or two.

    Raises:
        ArgumentError: they are no positive integers.
    """
    numbers = layout.as_integers(size)
    pair = numbers * 2 if len(numbers) == 1 and not np.iterable(size) else numbers
    if len(pair) != 2 or min(pair) < 1:
        raise ArgumentError(f"{name}: size must be a positive integer or two, not {size!r}")
    return pair[0], pair[1]


def as_borders(name: str, padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of one number, (horizontal, vertical), or all four."""
    numbers = layout.as_integers(padding)
    if len(numbers) not in (1, 2, 4) or min(numbers) < 0:
        raise ArgumentError(
            f"{name}: padding must be a non-negative integer, (horizontal, vertical) or "
            f"(left, top, right, bottom), not {padding!r}"
        )
    left, top, right, bottom = (numbers * 4)[:4]
    return (left, top, left, top) if len(numbers) == 2 else (left, top, right, bottom)


def _checked_mode(name: str, mode: str) -> str:
    if mode not in _MODES:
        raise ArgumentError(f"{name}: padding_mode must be one of {_MODES}, not {mode!r}")
    return mode


def _padded(name: str, x: Array, borders: Sequence[int], mode: str, fill: float) -> Array:
    """(N, A, H, W, B) with borders around it."""
    left, top, right, bottom = borders
    if not any(borders):
        return x
    height, width = x.shape[2:4]
    if mode == "constant":
        shape = (*x.shape[:2], height + top + bottom, width + left + right, x.shape[4])
        result = np.full(shape, fill, x.dtype) if fill else np.zeros(shape, x.dtype)
        result[:, :, top : top + height, left : left + width] = x
        return result
    for axis, length, before, after in ((2, height, top, bottom), (3, width, left, right)):
        limit = length - (mode == "reflect")
        if mode in ("reflect", "symmetric") and max(before, after) > limit:
            raise ShapeError(
                f"{name}: padding of {max(before, after)} in mode {mode!r} needs images larger "
                f"than that; these are of {height}×{width}"
            )
        pad: Any = np.pad
        source = pad(np.arange(length), (before, after), mode)
        x = x.take(source, axis=axis)
    return x


class Pad(Transform):
    """Add borders.

    Args:
        padding: for all sides; or (horizontal, vertical); or (left, top, right, bottom).
        fill: the value of constant borders.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``, as in
            ``np.pad``.

    >>> Pad(1, padding_mode="reflect")(np.array([[1, 2], [3, 4]], np.uint8))
    array([[4, 3, 4, 3],
           [2, 1, 2, 1],
           [4, 3, 4, 3],
           [2, 1, 2, 1]], dtype=uint8)
    """

    def __init__(
        self,
        padding: int | Sequence[int],
        fill: float = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        self.padding, self.fill = padding, fill
        self.padding_mode = _checked_mode("Pad", padding_mode)
        self._borders = as_borders("Pad", padding)

    def apply(self, states: Any, batch: Array) -> Array:
        x = layout.planes("Pad", batch)
        result = _padded("Pad", x, self._borders, self.padding_mode, self.fill)
        return layout.restored(result, batch)


class CenterCrop(Transform):
    """The middle of images; where they are smaller than that, zeros around them.

    Args:
        size: height and width, or one number for both.

    >>> CenterCrop(2)(np.arange(16, dtype=np.uint8).reshape(4, 4))
    array([[ 5,  6],
           [ 9, 10]], dtype=uint8)
    """

    def __init__(self, size: Size) -> None:
        self.size = as_size("CenterCrop", size)

    def apply(self, states: Any, batch: Array) -> Array:
        x = layout.planes("CenterCrop", batch)
        lacking = [max(0, new - old) for new, old in zip(self.size, x.shape[2:4], strict=True)]
        top, left = (n // 2 for n in lacking)
        borders = (left, top, lacking[1] - left, lacking[0] - top)
        x = _padded("CenterCrop", x, borders, "constant", 0)
        height, width = self.size
        top, left = ((old - new + 1) // 2 for new, old in zip(self.size, x.shape[2:4], strict=True))
        return layout.restored(x[:, :, top : top + height, left : left + width], batch)


class RandomCrop(Transform):
    """A part of each image, at a random place.

    Args:
        size: height and width, or one number for both.
        padding: borders that are added before, as in :class:`Pad`.
        fill: the value of constant borders.
        padding_mode: what is in the borders, as in :class:`Pad`.

    Raises:
        ShapeError: the images with their borders are smaller than `size`.

    >>> crop = RandomCrop(32, padding=4, padding_mode="reflect")
    >>> crop(fg.random.key(0), np.zeros((32, 32, 3), np.uint8)).shape
    (32, 32, 3)
    """

    random = True

    def __init__(
        self,
        size: Size,
        padding: int | Sequence[int] = 0,
        fill: float = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        self.size, self.padding, self.fill = as_size("RandomCrop", size), padding, fill
        self.padding_mode = _checked_mode("RandomCrop", padding_mode)
        self._borders = as_borders("RandomCrop", padding)

    def apply(self, states: Any, batch: Array) -> Array:
        x = layout.planes("RandomCrop", batch)
        x = _padded("RandomCrop", x, self._borders, self.padding_mode, self.fill)
        (rows, columns), (height, width) = x.shape[2:4], self.size
        if rows < height or columns < width:
            raise ShapeError(
                f"RandomCrop({height}, {width}) of images that are {rows}×{columns} with their "
                "borders: Resize them or give more padding"
            )
        u = uniform(states, 2)
        tops, lefts = integers(u[:, 0], 0, rows - height), integers(u[:, 1], 0, columns - width)
        return layout.restored(_windows(x, tops, lefts, height, width), batch)


def _windows(x: Array, tops: Array, lefts: Array, height: int, width: int) -> Array:
    """From each of (N, A, H, W, B) the window at its own place."""
    x = np.ascontiguousarray(x)
    n, a, rows, columns, b = x.shape
    sn, sa, sr, sc, _ = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x,
        (n, rows - height + 1, columns - width + 1, a, height, width * b),
        (sn, sr, sc, sa, sr, x.itemsize),
        writeable=False,
    )
    return windows[np.arange(n), tops, lefts].reshape(n, a, height, width, b)


class _RandomFlip(Transform):
    random = True
    _axis = 0

    def __init__(self, p: float = 0.5) -> None:
        self.p = checked(type(self).__name__, "p", p, 0, 1)

    def apply(self, states: Any, batch: Array) -> Array:
        return self.apply_to_own(states, np.array(batch, order="C"))

    def apply_to_own(self, states: Any, batch: Array) -> Array:
        x = layout.planes(type(self).__name__, batch)
        (chosen,) = np.nonzero(uniform(states, 1)[:, 0] < self.p)
        some = x[chosen]
        turned = np.empty_like(some)
        # Copying pixel by pixel would have inner loops as short as there are channels.
        for channel in range(x.shape[4]):
            turned[..., channel] = np.flip(some[..., channel], self._axis)
        x[chosen] = turned
        return batch


class RandomHorizontalFlip(_RandomFlip):
    """Left and right exchanged, of each image with probability `p`.

    >>> RandomHorizontalFlip(p=1.0)(fg.random.key(0), np.array([[1, 2, 3]], np.uint8))
    array([[3, 2, 1]], dtype=uint8)
    """

    _axis = 3


class RandomVerticalFlip(_RandomFlip):
    """Top and bottom exchanged, of each image with probability `p`.

    >>> RandomVerticalFlip(p=1.0)(fg.random.key(0), np.array([[1], [2]], np.uint8)).ravel()
    array([2, 1], dtype=uint8)
    """

    _axis = 2


class RandomRotation(Transform):
    """Each image turned about its middle by a random angle.

    Args:
        degrees: counterclockwise angles are drawn between these two; one number stands for
            ``(-degrees, degrees)``.
        interpolation: ``"nearest"`` or ``"bilinear"``.
        fill: what is where the image does not reach.

    >>> RandomRotation((90, 90))(fg.random.key(0), np.array([[1, 2], [3, 4]], np.uint8))
    array([[2, 4],
           [1, 3]], dtype=uint8)
    """

    random = True

    def __init__(
        self,
        degrees: float | tuple[float, float],
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        fill: float = 0,
    ) -> None:
        low, high = (-degrees, degrees) if isinstance(degrees, (int, float)) else degrees
        if low > high:
            raise ArgumentError(f"RandomRotation: degrees must be (low, high), not {degrees!r}")
        if interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(
                "RandomRotation: interpolation must be 'nearest' or 'bilinear', not "
                f"{interpolation!r}"
            )
        self.degrees, self.interpolation, self.fill = (low, high), interpolation, fill

    def apply(self, states: Any, batch: Array) -> Array:
        low, high = self.degrees
        angles = np.radians(low + (high - low) * uniform(states, 1)[:, :, None])
        height, width = layout.size("RandomRotation", batch)
        dy = np.arange(height)[:, None] - (height - 1) / 2
        dx = np.arange(width) - (width - 1) / 2
        cos, sin = np.cos(angles), np.sin(angles)
        # Angles such as 90° would otherwise miss a pixel's middle by a rounding error.
        ys = np.round(dx * sin + dy * cos + (height - 1) / 2, 9)
        xs = np.round(dx * cos - dy * sin + (width - 1) / 2, 9)
        if self.interpolation == "nearest":
            x = layout.planes("RandomRotation", batch)
            rows, columns = (np.floor(v + 0.5).astype(np.intp) for v in (ys, xs))
            return layout.restored(_picked(x, rows, columns, self.fill), batch)
        image = layout.floats("RandomRotation", batch)[..., None]
        top, left = np.floor(ys).astype(np.intp), np.floor(xs).astype(np.intp)
        down, right = ys - top, xs - left
        total: Any = 0
        for row, vertical in ((top, 1 - down), (top + 1, down)):
            for column, horizontal in ((left, 1 - right), (left + 1, right)):
                weight = (vertical * horizontal)[:, None, :, :, None].astype(np.float32)
                total = total + weight * _picked(image, row, column, self.fill)
        return layout.from_floats(total[..., 0], batch)


def _picked(x: Array, rows: Array, columns: Array, fill: float) -> Array:
    """(N, A, h, w, B): the pixels of (N, A, H, W, B) at (N, h, w) rows and columns."""
    height, width = x.shape[2:4]
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    samples = np.arange(len(x))[:, None, None]
    picked = x[samples, :, rows.clip(0, height - 1), columns.clip(0, width - 1)]
    picked[outside] = fill
    return np.ascontiguousarray(np.moveaxis(picked, 3, 1))


def random_boxes(
    u: Array,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Array, Array]:
    """Heights and widths (n, tries) of boxes of random area and shape, and which of them fit.

    `u` are numbers in [0, 1) of shape (n, 2 tries).
    """
    height, width = size
    tries = u.shape[1] // 2
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :tries])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * u[:, tries:])
    heights = np.rint(np.sqrt(area / shape)).astype(np.intp)
    widths = np.rint(np.sqrt(area * shape)).astype(np.intp)
    fits = (heights > 0) & (widths > 0) & (heights <= height) & (widths <= width)
    return np.stack([heights, widths], axis=-1), fits


TRIES = 10


class RandomResizedCrop(Transform):
    """A random part of each image, of random area and shape, resized to one size.

    Args:
        size: height and width of the result, or one number for both.
        scale: bounds of the part's area, as fractions of the image's.
        ratio: bounds of the part's width divided by its height.
        interpolation: ``"bilinear"`` or ``"bicubic"``, as in :class:`Resize`.

    Where ten boxes that are drawn for an image do not fit into it, its middle is taken.

    >>> crop = RandomResizedCrop(24)
    >>> crop(fg.random.key(0), np.zeros((40, 60, 3), np.uint8)).shape
    (24, 24, 3)
    """

    random = True

    def __init__(
        self,
        size: Size,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        self.size = as_size("RandomResizedCrop", size)
        self.scale, self.ratio = checked_range("RandomResizedCrop", scale=scale, ratio=ratio)
        self.interpolation = interpolation

    def apply(self, states: Any, batch: Array) -> Array:
        x = layout.planes("RandomResizedCrop", batch)
        height, width = x.shape[2:4]
        u = uniform(states, 2 * TRIES + 2)
        boxes, fits = random_boxes(u[:, 2:], (height, width), self.scale, self.ratio)
        low, high = self.ratio
        shape = min(max(width / height, low), high)
        middle = np.array([min(height, round(width / shape)), min(width, round(height * shape))])
        chosen = boxes[np.arange(len(boxes)), fits.argmax(axis=1)]
        some: Any = fits.any(axis=1)
        chosen = np.where(some[:, None], chosen, middle)
        room = np.array([height, width]) - chosen
        corners = np.where(some[:, None], (u[:, :2] * (room + 1)).astype(np.intp), room // 2)
        result = resample_boxes(x, corners, chosen, self.size, self.interpolation)
        return layout.restored(layout.rounded(result, batch.dtype), batch)


def checked_range(name: str, **ranges: tuple[float, float]) -> list[tuple[float, float]]:
    """Pairs (low, high) of positive numbers.

    Raises:
        ArgumentError: one is none.
    """
    for option, pair in ranges.items():
        if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
            raise ArgumentError(f"{name}: {option} must be (low, high), not {pair!r}")
    return list(ranges.values())
