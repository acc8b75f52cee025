"""Options of what slides windows over the axes of space: `conv`, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as to_int
from typing import Any

from funcgrad.errors import ArgumentError, ShapeError, at_line
from funcgrad.records import NamedTuple

Pairs = tuple[tuple[int, int], ...]

# By the number of axes of space: channels in front of them, or behind.
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


class Axes(NamedTuple):
    """Where an array of `rank` axes of space has its axes.

    Attributes:
        layout: their letters.
        last: whether channels are the last one.
        channels: the axis of channels.
        spatial: the axes of space.
    """

    layout: str
    last: bool
    channels: int
    spatial: tuple[int, ...]


def axes_of(layout: str | None, rank: int, name: str) -> Axes:
    """Where axes are in a layout; by default channels come first.

    Raises:
        ArgumentError: there is no such layout for so many axes of space.
    """
    first, last = LAYOUTS[rank]
    if layout is None or layout == first:
        return Axes(first, False, 1, tuple(range(2, rank + 2)))
    if layout == last:
        return Axes(last, True, rank + 1, tuple(range(1, rank + 1)))
    axes = "one axis" if rank == 1 else f"{rank} axes"
    raise at_line(
        ArgumentError,
        f"{name}: layout={layout!r} is none of batches with channels and {axes} of space; write "
        f"layout={first!r} or layout={last!r}",
    )


def rank_of(layout: str, name: str) -> int:
    """The number of axes of space.

    Raises:
        ArgumentError: there is no such layout.
    """
    for rank, known in LAYOUTS.items():
        if layout in known:
            return rank
    every = ", ".join(map(repr, sum(LAYOUTS.values(), ())))
    raise at_line(ArgumentError, f"{name}: layout={layout!r} is none of {every}")


def by_axis(value: Any, rank: int, least: int, name: str, option: str) -> tuple[int, ...]:
    """An integer for each axis of space, of one for all or a sequence of them.

    Raises:
        ArgumentError: there are not as many as axes, or one is no integer or too small.
    """
    given = [value] * rank if not isinstance(value, (tuple, list)) else value
    try:
        found = tuple([to_int(n) for n in given])
    except TypeError:
        found = ()
    if len(found) == rank and all(n >= least for n in found):
        return found
    kind = "positive" if least else "non-negative"
    raise at_line(
        ArgumentError,
        f"{name}: {option} must be a {kind} integer, or one for each of {rank} axes of space, not "
        f"{value!r}",
    )


def span(window: int, dilation: int) -> int:
    """From the first to the last element of a window."""
    return (window - 1) * dilation + 1


def as_padding(
    value: Any,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    name: str,
) -> Pairs:
    """(before, after) for each axis of space, also of "valid" and "same".

    Raises:
        ArgumentError: it is none of these, nor an integer, nor one or a pair for each axis.
    """
    if value == "valid":
        return ((0, 0),) * len(sizes)
    if value != "same":
        return as_pairs(value, len(sizes), name, '"valid", "same", ')
    pairs = []
    for n, k, s, d in zip(sizes, window, strides, dilation, strict=True):
        whole = max((-(-n // s) - 1) * s + span(k, d) - n, 0)
        pairs.append((whole // 2, whole - whole // 2))
    return tuple(pairs)


def as_pairs(value: Any, rank: int, name: str, words: str = "") -> Pairs:
    """(before, after) for each axis of space; `words` names what is allowed besides.

    Raises:
        ArgumentError: it is neither an integer, nor one or a pair for each axis.
    """
    given = value if isinstance(value, (tuple, list)) else [value] * rank
    try:
        pairs = [tuple(map(to_int, p if isinstance(p, (tuple, list)) else (p, p))) for p in given]
    except TypeError:
        pairs = []
    if len(pairs) == rank and all(len(p) == 2 and min(p) >= 0 for p in pairs):
        return tuple([(before, after) for before, after in pairs])
    raise at_line(
        ArgumentError,
        f"{name}: padding must be {words}a non-negative integer, or for each of {rank} axes of "
        f"space an integer or a pair (before, after), not {value!r}",
    )


def check_rank(shape: Sequence[int], axes: Axes, name: str) -> None:
    """Refuse arrays that do not have the axes of the layout.

    Raises:
        ShapeError: there are fewer, or more.
    """
    count = len(axes.layout)
    if len(shape) == count:
        return
    mend = f"Give it {count} axes, or a window of as many axes of space as it has"
    if len(shape) == count - 1:
        mend = (
            "The batch's axis is missing: of one example make a batch, x[None], and take [0] of "
            "the result"
        )
    raise at_line(
        ShapeError,
        f"{name}: inputs must have the {count} axes {axes.layout}, got shape {tuple(shape)}. "
        f"{mend}.",
    )


def check_windows(
    shape: Sequence[int],
    spatial: Sequence[int],
    window: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    name: str,
) -> None:
    """Refuse windows that do not fit.

    Raises:
        ShapeError: a window is longer than its axis with the padding.
    """
    for axis, k, pad, d in zip(spatial, window, padding, dilation, strict=True):
        if span(k, d) > shape[axis] + sum(pad):
            spread = f" in steps of {d}, {span(k, d)} long," if d > 1 else ""
            raise at_line(
                ShapeError,
                f"{name}: a window of {k}{spread} does not fit on axis {axis} of shape "
                f"{tuple(shape)} with padding {pad}. Take a smaller window, larger inputs, or "
                'more padding, such as padding="same".',
            )
