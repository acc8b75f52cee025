"""Values that are cheaper to compute again than to write to memory and read back."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.backends.loops.partition import SMALL, VIEWS, Cluster, Partition
from funcgrad.core.graph import Eqn, Var

# So many cheap operations on so many arrays take no longer than reading one more array.
MOST_OPERATIONS = 4
MOST_ARRAYS = 2
CHEAP = frozenset(
    "add sub mul neg square abs where masked maximum minimum equal not_equal less less_equal "
    "greater greater_equal logical_and logical_or logical_not convert invert share gate sign "
    "isfinite isnan isinf copysign floor ceil rint trunc".split()
)


def recomputed(partition: Partition, read_outside: set[int]) -> dict[int, list[Eqn]]:
    """The equations that each reader of a value computes it by, by the value's id.

    Such a value is read by loops alone, and follows by a few operations from arrays that are in
    memory anyway.
    """
    kept = {id(partition.root(a)) for a in partition.graph.outputs}
    for eqn in partition.graph.eqns:
        home = partition.home.get(id(eqn.outs[0])) if eqn.outs else None
        if eqn.prim.name in VIEWS and not _keeps_axes(eqn):
            kept.add(id(partition.root(eqn.ins[0])))
        if eqn.prim.name in VIEWS or (home is not None and home.kind == "loops"):
            continue
        kept.update(id(partition.root(a)) for a in eqn.ins)
    found: dict[int, list[Eqn]] = {}
    for eqn in partition.graph.eqns:
        home = partition.home.get(id(eqn.outs[0])) if eqn.outs else None
        if home is None or home.kind != "loops":
            continue
        for var in eqn.outs:
            if id(var) in read_outside and id(var) not in kept and var.aval.size > SMALL:
                steps = _steps(partition, eqn, read_outside, found)
                if steps is not None:
                    found[id(var)] = steps
    return found


def _keeps_axes(eqn: Eqn) -> bool:
    """Whether a view's elements can be asked for by the places of its operand's axes."""
    if eqn.prim.name == "reshape":
        before, after = eqn.ins[0].aval.shape, eqn.outs[0].aval.shape
        return [n for n in before if n != 1] == [n for n in after if n != 1]
    return eqn.prim.name in ("transpose", "broadcast_to", "stop_gradient")


def _steps(
    partition: Partition, last: Eqn, read_outside: set[int], found: dict[int, list[Eqn]]
) -> list[Eqn] | None:
    """The equations from arrays in memory to this one's result; None if they are too many."""
    steps: dict[int, Eqn] = {}
    arrays: set[int] = set()
    waiting = [last]
    while waiting:
        eqn = waiting.pop()
        if id(eqn) in steps:
            continue
        if eqn.prim.name not in CHEAP and eqn.prim.name not in VIEWS:
            return None
        steps[id(eqn)] = eqn
        home = partition.home.get(id(eqn.outs[0]))
        for atom in eqn.ins:
            made = partition.made_by.get(id(atom))
            if type(atom) is not Var:
                if isinstance(atom.value, np.ndarray):
                    arrays.add(id(atom.value))
            elif made is not None and _goes_on(partition, home, made, atom, read_outside, found):
                waiting.append(made)
            else:
                arrays.add(id(partition.root(atom)))
    operations = sum(e.prim.name not in VIEWS for e in steps.values())
    if operations > MOST_OPERATIONS or len(arrays) > MOST_ARRAYS:
        return None
    return list(steps.values())


def _goes_on(
    partition: Partition,
    home: Cluster | None,
    made: Eqn,
    atom: Any,
    read_outside: set[int],
    found: dict[int, list[Eqn]],
) -> bool:
    """Whether an operand is itself nowhere in memory, or computed in the same cluster."""
    if id(partition.root(atom)) in found:
        return True
    if partition.home.get(id(atom)) is not home:
        return False
    if made.prim.name in VIEWS:
        return home is not None and id(atom) in home.labels
    return id(atom) not in read_outside
