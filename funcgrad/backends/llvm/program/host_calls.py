"""Calls of Python functions from native code, with arrays in the program's memory."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.writer import Value
from funcgrad.backends.llvm.program.entry import ALIGNED, BASE, NDARRAY, WRITABLE
from funcgrad.backends.llvm.program.interrupts import end_if
from funcgrad.backends.loops.planning.plan import HostCall


def call_host(frame: Frame, step: HostCall, number: int, layouts: Sequence[int]) -> None:
    """Call a Python function; an exception ends the program.

    What an index out of range has left is not what the function should see.

    Args:
        number: the function's.
        layouts: for each of the views the number of its layout.
    """
    w, null = frame.w, Value("null", "ptr")
    for name in ("Py_IncRef", "Py_DecRef"):
        w.module.declare(name, f"declare void @{name}(ptr)")
    code = w.load(frame.status, "i64")
    end_if(w, w.compare("icmp ne", code, w.const(0, "i64")), code)
    arrays: list[Value] = []
    for k, (view, layout) in enumerate(zip(step.views, layouts, strict=True)):
        first = frame.first_layout + 2 * layout
        descr, dims = frame.slot(first), frame.slot(first + 1)
        rank = len(view.shape)
        strides = w.offset(dims, "i64", w.const(rank, "i64"))
        offset = w.const(view.offset * view.buffer.dtype.itemsize, "i64")
        data = w.offset(frame.address(view.buffer), "i8", offset)
        flags = ALIGNED | (WRITABLE if k < step.written else 0)
        args = [frame.slot(NDARRAY), descr, w.const(rank, "i32"), dims, strides, data]
        w.line(f"call void @Py_IncRef(ptr {descr.ref})")
        array = w.call("fg_PyArray_NewFromDescr", "ptr", 1, [*args, w.const(flags, "i32"), null])
        end_if(w, w.compare("icmp eq", array, null))
        w.line(f"call void @Py_IncRef(ptr {frame.owner.ref})")
        w.store(frame.owner, w.offset(array, "i8", w.const(BASE, "i64")))
        arrays.append(array)
    frame.pass_arguments(arrays)
    function, count = frame.slot(frame.first_host + number), w.const(len(arrays), "i64")
    found = w.call("PyObject_Vectorcall", "ptr", 1, [function, frame.scratch, count, null])
    for array in arrays:
        w.line(f"call void @Py_DecRef(ptr {array.ref})")
    end_if(w, w.compare("icmp eq", found, null))
    w.line(f"call void @Py_DecRef(ptr {found.ref})")
