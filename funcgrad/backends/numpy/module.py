"""A generated Python module: helper functions, constants, and the program's text."""

from __future__ import annotations

import base64
import dis
import inspect
import re
import textwrap
from collections.abc import Iterable
from types import FunctionType
from typing import Any

import numpy as np

INLINE_CONSTANT = 64


class Module:
    """Collects what a program needs besides its own lines.

    Args:
        reserved: names that the program gives itself, so that no helper may take them.

    Attributes:
        namespace: what the program's text refers to, for running it in this process.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.namespace: dict[str, Any] = {"np": np}
        self._reserved = frozenset(reserved)
        self._helpers: dict[str, str] = {}
        self._names: dict[int, str] = {}
        self._constants: dict[str, Any] = {}
        self._scalars: dict[Any, np.ndarray] = {}

    def helper(self, function: FunctionType) -> str:
        """The name under which a primitive's own implementation is available."""
        name = self._names.get(id(function))
        if name is None:
            name = self._unused(function.__name__.strip("_<>"))
            self._names[id(function)] = name
            self.namespace[name] = function
            self._helpers[name] = ""
            self._helpers[name] = self._copy(function, name)
        return name

    def _unused(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.namespace or candidate in self._reserved:
            n += 1
            candidate = f"{name}_{n}"
        return candidate

    def _copy(self, function: FunctionType, name: str) -> str:
        """A function's source under a new name, with what it refers to."""
        try:
            source = textwrap.dedent(inspect.getsource(function))
        except OSError:
            raise ValueError(f"the source of {function.__qualname__} is not available") from None
        source = source.replace(f"def {function.__name__}(", f"def {name}(", 1)
        for used in _global_names(function):
            if used == function.__name__ or used not in function.__globals__ or used == "np":
                continue
            value = function.__globals__[used]
            if isinstance(value, FunctionType):
                ours = self.helper(value)
                if ours != used:
                    source = _rename(source, used, ours)
            else:
                self._constants.setdefault(used, value)
        return source

    def constant(self, value: Any) -> str:
        """The name of an array or NumPy scalar that the program refers to."""
        name = self._names.get(id(value))
        if name is None:
            name = self._unused(f"const{sum(k.startswith('const') for k in self.namespace)}")
            if isinstance(value, np.ndarray):
                # The program must not change when the user writes to the array later.
                kept = value.copy()
                kept.flags.writeable = False
            else:
                kept = value
            self._names[id(value)] = name
            self.namespace[name] = kept
            self._constants[name] = kept
            # Keep the original alive as long as its id is a key.
            self.namespace[f"__original_{name}"] = value
        return name

    def scalar(self, value: float, dtype: np.dtype) -> str:
        """The name of a scalar kept as an array of shape ()."""
        key = (repr(float(value)), dtype)
        if key not in self._scalars:
            self._scalars[key] = np.array(value, dtype)
        return self.constant(self._scalars[key])

    def text(self, docstring: str, body: str) -> str:
        """The complete module."""
        values = list(self._constants.items())
        needs_base64 = any(
            isinstance(v, np.ndarray) and v.size > INLINE_CONSTANT for _, v in values
        )
        imports = ["import base64", ""] if needs_base64 else []
        parts = ["\n".join([f'"""{docstring}"""', "", *imports, "import numpy as np"])]
        if values:
            parts.append("\n".join(f"{name} = {spell(value)}" for name, value in values))
        parts += [source.rstrip() for source in self._helpers.values() if source]
        parts.append(body)
        return "\n\n\n".join(parts) + "\n"


def _global_names(function: FunctionType) -> list[str]:
    """Names that a function, or one nested in it, looks up globally."""
    names: list[str] = []
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        loads = [i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"]
        names += [n for n in loads if n not in names]
        codes += [c for c in code.co_consts if inspect.iscode(c)]
    return names


def _rename(source: str, old: str, new: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(old)}(?=\s*\()", new, source)


def spell(value: Any) -> str:
    """An expression that evaluates to `value`."""
    if isinstance(value, np.ndarray):
        return _spell_array(value)
    if isinstance(value, np.generic):
        if value.dtype.kind in "fc" and not np.isfinite(value):
            return f"np.{value.dtype.name}({spell_python(value.item())})"
        return f"np.{value.dtype.name if value.dtype != bool else 'bool_'}({value.item()!r})"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(spell, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    return spell_python(value)


def spell_python(value: Any) -> str:
    """`repr`, but for infinities and NaN, whose repr is no expression."""
    if isinstance(value, float) and not np.isfinite(value):
        return {"inf": "np.inf", "-inf": "-np.inf"}.get(repr(value), "np.nan")
    if isinstance(value, complex) and not np.isfinite(value):
        return f"complex({spell_python(value.real)}, {spell_python(value.imag)})"
    return repr(value)


def _spell_array(value: np.ndarray) -> str:
    dtype = f"np.{value.dtype.name}" if value.dtype != bool else "np.bool_"
    if value.size <= INLINE_CONSTANT:
        flat = ", ".join(spell_python(v) for v in value.ravel().tolist())
        base = (
            f"np.array({flat}, dtype={dtype})"
            if not value.ndim
            else f"np.array([{flat}], dtype={dtype})"
        )
        return base if value.ndim <= 1 else f"{base}.reshape({value.shape})"
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(data, 90))
    return f"np.frombuffer(base64.b64decode(\n{lines}\n), dtype={dtype}).reshape({value.shape})"
