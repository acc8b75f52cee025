"""Arrays put together and taken apart: concatenate, stack, block, split and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index as to_int
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.primitive import shape_of
from funcgrad.errors import OperandTypeError, ShapeError, at_line
from funcgrad.numpy.convert import as_array, check_casting, check_out, normalize_axis, promote
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.structure import atleast_1d, atleast_2d, atleast_3d, moveaxis
from funcgrad.numpy.ufuncs import as_operand
from funcgrad.primitives import structural as st

# --- joining --------------------------------------------------------------------------


def _items(arrays: Any, name: str, dtype: Any = None, casting: Any = None) -> list[Any]:
    """What is to be joined, in one dtype."""
    items = list(map(as_array, arrays))
    if not items:
        raise ValueError(f"np.{name} needs at least one array")
    if dtype is None and casting is None:
        return promote(items)
    parts = promote(items, None if dtype is None else np.dtype(dtype))
    check_casting(items, parts[0].dtype, casting or "same_kind", name)
    return parts


@implements(np.concatenate)
def concatenate(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Any:
    check_out(out, "concatenate")
    if axis is None:
        return _concatenate_flat(list(arrays), dtype, casting)
    parts = _items(arrays, "concatenate", dtype, casting)
    ranks = {p.ndim for p in parts}
    if len(ranks) > 1 or ranks == {0}:
        raise at_line(
            ShapeError,
            "np.concatenate needs arrays of one number of axes, and at least one axis; got the "
            f"shapes {[p.shape for p in parts]} (np.stack adds an axis)",
        )
    return bind(st.concatenate, *parts, axis=normalize_axis(axis, parts[0].ndim))


def _concatenate_flat(items: list[Any], dtype: Any, casting: Any) -> Any:
    # Only here may numbers be among the arrays, and then they are weak.
    if items and dtype is None and casting is None:
        dtype, casting = result_dtype(*map(aval_of, map(as_operand, items))), "unsafe"
    parts = _items(items, "concatenate", dtype, casting)
    return bind(st.concatenate, *[p.reshape((-1,)) for p in parts], axis=0)


@implements(np.stack)
def stack(
    arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Any:
    check_out(out, "stack")
    parts = _items(arrays, "stack", dtype, casting)
    shape = parts[0].shape
    if any(p.shape != shape for p in parts):
        raise at_line(ShapeError, f"np.stack needs equal shapes, got {[p.shape for p in parts]}")
    axis = normalize_axis(axis, len(shape) + 1)
    if shape == ():
        return bind(st.pack, *parts)
    shape = (*shape[:axis], 1, *shape[axis:])
    return bind(st.concatenate, *[bind(st.reshape, p, shape=shape) for p in parts], axis=axis)


def _joining(name: str, prepare: Callable[[Any], Any], axis: int) -> Callable[..., Any]:
    def join(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
        parts = [prepare(a) for a in _items(tup, name, dtype, casting)]
        return concatenate(parts, 0 if parts[0].ndim == 1 else axis)

    join.__name__ = name
    return join


def _as_columns(a: Any) -> Any:
    a = as_array(a)
    return a.reshape((-1, 1)) if a.ndim < 2 else a


hstack = implements(np.hstack)(_joining("hstack", atleast_1d, 1))
vstack = implements(np.vstack)(_joining("vstack", atleast_2d, 0))
dstack = implements(np.dstack)(_joining("dstack", atleast_3d, 2))
column_stack = implements(np.column_stack)(_joining("column_stack", _as_columns, 1))


@implements(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate([as_array(arr), as_array(values)], axis)


@implements(np.block)
def block(arrays: Any) -> Any:
    def depth(x: Any) -> int:
        if type(x) is tuple:
            raise at_line(OperandTypeError, f"np.block takes nested lists, but no tuples: {x}")
        if type(x) is not list:
            return 0
        depths = {depth(item) for item in x}
        if len(depths) != 1:
            what = "an empty list" if not x else "lists of different depths side by side"
            raise at_line(ShapeError, f"np.block does not take {what}: {x}")
        return 1 + depths.pop()

    def join(x: Any, level: int) -> Any:
        if type(x) is list:
            return concatenate([join(item, level - 1) for item in x], -level)
        x = as_array(x)
        return x.reshape((1,) * (rank - x.ndim) + x.shape)

    def ranks(x: Any) -> int:
        return max(map(ranks, x)) if type(x) is list else len(shape_of(as_array(x)))

    levels = depth(arrays)
    rank = max(levels, ranks(arrays))
    return join(arrays, levels)


# --- splitting ------------------------------------------------------------------------


def _split_at(a: Any, axis: int, cuts: Sequence[int]) -> list[Any]:
    length = a.shape[axis]
    # As NumPy slices: negative cuts count from the end, those beyond it stop there.
    edges = [slice(c).indices(length)[1] for c in cuts]
    pairs = zip([0, *edges], [*edges, length], strict=True)
    return [st.slice_axis(a, axis, lo, max(lo, hi)) for lo, hi in pairs]


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    ary = as_array(ary)
    axis = normalize_axis(axis, ary.ndim)
    if hasattr(indices_or_sections, "__len__"):
        return _split_at(ary, axis, [to_int(i) for i in indices_or_sections])
    sections = int(indices_or_sections)
    if sections <= 0:
        raise ValueError(f"the number of sections must be positive, got {sections}")
    each, more = divmod(ary.shape[axis], sections)
    return _split_at(ary, axis, [i * each + min(i, more) for i in range(1, sections)])


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    ary = as_array(ary)
    length = ary.shape[normalize_axis(axis, ary.ndim)]
    if not hasattr(indices_or_sections, "__len__") and length % indices_or_sections:
        raise at_line(
            ShapeError,
            f"axis {axis} of shape {ary.shape} does not split into {indices_or_sections} equal "
            "parts (np.array_split makes unequal ones)",
        )
    return array_split(ary, indices_or_sections, axis)


def _splitting(name: str, rank: int, axis: int) -> Callable[..., Any]:
    def split_axis(ary: Any, indices_or_sections: Any) -> list[Any]:
        shape = shape_of(as_array(ary))
        if len(shape) < rank:
            raise at_line(ShapeError, f"np.{name} needs {rank} axes or more, got shape {shape}")
        # hsplit splits the columns of a matrix, but the elements of a vector.
        return split(ary, indices_or_sections, min(axis, len(shape) - 1))

    split_axis.__name__ = name
    return implements(getattr(np, name))(split_axis)


hsplit = _splitting("hsplit", 1, 1)
vsplit = _splitting("vsplit", 2, 0)
dsplit = _splitting("dsplit", 3, 2)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(moveaxis(x, axis, 0))


if hasattr(np, "unstack"):  # NumPy 2.1
    implements(np.unstack)(unstack)
