"""What layers that slide windows over axes of space have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Literal, cast

import numpy as np

from funcgrad.errors import ArgumentError, LayerShapeError, ShapeError

from .module import Layer, is_sequence, shape_error

Sizes = int | tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Padding = str | int | tuple[int, ...] | tuple[tuple[int, int], ...]

# By the number of axes of space: channels in front of them, or behind.
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}

# How inputs go on beyond their ends: PyTorch's names, and np.pad's.
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def check_padding_mode(layer: Layer, option: str, mode: Any) -> None:
    """Raise ArgumentError for what is no name of a way to pad."""
    if mode not in PADDING_MODES:
        raise ArgumentError(
            f"{type(layer).__name__}: {option} must be one of "
            f"{', '.join(map(repr, PADDING_MODES))}, not {mode!r}"
        )


def as_pairs(layer: Layer, value: Any, rank: int) -> Pairs:
    """(before, after) for each axis of space, of an integer, or one or a pair for each axis.

    Raises:
        ArgumentError: it is none of these.
    """
    given: Any = value if is_sequence(value) else (value,) * rank
    pairs = [tuple(pair) if is_sequence(pair) else (pair, pair) for pair in given]
    flat: list[Any] = [n for pair in pairs for n in pair]
    whole = all(isinstance(n, (int, np.integer)) and n >= 0 for n in flat)
    if not whole or any(len(pair) != 2 for pair in pairs) or len(pairs) != rank:
        raise ArgumentError(
            f"{type(layer).__name__}: padding must be a non-negative integer, or for each of "
            f"{rank} axes of space an integer or a pair (before, after), not {value!r}"
        )
    return tuple([(int(before), int(after)) for before, after in pairs])


def for_equal_sizes(
    sizes: Sequence[int], window: Sequence[int], stride: Sizes, dilation: Sizes
) -> Pairs:
    """The padding called "same": so much that there are ceil(size / stride) windows."""
    rank, pairs = len(sizes), list[tuple[int, int]]()
    steps, spread = (n if is_sequence(n) else (n,) * rank for n in (stride, dilation))
    for n, k, s, d in zip(sizes, window, steps, spread, strict=True):
        whole = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs.append((whole // 2, whole - whole // 2))
    return tuple(pairs)


def padded(
    layer: Layer, x: Any, pads: Pairs, mode: str, channels_last: bool, value: float = 0.0
) -> Any:
    """The inputs with so many elements more before and behind on each axis of space."""
    widths = ((0, 0), *pads, (0, 0)) if channels_last else ((0, 0), (0, 0), *pads)
    # What np.pad does further out, to turn again and again, PyTorch refuses, as mostly a mistake.
    most = {"reflect": -1, "replicate": None, "circular": 0}.get(mode)
    for n, pair in zip(x.shape, widths, strict=True):
        if max(pair) and (
            (most is not None and max(pair) > n + most) or (mode != "zeros" and not n)
        ):
            raise shape_error(
                layer,
                f"padding {pair} in the mode {mode!r} takes more than there is along an axis of "
                f"length {n}, got inputs of shape {tuple(x.shape)}.",
            )
    fill: dict[str, Any] = {"constant_values": value} if mode == "zeros" else {}
    return np.pad(x, widths, mode=cast(Any, PADDING_MODES[mode]), **fill)


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
