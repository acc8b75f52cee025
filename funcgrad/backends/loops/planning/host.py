"""Equations that no code is written for: their own implementations, called with arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.graph import Const, Eqn


def host_function(eqn: Eqn | None) -> Callable[..., None]:
    """An equation's implementation as a function of its results' arrays and its operands'; a
    copy for None."""
    if eqn is None:
        return np.copyto
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    fixed = [(k, a.value) for k, a in enumerate(eqn.ins) if type(a) is Const]
    numbers = [
        (k, _number if a.aval.weak and a.aval.dtype.kind != "c" else _scalar)
        for k, a in enumerate([a for a in eqn.ins if type(a) is not Const])
        if not a.aval.shape
    ]

    def call(*arrays: np.ndarray) -> None:
        ins: list[Any] = [*arrays[n:]]
        for k, read in numbers:
            ins[k] = read(ins[k])
        for k, value in fixed:
            ins.insert(k, value)
        with np.errstate(all="ignore"):
            result = prim.impl(*ins, **params)
        if n == 1 and not prim.multiple:
            arrays[0][...] = result
            return
        for out, value in zip(arrays[:n], result, strict=True):
            out[...] = value

    return call


def _number(array: np.ndarray) -> Any:
    """A Python number. Complex ones stay NumPy's: what is taken of Python's, as a real part, has
    no methods."""
    return array.item()


def _scalar(array: np.ndarray) -> Any:
    return array[()]
