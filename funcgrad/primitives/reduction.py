"""Primitives that reduce over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape
from funcgrad.core.primitive import linear, sample, shape_of
from funcgrad.core.tracer import bind
from funcgrad.primitives.structural import broadcast_to

Axes = tuple[int, ...]


def reduced_shape(shape: Shape, axes: Axes, keepdims: bool) -> Shape:
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def expand_reduced(x: Any, shape: Shape, axes: Axes) -> Any:
    """A reduction's result, or its cotangent, with the reduced axes back as ones."""
    kept = reduced_shape(shape, axes, True)
    return x if shape_of(x) == kept else x.reshape(kept)


def batch_reduction(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    axes = tuple(a + 1 for a in params["axes"])
    return bind(prim, args[0], **{**params, "axes": axes}), True


def reduction_source(name: str) -> Any:
    """How generated source spells a reduction by a ufunc."""

    def source(names: Any, params: Any) -> str:
        axes = params["axes"]
        axis = axes[0] if len(axes) == 1 else axes
        keep = ", keepdims=True" if params["keepdims"] else ""
        return f"np.{name}.reduce({names[0]}, {axis}{keep})"

    return source


REDUCTION_SAMPLES = [
    sample((2, 3), axes=(0,), keepdims=False),
    sample((2, 3), axes=(1,), keepdims=True),
    sample((2, 3), axes=(0, 1), keepdims=False),
    sample((3,), axes=(), keepdims=False),
]


def _sum(x, axes, keepdims):
    return np.add.reduce(x, axes, None, None, keepdims)


def _sum_shape(x: Aval, axes: Axes, keepdims: bool) -> Aval:
    # NumPy widens small integers and booleans to the platform's integer before adding.
    dtype = np.add.reduce(np.empty(0, x.dtype)).dtype
    return Aval(reduced_shape(x.shape, axes, keepdims), dtype)


def _sum_transpose(ct: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    shape = shape_of(x)
    return bind(broadcast_to, expand_reduced(ct, shape, axes), shape=shape)


sum_ = linear(
    "sum",
    _sum,
    _sum_transpose,
    shape=_sum_shape,
    batch=batch_reduction,
    samples=[*REDUCTION_SAMPLES, sample((0, 2), axes=(0,), keepdims=False)],
    source=reduction_source("add"),
    dtypes="fci",
)
