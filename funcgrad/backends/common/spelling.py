"""Values as Python expressions that evaluate to them."""

from __future__ import annotations

import base64
import math
import textwrap
from typing import Any

import numpy as np

# Larger arrays are written as base64.
INLINE_ELEMENTS = 64


def spell(value: Any) -> str:
    """An expression that evaluates to `value`, an array, number, or what parameters hold.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, np.ndarray):
        return _spell_array(value)
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, np.generic):
        return f"{dtype_name(value.dtype)}({spell(value.item())})"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(spell, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float):
        return _spell_float(value)
    if isinstance(value, complex):
        return _spell_complex(value)
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as source")


def dtype_name(dtype: np.dtype) -> str:
    return "np.bool_" if dtype.kind == "b" else f"np.{dtype.name}"


def _spell_float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"


def _spell_complex(value: complex) -> str:
    parts = value.real, value.imag
    # The repr loses the signs of zeros, and that of an infinity is no expression.
    if all(math.isfinite(p) and p for p in parts):
        return repr(value)
    return f"complex({', '.join(map(_spell_float, parts))})"


def _spell_array(value: np.ndarray) -> str:
    dtype = dtype_name(value.dtype)
    if value.size > 1 and 0 in value.strides:
        once = value[tuple([slice(None) if s else slice(0, 1) for s in value.strides])]
        return f"np.broadcast_to({_spell_array(once)}, {value.shape})"
    if value.size > INLINE_ELEMENTS:
        native = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        data = base64.b64encode(native.tobytes()).decode()
        lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(data, 90))
        return f"np.frombuffer(base64.b64decode(\n{lines}\n), dtype={dtype}).reshape({value.shape})"
    if not value.ndim:
        return f"np.array({spell(value.item())}, dtype={dtype})"
    flat = f"np.array({spell(value.ravel().tolist())}, dtype={dtype})"
    return flat if value.ndim == 1 else f"{flat}.reshape({value.shape})"
