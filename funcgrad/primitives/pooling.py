"""Sums and extremes of sliding windows.

Windows stand at every so many-th place of some axes, around which there is padding that no window
sees anything in: zeros for sums, nothing for extremes. The derivative of an extreme goes to the
first element that is it; a NaN is the extreme of whatever it is among.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape
from funcgrad.core.binding import bind
from funcgrad.core.declarations import custom, linear, nondifferentiable
from funcgrad.core.primitive import Samples, sample, shape_of
from funcgrad.primitives.structural import broadcast_to, index
from funcgrad.primitives.windows import overlap_add, places, windows

Pairs = Sequence[tuple[int, int]]

# Kernels spell out each element of a window; those of more would take seconds to compile.
MOST_PLACED = 9


# --- evaluation by NumPy --------------------------------------------------------------


def _counts(shape, axes, window, strides, padding, dilation):
    """The shape of the places of windows."""
    out = list(shape)
    for axis, k, s, pad, d in zip(axes, window, strides, padding, dilation, strict=True):
        out[axis] = (shape[axis] + pad[0] + pad[1] - (k - 1) * d - 1) // s + 1
    return tuple(out)


def _pieces(shape, counts, axes, window, strides, padding, dilation):
    """For each element of a window: at which places it lies in the array, and where there."""
    for at in np.ndindex(*window):
        to, of = [slice(None)] * len(shape), [slice(None)] * len(shape)
        for axis, k, s, pad, d in zip(axes, at, strides, padding, dilation, strict=True):
            shift = k * d - pad[0]
            first = max(-(shift // s), 0)
            last = min((shape[axis] - 1 - shift) // s, counts[axis] - 1)
            count = max(last - first + 1, 0)
            start = max(first * s + shift, 0)
            to[axis] = slice(first, first + count)
            of[axis] = slice(start, start + max((count - 1) * s + 1, 0), s)
        yield tuple(to), tuple(of)


def _window_sum(x, axes, window, strides, padding, dilation):
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    counts = _counts(x.shape, axes, window, strides, padding, dilation)
    out = np.zeros_like(x, wide, shape=counts)
    for to, of in _pieces(x.shape, counts, axes, window, strides, padding, dilation):
        out[to] += x[of]
    return out.astype(x.dtype, copy=False)


def _window_max(x, axes, window, strides, padding, dilation):
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    counts = _counts(x.shape, axes, window, strides, padding, dilation)
    out = np.full_like(x, low, shape=counts)
    for to, of in _pieces(x.shape, counts, axes, window, strides, padding, dilation):
        out[to] = np.maximum(out[to], x[of])
    return out


def _window_min(x, axes, window, strides, padding, dilation):
    high = np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    counts = _counts(x.shape, axes, window, strides, padding, dilation)
    out = np.full_like(x, high, shape=counts)
    for to, of in _pieces(x.shape, counts, axes, window, strides, padding, dilation):
        out[to] = np.minimum(out[to], x[of])
    return out


def _window_position(x, extreme, axes, window, strides, padding, dilation):
    out = np.zeros_like(extreme, np.int32)
    pieces = [*_pieces(x.shape, out.shape, axes, window, strides, padding, dilation)]
    for k in range(len(pieces) - 1, -1, -1):
        to, of = pieces[k]
        hit = (x[of] == extreme[to]) | (x[of] != x[of])
        out[to] = np.where(hit, np.int32(k), out[to])
    return out


def _window_pick(x, position, axes, window, strides, padding, dilation):
    out = np.zeros_like(x, shape=position.shape)
    pieces = _pieces(x.shape, out.shape, axes, window, strides, padding, dilation)
    for k, (to, of) in enumerate(pieces):
        out[to] = np.where(position[to] == k, x[of], out[to])
    return out


def _window_put(y, position, shape, axes, window, strides, padding, dilation):
    wide = np.float32 if y.dtype == np.float16 else y.dtype
    out = np.zeros_like(y, wide, shape=shape)
    zero = y.dtype.type(0)
    pieces = _pieces(shape, position.shape, axes, window, strides, padding, dilation)
    for k, (to, of) in enumerate(pieces):
        out[of] += np.where(position[to] == k, y[to], zero)
    return out.astype(y.dtype, copy=False)


# --- the same by simpler primitives ---------------------------------------------------


def _seen(x: Any, fill: Any = 0, *, padding: Any, **params: Any) -> tuple[Any, tuple[int, ...]]:
    """The windows of the padded array, and their axes."""
    rank, axes = len(x.shape), params["axes"]
    widths = [(0, 0)] * rank
    for axis, pad in zip(axes, padding, strict=True):
        widths[axis] = pad

    def parts(array: Any) -> Any:
        found = np.pad(array, widths) if any(map(any, padding)) else array
        own = {"stride" if name == "strides" else name: value for name, value in params.items()}
        return bind(windows, found, **own)

    found = parts(x)
    if fill and any(map(any, padding)):
        inside = np.ones([n if axis in axes else 1 for axis, n in enumerate(x.shape)], bool)
        found = np.where(parts(inside), found, fill)
    return found, tuple(range(rank, rank + len(axes)))


def _numbers(window: Shape) -> Any:
    return np.arange(prod(window), dtype=np.int32).reshape(window)


def _spread(y: Any, window: Shape) -> Any:
    """An array of numbers a place with axes of length one behind, for the elements of windows."""
    return y.reshape((*shape_of(y), *[1] * len(window)))


def _expanded_sum(x: Any, **params: Any) -> Any:
    return np.sum(*_seen(x, **params))


def _expanded_max(x: Any, **params: Any) -> Any:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.max(*_seen(x, low, **params))


def _expanded_min(x: Any, **params: Any) -> Any:
    high = np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    return np.min(*_seen(x, high, **params))


def _expanded_position(x: Any, extreme: Any, **params: Any) -> Any:
    window = params["window"]
    # No number stands for what is in the padding, as elements may be infinite.
    found, behind = _seen(x, **params)
    hit = (found == _spread(extreme, window)) | (found != found)
    if any(map(any, params["padding"])):
        shape = [n if axis in params["axes"] else 1 for axis, n in enumerate(x.shape)]
        hit &= _seen(np.ones(shape, bool), **params)[0]
    return np.min(np.where(hit, _numbers(window), np.int32(prod(window))), behind)


def _expanded_pick(x: Any, position: Any, **params: Any) -> Any:
    window = params["window"]
    found, behind = _seen(x, **params)
    return np.sum(np.where(_numbers(window) == _spread(position, window), found, 0), behind)


def _expanded_put(y: Any, position: Any, shape: Shape, **params: Any) -> Any:
    window = params["window"]
    if prod(window) > MOST_PLACED:
        return bind(window_put, y, position, shape=shape, **params)
    hit = _numbers(window) == _spread(position, window)
    return _added(np.where(hit, _spread(y, window), 0), shape, **params)


def _added(
    parts: Any, shape: Shape, axes: Any, window: Any, strides: Any, padding: Any, dilation: Any
):
    """Windows added up in an array of this shape; what lies in the padding is lost."""
    whole, idx = list(shape), [(0, n, 1) for n in shape]
    for axis, (before, after) in zip(axes, padding, strict=True):
        whole[axis] += before + after
        idx[axis] = (before, before + shape[axis], 1)
    out = bind(
        overlap_add,
        parts,
        shape=tuple(whole),
        axes=axes,
        window=window,
        stride=strides,
        dilation=dilation,
    )
    return bind(index, out, idx=tuple(idx))


# --- rules ----------------------------------------------------------------------------


def _shape(
    x: Aval,
    axes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> Aval:
    shape = list(x.shape)
    for axis, k, s, pad, d in zip(axes, window, strides, padding, dilation, strict=True):
        shape[axis] = places(x.shape[axis] + sum(pad), k, s, d)
        if shape[axis] < 1:
            raise ValueError(f"a window of {k} in steps of {d} on axis {axis} of shape {x.shape}")
    return x.update(shape=tuple(shape))


def _batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    args = [
        a if b else bind(broadcast_to, a, shape=(size, *shape_of(a)))
        for a, b in zip(args, batched, strict=True)
    ]
    params = {**params, "axes": tuple(axis + 1 for axis in params["axes"])}
    if "shape" in params:
        params["shape"] = (size, *params["shape"])
    return bind(prim, *args, **params), True


def _sum_transpose(ct: Any, x: Any, **params: Any) -> Any:
    window = params["window"]
    parts = bind(broadcast_to, _spread(ct, window), shape=(*shape_of(ct), *window))
    return _added(parts, shape_of(x), **params)


def _extreme_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    position = bind(window_position, ins[0], ans, **params)
    return bind(window_pick, tangents[0], position, **params)


def _extreme_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
    position = bind(window_position, ins[0], ans, **params)
    return [bind(window_put, ct, position, shape=shape_of(ins[0]), **params)]


def _case(
    shape: Shape,
    axes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int] = (1, 1, 1),
) -> tuple[Shape, dict[str, Any]]:
    params = {
        "axes": tuple(axes),
        "window": tuple(window),
        "strides": tuple(strides),
        "padding": tuple(padding),
        "dilation": tuple(dilation[: len(axes)]),
    }
    return shape, params


_CASES = [
    _case((5,), (0,), (3,), (1,), ((0, 0),)),
    _case((2, 6), (1,), (2,), (2,), ((0, 0),)),
    _case((2, 5, 7), (1, 2), (3, 2), (2, 3), ((1, 1), (1, 0))),
    _case((5, 6, 2), (0, 1), (2, 3), (1, 1), ((1, 0), (1, 2)), (3, 2)),
    _case((3, 4, 3), (0, 1, 2), (2, 2, 1), (1, 2, 1), ((0, 1), (0, 0), (0, 0))),
    _case((0, 4), (1,), (2,), (2,), ((0, 0),)),
]
_TIES = np.array([[1.0, 3.0, 3.0, 2.0, 3.0], [2.0, 2.0, -1.0, 2.0, 2.0]])


def _counted(shape: Shape, params: dict[str, Any]) -> Shape:
    return _shape(Aval(shape, np.dtype(float)), **params).shape


def _first(shape: Shape, params: dict[str, Any]) -> np.ndarray:
    """Positions of elements that all lie in the array."""
    x = np.cos(7.0 * np.arange(prod(shape))).reshape(shape)
    return _window_position(x, _window_max(x, **params), **params)


def _flops(ins: Sequence[Aval], out: Aval, window: Shape, **params: Any) -> int:
    return out.size * prod(window)


window_sum = linear(
    "window_sum",
    _window_sum,
    _sum_transpose,
    shape=_shape,
    batch=_batch,
    samples=Samples(lambda: [sample(shape, **params) for shape, params in _CASES]),
    expansion=_expanded_sum,
    flops=_flops,
)
window_max, window_min = (
    custom(
        name,
        impl,
        shape=_shape,
        jvp=_extreme_jvp,
        vjp=_extreme_vjp,
        batch=_batch,
        samples=Samples(lambda: [sample(shape, **params) for shape, params in _CASES]),
        expansion=expansion,
        flops=_flops,
        dtypes="fi",
    )
    for name, impl, expansion in (
        ("window_max", _window_max, _expanded_max),
        ("window_min", _window_min, _expanded_min),
    )
)
# Of each window the number of the first element that is its extreme.
window_position = nondifferentiable(
    "window_position",
    _window_position,
    shape=lambda x, extreme, **params: Aval(extreme.shape, np.dtype(np.int32)),
    batch=_batch,
    samples=Samples(lambda: [sample(_TIES, _window_max(_TIES, **p), **p) for _, p in _CASES[1:2]]),
    expansion=_expanded_position,
    flops=_flops,
    dtypes="f",
)
# Of each window the element that has the number given.
window_pick = linear(
    "window_pick",
    _window_pick,
    lambda ct, x, position, **params: bind(window_put, ct, position, shape=shape_of(x), **params),
    shape=lambda x, position, **params: x.update(shape=position.shape),
    batch=_batch,
    samples=Samples(
        lambda: [sample(shape, _first(shape, params), **params) for shape, params in _CASES]
    ),
    expansion=_expanded_pick,
    flops=_flops,
)
window_put = linear(
    "window_put",
    _window_put,
    lambda ct, y, position, shape, **params: bind(window_pick, ct, position, **params),
    shape=lambda y, position, shape, **params: y.update(shape=shape),
    batch=_batch,
    samples=Samples(
        lambda: [
            sample(_counted(shape, params), _first(shape, params), shape=shape, **params)
            for shape, params in _CASES
        ]
    ),
    expansion=_expanded_put,
    flops=lambda ins, out, window, **params: ins[0].size * prod(window),
)
