"""Values, and trees of expressions, as Python expressions."""

from __future__ import annotations

import math
import textwrap
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad._static import dataclass_fields
from funcgrad.errors import ExportError, at_line

# Larger arrays are written as base64.
INLINE_ELEMENTS = 64
_PLAIN = (dict, list, tuple, type(None))
_KEYS = (str, int, bool)


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
        import base64

        native = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        data = base64.b64encode(native.tobytes()).decode()
        lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(data, 90))
        return f"np.frombuffer(base64.b64decode(\n{lines}\n), dtype={dtype}).reshape({value.shape})"
    if not value.ndim:
        return f"np.array({spell(value.item())}, dtype={dtype})"
    flat = f"np.array({spell(value.ravel().tolist())}, dtype={dtype})"
    return flat if value.ndim == 1 else f"{flat}.reshape({value.shape})"


# -- trees ---------------------------------------------------------------------------------------


class _Name(str):
    """A leaf's expression while a structure is being rendered."""

    __slots__ = ()


def is_plain(treedef: Any) -> bool:
    """Whether source can spell a structure as it is: dicts, lists, tuples and None."""

    def plain(x: Any) -> bool:
        if type(x) is _Name:
            return True
        if type(x) is dict:
            return all(type(k) in _KEYS for k in x) and all(map(plain, x.values()))
        return type(x) in _PLAIN and all(map(plain, x or ()))

    return plain(treedef.unflatten([_Name()] * treedef.num_leaves))


def render_tree(treedef: Any, texts: Sequence[str]) -> str:
    """The expression of a tree whose leaves are the given expressions.

    A named tuple is written as a tuple, a dataclass as a dict.

    Raises:
        ExportError: it has a class that source cannot name without funcgrad.
    """
    return _render(treedef.unflatten([_Name(t) for t in texts]))


def _render(x: Any) -> str:
    if type(x) is _Name:
        return str.__str__(x)
    if type(x) in (dict, OrderedDict, defaultdict):
        return "{" + ", ".join(f"{_spell(k)}: {_render(v)}" for k, v in x.items()) + "}"
    if isinstance(x, tuple):
        inner = ", ".join(map(_render, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    if type(x) is list:
        return f"[{', '.join(map(_render, x))}]"
    fields = None if isinstance(x, type) else dataclass_fields(type(x))
    if fields is not None:
        return _render({f.name: getattr(x, f.name) for f in fields})
    return _spell(x)


def _spell(value: Any) -> str:
    try:
        return spell(value)
    except TypeError:
        raise at_line(
            ExportError,
            f"a {type(value).__name__} in the result ({value!r}) cannot be written as source; "
            "return dicts, lists, tuples or arrays from a function whose text is asked for",
        ) from None
