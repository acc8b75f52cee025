"""Convolutions: the three faces of one form that is linear in each of inputs, kernel and results.

    sum over n, g, o, i, p, k of  x[n, p * strides + k * dilation - padding, g, i]
                                * w[k, i, g, o] * y[n, p, g, o]

`conv` is its derivative by y, `conv_input` by x and `conv_kernel` by w; so each one's transposes
are the other two. Channels are the last axis (kernels: window, in, out), or the one behind the
batch's (out, in, window). Of inputs and results they are `groups` times as many as one output
channel sees, or one input channel is seen by; kernels have those of all groups on their out axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.declarations import bilinear
from funcgrad.core.primitive import Samples, sample, shape_of
from funcgrad.primitives.structural import move_axis
from funcgrad.primitives.windows import places

Pairs = Sequence[tuple[int, int]]

# Of patches that are copied into rows of a matrix, at most so many bytes lie there at a time.
BLOCK_BYTES = 8 << 20


# --- evaluation by NumPy --------------------------------------------------------------


def _wide(x):
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _channels_last(x, channels_last):
    return x if channels_last else np.moveaxis(x, 1, -1)


def _channels_back(x, channels_last):
    return x if channels_last else np.moveaxis(x, -1, 1)


def _kernel_matrix(w, groups, channels_last):
    """(groups, window * in, out of a group), and the lengths (*window, in)."""
    if not channels_last:
        w = np.moveaxis(w, (0, 1), (-1, -2))
    rows = w.shape[:-1]
    out = w.shape[-1] // groups
    return w.reshape(int(np.prod(rows)), groups, out).transpose(1, 0, 2), rows


def _padded(x, padding):
    """Zeros around the axes between the first and the last; less of them where it is negative."""
    sizes = x.shape[1:-1]
    shape = [n + before + after for n, (before, after) in zip(sizes, padding, strict=True)]
    out = np.zeros_like(x, shape=(x.shape[0], *shape, x.shape[-1]), order="C")
    to, of = _overlap(sizes, padding)
    out[to] = x[of]
    return out


def _overlap(sizes, padding):
    """The slices of padded axes and of the axes themselves that hold the same."""
    to, of = [slice(None)], [slice(None)]
    for n, (before, after) in zip(sizes, padding, strict=True):
        start, stop = max(-before, 0), n - max(-after, 0)
        of.append(slice(start, max(start, stop)))
        to.append(slice(start + before, max(start, stop) + before))
    return tuple(to), tuple(of)


def _blocks(batch, places, row_bytes):
    """Slices of the batch, and of the first axis of places where a single example is too large."""
    inner = int(np.prod(places[1:])) * row_bytes
    many = max(BLOCK_BYTES // max(inner, 1), 1)
    if many < places[0]:
        return [
            (slice(n, n + 1), slice(p, min(p + many, places[0])))
            for n in range(batch)
            for p in range(0, places[0], many)
        ]
    step = many // max(places[0], 1)
    return [(slice(n, min(n + step, batch)), slice(0, places[0])) for n in range(0, batch, step)]


def _patches(padded, block, window, strides, dilation, groups):
    """A block's patches as rows: (groups, examples * places, window * in)."""
    examples, first = block
    spans = tuple([(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)])
    rank = len(window)
    part = padded[examples, first.start * strides[0] : (first.stop - 1) * strides[0] + spans[0]]
    view = np.lib.stride_tricks.sliding_window_view(part, spans, tuple(range(1, rank + 1)))
    steps = [1, *strides, 1, *dilation]
    view = view[tuple([slice(None, None, step) for step in steps])]
    # (examples, *places, channels, *window): channels as (groups, in).
    lead, channels = view.shape[: rank + 1], view.shape[rank + 1]
    view = view.reshape((*lead, groups, channels // groups, *window))
    order = [rank + 1, *range(rank + 1), *range(rank + 3, 2 * rank + 3), rank + 2]
    rows, columns = int(np.prod(lead)), int(np.prod(window)) * (channels // groups)
    return view.transpose(order).reshape(groups, rows, columns)


def _result_rows(y, block, groups):
    """A block of results as rows: (groups, examples * places, out of a group)."""
    part = y[block]
    rows = int(np.prod(part.shape[:-1]))
    return part.reshape(rows, groups, part.shape[-1] // groups).transpose(1, 0, 2)


def _conv(x, w, strides, padding, dilation, groups, channels_last):
    dtype = np.result_type(x, w)
    x, w = _wide(_channels_last(x, channels_last)), _wide(w)
    kernel, (*window, _) = _kernel_matrix(w, groups, channels_last)
    padded = _padded(x, padding)
    places = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(padded.shape[1:-1], window, strides, dilation, strict=True)
    ]
    wide = np.result_type(padded, kernel)
    out = np.zeros_like(x, wide, shape=(x.shape[0], *places, groups * kernel.shape[-1]), order="C")
    row_bytes = groups * kernel.shape[1] * padded.itemsize
    for block in _blocks(x.shape[0], places, row_bytes):
        rows = _patches(padded, block, window, strides, dilation, groups)
        np.matmul(rows, kernel, out=_result_rows(out, block, groups))
    return _channels_back(out.astype(dtype, copy=False), channels_last)


def _conv_input(y, w, spatial, strides, padding, dilation, groups, channels_last):
    dtype = np.result_type(y, w)
    y, w = _wide(_channels_last(y, channels_last)), _wide(w)
    kernel, (*window, channels) = _kernel_matrix(w, groups, channels_last)
    kernel = kernel.transpose(0, 2, 1)
    rank = len(window)
    sizes = [n + before + after for n, (before, after) in zip(spatial, padding, strict=True)]
    wide = np.result_type(y, kernel)
    padded = np.zeros_like(y, wide, shape=(y.shape[0], *sizes, groups, channels), order="C")
    row_bytes = groups * kernel.shape[-1] * wide.itemsize
    for examples, first in _blocks(y.shape[0], y.shape[1:-1], row_bytes):
        block = examples, first
        parts = np.matmul(_result_rows(y, block, groups), kernel)
        lead = y[block].shape[:-1]
        parts = parts.reshape(groups, *lead, *window, channels)
        parts = parts.transpose(*range(rank + 2, 2 * rank + 2), *range(1, rank + 2), 0, -1)
        for at in np.ndindex(*window):
            where = [examples]
            starts = [first.start, *[0] * (rank - 1)]
            for start, n, k, s, d in zip(starts, lead[1:], at, strides, dilation, strict=True):
                begin = start * s + k * d
                where.append(slice(begin, begin + (n - 1) * s + 1, s))
            padded[tuple(where)] += parts[at]
    out = np.zeros_like(y, wide, shape=(y.shape[0], *spatial, groups * channels), order="C")
    to, of = _overlap(spatial, padding)
    out[of] = padded.reshape(*padded.shape[:-2], groups * channels)[to]
    return _channels_back(out.astype(dtype, copy=False), channels_last)


def _conv_kernel(x, y, window, strides, padding, dilation, groups, channels_last):
    dtype = np.result_type(x, y)
    x, y = (_wide(_channels_last(a, channels_last)) for a in (x, y))
    padded = _padded(x, padding)
    channels, outs = x.shape[-1] // groups, y.shape[-1] // groups
    wide = np.result_type(x, y)
    columns = int(np.prod(window)) * channels
    total = np.zeros_like(x, wide, shape=(groups, columns, outs), order="C")
    for block in _blocks(x.shape[0], y.shape[1:-1], groups * columns * padded.itemsize):
        rows = _patches(padded, block, window, strides, dilation, groups)
        total += np.matmul(rows.transpose(0, 2, 1), _result_rows(y, block, groups))
    out = total.astype(dtype, copy=False).transpose(1, 0, 2)
    out = out.reshape(*window, channels, groups * outs)
    return out if channels_last else np.moveaxis(out, (-1, -2), (0, 1))


# --- shapes ---------------------------------------------------------------------------


def _parts(shape: Shape, channels_last: bool) -> tuple[int, Shape, int]:
    """The batch, the axes of space, the channels."""
    if channels_last:
        return shape[0], shape[1:-1], shape[-1]
    return shape[0], shape[2:], shape[1]


def _whole(batch: int, spatial: Sequence[int], channels: int, channels_last: bool) -> Shape:
    return (batch, *spatial, channels) if channels_last else (batch, channels, *spatial)


def _kernel_parts(shape: Shape, channels_last: bool) -> tuple[Shape, int, int]:
    """The window, the channels that go in, those that come out."""
    if channels_last:
        return shape[:-2], shape[-2], shape[-1]
    return shape[2:], shape[1], shape[0]


def _check_groups(groups: int, *channels: int) -> None:
    if any(n % groups for n in channels):
        raise ValueError(f"{' and '.join(map(str, channels))} channels for {groups} groups")


def _conv_shape(
    x: Aval,
    w: Aval,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
    channels_last: bool,
) -> Aval:
    batch, spatial, channels = _parts(x.shape, channels_last)
    window, seen, out = _kernel_parts(w.shape, channels_last)
    _check_groups(groups, channels, out)
    if channels != seen * groups:
        raise ValueError(f"{channels} channels for a kernel that sees {groups} times {seen}")
    found = [
        places(n + sum(pad), k, s, d)
        for n, pad, k, s, d in zip(spatial, padding, window, strides, dilation, strict=True)
    ]
    if any(n < 1 for n in found):
        raise ValueError(f"a window of {window} in steps of {dilation} on {spatial}")
    return Aval(_whole(batch, found, out, channels_last), result_dtype(x, w))


def _conv_input_shape(
    y: Aval, w: Aval, spatial: Shape, groups: int, channels_last: bool, **rest: Any
) -> Aval:
    batch, _, out = _parts(y.shape, channels_last)
    _, seen, outs = _kernel_parts(w.shape, channels_last)
    _check_groups(groups, out)
    if out != outs:
        raise ValueError(f"{out} channels for a kernel that gives {outs}")
    return Aval(_whole(batch, spatial, seen * groups, channels_last), result_dtype(y, w))


def _conv_kernel_shape(
    x: Aval, y: Aval, window: Shape, groups: int, channels_last: bool, **rest: Any
) -> Aval:
    _, _, channels = _parts(x.shape, channels_last)
    _, _, out = _parts(y.shape, channels_last)
    _check_groups(groups, channels, out)
    seen = channels // groups
    shape = (*window, seen, out) if channels_last else (out, seen, *window)
    return Aval(shape, result_dtype(x, y))


# --- batches --------------------------------------------------------------------------


def _axis(role: str, index: str, rank: int, groups: int, channels_last: bool) -> tuple[int, int]:
    """Where an index of the form stands in an operand, and how many indices stand above it there.

    x has the indices n, g, i; w has g, o, i; y has n, g, o. Channels are (g, i) or (g, o).
    """
    if index == "n":
        return 0, 1
    if role == "w":
        axis = {"i": -2, "o": -1} if channels_last else {"i": 1, "o": 0}
    else:
        axis = dict.fromkeys("io", -1 if channels_last else 1)
    above = groups if index == "o" or (index == "i" and role == "x") else 1
    return axis["o" if index == "g" else index] % rank, above


def _split(array: Any, axis: int, above: int, size: int) -> Any:
    """An axis that is (above, size, below) with `size` as the first of all axes instead."""
    shape = shape_of(array)
    below = shape[axis] // (above * size)
    array = array.reshape((*shape[:axis], above, size, below, *shape[axis + 1 :]))
    array = move_axis(array, axis + 1, 0)
    return array.reshape((size, *shape[:axis], above * below, *shape[axis + 1 :]))


def _merge(array: Any, axis: int, above: int) -> Any:
    """The inverse of `_split`: the first axis becomes part of another."""
    size, *shape = shape_of(array)
    below = shape[axis] // above
    array = array.reshape((size, *shape[:axis], above, below, *shape[axis + 1 :]))
    array = move_axis(array, 0, axis + 1)
    return array.reshape((*shape[:axis], above * size * below, *shape[axis + 1 :]))


_INDICES = {"x": "ngi", "w": "goi", "y": "ngo"}


def _batch(roles: str) -> Any:
    """The batching rule of a face whose operands and result have these roles.

    A batch of one operand goes on in the result: it becomes part of the index that these have
    and the other operand has not. A batch of both counts groups.
    """

    def batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
        rank, groups = len(shape_of(args[0])) - batched[0], params["groups"]
        last = params["channels_last"]
        if all(batched):
            index = "g"
            params = {**params, "groups": groups * size}
        else:
            own, other = (roles[0], roles[1]) if batched[0] else (roles[1], roles[0])
            (index,) = set(_INDICES[own]) & set(_INDICES[roles[2]]) - set(_INDICES[other])
        merged = [
            _merge(a, *_axis(role, index, rank, groups, last)) if b else a
            for a, role, b in zip(args, roles, batched, strict=False)
        ]
        out = bind(prim, *merged, **params)
        return _split(out, *_axis(roles[2], index, rank, groups, last), size), True

    return batch


# --- declarations ---------------------------------------------------------------------


def _window(w: Any, channels_last: bool, **rest: Any) -> Shape:
    return _kernel_parts(_shape(w), channels_last)[0]


def _spatial(x: Any, channels_last: bool, **rest: Any) -> Shape:
    return _parts(_shape(x), channels_last)[1]


def _shape(x: Any) -> Shape:
    return x if isinstance(x, tuple) else shape_of(x)


def _case(
    x: Shape,
    w: Shape,
    strides: Sequence[int] | int = 1,
    padding: Pairs | int = 0,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
    channels_last: bool = False,
) -> tuple[Shape, Shape, dict[str, Any]]:
    rank = len(x) - 2

    def each(option: Any) -> Any:
        return (option,) * rank if isinstance(option, int) else tuple(option)

    params: dict[str, Any] = {
        "strides": each(strides),
        "padding": ((padding, padding),) * rank if isinstance(padding, int) else tuple(padding),
        "dilation": each(dilation),
        "groups": groups,
        "channels_last": channels_last,
    }
    return x, w, params


_CASES = [
    _case((2, 3, 5), (4, 3, 2)),
    _case((2, 5, 3), (2, 3, 4), strides=2, channels_last=True),
    _case((2, 2, 4, 5), (3, 2, 3, 2), padding=1),
    _case((1, 5, 4, 4), (2, 3, 2, 6), (2, 1), ((1, 2), (0, 1)), (2, 1), 2, True),
    _case((2, 4, 6, 3), (4, 1, 2, 2), (1, 2), ((0, 1), (2, 0)), (3, 2), groups=4),
    _case((1, 2, 3, 3, 2), (2, 1, 2, 1, 2), groups=2, padding=((1, 0), (0, 0), (0, 1))),
    _case((2, 6, 1), (2, 1, 1), padding=((-1, -2),), channels_last=True),
    _case((0, 2, 3), (2, 2, 2)),
    _case((2, 0, 3), (2, 0, 2)),
    _case((1, 1, 0), (2, 1, 1), padding=1),
]


def _result_shape(x: Shape, w: Shape, params: dict[str, Any]) -> Shape:
    kind = np.dtype(float)
    return _conv_shape(Aval(x, kind), Aval(w, kind), **params).shape


def _flops(y: Aval, w: Aval, channels_last: bool, **rest: Any) -> int:
    """Each result is a sum of as many products as one output channel's kernel has elements."""
    window, seen, _ = _kernel_parts(w.shape, channels_last)
    return 2 * y.size * prod(window) * seen


conv = bilinear(
    "conv",
    _conv,
    (
        lambda ct, x, w, **params: bind(conv_input, ct, w, spatial=_spatial(x, **params), **params),
        lambda ct, x, w, **params: bind(conv_kernel, x, ct, window=_window(w, **params), **params),
    ),
    shape=_conv_shape,
    batch=_batch("xwy"),
    samples=Samples(lambda: [sample(x, w, **params) for x, w, params in _CASES]),
    flops=lambda ins, out, **params: _flops(out, ins[1], **params),
    dtypes="fci",
)
conv_input = bilinear(
    "conv_input",
    _conv_input,
    (
        lambda ct, y, w, spatial, **params: bind(conv, ct, w, **params),
        lambda ct, y, w, spatial, **params: bind(
            conv_kernel, ct, y, window=_window(w, **params), **params
        ),
    ),
    shape=_conv_input_shape,
    batch=_batch("ywx"),
    samples=Samples(
        lambda: [
            sample(_result_shape(x, w, params), w, spatial=_spatial(x, **params), **params)
            for x, w, params in _CASES
        ]
    ),
    flops=lambda ins, out, **params: _flops(*ins, **params),
    dtypes="fci",
)
conv_kernel = bilinear(
    "conv_kernel",
    _conv_kernel,
    (
        lambda ct, x, y, window, **params: bind(
            conv_input, y, ct, spatial=_spatial(x, **params), **params
        ),
        lambda ct, x, y, window, **params: bind(conv, x, ct, **params),
    ),
    shape=_conv_kernel_shape,
    batch=_batch("xyw"),
    samples=Samples(
        lambda: [
            sample(x, _result_shape(x, w, params), window=_window(w, **params), **params)
            for x, w, params in _CASES
        ]
    ),
    flops=lambda ins, out, **params: _flops(ins[1], out, **params),
    dtypes="fci",
)
