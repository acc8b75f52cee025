"""Forward mode: one pass over the equations, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import read, run_into
from funcgrad.core.graph import Eqn, Graph
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import Recorder, Tracer, set_source


def forward(
    eqns: Iterable[Eqn], tangents: dict[int, Any], value: Callable[[Any], Any]
) -> dict[int, Any]:
    """Push tangents (by id of their atom; absent ones are zero) through `eqns`, in place."""
    before = set_source(None)
    try:
        for eqn in eqns:
            prim = eqn.prim
            if prim.jvp is None:
                continue
            given = [tangents.get(id(a)) for a in eqn.ins]
            if all(t is None for t in given):
                continue
            set_source(eqn.source)
            ins = [value(a) for a in eqn.ins]
            if prim.multiple:
                results = prim.jvp(given, [value(o) for o in eqn.outs], ins, eqn.params)
            else:
                results = [prim.jvp(given, value(eqn.outs[0]), ins, eqn.params)]
            for out, tangent in zip(eqn.outs, results, strict=True):
                if tangent is not None and out.aval.inexact:
                    tangents[id(out)] = tangent
    finally:
        set_source(before)
    return tangents


def pushforward_of(
    rec: Recorder, outputs: Sequence[Any], args: Sequence[Any]
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    """A finished recording's results in the enclosing context, and its pushforward."""
    abstract = any(type(o) is Tracer and o.rec is rec and not o.has_value for o in outputs)
    if rec.captures or abstract:
        graph = rec.graph(outputs)
        env: dict[int, Any] = {}
        results = run_into(env, graph, args)
        inputs, eqns, outs = graph.inputs, graph.eqns, graph.outputs

        def value(a: Any) -> Any:
            return read(env, a)

    else:
        results = [o.value if type(o) is Tracer else o for o in outputs]
        inputs, eqns, outs = rec.inputs, rec.eqns, outputs

        def value(a: Any) -> Any:
            return a.value if type(a) is Tracer else a

    def pushforward(tangents: Sequence[Any]) -> list[Any]:
        given = {id(v): t for v, t in zip(inputs, tangents, strict=True) if t is not None}
        found = forward(eqns, given, value)
        return [
            match_tangent(found.get(id(o)), r) for o, r in zip(outs, results, strict=True)
        ]

    return results, pushforward


def match_tangent(tangent: Any, like: Any) -> Any:
    """The tangent itself, or zeros of its primal's shape and dtype."""
    if tangent is not None:
        return tangent
    return zeros_like(like if isinstance(like, Aval) else aval_of(like))


def jvp_graph(graph: Graph, wrt: Sequence[bool], out_mask: Sequence[bool] | None = None) -> Graph:
    """The graph `(inputs, tangents of inputs in wrt) -> (outputs, tangents)`.

    `out_mask` chooses the outputs whose tangents are given; without it, all of them.
    """
    with Recorder("jvp", concrete=False) as rec:
        args = [rec.abstract_input(v.aval) for v in graph.inputs]
        given = {
            id(v): rec.abstract_input(v.aval)
            for v, w in zip(graph.inputs, wrt, strict=True)
            if w
        }
        env: dict[int, Any] = {}
        results = run_into(env, graph, args)
        found = forward(graph.eqns, given, lambda a: read(env, a))
        mask = out_mask or [True] * len(graph.outputs)
        tangents = [
            match_tangent(found.get(id(o)), o.aval)
            for o, m in zip(graph.outputs, mask, strict=True)
            if m
        ]
        return rec.graph([*results, *tangents])
