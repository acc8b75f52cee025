"""Elementary and special functions as straight-line LLVM IR over any number of lanes.

`FUNCTIONS[name](w, *values)` writes the function's instructions through a `Writer` and returns
its result. Names are those of the primitives. Within 2 ulp in float32 and 4 ulp in float64 of
the correctly rounded result, with NumPy's results at zeros, infinities, NaN and poles; but
where a result of logaddexp or logaddexp2 is near 0, its digits cancel as NumPy's do, and near the
zeros of gammaln and digamma on the negative axis the error is small beside 1.

Functions of one angle share its reduction: `sin` and `cos` of the same value cost little more
than one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

from funcgrad.backends.llvm.ir.functions.arithmetic import on_values
from funcgrad.backends.llvm.ir.writer import BITS, Module, Value, Writer, mangled

# So many vectors of results a program computes in place, the others by calls: LLVM takes
# milliseconds for each that it finds in place, and a call takes twice as long as what is in
# place within a loop. What is run for more elements than the last is worth its time.
_MOST_IN_PLACE = {1: 48, 1 << 16: 256}
_VECTOR_BITS = 256

# The functions by the modules that have their formulas.
_MODULES = {
    "exponential": "exp exp2 expm1 tanh logistic",
    "logarithm": "log log2 log10 log1p logaddexp logaddexp2",
    "error": "erf erfc erfinv",
    "gamma": "gammaln digamma",
    "power": "power cbrt hypot",
    "modulo": "fmod remainder floor_divide",
    "hyperbolic": "sinh cosh arcsinh arccosh arctanh",
    "inverse": "arcsin arccos arctan arctan2",
    "trigonometric": "sin cos tan sinc",
}


def _function(module: str, name: str) -> Callable[..., Value]:
    @cache
    def formula() -> Callable[..., Value]:
        # A program needs few of them, and each takes time to load.
        return on_values(getattr(import_module(f"{__name__}.{module}"), name))

    def write(w: Writer, *values: Value) -> Value:
        if _is_in_place(w, values[0]):
            return formula()(w, *values)
        return _called(name, formula(), w, values)

    return write


def _is_in_place(w: Writer, value: Value) -> bool:
    most = next((n for elements, n in _MOST_IN_PLACE.items() if w.elements <= elements), None)
    w.module.in_place += -(-value.lanes * BITS[value.ty] // _VECTOR_BITS)
    return most is None or w.module.in_place <= most


def _called(name: str, formula: Callable[..., Value], w: Writer, values: Sequence[Value]) -> Value:
    full = ".".join(["formula", name, *(mangled(v.ty, v.lanes) for v in values)])
    if full not in w.module.functions:
        w.module.define(full, _text(full, formula, w.module, values))
    return w.call(full, values[0].ty, values[0].lanes, values)


def _text(full: str, formula: Callable[..., Value], module: Module, values: Sequence[Value]) -> str:
    w = Writer(module)
    params = [Value(f"%x{i}", v.ty, v.lanes) for i, v in enumerate(values)]
    found = formula(w, *params)
    listed = ", ".join(f"{p.type} {p.ref}" for p in params)
    head = f"define internal {found.type} @{full}({listed}) noinline nounwind {{"
    return "\n".join([head, "entry:", *w.allocas, *w.lines, f"  ret {found.type} {found.ref}", "}"])


FUNCTIONS: dict[str, Callable[..., Value]] = {
    name: _function(module, name) for module, names in _MODULES.items() for name in names.split()
}
