"""Elementwise primitives with zero derivative: comparisons, logic, bits, rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.declarations import elementwise_nondifferentiable
from funcgrad.core.primitive import sample
from funcgrad.core.view_map import whole

_COMPARISONS = {
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}


def _expanded_comparison(ufunc: np.ufunc) -> Callable[..., Any]:
    """A comparison of uint64 with signed integers, which no dtype holds both of."""

    def expansion(x: Any, y: Any) -> Any:
        signed = x if x.dtype.kind == "i" else y
        same = ufunc(x.astype(np.uint64), y.astype(np.uint64))
        below = ufunc(0, 1) if signed is x else ufunc(1, 0)
        return np.where(signed < 0, bool(below), same)

    return expansion


comparisons = {
    name: elementwise_nondifferentiable(
        name,
        getattr(np, name),
        arity=2,
        infix=infix,
        expansion=_expanded_comparison(getattr(np, name)),
        cost=1,
        dtypes="fib",
    )
    for name, infix in _COMPARISONS.items()
}
_BITS = np.array([1, 6, 12])
_BOOLS = np.array([True, False, True])
bitwise = {
    name: elementwise_nondifferentiable(
        name,
        getattr(np, name),
        arity=2,
        infix=infix,
        samples=[sample(_BITS, _BITS[::-1])],
        # What masks are combined to is a byte an element: rather kept than computed again.
        cost=12 if infix is None else 2,
        dtypes="i",
    )
    for name, infix in {
        "bitwise_and": "&",
        "bitwise_or": "|",
        "bitwise_xor": "^",
        "left_shift": "<<",
        "right_shift": ">>",
        "gcd": None,
        "lcm": None,
    }.items()
}
invert = elementwise_nondifferentiable(
    "invert",
    np.invert,
    infix="~",
    samples=[sample(_BITS), sample(_BOOLS)],
    dtypes="i",
    cost=1,
)
bitwise_count = elementwise_nondifferentiable(
    "bitwise_count", np.bitwise_count, samples=[sample(_BITS)], dtypes="i"
)
logical = {
    name: elementwise_nondifferentiable(name, getattr(np, name), arity=arity, cost=1, dtypes="fib")
    for name, arity in {
        "logical_and": 2,
        "logical_or": 2,
        "logical_xor": 2,
        "logical_not": 1,
        "isfinite": 1,
        "isinf": 1,
        "isnan": 1,
    }.items()
}
rounding = {
    name: elementwise_nondifferentiable(name, getattr(np, name), arity=arity, cost=1, dtypes="f")
    for name, arity in {
        "floor": 1,
        "ceil": 1,
        "trunc": 1,
        "rint": 1,
        "sign": 1,
        "signbit": 1,
        "spacing": 1,
    }.items()
}


def _stop_gradient(x):
    return x


stop_gradient = elementwise_nondifferentiable(
    "stop_gradient",
    _stop_gradient,
    dtype=lambda x: x.dtype,
    operand_dtypes=lambda out, x: (x,),
    source=lambda names, params: names[0],
    view=whole,
    cost=0,
    dtypes="fci",
)
