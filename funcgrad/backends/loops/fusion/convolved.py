"""Convolutions that a target computes itself: of one group, in two dimensions.

Others are brought into that form: channels that lie in front are moved if the target wants them
behind, a single axis of space gets a second one. A kernel of 3x3 is carried into Winograd's domain,
and a derivative by it back, by a product with a constant matrix each.

    A. Lavin, S. Gray (2016), *Fast Algorithms for Convolutional Neural Networks*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.target import ConvolutionForm, Target
from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.primitive import Primitive
from funcgrad.errors import GraphError

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


def _is_ours(window: Sequence[int], params: dict[str, Any]) -> bool:
    return params["groups"] == 1 and len(window) <= 2


def _is_product(window: Sequence[int], params: dict[str, Any]) -> bool:
    """Whether it is a product of matrices as it stands: there is nothing to gather."""
    return set(window) == set(params["strides"]) == {1} and not any(map(any, params["padding"]))


def _given(x: Any, last: bool, how: Any, rank: int) -> Any:
    """Channels where the target wants them, and two axes of space."""
    x = x if last or how.in_front else np.moveaxis(x, 1, -1)
    return x if rank == 2 else x[:, :, None] if how.in_front else x[:, None]


def _as_wanted(y: Any, last: bool, how: Any, rank: int) -> Any:
    """The inverse."""
    axis = 2 if how.in_front else 1
    y = y if rank == 2 else y.reshape((*y.shape[:axis], *y.shape[axis + 1 :]))
    return y if last or how.in_front else np.moveaxis(y, -1, 1)


def _form(
    x: tuple[int, ...], made: tuple[int, ...], window: Any, params: dict[str, Any], **more: Any
) -> ConvolutionForm:
    def pair(values: Any, missing: Any) -> Any:
        return (missing, *values) if len(values) == 1 else tuple(values)

    def behind(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, *rest = shape
        channels, *places = rest if not params["channels_last"] else (rest[-1], *rest[:-1])
        return (batch, *pair(places, 1), channels)

    return ConvolutionForm(
        behind(x),
        behind(made),
        pair(window, 1),
        pair(params["strides"], 1),
        pair(params["padding"], (0, 0)),
        pair(params["dilation"], 1),
        not params["channels_last"],
        **more,
    )


def conv(
    target: Target, x: Any, w: Any, counts: Any, params: dict[str, Any], in_front: bool
) -> Any:
    """The convolution; None if the target leaves it to products.

    Args:
        counts: the lengths of the results' axes of space.
        in_front: only where the target reads channels in front.
    """
    last, rank = params["channels_last"], len(counts)
    window = w.shape[:-2] if last else w.shape[2:]
    if not _is_ours(window, params):
        return None
    if last and _is_product(window, params):
        return x @ w.reshape(w.shape[-2:])
    out = w.shape[-1] if last else w.shape[0]
    made = (x.shape[0], *counts, out) if last else (x.shape[0], out, *counts)
    how = target.convolution(_form(x.shape, made, window, params), x.dtype)
    in_front = in_front or (not last and _is_product(window, params))
    if how is None or (in_front and not how.in_front):
        return None
    if how.in_front:
        kernel = w.reshape((out, -1))
    else:
        kernel = w if last else np.moveaxis(w, (0, 1), (-1, -2))
        seen = kernel.shape[-2]
        if how.tiled:
            transform = _KERNEL_TRANSFORM.astype(x.dtype)
            kernel = (transform @ kernel.reshape((9, seen * out))).reshape((36, seen, out))
        else:
            kernel = kernel.reshape((-1, out))
    found = bind(CONVOLVED, _given(x, last, how, rank), kernel, how=how)
    return _as_wanted(found, last, how, rank)


def conv_kernel(
    target: Target, x: Any, y: Any, window: Any, params: dict[str, Any], in_front: bool
) -> Any:
    """The derivative by the kernel; None if the target leaves it to products."""
    last, rank = params["channels_last"], len(window)
    # In front it is a product as it stands.
    if not _is_ours(window, params) or (not last and _is_product(window, params)):
        return None
    how = target.convolution(_form(x.shape, y.shape, window, params, by_kernel=True), x.dtype)
    if how is None or (in_front and not how.in_front):
        return None
    x, y = (_given(a, last, how, rank) for a in (x, y))
    found = bind(CONVOLVED, x, y, how=how)
    if how.in_front:
        return np.sum(found, 0).reshape((y.shape[1], x.shape[1], *window))
    seen, out = x.shape[-1], y.shape[-1]
    if how.tiled:
        parts = how.shape[0]
        transform = np.tile(_KERNEL_TRANSFORM.T, (1, parts)).astype(x.dtype)
        found = transform @ found.reshape((36 * parts, seen * out))
    else:
        found = np.sum(found, 0)
    found = found.reshape((*window, seen, out))
    return found if last else np.moveaxis(found, (-1, -2), (0, 1))
