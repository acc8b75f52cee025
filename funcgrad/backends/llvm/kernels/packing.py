"""Loads that step along the vectorised axis by many elements, and along the one around it by one.

Row by row, as for `x.T + y`, each element is read from a cache line of its own, which has left
the first cache when the next row comes to it. So blocks of rows are *packed*: squares of
elements are read as they lie, transposed in registers, and written to a panel on the stack, from
where the loops read them in order. Where a row needs only one pass, a block is done piece by
piece, which the first cache holds; the totals of its rows then wait in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.llvm.ir.flow import counted
from funcgrad.backends.llvm.ir.types import memory_type
from funcgrad.backends.llvm.ir.writer import BITS, Value, Writer
from funcgrad.backends.llvm.kernels.limits import LIMITS
from funcgrad.backends.loops.nests.kernels import chunking, far_loads
from funcgrad.backends.loops.nests.nest import Axis, Index, Kernel, Load, Loop, Op, Position
from funcgrad.records import NamedTuple

# The rows of a block, and the columns of a piece: a multiple of what unrolled loops do at once.
HEIGHT, WIDTH = 32, 256
# Whole rows may take so much: the second cache holds it, and the stacks of small threads.
ROOM_BYTES = 128 << 10
LINE_BYTES = 64
# Larger squares take long to compile.
_WIDEST = 16


class Pack(NamedTuple):
    """Some rows of a load.

    Attributes:
        array, index: what is loaded.
        block: the axis whose positions are the rows.
        inner: the vectorised axis.
        height, width: how many rows fit, and how many elements of each.
        pitch: the elements from one row to the next in the panel.
    """

    array: int
    index: Index
    block: Axis
    inner: Axis
    ty: str
    height: int
    width: int
    pitch: int

    @property
    def nbytes(self) -> int:
        return self.height * self.pitch * BITS[self.ty] // 8

    @property
    def around(self) -> Index:
        """The index but for the two axes."""
        terms = [t for t in self.index.terms if t[0] not in (self.block, self.inner)]
        return self.index._replace(terms=tuple(terms))


def packs_of(kernel: Kernel) -> list[Pack]:
    """The loads of a kernel that are worth it, all with as many rows, if there is room."""
    wanted = {(s.array, s.index): (block, inner) for s, block, inner in far_loads(kernel, LIMITS)}
    height, chunk = HEIGHT, chunking(kernel, LIMITS)[1]
    while height >= LIMITS.far_rows:
        found = [_pack(kernel, *what, *axes, height) for what, axes in wanted.items()]
        fits = sum(p.nbytes for p in found) <= ROOM_BYTES
        # Neither a chunk nor an axis may have fewer rows than are taken at once.
        rows = [min(p.block.extent, chunk if p.block.outer else height) for p in found]
        if fits and height <= min(rows, default=0):
            return found
        height //= 2
    return []


def _pack(kernel: Kernel, array: int, index: Index, block: Axis, inner: Axis, height: int) -> Pack:
    ty = memory_type(kernel.params[array].dtype)
    width = inner.extent if single_pass(kernel) is None else min(WIDTH, inner.extent)
    line = LINE_BYTES * 8 // BITS[ty]
    # Rows that lie a power of two apart would meet in one place of the cache.
    pitch = (-(-width // line) + 1) * line
    return Pack(array, index, block, inner, ty, height, width, pitch)


def single_pass(kernel: Kernel) -> Loop | None:
    """The loop of rows that may be done piece by piece: what precedes it can be done again."""
    loops = kernel.loops()
    if not kernel.parallel or not kernel.outer or len(loops) != 1 or len(loops[0].axes) != 1:
        return None
    for s in kernel.body:
        if type(s) not in (Load, Op, Position):
            return s if s is loops[0] else None
    return None


class PackedPanel:
    """Where a pack's rows lie: from row `first` on, and from column `left` on."""

    def __init__(self, w: Writer, pack: Pack):
        self.w = w
        self.pack = pack
        self.place = Value(w.fresh(), "ptr")
        size = pack.height * pack.pitch
        w.allocas.append(f"  {self.place.ref} = alloca [{size} x {pack.ty}], align {LINE_BYTES}")
        self.first = self.left = w.const(0, "i64")

    def fill(self, begin: Value, count: Value, column: Value, base: Value, lanes: int) -> None:
        """Take `count` rows from `begin` on, and the columns from `column` on, or the last ones.

        Args:
            base: the address of row 0's first element.
            lanes: of a vector.
        """
        w, pack = self.w, self.pack
        side = min(pack.height, lanes, _WIDEST)
        # Whole squares: at the end they also take rows, or columns, that were had before.
        rows = w.op("add", count, w.const(side - 1, "i64"))
        rows = w.op("and", rows, w.const(-side, "i64"))
        self.first = w.intrinsic(
            "smin", begin, w.op("sub", w.const(pack.block.extent, "i64"), rows)
        )
        self.left = w.intrinsic("smin", column, w.const(pack.inner.extent - pack.width, "i64"))
        step = w.const(pack.index.step(pack.inner), "i64")
        forward = w.const(pack.index.step(pack.block), "i64")
        start = w.op("add", w.op("mul", self.first, forward), w.op("mul", self.left, step))
        base = w.offset(base, pack.ty, start)

        def squares(number: Value) -> None:
            start = w.intrinsic("smin", number, w.const(pack.width - side, "i64"))
            source = w.offset(base, pack.ty, w.op("mul", start, step))
            target = w.offset(self.place, pack.ty, start)
            counted(
                w, w.const(0, "i64"), rows, side, lambda k: self._square(source, target, k, side)
            )

        end = w.const(-(-pack.width // side) * side, "i64")
        counted(w, w.const(0, "i64"), end, side, squares)

    def _square(self, source: Value, target: Value, row: Value, side: int) -> None:
        w, pack = self.w, self.pack
        # The elements of a line come in the order of memory.
        backward = pack.index.step(pack.block) < 0
        first = w.op("sub", w.const(1 - side, "i64"), row) if backward else row
        source = w.offset(source, pack.ty, first)
        target = w.offset(target, pack.ty, w.op("mul", row, w.const(pack.pitch, "i64")))
        step = pack.index.step(pack.inner)
        places = [w.offset(source, pack.ty, w.const(j * step, "i64")) for j in range(side)]
        lines = w.transposed([w.load(p, pack.ty, side) for p in places], side)
        for j, line in enumerate(lines[::-1] if backward else lines):
            w.store(line, w.offset(target, pack.ty, w.const(j * pack.pitch, "i64")))

    def address(self, row: Value, column: Value) -> Value:
        w, pack = self.w, self.pack
        place = w.op("mul", w.op("sub", row, self.first), w.const(pack.pitch, "i64"))
        place = w.op("add", place, w.op("sub", column, self.left))
        return w.offset(self.place, pack.ty, place)


class Totals:
    """What the rows of a block have summed so far, while other rows have their turn."""

    def __init__(self, w: Writer, start: Sequence[Value]):
        self.w = w
        self.start = start
        self.places = [Value(w.fresh(), "ptr") for _ in start]
        for place, v in zip(self.places, start, strict=True):
            w.allocas.append(
                f"  {place.ref} = alloca [{HEIGHT * v.lanes} x {v.ty}], align {LINE_BYTES}"
            )

    def read(self, row: Value) -> list[Value]:
        w = self.w
        return [
            w.load(self._at(p, v, row), v.ty, v.lanes)
            for p, v in zip(self.places, self.start, strict=True)
        ]

    def write(self, row: Value, values: Sequence[Value]) -> None:
        for place, v in zip(self.places, values, strict=True):
            self.w.store(v, self._at(place, v, row))

    def _at(self, place: Value, v: Value, row: Value) -> Value:
        return self.w.offset(place, v.ty, self.w.op("mul", row, self.w.const(v.lanes, "i64")))
