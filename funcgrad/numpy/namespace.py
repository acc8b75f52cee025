"""The names of `funcgrad.numpy`: NumPy's own, made to take tracers in lists, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from types import ModuleType
from typing import Any

import numpy as np

from funcgrad.numpy import creation
from funcgrad.numpy.convert import contains_tracer
from funcgrad.numpy.protocol import FUNCTIONS, call_handler
from funcgrad.numpy.ufuncs import UFUNCS, as_operand

# What NumPy does not dispatch and we give: with tracers ours, else NumPy's.
_OWN = {name: getattr(creation, name) for name in ("array", "asarray", "full")}
_OWN |= {"asanyarray": creation.asarray, "ascontiguousarray": creation.ascontiguousarray}

# Names that make or describe arrays and need no tracer.
_PLAIN = """
    zeros ones empty eye identity arange logspace geomspace tri indices fromfunction frombuffer
    dtype finfo iinfo promote_types isscalar issubdtype broadcast_shapes ndindex errstate newaxis
    pi e euler_gamma inf nan ndarray generic number integer signedinteger unsignedinteger inexact
    floating complexfloating bool_ int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 uintp
    float16 float32 float64 complex64 complex128 tril_indices triu_indices diag_indices
    ravel_multi_index unravel_index hanning hamming blackman bartlett kaiser
    float_ bool set_printoptions printoptions array_repr array_str
""".split()


def _dispatching(function: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's `function`, but ours where a tracer is among the arguments, even in a list."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if contains_tracer(args) or contains_tracer(kwargs):
            return call_handler(function.__name__, ours, args, kwargs)
        return function(*args, **kwargs)

    return update_wrapper(call, function, updated=())


class _Ufunc:
    """A ufunc that takes lists with tracers; everything else is the ufunc's own."""

    def __init__(self, ufunc: np.ufunc):
        self._ufunc = ufunc
        self.__name__ = ufunc.__name__
        self.__doc__ = ufunc.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ufunc(*map(as_operand, args), **kwargs)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._ufunc, name)
        if not callable(member):
            return member
        return lambda array, *args, **kwargs: member(
            as_operand(array), *map(as_operand, args), **kwargs
        )

    def __repr__(self) -> str:
        return f"<fnp ufunc {self.__name__!r}>"


class _Submodule:
    """`fnp.linalg`: a submodule of NumPy's, treated as `funcgrad.numpy` is."""

    def __init__(self, module: ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = _wrap(getattr(self._module, name))
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return _covered(self._module)

    def __repr__(self) -> str:
        return f"<fnp submodule {self._module.__name__!r}>"


def _wrap(value: Any) -> Any:
    if isinstance(value, np.ufunc):
        return _Ufunc(value)
    if isinstance(value, ModuleType):
        return _Submodule(value)
    ours = FUNCTIONS.get(value) if callable(value) else None
    return value if ours is None else _dispatching(value, ours)


def _covered(module: ModuleType) -> list[str]:
    """The names of a NumPy module that work on tracers."""
    found = []
    for name in dir(module):
        value = getattr(module, name)
        if callable(value) and (value in FUNCTIONS or value in UFUNCS):
            found.append(name)
    return found


def resolve(name: str) -> Any:
    """The value of `fnp.<name>`.

    Raises:
        AttributeError: NumPy has no such name.
    """
    if name.startswith("_"):
        raise AttributeError(f"module 'funcgrad.numpy' has no attribute {name!r}")
    if name in _OWN:
        return _dispatching(getattr(np, name), _OWN[name])
    try:
        return _wrap(getattr(np, name))
    except AttributeError:
        raise AttributeError(
            f"module 'funcgrad.numpy' has no attribute {name!r}, nor has numpy"
        ) from None


def public_names() -> list[str]:
    """What works on tracers, and what makes arrays; other names are NumPy's own, too."""
    plain = [name for name in _PLAIN if hasattr(np, name)]
    return sorted({*_covered(np), *_OWN, *plain, "linalg"})
