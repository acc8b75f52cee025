"""Reverse mode: one pass over the equations, backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from funcgrad.config import config
from funcgrad.core.aval import aval_of
from funcgrad.core.evaluate import apply_eqn, read, run_into
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.core.open_recorders import set_source
from funcgrad.core.ownership import native
from funcgrad.core.primitive import HALF, narrow, widen, with_pullback, zeros_like
from funcgrad.core.tracer import Recorder, Tape, Tracer, check_nans, deferred
from funcgrad.errors import NotDifferentiableError, at_line
from funcgrad.primitives.elementwise import cast
from funcgrad.transforms.rules import spread


class Cotangents(dict[int, Any]):
    """Cotangents by the id of their atom; those that are absent are zero.

    Sums of float16 are made in float32, see `widen`, until nothing more will be added.
    """

    wide: frozenset[int] = frozenset()

    def add(self, atom: Any, ct: Any) -> None:
        key = id(atom)
        have = self.get(key)
        if have is None:
            self[key] = ct
        elif ct.dtype == HALF:
            self.wide |= {key}
            self[key] = widen(have) + ct
        else:
            self[key] = have + ct

    def take(self, eqn: Eqn) -> Any:
        """That of an equation's result, or those of its results; None where all are zero."""
        if self.wide:
            self._round(map(id, eqn.outs))
        if not eqn.prim.multiple:
            return self.pop(id(eqn.outs[0]), None)
        # Integers get cotangents from the floats made of them; none goes on from there.
        found, nothing = [], True
        for out in eqn.outs:
            ct = self.pop(id(out), None)
            if ct is not None and out.aval.inexact:
                nothing = False
                found.append(ct)
            else:
                found.append(None)
        return None if nothing else found

    def of(self, inputs: Iterable[Any]) -> list[Any]:
        """Those of the inputs, when all equations have been passed."""
        if self.wide:
            self._round(list(self.wide))
        return [self.get(id(x)) for x in inputs]

    def _round(self, keys: Iterable[int]) -> None:
        for key in self.wide.intersection(keys):
            self.wide -= {key}
            self[key] = narrow(self[key], HALF)


def backward(
    eqns: Sequence[Eqn],
    outputs: Sequence[Any],
    cts: Iterable[Any],
    value: Callable[[Any], Any],
    active: Callable[[Any], bool],
    pulls: Mapping[int, Any],
) -> Cotangents:
    """Pull cotangents of `outputs` back through `eqns`.

    Args:
        value: gives the value of an atom.
        active: whether an atom depends on what is differentiated by.
        pulls: by the id of an equation, the pullback it made on the way forward.
    """
    pending = Cotangents()
    for atom, ct in zip(outputs, cts, strict=True):
        if ct is not None and active(atom):
            pending.add(atom, ct)
    before = set_source(None)
    try:
        for eqn in reversed(eqns):
            prim, ct = eqn.prim, pending.take(eqn)
            if ct is None or prim.vjp is None:
                continue
            need = [active(a) for a in eqn.ins]
            set_source(eqn.source)
            pull = pulls.get(id(eqn)) if prim.pullback is not None else None
            if pull is not None:
                terms = pull(ct, need)
            else:
                ans = [value(o) for o in eqn.outs]
                ins = [value(a) for a in eqn.ins]
                terms = prim.vjp(ct, ans if prim.multiple else ans[0], ins, eqn.params, need)
            if config.debug_nans:
                check_nans(f"the derivative of {prim.name}", terms, eqn.source)
            for atom, wanted, term in zip(eqn.ins, need, terms, strict=True):
                if wanted and term is not None:
                    pending.add(atom, term)
    finally:
        set_source(before)
    return pending


# Of an equation with one operand, that is a tracer.
_NEEDED = (True,)


def backward_tape(tape: Tape, outputs: Sequence[Any], cts: Iterable[Any]) -> list[Any]:
    """The cotangents of a recording's inputs, computed on the values that rode along.

    The same pass as `backward`, without looking anything up: this is what eager `grad` waits
    for.
    """
    if tape.asks or config.debug_nans:
        return _backward_pulls(tape, outputs, cts)
    pending = Cotangents()
    add, pop, pulls = pending.add, pending.pop, tape.pulls
    for tracer, ct in zip(outputs, cts, strict=True):
        if ct is not None and type(tracer) is Tracer:
            add(tracer, ct)
    wide = pending.wide
    before = set_source(None)
    try:
        for eqn in reversed(tape.eqns):
            prim, ins, outs = eqn.prim, eqn.ins, eqn.outs
            # Most have one result, for which a call would take longer than what it does.
            if wide or len(outs) != 1:
                ct, wide = pending.take(eqn), pending.wide
            else:
                ct = pop(id(outs[0]), None)
                if ct is not None and prim.multiple:
                    # Integers' cotangents end here.
                    value = outs[0].value
                    known = type(value) is np.ndarray and value.dtype.kind == "f"
                    ct = [ct] if known or outs[0].inexact else None
            if ct is None or prim.vjp is None:
                continue
            if len(ins) == 2:
                need = (type(ins[0]) is Tracer, type(ins[1]) is Tracer)
            else:
                need = [type(a) is Tracer for a in ins] if len(ins) > 1 else _NEEDED
            if prim.pullback is None:
                ans = [o.value for o in outs] if prim.multiple else outs[0].value
                terms = prim.vjp(ct, ans, eqn.values, eqn.params, need)
            else:
                pull = pulls.get(id(eqn))
                if pull is None:
                    # Its operands are integers.
                    continue
                terms = pull(ct, need)
            # To zip strictly takes longer than all of this.
            for i, term in enumerate(terms):
                if term is not None and type(ins[i]) is Tracer:
                    tracer = ins[i]
                    key = id(tracer)
                    if key in pending:
                        add(tracer, term)
                        wide = pending.wide
                    else:
                        pending[key] = term
    finally:
        set_source(before)
    return pending.of(tape.inputs)


def _backward_pulls(tape: Tape, outputs: Sequence[Any], cts: Iterable[Any]) -> list[Any]:
    """`backward_tape` where equations hold graphs.

    Their pullbacks can be costly, or not exist: they are asked only for what is needed.
    """
    active = _active((t for t in tape.inputs if t.aval.inexact), tape.eqns)
    pending = backward(
        tape.eqns,
        outputs,
        cts,
        lambda a: a.value if type(a) is Tracer else a,
        lambda a: type(a) is Tracer and id(a) in active,
        tape.pulls,
    )
    return pending.of(tape.inputs)


def _active(inputs: Iterable[Any], eqns: Iterable[Eqn]) -> set[int]:
    active = set(map(id, inputs))
    for eqn in eqns:
        if eqn.prim.vjp is not None and not active.isdisjoint(map(id, eqn.ins)):
            active.update([id(o) for o in eqn.outs if o.aval.inexact])
    return active


def active_vars(graph: Graph, wrt: Sequence[bool]) -> set[int]:
    """Ids of the variables that depend differentiably on the chosen inputs."""
    return _active((v for v, w in zip(graph.inputs, wrt, strict=True) if w), graph.eqns)


def run_forward(
    env: dict[int, Any], graph: Graph, args: Sequence[Any], active: set[int]
) -> tuple[list[Any], dict[int, Any]]:
    """Run a graph as `run_into` does, in the forward pass of reverse mode.

    Active equations that have a pullback make it on the way, so that nothing inside them is
    computed twice; they are given by the equation's id.
    """
    pulls: dict[int, Any] = {}

    def apply(eqn: Eqn, ins: Sequence[Any]) -> Any:
        if eqn.prim.pullback is not None:
            need = [type(a) is Var and id(a) in active for a in eqn.ins]
            if any(need):
                outs, pulls[id(eqn)] = with_pullback(eqn.prim, ins, eqn.params, need)
                if outs is not None:
                    return outs
        return apply_eqn(eqn, ins)

    return run_into(env, graph, args, apply), pulls


def backward_graph(
    graph: Graph,
    env: dict[int, Any],
    cts: Iterable[Any],
    active: set[int],
    pulls: Mapping[int, Any],
) -> list[Any]:
    """The cotangents of a graph's inputs, given what `run_forward` left."""
    pending = backward(
        graph.eqns,
        graph.outputs,
        cts,
        lambda a: read(env, a),
        lambda a: type(a) is Var and id(a) in active,
        pulls,
    )
    return pending.of(graph.inputs)


def pullback_of(
    rec: Recorder, outputs: Sequence[Any], args: Sequence[Any]
) -> tuple[list[Any], Any]:
    """A finished recording's results in the enclosing context, and its pullback.

    Where nothing of an enclosing recording was met, the values that rode along serve;
    otherwise the recorded graph is inlined there.
    """
    if rec.is_closed(outputs):
        results = [o.value if type(o) is Tracer else o for o in outputs]
        tape = rec.take()
        return results, lambda cts: backward_tape(tape, outputs, cts)
    graph = rec.graph(outputs)
    env: dict[int, Any] = {}
    active = active_vars(graph, [v.aval.inexact for v in graph.inputs])
    results, pulls = run_forward(env, graph, args, active)
    return results, lambda cts: backward_graph(graph, env, cts, active, pulls)


def match_cotangent(ct: Any, like: Any) -> Any:
    """A cotangent with the shape and dtype of the input it belongs to."""
    same_kind = type(ct) is np.ndarray and type(like) is np.ndarray
    if same_kind and ct.dtype is like.dtype and ct.shape == like.shape:
        return ct
    aval = aval_of(native(like))
    if ct is None:
        return zeros_like(aval)
    if aval.dtype != ct.dtype:
        ct = cast(ct, aval.dtype)
    if ct.shape != aval.shape:
        raise at_line(
            NotDifferentiableError,
            f"a derivative rule gave a cotangent of shape {ct.shape} for an input of shape "
            f"{aval.shape}",
        )
    return ct


def vjp_graph(
    graph: Graph, wrt: Sequence[bool], ct_mask: Sequence[bool], with_outputs: bool = False
) -> Graph:
    """The graph `(inputs, cotangents of the masked outputs) -> cotangents of inputs in wrt`.

    `with_outputs`: its results are `(outputs, cotangents)`.
    """
    with deferred("vjp", lasting=True) as rec:
        args = [rec.abstract_input(v.aval) for v in graph.inputs]
        given = [
            rec.abstract_input(a.aval) for a, m in zip(graph.outputs, ct_mask, strict=True) if m
        ]
        cts = spread(given, ct_mask)
        env: dict[int, Any] = {}
        active = active_vars(graph, wrt)
        results, pulls = run_forward(env, graph, args, active)
        found = backward_graph(graph, env, cts, active, pulls)
        outs = [
            match_cotangent(ct, v.aval)
            for ct, v, w in zip(found, graph.inputs, wrt, strict=True)
            if w
        ]
        return rec.graph([*results, *outs] if with_outputs else outs)
