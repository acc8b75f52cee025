"""Convolution layers over one to three axes of space, with PyTorch's names and defaults."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad as fg
from funcgrad import random
from funcgrad.errors import ArgumentError

from . import init
from ._spatial import (
    LAYOUTS,
    Padding,
    PaddingMode,
    Pairs,
    Sizes,
    SpatialLayer,
    as_pairs,
    check_padding_mode,
    for_equal_sizes,
    padded,
)
from .init import Initializer
from .layers import check_params, size_of_inputs
from .module import Key, Params, Shape, shape_error

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _Conv(SpatialLayer):
    in_channels: int | None
    out_channels: int
    kernel_size: Sizes
    stride: Sizes = 1
    padding: Padding = 0
    dilation: Sizes = 1
    groups: int = 1
    bias: bool = True
    padding_mode: PaddingMode = "zeros"
    layout: str | None = None
    weight_init: Initializer | None = None
    bias_init: Initializer | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        check_padding_mode(self, "padding_mode", self.padding_mode)
        for field in ("in_channels", "out_channels", "groups"):
            if field == "in_channels" and self.in_channels is None:
                continue
            if not _is_size(getattr(self, field)):
                raise ArgumentError(
                    f"{name}: {field} must be a positive integer, not {getattr(self, field)!r}"
                )
        sizes = self._window()
        if len(sizes) != self.rank or not all(map(_is_size, sizes)):
            raise ArgumentError(
                f"{name}: kernel_size must be a positive integer, or one for each of {self.rank} "
                f"axes of space, not {self.kernel_size!r}"
            )
        if (self.in_channels or 0) % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"{name}: in_channels={self.in_channels} and out_channels={self.out_channels} must "
                f"be divisible by groups={self.groups}"
            )

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        channels = self._check_input(input_shape, self.axes[1:], "input_shape")
        shape = (*self._window(), *self._kernel_channels(channels))
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        default = init.uniform(-bound, bound)
        weight_key, bias_key = random.split(key)
        # Initialisers take the axes of inputs and outputs last, whatever the layout.
        weight: Any = (self.weight_init or default)(weight_key, shape, dtype)
        if not self.channels_last:
            weight = np.moveaxis(weight, (-1, -2), (0, 1))
        params = {"weight": weight.copy()}
        if self.bias:
            params["bias"] = (self.bias_init or default)(bias_key, (self.out_channels,), dtype)
        # Whether the window fits: by itself it would be noticed by the first call alone.
        self.output_shape(params, input_shape, dtype)
        return params

    def apply(self, params: Params, x: Any) -> Any:
        channels = self._check_input(x.shape, self.axes, "inputs", params)
        check_params(self, params, self._param_shapes(channels))
        outputs = self._convolved(x, params["weight"])
        if not self.bias:
            return outputs
        bias = params["bias"]
        return outputs + (bias if self.channels_last else bias.reshape(-1, *[1] * self.rank))

    def _convolved(self, x: Any, weight: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            x = padded(self, x, self._pads(x.shape), self.padding_mode, self.channels_last)
            padding = "valid"
        return self.computed(
            fg.conv,
            x,
            weight,
            strides=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def _pads(self, shape: Shape) -> Pairs:
        """(before, after) for each axis of space of inputs of a shape."""
        if self.padding == "same":
            sizes = shape[1:-1] if self.channels_last else shape[2:]
            return for_equal_sizes(sizes, self._window(), self.stride, self.dilation)
        return as_pairs(self, 0 if self.padding == "valid" else self.padding, self.rank)

    def _kernel_channels(self, channels: int) -> tuple[int, int]:
        """The kernel's axes of channels, behind those of the window where channels are last."""
        return channels // self.groups, self.out_channels

    def _known_channels(self, params: Params) -> int | None:
        """`in_channels`; where they are open, those that the parameters are made for."""
        if self.in_channels is not None:
            return self.in_channels
        found = size_of_inputs(params, -2 if self.channels_last else 1)
        return None if found is None else found * self.groups

    def _window(self) -> tuple[int, ...]:
        size = self.kernel_size
        return size if isinstance(size, tuple) else (size,) * self.rank

    def _param_shapes(self, in_channels: int) -> dict[str, Shape]:
        window, channels = self._window(), self._kernel_channels(in_channels)
        weight = (*window, *channels) if self.channels_last else (*channels[::-1], *window)
        return {"weight": weight, "bias": (self.out_channels,)} if self.bias else {"weight": weight}

    def _check_input(self, shape: Shape, axes: str, what: str, params: Params = None) -> int:
        """The number of channels, which has to be that of the settings or the parameters."""
        axis, known = axes.index("C"), self._known_channels(params)
        fits = len(shape) == len(axes)
        if fits and (shape[axis] == known or known is None) and not shape[axis] % self.groups:
            return shape[axis]
        other = LAYOUTS[self.rank][not self.channels_last]
        if not fits:
            mend = (
                "An image of grey levels gets an axis of channels by np.expand_dims"
                if what == "input_shape"
                else "Of one example make a batch: x[None]"
            )
        elif shape[other.index("C") - len(self.axes)] == known:
            mend = f"If they are behind or before the axes of space, pass layout={other!r}"
        elif known is None:
            mend = "Change what comes before, or the groups"
        elif self.in_channels is None:
            mend = "The parameters were made for that, by init; change what comes before"
        else:
            mend = f"Write in_channels={shape[axis]}, or change what comes before"
        wanted = f"a multiple of {self.groups}" if known is None else f"{known}"
        raise shape_error(
            self,
            f"{what} must be of shape ({', '.join(axes)}) with C = {wanted}, got {tuple(shape)}.",
            f"{mend}.",
        )


class _ConvTranspose(_Conv):
    output_padding: Sizes = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding_mode != "zeros":
            raise ArgumentError(
                f'{type(self).__name__}: padding_mode must be "zeros": its padding is what is cut '
                f"off of the outputs, not {self.padding_mode!r}"
            )

    def _convolved(self, x: Any, weight: Any) -> Any:
        return self.computed(
            fg.conv_transpose,
            x,
            weight,
            strides=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def _kernel_channels(self, channels: int) -> tuple[int, int]:
        return self.out_channels // self.groups, channels

    def _known_channels(self, params: Params) -> int | None:
        if self.in_channels is not None:
            return self.in_channels
        return size_of_inputs(params, -1 if self.channels_last else 0)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Conv1d(_Conv):
    """:func:`funcgrad.conv` over one axis of space; for all else see :class:`Conv2d`.

    Inputs have shape ``(N, in_channels, W)``, or ``(N, W, in_channels)`` with ``layout="NWC"``.

    >>> layer = nn.Conv1d(4, 8, kernel_size=5, stride=2)
    >>> layer.output_shape(layer.init(0, (4, 25)), (4, 25))
    (8, 11)
    """

    rank = 1


class Conv2d(_Conv):
    """:func:`funcgrad.conv` over two axes of space, plus a bias for each channel.

    Parameters: ``{"weight": (out_channels, in_channels // groups, *kernel_size), "bias":
    (out_channels,)}``, without ``"bias"`` if there is none. Where channels are last the weight's
    shape is ``(*kernel_size, in_channels // groups, out_channels)``.

    Args:
        in_channels: channels of the inputs; None for as many as they have when ``init`` makes the
            parameters.
        out_channels: channels of the outputs.
        kernel_size: an integer, or one for each axis of space, as all settings up to groups.
        stride: by how much the kernel moves from one output to the next.
        padding: so much around the inputs: an integer, one or a pair for each axis, ``"same"``,
            or ``"valid"``.
        dilation: how far apart in the inputs neighbours in the kernel are.
        groups: of so many equal parts of the channels each has its own outputs.
        bias: whether there is a bias.
        padding_mode: what is there: ``"zeros"``; ``"reflect"``, what lies before the ends, as in a
            mirror; ``"replicate"``, the last element; ``"circular"``, what the other end has.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.
        weight_init: by default uniform in ±1/√fan_in, as in PyTorch; fan_in is the number of inputs
            that an output sees. Initialisers are given the shape with channels last.
        bias_init: by default the same.

    Inputs have shape ``(N, in_channels, H, W)``.

    >>> layer = nn.Conv2d(3, 16, kernel_size=3, padding="same")
    >>> layer
    Conv2d(in_channels=3, out_channels=16, kernel_size=3, padding='same')
    >>> params = layer.init(0, (3, 32, 32))
    >>> layer(params, np.ones((5, 3, 32, 32), np.float32)).shape
    (5, 16, 32, 32)
    """

    rank = 2


class Conv3d(_Conv):
    """:func:`funcgrad.conv` over three axes of space; for all else see :class:`Conv2d`.

    Inputs have shape ``(N, in_channels, D, H, W)``, or ``(N, D, H, W, in_channels)`` with
    ``layout="NDHWC"``.

    >>> layer = nn.Conv3d(1, 2, kernel_size=(1, 3, 3))
    >>> layer.output_shape(layer.init(0, (1, 4, 8, 8)), (1, 4, 8, 8))
    (2, 4, 6, 6)
    """

    rank = 3


class ConvTranspose1d(_ConvTranspose):
    """:func:`funcgrad.conv_transpose` over one axis of space; see :class:`ConvTranspose2d`.

    >>> layer = nn.ConvTranspose1d(8, 4, kernel_size=4, stride=2, padding=1)
    >>> layer.output_shape(layer.init(0, (8, 10)), (8, 10))
    (4, 20)
    """

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """:func:`funcgrad.conv_transpose` over two axes of space, plus a bias for each channel.

    Parameters: ``{"weight": (in_channels, out_channels // groups, *kernel_size), "bias":
    (out_channels,)}``, without ``"bias"`` if there is none. Where channels are last the weight's
    shape is ``(*kernel_size, out_channels // groups, in_channels)``.

    Args:
        in_channels: channels of the inputs; None for as many as they have when ``init`` makes the
            parameters.
        out_channels: channels of the outputs.
        kernel_size: an integer, or one for each axis of space, as all settings up to groups.
        stride: by how much the kernel moves from one input to the next.
        padding: so much is cut off of the outputs on both sides; an integer, or one or a pair for
            each axis.
        dilation: how far apart in the outputs neighbours in the kernel are.
        groups: of so many equal parts of the channels each has its own outputs.
        bias: whether there is a bias.
        padding_mode: ``"zeros"``, nothing else.
        layout: ``"NCHW"``, the default, or ``"NHWC"``.
        weight_init: by default uniform in ±1/√fan_in, where as in PyTorch fan_in counts
            ``out_channels // groups`` times the kernel. Initialisers are given the shape with
            channels last.
        bias_init: by default the same.
        output_padding: so much is cut off less at the end.

    Inputs have shape ``(N, in_channels, H, W)``.

    >>> layer = nn.ConvTranspose2d(16, 3, kernel_size=4, stride=2, padding=1)
    >>> params = layer.init(0, (16, 8, 8))
    >>> layer(params, np.ones((5, 16, 8, 8), np.float32)).shape
    (5, 3, 16, 16)
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """:func:`funcgrad.conv_transpose` over three axes of space; see :class:`ConvTranspose2d`.

    >>> layer = nn.ConvTranspose3d(4, 2, kernel_size=2, stride=2)
    >>> layer.output_shape(layer.init(0, (4, 3, 3, 3)), (4, 3, 3, 3))
    (2, 6, 6, 6)
    """

    rank = 3
