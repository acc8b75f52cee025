"""Why a jitted function was traced again: the key it missed with, against the nearest."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import PYTHON_SCALARS, Aval


def _describe(key: Any) -> tuple[Any, Any, list[str]]:
    """A key's tree structure, static arguments, and what each leaf is."""
    (treedef, static, _), *parts = key
    leaves: list[str] = []
    supply = iter(parts)
    for part in supply:
        if isinstance(part, type):
            dtype = PYTHON_SCALARS.get(part, np.dtype(bool))
            leaves.append(f"a Python {part.__name__} ({Aval((), dtype)})")
        elif isinstance(part, tuple) and (not part or isinstance(part[0], int)):
            leaves.append(str(Aval(part, next(supply))))
        else:
            leaves.append(str(part))
    return treedef, static, leaves


def _differences(new: Any, old: Any) -> list[str]:
    (tree_a, static_a, leaves_a), (tree_b, static_b, leaves_b) = _describe(new), _describe(old)
    found = []
    if static_a != static_b:
        old_values = dict(static_b or ())
        for where, value in static_a or ():
            if where not in old_values or old_values[where] != value:
                before = repr(old_values[where]) if where in old_values else "absent"
                found.append(f"static argument {where!r} is {value!r}; it was {before}")
    if tree_a != tree_b:
        found.append(f"the arguments' structure is {tree_a}; it was {tree_b}")
        return found
    paths = tree.flatten_with_path(tree_a.unflatten([0] * len(leaves_a)))[0]
    for (path, _), a, b in zip(paths, leaves_a, leaves_b, strict=True):
        if a != b:
            found.append(f"{tree.keystr(path)} is {a}; it was {b}")
    return found


def explain_miss(miss: tuple[Any, list[Any]] | None) -> str:
    """The text of `jit(f).explain()`."""
    if miss is None:
        return "not traced yet"
    key, earlier = miss
    if not earlier:
        return "traced: this was the first call"
    nearest = min((_differences(key, old) for old in reversed(earlier)), key=len)
    return "retraced: " + "; ".join(nearest) + " in the nearest earlier call"
