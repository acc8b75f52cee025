"""What makes a tracer feel like an array: its operators, methods and properties, in one table."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import numpy as np

from funcgrad.core.tracer import Tracer
from funcgrad.errors import InPlaceError, at_line
from funcgrad.numpy import (
    contraction,
    elementary,
    indexing,
    reductions,
    selection,
    sorting,
    structure,
    ufuncs,
    updates,
)
from funcgrad.numpy.conversions import CONVERSIONS
from funcgrad.numpy.convert import check_casting, check_order
from funcgrad.numpy.protocol import array_function, array_ufunc
from funcgrad.primitives.elementwise import cast

# --- operators ------------------------------------------------------------------------

_BINARY = {
    "+": ("add", np.add),
    "-": ("sub", np.subtract),
    "*": ("mul", np.multiply),
    "/": ("truediv", np.true_divide),
    "//": ("floordiv", np.floor_divide),
    "%": ("mod", np.remainder),
    "&": ("and", np.bitwise_and),
    "|": ("or", np.bitwise_or),
    "^": ("xor", np.bitwise_xor),
    "<<": ("lshift", np.left_shift),
    ">>": ("rshift", np.right_shift),
}
_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _operators() -> dict[str, Any]:
    found: dict[str, Any] = {
        "__hash__": object.__hash__,
        "__pow__": ufuncs.power_operator,
        "__rpow__": ufuncs.rpower_operator,
        "__ipow__": ufuncs.in_place_operator("**=", ufuncs.power_operator),
        "__neg__": ufuncs.negative_operator,
        "__pos__": ufuncs.positive_operator,
        "__abs__": ufuncs.absolute,
        "__invert__": lambda self: np.invert(self),
        "__matmul__": ufuncs.matmul_operator,
        "__rmatmul__": ufuncs.function_operator(np.matmul, ufuncs.matmul, reflected=True),
        "__imatmul__": ufuncs.in_place_operator("@=", ufuncs.matmul_operator),
        "__divmod__": ufuncs.function_operator(np.divmod, ufuncs.divmod_),
        "__rdivmod__": ufuncs.function_operator(np.divmod, ufuncs.divmod_, reflected=True),
    }
    for symbol, (name, ufunc) in _BINARY.items():
        operator = ufuncs.binary_operator(ufunc)
        found[f"__{name}__"] = operator
        found[f"__r{name}__"] = ufuncs.binary_operator(ufunc, reflected=True)
        found[f"__i{name}__"] = ufuncs.in_place_operator(f"{symbol}=", operator)
    for name, ufunc in _COMPARE.items():
        found[f"__{name}__"] = ufuncs.binary_operator(ufunc)
    return found


# --- containers and protocols ---------------------------------------------------------


def _len(self: Tracer) -> int:
    if not self.shape:
        raise TypeError("len() of unsized object: the traced array has no axes")
    return self.shape[0]


def _iter(self: Any) -> Any:
    return (self[i] for i in range(_len(self)))


def _contains(self: Tracer, item: Any) -> bool:
    return bool(np.any(np.equal(self, item)))


def _array_namespace(self: Tracer, *, api_version: str | None = None) -> Any:
    """NEP 47."""
    return import_module(__package__ or "funcgrad.numpy")


# --- methods --------------------------------------------------------------------------


def _conjugate_method(self: Tracer) -> Any:
    """`x.conj()`, which leaves booleans what they are; the ufunc has no loop for them."""
    return ufuncs.conjugate(self) if self.dtype.kind == "c" else self


def _clip_method(
    self: Tracer, min: Any = None, max: Any = None, out: Any = None, **options: Any
) -> Any:
    return elementary.clip(self, min, max, out, **options)


def _astype_method(
    self: Tracer,
    dtype: Any,
    order: str = "K",
    casting: Any = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Any:
    check_order(order, "ndarray.astype")
    dtype = np.dtype(dtype)
    check_casting((self,), dtype, casting, "ndarray.astype")
    return cast(self, dtype)


def _reshape_method(self: Tracer, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    return structure.reshape(self, shape[0] if len(shape) == 1 else shape, order)


def _transpose_method(self: Tracer, *axes: Any) -> Any:
    given: Any = axes
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        given = axes[0]
    return structure.transpose(self, given or None)


def _refuse_write(self: Tracer, *args: Any, **kwargs: Any) -> Any:
    raise InPlaceError.of()


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """The array's method for a function that has the array as its second argument."""

    def method(self: Tracer, first: Any, *args: Any, **kwargs: Any) -> Any:
        return function(first, self, *args, **kwargs)

    return method


def _in_place(name: str) -> Any:
    def method(self: Tracer, *args: Any, **kwargs: Any) -> Any:
        raise at_line(
            InPlaceError,
            f"x.{name}() reorders an array in place, and a traced one cannot be written to; "
            f"write x = np.{name}(x)",
        )

    return method


METHODS: dict[str, Any] = {
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "argpartition": sorting.argpartition,
    "argsort": sorting.argsort,
    "astype": _astype_method,
    "choose": selection.choose,
    "clip": _clip_method,
    "compress": _method(selection.compress),
    "conj": _conjugate_method,
    "conjugate": _conjugate_method,
    "copy": elementary.copy,
    "cumprod": reductions.cumprod,
    "cumsum": reductions.cumsum,
    "diagonal": structure.diagonal,
    "dot": contraction.dot,
    "fill": _refuse_write,
    "flatten": structure.ravel,
    "max": reductions.max,
    "mean": reductions.mean,
    "min": reductions.min,
    "nonzero": selection.nonzero,
    "partition": _in_place("partition"),
    "prod": reductions.prod,
    "put": _refuse_write,
    "ravel": structure.ravel,
    "repeat": structure.repeat,
    "reshape": _reshape_method,
    "round": elementary.round,
    "searchsorted": sorting.searchsorted,
    "sort": _in_place("sort"),
    "squeeze": structure.squeeze,
    "std": reductions.std,
    "sum": reductions.sum,
    "swapaxes": structure.swapaxes,
    "take": selection.take,
    "trace": structure.trace,
    "transpose": _transpose_method,
    "var": reductions.var,
    "__array_function__": array_function,
    "__array_namespace__": _array_namespace,
    "__array_ufunc__": array_ufunc,
    "__contains__": _contains,
    "__getitem__": indexing.getitem,
    "__iter__": _iter,
    "__len__": _len,
    "__setitem__": _refuse_write,
}
PROPERTIES: dict[str, Callable[[Any], Any]] = {
    "T": structure.reversed_axes,
    "at": updates.At,
    "device": lambda self: self.aval.device,
    "imag": elementary.imag,
    "itemsize": lambda self: self.dtype.itemsize,
    "mT": structure.matrix_transpose,
    "nbytes": lambda self: self.aval.nbytes,
    "real": elementary.real,
}


# What users of PyTorch look for on an array, and what is written here.
_ELSEWHERE = {
    "detach": "fg.stop_gradient(x)",
    "requires_grad": "nothing: fg.grad differentiates by its argument",
    "requires_grad_": "nothing: fg.grad differentiates by its argument",
    "backward": "fg.grad(f)(x), of the function that computes it",
    "grad": "fg.grad(f)(x), of the function that computes it",
    "numpy": "np.asarray(x) outside of the function, of what it returns",
    "cpu": "fg.device_get(x) outside of the function",
    "cuda": 'fg.device_put(x, ("cuda", 0)) outside of the function',
    "to": "x.astype(dtype), or fg.device_put(x, device) outside of the function",
    "clone": "x, which nothing changes, or x.copy()",
    "view": "x.reshape(shape)",
    "unsqueeze": "np.expand_dims(x, axis), or x[:, None]",
    "permute": "x.transpose(axes)",
    "dim": "x.ndim",
    "numel": "x.size",
    "expand": "np.broadcast_to(x, shape)",
    "float": "x.astype(np.float32)",
    "double": "x.astype(np.float64)",
    "long": "x.astype(np.int64)",
    **{name: f"np.{name}(x)" for name in ("abs", "exp", "log", "sqrt", "tanh", "sin", "cos")},
}


def _missing(self: Tracer, name: str) -> NoReturn:
    hint = f": write {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    raise AttributeError(f"an array that is traced has no attribute {name!r}{hint}")


def install_methods() -> None:
    """Give tracers all of it: in their class itself, where Python finds it fastest."""
    properties = {name: property(getter) for name, getter in PROPERTIES.items()}
    table = _operators() | CONVERSIONS | METHODS | properties | {"__getattr__": _missing}
    for name, value in table.items():
        setattr(Tracer, name, value)
