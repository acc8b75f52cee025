"""From a cluster to a loop nest.

Values are written when something asks for them, at the coordinates that their axes tell: once
for the kernel, once for a row, or in the pass over the row's elements that asked. What several
passes need is computed again in each if that is cheap, else kept in a scratch row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.partition import UNROLLED, Cluster
from funcgrad.backends.loops.fusion.scatter import scatter_operands
from funcgrad.backends.loops.fusion.values import Values, reduction_of
from funcgrad.backends.loops.nests.collapse import collapse
from funcgrad.backends.loops.nests.coordinates import ZERO, Coordinate, broadcast, in_source
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.nest import (
    Axis,
    Combine,
    Index,
    Kernel,
    Loop,
    Operand,
    Param,
    Reduction,
    Ref,
    Rows,
    Store,
    affine,
)
from funcgrad.backends.loops.nests.tiling import Piece, SplitRequest, Tiling, refined, whole
from funcgrad.backends.loops.nests.views import View, place_of, row_major
from funcgrad.core.graph import Eqn
from funcgrad.primitives.indexing import block_position
from funcgrad.records import NamedTuple

# How often tilings are refined: where arrays are put together of such, the inner ones are
# looked at once the outer ones are settled.
_REFINEMENTS = 6


class Scheduled(NamedTuple):
    """A kernel, and for each parameter the buffer it stands for (None: the kernel's own)."""

    kernel: Kernel
    buffers: list[Any]


def schedule(
    cluster: Cluster,
    outputs: Sequence[Any],
    resolve: Callable[[Any], View],
    target: Callable[[Any], Any],
    limits: Limits,
    again: Sequence[Eqn] = (),
) -> Scheduled:
    """The loop nest of a cluster.

    Args:
        outputs: the variables that are read outside of it.
        resolve: where a variable of another cluster lies in memory.
        target: the buffer that an output is written to.
        limits: those of the target.
        again: equations of other clusters that this one computes again.
    """
    cheap = all(e.prim.cheap for e in (*again, *cluster.eqns))
    most = limits.most_pieces if cheap else limits.few_pieces
    tilings = [whole(n) for n in cluster.dims]
    for _ in range(_REFINEMENTS):
        found, requests = _with_tilings(cluster, tilings, outputs, resolve, target, limits, again)
        better = refined(tilings, requests, most)
        if better == tilings:
            break
        tilings = better
    return found


def _with_tilings(
    cluster: Cluster, tilings: list[Tiling], *args: Any
) -> tuple[Scheduled, list[SplitRequest]]:
    split = cluster.split
    if split is None:
        scheduler = _Scheduler(cluster, tilings, None, *args)
        found = scheduler.run()
        if found is not None:
            return found, scheduler.requests
        long = [k for k, t in enumerate(tilings) if t.count > 1]
        split = max(long, default=len(tilings) - 1)
    scheduler = _Scheduler(cluster, tilings, split, *args)
    found = scheduler.run()
    assert found is not None
    return found, scheduler.requests


class _Box(NamedTuple):
    """A part of the space: a piece of each of some axes."""

    axes: tuple[Axis, ...]
    pieces: tuple[Piece, ...]


class _Scheduler(Values):
    def __init__(
        self,
        cluster: Cluster,
        tilings: Sequence[Tiling],
        split: int | None,
        outputs: Sequence[Any],
        resolve: Callable[[Any], View],
        target: Callable[[Any], Any],
        limits: Limits,
        again: Sequence[Eqn],
    ):
        super().__init__((*again, *cluster.eqns), resolve, target)
        self.cluster = cluster
        self.limits = limits
        self.outputs = {id(o): o for o in outputs}
        self.flat = split is None
        self.first_inner = first = 0 if split is None else split
        self.outer = tuple(Axis(t.count, True) for t in tilings[:first])
        self.outer_boxes = [
            _Box(self.outer, pieces)
            for pieces in itertools.product(*(t.pieces for t in tilings[:first]))
        ]
        self.boxes = [
            _Box(tuple(Axis(p.end - p.begin, False) for p in pieces), pieces)
            for pieces in itertools.product(*(t.pieces for t in tilings[first:]))
        ]
        # Where the positions on each axis of the space lie, in the present piece of it.
        self.positions: list[list[Coordinate]] = [[] for _ in tilings]
        self._depth: dict[int, int] = {}
        self._cost: dict[int, int] = {}
        self.now = 0
        # What a pass leaves for after its loops: reductions, by parts, and stores.
        self.parts: dict[Any, tuple[Eqn, list[Operand]]] = {}
        self.finish: list[Callable[[], None]] = []
        self.reductions: list[Reduction] = []
        self.first_box = True

    # -- the order of work --------------------------------------------------------------

    def run(self) -> Scheduled | None:
        roots = self._roots()
        last = max((number for number, *_ in roots), default=0)
        self._plan_kept(roots, last)
        for box in self.outer_boxes:
            self._enter_rows(box)
            for number in range(last + 1):
                self.now = number
                self._write_pass([r for r in roots if r[0] == number])
        self.kernel.outer = self.outer
        if not self.outer and not self.flat:
            self.kernel.outer = (Axis(1, True),)
        collapse(self.kernel)
        if self.flat and not self._is_flat():
            return None
        return Scheduled(self.kernel, self.buffers)

    def _enter_rows(self, box: _Box) -> None:
        """Go on with the rows of a part of the space."""
        self.body = self.kernel.body
        for axis, piece in zip(box.axes, box.pieces, strict=True):
            if piece.end - piece.begin < axis.extent:
                guarded = Rows(axis, piece.begin, piece.end, [])
                self.body.append(guarded)
                self.body = guarded.body
        # What a value is depends on the part, even where it is one number.
        self.memo, self.rows, self.kept = {}, {}, {}
        for number, (axis, piece) in enumerate(zip(box.axes, box.pieces, strict=True)):
            self.reach[axis], self.rounds[axis] = (piece.begin, piece.end), (number, 0)
            self.positions[number] = [Index(s, ((axis, piece.step),)) for s in piece.starts]

    def _enter_box(self, box: _Box) -> None:
        """Go on with a part of the row."""
        self.block, self.pass_memo, self.reductions = [], {}, []
        for number, (axis, piece) in enumerate(
            zip(box.axes, box.pieces, strict=True), self.first_inner
        ):
            self.reach[axis], self.rounds[axis] = (0, axis.extent), (number, piece.begin)
            first = piece.step * piece.begin
            self.positions[number] = [Index(s + first, ((axis, piece.step),)) for s in piece.starts]

    def _is_flat(self) -> bool:
        loops = self.kernel.loops()
        return bool(loops) and all(len(loop.axes) == 1 for loop in loops)

    def _roots(self) -> list[tuple[int, str, Eqn]]:
        """What must be written: (pass, what, equation)."""
        roots = []
        for eqn in self.cluster.eqns:
            var = eqn.outs[0]
            if id(var) in self.cluster.reduced:
                labels = self.cluster.reduced[id(var)]
                if self._reduces_inner(eqn, labels):
                    roots.append((self.depth(eqn.ins[0]), "reduce", eqn))
                    continue
                if id(var) in self.cluster.ended:
                    roots.append((self.depth(eqn.ins[0]), "combine", eqn))
                    continue
            if eqn.prim.accumulates:
                roots.append((0, "accumulate", eqn))
            elif eqn.prim.scatters and id(var) not in self.cluster.labels:
                roots.append((0, "scatter", eqn))
            elif id(var) in self.outputs:
                roots.append((self.depth(var), "store", eqn))
        return roots

    def _reduced_labels(self, eqn: Eqn, labels: Any) -> set[Any]:
        return {labels[a] for a in eqn.params["axes"]} - {None, UNROLLED}

    def _reduces_inner(self, eqn: Eqn, labels: Any) -> bool:
        """Whether a reduction is over all inner axes, and no others."""
        if self.flat:
            return False
        reduced = self._reduced_labels(eqn, labels)
        return bool(reduced) and reduced == set(range(self.first_inner, len(self.positions)))

    def depth(self, atom: Any) -> int:
        """The first pass in which a value can be known."""
        found = self._depth.get(id(atom))
        if found is None:
            eqn = self.made_by.get(id(atom))
            if eqn is None:
                found = 0
            else:
                found = max(map(self.depth, eqn.ins), default=0)
                if id(atom) in self.cluster.reduced:
                    found += self._reduces_inner(eqn, self.cluster.reduced[id(atom)])
            self._depth[id(atom)] = found
        return found

    def _plan_kept(self, roots: list[tuple[int, str, Eqn]], last: int) -> None:
        """Which values of inner axes the first pass that has them writes to a scratch row."""
        self.first_use: dict[int, int] = {}
        self.to_keep: set[int] = set()
        if last == 0:
            return
        for number in range(last + 1):
            seen: set[int] = set()
            for k, what, eqn in roots:
                if k == number:
                    self._visit(eqn.outs[0] if what == "store" else eqn.ins[0], number, seen)

    def _visit(self, atom: Any, number: int, seen: set[int]) -> None:
        key = id(atom)
        eqn = self.made_by.get(key)
        if eqn is None or key in seen or not self._is_inner(atom):
            return
        seen.add(key)
        first = self.first_use.setdefault(key, number)
        if first < number and not eqn.prim.view and self.cost(atom) >= self.limits.keep_cost:
            self.to_keep.add(key)
            return
        for a in eqn.ins:
            self._visit(a, number, seen)

    def _is_inner(self, atom: Any) -> bool:
        labels = self.cluster.labels.get(id(atom))
        return labels is not None and self._has_inner(labels)

    def _has_inner(self, labels: Any) -> bool:
        return any(x is not None and x != UNROLLED and x >= self.first_inner for x in labels)

    def cost(self, atom: Any) -> int:
        """What it takes to compute a value of inner axes again, in cheap operations."""
        found = self._cost.get(id(atom))
        if found is None:
            eqn = self.made_by.get(id(atom))
            if eqn is None or not self._is_inner(atom):
                found = 1
            else:
                found = eqn.prim.cost + sum(map(self.cost, {id(a): a for a in eqn.ins}.values()))
            self._cost[id(atom)] = found
        return found

    # -- one pass -----------------------------------------------------------------------

    def _write_pass(self, roots: list[tuple[int, str, Eqn]]) -> None:
        self.parts, self.finish = {}, []
        for box in self.boxes:
            self._enter_box(box)
            self.first_box = box is self.boxes[0]
            for _, what, eqn in roots:
                for coordinates in self._each(eqn, what):
                    self._write_root(what, eqn, coordinates)
                if what == "reduce":
                    self._write_reduce(eqn)
            for key in self.to_keep:
                if self.first_use[key] == self.now:
                    self._keep(self.made_by[key].outs[0], box.axes)
            if self.block or self.reductions:
                self.body.append(Loop(box.axes, self.block, self.reductions))
        for (_, kept), (eqn, parts) in self.parts.items():
            self._finish_reduce(eqn, kept, parts)
        for step in self.finish:
            step()

    def _write_root(self, what: str, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> None:
        if what == "store":
            self._write_output(eqn.outs[0], coordinates)
        elif what == "scatter":
            self._write_scatter(eqn, coordinates)
        elif what == "combine":
            self._write_combine(eqn, coordinates)
        elif what == "accumulate":
            self._write_accumulate(eqn, coordinates)

    def _each(self, eqn: Eqn, what: str) -> list[tuple[Coordinate, ...]]:
        """The coordinates of a result; of reductions those of the operand, one for each kept
        element of an unrolled axis."""
        if what == "store":
            return self._places(self.cluster.labels[id(eqn.outs[0])], eqn.outs[0].aval.shape)
        if what == "accumulate":
            return self._places(self.cluster.labels[id(eqn.ins[0])], eqn.ins[0].aval.shape)
        if what == "scatter":
            updates = scatter_operands(eqn)[0]
            return self._places(self.cluster.labels[id(updates)], updates.aval.shape)
        return self._places(self.cluster.reduced[id(eqn.outs[0])], eqn.ins[0].aval.shape)

    def _places(self, labels: Any, shape: Sequence[int]) -> list[tuple[Coordinate, ...]]:
        choices = []
        for label, n in zip(labels, shape, strict=True):
            if label is None:
                choices.append([ZERO])
            elif label == UNROLLED:
                choices.append([Index(k) for k in range(n)])
            else:
                choices.append(self.positions[label])
        return list(itertools.product(*choices))

    def _write_output(self, var: Any, coordinates: tuple[Coordinate, ...]) -> None:
        index = self._linear(coordinates, row_major(var.aval.shape), 0)
        inner = self.flat or self._has_inner(self.cluster.labels[id(var)])

        def store() -> None:
            value = self.value(var, coordinates)
            self._emit(Store(self._result(var), index, value), 2 if inner else 1)

        if inner:
            store()
        elif self.first_box:
            self.finish.append(store)

    def _write_reduce(self, eqn: Eqn) -> None:
        """The part of a row's reductions that this part of the row has."""
        groups: dict[tuple[Coordinate, ...], list[tuple[Coordinate, ...]]] = {}
        for coordinates in self._each(eqn, "reduce"):
            groups.setdefault(self._kept_coordinates(eqn, coordinates), []).append(coordinates)
        for kept, reduced in groups.items():
            _, parts = self.parts.setdefault((id(eqn), kept), (eqn, []))
            parts.append(self._total(eqn, reduced))

    def _finish_reduce(self, eqn: Eqn, kept: tuple[Coordinate, ...], parts: list[Operand]) -> None:
        var = eqn.outs[0]
        total = parts[0]
        for part in parts[1:]:
            total = self._operation(reduction_of(eqn), [total, part], var.aval.dtype)
        self.rows[id(var), kept] = total
        if id(var) in self.outputs:
            index = self._linear(kept, row_major(var.aval.shape), 0)
            self._emit(Store(self._result(var), index, total), 1)

    def _total(self, eqn: Eqn, reduced: Sequence[tuple[Coordinate, ...]]) -> Ref:
        """A reduction over the loop, and over several elements that a round of it computes."""
        dtype = eqn.outs[0].aval.dtype
        value: Operand | None = None
        for coordinates in reduced:
            one = self._converted(self.value(eqn.ins[0], coordinates), dtype)
            pair = None if value is None else [value, one]
            value = self._operation(reduction_of(eqn), pair, dtype) if pair else one
        assert value is not None
        total = Ref(dtype, 1)
        self.reductions.append(Reduction(total, reduction_of(eqn), value))
        return total

    def _kept_coordinates(
        self, eqn: Eqn, coordinates: tuple[Coordinate, ...]
    ) -> tuple[Coordinate, ...]:
        axes, keep = eqn.params["axes"], eqn.params["keepdims"]
        return tuple(
            ZERO if i in axes else p for i, p in enumerate(coordinates) if keep or i not in axes
        )

    def _write_combine(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> None:
        """A reduction over rows: accumulated in memory, a part for each chunk."""
        var, op = eqn.outs[0], reduction_of(eqn)
        size = max(prod(var.aval.shape), 1)
        kept = self._kept_coordinates(eqn, coordinates)
        index = self._linear(kept, row_major(var.aval.shape), 0)
        into = self._result(var)
        key = ("partial", id(var))
        if key not in self.numbers:
            self.numbers[key] = len(self.kernel.params)
            self.kernel.params.append(Param(var.aval.dtype, size, "partial", into, op))
            self.buffers.append(None)
        number = self.numbers[key]
        if index.level == 2:
            value = self._converted(self.value(eqn.ins[0], coordinates), var.aval.dtype)
            self._emit(Combine(number, index, op, value), 2)
            return
        labels = self.cluster.reduced[id(var)]
        if self._has_inner(self._reduced_labels(eqn, labels)):
            total: Operand = self._total(eqn, [coordinates])
        elif self.first_box or self._has_inner(labels):
            total = self._converted(self.value(eqn.ins[0], coordinates), var.aval.dtype)
        else:
            return
        self.finish.append(lambda: self.body.append(Combine(number, index, op, total)))

    def _write_accumulate(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> None:
        out = eqn.outs[0]
        value = self._converted(self.value(eqn.ins[0], coordinates), out.aval.dtype)
        there = in_source(place_of(eqn), coordinates)
        index = self._linear(there, row_major(out.aval.shape), 0)
        self._emit(Combine(self._result(out), index, "add", value), 2)

    def _write_scatter(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> None:
        """Each update put, or combined, where its indices tell, one after the other."""
        (out,), (updates, indices) = eqn.outs, scatter_operands(eqn)
        axes, shape = eqn.params["axes"], out.aval.shape
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        start = block_position(axes)
        own = coordinates[start : start + len(block)]
        rest = iter((*coordinates[:start], *coordinates[start + len(block) :]))
        found = []
        for axis, n in enumerate(shape):
            if axis in axes:
                i = indices[axes.index(axis)]
                found.append(self._indexed(i, broadcast(i, own), n))
            else:
                found.append(next(rest))
        value = self._converted(self.value(updates, coordinates), out.aval.dtype)
        index = self._linear(found, row_major(shape), 0)
        number, op = self._result(out), eqn.prim.scatters
        assert op is not None
        self.kernel.parallel = False
        # Every update counts, also where all of them go to one place.
        one = Store(number, index, value) if op == "set" else Combine(number, index, op, value)
        self._emit(one, 2)

    def _keep(self, var: Any, axes: Sequence[Axis]) -> None:
        """Write a value of this loop to scratch rows, one for each place that it was asked at."""
        inner = prod(a.extent for a in axes)
        strides = row_major([a.extent for a in axes])
        for asked, value in list(self.pass_memo.items()):
            if asked[0] != id(var) or type(value) is not Ref or value.level != 2:
                continue
            number = len(self.kernel.params)
            self.kernel.params.append(Param(value.dtype, inner, "scratch"))
            self.buffers.append(None)
            index = affine(0, list(zip(axes, strides, strict=True)))
            self._emit(Store(number, index, value), 2)
            self.kept[asked] = (number, index)
