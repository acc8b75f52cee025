"""Composite primitives as graphs of simpler ones, so that kernels can take them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.backends.numpy.prepare import inline
from funcgrad.core.graph import Eqn, Graph, live_eqns
from funcgrad.core.tracer import Recorder


def _logsumexp(x: Any, axes: Any, keepdims: bool) -> Any:
    top = np.maximum.reduce(x, axes, keepdims=True)
    # Nothing to shift by where all are -inf or one is inf: inf - inf would be NaN.
    shift = np.where(np.isfinite(top), top, 0)
    total = np.add.reduce(np.exp(x - shift), axes, keepdims=True)
    out = np.log(total) + shift
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    return out if keepdims else out.reshape(kept)


DECOMPOSE: dict[str, Callable[..., Any]] = {"logsumexp": _logsumexp}


def decompose(graph: Graph) -> Graph:
    """The graph with composite equations replaced."""
    if not any(e.prim.name in DECOMPOSE for e in graph.eqns):
        return graph
    eqns: list[Eqn] = []
    atoms: dict[int, Any] = {}
    for eqn in graph.eqns:
        ins = tuple([atoms.get(id(a), a) for a in eqn.ins])
        rule = DECOMPOSE.get(eqn.prim.name)
        if rule is None or not all(a.aval.size for a in ins):
            eqns.append(Eqn(eqn.prim, ins, eqn.params, eqn.outs, eqn.source))
            continue
        results = inline(_parts(rule, eqn), ins, eqns)
        atoms.update(zip(map(id, eqn.outs), results, strict=True))
    outputs = [atoms.get(id(a), a) for a in graph.outputs]
    return Graph(graph.inputs, live_eqns(eqns, outputs), outputs)


def _parts(rule: Callable[..., Any], eqn: Eqn) -> Graph:
    with Recorder("decompose", concrete=False) as rec:
        inputs = [rec.abstract_input(a.aval) for a in eqn.ins]
        return rec.graph([rule(*inputs, **eqn.params)])
