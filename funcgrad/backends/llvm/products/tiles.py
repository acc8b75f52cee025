"""Matrix products in our own code: tiles of the result that stay in registers.

    void fg_tiles_float(ptr a, i64 a_row, i64 a_inner, ptr b, i64 b_row, ptr c, i64 c_row,
                        ptr s, i64 s_row, float scale, i64 rows, i64 columns, i64 inner,
                        i64 b_column, ptr low, ptr turn)

computes `c = s + scale * (a @ b)` on one thread; without s (null) the scale must be 1. Strides
count elements; the elements of a row of c and s follow each other, and so do those of b's rows or
columns. `low` is `fg_low_float`, or null where the rows fill tiles, and `turn` is `fg_turn_float`
where b lies across: so only what a program needs is compiled.

A library first copies its operands into an order that suits it. For matrices that the caches
hold, as layers have them, this costs more than it gains: here a's elements are spread over the
lanes of a register as they are read, whatever their strides, and what comes next of b is fetched
ahead. Only of a b that lies across are panels copied. The scheme of panels and blocks is that of
K. Goto, R. van de Geijn (2008), *Anatomy of High-Performance Matrix Multiplication*.
"""

from __future__ import annotations

from functools import cache, partial
from math import prod

from funcgrad.backends.llvm.ir.types import SUPPORTED, llvm_type
from funcgrad.backends.llvm.products.tile_shapes import BYTES, available, shape, symbol, width
from funcgrad.backends.llvm.runtime import cache as disk
from funcgrad.backends.llvm.runtime import contents, engine
from funcgrad.core.graph import Graph

# Products of fewer multiplications are the library's: OpenBLAS has code of its own for them, and
# keeps them to one thread.
ALONE = 1 << 18
# Of a matrix b of more bytes the library reads its own copy faster than tiles read b.
MOST_BYTES = 4 << 20
# Rows so far apart, or a multiple of it, meet in one place of the first cache.
WAY_BYTES = 4096
# The part of a row of tiles that must be of use.
FILLED = 0.6


PARTS = ("tiles", "low", "turn")


def register() -> None:
    """Name the functions for IR; each is compiled when the first program names it."""
    for part in PARTS:
        for ty in ("float", "double"):
            engine.register_later(symbol(part, ty), partial(_load, part, ty))


@cache
def begin(part: str, ty: str) -> None:
    """Starts making a function."""
    engine.compile_soon(_source(part, ty))


def begin_for(graph: Graph) -> None:
    """Starts making what products in a graph will call, before it is known where they lie."""
    for eqn in graph.eqns:
        if eqn.prim.name != "matmul":
            continue
        dtype = eqn.outs[0].aval.dtype
        ty = llvm_type(dtype) if dtype in SUPPORTED else ""
        if ty in BYTES:
            x, y = (a.aval.shape for a in eqn.ins)
            few = len(x) > 1 < len(y) and x[-1] * BYTES[ty] % WAY_BYTES > 0
            if few and suit(ty, (x[-2], y[-1], x[-1])):
                begin("tiles", ty)


@cache
def _load(part: str, ty: str) -> int:
    code = engine.lasting(engine.compile_source(_source(part, ty)))
    return code.address(symbol(part, ty))


def _source(part: str, ty: str) -> engine.Source:
    def modules() -> list[engine.Part]:
        from funcgrad.backends.llvm.products.tile_code import text

        return [engine.Part(text(part, ty))]

    # Known without writing it: it depends on nothing but the compiler and the host.
    return engine.Source(disk.key(symbol(part, ty), str(contents.compiler())), modules)


def suit(ty: str, sizes: tuple[int, int, int]) -> bool:
    """Whether a product of so many rows, columns and summands is better computed by tiles."""
    rows, columns, inner = sizes
    if not available() or prod(sizes) < ALONE or rows < shape().rows:
        return False
    filled = columns / (-(-columns // width(ty)) * width(ty))
    return filled >= FILLED and inner * columns * BYTES[ty] <= MOST_BYTES
