"""How a generated function takes its arguments apart and puts its result together."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

from funcgrad import tree
from funcgrad.backends.common.spelling import spell
from funcgrad.backends.numpy.module import Names
from funcgrad.core.aval import aval_of
from funcgrad.errors import ExportError, at_line

_PATH = (tree.DictKey, tree.SequenceKey, tree.AttrKey)


def identifier(text: str) -> str:
    """`text` with what no name may have replaced: `params['w'][0]` becomes `params_w_0`."""
    if not text.isidentifier():
        text = re.sub(r"\W+", "_", text).strip("_")
        text = text if text.isidentifier() else f"x_{text}".rstrip("_")
    return f"{text}_" if keyword.iskeyword(text) else text


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
