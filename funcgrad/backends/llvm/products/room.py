"""Memory for what threads compute in between: one slot for each that is at work.

A word tells which slots are taken; a thread takes the lowest that is free, so that few threads
use few slots, which stay in their caches.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.products import blas
from funcgrad.backends.llvm.products.tile_shapes import BYTES

ATTRIBUTES = "attributes #0 = { nounwind alignstack=64 }"
# What stands before the slots: the word, and the rest of its cache lines.
HEAD_BYTES = 128

_TAKE = """
define internal i64 @take(ptr %room, i64 %slots) #0 {
entry:
  br label %look
look:
  %old = load atomic i64, ptr %room monotonic, align 8
  %free = xor i64 %old, -1
  %number = call i64 @llvm.cttz.i64(i64 %free, i1 false)
  %some = icmp ult i64 %number, %slots
  br i1 %some, label %try, label %look
try:
  %bit = shl i64 1, %number
  %new = or i64 %old, %bit
  %pair = cmpxchg ptr %room, i64 %old, i64 %new acquire monotonic, align 8
  %done = extractvalue { i64, i1 } %pair, 1
  br i1 %done, label %found, label %look
found:
  ret i64 %number
}
"""
_CLEAR = """
define internal void @clear(ptr %to, i64 %bytes) #0 {
entry:
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %bytes, i1 false)
  ret void
}
"""
_COPY = """
define internal void @copy(ptr %to, ptr %from, i64 %bytes) #0 {
entry:
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  ret void
}
"""


def define_copies(module: Module) -> None:
    """Define `clear(to, bytes)` and `copy(to, from, bytes)`."""
    module.declare("memset", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    module.declare("memcpy", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    module.define("clear", _CLEAR)
    module.define("copy", _COPY)


def arguments(w: Writer, names: Sequence[str]) -> dict[str, Value]:
    """The numbers at `%sizes`, by their names."""
    sizes = Value("%sizes", "ptr")
    return {
        name: w.load(w.offset(sizes, "i64", w.const(k, "i64")), "i64")
        for k, name in enumerate(names)
    }


class Room:
    """A slot of `%room`, from here until `leave`.

    Attributes:
        start: where it begins.
    """

    def __init__(self, w: Writer, slots: Value, slot_bytes: Value):
        self.w = w
        w.module.declare("cttz", "declare i64 @llvm.cttz.i64(i64, i1)")
        w.module.define("take", _TAKE)
        self._room = Value("%room", "ptr")
        self._number = w.call("take", "i64", 1, [self._room, slots])
        far = w.op("mul", self._number, slot_bytes)
        first = w.offset(self._room, "i8", w.const(HEAD_BYTES, "i64"))
        self.start = w.offset(first, "i8", far)

    def leave(self) -> None:
        w = self.w
        bit = w.op("shl", w.const(1, "i64"), self._number)
        kept = w.op("xor", bit, w.const(-1, "i64"))
        w.line(f"{w.fresh()} = atomicrmw and ptr {self._room.ref}, i64 {kept.ref} release, align 8")


def call_gemm(
    w: Writer,
    ty: str,
    turned: bool,
    lengths: tuple[Value, Value, Value],
    a: tuple[Value, Value],
    b: tuple[Value, Value],
    kept: Value,
    c: tuple[Value, Value],
) -> None:
    """`c = a @ b + kept * c` by the library, at `%gemm`; a, b and c with the distance of rows.

    Args:
        turned: whether a lies transposed.
        lengths: rows and columns of c, and the length of what is summed over.
    """
    flag, one = blas.TRANSPOSED if turned else blas.PLAIN, w.const(1.0, ty).ref
    rows, columns, inner = (v.ref for v in lengths)
    w.line(
        f"call void %gemm(i32 {blas.ROW_MAJOR}, i32 {flag}, i32 {blas.PLAIN}, i64 {rows}, "
        f"i64 {columns}, i64 {inner}, {ty} {one}, ptr {a[0].ref}, i64 {a[1].ref}, "
        f"ptr {b[0].ref}, i64 {b[1].ref}, {ty} {kept.ref}, ptr {c[0].ref}, i64 {c[1].ref})"
    )


def count_bytes(w: Writer, count: Value, ty: str) -> Value:
    return w.op("mul", count, w.const(BYTES[ty], "i64"))


def function(name: str, operands: str, w: Writer) -> str:
    """`void name(ptr ..., ptr room, ptr sizes, ptr gemm, i64 begin, i64 end)`"""
    names = ", ".join(f"ptr %{n}" for n in f"{operands} room sizes gemm".split())
    head = f"define void @{name}({names}, i64 %begin, i64 %end) #0 {{"
    return "\n".join([head, "entry:", *w.allocas, *w.lines, "  ret void", "}"])
