"""Rules of the `call` primitive: each transformation of its graph is made and compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.binding import bind
from funcgrad.primitives.call import call
from funcgrad.transforms.batching import batch_graph
from funcgrad.transforms.jvp import jvp_graph
from funcgrad.transforms.partial import joint_vjp
from funcgrad.transforms.rules import Rules, differentiable_wrt, filled, spread
from funcgrad.transforms.vjp import vjp_graph


def _bind(params: dict, graph: Any, *operands: Any) -> Any:
    """A call of a graph derived from that of an equation with these parameters."""
    return bind(call, *operands, **{**params, "graph": graph})


def _jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> list[Any]:
    graph = params["graph"]
    wrt = tuple(t is not None for t in tangents)
    derived = graph.derive(("jvp", wrt), lambda: jvp_graph(graph, wrt))
    given = [t for t in tangents if t is not None]
    results = _bind(params, derived, *ins, *given)
    return list(results[len(graph.outputs) :])


def _vjp(cts: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict, need: Any) -> list[Any]:
    graph = params["graph"]
    wrt, mask = differentiable_wrt(need, graph), tuple(c is not None for c in cts)
    derived = graph.derive(("vjp", wrt, mask), lambda: vjp_graph(graph, wrt, mask))
    found = _bind(params, derived, *ins, *[c for c in cts if c is not None])
    return spread(found, wrt)


def _pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> tuple[list[Any], Any]:
    """One compiled program forward, which also gives what the other one, backward, reads."""
    graph = params["graph"]
    wrt, mask = differentiable_wrt(need, graph), tuple(a.aval.inexact for a in graph.outputs)

    def cut() -> Any:
        split = joint_vjp(graph, wrt, mask)
        return split.first(split.residuals), split.rest

    first, rest = graph.derive(("pullback", wrt), cut)
    results = _bind(params, first, *ins)
    outs, residuals = results[: len(mask)], results[len(mask) :]

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        given = filled(cts, graph.out_avals, mask)
        return spread(_bind(params, rest, *residuals, *given), wrt)

    return list(outs), pull


def _batch(prim: Any, args: Sequence[Any], batched: Sequence[bool], size: int, params: dict) -> Any:
    graph = params["graph"]
    derived, flags = graph.derive(
        ("batch", tuple(batched), size), lambda: batch_graph(graph, batched, size)
    )
    return _bind(params, derived, *args), flags


RULES = {call: Rules(_batch, jvp=_jvp, vjp=_vjp, pullback=_pullback)}
