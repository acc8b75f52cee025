"""fmod, remainder and floor_divide, exact as NumPy's."""

from __future__ import annotations

import math

from funcgrad.backends.llvm.ir.functions.arithmetic import (
    Term,
    choose,
    copysign,
    fma,
    intrinsic,
    select,
)


def fmod(x: Term, y: Term) -> Term:
    """x - y trunc(x / y): one fma where the quotient is small, else the library's."""
    size, step = abs(x), abs(y)
    ratio = size / step
    rest = fma(-intrinsic("trunc", ratio), step, size)
    # A quotient that was rounded up to a whole number.
    rest = select(rest < 0.0, rest + step, rest)
    usual = select(step.equals(math.inf) & (size < math.inf), size, rest)
    far = ratio >= 2.0 ** (x.format.fraction - 1)
    w = x.w

    def exact() -> list:
        return [w.select(far.value, w.op("frem", size.value, step.value), usual.value)]

    (result,) = w.replaced(w.any(far.value), [usual.value], exact)
    return copysign(Term(w, result), x)


def remainder(x: Term, y: Term) -> Term:
    """The remainder with the sign of y."""
    rest = fmod(x, y)
    turned = select(_apart(rest, y), rest + y, rest)
    return select(rest.equals(0.0), copysign(rest, y), turned)


def floor_divide(x: Term, y: Term) -> Term:
    rest = fmod(x, y)
    whole = (x - rest) / y
    whole = whole - choose(_apart(rest, y), x, 1.0, 0.0)
    floor = intrinsic("floor", whole)
    # The quotient was rounded just below a whole number.
    floor = floor + choose(whole - floor > 0.5, x, 1.0, 0.0)
    ratio = x / y
    result = select(whole.equals(0.0), copysign(whole, ratio), floor)
    return select(y.equals(0.0), ratio, result)


def _apart(rest: Term, y: Term) -> Term:
    """Whether a remainder that is not 0 has the other sign than y."""
    return rest.differs(0.0) & ((y < 0.0) ^ (rest < 0.0))
