"""Running ahead: what a linear map does with known values is computed once, loops included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from funcgrad.core.binding import bind
from funcgrad.core.evaluate import apply_eqn, run_into
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import Recorder
from funcgrad.primitives.call import call
from funcgrad.primitives.control_flow import scan
from funcgrad.records import NamedTuple
from funcgrad.transforms.loop_rules import Groups, Residuals, groups, keep_residuals
from funcgrad.transforms.partial import Split, carry_fixpoint, invariant, split

Mask = tuple[bool, ...]
# An equation's results, and which of them come later.
Results = tuple[list[Any], list[bool]]


def run_ahead(graph: Graph) -> Graph:
    """The graph, with whatever does not depend on its inputs computed now.

    Equations on constants alone are computed as they are recorded; what is left is inside calls
    and loops, which mix both.
    """
    return _separate(graph, [True] * len(graph.inputs))


def _separate(graph: Graph, later: Sequence[bool]) -> Graph:
    """The same graph with its calls and loops cut in two: what is known, and the rest."""
    waiting = set(map(id, compress(graph.inputs, later)))

    def apply(eqn: Eqn, ins: Sequence[Any]) -> Any:
        flags = tuple(id(a) in waiting for a in eqn.ins)
        rule = _RULES.get(eqn.prim)
        if rule is None or all(flags) or not any(flags):
            if any(flags):
                waiting.update(map(id, eqn.outs))
            return apply_eqn(eqn, ins)
        outs, outs_later = rule(ins, flags, eqn.params)
        waiting.update(map(id, compress(eqn.outs, outs_later)))
        return outs

    with Recorder("linearize", concrete=False, lasting=True) as rec:
        inputs = [rec.abstract_input(v.aval) for v in graph.inputs]
        return rec.graph(run_into({}, graph, inputs, apply))


def _not(mask: Sequence[bool]) -> list[bool]:
    return [not m for m in mask]


def _sorted(values: Sequence[Any], later: Sequence[bool]) -> list[Any]:
    """What is known first, then what comes later."""
    return [*compress(values, _not(later)), *compress(values, later)]


def _merged(first: Sequence[Any], second: Sequence[Any], later: Sequence[bool]) -> list[Any]:
    supplies = iter(first), iter(second)
    return [next(supplies[m]) for m in later]


def _cut(graph: Graph, later: Sequence[bool], outs_later: Sequence[bool]) -> Split:
    inputs, outputs = _sorted(graph.inputs, later), _sorted(graph.outputs, outs_later)
    ordered = Graph(inputs, graph.eqns, outputs)
    return split(ordered, later.count(False), outs_later.count(False))


def _outputs_later(graph: Graph, later: Sequence[bool]) -> list[bool]:
    waiting = list(compress(graph.inputs, later))
    known = invariant(graph.eqns, graph.inputs, waiting)
    return [type(a) is Var and id(a) not in known for a in graph.outputs]


def _call_ahead(ins: Sequence[Any], later: Mask, params: dict[str, Any]) -> Results:
    graph = params["graph"]

    def make() -> Any:
        separated = _separate(graph, later)
        outs_later = _outputs_later(separated, later)
        cut = _cut(separated, later, outs_later)
        return outs_later, cut.first(cut.residuals), cut.rest

    outs_later, first, rest = graph.derive(("ahead", later), make)
    known = bind(call, *compress(ins, _not(later)), graph=first)
    n = outs_later.count(False)
    found = bind(call, *known[n:], *compress(ins, later), graph=rest)
    return _merged(known[:n], found, outs_later), outs_later


class _ScanAhead(NamedTuple):
    later: Groups
    outs_later: list[bool]
    first: Graph
    residuals: Residuals
    rest: Graph


def _scan_plan(body: Graph, later: Mask, n_consts: int, n_carry: int) -> _ScanAhead:
    flags, outs_later = carry_fixpoint(
        later, lambda inputs: _outputs_later(body, inputs), n_consts, n_carry
    )
    cut = _cut(_separate(body, flags), flags, outs_later)
    roles = groups(flags, n_consts, n_carry)
    known = groups(cut.inputs, roles.consts.count(False), roles.carry.count(False))
    first, residuals = keep_residuals(cut, known)
    rest = _rest_of_step(cut, residuals, roles)
    return _ScanAhead(roles, outs_later, first, residuals, rest)


def _rest_of_step(cut: Split, residuals: Residuals, later: Groups) -> Graph:
    """The second part as a body: constants, carry, slices, with the residuals among them."""
    n = len(cut.residuals)
    kept, waiting = cut.rest.inputs[:n], cut.rest.inputs[n:]
    roles = groups(waiting, sum(later.consts), sum(later.carry))
    sliced = residuals.sliced
    inputs = [
        *compress(kept, _not(sliced)),
        *roles.consts,
        *roles.carry,
        *compress(kept, sliced),
        *roles.xs,
    ]
    return Graph(inputs, cut.rest.eqns, cut.rest.outputs)


def _scan_ahead(ins: Sequence[Any], later: Mask, params: dict[str, Any]) -> Results:
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    plan: _ScanAhead = body.derive(
        ("ahead", later, n_consts, n_carry), lambda: _scan_plan(body, later, n_consts, n_carry)
    )
    operands = groups(ins, n_consts, n_carry)
    known = operands.only(Groups(*map(_not, plan.later)))
    waiting = operands.only(plan.later)
    way = {"length": params["length"], "reverse": params["reverse"]}
    counts = {"n_consts": len(known.consts), "n_carry": len(known.carry)}
    first = bind(scan, *known.all, body=plan.first, **way, **counts)
    n_known = plan.outs_later.count(False)
    values = plan.residuals.values(known, first[n_known:])
    sliced = plan.residuals.sliced
    consts = [*compress(values, _not(sliced)), *waiting.consts]
    xs = [*compress(values, sliced), *waiting.xs]
    counts = {"n_consts": len(consts), "n_carry": len(waiting.carry)}
    found = bind(scan, *consts, *waiting.carry, *xs, body=plan.rest, **way, **counts)
    return _merged(first[:n_known], found, plan.outs_later), plan.outs_later


_RULES: dict[Primitive, Callable[..., Results]] = {call: _call_ahead, scan: _scan_ahead}
