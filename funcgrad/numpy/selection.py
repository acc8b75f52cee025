"""Choosing elements: take, compress, delete, insert and their like; all are indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.tracer import Tracer
from funcgrad.errors import IndexRangeError, InPlaceError, ShapeError, at_line
from funcgrad.numpy.conversions import concrete_value
from funcgrad.numpy.convert import as_array, check_out, normalize_axis
from funcgrad.numpy.indexing import getitem
from funcgrad.numpy.protocol import attach_methods, implements


def _flat_or_axis(a: Any, axis: Any) -> tuple[Any, int]:
    """An array and an axis of it; without one the array is flattened."""
    a = as_array(a)
    if axis is None:
        return (a if a.ndim == 1 else a.reshape(-1)), 0
    return a, normalize_axis(axis, a.ndim)


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
    if mode == "wrap":
        return np.remainder(indices, n)
    if mode == "clip":
        return np.minimum(np.maximum(indices, 0), n - 1)
    raise ValueError(f"mode is 'raise', 'wrap' or 'clip', got {mode!r}")


@implements(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    check_out(out, "take")
    a, axis = _flat_or_axis(a, axis)
    indices = as_array(indices)
    if indices.dtype == bool:
        indices = indices.astype(np.intp)
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
    arrays = np.broadcast_arrays(*map(as_array, choices))
    shape = np.broadcast_shapes(a.shape, arrays[0].shape)
    stacked = np.stack([np.broadcast_to(c, shape) for c in arrays])
    a = _into_range(a, len(arrays), mode)
    return getitem(stacked, (a, *np.ogrid[tuple(slice(n) for n in shape)]))


@implements(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    check_out(out, "compress")
    chosen = np.flatnonzero(known(condition, "compress"))
    return take(a, chosen, axis)


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
    obj, values = known(obj, "insert"), as_array(values).astype(arr.dtype)
    values = values.reshape((1,) * (arr.ndim - values.ndim) + values.shape)
    if np.ndim(obj) == 0 and not isinstance(obj, slice):
        # NumPy takes the values of one position as a stack of them.
        values = np.moveaxis(values, 0, axis)
        count = values.shape[axis]
    else:
        positions = np.arange(arr.shape[axis])[obj] if isinstance(obj, slice) else np.asarray(obj)
        count = positions.sum() if positions.dtype == bool else positions.size
    shape = list(arr.shape)
    shape[axis] = int(count)
    n = arr.shape[axis]
    order = np.insert(np.arange(n), obj, np.arange(n, n + count))
    return take(np.concatenate([arr, np.broadcast_to(values, shape)], axis), order, axis)


# --- positions, which must be known ---------------------------------------------------


def _positions(function: Callable[..., Any]) -> Callable[..., Any]:
    def ours(a: Any) -> Any:
        return function(known(a, function.__name__))

    return implements(function)(ours)


nonzero, flatnonzero, argwhere = map(_positions, (np.nonzero, np.flatnonzero, np.argwhere))


# --- writing --------------------------------------------------------------------------


@implements(np.put, np.place, np.putmask, np.copyto, np.put_along_axis, np.fill_diagonal)
def _write(*args: Any, **kwargs: Any) -> Any:
    raise InPlaceError.of()


def _refuse_write(self: Tracer, *args: Any, **kwargs: Any) -> Any:
    raise InPlaceError.of()


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """The array's method for a function that has the array as its second argument."""

    def method(self: Tracer, first: Any, *args: Any, **kwargs: Any) -> Any:
        return function(first, self, *args, **kwargs)

    return method


attach_methods(
    {
        "take": take,
        "choose": choose,
        "compress": _method(compress),
        "nonzero": nonzero,
        "put": _refuse_write,
        "fill": _refuse_write,
    },
    {},
)
