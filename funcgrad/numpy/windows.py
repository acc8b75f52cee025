"""Sliding windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.binding import bind
from funcgrad.errors import ShapeError, UnsupportedFunctionError, at_line
from funcgrad.numpy.convert import as_array, as_shape, normalize_axis
from funcgrad.numpy.protocol import implements
from funcgrad.primitives import windows as primitives


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    """Windows at every place: their places in the axes' stead, their elements on axes behind.

    Windows that are taken of one axis twice are windows of windows. Every so many-th window is
    the result's, indexed so: `windows[::2]`.

    Raises:
        ShapeError: a window is longer than its axis, or there are not as many as axes.

    >>> from numpy.lib.stride_tricks import sliding_window_view
    >>> smooth = fg.jit(lambda x: np.mean(sliding_window_view(x, 3), axis=-1))
    >>> smooth(np.array([1.0, 2.0, 6.0, 4.0]))
    array([3., 4.])
    >>> fg.grad(lambda x: np.sum(smooth(x)))(np.array([1.0, 2.0, 6.0, 4.0]))
    array([0.33333333, 0.66666667, 0.66666667, 0.33333333])
    """
    if writeable:
        raise UnsupportedFunctionError.of(
            "np.lib.stride_tricks.sliding_window_view with writeable=True",
            "A traced array cannot be written to.",
        )
    x = as_array(x)
    window = as_shape(window_shape)
    named = range(x.ndim) if axis is None else as_shape(axis)
    axes = [normalize_axis(a, x.ndim) for a in named]
    if len(axes) != len(window):
        raise at_line(
            ShapeError, f"{len(window)} windows for {len(axes)} axes, of an array of {x.ndim} axes"
        )
    left = list(x.shape)
    for a, n in zip(axes, window, strict=True):
        if not 0 <= n <= left[a]:
            raise at_line(
                ShapeError, f"window_shape={window_shape} does not fit on axes of shape {x.shape}"
            )
        left[a] -= n - 1
    if len(set(axes)) == len(axes):
        return _windows(x, tuple(axes), window)
    for a, n in zip(axes, window, strict=True):
        x = _windows(x, (a,), (n,))
    return x


def _windows(x: Any, axes: tuple[int, ...], window: tuple[int, ...]) -> Any:
    ones = (1,) * len(axes)
    return bind(primitives.windows, x, axes=axes, window=window, stride=ones, dilation=ones)
