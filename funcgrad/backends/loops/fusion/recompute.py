"""Values that are computed where they are read rather than written to memory and read back.

Those of a few operations are computed again by each reader. Others go to their only reader, which
reads them by a view: a part of an array that is put together, say, goes right into its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.partition import MOST_EQNS, UNROLLED, Cluster, Partition
from funcgrad.backends.loops.fusion.scatter import accumulates
from funcgrad.backends.loops.nests.views import map_of
from funcgrad.core.graph import Eqn, Var
from funcgrad.core.primitive import Primitive

# What is made of values that have so many times fewer elements is made again.
_LEAST_SPREAD = 3

# The readers of a value, and the views by which they read it.
Uses = dict[int, list[tuple[Eqn, Any]]]


def recomputed(partition: Partition, read_outside: set[int]) -> dict[int, list[Eqn]]:
    """The equations that each reader of a value computes it by, by the value's id.

    Such a value is read by loops alone. It follows by a few operations from arrays that are in
    memory anyway, or from small ones, which then count as `read_outside`; or has one reader.
    """
    kept = {id(partition.root(a)) for a in partition.graph.outputs}
    uses: Uses = {}
    for eqn in partition.graph.eqns:
        owner = partition.cluster_of.get(id(eqn.outs[0])) if eqn.outs else None
        if eqn.prim.view:
            if not _keeps_axes(eqn):
                kept.add(id(partition.root(eqn.ins[0])))
            continue
        for atom in eqn.ins:
            uses.setdefault(id(partition.root(atom)), []).append((eqn, atom))
        if (owner is None or owner.form != "loops") and not accumulates(eqn, partition.target):
            kept.update(id(partition.root(a)) for a in eqn.ins)
    found: dict[int, list[Eqn]] = {}
    small = partition.limits.small
    for eqn in partition.graph.eqns:
        owner = partition.cluster_of.get(id(eqn.outs[0])) if eqn.outs else None
        if owner is None or owner.form != "loops":
            continue
        for var in eqn.outs:
            if id(var) in read_outside and id(var) not in kept and var.aval.size > small:
                steps = _steps(partition, eqn, uses, read_outside, found)
                if steps is None:
                    steps = _moved(partition, eqn, uses, read_outside, found)
                if steps is None:
                    steps = _spread(partition, eqn, read_outside, found)
                if steps is not None:
                    found[id(var)] = steps
    return found


def _keeps_axes(eqn: Eqn) -> bool:
    """Whether each axis of a view's operand has places that follow from those of one axis."""
    before, after = eqn.ins[0].aval.shape, map_of(eqn).source
    return [n for n in before if n != 1] == [n for n in after if n != 1]


def _steps(
    partition: Partition,
    last: Eqn,
    uses: Uses,
    read_outside: set[int],
    found: dict[int, list[Eqn]],
) -> list[Eqn] | None:
    """The equations from arrays in memory to this one's result; None if they are too many."""
    steps, arrays = _closure(partition, last, read_outside, found)
    work = [e.prim for e in steps if not (e.prim.view or e.prim.assembles)]
    limits = partition.limits
    if not all(prim.cheap for prim in work) or len(arrays) > limits.again_arrays:
        return None
    most = max((_overlap(partition, a) for _, a in uses.get(id(last.outs[0]), ())), default=1)
    if most > 1 and len(work) * most > limits.again_work:
        return None
    if len(work) > limits.again_operations:
        owner = partition.cluster_of[id(last.outs[0])]
        readers = [
            (e, a) for e, a in uses[id(last.outs[0])] if _cluster_of(partition, e) is not owner
        ]
        # Each puts the value at another place, while others that read one view meet.
        times = len({id(e) if e.prim.assembles else id(a) for e, a in readers})
        if len(work) > limits.again_more_operations or len(work) * times > limits.again_work:
            return None
    return steps


def _overlap(partition: Partition, atom: Any) -> int:
    """In how many windows an element is that is read through views."""
    root, times = partition.root(atom), 1
    while atom is not root:
        eqn = partition.made_by[id(atom)]
        if map_of(eqn).shared:
            times *= max(eqn.outs[0].aval.size // max(eqn.ins[0].aval.size, 1), 1)
        atom = eqn.ins[0]
    return times


def _spread(
    partition: Partition, last: Eqn, read_outside: set[int], found: dict[int, list[Eqn]]
) -> list[Eqn] | None:
    """The equations that make a value of much smaller ones, as outer products are made; what
    they read is written in its stead."""
    limits, size = partition.limits, last.outs[0].aval.size
    steps = [last]
    small: dict[int, Any] = {}
    for eqn in steps:
        if not eqn.prim.cheap or eqn.prim.kind != "elementwise" or eqn.outs[0].aval.size < size:
            return None
        for atom in eqn.ins:
            root = partition.root(atom)
            if id(root) in found:
                return None
            if _LEAST_SPREAD * root.aval.size <= size:
                small[id(root)] = root
            elif atom is root and id(atom) in partition.made_by:
                made = partition.made_by[id(atom)]
                steps += [made] if made not in steps else []
            else:
                return None
        if len(steps) > limits.again_operations:
            return None
    arrays = {k: root for k, root in small.items() if root.aval.size > 1}
    if len(arrays) > limits.again_arrays:
        return None
    read_outside |= {k for k, root in small.items() if k in partition.cluster_of}
    return steps


def _closure(
    partition: Partition, last: Eqn, read_outside: set[int], found: dict[int, list[Eqn]]
) -> tuple[list[Eqn], set[int]]:
    """The equations from arrays in memory to this one's result, and these arrays."""
    steps: dict[int, Eqn] = {}
    arrays: set[int] = set()
    waiting = [last]
    while waiting:
        eqn = waiting.pop()
        if id(eqn) in steps:
            continue
        steps[id(eqn)] = eqn
        owner = partition.cluster_of.get(id(eqn.outs[0]))
        for atom in eqn.ins:
            made = partition.made_by.get(id(atom))
            if type(atom) is not Var:
                if isinstance(atom.value, np.ndarray):
                    arrays.add(id(atom.value))
            elif made is not None and _goes_on(partition, owner, made, atom, read_outside, found):
                waiting.append(made)
            else:
                # Of an array's parts each element reads one.
                whole = eqn.prim.assembles and len(eqn.ins) > 1
                arrays.add(id(eqn) if whole else id(partition.root(atom)))
    return list(steps.values()), arrays


def _moved(
    partition: Partition,
    last: Eqn,
    uses: Uses,
    read_outside: set[int],
    found: dict[int, list[Eqn]],
) -> list[Eqn] | None:
    """The equations that go with a value to its only reader, or to those that each take a part;
    None if something else needs them, or would then be computed more than once."""
    (var,) = last.outs
    readers = uses.get(id(var), [])
    if not _is_read_once(partition, var, readers):
        return None
    steps, arrays = _closure(partition, last, read_outside, found)
    if len(arrays) > _most_arrays(partition, last, read_outside):
        return None
    if len(steps) + len(partition.cluster_of[id(readers[0][0].outs[0])].eqns) > MOST_EQNS:
        return None
    inside = set(map(id, steps))
    beside = readers[0][0]
    if _has_equal_parts(beside):
        for atom in beside.ins:
            made = partition.made_by.get(id(partition.root(atom)))
            if made is not None and len(uses[id(made.outs[0])]) == 1:
                inside.update(map(id, _closure(partition, made, read_outside, found)[0]))
    costly: set[int] = set()
    for eqn in sorted(steps, key=lambda e: partition.order[id(e)]):
        few = _reduces_few(partition, eqn)
        if (_never_moves(eqn.prim) and not few) or len(eqn.outs) != 1:
            return None
        if (eqn.prim.cheap or few) and not any(id(a) in costly for a in eqn.ins):
            continue
        costly.add(id(eqn.outs[0]))
        if eqn is not last and not eqn.prim.view:
            if any(id(reader) not in inside for reader, _ in uses[id(eqn.outs[0])]):
                return None
    return steps


def _is_read_once(partition: Partition, var: Any, readers: Sequence[tuple[Eqn, Any]]) -> bool:
    """Whether one cluster uses each element of a value at most once, in one pass."""
    if not readers or not all(_takes(partition, *reader) for reader in readers):
        return False
    if len(readers) == 1:
        return True
    whole, read = readers[0][0].outs[0].aval.size, sum(a.aval.size for _, a in readers)
    apart = all(e.prim.assembles for e, _ in readers) and read <= min(var.aval.size, whole)
    return apart and len({_cluster_of(partition, e) for e, _ in readers}) == 1


def _reduces_few(partition: Partition, eqn: Eqn) -> bool:
    """Whether it combines a few elements by code for each."""
    owner = _cluster_of(partition, eqn)
    labels = None if owner is None else owner.reduced.get(id(eqn.outs[0]))
    if labels is None or any(labels[a] not in (None, UNROLLED) for a in eqn.params["axes"]):
        return False
    times = eqn.ins[0].aval.size // eqn.outs[0].aval.size
    return times <= partition.limits.again_more_operations


def _never_moves(prim: Primitive) -> bool:
    return bool(prim.reduces or prim.gathers or prim.scatters)


def _takes(partition: Partition, reader: Eqn, atom: Any) -> bool:
    """Whether a reader uses each element of a value at most once, in one pass."""
    owner, prim = _cluster_of(partition, reader), reader.prim
    if accumulates(reader, partition.target):
        return atom.aval.size <= partition.root(atom).aval.size
    if owner is None or owner.form != "loops" or owner.split is not None or _never_moves(prim):
        return False
    if atom.aval.size > partition.root(atom).aval.size:
        return False
    return prim.assembles is not None or reader.outs[0].aval.size == atom.aval.size


def _most_arrays(partition: Partition, last: Eqn, read_outside: set[int]) -> float:
    """How many arrays may be read elsewhere for a value: any number if for nothing else here."""
    owner = partition.cluster_of[id(last.outs[0])]
    others = (o for e in owner.eqns if e is not last for o in e.outs)
    return partition.limits.again_arrays if any(id(o) in read_outside for o in others) else inf


def _has_equal_parts(eqn: Eqn) -> bool:
    """Whether an array is put together of parts that are computed side by side."""
    if not eqn.prim.assembles or not 1 < len(eqn.ins) <= 4:
        return False
    return len({a.aval.shape for a in eqn.ins}) == 1


def _cluster_of(partition: Partition, eqn: Eqn) -> Cluster | None:
    return partition.cluster_of.get(id(eqn.outs[0]))


def _goes_on(
    partition: Partition,
    owner: Cluster | None,
    made: Eqn,
    atom: Any,
    read_outside: set[int],
    found: dict[int, list[Eqn]],
) -> bool:
    """Whether an operand is itself nowhere in memory, or computed in the same cluster."""
    if id(partition.root(atom)) in found:
        return True
    if partition.cluster_of.get(id(atom)) is not owner:
        return False
    if made.prim.view:
        return owner is not None and id(atom) in owner.labels
    return id(atom) not in read_outside
