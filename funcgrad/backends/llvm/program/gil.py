"""Python's lock: released around steps that take long, and held where Python functions are called.

Who has released it finds it in the report, so that a program may end anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from funcgrad.backends.common.sites import THREAD
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Value, Writer
from funcgrad.backends.loops.planning.plan import HostCall, Step, walk
from funcgrad.backends.loops.planning.spent import work

# Who takes the lock back may wait for another thread's turn to end, which is 5 ms.
RELEASE_WORK = 400_000

_NULL = Value("null", "ptr")


def groups(steps: Sequence[Step]) -> Iterator[tuple[bool, list[Step]]]:
    """The steps in order, those between calls of Python functions together; for each group
    whether the lock is released meanwhile."""
    native: list[Step] = []
    for step in steps:
        if any(isinstance(s, HostCall) for s in walk([step])):
            yield from _group(native)
            yield False, [step]
            native = []
        else:
            native.append(step)
    yield from _group(native)


def _group(steps: list[Step]) -> Iterator[tuple[bool, list[Step]]]:
    if steps:
        yield work(steps) >= RELEASE_WORK, steps


def begin(w: Writer, report: Value) -> None:
    """In the report: the lock is held."""
    w.store(_NULL, _place(w, report))


def release(frame: Frame) -> None:
    w = frame.w
    w.module.declare("PyEval_SaveThread", "declare ptr @PyEval_SaveThread()")
    w.store(w.call("PyEval_SaveThread", "ptr", 1, []), _place(w, frame.status))


def acquire(w: Writer, report: Value) -> None:
    """Take back the lock that was released."""
    w.module.declare("PyEval_RestoreThread", "declare void @PyEval_RestoreThread(ptr)")
    place = _place(w, report)
    w.line(f"call void @PyEval_RestoreThread(ptr {w.load(place, 'ptr').ref})")
    w.store(_NULL, place)


def end(w: Writer, report: Value) -> None:
    """Take back the lock if the program has ended without it."""
    with w.when(w.compare("icmp ne", w.load(_place(w, report), "ptr"), _NULL), "unlocked"):
        acquire(w, report)


def _place(w: Writer, report: Value) -> Value:
    return w.offset(report, "i64", w.const(THREAD, "i64"))
