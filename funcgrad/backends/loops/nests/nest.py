"""Loop nests: a small typed language for kernels, between graphs and machine code.

A kernel runs over *rows*, which threads share, and within a row over *inner* axes, whose last
is vectorised. A row's statements are loads, scalar operations, stores, and loops over the
inner axes; each loop is one pass over the row, and what it reduces is known behind it. What is
reduced over rows is accumulated in memory: in a part of each chunk's own, which are added up in
order in the end, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import short_dtype
from funcgrad.core.printing import letters
from funcgrad.errors import GraphError
from funcgrad.records import NamedTuple, Record

REDUCTIONS = ("add", "mul", "maximum", "minimum", "logical_or", "logical_and")


class Axis:
    """A loop's variable, known by identity; `outer` ones count rows."""

    __slots__ = ("extent", "outer")

    def __init__(self, extent: int, outer: bool):
        self.extent = extent
        self.outer = outer


class Ref:
    """A scalar, assigned once; level 0: the kernel's, 1: a row's, 2: an inner loop's."""

    __slots__ = ("dtype", "level")

    def __init__(self, dtype: np.dtype, level: int):
        self.dtype = dtype
        self.level = level


class Literal(NamedTuple):
    """A number in place."""

    value: Any
    dtype: np.dtype

    @property
    def level(self) -> int:
        return 0


Operand = Ref | Literal


class Index(NamedTuple):
    """Which element: `const + sum(axis * step) + sum(value * step)`."""

    const: int
    terms: tuple[tuple[Axis, int], ...] = ()
    dynamic: tuple[tuple[Ref, int], ...] = ()

    def step(self, axis: Axis) -> int:
        return sum(step for a, step in self.terms if a is axis)

    @property
    def level(self) -> int:
        levels = [1 if a.outer else 2 for a, _ in self.terms]
        return max([*levels, *(ref.level for ref, _ in self.dynamic)], default=0)


def affine(const: int, terms: Sequence[tuple[Axis, int]]) -> Index:
    """An index with the terms of each axis collected."""
    steps: dict[Axis, int] = {}
    for axis, step in terms:
        steps[axis] = steps.get(axis, 0) + step
    return Index(const, tuple((a, s) for a, s in steps.items() if s and a.extent > 1))


class Load(NamedTuple):
    out: Ref
    array: int
    index: Index


class Op(NamedTuple):
    """`out = name(*args)`; the operands have been converted to the dtype it computes in.

    `cost` is what it takes in cheap operations.
    """

    out: Ref
    name: str
    args: tuple[Operand, ...]
    cost: int = 1


class Position(NamedTuple):
    """An index's own value as a number."""

    out: Ref
    index: Index


class Store(NamedTuple):
    array: int
    index: Index
    value: Operand


class Combine(NamedTuple):
    """`array[index] = op(array[index], value)`."""

    array: int
    index: Index
    op: str
    value: Operand


class Check(NamedTuple):
    """Report an error unless 0 <= value < extent, of unsigned numbers.

    What is reported is a code, where there is one, in place of the extent.
    """

    value: Ref
    extent: int
    code: int = 0


class Reduction(NamedTuple):
    out: Ref
    op: str
    value: Operand


class Loop(NamedTuple):
    """One pass over inner axes: the body for each element, then what it reduces."""

    axes: tuple[Axis, ...]
    body: list[Any]
    reductions: list[Reduction]


class Rows(NamedTuple):
    """Statements for the rows whose position on an axis lies in a range."""

    axis: Axis
    begin: int
    end: int
    body: list[Any]


# Statements that have an index (every tuple has an attribute of that name).
INDEXED = (Load, Store, Combine, Position)


class Param(NamedTuple):
    """An array that a kernel is given: "in", "out", "scratch" (a row's, one for each thread at
    work) or "partial" (one for each chunk, combined into the result `into`)."""

    dtype: np.dtype
    size: int
    role: str
    into: int = -1
    op: str = ""


class Kernel(Record):
    """A loop nest.

    Attributes:
        params: the arrays; statements name them by number.
        outer: the axes that count rows; without any, what threads share is the axis of each
            loop, of which every chunk takes an equal part.
        setup: statements that depend on no axis.
        body: the statements of a row.
        parallel: whether rows may be computed in any order, and several at once.
    """

    params: list[Param]
    outer: tuple[Axis, ...]
    setup: list[Any]
    body: list[Any]
    parallel: bool = True

    @property
    def rows(self) -> int:
        rows = 1
        for axis in self.outer:
            rows *= axis.extent
        return rows

    def passes(self) -> list[tuple[Loop, int]]:
        """Its loops, and in how many rows each of them runs."""
        return list(_passes(self.body, self.rows))

    def loops(self) -> list[Loop]:
        return [loop for loop, _ in self.passes()]

    @property
    def elements(self) -> int:
        """How many elements its passes visit in all."""
        each = [rows * prod(a.extent for a in loop.axes) for loop, rows in self.passes()]
        return max(sum(each), self.rows)

    def statements(self) -> Iterator[Any]:
        return _statements((*self.setup, *self.body))

    def check(self) -> Kernel:
        """Verify scoping, types and that constant bounds of accesses lie within the arrays.

        Raises:
            GraphError: the nest breaks a rule; the message has the statement.
        """
        _Checker(self).run()
        return self

    @cached_property
    def text(self) -> str:
        """What equal kernels are known by. Nobody changes a kernel that is printed."""
        return _Printer(self).text()

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class Kernels(tuple[Kernel, ...]):
    """Some loop nests, which print one below the other."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


def _passes(body: Sequence[Any], rows: int) -> Iterator[tuple[Loop, int]]:
    for s in body:
        if type(s) is Loop:
            yield s, rows
        elif type(s) is Rows:
            yield from _passes(s.body, rows * (s.end - s.begin) // s.axis.extent)


def _statements(body: Sequence[Any]) -> Iterator[Any]:
    for s in body:
        yield s
        if type(s) in (Loop, Rows):
            yield from _statements(s.body)


class _Checker:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.known: set[Ref] = set()
        self.ranges: dict[Axis, tuple[int, int]] = {}

    def run(self) -> None:
        kernel = self.kernel
        self.block(kernel.setup, ())
        self.block(kernel.body, kernel.outer)

    def block(self, statements: Sequence[Any], axes: tuple[Axis, ...]) -> None:
        for s in statements:
            if type(s) is Loop:
                before = set(self.known)
                self.block(s.body, (*axes, *s.axes))
                for r in s.reductions:
                    self._read(r.value, s)
                    if r.op not in REDUCTIONS:
                        raise GraphError(f"no reduction {r.op!r}")
                self.known = before
                for r in s.reductions:
                    self._define(r.out)
            elif type(s) is Rows:
                before = set(self.known)
                self.ranges[s.axis] = (s.begin, s.end)
                self.block(s.body, axes)
                self.known = before
                del self.ranges[s.axis]
            else:
                self._statement(s, axes)

    def _statement(self, s: Any, axes: tuple[Axis, ...]) -> None:
        if type(s) is Op:
            for a in s.args:
                self._read(a, s)
        elif type(s) in (Store, Combine):
            self._read(s.value, s)
            if s.value.dtype != self.kernel.params[s.array].dtype:
                raise GraphError(f"{s}: a {s.value.dtype} is stored in another array")
        elif type(s) is Check:
            self._read(s.value, s)
        if type(s) in (Load, Store, Combine, Position):
            self._index(s, axes)
        if isinstance(s, (Load, Op, Position)):
            self._define(s.out)

    def _index(self, s: Any, axes: tuple[Axis, ...]) -> None:
        for axis, _ in s.index.terms:
            if axis not in axes:
                raise GraphError(f"{s}: an axis outside its loop")
        for ref, _ in s.index.dynamic:
            self._read(ref, s)
        if type(s) is Position or s.index.dynamic:
            return
        low = high = s.index.const
        for axis, step in s.index.terms:
            begin, end = self.ranges.get(axis, (0, axis.extent))
            ends = (step * begin, step * (end - 1))
            low, high = low + min(ends), high + max(ends)
        if low < 0 or high >= self.kernel.params[s.array].size:
            size = self.kernel.params[s.array].size
            raise GraphError(f"{s}: elements {low} to {high} of an array of {size}")

    def _read(self, a: Operand, s: Any) -> None:
        if type(a) is Ref and a not in self.known:
            raise GraphError(f"{s}: reads a value before it is assigned")

    def _define(self, ref: Ref) -> None:
        if ref in self.known:
            raise GraphError("a value is assigned twice")
        self.known.add(ref)


class _Printer:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.names: dict[Any, str] = {}
        self.lines: list[str] = []

    def text(self) -> str:
        kernel = self.kernel
        arrays = ", ".join(
            f"{p.role} {short_dtype(p.dtype)} x{i}[{p.size}]" for i, p in enumerate(kernel.params)
        )
        self.lines.append(f"kernel({arrays}) {{")
        self._block(kernel.setup, "  ")
        indent = "  "
        for axis in kernel.outer:
            how = "parallel" if kernel.parallel else "for"
            self.lines.append(f"{indent}{how} {self._axis(axis)} < {axis.extent}:")
            indent += "  "
        self._block(kernel.body, indent)
        return "\n".join([*self.lines, "}"])

    def _axis(self, axis: Axis) -> str:
        if axis not in self.names:
            self.names[axis] = f"i{sum(type(k) is Axis for k in self.names)}"
        return self.names[axis]

    def _value(self, a: Any) -> str:
        if type(a) is Literal:
            return f"{a.value!r}" if not isinstance(a.value, np.generic) else str(a.value)
        if a not in self.names:
            self.names[a] = letters(sum(type(k) is Ref for k in self.names))
        return self.names[a]

    def _index(self, index: Index) -> str:
        parts = [
            self._axis(a) if step == 1 else f"{step}*{self._axis(a)}" for a, step in index.terms
        ]
        parts += [f"{step}*{self._value(ref)}" for ref, step in index.dynamic]
        if index.const or not parts:
            parts.append(str(index.const))
        return " + ".join(parts)

    def _define(self, ref: Ref) -> str:
        return f"{self._value(ref)}: {short_dtype(ref.dtype)}"

    def _block(self, statements: Sequence[Any], indent: str) -> None:
        for s in statements:
            kind = type(s)
            if kind is Load:
                line = f"{self._define(s.out)} = x{s.array}[{self._index(s.index)}]"
            elif kind is Op:
                line = f"{self._define(s.out)} = {s.name}({', '.join(map(self._value, s.args))})"
            elif kind is Position:
                line = f"{self._define(s.out)} = {self._index(s.index)}"
            elif kind is Store:
                line = f"x{s.array}[{self._index(s.index)}] = {self._value(s.value)}"
            elif kind is Combine:
                place = f"x{s.array}[{self._index(s.index)}]"
                line = f"{place} = {s.op}({place}, {self._value(s.value)})"
            elif kind is Check:
                line = f"check 0 <= {self._value(s.value)} < {s.extent}"
                line += f" (code {s.code})" if s.code else ""
            elif kind is Rows:
                self.lines.append(f"{indent}if {s.begin} <= {self._axis(s.axis)} < {s.end}:")
                self._block(s.body, indent + "  ")
                continue
            else:
                self._loop(s, indent)
                continue
            self.lines.append(indent + line)

    def _loop(self, loop: Loop, indent: str) -> None:
        deeper = indent
        for axis in loop.axes:
            self.lines.append(f"{deeper}for {self._axis(axis)} < {axis.extent}:")
            deeper += "  "
        self._block(loop.body, deeper)
        for r in loop.reductions:
            self.lines.append(f"{indent}{self._define(r.out)} = {r.op} over {self._value(r.value)}")
