"""Cutting a graph in two: what can be computed first, and what is left for later.

Reverse mode through a graph that sits in an equation is its joint graph of values and
cotangents, cut: the first part runs in the forward pass and keeps what the second needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.core.evaluate import apply_eqn, read
from funcgrad.core.graph import Eqn, Graph, Var, is_zero, live_eqns
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import deferred
from funcgrad.primitives import elementwise as ew
from funcgrad.records import NamedTuple
from funcgrad.transforms.vjp import active_vars, vjp_graph

# Stands for zeros of whatever shape, with which nothing is computed.
ZERO = object()


class Split(NamedTuple):
    """A graph in two parts.

    Attributes:
        inputs, eqns: the first part.
        outputs: its results.
        residuals: variables of the first part that the second reads.
        rest: the second part, `(residuals, other inputs) -> other outputs`.
    """

    inputs: Sequence[Var]
    eqns: Sequence[Eqn]
    outputs: Sequence[Any]
    residuals: list[Var]
    rest: Graph

    def first(self, residuals: Sequence[Var]) -> Graph:
        """The first part; its results are followed by these of the residuals."""
        outputs = [*self.outputs, *residuals]
        return Graph(self.inputs, live_eqns(self.eqns, outputs), outputs)


def split(graph: Graph, n_inputs: int, n_outputs: int) -> Split:
    """Cut a graph after what depends on its first `n_inputs` inputs alone.

    The first `n_outputs` outputs must be of that part; the others are given by the second.
    """
    inputs, later = graph.inputs[:n_inputs], graph.inputs[n_inputs:]
    waiting = set(map(id, later))
    first, second = [], []
    for eqn in graph.eqns:
        if any(id(a) in waiting for a in eqn.ins):
            waiting.update(map(id, eqn.outs))
            second.append(eqn)
        else:
            first.append(eqn)
    outputs, rest_outputs = graph.outputs[:n_outputs], graph.outputs[n_outputs:]
    reads = [a for eqn in second for a in eqn.ins] + list(rest_outputs)
    wanted = {id(a): a for a in reads if type(a) is Var and id(a) not in waiting}
    cheap = _cheap(first, wanted)
    rest = Graph((*wanted.values(), *later), [*cheap, *second], rest_outputs)
    return Split(inputs, first, outputs, list(wanted.values()), rest)


def _cheap(eqns: Sequence[Eqn], wanted: dict[int, Var]) -> list[Eqn]:
    """Equations to repeat rather than keep the results of; `wanted` then has their operands."""
    again: list[Eqn] = []
    for eqn in reversed(eqns):
        if any(id(o) in wanted for o in eqn.outs) and _is_cheap(eqn):
            for out in eqn.outs:
                wanted.pop(id(out), None)
            wanted.update((id(a), a) for a in eqn.ins if type(a) is Var)
            again.append(eqn)
    again.reverse()
    return again


def _is_cheap(eqn: Eqn) -> bool:
    """A view that is no smaller than what it views, or nothing but constants."""
    operands = [a for a in eqn.ins if type(a) is Var]
    if not operands:
        return True
    size = sum(o.aval.nbytes for o in eqn.outs)
    return eqn.prim.may_alias and sum(a.aval.nbytes for a in operands) <= size


def invariant(eqns: Iterable[Eqn], inputs: Iterable[Var], varying: Iterable[Var]) -> set[int]:
    """Ids of the variables that do not depend on the varying inputs."""
    changing = set(map(id, varying))
    fixed = {id(v) for v in inputs if id(v) not in changing}
    for eqn in eqns:
        if any(id(a) in changing for a in eqn.ins):
            changing.update(map(id, eqn.outs))
        else:
            fixed.update(map(id, eqn.outs))
    return fixed


def joint_vjp(graph: Graph, wrt: Sequence[bool], ct_mask: Sequence[bool]) -> Split:
    """Values of a graph and what they leave for `(residuals, cotangents) -> cotangents`."""
    joint = vjp_graph(graph, wrt, ct_mask, with_outputs=True)
    return split(joint, len(graph.inputs), len(graph.outputs))


def carry_activity(
    body: Graph, wrt: Sequence[bool], n_consts: int, n_carry: int
) -> tuple[list[bool], list[bool]]:
    """Which inputs and results of a loop's body depend on the chosen operands.

    The fixpoint over steps: a carry that once depends on them does so ever after.
    """
    wrt = [w and v.aval.inexact for w, v in zip(wrt, body.inputs, strict=True)]

    def outputs(inputs: Sequence[bool]) -> list[bool]:
        active = active_vars(body, inputs)
        return [type(a) is Var and id(a) in active for a in body.outputs]

    return carry_fixpoint(wrt, outputs, n_consts, n_carry)


def carry_fixpoint(
    inputs: Sequence[bool],
    outputs_of: Callable[[Sequence[bool]], list[bool]],
    n_consts: int,
    n_carry: int,
) -> tuple[list[bool], list[bool]]:
    """Grow a property of a body's inputs until its next carry has it where the carry does.

    `outputs_of(inputs)` tells which results have the property.
    """
    consts, carry = list(inputs[:n_consts]), list(inputs[n_consts : n_consts + n_carry])
    xs = list(inputs[n_consts + n_carry :])
    while True:
        outs = outputs_of([*consts, *carry, *xs])
        grown = [c or o for c, o in zip(carry, outs, strict=False)]
        if grown == carry:
            return [*consts, *carry, *xs], [*grown, *outs[n_carry:]]
        carry = grown


def without_inputs(graph: Graph, missing: Sequence[bool]) -> Graph:
    """A graph linear in some inputs, of which those that are `missing` are zero.

    What they are a factor of is not computed.
    """
    with deferred("vjp", lasting=True) as rec:
        env: dict[int, Any] = {
            id(v): ZERO if m else rec.abstract_input(v.aval)
            for v, m in zip(graph.inputs, missing, strict=True)
        }
        for eqn in graph.eqns:
            ins = [read(env, a) for a in eqn.ins]
            vanish = any(x is ZERO for x in ins)
            result = _with_zeros(eqn, ins) if vanish else apply_eqn(eqn, ins)
            outs = result if eqn.prim.multiple and result is not ZERO else [result] * len(eqn.outs)
            env.update(zip(map(id, eqn.outs), outs, strict=True))
        results = [read(env, a) for a in graph.outputs]
        return rec.graph(
            [
                zeros_like(a.aval) if r is ZERO else r
                for r, a in zip(results, graph.outputs, strict=True)
            ]
        )


def _with_zeros(eqn: Eqn, ins: Sequence[Any]) -> Any:
    """The result of an equation some of whose operands are ZERO."""
    vanish = [x is ZERO or is_zero(x) for x in ins]
    for group in eqn.prim.linear_groups(len(ins)):
        if all(vanish[i] for i in group):
            return ZERO
    if eqn.prim is ew.add:
        other, atom = (ins[0], eqn.ins[0]) if ins[1] is ZERO else (ins[1], eqn.ins[1])
        if atom.aval == eqn.outs[0].aval:
            return other
    filled = [zeros_like(a.aval) if x is ZERO else x for x, a in zip(ins, eqn.ins, strict=True)]
    return apply_eqn(eqn, filled)
