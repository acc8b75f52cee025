"""Whose memory values live in: what may be written to, what must be copied, what is dead.

Memory is known by its *roots*: the variable that it was allocated for, an input, or CONSTANT.
A view has the roots of what it views; a branch's or loop's result may have several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.common.prepare import is_alias
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Const, Eqn, Graph, graphs_in
from funcgrad.primitives import control_flow

CONSTANT = 0
Roots = frozenset[int]
_CONSTANT: Roots = frozenset({CONSTANT})


class Memory:
    """The memory of a graph's variables.

    Attributes:
        owned: the aval of each root that the graph's own equations allocate, by its id.
        shared: the roots that users' functions may have, too, as operands or results.
        dying: the roots that no equation after this one, and no output, reads.
        last_use: the number of the last equation that reads a root; outputs count as one more.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.owned: dict[int, Aval] = {}
        self.shared: set[int] = set()
        self._kept: set[int] = set()
        self.last_use: dict[int, int] = {}
        self._roots: dict[int, Roots] = {id(v): frozenset({id(v)}) for v in graph.inputs}
        self._repeating: set[int] = set()
        for number, eqn in enumerate(graph.eqns):
            self._allocate(eqn)
            if _calls_back(eqn):
                self._kept.update(*map(self.roots, eqn.ins))
                self.shared.update(self._kept, map(id, eqn.outs))
            for atom in (*eqn.ins, *eqn.outs):
                self._use(atom, number)
        for atom in graph.outputs:
            self._use(atom, len(graph.eqns))
        self.dying: list[list[int]] = [[] for _ in graph.eqns]
        for root in self.owned:
            if self.last_use[root] < len(graph.eqns):
                self.dying[self.last_use[root]].append(root)

    def _allocate(self, eqn: Eqn) -> None:
        shared = frozenset().union(*map(self.roots, eqn.ins))
        for out, own in zip(eqn.outs, _allocates(eqn), strict=True):
            if own:
                self._roots[id(out)] = frozenset({id(out)})
                self.owned[id(out)] = out.aval
                continue
            is_view = not eqn.prim.multiple
            self._roots[id(out)] = self.roots(eqn.ins[0]) if is_view else shared | {id(out)}
            if _repeats(eqn) or (is_view and self.repeats(eqn.ins[0])):
                self._repeating.add(id(out))

    def _use(self, atom: Any, number: int) -> None:
        for root in self.roots(atom):
            self.last_use[root] = number

    def roots(self, atom: Any) -> Roots:
        return _CONSTANT if type(atom) is Const else self._roots[id(atom)]

    def repeats(self, atom: Any) -> bool:
        """Whether elements of it may be one number in memory, as in broadcasts and windows."""
        return id(atom) in self._repeating

    def is_own(self, atom: Any) -> bool:
        """Whether its memory was allocated for it, and nobody else has that."""
        own = id(atom) in self.owned and id(atom) not in self.shared
        return own and self.roots(atom) == {id(atom)}

    def fresh_outputs(self) -> list[bool]:
        """Which outputs are arrays like new: not a constant's or input's memory, or another's."""
        seen: set[int] = set()
        fresh = []
        for atom in self.graph.outputs:
            roots = self.roots(atom)
            new = all(r in self.owned and r not in seen and r not in self._kept for r in roots)
            fresh.append(new and not self.repeats(atom))
            seen |= roots
        return fresh


def memory_of(graph: Graph) -> Memory:
    return graph.derive("memory", lambda: Memory(graph))


def _calls_back(eqn: Eqn) -> bool:
    """Whether a function of the user's is called, which may keep what it is given."""
    return eqn.prim.foreign is not None or any(
        any(map(_calls_back, graph.eqns)) for graph in graphs_in(eqn.params)
    )


def _repeats(eqn: Eqn) -> bool:
    view = eqn.prim.view
    return view is not None and view(eqn.ins[0].aval.shape, **eqn.params).repeats


def _allocates(eqn: Eqn) -> Sequence[bool]:
    """For each result, whether its memory is its own alone."""
    prim, params = eqn.prim, eqn.params
    if prim is control_flow.switch:
        branches = [memory_of(branch).fresh_outputs() for branch in params["branches"]]
        return [all(fresh) for fresh in zip(*branches, strict=True)]
    if prim is control_flow.scan:
        n = params["n_carry"]
        carry = memory_of(params["body"]).fresh_outputs()[:n] if params["length"] else [False] * n
        return [*carry, *[True] * (len(eqn.outs) - n)]
    if prim is control_flow.while_:
        # It may not run at all, and then gives back what it was given.
        return [False] * len(eqn.outs)
    if prim.may_alias or is_alias(eqn):
        return [False]
    return [True] * len(eqn.outs)
