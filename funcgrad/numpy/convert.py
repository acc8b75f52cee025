"""What users pass, made an operand: lists, Python numbers, mixed dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index as to_int
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.device import is_cupys
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    ArgumentError,
    AxisError,
    OperandTypeError,
    OutArgumentError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast
from funcgrad.primitives.integers import INT64, fit, holds


def contains_tracer(x: Any) -> bool:
    """Whether a value, or a list, tuple or dict at any depth, holds a tracer."""
    kind = type(x)
    if kind is Tracer:
        return True
    if kind is list or kind is tuple:
        return any(map(contains_tracer, x))
    return isinstance(x, dict) and any(map(contains_tracer, x.values()))


def as_array(x: Any) -> Any:
    """x as NumPy's functions take it: an array, or a tracer that stands for one.

    Raises:
        ShapeError: a nested list has rows of different shapes.
        NotAnArrayError: it is of a class that answers NumPy's functions by itself.
    """
    kind = type(x)
    if kind is np.ndarray:
        return x
    if kind is Tracer:
        if hasattr(x.value, "dtype") or not x.aval.weak:
            return x
        number = own_value(x)
        beyond = type(number) is int and not holds(INT64, number)
        return fit(x, np.dtype(np.uint64)) if beyond else cast(x, x.dtype)
    if kind is list or kind is tuple:
        return _from_nested(x)
    if not hasattr(x, "__array_function__"):
        return np.asarray(x)
    aval_of(x)
    return x


def _from_nested(items: Sequence[Any]) -> Any:
    if not contains_tracer(items):
        return np.asarray(items)
    rows = promote(items)
    shapes = [shape_of(row) for row in rows]
    if any(shape != shapes[0] for shape in shapes):
        raise at_line(ShapeError, f"an array needs rows of one shape, got the shapes {shapes}")
    if shapes[0] == ():
        return bind(st.pack, *rows)
    return bind(st.concatenate, *[bind(st.reshape, r, shape=(1, *shapes[0])) for r in rows], axis=0)


def dtype_of(x: Any) -> Any:
    """The dtype of an array or tracer; of a value that rides along without making its aval."""
    if type(x) is Tracer:
        dtype = getattr(x.value, "dtype", None)
        return x.dtype if dtype is None else dtype
    return x.dtype


def promote(items: Iterable[Any], dtype: Any = None) -> list[Any]:
    """The items as arrays of one dtype: NumPy's common one, or the one given."""
    arrays = list(map(as_array, items))
    if dtype is None:
        first = dtype_of(arrays[0]) if arrays else None
        if all(dtype_of(a) is first for a in arrays):
            return arrays
        dtype = result_dtype(*map(aval_of, arrays))
    return [a if a.dtype == dtype else cast(a, dtype) for a in arrays]


def assigned(value: Any, dtype: np.dtype) -> Any:
    """A value as an array of this dtype would hold it after `array[...] = value`.

    Raises:
        IntegerRangeError: there is a Python integer that the dtype cannot hold.
        OverflowError: there is an infinity, and the dtype has none.
    """
    kind = type(value)
    if (kind is int or (kind is Tracer and value.aval.weak)) and dtype.kind in "iu":
        if aval_of(value).dtype.kind == "i":
            return cast(fit(value, dtype), dtype)
    if kind is Tracer:
        if value.aval.weak and value.dtype.kind == "c" and dtype.kind not in "cb":
            raise at_line(
                OperandTypeError,
                f"a Python complex number cannot become {dtype.name}; pass its .real",
            )
        return cast(value, dtype)
    if is_cupys(kind):
        return cast(value, dtype)
    if contains_tracer(value):
        return _from_nested([assigned(item, dtype) for item in value])
    array = np.empty(np.shape(value), dtype)
    array[...] = value
    return array[()]


# --- options of NumPy's that a traced array cannot grant -------------------------------


def check_out(out: Any, name: str) -> None:
    """Refuse `out=`.

    Raises:
        OutArgumentError: an array is given.
    """
    if out is not None:
        raise OutArgumentError.of(name)


def check_order(order: Any, name: str) -> None:
    """Refuse an `order=` that asks for another layout than results have.

    Raises:
        UnsupportedFunctionError: it is neither C, K nor A.
    """
    if order not in ("K", "C", "A", None):
        raise UnsupportedFunctionError.of(
            f"np.{name} with order={order!r}",
            "A traced array has no layout in memory; leave order= out.",
        )


def check_device(device: Any, name: str) -> None:
    """Refuse a `device=` that NumPy refuses, too.

    Raises:
        ArgumentError: it is not the CPU.
    """
    if device not in (None, "cpu"):
        raise at_line(ArgumentError, f"np.{name}: device={device!r}; NumPy knows 'cpu' alone")


def check_casting(arrays: Iterable[Any], dtype: Any, casting: Any, name: str) -> None:
    """Refuse a conversion to `dtype` that `casting` does not allow.

    Raises:
        OperandTypeError: as NumPy raises TypeError.
    """
    for array in arrays:
        if not np.can_cast(dtype_of(array), dtype, casting):
            raise at_line(
                OperandTypeError,
                f"np.{name} cannot cast from {dtype_of(array)} to {dtype} with casting={casting!r}",
            )


# --- axes and shapes ------------------------------------------------------------------


def normalize_axis(axis: Any, rank: int) -> int:
    """A non-negative axis.

    Raises:
        AxisError: the array has no such axis.
    """
    number = to_int(axis)
    if not -rank <= number < rank:
        raise at_line(AxisError, f"axis {number} is out of range for an array of {rank} axes")
    return number % rank


def normalize_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None stands for all of them.

    Raises:
        AxisError: the array has no such axis, or an axis is named twice.
    """
    if axis is None:
        return tuple(range(rank))
    if type(axis) is int and 0 <= axis < rank:
        return (axis,)
    if not isinstance(axis, (tuple, list)):
        return (normalize_axis(axis, rank),)
    axes = tuple(sorted([normalize_axis(a, rank) for a in axis]))
    if len(set(axes)) != len(axes):
        raise at_line(AxisError, f"an axis is named twice in axis={axis}")
    return axes


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as NumPy takes it: an integer stands for a tuple of one."""
    if isinstance(shape, (tuple, list)):
        return tuple([to_int(n) for n in shape])
    if isinstance(shape, np.ndarray) and shape.ndim:
        return tuple(shape.tolist())
    return (to_int(shape),)
