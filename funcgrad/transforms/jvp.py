"""Forward mode: one pass over the equations, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import apply_eqn, read, run_into
from funcgrad.core.graph import Eqn, Graph, live_eqns
from funcgrad.core.open_recorders import set_source
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import Recorder, Tracer, deferred


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
            ins = eqn.values or [value(a) for a in eqn.ins]
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


def run_forward(
    env: dict[int, Any], graph: Graph, args: Sequence[Any], tangents: dict[int, Any]
) -> list[Any]:
    """Run a graph as `run_into` does and push tangents through it, in one pass.

    So that equations that hold graphs run them once for both.
    """

    def apply(eqn: Eqn, ins: Sequence[Any]) -> Any:
        given = [tangents.get(id(a)) for a in eqn.ins]
        prim = eqn.prim
        if prim.jvp is None or all(t is None for t in given):
            return apply_eqn(eqn, ins)
        if prim.pushforward is not None:
            ans, found = prim.pushforward(given, ins, eqn.params)
        else:
            ans = apply_eqn(eqn, ins)
            found = prim.jvp(given, ans, ins, eqn.params)
        for out, tangent in zip(eqn.outs, found if prim.multiple else [found], strict=True):
            if tangent is not None and out.aval.inexact:
                tangents[id(out)] = tangent
        return ans

    return run_into(env, graph, args, apply)


def pushforward_of(
    rec: Recorder, outputs: Sequence[Any], args: Sequence[Any]
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    """A finished recording's results in the enclosing context, and its pushforward."""
    if not rec.is_closed(outputs):
        graph = rec.graph(outputs)
        env: dict[int, Any] = {}
        results = run_into(env, graph, args)
        inputs, eqns, outs = graph.inputs, graph.eqns, graph.outputs

        def value(a: Any) -> Any:
            return read(env, a)

    else:
        results = [o.value if type(o) is Tracer else o for o in outputs]
        # What the results do not depend on need not have a forward mode.
        tape = rec.take()
        inputs, eqns, outs = tape.inputs, live_eqns(tape.eqns, outputs), outputs

        def value(a: Any) -> Any:
            return a.value if type(a) is Tracer else a

    def pushforward(tangents: Sequence[Any]) -> list[Any]:
        given = {id(v): t for v, t in zip(inputs, tangents, strict=True) if t is not None}
        found = forward(eqns, given, value)
        return [match_tangent(found.get(id(o)), r) for o, r in zip(outs, results, strict=True)]

    return results, pushforward


def jvp_of(
    rec: Recorder, outputs: Sequence[Any], args: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """A finished recording's results and tangents in the enclosing context, in one pass."""
    if rec.is_closed(outputs):
        results, pushforward = pushforward_of(rec, outputs, args)
        return results, pushforward(tangents)
    graph = rec.graph(outputs)
    found = {id(v): t for v, t in zip(graph.inputs, tangents, strict=True) if t is not None}
    results = run_forward({}, graph, args, found)
    pairs = zip(graph.outputs, results, strict=True)
    return results, [match_tangent(found.get(id(o)), r) for o, r in pairs]


def match_tangent(tangent: Any, like: Any) -> Any:
    """The tangent itself, or zeros of its primal's shape and dtype."""
    if tangent is not None:
        return tangent
    return zeros_like(like if isinstance(like, Aval) else aval_of(like))


def jvp_graph(graph: Graph, wrt: Sequence[bool], out_mask: Sequence[bool] | None = None) -> Graph:
    """The graph `(inputs, tangents of inputs in wrt) -> (outputs, tangents)`.

    `out_mask` chooses the outputs whose tangents are given; without it, all of them.
    """
    with deferred("jvp", lasting=True) as rec:
        args = [rec.abstract_input(v.aval) for v in graph.inputs]
        found = {
            id(v): rec.abstract_input(v.aval) for v, w in zip(graph.inputs, wrt, strict=True) if w
        }
        results = run_forward({}, graph, args, found)
        mask = out_mask or [True] * len(graph.outputs)
        tangents = [
            match_tangent(found.get(id(o)), o.aval)
            for o, m in zip(graph.outputs, mask, strict=True)
            if m
        ]
        return rec.graph([*results, *tangents])
