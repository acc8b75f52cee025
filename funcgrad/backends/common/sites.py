"""From an index, or a Python integer, out of range to the user's line.

A step that checks indices has a *site*, a number that the program leaves in its report before
the step runs. So equal kernels are one kernel, wherever they run. What a site stands for are
the sizes of the axes that are indexed there, each with a number of a line; a recipe keeps these
numbers, and the lines are those of the graph at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.common.dtypes import NARROW, narrow_code, narrow_range
from funcgrad.core.graph import Eqn, Graph, graphs_in
from funcgrad.errors import IndexRangeError
from funcgrad.primitives.integers import narrow
from funcgrad.source import SourceLine

# The words of a report: the program's end (0: well, 1: an index out of range, 2: an exception
# is set), of the index its value, the axis' length and the site; the site that runs; when a
# loop last looked for signals; the Python thread's state while it doesn't hold the GIL, else 0.
CODE, INDEX, EXTENT, SITE, RUNNING, LOOKED, THREAD, REPORT_WORDS = range(8)

# Pairs of an axis' size and the number of a line; -1 where none is known.
Site = tuple[tuple[int, int], ...]


def _sizes(eqn: Eqn) -> tuple[int, ...]:
    """The sizes that an equation checks indices against; none where it checks nothing."""
    if eqn.prim is narrow:
        return (narrow_code(eqn.outs[0].aval.dtype),)
    if not (eqn.prim.gathers or eqn.prim.scatters):
        return ()
    array = eqn.ins[0] if eqn.prim.gathers else eqn.outs[0]
    return tuple([array.aval.shape[k] for k in eqn.params["axes"]])


class Lines:
    """The lines of a graph's equations that check indices, bodies of loops included.

    Attributes:
        found: each line once.
        pattern: for each of the equations the number of its line; -1 where none is known.
    """

    def __init__(self, graph: Graph):
        self.pattern: list[int] = []
        self._numbers: dict[SourceLine, int] = {}
        self._visit(graph, set())
        self.found = list(self._numbers)

    def _visit(self, graph: Graph, seen: set[int]) -> None:
        if id(graph) in seen:
            return
        seen.add(id(graph))
        for eqn in graph.eqns:
            if _sizes(eqn):
                new = len(self._numbers)
                known = eqn.source is not None
                self.pattern.append(self._numbers.setdefault(eqn.source, new) if known else -1)
            for inner in graphs_in(eqn.params):
                self._visit(inner, seen)

    def site(self, eqns: Iterable[Eqn]) -> Site:
        """The site of a step that computes these equations; empty if none checks an index."""
        pairs: dict[tuple[int, int], None] = {}
        for eqn in eqns:
            sizes = _sizes(eqn)
            if sizes:
                number = self._numbers.get(eqn.source, -1)
                pairs.update({(size, number): None for size in sizes})
            for inner in graphs_in(eqn.params):
                pairs.update(dict.fromkeys(self.site(inner.eqns)))
        return tuple(pairs)


def describer(sites: Sequence[Site], lines: Sequence[SourceLine]) -> Callable[..., str]:
    """The function that gives an index error's message.

    Its arguments are the index counted from the start, the axis' size, and the site's number,
    from 1 on. For a Python integer out of range, and for an index that a library says something
    of, it raises the error itself.
    """

    def describe(index: int, extent: int, site: int) -> str:
        pairs = sites[site - 1] if 0 < site <= len(sites) else ()
        places = dict.fromkeys([lines[k] for n, k in pairs if n == extent and k >= 0])
        where = "".join(f"\n  {'or ' if k else ''}at {line}" for k, line in enumerate(places))
        if extent < 0:
            raise OverflowError(_out_of_dtype(index, NARROW[-1 - extent]) + where)
        asked = index - extent if index < 0 else index
        if told := _told(asked, extent, places):
            raise told
        return f"index {asked} is out of bounds for an axis of size {extent}{where}"

    return describe


def _told(asked: int, extent: int, places: Iterable[SourceLine]) -> IndexRangeError | None:
    """What libraries tell of an index, where all that can have been out of range is theirs."""
    index = asked + extent if asked < 0 else asked
    texts = [f"{line.index_error.replace('{index}', str(index))}\n  at {line}" for line in places]
    if not texts or not all(line.index_error for line in places):
        return None
    return IndexRangeError("\nor ".join(texts))


def telling(run: Callable[..., Any], graph: Graph) -> Callable[..., Any]:
    """A program that runs NumPy's functions, whose errors about indices tell what libraries say."""
    lines = Lines(graph)
    pairs = lines.site(graph.eqns)

    def told(*args: Any) -> Any:
        try:
            return run(*args)
        except IndexError as error:
            match = _NUMPYS.search(str(error))
            if match is None:
                raise
            asked, extent = map(int, match.groups())
            found = [lines.found[k] if k >= 0 else _UNKNOWN for n, k in pairs if n == extent]
            taught = _told(asked, extent, found)
            if taught is None:
                raise
            raise taught from error

    return told


_NUMPYS = re.compile(r"index (-?\d+) is out of bounds for axis \d+ with size (\d+)")
_UNKNOWN = SourceLine("", 0, "")


def _out_of_dtype(count: int, dtype: np.dtype) -> str:
    """The message for an integer that is given as counted from the dtype's least, modulo 2**64."""
    number = (count + narrow_range(dtype)[0] + (1 << 63)) % (1 << 64) - (1 << 63)
    return f"Python integer {number} out of bounds for {dtype.name}"
