"""The code of convolutions by products of patches; `convolution` says what it computes.

Each piece of the work copies some patches into the cache, one a row, and multiplies them there:
no more of them ever lies in memory. What lies beyond the edge is zero.
"""

from __future__ import annotations

from funcgrad.backends.llvm.ir.flow import counted
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.products import room as rooms
from funcgrad.backends.llvm.products.room import Room, arguments
from funcgrad.backends.llvm.products.room import call_gemm as gemm

SIZES = (
    "slots", "slot", "rows", "high", "oh", "ow", "h", "w", "c", "k", "kh", "kw", "sh", "sw", "dh",
    "dw", "top", "left", "part",
)  # fmt: skip


def text(part: str, name: str, ty: str) -> str:
    """The module that defines a function for numbers of one type."""
    module = Module()
    rooms.define_copies(module)
    module.define("gather", _gather(module, ty))
    module.define(name, (_forward if part == "patches" else _kernel)(module, name, ty))
    return f"{rooms.ATTRIBUTES}\n{module}"


def _gather(module: Module, ty: str) -> str:
    """`void gather(ptr x, ptr to, ptr sizes, i64 begin, i64 end)`: the patches of these results."""
    w = Writer(module)
    s = arguments(w, SIZES)
    x, to = Value("%x", "ptr"), Value("%to", "ptr")
    begin, zero, one = Value("%begin", "i64"), w.const(0, "i64"), w.const(1, "i64")
    line = w.op("mul", s["kw"], s["c"])
    patch = w.op("mul", s["kh"], line)
    together = w.compare("icmp eq", s["dw"], one)

    def clear(place: Value, taps: Value) -> None:
        w.line(f"call void @clear(ptr {place.ref}, i64 {size(taps).ref})")

    def copy(place: Value, of: Value, taps: Value) -> None:
        w.line(f"call void @copy(ptr {place.ref}, ptr {of.ref}, i64 {size(taps).ref})")

    def size(taps: Value) -> Value:
        return rooms.count_bytes(w, w.op("mul", taps, s["c"]), ty)

    def moved(place: Value, taps: Value) -> Value:
        return w.offset(place, ty, w.op("mul", taps, s["c"]))

    def clamped(value: Value, low: Value, high: Value) -> Value:
        return w.intrinsic("smin", w.intrinsic("smax", value, low), high)

    def a_line(place: Value, row: Value, first: Value) -> None:
        """A line of taps, from a column on, that lie side by side in the row of an image."""
        low = clamped(w.op("sub", zero, first), zero, s["kw"])
        high = clamped(w.op("sub", s["w"], first), low, s["kw"])
        clear(place, low)
        copy(moved(place, low), moved(row, w.op("add", first, low)), w.op("sub", high, low))
        clear(moved(place, high), w.op("sub", s["kw"], high))

    def taps(place: Value, row: Value, first: Value) -> None:
        def tap(number: Value) -> None:
            column = w.op("add", first, w.op("mul", number, s["dw"]))
            inside = w.compare("icmp ult", column, s["w"])
            here = moved(place, number)
            with w.when(inside, "inside"):
                copy(here, moved(row, column), one)
            outside = w.op("xor", inside, w.const(1, "i1"))
            with w.when(outside, "outside"):
                clear(here, one)

        counted(w, zero, s["kw"], 1, tap)

    def result(number: Value) -> None:
        ox, rest = w.op("urem", number, s["ow"]), w.op("udiv", number, s["ow"])
        oy, image = w.op("urem", rest, s["oh"]), w.op("udiv", rest, s["oh"])
        start = w.offset(to, ty, w.op("mul", w.op("sub", number, begin), patch))
        first_row = w.op("sub", w.op("mul", oy, s["sh"]), s["top"])
        first = w.op("sub", w.op("mul", ox, s["sw"]), s["left"])
        image_row = w.op("mul", image, s["h"])

        def kernel_row(a: Value) -> None:
            iy = w.op("add", first_row, w.op("mul", a, s["dh"]))
            place = w.offset(start, ty, w.op("mul", a, line))
            inside = w.compare("icmp ult", iy, s["h"])
            far = w.op("mul", w.op("add", image_row, iy), s["w"])
            row = moved(x, far)
            with w.when(w.op("and", inside, together), "line"):
                a_line(place, row, first)
            apart = w.op("xor", together, w.const(1, "i1"))
            with w.when(w.op("and", inside, apart), "taps"):
                taps(place, row, first)
            outside = w.op("xor", inside, w.const(1, "i1"))
            with w.when(outside, "outside"):
                clear(place, s["kw"])

        counted(w, zero, s["kh"], 1, kernel_row)

    counted(w, begin, Value("%end", "i64"), 1, result)
    head = "define internal void @gather(ptr %x, ptr %to, ptr %sizes, i64 %begin, i64 %end) #0 {"
    return "\n".join([head, "entry:", *w.allocas, *w.lines, "  ret void", "}"])


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
        gemm(w, ty, False, lengths, (room.start, depth), (kernel, k), w.const(0.0, ty), (to, k))

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
            gemm(w, ty, True, lengths, (room.start, depth), (of, k), kept, (to, k))
            return [w.const(1.0, ty)]

        blocks = rooms.parts(w, w.op("sub", stop, start), s["high"])
        counted(w, w.const(0, "i64"), blocks, 1, block, [w.const(0.0, ty)])

    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
    room.leave()
    return rooms.function(name, "x y w", w)
