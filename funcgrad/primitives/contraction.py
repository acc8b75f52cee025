"""Contractions: one primitive, `matmul`, of which dot, tensordot and einsum are composed."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, broadcast_shapes, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.declarations import bilinear
from funcgrad.core.primitive import (
    pad_rank,
    sample,
    shape_of,
    unbroadcast,
)
from funcgrad.primitives.structural import move_axis


def swap(x: Any) -> Any:
    """The matrix transpose of the last two axes."""
    return move_axis(x, -1, -2)


def _matmul_shape(x: Aval, y: Aval) -> Aval:
    if not x.shape or not y.shape:
        raise ValueError("matmul takes no scalars; use * instead")
    inner = y.shape[max(y.ndim - 2, 0)]
    if x.shape[-1] != inner:
        sizes = f"{x.shape[-1]} != {inner}"
        raise ValueError(f"inner dimensions differ: {x.shape} @ {y.shape} ({sizes})")
    rows = x.shape[-2:-1]
    columns = y.shape[-1:] if len(y.shape) > 1 else ()
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return Aval((*lead, *rows, *columns), result_dtype(x, y))


def _transpose_left(ct: Any, x: Any, y: Any) -> Any:
    xs, ys = shape_of(x), shape_of(y)
    if len(ys) == 1:
        out = ct * y if len(xs) == 1 else ct[..., None] * y
    elif len(xs) == 1:
        out = bind(matmul, y, ct) if len(ys) == 2 else bind(matmul, y, ct[..., None])[..., 0]
    else:
        out = bind(matmul, ct, swap(y))
    return unbroadcast(out, xs)


def _transpose_right(ct: Any, x: Any, y: Any) -> Any:
    xs, ys = shape_of(x), shape_of(y)
    if len(xs) == 1:
        out = x * ct if len(ys) == 1 else x[:, None] * ct[..., None, :]
    elif len(ys) > 2:
        out = bind(matmul, swap(x), ct)
    else:
        if len(xs) > 2:
            # One product over all the rows instead of a batch of them that is then summed.
            rows = prod(xs[:-1])
            x, ct = x.reshape((rows, *xs[-1:])), ct.reshape((rows, *ys[1:]))
        return bind(matmul, ct, x) if len(ys) == 1 else bind(matmul, swap(x), ct)
    return unbroadcast(out, ys)


def _matmul_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    x, y = args
    rank_x = len(shape_of(x)) - batched[0]
    rank_y = len(shape_of(y)) - batched[1]
    if not batched[1] and rank_y <= 2:
        # The batch is one more axis of rows.
        return bind(matmul, x, y), True
    if not batched[0] and rank_y == 1 and rank_x <= 2:
        return bind(matmul, y, x if rank_x == 1 else swap(x)), True
    if not batched[0] and rank_x == 1:
        return bind(matmul, x, y), True
    x = _as_matrix(x, rank_x, row=True)
    y = _as_matrix(y, rank_y, row=False)
    rank = max(len(shape_of(x)) + (not batched[0]), len(shape_of(y)) + (not batched[1]))
    x = pad_rank(x, rank) if batched[0] else x
    y = pad_rank(y, rank) if batched[1] else y
    out = bind(matmul, x, y)
    if rank_y == 1:
        out = out[..., 0]
    if rank_x == 1:
        out = out[..., 0] if rank_y == 1 else out[..., 0, :]
    return out, True


def _as_matrix(x: Any, rank: int, row: bool) -> Any:
    """A batch of vectors as one of matrices."""
    if rank > 1:
        return x
    size, n = shape_of(x)
    return x.reshape((size, 1, n) if row else (size, n, 1))


def _expanded_matmul(x: Any, y: Any) -> Any:
    """With one row or one column: products, and sums of these; None for others."""
    if len(shape_of(y)) == 1:
        return np.sum(x * y, -1)
    if len(shape_of(x)) == 1:
        return np.sum(x[:, None] * y, -2)
    if shape_of(y)[-1] == 1:
        return np.sum(x * swap(y), -1, keepdims=True)
    if shape_of(x)[-2] == 1:
        return np.sum(swap(x) * y, -2, keepdims=True)
    return None


matmul = bilinear(
    "matmul",
    np.matmul,
    (_transpose_left, _transpose_right),
    shape=_matmul_shape,
    batch=_matmul_batch,
    samples=[
        sample((2, 3), (3, 4)),
        sample((3,), (3,)),
        sample((2, 3), (3,)),
        sample((3,), (3, 2)),
        sample((2, 1, 2, 3), (4, 3, 2)),
        sample((5, 2, 3), (3, 2)),
        sample((3,), (2, 3, 2)),
        sample((2, 2, 3), (3,)),
        sample((2, 0), (0, 3)),
        sample((0, 2), (2, 3)),
    ],
    infix="@",
    dtypes="fci",
    flops=lambda ins, out: 2 * out.size * ins[0].shape[-1],
    expansion=_expanded_matmul,
)
