"""Sums, products, extrema and statistics over axes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod as count_of
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.core.primitive import Primitive, shape_of
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    ArgumentError,
    OperandTypeError,
    PrimitiveError,
    ShapeError,
    at_line,
)
from funcgrad.numpy.convert import (
    as_array,
    assigned,
    check_out,
    dtype_of,
    normalize_axes,
    normalize_axis,
)
from funcgrad.numpy.protocol import UFUNC_METHODS, call_handler, implements
from funcgrad.numpy.ufuncs import is_plain_float
from funcgrad.primitives import cumulative as cu
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import reduction as rd
from funcgrad.primitives.elementwise import cast


def _masked(a: Any, where: Any, fill: Any) -> Any:
    """a with `fill` where the mask is false; the mask may broadcast a to more elements."""
    if where is True or where is None:
        return a
    if np.ndim(where) > a.ndim:
        raise at_line(
            ShapeError, f"where= of {np.ndim(where)} axes is more than the array's {a.ndim}"
        )
    return np.where(where, a, fill)


def _axes_reduced(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes of a reduction; NumPy's ufuncs take a number as if it had one axis."""
    if not rank and type(axis) is int and axis in (0, -1):
        return ()
    return normalize_axes(axis, rank)


def _reduce(prim: Primitive, a: Any, axis: Any, keepdims: Any) -> Any:
    return bind(prim, a, axes=_axes_reduced(axis, len(shape_of(a))), keepdims=bool(keepdims))


# --- sums and products ----------------------------------------------------------------


def _cast_if(a: Any, dtype: Any) -> Any:
    return a if dtype is None else cast(a, dtype)


def _narrowed(result: Any, dtype: Any) -> Any:
    """The result of a sum or product in the dtype that was asked for.

    The primitives compute small integers in wide ones, whose last bits are the same; of booleans,
    a sum is true where any is, and a product where all are.
    """
    return result if dtype is None or result.dtype == dtype else cast(result, dtype)


def _monoid(name: str, ufunc: np.ufunc, prim: Primitive, identity: int) -> Callable[..., Any]:
    def reduction(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        check_out(out, name)
        a = _cast_if(as_array(a), dtype)
        if where is not True:
            a = _masked(a, where, identity)
        result = _narrowed(_reduce(prim, a, axis, keepdims), dtype)
        return result if initial is None else ufunc(result, assigned(initial, result.dtype))

    reduction.__name__ = name
    return reduction


sum = implements(np.sum)(_monoid("sum", np.add, rd.sum_, 0))
prod = implements(np.prod)(_monoid("prod", np.multiply, rd.prod, 1))


def _extremum(name: str, ufunc: np.ufunc, prim: Primitive) -> Callable[..., Any]:
    def reduction(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        check_out(out, name)
        a = as_array(a)
        if where is not True:
            if initial is None:
                raise at_line(
                    ArgumentError,
                    f"np.{name} with where= needs initial=, the result where no element is chosen",
                )
        if initial is None:
            return _reduce(prim, a, axis, keepdims)
        initial = assigned(initial, a.dtype)
        a = _masked(a, where, initial)
        axes = _axes_reduced(axis, a.ndim)
        if 0 in [a.shape[i] for i in axes]:
            return np.broadcast_to(initial, rd.reduced_shape(a.shape, axes, bool(keepdims)))
        return ufunc(_reduce(prim, a, axes, keepdims), initial)

    reduction.__name__ = name
    return reduction


max = implements(np.max, np.amax)(_extremum("max", np.maximum, rd.max_))
min = implements(np.min, np.amin)(_extremum("min", np.minimum, rd.min_))


def _position(name: str, prim: Primitive) -> Callable[..., Any]:
    def reduction(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        check_out(out, name)
        a = as_array(a)
        rank = a.ndim
        if axis is None:
            found = bind(prim, a.reshape((-1,)), axis=0)
            return found.reshape((1,) * rank) if keepdims else found
        axis = normalize_axis(axis, rank or 1)
        if not rank:
            return bind(prim, a.reshape((1,)), axis=0)
        found = bind(prim, a, axis=axis)
        return rd.expand_reduced(found, a.shape, (axis,)) if keepdims else found

    reduction.__name__ = name
    return reduction


argmax = implements(np.argmax)(_position("argmax", rd.argmax))
argmin = implements(np.argmin)(_position("argmin", rd.argmin))


def _truth(name: str, prim: Primitive, identity: bool) -> Callable[..., Any]:
    def reduction(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
    ) -> Any:
        check_out(out, name)
        return _reduce(prim, _masked(as_array(a), where, identity), axis, keepdims)

    reduction.__name__ = name
    return reduction


any = implements(np.any)(_truth("any", rd.any_, False))
all = implements(np.all)(_truth("all", rd.all_, True))


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return sum(as_array(a) != 0, axis, keepdims=keepdims)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    check_out(out, "ptp")
    return max(a, axis, keepdims=keepdims) - min(a, axis, keepdims=keepdims)


# --- means and variances --------------------------------------------------------------


def _count(a: Any, axes: tuple[int, ...], where: Any, keepdims: Any) -> Any:
    """How many elements are averaged: a float, or an array of counts under a mask."""
    if where is True:
        shape = a.shape
        return float(count_of([shape[i] for i in axes]))
    return sum(np.broadcast_to(where, a.shape), axes, keepdims=keepdims)


def _divided(total: Any, count: Any) -> Any:
    """total / count in total's dtype, as NumPy's averages divide: of integers the whole part.

    A count may be more than float16 can hold.
    """
    wide = cast(total, np.dtype(np.float32)) if total.dtype == np.float16 else total
    return cast(wide / count, total.dtype)


def _averaged_in(a: Any, dtype: Any) -> tuple[np.dtype, np.dtype]:
    """The dtype NumPy adds up in where it averages, and that of the average.

    Integers average in float64, and float16 in float32.
    """
    if dtype is not None:
        dtype = np.dtype(dtype)
        return dtype, dtype
    if a.dtype.kind in "iub":
        return np.dtype(np.float64), np.dtype(np.float64)
    return (np.dtype(np.float32) if a.dtype == np.float16 else a.dtype), a.dtype


@implements(np.mean)
def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    check_out(out, "mean")
    if dtype is None and where is True and type(a) is Tracer and is_plain_float(dtype_of(a)):
        axes = normalize_axes(axis, len(a.shape))
        total = bind(rd.sum_, a, axes=axes, keepdims=bool(keepdims))
        return bind(ew.div, total, _count(a, axes, where, keepdims))
    a = as_array(a)
    within, result = _averaged_in(a, dtype)
    axes = normalize_axes(axis, a.ndim)
    total = sum(a, axes, within, keepdims=keepdims, where=where)
    return cast(_divided(total, _count(a, axes, where, keepdims)), result)


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    check_out(out, "var")
    a = as_array(a)
    within, result = _averaged_in(a, dtype)
    axes = normalize_axes(axis, a.ndim)
    away = a - (_mean(a, axes, within, keepdims=True, where=where) if mean is None else mean)
    squares = away.real**2 + away.imag**2 if a.dtype.kind == "c" else away * away
    n = _count(a, axes, where, keepdims) - _lost_degrees(ddof, correction)
    if dtype is None:
        within, result = (np.real(np.empty(0, d)).dtype for d in (within, result))
        if mean is not None and a.dtype.kind in "fc":
            # It may be of a wider dtype.
            within, result = (np.result_type(d, squares.dtype) for d in (within, result))
    total = sum(squares, axes, within, keepdims=keepdims, where=where)
    return cast(_divided(total, np.maximum(n, 0)), result)


_mean = mean


def _lost_degrees(ddof: Any, correction: Any) -> Any:
    if correction is None:
        return ddof
    if ddof != 0:
        raise at_line(ArgumentError, "ddof= and correction= are two names for one; give one")
    return correction


@implements(np.std)
def std(a: Any, *args: Any, **kwargs: Any) -> Any:
    # The derivative where all elements are equal is taken as 0, which lies in the subgradient.
    variance = var(a, *args, **kwargs)
    if variance.dtype.kind in "fc":
        return bind(ew.root, variance)
    if variance.ndim:
        raise at_line(
            OperandTypeError,
            f"np.std with dtype={variance.dtype.name}: a root is no integer; compute it in floats "
            "and convert the result",
        )
    return cast(np.sqrt(variance), variance.dtype)


@implements(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    a = as_array(a)
    if weights is None:
        result = mean(a, axis, keepdims=keepdims)
        total: Any = np.full(result.shape, a.size / (result.size or 1), result.dtype)
        return (result, total) if returned else result
    weights = as_array(weights)
    axes = normalize_axes(axis, a.ndim)
    if weights.shape != a.shape:
        given = axes if axis is None else _given_axes(axis, a.ndim)
        if weights.shape != tuple([a.shape[i] for i in given]):
            raise at_line(
                ShapeError,
                f"np.average: weights of shape {weights.shape} fit neither the array's shape "
                f"{a.shape} nor its lengths along axis={axis}",
            )
        weights = np.transpose(weights, np.argsort(given))
        weights = weights.reshape([n if i in axes else 1 for i, n in enumerate(a.shape)])
    dtype = np.result_type(a.dtype, weights.dtype, *(["f8"] if a.dtype.kind in "iub" else []))
    total = sum(np.broadcast_to(weights, a.shape), axes, dtype, keepdims=keepdims)
    sums = own_value(total)
    if type(sums) is not Tracer and np.any(sums == 0):
        raise at_line(ArgumentError, "np.average: the weights sum to zero")
    result = sum(cast(a, dtype) * cast(weights, dtype), axes, keepdims=keepdims) / total
    return (result, np.broadcast_to(total, result.shape)) if returned else result


def _given_axes(axis: Any, rank: int) -> list[int]:
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return [normalize_axis(a, rank) for a in axes]


# --- ignoring NaN ---------------------------------------------------------------------


def _without_nan(a: Any, fill: Any) -> tuple[Any, Any]:
    """a with its NaNs replaced, and where they were."""
    a = as_array(a)
    if a.dtype.kind not in "fc":
        return a, np.zeros((), bool)
    missing = np.isnan(a)
    return np.where(missing, fill, a), missing


@implements(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    return sum(_without_nan(a, 0)[0], axis, dtype, out, **options)


@implements(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    return prod(_without_nan(a, 1)[0], axis, dtype, out, **options)


def _nan_statistic(name: str, statistic: Callable[..., Any]) -> Callable[..., Any]:
    def reduction(a: Any, axis: Any = None, dtype: Any = None, *args: Any, **options: Any) -> Any:
        a, missing = _without_nan(a, 0)
        if a.dtype.kind in "fc" and dtype is not None and np.dtype(dtype).kind in "iub":
            raise at_line(
                OperandTypeError,
                f"np.{name} of {a.dtype.name} with dtype={np.dtype(dtype).name}: the average of "
                "inexact numbers is inexact",
            )
        present = np.broadcast_to(~missing, a.shape)
        mask = options.pop("where", True)
        return statistic(
            a, axis, dtype, *args, **options, where=present if mask is True else present & mask
        )

    reduction.__name__ = name
    return reduction


def _present_variance(statistic: Callable[..., Any]) -> Callable[..., Any]:
    """The statistic of those that are present; NaN where there are no more than ddof of them.

    NumPy's other averages have infinity there.
    """

    def variance(
        a: Any,
        axis: Any,
        dtype: Any,
        out: Any = None,
        ddof: float = 0,
        keepdims: Any = False,
        *,
        where: Any,
        **options: Any,
    ) -> Any:
        inexact = a.dtype.kind in "fc"
        if inexact and options.get("mean") is not None:
            # NumPy writes the deviations into the array.
            options["mean"] = cast(as_array(options["mean"]), a.dtype)
        found = statistic(a, axis, dtype, out, ddof, keepdims, where=where, **options)
        if not inexact:
            return found
        lost = ddof if ddof != 0 else options.get("correction") or 0
        count = sum(np.broadcast_to(where, a.shape), axis, keepdims=keepdims)
        return np.where(count > lost, found, np.asarray(np.nan, found.dtype))

    return variance


nanmean = implements(np.nanmean)(_nan_statistic("nanmean", mean))
nanvar = implements(np.nanvar)(_nan_statistic("nanvar", _present_variance(var)))
nanstd = implements(np.nanstd)(_nan_statistic("nanstd", _present_variance(std)))


def _nan_extremum(name: str, extremum: Callable[..., Any], worst: float) -> Callable[..., Any]:
    def reduction(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any
    ) -> Any:
        a, missing = _without_nan(a, worst)
        found = extremum(a, axis, out, keepdims, **options)
        if a.dtype.kind not in "fc" or options:
            return found
        return np.where(all(missing, axis, keepdims=keepdims), np.nan, found)

    reduction.__name__ = name
    return reduction


nanmax = implements(np.nanmax)(_nan_extremum("nanmax", max, -np.inf))
nanmin = implements(np.nanmin)(_nan_extremum("nanmin", min, np.inf))


# --- running reductions ---------------------------------------------------------------


def _running(name: str, prim: Primitive) -> Callable[..., Any]:
    def running(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        check_out(out, name)
        a = _cast_if(as_array(a), dtype)
        if not a.ndim and axis is not None:
            normalize_axis(axis, 1)
            axis = None
        if axis is None:
            a, axis = a.reshape((-1,)), 0
        return _narrowed(bind(prim, a, axis=normalize_axis(axis, a.ndim)), dtype)

    running.__name__ = name
    return running


cumsum = implements(np.cumsum)(_running("cumsum", cu.cumsum))
cumprod = implements(np.cumprod)(_running("cumprod", cu.cumprod))


@implements(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return cumsum(_without_nan(a, 0)[0], axis, dtype, out)


@implements(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return cumprod(_without_nan(a, 1)[0], axis, dtype, out)


def _cumulative(running: Callable[..., Any], identity: int) -> Callable[..., Any]:
    def cumulative(
        x: Any,
        /,
        *,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        include_initial: bool = False,
    ) -> Any:
        x = as_array(x)
        if axis is None and x.ndim > 1:
            raise ValueError(f"an array of {x.ndim} axes needs axis=")
        axis = normalize_axis(axis or 0, x.ndim or 1)
        result = running(x, axis, dtype, out)
        if not include_initial:
            return result
        shape = (*result.shape[:axis], 1, *result.shape[axis + 1 :])
        return np.concatenate([np.full(shape, identity, result.dtype), result], axis)

    return cumulative


if hasattr(np, "cumulative_sum"):  # NumPy 2.1
    cumulative_sum = implements(np.cumulative_sum)(_cumulative(cumsum, 0))
    cumulative_prod = implements(np.cumulative_prod)(_cumulative(cumprod, 1))


# --- methods of ufuncs ----------------------------------------------------------------


def logsumexp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """log(sum(exp(a))) over axes, of a float array; see `funcgrad.scipy.special.logsumexp`."""
    return _reduce(rd.logsumexp, a, axis, keepdims)


def _method_operand(ufunc: np.ufunc, array: Any, dtype: Any) -> Any:
    """The array in the dtype that a ufunc's method computes in."""
    array = as_array(array)
    try:
        if dtype is None:
            dtype = ufunc.resolve_dtypes((array.dtype, array.dtype, None))[-1]
        wanted = np.dtype(dtype)
        # Operands are converted to what was asked for, whichever way; but the loop must exist.
        ufunc.resolve_dtypes((wanted, wanted, None), signature=(wanted,) * 3)
    except TypeError as error:
        raise PrimitiveError.of(f"np.{ufunc.__name__}", [aval_of(array)], error) from error
    return cast(array, wanted)


def _by_method(ufunc: np.ufunc, reduction: Callable[..., Any]) -> Callable[..., Any]:
    """`ufunc.reduce`: like the function, but over the first axis unless told otherwise."""

    def reduce(
        array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, *args: Any, **kw: Any
    ) -> Any:
        options = dict(zip(("keepdims", "initial", "where"), args, strict=False)) | kw
        if isinstance(out, tuple):
            (out,) = out
        check_out(out, "reduce")
        array = _method_operand(ufunc, array, dtype)
        return _narrowed(call_handler(reduction.__name__, reduction, (array, axis), options), dtype)

    return reduce


def _sum_reduce(
    array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False, **kw: Any
) -> Any:
    # Rules sum by np.add.reduce, so this path is kept short.
    if dtype is None and out is None and not kw and type(array) is Tracer:
        return _reduce(rd.sum_, array, axis, keepdims)
    return sum(array, axis, dtype, out, keepdims, **kw)


UFUNC_METHODS |= {
    (np.add, "reduce"): _sum_reduce,
    (np.multiply, "reduce"): _by_method(np.multiply, prod),
    (np.maximum, "reduce"): _by_method(np.maximum, max),
    (np.minimum, "reduce"): _by_method(np.minimum, min),
    (np.fmax, "reduce"): _by_method(np.fmax, nanmax),
    (np.fmin, "reduce"): _by_method(np.fmin, nanmin),
    (np.logical_or, "reduce"): _by_method(np.logical_or, any),
    (np.logical_and, "reduce"): _by_method(np.logical_and, all),
    (np.logaddexp, "reduce"): _by_method(np.logaddexp, logsumexp),
}


def _accumulation(ufunc: np.ufunc, prim: Primitive) -> Callable[..., Any]:
    run = _running(f"{ufunc.__name__}.accumulate", prim)

    def accumulate(array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        array = _method_operand(ufunc, array, dtype)
        if not array.ndim or (axis is None and array.ndim > 1):
            raise at_line(
                ShapeError,
                f"np.{ufunc.__name__}.accumulate goes along one axis, got axis={axis} of "
                f"{aval_of(array)}",
            )
        return run(array, axis, dtype, out)

    return accumulate


UFUNC_METHODS |= {
    (ufunc, "accumulate"): _accumulation(ufunc, prim)
    for ufunc, prim in {
        np.add: cu.cumsum,
        np.multiply: cu.cumprod,
        np.maximum: cu.cummax,
        np.minimum: cu.cummin,
        np.logaddexp: cu.cumlogsumexp,
    }.items()
}
