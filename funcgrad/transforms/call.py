"""Rules of the `call` primitive: each transformation of its graph is made and compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.graph import Graph
from funcgrad.core.tracer import bind
from funcgrad.primitives.call import call
from funcgrad.transforms.jvp import jvp_graph
from funcgrad.transforms.vjp import vjp_graph
from funcgrad.transforms.vmap import batch_graph


def cached(graph: Graph, key: Any, make: Callable[[], Any]) -> Any:
    """What `make` derives of a graph, kept with it."""
    found = graph.cache.get(key)
    if found is None:
        found = graph.cache[key] = make()
    return found


def _jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> list[Any]:
    graph = params["graph"]
    wrt = tuple(t is not None for t in tangents)
    derived = cached(graph, ("jvp", wrt), lambda: jvp_graph(graph, wrt))
    given = [t for t in tangents if t is not None]
    results = bind(call, *ins, *given, graph=derived)
    return list(results[len(graph.outputs) :])


def _vjp(cts: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict, need: Any) -> list[Any]:
    graph = params["graph"]
    wrt = tuple(n and v.aval.inexact for n, v in zip(need, graph.inputs, strict=True))
    mask = tuple(c is not None for c in cts)
    derived = cached(graph, ("vjp", wrt, mask), lambda: vjp_graph(graph, wrt, mask))
    supply = iter(bind(call, *ins, *[c for c in cts if c is not None], graph=derived))
    return [next(supply) if w else None for w in wrt]


def _batch(prim: Any, args: Sequence[Any], batched: Sequence[bool], size: int, params: dict) -> Any:
    graph = params["graph"]
    derived, flags = cached(
        graph, ("batch", tuple(batched), size), lambda: batch_graph(graph, batched, size)
    )
    return bind(call, *args, graph=derived), flags


call.jvp, call.vjp, call.batch = _jvp, _vjp, _batch
