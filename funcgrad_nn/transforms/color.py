"""Transforms that change pixels where they are: colours, erased parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ArgumentError, ShapeError
from funcgrad_nn._numbers import checked

from . import layout
from .base import Transform
from .geometry import TRIES, checked_range, random_boxes
from .keys import uniform

Array = NDArray[Any]

# ITU-R BT.601: how bright red, green and blue are.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue changed at random, in this order.

    Args:
        brightness: factors are drawn between ``max(0, 1 - brightness)`` and ``1 + brightness``,
            or between the two numbers of a pair.
        contrast: likewise; 0 makes an image of its mean grey.
        saturation: likewise; 0 makes an image grey.
        hue: shifts of hue, in turns of the colour wheel, are drawn from -hue to hue (at most 0.5),
            or between the two numbers of a pair.

    PyTorch draws the order as well. Images of one channel keep saturation and hue.

    >>> jitter = ColorJitter(brightness=(0.5, 0.5))
    >>> jitter(fg.random.key(0), np.array([[[200, 100, 0]]], np.uint8))
    array([[[100,  50,   0]]], dtype=uint8)
    """

    random = True

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0,
        contrast: float | tuple[float, float] = 0,
        saturation: float | tuple[float, float] = 0,
        hue: float | tuple[float, float] = 0,
    ) -> None:
        self.brightness = _factors("brightness", brightness, 1, np.inf)
        self.contrast = _factors("contrast", contrast, 1, np.inf)
        self.saturation = _factors("saturation", saturation, 1, np.inf)
        self.hue = _factors("hue", hue, 0, 0.5)

    def apply(self, states: Any, batch: Array) -> Array:
        top = np.float32(np.iinfo(batch.dtype).max if batch.dtype.kind in "iu" else 1)
        image = layout.floats("ColorJitter", batch)
        if image.shape[1] not in (1, 3):
            raise ShapeError(
                f"ColorJitter takes images of one channel or three, not {image.shape[1]}"
            )
        ranges = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        low, high = ranges.T
        drawn = (low + (high - low) * uniform(states, 4)).astype(np.float32)
        brightness, contrast, saturation, hue = drawn.T[:, :, None, None, None]
        if self.brightness != (1, 1):
            image = np.clip(image * brightness, 0, top)
        if self.contrast != (1, 1):
            mean = _grey(image).mean(axis=(1, 2, 3), keepdims=True)
            image = np.clip(mean + contrast * (image - mean), 0, top)
        if image.shape[1] == 3 and self.saturation != (1, 1):
            grey = _grey(image)
            image = np.clip(grey + saturation * (image - grey), 0, top)
        if image.shape[1] == 3 and self.hue != (0, 0):
            image = _hue_shifted(image / top, hue[:, 0]) * top
        return layout.from_floats(image, batch)


def _factors(
    option: str, value: float | tuple[float, float], center: float, limit: float
) -> tuple[float, float]:
    if isinstance(value, tuple):
        low, high = value
        if not (-limit if center == 0 else 0) <= low <= high <= limit:
            raise ArgumentError(f"ColorJitter: {option} must be (low, high), not {value!r}")
        return float(low), float(high)
    number = checked("ColorJitter", option, value, 0, limit)
    return (max(0.0, 1 - number) if center else -number, center + number)


def _grey(image: Array) -> Array:
    if image.shape[1] == 1:
        return image
    return (image * _LUMA.astype(image.dtype)).sum(axis=1, keepdims=True)


def _hue_shifted(image: Array, shift: Array) -> Array:
    """(N, 3, H, W) from 0 to 1, with hues moved by (N, 1, 1) turns."""
    red, green, blue = image[:, 0], image[:, 1], image[:, 2]
    value, least = image.max(axis=1), image.min(axis=1)
    chroma = value - least
    some = np.where(chroma == 0, 1, chroma)
    sixth = np.where(
        value == red,
        (green - blue) / some,
        np.where(value == green, (blue - red) / some + 2, (red - green) / some + 4),
    )
    sixth = (sixth + 6 * shift) % 6
    # A channel is as far from the largest as its place on the wheel is from the hue
    # (A. R. Smith (1978), "Color gamut transform pairs").
    channels = [(n + sixth) % 6 for n in (5, 3, 1)]
    return np.stack([value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1) for k in channels], 1)


class RandomErasing(Transform):
    """With probability `p`, a random box of an image becomes one value.

    Args:
        p: the probability.
        scale: bounds of the box's area, as fractions of the image's.
        ratio: bounds of the box's width divided by its height.
        value: a number, or one for each channel.

    Source: Z. Zhong et al. (2017), *Random Erasing Data Augmentation*,
    https://arxiv.org/abs/1708.04896.

    >>> erase = RandomErasing(p=1.0)
    >>> erased = erase(fg.random.key(0), np.ones((3, 32, 32), np.float32))
    >>> bool(0.02 * 0.8 < (erased == 0).mean() < 0.33 * 1.2)
    True
    """

    random = True

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] = 0,
    ) -> None:
        self.p = checked("RandomErasing", "p", p, 0, 1)
        self.scale, self.ratio = checked_range("RandomErasing", scale=scale, ratio=ratio)
        self.value = value

    def apply(self, states: Any, batch: Array) -> Array:
        x = layout.planes("RandomErasing", batch)
        height, width = x.shape[2:4]
        u = uniform(states, 2 * TRIES + 3)
        boxes, fits = random_boxes(u[:, 3:], (height, width), self.scale, self.ratio)
        box = boxes[np.arange(len(boxes)), fits.argmax(axis=1)]
        fitting: Any = fits.any(axis=1)
        erased = fitting & (u[:, 0] < self.p)
        corner = (u[:, 1:3] * (np.array([height, width]) - box + 1)).astype(np.intp)
        rows = _between(height, corner[:, 0], box[:, 0])
        columns = _between(width, corner[:, 1], box[:, 1])
        inside: Any = rows[:, :, None] & columns[:, None, :] & erased[:, None, None]
        value = np.asarray(self.value, x.dtype)
        if value.ndim:
            value = value.reshape((-1, 1, 1, 1) if x.shape[4] == 1 else (1, 1, 1, -1))
        return layout.restored(np.where(inside[:, None, :, :, None], value, x), batch)


def _between(count: int, starts: Array, lengths: Array) -> Array:
    offsets = np.arange(count) - starts[:, None]
    return (offsets >= 0) & (offsets < lengths[:, None])
