"""Random numbers of NumPy's that are drawn while a function is traced: a program repeats them.

Which generators a function draws from is looked up in its closure, its globals, its defaults and
its `self`, and in those of functions found there; their states tell afterwards. NumPy's global
generator is watched in any case, by a counter of its that costs nothing to read.
"""

from __future__ import annotations

import ctypes
import dis
import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.notices import tell
from funcgrad.core.source import SourceLine, is_internal, user_line
from funcgrad.errors import FrozenRandomWarning

# How far functions that functions call are looked into.
_DEPTH = 4


class Watch(NamedTuple):
    """What is known of generators before a function is traced.

    Attributes:
        counter: of the global generator; None where nobody has used it yet.
        states: generators that the function may draw from, their states, where it names them.
    """

    counter: int | None
    states: list[tuple[Any, bytes, SourceLine]]


def watch(fun: Callable[..., Any]) -> Watch:
    """The state of the generators that `fun` may draw from."""
    module = sys.modules.get("numpy.random")
    if module is None:
        return Watch(None, [])
    found: dict[int, tuple[Any, SourceLine]] = {}
    for generator, line in _generators(fun, module, _DEPTH, set()):
        found.setdefault(id(generator), (generator, line))
    return Watch(_counter(), [(g, _state(g), line) for g, line in found.values()])


def check(before: Watch, purpose: str) -> None:
    """Warn if a generator was drawn from since."""
    for generator, state, line in before.states:
        if _state(generator) != state:
            tell(FrozenRandomWarning, FrozenRandomWarning.message(purpose), line)
            return
    after = _counter()
    if after != (_SEEDED if before.counter is None and after is not None else before.counter):
        line = user_line()
        if line is not None:
            tell(FrozenRandomWarning, FrozenRandomWarning.message(purpose), line)


def _state(generator: Any) -> bytes:
    legacy = hasattr(generator, "get_state")
    return pickle.dumps(generator.get_state(False) if legacy else generator.bit_generator.state)


# --- the global generator --------------------------------------------------------------

# Mersenne Twister: 624 words, then the position of the next; what it is after seeding.
_WORDS, _SEEDED = 624, 623


def _counter() -> int | None:
    """How far NumPy's global generator is; None where it is not loaded or of another kind."""
    module = sys.modules.get("numpy.random")
    if module is None:
        return None
    bits = module.get_bit_generator()
    if type(bits) is not module.MT19937:
        return None
    return _words(bits.ctypes.state_address)[_WORDS]


@lru_cache(maxsize=4)
def _words(address: int) -> Any:
    return (ctypes.c_uint32 * (_WORDS + 1)).from_address(address)


# --- generators that a function can get at ---------------------------------------------


@lru_cache(maxsize=1024)
def _mentions(code: CodeType) -> dict[str, int]:
    """The names in a function's code and in those nested in it, each with its first line."""
    names: dict[str, int] = {}
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        positions = instruction.positions
        line = positions.lineno or line if positions else line
        if type(instruction.argval) is str:
            names.setdefault(instruction.argval, line)
    for constant in code.co_consts:
        if type(constant) is CodeType:
            for name, number in _mentions(constant).items():
                names.setdefault(name, number)
    return names


def _generators(
    x: Any, module: ModuleType, depth: int, seen: set[int]
) -> Iterator[tuple[Any, SourceLine]]:
    """The generators within reach of a function, each with the line that names it."""
    kind = type(x)
    if kind is functools.partial:
        if type(x.func) is FunctionType:
            values = {f"argument {i}": value for i, value in enumerate(x.args)} | x.keywords
            yield from _of_values(x.func, values, module, depth, seen)
        yield from _generators(x.func, module, depth, seen)
    elif kind is MethodType and type(x.__func__) is FunctionType:
        attributes = getattr(x.__self__, "__dict__", {})
        yield from _of_values(x.__func__, attributes, module, depth, seen)
        yield from _generators(x.__func__, module, depth, seen)
    elif kind is FunctionType and id(x) not in seen and depth:
        seen.add(id(x))
        names = _mentions(x.__code__)
        values: dict[str, Any] = dict(x.__kwdefaults__ or {})
        if not is_internal(x.__code__.co_filename):
            values |= {n: x.__globals__[n] for n in names if n in x.__globals__}
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            try:
                values[name] = cell.cell_contents
            except ValueError:
                # It has none yet.
                continue
        for i, value in enumerate(x.__defaults__ or ()):
            values[f"default {i}"] = value
        yield from _of_values(x, values, module, depth, seen)


def _of_values(
    fun: Any, values: dict[str, Any], module: ModuleType, depth: int, seen: set[int]
) -> Iterator[tuple[Any, SourceLine]]:
    code = fun.__code__
    kinds = (module.Generator, module.RandomState)
    names = _mentions(code)
    for name, value in values.items():
        line = names.get(name, code.co_firstlineno)
        if value is np or value is module:
            if value is module or "random" in names:
                line = names.get("random", line)
                generator = module.rand.__self__
            else:
                continue
        elif isinstance(value, kinds):
            generator = value
        elif callable(value) and isinstance(getattr(value, "__self__", None), kinds):
            # A method of a generator, such as np.random.normal by itself.
            generator = value.__self__
        else:
            yield from _generators(value, module, depth - 1, seen)
            continue
        yield generator, SourceLine(code.co_filename, line, code.co_name)
