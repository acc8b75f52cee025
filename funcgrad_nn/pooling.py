"""Pooling layers, with PyTorch's names and defaults."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad as fg

from ._spatial import Padding, Sizes, SpatialLayer
from .module import Layer, Params, shape_error

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


class _MaxPool(SpatialLayer):
    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Padding = 0
    dilation: Sizes = 1
    ceil_mode: bool = False
    layout: str | None = None

    def apply(self, params: Params, x: Any) -> Any:
        return self.computed(
            fg.max_pool,
            x,
            self.kernel_size,
            strides=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )


class _AvgPool(SpatialLayer):
    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    layout: str | None = None

    def apply(self, params: Params, x: Any) -> Any:
        return self.computed(
            fg.avg_pool,
            x,
            self.kernel_size,
            strides=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )


class MaxPool1d(_MaxPool):
    """:func:`funcgrad.max_pool` over one axis of space; for all else see :class:`MaxPool2d`.

    >>> nn.MaxPool1d(2)({}, np.array([[[1.0, 3.0, 2.0, 2.0]]]))
    array([[[3., 2.]]])
    """

    rank = 1


class MaxPool2d(_MaxPool):
    """:func:`funcgrad.max_pool` over two axes of space: the largest element in each window.

    Args:
        kernel_size: the lengths of windows: an integer, or one for each axis, as the others.
        stride: by how much windows move, by default their lengths.
        padding: that no window takes its result from, at most half a window: an integer, one or
            a pair for each axis, ``"same"``, or ``"valid"``.
        dilation: how far apart the elements of a window are.
        ceil_mode: whether there is a window also where it is not whole at the end, as long as it
            begins within the inputs.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.

    >>> nn.MaxPool2d(2)({}, np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    rank = 2


class MaxPool3d(_MaxPool):
    """:func:`funcgrad.max_pool` over three axes of space; for all else see :class:`MaxPool2d`.

    >>> nn.MaxPool3d(2)({}, np.ones((1, 2, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    rank = 3


class AvgPool1d(_AvgPool):
    """:func:`funcgrad.avg_pool` over one axis of space; for all else see :class:`AvgPool2d`.

    >>> nn.AvgPool1d(2)({}, np.array([[[1.0, 3.0, 2.0, 2.0]]]))
    array([[[2., 2.]]])
    """

    rank = 1


class AvgPool2d(_AvgPool):
    """:func:`funcgrad.avg_pool` over two axes of space: the mean of each window.

    Args:
        kernel_size: the lengths of windows: an integer, or one for each axis, as the others.
        stride: by how much windows move, by default their lengths.
        padding: zeros around the inputs, at most half a window: an integer, one or a pair for
            each axis, ``"same"``, or ``"valid"``.
        ceil_mode: whether there is a window also where it is not whole at the end, as long as it
            begins within the inputs.
        count_include_pad: whether these zeros count as elements.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.

    >>> nn.AvgPool2d(2)({}, np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    rank = 2


class AvgPool3d(_AvgPool):
    """:func:`funcgrad.avg_pool` over three axes of space; for all else see :class:`AvgPool2d`.

    >>> nn.AvgPool3d(2)({}, np.ones((1, 2, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    rank = 3


class _AdaptivePool(SpatialLayer):
    output_size: Sizes
    layout: str | None = None

    def apply(self, params: Params, x: Any) -> Any:
        if len(x.shape) != self.rank + 2:
            raise shape_error(self, f"inputs must have the axes {self.axes}, got shape {x.shape}.")
        size = self.output_size
        counts = size if isinstance(size, tuple) else (size,) * self.rank
        first = 1 if self.channels_last else 2
        lengths = x.shape[first : first + self.rank]
        if all(n % count == 0 for n, count in zip(lengths, counts, strict=True)):
            window = tuple(n // count for n, count in zip(lengths, counts, strict=True))
            return self._of_equal_windows(x, window)
        for axis, (n, count) in enumerate(zip(lengths, counts, strict=True), first):
            x = self._along_axis(x, n, count, axis)
        return x

    def _of_equal_windows(self, x: Any, window: tuple[int, ...]) -> Any:
        raise NotImplementedError

    def _along_axis(self, x: Any, length: int, count: int, axis: int) -> Any:
        """With so many elements along an axis of that length."""
        raise NotImplementedError


class _AdaptiveAvgPool(_AdaptivePool):
    def _of_equal_windows(self, x: Any, window: tuple[int, ...]) -> Any:
        return self.computed(fg.avg_pool, x, window)

    def _along_axis(self, x: Any, length: int, count: int, axis: int) -> Any:
        dtype = x.dtype if x.dtype.kind in "fc" else np.dtype(float)
        return along_axis(x, _means(length, count, dtype), axis)


class _AdaptiveMaxPool(_AdaptivePool):
    def _of_equal_windows(self, x: Any, window: tuple[int, ...]) -> Any:
        return self.computed(fg.max_pool, x, window)

    def _along_axis(self, x: Any, length: int, count: int, axis: int) -> Any:
        first, end = _windows(length, count)
        width = int(np.max(end - first))
        # Shorter windows have their last element again.
        places = np.minimum(first + np.arange(width), end - 1)
        return np.max(np.take(x, fg.device_put(places, x), axis=axis), axis=axis + 1)


def along_axis(x: Any, matrix: Any, axis: int) -> Any:
    """The product of a matrix with each row along an axis."""
    return np.swapaxes(np.swapaxes(x, axis, -1) @ matrix.T, axis, -1)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of so many windows as asked for; see :class:`AdaptiveAvgPool2d`.

    >>> nn.AdaptiveAvgPool1d(2)({}, np.array([[[1.0, 2.0, 6.0]]]))
    array([[[1.5, 4. ]]])
    """

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of so many windows as asked for, whatever the size of the images.

    Window i of n on an axis of length S reaches from floor(i S / n) to ceil((i + 1) S / n), as in
    PyTorch.

    Args:
        output_size: the lengths of the outputs' axes of space: an integer, or one for each.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.

    >>> nn.AdaptiveAvgPool2d(2)({}, np.arange(9.0).reshape(1, 1, 3, 3))
    array([[[[2., 3.],
             [5., 6.]]]])
    """

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of so many windows as asked for; see :class:`AdaptiveAvgPool2d`.

    >>> nn.AdaptiveAvgPool3d((1, 2, 2))({}, np.ones((1, 2, 4, 4, 5))).shape
    (1, 2, 1, 2, 2)
    """

    rank = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest of so many windows as asked for; see :class:`AdaptiveMaxPool2d`.

    >>> nn.AdaptiveMaxPool1d(2)({}, np.array([[[1.0, 2.0, 6.0]]]))
    array([[[2., 6.]]])
    """

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest element of so many windows as asked for, whatever the size of the images.

    Windows are those of :class:`AdaptiveAvgPool2d`.

    Args:
        output_size: the lengths of the outputs' axes of space: an integer, or one for each.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.

    >>> nn.AdaptiveMaxPool2d(2)({}, np.arange(9.0).reshape(1, 1, 3, 3))
    array([[[[4., 5.],
             [7., 8.]]]])
    """

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest of so many windows as asked for; see :class:`AdaptiveMaxPool2d`.

    >>> nn.AdaptiveMaxPool3d((1, 2, 2))({}, np.ones((1, 2, 4, 4, 5))).shape
    (1, 2, 1, 2, 2)
    """

    rank = 3


def _windows(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` windows of an axis begins and ends, in columns."""
    i = np.arange(count)[:, None]
    return i * length // count, -(-(i + 1) * length // count)


def _means(length: int, count: int, dtype: Any) -> np.ndarray:
    """The matrix that takes the means of `count` windows of an axis."""
    (first, end), at = _windows(length, count), np.arange(length)
    inside = (at >= first) & (at < end)
    return (inside / inside.sum(1, keepdims=True)).astype(dtype)


class GlobalAvgPool(Layer):
    """The mean of each channel over all axes of space: ``(N, C, ...)`` becomes ``(N, C)``.

    Args:
        channels_last: whether channels are the last axis, instead of the one behind the batch's.

    >>> nn.GlobalAvgPool()({}, np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    channels_last: bool = False

    def apply(self, params: Params, x: Any) -> Any:
        return np.mean(x, _space(self, x, self.channels_last))


class GlobalMaxPool(Layer):
    """The largest element of each channel: ``(N, C, ...)`` becomes ``(N, C)``.

    Args:
        channels_last: whether channels are the last axis, instead of the one behind the batch's.

    >>> nn.GlobalMaxPool()({}, np.arange(8.0).reshape(1, 2, 2, 2))
    array([[3., 7.]])
    """

    channels_last: bool = False

    def apply(self, params: Params, x: Any) -> Any:
        return np.max(x, _space(self, x, self.channels_last))


def _space(layer: Layer, x: Any, channels_last: bool) -> tuple[int, ...]:
    rank = len(x.shape)
    if rank < 3:
        raise shape_error(
            layer, f"inputs must have axes of batch, channels and space, got shape {x.shape}."
        )
    return tuple(range(1, rank - 1)) if channels_last else tuple(range(2, rank))
