"""Layers that change the size of images: Upsample, PixelShuffle, Pad; PyTorch's formulas."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from funcgrad.errors import ArgumentError

from ._numbers import as_number
from ._spatial import Padding, PaddingMode, as_pairs, check_padding_mode, padded
from .module import Array, Layer, Params, Shape, is_sequence, shape_error
from .pooling import along_axis

__all__ = ["Pad", "PixelShuffle", "PixelUnshuffle", "Upsample"]

# By the mode, how many axes of space there may be.
_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
}


def _space(layer: Layer, shape: Shape, channels_last: bool, ranks: tuple[int, ...]) -> range:
    """The axes of space."""
    rank = len(shape) - 2
    if rank not in ranks:
        raise shape_error(
            layer,
            f"inputs must have axes of batch and channels and {' or '.join(map(str, ranks))} of "
            f"space, got shape {tuple(shape)}.",
            "Of one example make a batch: x[None].",
        )
    return range(1, rank + 1) if channels_last else range(2, rank + 2)


class Upsample(Layer):
    """Images of another size, mostly a larger one, in one to three axes of space.

    Args:
        size: of the outputs: an integer for all axes of space, or one for each.
        scale_factor: instead of that, by how much they become longer; numbers likewise. The length
            is rounded down.
        mode: ``"nearest"``, or ``"nearest-exact"`` without its bias of half a pixel; ``"linear"``
            (one axis of space), ``"bilinear"`` (two), ``"trilinear"`` (three); ``"bicubic"``
            (two).
        align_corners: whether the centres of the first and last elements stay where they are,
            rather than the ends of the axes; not for the nearest.
        channels_last: whether channels are the last axis, instead of the one behind the batch's.

    Inputs have shape ``(batch, channels, *sizes)``. Where outputs are smaller, they are taken from
    single places, not means: for that see :class:`~funcgrad_nn.AvgPool2d`.

    Raises:
        ArgumentError: an option has no meaning, or not exactly one of size and scale is given.
        LayerShapeError: inputs have other axes.

    >>> nn.Upsample(scale_factor=2)({}, np.array([[[1.0, 2.0]]]))
    array([[[1., 1., 2., 2.]]])
    >>> nn.Upsample(scale_factor=2, mode="linear")({}, np.array([[[1.0, 2.0]]]))
    array([[[1.  , 1.25, 1.75, 2.  ]]])
    >>> nn.Upsample((4, 3), mode="bilinear", align_corners=True)({}, np.ones((1, 1, 2, 2))).shape
    (1, 1, 4, 3)
    """

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic"] = (
        "nearest"
    )
    align_corners: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale_factor is None):
            raise ArgumentError("Upsample: give size or scale_factor, and not both")
        for option, least in (("size", 1), ("scale_factor", 0.0)):
            value: Any = getattr(self, option)
            if value is None:
                continue
            parts = [as_number(n) for n in (value if is_sequence(value) else [value])]
            kinds = int if option == "size" else (int, float)
            if not all(isinstance(n, kinds) and n >= least and n > 0 for n in parts):
                raise ArgumentError(
                    f"Upsample: {option} must be a positive {'integer' if least else 'number'}, or "
                    f"one for each axis of space, not {value!r}"
                )
            setattr(self, option, tuple(parts) if is_sequence(value) else parts[0])
        if self.mode not in _RANKS:
            raise ArgumentError(
                f"Upsample: mode must be one of {', '.join(map(repr, _RANKS))}, not {self.mode!r}"
            )
        if self.align_corners and self.mode.startswith("nearest"):
            raise ArgumentError(
                f"Upsample: align_corners=True has no meaning with mode={self.mode!r}; it is for "
                '"linear", "bilinear", "trilinear" and "bicubic"'
            )

    def apply(self, params: Params, x: Any) -> Any:
        axes = _space(self, x.shape, self.channels_last, _RANKS[self.mode])
        for axis, (length, step) in zip(axes, self._sizes([x.shape[i] for i in axes]), strict=True):
            x = self._resized(x, axis, length, step)
        return x

    def _sizes(self, old: list[int]) -> list[tuple[int, float]]:
        """For each axis its new length, and how far apart in the inputs outputs are."""
        given: Any = self.scale_factor if self.size is None else self.size
        parts: Any = given if is_sequence(given) else (given,) * len(old)
        if len(parts) != len(old):
            raise ArgumentError(
                f"{self.describe()} has {len(parts)} numbers for {len(old)} axes of space"
            )
        sizes: list[tuple[int, float]] = []
        for n, number in zip(old, parts, strict=True):
            by_size = self.size is not None
            sizes.append((number, n / number) if by_size else (math.floor(n * number), 1 / number))
        return sizes

    def _resized(self, x: Any, axis: int, length: int, step: float) -> Any:
        count = x.shape[axis]
        if not count or not length:
            raise shape_error(self, f"an axis of space has no elements: {tuple(x.shape)}.")
        if self.mode.startswith("nearest"):
            # In the precision that PyTorch rounds in, for the same choices.
            half = np.float32(0.5 if self.mode == "nearest-exact" else 0.0)
            places = (np.arange(length, dtype=np.float32) + half) * np.float32(step)
            whole = np.minimum(places.astype(np.intp), count - 1)
            if length % count == 0 and (whole == np.arange(length) // (length // count)).all():
                return np.repeat(x, length // count, axis=axis)
            return np.take(x, whole, axis=axis)
        cubic = self.mode == "bicubic"
        if self.align_corners:
            places = np.arange(length) * ((count - 1) / max(1, length - 1))
        else:
            places = (np.arange(length) + 0.5) * step - 0.5
            places = places if cubic else np.maximum(places, 0)
        dtype = x.dtype if x.dtype.kind in "fc" else np.dtype(float)
        return along_axis(x, _weights(places, count, cubic).astype(dtype), axis)


def _weights(places: Array, count: int, cubic: bool) -> Array:
    """The matrix that takes means of the elements around places; beyond the ends is the last."""
    low = np.floor(places)
    matrix = np.zeros((len(places), count))
    rows = np.arange(len(places))
    for tap in range(-1, 3) if cubic else range(2):
        at = np.clip(low + tap, 0, count - 1).astype(np.intp)
        distance = np.abs(places - low - tap)
        np.add.at(matrix, (rows, at), _cubic(distance) if cubic else 1 - distance)
    return matrix


def _cubic(x: Array) -> Array:
    # R. Keys (1981), "Cubic convolution interpolation for digital image processing", with PyTorch's
    # a = -3/4.
    a = -0.75
    inner: Any = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, inner, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


class PixelShuffle(Layer):
    """``(N, C r², H, W)`` becomes ``(N, C, H r, W r)``: groups of channels become squares.

    W. Shi et al. (2016), *Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network*.

    Args:
        upscale_factor: r, a positive integer.
        channels_last: whether channels are the last axis: ``(N, H, W, C r²)``.

    Raises:
        ArgumentError: the factor is no positive integer.
        LayerShapeError: it does not divide the channels.

    >>> nn.PixelShuffle(2)({}, np.arange(4.0).reshape(1, 4, 1, 1))
    array([[[[0., 1.],
             [2., 3.]]]])
    """

    upscale_factor: int
    channels_last: bool = False

    def __post_init__(self) -> None:
        _check_factor(self, "upscale_factor", self.upscale_factor)

    def apply(self, params: Params, x: Any) -> Any:
        _space(self, x.shape, self.channels_last, (2,))
        r = self.upscale_factor
        x = np.moveaxis(x, -1, 1) if self.channels_last else x
        n, channels, height, width = x.shape
        if channels % r**2:
            raise shape_error(
                self, f"{channels} channels are no multiple of {r}² = {r**2}, got {tuple(x.shape)}."
            )
        parts = np.reshape(x, (n, channels // r**2, r, r, height, width))
        mixed = np.transpose(parts, (0, 1, 4, 2, 5, 3))
        y = np.reshape(mixed, (n, channels // r**2, height * r, width * r))
        return np.moveaxis(y, 1, -1) if self.channels_last else y


class PixelUnshuffle(Layer):
    """``(N, C, H r, W r)`` becomes ``(N, C r², H, W)``: what undoes :class:`PixelShuffle`.

    Args:
        downscale_factor: r, a positive integer.
        channels_last: whether channels are the last axis.

    Raises:
        ArgumentError: the factor is no positive integer.
        LayerShapeError: it does not divide height or width.

    >>> nn.PixelUnshuffle(2)({}, np.arange(4.0).reshape(1, 1, 2, 2)).ravel()
    array([0., 1., 2., 3.])
    """

    downscale_factor: int
    channels_last: bool = False

    def __post_init__(self) -> None:
        _check_factor(self, "downscale_factor", self.downscale_factor)

    def apply(self, params: Params, x: Any) -> Any:
        _space(self, x.shape, self.channels_last, (2,))
        r = self.downscale_factor
        x = np.moveaxis(x, -1, 1) if self.channels_last else x
        n, channels, height, width = x.shape
        if height % r or width % r:
            raise shape_error(
                self, f"{r} does not divide height and width of inputs, {height} and {width}."
            )
        parts = np.reshape(x, (n, channels, height // r, r, width // r, r))
        mixed = np.transpose(parts, (0, 1, 3, 5, 2, 4))
        y = np.reshape(mixed, (n, channels * r**2, height // r, width // r))
        return np.moveaxis(y, 1, -1) if self.channels_last else y


def _check_factor(layer: Layer, option: str, factor: Any) -> None:
    if isinstance(factor, bool) or not isinstance(factor, (int, np.integer)) or factor < 1:
        raise ArgumentError(
            f"{type(layer).__name__}: {option} must be a positive integer, not {factor!r}"
        )


class Pad(Layer):
    """More elements around the inputs, on one to three axes of space.

    PyTorch's ``ZeroPad2d``, ``ConstantPad1d``, ``ReflectionPad2d``, ``ReplicationPad3d``,
    ``CircularPad1d`` and so on; these take the numbers for the last axis first.

    Args:
        padding: how many: an integer, or for each axis of space an integer or a pair (before,
            after).
        mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``, as of
            :class:`~funcgrad_nn.Conv2d`.
        value: what stands there in the mode ``"zeros"``.
        channels_last: whether channels are the last axis, instead of the one behind the batch's.

    Raises:
        ArgumentError: an option has no meaning.
        LayerShapeError: inputs have other axes, or are too small for the mode.

    >>> nn.Pad(1, "reflect")({}, np.array([[[1.0, 2.0, 3.0]]]))
    array([[[2., 1., 2., 3., 2.]]])
    >>> nn.Pad(((0, 1), (2, 0)))({}, np.ones((1, 1, 2, 2))).shape
    (1, 1, 3, 4)
    """

    padding: Padding
    mode: PaddingMode = "zeros"
    value: float = 0.0
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_padding_mode(self, "mode", self.mode)
        given: Any = self.padding
        if is_sequence(given):
            self.padding = tuple([tuple(p) if is_sequence(p) else p for p in given])
        as_pairs(self, self.padding, len(given) if is_sequence(given) else 1)

    def apply(self, params: Params, x: Any) -> Any:
        axes = _space(self, x.shape, self.channels_last, (1, 2, 3))
        pads = as_pairs(self, self.padding, len(axes))
        return padded(self, x, pads, self.mode, self.channels_last, self.value)
