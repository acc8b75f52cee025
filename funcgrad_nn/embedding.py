"""Rows of a table, by their numbers."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, OperandTypeError

from . import init
from ._numbers import checked_indices
from .init import Initializer
from .module import Key, Layer, Params, Shape

__all__ = ["Embedding"]


class Embedding(Layer):
    """The rows of a table that the inputs name.

    Parameters: ``{"weight": (num_embeddings, embedding_dim)}``.

    Args:
        num_embeddings: the number of rows.
        embedding_dim: their length.
        padding_idx: of a row that begins as zeros and is not trained: its derivatives are 0.
        weight_init: by default normal with deviation 1, as in PyTorch.

    Inputs are integers of any shape, from 0 to below ``num_embeddings``; outputs have one axis
    more.

    Raises:
        ArgumentError: a size is no positive integer, or ``padding_idx`` names no row.
        OperandTypeError: inputs are no integers.
        IndexRangeError: an input names no row.

    >>> layer = nn.Embedding(10, 3)
    >>> layer(layer.init(0, 4), np.array([[1, 2, 4, 9]])).shape
    (1, 4, 3)
    """

    takes_indices: ClassVar[bool] = True

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None
    weight_init: Initializer | None = None

    def __post_init__(self) -> None:
        for name in ("num_embeddings", "embedding_dim"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
                raise ArgumentError(f"Embedding: {name} must be a positive integer, not {size!r}")
        row: Any = self.padding_idx
        rows = self.num_embeddings
        if row is None:
            return
        whole = type(row) is not bool and hasattr(row, "__index__")
        if not whole or not -rows <= row < rows:
            raise ArgumentError(
                f"Embedding: padding_idx must be one of {rows} rows or None, not {row!r:.60}"
            )
        self.padding_idx = operator.index(row) % rows

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        shape = (self.num_embeddings, self.embedding_dim)
        weight = (self.weight_init or init.normal(1.0))(key, shape, dtype)
        if self.padding_idx is not None:
            weight = fg.at(weight)[self.padding_idx].set(0)
        return {"weight": weight}

    def apply(self, params: Params, x: Any) -> Any:
        x = x if hasattr(x, "dtype") else np.asarray(x)
        if x.dtype.kind not in "iu":
            raise OperandTypeError(
                f"{self.describe()} takes the rows' numbers, integers, got {x.dtype}. Convert "
                "them: x.astype(np.int64)."
            )
        rows = self.num_embeddings

        wanted = f"{self.describe()}: inputs must be rows from 0 to {rows - 1}, but"

        def problem(low: Any, high: Any) -> str:
            return f"{wanted} they go from {low} to {high}."

        with fg.index_error(f"{wanted} {{index}} is among them."):
            found = fnp.take(params["weight"], checked_indices(x, rows, problem), axis=0)
        if self.padding_idx is None:
            return found
        return fnp.where((x == self.padding_idx)[..., None], fg.stop_gradient(found), found)
