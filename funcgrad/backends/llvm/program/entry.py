"""The one native function that Python calls: from array objects to array objects.

It has CPython's fastcall signature. Addresses of data are read from the objects; whatever is
not as expected (an array that is not contiguous or not aligned) goes to a Python function that
puts it in order and calls again. A *context*, an array of addresses behind the function's
`self`, holds what the code may not contain, as it is kept on disk: constants, types, functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.backends.common.sites import Site, describer
from funcgrad.backends.llvm.runtime import engine
from funcgrad.core.aval import Aval
from funcgrad.records import NamedTuple
from funcgrad.source import SourceLine

# Where CPython and NumPy keep what is read; `probe` compares them with what Python says.
REFERENCES, TYPE, DATA, ITEMS = 0, 8, 16, 24
NDIM, DIMS, BASE, DESCR, FLAGS = 24, 32, 48, 56, 64
BYTE_ORDER, TYPE_NUMBER = 26, 28
CONTIGUOUS, ALIGNED, WRITABLE = 0x0001, 0x0100, 0x0400
CONTIGUOUS_ALIGNED = CONTIGUOUS | ALIGNED
BEHAVED = CONTIGUOUS_ALIGNED | WRITABLE
_FASTCALL = 0x0080

# Slots of the context.
NDARRAY, FALLBACK, ARENA, ARENA_LAYOUT, _, INDEX_ERROR, DESCRIBE, FIRST_FREE = range(8)
_ARRAY_API = {"fg_PyArray_NewFromDescr": 94, "fg_PyArray_Scalar": 60}
_PYTHON_API = (
    "PyTuple_New PyLong_AsLongLong PyErr_Occurred PyErr_Clear PyErr_SetObject "
    "Py_IncRef Py_DecRef PyEval_SaveThread PyEval_RestoreThread "
    "PyObject_Vectorcall PyObject_CallFunction PyGILState_Ensure PyGILState_Release "
    "PyErr_CheckSignals"
).split()
_PYTHON_OBJECTS: dict[str, object] = {
    "_Py_TrueStruct": True,
    "_Py_FalseStruct": False,
    "PyFloat_Type": float,
    "PyComplex_Type": complex,
    "PyLong_Type": int,
}
_NUMBERS = "?bhilqBHILQefdgFDG"


class Signature(NamedTuple):
    """What the native function takes and gives.

    Attributes:
        ins, outs: the avals.
        arena: its size in bytes.
        work: about how many scalar operations a call takes.
        single: the result is one array, not a tuple.
        constants: how many arrays the program refers to.
        hosts: it calls Python functions.
        donated: the results that are written into an input, each with the input's number.
        sites: where indices are checked.
    """

    ins: Sequence[Aval]
    outs: Sequence[Aval]
    arena: int
    work: int
    single: bool
    constants: int
    hosts: bool
    donated: dict[int, int]
    sites: Sequence[Site] = ()

    @property
    def first_host(self) -> int:
        """The context's slot of the first Python function."""
        return FIRST_FREE + 2 * len(self.outs) + self.constants


class Context(np.ndarray):
    """The addresses a program refers to; `keep` holds their owners and the code itself."""

    keep: Any

    def __del__(self) -> None:
        arena = int(self[ARENA]) if self.size > ARENA else 0
        if arena:
            self[ARENA] = 0
            ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(arena))


def context(size: int) -> Context:
    return np.zeros(size, np.int64).view(Context)


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def native_function(address: int, ctx: Context) -> Any:
    """A built-in function whose code lies at this address and whose `self` is the context."""
    method = _MethodDef(b"program", address, _FASTCALL, None)
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    new.restype = ctypes.py_object
    ctx.keep.append(method)
    return new(ctypes.addressof(method), ctx, None)


def name_lines(function: Any, sites: Sequence[Site], lines: Sequence[SourceLine]) -> Any:
    """The native function, whose index errors from now on name these lines."""
    ctx: Context = function.__self__
    describe = describer(sites, lines)
    ctx.keep.append(describe)
    ctx[DESCRIBE] = id(describe)
    return function


def array_function(name: str) -> int:
    """The address of a function of NumPy's C interface."""
    from numpy._core import _multiarray_umath  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]

    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    table = get(_multiarray_umath._ARRAY_API, None)
    return ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[_ARRAY_API[name]]


def one_of_equals(dtype: np.dtype) -> np.dtype:
    """The dtype by which programs know all that are equal to it: C has two 64-bit integers."""
    return np.dtype(dtype.str)


def type_symbol(dtype: np.dtype) -> str:
    """What IR calls the class of NumPy's numbers of a dtype."""
    return f"fg_numpy_{dtype.type.__name__}"


def register_symbols() -> None:
    """Name what entries call."""
    for name in _PYTHON_API:
        function = getattr(ctypes.pythonapi, name)
        engine.register_symbol(name, ctypes.cast(function, ctypes.c_void_p).value or 0)
    for name, value in _PYTHON_OBJECTS.items():
        engine.register_symbol(name, id(value))
    for dtype in map(np.dtype, _NUMBERS):
        engine.register_symbol(type_symbol(dtype), id(dtype.type))
    for name in _ARRAY_API:
        engine.register_symbol(name, array_function(name))


def probe() -> str | None:
    """None where objects are laid out as entries read them; else what is different."""
    array = np.arange(6.0).reshape(2, 3)[:, ::2]
    if ctypes.c_void_p.from_address(id(array) + DATA).value != array.ctypes.data:
        return "arrays are laid out in another way"
    if ctypes.c_void_p.from_address(id(array) + BASE).value != id(array.base):
        return "arrays keep their base elsewhere"
    if ctypes.c_int.from_address(id(array) + FLAGS).value != array.flags.num:
        return "arrays keep their flags elsewhere"
    dims = ctypes.c_void_p.from_address(id(array) + DIMS).value or 0
    rank = ctypes.c_int.from_address(id(array) + NDIM).value
    if rank != 2 or tuple((ctypes.c_ssize_t * 2).from_address(dims)) != array.shape:
        return "arrays keep their shape elsewhere"
    descr = ctypes.c_void_p.from_address(id(array) + DESCR).value or 0
    order, number = (
        ctypes.string_at(descr + BYTE_ORDER, 1).decode(),
        ctypes.c_int.from_address(descr + TYPE_NUMBER).value,
    )
    if descr != id(array.dtype) or (order, number) != (array.dtype.byteorder, array.dtype.num):
        return "arrays keep their dtype elsewhere"
    count = ctypes.c_uint32.from_address(id(array) + REFERENCES)
    before, more = count.value, (array, array)
    if count.value != before + len(more):
        return "objects count their references elsewhere"
    pair = (array, None)
    if ctypes.c_void_p.from_address(id(pair) + ITEMS + 8).value != id(None):
        return "tuples keep their items elsewhere"
    if ctypes.c_void_p.from_address(id(array) + TYPE).value != id(np.ndarray):
        return "objects keep their type elsewhere"
    for value in (
        np.float64(1.5),
        np.float32(2.5),
        np.int64(-3),
        np.uint8(7),
        np.bool_(True),
        np.float16(0.5),
        np.complex64(1 + 2j),
        1.25,
        1.5 + 2j,
    ):
        dtype = np.asarray(value).dtype
        have = ctypes.string_at(id(value) + DATA, dtype.itemsize)
        if have != np.asarray(value).tobytes():
            return "numbers are laid out in another way"
    return None
