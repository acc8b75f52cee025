"""Scalar values at coordinates, written as statements where something asks for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.common.dtypes import BOOL, INT64, loop_dtypes, narrow_code, narrow_range
from funcgrad.backends.loops.nests.coordinates import (
    ZERO,
    Coordinate,
    broadcast,
    mapped,
    through_view,
    unmapped,
)
from funcgrad.backends.loops.nests.iota import counted_axis, is_iota, one_hot_rows
from funcgrad.backends.loops.nests.nest import (
    Axis,
    Check,
    Index,
    Kernel,
    Literal,
    Load,
    Op,
    Operand,
    Param,
    Position,
    Ref,
    affine,
)
from funcgrad.backends.loops.nests.tiling import SplitRequest, split_request
from funcgrad.backends.loops.nests.views import View, parts_of, row_major
from funcgrad.core.graph import Const, Eqn
from funcgrad.core.view_map import ViewMap
from funcgrad.primitives.indexing import block_position

INT32 = np.dtype(np.int32)


def reduction_of(eqn: Eqn) -> str:
    """The scalar operation that a reduction combines elements by."""
    assert eqn.prim.reduces is not None
    return eqn.prim.reduces


class Values:
    """Writes values into a kernel: those of the whole kernel, of a row, and of a pass over it.

    Args:
        eqns: what values are computed by; all others are loaded.
        resolve: where a variable of another cluster lies in memory.
        target: the buffer that an output is written to.

    Attributes:
        body: the statements of a row; `block`: those of the loop that is being written.
        memo, pass_memo: values that are known in the row, and in the loop alone.
        rows: reductions of the row.
        kept: where values lie that an earlier pass has written to scratch rows.
        reach: the range of an axis' positions.
        rounds: what axis of the space an axis is, and the round of the tiling it starts at.
        requests: what would have told statically whether a position lies within a range.
    """

    def __init__(
        self,
        eqns: Iterable[Eqn],
        resolve: Callable[[Any], View],
        target: Callable[[Any], Any],
    ):
        self.made_by: dict[int, Eqn] = {id(e.outs[0]): e for e in eqns}
        self.resolve = resolve
        self.target = target
        self.kernel = Kernel([], (), [], [])
        self.body: list[Any] = self.kernel.body
        self.block: list[Any] = []
        self.buffers: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.memo: dict[Any, Operand] = {}
        self.pass_memo: dict[Any, Operand] = {}
        self.rows: dict[Any, Operand] = {}
        self.kept: dict[Any, tuple[int, Index]] = {}
        self.reach: dict[Axis, tuple[int, int]] = {}
        self.rounds: dict[Axis, tuple[int, int]] = {}
        self.requests: list[SplitRequest] = []

    def value(self, atom: Any, coordinates: tuple[Coordinate, ...]) -> Operand:
        """A value's element at these coordinates."""
        if type(atom) is Const and not isinstance(atom.value, np.ndarray):
            return Literal(atom.value, atom.aval.dtype)
        key = (id(atom), coordinates)
        found = self.memo.get(key) or self.pass_memo.get(key) or self.rows.get(key)
        if found is None:
            kept = self.kept.get(key)
            if kept is not None:
                found = self._emit_new(Load, atom.aval.dtype, 2, *kept)
            else:
                found = self._computed(atom, coordinates)
            (self.pass_memo if found.level == 2 else self.memo)[key] = found
        return found

    def _computed(self, atom: Any, coordinates: tuple[Coordinate, ...]) -> Operand:
        eqn = self.made_by.get(id(atom))
        if eqn is None:
            return (
                self._counted(atom, coordinates) if is_iota(atom) else self._load(atom, coordinates)
            )
        prim, name = eqn.prim, eqn.prim.name
        if prim.view:
            return self.value(eqn.ins[0], through_view(eqn, coordinates))
        if prim.reduces:
            return self._unrolled(eqn, coordinates)
        if prim.gathers:
            return self._gather(eqn, coordinates)
        if prim.scatters:
            return self._one_hot(eqn, coordinates)
        if prim.assembles:
            return self._assembled(eqn, coordinates)
        args = []
        for a, dtype in zip(eqn.ins, loop_dtypes(eqn), strict=True):
            args.append(self._converted(self.value(a, broadcast(a, coordinates)), dtype))
        dtype = eqn.outs[0].aval.dtype
        return (
            self._narrowed(args[0], dtype)
            if name == "narrow"
            else self._operation(name, args, dtype, prim.cost)
        )

    def _narrowed(self, value: Operand, dtype: np.dtype) -> Operand:
        """A Python integer, checked to be one of the dtype's."""
        least, count = narrow_range(dtype)
        value = self._converted(value, INT64)
        above = self._operation("sub", [value, Literal(least, INT64)], INT64)
        assert type(above) is Ref
        self._emit(Check(above, count, narrow_code(dtype)), above.level)
        return self._converted(value, dtype)

    def _operation(self, name: str, args: list[Operand], dtype: np.dtype, cost: int = 1) -> Operand:
        if name == "convert":
            return self._converted(args[0], dtype)
        level = max(a.level for a in args)
        out = Ref(dtype, level)
        self._emit(Op(out, name, tuple(args), cost), level)
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

    def _load(self, atom: Any, coordinates: tuple[Coordinate, ...]) -> Operand:
        view = self.resolve(atom)
        index = self._linear(coordinates, view.strides, view.offset)
        number = self._param(view.buffer, atom.aval.dtype, view.buffer.size, "in")
        key = ("load", number, index)
        memo = self.pass_memo if index.level == 2 else self.memo
        if key not in memo:
            memo[key] = self._emit_new(Load, atom.aval.dtype, index.level, number, index)
        return memo[key]

    def _counted(self, atom: Any, coordinates: tuple[Coordinate, ...]) -> Operand:
        """An element of a constant that counts its elements: its own number."""
        index = self._linear(coordinates, row_major(atom.aval.shape), 0)
        if index.dynamic:
            return self._load(atom, coordinates)
        return self._converted(self._position(index), atom.aval.dtype)

    def _unrolled(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> Operand:
        """A reduction over a short axis: its elements one after the other."""
        axes, keep = eqn.params["axes"], eqn.params["keepdims"]
        shape, dtype = eqn.ins[0].aval.shape, eqn.outs[0].aval.dtype
        rest = iter(p for i, p in enumerate(coordinates) if not (keep and i in axes))
        around = [None if i in axes else next(rest) for i in range(len(shape))]
        total: Operand | None = None
        for chosen in itertools.product(*(range(shape[a]) for a in axes)):
            supply = iter(chosen)
            full = tuple(Index(next(supply)) if p is None else p for p in around)
            value = self._converted(self.value(eqn.ins[0], full), dtype)
            total = (
                value
                if total is None
                else self._operation(reduction_of(eqn), [total, value], dtype)
            )
        assert total is not None
        return total

    def _gather(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> Operand:
        x, *indices = eqn.ins
        axes = eqn.params["axes"]
        block = np.broadcast_shapes(*(i.aval.shape for i in indices))
        start = block_position(axes)
        own = coordinates[start : start + len(block)]
        rest = iter((*coordinates[:start], *coordinates[start + len(block) :]))
        found = []
        for axis, n in enumerate(x.aval.shape):
            if axis in axes:
                i = indices[axes.index(axis)]
                found.append(self._indexed(i, broadcast(i, own), n))
            else:
                found.append(next(rest))
        return self.value(x, tuple(found))

    def _indexed(self, atom: Any, coordinates: tuple[Coordinate, ...], n: int) -> Coordinate:
        """The coordinate that an element of an index array names."""
        axis = counted_axis(atom, n)
        if axis is not None:
            return coordinates[axis]
        index = self._index(self.value(atom, coordinates), n)
        return Index(index) if isinstance(index, int) else Index(0, (), ((index, 1),))

    def _one_hot(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> Operand:
        """The updates where the one index that is no count of rows names the coordinate, else 0."""
        updates, *indices = eqn.ins
        axes, shape, dtype = eqn.params["axes"], eqn.params["shape"], eqn.outs[0].aval.dtype
        rows = one_hot_rows(eqn)
        assert rows is not None
        block: list[Coordinate] = [ZERO] * len(updates.aval.shape)
        for axis, row in rows.items():
            block[row] = coordinates[axis]
        (chosen,) = {*axes} - {*rows}
        atom = indices[axes.index(chosen)]
        index = self._index(self.value(atom, broadcast(atom, tuple(block))), shape[chosen])
        value = self.value(updates, broadcast(updates, tuple(block)))
        here = self._position(coordinates[chosen])
        if isinstance(index, int):
            there: Operand = Literal(index, INT32)
        else:
            there = self._converted(index, INT32)
        hit = self._operation("equal", [here, there], BOOL)
        return self._operation("where", [hit, value, Literal(0, dtype)], dtype)

    def _position(self, coordinate: Coordinate) -> Operand:
        """A coordinate as a number."""
        total: Operand | None = None
        for ref, step in coordinate.dynamic:
            term = self._converted(ref, INT32)
            if step != 1:
                term = self._operation("mul", [term, Literal(step, INT32)], INT32)
            total = term if total is None else self._operation("add", [total, term], INT32)
        index = affine(coordinate.const, coordinate.terms)
        if total is not None and index == ZERO:
            return total
        key = ("position", index)
        memo = self.pass_memo if index.level == 2 else self.memo
        if key not in memo:
            memo[key] = self._emit_new(Position, INT32, index.level, index)
        return memo[key] if total is None else self._operation("add", [memo[key], total], INT32)

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

    # -- arrays put together ------------------------------------------------------------

    def _assembled(self, eqn: Eqn, coordinates: tuple[Coordinate, ...]) -> Operand:
        """The element of the operand that lies there, or else 0."""
        dtype = eqn.outs[0].aval.dtype
        covered = sum(a.aval.size for a in eqn.ins) == eqn.outs[0].aval.size
        found: Operand | None = None if covered else Literal(dtype.type(0), dtype)
        for atom, part in zip(eqn.ins, parts_of(eqn), strict=True):
            where = self._inside(part, atom.aval.shape, coordinates)
            if where is None:
                continue
            own, tests = where
            value = self._converted(self.value(atom, own), dtype)
            if found is not None:
                for test in tests:
                    value = self._operation("where", [test, value, found], dtype)
            found = value
            if not tests:
                break
        assert found is not None
        return found

    def _inside(
        self, part: ViewMap, shape: tuple[int, ...], coordinates: tuple[Coordinate, ...]
    ) -> tuple[tuple[Coordinate, ...], list[Operand]] | None:
        """Where in a part coordinates of the whole lie, and tests of whether they do; or None."""
        ranges = {axis: range(p, p + 1) for axis, p in part.fixed}
        for n, along in zip(shape, part.axes, strict=True):
            assert along is not None
            first, step = along.start, along.step
            ranges[along.axis] = range(first, first + step * n, step)
        own, tests = {}, []
        for axis, (n, coordinate) in enumerate(zip(part.source, coordinates, strict=True)):
            inside = True
            if ranges[axis] != range(n):
                inside, coordinate = self._within(coordinate, ranges[axis])
            if inside is False:
                return None
            if inside is not True:
                tests.append(inside)
            own[axis] = ZERO if len(ranges[axis]) == 1 else coordinate
        return tuple([own[along.axis] for along in part.axes if along is not None]), tests

    def _within(self, coordinate: Coordinate, within: range) -> tuple[bool | Operand, Coordinate]:
        """Whether a coordinate lies within a range, and where in it; known for all of the pass, or
        else a value that tells it, and a coordinate that exists in any case."""
        coordinate = self._settled(coordinate)
        up = within if within.step > 0 else within[::-1]
        if not coordinate.dynamic:
            ends = [(s * self.reach[a][0], s * (self.reach[a][1] - 1)) for a, s in coordinate.terms]
            low = coordinate.const + sum(map(min, ends))
            high = coordinate.const + sum(map(max, ends))
            even = all(s % up.step == 0 for _, s in coordinate.terms)
            if high < up[0] or low > up[-1] or (even and (coordinate.const - up[0]) % up.step):
                return False, ZERO
            if even and low >= up[0] and high <= up[-1]:
                return True, unmapped(coordinate, within.start, within.step)
            if len(coordinate.terms) == 1:
                self._request_split(coordinate, up)
        return self._test(coordinate, within, up)

    def _settled(self, coordinate: Coordinate) -> Coordinate:
        """The coordinate without axes that have one position."""
        const, terms = coordinate.const, []
        for axis, step in coordinate.terms:
            begin, end = self.reach[axis]
            if end - begin == 1:
                const += step * begin
            else:
                terms.append((axis, step))
        return Index(const, tuple(terms), coordinate.dynamic)

    def _request_split(self, coordinate: Coordinate, within: range) -> None:
        ((axis, step),) = coordinate.terms
        number, begin = self.rounds[axis]
        self.requests.append(
            split_request(
                number, coordinate._replace(const=coordinate.const - step * begin), within
            )
        )

    def _test(self, coordinate: Coordinate, within: range, up: range) -> tuple[Operand, Coordinate]:
        here = self._position(coordinate)
        above = self._operation("greater_equal", [here, Literal(up[0], INT32)], BOOL)
        below = self._operation("less_equal", [here, Literal(up[-1], INT32)], BOOL)
        inside = self._operation("logical_and", [above, below], BOOL)
        count = self._operation("sub", [here, Literal(up[0], INT32)], INT32)
        if up.step > 1:
            step = Literal(up.step, INT32)
            rest = self._operation("remainder", [count, step], INT32)
            hit = self._operation("equal", [rest, Literal(0, INT32)], BOOL)
            inside = self._operation("logical_and", [inside, hit], BOOL)
            count = self._operation("floor_divide", [count, step], INT32)
        safe = self._operation("where", [inside, count, Literal(0, INT32)], INT32)
        number = self._converted(safe, INT64)
        assert type(number) is Ref
        there = Index(0, (), ((number, 1),))
        return inside, there if up is within else mapped(there, len(up) - 1, -1)

    # -- writing ------------------------------------------------------------------------

    def _emit(self, statement: Any, level: int) -> None:
        if level == 2:
            self.block.append(statement)
        elif level == 1:
            self.body.append(statement)
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

    def _linear(
        self, coordinates: Sequence[Coordinate], strides: Sequence[int], offset: int
    ) -> Index:
        const, terms, dynamic = offset, [], []
        for coordinate, stride in zip(coordinates, strides, strict=True):
            const += coordinate.const * stride
            terms += [(axis, step * stride) for axis, step in coordinate.terms]
            dynamic += [(ref, step * stride) for ref, step in coordinate.dynamic]
        return affine(const, terms)._replace(dynamic=tuple(dynamic))
