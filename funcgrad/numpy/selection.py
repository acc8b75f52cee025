"""Choosing elements: take, compress, delete, insert and their like; all are indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of, result_dtype
from funcgrad.core.tracer import Tracer
from funcgrad.errors import (
    ArgumentError,
    IndexRangeError,
    InPlaceError,
    OperandTypeError,
    ShapeError,
    at_line,
)
from funcgrad.numpy.conversions import concrete_value
from funcgrad.numpy.convert import as_array, assigned, check_out, normalize_axis
from funcgrad.numpy.indexing import getitem
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.ufuncs import as_operand
from funcgrad.primitives.elementwise import cast


def _flat_or_axis(a: Any, axis: Any) -> tuple[Any, int]:
    """An array and an axis of it; without one the array is flattened."""
    a = as_array(a)
    # NumPy takes a number as if it had one axis.
    axis = None if axis is None else normalize_axis(axis, a.ndim or 1)
    if axis is None or a.ndim == 0:
        return (a if a.ndim == 1 else a.reshape(-1)), 0
    return a, axis


def known(x: Any, name: str) -> Any:
    """The value of what must be known, traced or not.

    Raises:
        TracerValueError: it is not, as under jit and vmap.
    """
    return concrete_value(x, f"np.{name}") if type(x) is Tracer else x


def along(axis: int, index: Any) -> tuple[Any, ...]:
    """The key that indexes one axis."""
    return (*[slice(None)] * axis, index)


def _into_range(indices: Any, n: int, mode: str) -> Any:
    if mode == "raise":
        return indices
    # The bounds may not fit in a narrow dtype.
    indices = cast(indices, np.dtype(np.intp))
    if mode == "wrap":
        return np.remainder(indices, n)
    if mode == "clip":
        return np.minimum(np.maximum(indices, 0), n - 1)
    raise at_line(ArgumentError, f"mode is 'raise', 'wrap' or 'clip', got {mode!r}")


@implements(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    check_out(out, "take")
    a, axis = _flat_or_axis(a, axis)
    indices = as_array(indices)
    if indices.dtype == bool or not np.size(indices):
        indices = indices.astype(np.intp)
    if indices.dtype.kind not in "iu":
        raise at_line(IndexRangeError, f"np.take takes integers, not {indices.dtype.name}")
    return getitem(a, along(axis, _into_range(indices, a.shape[axis], mode)))


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, axis = _flat_or_axis(arr, axis)
    indices = as_array(indices)
    if indices.dtype.kind not in "iu":
        raise at_line(IndexRangeError, f"indices must be integers, not {indices.dtype}")
    if indices.ndim != arr.ndim:
        raise at_line(
            ShapeError,
            f"take_along_axis: the indices need as many axes as the array, got {indices.shape} "
            f"for {arr.shape}",
        )
    key = list(np.ogrid[tuple(slice(n) for n in arr.shape)])
    key[axis] = indices
    return getitem(arr, tuple(key))


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    check_out(out, "choose")
    a = as_array(a)
    if type(choices) is Tracer:
        choices = list(choices)
    dtype = result_dtype(*map(aval_of, map(as_operand, choices)))
    arrays = np.broadcast_arrays(*[cast(as_array(c), dtype) for c in choices])
    shape = np.broadcast_shapes(a.shape, arrays[0].shape)
    stacked = np.stack([np.broadcast_to(c, shape) for c in arrays])
    if a.dtype.kind not in "biu":
        raise at_line(OperandTypeError, f"np.choose chooses by integers, not by {a.dtype.name}")
    a = _into_range(a.astype(np.intp), len(arrays), mode)
    return getitem(stacked, (a, *np.ogrid[tuple(slice(n) for n in shape)]))


@implements(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    check_out(out, "compress")
    condition = np.asarray(known(condition, "compress"))
    if condition.ndim != 1:
        raise at_line(
            ShapeError, f"np.compress takes a condition with one axis, not of {condition.shape}"
        )
    return take(a, np.flatnonzero(condition), axis)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return compress(np.ravel(known(condition, "extract")), arr)


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    arr, axis = _flat_or_axis(arr, axis)
    return take(arr, np.delete(np.arange(arr.shape[axis]), known(obj, "delete")), axis)


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    arr, axis = _flat_or_axis(arr, axis)
    n, obj = arr.shape[axis], known(obj, "insert")
    positions = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(obj)
    if positions.dtype == bool:
        positions = np.flatnonzero(positions)
    values = assigned(values, arr.dtype)
    values = values.reshape((1,) * (arr.ndim - values.ndim) + values.shape)
    if positions.ndim == 0:
        # NumPy takes the values of one position as a stack of them.
        values = np.moveaxis(values, 0, axis)
    count = values.shape[axis] if positions.size == 1 else positions.size
    spare = values.ndim - arr.ndim
    if values.shape[:spare] == (1,) * spare:
        values = values.reshape(values.shape[spare:])
    shape = (*arr.shape[:axis], count, *arr.shape[axis + 1 :])
    order = np.insert(np.arange(n), obj, np.arange(n, n + count))
    return take(np.concatenate([arr, np.broadcast_to(values, shape)], axis), order, axis)


# --- positions, which must be known ---------------------------------------------------


def _positions(function: Callable[..., Any]) -> Callable[..., Any]:
    def ours(a: Any) -> Any:
        if function is np.nonzero and not as_array(a).ndim:
            raise at_line(ShapeError, "np.nonzero needs axes; np.atleast_1d gives a number one")
        return function(known(a, function.__name__))

    return implements(function)(ours)


nonzero, flatnonzero, argwhere = map(_positions, (np.nonzero, np.flatnonzero, np.argwhere))


# --- writing --------------------------------------------------------------------------


@implements(np.put, np.place, np.putmask, np.copyto, np.put_along_axis, np.fill_diagonal)
def _write(*args: Any, **kwargs: Any) -> Any:
    raise InPlaceError.of()
