"""Sliding windows over some axes, and their transpose."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape
from funcgrad.core.binding import bind
from funcgrad.core.declarations import linear
from funcgrad.core.primitive import narrow, sample, shape_of, widen
from funcgrad.core.view_map import windowed
from funcgrad.primitives.structural import FULL, Entry, embed, index

# Windows of so few elements are added up where a result's element is computed.
MOST_ADDED = 32


def places(n: int, window: int, stride: int, dilation: int) -> int:
    """At how many places a window fits on an axis of length n."""
    return (n - max((window - 1) * dilation + 1, 0)) // stride + 1


def _windows(x, axes, window, stride, dilation):
    # CuPy puts the axes in order, but not what belongs to them.
    order = sorted(range(len(axes)), key=axes.__getitem__)
    spans = tuple([max((window[i] - 1) * dilation[i] + 1, 0) for i in order])
    out = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(sorted(axes)))
    if order != [*range(len(axes))]:
        behind = [x.ndim + order.index(i) for i in range(len(axes))]
        out = out.transpose(*range(x.ndim), *behind)
    steps = [1] * x.ndim
    for axis, step in zip(axes, stride, strict=True):
        steps[axis] = step
    return out[tuple([slice(None, None, step) for step in (*steps, *dilation)])]


def _windows_shape(
    x: Aval,
    axes: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Aval:
    shape = list(x.shape)
    for axis, w, s, d in zip(axes, window, stride, dilation, strict=True):
        shape[axis] = places(x.shape[axis], w, s, d)
        if shape[axis] < 1:
            raise ValueError(f"a window of {w} in steps of {d} on axis {axis} of shape {x.shape}")
    return x.update(shape=(*shape, *window))


def _behind_batch(params: dict[str, Any]) -> dict[str, Any]:
    return {**params, "axes": tuple(axis + 1 for axis in params["axes"])}


def _windows_transpose(ct: Any, x: Any, **params: Any) -> Any:
    out = bind(overlap_add, widen(ct), shape=shape_of(x), **params)
    return narrow(out, ct.dtype)


_SAMPLES = [
    ((5,), {"axes": (0,), "window": (3,), "stride": (1,), "dilation": (1,)}),
    ((2, 9), {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (3,)}),
    ((5, 2, 6), {"axes": (2, 0), "window": (2, 3), "stride": (3, 2), "dilation": (1, 2)}),
    ((4,), {"axes": (0,), "window": (4,), "stride": (1,), "dilation": (1,)}),
    ((2, 3), {"axes": (1,), "window": (1,), "stride": (2,), "dilation": (1,)}),
    ((3, 0), {"axes": (0,), "window": (2,), "stride": (1,), "dilation": (1,)}),
    ((3, 2), {"axes": (0,), "window": (0,), "stride": (1,), "dilation": (1,)}),
]


def _windows_of(shape: Shape, params: dict[str, Any]) -> Shape:
    return _windows_shape(Aval(shape, np.dtype(float)), **params).shape


# out[..., i, ..., k] = x[..., i * stride + k * dilation, ...]
windows = linear(
    "windows",
    _windows,
    _windows_transpose,
    shape=_windows_shape,
    batch=lambda prim, args, batched, size, params: (
        bind(prim, args[0], **_behind_batch(params)),
        True,
    ),
    samples=[sample(shape, **params) for shape, params in _SAMPLES],
    view=lambda x, axes, window, stride, dilation: windowed(x, axes, stride, dilation),
    cost=0,
    dtypes="fcib",
)


def _overlap_add(x, shape, axes, window, stride, dilation):
    out = np.zeros_like(x, shape=shape)
    rank = len(shape)
    where = [slice(None)] * rank
    counts = [x.shape[axis] for axis in axes]
    # One addition for each element of a window, or for each place, whichever are fewer.
    if np.prod(window) <= np.prod(counts):
        few, many, near, far = window, counts, dilation, stride
        parts = np.moveaxis(x, range(rank, x.ndim), range(len(axes)))
    else:
        few, many, near, far = counts, window, stride, dilation
        parts = np.moveaxis(x, axes, range(len(axes)))
        parts = np.moveaxis(parts, range(rank, x.ndim), [len(axes) + axis for axis in axes])
    for at in np.ndindex(*few):
        for axis, i, step, n, apart in zip(axes, at, near, many, far, strict=True):
            where[axis] = slice(i * step, i * step + max((n - 1) * apart + 1, 0), apart)
        out[tuple(where)] += parts[at]
    return out


def _overlap_add_expansion(
    x: Any,
    shape: Shape,
    axes: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Any:
    """The sum of as many arrays as a window has elements, if they are few."""
    if prod(window) > MOST_ADDED:
        params = {"axes": axes, "window": window, "stride": stride, "dilation": dilation}
        return bind(overlap_add, x, shape=shape, **params)
    total: Any = None
    for at in np.ndindex(*window):
        where: list[Entry] = [FULL] * len(shape)
        for axis, i, s, d in zip(axes, at, stride, dilation, strict=True):
            where[axis] = (i * d, i * d + (x.shape[axis] - 1) * s + 1, s)
        part = bind(index, x, idx=(*[FULL] * len(shape), *at))
        part = bind(embed, part, shape=shape, idx=tuple(where))
        total = part if total is None else total + part
    return total


# out[..., i * stride + k * dilation, ...] += x[..., i, ..., k]
overlap_add = linear(
    "overlap_add",
    _overlap_add,
    lambda ct, x, shape, **params: bind(windows, ct, **params),
    shape=lambda x, shape, **params: x.update(shape=shape),
    batch=lambda prim, args, batched, size, params: (
        bind(prim, args[0], **{**_behind_batch(params), "shape": (size, *params["shape"])}),
        True,
    ),
    samples=[
        sample(_windows_of(shape, params), shape=shape, **params) for shape, params in _SAMPLES
    ],
    expansion=_overlap_add_expansion,
    accumulates=lambda x, shape, axes, window, stride, dilation: windowed(
        shape, axes, stride, dilation
    ),
    cost=1,
    dtypes="fci",
)
