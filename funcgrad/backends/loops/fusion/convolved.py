"""Convolutions that a target computes itself: of one group, with channels behind.

Others are brought into that form: channels that lie in front are moved, a single axis of space
gets a second one. A kernel of 3x3 is carried into Winograd's domain, and a derivative by it back,
by a product with a constant matrix each.

    A. Lavin, S. Gray (2016), *Fast Algorithms for Convolutional Neural Networks*.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.target import ConvolutionForm, Target
from funcgrad.core.aval import Aval
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import bind
from funcgrad.errors import GraphError

# Fewer channels in front are not worth moving behind: results are larger than what is gathered.
FEW_CHANNELS = 4

_ROWS = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
# G of F(4x4, 3x3) in both dimensions: 36 numbers of 9.
_KERNEL_TRANSFORM = np.kron(np.array(_ROWS), np.array(_ROWS))


def _unplanned(*operands: Any, how: Any) -> Any:
    raise GraphError("a convolution that is planned has no implementation but the plan's")


# A convolution, or its derivative by the kernel, as the target has decided to compute it.
CONVOLVED = Primitive(
    "convolved",
    "nondifferentiable",
    _unplanned,
    lambda x, other, how: Aval(how.shape, x.dtype),
)


def _is_ours(x: Any, window: tuple[int, ...], params: dict[str, Any]) -> bool:
    last = params["channels_last"]
    if params["groups"] != 1 or len(window) > 2:
        return False
    return last or (x.shape[1] >= FEW_CHANNELS and not _is_product(window, params))


def _is_product(window: tuple[int, ...], params: dict[str, Any]) -> bool:
    """Whether it is a product of matrices as it stands: there is nothing to gather."""
    return set(window) == set(params["strides"]) == {1} and not any(map(any, params["padding"]))


def _behind(x: Any, last: bool, rank: int) -> Any:
    """Channels behind, and two axes of space."""
    x = x if last else np.moveaxis(x, 1, -1)
    return x if rank == 2 else x[:, None]


def _as_given(y: Any, last: bool, rank: int) -> Any:
    """The inverse."""
    y = y if rank == 2 else y[:, 0]
    return y if last else np.moveaxis(y, -1, 1)


def _form(x: Any, made: Any, window: Any, params: dict[str, Any], **more: Any) -> ConvolutionForm:
    def pair(values: Any, missing: Any) -> Any:
        return (missing, *values) if len(values) == 1 else tuple(values)

    return ConvolutionForm(
        tuple(x),
        tuple(made),
        pair(window, 1),
        pair(params["strides"], 1),
        pair(params["padding"], (0, 0)),
        pair(params["dilation"], 1),
        **more,
    )


def conv(target: Target, x: Any, w: Any, counts: Any, params: dict[str, Any]) -> Any:
    """The convolution; None if the target leaves it to products.

    Args:
        counts: the lengths of the results' axes of space.
    """
    last, rank = params["channels_last"], len(counts)
    window = tuple(w.shape[:-2] if last else w.shape[2:])
    if not _is_ours(x, window, params):
        return None
    kernel = w if last else np.moveaxis(w, (0, 1), (-1, -2))
    seen, out = kernel.shape[-2:]
    if _is_product(window, params):
        return x @ kernel.reshape((seen, out))
    batch, places = x.shape[0], (1, *counts) if rank == 1 else tuple(counts)
    given = x.shape[1:-1] if last else x.shape[2:]
    given = (1, *given) if rank == 1 else given
    form = _form((batch, *given, seen), (batch, *places, out), window, params)
    how = target.convolution(form, x.dtype)
    if how is None:
        return None
    if how.tiled:
        transform = _KERNEL_TRANSFORM.astype(x.dtype)
        kernel = (transform @ kernel.reshape((9, seen * out))).reshape((36, seen, out))
    else:
        kernel = kernel.reshape((-1, out))
    made = bind(CONVOLVED, _behind(x, last, rank), kernel, how=how)
    return _as_given(made, last, rank)


def conv_kernel(target: Target, x: Any, y: Any, window: Any, params: dict[str, Any]) -> Any:
    """The derivative by the kernel; None if the target leaves it to products."""
    last, rank = params["channels_last"], len(window)
    if not _is_ours(x, tuple(window), params):
        return None
    x, y = _behind(x, last, rank), _behind(y, last, rank)
    how = target.convolution(_form(x.shape, y.shape, window, params, by_kernel=True), x.dtype)
    if how is None:
        return None
    found = bind(CONVOLVED, x, y, how=how)
    seen, out = x.shape[-1], y.shape[-1]
    if how.tiled:
        parts = how.shape[0]
        transform = np.tile(_KERNEL_TRANSFORM.T, (1, parts)).astype(x.dtype)
        found = transform @ found.reshape((36 * parts, seen * out))
    else:
        found = np.sum(found, 0)
    found = found.reshape((*window, seen, out))
    return found if last else np.moveaxis(found, (-1, -2), (0, 1))
