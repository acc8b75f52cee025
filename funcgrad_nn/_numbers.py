"""The dtypes that options have and that arrays are computed in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from funcgrad.errors import ArgumentError, IndexRangeError, OperandTypeError

HALF, SINGLE, DOUBLE = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)

_WHOLE: tuple[type, ...] = (np.integer, np.bool_)
_FLOATS: tuple[type, ...] = (np.floating,)
_ARRAYS: tuple[type, ...] = (np.ndarray, np.generic)

F = TypeVar("F", bound=Callable[..., Any])


def as_number(value: Any) -> Any:
    """An option as Python's number, which takes the dtype of the arrays that it meets.

    A NumPy scalar, or an array without axes, would impose its own. What is no number passes.
    """
    if type(value) is np.ndarray and not value.ndim:
        value = value[()]
    if isinstance(value, _WHOLE):
        return int(value)
    return float(value) if isinstance(value, _FLOATS) else value


def checked(name: str, option: str, value: Any, low: float, high: float = np.inf) -> float:
    """An option as Python's number, from `low` to `high`.

    Raises:
        ArgumentError: it is none, or out of range.
    """
    number = as_number(value)
    if not isinstance(number, (int, float)):
        raise ArgumentError(f"{name}: {option} must be a number, not {value!r:.60}")
    if not low <= number <= high:
        limits = f"be from {low} to {high}, not {number!r}"
        if high == np.inf:
            limits = (
                f"be {low} or more, not {number!r}" if low else f"not be negative, got {number!r}"
            )
        raise ArgumentError(f"{name}: {option} must {limits}")
    return number


def like(number: Any, leaf: Any) -> Any:
    """A number, array or tracer that does not promote the leaf when they meet."""
    number = as_number(number)
    if type(number) in (int, float) or not hasattr(leaf, "dtype"):
        return number
    dtype = computed_in(leaf.dtype)
    if dtype.kind not in "fc" or number.dtype == dtype:
        return number
    return number.astype(dtype if number.dtype.kind == "c" else np.finfo(dtype).dtype)


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float32 for float16, whose sums stop growing at 2048 and whose squares overflow at 256."""
    return SINGLE if dtype == HALF else dtype


def widen(x: Any) -> Any:
    """float16 as float32, anything else as it is; `narrow` rounds the result once."""
    return x.astype(SINGLE) if getattr(x, "dtype", None) == HALF else x


def narrow(x: Any, dtype: Any) -> Any:
    return x if dtype is None or x.dtype == dtype else x.astype(dtype)


def squared_size(x: Any) -> Any:
    """|x| squared."""
    complex_ = getattr(x, "dtype", DOUBLE).kind == "c"
    return x.real**2 + x.imag**2 if complex_ else np.square(x)


def checked_indices(x: Any, count: int, problem: Callable[[Any, Any], str]) -> Any:
    """Integers from 0 to below `count`; a negative index would count from the end.

    Where they have no values yet, they become such that one out of range is an error; what indexes
    with them is to be recorded within ``fg.index_error``.

    Raises:
        IndexRangeError: one is out of range, with what `problem(low, high)` says.
    """
    if not isinstance(x, _ARRAYS) and not hasattr(x, "__cuda_array_interface__"):
        # What int64 cannot hold becomes negative.
        signed: Any = x.astype(np.int64)
        return signed - count * (signed < 0)
    if x.size and (x.min() < 0 or x.max() >= count):
        raise IndexRangeError(problem(x.min(), x.max()))
    return x


def refuse_complex(name: str, *values: Any) -> None:
    """Raise OperandTypeError for what would compare, or drop, parts of complex numbers."""
    for value in values:
        dtype = getattr(value, "dtype", np.dtype(type(value)) if type(value) is complex else None)
        if dtype is not None and dtype.kind == "c":
            raise OperandTypeError(
                f"{name} is defined for real numbers, got {dtype}. Give it x.real, x.imag or "
                "np.abs(x)."
            )


def activation(function: F) -> F:
    """A function of real arrays that computes integers in float64, float16 in float32.

    What has been float16 is rounded once.
    """
    name = function.__name__

    @wraps(function)
    def wrapper(x: Any, *args: Any, **options: Any) -> Any:
        dtype = getattr(x, "dtype", None)
        if dtype is not None and dtype.kind != "f":
            refuse_complex(name, x)
            x = x.astype(DOUBLE)
        result = function(widen(x), *args, **options)
        return result.astype(HALF) if dtype == HALF else result

    return wrapper  # type: ignore[return-value]
