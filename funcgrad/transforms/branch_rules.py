"""How branches and checkpoints are differentiated and batched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.core.primitive import Primitive, zeros_like
from funcgrad.core.tracer import deferred
from funcgrad.primitives.control_flow import checkpoint, stop_gradient_unless, switch, while_
from funcgrad.primitives.discrete import stop_gradient
from funcgrad.primitives.elementwise import power
from funcgrad.primitives.structural import broadcast_to
from funcgrad.records import NamedTuple
from funcgrad.transforms.batching import batch_graph, run_over_batch
from funcgrad.transforms.jvp import jvp_graph
from funcgrad.transforms.partial import Split, joint_vjp
from funcgrad.transforms.rules import (
    Mask,
    Rules,
    as_column,
    differentiable_wrt,
    filled,
    spread,
)
from funcgrad.transforms.vjp import active_vars, vjp_graph

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
    return outs[: len(mask)], spread(outs[len(mask) :], mask)


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
    with deferred("vjp", lasting=True) as rec:
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
    with deferred("vjp", lasting=True) as rec:
        known = {id(v): rec.abstract_input(v.aval) for v in cut.inputs}
        kept = [rec.abstract_input(a) for a in slots]
        given = [rec.abstract_input(a) for a in cts]
        known |= {key: kept[place] for key, place in places.items()}
        return rec.graph(run_graph(cut.rest, [known[id(v)] for v in cut.residuals] + given))


def _switch_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    branches = params["branches"]
    wrt = differentiable_wrt(need[1:], branches[0])
    plan: _SwitchVjp = branches[0].derive(
        ("switch vjp", branches, wrt), lambda: _switch_vjp(branches, wrt)
    )
    n_outs = len(plan.mask)
    outs = bind(switch, *ins, branches=plan.forward)
    avals = branches[0].out_avals

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        given = filled(cts, avals, plan.mask)
        found = bind(switch, *ins, *outs[n_outs:], *given, branches=plan.backward)
        return [None, *spread(found, wrt)]

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
        if type(mask) is np.ndarray and size and not mask.any():
            continue
        outs = _run_for_some(branch, operands, flags, size, mask)
        if chosen:
            outs = [np.where(as_column(mask, o), o, c) for o, c in zip(outs, chosen, strict=True)]
        chosen = outs
    return chosen, [True] * len(chosen)


def _run_for_some(
    branch: Graph, operands: Sequence[Any], flags: Mask, size: int, mask: Any
) -> list[Any]:
    """A branch's results for every example, without harm by those that do not take it."""
    harms = _may_do_harm(branch)
    harmless = _like_one_that_does if harms else _gated
    args = [
        harmless(x, mask, v.aval) if b else _shared(x, mask, v.aval)
        for x, b, v in zip(operands, flags, branch.inputs, strict=True)
    ]
    with np.errstate(all="ignore"):
        if not harms:
            return run_over_batch(branch, args, flags, size)
        run, _ = batch_graph(branch, flags, size, [True] * len(branch.outputs))
        zeros = [Const(zeros_like(a)) for a in run.out_avals]
        skip = Graph([Var(v.aval) for v in run.inputs], [], zeros)
        return bind(switch, np.any(mask), *args, branches=(skip, run))


def _gated(x: Any, mask: Any, aval: Aval) -> Any:
    """An operand of which no derivative reaches other examples; their indices are 0."""
    mask = as_column(mask, x)
    return (
        bind(stop_gradient_unless, x, mask) if aval.inexact else np.where(mask, x, zeros_like(aval))
    )


def _shared(x: Any, mask: Any, aval: Aval) -> Any:
    """The same for an operand that is not batched, where no example takes the branch."""
    some = np.any(mask)
    return (
        bind(stop_gradient_unless, x, some) if aval.inexact else np.where(some, x, zeros_like(aval))
    )


def _like_one_that_does(x: Any, mask: Any, aval: Aval) -> Any:
    """An operand with which other examples do what one does that takes the branch."""
    like = bind(stop_gradient, x[np.argmax(mask)])
    return np.where(as_column(mask, x), x, like)


def _may_do_harm(graph: Graph) -> bool:
    """Whether it may not end, or may raise, for operands of an example that does not take it."""
    return any(map(_does_harm, graph.eqns)) or any(map(_may_do_harm, graph.subgraphs()))


def _does_harm(eqn: Eqn) -> bool:
    if eqn.prim is power:
        return not eqn.outs[0].aval.inexact
    return eqn.prim is while_ or eqn.prim.gathers or eqn.prim.scatters is not None


# --- checkpoint -----------------------------------------------------------------------


def _checkpoint_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    graph = params["graph"]
    wrt = tuple(t is not None for t in tangents)
    mask = _active_in_any([graph], wrt)
    joint = graph.derive(("jvp", wrt, mask), lambda: jvp_graph(graph, wrt, mask))
    outs = bind(checkpoint, *ins, *[t for t in tangents if t is not None], graph=joint)
    return outs[: len(mask)], spread(outs[len(mask) :], mask)


def _checkpoint_vjp(cts: Any, ans: Any, ins: Any, params: dict, need: Any) -> list[Any]:
    graph = params["graph"]
    wrt, mask = differentiable_wrt(need, graph), tuple(c is not None for c in cts)
    # In an equation of its own, what it computes again is not shared with the forward pass.
    derived = graph.derive(("vjp", wrt, mask), lambda: vjp_graph(graph, wrt, mask))
    found = bind(checkpoint, *ins, *[c for c in cts if c is not None], graph=derived)
    return spread(found, wrt)


def _checkpoint_batch(
    prim: Primitive, ins: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    graph, flags = params["graph"], tuple(batched)
    derived, out_flags = graph.derive(
        ("batch", flags, size), lambda: batch_graph(graph, flags, size)
    )
    return bind(checkpoint, *ins, graph=derived), out_flags


RULES = {
    switch: Rules(_switch_batch, pushforward=_switch_pushforward, pullback=_switch_pullback),
    checkpoint: Rules(_checkpoint_batch, pushforward=_checkpoint_pushforward, vjp=_checkpoint_vjp),
}
