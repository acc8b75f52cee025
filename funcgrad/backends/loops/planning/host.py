"""Equations that no code is written for: their own implementations, called with arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy._core import umath

from funcgrad.core.aval import Aval
from funcgrad.core.graph import Const, Eqn
from funcgrad.errors import GraphError

# What `np.errstate` sets, in five times the time.
_ERROR_STATE: Any = getattr(umath, "_extobj_contextvar", None)
Function = Callable[..., Any]


def host_function(eqn: Eqn | None) -> Function:
    """An equation's implementation as a function of its results' arrays and its operands'; a
    copy for None."""
    if eqn is None:
        return np.copyto
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    impl = prim.impl if prim.foreign is None else _of_copies(prim.foreign)
    compute = _of_arrays(eqn.ins, impl)
    if n == 1 and not prim.multiple:
        aval = eqn.outs[0].aval
        shape, dtype = aval.shape, aval.dtype

        def one(out: np.ndarray, *ins: np.ndarray) -> None:
            value = compute(*ins, **params)
            if type(value) is not np.ndarray or value.shape != shape or value.dtype is not dtype:
                value = _checked(value, eqn, aval)
            out[...] = value

        return _silent(one)

    def several(*arrays: np.ndarray) -> None:
        values = compute(*arrays[n:], **params)
        for out, value, var in zip(arrays[:n], values, eqn.outs, strict=True):
            out[...] = _checked(value, eqn, var.aval)

    return _silent(several)


def _checked(value: Any, eqn: Eqn, aval: Aval) -> Any:
    """A result that is what the shape rule says, or can be made that without loss of its kind."""
    found = np.asarray(value)
    if found.shape != aval.shape or not np.can_cast(found.dtype, aval.dtype, "same_kind"):
        have = f"{found.dtype}{[*found.shape]}"
        raise GraphError(f"{eqn.prim.name}: its implementation gives {have}, its shape rule {aval}")
    return value


def _of_arrays(atoms: Sequence[Any], impl: Function) -> Function:
    """An implementation as a function of the arrays of those operands that are no constants."""
    fixed = [(k, a.value) for k, a in enumerate(atoms) if type(a) is Const]
    numbers = [
        (k, _number if a.aval.weak and a.aval.dtype.kind != "c" else _scalar)
        for k, a in enumerate([a for a in atoms if type(a) is not Const])
        if not a.aval.shape
    ]
    if not fixed and not numbers:
        return impl

    def compute(*arrays: np.ndarray, **params: Any) -> Any:
        ins: list[Any] = [*arrays]
        for k, read in numbers:
            ins[k] = read(ins[k])
        for k, value in fixed:
            ins.insert(k, value)
        return impl(*ins, **params)

    return compute


def _of_copies(impl: Function) -> Function:
    """A user's implementation as a function of arrays whose memory the program uses again."""

    def compute(*ins: Any, **params: Any) -> Any:
        own = [x.copy() if type(x) is np.ndarray else x for x in ins]
        for x in own:
            if type(x) is np.ndarray:
                # As in `read_only`.
                x.setflags(False)  # pyright: ignore[reportCallIssue]
        return impl(*own, **params)

    return compute


def _number(array: np.ndarray) -> Any:
    """A Python number. Complex ones stay NumPy's: what is taken of Python's, as a real part, has
    no methods."""
    return array.item()


def _scalar(array: np.ndarray) -> Any:
    return array[()]


def _silent(function: Function) -> Function:
    """The function without NumPy's warnings and errors of floating point."""
    if _ERROR_STATE is None:
        return np.errstate(all="ignore")(function)
    put, put_back = _ERROR_STATE.set, _ERROR_STATE.reset
    with np.errstate(all="ignore"):
        silence = _ERROR_STATE.get()

    def call(*arrays: np.ndarray) -> None:
        token = put(silence)
        try:
            function(*arrays)
        finally:
            put_back(token)

    return call
