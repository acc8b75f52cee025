"""From a graph's equations to clusters, each of which becomes one kernel or library call.

A *loop cluster* has an iteration space, `dims`. Its values live on some of the space's axes,
their *labels*; an axis of length one has none. Where `split` is set, the axes from there on are
*inner*: reductions over all of them belong to a row, and the cluster's other equations may use
them. Reductions over outer axes are known only when all rows are done: they end a cluster.

A short last axis that is summed over (coordinates of points, say), or the last axes that are the
elements of a window, are no axes of the space but *unrolled*: each element is a value of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.cuts import cuts
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.fusion.unrolling import unrolled_extents
from funcgrad.backends.loops.nests.iota import counted_axis, one_hot_rows
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.views import map_of
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.primitives.indexing import block_position

UNROLLED = -1

Label = int | None
Labels = tuple[Label, ...]


# Clusters of more equations would take long to write, and longer to compile, for each of them.
# Where a long program is cut, those of so many end.
MOST_EQNS = 128
_ENOUGH = {"small": 4, "loops": 64}
# Of those that read one value, or are small, so many are tried, the newest first.
MOST_BESIDE, MOST_SMALL = 32, 8


class Cluster:
    """Equations that are computed together.

    Attributes:
        form: "loops", "small", or "call" for a single equation of another kind.
        dims, split: the iteration space of loops.
        labels: the axes of each value, by the variable's id.
        reduced: the axes of each reduction's operand, by the id of its result.
        ended: values that are known only behind the cluster.
        owned, read: the ids of what is computed here, and of what it reads.
        bit: what stands for it in sets of bits.
        ancestors: the clusters that must come before, as a set of bits.
        sources, users: those that it reads from, and that read from it, as sets of bits.
    """

    def __init__(self, number: int, form: str):
        self.number = number
        self.bit = 1 << number
        self.form = form
        self.eqns: list[Eqn] = []
        self.dims: list[int] = []
        self.split: int | None = None
        self.labels: dict[int, Labels] = {}
        self.reduced: dict[int, Labels] = {}
        self.ended: set[int] = set()
        self.owned: list[int] = []
        self.read: list[int] = []
        self.ancestors = 0
        self.sources = 0
        self.users = 0

    def __repr__(self) -> str:
        names = ", ".join(e.prim.name for e in self.eqns)
        return f"<Cluster {self.number} {self.form} {self.dims} split {self.split}: {names}>"


class Partition:
    """Clusters of a graph's equations, grown in the equations' order.

    Args:
        target: tells what can be written, and what is better.
    """

    def __init__(self, graph: Graph, target: Target):
        self.graph = graph
        self.target = target
        self.limits = target.limits
        self.clusters: list[Cluster] = []
        self.made_by: dict[int, Eqn] = {id(o): e for e in graph.eqns for o in e.outs}
        self.order = {id(e): i for i, e in enumerate(graph.eqns)}
        self.cluster_of: dict[int, Cluster] = {}
        # Ordered sets.
        self.readers: dict[int, dict[Cluster, None]] = {}
        self._small: deque[Cluster] = deque(maxlen=MOST_SMALL)
        self._roots: dict[int, Any] = {}
        self._forms: dict[Hashable, str] = {}
        self.unrolled = unrolled_extents(graph, self.limits)
        # The clusters of smaller numbers are of an earlier piece of a long program.
        self._first = 0
        places = cuts(graph.eqns)
        for number, eqn in enumerate(graph.eqns):
            if number in places:
                self._first = len(self.clusters)
            self._place(eqn)

    def in_order(self) -> list[Cluster]:
        """The clusters, each behind what it depends on."""
        alive = [c for c in self.clusters if c.eqns]
        return sorted(alive, key=lambda c: (c.ancestors.bit_count(), c.number))

    # -- placing an equation ------------------------------------------------------------

    def _place(self, eqn: Eqn) -> None:
        form = self._form(eqn)
        if form == "view":
            self._place_view(eqn)
        elif form == "small":
            self._join_small(eqn)
        elif form == "loops":
            self._join_loops(eqn)
        else:
            self._enter(self._new("call"), eqn)

    def _form(self, eqn: Eqn) -> str:
        """What an equation becomes a part of: that of a cluster, or "view"."""
        if eqn.params or eqn.prim.kind != "elementwise":
            return self._form_of(eqn)
        # All avals live as long as the graph.
        key = eqn.prim, *[id(a.aval) for a in eqn.ins], id(eqn.outs[0].aval)
        known = self._forms.get(key)
        if known is None:
            known = self._forms[key] = self._form_of(eqn)
        return known

    def _form_of(self, eqn: Eqn) -> str:
        small = self._is_small(eqn)
        if eqn.prim.view and not small:
            return "view"
        if small and self.target.can_be_small(eqn):
            return "small"
        if self._loops(eqn) and all(_size(a) for a in (*eqn.ins, *eqn.outs)):
            return "loops"
        return "call"

    def _loops(self, eqn: Eqn) -> bool:
        if eqn.prim.assembles:
            apart = sum(map(_size, eqn.ins)) <= _size(eqn.outs[0])
            few = len(eqn.ins) <= self.limits.most_parts
            return apart and few and self.target.can_be_small(eqn)
        return self.target.can_loop(eqn)

    def _is_small(self, eqn: Eqn) -> bool:
        return all(_size(a) <= self.limits.small for a in (*eqn.ins, *eqn.outs))

    def _place_view(self, eqn: Eqn) -> None:
        """A view costs nothing: it goes with what it is a view of, where it can."""
        owner = self.cluster_of.get(id(eqn.ins[0]))
        if owner is None:
            return
        if owner.form == "loops" and id(eqn.ins[0]) in owner.labels:
            labels = self._view_labels(owner, eqn)
            if labels is not None:
                owner.labels[id(eqn.outs[0])] = labels
                owner.eqns.append(eqn)
                if id(eqn.ins[0]) in owner.ended:
                    owner.ended.add(id(eqn.outs[0]))
        self._settle(owner, eqn.outs[0])

    def _settle(self, owner: Cluster, var: Any) -> None:
        self.cluster_of[id(var)] = owner
        owner.owned.append(id(var))

    def _new(self, form: str) -> Cluster:
        cluster = Cluster(len(self.clusters), form)
        self.clusters.append(cluster)
        return cluster

    def _before(self, eqn: Eqn) -> int:
        """The clusters that an equation depends on, with all before them."""
        found = 0
        for atom in eqn.ins:
            owner = self.cluster_of.get(id(atom))
            if owner is not None:
                found |= owner.bit | owner.ancestors
        return found

    def _enter(self, cluster: Cluster, eqn: Eqn) -> None:
        before = self._before(eqn) & ~cluster.bit
        cluster.eqns.append(eqn)
        for out in eqn.outs:
            self._settle(cluster, out)
        for atom in eqn.ins:
            if type(atom) is Var:
                self._read(cluster, id(self.root(atom)))
                owner = self.cluster_of.get(id(atom))
                if owner is not None and owner is not cluster:
                    owner.users |= cluster.bit
                    cluster.sources |= owner.bit
        self._add_ancestors(cluster, before)

    def _read(self, cluster: Cluster, key: int) -> None:
        readers = self.readers.setdefault(key, {})
        if cluster not in readers:
            readers[cluster] = None
            cluster.read.append(key)

    def _add_ancestors(self, cluster: Cluster, before: int) -> None:
        """Let clusters come before one, and before all that depend on it."""
        left = [cluster]
        while left:
            found = left.pop()
            if before | found.ancestors != found.ancestors:
                found.ancestors |= before
                left += self._numbered(found.users)

    def _numbered(self, bits: int) -> Iterator[Cluster]:
        while bits:
            number = bits.bit_length() - 1
            bits ^= 1 << number
            yield self.clusters[number]

    def _may_join(self, cluster: Cluster, eqn: Eqn) -> bool:
        """Whether there is room, and no other cluster would have to come before and after it."""
        count = len(cluster.eqns)
        if count >= MOST_EQNS:
            return False
        if cluster.number < self._first and count >= _ENOUGH[cluster.form]:
            return False
        for atom in eqn.ins:
            owner = self.cluster_of.get(id(atom))
            if owner is not None and owner is not cluster and owner.ancestors & cluster.bit:
                return False
        return True

    def root(self, atom: Any) -> Any:
        """The variable that a view is a view of."""
        found = self._roots.get(id(atom))
        if found is None:
            found = atom
            while True:
                eqn = self.made_by.get(id(found))
                if eqn is None or not eqn.prim.view:
                    break
                found = eqn.ins[0]
            self._roots[id(atom)] = found
        return found

    # -- small clusters -----------------------------------------------------------------

    def _join_small(self, eqn: Eqn) -> None:
        owners = [self.cluster_of.get(id(a)) for a in eqn.ins]
        near = [c for c in owners if c is not None and c.form == "small"]
        for cluster in dict.fromkeys([*near, *self._small]):
            if self._may_join(cluster, eqn) and not self._reads_views_of(cluster, eqn):
                self._enter(cluster, eqn)
                return
        self._small.appendleft(self._new("small"))
        self._enter(self._small[0], eqn)

    def _reads_views_of(self, cluster: Cluster, eqn: Eqn) -> bool:
        """Whether it reads what is made there by views too large for registers."""
        for atom in eqn.ins:
            if self.cluster_of.get(id(atom)) is cluster:
                made = self.made_by[id(atom)]
                if made.prim.view and not self._is_small(made):
                    return True
        return False

    # -- loop clusters ------------------------------------------------------------------

    def _join_loops(self, eqn: Eqn) -> None:
        for cluster in self._candidates(eqn):
            if self._may_join(cluster, eqn) and self._try(cluster, eqn):
                self._enter(cluster, eqn)
                self._absorb(cluster, eqn)
                return
        cluster = self._new("loops")
        if not self._try(cluster, eqn):
            cluster.form = "call"
        self._enter(cluster, eqn)

    def _candidates(self, eqn: Eqn) -> Iterable[Cluster]:
        owners = [self.cluster_of.get(id(a)) for a in eqn.ins]
        near = [c for c in owners if c is not None and c.form == "loops"]
        near.sort(key=lambda c: -c.number)
        size = max(_size(a) for a in (*eqn.ins, *eqn.outs))
        beside = [
            c
            for a in eqn.ins
            if type(a) is Var and _size(a) == size
            for c in islice(reversed(self.readers.get(id(self.root(a)), {})), MOST_BESIDE)
            if c.form == "loops" and prod(c.dims) * self.limits.unroll >= size
        ]
        return dict.fromkeys([*near, *beside])

    def _absorb(self, cluster: Cluster, eqn: Eqn) -> None:
        """Merge the clusters of the equation's other operands into this one, if they fit."""
        for atom in eqn.ins:
            other = self.cluster_of.get(id(atom))
            if other is not None and other is not cluster and other.form == "loops":
                if self._mergeable(cluster, other):
                    self._merge(cluster, other)

    def _mergeable(self, cluster: Cluster, other: Cluster) -> bool:
        if other.dims != cluster.dims or len(other.eqns) + len(cluster.eqns) > MOST_EQNS:
            return False
        if None not in (other.split, cluster.split) and other.split != cluster.split:
            return False
        if other.ended and any(id(a) in other.ended for e in cluster.eqns for a in e.ins):
            return False
        if cluster.ended and any(id(a) in cluster.ended for e in other.eqns for a in e.ins):
            return False
        # None must come after one of them and before the other.
        if cluster.users & other.ancestors or other.users & cluster.ancestors:
            return False
        return self._same_labels(cluster, other)

    def _same_labels(self, cluster: Cluster, other: Cluster) -> bool:
        """Whether values of one that the other uses have the labels that it would give them."""
        for reader, writer in ((cluster, other), (other, cluster)):
            for eqn in reader.eqns:
                for atom in eqn.ins:
                    if self.cluster_of.get(id(atom)) is writer and id(atom) not in writer.labels:
                        return False
                if not eqn.prim.view and any(id(a) in writer.labels for a in eqn.ins):
                    given = [writer.labels.get(id(a)) for a in eqn.ins]
                    out = id(eqn.outs[0])
                    want = reader.reduced.get(out, reader.labels.get(out))
                    if want is None or eqn.prim.gathers or eqn.prim.assembles:
                        return False
                    if not _agree(given, want):
                        return False
        return True

    def _merge(self, cluster: Cluster, other: Cluster) -> None:
        cluster.eqns = sorted([*cluster.eqns, *other.eqns], key=lambda e: self.order[id(e)])
        cluster.labels = {**other.labels, **cluster.labels}
        cluster.reduced |= other.reduced
        cluster.ended |= other.ended
        cluster.split = other.split if cluster.split is None else cluster.split
        for key in other.owned:
            self.cluster_of[key] = cluster
        cluster.owned += other.owned
        for key in other.read:
            del self.readers[key][other]
            self._read(cluster, key)
        both = cluster.bit | other.bit
        before = (cluster.ancestors | other.ancestors) & ~both
        self._replace(other, cluster)
        cluster.sources = (cluster.sources | other.sources) & ~both
        cluster.users = (cluster.users | other.users) & ~both
        cluster.ancestors = before
        for third in self._numbered(cluster.users):
            self._add_ancestors(third, before | cluster.bit)
        other.eqns, other.form, other.owned, other.read = [], "merged", [], []

    def _replace(self, old: Cluster, new: Cluster) -> None:
        """Let what comes before or after one come before or after another instead."""
        for cluster in self._numbered(old.sources):
            cluster.users = (cluster.users & ~old.bit) | new.bit
        for cluster in self._numbered(old.users):
            cluster.sources = (cluster.sources & ~old.bit) | new.bit
        left = [old]
        while left:
            for cluster in self._numbered(left.pop().users):
                if cluster.ancestors & old.bit:
                    cluster.ancestors = (cluster.ancestors & ~old.bit) | new.bit
                    left.append(cluster)

    # -- labels -------------------------------------------------------------------------

    def _try(self, cluster: Cluster, eqn: Eqn) -> bool:
        """Give an equation's values labels in a cluster; False, and no change, if it cannot."""
        for atom in eqn.ins:
            if id(atom) in cluster.ended:
                return False
            if self.cluster_of.get(id(atom)) is cluster and id(atom) not in cluster.labels:
                return False
        dims, split = list(cluster.dims), cluster.split
        labels = self._labels(cluster, eqn)
        if labels is None or not _fits(cluster, labels, len(dims), self.limits):
            cluster.dims, cluster.split = dims, split
            return False
        if eqn.prim.reduces:
            self._enter_reduce(cluster, eqn, labels)
        else:
            cluster.labels[id(eqn.outs[0])] = labels
        return True

    def _labels(self, cluster: Cluster, eqn: Eqn) -> Labels | None:
        """The axes of a result, or of a reduction's operand."""
        prim = eqn.prim
        if prim.reduces:
            return self._spread(cluster, eqn.ins[0].aval.shape, [eqn.ins[0]])
        if prim.gathers:
            return self._labels_of_gather(cluster, eqn)
        if prim.scatters:
            return self._labels_of_one_hot(cluster, eqn)
        if prim.assembles:
            # An operand has other axes; it is read from memory or computed where it is needed.
            inside = any(id(a) in cluster.labels for a in eqn.ins)
            return None if inside else self._spread(cluster, eqn.outs[0].aval.shape, ())
        return self._spread(cluster, eqn.outs[0].aval.shape, eqn.ins)

    def _spread(
        self, cluster: Cluster, shape: tuple[int, ...], operands: Sequence[Any]
    ) -> Labels | None:
        """Labels for a result of this shape, from those of operands that broadcast to it."""
        labels: list[Any] = [None if n == 1 else "?" for n in shape]
        for atom in operands:
            known = cluster.labels.get(id(atom))
            if known is None:
                continue
            first = len(shape) - len(known)
            for i, label in enumerate(known, first):
                if label is None:
                    continue
                if labels[i] not in ("?", label):
                    return None
                labels[i] = label
        if "?" in labels:
            return self._complete(cluster, shape, labels)
        return tuple(labels) if _distinct(labels) else None

    def _complete(
        self, cluster: Cluster, shape: tuple[int, ...], labels: list[Any]
    ) -> Labels | None:
        """Choose axes of the space for those that no operand tells; new ones come last."""
        loops = len(shape) - self._unrolled_axes(shape)
        for i, n in enumerate(shape):
            if labels[i] != "?":
                continue
            if i >= loops:
                labels[i] = UNROLLED
                continue
            used = set(labels)
            low = max([x for x in labels[:i] if type(x) is int and x >= 0], default=-1)
            later = [x for x in labels[i + 1 :] if type(x) is int and x >= 0]
            high = min(later, default=len(cluster.dims))
            free = [k for k in range(low + 1, high) if cluster.dims[k] == n and k not in used]
            if free:
                # The last that fits: a vector beside a square matrix lies along its rows.
                pending = sum(x == "?" for x in labels[i + 1 :])
                labels[i] = free[-1 - pending] if pending < len(free) else free[0]
            elif cluster.split is None and not later:
                labels[i] = len(cluster.dims)
                cluster.dims.append(n)
            else:
                return None
        return tuple(labels) if _distinct(labels) else None

    def _unrolled_axes(self, shape: tuple[int, ...]) -> int:
        """How many of the last axes are unrolled."""
        for extents in self.unrolled:
            rest = len(shape) - len(extents)
            if rest > 0 and shape[rest:] == extents:
                if prod(shape[:rest]) >= self.limits.unroll_rows:
                    return len(extents)
        return 0

    def _enter_reduce(self, cluster: Cluster, eqn: Eqn, labels: Labels) -> None:
        """Note a reduction of an operand with these axes."""
        axes, keep = eqn.params["axes"], eqn.params["keepdims"]
        reduced = {labels[a] for a in axes} - {None, UNROLLED}
        kept = tuple(
            (None if i in axes else label)
            for i, label in enumerate(labels)
            if keep or i not in axes
        )
        if reduced and not self._is_of_row(cluster, reduced):
            cluster.ended.add(id(eqn.outs[0]))
        cluster.labels[id(eqn.outs[0])] = kept
        cluster.reduced[id(eqn.outs[0])] = labels

    def _is_of_row(self, cluster: Cluster, reduced: set[Label]) -> bool:
        """Whether a reduction is known within its row; may fix which axes are inner."""
        rank = len(cluster.dims)
        if cluster.split is not None:
            return reduced == set(range(cluster.split, rank))
        first = rank - len(reduced)
        if reduced != set(range(first, rank)):
            return False
        if prod(cluster.dims[first:]) > self.limits.large_row and (
            prod(cluster.dims[:first]) < self.limits.enough_rows
        ):
            return False
        cluster.split = first
        return True

    def _labels_of_gather(self, cluster: Cluster, eqn: Eqn) -> Labels | None:
        shape, (x, *indices) = eqn.outs[0].aval.shape, eqn.ins
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        start = block_position(eqn.params["axes"])
        behind = (None,) * (len(shape) - start - len(block))
        labels: list[Any] = [None if n == 1 else "?" for n in shape]
        known = [cluster.labels.get(id(i)) for i in indices]
        if id(x) in cluster.labels:
            known += self._labels_by_x(cluster, eqn)
            if None in known[len(indices) :]:
                return None
        for found in known:
            if found is None:
                continue
            padded = (*found, *behind) if len(found) <= len(block) else found
            for i, label in enumerate(padded, len(shape) - len(padded)):
                if label is not None:
                    if labels[i] not in ("?", label):
                        return None
                    labels[i] = label
        return self._complete(cluster, shape, labels)

    def _labels_by_x(self, cluster: Cluster, eqn: Eqn) -> list[Any]:
        """What an operand inside the cluster tells of a gather's result; [None] if it must not
        be inside: each index is a count along a row's axis, or picks from an inner one."""
        x, *indices = eqn.ins
        axes, shape = eqn.params["axes"], eqn.outs[0].aval.shape
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        if len(axes) != len(x.aval.shape) or cluster.split is None:
            return [None]
        labels: list[Label] = [None] * len(shape)
        for axis, i in zip(axes, indices, strict=True):
            label = cluster.labels[id(x)][axis]
            along = counted_axis(i, x.aval.shape[axis])
            if along is not None and label is not None and 0 <= label < cluster.split:
                place = along + len(block) - len(i.aval.shape)
                if labels[place] is not None:
                    return [None]
                labels[place] = label
            elif along is not None or label is None or label < cluster.split:
                return [None]
        return [tuple(labels)]

    def _labels_of_one_hot(self, cluster: Cluster, eqn: Eqn) -> Labels | None:
        updates, *indices = eqn.ins
        shape, rows = eqn.params["shape"], one_hot_rows(eqn)
        assert rows is not None
        known = cluster.labels.get(id(updates))
        labels: list[Any] = [None if n == 1 else "?" for n in shape]
        for axis, i in zip(eqn.params["axes"], indices, strict=True):
            if axis in rows and known is not None:
                labels[axis] = known[rows[axis]]
            elif axis not in rows and id(i) in cluster.labels:
                return None
        return self._complete(cluster, shape, labels)

    def _view_labels(self, cluster: Cluster, eqn: Eqn) -> Labels | None:
        found, shape = map_of(eqn), eqn.outs[0].aval.shape
        labels = _reshaped(cluster.labels[id(eqn.ins[0])], eqn.ins[0].aval.shape, found.source)
        if labels is None or any(labels[axis] not in (None, UNROLLED) for axis, _ in found.fixed):
            return None
        # What windows read is computed elsewhere in the space.
        if any(labels[axis] is not None for axis in found.shared):
            return None
        new: list[Any] = []
        for n, along in zip(shape, found.axes, strict=True):
            if along is None:
                new.append(None if n == 1 else "?")
            elif along.step == 1 and n == found.source[along.axis]:
                new.append(labels[along.axis])
            else:
                return None
        if "?" not in new:
            return tuple(new)
        dims, split = list(cluster.dims), cluster.split
        complete = self._complete(cluster, shape, new)
        if complete is None:
            cluster.dims, cluster.split = dims, split
        return complete


def _size(atom: Any) -> int:
    return atom.aval.size


def _fits(cluster: Cluster, labels: Labels, rank_before: int, limits: Limits) -> bool:
    """Whether a value on these axes is computed once for each of its elements.

    It has all axes of the space, or those of a row. Where it brings new axes, the values that
    were there become a row's.
    """
    rank = len(cluster.dims)
    used = {x for x in labels if x is not None and x != UNROLLED}
    if used != set(range(rank)):
        return cluster.split is not None and used == set(range(cluster.split))
    if 0 < rank_before < rank:
        cluster.split = rank_before
        return prod(cluster.dims[rank_before:]) >= limits.least_row
    return True


def _distinct(labels: Sequence[Label]) -> bool:
    named = [x for x in labels if x is not None and x != UNROLLED]
    return len(named) == len(set(named))


def _agree(given: Sequence[Labels | None], out: Labels) -> bool:
    for labels in given:
        if labels is None:
            continue
        for mine, theirs in zip(reversed(labels), reversed(out), strict=False):
            if mine is not None and mine != theirs:
                return False
    return True


def _reshaped(labels: Labels, shape: Sequence[int], new: Sequence[int]) -> Labels | None:
    """Only axes of length one may come and go."""
    kept = [(n, label) for n, label in zip(shape, labels, strict=True) if n != 1]
    if [n for n, _ in kept] != [n for n in new if n != 1]:
        return None
    supply = iter(kept)
    return tuple(None if n == 1 else next(supply)[1] for n in new)
