"""Convolutions of batches over one to three axes of space: `conv`, `conv_transpose`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from funcgrad._spatial import (
    LAYOUTS,
    Axes,
    as_padding,
    as_pairs,
    axes_of,
    by_axis,
    check_rank,
    check_windows,
    span,
)
from funcgrad.core.aval import Shape
from funcgrad.core.binding import bind
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError, at_line
from funcgrad.numpy.convert import promote
from funcgrad.primitives import convolution as primitives
from funcgrad.primitives.structural import FULL, Entry, embed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    input_dilation: Sizes = 1,
    groups: int = 1,
    layout: str | None = None,
) -> NDArray[Any]:
    """Convolution of a batch with a kernel, as layers have it: the kernel is not flipped.

    Each result is the sum of products of the kernel with what it covers of the padded inputs, in
    all channels of a group: the cross-correlation of signal processing. `np.convolve` flips.

    Args:
        x: inputs, shape (N, C, *S) with one to three axes of space, or (N, *S, C): see `layout`.
        kernel: shape (O, C // groups, *K) where channels come first, else (*K, C // groups, O).
        strides: by how much the kernel moves from one result to the next; here and below an
            integer for all axes of space, or one for each.
        padding: zeros around the inputs: "valid" for none; "same" for so many that there are
            ceil(S / stride) results, half of them on either side, of an odd number one more
            behind; an integer; or for each axis an integer or a pair (before, after).
        dilation: how far apart in the inputs neighbours in the kernel are.
        input_dilation: so far apart inputs are put first, with zeros between.
        groups: of so many equal parts of the channels each has its own part of the O results.
        layout: "NCW", "NCHW" or "NCDHW", the default, or "NWC", "NHWC" or "NDHWC".

    Returns:
        Shape (N, O, *P) or (N, *P, O), where P = (S + padding - dilation * (K - 1) - 1) // stride
        + 1, in NumPy's common dtype of both. What is added up in float16 is added in float32 and
        rounded once.

    Raises:
        ShapeError: an axis is missing (mostly that of the batch), channels do not match, or the
            kernel is larger than the padded inputs.
        ArgumentError: an option has no meaning.
        OperandTypeError: both are booleans.

    Example:
        >>> images = np.arange(16.0).reshape(1, 1, 4, 4)
        >>> edges = np.array([[[[-1.0, 1.0]]]])
        >>> fg.conv(images, edges, padding="same").shape
        (1, 1, 4, 4)
        >>> fg.conv(images, edges, strides=2)[0, 0]
        array([[1., 1.],
               [1., 1.]])
        >>> fg.grad(lambda k: np.sum(fg.conv(images, k)))(edges)[0, 0]
        array([[84., 96.]])
    """
    inputs, weights, axes, window = _operands("conv", x, kernel, layout)
    rank = len(window)
    steps = by_axis(strides, rank, 1, "conv", "strides")
    spread = by_axis(dilation, rank, 1, "conv", "dilation")
    channels, seen, out = inputs.shape[axes.channels], *_kernel_channels(weights, axes)
    _check_groups("conv", groups, inputs, weights, ("inputs", channels), ("outputs", out))
    if channels != seen * groups:
        raise _unequal_channels("conv", inputs, weights, axes, groups, seen * groups)
    inputs = _dilated(inputs, axes, by_axis(input_dilation, rank, 1, "conv", "input_dilation"))
    sizes = [inputs.shape[axis] for axis in axes.spatial]
    pads = as_padding(padding, sizes, window, steps, spread, "conv")
    check_windows(inputs.shape, axes.spatial, window, pads, spread, "conv")
    return bind(
        primitives.conv,
        inputs,
        weights,
        strides=steps,
        padding=pads,
        dilation=spread,
        groups=groups,
        channels_last=axes.last,
    )


def conv_transpose(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    strides: Sizes = 1,
    padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    layout: str | None = None,
) -> NDArray[Any]:
    """Transposed convolution: the derivative of `conv` by its inputs, in the direction x.

    Every input adds its multiple of the kernel to the results, `strides` apart: what upsamples
    in decoders ("deconvolution"). Options and results are those of PyTorch's `conv_transpose2d`.

    Args:
        x: inputs, shape (N, C, *S) with one to three axes of space, or (N, *S, C): see `layout`.
        kernel: that of the convolution it is the transpose of: shape (C, O // groups, *K) where
            channels come first, else (*K, O // groups, C).
        strides: by how much the kernel moves from one input to the next; here and below an
            integer for all axes of space, or one for each.
        padding: so much is cut off of the results on both sides; an integer, or for each axis
            an integer or a pair (before, after).
        output_padding: so much is cut off less at the end; it tells apart the sizes of inputs for
            which a convolution of that stride has results of one size.
        dilation: how far apart in the results neighbours in the kernel are.
        groups: of so many equal parts of the channels each has its own part of the O results.
        layout: "NCW", "NCHW" or "NCDHW", the default, or "NWC", "NHWC" or "NDHWC".

    Returns:
        Shape (N, O, *P) or (N, *P, O), where P = (S - 1) * stride - padding on both sides
        + dilation * (K - 1) + 1 + output_padding, in NumPy's common dtype of both.

    Raises:
        ShapeError: an axis is missing (mostly that of the batch), channels do not match, or
            nothing is left of the results.
        ArgumentError: an option has no meaning, or the output's padding is as large as both stride
            and dilation.
        OperandTypeError: both are booleans.

    Example:
        >>> x = np.array([[[1.0, 2.0, 3.0]]])
        >>> kernel = np.array([[[1.0, 10.0]]])
        >>> fg.conv_transpose(x, kernel, strides=2)
        array([[[ 1., 10.,  2., 20.,  3., 30.]]])
        >>> fg.conv_transpose(x, kernel)
        array([[[ 1., 12., 23., 30.]]])
    """
    name = "conv_transpose"
    inputs, weights, axes, window = _operands(name, x, kernel, layout)
    rank = len(window)
    steps = by_axis(strides, rank, 1, name, "strides")
    spread = by_axis(dilation, rank, 1, name, "dilation")
    pads = as_pairs(padding, rank, name)
    more = by_axis(output_padding, rank, 0, name, "output_padding")
    channels, taken = inputs.shape[axes.channels], _kernel_channels(weights, axes)[1]
    _check_groups(name, groups, inputs, weights, ("inputs", channels))
    if channels != taken:
        raise _unequal_channels(name, inputs, weights, axes, groups, taken)
    if any(m and m >= max(s, d) for m, s, d in zip(more, steps, spread, strict=True)):
        raise at_line(
            ArgumentError,
            f"{name}: output_padding={output_padding} must be smaller than strides={strides} or "
            f"dilation={dilation}: what is added no input reaches. Pad the result instead.",
        )
    sizes = [
        (inputs.shape[axis] - 1) * s - sum(pad) + span(k, d) + m
        for axis, s, pad, k, d, m in zip(
            axes.spatial, steps, pads, window, spread, more, strict=True
        )
    ]
    if any(n < 1 for n in sizes):
        raise at_line(
            ShapeError,
            f"{name}: with padding={padding} nothing is left of the results: inputs "
            f"{inputs.shape} and a kernel {weights.shape} make axes of space of lengths "
            f"{tuple(sizes)}",
        )
    return bind(
        primitives.conv_input,
        inputs,
        weights,
        spatial=tuple(sizes),
        strides=steps,
        padding=tuple([(before, after - m) for (before, after), m in zip(pads, more, strict=True)]),
        dilation=spread,
        groups=groups,
        channels_last=axes.last,
    )


# --- operands -------------------------------------------------------------------------


def _operands(name: str, x: Any, kernel: Any, layout: str | None) -> tuple[Any, Any, Axes, Shape]:
    """Inputs and kernel in one dtype, where their axes are, and the kernel's lengths in space."""
    x, kernel = promote([x, kernel])
    rank = kernel.ndim - 2
    if rank not in LAYOUTS:
        raise at_line(
            ShapeError,
            f"{name}: a kernel must have an axis of inputs, one of outputs, and one to three of "
            f"space, got shape {kernel.shape}",
        )
    axes = axes_of(layout, rank, name)
    check_rank(x.shape, axes, name)
    window = kernel.shape[:-2] if axes.last else kernel.shape[2:]
    if not all(window):
        raise at_line(ShapeError, f"{name}: a kernel of shape {kernel.shape} covers nothing")
    if kernel.dtype.kind == "b":
        raise at_line(
            OperandTypeError,
            f"{name} adds and multiplies numbers, got booleans; convert them: x.astype(np.float32)",
        )
    return x, kernel, axes, window


def _kernel_channels(kernel: Any, axes: Axes) -> tuple[int, int]:
    """The kernel's axes of channels as the convolution sees them: what goes in, what comes out."""
    return kernel.shape[-2:] if axes.last else (kernel.shape[1], kernel.shape[0])


def _check_groups(name: str, groups: Any, x: Any, kernel: Any, *counts: tuple[str, int]) -> None:
    if type(groups) is not int or groups < 1:
        raise at_line(ArgumentError, f"{name}: groups must be a positive integer, not {groups!r}")
    for what, n in counts:
        if n % groups:
            raise at_line(
                ShapeError,
                f"{name}: {n} channels of {what} cannot be divided into groups={groups} equal "
                f"parts; inputs {x.shape}, kernel {kernel.shape}",
            )


def _unequal_channels(
    name: str, x: Any, kernel: Any, axes: Axes, groups: int, wanted: int
) -> ShapeError:
    first, last = LAYOUTS[len(axes.spatial)]
    other = axes_of(first if axes.last else last, len(axes.spatial), name)
    message = (
        f"{name}: inputs {x.shape} have {x.shape[axes.channels]} channels, on axis {axes.channels} "
        f"of layout {axes.layout}, and the kernel {kernel.shape} with groups={groups} takes "
        f"{wanted}."
    )
    seen = wanted // groups
    if x.shape[other.channels] == wanted:
        spelling = "(*window, in, out)" if other.last else "(out, in, *window)"
        message += (
            f" Are they on axis {other.channels}? Then pass layout={other.layout!r}, and a kernel "
            f"whose axes are {spelling}."
        )
    elif name == "conv" and seen and x.shape[axes.channels] % seen == 0:
        message += f" With groups={x.shape[axes.channels] // seen} it would take as many."
    return at_line(ShapeError, message)


def _dilated(x: Any, axes: Axes, dilation: Sequence[int]) -> Any:
    """Inputs with zeros between them."""
    if all(d == 1 for d in dilation):
        return x
    shape = list(x.shape)
    idx: list[Entry] = [FULL] * x.ndim
    for axis, d in zip(axes.spatial, dilation, strict=True):
        shape[axis] = max(span(shape[axis], d), 0)
        idx[axis] = (0, None, d)
    return bind(embed, x, shape=tuple(shape), idx=tuple(idx))
