"""A generated Python module: helper functions and constants, beside the program's lines."""

from __future__ import annotations

import builtins
import keyword
import sys
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import numpy as np

from funcgrad.core.device import CPU, Device, is_array
from funcgrad.core.printing import letters
from funcgrad.core.snapshot import snapshot

# What the lines of a program refer to besides names that are made for it.
BUILT_IN = frozenset({"np", "range", "reversed", "complex"})
# CuPy's name, in programs that run on a device.
CUPY = "cp"
# Above each function: what NumPy would warn of is no news of a compiled program.
ERRSTATE = '@np.errstate(all="ignore")'


class Names:
    """Names that are free: no keyword, no other variable's, constant's or function's."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {*taken, *BUILT_IN, *dir(builtins), *keyword.kwlist, "base64"}
        self._count = 0

    def fresh(self) -> str:
        """A variable: a, b, ..., z, aa, ..."""
        while True:
            name = letters(self._count)
            self._count += 1
            if name not in self.taken:
                self.taken.add(name)
                return name

    def unused(self, name_hint: str) -> str:
        """`name_hint` itself where it is free, else with a number behind it."""
        name, n = name_hint, 1
        while name in self.taken:
            n += 1
            name = f"{name_hint}_{n}"
        self.taken.add(name)
        return name


class Module:
    """Collects what a program needs besides its own lines.

    Attributes:
        device: where the program runs.
        names: the names taken, in the module and in its functions.
        namespace: what the program's text refers to, for running it in this process.
        functions: texts of functions that the program calls.
    """

    def __init__(self, names: Names, device: Device = CPU) -> None:
        self.device = device
        self.names = names
        self.namespace: dict[str, Any] = {"np": np}
        self._modules: dict[str, str] = {}
        if device != CPU:
            self.names.taken.add(CUPY)
            self.namespace[CUPY] = sys.modules["cupy"]
            self._modules[CUPY] = "cupy"
        self.functions: list[str] = []
        self._helpers: dict[FunctionType, str] = {}
        self._constants: dict[str, Any] = {}
        self._named: dict[Any, str] = {}
        # What is named by its id must live as long as the names are given.
        self._kept: list[Any] = []

    def helper(self, function: FunctionType, run: Callable[..., Any] | None = None) -> str:
        """The name under which a primitive's own implementation is available.

        Args:
            run: what runs in this process, where it is not the function itself.
        """
        name = self._helpers.get(function)
        if name is None:
            name = self._helpers[function] = self.names.unused(function.__name__.strip("_<>"))
            self.namespace[name] = run or function
        return name

    def constant(self, value: Any) -> str:
        """The name of an array or number that the program refers to."""
        if CUPY in self.namespace and isinstance(value, np.ndarray) and not value.shape:
            # CuPy takes numbers, but no arrays of NumPy's.
            value = value[()]
        if is_array(value):
            name = self._named.get(id(value))
            if name is None:
                self._kept.append(value)
                # The program must not change when the user writes to the array later.
                name = self._named[id(value)] = self._define(snapshot(value))
            return name
        value = np.asarray(value)[()]
        return self._shared((value.dtype, value.tobytes()), lambda: value)

    def scalar(self, value: float, dtype: np.dtype) -> str:
        """The name of a scalar kept as an array of shape ()."""
        array = np.array(value, dtype)
        array.flags.writeable = False
        return self._shared((dtype, array.tobytes(), "array"), lambda: array)

    def _shared(self, key: Any, make: Any) -> str:
        name = self._named.get(key)
        if name is None:
            name = self._named[key] = self._define(make())
        return name

    def _define(self, value: Any, name_hint: str = "") -> str:
        name = self.names.unused(name_hint or f"const{len(self._constants)}")
        self._constants[name] = self.namespace[name] = value
        return name
