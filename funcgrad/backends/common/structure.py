"""Pytrees as source: the expression of a structure whose leaves are given expressions."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

from funcgrad._static import dataclass_fields
from funcgrad.backends.common.spelling import spell
from funcgrad.errors import ExportError, at_line

_PLAIN = (dict, list, tuple, type(None))
_KEYS = (str, int, bool)


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
