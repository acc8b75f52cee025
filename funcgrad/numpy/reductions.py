"""Sums, products, extrema and statistics over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import bind
from funcgrad.numpy.protocol import UFUNC_METHODS, implements
from funcgrad.numpy.structure import normalize_axis
from funcgrad.primitives import reduction as rd


def normalize_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None stands for all of them."""
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, (int, np.integer)):
        return (normalize_axis(int(axis), rank),)
    return tuple(sorted(normalize_axis(int(a), rank) for a in axis))


@implements(np.sum)
def sum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    axes = normalize_axes(axis, len(shape_of(a)))
    return bind(rd.sum_, a, axes=axes, keepdims=bool(keepdims))


UFUNC_METHODS[np.add, "reduce"] = lambda a, axis=0, dtype=None, out=None, keepdims=False: sum(
    a, axis, dtype, out, keepdims
)
