"""The steps of matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.target import ConvolutionPlan
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.views import View, contiguous, row_major
from funcgrad.backends.loops.planning.builder import Builder
from funcgrad.backends.loops.planning.plan import MatrixProduct
from funcgrad.core.graph import Eqn


def _matmul(builder: Builder, eqn: Eqn) -> None:
    if _can_multiply(builder, eqn):
        _product(builder, eqn.ins, builder.result(eqn.outs[0]))
    else:
        builder.host(eqn)


def _add_product(builder: Builder, eqn: Eqn) -> None:
    if _can_multiply(builder, eqn):
        w, *operands = eqn.ins
        result = builder.result(eqn.outs[0])
        _product(builder, operands, result, eqn.params["scale"], builder.resolve(w))
    else:
        builder.host(eqn)


def _can_multiply(builder: Builder, eqn: Eqn) -> bool:
    key = (eqn.prim, eqn.outs[0].aval.dtype, *[a.aval.shape for a in eqn.ins])
    known = builder.program.products.get(key)
    if known is None:
        known = builder.program.products[key] = builder.target.can_multiply(eqn)
    return known


def _product(
    builder: Builder,
    operands: Sequence[Any],
    result: Buffer,
    scale: float = 1.0,
    source: View | None = None,
) -> None:
    x, y = (_matrix(builder, atom, result.dtype, side) for side, atom in enumerate(operands))
    key = (*x[1:3], *y[1:3], result.dtype, scale, source is not None)
    how = builder.program.products.get(key)
    if how is None:
        how = builder.target.product(x, y, result.dtype, scale, source is not None)
        builder.program.products[key] = how
    if source is not None and how.adds_in_place:
        builder.copy(source, contiguous(result, source.shape))
        source = contiguous(result, source.shape)
    elif source is not None:
        source = builder.contiguous_copy(source)
    builder.steps.append(MatrixProduct(x, y, result, scale, source, how))


def _matrix(builder: Builder, atom: Any, dtype: np.dtype, side: int) -> View:
    """An operand as matrices with unit stride along one of the last two axes."""
    view = builder.resolve(atom)
    if len(view.shape) == 1:
        at = 0 if side == 0 else 1
        shape, strides = list(view.shape), list(view.strides)
        shape.insert(at, 1)
        strides.insert(at, view.shape[0] if side == 0 else 1)
        view = View(view.buffer, tuple(shape), tuple(strides), view.offset)
    if view.buffer.dtype != dtype or leading(view) is None:
        fresh = View(Buffer(dtype, prod(view.shape)), view.shape, row_major(view.shape), 0)
        builder.copy(view, fresh)
        return fresh
    return view


def leading(view: View) -> tuple[int, bool] | None:
    """(leading dimension, is transposed) as BLAS takes them; None where neither way fits."""
    (m, n), (by_row, by_column) = view.shape[-2:], view.strides[-2:]
    if (by_column == 1 or n == 1) and (by_row >= n or m == 1):
        return max(by_row if m > 1 else n, n, 1), False
    if (by_row == 1 or m == 1) and (by_column >= m or n == 1):
        return max(by_column if n > 1 else m, m, 1), True
    return None


def _convolved(builder: Builder, eqn: Eqn) -> None:
    x, kernel = (builder.contiguous_copy(builder.resolve(atom)) for atom in eqn.ins)
    how: ConvolutionPlan = eqn.params["how"]
    room = Buffer(np.dtype(np.uint8), how.room)
    result = builder.result(eqn.outs[0])
    builder.steps.append(MatrixProduct(x, kernel, result, 1.0, None, how, room))


RULES: dict[str, Callable[[Builder, Eqn], None]] = {
    "matmul": _matmul,
    "add_product": _add_product,
    "convolved": _convolved,
}
