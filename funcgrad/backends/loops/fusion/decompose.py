"""Composite primitives as simpler ones, so that kernels can take them apart."""

from __future__ import annotations

from typing import Any

from funcgrad.backends.common.prepare import inline
from funcgrad.backends.loops.fusion.convolutions import lowered
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.core.graph import Eqn, Graph, live_eqns
from funcgrad.core.tracer import deferred


def decompose(graph: Graph, target: Target) -> Graph:
    """The graph with equations replaced by their expansions where a backend needs that."""
    eqns: list[Eqn] = []
    atoms: dict[int, Any] = {}
    known: dict[Any, Graph | None] = {}
    for eqn in graph.eqns:
        if atoms:
            ins = tuple([atoms.get(id(a), a) for a in eqn.ins])
            eqn = Eqn(eqn.prim, ins, eqn.params, eqn.outs, eqn.source)
        parts = _known_parts(eqn, target, known)
        if parts is None:
            eqns.append(eqn)
        else:
            results = inline(parts, eqn.ins, eqns)
            atoms.update(zip(map(id, eqn.outs), results, strict=True))
    if not atoms:
        return graph
    outputs = [atoms.get(id(a), a) for a in graph.outputs]
    return Graph(graph.inputs, live_eqns(eqns, outputs), outputs)


def _known_parts(eqn: Eqn, target: Target, known: dict[Any, Graph | None]) -> Graph | None:
    """An equation's expansion, if the backend can write all of that but not the equation."""
    products = lowered(eqn, target)
    if products is not None:
        return decompose(products, target)
    if eqn.prim.expansion is None or _is_written(eqn, target):
        return None
    if eqn.params:
        return _parts(eqn, target)
    key = (eqn.prim, *[a.aval for a in eqn.ins])
    if key not in known:
        known[key] = _parts(eqn, target)
    return known[key]


def _parts(eqn: Eqn, target: Target) -> Graph | None:
    expansion, atoms = eqn.prim.expansion, (*eqn.ins, *eqn.outs)
    assert expansion is not None
    if not all(a.aval.size and a.aval.dtype in target.dtypes for a in atoms):
        return None
    try:
        with deferred("decompose") as rec:
            inputs = [rec.abstract_input(a.aval) for a in eqn.ins]
            result = expansion(*inputs, **eqn.params)
            if result is None:
                return None
            found = rec.graph([result])
    except Exception:
        # An implementation that looks at values, or calls what is no function of NumPy's.
        return None
    results = zip(found.out_avals, eqn.outs, strict=True)
    if any((a.shape, a.dtype) != (o.aval.shape, o.aval.dtype) for a, o in results):
        return None
    if any(e.prim is eqn.prim for e in found.eqns):
        return None
    found = decompose(found, target)
    return found if all(_is_written(e, target) for e in found.eqns) else None


def _is_written(eqn: Eqn, target: Target) -> bool:
    if eqn.prim.view or eqn.prim.assembles or target.can_loop(eqn):
        return True
    few = all(a.aval.size <= target.limits.small for a in (*eqn.ins, *eqn.outs))
    return few and target.can_be_small(eqn)
