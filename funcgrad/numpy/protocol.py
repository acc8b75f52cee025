"""What makes a tracer feel like an array: NEP 13, NEP 18, NEP 47, operators, methods.

`FUNCTIONS` maps NumPy's functions to ours; the modules of this package fill it with
`@implements(np.name)`, and `attach_methods` gives tracers the methods of an array.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.tracer import Tracer
from funcgrad.errors import (
    InPlaceError,
    NotAnArrayError,
    OutArgumentError,
    UnsupportedFunctionError,
)
from funcgrad.numpy import ufuncs
from funcgrad.numpy.conversions import CONVERSIONS, known_arguments

FUNCTIONS: dict[Any, Callable[..., Any]] = {}
# (ufunc, method) -> function: np.add.reduce and its like.
UFUNC_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {}


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: what NumPy's `functions` do when they meet a tracer."""

    def register(ours: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            FUNCTIONS[function] = ours
        return ours

    return register


def array_ufunc(self: Tracer, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    try:
        if method == "__call__" and not kwargs:
            handler = ufuncs.UFUNCS.get(ufunc)
            if handler is not None:
                return handler(*inputs)
        return _call_ufunc(ufunc, method, inputs, kwargs)
    except NotAnArrayError:
        if any(map(ufuncs.answers_itself, (*inputs, *(kwargs.get("out") or ())))):
            return NotImplemented
        raise


def _call_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """A ufunc with options, or a method of it."""
    if method == "__call__":
        handler = ufuncs.UFUNCS.get(ufunc)
        name = ufunc.__name__
    else:
        handler = UFUNC_METHODS.get((ufunc, method))
        if handler is None and method == "outer" and ufunc in ufuncs.UFUNCS:
            handler = partial(ufuncs.outer, ufunc)
        name = f"{ufunc.__name__}.{method}"
    if kwargs.pop("out", None) is not None or method == "at":
        raise OutArgumentError.of(name)
    if handler is None:
        raise UnsupportedFunctionError.of(f"np.{name}")
    if method != "__call__":
        return call_handler(name, handler, inputs, kwargs)
    return ufuncs.with_options(ufunc, handler, inputs, kwargs)


def array_function(self: Tracer, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    handler = FUNCTIONS.get(func)
    if handler is None:
        if kwargs.get("out") is not None:
            raise OutArgumentError.of(func.__name__)
        plain = known_arguments((args, kwargs))
        if plain is not None:
            return func(*plain[0], **plain[1])
        module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
        raise UnsupportedFunctionError.of(f"{module}.{func.__name__}")
    try:
        return call_handler(func.__name__, handler, args, kwargs)
    except NotAnArrayError:
        if any(map(_answers_itself, types)):
            return NotImplemented
        raise


def _answers_itself(kind: type) -> bool:
    """Whether a class other than ours and NumPy's answers NumPy's functions."""
    answer = getattr(kind, "__array_function__", np.ndarray.__array_function__)
    return kind is not Tracer and answer is not np.ndarray.__array_function__


def call_handler(name: str, handler: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """What `handler` gives.

    Raises:
        OutArgumentError: `out=` is an array.
        UnsupportedFunctionError: the handler does not take one of the options.
    """
    if not kwargs:
        return handler(*args)
    if kwargs.get("out") is not None:
        raise OutArgumentError.of(name)
    kwargs = {k: v for k, v in kwargs.items() if k != "out" and v is not np._NoValue}
    try:
        return handler(*args, **kwargs)
    except TypeError as error:
        # Nothing below this frame ran: the handler does not take these options.
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        options = ", ".join(f"{k}=" for k in kwargs)
        raise UnsupportedFunctionError.of(
            f"np.{name} with the options given ({options})", f"It takes {signature(handler)}."
        ) from error


def _set_item(self: Tracer, index: Any, value: Any) -> None:
    raise InPlaceError.of()


def _len(self: Tracer) -> int:
    if not self.shape:
        raise TypeError("len() of unsized object: the traced array has no axes")
    return self.shape[0]


def _iter(self: Any) -> Any:
    return (self[i] for i in range(_len(self)))


def _contains(self: Tracer, item: Any) -> bool:
    return bool(np.any(np.equal(self, item)))


_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
_SYMBOLS = dict(zip(_BINARY, "+= -= *= /= //= %= &= |= ^= <<= >>=".split(), strict=True))
_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _attach_operators() -> None:
    for name, ufunc in _BINARY.items():
        setattr(Tracer, f"__{name}__", ufuncs.binary_operator(ufunc))
        setattr(Tracer, f"__r{name}__", ufuncs.binary_operator(ufunc, reflected=True))
        in_place = ufuncs.in_place_operator(_SYMBOLS[name], getattr(Tracer, f"__{name}__"))
        setattr(Tracer, f"__i{name}__", in_place)
    for name, ufunc in _COMPARE.items():
        setattr(Tracer, f"__{name}__", ufuncs.binary_operator(ufunc))
    others: dict[str, Any] = {
        "__pow__": ufuncs.power_operator,
        "__rpow__": ufuncs.rpower_operator,
        "__neg__": ufuncs.negative_operator,
        "__pos__": ufuncs.positive_operator,
        "__abs__": ufuncs.absolute,
        "__invert__": lambda self: np.invert(self),
        "__ipow__": ufuncs.in_place_operator("**=", ufuncs.power_operator),
        "__matmul__": ufuncs.matmul_operator,
        "__rmatmul__": ufuncs.function_operator(np.matmul, ufuncs.matmul, reflected=True),
        "__imatmul__": ufuncs.in_place_operator("@=", ufuncs.matmul_operator),
        "__divmod__": ufuncs.function_operator(np.divmod, ufuncs.divmod_),
        "__rdivmod__": ufuncs.function_operator(np.divmod, ufuncs.divmod_, reflected=True),
        "__hash__": object.__hash__,
        "__len__": _len,
        "__iter__": _iter,
        "__contains__": _contains,
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__setitem__": _set_item,
    }
    for name, value in (others | CONVERSIONS).items():
        setattr(Tracer, name, value)


def attach_methods(methods: dict[str, Callable[..., Any]], properties: dict[str, Any]) -> None:
    """Give tracers an array's methods and properties."""
    for name, function in methods.items():
        setattr(Tracer, name, function)
    for name, getter in properties.items():
        setattr(Tracer, name, property(getter))


def attach_namespace(name: str) -> None:
    """Answer NEP 47's `__array_namespace__` with the module of this name."""

    def namespace(self: Tracer, *, api_version: str | None = None) -> Any:
        return import_module(name)

    setattr(Tracer, "__array_namespace__", namespace)  # noqa: B010  (Tracer does not declare it)


_attach_operators()


def is_array(x: Any) -> bool:
    return isinstance(x, (Tracer, np.ndarray, np.generic)) or hasattr(x, "__array_function__")


__all__ = ["FUNCTIONS", "UFUNC_METHODS", "attach_methods", "aval_of", "implements", "is_array"]
