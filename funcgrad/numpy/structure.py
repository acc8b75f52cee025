"""Shapes and order: reshape, transpose, concatenate and their like."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer, bind
from funcgrad.numpy.protocol import attach_methods, implements
from funcgrad.primitives import structural as st


def normalize_axis(axis: int, rank: int) -> int:
    """A non-negative axis.

    Raises:
        numpy.exceptions.AxisError: the array has no such axis.
    """
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(axis, rank)
    return axis % rank


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C") -> Any:
    size = prod(shape_of(a))
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(map(int, shape))
    if -1 in shape:
        known = prod(n for n in shape if n != -1)
        if shape.count(-1) > 1 or known == 0 or size % known:
            raise ValueError(f"cannot reshape array of shape {shape_of(a)} into {shape}")
        shape = tuple(size // known if n == -1 else n for n in shape)
    return bind(st.reshape, a, shape=shape)


def _reshape_method(self: Tracer, *shape: Any, order: str = "C") -> Any:
    return reshape(self, shape[0] if len(shape) == 1 else shape, order)


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    rank = len(shape_of(a))
    perm = range(rank)[::-1] if axes is None else [normalize_axis(int(i), rank) for i in axes]
    return bind(st.transpose, a, perm=tuple(perm))


def _transpose_method(self: Tracer, *axes: Any) -> Any:
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = axes[0]
    return transpose(self, axes or None)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return bind(st.broadcast_to, array, shape=shape)


@implements(np.where)
def where(condition: Any, x: Any, y: Any) -> Any:
    from funcgrad.core.aval import aval_of, result_dtype
    from funcgrad.numpy.ufuncs import as_operand
    from funcgrad.primitives import elementwise as ew

    condition, x, y = map(as_operand, (condition, x, y))
    a, b = aval_of(x), aval_of(y)
    dtype = result_dtype(a, b)
    if type(condition) is Tracer and condition.dtype != bool:
        condition = condition != 0
    x = ew.cast(x, dtype) if type(x) is Tracer and (a.dtype != dtype or a.weak) else x
    y = ew.cast(y, dtype) if type(y) is Tracer and (b.dtype != dtype or b.weak) else y
    return bind(ew.where, condition, x, y)


attach_methods(
    {"reshape": _reshape_method, "transpose": _transpose_method},
    {"T": transpose},
)
