"""The native function that is being written: where buffers lie, and how calls are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.backends.common.sites import EXTENT, INDEX, RUNNING, SITE
from funcgrad.backends.llvm.ir.writer import Value, Writer, mangled
from funcgrad.backends.loops.nests.buffers import Allocation, Buffer

# Of several threads, or steps, that find an index out of range the first one reports it.
_OUTSIDE = f"""
define internal void @fg_outside(ptr %report, i64 %index, i64 %extent) noinline cold nounwind {{
entry:
  %pair = cmpxchg ptr %report, i64 0, i64 1 monotonic monotonic, align 8
  %first = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %first, label %write, label %done
write:
  %running.at = getelementptr i64, ptr %report, i64 {RUNNING}
  %site = load i64, ptr %running.at
  %index.at = getelementptr i64, ptr %report, i64 {INDEX}
  store i64 %index, ptr %index.at
  %extent.at = getelementptr i64, ptr %report, i64 {EXTENT}
  store i64 %extent, ptr %extent.at
  %site.at = getelementptr i64, ptr %report, i64 {SITE}
  store i64 %site, ptr %site.at
  br label %done
done:
  ret void
}}
"""


class Frame:
    """The native function that is being written.

    Attributes:
        w: takes its instructions.
        addresses: where buffers lie.
        find: tells where others do.
        status: the report on errors.
        scratch: room for one call's arguments.
        unlocked: the GIL is not held by what is written.
        owner: the object that keeps all arrays of this call in memory.
    """

    def __init__(
        self,
        w: Writer,
        status: Value,
        scratch: Value,
        find: Callable[[Buffer], Value] | None = None,
    ):
        self.w = w
        self.find = find
        self.status = status
        self.scratch = scratch
        self.addresses: dict[Buffer, Value] = {}
        self._arguments: list[str] = []
        self.most_arguments = 0
        self.unlocked = False
        self.context = self.owner = Value("null", "ptr")
        self.first_host = 0
        self.first_layout = 0

    def address(self, buffer: Buffer) -> Value:
        found = self.addresses.get(buffer)
        if found is None:
            assert self.find is not None
            found = self.addresses[buffer] = self.find(buffer)
        return found

    def pass_arguments(self, values: Sequence[Value]) -> None:
        """Write what the next call's first argument points to."""
        if len(values) > self.most_arguments:
            self.most_arguments = len(values)
            with self.w.at_start():
                for k in range(len(self._arguments), len(values)):
                    place = self.w.offset(self.scratch, "i64", self.w.const(k, "i64"))
                    self._arguments.append(place.ref)
        # As `store` does it, for words alone: of these most of a long program consists.
        self.w.lines += [
            f"  store {value.ty} {value.ref}, ptr {place}, align 8"
            for value, place in zip(values, self._arguments)  # noqa: B905
        ]

    def parallel_for(self, name: str, count: int, chunk: int, call: str = "fg_parallel") -> None:
        """Run a function of a range over [0, count) on all threads, with the passed arguments."""
        self.w.module.declare(call, f"declare void @{call}(ptr, ptr, i64, i64)")
        self.w.line(
            f"call void @{call}(ptr @{name}, ptr {self.scratch.ref}, i64 {count}, i64 {chunk})"
        )

    def run_site(self, number: int) -> None:
        """Let the indices that are checked from here on be those of a site, if it is one."""
        if number:
            place = self.w.offset(self.status, "i64", self.w.const(RUNNING, "i64"))
            self.w.store(self.w.const(number, "i64"), place)

    def slot(self, number: int) -> Value:
        """What the program's context holds at a slot."""
        w = self.w
        return w.load(w.offset(self.context, "ptr", w.const(number, "i64")), "ptr")

    def bind_buffers(self, found: Allocation, arena: Value) -> None:
        """Give a plan's temporaries their addresses."""
        for buffer, offset in found.offsets.items():
            self.addresses[buffer] = self.w.offset(arena, "i8", self.w.const(offset, "i64"))


def report(w: Writer, status: Value, bad: Value, index: Value, extent: int) -> None:
    """Where any lane is bad, report one such index (counted from the start)."""
    with w.when(w.any(bad), "outside"):
        wrong = w.select(bad, index, w.like(0, index))
        if index.lanes > 1:
            name = f"llvm.vector.reduce.umax.{mangled('i64', index.lanes)}"
            wrong = w.call(name, "i64", 1, [wrong])
        w.module.define("fg_outside", _OUTSIDE)
        operands = f"ptr {status.ref}, i64 {wrong.ref}, i64 {extent}"
        w.line(f"call void @fg_outside({operands})")


def call_kernel(frame: Frame, name: str, buffers: Sequence[Buffer], count: int, chunk: int) -> None:
    w = frame.w
    values = [frame.address(b) for b in buffers]
    frame.pass_arguments([*values, frame.status, w.const(chunk, "i64")])
    if chunk >= count:
        w.line(f"call void @{name}(ptr {frame.scratch.ref}, i64 0, i64 {count})")
        return
    frame.parallel_for(name, count, chunk)
