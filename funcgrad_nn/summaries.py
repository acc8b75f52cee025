"""A table of a model's layers, their output shapes and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import funcgrad as fg
from funcgrad import tree

from ._modes import calls_by, shapes_of_params
from .module import Layer, Shape, name_within, size_of
from .parameters import trainable

__all__ = ["Summary", "SummaryRow", "summary"]


@dataclass(frozen=True)
class SummaryRow:
    """A row of a :class:`Summary`: one call of one layer.

    Attributes:
        path: where the layer is in the model, such as ``"1.inner"``; empty for the model.
        layer: the layer.
        output_shape: of one example, without the batch axis; None if the output is no array.
        parameters: the number of numbers in the parameters the layer was called with.

    >>> nn.summary(nn.Flatten(), (2, 3)).rows[0].output_shape
    (6,)
    """

    path: str
    layer: Layer
    output_shape: Shape | None
    parameters: int


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` gives; prints as a table.

    Attributes:
        rows: a row for each call of a layer, outer layers before those in them.
        input_shape: of one example.
        parameters: the number of numbers in all parameters, shared ones counted once.
        nbytes: the memory they take.

    >>> nn.summary(nn.Linear(3, 2), 3).parameters
    8
    """

    rows: tuple[SummaryRow, ...]
    input_shape: Shape
    parameters: int
    nbytes: int

    def __str__(self) -> str:
        table = [("layer", "kind", "output shape", "parameters")]
        for row in self.rows:
            shape = "" if row.output_shape is None else str(row.output_shape)
            table.append(
                (row.path or "model", type(row.layer).__name__, shape, f"{row.parameters:,}")
            )
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {n:>{widths[3]}}"
            for name, kind, shape, n in table
        ]
        rule = "-" * len(lines[0])
        total = f"{self.parameters:,} parameters, {_bytes(self.nbytes)}"
        return "\n".join(
            [lines[0], rule, *lines[1:], rule, f"input shape {self.input_shape}; {total}"]
        )

    __repr__ = __str__


def summary(
    model: Layer, input_shape: int | tuple[int, ...], dtype: DTypeLike = np.float32
) -> Summary:
    """The layers of a model, with the shape each gives and the parameters it has.

    Nothing is computed: parameters are not drawn, so the size of the model does not matter.

    Args:
        model: any layer.
        input_shape: the shape of one example, without the batch axis.
        dtype: of parameters and inputs.

    Returns:
        The table, to print.

    Raises:
        LayerShapeError: the layers do not fit one another; the message names the one at fault.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    >>> print(nn.summary(model, (28, 28)))
    layer  kind        output shape  parameters
    -------------------------------------------
    model  Sequential  (10,)            407,050
    0      Flatten     (784,)                 0
    1      Linear      (512,)           401,920
    2      ReLU        (512,)                 0
    3      Linear      (10,)              5,130
    -------------------------------------------
    input shape (28, 28); 407,050 parameters, 1.55 MiB
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    params = shapes_of_params(model, shape, dtype)
    watch = _Watch()
    with calls_by(watch):
        batch = fg.ShapeDtypeStruct((1, *shape), dtype)
        fg.eval_shape(model, params, batch)
    leaves = tree.leaves(trainable(params))
    return Summary(
        rows=tuple(watch.rows),
        input_shape=shape,
        parameters=sum(map(size_of, leaves)),
        nbytes=sum(size_of(leaf) * leaf.dtype.itemsize for leaf in leaves),
    )


class _Watch:
    """Makes a row of each call of a layer."""

    def __init__(self) -> None:
        self.rows: list[SummaryRow] = []
        # The layers that are being called, outermost first: path, layer, the calls made in it.
        self._open: list[tuple[str, Layer, list[Layer]]] = []

    def __call__(self, layer: Layer, params: Any, x: Any) -> Any:
        path = self._path(layer)
        place = len(self.rows)
        self._open.append((path, layer, []))
        try:
            y = layer.apply(params, layer.as_input(x))
        finally:
            self._open.pop()
        shape = getattr(y, "shape", None)
        count = sum(map(size_of, tree.leaves(trainable(params))))
        row = SummaryRow(path, layer, None if shape is None else tuple(shape[1:]), count)
        self.rows.insert(place, row)
        return y

    def _path(self, layer: Layer) -> str:
        if not self._open:
            return ""
        path, parent, calls = self._open[-1]
        name = name_within(parent, layer, before=sum(called is layer for called in calls))
        calls.append(layer)
        return f"{path}.{name}" if path else name


def _bytes(count: int) -> str:
    size, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{size:.2f} {unit}"
