"""Vectorisation: each equation over a batch axis, which is kept in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.binding import bind
from funcgrad.core.evaluate import read
from funcgrad.core.graph import Const, Graph, Var
from funcgrad.core.open_recorders import set_source
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import deferred
from funcgrad.primitives.structural import broadcast_to


def run_batched(
    graph: Graph, args: Sequence[Any], batched: Sequence[bool], size: int
) -> tuple[list[Any], list[bool]]:
    """Run a graph with some inputs batched along axis 0; which results are batched, too."""
    env = {id(v): a for v, a in zip(graph.inputs, args, strict=True)}
    is_batched = {id(v) for v, b in zip(graph.inputs, batched, strict=True) if b}
    before = set_source(None)
    try:
        for eqn in graph.eqns:
            set_source(eqn.source)
            ins = [read(env, a) for a in eqn.ins]
            flags = [type(a) is not Const and id(a) in is_batched for a in eqn.ins]
            prim = eqn.prim
            out_flags: Any
            if any(flags):
                assert prim.batch is not None
                result, out_flags = prim.batch(prim, ins, flags, size, eqn.params)
            else:
                result = bind(prim, *ins, **eqn.params)
                out_flags = [False] * len(eqn.outs) if prim.multiple else False
            if not prim.multiple:
                result, out_flags = [result], [out_flags]
            for var, value, flag in zip(eqn.outs, result, out_flags, strict=True):
                env[id(var)] = value
                if flag:
                    is_batched.add(id(var))
    finally:
        set_source(before)
    flags = [type(a) is Var and id(a) in is_batched for a in graph.outputs]
    return [read(env, a) for a in graph.outputs], flags


def ensure_batched(
    values: Sequence[Any], batched: Sequence[bool], size: int, where: Sequence[bool] | None = None
) -> list[Any]:
    """The values, each repeated along a batch axis in front if it has none.

    `where` tells which of them need it; without, all.
    """
    return [
        x if b or not wanted else bind(broadcast_to, x, shape=(size, *shape_of(x)))
        for x, b, wanted in zip(values, batched, where or [True] * len(values), strict=True)
    ]


def run_over_batch(
    graph: Graph, args: Sequence[Any], batched: Sequence[bool], size: int
) -> list[Any]:
    """Run a graph with some inputs batched; all results are."""
    results, flags = run_batched(graph, args, batched, size)
    return ensure_batched(results, flags, size)


def batch_graph(
    graph: Graph, batched: Sequence[bool], size: int, force: Sequence[bool] | None = None
) -> tuple[Graph, list[bool]]:
    """The graph over a batch, and which outputs are batched; those in `force` always are."""
    with deferred("vmap") as rec:
        args = [
            rec.abstract_input(v.aval.update(shape=(size, *v.aval.shape)) if b else v.aval)
            for v, b in zip(graph.inputs, batched, strict=True)
        ]
        results, flags = run_batched(graph, args, batched, size)
        if force is not None:
            results = ensure_batched(results, flags, size, force)
            flags = [b or f for b, f in zip(flags, force, strict=True)]
        return rec.graph(results), flags
