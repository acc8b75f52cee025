"""Captured arrays as they were: their owner may write to them after a program was traced."""

from __future__ import annotations

from typing import Any

from funcgrad.core.device import is_array
from funcgrad.core.graph import Const, Eqn, Graph, graphs_in, with_graphs
from funcgrad.core.snapshot import snapshot


def frozen(graph: Graph) -> Graph:
    """The graph, and those in its equations, with copies of the arrays that they capture."""
    return _Freezer().graph(graph)


class _Freezer:
    """Copies each array, and rewrites each graph, once."""

    def __init__(self) -> None:
        self.copies: dict[int, Const] = {}
        self.graphs: dict[int, Graph] = {}

    def graph(self, graph: Graph) -> Graph:
        found = self.graphs.get(id(graph))
        if found is None:
            found = self.graphs[id(graph)] = self._graph(graph) if _captures(graph) else graph
        return found

    def _graph(self, graph: Graph) -> Graph:
        eqns = []
        for e in graph.eqns:
            params = with_graphs(e.params, self.graph)
            eqns.append(Eqn(e.prim, tuple(map(self._atom, e.ins)), params, e.outs, e.source))
        return Graph(graph.inputs, eqns, map(self._atom, graph.outputs))

    def _atom(self, atom: Any) -> Any:
        if not _is_array(atom):
            return atom
        found = self.copies.get(id(atom.value))
        if found is None:
            found = self.copies[id(atom.value)] = Const(snapshot(atom.value))
        return found


def _is_array(atom: Any) -> bool:
    return type(atom) is Const and is_array(atom.value)


def _captures(graph: Graph) -> bool:
    return any(map(_is_array, graph.atoms())) or any(
        _captures(inner) for eqn in graph.eqns for inner in graphs_in(eqn.params)
    )
