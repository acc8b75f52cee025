"""The graph as it will be written: calls inlined, loops' invariants moved out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.core.graph import (
    Const,
    Eqn,
    Graph,
    Var,
    live_eqns,
    split_invariant,
    with_graphs,
)
from funcgrad.primitives import control_flow
from funcgrad.primitives.discrete import stop_gradient
from funcgrad.primitives.elementwise import convert
from funcgrad.transforms.simplify import simplify


def prepare(graph: Graph) -> Graph:
    """Simplify a graph and those in its equations; only branches and loops keep theirs.

    A checkpointed function is inlined last, so that nobody finds that what it computes again
    is known already.
    """
    graph = simplify(graph)
    eqns: list[Eqn] = []
    atoms: dict[int, Any] = {}
    for eqn in graph.eqns:
        ins = tuple([atoms.get(id(a), a) for a in eqn.ins]) if atoms else eqn.ins
        inner = _inlined(eqn)
        if _is_identity(eqn):
            atoms[id(eqn.outs[0])] = ins[0]
        elif inner is not None:
            results = inline(prepare(inner), ins, eqns)
            atoms.update(zip(map(id, eqn.outs), results, strict=True))
        else:
            params = with_graphs(eqn.params, prepare)
            if ins is not eqn.ins or params is not eqn.params:
                eqn = Eqn(eqn.prim, ins, params, eqn.outs, eqn.source)
            eqns.append(_hoist(eqn, eqns) if eqn.prim is control_flow.scan else eqn)
    outputs = [atoms.get(id(a), a) for a in graph.outputs]
    return Graph(graph.inputs, live_eqns(eqns, outputs), outputs)


def _is_identity(eqn: Eqn) -> bool:
    """Whether an equation matters to derivatives only."""
    if eqn.prim is not stop_gradient and eqn.prim is not control_flow.stop_gradient_unless:
        return False
    return eqn.ins[0].aval == eqn.outs[0].aval


def is_alias(eqn: Eqn) -> bool:
    """Whether the equation's one result is its operand: a number that is NumPy's already."""
    return eqn.prim is convert and eqn.ins[0].aval.dtype == eqn.outs[0].aval.dtype


def _inlined(eqn: Eqn) -> Graph | None:
    """The graph that an equation does nothing but run."""
    if eqn.prim is control_flow.checkpoint:
        return eqn.params["graph"]
    if eqn.prim is control_flow.custom_jvp or eqn.prim is control_flow.custom_vjp:
        return eqn.params["graph"] or eqn.params["rule"].graph([a.aval for a in eqn.ins])
    return None


def inline(graph: Graph, operands: Sequence[Any], eqns: list[Eqn]) -> list[Any]:
    """Append a graph's equations, with new variables; its results."""
    atoms: dict[int, Any] = {}
    for var, operand in zip(graph.inputs, operands, strict=True):
        atoms[id(var)] = _strong(operand, eqns) if not var.aval.weak else operand
    for eqn in graph.eqns:
        ins = tuple([atoms.get(id(a), a) for a in eqn.ins])
        outs = tuple([Var(out.aval) for out in eqn.outs])
        atoms.update(zip(map(id, eqn.outs), outs, strict=True))
        eqns.append(Eqn(eqn.prim, ins, eqn.params, outs, eqn.source))
    return [atoms.get(id(a), a) for a in graph.outputs]


def _strong(operand: Any, eqns: list[Eqn]) -> Any:
    """An operand whose dtype counts in promotion, as that of the variable it stands for does."""
    if not operand.aval.weak:
        return operand
    dtype = operand.aval.dtype
    if type(operand) is Const:
        return Const(dtype.type(operand.value))
    out = Var(operand.aval.strong())
    eqns.append(Eqn(convert, (operand,), {"dtype": dtype}, (out,)))
    return out


def _hoist(eqn: Eqn, eqns: list[Eqn]) -> Eqn:
    """A scan without what is the same in each of its steps, which is appended to `eqns`."""
    body, n_consts = eqn.params["body"], eqn.params["n_consts"]
    once, body = split_invariant(body, n_consts)
    if not once.eqns or not eqn.params["length"]:
        return eqn
    fixed = inline(once, eqn.ins[:n_consts], eqns)
    params = {**eqn.params, "body": body, "n_consts": n_consts + len(fixed)}
    ins = (*eqn.ins[:n_consts], *fixed, *eqn.ins[n_consts:])
    return Eqn(eqn.prim, ins, params, eqn.outs, eqn.source)
