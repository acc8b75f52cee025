"""Pooling over one to three axes of space: `max_pool`, `min_pool`, `avg_pool`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad._spatial import (
    LAYOUTS,
    Axes,
    Pairs,
    as_padding,
    axes_of,
    by_axis,
    check_rank,
    check_windows,
    rank_of,
    span,
)
from funcgrad.core.aval import Shape
from funcgrad.core.binding import bind
from funcgrad.core.primitive import narrow, widen
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError, at_line
from funcgrad.numpy.convert import as_array
from funcgrad.primitives import pooling as primitives

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


def max_pool(
    x: ArrayLike,
    window: Sizes,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> NDArray[Any]:
    """The largest element in each window, in every channel by itself.

    The derivative goes to the first largest element of a window, in the order of memory. A NaN is
    larger than any number.

    Args:
        x: inputs, shape (N, C, *S) with one to three axes of space, or (N, *S, C): see `layout`.
        window: the lengths of windows; here and below an integer for all axes of space, or one
            for each.
        strides: by how much windows move, by default their lengths, so that none overlap.
        padding: that no window takes its result from: "valid" for none; "same" for so much that
            there are ceil(S / stride) results; an integer; or for each axis an integer or a pair
            (before, after). It is half a window at most.
        dilation: how far apart the elements of a window are.
        ceil_mode: whether there is a result also of a window that is not whole at the end, as long
            as it begins within the inputs or the padding before them.
        layout: "NCW", "NCHW" or "NCDHW", the default, or "NWC", "NHWC" or "NDHWC".

    Returns:
        Shape (N, C, *P) or (N, *P, C), where P = (S + padding - dilation * (window - 1) - 1)
        // stride + 1, or one more in `ceil_mode`, in the dtype of `x`.

    Raises:
        ShapeError: an axis is missing, or a window is longer than its axis with the padding.
        ArgumentError: an option has no meaning.
        OperandTypeError: numbers are complex, which have no order.

    Example:
        >>> x = np.array([[[1.0, 3.0, 2.0, 2.0]]])
        >>> fg.max_pool(x, 2)
        array([[[3., 2.]]])
        >>> fg.grad(lambda x: np.sum(fg.max_pool(x, 2)))(x)
        array([[[0., 1., 1., 0.]]])
        >>> fg.max_pool(x, 3, strides=1, padding="same")
        array([[[3., 3., 3., 2.]]])
    """
    return _extreme(
        "max_pool", primitives.window_max, x, window, strides, padding, dilation, ceil_mode, layout
    )


def min_pool(
    x: ArrayLike,
    window: Sizes,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> NDArray[Any]:
    """The smallest element in each window; for all else see `max_pool`.

    Example:
        >>> fg.min_pool(np.array([[[1.0, 3.0, 2.0, 2.0]]]), 2)
        array([[[1., 2.]]])
    """
    return _extreme(
        "min_pool", primitives.window_min, x, window, strides, padding, dilation, ceil_mode, layout
    )


def avg_pool(
    x: ArrayLike,
    window: Sizes,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> NDArray[Any]:
    """The mean of each window, in every channel by itself.

    Args:
        x: inputs, shape (N, C, *S) with one to three axes of space, or (N, *S, C): see `layout`.
        window: the lengths of windows; here and below an integer for all axes of space, or one
            for each.
        strides: by how much windows move, by default their lengths, so that none overlap.
        padding: zeros around the inputs, half a window at most: see `max_pool`.
        count_include_pad: whether these zeros count as elements. Otherwise sums are divided by
            how many inputs a window covers.
        ceil_mode: whether there is a result also of a window that is not whole at the end, as long
            as it begins within the inputs or the padding before them. What it lacks never counts.
        layout: "NCW", "NCHW" or "NCDHW", the default, or "NWC", "NHWC" or "NDHWC".

    Returns:
        Shape (N, C, *P) or (N, *P, C), where P = (S + padding - window) // stride + 1, or one
        more in `ceil_mode`; of integers and booleans in float64, else in the dtype of `x`.

    Raises:
        ShapeError: an axis is missing, or a window is longer than its axis with the padding.
        ArgumentError: an option has no meaning.

    Example:
        >>> x = np.array([[[1.0, 3.0, 2.0, 2.0]]])
        >>> fg.avg_pool(x, 2)
        array([[[2., 2.]]])
        >>> fg.avg_pool(x, 2, padding=1)
        array([[[0.5, 2.5, 1. ]]])
        >>> fg.avg_pool(x, 2, padding=1, count_include_pad=False)
        array([[[1. , 2.5, 2. ]]])
    """
    inputs: Any = as_array(x)
    axes, params = _read("avg_pool", inputs, window, strides, padding, 1, layout)
    dtype = inputs.dtype if inputs.dtype.kind in "fc" else np.dtype(float)
    pads = _up_to_whole_windows(inputs.shape, axes, params) if ceil_mode else params["padding"]
    # What counts: the inputs, and their padding if it does.
    counted = params["padding"] if count_include_pad else ((0, 0),) * len(pads)
    rest = tuple([(p - a, q - b) for (p, q), (a, b) in zip(pads, counted, strict=True)])
    sums = bind(
        primitives.window_sum,
        widen(inputs if inputs.dtype == dtype else inputs.astype(dtype)),
        **params | {"padding": pads},
    )
    count = prod(params["window"])
    if any(map(any, rest)):
        sizes = [1] * inputs.ndim
        for axis, pair in zip(axes.spatial, counted, strict=True):
            sizes[axis] = inputs.shape[axis] + sum(pair)
        count = bind(primitives.window_sum, np.ones(sizes), **params | {"padding": rest})
        count = count.astype(sums.real.dtype)
    return narrow(sums / count, dtype)


def _extreme(
    name: str,
    prim: Any,
    x: Any,
    window: Any,
    strides: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    layout: str | None,
) -> Any:
    x = as_array(x)
    if x.dtype.kind == "c":
        raise at_line(
            OperandTypeError,
            f"{name} compares numbers, and complex ones have no order; give it x.real or np.abs(x)",
        )
    axes, params = _read(name, x, window, strides, padding, dilation, layout)
    if ceil_mode:
        params |= {"padding": _up_to_whole_windows(x.shape, axes, params)}
    if x.dtype.kind == "b":
        return bind(prim, x.astype(np.uint8), **params).astype(bool)
    return bind(prim, x, **params)


def _read(
    name: str, x: Any, window: Any, strides: Any, padding: Any, dilation: Any, layout: str | None
) -> tuple[Axes, dict[str, Any]]:
    """Where axes are, and the primitive's parameters."""
    axes = _axes(name, x.shape, window, layout)
    rank = len(axes.spatial)
    lengths = by_axis(window, rank, 1, name, "window")
    steps = lengths if strides is None else by_axis(strides, rank, 1, name, "strides")
    spread = by_axis(dilation, rank, 1, name, "dilation")
    sizes = [x.shape[axis] for axis in axes.spatial]
    pads = as_padding(padding, sizes, lengths, steps, spread, name)
    check_windows(x.shape, axes.spatial, lengths, pads, spread, name)
    _check_padding(name, padding, pads, lengths, spread)
    return axes, {
        "axes": axes.spatial,
        "window": lengths,
        "strides": steps,
        "padding": pads,
        "dilation": spread,
    }


def _up_to_whole_windows(shape: Shape, axes: Axes, params: dict[str, Any]) -> Pairs:
    """The padding, with as much more behind as the last window that begins within lacks."""
    pads = []
    options = (params[option] for option in ("window", "strides", "dilation", "padding"))
    for axis, k, s, d, (before, after) in zip(axes.spatial, *options, strict=True):
        n = shape[axis]
        starts = -(-(n + before + after - span(k, d)) // s)
        if starts * s >= n + before:
            starts -= 1
        pads.append((before, max(after, starts * s + span(k, d) - n - before)))
    return tuple(pads)


def _axes(name: str, shape: Shape, window: Any, layout: str | None) -> Axes:
    """Where axes are: their number is known from the layout, the window, or the inputs."""
    if layout is not None:
        rank = rank_of(layout, name)
    elif isinstance(window, (tuple, list)):
        rank = len(window)
    else:
        rank = len(shape) - 2
    if rank not in LAYOUTS:
        raise at_line(
            ShapeError,
            f"{name}: inputs must have axes of batch and channels and one to three of space, got "
            f"shape {shape} with window={window!r} and layout={layout!r}. Of one example make a "
            "batch: x[None].",
        )
    axes = axes_of(layout, rank, name)
    check_rank(shape, axes, name)
    return axes


def _check_padding(
    name: str, padding: Any, pads: Pairs, window: Shape, dilation: Sequence[int]
) -> None:
    for pad, k, d in zip(pads, window, dilation, strict=True):
        if padding != "same" and 2 * max(pad) > span(k, d):
            raise at_line(
                ArgumentError,
                f"{name}: padding {pad} is more than half a window of length {span(k, d)}, so that "
                "a window could lie outside of the inputs. Take less, or pad them with np.pad.",
            )
