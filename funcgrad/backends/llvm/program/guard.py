"""Threads for matrix products: ours, while the library is held to one of its own.

Its idle threads would spin for milliseconds after each product, and take the cores from the
kernels between.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from funcgrad.backends.llvm.products import blas
from funcgrad.backends.llvm.runtime import engine, pool

# Who comes first sets the library to one thread, who leaves last sets it back. Setting it takes
# a lock of the library's: a child forked meanwhile would wait for that for ever. A fork therefore
# closes the door, and waits for those inside.
_GUARD = """
@lock = internal global i32 0
@closed = internal global i32 0
@users = internal global i32 0
@before = internal global i32 0
declare void @fg_parallel(ptr, ptr, i64, i64)
declare i32 @fg_blas_threads()
declare void @fg_blas_set_threads(i32)

define internal void @acquire() {
entry:
  br label %try
try:
  %old = atomicrmw xchg ptr @lock, i32 1 acquire
  %free = icmp eq i32 %old, 0
  br i1 %free, label %done, label %try
done:
  ret void
}

define internal void @release() {
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

define void @fg_products_close() {
entry:
  atomicrmw add ptr @closed, i32 1 seq_cst, align 4
  br label %look
look:
  call void @acquire()
  %users = load i32, ptr @users
  call void @release()
  %empty = icmp eq i32 %users, 0
  br i1 %empty, label %done, label %wait
wait:
  $YIELD
  br label %look
done:
  ret void
}

define void @fg_products_open() {
  atomicrmw sub ptr @closed, i32 1 seq_cst, align 4
  ret void
}

define void @fg_products_reset() {
entry:
  %users = load i32, ptr @users
  store i32 0, ptr @users
  store atomic i32 0, ptr @closed seq_cst, align 4
  store atomic i32 0, ptr @lock release, align 4
  %held = icmp ne i32 %users, 0
  br i1 %held, label %restore, label %done
restore:
  %known = load i32, ptr @before
  call void @fg_blas_set_threads(i32 %known)
  br label %done
done:
  ret void
}

define void @fg_products(ptr %kernel, ptr %args, i64 %n, i64 %chunk) {
entry:
  br label %try
try:
  call void @acquire()
  %closed = load atomic i32, ptr @closed seq_cst, align 4
  %open = icmp eq i32 %closed, 0
  br i1 %open, label %enter, label %wait
wait:
  call void @release()
  $YIELD
  br label %try
enter:
  %users = load i32, ptr @users
  %more = add i32 %users, 1
  store i32 %more, ptr @users
  %first = icmp eq i32 %users, 0
  br i1 %first, label %single, label %run
single:
  %threads = call i32 @fg_blas_threads()
  store i32 %threads, ptr @before
  call void @fg_blas_set_threads(i32 1)
  br label %run
run:
  call void @release()
  call void @fg_parallel(ptr %kernel, ptr %args, i64 %n, i64 %chunk)
  call void @acquire()
  %left = load i32, ptr @users
  %fewer = sub i32 %left, 1
  store i32 %fewer, ptr @users
  %last = icmp eq i32 %fewer, 0
  br i1 %last, label %restore, label %done
restore:
  %known = load i32, ptr @before
  call void @fg_blas_set_threads(i32 %known)
  br label %done
done:
  call void @release()
  ret void
}
"""


def register() -> None:
    """Name `fg_products` for IR: `fg_parallel` with the library on one thread.

    It is compiled when the first program calls it.
    """
    engine.register_later("fg_products", _load)


@cache
def _load() -> int:
    found = blas.find()
    assert found is not None and found.threads is not None and found.set_threads is not None
    pool.load()
    functions = {"fg_blas_threads": found.threads, "fg_blas_set_threads": found.set_threads}
    for name, function in functions.items():
        address = ctypes.cast(function, ctypes.c_void_p).value  # pyright: ignore[reportArgumentType]
        engine.register_symbol(name, address or 0)
    forks = hasattr(os, "fork")
    text = _GUARD.replace("$YIELD", "call i32 @sched_yield()" if forks else "")
    text += "declare i32 @sched_yield()\n" if forks else ""
    code = engine.lasting(engine.compile_ir(text, level=0))
    if forks:
        _register_at_fork(*(code.address(f"fg_products_{n}") for n in ("close", "open", "reset")))
    return code.address("fg_products")


def _register_at_fork(before: int, in_parent: int, in_child: int) -> None:
    """Let `fork` itself call these.

    Python's own handlers let other threads run between them, which hold the GIL when they come
    to a closed door.
    """
    process = ctypes.CDLL(None)
    handlers = [ctypes.c_void_p(address) for address in (before, in_parent, in_child)]
    if hasattr(process, "pthread_atfork"):
        process.pthread_atfork(*handlers)
    elif hasattr(process, "__register_atfork"):
        # What pthread_atfork calls where glibc keeps that out of its shared library.
        getattr(process, "__register_atfork")(*handlers, None)
    else:
        os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(in_child))
