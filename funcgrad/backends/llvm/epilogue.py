"""What follows a matrix product row by row, done for each piece of it while that is in the cache.

A bias and an activation, their gradient with its sums over the rows, a norm of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from funcgrad.backends.llvm.frame import Frame, pieces_text
from funcgrad.backends.llvm.writer import Module, Value, Writer
from funcgrad.backends.loops.kernels import ELEMENTS
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.nest import Index, Kernel, Load

if TYPE_CHECKING:
    from funcgrad.backends.llvm.program import KernelCall


class RowPieces(NamedTuple):
    """A product whose pieces are whole rows of its result.

    Attributes:
        target: the result, of so many `columns`.
        count, chunk: its rows, and those of a piece.
        call: what shares pieces among threads.
        arguments: the addresses that its function takes.
        define: enters the function of a range of pieces in a module, and gives its name.
    """

    target: Buffer
    columns: int
    count: int
    chunk: int
    call: str
    arguments: Callable[[Frame], list[Value]]
    define: Callable[[Module], str]


def chunking_after(
    rows: RowPieces | None, kernel: Kernel, buffers: Sequence[Any]
) -> tuple[int, int] | None:
    """How many rows (or elements) a kernel has, and how many of them need a piece of the product.

    None where it needs others as well, or isn't worth a part of the piece's work.
    """
    if rows is None or not kernel.parallel:
        return None
    arrays = {k for k, b in enumerate(buffers) if b is rows.target}
    loads = [s for s in kernel.statements() if type(s) is Load and s.array in arrays]
    if not loads or any(kernel.params[k].role != "in" for k in arrays):
        return None
    pieces = -(-rows.count // rows.chunk)
    if 4 * pieces * sum(p.size for p in kernel.params if p.role == "partial") > kernel.elements:
        return None
    if kernel.outer:
        axis = kernel.outer[0]
        fits = len(kernel.outer) == 1 and axis.extent == rows.count
        if fits and all(_stays_in_row(s.index, axis, rows.columns) for s in loads):
            return rows.count, rows.chunk
        return None
    if rows.chunk * rows.columns % ELEMENTS:
        return None
    axes = [loop.axes[-1] for loop in kernel.loops()]
    whole = all(len(loop.axes) == 1 for loop in kernel.loops())
    if whole and all(a.extent == rows.count * rows.columns for a in axes):
        if all(s.index in [Index(0, ((a, 1),)) for a in axes] for s in loads):
            return rows.count * rows.columns, rows.chunk * rows.columns
    return None


def _stays_in_row(index: Index, outer: Any, columns: int) -> bool:
    inner = [(axis, step) for axis, step in index.terms if axis is not outer]
    ends = [step * (axis.extent - 1) for axis, step in inner]
    low, high = (index.const + sum(f(e, 0) for e in ends) for f in (min, max))
    return index.step(outer) == columns and not index.dynamic and low >= 0 and high < columns


def joined(rows: RowPieces, call: KernelCall) -> Callable[[Frame], None]:
    """Writes a run of the product and of the kernel after it, piece by piece."""

    def emit(frame: Frame) -> None:
        w = frame.w
        first = rows.arguments(frame)
        second = [frame.address(b) for b in call.buffers]
        frame.pass_arguments([*first, *second, frame.status, w.const(call.chunk, "i64")])
        part = rows.define(w.module)
        name = f"{part}.{call.name}.{call.count}"
        w.module.define(name, _text(w.module, name, part, len(first), call))
        frame.share(name, -(-call.count // call.chunk), 1, rows.call)

    return emit


def _text(module: Module, name: str, part: str, skipped: int, call: KernelCall) -> str:
    """`void name(ptr args, i64 begin, i64 end)` over a range of pieces."""
    w = Writer(module)

    def write(number: Value) -> None:
        after = w.op("add", number, w.const(1, "i64"))
        w.line(f"call void @{part}(ptr %args, i64 {number.ref}, i64 {after.ref})")
        begin, stop = (w.op("mul", k, w.const(call.chunk, "i64")) for k in (number, after))
        end = w.intrinsic("umin", stop, w.const(call.count, "i64"))
        args = w.offset(Value("%args", "ptr"), "i64", w.const(skipped, "i64"))
        w.line(f"call void @{call.name}(ptr {args.ref}, i64 {begin.ref}, i64 {end.ref})")

    return pieces_text(w, name, write)
