"""What the text of a group of equations in registers follows from, to find those that are alike."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from funcgrad.backends.loops.planning.plan import Registers
from funcgrad.core.graph import Const


def form_of(step: Registers) -> Hashable:
    """The same for steps that compute the same of values that lie alike; None if unknown."""
    numbers: dict[int, int] = {}
    buffers: dict[int, int] = {}

    def number(known: dict[int, int], x: Any) -> int:
        return known.setdefault(id(x), len(known))

    def atom(a: Any) -> Hashable:
        if type(a) is Const:
            value = np.asarray(a.value, a.aval.dtype)
            return value.dtype, value.shape, value.tobytes()
        return number(numbers, a)

    operands = [
        (number(numbers, var), var.aval, number(buffers, view.buffer), view[1:])
        for var, view in step.operands
    ]
    eqns = [
        (
            e.prim,
            tuple([atom(a) for a in e.ins]),
            # Numbers that are equal may differ: 0.0 and -0.0, 1 and True.
            tuple([(k, type(v), repr(v) if type(v) is float else v) for k, v in e.params.items()]),
            tuple([(number(numbers, o), o.aval) for o in e.outs]),
        )
        for e in step.eqns
    ]
    results = [(number(numbers, var), number(buffers, buffer)) for var, buffer in step.results]
    form = (*operands, None, *eqns, None, *results)
    try:
        hash(form)
    except TypeError:
        return None
    return form
