"""Programs known from an earlier process: neither partitioned nor written again.

A recipe says which machine code a graph has, and what that takes beside it. It is kept in the
cache of machine code, by a name that has in it the graph, to the last constant, and what the
compiler's own files contain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.common.sites import Lines
from funcgrad.backends.llvm.program import entry, linked
from funcgrad.backends.llvm.runtime import cache as disk
from funcgrad.backends.llvm.runtime import contents, engine
from funcgrad.config import config
from funcgrad.core.graph import Graph, graphs_in
from funcgrad.core.primitive import Primitive

# Programs with more constant data are written anew.
_MOST_CONSTANT_BYTES = 1 << 20
_PLAIN = (int, float, complex, bool, str, bytes, type(None), np.dtype, np.generic)


def name(graph: Graph, single: bool, donated: Sequence[int]) -> str | None:
    """What a graph's recipe is kept by; None where none is, or a text cannot tell all of it."""
    if disk.folder() is None:
        return None
    arrays = [a for part in _parts(graph) for a in part.consts()]
    values = [a.value for a in arrays]
    plain = all(type(v) is np.ndarray and v.dtype.kind in "fiubc" for v in values)
    if not plain or sum(v.nbytes for v in values) > _MOST_CONSTANT_BYTES:
        return None
    if not all(_is_known(prim) for prim in {e.prim for part in _parts(graph) for e in part.eqns}):
        return None
    params = (v for part in _parts(graph) for e in part.eqns for v in e.params.values())
    if not all(map(_is_plain, params)):
        return None
    # Which equations share a line tells what of it the program's report distinguishes.
    state = (single, tuple(donated), Lines(graph).pattern, config.winograd)
    text = [repr(state), str(contents.compiler()), str(graph)]
    text += [f"{v.dtype.str} {v.shape} {v.tobytes().hex()}" for v in values]
    return disk.key("recipe", *text)


def _parts(graph: Graph) -> Iterator[Graph]:
    yield graph
    for eqn in graph.eqns:
        for inner in graphs_in(eqn.params):
            yield from _parts(inner)


def _is_known(prim: Primitive) -> bool:
    """Whether a primitive's name tells what kernels make of it: users may change their own."""
    if not (prim.expansion or prim.view or prim.assembles or prim.reduces or prim.scatters):
        return True
    return prim.is_built_in


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    return isinstance(value, (*_PLAIN, Graph))


def put(
    known: str, source: engine.Source, parts: linked.Parts, calls: Sequence[int | None]
) -> None:
    """Keep the recipe of a program, if it can be.

    Args:
        calls: for each Python function that the program calls, the number of its equation.
    """
    size = sum(c.nbytes for c in parts.constants)
    if None in calls or size > _MOST_CONSTANT_BYTES:
        return
    s = parts.signature
    head = {
        "code": source.name,
        "symbols": [*source.outside],
        "signature": [s.arena, s.work, s.single, list(s.donated.items()), s.sites],
        "constants": [[c.dtype.str, c.shape] for c in parts.constants],
        "calls": calls,
        "layouts": [[dtype.str, numbers] for dtype, numbers in parts.layouts],
    }
    data = b"".join(c.tobytes() for c in parts.constants)
    disk.put(known, json.dumps(head).encode() + b"\n" + data)


def function(known: str, graph: Graph) -> Any:
    """The native function that a recipe leads to; None if there is none, or its code is gone."""
    kept = disk.get(known)
    if kept is None:
        return None
    line, _, data = kept.partition(b"\n")
    head = json.loads(line)
    linked.register()
    code = engine.load_code(head["code"], head["symbols"])
    if code is None:
        return None
    constants, start = [], 0
    for dtype, shape in head["constants"]:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, np.dtype(dtype), count, start).reshape(shape)
        # Aligned as the code expects it.
        constants.append(array.copy())
        start += array.nbytes
    arena, work, single, donated, sites = head["signature"]
    taken = (graph.in_avals, graph.out_avals, arena, work, single, len(constants))
    signature = entry.Signature(*taken, bool(head["calls"]), dict(donated), sites)
    layouts = [(np.dtype(dtype), tuple(numbers)) for dtype, numbers in head["layouts"]]
    hosts: list[Any] = []
    if head["calls"]:
        # What plans programs is not loaded where none is called back.
        from funcgrad.backends.llvm.program.calls import host_functions

        hosts = host_functions(graph, head["calls"])
    made = linked.function(code, linked.Parts(signature, constants, hosts, layouts))
    return entry.name_lines(made, sites, Lines(graph).found)
