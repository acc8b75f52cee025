"""Python integers where they meet a dtype that may be too narrow for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.declarations import elementwise_nondifferentiable
from funcgrad.core.primitive import sample
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import IntegerRangeError, at_line
from funcgrad.primitives.elementwise import cast

INT64 = np.dtype(np.int64)


def _narrow(x, dtype):
    limits = np.iinfo(dtype)
    if np.any(x < limits.min) or np.any(x > limits.max):
        raise OverflowError(f"Python integer {x} out of bounds for {dtype}")
    return (x if hasattr(x, "astype") else np.asarray(x)).astype(dtype)[()]


def _narrow_dtype(x: Aval, dtype: np.dtype) -> np.dtype:
    return dtype


# x as an integer dtype that cannot hold all integers; an OverflowError where it doesn't hold x.
narrow = elementwise_nondifferentiable(
    "narrow",
    _narrow,
    dtype=_narrow_dtype,
    samples=[
        sample(np.array(200), dtype=np.dtype(np.uint8)),
        sample(np.array([-3, 5, 127]), dtype=np.dtype(np.int8)),
    ],
    dtypes="i",
    operand_dtypes=lambda out, x: (x,),
)


@cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return limits.min, limits.max


def holds(dtype: np.dtype, number: int) -> bool:
    least, most = _limits(dtype)
    return least <= number <= most


def fit(x: Any, dtype: np.dtype) -> Any:
    """A Python integer, or a tracer that stands for one, as an operand of an integer dtype.

    Raises:
        IntegerRangeError: the dtype cannot hold it. Where its value is not known yet, the
            program raises an OverflowError when it runs.
    """
    number = own_value(x)
    if type(number) is int:
        if not holds(dtype, number):
            raise at_line(
                IntegerRangeError,
                f"Python integer {number} out of bounds for {dtype.name}; with "
                f"np.int64({number}), or x.astype(np.int64), the result has another dtype",
            )
        if type(x) is Tracer:
            return cast(x, dtype)
        return x if holds(INT64, x) else dtype.type(x)
    return cast(x, dtype) if dtype == INT64 else bind(narrow, x, dtype=dtype)
