"""Scalar operations as LLVM instructions, for any number of lanes.

`SCALAR[name].write(w, dtype, *values)` computes in `dtype`, that of its operands; what it means is
what NumPy's ufunc of that name does, NaN, infinities and signed zeros included.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.llvm.ir.functions import FUNCTIONS
from funcgrad.backends.llvm.ir.types import SUPPORTED, llvm_type
from funcgrad.backends.llvm.ir.writer import BITS, FLOATS, Value, Writer, mangled
from funcgrad.records import NamedTuple

Emit = Callable[..., Value]
BOOL = np.dtype(bool)
# x86 gives one integer for all numbers that it cannot convert; others give the nearest.
_INDEFINITE = platform.machine().lower() in ("x86_64", "amd64")


def constant(w: Writer, value: Any, dtype: np.dtype, lanes: int = 1) -> Value:
    return w.const(np.asarray(value, dtype).item(), llvm_type(dtype), lanes)


# --- conversions ----------------------------------------------------------------------


def convert(w: Writer, value: Value, have: np.dtype, want: np.dtype) -> Value:
    """A value as another dtype, as `astype` does it."""
    if have == want:
        return value
    ty = llvm_type(want)
    if want.kind == "b":
        compare = "fcmp une" if have.kind == "f" else "icmp ne"
        return w.compare(compare, value, w.like(0, value))
    if have.kind == "f" and want.kind == "f":
        return w.cast("fpext" if want.itemsize > have.itemsize else "fptrunc", value, ty)
    if want.kind == "f":
        return w.cast("sitofp" if have.kind == "i" else "uitofp", value, ty)
    if have.kind == "f":
        return _float_to_integer(w, value, want)
    return _resize(w, value, have, ty)


def _resize(w: Writer, value: Value, have: np.dtype, ty: str) -> Value:
    if BITS[ty] == BITS[value.ty]:
        return value
    if BITS[ty] < BITS[value.ty]:
        return w.cast("trunc", value, ty)
    return w.cast("sext" if have.kind == "i" else "zext", value, ty)


def _float_to_integer(w: Writer, value: Value, want: np.dtype) -> Value:
    """What C, and so NumPy, leaves open for NaN and what is out of range, as processors have it.

    They convert to integers of 32 or 64 bits, of which narrower ones take the last bits.
    """
    through = "i32" if want.itemsize <= 2 or want == np.int32 else "i64"
    if _INDEFINITE:
        convert = _unsigned if want == np.uint64 else _signed
        whole = convert(w, value, through)
    else:
        sign = "u" if want == np.uint64 else "s"
        types = f"{mangled(through, value.lanes)}.{mangled(value.ty, value.lanes)}"
        whole = w.call(f"llvm.fpto{sign}i.sat.{types}", through, value.lanes, [value])
    target = llvm_type(want)
    return whole if target == through else w.cast("trunc", whole, target)


def _signed(w: Writer, value: Value, ty: str) -> Value:
    """A signed integer; the least one for NaN and what is out of range, as x86 has it."""
    limit = 2.0 ** (BITS[ty] - 1)
    # Only doubles lie between the least number of 32 bits and the next whole one below it.
    least = -limit - 1 if (value.ty, ty) == ("double", "i32") else -limit
    above = w.compare("fcmp ogt" if least != -limit else "fcmp oge", value, w.like(least, value))
    inside = w.op("and", above, w.compare("fcmp olt", value, w.like(limit, value)))
    whole = w.cast("fptosi", w.select(inside, value, w.like(0, value)), ty)
    return w.select(inside, whole, w.like(-(1 << BITS[ty] - 1), whole))


def _unsigned(w: Writer, value: Value, ty: str) -> Value:
    """An unsigned integer of 64 bits, made of a signed one as compilers do it for x86."""
    half = w.like(2.0**63, value)
    large = w.compare("fcmp oge", value, half)
    whole = _signed(w, w.select(large, w.op("fsub", value, half), value), ty)
    return w.select(large, w.op("xor", whole, w.like(-(1 << 63), whole)), whole)


# --- tables ---------------------------------------------------------------------------


def _typed(f: str | None, i: str | None, u: str | None = None, b: str | None = None) -> Emit:
    """One instruction for each kind of numbers; unsigned as signed unless it differs."""

    def emit(w: Writer, dtype: np.dtype, *args: Value) -> Value:
        opcode = {"f": f, "i": i, "u": u or i, "b": b}[dtype.kind]
        if opcode is None:
            raise NotImplementedError(dtype)
        return w.op(opcode, *args)

    return emit


def _comparison(ordered: str, integer: str, unsigned: str) -> Emit:
    def emit(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
        opcode = {"f": f"fcmp {ordered}", "i": f"icmp {integer}"}.get(dtype.kind)
        return w.compare(opcode or f"icmp {unsigned}", x, y)

    return emit


def _intrinsic(name: str) -> Emit:
    return lambda w, dtype, *args: w.intrinsic(name, *args)


def _function(name: str) -> Emit:
    def emit(w: Writer, dtype: np.dtype, *args: Value) -> Value:
        if args[0].lanes > 1:
            return FUNCTIONS[name](w, *args)
        # A single number's bits would travel between two kinds of registers; a vector's stay.
        lanes = 128 // BITS[args[0].ty]
        return w.extract(FUNCTIONS[name](w, *(w.splat(a, lanes) for a in args)), 0)

    return emit


def _is_float(x: Value) -> bool:
    return x.ty in FLOATS


def _negative(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return w.op("fneg", x) if _is_float(x) else w.op("sub", w.like(0, x), x)


def _absolute(w: Writer, dtype: np.dtype, x: Value) -> Value:
    if _is_float(x):
        return w.intrinsic("fabs", x)
    if dtype.kind != "i":
        return x
    negative = w.compare("icmp slt", x, w.like(0, x))
    return w.select(negative, w.op("sub", w.like(0, x), x), x)


def _square(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return w.op("fmul" if _is_float(x) else "mul", x, x)


def _reciprocal(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return w.op("fdiv", w.like(1, x), x)


def _is_nan(w: Writer, x: Value) -> Value:
    return w.compare("fcmp uno", x, x)


def _extremum(less: str, float_name: str, ignore_nan: bool) -> Emit:
    """maximum, minimum (NaN wins) or fmax, fmin (NaN loses); of equal zeros the first."""

    def emit(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
        if dtype.kind == "f":
            if ignore_nan:
                # x unless y beats it or x is NaN; a NaN y never compares.
                beats = w.compare(f"fcmp {float_name}", y, x)
                return w.select(w.op("or", beats, _is_nan(w, x)), y, x)
            # x where it is not beaten or is itself NaN; a NaN y beats any number.
            beats = w.compare(f"fcmp {'u' + float_name[1:]}", y, x)
            taken = w.select(beats, y, x)
            return w.select(_is_nan(w, x), x, taken)
        if dtype.kind == "b":
            return w.op("or" if less == "gt" else "and", x, y)
        sign = "s" if dtype.kind == "i" else "u"
        return w.select(w.compare(f"icmp {sign}{less}", x, y), x, y)

    return emit


def _logical(opcode: str) -> Emit:
    def emit(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
        return w.op(opcode, _truth(w, dtype, x), _truth(w, dtype, y))

    return emit


def _truth(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return convert(w, x, dtype, np.dtype(bool))


def _not(w: Writer, x: Value) -> Value:
    return w.op("xor", x, w.like(1, x) if x.ty == "i1" else w.like(-1, x))


def _invert(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return _not(w, x)


def _logical_not(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return _not(w, _truth(w, dtype, x))


def _sign(w: Writer, dtype: np.dtype, x: Value) -> Value:
    zero, one = w.like(0, x), w.like(1, x)
    if _is_float(x):
        above = w.compare("fcmp ogt", x, zero)
        below = w.compare("fcmp olt", x, zero)
        # NaN stays, and so does the zero's being positive.
        other = w.select(_is_nan(w, x), x, zero)
        return w.select(above, one, w.select(below, w.like(-1, x), other))
    positive = w.cast("zext", w.compare("icmp ne", x, zero), x.ty)
    if dtype.kind != "i":
        return positive
    return w.select(w.compare("icmp slt", x, zero), w.like(-1, x), positive)


def _bits(w: Writer, x: Value) -> Value:
    return w.cast("bitcast", x, f"i{BITS[x.ty]}")


def _signbit(w: Writer, dtype: np.dtype, x: Value) -> Value:
    bits = _bits(w, x) if _is_float(x) else x
    return w.compare("icmp slt", bits, w.like(0, bits))


def _isfinite(w: Writer, dtype: np.dtype, x: Value) -> Value:
    if not _is_float(x):
        return w.const(1, "i1", x.lanes)
    return w.compare("fcmp olt", w.intrinsic("fabs", x), w.like(float("inf"), x))


def _isinf(w: Writer, dtype: np.dtype, x: Value) -> Value:
    if not _is_float(x):
        return w.const(0, "i1", x.lanes)
    return w.compare("fcmp oeq", w.intrinsic("fabs", x), w.like(float("inf"), x))


def _isnan(w: Writer, dtype: np.dtype, x: Value) -> Value:
    return _is_nan(w, x) if _is_float(x) else w.const(0, "i1", x.lanes)


def _floor_divide(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
    if dtype.kind == "f":
        return FUNCTIONS["floor_divide"](w, x, y)
    return _integer_division(w, dtype, x, y)[0]


def _remainder(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
    if dtype.kind == "f":
        return FUNCTIONS["remainder"](w, x, y)
    return _integer_division(w, dtype, x, y)[1]


def _integer_division(w: Writer, dtype: np.dtype, x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient rounded down, and remainder; both 0 for a zero divisor, as NumPy has it."""
    zero, one = w.like(0, x), w.like(1, x)
    by_zero = w.compare("icmp eq", y, zero)
    if dtype.kind == "u":
        safe = w.select(by_zero, one, y)
        quotient, rest = w.op("udiv", x, safe), w.op("urem", x, safe)
    else:
        # The smallest integer by -1 overflows, which traps; negation wraps instead.
        by_minus_one = w.compare("icmp eq", y, w.like(-1, x))
        safe = w.select(w.op("or", by_zero, by_minus_one), one, y)
        quotient, rest = w.op("sdiv", x, safe), w.op("srem", x, safe)
        signs = w.compare("icmp slt", w.op("xor", rest, safe), zero)
        down = w.op("and", signs, w.compare("icmp ne", rest, zero))
        quotient = w.op("sub", quotient, w.cast("zext", down, x.ty))
        rest = w.op("add", rest, w.select(down, safe, zero))
        quotient = w.select(by_minus_one, w.op("sub", zero, x), quotient)
        rest = w.select(by_minus_one, zero, rest)
    return w.select(by_zero, zero, quotient), w.select(by_zero, zero, rest)


def _shift(opcode: str, unsigned: str) -> Emit:
    def emit(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
        width = BITS[x.ty]
        code = opcode if dtype.kind == "i" else unsigned
        over = w.compare("icmp uge", y, w.like(width, y))
        shifted = w.op(code, x, w.select(over, w.like(0, y), y))
        if code == "ashr":
            return w.select(over, w.op("ashr", x, w.like(width - 1, x)), shifted)
        return w.select(over, w.like(0, x), shifted)

    return emit


def _copysign(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
    return w.intrinsic("copysign", x, y)


def _heaviside(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
    zero = w.like(0, x)
    below = w.select(w.compare("fcmp olt", x, zero), zero, w.like(1, x))
    known = w.select(w.compare("fcmp oeq", x, zero), y, below)
    return w.select(_is_nan(w, x), x, known)


def _where(w: Writer, dtype: np.dtype, test: Value, x: Value, y: Value) -> Value:
    return w.select(test, x, y)


def _split_ties(w: Writer, dtype: np.dtype, g: Value, x: Value, y: Value) -> Value:
    at_least = w.select(w.compare("fcmp oge", x, y), g, w.like(0, g))
    half = w.op("fmul", at_least, w.like(0.5, g))
    return w.select(w.compare("fcmp oeq", x, y), half, at_least)


def _stop_gradient_unless(w: Writer, dtype: np.dtype, x: Value, mask: Value) -> Value:
    return x


def _scaled(factor: float) -> Emit:
    return lambda w, dtype, x: w.op("fmul", x, w.like(factor, x))


def _xlog(name: str, neutral: float) -> Emit:
    """x * log(y), with 0 * log(0) = 0."""

    def emit(w: Writer, dtype: np.dtype, x: Value, y: Value) -> Value:
        nothing = w.op("and", w.compare("fcmp oeq", x, w.like(0, x)), w.compare("fcmp ord", y, y))
        safe = w.select(nothing, w.like(neutral, y), y)
        return w.op("fmul", x, FUNCTIONS[name](w, safe))

    return emit


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _threefry(finish: Callable[[Writer, Value, Value], Value]) -> Emit:
    """Threefry-2x32 with 20 rounds, as in `primitives/_threefry.py`, which has the source."""

    def emit(w: Writer, dtype: np.dtype, k0: Value, k1: Value, x0: Value, x1: Value) -> Value:
        parity = w.op("xor", w.op("xor", k0, k1), w.like(0x1BD11BDA, k0))
        schedule = (k0, k1, parity)
        x0, x1 = w.op("add", x0, k0), w.op("add", x1, k1)
        for i in range(5):
            for r in _ROTATIONS[i % 2]:
                x0 = w.op("add", x0, x1)
                x1 = w.op("xor", w.intrinsic("fshl", x1, x1, w.like(r, x1)), x0)
            x0 = w.op("add", x0, schedule[(i + 1) % 3])
            x1 = w.op("add", w.op("add", x1, schedule[(i + 2) % 3]), w.like(i + 1, x1))
        return finish(w, x0, x1)

    return emit


def _words_together(w: Writer, x0: Value, x1: Value) -> Value:
    high, low = (w.cast("zext", x, "i64") for x in (x0, x1))
    return w.op("or", w.op("shl", high, w.like(32, high)), low)


class Operation(NamedTuple):
    """How an operation is written, the kinds of numbers that it computes with, and the operand
    whose dtype it computes in."""

    kinds: str
    write: Emit
    like: int = 0


SCALAR: dict[str, Operation] = {
    "threefry_first": Operation("u", _threefry(lambda w, x0, x1: x0)),
    "threefry_second": Operation("u", _threefry(lambda w, x0, x1: x1)),
    "threefry_both": Operation("u", _threefry(_words_together)),
    "threefry_folded": Operation("u", _threefry(lambda w, x0, x1: w.op("xor", x0, x1))),
    "add": Operation("fiub", _typed("fadd", "add", b="or")),
    "sub": Operation("fiu", _typed("fsub", "sub")),
    "mul": Operation("fiub", _typed("fmul", "mul", b="and")),
    "div": Operation("f", _typed("fdiv", None)),
    "neg": Operation("fiu", _negative),
    "square": Operation("fiu", _square),
    "reciprocal": Operation("f", _reciprocal),
    "abs": Operation("fiub", _absolute),
    "sqrt": Operation("f", _intrinsic("sqrt")),
    "root": Operation("f", _intrinsic("sqrt")),
    "fma": Operation("f", _intrinsic("fma")),
    "floor": Operation("f", _intrinsic("floor")),
    "ceil": Operation("f", _intrinsic("ceil")),
    "trunc": Operation("f", _intrinsic("trunc")),
    "rint": Operation("f", _intrinsic("rint")),
    "copysign": Operation("f", _copysign),
    "sign": Operation("fiu", _sign),
    "signbit": Operation("fiu", _signbit),
    "isfinite": Operation("fiub", _isfinite),
    "isinf": Operation("fiub", _isinf),
    "isnan": Operation("fiub", _isnan),
    "maximum": Operation("fiub", _extremum("gt", "ogt", False)),
    "minimum": Operation("fiub", _extremum("lt", "olt", False)),
    "fmax": Operation("fiub", _extremum("gt", "ogt", True)),
    "fmin": Operation("fiub", _extremum("lt", "olt", True)),
    "heaviside": Operation("f", _heaviside),
    "where": Operation("fiub", _where, like=1),
    "split_ties": Operation("f", _split_ties),
    "stop_gradient_unless": Operation("fiub", _stop_gradient_unless),
    "equal": Operation("fiub", _comparison("oeq", "eq", "eq")),
    "not_equal": Operation("fiub", _comparison("une", "ne", "ne")),
    "less": Operation("fiub", _comparison("olt", "slt", "ult")),
    "less_equal": Operation("fiub", _comparison("ole", "sle", "ule")),
    "greater": Operation("fiub", _comparison("ogt", "sgt", "ugt")),
    "greater_equal": Operation("fiub", _comparison("oge", "sge", "uge")),
    "logical_and": Operation("fiub", _logical("and")),
    "logical_or": Operation("fiub", _logical("or")),
    "logical_xor": Operation("fiub", _logical("xor")),
    "logical_not": Operation("fiub", _logical_not),
    "bitwise_and": Operation("iub", _typed(None, "and", b="and")),
    "bitwise_or": Operation("iub", _typed(None, "or", b="or")),
    "bitwise_xor": Operation("iub", _typed(None, "xor", b="xor")),
    "invert": Operation("iub", _invert),
    "left_shift": Operation("iu", _shift("shl", "shl")),
    "right_shift": Operation("iu", _shift("ashr", "lshr")),
    "floor_divide": Operation("fiu", _floor_divide),
    "remainder": Operation("fiu", _remainder),
    "deg2rad": Operation("f", _scaled(np.pi / 180)),
    "rad2deg": Operation("f", _scaled(180 / np.pi)),
    "xlogy": Operation("f", _xlog("log", 1)),
    "xlog1py": Operation("f", _xlog("log1p", 0)),
    "erfinv_of_draws": Operation("f", _function("erfinv")),
}
# The others are functions of floats and nothing else.
SCALAR |= {n: Operation("f", _function(n)) for n in FUNCTIONS if n not in SCALAR}


def supports(name: str, *dtypes: np.dtype) -> bool:
    """Whether an operation on operands of these dtypes can be written."""
    operation = SCALAR.get(name)
    if operation is None:
        return False
    dtype = dtypes[operation.like]
    # What it does not compute in can but choose.
    others = all(d in (dtype, BOOL) for d in dtypes)
    return dtype in SUPPORTED and dtype.kind in operation.kinds and others


def apply(w: Writer, name: str, dtypes: Sequence[np.dtype], args: Sequence[Value]) -> Value:
    """The result of one operation on operands of these dtypes."""
    operation = SCALAR[name]
    return operation.write(w, dtypes[operation.like], *args)


# --- reductions -----------------------------------------------------------------------


def identity(op: str, dtype: np.dtype) -> Any:
    """The number that changes nothing when it is combined."""
    if op in ("add", "logical_or"):
        # The other zero would make a sum of negative zeros positive.
        return -0.0 if dtype.kind == "f" else 0
    if op in ("mul", "logical_and"):
        return 1
    lowest = op == "maximum"
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    info = np.iinfo(dtype)
    return info.min if lowest else info.max


def combine(w: Writer, op: str, dtype: np.dtype, x: Value, y: Value) -> Value:
    """Two parts of a reduction as one."""
    return apply(w, op, (dtype, dtype), (x, y))
