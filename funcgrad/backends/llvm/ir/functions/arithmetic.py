"""Formulas over floats as LLVM IR: a `Term` is a `Value` with the writer that holds it.

Nothing is contracted or reordered: `a * b + c` rounds twice and `fma(a, b, c)` once, so a
formula means the same on every machine and for any number of lanes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from funcgrad.backends.llvm.ir.writer import Value, Writer
from funcgrad.records import NamedTuple


class Format(NamedTuple):
    """A binary floating-point format.

    Attributes:
        bits: the type of the integer of its width.
        fraction: how many bits the fraction has.
        bias: what is added to the exponent.
        rounder: 1.5 * 2**fraction: added to a small number, leaves its nearest integer in the
            low bits of the sum.
    """

    bits: str
    fraction: int
    bias: int
    rounder: float

    @property
    def least(self) -> float:
        """The least normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def width(self) -> int:
        return self.fraction + self.bias.bit_length() + 2

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.width - 1)


FORMATS = {
    "float": Format("i32", 23, 127, 1.5 * 2.0**23),
    "double": Format("i64", 52, 1023, 1.5 * 2.0**52),
}


class Term:
    """A number in each lane. Python's numbers may stand beside it in any operation."""

    __slots__ = ("value", "w")

    def __init__(self, w: Writer, value: Value):
        self.w = w
        self.value = value

    @property
    def format(self) -> Format:
        return FORMATS[self.value.ty]

    @property
    def single(self) -> bool:
        return self.value.ty == "float"

    @property
    def literal(self) -> float | None:
        """The number, where it is the same constant in every lane."""
        ref = self.value.ref
        found = [] if ref.startswith("%") else re.findall(r"0x([0-9A-F]{16})\b", ref)
        if len(set(found)) != 1 or len(found) <= ref.count(","):
            return None
        return struct.unpack(">d", bytes.fromhex(found[0]))[0]

    def lift(self, other: Operand) -> Value:
        """`other` as a value of this type."""
        return other.value if isinstance(other, Term) else self.w.like(other, self.value)

    def _op(self, name: str, other: Operand, swapped: bool = False) -> Term:
        prefix = "f" if self.value.ty in FORMATS else ""
        pair = (self.lift(other), self.value) if swapped else (self.value, self.lift(other))
        return Term(self.w, self.w.op(prefix + name, *pair))

    def _compare(self, test: str, other: Operand) -> Term:
        if self.value.ty in FORMATS:
            opcode = f"fcmp {'une' if test == 'ne' else 'o' + test}"
        else:
            opcode = f"icmp {test if test in ('eq', 'ne') else 's' + test}"
        return Term(self.w, self.w.compare(opcode, self.value, self.lift(other)))

    def __add__(self, other: Operand) -> Term:
        return self._op("add", other)

    def __radd__(self, other: Operand) -> Term:
        return self._op("add", other)

    def __sub__(self, other: Operand) -> Term:
        return self._op("sub", other)

    def __rsub__(self, other: Operand) -> Term:
        return self._op("sub", other, swapped=True)

    def __mul__(self, other: Operand) -> Term:
        return self._op("mul", other)

    def __rmul__(self, other: Operand) -> Term:
        return self._op("mul", other)

    def __truediv__(self, other: Operand) -> Term:
        return self._op("div", other)

    def __rtruediv__(self, other: Operand) -> Term:
        return self._op("div", other, swapped=True)

    def __neg__(self) -> Term:
        return Term(self.w, self.w.op("fneg", self.value))

    def __abs__(self) -> Term:
        return Term(self.w, self.w.intrinsic("fabs", self.value))

    def __lt__(self, other: Operand) -> Term:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Term:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Term:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Term:
        return self._compare("ge", other)

    def equals(self, other: Operand) -> Term:
        return self._compare("eq", other)

    def differs(self, other: Operand) -> Term:
        """Also true where one is NaN."""
        return self._compare("ne", other)

    def unordered(self, other: Operand) -> Term:
        """Whether one is NaN."""
        return Term(self.w, self.w.compare("fcmp uno", self.value, self.lift(other)))

    def negated(self) -> Term:
        """Not, of a truth value."""
        return self ^ 1

    def __and__(self, other: Operand) -> Term:
        return Term(self.w, self.w.op("and", self.value, self.lift(other)))

    def __or__(self, other: Operand) -> Term:
        return Term(self.w, self.w.op("or", self.value, self.lift(other)))

    def __xor__(self, other: Operand) -> Term:
        return Term(self.w, self.w.op("xor", self.value, self.lift(other)))

    def __lshift__(self, count: int) -> Term:
        return Term(self.w, self.w.op("shl", self.value, self.lift(count)))

    def __rshift__(self, count: int) -> Term:
        """Keeps the sign."""
        return Term(self.w, self.w.op("ashr", self.value, self.lift(count)))

    @property
    def bits(self) -> Term:
        """A float's bits as an integer."""
        return Term(self.w, self.w.cast("bitcast", self.value, self.format.bits))

    @property
    def float(self) -> Term:
        """The float with these bits."""
        ty = "float" if self.value.ty == "i32" else "double"
        return Term(self.w, self.w.cast("bitcast", self.value, ty))

    def converted(self) -> Term:
        """An integer as a float of its width."""
        ty = "float" if self.value.ty == "i32" else "double"
        return Term(self.w, self.w.cast("sitofp", self.value, ty))

    def resized(self, ty: str) -> Term:
        """As a float of another width."""
        if ty == self.value.ty:
            return self
        opcode = "fpext" if ty == "double" else "fptrunc"
        return Term(self.w, self.w.cast(opcode, self.value, ty))


Operand = Term | float


def constant(like: Term, value: float) -> Term:
    return Term(like.w, like.lift(value))


def fma(a: Operand, b: Operand, c: Operand) -> Term:
    """a * b + c, rounded once."""
    some = next(v for v in (a, b, c) if isinstance(v, Term))
    return Term(some.w, some.w.intrinsic("fma", some.lift(a), some.lift(b), some.lift(c)))


def select(test: Term, a: Operand, b: Operand) -> Term:
    some = next(v for v in (a, b) if isinstance(v, Term))
    return Term(some.w, some.w.select(test.value, some.lift(a), some.lift(b)))


def choose(test: Term, like: Term, a: float, b: float) -> Term:
    """One of two constants of the type of `like`."""
    return select(test, constant(like, a), b)


def at_most(x: Term, bound: Operand) -> Term:
    """The lesser; NaN where x is."""
    return select(Term(x.w, x.w.compare("fcmp olt", x.lift(bound), x.value)), bound, x)


def at_least(x: Term, bound: Operand) -> Term:
    """The greater; NaN where x is."""
    return select(Term(x.w, x.w.compare("fcmp ogt", x.lift(bound), x.value)), bound, x)


def intrinsic(name: str, *args: Term) -> Term:
    return Term(args[0].w, args[0].w.intrinsic(name, *(a.value for a in args)))


def sqrt(x: Term) -> Term:
    return intrinsic("sqrt", x)


def copysign(size: Term, sign: Term) -> Term:
    return intrinsic("copysign", size, sign)


def polynomial(x: Term, coefficients: Sequence[Operand], square: Term | None = None) -> Term:
    """The polynomial, lowest order first.

    Even and odd powers run side by side where the chain would be long: half the latency for
    one product more, or none where the square of x is given. A few lanes wait for each result,
    as in a loop whose steps follow from each other: for them Estrin's scheme, the shortest
    chain.
    """
    if x.value.lanes * x.format.width <= 128 and len(coefficients) > 3:
        return _estrin(x, coefficients)
    if len(coefficients) < (8 if square is None else 5):
        return _horner(x, coefficients)
    square = x * x if square is None else square
    return fma(x, _horner(square, coefficients[1::2]), _horner(square, coefficients[::2]))


def _horner(x: Term, coefficients: Sequence[Operand]) -> Term:
    total: Operand = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = fma(total, x, c)
    return total if isinstance(total, Term) else constant(x, total)


def _estrin(x: Term, coefficients: Sequence[Operand]) -> Term:
    """Neighbours in pairs, the pairs in pairs, and so on, each level by the square of the last."""
    terms = list(coefficients)
    while len(terms) > 1:
        pairs = zip(terms[1::2], terms[::2], strict=False)
        rest = terms[-1:] if len(terms) % 2 else []
        terms = [fma(x, high, low) for high, low in pairs] + rest
        if len(terms) > 1:
            x = x * x
    (total,) = terms
    return total if isinstance(total, Term) else constant(x, total)


def on_values(formula: Callable[..., Term]) -> Callable[..., Value]:
    """A formula over terms as a function of a writer and values."""

    def write(w: Writer, *values: Value) -> Value:
        return formula(*(Term(w, v) for v in values)).value

    write.__name__ = formula.__name__
    write.__doc__ = formula.__doc__
    return write
