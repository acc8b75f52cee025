"""What printed graphs consist of.

Names are given in order of appearance, so that equal graphs print equally.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.aval import short_dtype

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(n: int) -> str:
    """a, b, ..., z, aa, ab, ...: spreadsheet columns."""
    name = ""
    n += 1
    while n:
        n, rest = divmod(n - 1, 26)
        name = _LETTERS[rest] + name
    return name


class Names:
    """Gives each variable and captured array a name at its first use."""

    def __init__(self) -> None:
        self.given: dict[int, str] = {}
        self.consts: dict[str, Any] = {}
        self.count = 0

    def var(self, var: Any) -> str:
        name = self.given.get(id(var))
        if name is None:
            name = self.given[id(var)] = letters(self.count)
            self.count += 1
        return name

    def atom(self, atom: Any) -> str:
        if not hasattr(atom, "value"):
            return self.var(atom)
        if atom.is_literal:
            return literal(atom.value)
        name = self.given.get(id(atom.value))
        if name is None:
            name = self.given[id(atom.value)] = f"const{len(self.consts)}"
            self.consts[name] = atom
        return name


def literal(value: Any) -> str:
    """A scalar as printed: a NumPy scalar shows its dtype, a Python scalar does not."""
    if isinstance(value, np.generic):
        return f"{value.item()!r}:{short_dtype(value.dtype)}"
    return repr(value)


def format_value(value: Any) -> str:
    """A parameter of an equation."""
    if isinstance(value, slice):
        return ":".join("" if p is None else str(p) for p in (value.start, value.stop, value.step))
    if isinstance(value, np.dtype):
        return value.name
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return repr(value)
