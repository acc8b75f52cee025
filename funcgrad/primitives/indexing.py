"""Primitives that read and write at positions given by integer arrays.

`x` is indexed along `axes` (ascending) by as many integer arrays, which broadcast together,
and whole along its other axes: ``x[:, i, :, j]`` for axes (1, 3). The result is laid out as
NumPy does it: the indices' axes stand where `axes` stood if those are neighbours, else first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, broadcast_shapes
from funcgrad.core.primitive import linear, pad_rank, sample, shape_of
from funcgrad.core.tracer import bind
from funcgrad.primitives.structural import broadcast_to, transpose

Axes = tuple[int, ...]


# --- layout ---------------------------------------------------------------------------


def block_position(axes: Axes) -> int:
    """Where the indices' axes stand in the result."""
    return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0


def gathered_shape(shape: Shape, indices: Shape, axes: Axes) -> Shape:
    """The shape of the result, for `x` of `shape` and indices that broadcast to `indices`."""
    rest = [n for axis, n in enumerate(shape) if axis not in axes]
    position = block_position(axes)
    return (*rest[:position], *indices, *rest[position:])


def move_block(x: Any, start: int, length: int, to: int) -> Any:
    """Move `length` neighbouring axes from `start` so that they begin at `to`."""
    if start == to or length == 0:
        return x
    rank = len(shape_of(x))
    perm = [i for i in range(rank) if not start <= i < start + length]
    perm[to:to] = range(start, start + length)
    return bind(transpose, x, perm=tuple(perm))


def at_axes(indices: Any, axes: Axes) -> tuple[Any, ...]:
    """The index NumPy takes: `(:, i, :, j)`."""
    full: list[Any] = [slice(None)] * (axes[-1] + 1)
    for axis, index in zip(axes, indices, strict=True):
        full[axis] = index
    return tuple(full)


def _index_shape(indices: Any) -> Shape:
    for index in indices:
        if index.dtype.kind not in "iu":
            raise IndexError(f"indices must be integers, got {index.dtype}")
    return broadcast_shapes(*(i.shape for i in indices))


def _indices_source(name: str, indices: Any, axes: Axes) -> str:
    pieces = [":"] * (axes[-1] + 1)
    for axis, index in zip(axes, indices, strict=True):
        pieces[axis] = index
    return f"{name}[{', '.join(pieces)}]"


# --- gather and its transpose ---------------------------------------------------------


def _gather(x, *indices, axes):
    return x[at_axes(indices, axes)]


def _gather_shape(x: Aval, *indices: Aval, axes: Axes) -> Aval:
    return x.update(shape=gathered_shape(x.shape, _index_shape(indices), axes))


def _align(indices: Any, batched: Any) -> tuple[list[Any], int]:
    """Batched indices padded so that they broadcast with the others; their common rank."""
    rank = max(len(shape_of(i)) - b for i, b in zip(indices, batched, strict=True))
    indices = [pad_rank(i, rank + 1) if b else i for i, b in zip(indices, batched, strict=True)]
    return indices, rank


def _own_rows(indices: Any, rank: int, size: int) -> Any:
    """An index that pairs each example's positions with the example's own row."""
    return np.arange(size).reshape((size,) + (1,) * rank)


def _gather_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, *indices = args
    axes = params["axes"]
    position = block_position(axes)
    moved = tuple(a + 1 for a in axes)
    indices, rank = _align(indices, batched[1:])
    if not any(batched[1:]):
        out = bind(gather, x, *indices, axes=moved)
        start = block_position(moved)
        return move_block(out, start, rank, position + 1), True
    if not batched[0]:
        out = bind(gather, x, *indices, axes=axes)
        return move_block(out, position, 1, 0), True
    rows = _own_rows(indices, rank, size)
    out = bind(gather, x, rows, *indices, axes=(0, *moved))
    return move_block(out, 1, rank, position + 1), True


_I = np.array([1, 0, 1])
_J = np.array([[0], [2]])
# (shape, indices, axes)
_CASES = [
    ((3,), (_I,), (0,)),
    ((3,), (np.array(2),), (0,)),
    ((2, 3), (_J,), (1,)),
    ((2, 3), (_I, _I + 1), (0, 1)),
    ((4, 2, 3), (_I, _J), (1, 2)),
    ((2, 4, 3), (_I, _J), (0, 2)),
    ((3, 2), (np.array(-1),), (0,)),
    ((3, 2), (np.zeros(0, np.int64),), (0,)),
]

gather = linear(
    "gather",
    _gather,
    lambda ct, x, *indices, axes: bind(scatter_zeros, ct, *indices, shape=shape_of(x), axes=axes),
    shape=_gather_shape,
    batch=_gather_batch,
    samples=[sample(shape, *indices, axes=axes) for shape, indices, axes in _CASES],
    source=lambda names, params: _indices_source(names[0], names[1:], params["axes"]),
    view=True,
    dtypes="fci",
)


def _scatter_zeros(x, *indices, shape, axes):
    out = np.zeros(shape, x.dtype)
    np.add.at(out, at_axes(indices, axes), x)
    return out


def _scatter_zeros_shape(x: Aval, *indices: Aval, shape: Shape, axes: Axes) -> Aval:
    return x.update(shape=shape)


def _scatter_zeros_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, *indices = args
    shape, axes = (size, *params["shape"]), params["axes"]
    position = block_position(axes)
    moved = tuple(a + 1 for a in axes)
    indices, rank = _align(indices, batched[1:])
    if not any(batched[1:]):
        x = move_block(x, position + 1, rank, block_position(moved))
        return bind(prim, x, *indices, shape=shape, axes=moved), True
    if not batched[0]:
        x = bind(broadcast_to, x, shape=(size, *shape_of(x)))
    x = move_block(x, position + 1, rank, 1)
    rows = _own_rows(indices, rank, size)
    return bind(prim, x, rows, *indices, shape=shape, axes=(0, *moved)), True


scatter_zeros = linear(
    "scatter_zeros",
    _scatter_zeros,
    lambda ct, x, *indices, shape, axes: bind(gather, ct, *indices, axes=axes),
    shape=_scatter_zeros_shape,
    batch=_scatter_zeros_batch,
    samples=[
        sample(
            gathered_shape(shape, np.broadcast_shapes(*(i.shape for i in indices)), axes),
            *indices,
            shape=shape,
            axes=axes,
        )
        for shape, indices, axes in _CASES
    ],
    dtypes="fci",
)
