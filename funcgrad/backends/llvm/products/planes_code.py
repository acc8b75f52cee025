"""The code of convolutions with channels in front; `convolution` says what it computes.

Results that lie side by side in a row are vectors. A piece of the work copies some rows of an
image into the cache, with zeros where the kernel reaches beyond the edge, and every strides'-th
row and column a plane of its own: what a number of the kernel reads for a row of results then
lies together, at a distance from the row's start that a table tells, and nothing is copied twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from funcgrad.backends.llvm.ir.flow import branches, counted, guarded, parts
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer, mangled
from funcgrad.backends.llvm.products import room as rooms
from funcgrad.backends.llvm.products.room import Room, arguments
from funcgrad.backends.llvm.products.tile_shapes import lanes
from funcgrad.backends.llvm.runtime import engine
from funcgrad.records import NamedTuple

SIZES = (
    "slots", "slot", "n", "tall", "bands", "together", "part", "c", "h", "w", "k", "oh", "ow", "kh",
    "kw", "sh", "sw", "dh", "dw", "top", "left", "wide", "plane",
)  # fmt: skip


class Shape(NamedTuple):
    """What the registers hold: of results `rows` channels and `across` vectors, of derivatives by
    the kernel that of `outputs` channels by `taps` numbers."""

    rows: int
    across: int
    outputs: int
    taps: int


# By the bytes of a vector.
SHAPES = {64: Shape(8, 3, 4, 6), 32: Shape(6, 2, 3, 4)}


# The words that are kept of each band of a derivative.
ENTRY = 3
# The functions for results that take so many channels at a time, or one less.
PARTS = tuple(f"planes_{rows}" for rows in range(1, max(s.rows for s in SHAPES.values()) + 1))


def shape() -> Shape:
    return SHAPES[engine.vector_bytes()]


def columns(ty: str) -> int:
    """The results of a line that are computed together."""
    return shape().across * lanes(ty)


def part(channels: int) -> str:
    """The function for so many channels, in parts that are as equal as can be."""
    return f"planes_{-(-channels // -(-channels // shape().rows))}"


def text(kind: str, name: str, ty: str) -> str:
    """The module that defines a function for numbers of one type."""
    module = Module()
    rooms.define_copies(module)
    module.define("gather", _Gather(module, ty).text())
    if kind in PARTS:
        most = int(kind.removeprefix("planes_"))
        for rows in {most, max(most - 1, 1)}:
            module.define(f"rows{rows}", _rows_text(module, ty, rows))
        module.define(name, _forward(module, name, ty, most))
    else:
        module.define("block", _Block(module, ty).text())
        module.define(name, _kernel(module, name, ty))
    return f"{rooms.ATTRIBUTES}\n{module}"


def _params(names: str, ty: str = "i64") -> list[Value]:
    return [Value(f"%{name}", ty) for name in names.split()]


def _function(name: str, params: Sequence[Value], w: Writer) -> str:
    names = ", ".join(f"{p.type} {p.ref}" for p in params)
    head = f"define internal void @{name}({names}) #0 {{"
    return "\n".join([head, "entry:", *w.allocas, *w.lines, "  ret void", "}"])


def _call(w: Writer, name: str, args: Sequence[Value]) -> None:
    w.line(f"call void @{name}({', '.join(f'{a.type} {a.ref}' for a in args)})")


# --- what is read, in the cache -------------------------------------------------------


class _Gather:
    """Writes `void gather(ptr x, ptr to, ptr sizes, i64 first, i64 rows)`: what so many rows of
    results read of an image, from the first one on."""

    def __init__(self, module: Module, ty: str):
        self.w, self.ty = Writer(module), ty
        self.sizes = arguments(self.w, SIZES)
        self.zero, self.one = self.w.const(0, "i64"), self.w.const(1, "i64")

    def text(self) -> str:
        w, s = self.w, self.sizes
        x, to, _ = pointers = _params("x to sizes", "ptr")
        first, rows = numbers = _params("first rows")
        # The rows of a plane, and where the first one lies in the image.
        reach = w.op("udiv", w.op("mul", w.op("sub", s["kh"], self.one), s["dh"]), s["sh"])
        high = w.op("add", rows, reach)
        top = w.op("sub", w.op("mul", first, s["sh"]), s["top"])
        phases, area = w.op("mul", s["sh"], s["sw"]), w.op("mul", s["h"], s["w"])
        same = w.compare("icmp eq", s["wide"], s["w"])
        flat = w.compare("icmp eq", w.op("or", w.op("sub", phases, self.one), s["left"]), self.zero)
        flat = w.op("and", flat, same)

        def channel(number: Value) -> None:
            image = w.offset(x, self.ty, w.op("mul", number, area))
            far = w.op("mul", w.op("mul", number, phases), s["plane"])
            planes = w.offset(to, self.ty, far)
            with w.when(flat, "flat"):
                self._flat(image, planes, top, high)
            with w.when(w.op("xor", flat, w.const(1, "i1")), "rows"):
                self._rows(image, planes, top, high)

        counted(w, self.zero, s["c"], 1, channel)
        return _function("gather", [*pointers, *numbers], w)

    def _flat(self, image: Value, to: Value, top: Value, high: Value) -> None:
        """Rows that follow each other as they do in the image."""
        w, s = self.w, self.sizes
        low = self._clamped(w.op("sub", self.zero, top), self.zero, high)
        end = self._clamped(w.op("sub", s["h"], top), low, high)
        ends = [w.op("mul", row, s["w"]) for row in (low, end, high)]
        start = w.offset(image, self.ty, w.op("mul", w.op("add", top, low), s["w"]))
        self._clear(to, ends[0])
        self._copy(w.offset(to, self.ty, ends[0]), start, w.op("sub", ends[1], ends[0]))
        self._clear(w.offset(to, self.ty, ends[1]), w.op("sub", ends[2], ends[1]))

    def _rows(self, image: Value, to: Value, top: Value, high: Value) -> None:
        w, s = self.w, self.sizes
        together = w.compare("icmp eq", s["sw"], self.one)

        def row(number: Value) -> None:
            at = w.op("add", top, number)
            inside = w.compare("icmp ult", at, s["h"])
            source = w.offset(image, self.ty, w.op("mul", at, s["w"]))
            phase, line = w.op("urem", number, s["sh"]), w.op("udiv", number, s["sh"])

            def column(b: Value) -> None:
                plane = w.op("add", w.op("mul", phase, s["sw"]), b)
                far = w.op("add", w.op("mul", plane, s["plane"]), w.op("mul", line, s["wide"]))
                place = w.offset(to, self.ty, far)
                before = w.op("sub", s["left"], b)
                low = self._clamped(self._above(before), self.zero, s["wide"])
                end = self._clamped(self._above(w.op("add", before, s["w"])), low, s["wide"])
                low, end = (w.select(inside, v, self.zero) for v in (low, end))
                self._clear(place, low)
                self._clear(w.offset(place, self.ty, end), w.op("sub", s["wide"], end))
                start = w.op("sub", w.op("mul", low, s["sw"]), before)
                of, here = w.offset(source, self.ty, start), w.offset(place, self.ty, low)
                count = w.op("sub", end, low)
                with w.when(together, "together"):
                    self._copy(here, of, count)
                with w.when(w.op("xor", together, w.const(1, "i1")), "apart"):

                    def one(i: Value) -> None:
                        value = w.load(w.offset(of, self.ty, w.op("mul", i, s["sw"])), self.ty)
                        w.store(value, w.offset(here, self.ty, i))

                    counted(w, self.zero, count, 1, one)

            counted(w, self.zero, s["sw"], 1, column)

        counted(w, self.zero, w.op("mul", high, s["sh"]), 1, row)

    def _above(self, columns: Value) -> Value:
        """How many steps of the stride reach so far."""
        w = self.w
        more = w.op("add", columns, w.op("sub", self.sizes["sw"], self.one))
        return w.op("sdiv", w.intrinsic("smax", more, self.zero), self.sizes["sw"])

    def _clamped(self, value: Value, low: Value, high: Value) -> Value:
        return self.w.intrinsic("smin", self.w.intrinsic("smax", value, low), high)

    def _clear(self, place: Value, count: Value) -> None:
        _call(self.w, "clear", [place, rooms.count_bytes(self.w, count, self.ty)])

    def _copy(self, place: Value, of: Value, count: Value) -> None:
        _call(self.w, "copy", [place, of, rooms.count_bytes(self.w, count, self.ty)])


class _Common:
    """What both functions have: the numbers, the table, and the planes behind it."""

    def __init__(self, w: Writer, ty: str):
        self.w, self.ty, self.sizes = w, ty, arguments(w, SIZES)
        s = self.sizes
        self.depth = w.op("mul", w.op("mul", s["kh"], s["kw"]), s["c"])
        self.area = w.op("mul", s["oh"], s["ow"])
        self.made = w.op("mul", self.area, s["k"])
        # Rows that lie together without anything between them are a single one.
        self.joined = w.compare("icmp eq", s["wide"], s["ow"])
        self.room = Room(w, s["slots"], s["slot"])
        self.table = self.room.start
        whole = w.op("and", w.op("add", self.depth, w.const(7, "i64")), w.const(-8, "i64"))
        self.planes = w.offset(self.table, "i64", whole)
        self._write_table()

    def _write_table(self) -> None:
        """For each number of the kernel, how far from a row's start it begins to read."""
        w, s = self.w, self.sizes
        zero, taps = w.const(0, "i64"), w.op("mul", s["kh"], s["kw"])

        def tap(t: Value) -> None:
            c, at = w.op("udiv", t, taps), w.op("urem", t, taps)
            down = w.op("mul", w.op("udiv", at, s["kw"]), s["dh"])
            right = w.op("mul", w.op("urem", at, s["kw"]), s["dw"])
            plane = w.op("add", w.op("mul", c, s["sh"]), w.op("urem", down, s["sh"]))
            plane = w.op("add", w.op("mul", plane, s["sw"]), w.op("urem", right, s["sw"]))
            row = w.op("mul", w.op("udiv", down, s["sh"]), s["wide"])
            far = w.op("add", w.op("mul", plane, s["plane"]), row)
            far = w.op("add", far, w.op("udiv", right, s["sw"]))
            w.store(far, w.offset(self.table, "i64", t))

        counted(w, zero, self.depth, 1, tap)

    def band(self, number: Value) -> tuple[Value, Value, Value]:
        """A band's image, its first row and how many it has."""
        w, s = self.w, self.sizes
        image, at = w.op("udiv", number, s["bands"]), w.op("urem", number, s["bands"])
        first = w.op("mul", at, s["tall"])
        return image, first, w.intrinsic("smin", s["tall"], w.op("sub", s["oh"], first))

    def gather(self, to: Value, image: Value, first: Value, rows: Value) -> None:
        w, s = self.w, self.sizes
        far = w.op("mul", image, w.op("mul", s["c"], w.op("mul", s["h"], s["w"])))
        x = w.offset(Value("%x", "ptr"), self.ty, far)
        _call(w, "gather", [x, to, Value("%sizes", "ptr"), first, rows])

    def lines(self, rows: Value) -> tuple[Value, Value]:
        """How many lines of results there are, and how long they are."""
        w, ow = self.w, self.sizes["ow"]
        count = w.select(self.joined, w.const(1, "i64"), rows)
        return count, w.select(self.joined, w.op("mul", rows, ow), ow)


# --- results --------------------------------------------------------------------------


def _rows_text(module: Module, ty: str, rows: int) -> str:
    """`rows<R>(ptr planes, ptr table, ptr a, ptr y, i64 depth, i64 wide, i64 ow, i64 area, i64
    lines, i64 length)`: R channels of some lines of results."""
    w, n, across = Writer(module), lanes(ty), shape().across
    planes, table, a, y = pointers = _params("planes table a y", "ptr")
    depth, wide, ow, area, lines, length = numbers = _params("depth wide ow area lines length")
    zero = w.const(0, "i64")
    last = w.op("sub", length, w.const(n, "i64"))
    kernels = [w.offset(a, ty, w.op("mul", depth, w.const(r, "i64"))) for r in range(rows)]

    def sums(start: Value, columns: Sequence[Value]) -> list[Value]:
        places = [w.offset(start, ty, column) for column in columns]

        def tap(t: Value, *found: Value) -> list[Value]:
            far = w.load(w.offset(table, "i64", t), "i64")
            read = [w.load(w.offset(place, ty, far), ty, n) for place in places]
            made: list[Value] = []
            for r, kernel in enumerate(kernels):
                factor = w.splat(w.load(w.offset(kernel, ty, t), ty), n)
                for v, x in enumerate(read):
                    made.append(w.intrinsic("fma", factor, x, found[r * len(read) + v]))
            return made

        zeros = [Value("zeroinitializer", ty, n)] * (rows * len(columns))
        return counted(w, zero, depth, 1, tap, zeros)

    def line(number: Value) -> None:
        start = w.offset(planes, ty, w.op("mul", number, wide))
        to = w.offset(y, ty, w.op("mul", number, ow))
        made = [w.offset(to, ty, w.op("mul", area, w.const(r, "i64"))) for r in range(rows)]

        def tile(column: Value, count: int) -> None:
            # What would reach beyond the end begins earlier, and is computed twice.
            columns = [w.op("add", column, w.const(v * n, "i64")) for v in range(count)]
            columns = [w.intrinsic("smin", c, last) for c in columns]
            for k, value in enumerate(sums(start, columns)):
                w.store(value, w.offset(made[k // count], ty, columns[k % count]))

        def whole(column: Value) -> None:
            tile(column, across)

        counted(w, zero, length, across * n, whole)
        width = w.const(across * n, "i64")
        done = w.op("mul", w.op("udiv", length, width), width)
        left = parts(w, w.op("sub", length, done), w.const(n, "i64"))

        def rest(count: int) -> list[Value]:
            if count:
                tile(done, count)
            return []

        branches(w, left, across + 1, rest)

    counted(w, zero, lines, 1, line)
    return _function(f"rows{rows}", [*pointers, *numbers], w)


def _forward(module: Module, name: str, ty: str, high: int) -> str:
    """`void name(ptr x, ptr w, ptr y, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`"""
    w = Writer(module)
    common = _Common(w, ty)
    s, zero = common.sizes, w.const(0, "i64")
    blocks = parts(w, s["k"], w.const(high, "i64"))
    least, more = w.op("udiv", s["k"], blocks), w.op("urem", s["k"], blocks)
    bands = w.op("mul", s["n"], s["bands"])

    def band(number: Value) -> None:
        image, first, rows = common.band(number)
        common.gather(common.planes, image, first, rows)
        lines, length = common.lines(rows)
        far = w.op("add", w.op("mul", image, common.made), w.op("mul", first, s["ow"]))
        y = w.offset(Value("%y", "ptr"), ty, far)

        def block(i: Value) -> None:
            before = w.op("add", w.op("mul", i, least), w.intrinsic("smin", i, more))
            a = w.offset(Value("%w", "ptr"), ty, w.op("mul", before, common.depth))
            to = w.offset(y, ty, w.op("mul", before, common.area))
            pointers = common.planes, common.table, a, to
            numbers = common.depth, s["wide"], s["ow"], common.area, lines, length
            longer = w.compare("icmp eq", least, w.const(high, "i64"))
            longer = w.op("or", longer, w.compare("icmp slt", i, more))
            with w.when(longer, "longer"):
                _call(w, f"rows{high}", [*pointers, *numbers])
            with w.when(w.op("xor", longer, w.const(1, "i1")), "shorter"):
                _call(w, f"rows{max(high - 1, 1)}", [*pointers, *numbers])

        counted(w, zero, blocks, 1, block)

    def piece(number: Value) -> None:
        begin = w.op("mul", number, s["part"])
        counted(w, begin, w.intrinsic("smin", w.op("add", begin, s["part"]), bands), 1, band)

    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
    common.room.leave()
    return rooms.function(name, "x w y", w)


# --- derivatives by the kernel --------------------------------------------------------


class _Ends(NamedTuple):
    """Of lines: where their whole vectors end, where the last vector begins, and which of its lanes
    are in no other."""

    whole: Value
    last: Value
    fresh: Value


class _Block:
    """Writes `void block(ptr planes, ptr table, ptr bands, ptr w, i64 count, i64 depth, i64 step,
    i64 wide, i64 ow, i64 area, i64 k)`: what some bands add to the derivatives.

    Each tile of them is summed over all bands before it is added.
    """

    def __init__(self, module: Module, ty: str):
        self.w, self.ty, self.lanes = Writer(module), ty, lanes(ty)
        self.outputs, self.taps = shape().outputs, shape().taps
        self.zero, self.vector = self.w.const(0, "i64"), self.w.const(self.lanes, "i64")
        self.nothing = Value("zeroinitializer", ty, self.lanes)

    def text(self) -> str:
        w = self.w
        pointers = _params("planes table bands w", "ptr")
        numbers = _params("count depth step wide ow area k")
        self.planes, self.table, self.bands, self.made = pointers
        self.count, self.depth, self.step, self.wide, self.ow, self.area, self.k = numbers
        outputs, taps = (
            w.op("mul", parts(w, n, w.const(m, "i64")), w.const(m, "i64"))
            for n, m in ((self.k, self.outputs), (self.depth, self.taps))
        )

        def across(first: Value) -> None:
            counted(w, self.zero, taps, self.taps, lambda tap: self._tile(first, tap))

        counted(w, self.zero, outputs, self.outputs, across)
        return _function("block", [*pointers, *numbers], w)

    def _tile(self, output: Value, tap: Value) -> None:
        w = self.w
        # What the channels and numbers of the tile lie at, beside each other.
        left = [w.op("mul", o, self.area) for o in self._numbers(output, self.k, self.outputs)]
        right = [
            w.offset(self.planes, self.ty, w.load(w.offset(self.table, "i64", t), "i64"))
            for t in self._numbers(tap, self.depth, self.taps)
        ]

        def band(number: Value, *sums: Value) -> Sequence[Value]:
            y, lines, length = self._entry(number)
            start = w.op("mul", number, self.step)
            over = w.op("urem", length, self.vector)
            # The last vector ends where the line does; what it reads again counts as zero.
            again, last = w.op("sub", self.vector, over), w.op("sub", length, self.vector)
            ends = _Ends(w.op("sub", length, over), last, self._from(again))

            def each(add: Callable[..., Sequence[Value]], *sums: Value) -> Sequence[Value]:
                def line(i: Value, *sums: Value) -> Sequence[Value]:
                    made = w.offset(y, self.ty, w.op("mul", i, self.ow))
                    far = w.op("add", start, w.op("mul", i, self.wide))
                    places = [w.offset(made, self.ty, o) for o in left]
                    places += [w.offset(p, self.ty, far) for p in right]
                    return add(places, ends, sums)

                return counted(w, self.zero, lines, 1, line, sums)

            # Lines of two vectors need no loop of their own.
            two = w.compare("icmp eq", ends.whole, self.vector)
            two = w.op("and", two, w.compare("icmp ne", over, self.zero))
            sums = tuple(guarded(w, two, partial(each, self._two), sums))
            return guarded(w, w.op("xor", two, w.const(1, "i1")), partial(each, self._line), sums)

        sums = [self.nothing] * (self.outputs * self.taps)
        self._add(counted(w, self.zero, self.count, 1, band, sums), output, tap)

    def _entry(self, number: Value) -> list[Value]:
        """Where the results of a band lie, how many lines they are, and how long these are."""
        w = self.w
        entry = w.offset(self.bands, "i64", w.op("mul", number, w.const(ENTRY, "i64")))
        return [
            w.load(w.offset(entry, "i64", w.const(k, "i64")), ty)
            for k, ty in enumerate(("ptr", "i64", "i64"))
        ]

    def _line(self, places: Sequence[Value], ends: _Ends, sums: Sequence[Value]) -> Sequence[Value]:
        """With the products along a line."""
        w = self.w
        sums = counted(
            w, self.zero, ends.whole, self.lanes, lambda at, *s: self._added(places, at, s), sums
        )
        left = w.compare("icmp ne", ends.last, w.op("sub", ends.whole, self.vector))
        return guarded(w, left, lambda *s: self._added(places, ends.last, s, ends.fresh), sums)

    def _two(self, places: Sequence[Value], ends: _Ends, sums: Sequence[Value]) -> Sequence[Value]:
        sums = self._added(places, self.zero, sums)
        return self._added(places, ends.last, sums, ends.fresh)

    def _added(
        self, places: Sequence[Value], at: Value, sums: Sequence[Value], fresh: Value | None = None
    ) -> list[Value]:
        """With the products of a vector, or of those of its lanes that are `fresh`."""
        w = self.w

        def read(place: Value) -> Value:
            value = w.load(w.offset(place, self.ty, at), self.ty, self.lanes)
            return value if fresh is None else w.select(fresh, value, self.nothing)

        values = [read(place) for place in places[: self.outputs]]
        found: list[Value] = []
        for k, place in enumerate(places[self.outputs :]):
            x, before = read(place), sums[k * self.outputs :]
            found += [w.intrinsic("fma", v, x, s) for v, s in zip(values, before, strict=False)]
        return found

    def _from(self, number: Value) -> Value:
        """Which lanes have this number or a higher one."""
        w, ty = self.w, {"float": "i32", "double": "i64"}[self.ty]
        number = number if ty == "i64" else w.cast("trunc", number, ty)
        numbers = ", ".join(f"{ty} {k}" for k in range(self.lanes))
        return w.compare(
            "icmp sge", Value(f"<{numbers}>", ty, self.lanes), w.splat(number, self.lanes)
        )

    def _numbers(self, first: Value, end: Value, count: int) -> list[Value]:
        """Beyond the end the last one again."""
        w = self.w
        last = w.op("sub", end, w.const(1, "i64"))
        return [
            w.intrinsic("smin", w.op("add", first, w.const(i, "i64")), last) for i in range(count)
        ]

    def _add(self, sums: Sequence[Value], output: Value, tap: Value) -> None:
        w = self.w
        name = f"llvm.vector.reduce.fadd.{mangled(self.ty, self.lanes)}"
        w.module.declare(name, f"declare {self.ty} @{name}({self.ty}, {sums[0].type})")
        for k, value in enumerate(sums):
            o = w.op("add", output, w.const(k % self.outputs, "i64"))
            t = w.op("add", tap, w.const(k // self.outputs, "i64"))
            exists = w.compare("icmp slt", o, self.k), w.compare("icmp slt", t, self.depth)
            total = w.call(name, self.ty, 1, [w.const(-0.0, self.ty), value], flags="reassoc")
            with w.when(w.op("and", *exists), "exists"):
                place = w.offset(self.made, self.ty, w.op("add", w.op("mul", o, self.depth), t))
                w.store(w.op("fadd", w.load(place, self.ty), total), place)


def _kernel(module: Module, name: str, ty: str) -> str:
    """`void name(ptr x, ptr y, ptr w, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`

    A piece is the sum over a part of the results.
    """
    w = Writer(module)
    common = _Common(w, ty)
    s, zero = common.sizes, w.const(0, "i64")
    bands = w.op("mul", s["n"], s["bands"])
    # For each band of a block where its results lie, how many lines they are, and how long.
    entries = common.planes
    planes = w.offset(entries, "i64", w.op("mul", s["together"], w.const(ENTRY, "i64")))
    step = w.op("mul", w.op("mul", s["c"], w.op("mul", s["sh"], s["sw"])), s["plane"])
    size = w.op("mul", common.depth, s["k"])

    def piece(number: Value) -> None:
        begin = w.op("mul", number, s["part"])
        end = w.intrinsic("smin", w.op("add", begin, s["part"]), bands)
        made = w.offset(Value("%w", "ptr"), ty, w.op("mul", number, size))
        _call(w, "clear", [made, rooms.count_bytes(w, size, ty)])

        def block(number: Value) -> None:
            start = w.op("add", begin, w.op("mul", number, s["together"]))
            count = w.intrinsic("smin", s["together"], w.op("sub", end, start))

            def band(j: Value) -> None:
                image, first, rows = common.band(w.op("add", start, j))
                to = w.offset(planes, ty, w.op("mul", j, step))
                common.gather(to, image, first, rows)
                far = w.op("add", w.op("mul", image, common.made), w.op("mul", first, s["ow"]))
                y = w.offset(Value("%y", "ptr"), ty, far)
                entry = w.offset(entries, "i64", w.op("mul", j, w.const(ENTRY, "i64")))
                for i, value in enumerate((y, *common.lines(rows))):
                    w.store(value, w.offset(entry, "i64", w.const(i, "i64")))

            counted(w, zero, count, 1, band)
            numbers = [count, common.depth, step, s["wide"], s["ow"], common.area, s["k"]]
            _call(w, "block", [planes, common.table, entries, made, *numbers])

        counted(w, zero, parts(w, w.op("sub", end, begin), s["together"]), 1, block)

    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, piece)
    common.room.leave()
    return rooms.function(name, "x y w", w)
