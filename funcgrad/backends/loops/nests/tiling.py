"""How loops go over the axes of an iteration space where arrays are put together.

What is read then depends on the position: this operand or that one, or the zeros around them.
An axis is cut where that changes, so that each of its pieces reads one thing, or several
positions are computed in one round of the loop: even and odd ones, say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import gcd, prod

from funcgrad.backends.loops.nests.nest import Index
from funcgrad.records import NamedTuple

# So many positions at most are computed in one round.
MOST_STARTS = 8


class Piece(NamedTuple):
    """Rounds `begin <= j < end`, each of which computes the positions `start + step * j`."""

    begin: int
    end: int
    starts: tuple[int, ...]
    step: int


class Tiling(NamedTuple):
    """An axis of so many positions, computed in `count` rounds that are cut into pieces."""

    extent: int
    count: int
    starts: tuple[int, ...] = (0,)
    step: int = 1
    cuts: tuple[int, ...] = ()

    @property
    def pieces(self) -> list[Piece]:
        found = []
        # The last round may have fewer positions.
        full = self.extent // self.step if self.step > 1 else self.count
        for begin, end in pairwise(sorted({0, *self.cuts, full, self.count})):
            inside = [s for s in self.starts if s + self.step * (end - 1) < self.extent]
            found.append(Piece(begin, end, tuple(inside), self.step))
        return found


class SplitRequest(NamedTuple):
    """What would tell statically whether a position lies within a range: cuts of an axis'
    rounds, or that a round computes so many neighbouring positions."""

    axis: int
    cuts: tuple[int, ...]
    together: int = 1


def whole(extent: int) -> Tiling:
    return Tiling(extent, extent)


def split_request(axis: int, coordinate: Index, within: range) -> SplitRequest:
    """What would decide whether `coordinate`, which has a single term, lies within a range."""
    ((_, step),) = coordinate.terms
    together = within.step // gcd(within.step, step)
    if together > 1:
        return SplitRequest(axis, (), together)
    cuts = []
    for edge in (within.start, within[-1] + 1):
        # The first round on the other side of the edge.
        if step > 0:
            cuts.append(-((coordinate.const - edge) // step))
        else:
            cuts.append((coordinate.const - edge) // -step + 1)
    return SplitRequest(axis, tuple(cuts))


def refined(tilings: Sequence[Tiling], requests: Iterable[SplitRequest], most: int) -> list[Tiling]:
    """The tilings with requests met, as far as there are not many more than so many pieces."""
    found = list(tilings)
    for axis in reversed(range(len(found))):
        mine = [w for w in requests if w.axis == axis]
        old, new = found[axis], found[axis]
        together = max((w.together for w in mine), default=1)
        if together > 1:
            new = _together(old, together)
        elif mine:
            new = _cut(old, {c for w in mine for c in w.cuts})
        # A last axis' short pieces are a few numbers, those of others whole rows.
        limit = 2 * most if axis == len(found) - 1 else most
        for choice in (new, _coarse(new), old):
            found[axis] = choice
            if prod(len(t.pieces) for t in found) <= limit:
                break
    return found


def _coarse(tiling: Tiling) -> Tiling:
    """Its longest piece, and what lies before and behind that."""
    longest = max(tiling.pieces, key=lambda p: p.end - p.begin)
    edges = (longest.begin, longest.end)
    return tiling._replace(cuts=tuple(c for c in tiling.cuts if c in edges))


def _together(old: Tiling, factor: int) -> Tiling:
    if len(old.starts) * factor > MOST_STARTS or (len(old.starts) > 1 and old.step == 1):
        return old
    step = old.step * factor
    return Tiling(old.extent, -(-old.extent // step), tuple(range(step)), step)


def _cut(old: Tiling, cuts: set[int]) -> Tiling:
    inside = {c for c in cuts if 0 < c < old.count} | set(old.cuts)
    if old.starts == (0,):
        if old.extent <= MOST_STARTS:
            return Tiling(old.extent, 1, tuple(range(old.extent)))
        # Parts of one length side by side, which share what they compute alike.
        length = gcd(old.extent, *inside)
        if old.extent // length <= MOST_STARTS // 2:
            return Tiling(old.extent, length, tuple(range(0, old.extent, length)))
    return old._replace(cuts=tuple(sorted(inside)))
