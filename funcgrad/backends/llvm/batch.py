"""Neighbouring runs of one kernel as one: an optimiser's leaves, say, shared by the threads.

Each run would otherwise end with the threads waiting for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from funcgrad.backends.llvm.frame import Frame, pieces_text
from funcgrad.backends.llvm.program import KernelCall, Step
from funcgrad.backends.llvm.writer import Module, Value, Writer
from funcgrad.backends.loops.kernels import PARALLEL_WORK
from funcgrad.backends.loops.memory import Buffer

MOST_RUNS = 64


def batched(steps: Sequence[Step], memory: Mapping[Buffer, Buffer]) -> list[Step]:
    """The steps, with runs of one kernel joined that do not depend on each other.

    Args:
        memory: for a buffer the one whose memory it takes, if it has none of its own.
    """
    found: list[Step] = []
    group: list[Step] = []
    for step in steps:
        if group and not _may_join(group, step, memory):
            found.append(_joined(group))
            group = []
        if step.call is None:
            found.append(step)
        else:
            group.append(step)
    if group:
        found.append(_joined(group))
    return found


def _may_join(group: Sequence[Step], step: Step, memory: Mapping[Buffer, Buffer]) -> bool:
    first, call = group[0].call, step.call
    if first is None or call is None or len(group) >= MOST_RUNS:
        return False
    if (first.name, first.count, first.chunk) != (call.name, call.count, call.chunk):
        return False

    def places(buffers: Sequence[Buffer]) -> set[Buffer]:
        return {memory.get(b, b) for b in buffers}

    read, written = places(call.reads), places(step.writes)
    for other in group:
        assert other.call is not None
        if places(other.writes) & (read | written) or places(other.call.reads) & written:
            return False
    return True


def _joined(group: Sequence[Step]) -> Step:
    calls = [s.call for s in group if s.call is not None]
    if len(group) == 1 or sum(c.work for c in calls) < PARALLEL_WORK:
        return group[0] if len(group) == 1 else _in_turn(group)
    first = calls[0]
    pieces = -(-first.count // first.chunk)

    def emit(frame: Frame) -> None:
        w = frame.w
        size = len(first.buffers) + 2
        values: list[Value] = []
        for call in calls:
            values += [frame.address(b) for b in call.buffers]
            values += [frame.status, w.const(call.chunk, "i64")]
        frame.pass_arguments(values)
        name = f"batch.{first.name}"
        w.module.define(name, _dispatcher(w.module, name, first, pieces, size))
        frame.share(name, len(calls) * pieces, 1)

    return _merged(group, emit)


def _in_turn(group: Sequence[Step]) -> Step:
    def emit(frame: Frame) -> None:
        for step in group:
            step.emit(frame)

    return _merged(group, emit)


def _merged(group: Sequence[Step], emit: Callable[[Frame], None]) -> Step:
    reads = [b for s in group for b in s.reads]
    writes = [b for s in group for b in s.writes]
    return Step(emit, reads, writes)


def _dispatcher(module: Module, name: str, call: KernelCall, pieces: int, size: int) -> str:
    """`void batch(ptr args, i64 begin, i64 end)`: a piece's number tells the run and its chunk."""
    w = Writer(module)

    def write(number: Value) -> None:
        run, part = (w.op(op, number, w.const(pieces, "i64")) for op in ("udiv", "urem"))
        begin = w.op("mul", part, w.const(call.chunk, "i64"))
        stop = w.op("add", begin, w.const(call.chunk, "i64"))
        end = w.intrinsic("umin", stop, w.const(call.count, "i64"))
        args = w.offset(Value("%args", "ptr"), "i64", w.op("mul", run, w.const(size, "i64")))
        w.line(f"call void @{call.name}(ptr {args.ref}, i64 {begin.ref}, i64 {end.ref})")

    return pieces_text(w, name, write)
