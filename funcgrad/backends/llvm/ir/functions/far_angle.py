"""Angles too large for subtracting multiples of pi/2: M. Payne and R. Hanek's method (1983).

The bits of 2/pi that matter to the number at hand are multiplied with it as integers. That is
long and seldom needed: a function of its own does it, one lane after the other.
"""

from __future__ import annotations

from functools import cache

from funcgrad.backends.llvm.ir.writer import Module, Value, Writer, mangled

# As many bits of 2/pi as the greatest double needs, in words with some to spare.
_BITS = 1216
_WORDS = _BITS // 64 + 4
_TABLE = "funcgrad.two_over_pi"
_SCALAR = "funcgrad.angle"


def far_angle(w: Writer, x: Value) -> Value:
    """The doubles r of the lanes of x >= 1, and behind them n modulo 4: x = n pi/2 + r."""
    name = f"{_SCALAR}.{mangled(x.ty, x.lanes)}"
    if name not in w.module.functions:
        _define_scalar(w.module)
        w.module.define(name, _lane_by_lane(w.module, name, x))
    return w.call(name, "double", 2 * x.lanes, [x])


def _lane_by_lane(module: Module, name: str, x: Value) -> str:
    w = Writer(module)
    result = Value("", "double", 2 * x.lanes)
    wide = x._replace(ref="%x")
    if x.ty == "float":
        wide = w.cast("fpext", wide, "double")
    inputs, outputs = Value("%inputs", "ptr"), Value("%outputs", "ptr")
    w.line(f"{inputs.ref} = alloca {wide.type}")
    w.line(f"{outputs.ref} = alloca {result.type}")
    w.store(wide, inputs)
    w.branch("loop")
    w.label("loop")
    lane = Value("%lane", "i64")
    w.line("%lane = phi i64 [0, %entry], [%next, %loop]")
    pair = w.call(_SCALAR, "double", 2, [w.load(w.offset(inputs, "double", lane), "double")])
    behind = w.op("add", lane, w.like(x.lanes, lane))
    w.store(w.extract(pair, 0), w.offset(outputs, "double", lane))
    w.store(w.extract(pair, 1), w.offset(outputs, "double", behind))
    w.line("%next = add i64 %lane, 1")
    more = w.compare("icmp slt", Value("%next", "i64"), w.like(x.lanes, lane))
    w.branch_if(more, "loop", "done")
    w.label("done")
    packed = w.load(outputs, "double", result.lanes)
    w.line(f"ret {packed.type} {packed.ref}")
    return _function(name, result, f"{x.type} %x", w)


def _function(name: str, result: Value, argument: str, w: Writer) -> str:
    body = "\n".join(w.lines)
    # Optimising it would take longer than compiling what calls it.
    head = f"define internal {result.type} @{name}({argument}) cold noinline optnone"
    return f"{head} {{\nentry:\n{body}\n}}\n"


@cache
def _two_over_pi() -> tuple[int, ...]:
    """floor(2**_BITS * 2/pi) in words, lowest first; pi = 16 atan(1/5) - 4 atan(1/239) (Machin)."""
    one = 1 << (_BITS + 64)

    def arctan_of_reciprocal(m: int) -> int:
        total, term, k = 0, one // m, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term //= m * m
            k += 2
        return total

    pi = 16 * arctan_of_reciprocal(5) - 4 * arctan_of_reciprocal(239)
    bits = (one << (_BITS + 1)) // pi
    return tuple(bits >> 64 * i & (2**64 - 1) for i in range(_WORDS))


def _define_scalar(module: Module) -> None:
    if _SCALAR in module.functions:
        return
    words = ", ".join(f"i64 {word}" for word in _two_over_pi())
    module.declare(_TABLE, f"@{_TABLE} = internal constant [{_WORDS} x i64] [{words}]")
    w = Writer(module)
    x = Value("%x", "double")
    rest, turns = _rest_and_turns(w, x)
    result = w.insert(w.insert(Value("poison", "double", 2), rest, 0), turns, 1)
    w.line(f"ret {result.type} {result.ref}")
    module.define(_SCALAR, _function(_SCALAR, result, "double %x", w))


def _rest_and_turns(w: Writer, x: Value) -> tuple[Value, Value]:
    """x modulo pi/2 and the number of quarter turns modulo 4, of a double x >= 1.

    x = M 2**e with an integer M; of 2/pi, the bits that make multiples of 4 in M 2**e (2/pi) do
    not matter, of the others the first 192 do, and of the product the upper 128.
    """
    bits = w.cast("bitcast", x, "i64")
    exponent = w.op("lshr", bits, w.like(52, bits))
    fraction = w.op("and", bits, w.like(2**52 - 1, bits))
    mantissa = w.cast("zext", w.op("or", fraction, w.like(2**52, bits)), "i128")
    # The lowest bit that is kept stands for 2**-190 in the product, which then has 192 bits.
    skip = w.op("sub", w.like(_BITS - 190 + 1023 + 52, bits), exponent)
    low, middle, high = (w.op("mul", mantissa, word) for word in _window(w, skip))
    sixty_four = w.like(64, low)
    product = w.op("add", middle, w.op("lshr", low, sixty_four))
    product = w.op("add", product, w.op("shl", high, sixty_four))
    quarters = w.cast("trunc", w.op("lshr", product, w.like(126, product)), "i64")
    # In units of 2**-128 of a quarter turn, as a signed number in [-1/2, 1/2).
    signed = w.op("shl", product, w.like(2, product))
    negative = w.compare("icmp slt", signed, w.like(0, signed))
    quarters = w.op("add", quarters, w.cast("zext", negative, "i64"))
    turns = w.cast("uitofp", w.op("and", quarters, w.like(3, quarters)), "double")
    size = w.select(negative, w.op("sub", w.like(0, signed), signed), signed)
    upper = w.cast("uitofp", w.cast("trunc", w.op("lshr", size, sixty_four), "i64"), "double")
    lower = w.cast("uitofp", w.cast("trunc", size, "i64"), "double")
    number = w.op("fadd", w.op("fmul", upper, w.like(2.0**64, upper)), lower)
    rest = w.op("fmul", number, w.like(1.5707963267948966 * 2.0**-128, number))
    rest = w.select(negative, w.op("fneg", rest), rest)
    finite = w.compare("icmp ult", exponent, w.like(2047, exponent))
    return w.select(finite, rest, w.like(float("nan"), rest)), turns


def _window(w: Writer, skip: Value) -> list[Value]:
    """192 bits of 2/pi from bit `skip` on, as three words that are i128, the lowest first."""
    # Lanes that are not far skip more than there is; what they get is not used.
    skip = w.intrinsic("umin", skip, w.like(_BITS - 1, skip))
    byte = w.op("lshr", skip, w.like(3, skip))
    shift = w.cast("zext", w.op("and", skip, w.like(7, skip)), "i128")
    words = []
    for word in range(3):
        address = w.offset(
            Value(f"@{_TABLE}", "ptr"), "i8", w.op("add", byte, w.like(8 * word, byte))
        )
        loaded = Value(w.fresh(), "i128")
        w.line(f"{loaded.ref} = load i128, ptr {address.ref}, align 1")
        shifted = w.op("lshr", loaded, shift)
        words.append(w.op("and", shifted, w.like(2**64 - 1, shifted)))
    return words
