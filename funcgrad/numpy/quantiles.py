"""Quantiles, percentiles and medians: where they lie among ordered elements, and what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer, own_value
from funcgrad.errors import (
    ArgumentError,
    IndexRangeError,
    OperandTypeError,
    ShapeError,
    UnsupportedFunctionError,
    at_line,
)
from funcgrad.numpy.convert import as_array, check_out, normalize_axes
from funcgrad.numpy.indexing import getitem
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.selection import take
from funcgrad.primitives import sorting as so
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast
from funcgrad.records import NamedTuple

# --- positions ------------------------------------------------------------------------


class Method(NamedTuple):
    """How a quantile is found among n ordered elements.

    Attributes:
        position: of the q-quantile, of n and q: an integer, or a fraction between two elements.
        weight: of the upper of the two, of their fraction and of the position.
    """

    position: Callable[[Any, Any], Any]
    weight: Callable[[Any, Any], Any] = lambda fraction, position: fraction


def _between(alpha: float, beta: float) -> Method:
    """Hyndman and Fan's continuous methods."""
    return Method(lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1)


def _rounded(rounding: Callable[[Any], Any]) -> Method:
    return Method(lambda n, q: rounding((n - 1) * q).astype(np.intp))


def _stepwise(start: float, stays: Callable[[Any, Any], Any]) -> Method:
    """The element above a position, or that below where it `stays` (of fraction and below)."""

    def position(n: Any, q: Any) -> Any:
        place = n * q - start
        below = np.floor(place)
        chosen = np.where(stays(place - below, below), below, below + 1)
        return np.maximum(chosen.astype(np.intp), 0)

    return Method(position)


METHODS = {
    "linear": Method(lambda n, q: (n - 1) * q),
    "lower": _rounded(np.floor),
    "higher": _rounded(np.ceil),
    "nearest": _rounded(np.rint),
    "midpoint": Method(
        lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
        lambda fraction, position: np.where(position % 1 == 0, 0.0, 0.5),
    ),
    "inverted_cdf": _stepwise(1, lambda fraction, below: fraction == 0),
    "closest_observation": _stepwise(
        1.5, lambda fraction, below: (fraction == 0) & (below % 2 == 1)
    ),
    "averaged_inverted_cdf": Method(
        lambda n, q: n * q - 1.0,
        lambda fraction, position: np.where(fraction == 0, 0.5, 1.0),
    ),
    "interpolated_inverted_cdf": _between(0.0, 1.0),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0.0, 0.0),
    "median_unbiased": _between(1 / 3, 1 / 3),
    "normal_unbiased": _between(3 / 8, 3 / 8),
}

# --- elements -------------------------------------------------------------------------


class Ordered(NamedTuple):
    """Slices in ascending order.

    Attributes:
        elements: the slices, along the first axis; NaNs are at the end.
        count: how many elements of a slice count; an array if that differs from slice to slice.
        kept: the shape of the result with `keepdims`.
    """

    elements: Any
    count: Any
    kept: tuple[int, ...]

    def at(self, i: Any) -> Any:
        """The elements at these positions, whose axes come first."""
        if type(self.count) is int:
            return take(self.elements, i, 0)
        rest = shape_of(self.elements)[1:]
        return getitem(self.elements, (i, *np.ogrid[tuple(slice(n) for n in rest)]))


def _in_order(a: Any, axis: Any) -> Ordered:
    shape = shape_of(a)
    axes = normalize_axes(axis, len(shape))
    rest = [i for i in range(len(shape)) if i not in axes]
    lengths = tuple(shape[i] for i in rest)
    count = int(np.prod([shape[i] for i in axes], dtype=np.intp))
    merged = np.transpose(a, (*rest, *axes)).reshape((*lengths, count))
    elements = st.move_axis(bind(so.sort, merged, axis=len(rest)), -1, 0)
    return Ordered(elements, count, tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _may_have_nan(a: Any) -> bool:
    return a.dtype.kind in "fc"


def _without_nan(ordered: Ordered) -> Ordered:
    """The same slices without their NaNs."""
    if not _may_have_nan(ordered.elements):
        return ordered
    return ordered._replace(count=np.sum(~np.isnan(ordered.elements), axis=0))


def _or_nan(result: Any, ordered: Ordered) -> Any:
    """NaN where a slice has one, or has nothing else and those do not count."""
    if type(ordered.count) is not int:
        return np.where(ordered.count == 0, np.nan, result)
    if not _may_have_nan(ordered.elements):
        return result
    last = ordered.elements[-1]
    return np.where(np.isnan(last), last, result)


# --- quantiles ------------------------------------------------------------------------


def _interpolate(ordered: Ordered, position: Any, weight_of: Any, weak: bool) -> Any:
    """Between the elements on either side of a position; beyond the ends, the elements there."""
    last = np.maximum(ordered.count - 1, 0)
    below = np.floor(position)
    first = np.minimum(np.maximum(below.astype(np.intp), 0), last)
    second = np.minimum(first + (position >= 0), last)
    low, high = ordered.at(first), ordered.at(second)
    weight = cast(weight_of(position - below, position), position.dtype)
    rest, upper = 1 - weight, weight >= 0.5
    if weak and _may_have_nan(low):
        weight, rest = cast(weight, low.dtype), cast(rest, low.dtype)
    # The axes of the positions come first.
    shape = shape_of(position) + (1,) * (len(shape_of(low)) - len(shape_of(position)))
    weight, rest, upper = (as_array(x).reshape(shape) for x in (weight, rest, upper))
    step = high - low
    # As NumPy does it: exact at both ends.
    return np.where(upper, high - step * rest, low + step * weight)


def _elements_at(ordered: Ordered, q: Any, method: str, weak: bool) -> Any:
    """What lies at the quantiles of the elements that count."""
    if method not in METHODS:
        raise at_line(
            ArgumentError, f"method={method!r} is none of the methods {', '.join(METHODS)}"
        )
    count = ordered.count
    if type(count) is not int:
        q = q.reshape(shape_of(q) + (1,) * len(shape_of(count)))
        # A Python number would take the dtype of q.
        count = cast(count, q.dtype)
    position = METHODS[method].position(count, q)
    if position.dtype.kind not in "iu":
        return _interpolate(ordered, position, METHODS[method].weight, weak)
    return ordered.at(np.minimum(np.maximum(position, 0), np.maximum(ordered.count - 1, 0)))


def _within_range(q: Any, top: int, name: str) -> Any:
    """Whether each q is one, where that cannot be known yet; else true.

    Raises:
        ArgumentError: one is out of range, or NaN.
    """
    inside = (q >= 0) & (q <= top)
    known = own_value(inside)
    if type(known) is Tracer:
        return inside
    if not known.all():
        raise at_line(ArgumentError, f"np.{name}: q is from 0 to {top}, got {own_value(q)}")
    return True


def _quantile_function(name: str) -> Callable[..., Any]:
    ignores_nan, top = name.startswith("nan"), 100 if name.endswith("percentile") else 1

    def quantile(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: Any = False,
        *,
        weights: Any = None,
        interpolation: Any = None,
    ) -> Any:
        check_out(out, name)
        if weights is not None or interpolation is not None:
            raise UnsupportedFunctionError.of(f"np.{name} with weights= or interpolation=")
        a = as_array(a)
        if a.dtype.kind == "c":
            raise at_line(OperandTypeError, f"np.{name} needs real numbers, got {aval_of(a)}")
        # Python's numbers do not widen what they meet.
        weak = aval_of(own_value(q)).weak if np.isscalar(q) or type(q) is Tracer else False
        q = as_array(q)
        if q.ndim > 2:
            raise at_line(ShapeError, f"np.{name}: q has at most two axes, got {aval_of(q)}")
        inside = _within_range(q, top, name)
        if ignores_nan and not a.size:
            return np.nanmean(a, axis, keepdims=keepdims)
        if top != 1:
            q = as_array(np.true_divide(q, top))
        ordered = _in_order(a, axis)
        if not ordered.count:
            raise at_line(IndexRangeError, f"np.{name} of no elements: {aval_of(a)}, axis={axis}")
        if ignores_nan:
            ordered = _without_nan(ordered)
        result = _or_nan(_elements_at(ordered, q, method, weak), ordered)
        if inside is not True:
            inside = inside.reshape(shape_of(q) + (1,) * (len(shape_of(result)) - q.ndim))
            result = np.where(inside, result, np.nan)
        return result.reshape((*shape_of(q), *ordered.kept)) if keepdims else result

    quantile.__name__ = name
    return implements(getattr(np, name))(quantile)


quantile, nanquantile, percentile, nanpercentile = map(
    _quantile_function, ("quantile", "nanquantile", "percentile", "nanpercentile")
)

# --- medians --------------------------------------------------------------------------


def _middle(ordered: Ordered) -> Any:
    """The mean of the one or two elements in the middle."""
    elements, count = ordered.elements, ordered.count
    if type(count) is int:
        return np.mean(elements[max(count - 1, 0) // 2 : count // 2 + 1], axis=0)
    low, high = (ordered.at(np.maximum(i, 0)) for i in ((count - 1) // 2, count // 2))
    return np.where(count % 2 == 1, low, np.mean(np.stack([low, high]), axis=0))


def _median_function(name: str) -> Callable[..., Any]:
    ignores_nan = name.startswith("nan")

    def median(
        a: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        keepdims: Any = False,
    ) -> Any:
        check_out(out, name)
        a = as_array(a)
        if ignores_nan and not a.size:
            return np.nanmean(a, axis, keepdims=keepdims)
        ordered = _in_order(a, axis)
        if ignores_nan:
            ordered = _without_nan(ordered)
        result = _middle(ordered)
        result = _or_nan(result, ordered) if a.size else result
        return result.reshape(ordered.kept) if keepdims else result

    median.__name__ = name
    return implements(getattr(np, name))(median)


median, nanmedian = map(_median_function, ("median", "nanmedian"))
