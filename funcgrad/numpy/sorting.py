"""Order: sort, argsort, partition, searchsorted, unique."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    ArgumentError,
    OperandTypeError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.numpy.convert import as_array, normalize_axis, promote
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.selection import known, take
from funcgrad.primitives import sorting as so
from funcgrad.primitives.elementwise import cast


def _flat_or_axis(a: Any, axis: Any, name: str, order: Any = None) -> tuple[Any, int]:
    if order is not None:
        raise UnsupportedFunctionError.of(f"np.{name} with order=", "It is for structured arrays.")
    a = as_array(a)
    if axis is None:
        return (a if a.ndim == 1 else a.reshape(-1)), 0
    return a, normalize_axis(axis, a.ndim)


def _check_kind(kind: Any, stable: Any) -> None:
    if kind is None and stable is None:
        return
    try:
        np.sort(np.empty(0), kind=kind, stable=stable)
    except (TypeError, ValueError) as error:
        raise at_line(ArgumentError, str(error)) from error


def _at_least_one_axis(a: Any) -> Any:
    """As NumPy takes numbers where it looks for places."""
    a = as_array(a)
    return a if a.ndim else a.reshape(-1)


# --- sort and partition ---------------------------------------------------------------


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    _check_kind(kind, stable)
    a, axis = _flat_or_axis(a, axis, "sort", order)
    return bind(so.sort, a, axis=axis)


@implements(np.argsort)
def argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    _check_kind(kind, stable)
    a, axis = _flat_or_axis(_at_least_one_axis(a), axis, "argsort", order)
    kind = "stable" if stable else kind or "quicksort"
    return bind(so.argsort, a, axis=axis, kind=kind)


def _check_kth(kth: Any, a: Any, axis: int) -> None:
    kth, n = np.asarray(known(kth, "partition")), a.shape[axis]
    if kth.dtype.kind not in "iub":
        raise at_line(OperandTypeError, f"kth={kth} is no index: it needs integers")
    if a.size and np.any((kth < -n) | (kth >= n)):
        raise at_line(ArgumentError, f"kth={kth} is out of bounds for {n} elements")


@implements(np.partition)
def partition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    a, axis = _flat_or_axis(a, axis, "partition", order)
    _check_kth(kth, a, axis)
    return bind(so.sort, a, axis=axis)


@implements(np.argpartition)
def argpartition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    a, axis = _flat_or_axis(_at_least_one_axis(a), axis, "argpartition", order)
    _check_kth(kth, a, axis)
    return bind(so.argsort, a, axis=axis, kind="stable")


@implements(np.sort_complex)
def sort_complex(a: Any) -> Any:
    a = as_array(a)
    if a.dtype.kind == "c":
        return sort(a)
    # NumPy's own rule, which is no promotion.
    return cast(sort(a), np.complex64 if a.dtype.char in "bhBH" else np.complex128)


# --- places in what is sorted ---------------------------------------------------------


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    if side not in ("left", "right"):
        raise at_line(ArgumentError, f"side is 'left' or 'right', got {side!r}")
    a, v = promote((a, v))
    if a.ndim != 1:
        raise at_line(ShapeError, f"searchsorted needs an `a` with one axis, got {aval_of(a)}")
    if sorter is not None:
        sorter = as_array(sorter)
        if sorter.size != a.size:
            raise at_line(
                ShapeError,
                f"searchsorted: sorter has {sorter.size} elements, `a` has {a.size}; it is "
                "np.argsort(a)",
            )
        a = take(a, sorter)
    return bind(so.searchsorted, a, v, side=side)


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    x, bins = as_array(x), as_array(bins)
    if x.dtype.kind == "c" or bins.dtype.kind == "c":
        raise at_line(
            OperandTypeError, f"digitize needs real numbers, got {aval_of(x)} and {aval_of(bins)}"
        )
    side = "left" if right else "right"
    edges = own_value(bins)
    if type(edges) is Tracer:
        if bins.ndim != 1 or not bins.size:
            return searchsorted(bins, x, side)
        # The order is not known yet.
        return np.where(bins[0] > bins[-1], *(_places(x, bins, side, f) for f in (True, False)))
    try:
        np.digitize(np.zeros(0), edges)
    except ValueError as error:
        raise at_line(ArgumentError, str(error)) from error
    return _places(x, bins, side, len(edges) > 0 and edges[0] > edges[-1])


def _places(x: Any, bins: Any, side: str, falling: bool) -> Any:
    return len(bins) - searchsorted(bins[::-1], x, side) if falling else searchsorted(bins, x, side)


@implements(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
) -> Any:
    options = {"return_inverse": return_inverse, "return_counts": return_counts, "axis": axis}
    _, index, *rest = np.unique(
        known(ar, "unique"), return_index=True, equal_nan=equal_nan, **options
    )
    values = take(ar, index, axis)
    found = (values, index, *rest) if return_index else (values, *rest)
    return found if len(found) > 1 else values
