"""Order: sort, argsort, partition, quantiles, searchsorted, unique."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer, bind, own_value
from funcgrad.errors import (
    InPlaceError,
    OperandTypeError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.numpy.convert import as_array, check_out, normalize_axes, normalize_axis, promote
from funcgrad.numpy.indexing import getitem
from funcgrad.numpy.protocol import attach_methods, implements
from funcgrad.numpy.selection import known, take
from funcgrad.primitives import sorting as so
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast


def _flat_or_axis(a: Any, axis: Any, name: str, order: Any = None) -> tuple[Any, int]:
    if order is not None:
        raise UnsupportedFunctionError.of(f"np.{name} with order=", "It is for structured arrays.")
    a = as_array(a)
    if axis is None:
        return (a if a.ndim == 1 else a.reshape(-1)), 0
    return a, normalize_axis(axis, a.ndim)


# --- sort and partition ---------------------------------------------------------------


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    a, axis = _flat_or_axis(a, axis, "sort", order)
    return bind(so.sort, a, axis=axis)


@implements(np.argsort)
def argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    a, axis = _flat_or_axis(a, axis, "argsort", order)
    kind = "stable" if stable else kind or "quicksort"
    return bind(so.argsort, a, axis=axis, kind=kind)


def _check_kth(kth: Any, n: int) -> None:
    kth = np.asarray(known(kth, "partition"))
    if np.any((kth < -n) | (kth >= n)):
        raise ValueError(f"kth={kth} is out of bounds for {n} elements")


@implements(np.partition)
def partition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    a, axis = _flat_or_axis(a, axis, "partition", order)
    _check_kth(kth, a.shape[axis])
    return bind(so.sort, a, axis=axis)


@implements(np.argpartition)
def argpartition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    a, axis = _flat_or_axis(a, axis, "argpartition", order)
    _check_kth(kth, a.shape[axis])
    return bind(so.argsort, a, axis=axis, kind="stable")


@implements(np.sort_complex)
def sort_complex(a: Any) -> Any:
    a = as_array(a)
    return sort(cast(a, np.result_type(a.dtype, np.complex64)))


# --- quantiles ------------------------------------------------------------------------


def _sorted_last(a: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """The axes merged into one at the end and sorted; the shape with ones in their place."""
    shape = shape_of(a)
    axes = normalize_axes(axis, len(shape))
    rest = [i for i in range(len(shape)) if i not in axes]
    merged = np.transpose(a, (*rest, *axes)).reshape((*(shape[i] for i in rest), -1))
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return bind(so.sort, merged, axis=len(rest)), kept


def _elements(ordered: Any, i: Any, per_slice: bool) -> Any:
    """`ordered[i]` along the first axis; with `per_slice`, i has an entry for each slice."""
    if not per_slice:
        return take(ordered, i, 0)
    rest = shape_of(ordered)[1:]
    return getitem(ordered, (i, *np.ogrid[tuple(slice(n) for n in rest)]))


def _interpolate(ordered: Any, position: Any, per_slice: bool = False) -> Any:
    """Elements at fractional positions of the last axis; the positions' axes come first."""
    ordered = st.move_axis(ordered, -1, 0)
    n, rank = shape_of(ordered)[0], len(shape_of(ordered)) - 1
    below = np.floor(position)
    first = np.minimum(np.maximum(below.astype(np.intp), 0), n - 1)
    second = np.minimum(first + 1, n - 1)
    low, high = (_elements(ordered, i, per_slice) for i in (first, second))
    weight = cast(position - below, aval_of(ordered).dtype)
    if not per_slice:
        weight = weight.reshape(shape_of(weight) + (1,) * rank)
    step = high - low
    # As NumPy does it: exact at both ends.
    return np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)


def _quantile_operands(a: Any, q: Any, name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The operands as arrays; a Python number for q takes the dtype of the floats."""
    refused = [key for key in ("weights", "interpolation") if options.pop(key, None) is not None]
    options.pop("overwrite_input", None)
    if refused or options:
        raise UnsupportedFunctionError.of(f"np.{name} with {', '.join([*refused, *options])}=")
    a = as_array(a)
    if a.dtype.kind == "c":
        raise at_line(OperandTypeError, f"np.{name} needs real numbers, got {aval_of(a)}")
    if isinstance(q, (int, float)) and a.dtype.kind == "f":
        q = np.asarray(q, a.dtype)
    return a, as_array(q)


def _positions(q: Any, n: int, method: Any) -> Any:
    """Where the quantiles of n ordered elements lie: integers, or fractions between two."""
    if not isinstance(q, Tracer):
        # The quantiles of the positions are the positions of the quantiles.
        return np.asarray(np.quantile(np.arange(n), q, method=method))
    if method != "linear":
        raise UnsupportedFunctionError.of(f"np.quantile with a traced q and method={method!r}")
    return q * (n - 1)


def _blended_dtype(a: Any, q: Any) -> np.dtype:
    dtype = np.result_type(a.dtype, q.dtype)
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _with_kept_axes(result: Any, q: Any, kept: tuple[int, ...], keepdims: Any) -> Any:
    return result.reshape((*shape_of(q), *kept)) if keepdims is True else result


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    **options: Any,
) -> Any:
    check_out(out, "quantile")
    a, q = _quantile_operands(a, q, "quantile", options)
    ordered, kept = _sorted_last(a, axis)
    position = _positions(q, shape_of(ordered)[-1], method)
    if position.dtype.kind == "i":
        result = take(st.move_axis(ordered, -1, 0), position, 0)
    else:
        ordered = cast(ordered, _blended_dtype(a, q))
        result = _interpolate(ordered, position)
    if ordered.dtype.kind == "f":
        last = ordered[..., -1]
        result = np.where(np.isnan(last), last, result)
    return _with_kept_axes(result, q, kept, keepdims)


@implements(np.nanquantile)
def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    **options: Any,
) -> Any:
    check_out(out, "nanquantile")
    if method != "linear":
        raise UnsupportedFunctionError.of(f"np.nanquantile with method={method!r}")
    a, q = _quantile_operands(a, q, "nanquantile", options)
    ordered, kept = _sorted_last(cast(a, _blended_dtype(a, q)), axis)
    count = np.sum(~np.isnan(ordered), axis=-1)
    position = q.reshape(shape_of(q) + (1,) * len(shape_of(count))) * (count - 1)
    return _with_kept_axes(_interpolate(ordered, position, per_slice=True), q, kept, keepdims)


def _percent(function: Any, name: str) -> Any:
    """The percentile that goes with a quantile."""

    def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
        a = as_array(a)
        hundred = a.dtype.type(100) if a.dtype.kind == "f" else 100
        q = q if isinstance(q, (int, float)) else as_array(q)
        return function(a, np.true_divide(q, hundred), *args, **kwargs)

    percentile.__name__ = name
    return implements(getattr(np, name))(percentile)


percentile = _percent(quantile, "percentile")
nanpercentile = _percent(nanquantile, "nanpercentile")


@implements(np.median)
def median(
    a: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    keepdims: Any = False,
) -> Any:
    check_out(out, "median")
    a = as_array(a)
    ordered, kept = _sorted_last(a if a.dtype.kind in "fc" else cast(a, np.float64), axis)
    n = shape_of(ordered)[-1]
    middle = ordered[..., n // 2]
    if n % 2 == 0:
        middle = (ordered[..., n // 2 - 1] + middle) / 2
    last = ordered[..., -1]
    result = np.where(np.isnan(last), last, middle)
    return result.reshape(kept) if keepdims is True else result


@implements(np.nanmedian)
def nanmedian(
    a: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    keepdims: Any = False,
) -> Any:
    check_out(out, "nanmedian")
    return nanquantile(a, 0.5, axis, keepdims=keepdims)


# --- places in what is sorted ---------------------------------------------------------


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    if side not in ("left", "right"):
        raise ValueError(f"side is 'left' or 'right', got {side!r}")
    a, v = promote((a, v))
    if a.ndim != 1:
        raise at_line(ShapeError, f"searchsorted needs an `a` with one axis, got {aval_of(a)}")
    return bind(so.searchsorted, a if sorter is None else take(a, sorter), v, side=side)


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    bins = as_array(bins)
    values = own_value(bins)
    # Bins whose values are not known count as increasing.
    falling = type(values) is not Tracer and len(values) > 1 and values[0] > values[-1]
    if falling:
        side = "right" if right else "left"
        return len(values) - searchsorted(bins[::-1], x, side)
    return searchsorted(bins, x, "left" if right else "right")


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


# --- methods --------------------------------------------------------------------------


def _in_place(name: str) -> Any:
    def method(self: Tracer, *args: Any, **kwargs: Any) -> Any:
        raise at_line(
            InPlaceError,
            f"x.{name}() reorders an array in place, and a traced one cannot be written to; "
            f"write x = np.{name}(x)",
        )

    return method


attach_methods(
    {
        "argsort": argsort,
        "argpartition": argpartition,
        "partition": _in_place("partition"),
        "searchsorted": searchsorted,
        "sort": _in_place("sort"),
    },
    {},
)
