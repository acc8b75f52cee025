"""A plan of memory: where in one arena each temporary array lies, so that dead ones make room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappush, heapreplace
from typing import Any

import numpy as np

from funcgrad.records import NamedTuple

ALIGNMENT = 64
MOST_COMPARED = 256


class Buffer:
    """An array's memory.

    Attributes:
        storage: "temp" lies in the arena; "given" has an address from elsewhere: an input, a
            constant, a result, or a loop's slice.
    """

    __slots__ = ("dtype", "size", "storage", "value")

    def __init__(self, dtype: np.dtype, size: int, storage: str = "temp", value: Any = None):
        self.dtype = dtype
        self.size = size
        self.storage = storage
        self.value = value

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class Allocation(NamedTuple):
    """The temporaries' places, in bytes, and how much room they take in all."""

    offsets: dict[Buffer, int]
    size: int


def allocate(uses: Sequence[Sequence[Buffer]]) -> Allocation:
    """Places for all temporaries; those that are alive at the same step do not overlap.

    The largest are placed first, each at the lowest place that is free while it lives (greedy
    by size, as in Pisarchyk and Lee, 2020, "Efficient Memory Management for Deep Neural Net
    Inference"). Each is compared with those before it, so that many would take long: the rest
    share places with others of their size.

    Args:
        uses: the buffers that each step touches.
    """
    spans: dict[Buffer, list[int]] = {}
    for number, used in enumerate(uses):
        for buffer in used:
            if buffer.storage == "temp":
                spans.setdefault(buffer, [number, number])[1] = number
    order = sorted(spans, key=lambda b: -b.nbytes)
    offsets, size = _greedy(order[:MOST_COMPARED], spans)
    shared, size = _by_size(order[MOST_COMPARED:], spans, size)
    return Allocation(offsets | shared, size)


def _greedy(
    order: Sequence[Buffer], spans: Mapping[Buffer, Sequence[int]]
) -> tuple[dict[Buffer, int], int]:
    # Columns: first and last use, begin and end in the arena, of those placed so far.
    placed = np.zeros((4, len(order)), np.int64)
    offsets: dict[Buffer, int] = {}
    for count, buffer in enumerate(order):
        first, last = spans[buffer]
        known = placed[:, :count]
        beside = known[2:, (known[0] <= last) & (known[1] >= first)]
        offset = _gap(beside[:, np.argsort(beside[0], kind="stable")].T.tolist(), buffer.nbytes)
        offsets[buffer] = offset
        placed[:, count] = first, last, offset, offset + buffer.nbytes
    return offsets, _aligned(int(placed[3].max(initial=0)))


def _by_size(
    buffers: Sequence[Buffer], spans: Mapping[Buffer, Sequence[int]], end: int
) -> tuple[dict[Buffer, int], int]:
    """Places from `end` on, in the order of first use."""
    offsets: dict[Buffer, int] = {}
    # Of each size the places, by when they are free.
    taken: dict[int, list[tuple[int, int]]] = {}
    for buffer in sorted(buffers, key=lambda b: spans[b][0]):
        (first, last), size = spans[buffer], _aligned(buffer.nbytes)
        places = taken.setdefault(size, [])
        if places and places[0][0] < first:
            offsets[buffer] = heapreplace(places, (last, places[0][1]))[1]
        else:
            offsets[buffer] = end
            heappush(places, (last, end))
            end += size
    return offsets, end


def _gap(taken: Sequence[Sequence[int]], size: int) -> int:
    """The lowest place that is free for so many bytes, beside what is taken, in order."""
    offset = 0
    for low, high in taken:
        if offset + size <= low:
            break
        offset = max(offset, _aligned(high))
    return offset


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
