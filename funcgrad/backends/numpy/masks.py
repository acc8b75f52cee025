"""Graph to graph: large arrays that are zero where a mask is not are chosen by their bits.

`np.where` is slow on random masks; two more passes over the mask are cheap beside that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.graph import Const, Eqn, Graph, Var, is_zero, with_graphs
from funcgrad.core.primitive import Primitive
from funcgrad.primitives.discrete import invert
from funcgrad.primitives.elementwise import masked, where

# From this size on an array is worth it.
MASK_BYTES = 8192

# It stands in graphs that nothing but this backend sees, and so needs no rules.
masked_p = Primitive(
    "masked", "elementwise", masked, lambda x, mask: x.update(weak=False), takes_out=True
)


def mask_by_bits(graph: Graph) -> Graph:
    """The graph, and those in its equations, with such an `np.where` replaced."""
    eqns: list[Eqn] = []
    for eqn in graph.eqns:
        params = with_graphs(eqn.params, mask_by_bits)
        if eqn.prim is where:
            eqns.append(_by_bits(eqn, eqns) or eqn)
        elif params is eqn.params:
            eqns.append(eqn)
        else:
            eqns.append(Eqn(eqn.prim, eqn.ins, params, eqn.outs, eqn.source))
    return Graph(graph.inputs, eqns, graph.outputs)


def _by_bits(eqn: Eqn, eqns: list[Eqn]) -> Eqn | None:
    condition, x, y = eqn.ins
    if _is_positive_zero(y) and _is_worth_it(condition, x):
        return Eqn(masked_p, (x, condition), {}, eqn.outs, eqn.source)
    if _is_positive_zero(x) and _is_worth_it(condition, y):
        inverse = Var(condition.aval)
        eqns.append(Eqn(invert, (condition,), {}, (inverse,), eqn.source))
        return Eqn(masked_p, (y, inverse), {}, eqn.outs, eqn.source)
    return None


def _is_positive_zero(atom: Any) -> bool:
    if type(atom) is not Const or not atom.is_literal or not is_zero(atom):
        return False
    # An integer zero, or Python's, takes the other operand's dtype.
    return type(atom.value) is int or (atom.aval.dtype.kind == "f" and not np.signbit(atom.value))


def _is_worth_it(condition: Any, x: Any) -> bool:
    aval = x.aval
    same_shape = condition.aval.shape == aval.shape
    return same_shape and aval.dtype.kind == "f" and not aval.weak and aval.nbytes >= MASK_BYTES
