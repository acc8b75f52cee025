"""Matrix products, each cut into pieces for our threads: by our own tiles, or by NumPy's BLAS.

Tiles are for matrices that the caches hold, BLAS, called by pointer, for small ones, for which
it has code of its own, and for large ones, which it copies into a better order. What can be read
in place (transposed, or rows at a distance) is passed as it is. The pieces depend on the shapes
alone and each is computed by one thread, so that results are the same for any number of threads.
The library's own threads stay out of it meanwhile: its idle ones would spin for milliseconds
after each product, and take the cores from the kernels between.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.llvm.ir.flow import pieces_text
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer, float_text
from funcgrad.backends.llvm.products import blas, tiles
from funcgrad.backends.loops.fusion.target import RowPieces
from funcgrad.backends.loops.nests.views import View
from funcgrad.backends.loops.planning.plan import MatrixProduct
from funcgrad.backends.loops.planning.products import leading
from funcgrad.core.graph import Eqn
from funcgrad.records import NamedTuple

# Multiplications that are worth a piece of their own.
PIECE_WORK = 2 << 20
# Larger pieces share more of what the library prepares; but there must be enough for all threads.
LARGE_PIECE_WORK = 128 << 20
FEW_PIECES, MOST_PIECES = 8, 64
# The sides of pieces are multiples of this, which suits the library's inner loops.
GRAIN = 32
# Multiplications that are worth a piece where tiles compute it; a piece has so many tiles above
# each other, so that what they share is read often enough.
TILED_WORK, TILES_HIGH, MOST_TILED = 1 << 20, 3, 64


class Product(NamedTuple):
    """`c[i] = a[i] @ b[i]` for matrices of numbers of one type.

    Attributes:
        ty: "float" or "double".
        sizes: rows, columns, and the length of what is summed over.
        leading: of a and b, the distance of rows, or of columns where they are transposed.
        transposed: for a and b, whether they are.
        lead: the axes of matrices; `steps` are their strides in a and b.
        cuts: into how many parts rows and columns are cut.
        scale, adds: what the product is multiplied by, and whether it is added to a matrix:
            to a fourth one where tiles compute it, else to c.
        tiled: whether our own code computes it.
    """

    ty: str
    sizes: tuple[int, int, int]
    leading: tuple[int, int]
    transposed: tuple[bool, bool]
    lead: tuple[int, ...]
    steps: tuple[tuple[int, ...], tuple[int, ...]]
    cuts: tuple[int, int]
    scale: float
    adds: bool
    tiled: bool

    @property
    def work(self) -> int:
        """Multiplications."""
        return prod(self.lead) * prod(self.sizes)

    @property
    def products(self) -> int:
        return prod(self.lead)

    @property
    def operator(self) -> str:
        return "@"

    @property
    def adds_in_place(self) -> bool:
        return self.adds and not self.tiled

    @property
    def rows(self) -> RowPieces | None:
        whole = not self.lead and self.cuts[0] > 1 and self.cuts[1] == 1
        if not whole or not sharing(self).call:
            return None
        return RowPieces(self.sizes[0], _length(self.sizes[0], self.cuts[0]))

    @property
    def tile_parts(self) -> Sequence[str]:
        """The functions of `tiles` that it calls; what isn't called isn't compiled."""
        high, length = tiles.shape().rows, _length(self.sizes[0], self.cuts[0])
        low = self.sizes[0] % high > 0 or length % high > 0
        return ["tiles", *["low"] * low, *["turn"] * self.transposed[1]]


def can_multiply(eqn: Eqn) -> bool:
    """Whether tiles or the library compute a product; who isn't needed isn't looked for."""
    x, y = (a.aval.shape for a in eqn.ins[-2:])
    dtype = eqn.outs[0].aval.dtype
    if dtype.kind != "f" or not all(n for a in eqn.ins for n in a.aval.shape):
        return False
    if len(x) > 1 < len(y) and tiles.suit(_llvm_type(dtype), (x[-2], y[-1], x[-1])):
        return True
    found = blas.find()
    return found is not None and max((*x, *y)) <= found.limit


def panel(dtype: np.dtype, rows: int, inner: int) -> int:
    """The columns of a tile, where tiles are better even for a matrix of no more; else 0."""
    ty = _llvm_type(dtype)
    width = tiles.width(ty) if tiles.available() else 0
    return width if width and tiles.suit(ty, (rows, width, inner)) else 0


def _llvm_type(dtype: np.dtype) -> str:
    return "float" if dtype.itemsize == 4 else "double"


def product(x: View, y: View, dtype: np.dtype, scale: float, adds: bool) -> Product:
    """How `scale * x @ y` is computed, for matrices that BLAS can read."""
    found = _product(x, y, dtype)._replace(scale=scale, adds=adds)
    for part in found.tile_parts if found.tiled else ():
        tiles.begin(part, found.ty)
    return found


def arguments(frame: Frame, step: MatrixProduct) -> list[Value]:
    """What the function of a product's pieces takes."""
    found = [start(frame, step.x), start(frame, step.y), frame.address(step.result)]
    if step.source is not None and not step.how.adds_in_place:
        found.append(start(frame, step.source))
    return found


def define(module: Module, product: Product) -> str:
    """The name of the function of a range of a product's pieces; equal ones are written once."""
    name = _name(product)
    if name not in module.functions:
        module.define(name, _Products(module, name, product).text())
    return name


class Sharing(NamedTuple):
    """How threads share a product: so many pieces, in chunks, by a function; empty if none do."""

    pieces: int
    chunk: int
    call: str


def sharing(product: Product) -> Sharing:
    pieces = prod(product.lead) * prod(product.cuts)
    # Of many small products each piece takes several.
    least = TILED_WORK if product.tiled else PIECE_WORK
    chunk = max(1, least * pieces // (2 * product.work))
    if product.tiled:
        call = "fg_parallel" if chunk < pieces else ""
    else:
        call = "fg_products" if _is_held() and product.work > tiles.ALONE else ""
    return Sharing(pieces, chunk, call)


def start(frame: Frame, view: View) -> Value:
    """Where a view begins."""
    start = frame.address(view.buffer)
    if not view.offset:
        return start
    ty = _llvm_type(view.buffer.dtype)
    return frame.w.offset(start, ty, frame.w.const(view.offset, "i64"))


def declare(module: Module, name: str, ty: str) -> None:
    """Declare the library's product by its name."""
    types = f"i32, i32, i32, i64, i64, i64, {ty}, ptr, i64, ptr, i64, {ty}, ptr, i64"
    module.declare(name, f"declare void @{name}({types})")


# --- decisions ------------------------------------------------------------------------


def _is_held() -> bool:
    """Whether the library must be, and can be, held to one thread."""
    found = blas.find()
    return found is not None and found.set_threads is not None


def _product(x: View, y: View, dtype: np.dtype) -> Product:
    lead = tuple(np.broadcast_shapes(x.shape[:-2], y.shape[:-2]))
    rows, columns, inner = x.shape[-2], y.shape[-1], x.shape[-1]
    if lead and not any(_steps(y, lead)) and _is_one_matrix(x, lead):
        # One product over the rows of all.
        rows, lead = rows * prod(lead), ()
        x = View(x.buffer, (rows, inner), x.strides[-2:], x.offset)
    found = [leading(x), leading(y)]
    assert None not in found, "operands that neither BLAS nor tiles can read"
    (lda, turned_a), (ldb, turned_b) = (f for f in found if f is not None)
    ty, sizes = _llvm_type(dtype), (rows, columns, inner)
    spread = turned_a or lda * dtype.itemsize % tiles.WAY_BYTES > 0
    tiled = tiles.suit(ty, sizes) and (spread or blas.find() is None)
    cuts = _tiled_cuts if tiled else _cuts if _is_held() else _whole_piece
    return Product(
        ty,
        sizes,
        (lda, ldb),
        (turned_a, turned_b),
        lead,
        (_steps(x, lead), _steps(y, lead)),
        cuts(*sizes),
        1.0,
        False,
        tiled,
    )


def _steps(view: View, lead: Sequence[int]) -> tuple[int, ...]:
    own = zip(view.shape[:-2], view.strides[:-2], strict=True)
    steps = [s if n > 1 else 0 for n, s in own]
    # Axes that the product has not are of length one.
    return (*(0,) * (len(lead) - len(steps)), *steps[max(len(steps) - len(lead), 0) :])


def _is_one_matrix(x: View, lead: Sequence[int]) -> bool:
    """Whether x has all matrices, and their rows follow each other at one distance."""
    if x.shape[:-2] != tuple(lead) or x.strides[-1] != 1:
        return False
    pairs = pairwise(zip(x.shape[:-1], x.strides[:-1], strict=True))
    return all(far == n * near > 0 for (_, far), (n, near) in pairs)


def _length(n: int, cuts: int) -> int:
    """How long the parts of a side are; the last one may be shorter, or empty."""
    return min(-(-n // (cuts * GRAIN)) * GRAIN, n)


def _whole_piece(rows: int, columns: int, inner: int) -> tuple[int, int]:
    return 1, 1


def _tiled_cuts(rows: int, columns: int, inner: int) -> tuple[int, int]:
    """Pieces of whole rows as far as they are high enough, then parts of rows."""
    enough = min(rows * columns * inner // TILED_WORK, MOST_TILED)
    high = wide = 1
    while 2 * high <= enough and rows // (2 * high) >= TILES_HIGH * tiles.shape().rows:
        high *= 2
    while 2 * high * wide <= min(enough, FEW_PIECES) and columns // (2 * wide) >= GRAIN:
        wide *= 2
    return high, wide


def _cuts(rows: int, columns: int, inner: int) -> tuple[int, int]:
    """Parts of about equal sides, none of less than it takes to be worth it."""
    parts = [1, 1]
    enough = min(max(FEW_PIECES, rows * columns * inner // LARGE_PIECE_WORK), MOST_PIECES)
    while 2 * prod(parts) <= enough:
        sides = [rows / parts[0], columns / parts[1]]
        longer = int(sides[1] >= sides[0])
        if prod(sides) * inner < 2 * PIECE_WORK or sides[longer] < 2 * GRAIN:
            break
        parts[longer] *= 2
    return parts[0], parts[1]


# --- code -----------------------------------------------------------------------------


def _name(product: Product) -> str:
    """A name that tells all: equal products are written once."""
    numbers: list[Any] = [
        *product.sizes, *product.leading, *map(int, product.transposed), *product.cuts,
        *product.lead, *product.steps[0], *product.steps[1],
    ]  # fmt: skip
    if product.tiled:
        numbers.append("tiled")
    if product.adds:
        numbers += ["plus", float_text(product.scale, product.ty)]
    return f"product.{product.ty}.{'.'.join(map(str, numbers))}"


class _Products:
    """Writes `void products(ptr args, i64 begin, i64 end)` over a range of pieces."""

    def __init__(self, module: Module, name: str, product: Product):
        self.w = Writer(module)
        self.name = name
        self.p = product

    def text(self) -> str:
        w, args = self.w, Value("%args", "ptr")
        count = 4 if self.p.tiled and self.p.adds else 3
        bases = [w.load(w.offset(args, "ptr", w.const(k, "i64")), "ptr") for k in range(count)]
        return pieces_text(w, self.name, lambda number: self._piece(bases, number))

    def _number(self, n: int) -> Value:
        return self.w.const(n, "i64")

    def _split(self, i: Value, n: int) -> tuple[Value, Value]:
        """(i // n, i % n)"""
        if n == 1:
            return i, self._number(0)
        return self.w.op("udiv", i, self._number(n)), self.w.op("urem", i, self._number(n))

    def _piece(self, bases: Sequence[Value], i: Value) -> None:
        w, p = self.w, self.p
        rows, columns, _ = p.sizes
        i, part = self._split(i, p.cuts[1])
        first_column, wide = self._range(part, columns, p.cuts[1])
        i, part = self._split(i, p.cuts[0])
        first_row, high = self._range(part, rows, p.cuts[0])
        a, b = (self._matrix(base, i, steps) for base, steps in zip(bases, p.steps, strict=False))
        ends = [
            w.offset(base, p.ty, w.op("mul", i, self._number(rows * columns))) for base in bases[2:]
        ]
        (lda, ldb), (turned_a, turned_b) = p.leading, p.transposed
        a = self._along(a, first_row, 1 if turned_a else lda)
        b = self._along(b, first_column, ldb if turned_b else 1)
        ends = [self._along(self._along(c, first_row, columns), first_column, 1) for c in ends]
        if p.tiled:
            self._call_tiles(
                a, b, ends[0], ends[-1] if p.adds else Value("null", "ptr"), high, wide
            )
        else:
            self._call_library(a, b, ends[0], high, wide)

    def _matrix(self, base: Value, number: Value, steps: Sequence[int]) -> Value:
        """Where the operand's matrix of this number begins."""
        w = self.w
        for n, step in reversed(list(zip(self.p.lead, steps, strict=True))):
            number, index = self._split(number, n)
            base = self._along(base, index, step)
        return w.offset(base, self.p.ty, self._number(0))

    def _along(self, base: Value, index: Value, step: int) -> Value:
        if not step or index.ref == "0":
            return base
        return self.w.offset(base, self.p.ty, self.w.op("mul", index, self._number(step)))

    def _range(self, part: Value, n: int, cuts: int) -> tuple[Value, Value]:
        """Where a part begins and how long it is."""
        w = self.w
        if cuts == 1:
            return self._number(0), self._number(n)
        length = self._number(_length(n, cuts))
        first = w.intrinsic("umin", w.op("mul", part, length), self._number(n))
        return first, w.intrinsic("umin", w.op("sub", self._number(n), first), length)

    def _call_tiles(
        self, a: Value, b: Value, c: Value, source: Value, rows: Value, columns: Value
    ) -> None:
        w, p = self.w, self.p
        a_strides, b_strides = (
            (1, far) if turned else (far, 1)
            for far, turned in zip(p.leading, p.transposed, strict=True)
        )
        name, whole = tiles.symbol("tiles", p.ty), p.sizes[1]
        numbers, pointers = "i64, i64, i64, i64", "ptr, ptr"
        types = f"ptr, i64, i64, ptr, i64, ptr, i64, ptr, i64, {p.ty}, {numbers}, {pointers}"
        w.module.declare(name, f"declare void @{name}({types})")
        low, turn = (self._tile_part(part) for part in ("low", "turn"))
        w.line(
            f"call void @{name}(ptr {a.ref}, i64 {a_strides[0]}, i64 {a_strides[1]}, ptr {b.ref}, "
            f"i64 {b_strides[0]}, ptr {c.ref}, i64 {whole}, ptr {source.ref}, i64 {whole}, "
            f"{p.ty} {w.const(p.scale, p.ty).ref}, "
            f"i64 {rows.ref}, i64 {columns.ref}, i64 {p.sizes[2]}, i64 {b_strides[1]}, "
            f"ptr {low}, ptr {turn})"
        )

    def _tile_part(self, part: str) -> str:
        if part not in self.p.tile_parts:
            return "null"
        name = tiles.symbol(part, self.p.ty)
        self.w.module.declare(name, f"declare void @{name}()")
        return f"@{name}"

    def _call_library(self, a: Value, b: Value, c: Value, rows: Value, columns: Value) -> None:
        w, p = self.w, self.p
        name = "fg_sgemm" if p.ty == "float" else "fg_dgemm"
        flags = [blas.TRANSPOSED if turned else blas.PLAIN for turned in p.transposed]
        scale, kept = w.const(p.scale, p.ty).ref, w.const(float(p.adds), p.ty).ref
        declare(w.module, name, p.ty)
        w.line(
            f"call void @{name}(i32 {blas.ROW_MAJOR}, i32 {flags[0]}, i32 {flags[1]}, "
            f"i64 {rows.ref}, i64 {columns.ref}, i64 {p.sizes[2]}, {p.ty} {scale}, "
            f"ptr {a.ref}, i64 {p.leading[0]}, ptr {b.ref}, i64 {p.leading[1]}, "
            f"{p.ty} {kept}, ptr {c.ref}, i64 {p.sizes[1]})"
        )
