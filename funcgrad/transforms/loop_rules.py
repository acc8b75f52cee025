"""How loops are differentiated and batched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.device import common_device
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph, Var, live_eqns
from funcgrad.core.primitive import (
    HALF,
    SINGLE,
    Primitive,
    narrow,
    zeros_like,
)
from funcgrad.core.tracer import Recorder, deferred
from funcgrad.errors import NotDifferentiableError, at_line
from funcgrad.primitives.control_flow import scan, while_
from funcgrad.primitives.structural import move_axis
from funcgrad.records import NamedTuple
from funcgrad.transforms.batching import batch_graph, ensure_batched, run_over_batch
from funcgrad.transforms.jvp import jvp_graph
from funcgrad.transforms.partial import (
    Split,
    carry_activity,
    carry_fixpoint,
    invariant,
    joint_vjp,
    without_inputs,
)
from funcgrad.transforms.rules import Mask, Rules, as_column, filled, spread

# --- loops: forward mode --------------------------------------------------------------


class Groups(NamedTuple):
    """A loop's operands, or something for each of them, by their role."""

    consts: list[Any]
    carry: list[Any]
    xs: list[Any]

    @property
    def all(self) -> list[Any]:
        return [*self.consts, *self.carry, *self.xs]

    def only(self, mask: Groups) -> Groups:
        return Groups(*(list(compress(a, m)) for a, m in zip(self, mask, strict=True)))

    def beside(self, other: Groups) -> list[Any]:
        """Role by role, mine and then the other's."""
        return [v for a, b in zip(self, other, strict=True) for v in (*a, *b)]


def groups(values: Sequence[Any], n_consts: int, n_carry: int) -> Groups:
    carry_end = n_consts + n_carry
    return Groups(
        list(values[:n_consts]), list(values[n_consts:carry_end]), list(values[carry_end:])
    )


class _LoopJvp(NamedTuple):
    active: Groups
    outs: list[bool]
    body: Graph
    extra: Groups


def _loop_jvp(body: Graph, given: Mask, n_consts: int, n_carry: int) -> _LoopJvp:
    """The body on values and tangents; operands and results in the order of their roles."""
    active, outs = carry_activity(body, given, n_consts, n_carry)
    joint = jvp_graph(body, active, outs)
    n, n_outs = len(body.inputs), len(body.outputs)
    roles = groups(active, n_consts, n_carry)
    extra = groups(joint.inputs[n:], sum(roles.consts), sum(roles.carry))
    inputs = groups(joint.inputs[:n], n_consts, n_carry).beside(extra)
    values, tangents = joint.outputs[:n_outs], joint.outputs[n_outs:]
    n_dcarry = sum(roles.carry)
    outputs = (
        *values[:n_carry],
        *tangents[:n_dcarry],
        *values[n_carry:],
        *tangents[n_dcarry:],
    )
    return _LoopJvp(roles, outs, Graph(inputs, joint.eqns, outputs), extra)


def _loop_pushforward(
    tangents: Sequence[Any], ins: Sequence[Any], body: Graph, n_consts: int, n_carry: int
) -> tuple[_LoopJvp, list[Any]]:
    """The derived body, cached, and its operands."""
    given = tuple(t is not None for t in tangents)
    plan: _LoopJvp = body.derive(
        ("loop jvp", given, n_consts, n_carry), lambda: _loop_jvp(body, given, n_consts, n_carry)
    )
    active = plan.active
    given_or_zero = filled(tangents, ins, active.all)
    moving = groups(given_or_zero, sum(active.consts), sum(active.carry))
    return plan, groups(ins, n_consts, n_carry).beside(moving)


def _scan_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    n_consts, n_carry = params["n_consts"], params["n_carry"]
    plan, operands = _loop_pushforward(tangents, ins, params["body"], n_consts, n_carry)
    n_moving = sum(plan.active.carry)
    outs = bind(
        scan,
        *operands,
        body=plan.body,
        length=params["length"],
        reverse=params["reverse"],
        n_consts=n_consts + sum(plan.active.consts),
        n_carry=n_carry + n_moving,
    )
    n_ys = len(plan.outs) - n_carry
    carry, dcarry = outs[:n_carry], outs[n_carry : n_carry + n_moving]
    ys, dys = outs[n_carry + n_moving :][:n_ys], outs[n_carry + n_moving + n_ys :]
    return [*carry, *ys], spread([*dcarry, *dys], plan.outs)


def _while_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    body, cond, n_consts = params["body"], params["cond"], params["n_consts"]
    n_carry = len(body.outputs)
    plan, operands = _loop_pushforward(tangents, ins, body, n_consts, n_carry)
    test = Graph(
        groups(cond.inputs, n_consts, n_carry).beside(
            Groups(*([Var(v.aval) for v in role] for role in plan.extra))
        ),
        cond.eqns,
        cond.outputs,
    )
    outs = bind(
        while_, *operands, cond=test, body=plan.body, n_consts=n_consts + sum(plan.active.consts)
    )
    return outs[:n_carry], spread(outs[n_carry:], plan.outs)


# --- loops: reverse mode --------------------------------------------------------------


def _while_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        raise at_line(
            NotDifferentiableError,
            "reverse mode (grad, vjp, jacrev) needs to know how often a loop runs, and "
            "while_loop, or fori_loop with traced bounds, does not tell. Use fg.scan, or "
            "fg.fori_loop with bounds that are Python numbers and a fg.cond or np.where inside; "
            "forward mode (jvp, jacfwd) works through while_loop; fg.stop_gradient cuts it off",
        )

    return bind(while_, *ins, **params), pull


class Residuals(NamedTuple):
    """Where the residuals of a loop's body come from.

    Attributes:
        places: ("const", i), ("x", i), ("fixed", i) or ("kept", i) for each residual.
        fixed: those that are the same in each step, as a graph of the constants.
    """

    places: list[tuple[str, int]]
    fixed: Graph

    @property
    def sliced(self) -> list[bool]:
        """Which residuals have one slice for each step."""
        return [name in ("x", "kept") for name, _ in self.places]

    def values(self, operands: Groups, kept: Sequence[Any]) -> list[Any]:
        """The residuals, given the loop's operands and what it kept."""
        fixed = run_graph(self.fixed, operands.consts)
        found = {"const": operands.consts, "x": operands.xs, "fixed": fixed, "kept": kept}
        return [found[name][i] for name, i in self.places]


def keep_residuals(cut: Split, roles: Groups) -> tuple[Graph, Residuals]:
    """The first part of a loop's body, which gives what has to be kept of each step."""
    at = {id(v): ("const", i) for i, v in enumerate(roles.consts)}
    at |= {id(v): ("x", i) for i, v in enumerate(roles.xs)}
    same = invariant(cut.eqns, cut.inputs, [*roles.carry, *roles.xs])
    fixed: list[Var] = []
    changing: list[Var] = []
    places = []
    for var in cut.residuals:
        place = at.get(id(var))
        if place is None:
            group, name = (fixed, "fixed") if id(var) in same else (changing, "kept")
            place = (name, len(group))
            group.append(var)
        places.append(place)
    fixed_graph = Graph(roles.consts, live_eqns(cut.eqns, fixed), fixed)
    return cut.first(changing), Residuals(places, fixed_graph)


class _ScanVjp(NamedTuple):
    """What reverse mode makes of a scan.

    Attributes:
        active, outs: which operands and results take part.
        forward: the body that also gives the residuals that change from step to step.
        residuals: where the residuals come from.
        rest: `(residuals, cotangents) -> cotangents` of one step.
    """

    active: Groups
    outs: list[bool]
    forward: Graph
    residuals: Residuals
    rest: Graph


def _scan_vjp(body: Graph, need: Mask, n_consts: int, n_carry: int) -> _ScanVjp:
    active, outs = carry_activity(body, need, n_consts, n_carry)
    cut = joint_vjp(body, active, outs)
    forward, residuals = keep_residuals(cut, groups(cut.inputs, n_consts, n_carry))
    return _ScanVjp(groups(active, n_consts, n_carry), outs, forward, residuals, cut.rest)


def _scan_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    wrt = tuple(need)
    plan: _ScanVjp = body.derive(
        ("scan vjp", wrt, n_consts, n_carry), lambda: _scan_vjp(body, wrt, n_consts, n_carry)
    )
    outs = bind(scan, *ins, **{**params, "body": plan.forward})
    n_outs = len(plan.outs)
    residuals = plan.residuals.values(groups(ins, n_consts, n_carry), outs[n_outs:])

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        return _scan_backward(plan, body, params, residuals, cts)

    return outs[:n_outs], pull


def _scan_backward(
    plan: _ScanVjp, body: Graph, params: dict, residuals: Sequence[Any], cts: Any
) -> list[Any]:
    """The scan in the other direction, which carries the cotangents of carry and constants."""
    n_consts, n_carry, length = params["n_consts"], params["n_carry"], params["length"]
    sliced = plan.residuals.sliced
    ct_carry = filled(cts[:n_carry], body.out_avals[:n_carry], plan.outs[:n_carry])
    ct_ys = [c for c, m in zip(cts[n_carry:], plan.outs[n_carry:], strict=True) if m]
    given = tuple(c is not None for c in ct_ys)
    step = body.derive(("scan backward", plan.forward, given), lambda: _backward_step(plan, given))
    roles = groups(body.inputs, n_consts, n_carry).only(plan.active)
    consts = [r for r, s in zip(residuals, sliced, strict=True) if not s]
    sums = [zeros_like(_sum_aval(v.aval)) for v in roles.consts]
    found = bind(
        scan,
        *consts,
        *sums,
        *ct_carry,
        *[c for c in ct_ys if c is not None],
        *compress(residuals, sliced),
        body=step,
        length=length,
        reverse=not params["reverse"],
        n_consts=len(consts),
        n_carry=len(sums) + len(ct_carry),
    )
    n_sums = len(sums)
    totals = [narrow(s, v.aval.dtype) for s, v in zip(found[:n_sums], roles.consts, strict=True)]
    return spread([*totals, *found[n_sums:]], plan.active.all)


def _backward_step(plan: _ScanVjp, given: Mask) -> Graph:
    """Body of the backward scan: `(constants; sums, carry's; ys', residuals) -> ...`."""
    avals = [v.aval.strong() for v in plan.rest.inputs]
    sliced = plan.residuals.sliced
    n_residuals, n_sums = len(sliced), sum(plan.active.consts)
    n_carry = sum(plan.active.carry)
    ct_avals = avals[n_residuals:]
    with deferred("vjp", lasting=True) as rec:
        held = {i: rec.abstract_input(avals[i]) for i, s in enumerate(sliced) if not s}
        sums = [rec.abstract_input(_sum_aval(a)) for a in plan.rest.out_avals[:n_sums]]
        ct_carry = [rec.abstract_input(a) for a in ct_avals[:n_carry]]
        ct_ys = [rec.abstract_input(a) for a, g in zip(ct_avals[n_carry:], given, strict=True) if g]
        held |= {i: rec.abstract_input(avals[i]) for i, s in enumerate(sliced) if s}
        residuals = [held[i] for i in range(n_residuals)]
        missing = [*[False] * (n_residuals + n_carry), *(not g for g in given)]
        rest = without_inputs(plan.rest, missing) if any(missing) else plan.rest
        found = run_graph(rest, [*residuals, *ct_carry, *ct_ys])
        totals = [a + b for a, b in zip(sums, found[:n_sums], strict=True)]
        return rec.graph([*totals, *found[n_sums:]])


def _sum_aval(term: Aval) -> Aval:
    """What the terms of all steps are added up in."""
    return term.update(dtype=SINGLE) if term.dtype == HALF else term.strong()


# --- loops: batching ------------------------------------------------------------------


def _loop_batched(
    body: Graph, batched: Sequence[bool], size: int, n_consts: int, n_carry: int
) -> tuple[Graph, list[bool], list[bool]]:
    """The body over a batch, and which operands and results are batched."""
    flags, _ = carry_fixpoint(
        batched, lambda inputs: batch_graph(body, inputs, size)[1], n_consts, n_carry
    )
    carry = flags[n_consts : n_consts + n_carry]
    force = [*carry, *[False] * (len(body.outputs) - n_carry)]
    graph, outs = batch_graph(body, flags, size, force)
    return graph, flags, outs


def _scan_batch(
    prim: Primitive, ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    key = ("scan batch", tuple(batched), size, n_consts, n_carry)
    over_batch, flags, out_flags = body.derive(
        key, lambda: _loop_batched(body, batched, size, n_consts, n_carry)
    )
    operands = groups(ins, n_consts, n_carry)
    have = groups(batched, n_consts, n_carry)
    carry_flags = groups(flags, n_consts, n_carry).carry
    carry = ensure_batched(operands.carry, have.carry, size, carry_flags)
    xs = [move_axis(x, 0, 1) if b else x for x, b in zip(operands.xs, have.xs, strict=True)]
    outs = bind(scan, *operands.consts, *carry, *xs, **{**params, "body": over_batch})
    ys = [
        move_axis(y, 0, 1) if b else y
        for y, b in zip(outs[n_carry:], out_flags[n_carry:], strict=True)
    ]
    return [*outs[:n_carry], *ys], out_flags


def _while_batch(
    prim: Primitive, ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    body, cond, n_consts = params["body"], params["cond"], params["n_consts"]
    n_carry = len(body.outputs)
    over_batch, flags, _ = _loop_batched(body, batched, size, n_consts, n_carry)
    test, (varies,) = batch_graph(cond, flags, size)
    if varies:
        return _masked_while(ins, batched, size, params)
    operands = ensure_batched(ins, batched, size, flags)
    return bind(while_, *operands, cond=test, body=over_batch, n_consts=n_consts), flags[n_consts:]


def _masked_while(
    ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> tuple[list[Any], list[bool]]:
    """Steps for all examples until the last is done; those that are done keep their values."""
    body, cond, n_consts = params["body"], params["cond"], params["n_consts"]
    flags = [*batched[:n_consts], *[True] * (len(ins) - n_consts)]
    operands = ensure_batched(ins, batched, size, flags)

    def test(consts: Sequence[Any], carry: Sequence[Any]) -> Any:
        return run_over_batch(cond, [*consts, *carry], flags, size)[0]

    with deferred("vmap") as rec:
        consts, running, carry = _masked_inputs(rec, operands, n_consts, size)
        again = rec.graph([np.add.reduce(running, axis=0) > 0])
    with deferred("vmap") as rec:
        consts, running, carry = _masked_inputs(rec, operands, n_consts, size)
        outs = run_over_batch(body, [*consts, *carry], flags, size)
        new = [np.where(as_column(running, o), o, c) for o, c in zip(outs, carry, strict=True)]
        step = rec.graph([test(consts, new), *new])
    start = test(operands[:n_consts], operands[n_consts:])
    outs = bind(
        while_,
        *operands[:n_consts],
        start,
        *operands[n_consts:],
        cond=again,
        body=step,
        n_consts=n_consts,
    )
    return outs[1:], [True] * (len(outs) - 1)


def _masked_inputs(
    rec: Recorder, operands: Sequence[Any], n_consts: int, size: int
) -> tuple[list[Any], Any, list[Any]]:
    def inputs(values: Sequence[Any]) -> list[Any]:
        return [rec.abstract_input(aval_of(v)) for v in values]

    consts = inputs(operands[:n_consts])
    device = common_device("while_loop", list(map(aval_of, operands)))
    running = rec.abstract_input(Aval((size,), np.dtype(bool), device=device))
    return consts, running, inputs(operands[n_consts:])


RULES = {
    scan: Rules(_scan_batch, pushforward=_scan_pushforward, pullback=_scan_pullback),
    while_: Rules(_while_batch, pushforward=_while_pushforward, pullback=_while_pullback),
}
