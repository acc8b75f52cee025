"""From a cluster to a loop nest.

Values are written when something asks for them, at the place their axes tell: once for the
kernel, once for a row, or in the pass over the row's elements that asked. What several passes
need is computed again in each if that is cheap, else kept in a scratch row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcgrad.backends.loops.collapse import collapse
from funcgrad.backends.loops.dtypes import BOOL, loop_dtypes
from funcgrad.backends.loops.nest import (
    Axis,
    Check,
    Combine,
    Index,
    Kernel,
    Literal,
    Load,
    Loop,
    Op,
    Operand,
    Param,
    Position,
    Reduction,
    Ref,
    Store,
    affine,
)
from funcgrad.backends.loops.partition import (
    GATHERS,
    REDUCES,
    UNROLLED,
    VIEWS,
    Cluster,
    iota_axis,
    is_iota,
)
from funcgrad.backends.loops.places import ZERO, Place, broadcast, through_view
from funcgrad.backends.loops.recompute import CHEAP
from funcgrad.backends.loops.scatter import SCATTERS, scatter_operands
from funcgrad.backends.loops.views import View, row_major
from funcgrad.core.graph import Const, Eqn
from funcgrad.primitives.indexing import block_position

# Beyond this many cheap operations a value is kept rather than computed in two passes.
KEEP_COST = 14
_COSTS = {"div": 4, "sqrt": 5, "root": 5, "reciprocal": 4, "floor_divide": 8, "remainder": 8}
INT64 = np.dtype(np.int64)
INT32 = np.dtype(np.int32)


class Scheduled(NamedTuple):
    """A kernel, and for each parameter the buffer it stands for (None: the kernel's own)."""

    kernel: Kernel
    buffers: list[Any]


def schedule(
    cluster: Cluster,
    outputs: Sequence[Any],
    resolve: Callable[[Any], View],
    target: Callable[[Any], Any],
    again: Sequence[Eqn] = (),
) -> Scheduled:
    """The loop nest of a cluster.

    Args:
        outputs: the variables that are read outside of it.
        resolve: where a variable of another cluster lies in memory.
        target: the buffer that an output is written to.
        again: equations of other clusters that this one computes again.
    """
    if cluster.split is None:
        found = _Scheduler(cluster, outputs, resolve, target, None, again).run()
        if found is not None:
            return found
        split = len(cluster.dims) - 1
    else:
        split = cluster.split
    found = _Scheduler(cluster, outputs, resolve, target, split, again).run()
    assert found is not None
    return found


class _Scheduler:
    def __init__(
        self,
        cluster: Cluster,
        outputs: Sequence[Any],
        resolve: Callable[[Any], View],
        target: Callable[[Any], Any],
        split: int | None,
        again: Sequence[Eqn],
    ):
        self.cluster = cluster
        self.outputs = {id(o): o for o in outputs}
        self.resolve = resolve
        self.target = target
        self.flat = split is None
        inner_from = 0 if split is None else split
        self.axes = [Axis(n, k < inner_from) for k, n in enumerate(cluster.dims)]
        self.outer = [a for a in self.axes if a.outer]
        if split == 0:
            self.outer = [Axis(1, True)]
        self.inner = [a for a in self.axes if not a.outer]
        self.made_by: dict[int, Eqn] = {id(e.outs[0]): e for e in (*again, *cluster.eqns)}
        self.kernel = Kernel()
        self.buffers: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.block: list[Any] = []
        self.memo: dict[Any, Operand] = {}
        self.pass_memo: dict[Any, Operand] = {}
        self.rows: dict[Any, Operand] = {}
        self.kept: dict[Any, tuple[int, Index]] = {}
        self._depth: dict[int, int] = {}
        self._cost: dict[int, int] = {}
        self.now = 0

    # -- the order of work --------------------------------------------------------------

    def run(self) -> Scheduled | None:
        roots = self._roots()
        last = max((number for number, *_ in roots), default=0)
        self._plan_kept(roots, last)
        for number in range(last + 1):
            self.now = number
            self._write_pass([r for r in roots if r[0] == number])
        self.kernel.outer = tuple(self.outer)
        collapse(self.kernel)
        if self.flat and not self._is_flat():
            return None
        if not self.flat and self.cluster.split is None and not self.kernel.outer:
            self.kernel.outer = (Axis(1, True),)
        return Scheduled(self.kernel, self.buffers)

    def _is_flat(self) -> bool:
        loops = self.kernel.loops()
        return len(loops) == 1 and len(loops[0].axes) == 1

    def _roots(self) -> list[tuple[int, str, Eqn]]:
        """What must be written: (pass, what, equation)."""
        roots = []
        for eqn in self.cluster.eqns:
            var = eqn.outs[0]
            if eqn.prim.name in REDUCES and id(var) in self.cluster.reduced:
                labels = self.cluster.reduced[id(var)]
                if self._reduces_inner(eqn, labels):
                    roots.append((self.depth(eqn.ins[0]), "reduce", eqn))
                    continue
                if id(var) in self.cluster.ended:
                    roots.append((self.depth(eqn.ins[0]), "combine", eqn))
                    continue
            if eqn.prim.name in SCATTERS and id(var) not in self.cluster.labels:
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
        return reduced == {k for k, a in enumerate(self.axes) if not a.outer} and bool(reduced)

    def depth(self, atom: Any) -> int:
        """The first pass in which a value can be known."""
        found = self._depth.get(id(atom))
        if found is None:
            eqn = self.made_by.get(id(atom))
            if eqn is None:
                found = 0
            else:
                found = max(map(self.depth, eqn.ins), default=0)
                if eqn.prim.name in REDUCES and id(atom) in self.cluster.reduced:
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
        if first < number and eqn.prim.name not in VIEWS and self.cost(atom) >= KEEP_COST:
            self.to_keep.add(key)
            return
        for a in eqn.ins:
            self._visit(a, number, seen)

    def _is_inner(self, atom: Any) -> bool:
        labels = self.cluster.labels.get(id(atom))
        return labels is not None and any(
            x is not None and x != UNROLLED and not self.axes[x].outer for x in labels
        )

    def cost(self, atom: Any) -> int:
        """What it takes to compute a value of inner axes again, in cheap operations."""
        found = self._cost.get(id(atom))
        if found is None:
            eqn = self.made_by.get(id(atom))
            if eqn is None or not self._is_inner(atom):
                found = 1
            else:
                name = eqn.prim.name
                own = 0 if name in VIEWS else 1 if name in CHEAP else _COSTS.get(name, 12)
                found = own + sum(map(self.cost, {id(a): a for a in eqn.ins}.values()))
            self._cost[id(atom)] = found
        return found

    # -- one pass -----------------------------------------------------------------------

    def _write_pass(self, roots: list[tuple[int, str, Eqn]]) -> None:
        self.block, self.pass_memo = [], {}
        reductions: list[Reduction] = []
        finish: list[Callable[[], None]] = []
        for _, what, eqn in roots:
            if what == "reduce":
                self._write_reduce(eqn, reductions, finish)
                continue
            for places in self._each(eqn, what):
                if what == "store":
                    self._write_output(eqn.outs[0], places, finish)
                elif what == "scatter":
                    self._write_scatter(eqn, places)
                else:
                    self._write_combine(eqn, places, reductions, finish)
        for key in self.to_keep:
            if self.first_use[key] == self.now:
                self._keep(self.made_by[key].outs[0])
        if self.block or reductions:
            self.kernel.body.append(Loop(tuple(self.inner), self.block, reductions))
        for step in finish:
            step()

    def _each(self, eqn: Eqn, what: str) -> list[tuple[Place, ...]]:
        """The places of a result; of reductions those of the operand, one for each kept element
        of an unrolled axis."""
        if what == "store":
            return self._places(self.cluster.labels[id(eqn.outs[0])], eqn.outs[0].aval.shape)
        if what == "scatter":
            updates = scatter_operands(eqn)[0]
            return self._places(self.cluster.labels[id(updates)], updates.aval.shape)
        return self._places(self.cluster.reduced[id(eqn.outs[0])], eqn.ins[0].aval.shape)

    def _places(self, labels: Any, shape: Sequence[int]) -> list[tuple[Place, ...]]:
        choices = []
        for label, n in zip(labels, shape, strict=True):
            if label is None:
                choices.append([ZERO])
            elif label == UNROLLED:
                choices.append([(k, (), None) for k in range(n)])
            else:
                choices.append([(0, ((self.axes[label], 1),), None)])
        return list(itertools.product(*choices))

    def _write_output(self, var: Any, places: tuple[Place, ...], finish: list[Any]) -> None:
        index = self._linear(places, row_major(var.aval.shape), 0)

        def store() -> None:
            value = self.value(var, places)
            number = self._result(var)
            self._emit(Store(number, index, value), max(index.level, 1) if not self.flat else 2)

        if index.level == 2:
            store()
        else:
            finish.append(store)

    def _write_reduce(self, eqn: Eqn, reductions: list[Reduction], finish: list[Any]) -> None:
        var = eqn.outs[0]
        parts: dict[tuple[Place, ...], list[tuple[Place, ...]]] = {}
        for places in self._each(eqn, "reduce"):
            parts.setdefault(self._kept_places(eqn, places), []).append(places)
        for kept, reduced in parts.items():
            total = self.rows[id(var), kept] = self._total(eqn, reduced, reductions)
            if id(var) in self.outputs:
                index = self._linear(kept, row_major(var.aval.shape), 0)
                finish.append(functools.partial(self._store_total, var, index, total))

    def _store_total(self, var: Any, index: Index, total: Ref) -> None:
        self._emit(Store(self._result(var), index, total), 1)

    def _total(
        self, eqn: Eqn, reduced: Sequence[tuple[Place, ...]], reductions: list[Reduction]
    ) -> Ref:
        """A reduction over the pass, and over several elements of an unrolled axis."""
        dtype = eqn.outs[0].aval.dtype
        value: Operand | None = None
        for places in reduced:
            one = self._converted(self.value(eqn.ins[0], places), dtype)
            pair = None if value is None else [value, one]
            value = self._operation(REDUCES[eqn.prim.name], pair, dtype) if pair else one
        assert value is not None
        total = Ref(dtype, 1)
        reductions.append(Reduction(total, REDUCES[eqn.prim.name], value))
        return total

    def _kept_places(self, eqn: Eqn, places: tuple[Place, ...]) -> tuple[Place, ...]:
        axes, keep = eqn.params["axes"], eqn.params["keepdims"]
        return tuple(
            ZERO if i in axes else p for i, p in enumerate(places) if keep or i not in axes
        )

    def _write_combine(
        self, eqn: Eqn, places: tuple[Place, ...], reductions: list[Reduction], finish: list[Any]
    ) -> None:
        """A reduction over rows: accumulated in memory, a part for each chunk."""
        var, op = eqn.outs[0], REDUCES[eqn.prim.name]
        size = max(prod(var.aval.shape), 1)
        kept = self._kept_places(eqn, places)
        index = self._linear(kept, row_major(var.aval.shape), 0)
        into = self._result(var)
        key = ("partial", id(var))
        if key not in self.numbers:
            self.numbers[key] = len(self.kernel.params)
            self.kernel.params.append(Param(var.aval.dtype, size, "partial", into, op))
            self.buffers.append(None)
        number = self.numbers[key]
        if index.level == 2:
            value = self._converted(self.value(eqn.ins[0], places), var.aval.dtype)
            self._emit(Combine(number, index, op, value), 2)
            return
        labels = self.cluster.reduced[id(var)]
        if any(not self.axes[k].outer for k in self._reduced_labels(eqn, labels)):
            total: Operand = self._total(eqn, [places], reductions)
        else:
            total = self._converted(self.value(eqn.ins[0], places), var.aval.dtype)
        finish.append(lambda: self.kernel.body.append(Combine(number, index, op, total)))

    def _write_scatter(self, eqn: Eqn, places: tuple[Place, ...]) -> None:
        """Each update put, or combined, where its indices tell, one after the other."""
        (out,), (updates, indices) = eqn.outs, scatter_operands(eqn)
        axes, shape = eqn.params["axes"], out.aval.shape
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        start = block_position(axes)
        own = places[start : start + len(block)]
        rest = iter((*places[:start], *places[start + len(block) :]))
        found = []
        for axis, n in enumerate(shape):
            if axis in axes:
                i = indices[axes.index(axis)]
                found.append(self._indexed(i, broadcast(i, own), n))
            else:
                found.append(next(rest))
        value = self._converted(self.value(updates, places), out.aval.dtype)
        index = self._linear(found, row_major(shape), 0)
        number, op = self._result(out), SCATTERS[eqn.prim.name]
        self.kernel.parallel = False
        # Every update counts, also where all of them go to one place.
        self._emit(Combine(number, index, op, value) if op else Store(number, index, value), 2)

    def _keep(self, var: Any) -> None:
        """Write a value of this pass to scratch rows, one for each place that it was asked at."""
        inner = prod(a.extent for a in self.inner)
        strides = row_major([a.extent for a in self.inner])
        for asked, value in list(self.pass_memo.items()):
            if asked[0] != id(var) or type(value) is not Ref or value.level != 2:
                continue
            number = len(self.kernel.params)
            self.kernel.params.append(Param(value.dtype, inner, "scratch"))
            self.buffers.append(None)
            index = affine(0, list(zip(self.inner, strides, strict=True)))
            self._emit(Store(number, index, value), 2)
            self.kept[asked] = (number, index)

    # -- values -------------------------------------------------------------------------

    def value(self, atom: Any, places: tuple[Place, ...]) -> Operand:
        """A value's element at these places."""
        if type(atom) is Const and not isinstance(atom.value, np.ndarray):
            return Literal(atom.value, atom.aval.dtype)
        key = (id(atom), places)
        found = self.memo.get(key) or self.pass_memo.get(key) or self.rows.get(key)
        if found is None:
            kept = self.kept.get(key)
            if kept is not None:
                found = self._emit_new(Load, atom.aval.dtype, 2, *kept)
            else:
                found = self._computed(atom, places)
            (self.pass_memo if found.level == 2 else self.memo)[key] = found
        return found

    def _computed(self, atom: Any, places: tuple[Place, ...]) -> Operand:
        eqn = self.made_by.get(id(atom))
        if eqn is None:
            return self._counted(atom, places) if is_iota(atom) else self._load(atom, places)
        name = eqn.prim.name
        if name in VIEWS:
            return self.value(eqn.ins[0], through_view(eqn, places))
        if name in REDUCES:
            return self._unrolled(eqn, places)
        if name in GATHERS:
            return self._gather(eqn, places)
        if name == "scatter_zeros":
            return self._one_hot(eqn, places)
        args = []
        for a, dtype in zip(eqn.ins, loop_dtypes(eqn), strict=True):
            args.append(self._converted(self.value(a, broadcast(a, places)), dtype))
        return self._operation(name, args, eqn.outs[0].aval.dtype)

    def _operation(self, name: str, args: list[Operand], dtype: np.dtype) -> Operand:
        if name == "convert":
            return self._converted(args[0], dtype)
        level = max(a.level for a in args)
        out = Ref(dtype, level)
        self._emit(Op(out, name, tuple(args)), level)
        return out

    def _converted(self, value: Operand, dtype: np.dtype) -> Operand:
        if value.dtype == dtype:
            return value
        if type(value) is Literal:
            return Literal(np.asarray(value.value).astype(dtype)[()], dtype)
        key = ("as", value, dtype)
        memo = self.pass_memo if value.level == 2 else self.memo
        if key not in memo:
            out = Ref(dtype, value.level)
            self._emit(Op(out, "convert", (value,)), value.level)
            memo[key] = out
        return memo[key]

    def _load(self, atom: Any, places: tuple[Place, ...]) -> Operand:
        view = self.resolve(atom)
        index = self._linear(places, view.strides, view.offset)
        number = self._param(view.buffer, atom.aval.dtype, view.buffer.size, "in")
        key = ("load", number, index)
        memo = self.pass_memo if index.level == 2 else self.memo
        if key not in memo:
            memo[key] = self._emit_new(Load, atom.aval.dtype, index.level, number, index)
        return memo[key]

    def _counted(self, atom: Any, places: tuple[Place, ...]) -> Operand:
        """An element of a constant that counts its elements: its own number."""
        index = self._linear(places, row_major(atom.aval.shape), 0)
        if index.dynamic:
            return self._load(atom, places)
        return self._converted(self._position((index.const, index.terms, None)), atom.aval.dtype)

    def _unrolled(self, eqn: Eqn, places: tuple[Place, ...]) -> Operand:
        """A reduction over a short axis: its elements one after the other."""
        axes, keep = eqn.params["axes"], eqn.params["keepdims"]
        shape, dtype = eqn.ins[0].aval.shape, eqn.outs[0].aval.dtype
        rest = iter(p for i, p in enumerate(places) if not (keep and i in axes))
        around = [None if i in axes else next(rest) for i in range(len(shape))]
        total: Operand | None = None
        for chosen in itertools.product(*(range(shape[a]) for a in axes)):
            supply = iter(chosen)
            full = tuple((next(supply), (), None) if p is None else p for p in around)
            value = self._converted(self.value(eqn.ins[0], full), dtype)
            total = (
                value
                if total is None
                else self._operation(REDUCES[eqn.prim.name], [total, value], dtype)
            )
        assert total is not None
        return total

    def _gather(self, eqn: Eqn, places: tuple[Place, ...]) -> Operand:
        x, *indices = eqn.ins
        axes = eqn.params["axes"]
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        start = block_position(axes)
        own = places[start : start + len(block)]
        rest = iter((*places[:start], *places[start + len(block) :]))
        found = []
        for axis, n in enumerate(x.aval.shape):
            if axis in axes:
                i = indices[axes.index(axis)]
                found.append(self._indexed(i, broadcast(i, own), n))
            else:
                found.append(next(rest))
        return self.value(x, tuple(found))

    def _indexed(self, atom: Any, places: tuple[Place, ...], n: int) -> Place:
        """The place that an element of an index array names."""
        axis = iota_axis(atom)
        if axis is not None:
            return places[axis]
        index = self._index(self.value(atom, places), n)
        return (index, (), None) if isinstance(index, int) else (0, (), index)

    def _one_hot(self, eqn: Eqn, places: tuple[Place, ...]) -> Operand:
        """The updates where the one index that is no count of rows names the place, else 0."""
        updates, *indices = eqn.ins
        axes, shape, dtype = eqn.params["axes"], eqn.params["shape"], eqn.outs[0].aval.dtype
        rank = len(updates.aval.shape)
        block: list[Place] = [ZERO] * rank
        chosen = 0
        for axis, i in zip(axes, indices, strict=True):
            along = iota_axis(i)
            if along is None:
                chosen = axis
            else:
                block[along + rank - len(i.aval.shape)] = places[axis]
        atom = indices[axes.index(chosen)]
        index = self._index(self.value(atom, broadcast(atom, tuple(block))), shape[chosen])
        value = self.value(updates, broadcast(updates, tuple(block)))
        here = self._position(places[chosen])
        if isinstance(index, int):
            there: Operand = Literal(index, INT32)
        else:
            there = self._converted(index, INT32)
        hit = self._operation("equal", [here, there], BOOL)
        return self._operation("where", [hit, value, Literal(0, dtype)], dtype)

    def _position(self, place: Place) -> Operand:
        start, parts, value = place
        if value is not None:
            return self._converted(value, INT32)
        index = affine(start, parts)
        key = ("position", index)
        memo = self.pass_memo if index.level == 2 else self.memo
        if key not in memo:
            memo[key] = self._emit_new(Position, INT32, index.level, index)
        return memo[key]

    def _index(self, value: Operand, n: int) -> Ref | int:
        """An index counted from the start, checked."""
        if type(value) is Literal:
            return int(value.value) % n
        if value.dtype.kind == "i":
            value = self._converted(value, INT64)
            below = self._operation("less", [value, Literal(0, INT64)], BOOL)
            wrapped = self._operation("add", [value, Literal(n, INT64)], INT64)
            value = self._operation("where", [below, wrapped, value], INT64)
        else:
            value = self._converted(value, np.dtype(np.uint64))
        assert type(value) is Ref
        self._emit(Check(value, n), value.level)
        # Where the check fails the result does not matter, but the memory must exist.
        limit = Literal(n, value.dtype)
        inside = self._operation("less", [value, limit], BOOL)
        if value.dtype == INT64:
            positive = self._operation("greater_equal", [value, Literal(0, INT64)], BOOL)
            inside = self._operation("logical_and", [inside, positive], BOOL)
        safe = self._operation("where", [inside, value, Literal(0, value.dtype)], value.dtype)
        assert type(safe) is Ref
        return safe

    # -- writing ------------------------------------------------------------------------

    def _emit(self, statement: Any, level: int) -> None:
        if level == 2:
            self.block.append(statement)
        elif level == 1:
            self.kernel.body.append(statement)
        else:
            self.kernel.setup.append(statement)

    def _emit_new(self, kind: Any, dtype: np.dtype, level: int, *args: Any) -> Ref:
        out = Ref(dtype, level)
        self._emit(kind(out, *args), level)
        return out

    def _param(self, buffer: Any, dtype: np.dtype, size: int, role: str) -> int:
        if buffer not in self.numbers:
            self.numbers[buffer] = len(self.kernel.params)
            self.kernel.params.append(Param(dtype, size, role))
            self.buffers.append(buffer)
        return self.numbers[buffer]

    def _result(self, var: Any) -> int:
        return self._param(self.target(var), var.aval.dtype, max(prod(var.aval.shape), 1), "out")

    def _linear(self, places: Sequence[Place], strides: Sequence[int], offset: int) -> Index:
        const, terms, dynamic = offset, [], []
        for (start, parts, value), stride in zip(places, strides, strict=True):
            const += start * stride
            terms += [(axis, step * stride) for axis, step in parts]
            if value is not None:
                dynamic.append((value, stride))
        return affine(const, terms)._replace(dynamic=tuple(dynamic))
