"""Norms of vectors and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.errors import ArgumentError, UnsupportedFunctionError, at_line
from funcgrad.numpy.convert import as_array, normalize_axes, normalize_axis
from funcgrad.numpy.protocol import implements
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.elementwise import cast


def _float_array(x: Any) -> Any:
    x = as_array(x)
    return x if x.dtype.kind in "fc" else cast(x, np.dtype(np.float64))


def _euclidean(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The root of the sum of squares; its derivative at 0 is taken as 0, a subgradient."""
    squares = x.real**2 + x.imag**2 if x.dtype.kind == "c" else x * x
    return bind(ew.root, np.sum(squares, axis=axes, keepdims=keepdims))


def _vector(x: Any, order: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if order is None or order == 2:
        return _euclidean(x, axes, keepdims)
    if order == 0:
        return np.sum(x != 0, axis=axes, dtype=x.real.dtype, keepdims=keepdims)
    size = np.abs(x)
    if order in (np.inf, -np.inf):
        if order > 0:
            # NumPy has 0 for a vector without elements.
            empty: dict[str, Any] = {} if aval_of(size).size else {"initial": 0}
            return np.max(size, axis=axes, keepdims=keepdims, **empty)
        return np.min(size, axis=axes, keepdims=keepdims)
    if order == 1:
        return np.sum(size, axis=axes, keepdims=keepdims)
    if isinstance(order, str):
        raise ValueError(f"no norm of vectors is called {order!r}")
    return _root_of_powers(size, order, axes, keepdims)


def _root_of_powers(size: Any, p: float, axes: tuple[int, ...], keepdims: bool) -> Any:
    """sum(size ** p) ** (1 / p); as for p = 2, the derivative at 0 is taken as 0."""
    total = np.sum(size**p, axis=axes, keepdims=keepdims)
    if p < 1:
        return total ** (1 / p)
    zero = total == 0
    return np.where(zero, 0, np.where(zero, 1, total) ** (1 / p))


def _matrix(x: Any, order: Any, axes: tuple[int, int], keepdims: bool) -> Any:
    if order in (None, "fro"):
        return _euclidean(x, axes, keepdims)
    if order not in (1, -1, np.inf, -np.inf):
        raise UnsupportedFunctionError.of(
            f"np.linalg.norm with ord={order!r} of a matrix",
            "It needs singular values; the norms 'fro', 1, -1, inf and -inf are there.",
        )
    # The largest (or smallest) sum over a column for 1, over a row for inf.
    summed, compared = axes if abs(order) == 1 else axes[::-1]
    sums = np.sum(np.abs(x), axis=summed, keepdims=True)
    if order < 0:
        out = np.min(sums, axis=compared, keepdims=True)
    else:
        # NumPy has 0 for a matrix without elements.
        empty: dict[str, Any] = {"initial": 0} if not sums.shape[compared] else {}
        out = np.max(sums, axis=compared, keepdims=True, **empty)
    return out if keepdims else np.squeeze(out, axis=axes)


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = _float_array(x)
    if axis is None:
        if ord is None:
            return _euclidean(x, tuple(range(x.ndim)), keepdims)
        axis = tuple(range(x.ndim))
    axes = [
        normalize_axis(a, x.ndim) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))
    ]
    if len(axes) == 1:
        return _vector(x, ord, (axes[0],), keepdims)
    if len(set(axes)) != 2:
        raise at_line(
            ArgumentError,
            f"np.linalg.norm is of vectors (one axis) or matrices (two); axis={axis}, ord={ord!r} "
            f"of shape {x.shape}",
        )
    return _matrix(x, ord, (axes[0], axes[1]), keepdims)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = _float_array(x)
    return _vector(x, ord, normalize_axes(axis, x.ndim), keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    x = _float_array(x)
    return _matrix(x, ord, (normalize_axis(-2, x.ndim), x.ndim - 1), keepdims)
