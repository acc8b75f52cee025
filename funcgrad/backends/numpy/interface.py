"""How a generated function takes its arguments apart and puts its result together."""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

from funcgrad import tree
from funcgrad.backends.numpy.module import Names
from funcgrad.backends.numpy.spelling import spell
from funcgrad.core.aval import aval_of
from funcgrad.errors import ExportError, at_line

_PLAIN = (dict, list, tuple, type(None))
_KEYS = (str, int, bool)
_PATH = (tree.DictKey, tree.SequenceKey, tree.AttrKey)


class _Name(str):
    """A leaf's expression while a structure is being rendered."""

    __slots__ = ()


def identifier(text: str) -> str:
    """`text` with what no name may have replaced: `params['w'][0]` becomes `params_w_0`."""
    if not text.isidentifier():
        text = re.sub(r"\W+", "_", text).strip("_")
        text = text if text.isidentifier() else f"x_{text}".rstrip("_")
    return f"{text}_" if keyword.iskeyword(text) else text


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
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return _render({f.name: getattr(x, f.name) for f in dataclasses.fields(x)})
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


def describe(parameters: Sequence[tuple[str, Any]]) -> str:
    """`x: f64[3], params: {'w': f64[2]}`: what the parameters were compiled for."""
    texts = []
    for name, value in parameters:
        leaves, treedef = tree.flatten(value)
        texts.append(f"{name}: {treedef.unflatten([aval_of(leaf) for leaf in leaves])!r}")
    return ", ".join(texts)


def unpack_lines(
    parameters: Sequence[tuple[str, Any]], names: Names
) -> tuple[list[str], list[str]]:
    """Lines that take parameters apart, and the names of their leaves in order.

    Raises:
        ExportError: a parameter has a class whose parts source cannot reach without funcgrad.
    """
    lines: list[str] = []
    leaves: list[str] = []
    for parameter, value in parameters:
        for path, _ in tree.flatten_with_path(value)[0]:
            if not path:
                leaves.append(parameter)
                continue
            name = names.unused(identifier(parameter + tree.keystr(path)))
            lines.append(f"{name} = {parameter}{''.join(map(_step, path))}")
            leaves.append(name)
    return lines, leaves


def _step(key: Any) -> str:
    if type(key) in _PATH:
        if type(key) is not tree.DictKey:
            return str(key)
        try:
            return f"[{spell(key.key)}]"
        except TypeError:
            pass
    raise at_line(
        ExportError,
        f"an argument's part {key} cannot be reached by source that knows only NumPy; pass dicts "
        "with plain keys, lists, tuples, named tuples or dataclasses to a function whose text is "
        "asked for",
    )
