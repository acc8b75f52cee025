"""How branches, loops and checkpoints are differentiated and batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph, Var, live_eqns
from funcgrad.core.primitive import Primitive, shape_of, zeros_like
from funcgrad.core.tracer import Recorder, bind
from funcgrad.errors import NotDifferentiableError, at_line
from funcgrad.primitives.control import checkpoint, gate, scan, switch, while_
from funcgrad.primitives.structural import broadcast_to, move_axis
from funcgrad.transforms.jvp import jvp_graph
from funcgrad.transforms.partial import (
    Split,
    carry_activity,
    carry_fixpoint,
    invariant,
    joint_vjp,
)
from funcgrad.transforms.vjp import active_vars, vjp_graph
from funcgrad.transforms.vmap import batch_graph, ensure_batched, run_batched

Mask = tuple[bool, ...]


def set_rules(
    prim: Primitive,
    *,
    pushforward: Callable[..., Any],
    batch: Callable[..., Any],
    pullback: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
) -> None:
    """Give a primitive its rules; what is not given follows from what is."""

    def jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
        return pushforward(tangents, ins, params)[1]

    def vjp_by_pullback(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
        return prim.pullback(ins, params, need)[1](ct, need)

    prim.pushforward, prim.jvp, prim.batch, prim.pullback = pushforward, jvp, batch, pullback
    prim.vjp = vjp or vjp_by_pullback


def _spread(values: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """One value for each True of the mask, None elsewhere."""
    supply = iter(values)
    return [next(supply) if m else None for m in mask]


def _filled(values: Sequence[Any], avals: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """The masked values, with zeros for those that are None."""
    return [
        zeros_like(aval) if value is None else value
        for value, aval, m in zip(values, avals, mask, strict=True)
        if m
    ]


def _wrt(need: Sequence[bool], graph: Graph) -> Mask:
    return tuple(n and v.aval.inexact for n, v in zip(need, graph.inputs, strict=True))


# --- switch ---------------------------------------------------------------------------


def _active_in_any(branches: Sequence[Graph], wrt: Mask) -> Mask:
    """Which results depend on the chosen operands in some branch."""
    columns = []
    for branch in branches:
        active = active_vars(branch, wrt)
        columns.append([type(a) is Var and id(a) in active for a in branch.outputs])
    return tuple(any(column) for column in zip(*columns, strict=True))


def _switch_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    branches = params["branches"]
    wrt = tuple(t is not None for t in tangents[1:])
    mask = _active_in_any(branches, wrt)
    joint = tuple(
        b.derive(("jvp", wrt, mask), lambda b=b: jvp_graph(b, wrt, mask)) for b in branches
    )
    given = [t for t in tangents if t is not None]
    outs = bind(switch, *ins, *given, branches=joint)
    return outs[: len(mask)], _spread(outs[len(mask) :], mask)


class _SwitchVjp(NamedTuple):
    """Branches for the forward pass, which also keep residuals, and for the backward pass."""

    mask: Mask
    forward: tuple[Graph, ...]
    backward: tuple[Graph, ...]


def _switch_vjp(branches: Sequence[Graph], wrt: Mask) -> _SwitchVjp:
    mask = _active_in_any(branches, wrt)
    splits = [joint_vjp(b, wrt, mask) for b in branches]
    slots: list[Aval] = []
    places = [_take_slots(slots, _kept(s)) for s in splits]
    forward = [_fill_slots(s, p, slots) for s, p in zip(splits, places, strict=True)]
    cts = [a.aval.strong() for a in compress(branches[0].outputs, mask)]
    backward = [_from_slots(s, p, slots, cts) for s, p in zip(splits, places, strict=True)]
    return _SwitchVjp(mask, tuple(forward), tuple(backward))


def _kept(cut: Split) -> list[Var]:
    """The residuals that are no operands, so have to be kept."""
    inputs = set(map(id, cut.inputs))
    return [v for v in cut.residuals if id(v) not in inputs]


def _take_slots(slots: list[Aval], kept: Sequence[Var]) -> dict[int, int]:
    """A slot for each residual; branches share those of equal shape and dtype."""
    taken: dict[int, int] = {}
    for var in kept:
        aval = var.aval.strong()
        free = (i for i, s in enumerate(slots) if s == aval and i not in taken.values())
        place = next(free, len(slots))
        if place == len(slots):
            slots.append(aval)
        taken[id(var)] = place
    return taken


def _fill_slots(cut: Split, places: dict[int, int], slots: Sequence[Aval]) -> Graph:
    kept = _kept(cut)
    first = cut.first(kept)
    n = len(cut.outputs)
    with Recorder("vjp", concrete=False) as rec:
        outs = run_graph(first, [rec.abstract_input(v.aval) for v in first.inputs])
        values = {places[id(v)]: value for v, value in zip(kept, outs[n:], strict=True)}
        full = [
            values[i] if i in values else bind(broadcast_to, a.dtype.type(0), shape=a.shape)
            for i, a in enumerate(slots)
        ]
        return rec.graph([*outs[:n], *full])


def _from_slots(
    cut: Split, places: dict[int, int], slots: Sequence[Aval], cts: Sequence[Aval]
) -> Graph:
    with Recorder("vjp", concrete=False) as rec:
        known = {id(v): rec.abstract_input(v.aval) for v in cut.inputs}
        kept = [rec.abstract_input(a) for a in slots]
        given = [rec.abstract_input(a) for a in cts]
        known |= {key: kept[place] for key, place in places.items()}
        return rec.graph(run_graph(cut.rest, [known[id(v)] for v in cut.residuals] + given))


def _switch_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    branches = params["branches"]
    wrt = _wrt(need[1:], branches[0])
    plan: _SwitchVjp = branches[0].derive(
        ("switch vjp", branches, wrt), lambda: _switch_vjp(branches, wrt)
    )
    n_outs = len(plan.mask)
    outs = bind(switch, *ins, branches=plan.forward)
    avals = branches[0].out_avals

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        given = _filled(cts, avals, plan.mask)
        found = bind(switch, *ins, *outs[n_outs:], *given, branches=plan.backward)
        return [None, *_spread(found, wrt)]

    return outs[:n_outs], pull


def _switch_batch(
    prim: Primitive, ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    branches, flags = params["branches"], tuple(batched[1:])
    if batched[0]:
        return _select_branches(branches, ins[0], ins[1:], flags, size)
    columns = [batch_graph(b, flags, size)[1] for b in branches]
    force = tuple(any(column) for column in zip(*columns, strict=True))
    over_batch = tuple(
        b.derive(("batch", flags, size, force), lambda b=b: batch_graph(b, flags, size, force)[0])
        for b in branches
    )
    return bind(switch, *ins, branches=over_batch), list(force)


def _select_branches(
    branches: Sequence[Graph],
    index: Any,
    operands: Sequence[Any],
    flags: Mask,
    size: int,
) -> tuple[list[Any], list[bool]]:
    """Every branch for every example, and of each the result of its own branch."""
    chosen: list[Any] = []
    for number, branch in enumerate(branches):
        mask = index == number
        args = [
            bind(gate, x, _columns(mask, x)) if b and v.aval.inexact else x
            for x, b, v in zip(operands, flags, branch.inputs, strict=True)
        ]
        outs, out_flags = run_batched(branch, args, flags, size)
        outs = [ensure_batched(o, b, size) for o, b in zip(outs, out_flags, strict=True)]
        if number:
            outs = [np.where(_columns(mask, o), o, c) for o, c in zip(outs, chosen, strict=True)]
        chosen = outs
    return chosen, [True] * len(chosen)


def _columns(mask: Any, like: Any) -> Any:
    """A mask over the batch axis, shaped to broadcast along the other axes of `like`."""
    rank = len(shape_of(like))
    return mask if rank == 1 else mask.reshape(shape_of(mask) + (1,) * (rank - 1))


set_rules(switch, pushforward=_switch_pushforward, pullback=_switch_pullback, batch=_switch_batch)

# --- checkpoint -----------------------------------------------------------------------


def _checkpoint_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    graph = params["graph"]
    wrt = tuple(t is not None for t in tangents)
    mask = _active_in_any([graph], wrt)
    joint = graph.derive(("jvp", wrt, mask), lambda: jvp_graph(graph, wrt, mask))
    outs = bind(checkpoint, *ins, *[t for t in tangents if t is not None], graph=joint)
    return outs[: len(mask)], _spread(outs[len(mask) :], mask)


def _checkpoint_vjp(cts: Any, ans: Any, ins: Any, params: dict, need: Any) -> list[Any]:
    graph = params["graph"]
    wrt, mask = _wrt(need, graph), tuple(c is not None for c in cts)
    # In an equation of its own, what it computes again is not shared with the forward pass.
    derived = graph.derive(("vjp", wrt, mask), lambda: vjp_graph(graph, wrt, mask))
    found = bind(checkpoint, *ins, *[c for c in cts if c is not None], graph=derived)
    return _spread(found, wrt)


def _checkpoint_batch(
    prim: Primitive, ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    graph, flags = params["graph"], tuple(batched)
    derived, out_flags = graph.derive(
        ("batch", flags, size), lambda: batch_graph(graph, flags, size)
    )
    return bind(checkpoint, *ins, graph=derived), out_flags


set_rules(
    checkpoint, pushforward=_checkpoint_pushforward, vjp=_checkpoint_vjp, batch=_checkpoint_batch
)

# --- loops: forward mode --------------------------------------------------------------


class _Groups(NamedTuple):
    """A loop's operands, or something for each of them, by their role."""

    consts: list[Any]
    carry: list[Any]
    xs: list[Any]

    @property
    def all(self) -> list[Any]:
        return [*self.consts, *self.carry, *self.xs]

    def only(self, mask: _Groups) -> _Groups:
        return _Groups(*(list(compress(a, m)) for a, m in zip(self, mask, strict=True)))

    def beside(self, other: _Groups) -> list[Any]:
        """Role by role, mine and then the other's."""
        return [v for a, b in zip(self, other, strict=True) for v in (*a, *b)]


def _groups(values: Sequence[Any], n_consts: int, n_carry: int) -> _Groups:
    carry_end = n_consts + n_carry
    return _Groups(
        list(values[:n_consts]), list(values[n_consts:carry_end]), list(values[carry_end:])
    )


class _LoopJvp(NamedTuple):
    active: _Groups
    outs: list[bool]
    body: Graph
    extra: _Groups


def _loop_jvp(body: Graph, given: Mask, n_consts: int, n_carry: int) -> _LoopJvp:
    """The body on values and tangents; operands and results in the order of their roles."""
    active, outs = carry_activity(body, given, n_consts, n_carry)
    joint = jvp_graph(body, active, outs)
    n, n_outs = len(body.inputs), len(body.outputs)
    roles = _groups(active, n_consts, n_carry)
    extra = _groups(joint.inputs[n:], sum(roles.consts), sum(roles.carry))
    inputs = _groups(joint.inputs[:n], n_consts, n_carry).beside(extra)
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
    filled = _filled(tangents, ins, active.all)
    moving = _groups(filled, sum(active.consts), sum(active.carry))
    return plan, _groups(ins, n_consts, n_carry).beside(moving)


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
    return [*carry, *ys], _spread([*dcarry, *dys], plan.outs)


def _while_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    body, cond, n_consts = params["body"], params["cond"], params["n_consts"]
    n_carry = len(body.outputs)
    plan, operands = _loop_pushforward(tangents, ins, body, n_consts, n_carry)
    test = Graph(
        _groups(cond.inputs, n_consts, n_carry).beside(
            _Groups(*([Var(v.aval) for v in role] for role in plan.extra))
        ),
        cond.eqns,
        cond.outputs,
    )
    outs = bind(
        while_, *operands, cond=test, body=plan.body, n_consts=n_consts + sum(plan.active.consts)
    )
    return outs[:n_carry], _spread(outs[n_carry:], plan.outs)


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


class _ScanVjp(NamedTuple):
    """What reverse mode makes of a scan.

    Attributes:
        active, outs: which operands and results take part.
        forward: the body that also gives the residuals that change from step to step.
        kept: where each residual comes from: ("const", i), ("x", i), ("fixed", i) or ("kept", i).
        fixed: residuals that are the same in each step, of the constants.
        rest: `(residuals, cotangents) -> cotangents` of one step.
    """

    active: _Groups
    outs: list[bool]
    forward: Graph
    kept: list[tuple[str, int]]
    fixed: Graph
    rest: Graph


def _scan_vjp(body: Graph, need: Mask, n_consts: int, n_carry: int) -> _ScanVjp:
    active, outs = carry_activity(body, need, n_consts, n_carry)
    cut = joint_vjp(body, active, outs)
    roles = _groups(cut.inputs, n_consts, n_carry)
    at = {id(v): ("const", i) for i, v in enumerate(roles.consts)}
    at |= {id(v): ("x", i) for i, v in enumerate(roles.xs)}
    same = invariant(cut.eqns, cut.inputs, [*roles.carry, *roles.xs])
    fixed: list[Var] = []
    changing: list[Var] = []
    kept = []
    for var in cut.residuals:
        place = at.get(id(var))
        if place is None:
            group, name = (fixed, "fixed") if id(var) in same else (changing, "kept")
            place = (name, len(group))
            group.append(var)
        kept.append(place)
    fixed_graph = Graph(roles.consts, live_eqns(cut.eqns, fixed), fixed)
    roles_active = _groups(active, n_consts, n_carry)
    return _ScanVjp(roles_active, outs, cut.first(changing), kept, fixed_graph, cut.rest)


def _scan_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    wrt = tuple(need)
    plan: _ScanVjp = body.derive(
        ("scan vjp", wrt, n_consts, n_carry), lambda: _scan_vjp(body, wrt, n_consts, n_carry)
    )
    outs = bind(scan, *ins, **{**params, "body": plan.forward})
    n_outs = len(plan.outs)
    operands = _groups(ins, n_consts, n_carry)
    sources = {
        "const": operands.consts,
        "x": operands.xs,
        "kept": outs[n_outs:],
        "fixed": run_graph(plan.fixed, operands.consts),
    }

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        residuals = [(kind in ("x", "kept"), sources[kind][i]) for kind, i in plan.kept]
        return _scan_backward(plan, body, params, residuals, cts)

    return outs[:n_outs], pull


def _scan_backward(
    plan: _ScanVjp, body: Graph, params: dict, residuals: Sequence[tuple[bool, Any]], cts: Any
) -> list[Any]:
    """The scan in the other direction, which carries the cotangents of carry and constants."""
    n_consts, n_carry, length = params["n_consts"], params["n_carry"], params["length"]
    sliced = [is_sliced for is_sliced, _ in residuals]
    ct_carry = _filled(cts[:n_carry], body.out_avals[:n_carry], plan.outs[:n_carry])
    ct_ys = [c for c, m in zip(cts[n_carry:], plan.outs[n_carry:], strict=True) if m]
    given = tuple(c is not None for c in ct_ys)
    step = body.derive(
        ("scan backward", plan.forward, given), lambda: _backward_step(plan, sliced, given)
    )
    roles = _groups(body.inputs, n_consts, n_carry).only(plan.active)
    consts = [r for is_sliced, r in residuals if not is_sliced]
    sums = [zeros_like(v.aval) for v in roles.consts]
    found = bind(
        scan,
        *consts,
        *sums,
        *ct_carry,
        *[c for c in ct_ys if c is not None],
        *[r for is_sliced, r in residuals if is_sliced],
        body=step,
        length=length,
        reverse=not params["reverse"],
        n_consts=len(consts),
        n_carry=len(sums) + len(ct_carry),
    )
    return _spread(found, plan.active.all)


def _backward_step(plan: _ScanVjp, sliced: Sequence[bool], given: Mask) -> Graph:
    """Body of the backward scan: `(constants; sums, carry's; ys', residuals) -> ...`."""
    avals = [v.aval.strong() for v in plan.rest.inputs]
    n_residuals, n_sums = len(plan.kept), sum(plan.active.consts)
    n_carry = sum(plan.active.carry)
    ct_avals = avals[n_residuals:]
    with Recorder("vjp", concrete=False) as rec:
        held = {i: rec.abstract_input(avals[i]) for i, s in enumerate(sliced) if not s}
        sums = [rec.abstract_input(a) for a in _sum_avals(plan, n_sums)]
        ct_carry = [rec.abstract_input(a) for a in ct_avals[:n_carry]]
        ct_ys = [
            rec.abstract_input(a) if g else zeros_like(a)
            for a, g in zip(ct_avals[n_carry:], given, strict=True)
        ]
        held |= {i: rec.abstract_input(avals[i]) for i, s in enumerate(sliced) if s}
        residuals = [held[i] for i in range(n_residuals)]
        found = run_graph(plan.rest, [*residuals, *ct_carry, *ct_ys])
        totals = [a + b for a, b in zip(sums, found[:n_sums], strict=True)]
        return rec.graph([*totals, *found[n_sums:]])


def _sum_avals(plan: _ScanVjp, n_sums: int) -> list[Aval]:
    return [a.strong() for a in plan.rest.out_avals[:n_sums]]


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
    operands = _groups(ins, n_consts, n_carry)
    have = _groups(batched, n_consts, n_carry)
    carry_flags = _groups(flags, n_consts, n_carry).carry
    carry = [
        ensure_batched(x, b, size) if f else x
        for x, b, f in zip(operands.carry, have.carry, carry_flags, strict=True)
    ]
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
    operands = [
        ensure_batched(x, b, size) if f else x for x, b, f in zip(ins, batched, flags, strict=True)
    ]
    return bind(while_, *operands, cond=test, body=over_batch, n_consts=n_consts), flags[n_consts:]


def _masked_while(
    ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> tuple[list[Any], list[bool]]:
    """Steps for all examples until the last is done; those that are done keep their values."""
    body, cond, n_consts = params["body"], params["cond"], params["n_consts"]
    flags = [*batched[:n_consts], *[True] * (len(ins) - n_consts)]
    operands = [
        ensure_batched(x, b, size) if f else x for x, b, f in zip(ins, batched, flags, strict=True)
    ]

    def test(consts: Sequence[Any], carry: Sequence[Any]) -> Any:
        (result,), (varies,) = run_batched(cond, [*consts, *carry], flags, size)
        return ensure_batched(result, varies, size)

    with Recorder("vmap", concrete=False) as rec:
        consts, running, carry = _masked_inputs(rec, operands, n_consts, size)
        again = rec.graph([np.add.reduce(running, axis=0) > 0])
    with Recorder("vmap", concrete=False) as rec:
        consts, running, carry = _masked_inputs(rec, operands, n_consts, size)
        outs, out_flags = run_batched(body, [*consts, *carry], flags, size)
        outs = [ensure_batched(o, b, size) for o, b in zip(outs, out_flags, strict=True)]
        new = [np.where(_columns(running, o), o, c) for o, c in zip(outs, carry, strict=True)]
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
    running = rec.abstract_input(Aval((size,), np.dtype(bool)))
    return consts, running, inputs(operands[n_consts:])


set_rules(scan, pushforward=_scan_pushforward, pullback=_scan_pullback, batch=_scan_batch)
set_rules(while_, pushforward=_while_pushforward, pullback=_while_pullback, batch=_while_batch)
