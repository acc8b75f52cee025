"""Running sums, products and extrema along an axis.

A running reduction obeys y[i] = op(y[i-1], x[i]), so its derivative is a linear recurrence,
dy[i] = a[i] dy[i-1] + b[i], with the partial derivatives of `op` for coefficients. The
recurrence is itself a primitive, closed under differentiation; nothing is ever divided by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.declarations import custom, linear, one_an_operand
from funcgrad.core.device import is_numpys, namespace, zeros_beside
from funcgrad.core.primitive import (
    narrow,
    sample,
    shape_of,
    widen,
)
from funcgrad.primitives.structural import broadcast_to, concatenate, flip, slice_axis

# --- helpers --------------------------------------------------------------------------


def shifted(x: Any, axis: int, fill: float, reverse: bool = False) -> Any:
    """x moved one place along an axis (back if `reverse`), `fill` in the place left free."""
    shape = shape_of(x)
    if shape[axis] == 0:
        return x
    first = namespace(x).full((*shape[:axis], 1, *shape[axis + 1 :]), fill, x.dtype)
    if reverse:
        return bind(concatenate, slice_axis(x, axis, 1, None), first, axis=axis)
    return bind(concatenate, first, slice_axis(x, axis, 0, shape[axis] - 1), axis=axis)


def exclusive_product(x: Any, axis: int, reverse: bool = False) -> Any:
    """The product of the elements before (behind, if `reverse`) each along an axis."""
    if reverse:
        x = bind(flip, x, axes=(axis,))
    out = bind(cumprod, shifted(x, axis, 1), axis=axis)
    return bind(flip, out, axes=(axis,)) if reverse else out


def _batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    return bind(prim, args[0], **{**params, "axis": params["axis"] + 1}), True


def _accumulator_dtype(x: Aval, axis: int) -> Aval:
    # NumPy widens small integers and booleans to the platform's integer before adding.
    return Aval(x.shape, np.add.accumulate(np.empty(0, x.dtype)).dtype)


def _source(ufunc: str) -> Any:
    return lambda names, params: f"np.{ufunc}.accumulate({names[0]}, {params['axis']})"


_SAMPLES = [sample((3,), axis=0), sample((2, 3), axis=1), sample((3, 0), axis=0)]
_ZEROS = np.array([[2.0, 0.0, 3.0, 5.0], [0.0, 7.0, 0.0, 1.0]])

# --- sums -----------------------------------------------------------------------------


def _cumsum(x, axis):
    return np.add.accumulate(x, axis)


def _running_total(x: Any, axis: int) -> Any:
    return narrow(bind(cumsum, widen(x), axis=axis), x.dtype)


def _cumsum_transpose(ct: Any, x: Any, axis: int) -> Any:
    return bind(flip, _running_total(bind(flip, ct, axes=(axis,)), axis), axes=(axis,))


cumsum = linear(
    "cumsum",
    _cumsum,
    _cumsum_transpose,
    shape=_accumulator_dtype,
    batch=_batch,
    samples=_SAMPLES,
    tangent=_running_total,
    source=_source("add"),
    dtypes="fci",
    running="add",
    flops=one_an_operand,
)

# --- the linear recurrence ------------------------------------------------------------


def _recurrence(a, b, axis, reverse):
    # A loop over the axis: doubling would form products of coefficients that may overflow.
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    out = np.empty_like(b)
    # In float16 a sum of ones stops growing at 2048.
    state = zeros_beside(b, b.shape[1:], np.float32 if b.dtype == np.float16 else b.dtype)
    for i in range(len(b))[:: -1 if reverse else 1]:
        state = a[i] * state + b[i]
        out[i] = state
    return np.moveaxis(out, 0, axis)


def _recurrence_shape(a: Aval, b: Aval, axis: int, reverse: bool) -> Aval:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"coefficients {a} and terms {b} must agree in shape and dtype")
    return b.strong()


def _adjoint(ct: Any, a: Any, axis: int, reverse: bool) -> Any:
    """r[i] = ct[i] + a[i+1] r[i+1]: the recurrence run from the other end."""
    coefficients = shifted(a, axis, 0, reverse=not reverse)
    return bind(recurrence, coefficients, ct, axis=axis, reverse=not reverse)


def _recurrence_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
    term = _adjoint(ct, ins[0], **params)
    before = shifted(ans, params["axis"], 0, params["reverse"]) if need[0] else None
    return [None if before is None else term * before, term]


def _recurrence_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    da, db = tangents
    terms = db
    if da is not None:
        terms = da * shifted(ans, params["axis"], 0, params["reverse"])
        terms = terms if db is None else terms + db
    return bind(recurrence, ins[0], terms, **params)


def _recurrence_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    shape = next(shape_of(x) for x, b in zip(args, batched, strict=True) if b)
    args = [
        x if b else bind(broadcast_to, x, shape=shape) for x, b in zip(args, batched, strict=True)
    ]
    return bind(prim, *args, **{**params, "axis": params["axis"] + 1}), True


recurrence = custom(
    "recurrence",
    _recurrence,
    shape=_recurrence_shape,
    jvp=_recurrence_jvp,
    vjp=_recurrence_vjp,
    batch=_recurrence_batch,
    samples=[
        sample((3,), (3,), axis=0, reverse=False),
        sample((2, 3), (2, 3), axis=1, reverse=True),
        sample((0, 2), (0, 2), axis=0, reverse=False),
    ],
)

# --- other running reductions ---------------------------------------------------------


def _running(
    name: str,
    impl: Any,
    partials: Callable[..., tuple[Any, Any]],
    ufunc: str,
    fill: float = 0,
    **options: Any,
) -> Any:
    """Declare y[i] = op(y[i-1], x[i]) by `partials(y[i-1], x[i], y[i])`, those of `op`.

    For i = 0, where y[i-1] is `fill`, what `partials` gives is not read: y[0] = x[0].
    """

    def coefficients(ans: Any, x: Any, axis: int) -> tuple[Any, Any]:
        by_state, by_x = partials(shifted(ans, axis, fill), x, ans)
        length = shape_of(x)[axis]
        column = (-1,) + (1,) * (len(shape_of(x)) - axis - 1)
        first = (namespace(ans).arange(length) == 0).reshape(column)
        return np.where(first, 0, by_state), np.where(first, 1, by_x)

    def jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
        by_state, by_x = coefficients(ans, ins[0], **params)
        return bind(recurrence, by_state, by_x * tangents[0], **params, reverse=False)

    def vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
        by_state, by_x = coefficients(ans, ins[0], **params)
        return [by_x * _adjoint(ct, by_state, **params, reverse=False)]

    return custom(name, impl, jvp=jvp, vjp=vjp, batch=_batch, source=_source(ufunc), **options)


def _cumprod(x, axis):
    return np.multiply.accumulate(x, axis)


def _accumulate(ufunc, x, axis):
    if is_numpys(x):
        return ufunc.accumulate(x, axis)
    # CuPy accumulates sums and products alone: each round doubles how far back a result reaches.
    out, reach, before = x.copy(), 1, (slice(None),) * axis
    while reach < x.shape[axis]:
        later = (*before, slice(reach, None))
        out[later] = ufunc(out[later], out[(*before, slice(None, -reach))])
        reach *= 2
    return out


def _cummax(x, axis):
    return _accumulate(np.maximum, x, axis)


def _cummin(x, axis):
    return _accumulate(np.minimum, x, axis)


def _cumlogsumexp(x, axis):
    return _accumulate(np.logaddexp, x, axis)


def _split_ties(mine: Any, tie: Any, like: Any) -> Any:
    one = like.dtype.type(1)
    return np.where(mine, one, np.where(tie, one * 0.5, 0))


def _weight(x: Any, total: Any) -> Any:
    return np.exp(np.where(x == total, 0, x - total))


cumprod = _running(
    "cumprod",
    _cumprod,
    lambda state, x, ans: (x, state),
    "multiply",
    fill=1,
    shape=_accumulator_dtype,
    samples=[*_SAMPLES, sample(_ZEROS, axis=1)],
    dtypes="fci",
    running="mul",
    flops=one_an_operand,
)
cummax = _running(
    "cummax",
    _cummax,
    lambda state, x, ans: (
        _split_ties(state > x, state == x, x),
        _split_ties(x > state, state == x, x),
    ),
    "maximum",
    shape=lambda x, axis: x.strong(),
    samples=_SAMPLES,
    dtypes="fi",
    running="maximum",
    flops=one_an_operand,
)
cummin = _running(
    "cummin",
    _cummin,
    lambda state, x, ans: (
        _split_ties(state < x, state == x, x),
        _split_ties(x < state, state == x, x),
    ),
    "minimum",
    shape=lambda x, axis: x.strong(),
    samples=_SAMPLES,
    dtypes="fi",
    running="minimum",
    flops=one_an_operand,
)
cumlogsumexp = _running(
    "cumlogsumexp",
    _cumlogsumexp,
    lambda state, x, ans: (_weight(state, ans), _weight(x, ans)),
    "logaddexp",
    shape=lambda x, axis: x.strong(),
    samples=_SAMPLES,
    dtypes="f",
)
