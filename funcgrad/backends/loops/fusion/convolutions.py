"""Convolutions as products of matrices whose rows or columns are patches.

Patches are copied a few examples at a time, so that they stay in the cache until the product has
read them. What comes where follows from the layout: with channels behind, patches are rows, which
many examples share in one product; with channels in front they are columns, an example's to a
product, or a panel's where the target's own code computes it: what it reads then lies together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.target import Target
from funcgrad.core.graph import Eqn, Graph
from funcgrad.core.tracer import bind, deferred
from funcgrad.primitives.structural import index
from funcgrad.primitives.windows import overlap_add, places, windows
from funcgrad.transforms.control_flow import scan

# Of the patches that lie in memory at a time: what the caches hold, and more than which none do.
CACHED_BYTES, MOST_BYTES = 4 << 20, 64 << 20


class Patches:
    """The patches of one convolution.

    Args:
        spatial: the lengths of the inputs' axes of space.
        window, params: the kernel's lengths, and the primitive's parameters.
    """

    def __init__(self, spatial: Sequence[int], window: Sequence[int], params: dict[str, Any]):
        self.spatial, self.window, self.rank = tuple(spatial), tuple(window), len(window)
        self.strides, self.padding = params["strides"], params["padding"]
        self.dilation, self.last = params["dilation"], params["channels_last"]
        self.whole = tuple(
            n + before + after for n, (before, after) in zip(spatial, self.padding, strict=True)
        )
        steps = zip(self.whole, window, self.strides, self.dilation, strict=True)
        self.counts = tuple(places(n, k, s, d) for n, k, s, d in steps)
        self.axes = tuple(range(1, self.rank + 1) if self.last else range(2, self.rank + 2))

    @property
    def size(self) -> int:
        """Elements of an example's patches in one channel."""
        return prod(self.window) * prod(self.counts)

    def along(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Pairs for the axes of space, as pairs for all axes."""
        none = (0, 0)
        return [none, *pairs, none] if self.last else [none, none, *pairs]

    def of(self, x: Any) -> Any:
        """(examples, channels, *counts, *window), or channels behind the counts."""
        if any(map(any, self.padding)):
            x = np.pad(x, self.along(self.padding))
        return bind(
            windows,
            x,
            axes=self.axes,
            window=self.window,
            stride=self.strides,
            dilation=self.dilation,
        )

    def rows(self, x: Any) -> Any:
        """(examples, *counts, *window, channels), of channels behind."""
        rank = self.rank
        order = (*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1)
        return np.transpose(self.of(x), order)

    def columns(self, x: Any) -> Any:
        """(examples, channels, *window, *counts), of channels in front."""
        rank = self.rank
        order = (0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2))
        return np.transpose(self.of(x), order)

    def added(self, parts: Any, channels: int) -> Any:
        """The inputs' array to which patches, as `of` has them, are added up."""
        n, crop = parts.shape[0], self.along(self.padding)
        shape = (n, *self.whole, channels) if self.last else (n, channels, *self.whole)
        out = bind(
            overlap_add,
            parts,
            shape=shape,
            axes=self.axes,
            window=self.window,
            stride=self.strides,
            dilation=self.dilation,
        )
        idx = tuple([(b, m - a, 1) for m, (b, a) in zip(shape, crop, strict=True)])
        return bind(index, out, idx=idx)


def lowered(eqn: Eqn, target: Target) -> Graph | None:
    """A convolution by products, where it is one of floats, without groups."""
    write = _RULES.get(eqn.prim.name)
    atoms, params = (*eqn.ins, *eqn.outs), eqn.params
    if write is None or params["groups"] > 1 or min(map(min, params["padding"])) < 0:
        return None
    dtype = eqn.outs[0].aval.dtype
    if dtype.kind != "f" or dtype not in target.dtypes:
        return None
    if not all(a.aval.size and a.aval.dtype == dtype for a in atoms):
        return None
    with deferred("decompose") as rec:
        inputs = [rec.abstract_input(a.aval) for a in eqn.ins]
        found = write(target, *inputs, **params)
        return None if found is None else rec.graph([found])


# --- batches in blocks ----------------------------------------------------------------


def _examples(batch: int, patch_bytes: int) -> int:
    """How many examples make a block: a part of all, that all parts are equal."""
    most = max(CACHED_BYTES // patch_bytes, 1)
    return max(n for n in range(1, min(batch, most) + 1) if batch % n == 0)


def _blocks(x: Any, size: int) -> Any:
    return x.reshape((x.shape[0] // size, size, *x.shape[1:]))


def _mapped(function: Callable[[Any], Any], x: Any, size: int) -> Any:
    """A function of examples, a block after the other."""
    if size == x.shape[0]:
        return function(x)
    out = scan(lambda carry, block: (carry, function(block)), None, _blocks(x, size))[1]
    return out.reshape((x.shape[0], *out.shape[2:]))


def _kernel_parts(w: Any, last: bool) -> tuple[Sequence[int], int, int]:
    """The window, the channels that go in, and those that come out."""
    return (w[:-2], w[-2], w[-1]) if last else (w[2:], w[1], w[0])


# --- the three faces ------------------------------------------------------------------


def _conv(target: Target, x: Any, w: Any, **params: Any) -> Any:
    last = params["channels_last"]
    window, channels, out = _kernel_parts(w.shape, last)
    patches = Patches(x.shape[1:-1] if last else x.shape[2:], window, params)
    size = patches.size * channels * x.dtype.itemsize
    if size > MOST_BYTES:
        return None
    depth, area = prod(window) * channels, prod(patches.counts)
    if last:
        matrix = w.reshape((depth, out))

        def block(x: Any) -> Any:
            rows = patches.rows(x).reshape((x.shape[0] * area, depth))
            return (rows @ matrix).reshape((x.shape[0], *patches.counts, out))
    else:
        matrix = w.reshape((out, depth))
        panels = _panels(patches.counts, target.panel(x.dtype, out, depth))

        def block(x: Any) -> Any:
            if panels is not None:
                return _by_panels(patches, x, matrix, *panels)
            columns = patches.columns(x).reshape((x.shape[0], depth, area))
            return (matrix @ columns).reshape((x.shape[0], out, *patches.counts))

    return _mapped(block, x, _examples(x.shape[0], size))


def _panels(counts: Sequence[int], width: int) -> tuple[list[int], list[int]] | None:
    """How many panels of so many places the axes of places make, and how long these are there."""
    across, within = [], []
    for n in reversed(counts):
        part = min(n, width)
        if not part or n % part or width % part:
            return None
        across.insert(0, n // part)
        within.insert(0, part)
        width //= part
    return (across, within) if width == 1 else None


def _by_panels(
    patches: Patches, x: Any, matrix: Any, across: Sequence[int], within: Sequence[int]
) -> Any:
    rank, (n, channels), (out, depth) = patches.rank, x.shape[:2], matrix.shape
    pairs = [m for pair in zip(across, within, strict=True) for m in pair]
    found = patches.of(x).reshape((n, channels, *pairs, *patches.window))
    far, near = range(2, 2 * rank + 2, 2), range(3, 2 * rank + 3, 2)
    inner = (1, *range(2 * rank + 2, 3 * rank + 2))
    columns = np.transpose(found, (0, *far, *inner, *near))
    parts = matrix @ columns.reshape((n * prod(across), depth, prod(within)))
    parts = parts.reshape((n, *across, out, *within))
    places = [k for axis in range(rank) for k in (axis + 1, rank + 2 + axis)]
    return np.transpose(parts, (0, rank + 1, *places)).reshape((n, out, *patches.counts))


def _conv_kernel(target: Target, x: Any, y: Any, window: Sequence[int], **params: Any) -> Any:
    last = params["channels_last"]
    patches = Patches(x.shape[1:-1] if last else x.shape[2:], window, params)
    batch = x.shape[0]
    channels, out = (x.shape[-1], y.shape[-1]) if last else (x.shape[1], y.shape[1])
    size = patches.size * channels * x.dtype.itemsize
    if size > MOST_BYTES:
        return None
    depth, area = prod(window) * channels, prod(patches.counts)

    def block(x: Any, y: Any) -> Any:
        n = x.shape[0] * area
        if last:
            return np.swapaxes(patches.rows(x).reshape((n, depth)), 0, 1) @ y.reshape((n, out))
        columns = np.moveaxis(patches.columns(x), 0, patches.rank + 1).reshape((depth, n))
        return np.swapaxes(y, 0, 1).reshape((out, n)) @ np.swapaxes(columns, 0, 1)

    length = _examples(batch, size)
    if length == batch:
        total = block(x, y)
    else:
        zeros = np.zeros((depth, out) if last else (out, depth), x.dtype)
        pairs = (_blocks(x, length), _blocks(y, length))
        total = scan(lambda total, pair: (total + block(*pair), None), zeros, pairs)[0]
    return total.reshape((*window, channels, out) if last else (out, channels, *window))


def _conv_input(target: Target, y: Any, w: Any, spatial: Sequence[int], **params: Any) -> Any:
    last = params["channels_last"]
    window, channels, out = _kernel_parts(w.shape, last)
    spans = [(k - 1) * d for k, d in zip(window, params["dilation"], strict=True)]
    padding = [
        (s - before, s - after) for s, (before, after) in zip(spans, params["padding"], strict=True)
    ]
    if set(params["strides"]) == {1} and min(map(min, padding)) >= 0:
        # A convolution with the kernel turned around.
        turned = np.flip(w, tuple(range(w.ndim - 2) if last else range(2, w.ndim)))
        turned = np.swapaxes(turned, -1, -2) if last else np.swapaxes(turned, 0, 1)
        return _conv(target, y, turned, **{**params, "padding": tuple(padding)})
    patches = Patches(spatial, window, params)
    rank, size = patches.rank, patches.size * channels * y.dtype.itemsize
    if size > MOST_BYTES:
        return None
    depth, area, counts = prod(window) * channels, prod(patches.counts), patches.counts
    if last:
        matrix = np.swapaxes(w.reshape((depth, out)), 0, 1)
        order = (*range(rank + 1), 2 * rank + 1, *range(rank + 1, 2 * rank + 1))

        def block(y: Any) -> Any:
            n = y.shape[0]
            parts = (y.reshape((n * area, out)) @ matrix).reshape((n, *counts, *window, channels))
            return patches.added(np.transpose(parts, order), channels)
    else:
        matrix = np.swapaxes(w.reshape((out, depth)), 0, 1)
        order = (0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2))

        def block(y: Any) -> Any:
            n = y.shape[0]
            parts = (matrix @ y.reshape((n, out, area))).reshape((n, channels, *window, *counts))
            return patches.added(np.transpose(parts, order), channels)

    return _mapped(block, y, _examples(y.shape[0], size))


_RULES: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_input": _conv_input,
    "conv_kernel": _conv_kernel,
}
