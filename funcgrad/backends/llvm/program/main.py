"""A program's steps as its main function, and as others that it calls where they are many.

LLVM takes longer for each instruction of a long function than of a short one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from funcgrad.backends.common.sites import CODE, LOOKED
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import DRIVER, Module, Value, Writer
from funcgrad.backends.llvm.program.emit import Emitter
from funcgrad.backends.llvm.program.interrupts import end_if
from funcgrad.backends.loops.nests.buffers import Allocation, Buffer
from funcgrad.backends.loops.planning.plan import Plan

# A function ends behind the step with which it has so many lines.
MOST_LINES = 1000

_TABLE, _SCRATCH = Value("%table", "ptr"), Value("%scratch", "ptr")


class _Addresses:
    """Where buffers lie: `fg_main(ptr table)` gets a table that holds the addresses of `given`,
    then those of the arena, the context, the report on errors and, where Python functions are
    called, the owner of all that."""

    def __init__(self, given: Sequence[Buffer], memory: Allocation, owned: bool):
        self.given: Mapping[Buffer, int] = {b: k for k, b in enumerate(given)}
        self.memory = memory
        self.owned = owned

    def frame(self, module: Module) -> Frame:
        """A function to be written, which begins with what these addresses take."""
        w = Writer(module)
        arena, context, status = (self._entry(w, len(self.given) + k) for k in range(3))

        # Many temporaries lie at one place, one after the other.
        places: dict[int, Value] = {}

        def find(buffer: Buffer) -> Value:
            number = self.given.get(buffer)
            if number is not None:
                return self._entry(w, number)
            offset = self.memory.offsets[buffer]
            if offset not in places:
                with w.at_start():
                    places[offset] = w.offset(arena, "i8", w.const(offset, "i64"))
            return places[offset]

        frame = Frame(w, status, _SCRATCH, find)
        frame.context = context
        if self.owned:
            frame.owner = self._entry(w, len(self.given) + 3)
        return frame

    @staticmethod
    def _entry(w: Writer, number: int) -> Value:
        with w.at_start():
            return w.load(w.offset(_TABLE, "ptr", w.const(number, "i64")), "ptr")


def define_main(emitter: Emitter, plan: Plan, given: Sequence[Buffer], first_host: int) -> None:
    """Enter `fg_main`, which returns the code of the program's end, and what it calls."""
    module = emitter.module
    addresses = _Addresses(given, plan.memory, bool(emitter.calls))

    def begin() -> Frame:
        frame = addresses.frame(module)
        frame.first_host, frame.first_layout = first_host, first_host + len(emitter.calls)
        return frame

    main = begin()
    w = main.w
    for word in (CODE, LOOKED):
        w.store(w.const(0, "i64"), w.offset(main.status, "i64", w.const(word, "i64")))
    pieces = [main]

    def place(last: Frame) -> Frame:
        if len(last.w.lines) < MOST_LINES:
            return last
        frame = begin()
        frame.unlocked = last.unlocked
        pieces.append(frame)
        return frame

    emitter.steps(main, plan.steps, place)
    for number, piece in enumerate(pieces[1:], 1):
        name = f"fg_steps{number}"
        piece.w.line("ret i64 0")
        module.define(name, _text(piece.w, f"i64 @{name}(ptr %table, ptr %scratch)"))
        code = w.call(name, "i64", 1, [_TABLE, _SCRATCH])
        end_if(w, w.compare("icmp ne", code, w.const(0, "i64")), code)
    code = w.load(main.status, "i64")
    w.line(f"ret i64 {code.ref}")
    room = max([1, *(p.most_arguments for p in pieces)])
    w.allocas.insert(0, f"  {_SCRATCH.ref} = alloca [{room} x i64], align 16")
    module.define("fg_main", _text(w, "i64 @fg_main(ptr %table)"))


def _text(w: Writer, head: str) -> str:
    return "\n".join([f"define internal {head} {DRIVER} {{", "entry:", *w.allocas, *w.lines, "}"])
