"""Shapes and order: reshape, transpose, concatenate, split, repeat, flip, diagonals."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from operator import index as to_int
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.core.device import namespace
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, ShapeError, UnsupportedFunctionError, at_line
from funcgrad.numpy.convert import (
    as_array,
    as_shape,
    assigned,
    normalize_axes,
    normalize_axis,
)
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.selection import take
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast
from funcgrad.primitives.integers import fit

# --- shape ----------------------------------------------------------------------------


def _element_order(order: Any, shape: tuple[int, ...], allowed: str) -> str:
    """C or F: which axis' elements follow upon one another.

    Raises:
        UnsupportedFunctionError: it would depend on the layout in memory.
        ArgumentError: there is no such order.
    """
    if order == "C" or order is None:
        return "C"
    order = str(order).upper()
    if order not in allowed:
        raise at_line(ArgumentError, f"order={order!r} is none of {', '.join(allowed)}")
    if order in "CF":
        return order
    if 0 in shape or sum(n > 1 for n in shape) < 2:
        return "C"
    raise UnsupportedFunctionError.of(
        f"order={order!r} for more than one axis",
        "A traced array has no layout in memory; write order='C' or order='F'.",
    )


def _complete_shape(shape: tuple[int, ...], old: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with -1 replaced.

    Raises:
        ShapeError: the numbers of elements differ.
    """
    size, known = prod(old), prod([n for n in shape if n != -1])
    if shape.count(-1) == 1 and known and size % known == 0:
        shape = tuple([size // known if n == -1 else n for n in shape])
    if -1 in shape or prod(shape) != size:
        raise at_line(
            ShapeError, f"cannot reshape an array of shape {old} ({size} elements) into {shape}"
        )
    return shape


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, copy: bool | None = None) -> Any:
    a = as_array(a)
    shape = _complete_shape(as_shape(shape), a.shape)
    if _element_order(order, a.shape, "CFA") == "F":
        return bind(st.reshape, reversed_axes(a), shape=shape[::-1]).T
    return bind(st.reshape, a, shape=shape)


def reversed_axes(a: Any) -> Any:
    return bind(st.transpose, a, perm=tuple(range(a.ndim))[::-1])


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    a = as_array(a)
    return reshape(a, a.size, _element_order(order, a.shape, "CFAK"))


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    a = as_array(a)
    shape = a.shape
    # NumPy takes a number as if it had one axis.
    axes = normalize_axes(axis, len(shape) or (axis is not None))
    if not shape:
        return a
    if axis is None:
        axes = [i for i in axes if shape[i] == 1]
    if any(shape[i] != 1 for i in axes):
        raise at_line(
            ShapeError, f"squeeze takes away axes of length 1 only; axis={axis} of shape {shape}"
        )
    return bind(st.reshape, a, shape=tuple([n for i, n in enumerate(shape) if i not in axes]))


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    a = as_array(a)
    axis = axis if isinstance(axis, (tuple, list)) else (axis,)
    rank = a.ndim + len(axis)
    axes = normalize_axes(axis, rank)
    rest = iter(a.shape)
    return bind(st.reshape, a, shape=tuple([1 if i in axes else next(rest) for i in range(rank)]))


def _at_least(rank: int, name: str, place: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Any:
    def at_least(*arys: Any) -> Any:
        found = []
        for a in map(as_array, arys):
            found.append(a if a.ndim >= rank else bind(st.reshape, a, shape=place(a.shape)))
        return found[0] if len(found) == 1 else tuple(found)

    at_least.__name__ = name
    return at_least


atleast_1d = implements(np.atleast_1d)(_at_least(1, "atleast_1d", lambda s: (1,)))
atleast_2d = implements(np.atleast_2d)(_at_least(2, "atleast_2d", lambda s: (1, *(s or (1,)))))
# A vector becomes (1, n, 1), a matrix (m, n, 1).
atleast_3d = implements(np.atleast_3d)(
    _at_least(3, "atleast_3d", lambda s: (1, *s, 1) if len(s) == 1 else (*s, 1, 1, 1)[:3])
)

# --- order of axes --------------------------------------------------------------------


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    a = as_array(a)
    rank = a.ndim
    perm = range(rank)[::-1]
    if axes is not None:
        perm = [normalize_axis(i, rank) for i in as_shape(axes)]
    if len(perm) != rank or len(set(perm)) != rank:
        raise at_line(ShapeError, f"axes={axes} is no permutation of the axes of shape {a.shape}")
    return bind(st.transpose, a, perm=tuple(perm))


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    a = as_array(a)
    i, j = normalize_axis(axis1, a.ndim), normalize_axis(axis2, a.ndim)
    perm = list(range(a.ndim))
    perm[i], perm[j] = j, i
    return bind(st.transpose, a, perm=tuple(perm))


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    a = as_array(a)
    sources, places = (
        [normalize_axis(i, a.ndim) for i in (ax if isinstance(ax, (tuple, list)) else (ax,))]
        for ax in (source, destination)
    )
    if not len(sources) == len(places) == len({*sources}) == len({*places}):
        raise ValueError(
            "moveaxis needs as many destinations as sources, and each but once: "
            f"{source}, {destination}"
        )
    perm = [i for i in range(a.ndim) if i not in sources]
    for place, i in sorted(zip(places, sources, strict=True)):
        perm.insert(place, i)
    return bind(st.transpose, a, perm=tuple(perm))


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    a = as_array(a)
    axis = normalize_axis(axis, a.ndim)
    start = a.ndim if start == a.ndim else normalize_axis(start, a.ndim)
    return moveaxis(a, axis, start - (axis < start))


@implements(np.linalg.matrix_transpose, np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    x = as_array(x)
    if x.ndim < 2:
        raise at_line(ShapeError, f"a matrix transpose needs two axes, got shape {x.shape}")
    return swapaxes(x, -1, -2)


# --- broadcasting ---------------------------------------------------------------------


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = as_shape(shape)
    if any(n < 0 for n in shape):
        raise at_line(ShapeError, f"lengths of axes are not negative, got the shape {shape}")
    return bind(st.broadcast_to, as_array(array), shape=shape)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    arrays = list(map(as_array, args))
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    return tuple([bind(st.broadcast_to, a, shape=shape) for a in arrays])


# --- repeating ------------------------------------------------------------------------


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    a, reps = as_array(A), as_shape(reps)
    rank = max(a.ndim, len(reps))
    shape = (1,) * (rank - a.ndim) + a.shape
    reps = (1,) * (rank - len(reps)) + reps
    pairs = [n for pair in zip((1,) * rank, shape, strict=True) for n in pair]
    wide = [n for pair in zip(reps, shape, strict=True) for n in pair]
    out = bind(st.broadcast_to, bind(st.reshape, a, shape=tuple(pairs)), shape=tuple(wide))
    return bind(st.reshape, out, shape=tuple([r * n for r, n in zip(reps, shape, strict=True)]))


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    a = as_array(a)
    if axis is None or a.ndim == 0:
        a, axis = a.reshape((-1,)), axis or 0
    axis = normalize_axis(axis, a.ndim)
    lead, n, rest = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    repeats = np.asarray(repeats)
    if repeats.size != 1:
        repeats = repeats if repeats.size else repeats.astype(np.intp)
        return take(a, np.repeat(np.arange(n), repeats), axis)
    times = int(repeats.reshape(()))
    a = bind(st.reshape, a, shape=(*lead, n, 1, *rest))
    a = bind(st.broadcast_to, a, shape=(*lead, n, times, *rest))
    return bind(st.reshape, a, shape=(*lead, n * times, *rest))


# --- flipping and rolling -------------------------------------------------------------


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    m = as_array(m)
    return bind(st.flip, m, axes=normalize_axes(axis, m.ndim))


@implements(np.fliplr)
def fliplr(m: Any) -> Any:
    return flip(m, 1)


@implements(np.flipud)
def flipud(m: Any) -> Any:
    return flip(m, 0)


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    m = as_array(m)
    first, second = (normalize_axis(i, m.ndim) for i in axes)
    if first == second:
        raise ValueError(f"rot90 turns the plane of two different axes, got axes={axes}")
    turned = {
        0: lambda: m,
        1: lambda: swapaxes(flip(m, second), first, second),
        2: lambda: flip(m, (first, second)),
        3: lambda: flip(swapaxes(m, first, second), second),
    }
    return turned[k % 4]()


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    a = as_array(a)
    if axis is None:
        return roll(a.reshape((-1,)), shift, 0).reshape(a.shape)
    shifts, axes = np.broadcast_arrays(shift if type(shift) is Tracer else np.asarray(shift), axis)
    for s, i in zip(shifts.reshape((-1,)), axes.reshape((-1,)), strict=True):
        a = _roll_axis(a, s, normalize_axis(i, a.ndim))
    return a


def _roll_axis(a: Any, shift: Any, axis: int) -> Any:
    n = a.shape[axis]
    if n == 0:
        return a
    if type(shift) is Tracer:
        return take(a, (np.arange(n) - shift) % n, axis)
    cut = -int(shift) % n
    if cut == 0:
        return a
    parts = st.slice_axis(a, axis, cut, None), st.slice_axis(a, axis, 0, cut)
    return bind(st.concatenate, *parts, axis=axis)


# --- padding --------------------------------------------------------------------------

# Modes that copy elements: where from is what NumPy makes of a range of positions.
_COPYING = ("edge", "reflect", "symmetric", "wrap")


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    array = as_array(array)
    widths = _pad_widths(pad_width, array.ndim)
    if mode == "constant":
        fills = _pairs(options.pop("constant_values", 0), array.ndim)
        if not options:
            return _pad_constant(array, widths, fills)
    elif mode in _COPYING:
        for axis, width in enumerate(widths):
            if any(width):
                positions = np.pad(np.arange(array.shape[axis]), width, mode, **options)
                array = take(array, positions, axis)
        return array
    elif mode == "empty":
        return _pad_constant(array, widths, [(0, 0)] * array.ndim)
    raise UnsupportedFunctionError.of(
        f"np.pad with mode={mode!r}{''.join(f', {o}=' for o in options)}",
        f"The modes constant, empty, {', '.join(_COPYING)} are there.",
    )


def _pad_widths(pad_width: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        given = {normalize_axis(axis, rank): width for axis, width in pad_width.items()}
        pad_width = [_pairs(given.get(i, 0), 1)[0] for i in range(rank)]
    widths = [(to_int(b), to_int(a)) for b, a in _pairs(pad_width, rank or 1)]
    if any(n < 0 for width in widths for n in width):
        raise ValueError(f"np.pad takes no negative widths, got {pad_width}")
    return widths[:rank]


def _pairs(given: Any, rank: int) -> list[tuple[Any, Any]]:
    """(before, after) for each axis, of a number, a pair, or a sequence of pairs."""
    given = as_array(given)
    by_axis = given.ndim == 2
    if by_axis and given.shape[1] == 1:
        given = np.concatenate([given, given], 1)
    given = np.broadcast_to(given, (rank, 2))
    if by_axis and type(given) is not Tracer:
        # As NumPy has it: Python's numbers here, its own otherwise.
        return [tuple(pair) for pair in given.tolist()]
    return [(given[i, 0], given[i, 1]) for i in range(rank)]


def _fill(fill: Any, dtype: np.dtype) -> Any:
    # NumPy pads with Python numbers; but what it gets for unsigned ones are the last bits.
    if dtype.kind == "i" and aval_of(fill).dtype.kind in "iu":
        fill = fit(fill if type(fill) is Tracer else int(fill), dtype)
    return cast(fill, dtype) if type(fill) is Tracer else assigned(fill, dtype)


def _pad_constant(a: Any, widths: list[tuple[int, int]], fills: list[tuple[Any, Any]]) -> Any:
    if all(type(f) is not Tracer and f == 0 for pair in fills for f in pair):
        shape = tuple([b + n + e for n, (b, e) in zip(a.shape, widths, strict=True)])
        idx = tuple([(b, b + n, 1) for n, (b, _) in zip(a.shape, widths, strict=True)])
        return a if shape == a.shape else bind(st.embed, a, shape=shape, idx=idx)
    for axis, (width, pair) in enumerate(zip(widths, fills, strict=True)):
        lead, rest = a.shape[:axis], a.shape[axis + 1 :]
        before, after = (
            np.broadcast_to(_fill(fill, a.dtype), (*lead, n, *rest))
            for n, fill in zip(width, pair, strict=True)
        )
        a = bind(st.concatenate, before, a, after, axis=axis)
    return a


# --- diagonals and triangles ----------------------------------------------------------


def _diagonal_slice(rows: int, columns: int, offset: int) -> tuple[int, int, int]:
    """Where a diagonal lies in the flattened matrix: first, one beyond the last, step."""
    start = offset if offset >= 0 else -offset * columns
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    if count == 0:
        return 0, 0, 1
    return start, start + (count - 1) * (columns + 1) + 1, columns + 1


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = as_array(a)
    if a.ndim < 2:
        raise at_line(ShapeError, f"a diagonal needs two axes, got shape {a.shape}")
    a = moveaxis(a, (axis1, axis2), (-2, -1))
    *lead, rows, columns = a.shape
    flat = bind(st.reshape, a, shape=(*lead, rows * columns))
    start, stop, step = _diagonal_slice(rows, columns, to_int(offset))
    return st.slice_axis(flat, len(lead), start, stop, step)


@implements(np.linalg.diagonal)
def _matrix_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return diagonal(x, offset, -2, -1)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    v = as_array(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise at_line(ShapeError, f"np.diag needs one or two axes, got shape {v.shape}")
    n = v.shape[0] + abs(k)
    entry = _diagonal_slice(n, n, k)
    flat = bind(st.embed, v, shape=(n * n,), idx=(entry,))
    return bind(st.reshape, flat, shape=(n, n))


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    return diag(ravel(v), k)


@implements(np.trace)
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype, out=out)


@implements(np.linalg.trace)
def _matrix_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return trace(x, offset, -2, -1, dtype)


def _with_axes(m: Any, name: str, least: int = 1, most: int | None = None) -> Any:
    """An array of so many axes."""
    m = as_array(m)
    if m.ndim < least or (most is not None and m.ndim > most):
        count = f"{least} axes" if most else "an axis at least"
        raise at_line(ShapeError, f"np.{name} needs an array of {count}, got shape {m.shape}")
    return m


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    m = _with_axes(m, "tril")
    return np.where(namespace(m).tri(*m.shape[-2:], k=k, dtype=bool), m, m.dtype.type(0))


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    m = _with_axes(m, "triu")
    return np.where(namespace(m).tri(*m.shape[-2:], k=k - 1, dtype=bool), m.dtype.type(0), m)


def _indices_from(name: str) -> Any:
    indices = getattr(np, name.removesuffix("_from"))

    def from_array(arr: Any, k: int = 0) -> Any:
        arr = _with_axes(arr, name, 2, 2)
        return indices(arr.shape[-2], k, arr.shape[-1])

    return implements(getattr(np, name))(from_array)


tril_indices_from, triu_indices_from = map(
    _indices_from, ("tril_indices_from", "triu_indices_from")
)


@implements(np.diag_indices_from)
def diag_indices_from(arr: Any) -> tuple[np.ndarray, ...]:
    arr = as_array(arr)
    if arr.ndim < 2 or len(set(arr.shape)) > 1:
        raise at_line(ShapeError, f"a full diagonal needs equal lengths, got shape {arr.shape}")
    return np.diag_indices(arr.shape[0], arr.ndim)
