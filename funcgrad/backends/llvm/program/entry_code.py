"""The code of a program's entry; `entry` says what it is, and makes a Python function of it."""

from __future__ import annotations

from funcgrad.backends.common.sites import EXTENT, INDEX, REPORT_WORDS, SITE
from funcgrad.backends.llvm.ir.writer import DRIVER, Value, Writer
from funcgrad.backends.llvm.program import gil
from funcgrad.backends.llvm.program.entry import (
    ARENA,
    ARENA_LAYOUT,
    BEHAVED,
    CONTIGUOUS_ALIGNED,
    DATA,
    DESCRIBE,
    FALLBACK,
    FIRST_FREE,
    INDEX_ERROR,
    ITEMS,
    NDARRAY,
    REFERENCES,
    Signature,
)
from funcgrad.backends.llvm.program.objects import array_reader, number_reader
from funcgrad.backends.llvm.program.parts import LARGE_WORK
from funcgrad.core.aval import Aval

# With more inputs and results, too, the entry is compiled quickly rather than well.
LONG = 64
# Room for a number of any dtype.
NUMBER = 32
STACK_ARENA = 2048

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


def entry_text(w: Writer, signature: Signature) -> str:
    """The function `fg_entry`; its program is `fg_main(ptr table)`."""
    return _EntryWriter(w, signature).text()


class _EntryWriter:
    """The table that the program gets: inputs, constants, results, arena, context, report."""

    def __init__(self, w: Writer, signature: Signature):
        self.w = w
        self.s = signature
        self.objects: list[Value] = []
        for name in ("Py_IncRef", "Py_DecRef"):
            w.module.declare(name, f"declare void @{name}(ptr)")

    def text(self) -> str:
        w, s = self.w, self.s
        n_table = len(s.ins) + s.constants + len(s.outs) + 4
        w.line(f"%table = alloca [{n_table} x ptr], align 16")
        n_numbers = max(len(s.ins) + len(s.outs), 1)
        w.line(f"%numbers = alloca [{NUMBER * n_numbers} x i8], align 16")
        w.line("%held = alloca ptr")
        w.line(f"%report = alloca [{REPORT_WORDS} x i64]")
        if self._on_stack:
            w.line(f"%stack = alloca [{s.arena} x i8], align 64")
        self.ctx = w.load(self._at(Value("%self", "ptr"), DATA), "ptr")
        self.slot = 0
        self._inputs()
        for k in range(s.constants):
            self._enter(self._context(FIRST_FREE + 2 * len(s.outs) + k))
        self._results()
        arena = self._arena()
        self._enter(self.ctx)
        self._enter(Value("%report", "ptr"))
        owner = self._owner(arena) if s.hosts else None
        status = self._run()
        if arena is not None:
            self._give_back(arena, owner)
        if owner is not None:
            w.line(f"call void @Py_DecRef(ptr {owner.ref})")
        self._finish(status)
        drivers = f" {DRIVER}" if s.work > LARGE_WORK or len(s.ins) + len(s.outs) > LONG else ""
        head = f"define ptr @fg_entry(ptr %self, ptr %args, i64 %nargs){drivers} {{"
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
        count = w.const(len(self.s.ins), "i64")
        self._go_on(w.compare("icmp eq", Value("%nargs", "i64"), count), slow)
        self.objects = [
            w.load(self._at(Value("%args", "ptr"), 8 * k), "ptr") for k in range(len(self.s.ins))
        ]
        for k, (obj, aval) in enumerate(zip(self.objects, self.s.ins, strict=True)):
            self._enter(self._data(obj, aval, k, slow))
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

    def _apart(self) -> str:
        """The function that tells whether an input shares no memory with another one."""
        sizes = [a.size * a.dtype.itemsize for a in self.s.ins]
        numbers = ", ".join(f"i64 {n}" for n in sizes)
        text = _APART.replace("$COUNT", str(len(sizes))).replace("$SIZES", numbers)
        self.w.module.define("fg_apart", text)
        return "fg_apart"

    def _data(self, obj: Value, aval: Aval, k: int, slow: str) -> Value:
        """The address of an input's data, if it is what the program takes."""
        donated = k in self.s.donated.values()
        write = array_reader if donated or aval.shape else number_reader
        reader = write(self.w.module, aval, BEHAVED if donated else CONTIGUOUS_ALIGNED)
        data = self.w.call(reader, "ptr", 1, [obj, self._context(NDARRAY), self._number(k)])
        self._go_on(self.w.compare("icmp ne", data, Value("null", "ptr")), slow)
        return data

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
                obj = self._array(FIRST_FREE + 2 * k, len(aval.shape))
            else:
                self._enter(self._number(len(s.ins) + k))
                continue
            self._own(k, obj)
            self._enter(w.load(self._at(obj, DATA), "ptr"))

    def _array(self, slot: int, rank: int) -> Value:
        """A new array of the layout that the context holds from this slot on."""
        w, null = self.w, Value("null", "ptr")
        descr, dims = self._context(slot), self._context(slot + 1)
        w.line(f"call void @Py_IncRef(ptr {descr.ref})")
        number, flags = w.const(rank, "i32"), w.const(0, "i32")
        args = [self._context(NDARRAY), descr, number, dims, null, null, flags, null]
        array = w.call("fg_PyArray_NewFromDescr", "ptr", 1, args)
        self._unless_null(array)
        return array

    def _result(self, k: int) -> Value:
        held = Value("%held", "ptr")
        return self.w.load(held if self.s.single else self._at(self.pack, ITEMS + 8 * k), "ptr")

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

    @property
    def _on_stack(self) -> bool:
        """Whether the arena lies there; a Python function may keep an array that lies in it."""
        return 0 < self.s.arena <= STACK_ARENA and not self.s.hosts

    def _arena(self) -> Value | None:
        """Enter the arena's address; the array that it is, where it does not lie on the stack."""
        w = self.w
        if self._on_stack or not self.s.arena:
            self._enter(Value("%stack" if self.s.arena else "null", "ptr"))
            return None
        slot = self._at(self.ctx, 8 * ARENA)
        kept = Value(w.fresh(), "ptr")
        w.line(f"{kept.ref} = atomicrmw xchg ptr {slot.ref}, ptr null acquire, align 8")
        start, make, after = w.block, w.new_label("make"), w.new_label("arena")
        w.branch_if(w.compare("icmp eq", kept, Value("null", "ptr")), make, after)
        w.label(make)
        made = self._array(ARENA_LAYOUT, 1)
        end = w.block
        w.branch(after)
        w.label(after)
        arena = w.phi("ptr", 1, (kept, start), (made, end))
        number = w.cast("ptrtoint", w.load(self._at(arena, DATA), "ptr"), "i64")
        up = w.op("and", w.op("add", number, w.const(63, "i64")), w.const(-64, "i64"))
        self._enter(w.cast("inttoptr", up, "ptr"))
        return arena

    def _owner(self, arena: Value | None) -> Value:
        """Enter a tuple of all in whose memory arrays lie that Python functions are given.

        They may keep them, as do the tracebacks of their exceptions. Later steps may write to
        the same memory.
        """
        w, s = self.w, self.s
        arrays = [self._result(k) for k, a in enumerate(s.outs) if a.shape and k not in s.donated]
        objects = [Value("%self", "ptr"), *([arena] if arena else []), *self.objects, *arrays]
        owner = w.call("PyTuple_New", "ptr", 1, [w.const(len(objects), "i64")])
        self._unless_null(owner)
        for k, obj in enumerate(objects):
            w.line(f"call void @Py_IncRef(ptr {obj.ref})")
            w.store(obj, self._at(owner, ITEMS + 8 * k))
        self._enter(owner)
        return owner

    def _give_back(self, arena: Value, owner: Value | None) -> None:
        """Keep the arena for the next call, unless another thread has left one, or somebody an
        array that lies in it."""
        w = self.w
        drop, after = w.new_label("drop"), w.new_label("after")
        if owner is not None:
            count = w.load(self._at(owner, REFERENCES), "i32")
            self._go_on(w.compare("icmp eq", count, w.const(1, "i32")), drop)
        slot = self._at(self.ctx, 8 * ARENA)
        pair = w.fresh()
        w.line(
            f"{pair} = cmpxchg ptr {slot.ref}, ptr null, ptr {arena.ref} release monotonic, align 8"
        )
        kept = Value(w.fresh(), "i1")
        w.line(f"{kept.ref} = extractvalue {{ ptr, i1 }} {pair}, 1")
        w.branch_if(kept, after, drop)
        w.label(drop)
        w.line(f"call void @Py_DecRef(ptr {arena.ref})")
        w.branch(after)
        w.label(after)

    def _run(self) -> Value:
        w, report = self.w, Value("%report", "ptr")
        releases = self.s.work >= gil.RELEASE_WORK
        if releases:
            gil.begin(w, report)
        status = Value(w.fresh(), "i64")
        w.line(f"{status.ref} = call i64 @fg_main(ptr %table)")
        if releases:
            gil.end(w, report)
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
        w.line(f"call void @Py_DecRef(ptr {held.ref})")
        w.line("ret ptr null")
