"""What answers NumPy's calls that meet a tracer: NEP 13 and NEP 18.

`FUNCTIONS` maps NumPy's functions to ours; the modules of this package fill it with
`@implements(np.name)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from funcgrad.core.tracer import Tracer
from funcgrad.errors import (
    NotAnArrayError,
    OutArgumentError,
    UnsupportedFunctionError,
)
from funcgrad.numpy import ufuncs
from funcgrad.numpy.conversions import known_arguments

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
