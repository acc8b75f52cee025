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

from funcgrad.backends.loops.fusion import convolved
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.core.binding import bind
from funcgrad.core.graph import Eqn, Graph
from funcgrad.core.tracer import deferred
from funcgrad.primitives.structural import index
from funcgrad.primitives.windows import overlap_add, places, windows
from funcgrad.transforms.control_flow import scan

# Of the patches that lie in memory at a time: what the caches hold, and more than which none do.
CACHED_BYTES, MOST_BYTES = 2 << 20, 64 << 20
# Of a window of so many taps, on single channels, the sum is written out.
MOST_TAPS = 32
FEW_CHANNELS = 8


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
        self.groups = params["groups"]
        # The axis of groups that stacks of matrices have, if there are several.
        self.lead = (self.groups,) if self.groups > 1 else ()
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

    def taps(self, x: Any) -> list[Any]:
        """For each tap of the window what it reads, for all places."""
        if any(map(any, self.padding)):
            x = np.pad(x, self.along(self.padding))
        found = []
        for tap in np.ndindex(*self.window):
            steps = zip(tap, self.counts, self.strides, self.dilation, strict=True)
            picks = [slice(k * d, k * d + (n - 1) * s + 1, s) for k, n, s, d in steps]
            channels = () if self.last else (slice(None),)
            found.append(x[(slice(None), *channels, *picks)])
        return found

    def by_tap(self, w: Any) -> list[Any]:
        """A kernel's numbers for each tap of the window, of one channel each."""
        if self.last:
            return [w[(*tap, 0)] for tap in np.ndindex(*self.window)]
        aside = [None] * self.rank
        return [w[(slice(None), 0, *tap, *aside)] for tap in np.ndindex(*self.window)]

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
        """(*groups, examples * places, window * channels), of channels behind."""
        rank, n, channels = self.rank, x.shape[0], x.shape[-1] // self.groups
        order = (*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1)
        found = np.transpose(self.of(x), order)
        rows, window = n * prod(self.counts), prod(self.window)
        if self.lead:
            found = found.reshape((rows, window, self.groups, channels))
            found = np.transpose(found, (2, 0, 1, 3))
        return found.reshape((*self.lead, rows, window * channels))

    def apart(self, x: Any, rows: int) -> Any:
        """(rows, groups * channels) as (*groups, rows, channels)."""
        if not self.lead:
            return x.reshape((rows, -1))
        return np.swapaxes(x.reshape((rows, self.groups, -1)), 0, 1)

    def together(self, x: Any) -> Any:
        """The inverse."""
        if not self.lead:
            return x
        return np.swapaxes(x, 0, 1).reshape((x.shape[1], -1))

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
    """A convolution of floats by products."""
    write = _RULES.get(eqn.prim.name)
    atoms, params = (*eqn.ins, *eqn.outs), eqn.params
    if write is None or min(map(min, params["padding"])) < 0:
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


def _summed(parts: Sequence[Any]) -> Any:
    total, *more = parts
    for part in more:
        total = total + part
    return total


# --- the three faces ------------------------------------------------------------------


def _conv(target: Target, x: Any, w: Any, **params: Any) -> Any:
    last = params["channels_last"]
    window, channels, out = _kernel_parts(w.shape, last)
    patches = Patches(x.shape[1:-1] if last else x.shape[2:], window, params)
    single = channels == 1 and prod(window) <= MOST_TAPS
    by_taps = single and (patches.groups > 1 or out <= FEW_CHANNELS)
    # Taps are better than patches, but planes better still.
    found = convolved.conv(target, x, w, patches.counts, params, in_front=by_taps)
    if found is not None:
        return found
    if by_taps:
        made = out // patches.groups
        axis = -1 if last else 1
        taps = [np.repeat(t, made, axis) if made > 1 else t for t in patches.taps(x)]
        return _summed([t * v for t, v in zip(taps, patches.by_tap(w), strict=True)])
    size = patches.size * channels * patches.groups * x.dtype.itemsize
    if size > MOST_BYTES:
        return None
    lead, made = patches.lead, out // patches.groups
    depth, area = prod(window) * channels, prod(patches.counts)
    if last:
        matrix = patches.apart(w, depth)

        def block(x: Any) -> Any:
            found = patches.together(patches.rows(x) @ matrix)
            return found.reshape((x.shape[0], *patches.counts, out))
    else:
        matrix = w.reshape((*lead, made, depth))
        panels = _panels(patches.counts, target.panel(x.dtype, made, depth))

        def block(x: Any) -> Any:
            if panels is not None:
                return _by_panels(patches, x, matrix, *panels)
            columns = patches.columns(x).reshape((x.shape[0], *lead, depth, area))
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
    rank, (n, channels), (*lead, made, depth) = patches.rank, x.shape[:2], matrix.shape
    pairs = [m for pair in zip(across, within, strict=True) for m in pair]
    found = patches.of(x).reshape((n, channels, *pairs, *patches.window))
    far, near = range(2, 2 * rank + 2, 2), range(3, 2 * rank + 3, 2)
    inner = (1, *range(2 * rank + 2, 3 * rank + 2))
    columns = np.transpose(found, (0, *far, *inner, *near))
    parts = matrix @ columns.reshape((n * prod(across), *lead, depth, prod(within)))
    out = made * patches.groups
    parts = parts.reshape((n, *across, out, *within))
    places = [k for axis in range(rank) for k in (axis + 1, rank + 2 + axis)]
    return np.transpose(parts, (0, rank + 1, *places)).reshape((n, out, *patches.counts))


def _conv_kernel(target: Target, x: Any, y: Any, window: Sequence[int], **params: Any) -> Any:
    last = params["channels_last"]
    patches = Patches(x.shape[1:-1] if last else x.shape[2:], window, params)
    batch = x.shape[0]
    channels, out = (x.shape[-1], y.shape[-1]) if last else (x.shape[1], y.shape[1])
    few = channels > 1 or out <= FEW_CHANNELS
    single = channels == patches.groups and channels in (1, out)
    by_taps = single and few and prod(window) <= MOST_TAPS
    found = convolved.conv_kernel(target, x, y, window, params, in_front=by_taps)
    if found is not None:
        return found
    if by_taps:
        axes = (0, *patches.axes)
        found = [np.sum(t * y, axes) for t in patches.taps(x)]
        if last:
            return np.stack(found).reshape((*window, 1, out))
        return np.stack(found, -1).reshape((out, 1, *window))
    size = patches.size * channels * x.dtype.itemsize
    if size > MOST_BYTES:
        return None
    lead, made = patches.lead, out // patches.groups
    seen, area = channels // patches.groups, prod(patches.counts)
    depth = prod(window) * seen

    def block(x: Any, y: Any) -> Any:
        n = x.shape[0] * area
        if last:
            return np.swapaxes(patches.rows(x), -1, -2) @ patches.apart(y, n)
        columns = np.moveaxis(patches.columns(x), 0, patches.rank + 1).reshape((*lead, depth, n))
        return np.swapaxes(y, 0, 1).reshape((*lead, made, n)) @ np.swapaxes(columns, -1, -2)

    length = _examples(batch, size)
    if length == batch:
        total = block(x, y)
    else:
        zeros = np.zeros((*lead, depth, made) if last else (*lead, made, depth), x.dtype)
        pairs = (_blocks(x, length), _blocks(y, length))
        total = scan(lambda total, pair: (total + block(*pair), None), zeros, pairs)[0]
    if last:
        return patches.together(total).reshape((*window, seen, out))
    return total.reshape((out, seen, *window))


def _conv_input(target: Target, y: Any, w: Any, spatial: Sequence[int], **params: Any) -> Any:
    last = params["channels_last"]
    window, seen, out = _kernel_parts(w.shape, last)
    spans = [(k - 1) * d for k, d in zip(window, params["dilation"], strict=True)]
    padding = [
        (s - before, s - after) for s, (before, after) in zip(spans, params["padding"], strict=True)
    ]
    if set(params["strides"]) == {1} and min(map(min, padding)) >= 0:
        # A convolution with the kernel turned around.
        turned = _turned(w, params["groups"], last)
        return _conv(target, y, turned, **{**params, "padding": tuple(padding)})
    patches = Patches(spatial, window, params)
    groups, lead, counts = patches.groups, patches.lead, patches.counts
    rank, size = patches.rank, patches.size * seen * groups * y.dtype.itemsize
    if size > MOST_BYTES:
        return None
    depth, area, channels = prod(window) * seen, prod(counts), seen * groups
    if last and seen == 1 < out == groups:
        parts = y[(..., *[None] * rank)] * np.moveaxis(w[..., 0, :], -1, 0)
        return patches.added(parts, channels)
    if last:
        matrix = np.swapaxes(patches.apart(w, depth), -1, -2)

        def block(y: Any) -> Any:
            n = y.shape[0]
            parts = patches.apart(y, n * area) @ matrix
            parts = parts.reshape((groups, n, *counts, *window, seen))
            order = (*range(1, rank + 2), 0, 2 * rank + 2, *range(rank + 2, 2 * rank + 2))
            parts = np.transpose(parts, order).reshape((n, *counts, channels, *window))
            return patches.added(parts, channels)
    else:
        matrix = np.swapaxes(w.reshape((*lead, out // groups, depth)), -1, -2)
        order = (0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2))

        def block(y: Any) -> Any:
            n = y.shape[0]
            parts = matrix @ y.reshape((n, *lead, out // groups, area))
            parts = parts.reshape((n, channels, *window, *counts))
            return patches.added(np.transpose(parts, order), channels)

    return _mapped(block, y, _examples(y.shape[0], size))


def _turned(w: Any, groups: int, last: bool) -> Any:
    """The kernel backwards, with what goes into each group in the place of what comes out."""
    window, seen, out = _kernel_parts(w.shape, last)
    rank, made = len(window), out // groups
    if last:
        w = np.flip(w, tuple(range(rank))).reshape((*window, seen, groups, made))
        order = (*range(rank), rank + 2, rank + 1, rank)
        return np.transpose(w, order).reshape((*window, made, groups * seen))
    w = np.flip(w, tuple(range(2, rank + 2))).reshape((groups, made, seen, *window))
    return np.swapaxes(w, 1, 2).reshape((groups * seen, made, *window))


_RULES: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_input": _conv_input,
    "conv_kernel": _conv_kernel,
}
