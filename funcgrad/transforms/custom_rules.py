"""How calls of functions with derivative rules of their own are transformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.graph import Graph
from funcgrad.core.primitive import Primitive, total, zeros_like
from funcgrad.core.tracer import Recorder, Tape, Tracer, deferred
from funcgrad.errors import (
    NotDifferentiableError,
    TreeMismatchError,
    at_line,
)
from funcgrad.primitives import control_flow as prims
from funcgrad.records import Record
from funcgrad.transforms.batching import batch_graph, ensure_batched, run_batched, run_over_batch
from funcgrad.transforms.custom_calls import (
    LEAF,
    NUMBERS,
    Call,
    any_tracer,
    check_no_tracers,
    flat_result,
    is_like,
    leaf_place,
    read_only,
    recorded_by,
)
from funcgrad.transforms.linearity import Obstacle, first_nonlinear, same_values
from funcgrad.transforms.rules import Rules, spread
from funcgrad.transforms.vjp import backward_tape, pullback_of

_ZEROS: dict[type, Any] = {float: np.float64(0), **{t: t(0) for t in (np.float64, np.float32)}}

# --- custom_jvp -----------------------------------------------------------------------


class _JvpRule:
    n_closed: int
    jvp: Any

    def derivative(self, operands: Sequence[Any], wrt: Sequence[bool], like: Any) -> list[Any]:
        """Tangents of the results, by operands `wrt` whose tangents `like(operand)` gives."""
        pairs = list(zip(operands, wrt, strict=True))[self.n_closed :]
        return self.jvp(operands, [like(x) if w else zeros_like(x) for x, w in pairs])[1]


class JvpCall(Call, _JvpRule):
    def jvp(self, operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results and their tangents, by the user's rule; tangents have no holes."""
        rule = self.custom._jvp
        if self.flat and not self.n_closed:
            args = (tuple(read_only(operands)), tuple(read_only(tangents)))
        else:
            args = (*self.fixed(operands), self.free(operands), self._tuple(tangents))
        pair = self.run(operands, rule, args) if self.captured or self.held else rule(*args)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise self.rule_error(
                "jvp", f"must return (result, tangent), not {tree.structure(pair)}"
            )
        outs, out_tree = flat_result(pair[0], self.custom)
        dots, dot_tree = flat_result(pair[1], self.custom)
        if self.out_tree is None:
            self.out_tree = out_tree
        else:
            self.check_results("jvp", outs, out_tree)
        if dot_tree is not out_tree and dot_tree != out_tree:
            raise self.rule_error(
                "jvp",
                "must return a tangent of the result's structure\n"
                f"  {out_tree} (result)\n  {dot_tree} (tangent)",
            )
        return outs, [
            t if is_like(t, o) else self._tangent(i, o, t)
            for i, (o, t) in enumerate(zip(outs, dots, strict=True))
        ]

    def _tangent(self, i: int, out: Any, tangent: Any) -> Any:
        def place() -> str:
            return leaf_place(self.out_tree, i)

        return self.match(tangent, aval_of(out), "jvp", "tangent", place)

    def recorded(self, rec: Recorder, operands: Sequence[Any], values: Sequence[Any]) -> Any:
        need = [type(a) is Tracer and a.rec is rec for a in operands]
        outs, pull = _transposed_jvp(self, values, need)
        return self.keep_results(rec, outs, values), pull


class _BatchedRule:
    """A call's rules over a batch; `flags` tells which operands are batched."""

    def __init__(self, rule: Any, avals: Sequence[Aval], flags: Sequence[bool], size: int):
        self.rule, self.avals, self.flags, self.size = rule, avals, flags, size
        self.n_closed = rule.n_closed
        self.check_closed = rule.check_closed

    def __repr__(self) -> str:
        return repr(self.rule)


class _BatchedJvp(_BatchedRule, _JvpRule):
    def jvp(self, operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        with deferred("vmap") as rec:
            ins = [rec.abstract_input(a) for a in self.avals]
            dots = [rec.abstract_input(a) for a in self.avals[self.n_closed :]]
            outs, out_dots = self.rule.jvp(ins, dots)
            given = [t is not None for t in out_dots]
            graph = rec.graph([*outs, *(t for t in out_dots if t is not None)])
        flags = [*self.flags, *self.flags[self.n_closed :]]
        found = run_over_batch(graph, [*operands, *tangents], flags, self.size)
        return found[: len(outs)], spread(found[len(outs) :], given)


def _without_batch(ins: Sequence[Any], flags: Sequence[bool]) -> list[Aval]:
    avals = map(aval_of, ins)
    return [a.update(shape=a.shape[1:]) if b else a for a, b in zip(avals, flags, strict=True)]


def _jvp_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    rule = params["rule"]
    rule.check_closed([t is not None for t in tangents])
    pairs = zip(tangents[rule.n_closed :], ins[rule.n_closed :], strict=True)
    outs, dots = rule.jvp(ins, [zeros_like(x) if t is None else t for t, x in pairs])
    check_no_tracers(outs, ins)
    return outs, dots


def _jvp_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    return _transposed_jvp(params["rule"], ins, need)


def _transposed_jvp(rule: Any, ins: Sequence[Any], need: Sequence[bool]) -> Any:
    """The user's rule, recorded as a function of the tangents, and transposed."""
    n_closed = rule.n_closed
    # What it captures is read by the pullback, whenever that is.
    with Recorder("custom_jvp", concrete=True, reverse=True, lasting=True) as rec:
        tangents, wanted, start = [], [], []
        for x, n in zip(ins[n_closed:], need[n_closed:], strict=True):
            zero = _ZEROS.get(type(x))
            if zero is None:
                zero = zeros_like(x)
            w = n and zero.dtype.kind in "fc"
            tangents.append(rec.own_input(zero) if w else zero)
            wanted.append(w)
            if w:
                start.append(zero)
        outs, dots = rule.jvp(ins, tangents)
    if not n_closed and rec.is_closed(dots) and not any_tracer(outs):
        return outs, partial(_pull_tangents, rec.take(), dots, wanted)
    both = [*outs, *dots]
    recorded = recorded_by(rec, both)
    results, pull_recorded = pullback_of(rec, [both[i] for i in recorded], start)
    for i, value in zip(recorded, results, strict=True):
        both[i] = value
    n_outs = len(outs)
    check_no_tracers(both[:n_outs], ins)

    def pull(cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        if n_closed:
            rule.check_closed(need)
        found = iter(pull_recorded([cts[i - n_outs] if i >= n_outs else None for i in recorded]))
        return [*[None] * n_closed, *[next(found) if w else None for w in wanted]]

    return both[:n_outs], pull


def _pull_tangents(
    tape: Tape,
    dots: Sequence[Any],
    wanted: Sequence[bool],
    cts: Sequence[Any],
    need: Sequence[bool],
) -> list[Any]:
    found = backward_tape(tape, dots, cts)
    return found if all(wanted) else spread(found, wanted)


def _batched(batched_rule: Any) -> Callable[..., Any]:
    def batch(
        prim: Primitive, ins: Sequence[Any], flags: Sequence[bool], size: int, params: dict
    ) -> Any:
        rule = params["rule"]
        graph = params["graph"] or rule.graph(_without_batch(ins, flags))
        force = [True] * len(graph.outputs)
        derived, out_flags = batch_graph(graph, flags, size, force)
        rule = batched_rule(rule, graph.in_avals, list(flags), size)
        return bind(prim, *ins, graph=derived, rule=rule), out_flags

    return batch


# --- custom_vjp -----------------------------------------------------------------------


class _VjpRule:
    forward: Any
    backward: Any

    def derivative(self, operands: Sequence[Any], wrt: Sequence[bool], like: Any) -> list[Any]:
        """Cotangents of operands `wrt`, for cotangents of the results that `like(result)` gives."""
        outs, residuals = self.forward(operands)
        found = self.backward(operands, residuals, [like(o) for o in outs])
        return [c for c, w in zip(found, wrt, strict=True) if w]


class VjpCall(Call, _VjpRule):
    # Values that the forward rule has been run on, and what it gave.
    known: tuple[Sequence[Any], list[Any], Any] = ((), [], None)

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], Any]:
        """Results, and whatever the user's forward rule keeps."""
        values, outs, residuals = self.known
        if values is operands and outs:
            return outs, residuals
        rule = self.custom._fwd
        args = read_only(operands) if self.flat and not self.n_closed else self.arguments(operands)
        pair = self.run(operands, rule, args) if self.captured or self.held else rule(*args)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise self.rule_error(
                "fwd", f"must return (result, residuals), not {tree.structure(pair)}"
            )
        outs, out_tree = flat_result(pair[0], self.custom)
        if self.out_tree is None:
            self.out_tree = out_tree
        else:
            self.check_results("fwd", outs, out_tree)
        return outs, pair[1]

    def backward(self, operands: Sequence[Any], residuals: Any, cts: Sequence[Any]) -> list[Any]:
        """A cotangent for each operand, None where it is zero; `cts` has no holes."""
        cts = read_only(cts)
        ct = cts[0] if self.out_tree is LEAF else self.out_tree.unflatten(cts)
        rule, args = self.custom._bwd, (residuals, ct)
        if self.fixed_at:
            args = (*self.fixed(operands), *args)
        found = self.run(operands, rule, args) if self.captured or self.held else rule(*args)
        n = self.n_closed
        if self.flat and type(found) is tuple and len(found) == len(operands) - n:
            leaves = list(found)
        else:
            leaves = self._argument_leaves(found)
        for i, ct in enumerate(leaves):
            if ct is not None and not is_like(ct, operands[n + i]):
                leaves[i] = self._cotangent(i, ct, operands[n + i])
        return [*[None] * n, *leaves] if n else leaves

    def recorded(self, rec: Recorder, operands: Sequence[Any], values: Sequence[Any]) -> Any:
        return self.recorded_forward(rec, values), self._pull_known

    def recorded_forward(self, rec: Recorder, values: Sequence[Any]) -> list[Any]:
        outs, residuals = self.forward(values)
        if len(outs) != 1 or type(outs[0]) not in NUMBERS:
            outs = self.keep_results(rec, outs, values)
        if residuals is not None and type(residuals) not in NUMBERS:
            residuals = self.keep(rec, residuals, values)
        self.known = (values, outs, residuals)
        return outs

    def _pull_known(self, cts: Sequence[Any], need: Sequence[bool]) -> list[Any]:
        values, outs, residuals = self.known
        return _pull(self, values, outs, residuals, cts, need)

    def _argument_leaves(self, found: Any) -> list[Any]:
        """The leaves of what bwd returned, None for all of an argument that got None."""
        n = len(self.free_at)
        if not isinstance(found, (tuple, list)) or len(found) != n:
            raise self.rule_error(
                "bwd",
                f"must return a tuple with a cotangent for each of the {n} arguments that are "
                f"differentiated, not {tree.structure(found)}; for one argument return (ct,)",
            )
        leaves: list[Any] = []
        args = self.in_tree.unflatten(range(self.in_tree.num_leaves))
        for number, (ct, arg) in enumerate(zip(found, args, strict=True)):
            places, treedef = tree.flatten(arg)
            if ct is None:
                leaves += [None] * len(places)
                continue
            try:
                leaves += treedef.flatten_up_to(ct)
            except TreeMismatchError as error:
                raise self.rule_error(
                    "bwd",
                    f"gave a cotangent for argument {self.free_at[number]} that does not have the "
                    f"argument's structure: {error}",
                ) from None
        return leaves

    def _cotangent(self, i: int, ct: Any, x: Any) -> Any:
        def place() -> str:
            return f" for the argument{leaf_place(self.in_tree, i)}"

        return self.match(ct, aval_of(x), "bwd", "cotangent", place)


class _Layout(Record):
    """Where the values that a batched forward rule keeps stand in the user's residuals."""

    leaves: list[Any]
    places: list[int]
    flags: list[bool]
    treedef: Any
    graph: Graph


class _BatchedResiduals(Record):
    """A pytree, so that batches may nest: only the values are its leaves."""

    values: list[Any]
    layout: _Layout


tree.register_dataclass(_BatchedResiduals, ["values"], ["layout"])


class _BatchedVjp(_BatchedRule, _VjpRule):
    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], Any]:
        with deferred("vmap") as rec:
            outs, residuals = self.rule.forward([rec.abstract_input(a) for a in self.avals])
            leaves, treedef = tree.flatten(residuals)
            places = recorded_by(rec, leaves)
            graph = rec.graph([*outs, *(leaves[i] for i in places)])
        results, flags = run_batched(graph, operands, self.flags, self.size)
        n = len(outs)
        batched = ensure_batched(results[:n], flags[:n], self.size)
        layout = _Layout(leaves, places, flags[n:], treedef, graph)
        return batched, _BatchedResiduals(results[n:], layout)

    def backward(
        self, operands: Sequence[Any], residuals: _BatchedResiduals, cts: Sequence[Any]
    ) -> list[Any]:
        layout = residuals.layout
        avals = layout.graph.out_avals
        with deferred("vmap") as rec:
            ins = [rec.abstract_input(a) for a in self.avals]
            kept = list(layout.leaves)
            for i, aval in zip(layout.places, avals[len(cts) :], strict=True):
                kept[i] = rec.abstract_input(aval)
            given = [rec.abstract_input(a.strong()) for a in avals[: len(cts)]]
            found = self.rule.backward(ins, layout.treedef.unflatten(kept), given)
            graph = rec.graph([c for c in found if c is not None])
        all_flags = [*self.flags, *layout.flags, *[True] * len(cts)]
        everything = [*operands, *residuals.values, *cts]
        results = iter(run_over_batch(graph, everything, all_flags, self.size))
        return [
            None if c is None else next(results) if b else total(next(results), (0,))
            for c, b in zip(found, self.flags, strict=True)
        ]


def _vjp_pushforward(tangents: Sequence[Any], ins: Sequence[Any], params: dict) -> Any:
    """The user's backward rule, recorded as the linear map it is, and transposed."""
    rule = params["rule"]
    rule.check_closed([t is not None for t in tangents])
    outs, residuals = rule.forward(ins)
    check_no_tracers(outs, ins)
    wanted = [aval_of(o).inexact for o in outs]
    zeros = [zeros_like(aval_of(o)) for o in outs]
    obstacle, recorded, pull = _transposed(rule, ins, residuals, zeros, wanted)
    dots = pull([tangents[i] for i in recorded])
    if obstacle is not None and obstacle.hidden:
        # What cannot be traced is compared at another place, if there are values to compare.
        shifted = [z + 1 if w else z for z, w in zip(zeros, wanted, strict=True)]
        _, _, pull_there = _transposed(rule, ins, residuals, shifted, wanted)
        if same_values(dots, pull_there([tangents[i] for i in recorded])):
            obstacle = None
    if obstacle is not None:
        raise at_line(
            NotDifferentiableError,
            f"forward mode (jvp, jacfwd) transposes the backward rule of {rule}, which must be "
            f"linear in the cotangent; {obstacle.what} keeps it from being so. Give the function "
            "a custom_jvp rule, or use reverse mode",
        )
    return outs, spread(dots, wanted)


def _transposed(
    rule: Any, ins: Sequence[Any], residuals: Any, cts: Sequence[Any], wanted: Sequence[bool]
) -> tuple[Obstacle | None, list[int], Callable[[Sequence[Any]], list[Any]]]:
    """The backward rule's derivative at these cotangents, transposed.

    With what keeps the rule from being linear, and the operands that the transpose starts from.
    """
    start = [c for c, w in zip(cts, wanted, strict=True) if w]
    with Recorder("custom_vjp", concrete=True, reverse=True) as rec:
        given = [rec.input(c) if w else c for c, w in zip(cts, wanted, strict=True)]
        found = rule.backward(ins, residuals, given)
    recorded = recorded_by(rec, found)
    results = [found[i] for i in recorded]
    obstacle = first_nonlinear(rec.eqns, rec.inputs, results)
    if obstacle is None and rec.asked:
        # It may have gone another way for other values.
        obstacle = Obstacle("a choice by its value", hidden=True)
    return obstacle, recorded, pullback_of(rec, results, start)[1]


def _vjp_pullback(ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
    rule = params["rule"]
    outs, residuals = rule.forward(ins)
    check_no_tracers(outs, ins)
    return outs, partial(_pull, rule, ins, outs, residuals)


def _pull(
    rule: Any,
    ins: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    cts: Sequence[Any],
    need: Sequence[bool],
) -> list[Any]:
    if rule.n_closed:
        rule.check_closed(need)
    # A single result has a cotangent, or nobody asks.
    if len(outs) > 1:
        cts = [zeros_like(o) if c is None else c for c, o in zip(cts, outs, strict=True)]
    return rule.backward(ins, residuals, cts)


RULES = {
    prims.custom_jvp: Rules(
        _batched(_BatchedJvp), pushforward=_jvp_pushforward, pullback=_jvp_pullback
    ),
    prims.custom_vjp: Rules(
        _batched(_BatchedVjp), pushforward=_vjp_pushforward, pullback=_vjp_pullback
    ),
}
