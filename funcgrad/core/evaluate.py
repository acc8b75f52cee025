"""Running graphs equation by equation, on arrays or, under a recording, on tracers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.config import config
from funcgrad.core.binding import bind
from funcgrad.core.graph import Const, Eqn, Graph, live_eqns
from funcgrad.core.open_recorders import set_source
from funcgrad.core.tracer import NO_VALUE, Tracer, check_nans, own_value


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
            # As `read`, which each operand would call.
            ins = [a.value if type(a) is Const else env[id(a)] for a in eqn.ins]
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


def known_value(x: Any) -> Any:
    """The value of a tracer if it follows from values that are known, else NO_VALUE.

    What a branch or a loop's body computes is only recorded. Where the user asks for a value
    there (`if w > 0:` on what is closed over), the equations that lead to it are computed.
    """
    x = own_value(x)
    if type(x) is not Tracer:
        return x
    rec = x.rec
    values: dict[int, Any] = {k: known_value(v) for k, v in (rec.origins or {}).items()}

    def known(a: Any) -> Any:
        if type(a) is Tracer and a.rec is rec:
            return values.get(id(a), NO_VALUE)
        return known_value(a)

    for eqn in live_eqns(rec.eqns, [x]):
        ins = [known(a) for a in eqn.ins]
        if any(a is NO_VALUE for a in ins):
            return NO_VALUE
        with np.errstate(all="ignore"):
            result = eqn.prim.impl(*ins, **eqn.params)
        values.update(
            zip(map(id, eqn.outs), result if eqn.prim.multiple else [result], strict=True)
        )
    return values.get(id(x), NO_VALUE)
