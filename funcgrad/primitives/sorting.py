"""Primitives that put elements in order, and find places in what is ordered."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.declarations import custom, nondifferentiable
from funcgrad.core.device import is_numpys, namespace, zeros_beside
from funcgrad.core.primitive import sample, shape_of
from funcgrad.primitives.indexing import gather, scatter_zeros
from funcgrad.primitives.structural import broadcast_to

INDEX = np.dtype(np.intp)


def positions_along(indices: Any, axis: int) -> tuple[Any, ...]:
    """An index array per axis, so that `x[...]` picks `indices` along one of them."""
    shape, library = shape_of(indices), namespace(indices)
    mesh: list[Any] = [
        library.arange(n).reshape((1,) * i + (n,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    ]
    mesh[axis] = indices
    return tuple(mesh)


def _batch_axis(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    return bind(prim, args[0], **{**params, "axis": params["axis"] + 1}), True


_SAMPLES = [((5,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 0), 1), ((1,), 0)]

# --- sort -----------------------------------------------------------------------------


def _sort(x, axis):
    return np.sort(x, axis)


def _order(x: Any, axis: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    order = bind(argsort, x, axis=axis, kind="stable")
    return positions_along(order, axis), {"axes": tuple(range(len(shape_of(x))))}


def _sort_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    indices, axes = _order(ins[0], params["axis"])
    return bind(gather, tangents[0], *indices, **axes)


def _sort_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
    indices, axes = _order(ins[0], params["axis"])
    return [bind(scatter_zeros, ct, *indices, shape=shape_of(ct), **axes)]


# Its derivative follows the permutation; equal elements count as ordered by position.
sort = custom(
    "sort",
    _sort,
    shape=lambda x, axis: x.strong(),
    jvp=_sort_jvp,
    vjp=_sort_vjp,
    batch=_batch_axis,
    samples=[sample(shape, axis=axis) for shape, axis in _SAMPLES],
    source=lambda names, params: f"np.sort({names[0]}, {params['axis']})",
    dtypes="fci",
)


def _argsort(x, axis, kind):
    # CuPy's sorts are stable, and it takes no name of another.
    return np.argsort(x, axis, kind if is_numpys(x) else "stable")


argsort = nondifferentiable(
    "argsort",
    _argsort,
    shape=lambda x, axis, kind: x.update(dtype=INDEX),
    batch=_batch_axis,
    samples=[sample(shape, axis=axis, kind="stable") for shape, axis in _SAMPLES],
    source=lambda names, params: (
        f"np.argsort({names[0]}, {params['axis']}, kind={params['kind']!r})"
    ),
    dtypes="fci",
)

# --- searchsorted ---------------------------------------------------------------------


def _searchsorted(a, v, side):
    if a.ndim == 1:
        return np.searchsorted(a, v, side)
    lead = a.shape[:-1]
    out = zeros_beside(v, v.shape, np.intp)
    for i in np.ndindex(lead):
        out[i] = np.searchsorted(a[i], v[i], side)
    return out


def _searchsorted_shape(a: Aval, v: Aval, side: str) -> Aval:
    if a.shape[:-1] != v.shape[: a.ndim - 1] and a.ndim > 1:
        raise ValueError(f"batches differ: {a.shape} and {v.shape}")
    return v.update(dtype=INDEX)


def _searchsorted_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    a, v = args
    rank = len(shape_of(a)) - batched[0]
    if rank > 1 or batched[0]:
        a, v = (
            x if b else bind(broadcast_to, x, shape=(size, *shape_of(x)))
            for x, b in zip(args, batched, strict=True)
        )
    return bind(prim, a, v, **params), True


_A = np.array([-1.0, 0.0, 0.5, 0.5, 2.0])

# `a` is sorted along its last axis; its other axes, a batch, are the first of `v`.
searchsorted = nondifferentiable(
    "searchsorted",
    _searchsorted,
    shape=_searchsorted_shape,
    batch=_searchsorted_batch,
    samples=[
        sample(_A, (2, 3), side="left"),
        sample(_A, np.array(0.5), side="right"),
        sample(np.stack([_A, _A + 1]), (2, 3), side="left"),
        sample(_A[:0], (2,), side="left"),
    ],
    dtypes="f",
)
