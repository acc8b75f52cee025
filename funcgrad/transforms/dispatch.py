"""The short way from a jitted call to its program.

A call with the kind of arguments that the last one had is recognised by a small generated
function, which tests exactly that: structure, types, shapes, dtypes. It costs less than
flattening the arguments and looking up a key, which is what other calls do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.core.device import device_of, is_cupys
from funcgrad.source import define

MISS = object()
Guard = Callable[[tuple[Any, ...]], Any]
_PYTHON = (float, int, complex, bool)


class _Leaf:
    """Marks the place of a leaf in an unflattened tree."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


def make_guard(treedef: Any, leaves: Sequence[Any], run: Callable[..., Any]) -> Guard | None:
    """A function of the tuple of arguments: the program's result, or MISS.

    Args:
        treedef: the structure of that tuple.
        leaves: arguments of the kind to be recognised.
        run: the program, a function of the leaves.

    Returns:
        None where the structure has other containers than dicts with strings as keys, lists and
        (named) tuples.
    """
    names: dict[str, Any] = {"MISS": MISS, "run": run, "ndarray": np.ndarray}
    fetch: list[str] = []
    tests: list[str] = []
    marked = treedef.unflatten([_Leaf(i) for i in range(len(leaves))])
    if not _destructure(marked, "args", fetch, tests, names):
        return None
    for i, leaf in enumerate(leaves):
        test = _leaf_test(i, leaf, names)
        if test is None:
            return None
        tests.append(test)
    call = ", ".join(f"x{i}" for i in range(len(leaves)))
    lines = [
        "def guard(args):",
        "    try:",
        *["        " + line for line in fetch],
        "    except KeyError:",
        "        return MISS",
        f"    if {' and '.join(tests) or 'True'}:",
        f"        return run({call})",
        "    return MISS",
    ]
    define("\n".join(lines), names)
    return names["guard"] if _fetches(names, treedef.unflatten(leaves), leaves) else None


def _fetches(names: dict[str, Any], args: Any, leaves: Sequence[Any]) -> bool:
    """Whether the guard finds the leaves: a class may have a flattening of its own."""
    run, names["run"] = names["run"], lambda *found: found
    found = names["guard"](args)
    names["run"] = run
    return found is not MISS and all(map(operator.is_, found, leaves))


def _destructure(
    x: Any, name: str, fetch: list[str], tests: list[str], names: dict[str, Any]
) -> bool:
    """Lines that take containers apart, each checked before it is opened."""
    if type(x) is _Leaf:
        fetch.append(f"x{x.index} = {name}")
        return True
    if x is None:
        tests.append(f"{_keep(name, fetch)} is None")
        return True
    kind = type(x)
    if kind not in (dict, list, tuple) and not (isinstance(x, tuple) and hasattr(x, "_fields")):
        return False
    # Other keys may be equal to those that are given, and yet not the same.
    if kind is dict and not all(type(key) is str for key in x):
        return False
    here, label = _keep(name, fetch), f"k{len(names)}"
    names[label] = kind
    fetch.append(f"if type({here}) is not {label} or len({here}) != {len(x)}: return MISS")
    items: Any = x.items() if isinstance(x, dict) else enumerate(x)
    for key, value in items:
        label = f"k{len(names)}"
        names[label] = key
        if not _destructure(value, f"{here}[{label}]", fetch, tests, names):
            return False
    return True


def _keep(name: str, fetch: list[str]) -> str:
    """A variable for a container, so that it is fetched once."""
    if name.isidentifier():
        return name
    label = f"n{len(fetch)}"
    fetch.append(f"{label} = {name}")
    return label


def _leaf_test(i: int, leaf: Any, names: dict[str, Any]) -> str | None:
    kind = type(leaf)
    if kind in _PYTHON:
        return f"type(x{i}) is {kind.__name__}"
    on_device = is_cupys(kind)
    if kind is not np.ndarray and not isinstance(leaf, np.generic) and not on_device:
        return None
    names[f"d{i}"] = leaf.dtype
    names[f"s{i}"] = leaf.shape
    if on_device:
        names[f"t{i}"] = kind
        is_array = f"type(x{i}) is t{i} and x{i}.device.id == {device_of(leaf)[1]}"
    elif leaf.shape:
        is_array = f"type(x{i}) is ndarray"
    else:
        # NumPy's own results of shape () are scalars; both run the same program.
        names[f"t{i}"] = leaf.dtype.type
        is_array = f"(type(x{i}) is t{i} or type(x{i}) is ndarray)"
    return f"{is_array} and x{i}.dtype is d{i} and x{i}.shape == s{i}"
