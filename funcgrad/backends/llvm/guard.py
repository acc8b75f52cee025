"""Threads for matrix products: ours, while the library is held to one of its own.

Its idle threads would spin for milliseconds after each product, and take the cores from the
kernels between.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from funcgrad.backends.llvm import blas, engine, pool

# Who comes first sets the library to one thread, who leaves last sets it back.
_GUARD = """
@lock = internal global i32 0
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

define void @fg_products_reset() {
entry:
  %users = load i32, ptr @users
  store i32 0, ptr @users
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
  call void @acquire()
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


@cache
def load() -> None:
    """Make `fg_products` a symbol for IR: `fg_parallel` with the library on one thread."""
    found = blas.find()
    if found is None or found.threads is None or found.set_threads is None:
        return
    pool.load()
    functions = {"fg_blas_threads": found.threads, "fg_blas_set_threads": found.set_threads}
    for name, function in functions.items():
        address = ctypes.cast(function, ctypes.c_void_p).value  # pyright: ignore[reportArgumentType]
        engine.register_symbol(name, address or 0)
    code = engine.compile_ir(_GUARD)
    # It serves programs until the process ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
    engine.register_symbol("fg_products", code.address("fg_products"))
    if hasattr(os, "register_at_fork"):
        reset = ctypes.CFUNCTYPE(None)(code.address("fg_products_reset"))
        os.register_at_fork(after_in_child=reset)
