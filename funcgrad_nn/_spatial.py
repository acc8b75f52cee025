"""What layers that slide windows over axes of space have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, ClassVar, cast

from funcgrad.errors import ArgumentError, LayerShapeError, ShapeError

from .module import Layer, shape_error

Sizes = int | tuple[int, ...]
Padding = str | int | tuple[int, ...] | tuple[tuple[int, int], ...]

# By the number of axes of space: channels in front of them, or behind.
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


class SpatialLayer(Layer):
    """Base of layers over `rank` axes of space, whose settings have a `layout` among them."""

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        # Lists would make layers that cannot be hashed.
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(cast(list[Any], value)))
        if self.axes not in LAYOUTS[self.rank]:
            first, last = LAYOUTS[self.rank]
            raise ArgumentError(
                f"{type(self).__name__}: layout must be {first!r} or {last!r}, not {self.axes!r}"
            )

    @property
    def axes(self) -> str:
        """The letters of a batch's axes."""
        return getattr(self, "layout", None) or LAYOUTS[self.rank][0]

    @property
    def channels_last(self) -> bool:
        return self.axes[-1] == "C"

    def describe(self) -> str:
        """The name, and the settings that have no default or another value than that."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.default is MISSING or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def computed(self, function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
        """A function's result; what it says of shapes is said of the layer."""
        try:
            return function(*operands, layout=self.axes, **options)
        except LayerShapeError:
            raise
        except ShapeError as error:
            raise shape_error(self, str(error)) from None
