"""What makes a tracer feel like an array: NEP 13, NEP 18, NEP 47, operators, methods.

`FUNCTIONS` maps NumPy's functions to ours; the modules of this package fill it with
`@implements(np.name)`, and `attach_methods` gives tracers the methods of an array.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.source import caller_operation
from funcgrad.core.tracer import NO_VALUE, Tracer
from funcgrad.errors import (
    InPlaceError,
    OutArgumentError,
    TracerArrayError,
    TracerValueError,
    UnsupportedFunctionError,
)
from funcgrad.numpy import ufuncs

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
    if method == "__call__":
        handler = ufuncs.UFUNCS.get(ufunc)
        if not kwargs and handler is not None:
            return handler(*inputs)
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
        module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
        raise UnsupportedFunctionError.of(f"{module}.{func.__name__}")
    return call_handler(func.__name__, handler, args, kwargs)


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


def concrete_value(tracer: Tracer, use: str) -> Any:
    """The value that rides along.

    Raises:
        TracerValueError: there is none, as under jit and vmap.
    """
    if tracer.value is NO_VALUE:
        raise TracerValueError.of(tracer, use)
    return tracer.value


def _scalar_conversion(name: str, convert: Callable[[Any], Any]) -> Callable[[Tracer], Any]:
    def method(self: Tracer) -> Any:
        return convert(concrete_value(self, f"{name}(x)"))

    return method


def _number(name: str, convert: Callable[[Any], Any]) -> Callable[[Tracer], Any]:
    """`__float__` and `__complex__`: for `float(x)`, but not for what else would use them.

    `math.sin(x)`, `np.float64(x)` and `array[0] = x` ask for a float in the same way; they
    would lose the derivative without a word.
    """

    def method(self: Tracer) -> Any:
        operation, called = caller_operation(2)
        # A binary operation gets here only as `text % x`.
        if called != name and operation != "BINARY_OP" and self.aval.inexact:
            raise TracerArrayError.of(self)
        return convert(concrete_value(self, f"{name}(x)"))

    return method


def _index(self: Tracer) -> int:
    return operator.index(concrete_value(self, "use as an index"))


def _to_array(self: Tracer, dtype: Any = None, copy: Any = None) -> Any:
    raise TracerArrayError.of(self)


def _set_item(self: Tracer, index: Any, value: Any) -> None:
    raise InPlaceError.of()


def _len(self: Tracer) -> int:
    if not self.shape:
        raise TypeError("len() of unsized object: the traced array has no axes")
    return self.shape[0]


def _iter(self: Any) -> Any:
    return (self[i] for i in range(_len(self)))


def _repr(self: Tracer) -> str:
    value = "" if self.value is NO_VALUE else f", value={self.value!r}"
    return f"Tracer({self.aval}{value})"


def _str(self: Tracer) -> str:
    return repr(self) if self.value is NO_VALUE else str(self.value)


def _format(self: Tracer, spec: str) -> str:
    return format(self.value, spec) if self.has_value else format(repr(self), spec)


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
    for name, ufunc in _COMPARE.items():
        setattr(Tracer, f"__{name}__", ufuncs.binary_operator(ufunc))
    others: dict[str, Any] = {
        "__pow__": ufuncs.power_operator,
        "__rpow__": ufuncs.rpower_operator,
        "__neg__": ufuncs.negative_operator,
        "__pos__": lambda self: self,
        "__abs__": ufuncs.absolute,
        "__invert__": lambda self: np.invert(self),
        "__matmul__": ufuncs.matmul,
        "__rmatmul__": lambda self, other: ufuncs.matmul(other, self),
        "__divmod__": ufuncs.divmod_,
        "__rdivmod__": lambda self, other: ufuncs.divmod_(other, self),
        "__hash__": object.__hash__,
        "__bool__": _scalar_conversion("bool", bool),
        "__float__": _number("float", float),
        "__int__": _scalar_conversion("int", int),
        "__complex__": _number("complex", complex),
        "__index__": _index,
        "__len__": _len,
        "__iter__": _iter,
        "__array__": _to_array,
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__setitem__": _set_item,
        "__repr__": _repr,
        "__str__": _str,
        "__format__": _format,
        "item": lambda self, *args: np.asarray(concrete_value(self, "item()")).item(*args),
        "tolist": lambda self: np.asarray(concrete_value(self, "tolist()")).tolist(),
    }
    for name, value in others.items():
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
