"""LLVM IR written as text.

A `Value` is an operand's text with its type: a scalar, or a vector of `lanes` scalars of one
type. Code that is written for a `Value` therefore serves any number of lanes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from funcgrad.records import NamedTuple

FLOATS = ("float", "double")
BITS = {"float": 32, "double": 64, "i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "ptr": 64}
_SHORT = {"float": "f32", "double": "f64"}
# How a program's functions are marked; `parts` says what that means.
KERNEL, DRIVER = "#0", "#1"


class Value(NamedTuple):
    """An operand: its text, the type of its elements, and how many there are."""

    ref: str
    ty: str
    lanes: int = 1

    @property
    def type(self) -> str:
        return type_text(self.ty, self.lanes)


def type_text(ty: str, lanes: int = 1) -> str:
    return ty if lanes == 1 else f"<{lanes} x {ty}>"


def mangled(ty: str, lanes: int) -> str:
    """How the names of overloaded intrinsics spell a type: `f64`, `v8i32`."""
    short = _SHORT.get(ty, ty)
    return short if lanes == 1 else f"v{lanes}{short}"


def float_text(value: float, ty: str) -> str:
    """A float literal: LLVM takes the bits of the double that equals it."""
    if ty == "float":
        # Rounded to float32 first, as a double that is no float32 is refused.
        value = struct.unpack("f", struct.pack("f", value))[0]
    return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"


class Module:
    """A module's text: declarations, globals and functions, each once, in order of first use.

    Attributes:
        in_place: how many vectors have been asked for that take long formulas.
    """

    def __init__(self) -> None:
        self.declarations: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self.in_place = 0

    def declare(self, name: str, line: str) -> None:
        self.declarations.setdefault(name, line)

    def define(self, name: str, text: str) -> None:
        self.functions.setdefault(name, text)

    def __str__(self) -> str:
        return "\n".join([*self.declarations.values(), "", *self.functions.values(), ""])


class Writer:
    """Writes one function's instructions.

    Attributes:
        module: takes the declarations of what is called.
        elements: how many elements a call of the function computes, one after the other.
        lines: the instructions so far.
        block: the label of the block that is being written.
        known: what formulas keep for later formulas to share, by a key of their own. It holds
            where it was written and in what follows without a label: a label begins anew.
    """

    def __init__(self, module: Module, elements: int = 1):
        self.module = module
        self.elements = elements
        self.lines: list[str] = []
        # What must come first in the function: memory, of which a loop would take more each time.
        self.allocas: list[str] = []
        self.block = "entry"
        self.known: dict[tuple[str, ...], Any] = {}
        self._count = 0

    # -- names, lines and blocks --------------------------------------------------------

    def fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Instructions that come first in the function, and so before all that use them."""
        lines, self.lines = self.lines, self.allocas
        yield
        self.lines = lines

    def new_label(self, name_hint: str) -> str:
        self._count += 1
        return f"{name_hint}.{self._count}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name
        self.known = {}

    def branch(self, target: str) -> None:
        self.line(f"br label %{target}")

    def branch_if(self, test: Value, then: str, other: str) -> None:
        self.line(f"br i1 {test.ref}, label %{then}, label %{other}")

    def phi(self, ty: str, lanes: int, *sources: tuple[Value, str]) -> Value:
        result = Value(self.fresh(), ty, lanes)
        pairs = ", ".join(f"[{value.ref}, %{block}]" for value, block in sources)
        self.line(f"{result.ref} = phi {result.type} {pairs}")
        return result

    @contextmanager
    def when(self, test: Value, name_hint: str = "then") -> Iterator[None]:
        """Instructions that run only where the scalar i1 `test` is true."""
        then, after = self.new_label(name_hint), self.new_label("after")
        known = self.known
        self.branch_if(test, then, after)
        self.label(then)
        yield
        self.branch(after)
        self.label(after)
        self.known = known

    def replaced(
        self, test: Value, usual: Sequence[Value], write: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """`usual`, or what `write` writes where the scalar i1 `test` is true: a rare branch."""
        before = self.block
        with self.when(test, "rare"):
            rare = write()
            end = self.block
        return [
            self.phi(a.ty, a.lanes, (b, end), (a, before)) for a, b in zip(usual, rare, strict=True)
        ]

    # -- constants ----------------------------------------------------------------------

    def const(self, value: float, ty: str, lanes: int = 1) -> Value:
        """A number of this type in every lane; integers may be given as unsigned bits."""
        if ty in FLOATS:
            text = float_text(value, ty)
        elif ty == "i1":
            text = "true" if value else "false"
        else:
            text = str(int(value))
        if lanes > 1:
            text = f"splat ({ty} {text})"
        return Value(text, ty, lanes)

    def like(self, value: float, other: Value) -> Value:
        """A constant of another value's type."""
        return self.const(value, other.ty, other.lanes)

    # -- instructions -------------------------------------------------------------------

    def op(self, opcode: str, *args: Value) -> Value:
        """An instruction whose operands and result have one type: `fadd`, `shl`, `fneg`."""
        result = Value(self.fresh(), args[0].ty, args[0].lanes)
        self.line(f"{result.ref} = {opcode} {result.type} {', '.join(a.ref for a in args)}")
        return result

    def compare(self, opcode: str, a: Value, b: Value) -> Value:
        """`compare("fcmp olt", a, b)`: an i1 in each lane."""
        result = Value(self.fresh(), "i1", a.lanes)
        self.line(f"{result.ref} = {opcode} {a.type} {a.ref}, {b.ref}")
        return result

    def select(self, test: Value, a: Value, b: Value) -> Value:
        result = Value(self.fresh(), a.ty, a.lanes)
        operands = ", ".join(f"{v.type} {v.ref}" for v in (test, a, b))
        self.line(f"{result.ref} = select {operands}")
        return result

    def cast(self, opcode: str, a: Value, ty: str) -> Value:
        """A conversion: `cast("sitofp", a, "double")`, `cast("bitcast", a, "i32")`."""
        result = Value(self.fresh(), ty, a.lanes)
        self.line(f"{result.ref} = {opcode} {a.type} {a.ref} to {result.type}")
        return result

    def intrinsic(self, name: str, *args: Value, flags: str = "") -> Value:
        """A call of an intrinsic overloaded on its one type: `intrinsic("fma", a, b, c)`."""
        full = f"llvm.{name}.{mangled(args[0].ty, args[0].lanes)}"
        return self.call(full, args[0].ty, args[0].lanes, args, flags=flags)

    def call(self, name: str, ty: str, lanes: int, args: Sequence[Value], flags: str = "") -> Value:
        """A call of a function; unless the module defines it, it is declared on the way."""
        result = Value(self.fresh(), ty, lanes)
        types = ", ".join(a.type for a in args)
        if name not in self.module.functions:
            self.module.declare(name, f"declare {result.type} @{name}({types})")
        operands = ", ".join(f"{a.type} {a.ref}" for a in args)
        self.line(
            f"{result.ref} = call {flags}{' ' if flags else ''}{result.type} @{name}({operands})"
        )
        return result

    # -- lanes --------------------------------------------------------------------------

    def splat(self, a: Value, lanes: int) -> Value:
        """A scalar in every lane of a vector."""
        if lanes == a.lanes:
            return a
        if a.ref[0] != "%":
            return Value(f"splat ({a.ty} {a.ref})", a.ty, lanes)
        one = Value(self.fresh(), a.ty, lanes)
        self.line(f"{one.ref} = insertelement {one.type} poison, {a.ty} {a.ref}, i64 0")
        return self.shuffle(one, [0] * lanes)

    def shuffle(self, a: Value, picks: Sequence[int], b: Value | None = None) -> Value:
        """The lanes `picks` of a vector, or of two, one behind the other; -1 is any number."""
        if a.lanes == 1 and b is None:
            return self.splat(a, len(picks))
        if len(picks) == 1:
            if b is None or picks[0] < a.lanes:
                return self.extract(a, picks[0])
            return self.extract(b, picks[0] - a.lanes)
        result = Value(self.fresh(), a.ty, len(picks))
        second = "poison" if b is None else b.ref
        mask = ", ".join(f"i32 {p}" if p >= 0 else "i32 poison" for p in picks)
        self.line(
            f"{result.ref} = shufflevector {a.type} {a.ref}, {a.type} {second}, "
            f"<{len(picks)} x i32> <{mask}>"
        )
        return result

    def transposed(self, rows: Sequence[Value], side: int) -> list[Value]:
        """Squares of lanes, side by side in so many rows, their rows as columns.

        Quarters change places, on every scale.
        """
        found, n = list(rows), rows[0].lanes
        for level in range(side.bit_length() - 1):
            far = 1 << level
            own = [k if not k & far else n + (k ^ far) for k in range(n)]
            other = [k ^ far if not k & far else n + k for k in range(n)]
            for k in range(side):
                if not k & far:
                    a, b = found[k], found[k | far]
                    found[k], found[k | far] = self.shuffle(a, own, b), self.shuffle(a, other, b)
        return found

    def extract(self, a: Value, lane: int) -> Value:
        if a.lanes == 1:
            return a
        result = Value(self.fresh(), a.ty)
        self.line(f"{result.ref} = extractelement {a.type} {a.ref}, i64 {lane}")
        return result

    def insert(self, a: Value, element: Value, lane: int) -> Value:
        result = Value(self.fresh(), a.ty, a.lanes)
        self.line(
            f"{result.ref} = insertelement {a.type} {a.ref}, {element.type} {element.ref}, "
            f"i64 {lane}"
        )
        return result

    def any(self, test: Value) -> Value:
        """Whether an i1 is true in any lane."""
        if test.lanes == 1:
            return test
        return self.call(f"llvm.vector.reduce.or.{mangled('i1', test.lanes)}", "i1", 1, [test])

    # -- memory -------------------------------------------------------------------------

    def offset(self, base: Value, ty: str, index: Value) -> Value:
        """The address of element `index` of an array of scalars of this type."""
        result = Value(self.fresh(), "ptr")
        self.line(f"{result.ref} = getelementptr {ty}, ptr {base.ref}, i64 {index.ref}")
        return result

    def in_memory(self, value: Value) -> Value:
        """The address of a copy of a vector's elements."""
        slot = Value(self.fresh(), "ptr")
        self.allocas.append(f"  {slot.ref} = alloca [{value.lanes} x {value.ty}], align 64")
        self.store(value, slot)
        return slot

    def load(self, address: Value, ty: str, lanes: int = 1) -> Value:
        """Aligned as a single element is."""
        result = Value(self.fresh(), ty, lanes)
        align = max(BITS[ty] // 8, 1)
        self.line(f"{result.ref} = load {result.type}, ptr {address.ref}, align {align}")
        return result

    def masked_load(self, address: Value, ty: str, mask: Value) -> Value:
        """A vector, zero where the mask leaves it out.

        Its address must be one of the program's even where the mask is empty: processors are slow
        in finding that what they may not read is not asked for.
        """
        result = Value(self.fresh(), ty, mask.lanes)
        name = f"llvm.masked.load.{mangled(ty, mask.lanes)}.p0"
        types = f"ptr, i32, {mask.type}, {result.type}"
        self.module.declare(name, f"declare {result.type} @{name}({types})")
        self.line(
            f"{result.ref} = call {result.type} @{name}(ptr {address.ref}, "
            f"i32 {max(BITS[ty] // 8, 1)}, {mask.type} {mask.ref}, {result.type} zeroinitializer)"
        )
        return result

    def masked_store(self, value: Value, address: Value, mask: Value) -> None:
        name = f"llvm.masked.store.{mangled(value.ty, value.lanes)}.p0"
        self.module.declare(name, f"declare void @{name}({value.type}, ptr, i32, {mask.type})")
        self.line(
            f"call void @{name}({value.type} {value.ref}, ptr {address.ref}, "
            f"i32 {max(BITS[value.ty] // 8, 1)}, {mask.type} {mask.ref})"
        )

    def store(self, value: Value, address: Value) -> None:
        align = max(BITS[value.ty] // 8, 1)
        self.line(f"store {value.type} {value.ref}, ptr {address.ref}, align {align}")
