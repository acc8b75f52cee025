"""From a loop nest to an LLVM function.

The function is `void kernel(ptr args, i64 begin, i64 end)`: `args` points to the arrays'
addresses, and the range is one of rows, or of elements where there is no outer axis. The inner
loop works on vectors of a fixed number of lanes; what is left over is one masked vector.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.llvm.ir.flow import counted, guarded, in_blocks
from funcgrad.backends.llvm.ir.frame import report
from funcgrad.backends.llvm.ir.scalar import apply, combine, constant, convert, identity
from funcgrad.backends.llvm.ir.types import llvm_type, memory_type
from funcgrad.backends.llvm.ir.writer import BITS, KERNEL, Module, Value, Writer
from funcgrad.backends.llvm.kernels.access import Access, Mask, windows
from funcgrad.backends.llvm.kernels.limits import LIMITS
from funcgrad.backends.llvm.kernels.packing import WIDTH, Totals, single_pass
from funcgrad.backends.loops.nests.nest import (
    Axis,
    Check,
    Combine,
    Index,
    Kernel,
    Literal,
    Load,
    Loop,
    Op,
    Param,
    Position,
    Ref,
    Rows,
    Store,
)

BOOL = np.dtype(bool)
# Short bodies that reduce are repeated within an iteration, as each sum waits for the last.
_UNROLL = ((6, 4), (16, 2))


def write_kernel(module: Module, name: str, kernel: Kernel, vector_bytes: int) -> str:
    """The function's text; it is not entered in the module."""
    return _KernelWriter(module, name, kernel, vector_bytes).text()


class _KernelWriter(Access):
    def __init__(self, module: Module, name: str, kernel: Kernel, vector_bytes: int):
        super().__init__(Writer(module, kernel.elements), kernel)
        self.name = name
        self.vector_bytes = vector_bytes
        self.splats: dict[Any, Value] = {}

    # -- the function -------------------------------------------------------------------

    def text(self) -> str:
        w, kernel = self.w, self.kernel
        begin, end = Value("%begin", "i64"), Value("%end", "i64")
        for i, param in enumerate(kernel.params):
            slot = w.offset(Value("%args", "ptr"), "ptr", w.const(i, "i64"))
            base = w.load(slot, "ptr")
            if param.role in ("partial", "scratch"):
                base = self._own_part(base, param, begin)
            self.bases.append(base)
        status = w.offset(Value("%args", "ptr"), "ptr", w.const(len(kernel.params), "i64"))
        self.status = w.load(status, "ptr")
        self._clear_parts()
        for s in kernel.setup:
            self._statement(s)
        if kernel.outer:
            self._rows(begin, end)
        else:
            count = max([loop.axes[-1].extent for loop in kernel.loops()], default=1)
            for s in kernel.body:
                if type(s) is Loop:
                    self._loop(s, self._share(s.axes[-1].extent, begin, end, count))
                else:
                    self._statement(s)
        w.line("ret void")
        params = "ptr noalias %args, i64 %begin, i64 %end"
        head = f"define internal void @{self.name}({params}) {KERNEL} {{"
        return "\n".join([head, "entry:", *w.allocas, *w.lines, "}"])

    def _own_part(self, base: Value, param: Param, begin: Value) -> Value:
        """Each chunk has a part of its own: the one at the chunk's number."""
        w = self.w
        chunk = w.load(
            w.offset(Value("%args", "ptr"), "ptr", w.const(len(self.kernel.params) + 1, "i64")),
            "i64",
        )
        number = w.op("udiv", begin, chunk)
        return w.offset(
            base, memory_type(param.dtype), w.op("mul", number, w.const(param.size, "i64"))
        )

    def _clear_parts(self) -> None:
        for base, param in zip(self.bases, self.kernel.params, strict=True):
            if param.role == "partial":
                neutral = constant(self.w, identity(param.op, param.dtype), param.dtype)
                self._fill(base, param, neutral)

    def _fill(self, base: Value, param: Param, value: Value) -> None:
        w, ty = self.w, memory_type(param.dtype)
        if value.ty == "i1":
            value = Value("1" if value.ref == "true" else "0", "i8")
        if param.size == 1:
            w.store(value, base)
            return

        lanes = 8 * self.vector_bytes // BITS[ty]
        lanes = lanes if param.size >= lanes else 1
        vector, last = w.splat(value, lanes), w.const(param.size - lanes, "i64")

        def step(i: Value) -> None:
            w.store(vector, w.offset(base, ty, i))

        counted(self.w, w.const(0, "i64"), w.const(param.size, "i64"), lanes, step)
        if param.size % lanes:
            step(last)

    def _rows(self, begin: Value, end: Value) -> None:
        outer = self.kernel.outer

        def row(number: Value) -> None:
            self._place_row(number)
            self._row(self.kernel.body)

        if len(outer) == 1 and outer[0].extent == 1:
            row(self.w.const(0, "i64"))
        elif self._height(outer[-1]):
            self._packed_rows(begin, end, row)
        else:
            counted(self.w, begin, end, 1, row)

    def _height(self, block: Axis) -> int:
        """Of how many rows on this axis at a time something is packed."""
        return max(
            (r.pack.height for r in self.panels.values() if r.pack.block is block), default=0
        )

    def _packed_rows(self, begin: Value, end: Value, row: Callable[[Value], None]) -> None:
        """Rows in blocks, none of which goes beyond an end of the last outer axis."""
        w, (*others, last) = self.w, self.kernel.outer
        height, extent = w.const(self._height(last), "i64"), w.const(last.extent, "i64")
        loop = single_pass(self.kernel)

        def length(i: Value) -> Value:
            if not others:
                return height
            return w.intrinsic("smin", height, w.op("sub", extent, w.op("urem", i, extent)))

        def block(i: Value, stop: Value) -> None:
            if loop is not None:
                self._pieces(loop, i, stop)
                return
            self._place_row(i)
            self._fill_rooms(last, w.op("sub", stop, i), w.const(0, "i64"))
            counted(w, i, stop, 1, row)

        in_blocks(w, begin, end, length, block)

    def _pieces(self, loop: Loop, begin: Value, stop: Value) -> None:
        """A block of rows, done piece by piece."""
        w, body = self.w, self.kernel.body
        axis = loop.axes[-1]
        place = next(k for k, s in enumerate(body) if s is loop)
        lanes, unroll = self._lanes(loop), self._unroll(loop)
        totals = Totals(w, self._neutral(loop, lanes, unroll))
        number = functools.partial(w.op, "sub")

        def start(row: Value) -> None:
            totals.write(number(row, begin), totals.start)

        def piece(left: Value, right: Value) -> None:
            self._place_row(begin)
            self._fill_rooms(self.kernel.outer[-1], number(stop, begin), left)

            def row(i: Value) -> None:
                self._place_row(i)
                self._row(body[:place])
                found = totals.read(number(i, begin))
                found = self._passes(loop, lanes, unroll, (left, right), found)
                totals.write(number(i, begin), found)

            counted(w, begin, stop, 1, row)

        def finish(i: Value) -> None:
            self._place_row(i)
            self._row(body[:place])
            self._take_totals(loop, unroll, totals.read(number(i, begin)))
            self._row(body[place + 1 :])

        if loop.reductions:
            counted(w, begin, stop, 1, start)
        width = w.const(WIDTH, "i64")
        extent = w.const(axis.extent, "i64")
        in_blocks(w, w.const(0, "i64"), extent, lambda _: width, piece)
        if body[place + 1 :]:
            counted(w, begin, stop, 1, finish)

    def _fill_rooms(self, block: Axis, count: Value, column: Value) -> None:
        """Pack so many rows, from where the axis stands."""
        w = self.w
        for panel in self.panels.values():
            pack = panel.pack
            if pack.block is block:
                start, _ = self._address_terms(pack.around)
                base = w.offset(self.bases[pack.array], pack.ty, start)
                lanes = 8 * self.vector_bytes // BITS[pack.ty]
                panel.fill(self.positions[block], count, column, base, lanes)

    def _row(self, body: Sequence[Any]) -> None:
        for s in body:
            if type(s) is Loop:
                self._loop(s, None)
            elif type(s) is Rows:
                self._some_rows(s)
            else:
                self._statement(s)

    def _some_rows(self, s: Rows) -> None:
        w, here = self.w, self.positions[s.axis]
        low = w.compare("icmp sge", here, w.const(s.begin, "i64"))
        high = w.compare("icmp slt", here, w.const(s.end, "i64"))
        with w.when(w.op("and", low, high), "rows"):
            self._row(s.body)

    def _share(self, extent: int, begin: Value, end: Value, count: int) -> tuple[Value, Value]:
        """A chunk's part of an axis, as it is part of another, longer one."""
        if extent == count:
            return begin, end
        w = self.w

        def place(bound: Value) -> Value:
            scaled = w.op("mul", bound, w.const(extent, "i64"))
            rounds = w.op("udiv", scaled, w.const(count * LIMITS.grain, "i64"))
            return w.op("mul", rounds, w.const(LIMITS.grain, "i64"))

        is_last = w.compare("icmp eq", end, w.const(count, "i64"))
        return place(begin), w.select(is_last, w.const(extent, "i64"), place(end))

    def _place_row(self, number: Value) -> None:
        """The outer axes' positions of a row."""
        w = self.w
        rest = number
        for axis in reversed(self.kernel.outer[1:]):
            extent = w.const(axis.extent, "i64")
            self.positions[axis] = w.op("urem", rest, extent)
            rest = w.op("udiv", rest, extent)
        self.positions[self.kernel.outer[0]] = rest

    # -- loops --------------------------------------------------------------------------

    def _loop(self, loop: Loop, range_: tuple[Value, Value] | None) -> None:
        """One pass; `range_` bounds the vectorised axis where threads share that."""
        lanes, unroll = self._lanes(loop), self._unroll(loop)
        start = self._neutral(loop, lanes, unroll)
        self._take_totals(loop, unroll, self._passes(loop, lanes, unroll, range_, start))

    def _unroll(self, loop: Loop) -> int:
        most = next((u for n, u in _UNROLL if len(loop.body) <= n), 1) if loop.reductions else 1
        return max(1, min(most, loop.axes[-1].extent // self._lanes(loop)))

    def _neutral(self, loop: Loop, lanes: int, unroll: int) -> list[Value]:
        return [
            constant(self.w, identity(r.op, r.value.dtype), r.value.dtype, lanes)
            for r in loop.reductions
            for _ in range(unroll)
        ]

    def _take_totals(self, loop: Loop, unroll: int, totals: Sequence[Value]) -> None:
        for k, r in enumerate(loop.reductions):
            parts = list(totals[k * unroll : (k + 1) * unroll])
            self.values[r.out] = self._across(r.op, r.value.dtype, parts)

    def _passes(
        self,
        loop: Loop,
        lanes: int,
        unroll: int,
        range_: tuple[Value, Value] | None,
        totals: Sequence[Value],
    ) -> list[Value]:
        """The vectorised loop, within those around it; the totals in vectors."""
        w = self.w
        *around, axis = loop.axes
        self._hoist(loop, lanes)
        self.windows = windows(loop.body, axis, self.kernel.params)
        begin, end = range_ or (w.const(0, "i64"), w.const(axis.extent, "i64"))

        def nest(depth: int, *carry: Value) -> list[Value]:
            if depth == len(around):
                return self._vector_loop(loop, axis, lanes, unroll, begin, end, list(carry))
            outside = around[depth]

            def step(i: Value, *inner: Value) -> list[Value]:
                self.positions[outside] = i
                return nest(depth + 1, *inner)

            def block(i: Value, stop: Value, *inner: Value) -> list[Value]:
                self.positions[outside] = i
                self._fill_rooms(outside, w.op("sub", stop, i), w.const(0, "i64"))
                return counted(w, i, stop, 1, step, inner)

            none, extent = w.const(0, "i64"), w.const(outside.extent, "i64")
            height = w.const(self._height(outside), "i64")
            if height.ref == "0":
                return counted(w, none, extent, 1, step, carry)
            return in_blocks(w, none, extent, lambda _: height, block, carry)

        found = nest(0, *totals)
        self.splats = {}
        return found

    def _vector_loop(
        self,
        loop: Loop,
        axis: Axis,
        lanes: int,
        unroll: int,
        begin: Value,
        end: Value,
        carry: list[Value],
    ) -> list[Value]:
        w = self.w
        rest = axis.extent % lanes
        whole = w.const(axis.extent - rest, "i64")
        if begin.ref.startswith("%") and rest:
            stop = w.intrinsic("smin", end, whole)
        else:
            stop = end if begin.ref.startswith("%") else whole
        self.vector_axis, self.lanes = axis, lanes

        def step(i: Value, *totals: Value) -> list[Value]:
            found = list(totals)
            for u in range(unroll):
                here = w.op("add", i, w.const(u * lanes, "i64")) if u else i
                self._pass(loop, axis, here, found, u, unroll)
            return found

        def single(i: Value, *totals: Value) -> list[Value]:
            found = list(totals)
            self._pass(loop, axis, i, found, 0, unroll)
            return found

        count = (axis.extent - rest) // lanes
        if count:
            if unroll == 1 and not begin.ref.startswith("%") and count == 1:
                carry = single(begin, *carry)
            else:
                carry = counted(self.w, begin, stop, lanes * unroll, step, carry)
        left = count % unroll
        if left:
            # A chunk's length is a multiple of what a round does, so only the end has more.
            first = w.const((count - left) * lanes, "i64")
            if begin.ref.startswith("%"):
                start = w.intrinsic("smax", begin, first)
                carry = counted(self.w, start, stop, lanes, single, carry)
            else:
                carry = counted(self.w, first, whole, lanes, single, carry)
        if rest:
            self.mask = Mask(lanes, rest)
            if begin.ref.startswith("%"):
                last = w.const(axis.extent, "i64")
                carry = guarded(
                    self.w, w.compare("icmp eq", end, last), lambda *c: single(whole, *c), carry
                )
            else:
                carry = single(whole, *carry)
            self.mask = None
        self.vector_axis, self.lanes = None, 1
        return carry

    def _pass(
        self, loop: Loop, axis: Axis, i: Value, totals: list[Value], u: int, unroll: int
    ) -> None:
        """The body for one vector, added to the totals of the u-th repetition."""
        self.positions[axis] = i
        self.wide, self.waiting = {}, {}
        for s in loop.body:
            self._statement(s)
        for k, r in enumerate(loop.reductions):
            value = self._operand(r.value)
            dtype = r.value.dtype
            if self.mask is not None:
                neutral = constant(self.w, identity(r.op, dtype), dtype, self.lanes)
                value = self.w.select(Value(self.mask.text, "i1", self.lanes), value, neutral)
            slot = k * unroll + u
            totals[slot] = combine(self.w, r.op, dtype, totals[slot], value)

    def _across(self, op: str, dtype: np.dtype, parts: list[Value]) -> Value:
        """Repetitions and lanes combined into one number, in a fixed order."""
        while len(parts) > 1:
            half = len(parts) // 2
            pairs = [combine(self.w, op, dtype, parts[i], parts[i + half]) for i in range(half)]
            parts = pairs + parts[2 * half :]
        total = parts[0]
        while total.lanes > 1:
            half = total.lanes // 2
            low = self.w.shuffle(total, range(half))
            high = self.w.shuffle(total, range(half, total.lanes))
            total = combine(self.w, op, dtype, low, high)
        return total

    def _lanes(self, loop: Loop) -> int:
        """As many as fill a vector with the widest numbers that are computed with."""
        sizes = [4]
        floats = [
            s.out.dtype.itemsize for s in loop.body if type(s) is Op and s.out.dtype.kind == "f"
        ]
        floats += [
            s.out.dtype.itemsize for s in loop.body if type(s) is Load and s.out.dtype.kind == "f"
        ]
        whole = [
            s.out.dtype.itemsize
            for s in loop.body
            if type(s) in (Op, Load) and s.out.dtype.kind in "iu"
        ]
        sizes = floats or whole or [1]
        lanes = self.vector_bytes // max(max(sizes), 2)
        extent = loop.axes[-1].extent
        while lanes > 1 and lanes // 2 >= extent:
            lanes //= 2
        return lanes

    def _hoist(self, loop: Loop, lanes: int) -> None:
        """Spread what the loop reads from outside over the lanes once, before the loop."""
        if lanes == 1:
            return
        inside = {s.out for s in loop.body if type(s) in (Load, Op, Position)}
        read: list[Any] = [r.value for r in loop.reductions]
        for s in loop.body:
            if type(s) is Op:
                read += s.args
            elif type(s) in (Store, Combine):
                read.append(s.value)
        for a in read:
            if type(a) is Ref and a not in inside and a not in self.splats:
                self.splats[a] = self.w.splat(self.values[a], lanes)

    # -- statements ---------------------------------------------------------------------

    def _statement(self, s: Any) -> None:
        form = type(s)
        if form is Load:
            self.values[s.out] = self._load(s.array, s.index, s.out.dtype)
        elif form is Op:
            self.values[s.out] = self._op(s)
        elif form is Position:
            self.values[s.out] = self._position(s.index, s.out.dtype)
        elif form is Store:
            self._store(s.array, s.index, self._operand(s.value))
        elif form is Combine:
            self._accumulate(s)
        elif form is Check:
            self._check(s)

    def _op(self, s: Op) -> Value:
        vector = s.out.level == 2 and self.vector_axis is not None
        args = [self._operand(a, vector) for a in s.args]
        if s.name == "convert":
            return convert(self.w, args[0], s.args[0].dtype, s.out.dtype)
        return apply(self.w, s.name, [a.dtype for a in s.args], args)

    def _operand(self, a: Any, vector: bool = True) -> Value:
        lanes = self.lanes if vector else 1
        if type(a) is Literal:
            return constant(self.w, a.value, a.dtype, lanes)
        value = self.values[a]
        if lanes > 1 and value.lanes == 1:
            found = self.splats.get(a)
            return found if found is not None else self.w.splat(value, lanes)
        return value

    def _accumulate(self, s: Combine) -> None:
        dtype = self.kernel.params[s.array].dtype
        vector = self.vector_axis is not None
        scattered = self._lane_terms(s.index) if vector else []
        _, step = self._address_terms(s.index)
        value = self._operand(s.value, vector)
        if vector and self.lanes > 1 and (scattered or step == 0):
            self._accumulate_lanes(s, value, dtype)
            return
        old = self._load(s.array, s.index, dtype)
        self._store(s.array, s.index, combine(self.w, s.op, dtype, old, value))

    def _accumulate_lanes(self, s: Combine, value: Value, dtype: np.dtype) -> None:
        """One lane after the other, as several may meet at one place."""
        w, ty = self.w, memory_type(dtype)
        start, step = self._address_terms(s.index)
        scattered = self._lane_terms(s.index)
        address = w.offset(self.bases[s.array], ty, start)
        count = self.mask.count if self.mask is not None else self.lanes
        for lane in range(count):
            place = self._lane(address, ty, step, scattered, lane)
            old = self._from_memory(w.load(place, ty), dtype)
            new = combine(self.w, s.op, dtype, old, w.extract(value, lane))
            w.store(self._to_memory(new, dtype), place)

    def _position(self, index: Index, dtype: np.dtype) -> Value:
        w = self.w
        start, step = self._address_terms(index)
        ty = llvm_type(dtype)
        if ty != "i64":
            start = w.cast("trunc", start, ty)
        if not step or self.lanes == 1:
            return start
        steps = ", ".join(f"{ty} {lane * step}" for lane in range(self.lanes))
        base = w.splat(start, self.lanes)
        return w.op("add", base, Value(f"<{steps}>", ty, self.lanes))

    def _check(self, s: Check) -> None:
        w = self.w
        value = self.values[s.value]
        bad = w.compare("icmp uge", value, w.like(s.extent, value))
        if self.mask is not None and value.lanes > 1:
            bad = w.op("and", bad, Value(self.mask.text, "i1", value.lanes))
        report(w, self.status, bad, value, s.code or s.extent)
