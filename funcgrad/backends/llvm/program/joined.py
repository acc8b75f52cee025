"""Several runs as one function, whose pieces the threads share."""

from __future__ import annotations

from funcgrad.backends.llvm.ir.flow import pieces_text
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.products import steps as products
from funcgrad.backends.loops.planning.plan import ProductAndKernel, RunKernel, RunTogether


def product_and_kernel(frame: Frame, step: ProductAndKernel, kernel: str) -> None:
    """A run of a product and of the kernel after it, piece by piece."""
    w, how, run = frame.w, step.product.how, step.run
    first = products.arguments(frame, step.product)
    second = [frame.address(b) for b in run.reads]
    frame.pass_arguments([*first, *second, frame.status, w.const(run.chunk, "i64")])
    part = products.define(w.module, how)
    name = f"{part}.{kernel}.{run.count}"
    if name not in w.module.functions:
        w.module.define(name, _piece_by_piece(w.module, name, part, len(first), run, kernel))
    frame.parallel_for(name, -(-run.count // run.chunk), 1, products.sharing(how).call)


def _piece_by_piece(
    module: Module, name: str, part: str, skipped: int, run: RunKernel, kernel: str
) -> str:
    """`void name(ptr args, i64 begin, i64 end)` over a range of pieces."""
    w = Writer(module)

    def write(number: Value) -> None:
        after = w.op("add", number, w.const(1, "i64"))
        w.line(f"call void @{part}(ptr %args, i64 {number.ref}, i64 {after.ref})")
        begin, stop = (w.op("mul", k, w.const(run.chunk, "i64")) for k in (number, after))
        end = w.intrinsic("umin", stop, w.const(run.count, "i64"))
        args = w.offset(Value("%args", "ptr"), "i64", w.const(skipped, "i64"))
        w.line(f"call void @{kernel}(ptr {args.ref}, i64 {begin.ref}, i64 {end.ref})")

    return pieces_text(w, name, write)


def run_together(frame: Frame, step: RunTogether, kernel: str) -> None:
    """All chunks of several runs of one kernel."""
    w, first = frame.w, step.runs[0]
    pieces = -(-first.count // first.chunk)
    values: list[Value] = []
    for run in step.runs:
        values += [frame.address(b) for b in run.reads]
        values += [frame.status, w.const(run.chunk, "i64")]
    frame.pass_arguments(values)
    name, size = f"batch.{kernel}", len(first.reads) + 2
    if name not in w.module.functions:
        w.module.define(name, _dispatcher(w.module, name, kernel, first, pieces, size))
    frame.parallel_for(name, len(step.runs) * pieces, 1)


def _dispatcher(
    module: Module, name: str, kernel: str, run: RunKernel, pieces: int, size: int
) -> str:
    """`void batch(ptr args, i64 begin, i64 end)`: a piece's number tells the run and its chunk."""
    w = Writer(module)

    def write(number: Value) -> None:
        which, part = (w.op(op, number, w.const(pieces, "i64")) for op in ("udiv", "urem"))
        begin = w.op("mul", part, w.const(run.chunk, "i64"))
        stop = w.op("add", begin, w.const(run.chunk, "i64"))
        end = w.intrinsic("umin", stop, w.const(run.count, "i64"))
        args = w.offset(Value("%args", "ptr"), "i64", w.op("mul", which, w.const(size, "i64")))
        w.line(f"call void @{kernel}(ptr {args.ref}, i64 {begin.ref}, i64 {end.ref})")

    return pieces_text(w, name, write)
