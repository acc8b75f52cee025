"""A program's module as several that can be compiled side by side.

Its *glue*, the functions that run once for each of many calls of others, is one of them, which
is compiled quickly: most of its instructions are calls, and making it faster would take longer
than it ever runs. The other functions are dealt out; what only they call goes with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from funcgrad.backends.llvm.codegen import Part
from funcgrad.backends.llvm.writer import Module

# How functions are marked.
PLAIN, GLUE = "#0", "#1"
ATTRIBUTES = f"""\
attributes {PLAIN} = {{ nounwind alignstack=64 }}
attributes {GLUE} = {{ noinline optnone }}
"""
# Setting up a module takes as long as compiling a small part of this much text.
_PART_TEXT = 10_000
_NAME = re.compile(r"@([\w.$]+)")
_HEAD = re.compile(r"define internal (\w+) @[\w.$]+\((.*?)\)")


def whole(module: Module) -> str:
    """The text of the module."""
    return f"{ATTRIBUTES}{module}"


def parts(module: Module, root: str) -> list[Part]:
    """The modules that it is compiled as.

    Args:
        root: the function that is called from outside. Where it is no glue, the program is a
            small one, and a single part.
    """
    glue = {n: t for n, t in module.functions.items() if f" {GLUE} {{" in t.partition("\n")[0]}
    if root not in glue:
        return [Part(whole(module))]
    others = {n: t for n, t in module.functions.items() if n not in glue}
    calls = {name: _names(text) & others.keys() for name, text in others.items()}
    called = set().union(*map(_names, glue.values())) & others.keys()
    groups = _dealt({name: _closure(name, calls) for name in called}, others)
    heads = "\n".join(_declaration(name, others[name]) for name in others if name in called)
    functions = "\n".join(map(_public, glue.values()))
    found = [Part(_text(module, f"{heads}\n{functions}"), 0)]
    for roots, names in groups:
        texts = [_public(t) if n in roots else t for n, t in others.items() if n in names]
        found.append(Part(_text(module, "\n".join(texts))))
    return found


def _names(text: str) -> set[str]:
    return set(_NAME.findall(text))


def _closure(name: str, calls: Mapping[str, Iterable[str]]) -> set[str]:
    """A function with all that it calls, and these call."""
    found, left = {name}, [name]
    while left:
        new = set(calls[left.pop()]) - found
        found |= new
        left += new
    return found


def _dealt(
    closures: Mapping[str, set[str]], texts: Mapping[str, str]
) -> list[tuple[set[str], set[str]]]:
    """Functions in groups of about equal text, each with the names of all it consists of."""
    sizes = {name: sum(len(texts[n]) for n in names) for name, names in closures.items()}
    count = max(sum(sizes.values()) // _PART_TEXT, 1)
    groups: list[tuple[set[str], set[str]]] = [(set(), set()) for _ in range(count)]
    filled = [0] * count
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        least = filled.index(min(filled))
        filled[least] += sizes[name]
        groups[least][0].add(name)
        groups[least][1].update(closures[name])
    return [group for group in groups if group[0]]


def _text(module: Module, functions: str) -> str:
    """A module of these functions, with what they refer to."""
    names = _names(functions)
    lines = [line for line in module.declarations.values() if names & _names(line)]
    return "\n".join([ATTRIBUTES, *lines, functions, ""])


def _public(text: str) -> str:
    """A function as other modules can call it."""
    return text.replace("define internal ", "define ", 1)


def _declaration(name: str, text: str) -> str:
    match = _HEAD.search(text)
    assert match is not None, text
    types = ", ".join(p.split()[0] for p in match[2].split(",") if p)
    return f"declare {match[1]} @{name}({types})"
