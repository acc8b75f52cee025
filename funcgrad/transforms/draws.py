"""Random numbers that are drawn while a function is traced: a program repeats them.

Which generators a function draws from is looked up in its closure, its globals, its defaults and
its `self`, and in functions, containers and objects found there; their states tell afterwards.
NumPy's global generator is watched in any case, by a counter of its that costs nothing to read.
"""

from __future__ import annotations

import ctypes
import dis
import functools
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from funcgrad.core.notices import tell
from funcgrad.errors import FrozenRandomWarning
from funcgrad.records import NamedTuple
from funcgrad.source import SourceLine, is_internal, user_line

# How far functions that functions call are looked into, and objects in objects; how many in all.
_DEPTH = 4
_MOST = 500


class Watch(NamedTuple):
    """What is known of generators before a function is traced.

    Attributes:
        counter: of the global generator; None where nobody has used it yet.
        states: generators that the function may draw from, their states, where it names them.
    """

    counter: int | None
    states: list[tuple[Any, bytes, SourceLine]]


# By the id of their code, functions that close over nothing and within whose reach, their module's
# globals, no generator was found; that is taken to stay so.
_without: dict[int, tuple[CodeType, dict[str, Any]]] = {}


def watch(fun: Callable[..., Any]) -> Watch:
    """The state of the generators that `fun` may draw from."""
    is_open = type(fun) is FunctionType and not (
        fun.__closure__ or fun.__defaults__ or fun.__kwdefaults__
    )
    if is_open:
        known = _without.get(id(fun.__code__))
        if known is not None and known[1] is fun.__globals__:
            return Watch(_counter(), [])
    found: _Found = {}
    _look_into(fun, _DEPTH, found)
    states = [(n[0], _state(n[0]), n[1]) for n in found.values() if n is not None]
    if is_open and not states:
        if len(_without) > 4096:
            _without.clear()
        _without[id(fun.__code__)] = (fun.__code__, fun.__globals__)
    return Watch(_counter(), states)


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


def _kinds() -> tuple[type, ...]:
    """The classes of generators."""
    # A module that nobody has imported has no generators in use.
    pythons, numpys = sys.modules.get("random"), sys.modules.get("numpy.random")
    return (
        *(() if pythons is None else (pythons.Random,)),
        *(() if numpys is None else (numpys.Generator, numpys.RandomState)),
    )


def _state(generator: Any) -> bytes:
    if hasattr(generator, "getstate"):
        try:
            return pickle.dumps(generator.getstate())
        except NotImplementedError:
            # The system's own entropy has no state that could tell.
            return b""
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

# By id, generators and the line that names each; functions that were looked into, with None.
_Found = dict[int, tuple[Any, SourceLine] | None]

# What is in nearly every function's reach, and has no generator.
_PLAIN = frozenset({int, float, bool, str, type, type(None), np.ndarray, np.ufunc})
_PLAIN |= {type(np.sum)}


@lru_cache(maxsize=1024)
def _mentions(code: CodeType) -> dict[str, int]:
    """The names in a function's code and in those nested in it, each with its first line.

    For `np.random` there is that, too.
    """
    names: dict[str, int] = {}
    line, before = code.co_firstlineno, None
    for instruction in dis.get_instructions(code):
        positions = instruction.positions
        line = positions.lineno or line if positions else line
        name = instruction.argval
        if type(name) is str:
            names.setdefault(name, line)
            if name == "random":
                names.setdefault(f"{before}.random", line)
        before = name
    for constant in code.co_consts:
        if type(constant) is CodeType:
            for name, number in _mentions(constant).items():
                names.setdefault(name, number)
    return names


def _names_in(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function's code and in those nested in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _names_in(constant)


# By the id of a function's code, as hashing code takes long: the code and its `_globals_of`.
_globals: dict[int, tuple[CodeType, tuple[str, ...]]] = {}


def _globals_of(code: CodeType) -> tuple[str, ...]:
    """The names of a user's function that may be globals."""
    known = _globals.get(id(code))
    if known is not None:
        return known[1]
    if len(_globals) > 4096:
        _globals.clear()
    names: tuple[str, ...] = () if is_internal(code.co_filename) else tuple(_names_in(code))
    if "random" in names:
        # Of what it is an attribute only the instructions tell, which take long to read.
        names = tuple(_mentions(code))
    _globals[id(code)] = (code, names)
    return names


def _look_into(fun: Any, depth: int, found: _Found) -> None:
    """Find the generators within reach of a function."""
    kind = type(fun)
    if kind is functools.partial:
        if type(fun.func) is FunctionType:
            for value in (*fun.args, *fun.keywords.values()):
                _consider(value, "", fun.func.__code__, depth, found)
        fun = fun.func
    elif kind is MethodType and type(fun.__func__) is FunctionType:
        for name, value in getattr(fun.__self__, "__dict__", {}).items():
            _consider(value, name, fun.__func__.__code__, depth, found)
        fun = fun.__func__
    if type(fun) is not FunctionType or id(fun) in found or not depth:
        return
    code, of_module = fun.__code__, fun.__globals__
    found[id(fun)] = None
    if is_internal(code.co_filename):
        # What wraps a user's function is no step on the way there.
        depth += 1
    names = _globals_of(code)
    for name in names:
        value = of_module.get(name)
        if type(value) not in _PLAIN and (value is not np or f"{name}.random" in names):
            _consider(value, name, code, depth, found)
    if fun.__closure__:
        for name, cell in zip(code.co_freevars, fun.__closure__, strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                # It has none yet.
                continue
            if type(value) not in _PLAIN:
                _consider(value, name, code, depth, found)
    if fun.__defaults__ or fun.__kwdefaults__:
        for value in (*(fun.__defaults__ or ()), *(fun.__kwdefaults__ or {}).values()):
            _consider(value, "", code, depth, found)


def _consider(value: Any, name: str, code: CodeType, depth: int, found: _Found) -> None:
    """Note a generator that the function of this code has by this name, or look further."""
    if type(value) in _PLAIN or len(found) > _MOST:
        return
    kinds = _kinds()
    if value is np:
        name, value = f"{name}.random", np.random.rand.__self__
    elif value is sys.modules.get("random"):
        value = value.random.__self__
    elif value is sys.modules.get("numpy.random"):
        value = value.rand.__self__
    elif type(value) in (FunctionType, MethodType, BuiltinFunctionType, functools.partial):
        if not isinstance(getattr(value, "__self__", None), kinds):
            _look_into(value, depth - 1, found)
            return
        # A method of a generator, such as np.random.normal by itself.
        value = value.__self__
    if isinstance(value, kinds):
        line = _mentions(code).get(name, code.co_firstlineno)
        found.setdefault(id(value), (value, SourceLine(code.co_filename, line, code.co_name)))
    elif depth and id(value) not in found:
        found[id(value)] = None
        if not isinstance(value, (dict, list, tuple)):
            depth -= 1
        for part in _parts_of(value, code):
            if type(part) not in _PLAIN:
                _consider(part, name, code, depth, found)


def _parts_of(value: Any, code: CodeType) -> Iterable[Any]:
    """What a container or an object has; of a module, what the code names."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return value
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is not dict:
        return ()
    if type(value) is not ModuleType:
        return list(attributes.values())
    if is_internal(getattr(value, "__file__", None) or "<frozen"):
        return ()
    return [attributes[name] for name in _globals_of(code) if name in attributes]
