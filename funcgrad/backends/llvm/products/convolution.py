"""Convolutions, by products of what lies in the cache.

    void fg_winograd_float(ptr x, ptr u, ptr y, ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)
    void fg_winograd_kernel_float(ptr x, ptr y, ptr u, ...)
    void fg_patches_float(ptr x, ptr w, ptr y, ...)
    void fg_patches_kernel_float(ptr x, ptr y, ptr w, ...)
    void fg_planes_6_float(ptr x, ptr w, ptr y, ...)
    void fg_planes_kernel_float(ptr x, ptr y, ptr w, ...)

compute pieces of a convolution, or of its derivative by the kernel, on one thread each. A 3x3
kernel goes through Winograd's domain, F(4x4, 3x3): 36 multiplications for a tile of 16 results,
which otherwise take 144; what that costs in precision `config.winograd` tells. Others are products
of patches, by the library, or by our own code where channels lie in front. The pieces depend on
the shapes alone. Derivatives by kernels are sums of parts, so that these don't depend on the number
of threads either.
"""

from __future__ import annotations

import os
from functools import cache, partial
from math import prod

import numpy as np

from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import DRIVER, Module, Value, Writer
from funcgrad.backends.llvm.products import blas, gemm, patches_code, planes_code, winograd_code
from funcgrad.backends.llvm.products.room import HEAD_BYTES
from funcgrad.backends.llvm.products.tile_shapes import BYTES, available, lanes
from funcgrad.backends.llvm.products.winograd_code import (
    FORWARD_SIZES,
    KERNEL_SIZES,
    SIDE,
    SPAN,
)
from funcgrad.backends.llvm.runtime import cache as disk
from funcgrad.backends.llvm.runtime import contents, engine
from funcgrad.backends.loops.fusion.target import ConvolutionForm, RowPieces
from funcgrad.backends.loops.planning.plan import MatrixProduct
from funcgrad.config import config
from funcgrad.records import NamedTuple

PARTS = (
    "winograd", "winograd_kernel", "patches", "patches_kernel", *planes_code.PARTS, "planes_kernel",
)  # fmt: skip
# Convolutions of fewer multiplications are left to kernels.
LEAST_WORK = 1 << 16
# The tiles of a piece, and the bytes of its patches; there must be pieces for all threads.
TILES, PATCH_BYTES, FEW_PIECES = 64, 256 << 10, 8
# The bytes of a band of planes, of bands that a derivative by the kernel reads together, and of a
# slot; no kernel of planes has more numbers for each output.
BAND_BYTES, BANDS_BYTES, SLOT_BYTES, MOST_DEPTH = 128 << 10, 512 << 10, 2 << 20, 4096
# Multiplications that a piece of planes should have, and must have.
PIECE_WORK, LEAST_PIECE_WORK = 1 << 20, 1 << 17
# Where more pairs of channels than these meet, lines of fewer vectors take too long to begin in a
# derivative by the kernel.
FEW_PAIRS, SHORT_LINE = 1024, 3
# What a piece of a derivative by the kernel takes of the channels, and so many parts of the sum.
IN_PART, OUT_PART, MOST_PARTS = 64, 128, 8
# Planes lie apart by a little more than their length: where that is a power of two, all would
# meet in one place of the first cache.
APART = 16
# So many threads may be at work in one convolution at a time: as a rule all that there are.
LEAST_SLOTS, MOST_SLOTS = 8, 64
# Multiplications through Winograd's domain, of those of the convolution itself, edges included.
WORTH = 0.5
# Of fewer tiles the kernel's own way there and back takes longer than what it saves.
LEAST_TILES = 32


class Convolution(NamedTuple):
    """How a convolution is computed.

    Attributes:
        part: the function of a piece.
        numbers: what it takes as its sizes.
        shape: of the result. Of derivatives by kernels: parts, then the kernel, in Winograd's
            domain where `tiled`; channels lie in front where `in_front`.
        rows: of a result whose pieces are whole rows of channels.
        work: multiplications.
    """

    part: str
    ty: str
    numbers: tuple[int, ...]
    shape: tuple[int, ...]
    pieces: int
    rows: RowPieces | None
    work: int

    adds_in_place = False
    products = 1

    @property
    def tiled(self) -> bool:
        return self.part.startswith("winograd")

    @property
    def in_front(self) -> bool:
        return self.part.startswith("planes")

    @property
    def operator(self) -> str:
        return f"*{self.part}*"

    @property
    def room(self) -> int:
        """The bytes that its threads need in between."""
        slots, slot = self.numbers[:2]
        return HEAD_BYTES + slots * slot

    @property
    def symbol(self) -> str:
        return f"fg_{self.part}_{self.ty}"


# --- decisions ------------------------------------------------------------------------


def convolution(form: ConvolutionForm, dtype: np.dtype) -> Convolution | None:
    """How a convolution is computed, or its derivative by the kernel; None if not here."""
    if not available() or form.work < LEAST_WORK:
        return None
    ty = "float" if dtype.itemsize == 4 else "double"
    how = _chosen(form, ty)
    if how is not None:
        _begin(how.symbol)
    return how


def _chosen(form: ConvolutionForm, ty: str) -> Convolution | None:
    found, largest = blas.find(), max(*form.x, *form.made, prod(form.window) * form.x[-1])
    by_library = found is not None and found.set_threads is not None and largest <= found.limit
    if by_library and _suits_tiles(form, ty):
        return _by_tiles(form, ty)
    planes = _by_planes(form, ty) if form.in_front else None
    return _by_patches(form, ty) if planes is None and by_library else planes


def _suits_tiles(form: ConvolutionForm, ty: str) -> bool:
    if not config.winograd or ty != "float" or form.window != (3, 3):
        return False
    if {*form.strides, *form.dilation} != {1}:
        return False
    if form.x[-1] % lanes(ty) or form.made[-1] % lanes(ty):
        return False
    tall, wide = (-(-n // SIDE) for n in form.made[1:3])
    used = tall * wide * SPAN**2 / (9 * form.made[1] * form.made[2])
    return used <= WORTH and form.x[0] * tall * wide >= LEAST_TILES


def _slots(pieces: int, nbytes: int) -> tuple[int, int]:
    most = min(max(os.cpu_count() or 1, LEAST_SLOTS), MOST_SLOTS)
    return min(pieces, most), -(-nbytes // 64) * 64


def _by_tiles(form: ConvolutionForm, ty: str) -> Convolution:
    (n, h, w, c), (_, oh, ow, k) = form.x, form.made
    tall, wide = -(-oh // SIDE), -(-ow // SIDE)
    rows, size = n * tall, BYTES[ty]
    high = max(min(TILES // wide, -(-rows // FEW_PIECES)), 1)
    tops = [before for before, _ in form.padding]

    def planes(c: int, k: int) -> tuple[int, int, int]:
        """The lengths of planes, and the bytes of all."""
        v, m = high * wide * c + APART, high * wide * k + APART
        return v, m, size * SPAN**2 * (v + m)

    if not form.by_kernel:
        pieces = -(-rows // high)
        v, m, nbytes = planes(c, k)
        slots = _slots(pieces, nbytes + size * (c + k))
        numbers = (*slots, rows, high, tall, wide, h, w, c, oh, ow, k, *tops, v, m)
        assert len(numbers) == len(FORWARD_SIZES)
        whole = oh % SIDE == 0
        kept = RowPieces(n * oh * ow, high * SIDE * ow) if whole and pieces > 1 else None
        return Convolution("winograd", ty, numbers, form.made, pieces, kept, form.work // 4)
    c_part, k_part = min(c, IN_PART), min(k, OUT_PART)
    across = -(-c // c_part) * -(-k // k_part)
    part = _part(rows, across, high)
    parts = -(-rows // part)
    v, m, nbytes = planes(c_part, k_part)
    slots = _slots(parts * across, nbytes + size * max(c, k))
    numbers = (
        *slots, rows, high, tall, wide, h, w, c, oh, ow, k, *tops, v, m, part, c_part, k_part,
    )  # fmt: skip
    assert len(numbers) == len(KERNEL_SIZES)
    shape = (parts, SPAN**2, c, k)
    pieces = parts * across
    return Convolution("winograd_kernel", ty, numbers, shape, pieces, None, form.work // 4)


def _part(rows: int, across: int, high: int) -> int:
    """How many rows a part of a sum has, where there are already so many pieces."""
    parts = max(min(-(-FEW_PIECES // across), MOST_PARTS), 1)
    blocks = -(-rows // high)
    return -(-blocks // parts) * high


def _by_patches(form: ConvolutionForm, ty: str) -> Convolution:
    (n, h, w, c), (_, oh, ow, k) = form.x, form.made
    depth, rows = prod(form.window) * c, n * oh * ow
    high = max(min(PATCH_BYTES // (depth * BYTES[ty]), -(-rows // FEW_PIECES)), 1)
    tops = [before for before, _ in form.padding]
    part = _part(rows, 1, high) if form.by_kernel else rows
    pieces = -(-rows // (part if form.by_kernel else high))
    # What short lines write beyond their ends.
    patch = depth + lanes(ty)
    numbers = (
        *_slots(pieces, high * patch * BYTES[ty]), rows, high, oh, ow, h, w, c, k, *form.window,
        *form.strides, *form.dilation, *tops, part, patch,
    )  # fmt: skip
    assert len(numbers) == len(patches_code.SIZES)
    if form.by_kernel:
        shape = (pieces, depth, k)
        return Convolution("patches_kernel", ty, numbers, shape, pieces, None, form.work)
    kept = RowPieces(rows, high) if pieces > 1 else None
    return Convolution("patches", ty, numbers, form.made, pieces, kept, form.work)


def _by_planes(form: ConvolutionForm, ty: str) -> Convolution | None:
    made = (form.made[0], form.made[3], *form.made[1:3])
    form = _with_long_lines(form)
    (n, h, w, c), (_, oh, ow, k) = form.x, form.made
    (kh, kw), (sh, sw), (dh, dw) = form.window, form.strides, form.dilation
    depth, planes, size = kh * kw * c, c * sh * sw, BYTES[ty]
    # A plane has so many rows more than the results, which are so wide.
    reach, wide = (kh - 1) * dh // sh, ow + (kw - 1) * dw // sw
    tall = min(max(BAND_BYTES // (planes * wide * size) - reach, reach), oh)
    tall = max(tall, min(-(-planes_code.columns(ty) // wide), oh))
    # As equal as can be.
    bands = -(-oh // tall)
    tall = -(-oh // bands)
    bands, plane = -(-oh // tall), (tall + reach) * wide + APART
    band = planes * plane * size
    if form.by_kernel:
        together = max(min(BANDS_BYTES // band, -(-n * bands // FEW_PIECES)), 1)
        part, kept = _part(n * bands, 1, together), together * planes_code.ENTRY
    else:
        together, part, kept = 1, _bands_in_piece(form, n, bands), 0
    nbytes = 8 * (-(-depth // 8) * 8 + kept) + together * band
    shortest = (oh - tall * (bands - 1)) * ow if wide == ow else ow
    least = SHORT_LINE if form.by_kernel and c * k > FEW_PAIRS else 1
    if shortest < least * lanes(ty) or nbytes > SLOT_BYTES or depth > MOST_DEPTH:
        return None
    pieces = -(-n * bands // part)
    (top, _), (left, _) = form.padding
    numbers = (
        *_slots(pieces, nbytes), n, tall, bands, together, part, c, h, w, k, oh, ow, kh, kw, sh, sw,
        dh, dw, top, left, wide, plane,
    )  # fmt: skip
    assert len(numbers) == len(planes_code.SIZES)
    if form.by_kernel:
        shape = (pieces, k, depth)
        return Convolution("planes_kernel", ty, numbers, shape, pieces, None, form.work)
    return Convolution(planes_code.part(k), ty, numbers, made, pieces, None, form.work)


def _with_long_lines(form: ConvolutionForm) -> ConvolutionForm:
    """The same with as many results in a line as possible: lines without anything between them
    are one."""
    (n, h, w, c), (_, oh, ow, k) = form.x, form.made
    if {*form.window, *form.strides} == {1} and not any(map(any, form.padding)):
        return form._replace(x=(n, h * w, 1, c), made=(n, oh * ow, 1, k))
    if h == form.window[0] == 1 == form.strides[1] and not any(form.padding[0]):
        return form._replace(
            x=(n, w, h, c),
            made=(n, ow, oh, k),
            window=(form.window[1], 1),
            strides=(form.strides[1], 1),
            padding=(form.padding[1], (0, 0)),
            dilation=(form.dilation[1], 1),
        )
    return form


def _bands_in_piece(form: ConvolutionForm, n: int, bands: int) -> int:
    """Whole images, if there are enough of them for all threads."""
    count = n * bands
    enough, least = (-(-work * count // form.work) for work in (PIECE_WORK, LEAST_PIECE_WORK))
    high = min(max(min(enough, -(-count // FEW_PIECES)), least), count)
    return -(-high // bands) * bands if n >= FEW_PIECES else high


# --- code -----------------------------------------------------------------------------


def register() -> None:
    """Name the functions for IR; each is compiled when the first program names it."""
    for part in PARTS:
        for ty in BYTES:
            name = f"fg_{part}_{ty}"
            engine.register_later(name, partial(_load, name))


@cache
def _begin(symbol: str) -> None:
    """Starts making a function."""
    engine.compile_soon(_source(symbol))


@cache
def _load(symbol: str) -> int:
    return engine.lasting(engine.compile_source(_source(symbol))).address(symbol)


def _source(symbol: str) -> engine.Source:
    part, _, ty = symbol.removeprefix("fg_").rpartition("_")

    def modules() -> list[engine.Part]:
        kinds = {"winograd": winograd_code, "patches": patches_code, "planes": planes_code}
        code = kinds[part.partition("_")[0]]
        return [engine.Part(code.text(part, symbol, ty))]

    return engine.Source(disk.key(symbol, str(contents.compiler())), modules)


def arguments(frame: Frame, step: MatrixProduct) -> list[Value]:
    """What the function of a convolution's pieces takes; nobody is at work yet."""
    assert step.room is not None
    room = frame.address(step.room)
    frame.w.store(frame.w.const(0, "i64"), room)
    return [*(gemm.start(frame, v) for v in (step.x, step.y)), frame.address(step.result), room]


def sharing(how: Convolution) -> gemm.Sharing:
    # No library computes planes.
    return gemm.Sharing(how.pieces, 1, "fg_parallel" if how.in_front else "fg_products")


def define(module: Module, how: Convolution) -> str:
    """The name of the function of a range of pieces; equal ones are written once."""
    numbers = ".".join(map(str, how.numbers))
    name = f"{how.part}.{how.ty}.{numbers}"
    if name not in module.functions:
        module.define(name, _text(module, name, how))
    return name


def _text(module: Module, name: str, how: Convolution) -> str:
    w, args = Writer(module), Value("%args", "ptr")
    bases = [w.load(w.offset(args, "ptr", w.const(k, "i64")), "ptr").ref for k in range(4)]
    sizes = f"sizes.{name}"
    words = ", ".join(f"i64 {n}" for n in how.numbers)
    module.define(sizes, f"@{sizes} = internal constant [{len(how.numbers)} x i64] [{words}]")
    library = "null"
    if not how.in_front:
        library = "@fg_sgemm" if how.ty == "float" else "@fg_dgemm"
        gemm.declare(module, library[1:], how.ty)
    module.declare(
        how.symbol, f"declare void @{how.symbol}(ptr, ptr, ptr, ptr, ptr, ptr, i64, i64)"
    )
    pointers = ", ".join(f"ptr {ref}" for ref in bases)
    w.line(
        f"call void @{how.symbol}({pointers}, ptr @{sizes}, ptr {library}, i64 %begin, i64 %end)"
    )
    w.line("ret void")
    head = f"define internal void @{name}(ptr %args, i64 %begin, i64 %end) {DRIVER} {{"
    return "\n".join([head, "entry:", *w.lines, "}"])
