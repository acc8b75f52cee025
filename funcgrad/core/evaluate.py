"""Running graphs equation by equation, on arrays or, under a recording, on tracers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.config import config
from funcgrad.core.graph import Const, Eqn, Graph
from funcgrad.core.tracer import bind, check_nans, set_source


def read(env: dict[int, Any], atom: Any) -> Any:
    return atom.value if type(atom) is Const else env[id(atom)]


def apply_eqn(eqn: Eqn, ins: Sequence[Any]) -> Any:
    """The result of an equation for these operands."""
    result = bind(eqn.prim, *ins, **eqn.params)
    if config.debug_nans and eqn.prim.kind != "higher-order":
        check_nans(eqn.prim.name, result if eqn.prim.multiple else [result], eqn.source)
    return result


def run_into(
    env: dict[int, Any],
    graph: Graph,
    args: Sequence[Any],
    apply: Callable[[Eqn, Sequence[Any]], Any] = apply_eqn,
) -> list[Any]:
    """Run a graph and leave each variable's value in `env`, by the variable's id.

    `apply(eqn, operands)` gives an equation's result.
    """
    for var, arg in zip(graph.inputs, args, strict=True):
        env[id(var)] = arg
    before = set_source(None)
    try:
        for eqn in graph.eqns:
            set_source(eqn.source)
            ins = [read(env, a) for a in eqn.ins]
            result = apply(eqn, ins)
            if eqn.prim.multiple:
                for var, value in zip(eqn.outs, result, strict=True):
                    env[id(var)] = value
            else:
                env[id(eqn.outs[0])] = result
    finally:
        set_source(before)
    return [read(env, a) for a in graph.outputs]


def run_graph(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """The graph's results for `args`; inlines the graph where any of them is a tracer."""
    return run_into({}, graph, args)
