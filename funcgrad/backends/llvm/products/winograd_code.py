"""The code of convolutions by tiles in the domain of Winograd; `convolution` says what it computes.

Each piece of the work runs through all three stages while its tiles are in the cache: tiles of the
inputs are transformed, multiplied as 36 matrices by the library, and transformed back. Vectors
hold neighbouring channels. Tiles reach beyond the edge: what they read there comes from a row of
zeros, and what they would write goes to a row that nobody reads.

    A. Lavin, S. Gray (2016), *Fast Algorithms for Convolutional Neural Networks*: F(4x4, 3x3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.backends.llvm.ir.flow import counted, parts
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.products.room import (
    ATTRIBUTES,
    Room,
    arguments,
    call_gemm,
    count_bytes,
    define_copies,
    function,
)
from funcgrad.backends.llvm.products.tile_shapes import lanes

# The sides of a tile of results, and of the inputs (or products) that it takes.
SIDE, SPAN = 4, 6

FORWARD_SIZES = (
    "slots", "slot", "rows", "high", "tall", "wide", "h", "w", "c", "oh", "ow", "k", "top", "left",
    "v_plane", "m_plane",
)  # fmt: skip
KERNEL_SIZES = (*FORWARD_SIZES, "part", "c_part", "k_part")

Vectors = Sequence[Value]


def text(part: str, name: str, ty: str) -> str:
    """The module that defines a function for numbers of one type."""
    module = Module()
    code = _Code(module, ty)
    if part == "winograd":
        code.transform("tile_in", SPAN, SPAN, _of_inputs, loads=True)
        code.transform("tile_out", SPAN, SIDE, _to_results, loads=False)
        module.define(name, code.forward(name))
    else:
        code.transform("tile_in", SPAN, SPAN, _of_inputs, loads=True)
        code.transform("tile_made", SIDE, SPAN, _of_results, loads=True)
        module.define(name, code.kernel(name))
    return f"{ATTRIBUTES}\n{module}"


# --- one dimension of the transforms ---------------------------------------------------


class _Sums:
    """Sums of multiples, rounded once where the processor can."""

    def __init__(self, w: Writer):
        self.w = w

    def plus(self, a: Value, b: Value) -> Value:
        return self.w.op("fadd", a, b)

    def minus(self, a: Value, b: Value) -> Value:
        return self.w.op("fsub", a, b)

    def times(self, number: float, a: Value, more: Value | None = None) -> Value:
        """`number * a`, plus more."""
        if more is None:
            return self.w.op("fmul", self.w.like(number, a), a)
        return self.w.intrinsic("fmuladd", self.w.like(number, a), a, more)


def _of_inputs(s: _Sums, d: Vectors) -> Vectors:
    """B^T d"""
    a, b = s.times(-4, d[2], d[4]), s.times(-4, d[1], d[3])
    c, e = s.minus(d[4], d[2]), s.times(2, s.minus(d[3], d[1]))
    first = s.times(4, d[0], s.times(-5, d[2], d[4]))
    last = s.times(4, d[1], s.times(-5, d[3], d[5]))
    return [first, s.plus(a, b), s.minus(a, b), s.plus(c, e), s.minus(c, e), last]


def _to_results(s: _Sums, m: Vectors) -> Vectors:
    """A^T m"""
    a, b = s.plus(m[1], m[2]), s.minus(m[1], m[2])
    c, e = s.plus(m[3], m[4]), s.minus(m[3], m[4])
    return [
        s.plus(m[0], s.plus(a, c)),
        s.times(2, e, b),
        s.times(4, c, a),
        s.plus(m[5], s.times(8, e, b)),
    ]


def _of_results(s: _Sums, y: Vectors) -> Vectors:
    """A y"""
    a, b = s.plus(y[0], y[2]), s.plus(y[1], y[3])
    c, e = s.times(4, y[2], y[0]), s.times(8, y[3], s.times(2, y[1]))
    return [y[0], s.plus(a, b), s.minus(a, b), s.plus(c, e), s.minus(c, e), y[3]]


# --- functions -------------------------------------------------------------------------


class _Code:
    def __init__(self, module: Module, ty: str):
        self.module, self.ty, self.lanes = module, ty, lanes(ty)

    def transform(
        self,
        name: str,
        before: int,
        after: int,
        along: Callable[[_Sums, Vectors], Vectors],
        loads: bool,
    ) -> None:
        """`void name(ptr table, ptr values, i64 plane, i64 channels)`: a tile in both dimensions.

        Of the one side the table tells where each of its elements' channels lie; those of the
        other lie in planes of this many numbers.

        Args:
            loads: whether the table is of what is read, else of what is written.
        """
        w = Writer(self.module)
        table, values = Value("%table", "ptr"), Value("%values", "ptr")
        plane, channels = Value("%plane", "i64"), Value("%channels", "i64")

        def in_table(k: int, at: Value) -> Value:
            place = w.load(w.offset(table, "ptr", w.const(k, "i64")), "ptr")
            return w.offset(place, self.ty, at)

        def in_planes(k: int, at: Value) -> Value:
            far = w.op("mul", plane, w.const(k, "i64"))
            return w.offset(w.offset(values, self.ty, far), self.ty, at)

        read, write = (in_table, in_planes) if loads else (in_planes, in_table)

        def some_channels(at: Value) -> None:
            sums, columns = _Sums(w), []
            for column in range(before):
                found = [
                    w.load(read(row * before + column, at), self.ty, self.lanes)
                    for row in range(before)
                ]
                columns.append(along(sums, found))
            for row in range(after):
                for column, value in enumerate(along(sums, [c[row] for c in columns])):
                    w.store(value, write(row * after + column, at))

        counted(w, w.const(0, "i64"), channels, self.lanes, some_channels)
        head = f"define internal void @{name}(ptr %table, ptr %values, i64 %plane, i64 %channels)"
        body = [f"{head} #0 {{", "entry:", *w.lines, "  ret void", "}"]
        self.module.define(name, "\n".join(body))

    def _table(self, w: Writer, side: int) -> Value:
        table = Value(w.fresh(), "ptr")
        w.allocas.append(f"  {table.ref} = alloca [{side * side} x ptr], align 64")
        return table

    def _fill(
        self,
        w: Writer,
        table: Value,
        image: Value,
        elsewhere: Value,
        corner: tuple[Value, Value],
        extents: tuple[Value, Value],
        side: int,
        channels: Value,
    ) -> None:
        """Where a tile's elements lie; `elsewhere` if they are outside of the image."""
        height, width = extents
        numbers = [[w.op("add", first, w.const(k, "i64")) for k in range(side)] for first in corner]
        inside = [
            [w.compare("icmp ult", k, extent) for k in line]
            for line, extent in zip(numbers, (height, width), strict=True)
        ]
        for a in range(side):
            row = w.op("mul", numbers[0][a], width)
            for b in range(side):
                far = w.op("mul", w.op("add", row, numbers[1][b]), channels)
                both = w.op("and", inside[0][a], inside[1][b])
                place = w.select(both, w.offset(image, self.ty, far), elsewhere)
                w.store(place, w.offset(table, "ptr", w.const(a * side + b, "i64")))

    def _tiles(
        self,
        w: Writer,
        sizes: dict[str, Value],
        rows: tuple[Value, Value],
        body: Callable[[Value, Value, tuple[Value, Value]], None],
    ) -> None:
        """`body(number, image, (row, column))` for the tiles of some rows of tiles; row and
        column are those of the first result."""
        begin, end = rows
        zero, wide, tall = w.const(0, "i64"), sizes["wide"], sizes["tall"]

        def row(r: Value) -> None:
            image, i = w.op("udiv", r, tall), w.op("urem", r, tall)
            start = w.op("mul", w.op("sub", r, begin), wide)
            top = w.op("mul", i, w.const(SIDE, "i64"))

            def tile(j: Value) -> None:
                corner = top, w.op("mul", j, w.const(SIDE, "i64"))
                body(w.op("add", start, j), image, corner)

            counted(w, zero, wide, 1, tile)

        counted(w, begin, end, 1, row)

    def _image(self, w: Writer, base: Value, number: Value, *lengths: Value) -> Value:
        for length in lengths:
            number = w.op("mul", number, length)
        return w.offset(base, self.ty, number)

    def _input_tiles(
        self,
        w: Writer,
        sizes: dict[str, Value],
        rows: tuple[Value, Value],
        x: Value,
        zeros: Value,
        planes: Value,
        channels: tuple[Value, Value],
    ) -> None:
        """Tiles of so many channels from a first one on, transformed, into planes."""
        first, count = channels
        table = self._table(w, SPAN)
        x = w.offset(x, self.ty, first)

        def tile(number: Value, image: Value, corner: tuple[Value, Value]) -> None:
            place = self._image(w, x, image, sizes["h"], sizes["w"], sizes["c"])
            start = (w.op("sub", corner[0], sizes["top"]), w.op("sub", corner[1], sizes["left"]))
            extents = sizes["h"], sizes["w"]
            self._fill(w, table, place, zeros, start, extents, SPAN, sizes["c"])
            to = w.offset(planes, self.ty, w.op("mul", number, count))
            self._transform(w, "tile_in", table, to, sizes["v_plane"], count)

        self._tiles(w, sizes, rows, tile)

    def _transform(
        self, w: Writer, name: str, table: Value, values: Value, plane: Value, channels: Value
    ) -> None:
        w.line(
            f"call void @{name}(ptr {table.ref}, ptr {values.ref}, i64 {plane.ref}, "
            f"i64 {channels.ref})"
        )

    def forward(self, name: str) -> str:
        """`void name(ptr x, ptr u, ptr y, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`"""
        w, ty = Writer(self.module), self.ty
        sizes = arguments(w, FORWARD_SIZES)
        x, u, y = (Value(f"%{n}", "ptr") for n in "xuy")
        zero, c, k = w.const(0, "i64"), sizes["c"], sizes["k"]
        room = Room(w, sizes["slots"], sizes["slot"])
        zeros = room.start
        aside = w.offset(zeros, ty, c)
        v = w.offset(aside, ty, k)
        m = w.offset(v, ty, w.op("mul", sizes["v_plane"], w.const(SPAN * SPAN, "i64")))
        define_copies(self.module)
        w.line(f"call void @clear(ptr {zeros.ref}, i64 {count_bytes(w, c, ty).ref})")

        def piece(number: Value) -> None:
            begin = w.op("mul", number, sizes["high"])
            end = w.intrinsic("smin", w.op("add", begin, sizes["high"]), sizes["rows"])
            count = w.op("mul", w.op("sub", end, begin), sizes["wide"])
            self._input_tiles(w, sizes, (begin, end), x, zeros, v, (zero, c))

            def product(number: Value) -> None:
                matrices = [
                    w.offset(base, ty, w.op("mul", number, far))
                    for base, far in (
                        (v, sizes["v_plane"]), (u, w.op("mul", c, k)), (m, sizes["m_plane"]),
                    )
                ]  # fmt: skip
                a, b, to = matrices
                none = w.const(0.0, ty)
                call_gemm(w, ty, False, (count, k, c), (a, c), (b, k), none, (to, k))

            counted(w, zero, w.const(SPAN * SPAN, "i64"), 1, product)
            table = self._table(w, SIDE)

            def tile(number: Value, image: Value, corner: tuple[Value, Value]) -> None:
                place = self._image(w, y, image, sizes["oh"], sizes["ow"], k)
                extents = sizes["oh"], sizes["ow"]
                self._fill(w, table, place, aside, corner, extents, SIDE, k)
                of = w.offset(m, ty, w.op("mul", number, k))
                self._transform(w, "tile_out", table, of, sizes["m_plane"], k)

            self._tiles(w, sizes, (begin, end), tile)

        counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
        room.leave()
        return function(name, "x u y", w)

    def kernel(self, name: str) -> str:
        """`void name(ptr x, ptr y, ptr u, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`

        A piece is the products of some rows of tiles, and of some of the channels of either side.
        """
        w, ty = Writer(self.module), self.ty
        sizes = arguments(w, KERNEL_SIZES)
        x, y, u = (Value(f"%{n}", "ptr") for n in "xyu")
        zero, c, k = w.const(0, "i64"), sizes["c"], sizes["k"]
        across = [parts(w, sizes[n], sizes[f"{n}_part"]) for n in "ck"]
        room = Room(w, sizes["slots"], sizes["slot"])
        zeros = room.start
        longest = w.intrinsic("umax", c, k)
        v = w.offset(zeros, ty, longest)
        m = w.offset(v, ty, w.op("mul", sizes["v_plane"], w.const(SPAN * SPAN, "i64")))
        define_copies(self.module)
        w.line(f"call void @clear(ptr {zeros.ref}, i64 {count_bytes(w, longest, ty).ref})")
        squares, matrix = w.const(SPAN * SPAN, "i64"), w.op("mul", c, k)
        table = self._table(w, SIDE)

        def channels(part: Value, of: str) -> tuple[Value, Value]:
            first = w.op("mul", part, sizes[f"{of}_part"])
            left = w.op("sub", sizes[of], first)
            return first, w.intrinsic("umin", left, sizes[f"{of}_part"])

        def piece(number: Value) -> None:
            rest, k_number = w.op("udiv", number, across[1]), w.op("urem", number, across[1])
            part, c_number = w.op("udiv", rest, across[0]), w.op("urem", rest, across[0])
            ins, outs = channels(c_number, "c"), channels(k_number, "k")
            start = w.op("mul", part, sizes["part"])
            stop = w.intrinsic("smin", w.op("add", start, sizes["part"]), sizes["rows"])
            own = w.offset(u, ty, w.op("mul", w.op("mul", part, squares), matrix))
            own = w.offset(w.offset(own, ty, w.op("mul", ins[0], k)), ty, outs[0])
            made = w.offset(y, ty, outs[0])

            def block(number: Value, kept: Value) -> list[Value]:
                begin = w.op("add", start, w.op("mul", number, sizes["high"]))
                end = w.intrinsic("smin", w.op("add", begin, sizes["high"]), stop)
                count = w.op("mul", w.op("sub", end, begin), sizes["wide"])
                self._input_tiles(w, sizes, (begin, end), x, zeros, v, ins)

                def tile(number: Value, image: Value, corner: tuple[Value, Value]) -> None:
                    place = self._image(w, made, image, sizes["oh"], sizes["ow"], k)
                    extents = sizes["oh"], sizes["ow"]
                    self._fill(w, table, place, zeros, corner, extents, SIDE, k)
                    to = w.offset(m, ty, w.op("mul", number, outs[1]))
                    self._transform(w, "tile_made", table, to, sizes["m_plane"], outs[1])

                self._tiles(w, sizes, (begin, end), tile)

                def product(number: Value) -> None:
                    a = w.offset(v, ty, w.op("mul", number, sizes["v_plane"]))
                    b = w.offset(m, ty, w.op("mul", number, sizes["m_plane"]))
                    to = w.offset(own, ty, w.op("mul", number, matrix))
                    lengths = ins[1], outs[1], count
                    call_gemm(w, ty, True, lengths, (a, ins[1]), (b, outs[1]), kept, (to, k))

                counted(w, zero, squares, 1, product)
                return [w.const(1.0, ty)]

            blocks = parts(w, w.op("sub", stop, start), sizes["high"])
            counted(w, zero, blocks, 1, block, [w.const(0.0, ty)])

        counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
        room.leave()
        return function(name, "x y u", w)
