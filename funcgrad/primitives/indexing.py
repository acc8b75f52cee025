"""Primitives that read and write at positions given by integer arrays.

`x` is indexed along `axes` (ascending) by as many integer arrays, which broadcast together,
and whole along its other axes: ``x[:, i, :, j]`` for axes (1, 3). The result is laid out as
NumPy does it: the indices' axes (the *block*) stand where `axes` stood if those are
neighbours, else first. Updates have the layout of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, broadcast_shapes
from funcgrad.core.binding import bind
from funcgrad.core.declarations import custom, linear
from funcgrad.core.device import is_numpys, namespace, zeros_beside
from funcgrad.core.primitive import (
    Samples,
    narrow,
    pad_rank,
    sample,
    shape_of,
    widen,
)
from funcgrad.core.view_map import indexed, whole
from funcgrad.primitives.elementwise import cast
from funcgrad.primitives.structural import (
    FULL,
    broadcast_to,
    index,
    indexed_shape,
    transpose,
)

Axes = tuple[int, ...]


# --- layout ---------------------------------------------------------------------------


def block_position(axes: Axes) -> int:
    """Where the indices' axes stand in the result."""
    return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0


def gathered_shape(shape: Shape, block: Shape, axes: Axes) -> Shape:
    """The shape of the result, for `x` of `shape` and indices that broadcast to `block`."""
    rest = [n for axis, n in enumerate(shape) if axis not in axes]
    position = block_position(axes)
    return (*rest[:position], *block, *rest[position:])


def move_block(x: Any, start: int, length: int, to: int) -> Any:
    """Move `length` neighbouring axes from `start` so that they begin at `to`."""
    if start == to or length == 0:
        return x
    rank = len(shape_of(x))
    perm = [i for i in range(rank) if not start <= i < start + length]
    perm[to:to] = range(start, start + length)
    return bind(transpose, x, perm=tuple(perm))


def at_axes(indices, axes):
    """The index that NumPy takes: `(:, i, :, j)`."""
    full = [slice(None)] * (axes[-1] + 1)
    for axis, i in zip(axes, indices, strict=True):
        full[axis] = i
    return tuple(full)


def block_shape(indices: Any) -> Shape:
    """What the indices broadcast to.

    Raises:
        IndexError: they are no integers, or do not broadcast.
    """
    for i in indices:
        if i.dtype.kind not in "iu":
            raise IndexError(f"indices must be integers, got {i.dtype}")
    shapes = [i.shape for i in indices]
    try:
        return broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(f"index arrays of shapes {shapes} do not broadcast together") from None


def _indices_source(name: str, indices: Any, axes: Axes) -> str:
    pieces = [":"] * (axes[-1] + 1)
    for axis, i in zip(axes, indices, strict=True):
        pieces[axis] = i
    return f"{name}[{', '.join(pieces)}]"


# --- batching -------------------------------------------------------------------------


def _align(indices: Any, batched: Any) -> tuple[list[Any], int]:
    """Batched indices padded so that they broadcast with the others; their common rank."""
    rank = max(len(shape_of(i)) - b for i, b in zip(indices, batched, strict=True))
    aligned = [pad_rank(i, rank + 1) if b else i for i, b in zip(indices, batched, strict=True)]
    return aligned, rank


def _row_of_each(size: int, rank: int, beside: Sequence[Any]) -> Any:
    """An index that pairs each example's positions with the example's own row."""
    return namespace(*beside).arange(size).reshape((size,) + (1,) * rank)


def _batched(x: Any, is_batched: bool, size: int) -> Any:
    return x if is_batched else bind(broadcast_to, x, shape=(size, *shape_of(x)))


def _gather_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, *indices = args
    axes = params["axes"]
    position, moved = block_position(axes), tuple(a + 1 for a in axes)
    indices, rank = _align(indices, batched[1:])
    if not any(batched[1:]):
        out = bind(prim, x, *indices, axes=moved)
        return move_block(out, block_position(moved), rank, position + 1), True
    if not batched[0]:
        out = bind(gather, x, *indices, axes=axes)
        return move_block(out, position, 1, 0), True
    out = bind(gather, x, _row_of_each(size, rank, args), *indices, axes=(0, *moved))
    return move_block(out, 1, rank, position + 1), True


def _batched_update(updates: Any, indices: Any, batched: Any, axes: Axes, size: int) -> Any:
    """Updates (batched), indices and axes for a batched operand."""
    position, moved = block_position(axes), tuple(a + 1 for a in axes)
    indices, rank = _align(indices, batched)
    if not any(batched):
        return move_block(updates, position + 1, rank, block_position(moved)), indices, moved
    updates = move_block(updates, position + 1, rank, 1)
    return updates, [_row_of_each(size, rank, indices), *indices], (0, *moved)


def _scatter_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, updates = (_batched(a, b, size) for a, b in zip(args[:2], batched[:2], strict=True))
    updates, indices, axes = _batched_update(updates, args[2:], batched[2:], params["axes"], size)
    return bind(prim, x, updates, *indices, axes=axes), True


# --- gather ---------------------------------------------------------------------------

_I = np.array([1, 0, 1])
_J = np.array([[0], [2]])
_K = np.array(-1)
# (shape, indices, axes)
_SCALAR_CASES = [((3,), (_K,), (0,)), ((3, 2), (_K,), (1,)), ((2, 4, 3), (_K, _K), (0, 2))]
_CASES = [
    ((3,), (_I,), (0,)),
    ((2, 3), (_J,), (1,)),
    ((2, 3), (_I, _I + 1), (0, 1)),
    ((4, 2, 3), (_I, _J), (1, 2)),
    ((2, 4, 3), (_I, _J), (0, 2)),
    ((3, 2), (np.zeros(0, np.int64),), (0,)),
]


def _gather_shape(x: Aval, *indices: Aval, axes: Axes) -> Aval:
    return x.update(shape=gathered_shape(x.shape, block_shape(indices), axes))


def _gather_transpose(ct: Any, x: Any, *indices: Any, axes: Axes) -> Any:
    return bind(scatter_zeros, ct, *indices, shape=shape_of(x), axes=axes)


def _gather(x, *indices, axes):
    # take copies rows faster than an index does.
    return x.take(indices[0], axes[0]) if len(axes) == 1 else x[at_axes(indices, axes)]


def _gather_source(names: Any, params: Any) -> str:
    axes = params["axes"]
    if len(axes) == 1:
        return f"{names[0]}.take({names[1]}, {axes[0]})"
    return _indices_source(names[0], names[1:], axes)


gather = linear(
    "gather",
    _gather,
    _gather_transpose,
    shape=_gather_shape,
    batch=_gather_batch,
    samples=Samples(
        lambda: [sample(shape, *indices, axes=axes) for shape, indices, axes in _CASES]
    ),
    source=_gather_source,
    dtypes="fci",
    gathers=True,
)


def _dynamic_index(x, *indices, axes):
    return x[at_axes(indices, axes)]


# `gather` for indices that are scalars, which needs no copy.
dynamic_index = linear(
    "dynamic_index",
    _dynamic_index,
    _gather_transpose,
    shape=_gather_shape,
    batch=_gather_batch,
    samples=Samples(
        lambda: [sample(shape, *indices, axes=axes) for shape, indices, axes in _SCALAR_CASES]
    ),
    source=lambda names, params: _indices_source(names[0], names[1:], params["axes"]),
    may_alias=True,
    dtypes="fci",
    gathers=True,
)


def gather_at(x: Any, indices: Any, axes: Axes) -> Any:
    """The elements of `x` at `indices`, through the primitive that fits."""
    scalars = all(shape_of(i) == () for i in indices)
    return bind(dynamic_index if scalars else gather, x, *indices, axes=axes)


# --- scatter: sums --------------------------------------------------------------------


def flat_positions(x, indices, axes):
    """Where in the flattened array x the elements `x[:, i, :, j]` lie, in that layout."""
    shape = x.shape
    strides = np.cumprod((1, *shape[:0:-1]))[::-1]
    block = 0
    for axis, i in zip(axes, indices, strict=True):
        # Indexing checks the range, and wraps negative indices.
        block = block + (np.arange(shape[axis], like=x) * strides[axis])[i]
    neighbours = axes[-1] - axes[0] == len(axes) - 1
    before = [a for a in range(len(shape)) if neighbours and a < axes[0]]
    after = [a for a in range(len(shape)) if a not in axes and a not in before]
    positions = np.reshape(block, np.shape(block) + (1,) * len(after))
    rank = positions.ndim + len(before)
    for place, axis in [*enumerate(before), *enumerate(after, rank - len(after))]:
        lengths = [1] * rank
        lengths[place] = -1
        rows = np.arange(shape[axis], like=x) * strides[axis]
        positions = positions + rows.reshape(lengths)
    return positions


def update_at(ufunc, out, indices, axes, updates):
    """`out[:, i, :, j] = ufunc(out[:, i, :, j], updates)`, for each index in turn; may write `out`.

    In float16 a sum of ones stops growing at 2048, and products may overflow on the way.
    """
    dtype = out.dtype
    if dtype == np.float16:
        out = out.astype(np.float32)
    if not is_numpys(out):
        _update_on_device(ufunc, out, flat_positions(out, indices, axes), updates)
    elif out.ndim == 1 or updates.size < 2048:
        ufunc.at(out, at_axes(indices, axes), updates)
    else:
        # ufunc.at is several times as fast on one axis.
        positions = flat_positions(out, indices, axes)
        ufunc.at(out.reshape(-1), positions.reshape(-1), updates.reshape(-1))
    return out if out.dtype == dtype else out.astype(dtype)


# What CuPy adds atomically, and compares so: of floats it compares singles, and drops NaN.
_ADDED, _COMPARED = "ilqILQfd", "ilqILQ"


def _update_on_device(ufunc, out, positions, updates):
    """What `ufunc.at` does on the flattened array, which has no order for what it overwrites."""
    flat, places = out.reshape(-1), positions.reshape(-1)
    updates = np.broadcast_to(updates, positions.shape).reshape(-1)
    atomic = _ADDED if ufunc is np.add else _COMPARED
    if ufunc is not np.multiply and out.dtype.char in atomic:
        ufunc.at(flat, places, updates)
        return
    if ufunc is np.maximum and out.dtype.char in "fd":
        codes = _ordered_integers(flat)
        np.maximum.at(codes, places, _ordered_integers(updates.astype(out.dtype)))
        flat[...] = _exchanged(codes).view(out.dtype)
        return
    if ufunc is np.minimum and out.dtype.char in "fd":
        flat[...] = -flat
        _update_on_device(np.maximum, flat, places, -updates)
        flat[...] = -flat
        return
    if ufunc is np.add and out.dtype.kind == "c":
        for part in ("real", "imag"):
            np.add.at(getattr(flat, part), places, getattr(updates, part))
        return
    # CuPy does not do the rest atomically: one update of each place, then the next.
    order = np.argsort(places, kind="stable")
    places = places[order]
    turns = np.arange(len(places), like=places) - np.searchsorted(places, places)
    for turn in range(int(turns.max()) + 1 if len(places) else 0):
        now = turns == turn
        flat[places[now]] = ufunc(flat[places[now]], updates[order[now]])


def _ordered_integers(x):
    """Integers in the order of these floats; NaN is the largest."""
    return _exchanged(np.where(x == x, x, np.nan).view(f"i{x.dtype.itemsize}"))


def _exchanged(bits):
    """Floats' bits as integers in their order, and back: negative ones count the other way."""
    return bits ^ ((bits >> (8 * bits.dtype.itemsize - 1)) & np.iinfo(bits.dtype).max)


def _scatter_zeros(x, *indices, shape, axes):
    return update_at(np.add, zeros_beside(x, shape, x.dtype), indices, axes, x)


def _scatter_zeros_shape(x: Aval, *indices: Aval, shape: Shape, axes: Axes) -> Aval:
    _check_updates(x, gathered_shape(shape, block_shape(indices), axes))
    return x.update(shape=shape)


def _check_updates(updates: Aval, expected: Shape) -> None:
    if updates.shape != expected:
        raise ValueError(f"updates have shape {updates.shape}, the indexed part {expected}")


def _scatter_zeros_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, indices, axes = _batched_update(
        _batched(args[0], batched[0], size), args[1:], batched[1:], params["axes"], size
    )
    return bind(prim, x, *indices, shape=(size, *params["shape"]), axes=axes), True


def _part(case: Any) -> Shape:
    shape, indices, axes = case
    return gathered_shape(shape, block_shape(indices), axes)


scatter_zeros = linear(
    "scatter_zeros",
    _scatter_zeros,
    lambda ct, x, *indices, shape, axes: gather_at(ct, indices, axes),
    shape=_scatter_zeros_shape,
    batch=_scatter_zeros_batch,
    samples=Samples(
        lambda: [
            sample(_part(case), *case[1], shape=case[0], axes=case[2])
            for case in (*_CASES, *_SCALAR_CASES)
        ]
    ),
    dtypes="fci",
    scatters="add",
)


def _scatter_shape(x: Aval, updates: Aval, *indices: Aval, axes: Axes) -> Aval:
    _check_updates(updates, gathered_shape(x.shape, block_shape(indices), axes))
    return x.strong()


def _scatter_samples(cases: Any) -> list[Any]:
    return [sample(c[0], _part(c), *c[1], axes=c[2]) for c in cases]


def _scatter_add(x, updates, *indices, axes):
    return update_at(np.add, x.copy(), indices, axes, updates)


scatter_add = linear(
    "scatter_add",
    _scatter_add,
    lambda ct, x, updates, *indices, axes: (ct, gather_at(ct, indices, axes)),
    over=(0, 1),
    shape=_scatter_shape,
    batch=_scatter_batch,
    samples=Samples(lambda: _scatter_samples([*_CASES, *_SCALAR_CASES])),
    dtypes="fci",
    scatters="add",
)


# --- scatter: replacement -------------------------------------------------------------


def _scatter_set(x, updates, *indices, axes):
    out = x.copy()
    if is_numpys(out):
        out[at_axes(indices, axes)] = updates
        return out
    # Of the updates at one place CuPy takes any: the last one has to be the only one.
    positions = flat_positions(out, indices, axes)
    updates = np.broadcast_to(updates, positions.shape).reshape(-1)
    order = np.argsort(positions.reshape(-1), kind="stable")
    places = positions.reshape(-1)[order]
    last = np.concatenate([places[1:] != places[:-1], places[:1] == places[:1]])
    out.reshape(-1)[places[last]] = updates[order[last]]
    return out


def _winners(shape: Shape, indices: Any, axes: Axes) -> Any:
    """Which updates stay: of those at one position the last. None if all do."""
    block = np.broadcast_shapes(*map(shape_of, indices))
    count = int(np.prod(block))
    if count <= 1:
        return None
    library = namespace(*indices)
    turn = library.arange(count).reshape(block)
    lengths = tuple(shape[a] for a in axes)
    own = tuple(range(len(axes)))
    last = bind(scatter_set, library.zeros(lengths, turn.dtype), turn, *indices, axes=own)
    stays = gather_at(last, indices, own) == turn
    after = len(shape) - len(axes) - block_position(axes)
    return stays.reshape(block + (1,) * after)


def _scatter_set_transpose(ct: Any, x: Any, updates: Any, *indices: Any, axes: Axes) -> Any:
    read = gather_at(ct, indices, axes)
    stays = _winners(shape_of(x), indices, axes)
    zeros = namespace(ct).zeros(shape_of(updates), ct.dtype)
    kept = bind(scatter_set, ct, zeros, *indices, axes=axes)
    return kept, read if stays is None else np.where(stays, read, 0)


scatter_set = linear(
    "scatter_set",
    _scatter_set,
    _scatter_set_transpose,
    over=(0, 1),
    shape=_scatter_shape,
    batch=_scatter_batch,
    samples=Samples(lambda: _scatter_samples([*_CASES, *_SCALAR_CASES])),
    dtypes="fci",
    scatters="set",
)

# The same for integers and slices that are known: a copy with a part replaced.


def _index_set(x, updates, idx):
    out = x.copy("K")
    out[tuple([slice(*e) if type(e) is tuple else e for e in idx])] = updates
    return out


def _index_set_shape(x: Aval, updates: Aval, idx: Any) -> Aval:
    _check_updates(updates, indexed_shape(x.shape, idx))
    return x.strong()


def _index_set_transpose(ct: Any, x: Any, updates: Any, idx: Any) -> Any:
    zeros = namespace(ct).zeros(shape_of(updates), ct.dtype)
    return bind(index_set, ct, zeros, idx=idx), bind(index, ct, idx=idx)


def _index_set_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, updates = (_batched(a, b, size) for a, b in zip(args, batched, strict=True))
    return bind(prim, x, updates, idx=(FULL, *params["idx"])), True


_STATIC_CASES = [((2, 5), (1, FULL)), ((2, 5), (FULL, (4, None, -2))), ((4,), (2,))]
index_set = linear(
    "index_set",
    _index_set,
    _index_set_transpose,
    over=(0, 1),
    shape=_index_set_shape,
    batch=_index_set_batch,
    samples=Samples(
        lambda: [sample(shape, indexed_shape(shape, idx), idx=idx) for shape, idx in _STATIC_CASES]
    ),
    dtypes="fci",
    assembles=lambda x, updates, idx: [whole(x), indexed(x, idx)],
)

# --- scatter: products ----------------------------------------------------------------


def _scatter_mul(x, updates, *indices, axes):
    return update_at(np.multiply, x.copy(), indices, axes, updates)


def _product_slopes(ans: Any, x: Any, updates: Any, indices: Any, axes: Axes) -> Any:
    """The derivatives of each element by its operand, and by each of its updates.

    That by an update is the product of the other factors: the quotient where the update is
    not zero, else the product of what is not zero, times the other zero if there is one (which
    second derivatives need), or 0 for two or more.
    """
    shape = shape_of(x)
    zero = updates == 0
    factors = np.where(zero, 1, updates)

    def sums(terms: Any) -> Any:
        totals = bind(scatter_zeros, terms, *indices, shape=shape, axes=axes)
        return gather_at(totals, indices, axes)

    count = sums(cast(zero, x.dtype))
    other = sums(np.where(zero, updates, 0)) - updates
    rest = bind(scatter_mul, x, factors, *indices, axes=axes)
    of_zero = gather_at(rest, indices, axes) * np.where(count == 1, 1, other * (count == 2))
    slope = np.where(zero, of_zero, gather_at(ans, indices, axes) / factors)
    by_x = bind(scatter_mul, namespace(x).ones(shape, x.dtype), updates, *indices, axes=axes)
    return by_x, slope


def _scatter_mul_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    (x, updates, *indices), (dx, du, *_) = ins, tangents
    by_x, by_updates = _product_slopes(ans, x, updates, indices, params["axes"])
    total = None if dx is None else dx * by_x
    if du is None:
        return total
    term = bind(scatter_zeros, du * by_updates, *indices, shape=shape_of(x), **params)
    return term if total is None else total + term


def _scatter_mul_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
    x, updates, *indices = ins
    by_x, by_updates = _product_slopes(ans, x, updates, indices, params["axes"])
    pulled = gather_at(ct, indices, params["axes"]) * by_updates
    return [ct * by_x, pulled, *[None] * len(indices)]


scatter_mul = custom(
    "scatter_mul",
    _scatter_mul,
    shape=_scatter_shape,
    jvp=_scatter_mul_jvp,
    vjp=_scatter_mul_vjp,
    batch=_scatter_batch,
    samples=Samples(lambda: _scatter_samples([*_CASES, *_SCALAR_CASES])),
    dtypes="fci",
    scatters="mul",
)

# --- scatter: extrema -----------------------------------------------------------------


def _is(x: Any, extremum: Any) -> Any:
    """1 where x is the extremum (NaN is NaN's), else 0; wide, as such are counted."""
    found = (x == extremum) | ((x != x) & (extremum != extremum))
    return cast(found, widen(extremum).dtype)


def _extremum_shares(ans: Any, x: Any, updates: Any, indices: Any, axes: Axes) -> Any:
    """The parts that operand and updates have in the extremum: equals share it."""
    mine = _is(x, ans)
    theirs = _is(updates, gather_at(ans, indices, axes))
    count = mine + bind(scatter_zeros, theirs, *indices, shape=shape_of(x), axes=axes)
    shares = mine / count, theirs / gather_at(count, indices, axes)
    return tuple([narrow(share, ans.dtype) for share in shares])


def _extremum_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    (x, updates, *indices), (dx, du, *_) = ins, tangents
    mine, theirs = _extremum_shares(ans, x, updates, indices, params["axes"])
    total = None if dx is None else dx * mine
    if du is None:
        return total
    term = bind(scatter_zeros, du * theirs, *indices, shape=shape_of(x), **params)
    return term if total is None else total + term


def _extremum_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
    x, updates, *indices = ins
    mine, theirs = _extremum_shares(ans, x, updates, indices, params["axes"])
    pulled = gather_at(ct, indices, params["axes"]) * theirs
    return [ct * mine, pulled, *[None] * len(indices)]


def _scatter_min(x, updates, *indices, axes):
    return update_at(np.minimum, x.copy(), indices, axes, updates)


def _scatter_max(x, updates, *indices, axes):
    return update_at(np.maximum, x.copy(), indices, axes, updates)


def _extremum(name: str, impl: Any, scatters: str) -> Any:
    return custom(
        name,
        impl,
        shape=_scatter_shape,
        jvp=_extremum_jvp,
        vjp=_extremum_vjp,
        batch=_scatter_batch,
        samples=Samples(lambda: _scatter_samples([*_CASES, *_SCALAR_CASES])),
        dtypes="fi",
        scatters=scatters,
    )


scatter_min = _extremum("scatter_min", _scatter_min, "minimum")
scatter_max = _extremum("scatter_max", _scatter_max, "maximum")
