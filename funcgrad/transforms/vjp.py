"""Reverse mode: one pass over the equations, backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.core.aval import aval_of
from funcgrad.core.evaluate import read, run_into
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import Recorder, Tracer, set_source
from funcgrad.errors import NotDifferentiableError, at_line
from funcgrad.primitives.elementwise import cast


def backward(
    eqns: Sequence[Eqn],
    outputs: Sequence[Any],
    cts: Iterable[Any],
    value: Callable[[Any], Any],
    active: Callable[[Any], bool],
) -> dict[int, Any]:
    """Pull cotangents of `outputs` back through `eqns`.

    Args:
        value: gives the value of an atom.
        active: whether an atom depends on what is differentiated by.

    Returns:
        Cotangents by the id of their atom; those that are zero are absent.
    """
    pending: dict[int, Any] = {}
    for atom, ct in zip(outputs, cts, strict=True):
        if ct is not None and active(atom):
            _accumulate(pending, id(atom), ct)
    before = set_source(None)
    try:
        for eqn in reversed(eqns):
            if eqn.prim.multiple:
                ct: Any = [pending.pop(id(o), None) for o in eqn.outs]
                if all(c is None for c in ct):
                    continue
                ans: Any = [value(o) for o in eqn.outs]
            else:
                ct = pending.pop(id(eqn.outs[0]), None)
                if ct is None:
                    continue
                ans = value(eqn.outs[0])
            prim = eqn.prim
            need = [active(a) for a in eqn.ins]
            if prim.vjp is None:
                continue
            set_source(eqn.source)
            ins = [value(a) for a in eqn.ins]
            for atom, wanted, term in zip(
                eqn.ins, need, prim.vjp(ct, ans, ins, eqn.params, need), strict=True
            ):
                if wanted and term is not None:
                    _accumulate(pending, id(atom), term)
    finally:
        set_source(before)
    return pending


def _accumulate(pending: dict[int, Any], key: int, ct: Any) -> None:
    have = pending.get(key)
    pending[key] = ct if have is None else have + ct


def backward_tape(rec: Recorder, outputs: Sequence[Any], cts: Iterable[Any]) -> list[Any]:
    """The cotangents of a recording's inputs, computed on the values that rode along."""

    def value(a: Any) -> Any:
        return a.value if type(a) is Tracer else a

    def active(a: Any) -> bool:
        return type(a) is Tracer

    pending = backward(rec.eqns, outputs, cts, value, active)
    return [pending.get(id(t)) for t in rec.inputs]


def active_vars(graph: Graph, wrt: Sequence[bool]) -> set[int]:
    """Ids of the variables that depend differentiably on the chosen inputs."""
    active = {id(v) for v, w in zip(graph.inputs, wrt, strict=True) if w}
    for eqn in graph.eqns:
        if eqn.prim.differentiable and any(id(a) in active for a in eqn.ins):
            active.update(id(o) for o in eqn.outs if o.aval.inexact)
    return active


def backward_graph(
    graph: Graph, env: dict[int, Any], cts: Iterable[Any], wrt: Sequence[bool]
) -> list[Any]:
    """The cotangents of a graph's inputs, given the values of its variables."""
    active = active_vars(graph, wrt)
    pending = backward(
        graph.eqns,
        graph.outputs,
        cts,
        lambda a: read(env, a),
        lambda a: type(a) is Var and id(a) in active,
    )
    return [pending.get(id(v)) for v in graph.inputs]


def pullback_of(rec: Recorder, outputs: Sequence[Any], args: Sequence[Any]) -> tuple[list, Any]:
    """A finished recording's results in the enclosing context, and its pullback.

    Where nothing of an enclosing recording was met, the values that rode along serve;
    otherwise the recorded graph is inlined there.
    """
    abstract = any(type(o) is Tracer and o.rec is rec and not o.has_value for o in outputs)
    if not rec.captures and not abstract:
        results = [o.value if type(o) is Tracer else o for o in outputs]
        return results, lambda cts: backward_tape(rec, outputs, cts)
    graph = rec.graph(outputs)
    env: dict[int, Any] = {}
    results = run_into(env, graph, args)
    wrt = [v.aval.inexact for v in graph.inputs]
    return results, lambda cts: backward_graph(graph, env, cts, wrt)


def match_cotangent(ct: Any, like: Any) -> Any:
    """A cotangent with the shape and dtype of the input it belongs to."""
    aval = aval_of(like)
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


def vjp_graph(graph: Graph, wrt: Sequence[bool], ct_mask: Sequence[bool]) -> Graph:
    """The graph `(inputs, cotangents of the masked outputs) -> cotangents of inputs in wrt`."""
    with Recorder("vjp", concrete=False) as rec:
        args = [rec.abstract_input(v.aval) for v in graph.inputs]
        given = [
            rec.abstract_input(a.aval) for a, m in zip(graph.outputs, ct_mask, strict=True) if m
        ]
        supply = iter(given)
        cts = [next(supply) if m else None for m in ct_mask]
        env: dict[int, Any] = {}
        run_into(env, graph, args)
        found = backward_graph(graph, env, cts, wrt)
        outs = [
            match_cotangent(ct, v.aval)
            for ct, v, w in zip(found, graph.inputs, wrt, strict=True)
            if w
        ]
        return rec.graph(outs)

