"""Generated Python modules that need only NumPy: with copies of their helper functions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from funcgrad.backends.common.spelling import spell
from funcgrad.backends.numpy.helpers import copied
from funcgrad.backends.numpy.module import BUILT_IN, CUPY, Module, Names
from funcgrad.core.device import CPU, Device, is_cupys

WIDTH = 100


class Standalone(Module):
    """A module whose text says all of it."""

    def __init__(self, names: Names, device: Device = CPU) -> None:
        super().__init__(names, device)
        self._copies: dict[FunctionType, str] = {}

    def text(self, docstring: str, lines: Sequence[str]) -> str:
        """The complete module, `lines` at its end.

        Raises:
            ValueError: a primitive's implementation cannot be copied.
            TypeError: a constant cannot be written.
        """
        self._copy_helpers()
        constants = [_wrap(f"{name} = {_spell(value)}") for name, value in self._constants.items()]
        imports = [
            f"import {m}" if m == a else f"import {m} as {a}" for a, m in self._modules.items()
        ]
        if any("base64." in line for line in constants):
            imports.insert(0, "import base64")
        head = [f'"""{docstring}"""', ""]
        if any(copied(function).annotated for function in self._helpers):
            head += ["from __future__ import annotations", ""]
        if imports:
            head += [*imports, ""]
        parts = ["\n".join([*head, "import numpy as np"])]
        if constants:
            parts.append("\n".join(constants))
        parts += [*self._copies.values(), *self.functions, "\n".join(lines)]
        return "\n\n\n".join(parts) + "\n"

    def builtins(self) -> frozenset[str]:
        """The names of Python's own that the module must not hide."""
        self._copy_helpers()
        return BUILT_IN.union(*(copied(function).builtins for function in self._helpers))

    def _copy_helpers(self) -> None:
        """Copy the helpers' sources, and those of what they refer to."""
        while len(self._copies) < len(self._helpers):
            function = next(f for f in self._helpers if f not in self._copies)
            copy = copied(function)
            names = {used: self._reference(used, function.__globals__[used]) for used in copy.uses}
            self._copies[function] = copy.renamed(names, self._helpers[function])

    def _reference(self, name: str, value: Any) -> str:
        """What stands for a global name of a helper."""
        if value is np:
            return "np"
        if isinstance(value, FunctionType):
            if value not in self._helpers:
                self._helpers[value] = self.names.unused(name)
            return self._helpers[value]
        key = ("global", name, id(value))
        if key not in self._named:
            if isinstance(value, ModuleType):
                self._named[key] = self.names.unused(name)
                self._modules[self._named[key]] = value.__name__
            else:
                self._named[key] = self._define(value, name)
        return self._named[key]


def _spell(value: Any) -> str:
    return f"{CUPY}.asarray({spell(value.get())})" if is_cupys(type(value)) else spell(value)


def _wrap(line: str) -> str:
    """A long line of numbers in brackets on several lines."""
    if len(line) <= WIDTH or '"' in line or "'" in line:
        return line
    return textwrap.fill(
        line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
