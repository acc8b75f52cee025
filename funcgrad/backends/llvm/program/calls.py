"""Python functions that a known program calls: those of a graph's equations, by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.backends.llvm.program.target import TARGET
from funcgrad.backends.loops.fusion.updates import planned_graph
from funcgrad.backends.loops.planning.host import host_function
from funcgrad.backends.loops.planning.loops import simple
from funcgrad.backends.loops.planning.plan import HostCall
from funcgrad.core.graph import Eqn, Graph, graphs_in

# What stands for a copy among the numbers of equations.
_COPY = -1


def simple_equations(graph: Graph) -> list[Eqn]:
    """The equations that a program is made of, those of loops and branches behind their own."""
    found: list[Eqn] = []
    for eqn in graph.eqns:
        found.append(eqn)
        for inner in graphs_in(eqn.params):
            found += simple_equations(simple(inner, TARGET))
    return found


def call_numbers(graph: Graph, calls: Sequence[HostCall]) -> list[int | None]:
    """The numbers of the equations, of a graph as it was planned, that Python functions compute."""
    numbers = {id(e): n for n, e in enumerate(simple_equations(graph))} if calls else {}
    return [_COPY if c.eqn is None else numbers.get(id(c.eqn)) for c in calls]


def host_functions(graph: Graph, numbers: Sequence[int]) -> list[Callable[..., None]]:
    """The functions of these numbers, for another graph of the same text."""
    eqns = simple_equations(planned_graph(graph, TARGET))
    return [host_function(None if n == _COPY else eqns[n]) for n in numbers]
