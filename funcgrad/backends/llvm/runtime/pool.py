"""Threads for large kernels: `fg_parallel`, in native code, called by compiled programs.

    void fg_parallel(void (*kernel)(ptr args, i64 begin, i64 end), ptr args, i64 n, i64 chunk)

runs the kernel over [0, n) in pieces of `chunk`, each exactly once, on the calling thread and
the workers, and returns when all are done. The pieces don't depend on the number of threads, so
what a kernel computes for each (a partial sum, say) doesn't either. Where another thread's job
has the workers, or there is one thread or one piece, the caller runs the pieces in order.

The workers are native threads without any Python state: they hold no lock that an exiting or
forking interpreter could wait for. `fg_parallel` starts them at its first job, in a forked
child again. A job's pieces are handed out by counting `remaining` down: who takes one from a
count above zero owns a piece, and a job can't end before each owned piece is counted off
`unfinished`, so no worker, however late, can see a job's fields change under it. Idle workers
spin for a while, since kernels come in quick succession, and then sleep.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import threading
import time
from functools import cache

from funcgrad.backends.llvm.runtime import engine
from funcgrad.config import config, threads

# A word handed between threads takes longer than any instruction that could be saved.
_LEVEL = 0
# How long an idle thread looks out for work before it sleeps, and how much of that time it
# doesn't offer its core to others. Waking a sleeper takes some 5 to 50 microseconds.
_SPIN_NANOSECONDS = 50_000
_UNYIELDING_NANOSECONDS = 5_000
_STACK_BYTES = 8 << 20
# Signals that a thread raises in itself stay deliverable in the workers (for faulthandler);
# the others go to Python's threads, whose blocking calls they must interrupt.
_OWN_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP")
_PAUSES = {
    "x86_64": ("@llvm.x86.sse2.pause", "()"),
    "aarch64": ("@llvm.aarch64.isb", "(i32 15)"),
    "arm64": ("@llvm.aarch64.isb", "(i32 15)"),
}

_lock = threading.Lock()


def load() -> int:
    """The address of `fg_parallel`, which from now on is a symbol for IR."""
    with _lock:
        return _load()


@cache
def _load() -> int:
    code = engine.lasting(engine.compile_ir(_text(), _LEVEL))
    address = code.address("fg_parallel")
    if _threaded():
        resize = ctypes.CFUNCTYPE(None, ctypes.c_int64)(code.address("fg_pool_resize"))
        reset = ctypes.CFUNCTYPE(None)(code.address("fg_pool_reset"))
        reset()
        resize(threads())
        config.on_threads(lambda: resize(threads()))
        os.register_at_fork(
            before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
        )
        os.register_at_fork(after_in_child=reset)
    engine.register_symbol("fg_parallel", address)
    return address


def begin() -> None:
    """Starts making its code."""
    engine.compile_soon(engine.source([engine.Part(_text(), _LEVEL)]))


def _threaded() -> bool:
    return hasattr(os, "fork") and hasattr(signal, "pthread_sigmask")


def _text() -> str:
    return _threaded_text() if _threaded() else _SERIAL


def _threaded_text() -> str:
    own = [int(getattr(signal, name)) for name in _OWN_SIGNALS if hasattr(signal, name)]
    pause, operand = _PAUSES.get(platform.machine().lower(), ("", ""))
    keep = "\n".join(f"  call i32 @sigdelset(ptr %all, i32 {number})" for number in own)
    values = {
        "CLOCK": int(time.CLOCK_MONOTONIC),
        "SPIN": _SPIN_NANOSECONDS,
        "UNYIELDING": _UNYIELDING_NANOSECONDS,
        "STACK": _STACK_BYTES,
        "SETMASK": int(signal.SIG_SETMASK),
        "KEEP": keep,
        "PAUSE": f"call void {pause}{operand}" if pause else "",
    }
    text = _SERIAL.replace("@fg_parallel(", "@serial(").replace("define", "define internal", 1)
    text += _THREADED
    if pause:
        text += f"declare void {pause}({operand[1:-1].partition(' ')[0]})\n"
    for name, value in values.items():
        text = text.replace(f"${name}", str(value))
    return text


_SERIAL = """
define void @fg_parallel(ptr %kernel, ptr %args, i64 %n, i64 %chunk) {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %piece, label %done
piece:
  %begin = phi i64 [0, %entry], [%next, %piece]
  %next = add i64 %begin, %chunk
  %end = call i64 @llvm.smin.i64(i64 %next, i64 %n)
  call void %kernel(ptr %args, i64 %begin, i64 %end)
  %more = icmp slt i64 %next, %n
  br i1 %more, label %piece, label %done
done:
  ret void
}
declare i64 @llvm.smin.i64(i64, i64)
"""

# Each word that threads contend for has a cache line (or two, as they are fetched) of its own.
# 128 bytes are enough for any platform's mutex, condition, thread attributes or signal set.
_THREADED = """
@wanted = internal global i64 1, align 128
@started = internal global i64 0
@busy = internal global i32 0, align 128
@remaining = internal global i64 0, align 128
@unfinished = internal global i64 0, align 128
@sleepers = internal global i64 0, align 128
@leader_sleeps = internal global i32 0, align 128
@kernel = internal global ptr null, align 128
@args = internal global ptr null
@n = internal global i64 0
@chunk = internal global i64 0
@pieces = internal global i64 0
@mutex = internal global [128 x i8] zeroinitializer, align 128
@work_comes = internal global [128 x i8] zeroinitializer, align 128
@job_ends = internal global [128 x i8] zeroinitializer, align 128
@size_changes = internal global [128 x i8] zeroinitializer, align 128

declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

; -- setting up ---------------------------------------------------------------------------

; Before the first job, and in a forked child: no workers, no job.
define void @fg_pool_reset() {
  store i64 0, ptr @started
  store atomic i32 0, ptr @busy seq_cst, align 4
  store atomic i64 0, ptr @remaining seq_cst, align 8
  store atomic i64 0, ptr @unfinished seq_cst, align 8
  store atomic i64 0, ptr @sleepers seq_cst, align 8
  store atomic i32 0, ptr @leader_sleeps seq_cst, align 4
  call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  call i32 @pthread_cond_init(ptr @work_comes, ptr null)
  call i32 @pthread_cond_init(ptr @job_ends, ptr null)
  call i32 @pthread_cond_init(ptr @size_changes, ptr null)
  ret void
}

define void @fg_pool_resize(i64 %threads) {
  call i32 @pthread_mutex_lock(ptr @mutex)
  store atomic i64 %threads, ptr @wanted seq_cst, align 8
  call i32 @pthread_cond_broadcast(ptr @size_changes)
  call i32 @pthread_cond_broadcast(ptr @work_comes)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}

; Called by the owner of @busy. Where a thread is refused, those that are there must do.
define internal void @start(i64 %count) {
entry:
  %thread = alloca i64
  %attributes = alloca [128 x i8], align 16
  %all = alloca [128 x i8], align 16
  %before = alloca [128 x i8], align 16
  call i32 @sigfillset(ptr %all)
$KEEP
  call i32 @pthread_sigmask(i32 $SETMASK, ptr %all, ptr %before)
  call i32 @pthread_attr_init(ptr %attributes)
  call i32 @pthread_attr_setstacksize(ptr %attributes, i64 $STACK)
  br label %next
next:
  %have = load i64, ptr @started
  %short = icmp slt i64 %have, %count
  br i1 %short, label %create, label %done
create:
  %index = inttoptr i64 %have to ptr
  %error = call i32 @pthread_create(ptr %thread, ptr %attributes, ptr @worker, ptr %index)
  %fine = icmp eq i32 %error, 0
  br i1 %fine, label %created, label %refused
created:
  %id = load i64, ptr %thread
  call i32 @pthread_detach(i64 %id)
  %more = add i64 %have, 1
  store i64 %more, ptr @started
  br label %next
refused:
  %all.there = add i64 %have, 1
  store atomic i64 %all.there, ptr @wanted seq_cst, align 8
  br label %done
done:
  call i32 @pthread_attr_destroy(ptr %attributes)
  call i32 @pthread_sigmask(i32 $SETMASK, ptr %before, ptr null)
  ret void
}

; -- waiting ------------------------------------------------------------------------------

define internal i64 @nanoseconds() {
  %time = alloca [2 x i64], align 16
  call i32 @clock_gettime(i32 $CLOCK, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}

; Looks at a word until it is zero, or isn't, as wanted; false where that takes too long.
define internal i1 @spin(ptr %word, i1 %zero) {
entry:
  %start = call i64 @nanoseconds()
  br label %look
look:
  %count = phi i64 [0, %entry], [%counted, %wait], [%counted, %clock], [%counted, %yield]
  %value = load atomic i64, ptr %word acquire, align 8
  %is.zero = icmp eq i64 %value, 0
  %reached = icmp eq i1 %is.zero, %zero
  br i1 %reached, label %done, label %wait
wait:
  $PAUSE
  %counted = add i64 %count, 1
  %low = and i64 %counted, 15
  %due = icmp eq i64 %low, 0
  br i1 %due, label %clock, label %look
clock:
  %now = call i64 @nanoseconds()
  %spent = sub i64 %now, %start
  %polite = icmp sgt i64 %spent, $UNYIELDING
  br i1 %polite, label %yield, label %look
yield:
  call i32 @sched_yield()
  %late = icmp sgt i64 %spent, $SPIN
  br i1 %late, label %done, label %look
done:
  %result = phi i1 [true, %look], [false, %yield]
  ret i1 %result
}

; -- working ------------------------------------------------------------------------------

; Runs pieces of the current job, if there is one, until none remains.
define internal void @work() {
entry:
  br label %look
look:
  %seen = load atomic i64, ptr @remaining monotonic, align 8
  br label %check
check:
  %left = phi i64 [%seen, %look], [%changed, %take]
  %none = icmp eq i64 %left, 0
  br i1 %none, label %done, label %take
take:
  %fewer = sub i64 %left, 1
  %pair = cmpxchg ptr @remaining, i64 %left, i64 %fewer acquire monotonic, align 8
  %changed = extractvalue {i64, i1} %pair, 0
  %mine = extractvalue {i64, i1} %pair, 1
  br i1 %mine, label %run, label %check
run:
  %kernel = load ptr, ptr @kernel
  %args = load ptr, ptr @args
  %n = load i64, ptr @n
  %chunk = load i64, ptr @chunk
  %pieces = load i64, ptr @pieces
  %index = sub i64 %pieces, %left
  %begin = mul i64 %index, %chunk
  %next = add i64 %begin, %chunk
  %end = call i64 @llvm.smin.i64(i64 %next, i64 %n)
  call void %kernel(ptr %args, i64 %begin, i64 %end)
  %before = atomicrmw sub ptr @unfinished, i64 1 seq_cst, align 8
  %last = icmp eq i64 %before, 1
  br i1 %last, label %ended, label %look
ended:
  %sleeps = load atomic i32, ptr @leader_sleeps seq_cst, align 4
  %asleep = icmp ne i32 %sleeps, 0
  br i1 %asleep, label %tell, label %look
tell:
  call i32 @pthread_mutex_lock(ptr @mutex)
  call i32 @pthread_cond_signal(ptr @job_ends)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %look
done:
  ret void
}

define internal i1 @employed(i64 %index) {
  %wanted = load atomic i64, ptr @wanted seq_cst, align 8
  %workers = sub i64 %wanted, 1
  %employed = icmp slt i64 %index, %workers
  ret i1 %employed
}

define internal ptr @worker(ptr %argument) {
entry:
  %index = ptrtoint ptr %argument to i64
  br label %next
next:
  %employed = call i1 @employed(i64 %index)
  br i1 %employed, label %watch, label %leave
watch:
  %comes = call i1 @spin(ptr @remaining, i1 false)
  br i1 %comes, label %work, label %sleep
work:
  call void @work()
  br label %next

; The leader first sets @remaining, then reads @sleepers; here it is the other way round. In
; the one order of all seq_cst operations one of the two therefore sees the other's write.
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  atomicrmw add ptr @sleepers, i64 1 seq_cst, align 8
  br label %idle
idle:
  %remaining = load atomic i64, ptr @remaining seq_cst, align 8
  %nothing = icmp eq i64 %remaining, 0
  %still = call i1 @employed(i64 %index)
  %wait = and i1 %nothing, %still
  br i1 %wait, label %doze, label %wake
doze:
  call i32 @pthread_cond_wait(ptr @work_comes, ptr @mutex)
  br label %idle
wake:
  atomicrmw sub ptr @sleepers, i64 1 seq_cst, align 8
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %next

leave:
  call i32 @pthread_mutex_lock(ptr @mutex)
  br label %outside
outside:
  %back = call i1 @employed(i64 %index)
  br i1 %back, label %return, label %linger
linger:
  call i32 @pthread_cond_wait(ptr @size_changes, ptr @mutex)
  br label %outside
return:
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %next
}

; Wakes as many sleepers as can find a piece.
define internal void @wake(i64 %pieces) {
entry:
  %sleepers = load atomic i64, ptr @sleepers seq_cst, align 8
  %none = icmp eq i64 %sleepers, 0
  br i1 %none, label %done, label %lock
lock:
  call i32 @pthread_mutex_lock(ptr @mutex)
  %others = sub i64 %pieces, 1
  %count = call i64 @llvm.smin.i64(i64 %others, i64 %sleepers)
  br label %one
one:
  %left = phi i64 [%count, %lock], [%fewer, %one]
  call i32 @pthread_cond_signal(ptr @work_comes)
  %fewer = sub i64 %left, 1
  %more = icmp sgt i64 %fewer, 0
  br i1 %more, label %one, label %unlock
unlock:
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %done
done:
  ret void
}

define internal void @finish() {
entry:
  %soon = call i1 @spin(ptr @unfinished, i1 true)
  br i1 %soon, label %done, label %sleep
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  store atomic i32 1, ptr @leader_sleeps seq_cst, align 4
  br label %check
check:
  %unfinished = load atomic i64, ptr @unfinished seq_cst, align 8
  %ended = icmp eq i64 %unfinished, 0
  br i1 %ended, label %wake, label %doze
doze:
  call i32 @pthread_cond_wait(ptr @job_ends, ptr @mutex)
  br label %check
wake:
  store atomic i32 0, ptr @leader_sleeps seq_cst, align 4
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %done
done:
  ret void
}

define void @fg_parallel(ptr %kernel, ptr %args, i64 %n, i64 %chunk) {
entry:
  %several = icmp sgt i64 %n, %chunk
  %wanted = load atomic i64, ptr @wanted monotonic, align 8
  %workers = sub i64 %wanted, 1
  %helped = icmp sgt i64 %workers, 0
  %worth = and i1 %several, %helped
  br i1 %worth, label %claim, label %alone
claim:
  %pair = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic, align 4
  %free = extractvalue {i32, i1} %pair, 1
  br i1 %free, label %staff, label %alone
alone:
  call void @serial(ptr %kernel, ptr %args, i64 %n, i64 %chunk)
  ret void
staff:
  %have = load i64, ptr @started
  %short = icmp slt i64 %have, %workers
  br i1 %short, label %hire, label %publish
hire:
  call void @start(i64 %workers)
  br label %publish
publish:
  %below = sub i64 %n, 1
  %steps = udiv i64 %below, %chunk
  %pieces = add i64 %steps, 1
  store ptr %kernel, ptr @kernel
  store ptr %args, ptr @args
  store i64 %n, ptr @n
  store i64 %chunk, ptr @chunk
  store i64 %pieces, ptr @pieces
  store atomic i64 %pieces, ptr @unfinished monotonic, align 8
  store atomic i64 %pieces, ptr @remaining seq_cst, align 8
  call void @wake(i64 %pieces)
  call void @work()
  call void @finish()
  store atomic i32 0, ptr @busy release, align 4
  ret void
}
"""
