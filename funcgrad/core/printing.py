"""Graphs as text. Names are given in order of appearance, so equal graphs print equally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from funcgrad.core.graph import Eqn, Graph

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(n: int) -> str:
    """a, b, ..., z, aa, ab, ...: spreadsheet columns."""
    name = ""
    n += 1
    while n:
        n, rest = divmod(n - 1, 26)
        name = _LETTERS[rest] + name
    return name


class Names:
    """Gives each variable and captured array a name at its first use."""

    def __init__(self) -> None:
        self.given: dict[int, str] = {}
        self.consts: dict[str, Any] = {}
        self.count = 0

    def var(self, var: Any) -> str:
        name = self.given.get(id(var))
        if name is None:
            name = self.given[id(var)] = letters(self.count)
            self.count += 1
        return name

    def atom(self, atom: Any) -> str:
        if not hasattr(atom, "value"):
            return self.var(atom)
        if atom.is_literal:
            return literal(atom.value)
        name = self.given.get(id(atom.value))
        if name is None:
            name = self.given[id(atom.value)] = f"const{len(self.consts)}"
            self.consts[name] = atom
        return name


def literal(value: Any) -> str:
    """A scalar as printed: a NumPy scalar shows its dtype, a Python scalar does not."""
    if isinstance(value, np.generic):
        from funcgrad.core.aval import short_dtype

        return f"{value.item()!r}:{short_dtype(value.dtype)}"
    return repr(value)


def format_graph(graph: Graph, indent: str = "", names: Names | None = None) -> str:
    """The program as text: `graph(inputs) { equations; return outputs }`."""
    names = names or Names()
    inner = indent + "  "
    header = ", ".join(f"{names.var(v)}: {v.aval}" for v in graph.inputs)
    lines = [line for eqn in graph.eqns for line in _format_eqn(eqn, inner, names)]
    outputs = ", ".join(names.atom(a) for a in graph.outputs)
    consts = (
        [f"{inner}{n}: {a.aval} = captured" for n, a in names.consts.items()] if not indent else []
    )
    body = "\n".join([*consts, *lines, f"{inner}return {outputs}".rstrip()])
    return f"graph({header}) {{\n{body}\n{indent}}}"


def _format_eqn(eqn: Eqn, indent: str, names: Names) -> list[str]:
    ins = ", ".join(names.atom(a) for a in eqn.ins)
    params = [f"{k}={_format_param(v, indent, names)}" for k, v in eqn.params.items()]
    outs = ", ".join(f"{names.var(v)}: {v.aval}" for v in eqn.outs)
    head = f"{eqn.prim.name}[{', '.join(params)}]" if params else eqn.prim.name
    return [f"{indent}{outs} = {head}({ins})"]


def _format_param(value: Any, indent: str, names: Names) -> str:
    from funcgrad.core.graph import Graph

    if isinstance(value, Graph):
        return format_graph(value, indent + "  ", names)
    if isinstance(value, tuple) and any(isinstance(v, Graph) for v in value):
        return "(" + ", ".join(_format_param(v, indent, names) for v in value) + ")"
    if isinstance(value, slice):
        return ":".join("" if p is None else str(p) for p in (value.start, value.stop, value.step))
    if isinstance(value, tuple):
        inner = ", ".join(_format_param(v, indent, names) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, np.dtype):
        return value.name
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return repr(value)
