"""The one native function that Python calls: from array objects to array objects.

It has CPython's fastcall signature. Addresses of data are read from the objects; whatever is
not as expected (an array that is not contiguous or not aligned) goes to a Python function that
puts it in order and calls again. A *context*, an array of addresses behind the function's
`self`, holds what the code may not contain, as it is kept on disk: constants, types, functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.backends.llvm import engine
from funcgrad.backends.llvm.sites import EXTENT, INDEX, REPORT_WORDS, SITE, Site, describer
from funcgrad.backends.llvm.writer import Value, Writer
from funcgrad.core.aval import Aval
from funcgrad.core.source import SourceLine

# Where CPython and NumPy keep what is read; `probe` compares them with what Python says.
DATA, FLAGS, TYPE, ITEMS = 16, 64, 8, 24
CONTIGUOUS_ALIGNED = 0x0001 | 0x0100
BEHAVED = 0x0001 | 0x0100 | 0x0400
_FASTCALL = 0x0080
# With more inputs and results, or work to do, the entry is compiled quickly rather than well.
LONG = 64
LARGE_WORK = 200_000
# Room for a number of any dtype.
NUMBER = 32
STACK_ARENA = 2048
# Programs that take longer let other threads run meanwhile.
RELEASE_WORK = 400_000

# Slots of the context.
NDARRAY, FALLBACK, ARENA, INDEX_ERROR, DESCRIBE, FIRST_FREE = range(6)
_ARRAY_API = {"fg_PyArray_NewFromDescr": 94, "fg_PyArray_Scalar": 60}
_PYTHON_API = (
    "PyTuple_New PyLong_AsLongLong PyErr_Occurred PyErr_SetObject PyErr_NoMemory Py_IncRef "
    "Py_DecRef PyEval_SaveThread PyEval_RestoreThread PyMem_RawMalloc PyMem_RawFree "
    "PyObject_Vectorcall PyObject_CallFunction PyGILState_Ensure PyGILState_Release "
    "PyErr_CheckSignals"
).split()


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


_APART = """
@fg_sizes = private constant [$COUNT x i64] [$SIZES]
define internal i1 @fg_apart(ptr %table, i64 %k) {
entry:
  %place = getelementptr i64, ptr %table, i64 %k
  %begin = load i64, ptr %place
  %length.place = getelementptr i64, ptr @fg_sizes, i64 %k
  %length = load i64, ptr %length.place
  %end = add i64 %begin, %length
  br label %next
next:
  %i = phi i64 [0, %entry], [%more, %next]
  %other.place = getelementptr i64, ptr %table, i64 %i
  %other.begin = load i64, ptr %other.place
  %other.length.place = getelementptr i64, ptr @fg_sizes, i64 %i
  %other.length = load i64, ptr %other.length.place
  %other.end = add i64 %other.begin, %other.length
  %before = icmp ult i64 %begin, %other.end
  %behind = icmp ult i64 %other.begin, %end
  %both = and i1 %before, %behind
  %another = icmp ne i64 %i, %k
  %shared = and i1 %both, %another
  %more = add i64 %i, 1
  %last = icmp eq i64 %more, $COUNT
  %stop = or i1 %shared, %last
  br i1 %stop, label %done, label %next
done:
  %apart = xor i1 %shared, true
  ret i1 %apart
}
"""


class Context(np.ndarray):
    """The addresses a program refers to; `keep` holds their owners and the code itself."""

    keep: Any

    def __del__(self) -> None:
        arena = int(self[ARENA]) if self.size > ARENA else 0
        if arena:
            self[ARENA] = 0
            _free(arena)


def _free(address: int) -> None:
    free = ctypes.pythonapi.PyMem_RawFree
    free.argtypes, free.restype = [ctypes.c_void_p], None
    free(address)


def context(size: int) -> Context:
    return np.zeros(size, np.int64).view(Context)


def entry_text(w: Writer, signature: Signature) -> str:
    """The function `fg_entry`; its program is `fg_main(ptr table)`."""
    return _EntryWriter(w, signature).text()


class _EntryWriter:
    """The table that the program gets: inputs, constants, results, arena, context, report."""

    def __init__(self, w: Writer, signature: Signature):
        self.w = w
        self.s = signature
        for name in ("Py_IncRef", "Py_DecRef", "PyMem_RawFree"):
            w.module.declare(name, f"declare void @{name}(ptr)")
        w.module.declare("PyEval_RestoreThread", "declare void @PyEval_RestoreThread(ptr)")

    def text(self) -> str:
        w, s = self.w, self.s
        n_table = len(s.ins) + s.constants + len(s.outs) + 3
        w.line(f"%table = alloca [{n_table} x ptr], align 16")
        n_numbers = max(len(s.ins) + len(s.outs), 1)
        w.line(f"%numbers = alloca [{NUMBER * n_numbers} x i8], align 16")
        w.line("%held = alloca ptr")
        w.line(f"%report = alloca [{REPORT_WORDS} x i64]")
        if 0 < s.arena <= STACK_ARENA:
            w.line(f"%stack = alloca [{s.arena} x i8], align 64")
        self.ctx = w.load(self._at(Value("%self", "ptr"), DATA), "ptr")
        self.slot = 0
        self._inputs()
        for k in range(s.constants):
            self._enter(self._context(FIRST_FREE + 2 * len(s.outs) + k))
        self._results()
        raw = self._arena()
        self._enter(self.ctx)
        self._enter(Value("%report", "ptr"))
        status = self._run()
        if raw is not None:
            self._give_back(raw)
        self._finish(status)
        plain = " #1" if s.work > LARGE_WORK or len(s.ins) + len(s.outs) > LONG else ""
        head = f"define ptr @fg_entry(ptr %self, ptr %args, i64 %nargs){plain} {{"
        return "\n".join([head, "entry:", *w.lines, "}"])

    # -- pieces -------------------------------------------------------------------------

    def _at(self, base: Value, offset: int) -> Value:
        return self.w.offset(base, "i8", self.w.const(offset, "i64"))

    def _context(self, slot: int) -> Value:
        return self.w.load(self._at(self.ctx, 8 * slot), "ptr")

    def _enter(self, address: Value) -> None:
        self.w.store(address, self._at(Value("%table", "ptr"), 8 * self.slot))
        self.slot += 1

    def _number(self, k: int) -> Value:
        return self._at(Value("%numbers", "ptr"), NUMBER * k)

    def _inputs(self) -> None:
        w = self.w
        if not self.s.ins:
            return
        slow = w.new_label("slow")
        self.objects = []
        ndarray = self._context(NDARRAY)
        for k, aval in enumerate(self.s.ins):
            obj = w.load(self._at(Value("%args", "ptr"), 8 * k), "ptr")
            self.objects.append(obj)
            if k in self.s.donated.values():
                is_array = w.compare("icmp eq", w.load(self._at(obj, TYPE), "ptr"), ndarray)
                self._go_on(is_array, slow)
                self._enter(self._array(obj, slow, BEHAVED))
            elif aval.shape:
                self._enter(self._array(obj, slow))
            elif aval.weak:
                self._enter(self._python_number(obj, aval, k))
            else:
                self._enter(self._scalar(obj, aval, ndarray, k, slow))
        for k in self.s.donated.values():
            args = [Value("%table", "ptr"), w.const(k, "i64")]
            self._go_on(w.call(self._apart(), "i1", 1, args), slow)
        after = w.new_label("ready")
        w.branch(after)
        w.label(slow)
        again = w.call(
            "PyObject_Vectorcall",
            "ptr",
            1,
            [
                self._context(FALLBACK),
                Value("%args", "ptr"),
                Value("%nargs", "i64"),
                Value("null", "ptr"),
            ],
        )
        w.line(f"ret ptr {again.ref}")
        w.label(after)

    def _go_on(self, test: Value, other: str) -> None:
        good = self.w.new_label("good")
        self.w.branch_if(test, good, other)
        self.w.label(good)

    def _array(self, obj: Value, slow: str, needed: int = CONTIGUOUS_ALIGNED) -> Value:
        w = self.w
        flags = w.load(self._at(obj, FLAGS), "i32")
        have = w.op("and", flags, w.const(needed, "i32"))
        self._go_on(w.compare("icmp eq", have, w.const(needed, "i32")), slow)
        return w.load(self._at(obj, DATA), "ptr")

    def _apart(self) -> str:
        """The function that tells whether an input shares no memory with another one."""
        sizes = [a.size * a.dtype.itemsize for a in self.s.ins]
        numbers = ", ".join(f"i64 {n}" for n in sizes)
        text = _APART.replace("$COUNT", str(len(sizes))).replace("$SIZES", numbers)
        self.w.module.define("fg_apart", text)
        return "fg_apart"

    def _python_number(self, obj: Value, aval: Aval, k: int) -> Value:
        w = self.w
        if aval.dtype.kind in "fc":
            return self._at(obj, DATA)
        number = w.call("PyLong_AsLongLong", "i64", 1, [obj])
        place = self._number(k)
        w.store(number, place)
        with w.when(w.compare("icmp eq", number, w.const(-1, "i64")), "check"):
            error = w.call("PyErr_Occurred", "ptr", 1, [])
            failed, fine = w.new_label("failed"), w.new_label("fine")
            w.branch_if(w.compare("icmp ne", error, Value("null", "ptr")), failed, fine)
            w.label(failed)
            w.line("ret ptr null")
            w.label(fine)
        return place

    def _scalar(self, obj: Value, aval: Aval, ndarray: Value, k: int, slow: str) -> Value:
        """NumPy's scalar, an array of shape (), or Python's True and False."""
        w = self.w
        inside, place = self._at(obj, DATA), self._number(k)
        if aval.dtype.kind == "b":
            w.module.declare("_Py_TrueStruct", "@_Py_TrueStruct = external global i8")
            w.module.declare("_Py_FalseStruct", "@_Py_FalseStruct = external global i8")
            is_true = w.compare("icmp eq", obj, Value("@_Py_TrueStruct", "ptr"))
            is_false = w.compare("icmp eq", obj, Value("@_Py_FalseStruct", "ptr"))
            w.store(w.cast("zext", is_true, "i8"), place)
            python = w.op("or", is_true, is_false)
            inside = w.select(python, place, inside)
        kind = w.load(self._at(obj, TYPE), "ptr")
        is_array = w.compare("icmp eq", kind, ndarray)
        start = w.block
        array, after = w.new_label("array"), w.new_label("after")
        w.branch_if(is_array, array, after)
        w.label(array)
        data = self._array(obj, slow)
        back = w.block
        w.branch(after)
        w.label(after)
        return w.phi("ptr", 1, (inside, start), (data, back))

    def _results(self) -> None:
        """Make room for results: the tuple they are returned in owns them from the start."""
        w, s = self.w, self.s
        w.line("store ptr null, ptr %held")
        self.pack = Value("null", "ptr")
        if not s.single:
            self.pack = w.call("PyTuple_New", "ptr", 1, [w.const(len(s.outs), "i64")])
            self._unless_null(self.pack)
            w.store(self.pack, Value("%held", "ptr"))
        for k, aval in enumerate(s.outs):
            if k in s.donated:
                obj = self.objects[s.donated[k]]
                w.line(f"call void @Py_IncRef(ptr {obj.ref})")
            elif aval.shape:
                obj = self._new_array(k, aval)
            else:
                self._enter(self._number(len(s.ins) + k))
                continue
            self._own(k, obj)
            self._enter(w.load(self._at(obj, DATA), "ptr"))

    def _new_array(self, k: int, aval: Aval) -> Value:
        w, null = self.w, Value("null", "ptr")
        descr, dims = self._context(FIRST_FREE + 2 * k), self._context(FIRST_FREE + 2 * k + 1)
        w.line(f"call void @Py_IncRef(ptr {descr.ref})")
        rank, flags = w.const(len(aval.shape), "i32"), w.const(0, "i32")
        args = [self._context(NDARRAY), descr, rank, dims, null, null, flags, null]
        array = w.call("fg_PyArray_NewFromDescr", "ptr", 1, args)
        self._unless_null(array)
        return array

    def _own(self, k: int, obj: Value) -> None:
        """Put a result where it is returned from, which takes over the reference."""
        if self.s.single:
            self.w.store(obj, Value("%held", "ptr"))
        else:
            self.w.store(obj, self._at(self.pack, ITEMS + 8 * k))

    def _unless_null(self, obj: Value) -> None:
        """Give up where an allocation failed; its exception is set."""
        fine = self.w.new_label("fine")
        test = self.w.compare("icmp eq", obj, Value("null", "ptr"))
        self.w.branch_if(test, "failed", fine)
        self.w.label(fine)

    def _arena(self) -> Value | None:
        """Enter the arena's address; its owner's, where it does not lie on the stack."""
        w, size = self.w, self.s.arena
        if size <= STACK_ARENA:
            self._enter(Value("%stack" if size else "null", "ptr"))
            return None
        slot = self._at(self.ctx, 8 * ARENA)
        kept = Value(w.fresh(), "ptr")
        w.line(f"{kept.ref} = atomicrmw xchg ptr {slot.ref}, ptr null acquire, align 8")
        start, make, after = w.block, w.new_label("make"), w.new_label("arena")
        w.branch_if(w.compare("icmp eq", kept, Value("null", "ptr")), make, after)
        w.label(make)
        made = w.call("PyMem_RawMalloc", "ptr", 1, [w.const(size + 64, "i64")])
        w.branch(after)
        w.label(after)
        raw = w.phi("ptr", 1, (kept, start), (made, make))
        self._unless_null(raw)
        number = w.cast("ptrtoint", raw, "i64")
        up = w.op("and", w.op("add", number, w.const(63, "i64")), w.const(-64, "i64"))
        self._enter(w.cast("inttoptr", up, "ptr"))
        return raw

    def _give_back(self, raw: Value) -> None:
        """Keep the arena for the next call, unless another thread has left one."""
        w = self.w
        slot = self._at(self.ctx, 8 * ARENA)
        pair = w.fresh()
        w.line(
            f"{pair} = cmpxchg ptr {slot.ref}, ptr null, ptr {raw.ref} release monotonic, align 8"
        )
        kept = Value(w.fresh(), "i1")
        w.line(f"{kept.ref} = extractvalue {{ ptr, i1 }} {pair}, 1")
        with w.when(w.op("xor", kept, w.const(1, "i1")), "free"):
            w.line(f"call void @PyMem_RawFree(ptr {raw.ref})")

    def _run(self) -> Value:
        w = self.w
        release = self.s.work >= RELEASE_WORK and not self.s.hosts
        thread = w.call("PyEval_SaveThread", "ptr", 1, []) if release else None
        status = Value(w.fresh(), "i64")
        w.line(f"{status.ref} = call i64 @fg_main(ptr %table)")
        if thread is not None:
            w.line(f"call void @PyEval_RestoreThread(ptr {thread.ref})")
        return status

    def _raise_index_error(self) -> None:
        """For an index, an extent and a site as the program has left them."""
        w = self.w
        places = [self._at(Value("%report", "ptr"), 8 * k) for k in (INDEX, EXTENT, SITE)]
        words = [w.load(place, "i64") for place in places]
        w.module.declare("fg_words", '@fg_words = private constant [4 x i8] c"LLL\\00"')
        w.module.declare(
            "PyObject_CallFunction", "declare ptr @PyObject_CallFunction(ptr, ptr, ...)"
        )
        w.module.declare("PyErr_SetObject", "declare void @PyErr_SetObject(ptr, ptr)")
        message = Value(w.fresh(), "ptr")
        operands = ", ".join(f"i64 {word.ref}" for word in words)
        w.line(
            f"{message.ref} = call ptr (ptr, ptr, ...) @PyObject_CallFunction("
            f"ptr {self._context(DESCRIBE).ref}, ptr @fg_words, {operands})"
        )
        self._unless_null(message)
        error = self._context(INDEX_ERROR)
        w.line(f"call void @PyErr_SetObject(ptr {error.ref}, ptr {message.ref})")
        w.line(f"call void @Py_DecRef(ptr {message.ref})")

    def _finish(self, status: Value) -> None:
        w, s = self.w, self.s
        fine, wrong, index = w.new_label("fine"), w.new_label("wrong"), w.new_label("index")
        w.branch_if(w.compare("icmp eq", status, w.const(0, "i64")), fine, wrong)
        w.label(wrong)
        w.branch_if(w.compare("icmp eq", status, w.const(1, "i64")), index, "failed")
        w.label(index)
        self._raise_index_error()
        w.branch("failed")
        w.label(fine)
        for k, aval in enumerate(s.outs):
            if not aval.shape and k not in s.donated:
                descr, place = self._context(FIRST_FREE + 2 * k), self._number(len(s.ins) + k)
                found = w.call("fg_PyArray_Scalar", "ptr", 1, [place, descr, Value("null", "ptr")])
                self._unless_null(found)
                self._own(k, found)
        result = w.load(Value("%held", "ptr"), "ptr")
        w.line(f"ret ptr {result.ref}")
        w.label("failed")
        held = w.load(Value("%held", "ptr"), "ptr")
        error = w.call("PyErr_Occurred", "ptr", 1, [])
        with w.when(w.compare("icmp eq", error, Value("null", "ptr")), "memory"):
            # What sets no exception is the arena's allocation.
            w.call("PyErr_NoMemory", "ptr", 1, [])
        w.line(f"call void @Py_DecRef(ptr {held.ref})")
        w.line("ret ptr null")


# --- the Python object ----------------------------------------------------------------


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


def register_symbols() -> None:
    """Name what entries call."""
    for name in _PYTHON_API:
        function = getattr(ctypes.pythonapi, name)
        engine.register_symbol(name, ctypes.cast(function, ctypes.c_void_p).value or 0)
    for name in ("_Py_TrueStruct", "_Py_FalseStruct"):
        value = name == "_Py_TrueStruct"
        engine.register_symbol(name, id(value))
    for name in _ARRAY_API:
        engine.register_symbol(name, array_function(name))


def probe() -> str | None:
    """None where objects are laid out as entries read them; else what is different."""
    array = np.arange(6.0).reshape(2, 3)[:, ::2]
    if ctypes.c_void_p.from_address(id(array) + DATA).value != array.ctypes.data:
        return "arrays are laid out in another way"
    if ctypes.c_int.from_address(id(array) + FLAGS).value != array.flags.num:
        return "arrays keep their flags elsewhere"
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
