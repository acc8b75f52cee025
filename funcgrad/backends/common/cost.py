"""How much equations move and compute."""

from __future__ import annotations

from funcgrad.backends.common.prepare import is_alias
from funcgrad.core.execution import Cost
from funcgrad.core.graph import Eqn, Graph, graphs_in


def flops_of(eqn: Eqn) -> int:
    """Operations on numbers that an equation takes, those within its loops not counted."""
    count = eqn.prim.flops
    return 0 if count is None else count([a.aval for a in eqn.ins], eqn.outs[0].aval, **eqn.params)


def cost_of_calls(graph: Graph) -> Cost:
    """The cost of a graph whose equations each are a call of a library.

    Loops count their steps where their number is known, else one; of branches the dearest counts.
    """
    calls = moved = flops = 0
    for eqn in graph.eqns:
        inner = [cost_of_calls(g) for g in graphs_in(eqn.params)]
        if inner:
            times = eqn.params.get("length", 1)
            branches = "branches" in eqn.params
            each = [max(c, key=int) if branches else sum(c) for c in zip(*inner, strict=True)]
            calls, moved, flops = (
                have + times * more
                for have, more in zip((calls, moved, flops), each[1:4], strict=True)
            )
        elif not (eqn.prim.may_alias or is_alias(eqn)):
            calls += 1
            moved += sum(a.aval.nbytes for a in {id(a): a for a in eqn.ins}.values())
            moved += sum(a.aval.nbytes for a in eqn.outs)
            flops += flops_of(eqn)
    return Cost(0, calls, moved, flops, 0)
