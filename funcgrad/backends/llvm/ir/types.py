"""NumPy's dtypes as LLVM's types of numbers."""

from __future__ import annotations

import numpy as np

_LLVM_TYPES = {
    "float32": "float",
    "float64": "double",
    "bool": "i1",
    **{f"{sign}int{bits}": f"i{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
SUPPORTED = frozenset(map(np.dtype, _LLVM_TYPES))


def llvm_type(dtype: np.dtype) -> str:
    """LLVM's name for a dtype in registers."""
    return _LLVM_TYPES[dtype.name]


def memory_type(dtype: np.dtype) -> str:
    """LLVM's name for a dtype in memory: booleans are bytes there."""
    return "i8" if dtype.kind == "b" else _LLVM_TYPES[dtype.name]
