"""Long loops look for signals, so that Ctrl-C ends them."""

from __future__ import annotations

import time

from funcgrad.backends.common.sites import CODE, LOOKED
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Value, Writer

# Taking Python's lock may mean waiting for another thread, so it is done only so often.
_NANOSECONDS = 50_000_000
# A loop looks at the clock once in about so many scalar operations.
_WORK = 1 << 18

_STOPPED = f"""
define internal i1 @fg_stopped(ptr %report) noinline cold nounwind {{
entry:
$CLOCK
ask:
  %state = call i32 @PyGILState_Ensure()
  %raised = call i32 @PyErr_CheckSignals()
  call void @PyGILState_Release(i32 %state)
  %stop = icmp ne i32 %raised, 0
  br i1 %stop, label %leave, label %stay
leave:
  %code.at = getelementptr i64, ptr %report, i64 {CODE}
  store i64 2, ptr %code.at
  ret i1 true
stay:
  ret i1 false
}}
"""

_CLOCK = """
  %time = alloca [2 x i64], align 16
  call i32 @clock_gettime(i32 $NUMBER, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  %looked.at = getelementptr i64, ptr %report, i64 $LOOKED
  %looked = load i64, ptr %looked.at
  %since = sub i64 %now, %looked
  %due = icmp ugt i64 %since, $NANOSECONDS
  br i1 %due, label %late, label %stay
late:
  store i64 %now, ptr %looked.at
  br label %ask
"""


def rounds(work: int) -> int:
    """After how many rounds of so much work, a power of two, a loop looks for signals."""
    return 1 << max((_WORK // max(work, 1)).bit_length() - 1, 0)


def stopped(w: Writer, report: Value) -> Value:
    """Whether a signal's handler has raised an exception; the report then says so."""
    w.module.declare("PyGILState_Ensure", "declare i32 @PyGILState_Ensure()")
    w.module.declare("PyGILState_Release", "declare void @PyGILState_Release(i32)")
    w.module.declare("PyErr_CheckSignals", "declare i32 @PyErr_CheckSignals()")
    w.module.define("fg_stopped", _text(w))
    return w.call("fg_stopped", "i1", 1, [report])


def _text(w: Writer) -> str:
    if not hasattr(time, "CLOCK_MONOTONIC"):
        return _STOPPED.replace("$CLOCK", "  br label %ask")
    w.module.declare("clock_gettime", "declare i32 @clock_gettime(i32, ptr)")
    clock = _CLOCK.replace("$NUMBER", str(int(time.CLOCK_MONOTONIC)))
    clock = clock.replace("$LOOKED", str(LOOKED)).replace("$NANOSECONDS", str(_NANOSECONDS))
    return _STOPPED.replace("$CLOCK", clock.strip("\n"))


def due(w: Writer, number: Value, every: int) -> Value:
    """Whether the round of this number, from 0 on, is one after which signals are looked for."""
    last = w.const(every - 1, "i64")
    return w.compare("icmp eq", w.op("and", number, last), last)


def end_if_stopped(frame: Frame, number: Value, every: int) -> None:
    """In a round of a loop between steps: end the program where a signal's handler has raised."""
    w = frame.w
    with w.when(due(w, number, every), "look"):
        end_if(w, stopped(w, frame.status))


def end_if_reported(frame: Frame) -> None:
    """Behind a function with loops in it: end the program where one of them was stopped."""
    w = frame.w
    end_if(w, w.compare("icmp eq", w.load(frame.status, "i64"), w.const(2, "i64")))


def end_if(w: Writer, test: Value, code: Value | None = None) -> None:
    """End the program with a code; without one an exception is set."""
    leave, stay = w.new_label("leave"), w.new_label("stay")
    w.branch_if(test, leave, stay)
    w.label(leave)
    w.line(f"ret i64 {code.ref if code else 2}")
    w.label(stay)
