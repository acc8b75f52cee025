"""Primitives that reduce over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape
from funcgrad.core.binding import bind
from funcgrad.core.declarations import (
    custom,
    linear,
    nondifferentiable,
    one_an_operand,
)
from funcgrad.core.device import is_numpys
from funcgrad.core.primitive import (
    narrow,
    sample,
    shape_of,
    total,
    widen,
)
from funcgrad.primitives.cumulative import exclusive_product
from funcgrad.primitives.structural import broadcast_to, inverse_permutation, transpose

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
# What has a value over no elements can reduce an empty axis, too.
EMPTY_SAMPLE = sample((0, 2), axes=(0,), keepdims=False)


def _same_dtype(x: Aval, axes: Axes, keepdims: bool) -> Aval:
    return Aval(reduced_shape(x.shape, axes, keepdims), x.dtype)


def _accumulator_dtype(x: Aval, axes: Axes, keepdims: bool) -> Aval:
    # NumPy widens small integers and booleans to the platform's integer before adding.
    dtype = np.add.reduce(np.empty(0, x.dtype)).dtype
    return Aval(reduced_shape(x.shape, axes, keepdims), dtype)


# --- sum ------------------------------------------------------------------------------


def _sum(x, axes, keepdims):
    return np.add.reduce(x, axes, keepdims=keepdims)


def _sum_transpose(ct: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    shape = shape_of(x)
    if shape_of(ct):
        ct = expand_reduced(ct, shape, axes)
    return bind(broadcast_to, ct, shape=shape)


sum_ = linear(
    "sum",
    _sum,
    _sum_transpose,
    shape=_accumulator_dtype,
    batch=batch_reduction,
    samples=[*REDUCTION_SAMPLES, EMPTY_SAMPLE],
    tangent=total,
    source=reduction_source("add"),
    dtypes="fci",
    reduces="add",
    flops=one_an_operand,
)

# --- product --------------------------------------------------------------------------


def _prod(x, axes, keepdims):
    return np.multiply.reduce(x, axes, keepdims=keepdims)


def product_of_others(x: Any, axes: Axes) -> Any:
    """For each element the product of all others over `axes`; no division, so right at zeros."""
    shape = shape_of(x)
    kept = [i for i in range(len(shape)) if i not in axes]
    perm = (*kept, *axes)
    lead = tuple(shape[i] for i in kept)
    moved = bind(transpose, x, perm=perm)
    size = 1
    for i in axes:
        size *= shape[i]
    flat = moved.reshape((*lead, size))
    rank = len(lead)
    others = exclusive_product(flat, rank) * exclusive_product(flat, rank, reverse=True)
    return bind(transpose, others.reshape(moved.shape), perm=inverse_permutation(perm))


def _prod_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    terms = product_of_others(widen(ins[0]), params["axes"]) * tangents[0]
    return narrow(total(terms, **params), tangents[0].dtype)


def _prod_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
    (x,), axes = ins, params["axes"]
    others = product_of_others(widen(x), axes)
    return [narrow(expand_reduced(ct, shape_of(x), axes) * others, ct.dtype)]


prod = custom(
    "prod",
    _prod,
    shape=_accumulator_dtype,
    jvp=_prod_jvp,
    vjp=_prod_vjp,
    batch=batch_reduction,
    samples=[
        *REDUCTION_SAMPLES,
        EMPTY_SAMPLE,
        sample(np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]]), axes=(1,), keepdims=False),
    ],
    source=reduction_source("multiply"),
    dtypes="fci",
    reduces="mul",
    flops=one_an_operand,
)

# --- extrema --------------------------------------------------------------------------


# CuPy reduces by add and multiply; for the rest it has methods, which cost more in NumPy.
def _max(x, axes, keepdims):
    if is_numpys(x):
        return np.maximum.reduce(x, axes, keepdims=keepdims)
    return x.max(axes, keepdims=keepdims)


def _min(x, axes, keepdims):
    if is_numpys(x):
        return np.minimum.reduce(x, axes, keepdims=keepdims)
    return x.min(axes, keepdims=keepdims)


def _extremum_shape(x: Aval, axes: Axes, keepdims: bool) -> Aval:
    if any(x.shape[i] == 0 for i in axes):
        raise ValueError(f"no extremum over an empty axis: shape {x.shape}, axes {axes}")
    return _same_dtype(x, axes, keepdims)


def _chosen(ans: Any, x: Any, axes: Axes) -> tuple[Any, Any]:
    """Which elements are the extremum, and how many; ties share a (co)tangent equally.

    A NaN is the extremum of whatever it is among.
    """
    chosen = (x == expand_reduced(ans, shape_of(x), axes)) | (x != x)
    count = np.add.reduce(chosen, axis=axes, dtype=widen(x).dtype, keepdims=True)
    return chosen, count


def _extremum_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    (tangent,) = tangents
    chosen, count = _chosen(ans, ins[0], params["axes"])
    return narrow(total(np.where(chosen, tangent / count, 0), **params), tangent.dtype)


def _extremum_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
    (x,), axes = ins, params["axes"]
    chosen, count = _chosen(ans, x, axes)
    share = narrow(expand_reduced(ct, shape_of(x), axes) / count, ct.dtype)
    return [np.where(chosen, share, 0)]


_TIES = np.array([[1.0, 3.0, 3.0], [2.0, -1.0, 2.0]])
max_, min_ = (
    custom(
        name,
        impl,
        shape=_extremum_shape,
        jvp=_extremum_jvp,
        vjp=_extremum_vjp,
        batch=batch_reduction,
        samples=[*REDUCTION_SAMPLES, sample((0, 2), axes=(1,), keepdims=False)],
        source=reduction_source(ufunc),
        reduces=ufunc,
        flops=one_an_operand,
        dtypes="fi",
    )
    for name, impl, ufunc in (("max", _max, "maximum"), ("min", _min, "minimum"))
)

# --- logsumexp ------------------------------------------------------------------------


def _logsumexp(x, axes, keepdims):
    dtype = x.dtype
    if dtype == np.float16:
        x = x.astype(np.float32)
    top = x.max(axes, keepdims=True) if x.size else np.add.reduce(x, axes, keepdims=True)
    # Nothing to shift by where all are -inf or one is inf: inf - inf would be NaN.
    top = np.where(np.isfinite(top), top, 0)
    total = np.add.reduce(np.exp(x - top), axes, keepdims=keepdims)
    with np.errstate(divide="ignore"):
        out = np.log(total)
    out = out + (top if keepdims else top.reshape(np.shape(out)))
    return out if out.dtype == dtype else out.astype(dtype)


def _softmax(x: Any, ans: Any, axes: Axes) -> Any:
    """The derivative of logsumexp: 0 for -inf, also where all are; 1 for the only inf."""
    x, whole = widen(x), expand_reduced(ans, shape_of(x), axes)
    shift = np.where(whole == -np.inf, 0, whole)
    weights = np.exp(np.where(x == shift, 0, x - shift))
    # Of a large logsumexp the last digit is a visible factor, which this division takes away.
    scale = np.add.reduce(weights, axis=axes, keepdims=True)
    return weights / np.where(scale == 0, 1, scale)


def _expanded_logsumexp(x: Any, axes: Any, keepdims: bool) -> Any:
    top = np.maximum.reduce(x, axes, keepdims=True)
    # Nothing to shift by where all are -inf or one is inf: inf - inf would be NaN.
    shift = np.where(np.isfinite(top), top, 0)
    total = np.add.reduce(np.exp(x - shift), axes, keepdims=True)
    out = np.log(total) + shift
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    return out if keepdims else out.reshape(kept)


def _logsumexp_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    weights = _softmax(ins[0], ans, params["axes"])
    return narrow(total(weights * tangents[0], **params), tangents[0].dtype)


def _logsumexp_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> list[Any]:
    (x,), axes = ins, params["axes"]
    weights = _softmax(x, ans, axes)
    return [narrow(expand_reduced(ct, shape_of(x), axes) * weights, ct.dtype)]


logsumexp = custom(
    "logsumexp",
    _logsumexp,
    shape=_same_dtype,
    jvp=_logsumexp_jvp,
    vjp=_logsumexp_vjp,
    batch=batch_reduction,
    samples=[*REDUCTION_SAMPLES, EMPTY_SAMPLE],
    dtypes="f",
    flops=one_an_operand,
    expansion=_expanded_logsumexp,
)

# --- zero derivative ------------------------------------------------------------------


def _any(x, axes, keepdims):
    if is_numpys(x):
        return np.logical_or.reduce(x, axes, keepdims=keepdims)
    return x.any(axes, keepdims=keepdims)


def _all(x, axes, keepdims):
    if is_numpys(x):
        return np.logical_and.reduce(x, axes, keepdims=keepdims)
    return x.all(axes, keepdims=keepdims)


def _truth_shape(x: Aval, axes: Axes, keepdims: bool) -> Aval:
    return Aval(reduced_shape(x.shape, axes, keepdims), np.dtype(bool))


any_, all_ = (
    nondifferentiable(
        name,
        impl,
        shape=_truth_shape,
        batch=batch_reduction,
        samples=[*REDUCTION_SAMPLES, EMPTY_SAMPLE],
        source=reduction_source(ufunc),
        reduces=ufunc,
        flops=one_an_operand,
        dtypes="fib",
    )
    for name, impl, ufunc in (("any", _any, "logical_or"), ("all", _all, "logical_and"))
)


def _argmax(x, axis):
    return np.argmax(x, axis)


def _argmin(x, axis):
    return np.argmin(x, axis)


def _position_shape(x: Aval, axis: int) -> Aval:
    if x.shape[axis] == 0:
        raise ValueError(f"no extremum over an empty axis: shape {x.shape}, axis {axis}")
    return Aval(reduced_shape(x.shape, (axis,), False), np.dtype(np.intp))


def _batch_position(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    return bind(prim, args[0], axis=params["axis"] + 1), True


argmax, argmin = (
    nondifferentiable(
        name,
        impl,
        shape=_position_shape,
        batch=_batch_position,
        samples=[sample((3,), axis=0), sample((2, 3), axis=1), sample(_TIES, axis=0)],
        source=lambda names, params, name=name: f"np.{name}({names[0]}, {params['axis']})",
        flops=one_an_operand,
        dtypes="fi",
    )
    for name, impl in (("argmax", _argmax), ("argmin", _argmin))
)
