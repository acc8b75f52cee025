"""What functions hold in closures, defaults, attributes and modules: tracers and arrays.

Rules of custom functions run when a derivative is computed, which may be long after the function
was called. Arrays that they hold count as they were then: see `as_it_was`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.tracer import Tracer
from funcgrad.errors import CapturedWriteError
from funcgrad.source import is_internal

_EMPTY_CELL = CellType()
_PLAIN = frozenset({float, int, complex, bool, str, type(None), ModuleType})
_PLAIN |= {np.float64, np.float32, np.complex128, np.complex64}
_FUNCTIONS = (FunctionType, MethodType, functools.partial)

# An array, and what it was; the same array where nobody could write to it.
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def search(*values: Any, modules: bool = False) -> tuple[list[Tracer], list[np.ndarray]]:
    """The tracers and arrays that values are or hold, in containers and functions.

    Args:
        modules: look at what functions of the user's name in their modules, too.
    """
    tracers: dict[int, Tracer] = {}
    arrays: dict[int, np.ndarray] = {}
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is Tracer:
            tracers[id(value)] = value
        elif isinstance(value, np.ndarray):
            if value.dtype.kind in "fiucb":
                arrays[id(value)] = value
        elif kind not in _PLAIN and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, _FUNCTIONS) or _has_rules(value):
                waiting += _held(value)
                if modules and type(value) is FunctionType:
                    waiting += _in_module(value).values()
            else:
                leaves = tree.leaves(value)
                waiting += _held(value) if len(leaves) == 1 and leaves[0] is value else leaves
    return list(tracers.values()), list(arrays.values())


def _has_rules(value: Any) -> bool:
    return type(getattr(value, "rules", None)) is tuple


def _held(function: Any) -> list[Any]:
    """The values that a callable holds."""
    kind = type(function)
    if kind is functools.partial:
        return [function.func, *function.args, *function.keywords.values()]
    if kind is MethodType:
        attributes = getattr(function.__self__, "__dict__", {})
        return [function.__func__, function.__self__, *attributes.values()]
    if _has_rules(function):  # a custom function's own
        return list(function.rules)
    cells = getattr(function, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells if cell != _EMPTY_CELL]
    return [*held, *(getattr(function, "__defaults__", None) or ())]


@lru_cache(maxsize=4096)
def _names_in(code: CodeType) -> frozenset[str]:
    """The names of globals and attributes in a function's code and in those nested in it."""
    inner = (_names_in(c) for c in code.co_consts if type(c) is CodeType)
    return frozenset(code.co_names).union(*inner)


def _in_module(function: FunctionType) -> dict[str, Any]:
    """The arrays and functions that a function of the user's names in its module."""
    if is_internal(function.__code__.co_filename):
        return {}
    of_module = function.__globals__
    named = ((n, of_module[n]) for n in _names_in(function.__code__) if n in of_module)
    return {n: v for n, v in named if isinstance(v, (np.ndarray, FunctionType)) or _has_rules(v)}


# --- at a glance ----------------------------------------------------------------------


class Glance:
    """Where functions hold values, found once, as what is there may be another at each call.

    Attributes:
        cells: all that they hold is there, or in modules; None where that takes a search.
        named: the arrays that they and what they call name in modules, as (module's, name).
    """

    __slots__ = ("cells", "functions", "named")

    def __init__(self, functions: Sequence[Any]):
        self.functions = functions
        self.cells = _cells_of(functions)
        self.named = list(_named_arrays(functions))

    def __bool__(self) -> bool:
        return bool(self.cells is None or self.cells or self.named)

    def look(self, custom: Any) -> tuple[Sequence[Tracer], list[np.ndarray]]:
        """The tracers and arrays held now; `custom` itself may be in a cell."""
        tracers: Sequence[Tracer] = ()
        arrays = None if self.cells is None else _plain_arrays(self.cells, custom)
        if arrays is None:
            tracers, arrays = search(*self.functions)
        for of_module, name in self.named:
            value = of_module.get(name)
            if isinstance(value, np.ndarray):
                arrays.append(value)
        return tracers, arrays


def _cells_of(functions: Iterable[Any]) -> list[CellType] | None:
    cells: list[CellType] = []
    for function in functions:
        if type(function) is not FunctionType or function.__defaults__:
            return None
        cells += function.__closure__ or ()
    return cells


def _plain_arrays(cells: Iterable[CellType], custom: Any) -> list[np.ndarray] | None:
    """The arrays in cells that hold nothing but these, numbers and `custom`; else None."""
    arrays: list[np.ndarray] = []
    for cell in cells:
        if cell != _EMPTY_CELL:
            value = cell.cell_contents
            if type(value) is np.ndarray:
                arrays.append(value)
            elif type(value) not in _PLAIN and value is not custom:
                return None
    return arrays


def _named_arrays(functions: Iterable[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    seen: set[int] = set()
    waiting = list(functions)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, np.ndarray):
            continue
        seen.add(id(value))
        if type(value) is FunctionType:
            for name, found in _in_module(value).items():
                if isinstance(found, np.ndarray):
                    yield value.__globals__, name
                else:
                    waiting.append(found)
        if isinstance(value, _FUNCTIONS) or _has_rules(value):
            waiting += _held(value)


# --- as it was ------------------------------------------------------------------------


def as_it_was(function: Any, written: Mapping[int, np.ndarray], name: str) -> Any:
    """The function with copies of arrays, by their ids, in place of those that it holds.

    Raises:
        CapturedWriteError: it holds one that was written to in a list, a dict or an object, which
            cannot be copied for it.
    """
    found = _Copier(written).of(function)
    _, arrays = search(found, modules=True)
    for a in arrays:
        if id(a) in written:
            raise CapturedWriteError.held(name, a)
    return found


def _holds(value: Any, arrays: Mapping[int, np.ndarray]) -> bool:
    return any(id(a) in arrays for a in search(value, modules=True)[1])


class _Module(dict[str, Any]):
    """A module's names, some of which stand for something else."""

    def __init__(self, of_module: dict[str, Any], own: Mapping[str, Any]):
        super().__init__(own)
        self.of_module = of_module

    def __missing__(self, name: str) -> Any:
        return self.of_module[name]


class _Copier:
    """Copies functions, each once, with copies of arrays in place of those that they hold."""

    def __init__(self, arrays: Mapping[int, np.ndarray]):
        self.arrays = arrays
        self.copies: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self.arrays.get(id(value), value)
        found = self.copies.get(id(value))
        if found is not None:
            return found
        if not _holds(value, self.arrays):
            return value
        kind = type(value)
        if kind is FunctionType:
            return self._function(value)
        if kind is tuple:
            return tuple(map(self.of, value))
        if kind is functools.partial:
            keywords = {k: self.of(v) for k, v in value.keywords.items()}
            return functools.partial(self.of(value.func), *map(self.of, value.args), **keywords)
        if _has_rules(value):
            # It may call itself.
            copy = self.copies[id(value)] = value.copy()
            copy.set_rules(*map(self.of, value.rules))
            return copy
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        cells = function.__closure__ or ()
        # Others are shared, as they may be assigned to.
        own = [c if not _holds_in(c, self.arrays) else CellType() for c in cells]
        names = [n for n, v in _in_module(function).items() if _holds(v, self.arrays)]
        of_module = function.__globals__
        module = _Module(of_module, {}) if names else of_module
        copy = FunctionType(function.__code__, module, function.__name__, None, tuple(own))
        self.copies[id(function)] = copy
        copy.__kwdefaults__ = function.__kwdefaults__
        if function.__defaults__:
            copy.__defaults__ = tuple(map(self.of, function.__defaults__))
        for cell, now in zip(cells, own, strict=True):
            if now is not cell:
                now.cell_contents = self.of(cell.cell_contents)
        for name in names:
            module[name] = self.of(of_module[name])
        return copy


def _holds_in(cell: CellType, arrays: Mapping[int, np.ndarray]) -> bool:
    return cell != _EMPTY_CELL and _holds(cell.cell_contents, arrays)
