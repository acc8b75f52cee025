"""The code of matrix products of our own; `tiles` says what it computes, and how."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.llvm.ir.flow import counted, parts
from funcgrad.backends.llvm.ir.writer import BITS, Module, Value, Writer
from funcgrad.backends.llvm.products.tile_shapes import lanes, shape, symbol, width

# What is summed in one go: a panel of b of this depth stays in the second level's cache.
DEPTH = 256


def text(part: str, ty: str) -> str:
    """The module that defines a function for numbers of one type."""
    module, name = Module(), symbol(part, ty)
    if part == "low":
        module.define(name, _Tile(module, ty, shape().low, 1).text(name, ""))
    elif part == "turn":
        module.define(name, _turn_text(module, ty))
    else:
        module.define("tile", _Tile(module, ty, shape().rows, shape().group).text("tile"))
        module.define("panel", _panel_text(module, ty))
        module.define(name, _blocks_text(module, ty))
    # To make these faster would take longer than it ever runs.
    attributes = "attributes #0 = { nounwind }\nattributes #1 = { nounwind noinline optnone }"
    return f"{attributes}\n{module}"


def _params(names: str, ty: str = "i64") -> list[Value]:
    return [Value(f"%{name}", ty) for name in names.split()]


def _matrices(ty: str) -> list[Value]:
    """The parameters that all functions have: the operands, and what is added to."""
    return [
        *_params("a", "ptr"), *_params("a_row a_inner"), *_params("b", "ptr"), *_params("b_row"),
        *_params("c", "ptr"), *_params("c_row"), *_params("s", "ptr"), *_params("s_row"),
        Value("%scale", ty),
    ]  # fmt: skip


def _function(
    name: str,
    ty: str,
    sizes: str,
    lines: Sequence[str],
    pointers: str = "",
    scope: str = "internal ",
    attributes: int = 1,
) -> str:
    params = [*_matrices(ty), *_params(sizes), *_params(pointers, "ptr")]
    names = ", ".join(f"{p.type} {p.ref}" for p in params)
    head = f"define {scope}void @{name}({names}) #{attributes} {{"
    return "\n".join([head, "entry:", *lines, "  ret void", "}"])


def _call(
    w: Writer, name: str, ty: str, given: dict[str, Value], sizes: str, pointers: str = ""
) -> None:
    """A call that passes on the function's own parameters, but for those that are given."""
    params = [*_matrices(ty), *_params(sizes), *_params(pointers, "ptr")]
    passed = ", ".join(f"{p.type} {given.get(p.ref[1:], p).ref}" for p in params)
    w.line(f"call void {name}({passed})")


def _mask_before(w: Writer, limit: Value, start: int, count: int) -> Value:
    """Which of the lanes numbered from `start` lie before `limit`."""
    numbers = ", ".join(f"i32 {start + k}" for k in range(count))
    limit = w.splat(w.cast("trunc", limit, "i32"), count)
    return w.compare("icmp slt", Value(f"<{numbers}>", "i32", count), limit)


class _Tile:
    """The function of a tile; its parameter `rows` are those that are left.

    Args:
        group: so many rows of a are reached from one pointer; with 1 there may be fewer rows.
    """

    def __init__(self, module: Module, ty: str, rows: int, group: int):
        self.w = Writer(module)
        self.ty, self.rows, self.group = ty, rows, group
        self.lanes, self.across = lanes(ty), shape().across

    def text(self, name: str, scope: str = "internal ") -> str:
        w, across = self.w, self.across
        exact = self.group > 1
        # Where there are fewer rows the last one is computed several times.
        last = None if exact else w.op("sub", Value("%rows", "i64"), w.const(1, "i64"))
        self.numbers = [self._number(row, last) for row in range(self.rows)]
        columns = Value("%columns", "i64")
        self.masks = [_mask_before(w, columns, v * self.lanes, self.lanes) for v in range(across)]
        # Without s nothing is loaded of c, which gives zeros.
        (c, s), (c_row, s_row) = _params("c s", "ptr"), _params("c_row s_row")
        plus = w.compare("icmp ne", s, Value("null", "ptr"))
        given = self._places(w.select(plus, s, c), w.select(plus, s_row, c_row))
        none = Value("zeroinitializer", "i1", self.lanes)
        added = [w.select(plus, mask, none) for mask in self.masks]
        for place in given:
            self._prefetch(place)
        sums = self._sums()
        scale = w.splat(Value("%scale", self.ty), self.lanes)
        values = []
        for k, (x, place) in enumerate(zip(sums, given, strict=True)):
            values.append(
                w.intrinsic("fma", scale, x, w.masked_load(place, self.ty, added[k % across]))
            )
        for k, (value, place) in enumerate(zip(values, self._places(c, c_row), strict=True)):
            w.masked_store(value, place, self.masks[k % across])
        return _function(name, self.ty, "rows columns inner", w.lines, scope=scope, attributes=0)

    def _number(self, row: int, last: Value | None) -> Value:
        number = self.w.const(row, "i64")
        return number if last is None or not row else self.w.intrinsic("smin", number, last)

    def _places(self, base: Value, stride: Value) -> list[Value]:
        """Where the vectors of the tile lie in a matrix."""
        w, found = self.w, []
        for number in self.numbers:
            start = w.offset(base, self.ty, w.op("mul", stride, number))
            found += [w.offset(start, self.ty, self._column(v)) for v in range(self.across)]
        return found

    def _column(self, vector: int) -> Value:
        return self.w.const(vector * self.lanes, "i64")

    def _sums(self) -> list[Value]:
        """Of the products along `inner`."""
        w, group = self.w, self.group
        a_row, a_inner, b_row, inner = _params("a_row a_inner b_row inner")
        starts = [
            w.offset(Value("%a", "ptr"), self.ty, w.op("mul", a_row, number))
            for number in self.numbers[::group]
        ]
        steps = [w.op("mul", a_row, w.const(k, "i64")) for k in range(group)]
        zeros = [Value("zeroinitializer", self.ty, self.lanes)] * (self.rows * self.across)
        count = len(starts)

        def step(_: Value, b: Value, *carry: Value) -> list[Value]:
            places, sums = carry[:count], carry[count:]
            rows = [w.offset(p, self.ty, far) for p in places for far in steps]
            later = [w.offset(p, self.ty, a_inner) for p in places]
            added = self._added(rows, b, sums)
            return [w.offset(b, self.ty, b_row), *later, *added]

        carry = [Value("%b", "ptr"), *starts, *zeros]
        return counted(w, w.const(0, "i64"), inner, 1, step, carry)[1 + count :]

    def _added(self, rows: Sequence[Value], b: Value, sums: Sequence[Value]) -> list[Value]:
        """The sums with one more product each."""
        w, count, found = self.w, self.across, []
        places = [w.offset(b, self.ty, self._column(v)) for v in range(2 * count)]
        across = [
            w.masked_load(p, self.ty, mask) for p, mask in zip(places, self.masks, strict=False)
        ]
        for place in places[count:]:
            # The next panel's: nothing else foresees it.
            self._prefetch(place)
        for number, row in enumerate(rows):
            x = w.splat(w.load(row, self.ty), self.lanes)
            for v in range(count):
                found.append(w.intrinsic("fma", x, across[v], sums[number * count + v]))
        return found

    def _prefetch(self, address: Value) -> None:
        """Bring an element's cache line near; any address will do."""
        name = "llvm.prefetch.p0"
        self.w.module.declare(name, f"declare void @{name}(ptr, i32, i32, i32)")
        self.w.line(f"call void @{name}(ptr {address.ref}, i32 0, i32 3, i32 1)")


def _moved(w: Writer, ty: str, number: Value) -> dict[str, Value]:
    """a, c and s from this row on."""
    found = {}
    for name in "acs":
        far = w.op("mul", number, Value(f"%{name}_row", "i64"))
        found[name] = w.offset(Value(f"%{name}", "ptr"), ty, far)
    found["s"] = _unless_none(w, found["s"])
    return found


def _unless_none(w: Writer, place: Value) -> Value:
    """A place in s, or null where there is no s."""
    none = Value("null", "ptr")
    return w.select(w.compare("icmp eq", Value("%s", "ptr"), none), none, place)


def _panel_text(module: Module, ty: str) -> str:
    """All tiles of a panel of b, one below the other."""
    w, sizes = Writer(module), "rows columns inner"
    rows, done = Value("%rows", "i64"), w.const(0, "i64")
    high, low = shape().rows, shape().low

    def tile(name: str, number: Value) -> None:
        left = w.op("sub", rows, number)
        _call(w, name, ty, {**_moved(w, ty, number), "rows": left}, sizes)

    def whole_tile(number: Value, _: Value) -> list[Value]:
        tile("@tile", number)
        return [w.op("add", number, w.const(high, "i64"))]

    (done,) = counted(w, done, rows, high, whole_tile, [done])
    beyond = w.op("add", rows, w.const(low - 1, "i64"))
    counted(w, done, beyond, low, lambda number: tile("%low", number))
    return _function("panel", ty, sizes, w.lines, "low")


def _turn_text(module: Module, ty: str) -> str:
    """A panel of b whose columns are what lies in rows.

        void fg_turn_float(ptr to, ptr b, i64 b_column, i64 columns, i64 inner)

    Of as many columns as 16 bytes hold a vector each is read; then it is enough to transpose
    within 16 bytes, and to store these one by one.
    """
    w, n, few = Writer(module), lanes(ty), 128 // BITS[ty]
    to, b = _params("to b", "ptr")
    b_column, columns, inner = sizes = _params("b_column columns inner")
    zero, last = w.const(0, "i64"), w.op("sub", columns, w.const(1, "i64"))

    def some_columns(number: Value) -> None:
        first = w.op("mul", number, w.const(few, "i64"))
        # Beyond the last column any numbers do.
        numbers = [w.op("add", first, w.const(k, "i64")) for k in range(few)]
        places = [w.op("mul", w.intrinsic("umin", k, last), b_column) for k in numbers]
        starts = [w.offset(b, ty, k) for k in places]
        target = w.offset(to, ty, first)

        def some_rows(number: Value) -> None:
            begin = w.op("mul", number, w.const(n, "i64"))
            mask = _mask_before(w, w.op("sub", inner, begin), 0, n)
            found = [w.masked_load(w.offset(p, ty, begin), ty, mask) for p in starts]
            place = w.offset(target, ty, w.op("mul", begin, w.const(width(ty), "i64")))
            turned = w.transposed(found, few)
            for k in range(n):
                part = w.shuffle(turned[k % few], range(k // few * few, (k // few + 1) * few))
                w.store(part, w.offset(place, ty, w.const(k * width(ty), "i64")))

        counted(w, zero, parts(w, inner, w.const(n, "i64")), 1, some_rows)

    counted(w, zero, parts(w, columns, w.const(few, "i64")), 1, some_columns)
    names = ", ".join(f"{p.type} {p.ref}" for p in (to, b, *sizes))
    head = f"define void @{symbol('turn', ty)}({names}) #1 {{"
    return "\n".join([head, "entry:", *w.lines, "  ret void", "}"])


def _blocks_text(module: Module, ty: str) -> str:
    """Blocks of about equal depth, and in each its panels."""
    w, sizes = Writer(module), "rows columns inner"
    inner, columns, b_column = _params("inner columns b_column")
    turned = Value("%turned", "ptr")
    room = (DEPTH + 16) * width(ty)
    w.line(f"{turned.ref} = alloca [{room} x {ty}], align 64")
    across = w.compare("icmp ne", Value("%turn", "ptr"), Value("null", "ptr"))
    zero, wide = w.const(0, "i64"), w.const(width(ty), "i64")
    blocks = parts(w, inner, w.const(DEPTH, "i64"))
    depth = parts(w, inner, blocks)

    def block(number: Value, source: Value, source_row: Value) -> list[Value]:
        first = w.op("mul", number, depth)
        left = w.intrinsic("smin", depth, w.op("sub", inner, first))
        a = w.offset(Value("%a", "ptr"), ty, w.op("mul", first, Value("%a_inner", "i64")))
        b = w.offset(Value("%b", "ptr"), ty, w.op("mul", first, Value("%b_row", "i64")))

        def panel(number: Value) -> None:
            begin = w.op("mul", number, wide)
            count = w.intrinsic("smin", wide, w.op("sub", columns, begin))
            c, s = (w.offset(place, ty, begin) for place in (Value("%c", "ptr"), source))
            none = Value("null", "ptr")
            s = w.select(w.compare("icmp eq", source, none), none, s)
            part = w.offset(b, ty, w.op("mul", begin, b_column))
            with w.when(across, "turn"):
                w.line(
                    f"call void %turn(ptr {turned.ref}, ptr {part.ref}, i64 {b_column.ref}, "
                    f"i64 {count.ref}, i64 {left.ref})"
                )
            b_row = w.select(across, wide, Value("%b_row", "i64"))
            given = {"a": a, "b": w.select(across, turned, part), "b_row": b_row, "c": c, "s": s}
            given |= {"s_row": source_row, "columns": count, "inner": left}
            _call(w, "@panel", ty, given, sizes, "low")

        counted(w, zero, parts(w, columns, wide), 1, panel)
        # Later blocks are added to what the first one left.
        return _params("c", "ptr") + _params("c_row")

    counted(w, zero, blocks, 1, block, _params("s", "ptr") + _params("s_row"))
    name = symbol("tiles", ty)
    return _function(name, ty, f"{sizes} b_column", w.lines, "low turn", "")
