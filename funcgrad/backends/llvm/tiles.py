"""Matrix products in our own code: tiles of the result that stay in registers.

    void fg_tiles_float(ptr a, i64 a_row, i64 a_inner, ptr b, i64 b_inner, i64 b_column,
                        ptr c, i64 c_row, ptr s, i64 s_row, float scale,
                        i64 rows, i64 columns, i64 inner)

computes `c = a @ b`, or `c = s + scale * (a @ b)` where s isn't null, on one thread; strides
count elements, c's and s's columns follow each other, and so do b's or its rows. A library
first copies its operands into an order that suits it. For matrices that the caches hold, as
layers have them, this costs more than it gains: here a's elements are spread over the lanes of a
register as they are read, whatever their strides, and of b only what lies across is copied, a
panel at a time. The scheme of panels and blocks is that of K. Goto, R. van de Geijn (2008),
*Anatomy of High-Performance Matrix Multiplication*.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache, partial
from math import log2

from funcgrad.backends.llvm import engine
from funcgrad.backends.llvm.frame import counted
from funcgrad.backends.llvm.writer import BITS, Module, Value, Writer, mangled

# What is summed in one go: a panel of b of this depth stays in the second level's cache.
DEPTH = 512
# Vectors side by side in a tile.
ACROSS = 2
# The heights of tiles by the bytes of a vector: the highest leaves registers for what is read.
HEIGHTS = {64: (12, 4, 1), 32: (6, 2, 1)}
# Rows of b further apart than this share few places of the caches.
_FAR_BYTES = 4096


def symbol(kind: str) -> str:
    return f"fg_tiles_{kind}"


def register() -> None:
    """Name the functions for IR; each is compiled when the first program calls it."""
    for kind in ("float", "double"):
        engine.register_later(symbol(kind), partial(_load, kind))


def available() -> bool:
    return engine.vector_bytes() in HEIGHTS


def width(kind: str) -> int:
    """The columns of a tile."""
    return ACROSS * lanes(kind)


def height() -> int:
    """The rows of the highest tile."""
    return HEIGHTS[engine.vector_bytes()][0]


def lanes(kind: str) -> int:
    return 8 * engine.vector_bytes() // BITS[kind]


@cache
def _load(kind: str) -> int:
    code = engine.compile_ir(text(kind))
    # It serves programs until the process ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
    return code.address(symbol(kind))


def text(kind: str) -> str:
    """The module that defines the function for numbers of one kind."""
    module = Module()
    for rows in HEIGHTS[engine.vector_bytes()]:
        module.define(f"tile{rows}", _Tile(module, kind, rows).text())
    module.define("turn", _turn_text(module, kind))
    module.define("gather", _gather_text(module, kind))
    module.define("rows", _rows_text(module, kind))
    module.define(symbol(kind), _blocks_text(module, kind))
    return f"attributes #0 = {{ nounwind }}\n{module}"


def _function(name: str, params: Sequence[Value], lines: Sequence[str], internal: bool) -> str:
    names = ", ".join(f"{p.type} {p.ref}" for p in params)
    scope = "internal " if internal else ""
    return "\n".join([f"define {scope}void @{name}({names}) #0 {{", "entry:", *lines, "}"])


def _params(names: str, kind: str = "i64") -> list[Value]:
    return [Value(f"%{name}", kind) for name in names.split()]


def _mask(w: Writer, limit: Value, start: int, count: int) -> Value:
    """Which of the lanes numbered from `start` lie before `limit`."""
    at = Value("<" + ", ".join(f"i32 {start + k}" for k in range(count)) + ">", "i32", count)
    return w.compare("icmp slt", at, w.splat(w.cast("trunc", limit, "i32"), count))


def _masked_load(w: Writer, address: Value, kind: str, mask: Value) -> Value:
    result = Value(w.fresh(), kind, mask.lanes)
    name = f"llvm.masked.load.{mangled(kind, mask.lanes)}.p0"
    w.module.declare(name, f"declare {result.type} @{name}(ptr, i32, {mask.type}, {result.type})")
    w.line(
        f"{result.ref} = call {result.type} @{name}(ptr {address.ref}, i32 {BITS[kind] // 8}, "
        f"{mask.type} {mask.ref}, {result.type} zeroinitializer)"
    )
    return result


def _masked_store(w: Writer, value: Value, address: Value, mask: Value) -> None:
    name = f"llvm.masked.store.{mangled(value.kind, value.lanes)}.p0"
    w.module.declare(name, f"declare void @{name}({value.type}, ptr, i32, {mask.type})")
    w.line(
        f"call void @{name}({value.type} {value.ref}, ptr {address.ref}, "
        f"i32 {BITS[value.kind] // 8}, {mask.type} {mask.ref})"
    )


def _prefetch(w: Writer, address: Value) -> None:
    """Bring an element's cache line near; any address will do."""
    w.module.declare("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    w.line(f"call void @llvm.prefetch.p0(ptr {address.ref}, i32 0, i32 3, i32 1)")


class _Tile:
    """`tile(a, a_row, a_inner, b, b_inner, c, c_row, s, s_row, scale, columns, inner)`."""

    def __init__(self, module: Module, kind: str, rows: int):
        self.w = Writer(module)
        self.kind, self.rows = kind, rows
        self.lanes = lanes(kind)

    def text(self) -> str:
        w = self.w
        a_row, a_inner, b_inner, inner = _params("a_row a_inner b_inner inner")
        columns = Value("%columns", "i64")
        self.masks = [_mask(w, columns, v * self.lanes, self.lanes) for v in range(ACROSS)]
        self._fetch_what_is_added_to()
        starts = [self._row(Value("%a", "ptr"), a_row, r) for r in range(0, self.rows, 3)]
        empty = Value("zeroinitializer", self.kind, self.lanes)
        sums = [empty] * (self.rows * ACROSS)
        count = len(starts)

        def step(_: Value, b: Value, *carry: Value) -> list[Value]:
            places, sums = carry[:count], carry[count:]
            added = self._added(b, places, a_row, sums)
            later = [w.offset(p, self.kind, a_inner) for p in places]
            return [w.offset(b, self.kind, b_inner), *later, *added]

        carry = [Value("%b", "ptr"), *starts, *sums]
        sums = counted(w, w.const(0, "i64"), inner, 1, step, carry)[1 + count :]
        self._finish(sums)
        params = [
            *_params("a", "ptr"), *_params("a_row a_inner"), *_params("b", "ptr"),
            *_params("b_inner"), *_params("c", "ptr"), *_params("c_row"), *_params("s", "ptr"),
            *_params("s_row"), Value("%scale", self.kind), columns, inner,
        ]  # fmt: skip
        return _function(f"tile{self.rows}", params, [*w.lines, "  ret void"], True)

    def _row(self, base: Value, stride: Value, row: int) -> Value:
        if row == 0:
            return base
        far = self.w.op("mul", stride, self.w.const(row, "i64")) if row > 1 else stride
        return self.w.offset(base, self.kind, far)

    def _added(
        self, b: Value, places: Sequence[Value], a_row: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """The sums with one more product each."""
        w, kind, n = self.w, self.kind, self.lanes
        across = [
            _masked_load(w, w.offset(b, kind, w.const(v * n, "i64")), kind, mask)
            for v, mask in enumerate(self.masks)
        ]
        for v in range(ACROSS):
            # The next panel's: nothing else foresees it.
            _prefetch(w, w.offset(b, kind, w.const((ACROSS + v) * n, "i64")))
        found: list[Value] = []
        for row in range(self.rows):
            # Three rows from one pointer: its own, one and two strides further.
            place = self._row(places[row // 3], a_row, row % 3)
            x = w.splat(w.load(place, kind), n)
            for v in range(ACROSS):
                found.append(w.intrinsic("fma", x, across[v], sums[row * ACROSS + v]))
        return found

    def _fetch_what_is_added_to(self) -> None:
        w = self.w
        null = w.compare("icmp eq", Value("%s", "ptr"), Value("null", "ptr"))
        base = w.select(null, Value("%c", "ptr"), Value("%s", "ptr"))
        c_row, s_row = _params("c_row s_row")
        for place in self._places(base, w.select(null, c_row, s_row)):
            _prefetch(w, place)

    def _finish(self, sums: Sequence[Value]) -> None:
        w = self.w
        c_row, s_row = _params("c_row s_row")
        null = w.compare("icmp eq", Value("%s", "ptr"), Value("null", "ptr"))
        plain, plus, done = (w.new_label(name) for name in ("plain", "plus", "done"))
        w.branch_if(null, plain, plus)
        w.label(plain)
        self._store(sums, c_row)
        w.branch(done)
        w.label(plus)
        scale = w.splat(Value("%scale", self.kind), self.lanes)
        given = self._places(Value("%s", "ptr"), s_row)
        old = [_masked_load(w, p, self.kind, self.masks[k % ACROSS]) for k, p in enumerate(given)]
        self._store(
            [w.intrinsic("fma", scale, x, y) for x, y in zip(sums, old, strict=True)], c_row
        )
        w.branch(done)
        w.label(done)

    def _store(self, values: Sequence[Value], c_row: Value) -> None:
        for k, place in enumerate(self._places(Value("%c", "ptr"), c_row)):
            _masked_store(self.w, values[k], place, self.masks[k % ACROSS])

    def _places(self, base: Value, stride: Value) -> list[Value]:
        w, found = self.w, []
        for row in range(self.rows):
            start = self._row(base, stride, row)
            for v in range(ACROSS):
                found.append(w.offset(start, self.kind, w.const(v * self.lanes, "i64")))
        return found


# -- panels of b ------------------------------------------------------------------------


def _gather_text(module: Module, kind: str) -> str:
    """`gather(panel, b, b_inner, columns, inner)`: rows of b, one behind the other."""
    w, n = Writer(module), lanes(kind)
    b_inner, columns, inner = _params("b_inner columns inner")
    masks = [_mask(w, columns, v * n, n) for v in range(ACROSS)]

    def row(_: Value, to: Value, at: Value) -> list[Value]:
        for v, mask in enumerate(masks):
            step = w.const(v * n, "i64")
            values = _masked_load(w, w.offset(at, kind, step), kind, mask)
            w.store(values, w.offset(to, kind, step))
        return [
            w.offset(to, kind, w.const(width(kind), "i64")),
            w.offset(at, kind, b_inner),
        ]

    counted(w, w.const(0, "i64"), inner, 1, row, _params("panel b", "ptr"))
    params = [*_params("panel b", "ptr"), b_inner, columns, inner]
    return _function("gather", params, [*w.lines, "  ret void"], True)


def _turn_text(module: Module, kind: str) -> str:
    """`turn(panel, b, b_column, columns, inner)`: columns of b, each of which lies in a row."""
    w, n = Writer(module), lanes(kind)
    b_column, columns, inner = _params("b_column columns inner")
    zero, side = w.const(0, "i64"), w.const(n, "i64")
    last = w.op("sub", columns, w.const(1, "i64"))

    def square(starts: Sequence[Value], to: Value, begin: Value) -> None:
        mask = _mask(w, w.op("sub", inner, begin), 0, n)
        rows = [_masked_load(w, w.offset(p, kind, begin), kind, mask) for p in starts]
        for lane, row in enumerate(_transposed(w, rows)):
            number = w.op("add", begin, w.const(lane, "i64"))
            w.store(row, w.offset(to, kind, w.op("mul", number, w.const(width(kind), "i64"))))

    def group(number: Value) -> None:
        first = w.op("mul", number, side)
        starts = []
        for lane in range(n):
            # Beyond the last column any numbers do.
            column = w.intrinsic("umin", w.op("add", first, w.const(lane, "i64")), last)
            starts.append(w.offset(Value("%b", "ptr"), kind, w.op("mul", column, b_column)))
        to = w.offset(Value("%panel", "ptr"), kind, first)
        count = _parts(w, inner, n)
        counted(w, zero, count, 1, lambda k: square(starts, to, w.op("mul", k, side)))

    counted(w, zero, _parts(w, columns, n), 1, group)
    params = [*_params("panel b", "ptr"), b_column, columns, inner]
    return _function("turn", params, [*w.lines, "  ret void"], True)


def _transposed(w: Writer, rows: list[Value]) -> list[Value]:
    """A square of lanes, its rows as columns: quarters change places, on every scale."""
    n = len(rows)
    for level in range(int(log2(n))):
        far = 1 << level
        own = [k if not k & far else n + (k ^ far) for k in range(n)]
        other = [k ^ far if not k & far else n + k for k in range(n)]
        for k in range(n):
            if not k & far:
                a, b = rows[k], rows[k | far]
                rows[k], rows[k | far] = w.shuffle(a, own, b), w.shuffle(a, other, b)
    return rows


# -- rows of tiles, and blocks ------------------------------------------------------------


def _rows_text(module: Module, kind: str) -> str:
    """`rows(a, a_row, a_inner, b, b_inner, c, c_row, s, s_row, scale, rows, columns, inner)`:
    the tiles of a panel, from the highest to the lowest."""
    w = Writer(module)
    null = Value("null", "ptr")
    nothing = w.compare("icmp eq", Value("%s", "ptr"), null)

    def tile(high: int, row: Value) -> list[Value]:
        a, c, s = (
            w.offset(Value(f"%{x}", "ptr"), kind, w.op("mul", row, Value(f"%{x}_row", "i64")))
            for x in "acs"
        )
        w.line(
            f"call void @tile{high}(ptr {a.ref}, i64 %a_row, i64 %a_inner, ptr %b, i64 %b_inner, "
            f"ptr {c.ref}, i64 %c_row, ptr {w.select(nothing, null, s).ref}, i64 %s_row, "
            f"{kind} %scale, i64 %columns, i64 %inner)"
        )
        return [w.op("add", row, w.const(high, "i64"))]

    done = w.const(0, "i64")
    for high in HEIGHTS[engine.vector_bytes()]:
        (done,) = counted(
            w, done, Value("%rows", "i64"), high, lambda row, _, high=high: tile(high, row), [done]
        )
    params = [
        *_params("a", "ptr"), *_params("a_row a_inner"), *_params("b", "ptr"), *_params("b_inner"),
        *_params("c", "ptr"), *_params("c_row"), *_params("s", "ptr"), *_params("s_row"),
        Value("%scale", kind), *_params("rows columns inner"),
    ]  # fmt: skip
    return _function("rows", params, [*w.lines, "  ret void"], True)


def _blocks_text(module: Module, kind: str) -> str:
    w = Writer(module)
    inner, columns, b_inner, b_column = _params("inner columns b_inner b_column")
    one, zero = w.const(1, "i64"), w.const(0, "i64")
    panel = Value("%panel", "ptr")
    w.line(f"{panel.ref} = alloca [{DEPTH * width(kind)} x {kind}], align 64")
    depth = _depth(w, inner)
    far = w.compare("icmp sge", b_inner, w.const(_FAR_BYTES * 8 // BITS[kind], "i64"))
    tall = w.compare("icmp sge", Value("%rows", "i64"), w.const(4 * height(), "i64"))
    copied = w.op("and", far, tall)
    across = w.compare("icmp ne", b_column, one)

    wide = w.const(width(kind), "i64")

    def block(number: Value, source: Value, source_row: Value, scale: Value) -> list[Value]:
        first = w.op("mul", number, depth)
        left = w.intrinsic("smin", depth, w.op("sub", inner, first))
        a = w.offset(Value("%a", "ptr"), kind, w.op("mul", first, Value("%a_inner", "i64")))
        b = w.offset(Value("%b", "ptr"), kind, w.op("mul", first, b_inner))
        null = w.compare("icmp eq", source, Value("null", "ptr"))

        def strip(number: Value) -> None:
            begin = w.op("mul", number, wide)
            count = w.intrinsic("smin", wide, w.op("sub", columns, begin))
            part = w.offset(b, kind, w.op("mul", begin, b_column))
            operand = (part, b_inner, b_column, count, left)
            place, step = _panel(w, operand, panel, across, copied, kind)
            c = w.offset(Value("%c", "ptr"), kind, begin)
            given = w.select(null, source, w.offset(source, kind, begin))
            w.line(
                f"call void @rows(ptr {a.ref}, i64 %a_row, i64 %a_inner, ptr {place.ref}, "
                f"i64 {step.ref}, ptr {c.ref}, i64 %c_row, ptr {given.ref}, i64 {source_row.ref}, "
                f"{kind} {scale.ref}, i64 %rows, i64 {count.ref}, i64 {left.ref})"
            )

        counted(w, zero, _parts(w, columns, width(kind)), 1, strip)
        # What later blocks give is added to what the first one left.
        plain = w.select(null, w.const(1.0, kind), scale)
        return [Value("%c", "ptr"), Value("%c_row", "i64"), plain]

    count = w.op("udiv", w.op("add", inner, w.op("sub", depth, one)), depth)
    given = [Value("%s", "ptr"), Value("%s_row", "i64"), Value("%scale", kind)]
    counted(w, zero, count, 1, block, given)
    params = [
        *_params("a", "ptr"), *_params("a_row a_inner"), *_params("b", "ptr"),
        *_params("b_inner b_column"), *_params("c", "ptr"), *_params("c_row"), *_params("s", "ptr"),
        *_params("s_row"), Value("%scale", kind), *_params("rows columns inner"),
    ]  # fmt: skip
    return _function(symbol(kind), params, [*w.lines, "  ret void"], False)


def _parts(w: Writer, length: Value, part: int) -> Value:
    """How many parts, the last one perhaps shorter, cover a length."""
    more = w.op("add", length, w.const(part - 1, "i64"))
    return w.op("udiv", more, w.const(part, "i64"))


def _depth(w: Writer, inner: Value) -> Value:
    """The depth of blocks of about equal depth."""
    one, most = w.const(1, "i64"), w.const(DEPTH, "i64")
    below = w.op("sub", inner, one)
    count = w.op("add", w.op("udiv", below, most), one)
    return w.op("add", w.op("udiv", below, count), one)


def _panel(
    w: Writer,
    b: tuple[Value, Value, Value, Value, Value],
    panel: Value,
    across: Value,
    copied: Value,
    kind: str,
) -> tuple[Value, Value]:
    """Where the panel's rows lie, and how far apart."""
    part, b_inner, b_column, columns, inner = b
    turn, straight, gather, ready = (
        w.new_label(name) for name in ("turn", "straight", "gather", "ready")
    )
    w.branch_if(across, turn, straight)
    w.label(turn)
    sizes = f"i64 {columns.ref}, i64 {inner.ref}"
    w.line(f"call void @turn(ptr {panel.ref}, ptr {part.ref}, i64 {b_column.ref}, {sizes})")
    w.branch(ready)
    w.label(straight)
    w.branch_if(copied, gather, ready)
    w.label(gather)
    w.line(f"call void @gather(ptr {panel.ref}, ptr {part.ref}, i64 {b_inner.ref}, {sizes})")
    w.branch(ready)
    w.label(ready)
    wide = w.const(width(kind), "i64")
    place = w.phi("ptr", 1, (panel, turn), (panel, gather), (part, straight))
    step = w.phi("i64", 1, (wide, turn), (wide, gather), (b_inner, straight))
    return place, step
