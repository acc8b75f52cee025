"""Primitives that move elements about: shape, order, slices and their embedding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, aval_of, broadcast_shapes, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.declarations import linear
from funcgrad.core.device import is_numpys, zeros_beside
from funcgrad.core.primitive import (
    pad_rank,
    sample,
    shape_of,
    unbroadcast,
)
from funcgrad.core.view_map import Along, ViewMap, broadcast, flipped, indexed, whole

# An index entry: an integer, or a slice as the hashable triple (start, stop, step).
Entry = int | tuple[int, int | None, int]
FULL: tuple[int, None, int] = (0, None, 1)


# --- reshape, transpose, broadcast, flip ----------------------------------------------


def _reshape(x, shape):
    return np.reshape(x, shape)


def _reshape_shape(x: Aval, shape: Shape) -> Aval:
    if prod(shape) != x.size:
        raise ValueError(f"cannot reshape {x.size} elements of shape {x.shape} into {shape}")
    return x.update(shape=shape)


reshape = linear(
    "reshape",
    _reshape,
    lambda ct, x, shape: ct.reshape(shape_of(x)),
    shape=_reshape_shape,
    batch=lambda prim, args, batched, size, params: (
        args[0].reshape((size, *params["shape"])),
        True,
    ),
    samples=[sample((2, 3), shape=(6,)), sample((), shape=(1, 1)), sample((0, 2), shape=(2, 0))],
    source=lambda names, params: f"{names[0]}.reshape({params['shape']})",
    simplify=lambda ins, params: ins[0] if shape_of(ins[0]) == params["shape"] else None,
    view=lambda x, shape: whole(shape),
    cost=0,
    dtypes="fci",
)


def _transpose(x, perm):
    return np.transpose(x, perm)


def _transpose_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    perm = (0, *(p + 1 for p in params["perm"]))
    return bind(prim, args[0], perm=perm), True


transpose = linear(
    "transpose",
    _transpose,
    lambda ct, x, perm: bind(transpose, ct, perm=inverse_permutation(perm)),
    shape=lambda x, perm: x.update(shape=tuple(x.shape[p] for p in perm)),
    batch=_transpose_batch,
    samples=[sample((2, 3), perm=(1, 0)), sample((2, 3, 4), perm=(2, 0, 1)), sample((), perm=())],
    source=lambda names, params: (
        f"{names[0]}.T" if params["perm"] == (1, 0) else f"{names[0]}.transpose({params['perm']})"
    ),
    simplify=lambda ins, params: (
        ins[0] if params["perm"] == tuple(range(len(params["perm"]))) else None
    ),
    view=lambda x, perm: ViewMap(x, tuple(map(Along, perm))),
    cost=0,
    dtypes="fci",
)


def inverse_permutation(perm: Sequence[int]) -> tuple[int, ...]:
    inverse = [0] * len(perm)
    for i, p in enumerate(perm):
        inverse[p] = i
    return tuple(inverse)


def _broadcast_to(x, shape):
    if isinstance(x, np.generic):
        # A view of one element, at a tenth of what np.broadcast_to takes.
        return np.ndarray(shape, x.dtype, np.array(x), 0, (0,) * len(shape))
    return np.broadcast_to(x, shape)


def _broadcast_shape(x: Aval, shape: Shape) -> Aval:
    if x.shape and broadcast_shapes(x.shape, tuple(shape)) != tuple(shape):
        raise ValueError(f"cannot broadcast shape {x.shape} to {shape}")
    return x.update(shape=shape)


def _broadcast_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    shape = (size, *params["shape"])
    return bind(prim, pad_rank(args[0], len(shape)), shape=shape), True


broadcast_to = linear(
    "broadcast_to",
    _broadcast_to,
    lambda ct, x, shape: unbroadcast(ct, shape_of(x)),
    shape=_broadcast_shape,
    batch=_broadcast_batch,
    samples=[sample((3,), shape=(2, 3)), sample((2, 1), shape=(2, 3)), sample((), shape=(2,))],
    source=lambda names, params: f"np.broadcast_to({names[0]}, {params['shape']})",
    simplify=lambda ins, params: (
        ins[0] if shape_of(ins[0]) == params["shape"] and hasattr(ins[0], "dtype") else None
    ),
    view=lambda x, shape: broadcast(x, shape),
    cost=0,
    dtypes="fci",
)


def _flip(x, axes):
    return np.flip(x, axes)


flip = linear(
    "flip",
    _flip,
    lambda ct, x, axes: bind(flip, ct, axes=axes),
    shape=lambda x, axes: x.strong(),
    batch=lambda prim, args, batched, size, params: (
        bind(prim, args[0], axes=tuple(a + 1 for a in params["axes"])),
        True,
    ),
    samples=[sample((2, 3), axes=(1,)), sample((2, 3), axes=(0, 1))],
    source=lambda names, params: f"np.flip({names[0]}, {params['axes']})",
    view=flipped,
    cost=0,
    dtypes="fci",
)

# --- concatenate ----------------------------------------------------------------------


def _concatenate(*xs, axis):
    return np.concatenate(xs, axis)


def _concatenate_shape(*xs: Aval, axis: int) -> Aval:
    first = xs[0].shape
    for x in xs:
        if x.shape[:axis] != first[:axis] or x.shape[axis + 1 :] != first[axis + 1 :]:
            raise ValueError(
                f"all axes but axis {axis} must agree, got shapes {[x.shape for x in xs]}"
            )
    total = sum(x.shape[axis] for x in xs)
    return Aval((*first[:axis], total, *first[axis + 1 :]), result_dtype(*xs))


def _concatenate_transpose(ct: Any, *xs: Any, axis: int) -> list[Any]:
    cts, start = [], 0
    for x in xs:
        shape = shape_of(x)
        stop = start + shape[axis]
        cts.append(slice_axis(ct, axis, start, stop))
        start = stop
    return cts


def _concatenate_parts(*shapes: Shape, axis: int) -> list[ViewMap]:
    ends = list(accumulate(s[axis] for s in shapes))
    source = (*shapes[0][:axis], ends[-1], *shapes[0][axis + 1 :])
    parts = []
    for shape, end in zip(shapes, ends, strict=True):
        begin = end - shape[axis]
        along = (Along(k, begin if k == axis else 0) for k in range(len(shape)))
        parts.append(ViewMap(source, tuple(along)))
    return parts


def _concatenate_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    args = [
        a if b else bind(broadcast_to, a, shape=(size, *shape_of(a)))
        for a, b in zip(args, batched, strict=True)
    ]
    return bind(prim, *args, axis=params["axis"] + 1), True


concatenate = linear(
    "concatenate",
    _concatenate,
    _concatenate_transpose,
    over=range,
    shape=_concatenate_shape,
    batch=_concatenate_batch,
    samples=[sample((2, 3), (1, 3), axis=0), sample((2, 0), (2, 2), (2, 1), axis=1)],
    source=lambda names, params: f"np.concatenate(({', '.join(names)},), {params['axis']})",
    assembles=_concatenate_parts,
    cost=1,
    dtypes="fci",
)

# --- scalars to a vector --------------------------------------------------------------


def _pack(*xs):
    for x in xs:
        if hasattr(x, "dtype") and not is_numpys(x):
            out = zeros_beside(x, len(xs), np.result_type(*xs))
            for i, element in enumerate(xs):
                out[i] = element
            return out
    return np.array(xs)


def _pack_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    columns = [
        bind(reshape, a if b else bind(broadcast_to, a, shape=(size,)), shape=(size, 1))
        for a, b in zip(args, batched, strict=True)
    ]
    return bind(concatenate, *columns, axis=1), True


# What concatenating arrays of one element would do, in a quarter of the time.
pack = linear(
    "pack",
    _pack,
    lambda ct, *xs: [ct[i] for i in range(len(xs))],
    over=range,
    shape=lambda *xs: Aval((len(xs),), result_dtype(*xs)),
    batch=_pack_batch,
    samples=[sample((), ()), sample((), (), ())],
    source=lambda names, params: f"np.array([{', '.join(names)}])",
    assembles=lambda *shapes: [indexed((len(shapes),), (i,)) for i in range(len(shapes))],
    dtypes="fci",
)

# --- basic indexing and its transpose -------------------------------------------------


def _index(x, idx):
    return x[tuple([slice(*e) if type(e) is tuple else e for e in idx])]


def indexed_shape(shape: Shape, idx: Sequence[Entry]) -> Shape:
    """The shape of `x[idx]`."""
    return tuple(
        len(range(*slice(*e).indices(n)))
        for n, e in zip(shape, idx, strict=True)
        if type(e) is tuple
    )


def slice_axis(x: Any, axis: int, start: int, stop: int | None, step: int = 1) -> Any:
    """`x[..., start:stop:step, ...]` along one axis."""
    idx: list[Entry] = [FULL] * len(shape_of(x))
    idx[axis] = (start, stop, step)
    return bind(index, x, idx=tuple(idx))


def index_source(idx: Sequence[Entry]) -> str:
    """`0, 1:3, ::2`: index entries as they are written between brackets."""

    def piece(e: Entry) -> str:
        if type(e) is not tuple:
            return str(e)
        start, stop, step = e
        text = f"{start or ''}:{'' if stop is None else stop}"
        if step < 0:
            text = f"{start}:{'' if stop is None else stop}"
        return text if step == 1 else f"{text}:{step}"

    return ", ".join(map(piece, idx)) or "()"


def _batched_index(params: Any) -> tuple[Entry, ...]:
    return (FULL, *params["idx"])


_INDEX_SAMPLES = [
    ((2, 5), (1, (0, None, 1))),
    ((2, 5), ((0, None, 1), (4, None, -2))),
    ((4,), ((1, 3, 1),)),
    ((4,), (2,)),
    ((4,), ((2, 2, 1),)),
]

index = linear(
    "index",
    _index,
    lambda ct, x, idx: bind(embed, ct, shape=shape_of(x), idx=idx),
    shape=lambda x, idx: x.update(shape=indexed_shape(x.shape, idx)),
    batch=lambda prim, args, batched, size, params: (
        bind(prim, args[0], idx=_batched_index(params)),
        True,
    ),
    samples=[sample(shape, idx=idx) for shape, idx in _INDEX_SAMPLES],
    source=lambda names, params: f"{names[0]}[{index_source(params['idx'])}]",
    simplify=lambda ins, params: ins[0] if all(e == FULL for e in params["idx"]) else None,
    view=indexed,
    cost=0,
    dtypes="fci",
)


def _embed(x, shape, idx):
    out = np.zeros_like(x, shape=shape)
    out[tuple([slice(*e) if type(e) is tuple else e for e in idx])] = x
    return out


def _embed_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    shape = (size, *params["shape"])
    return bind(prim, args[0], shape=shape, idx=_batched_index(params)), True


embed = linear(
    "embed",
    _embed,
    lambda ct, x, shape, idx: bind(index, ct, idx=idx),
    shape=lambda x, shape, idx: x.update(shape=shape),
    batch=_embed_batch,
    samples=[
        sample(indexed_shape(shape, idx), shape=shape, idx=idx) for shape, idx in _INDEX_SAMPLES
    ],
    assembles=lambda x, shape, idx: [indexed(shape, idx)],
    cost=1,
    dtypes="fci",
)


def move_axis(x: Any, source: int, destination: int) -> Any:
    """`np.moveaxis` for one axis, on arrays and tracers."""
    rank = len(aval_of(x).shape)
    source %= rank
    destination %= rank
    if source == destination:
        return x
    perm = [i for i in range(rank) if i != source]
    perm.insert(destination, source)
    return bind(transpose, x, perm=tuple(perm))
