"""How much equations move and compute."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.numpy.memory import is_alias
from funcgrad.core.execution import Cost
from funcgrad.core.graph import Eqn, Graph, graphs_in

_REDUCTIONS = frozenset("sum prod max min any all argmax argmin logsumexp".split())
_RUNNING = frozenset("cumsum cumprod cummax cummin".split())


def nbytes(aval: Any) -> int:
    return aval.size * aval.dtype.itemsize


def flops_of(eqn: Eqn) -> int:
    """Operations on numbers that an equation takes, those within its loops not counted."""
    prim, out = eqn.prim, eqn.outs[0].aval
    if prim.kind == "elementwise" or (prim.kind == "nondifferentiable" and not eqn.params):
        return out.size
    if prim.name == "matmul":
        return 2 * out.size * eqn.ins[0].aval.shape[-1]
    if prim.name in _REDUCTIONS or prim.name in _RUNNING:
        return eqn.ins[0].aval.size
    return out.size if prim.infix is not None or prim.name == "neg" else 0


def graph_flops(graph: Graph) -> int:
    """Operations on numbers; loops and branches are counted as in `cost_of_calls`."""
    return cost_of_calls(graph).flops


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
        elif not (eqn.prim.view or is_alias(eqn)):
            calls += 1
            moved += sum(nbytes(a.aval) for a in {id(a): a for a in eqn.ins}.values())
            moved += sum(nbytes(a.aval) for a in eqn.outs)
            flops += flops_of(eqn)
    return Cost(0, calls, moved, flops, 0)
