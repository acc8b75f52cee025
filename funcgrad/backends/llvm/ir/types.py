"""NumPy's dtypes as LLVM's kinds of numbers."""

from __future__ import annotations

import numpy as np

_KINDS = {
    "float32": "float",
    "float64": "double",
    "bool": "i1",
    **{f"{sign}int{bits}": f"i{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
SUPPORTED = frozenset(map(np.dtype, _KINDS))


def kind_of(dtype: np.dtype) -> str:
    """LLVM's name for a dtype in registers."""
    return _KINDS[dtype.name]


def memory_kind(dtype: np.dtype) -> str:
    """LLVM's name for a dtype in memory: booleans are bytes there."""
    return "i8" if dtype.kind == "b" else _KINDS[dtype.name]
