"""Where the elements of a view lie in what it is a view of.

One form says it for all views, and all that compilers ask follows from it: strides and offset
in memory, the axes of loops, the elements of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.core.aval import Shape
from funcgrad.records import NamedTuple


class Along(NamedTuple):
    """The positions `start + step * i` on an axis of the operand."""

    axis: int
    start: int = 0
    step: int = 1


class ViewMap(NamedTuple):
    """A view of an array.

    Attributes:
        source: the operand's shape, or the one that it is reshaped to first.
        axes: for each axis of the result what it runs along; None where it repeats one element.
            Positions of several that run along one axis, as those of windows do, add up.
        fixed: the positions (axis, position) on other axes of the source; those that are not
            named have length one.
    """

    source: Shape
    axes: tuple[Along | None, ...]
    fixed: tuple[tuple[int, int], ...] = ()

    @property
    def shared(self) -> set[int]:
        """The source's axes that several axes of the result run along."""
        along = [a.axis for a in self.axes if a is not None]
        return {axis for axis in along if along.count(axis) > 1}

    @property
    def repeats(self) -> bool:
        """Whether one element may stand at several places of the result."""
        return None in self.axes or bool(self.shared)


def whole(shape: Shape) -> ViewMap:
    """An array of this shape, or reshaped to it, as it is."""
    return ViewMap(shape, tuple(map(Along, range(len(shape)))))


def indexed(shape: Shape, idx: Sequence[int | tuple[int, int | None, int]]) -> ViewMap:
    """The part that an index names: integers, and slices as triples."""
    axes, fixed = [], []
    for axis, (n, entry) in enumerate(zip(shape, idx, strict=True)):
        if type(entry) is tuple:
            start, stop, step = slice(*entry).indices(n)
            axes.append(Along(axis, start if len(range(start, stop, step)) else 0, step))
        else:
            assert type(entry) is int
            fixed.append((axis, entry % n))
    return ViewMap(shape, tuple(axes), tuple(fixed))


def broadcast(shape: Shape, to: Shape) -> ViewMap:
    lead = len(to) - len(shape)
    own = (None if n == 1 else Along(axis) for axis, n in enumerate(shape))
    return ViewMap(shape, (*[None] * lead, *own))


def flipped(shape: Shape, axes: Sequence[int]) -> ViewMap:
    turned = (Along(i, max(n - 1, 0), -1) if i in axes else Along(i) for i, n in enumerate(shape))
    return ViewMap(shape, tuple(turned))


def windowed(
    shape: Shape, axes: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> ViewMap:
    """Windows over some axes: their places in the axes' stead, their elements on axes behind."""
    steps = dict(zip(axes, stride, strict=True))
    places = (Along(i, 0, steps.get(i, 1)) for i in range(len(shape)))
    elements = (Along(axis, 0, step) for axis, step in zip(axes, dilation, strict=True))
    return ViewMap(shape, (*places, *elements))
