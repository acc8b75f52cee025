"""How a generated function takes its arguments apart and puts its result together."""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from funcgrad import tree

_PLAIN = (dict, list, tuple, type(None))


class _Name(str):
    """A leaf's expression while a structure is being rendered."""

    __slots__ = ()


def is_plain(treedef: Any) -> bool:
    """Whether a structure has only dicts, lists, tuples and None, as source can spell it."""

    def plain(x: Any) -> bool:
        if type(x) is _Name:
            return True
        if type(x) is dict:
            return all(map(_spellable, x)) and all(map(plain, x.values()))
        return type(x) in _PLAIN and all(map(plain, x or ()))

    return plain(treedef.unflatten([_Name()] * treedef.num_leaves))


def _spellable(key: Any) -> bool:
    return type(key) in (str, int, bool)


def render_tree(treedef: Any, texts: Sequence[str]) -> str:
    """The expression of a tree whose leaves are the given expressions.

    Raises:
        TypeError: a class that generated source cannot name without funcgrad.
    """
    return _render(treedef.unflatten([_Name(t) for t in texts]))


def _render(x: Any) -> str:
    if type(x) is _Name:
        return str.__str__(x)
    if x is None:
        return "None"
    if dataclasses.is_dataclass(x):
        x = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    if isinstance(x, (dict, OrderedDict)):
        return "{" + ", ".join(f"{k!r}: {_render(v)}" for k, v in x.items()) + "}"
    if isinstance(x, tuple):
        inner = ", ".join(map(_render, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    if isinstance(x, list):
        return f"[{', '.join(map(_render, x))}]"
    if isinstance(x, (str, int, float, bool)):
        return repr(x)
    raise TypeError(
        f"{type(x).__name__} in the result cannot be written as source; return dicts, lists, "
        "tuples or arrays from a function whose text is asked for"
    )


def unpack_lines(parameters: Sequence[tuple[str, Any]]) -> tuple[list[str], list[str]]:
    """Lines that take parameters apart, and the names of their leaves in order."""
    lines: list[str] = []
    leaves: list[str] = []
    taken = {name for name, _ in parameters}
    for parameter, value in parameters:
        for path, _ in tree.flatten_with_path(value)[0]:
            where = tree.keystr(path)
            if not where:
                leaves.append(parameter)
                continue
            name = _identifier(parameter + where, taken)
            taken.add(name)
            lines.append(f"{name} = {parameter}{where}")
            leaves.append(name)
    return lines, leaves


def _identifier(text: str, taken: set[str]) -> str:
    name = re.sub(r"\W+", "_", text).strip("_")
    if keyword.iskeyword(name) or name in taken or not name.isidentifier():
        base, n = name, 2
        name = f"{base}_{n}"
        while name in taken:
            n += 1
            name = f"{base}_{n}"
    return name
