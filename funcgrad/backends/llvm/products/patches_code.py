"""The code of convolutions by products of patches; `convolution` says what it computes.

Each piece of the work copies some patches into the cache, one a row, and multiplies them there:
no more of them ever lies in memory. What lies beyond the edge is zero.
"""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.backends.llvm.ir.flow import counted, parts
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.products import room as rooms
from funcgrad.backends.llvm.products.room import Room, arguments
from funcgrad.backends.llvm.products.room import call_gemm as gemm
from funcgrad.backends.llvm.products.tile_shapes import lanes

SIZES = (
    "slots", "slot", "rows", "high", "oh", "ow", "h", "w", "c", "k", "kh", "kw", "sh", "sw", "dh",
    "dw", "top", "left", "part", "patch",
)  # fmt: skip
# Lines of so many numbers are copied by our own instructions.
SHORT = 64


def text(part: str, name: str, ty: str) -> str:
    """The module that defines a function for numbers of one type."""
    module = Module()
    rooms.define_copies(module)
    module.define("gather", _Gather(module, ty).text())
    module.define(name, (_forward if part == "patches" else _kernel)(module, name, ty))
    return f"{rooms.ATTRIBUTES}\n{module}"


class _Gather:
    """Writes `void gather(ptr x, ptr to, ptr sizes, i64 begin, i64 end)`: the patches of these
    results.

    For each row of results it goes over the kernel's rows, of each of which a line of taps lies
    side by side in the image. Short lines are copied as whole vectors: what these write beyond
    the end is written again by what comes next, or lies between two patches.
    """

    def __init__(self, module: Module, ty: str):
        self.w, self.ty, self.lanes = Writer(module), ty, lanes(ty)
        self.sizes = arguments(self.w, SIZES)
        self.zero, self.one = self.w.const(0, "i64"), self.w.const(1, "i64")
        self.line = self.w.op("mul", self.sizes["kw"], self.sizes["c"])

    def text(self) -> str:
        w, s = self.w, self.sizes
        begin, end, ow = Value("%begin", "i64"), Value("%end", "i64"), s["ow"]

        def row(number: Value) -> None:
            before = w.op("mul", number, ow)
            low = w.intrinsic("smax", w.op("sub", begin, before), self.zero)
            high = w.intrinsic("smin", w.op("sub", end, before), ow)
            far = w.op("mul", w.op("sub", w.op("add", before, low), begin), s["patch"])
            start = w.offset(Value("%to", "ptr"), self.ty, far)
            oy, image = w.op("urem", number, s["oh"]), w.op("udiv", number, s["oh"])
            top = w.op("sub", w.op("mul", oy, s["sh"]), s["top"])
            image_row = w.op("mul", image, s["h"])

            def kernel_row(a: Value) -> None:
                iy = w.op("add", top, w.op("mul", a, s["dh"]))
                place = w.offset(start, self.ty, w.op("mul", a, self.line))
                far = w.op("mul", w.op("add", image_row, iy), s["w"])
                self._lines(place, self._moved(Value("%x", "ptr"), far), iy, low, high)

            counted(w, self.zero, s["kh"], 1, kernel_row)

        counted(w, w.op("udiv", begin, ow), parts(w, end, ow), 1, row)
        head = "define internal void @gather(ptr %x, ptr %to, ptr %sizes, i64 %begin, i64 %end)"
        return "\n".join([f"{head} #0 {{", "entry:", *w.allocas, *w.lines, "  ret void", "}"])

    def _lines(self, start: Value, row: Value, iy: Value, low: Value, high: Value) -> None:
        """The lines of the results from column `low` to `high`, of a row of the image."""
        w, s = self.w, self.sizes

        def each(begin: Value, end: Value, write: Callable[[Value, Value], None]) -> None:
            def line(ox: Value) -> None:
                far = w.op("mul", w.op("sub", ox, low), s["patch"])
                first = w.op("sub", w.op("mul", ox, s["sw"]), s["left"])
                write(w.offset(start, self.ty, far), first)

            counted(w, begin, end, 1, line)

        inside = w.compare("icmp ult", iy, s["h"])
        with w.when(w.op("xor", inside, w.const(1, "i1")), "outside"):
            each(low, high, lambda place, first: self._clear(place, s["kw"]))
        together = w.compare("icmp eq", s["dw"], self.one)
        with w.when(w.op("and", inside, w.op("xor", together, w.const(1, "i1"))), "apart"):
            each(low, high, lambda place, first: self._apart(place, row, first))
        with w.when(w.op("and", inside, together), "together"):
            # From here to there no line reaches beyond the edge.
            first = self._clamped(parts(w, s["left"], s["sw"]), low, high)
            room = w.op("add", w.op("sub", s["w"], s["kw"]), s["left"])
            last = w.op("add", w.op("sdiv", room, s["sw"]), self.one)
            last = w.select(w.compare("icmp slt", room, self.zero), self.zero, last)
            last = self._clamped(last, first, high)
            each(low, first, lambda place, at: self._cut(place, row, at))
            short = w.compare("icmp sle", self.line, w.const(SHORT, "i64"))
            with w.when(short, "short"):
                each(first, last, lambda place, at: self._short(place, self._moved(row, at)))
            with w.when(w.op("xor", short, w.const(1, "i1")), "long"):
                each(first, last, lambda p, at: self._copy(p, self._moved(row, at), s["kw"]))
            each(last, high, lambda place, at: self._cut(place, row, at))

    def _short(self, place: Value, of: Value) -> None:
        """A line in whole vectors."""
        w = self.w
        numbers = ", ".join(f"i64 {k}" for k in range(self.lanes))

        def vector(number: Value) -> None:
            at = w.op("mul", number, w.const(self.lanes, "i64"))
            left = w.splat(w.op("sub", self.line, at), self.lanes)
            mask = w.compare("icmp slt", Value(f"<{numbers}>", "i64", self.lanes), left)
            value = w.masked_load(w.offset(of, self.ty, at), self.ty, mask)
            w.store(value, w.offset(place, self.ty, at))

        count = parts(w, self.line, w.const(self.lanes, "i64"))
        counted(w, self.zero, count, 1, vector)

    def _cut(self, place: Value, row: Value, first: Value) -> None:
        """A line that may reach beyond either edge."""
        w, s = self.w, self.sizes
        low = self._clamped(w.op("sub", self.zero, first), self.zero, s["kw"])
        high = self._clamped(w.op("sub", s["w"], first), low, s["kw"])
        self._clear(place, low)
        of = self._moved(row, w.op("add", first, low))
        self._copy(self._moved(place, low), of, w.op("sub", high, low))
        self._clear(self._moved(place, high), w.op("sub", s["kw"], high))

    def _apart(self, place: Value, row: Value, first: Value) -> None:
        """A line whose taps lie apart."""
        w, s = self.w, self.sizes

        def tap(number: Value) -> None:
            column = w.op("add", first, w.op("mul", number, s["dw"]))
            inside = w.compare("icmp ult", column, s["w"])
            here = self._moved(place, number)
            with w.when(inside, "inside"):
                self._copy(here, self._moved(row, column), self.one)
            with w.when(w.op("xor", inside, w.const(1, "i1")), "outside"):
                self._clear(here, self.one)

        counted(w, self.zero, s["kw"], 1, tap)

    def _clamped(self, value: Value, low: Value, high: Value) -> Value:
        return self.w.intrinsic("smin", self.w.intrinsic("smax", value, low), high)

    def _moved(self, place: Value, taps: Value) -> Value:
        return self.w.offset(place, self.ty, self.w.op("mul", taps, self.sizes["c"]))

    def _bytes(self, taps: Value) -> str:
        return rooms.count_bytes(self.w, self.w.op("mul", taps, self.sizes["c"]), self.ty).ref

    def _clear(self, place: Value, taps: Value) -> None:
        self.w.line(f"call void @clear(ptr {place.ref}, i64 {self._bytes(taps)})")

    def _copy(self, place: Value, of: Value, taps: Value) -> None:
        size = self._bytes(taps)
        self.w.line(f"call void @copy(ptr {place.ref}, ptr {of.ref}, i64 {size})")


def _call_gather(w: Writer, to: Value, begin: Value, end: Value) -> None:
    w.line(f"call void @gather(ptr %x, ptr {to.ref}, ptr %sizes, i64 {begin.ref}, i64 {end.ref})")


def _forward(module: Module, name: str, ty: str) -> str:
    """`void name(ptr x, ptr w, ptr y, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`"""
    w = Writer(module)
    s = arguments(w, SIZES)
    kernel, y, k = Value("%w", "ptr"), Value("%y", "ptr"), s["k"]
    depth = w.op("mul", w.op("mul", s["kh"], s["kw"]), s["c"])
    room = Room(w, s["slots"], s["slot"])

    def piece(number: Value) -> None:
        begin = w.op("mul", number, s["high"])
        end = w.intrinsic("smin", w.op("add", begin, s["high"]), s["rows"])
        _call_gather(w, room.start, begin, end)
        lengths = w.op("sub", end, begin), k, depth
        to = w.offset(y, ty, w.op("mul", begin, k))
        gemm(
            w, ty, False, lengths, (room.start, s["patch"]), (kernel, k), w.const(0.0, ty), (to, k)
        )

    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
    room.leave()
    return rooms.function(name, "x w y", w)


def _kernel(module: Module, name: str, ty: str) -> str:
    """`void name(ptr x, ptr y, ptr w, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`

    A piece is the sum over a part of the results.
    """
    w = Writer(module)
    s = arguments(w, SIZES)
    y, k = Value("%y", "ptr"), s["k"]
    depth = w.op("mul", w.op("mul", s["kh"], s["kw"]), s["c"])
    room = Room(w, s["slots"], s["slot"])

    def piece(number: Value) -> None:
        start = w.op("mul", number, s["part"])
        stop = w.intrinsic("smin", w.op("add", start, s["part"]), s["rows"])
        to = w.offset(Value("%w", "ptr"), ty, w.op("mul", number, w.op("mul", depth, k)))

        def block(number: Value, kept: Value) -> list[Value]:
            begin = w.op("add", start, w.op("mul", number, s["high"]))
            end = w.intrinsic("smin", w.op("add", begin, s["high"]), stop)
            _call_gather(w, room.start, begin, end)
            of = w.offset(y, ty, w.op("mul", begin, k))
            lengths = depth, k, w.op("sub", end, begin)
            gemm(w, ty, True, lengths, (room.start, s["patch"]), (of, k), kept, (to, k))
            return [w.const(1.0, ty)]

        blocks = parts(w, w.op("sub", stop, start), s["high"])
        counted(w, w.const(0, "i64"), blocks, 1, block, [w.const(0.0, ty)])

    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
    room.leave()
    return rooms.function(name, "x y w", w)
