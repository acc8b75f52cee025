"""What a program reads from a Python object, once it knows the object for what it is.

Each function here writes one into the program, `ptr (ptr object, ptr ndarray, ptr room)`, that
gives the address of the object's data, or null for another object than expected: one of another
type, dtype or shape, or an array that is not laid out as the program reads it. Nothing of an
object is read before its type is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.backends.llvm.program.entry import (
    BYTE_ORDER,
    DATA,
    DESCR,
    DIMS,
    FLAGS,
    NDIM,
    TYPE,
    TYPE_NUMBER,
    one_of_equals,
    type_symbol,
)
from funcgrad.core.aval import Aval

_OBJECT, _NDARRAY, _ROOM = (Value(f"%{name}", "ptr") for name in ("object", "ndarray", "room"))
_NULL = Value("null", "ptr")
# Python's numbers that hold in themselves what a NumPy scalar of this dtype holds.
_PYTHON = {np.dtype(np.float64): "PyFloat_Type", np.dtype(np.complex128): "PyComplex_Type"}


def array_reader(module: Module, aval: Aval, flags: int) -> str:
    """The function for arrays, of exactly NumPy's class, that have all of these flags."""
    dtype = one_of_equals(aval.dtype)
    name = f"fg_array.{dtype.num}.{'x'.join(map(str, aval.shape))}.{flags}"
    if name in module.functions:
        return name
    w = Writer(module)
    _unless(w, w.compare("icmp eq", _word(w, _OBJECT, TYPE, "ptr"), _NDARRAY))
    descr = _word(w, _OBJECT, DESCR, "ptr")
    order = _word(w, descr, BYTE_ORDER, "i8")
    _unless_equal(
        w,
        (_word(w, _OBJECT, NDIM, "i32"), len(aval.shape)),
        (w.op("and", _word(w, _OBJECT, FLAGS, "i32"), w.const(flags, "i32")), flags),
        (_word(w, descr, TYPE_NUMBER, "i32"), dtype.num),
        (w.cast("zext", order, "i32"), ord(dtype.byteorder)),
    )
    if aval.shape:
        dims = _word(w, _OBJECT, DIMS, "ptr")
        _unless_equal(w, *((_word(w, dims, 8 * k, "i64"), n) for k, n in enumerate(aval.shape)))
    _give(w, _word(w, _OBJECT, DATA, "ptr"))
    return _define(w, name)


def number_reader(module: Module, aval: Aval, flags: int) -> str:
    """The function for numbers: NumPy's, Python's of the same dtype, and arrays of shape ().

    `room` is memory for a number that isn't laid out as NumPy's are.
    """
    dtype = one_of_equals(aval.dtype)
    name = f"fg_number.{dtype.num}.{flags}"
    if name in module.functions:
        return name
    whole = array_reader(module, aval, flags)
    w = Writer(module)
    if dtype in _PYTHON:
        _number_inside(w, _PYTHON[dtype])
    elif dtype == np.int64:
        _python_integer(w)
    elif dtype.kind == "b":
        for bit, symbol in enumerate(("_Py_FalseStruct", "_Py_TrueStruct")):
            with _only_where(w, w.compare("icmp eq", _OBJECT, _symbol(w, symbol))):
                w.store(w.const(bit, "i8"), _ROOM)
                _give(w, _ROOM)
    _number_inside(w, type_symbol(dtype))
    _give(w, w.call(whole, "ptr", 1, [_OBJECT, _NDARRAY, _ROOM]))
    return _define(w, name)


def _number_inside(w: Writer, symbol: str) -> None:
    with _only_where(w, _is_of_type(w, symbol)):
        _give(w, w.offset(_OBJECT, "i8", w.const(DATA, "i64")))


def _python_integer(w: Writer) -> None:
    with _only_where(w, _is_of_type(w, "PyLong_Type")):
        given = w.call("PyLong_AsLongLong", "i64", 1, [_OBJECT])
        w.store(given, _ROOM)
        with w.when(w.compare("icmp eq", given, w.const(-1, "i64")), "check"):
            error = w.call("PyErr_Occurred", "ptr", 1, [])
            with _only_where(w, w.compare("icmp ne", error, _NULL)):
                w.module.declare("PyErr_Clear", "declare void @PyErr_Clear()")
                w.line("call void @PyErr_Clear()")
                w.branch("other")
        _give(w, _ROOM)


# -- pieces ------------------------------------------------------------------------------


def _define(w: Writer, name: str) -> str:
    head = f"define internal ptr @{name}(ptr %object, ptr %ndarray, ptr %room) {{"
    text = [head, "entry:", *w.lines, "other:", "  ret ptr null", "}"]
    w.module.define(name, "\n".join(text))
    return name


def _word(w: Writer, base: Value, offset: int, ty: str) -> Value:
    return w.load(w.offset(base, "i8", w.const(offset, "i64")), ty)


def _symbol(w: Writer, name: str) -> Value:
    w.module.declare(name, f"@{name} = external global i8")
    return Value(f"@{name}", "ptr")


def _is_of_type(w: Writer, symbol: str) -> Value:
    return w.compare("icmp eq", _word(w, _OBJECT, TYPE, "ptr"), _symbol(w, symbol))


def _give(w: Writer, address: Value) -> None:
    w.line(f"ret ptr {address.ref}")


@contextmanager
def _only_where(w: Writer, test: Value) -> Iterator[None]:
    """Instructions for where the test holds, which go elsewhere in the end."""
    then, after = w.new_label("then"), w.new_label("else")
    w.branch_if(test, then, after)
    w.label(then)
    yield
    w.label(after)


def _unless(w: Writer, test: Value) -> None:
    good = w.new_label("good")
    w.branch_if(test, good, "other")
    w.label(good)


def _unless_equal(w: Writer, *pairs: tuple[Value, int]) -> None:
    """Go on where each value is as expected; all are compared at once."""
    differences: Sequence[Value] = [w.op("xor", v, w.const(n, v.ty)) for v, n in pairs]
    total = differences[0]
    for one in differences[1:]:
        total = w.op("or", total, one)
    _unless(w, w.compare("icmp eq", total, w.const(0, total.ty)))
