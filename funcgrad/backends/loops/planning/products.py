"""The steps of matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.views import View, contiguous, row_major
from funcgrad.backends.loops.planning.builder import Builder
from funcgrad.backends.loops.planning.plan import MatrixProduct
from funcgrad.core.graph import Eqn


def _matmul(builder: Builder, eqn: Eqn) -> None:
    if builder.target.can_multiply(eqn):
        _product(builder, eqn.ins, builder.result(eqn.outs[0]))
    else:
        builder.host(eqn)


def _add_product(builder: Builder, eqn: Eqn) -> None:
    if builder.target.can_multiply(eqn):
        w, *operands = eqn.ins
        result = builder.result(eqn.outs[0])
        _product(builder, operands, result, eqn.params["scale"], builder.resolve(w))
    else:
        builder.host(eqn)


def _product(
    builder: Builder,
    operands: Sequence[Any],
    result: Buffer,
    scale: float = 1.0,
    source: View | None = None,
) -> None:
    x, y = (_matrix(builder, atom, result.dtype, side) for side, atom in enumerate(operands))
    how = builder.target.product(x, y, result.dtype, scale, source is not None)
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


RULES: dict[str, Callable[[Builder, Eqn], None]] = {
    "matmul": _matmul,
    "add_product": _add_product,
}
