"""Where a long program is cut, so that what it repeats is cut at the same place each time.

The places follow from what the equations are, not from how many there were (content-defined
chunking, as in Muthitacharoen, Chen and Mazières, 2001, "A Low-bandwidth Network File System"):
the steps of a loop that has been unrolled become pieces of equal text, which are compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from funcgrad.core.graph import Eqn

# Programs of fewer equations are not cut.
LONG = 512
# A piece has between so many equations; what they are is told by so many neighbours.
_LEAST, _MOST, _NEAR = 16, 48, 4


def cuts(eqns: Sequence[Eqn]) -> set[int]:
    """The numbers of the equations that begin a piece."""
    if len(eqns) <= LONG:
        return set()
    avals = {id(e.outs[0].aval): e.outs[0].aval for e in eqns if e.outs}
    texts = {key: str(aval) for key, aval in avals.items()}
    kinds = [f"{e.prim.name} {texts[id(e.outs[0].aval)]}" if e.outs else e.prim.name for e in eqns]
    codes = [crc32(" ".join(kinds[i : i + _NEAR]).encode()) for i in range(len(kinds))]
    found: set[int] = set()
    place = 0
    while place + _MOST < len(codes):
        place = min(range(place + _LEAST, place + _MOST), key=codes.__getitem__)
        found.add(place)
    return found
