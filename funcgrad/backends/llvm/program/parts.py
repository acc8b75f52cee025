"""A program's module as several that can be compiled side by side.

Its *drivers*, the functions that run once for each of many calls of others, are one of them, which
is compiled quickly: most of its instructions are calls, and making it faster would take longer
than it ever runs. The kernels are dealt out, each with what it calls.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

from funcgrad.backends.llvm.ir.writer import DRIVER, KERNEL, Module
from funcgrad.backends.llvm.runtime.codegen import Part

ATTRIBUTES = f"""\
attributes {KERNEL} = {{ nounwind alignstack=64 }}
attributes {DRIVER} = {{ noinline optnone }}
"""
# Programs of more scalar operations than this a call have their drivers compiled quickly.
LARGE_WORK = 200_000
# So do those whose drivers have more text, whatever they work: it would take most of the time.
_LONG_TEXT = 50_000
# Setting up a module takes as long as compiling a small part of this much text.
_PART_TEXT = 10_000
_NAME = re.compile(r"@([\w.$]+)")
_HEAD = re.compile(r"define internal (\w+) @[\w.$]+\((.*?)\)")


def whole(module: Module) -> str:
    """The text of the module."""
    return f"{ATTRIBUTES}{module}"


def parts(module: Module, root: str) -> list[Part]:
    """The modules that it is compiled as.

    Kernels call no drivers.

    Args:
        root: the function that is called from outside. Where it is no driver, the program is a
            small one, and a single part unless it is long.
    """
    texts = module.functions
    drivers, kernels = ({n for n, t in texts.items() if _is(mark, t)} for mark in (DRIVER, KERNEL))
    is_large = root in drivers
    if not is_large and sum(len(texts[n]) for n in drivers) < _LONG_TEXT:
        return [Part(whole(module))]
    drivers.add(root)
    calls = {name: _names(text) & texts.keys() for name, text in texts.items()}
    # What is neither helps those that call it: each part has its own.
    all_drivers = _closure(drivers, calls, kernels)
    roots = [n for n in texts if n in kernels and any(n in calls[g] for g in all_drivers)]
    heads = [_declaration(name, texts[name]) for name in roots]
    found = [Part(_text(module, [*heads, *_chosen(texts, all_drivers, drivers)]), 0)]
    closures = {name: _closure([name], calls, drivers) for name in roots}
    # Kernels that work little are small, and have much of what they call in common.
    for some in _dealt(closures, texts, len(texts) if is_large else 1):
        names = set().union(*some.values())
        found.append(Part(_text(module, _chosen(texts, names, some))))
    return found


def _is(mark: str, text: str) -> bool:
    return text.partition("\n")[0].endswith(f" {mark} {{")


def _names(text: str) -> set[str]:
    return set(_NAME.findall(text))


def _closure(
    names: Iterable[str], calls: Mapping[str, Iterable[str]], apart: Container[str]
) -> set[str]:
    """Functions with all that they call, and these call, except for those apart."""
    found, left = set(names), list(names)
    while left:
        new = {n for n in calls[left.pop()] if n not in apart} - found
        found |= new
        left += new
    return found


def _dealt(
    closures: Mapping[str, set[str]], texts: Mapping[str, str], most: int
) -> list[dict[str, set[str]]]:
    """Functions, each with all that it consists of, in at most so many groups of about equal
    text."""
    sizes = {name: sum(len(texts[n]) for n in names) for name, names in closures.items()}
    count = min(max(sum(sizes.values()) // _PART_TEXT, 1), most)
    groups: list[dict[str, set[str]]] = [{} for _ in range(count)]
    filled = [0] * count
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        least = filled.index(min(filled))
        filled[least] += sizes[name]
        groups[least][name] = closures[name]
    return [group for group in groups if group]


def _chosen(texts: Mapping[str, str], names: Container[str], public: Container[str]) -> list[str]:
    return [_public(t) if n in public else t for n, t in texts.items() if n in names]


def _text(module: Module, functions: Iterable[str]) -> str:
    """A module of these functions, with what they refer to."""
    body = "\n".join(functions)
    names = _names(body)
    lines = [line for line in module.declarations.values() if names & _names(line)]
    return "\n".join([ATTRIBUTES, *lines, body, ""])


def _public(text: str) -> str:
    """A function as other modules can call it."""
    return text.replace("define internal ", "define ", 1)


def _declaration(name: str, text: str) -> str:
    match = _HEAD.match(text)
    assert match is not None, text
    types = ", ".join(p.split()[0] for p in match[2].split(",") if p)
    assert not set("<{(") & set(types), f"arguments that modules don't pass to each other: {text}"
    return f"declare {match[1]} @{name}({types})"
