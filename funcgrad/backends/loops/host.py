"""Equations that no code is written for: their own implementations, called with arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcgrad.core.graph import Const, Eqn


def host_function(eqn: Eqn) -> Callable[..., None]:
    """An equation's implementation as a function of its results' arrays and its operands'."""
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    fixed = [a.value if type(a) is Const else None for a in eqn.ins]
    # Complex numbers stay NumPy's: what is taken of Python's, as a real part, has no methods.
    weak = [a.aval.weak and a.aval.dtype.kind != "c" for a in eqn.ins]

    def call(*arrays: np.ndarray) -> None:
        supply = iter(arrays[n:])
        ins = []
        for atom, value, is_weak in zip(eqn.ins, fixed, weak, strict=True):
            if type(atom) is Const:
                ins.append(value)
                continue
            array = next(supply)
            ins.append(array.item() if is_weak else array if array.ndim else array[()])
        with np.errstate(all="ignore"):
            result = prim.impl(*ins, **params)
        for out, value in zip(arrays[:n], result if prim.multiple else [result], strict=True):
            out[...] = value

    return call
