"""Updates of parameters by a matrix product, `w - rate * (a @ b)`, as one equation.

The library adds a product to a matrix while it computes it, so that the product itself need not
be written to memory, read again, and added.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.decompose import decompose
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Const, Eqn, Graph, live_eqns
from funcgrad.core.primitive import Primitive

# w + scale * (x @ y), for matrices.
ADD_PRODUCT = Primitive(
    "add_product",
    "nondifferentiable",
    lambda w, x, y, scale: w + scale * (x @ y),
    lambda w, x, y, scale: Aval(w.shape, w.dtype),
)


def planned_graph(graph: Graph, target: Target) -> Graph:
    """A prepared graph as it is partitioned: decomposed, its updates folded."""
    return fold_updates(decompose(graph, target))


def fold_updates(graph: Graph) -> Graph:
    """The graph, its results that are updated inputs made by `ADD_PRODUCT`."""
    made = {id(o): e for e in graph.eqns for o in e.outs}
    results = [made[id(a)] for a in graph.outputs if id(a) in made]
    sums = [e for e in results if e.prim.name in ("add", "sub")]
    if not sums:
        return graph
    uses = Counter(map(id, graph.atoms()))
    inputs = {id(v) for v in graph.inputs}
    found = {id(e): _update(e, made, uses, inputs) for e in sums}
    eqns = [found.get(id(e)) or e for e in graph.eqns]
    return Graph(graph.inputs, live_eqns(eqns, graph.outputs), graph.outputs)


def _update(eqn: Eqn, made: dict[int, Eqn], uses: Counter[int], inputs: set[int]) -> Eqn | None:
    out = eqn.outs[0].aval
    pairs = [(eqn.ins[0], eqn.ins[1])]
    if eqn.prim.name == "add":
        pairs.append((eqn.ins[1], eqn.ins[0]))
    for w, step in pairs:
        if id(w) not in inputs or w.aval.shape != out.shape or w.aval.dtype != out.dtype:
            continue
        found = _scaled_product(step, made, uses)
        if found is None or found[1].outs[0].aval.dtype != out.dtype:
            continue
        scale, product = found
        if product.outs[0].aval.shape != out.shape or len(out.shape) != 2:
            continue
        if any(a.aval.dtype != out.dtype or len(a.aval.shape) != 2 for a in product.ins):
            continue
        params = {"scale": -scale if eqn.prim.name == "sub" else scale}
        return Eqn(ADD_PRODUCT, (w, *product.ins), params, eqn.outs, eqn.source)
    return None


def _scaled_product(
    atom: Any, made: dict[int, Eqn], uses: Counter[int]
) -> tuple[float, Eqn] | None:
    """(scale, product) of a value that is a scaled matrix product and read nowhere else."""
    eqn = made.get(id(atom))
    if eqn is None or uses[id(atom)] != 1:
        return None
    if eqn.prim.name == "matmul":
        return (1.0, eqn) if eqn.outs[0].aval.dtype.kind == "f" else None
    if eqn.prim.name != "mul":
        return None
    for factor, rest in (eqn.ins, eqn.ins[::-1]):
        value = factor.value if type(factor) is Const else None
        product = made.get(id(rest))
        if product is None or product.prim.name != "matmul" or uses[id(rest)] != 1:
            continue
        if isinstance(value, (int, float, np.floating)) and not isinstance(value, bool):
            rounded = product.outs[0].aval.dtype.type(value)
            # A library may leave out the product for a factor of zero, and with it its NaNs.
            if rounded.dtype.kind == "f" and rounded and np.isfinite(rounded):
                return float(rounded), product
    return None
