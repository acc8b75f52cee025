"""Calls of functions with derivative rules of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import CellType
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.tracer import NO_VALUE, Recorder, Tracer, own_value
from funcgrad.errors import (
    CustomRuleError,
    NotDifferentiableError,
    at_line,
)
from funcgrad.primitives.elementwise import cast
from funcgrad.transforms.trace import flatten_result, leaf_avals, lift_captures

_EMPTY_CELL = CellType()
_LEAF = tree.structure(0)
_SCALARS = frozenset({np.float64, np.float32, np.complex128, np.complex64})
_NUMBERS = _SCALARS | {float, int, complex, bool}


class ClosesOverTracers(Exception):
    """Results depend on tracers that are no operands: the function has to be traced."""


class Call:
    """One call of a custom function, as functions of flat operands.

    The operands are `(captured..., hidden..., leaves...)`: tracers the function closes over,
    tracers in its nondiff arguments, and the leaves of all other arguments.
    """

    def __init__(self, custom: Any, args: tuple[Any, ...]):
        self.custom = custom
        self.captured: list[Tracer] = []
        self.n_closed = 0
        self._reads: list[bool] = []
        self.out_tree: Any = None
        self.fixed_at: list[int] = []
        self.hidden_at: list[int] = []
        # Whether all arguments are leaves, which spares much.
        self._flat = not custom.nondiff_argnums and all(map(_is_leaf, args))
        if self._flat:
            self.operands = self.leaves = list(args)
            self.free_at, self.in_tree = _flat_arguments(len(args))
            return
        n = len(args)
        self.fixed_at = [i for i in custom.nondiff_argnums if i < n]
        self.free_at = [i for i in range(n) if i not in self.fixed_at]
        self.fixed_leaves, self.fixed_tree = tree.flatten(tuple(args[i] for i in self.fixed_at))
        free = tuple(args[i] for i in self.free_at)
        self.leaves, self.in_tree = tree.flatten(free)
        leaf_avals(free, self.leaves, f"{custom.name}: a leaf of its arguments")
        self.hidden_at = [i for i, x in enumerate(self.fixed_leaves) if type(x) is Tracer]
        self.operands = [*(self.fixed_leaves[i] for i in self.hidden_at), *self.leaves]
        self.n_closed = len(self.hidden_at)

    def __repr__(self) -> str:
        return self.custom.name

    # -- arguments --------------------------------------------------------------------

    def fixed(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The nondiff arguments."""
        if not self.fixed_at:
            return ()
        leaves = list(self.fixed_leaves)
        for i, x in zip(self.hidden_at, operands[len(self.captured) :], strict=False):
            leaves[i] = x
        return self.fixed_tree.unflatten(leaves)

    def free(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The other arguments, of which the rules are derivatives."""
        return self._tuple(operands[self.n_closed :])

    def _tuple(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        leaves = [*map(read_only, leaves)]
        return tuple(leaves) if self._flat else self.in_tree.unflatten(leaves)

    def arguments(self, operands: Sequence[Any]) -> Sequence[Any]:
        if not self.fixed_at:
            return self.free(operands)
        values = dict(zip(self.fixed_at, self.fixed(operands), strict=True))
        values |= zip(self.free_at, self.free(operands), strict=True)
        return [values[i] for i in range(len(values))]

    # -- the function -----------------------------------------------------------------

    def primal(self, *operands: Any) -> list[Any]:
        """The function on values."""
        outs, self.out_tree = flat_result(
            self.custom.fun(*self.arguments(operands)), self.custom.name
        )
        check_no_tracers(outs, operands)
        return outs

    def trace(self) -> Graph:
        """The function's graph; tracers that it closes over become operands."""
        with Recorder(self.custom.name, concrete=True, owns=True) as rec:
            out = self.custom.fun(*self.arguments([rec.input(x) for x in self.operands]))
            outs, self.out_tree = flat_result(out, self.custom.name)
            graph = rec.graph(outs)
        rules = self.custom.rules
        (closed,), self.captured = lift_captures(graph, also=closure_tracers(*rules))
        self.n_closed = len(self.captured) + len(self.hidden_at)
        self._reads = closed.reads([True] * len(closed.outputs))
        return closed

    def graph(self, avals: Sequence[Aval]) -> Graph:
        """The function's graph for a call that nobody had to trace before."""
        with Recorder(self.custom.name, concrete=False, owns=True) as rec:
            out = self.custom.fun(*self.arguments([rec.abstract_input(a) for a in avals]))
            return rec.graph(flat_result(out, self.custom.name)[0])

    # -- rules ------------------------------------------------------------------------

    def within(self, operands: Sequence[Any], rule: Callable[..., Any], args: Any) -> Any:
        """`rule(args)`, in which tracers closed over stand for what the operands are now.

        Where the equation is transformed after the recording it was made in has ended, those
        tracers belong to nothing that is still recorded.
        """
        if not self.captured:
            return rule(args)
        pairs = zip(self.captured, operands, strict=False)
        stale = [(tracer, now) for tracer, now in pairs if tracer is not now]
        if not stale:
            return rule(args)
        rec = Recorder(f"a rule of {self.custom.name}", concrete=False)
        with rec, _adopted(rec, [tracer for tracer, _ in stale]):
            leaves, treedef = tree.flatten(rule(args))
            recorded = recorded_by(rec, leaves)
            graph = rec.graph([leaves[i] for i in recorded])
        for i, value in zip(recorded, run_graph(graph, [now for _, now in stale]), strict=True):
            leaves[i] = value
        return treedef.unflatten(leaves)

    def check_closed(self, asked: Sequence[Any]) -> None:
        """Refuse derivatives by what the rules say nothing of."""
        if not self.n_closed:
            return
        # What only the rules close over is no argument of the function.
        n_captured = len(self.captured)
        captured = any(a and r for a, r in zip(asked[:n_captured], self._reads, strict=False))
        if captured or any(asked[n_captured : self.n_closed]):
            what = "a value that it closes over" if captured else "an argument in nondiff_argnums"
            raise at_line(
                NotDifferentiableError,
                f"{self.custom.name} is differentiated by {what}, of which its "
                f"{self.custom._kind} rule says nothing. Make it an argument that the rule covers, "
                "or wrap it in fg.stop_gradient",
            )


def closure_tracers(*functions: Any) -> list[Tracer]:
    """The tracers that functions close over, directly or in containers and inner functions."""
    found: dict[int, Tracer] = {}
    seen: set[int] = set()
    waiting = list(functions)
    while waiting:
        function = waiting.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        rules = getattr(function, "rules", None)
        if isinstance(rules, list):  # a custom function's own
            waiting += rules
        elif isinstance(function, functools.partial):
            waiting += [function.func, *function.args, *function.keywords.values()]
        cells = getattr(function, "__closure__", None) or ()
        held = [cell.cell_contents for cell in cells if cell != _EMPTY_CELL]
        for value in (*held, *(getattr(function, "__defaults__", None) or ())):
            for leaf in tree.leaves(value):
                if type(leaf) is Tracer:
                    found[id(leaf)] = leaf
                elif callable(leaf):
                    waiting.append(leaf)
    return list(found.values())


def read_only(x: Any) -> Any:
    """What a rule is given of an array that others read, too: it must not write to it."""
    if type(x) is not np.ndarray:
        return x
    view = x.view()
    view.flags.writeable = False
    return view


def _is_leaf(x: Any) -> bool:
    """Whether a value is surely a leaf, as a glance tells."""
    kind = type(x)
    return kind in _NUMBERS or kind is Tracer or (kind is np.ndarray and x.dtype.kind in "fiucb")


@cache
def _flat_arguments(n: int) -> tuple[list[int], Any]:
    """The positions of so many arguments, and their structure where all of them are leaves."""
    return list(range(n)), tree.structure((0,) * n)


def flat_result(out: Any, name: str) -> tuple[list[Any], Any]:
    """A result's leaves; Python numbers become NumPy's, as in compiled code."""
    kind = type(out)
    if kind is np.ndarray:
        if out.dtype.kind in "fiucb" and out.dtype.isnative:
            return [out], _LEAF
    elif kind in _SCALARS or (kind is Tracer and not out.aval.weak):
        return [out], _LEAF
    leaves, treedef = flatten_result(out, name)
    return [cast(x, aval_of(x).dtype) for x in leaves], treedef


def is_like(x: Any, y: Any) -> bool:
    """Whether one surely has the shape and dtype of the other, that of a float."""
    kind = type(y)
    if kind in _SCALARS and type(x) is kind:
        return True
    x, y = own_value(x), own_value(y)
    kind = type(y)
    if type(x) is not kind:
        return False
    if kind is np.ndarray:
        return x.dtype == y.dtype and x.shape == y.shape and x.dtype.kind in "fc"
    return kind in _SCALARS


def check_no_tracers(outs: Sequence[Any], operands: Sequence[Any]) -> None:
    for x in outs:
        if type(x) is Tracer and not any(type(y) is Tracer for y in operands):
            raise ClosesOverTracers


def recorded_by(rec: Recorder, leaves: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(leaves) if type(x) is Tracer and x.rec is rec]


@contextmanager
def _adopted(rec: Recorder, tracers: Sequence[Tracer]) -> Iterator[None]:
    """Make tracers of recordings that have ended inputs of this one, for a while."""
    before = [(t.rec, t.value, t.aval) for t in tracers]
    for t in tracers:
        t._aval, t.rec, t.value = t.aval, rec, NO_VALUE
        rec.inputs.append(t)
    try:
        yield
    finally:
        for t, (owner, value, aval) in zip(tracers, before, strict=True):
            t.rec, t.value, t._aval = owner, value, aval


def shape_error(name: str, what: str, where: str, found: Aval, wanted: Aval) -> CustomRuleError:
    return at_line(
        CustomRuleError,
        f"{name}: its rule gave a {what} of shape {found.shape}{where}, but what it belongs to "
        f"has shape {wanted.shape}; they must be equal",
    )


def leaf_place(treedef: Any, i: int) -> str:
    paths = tree.flatten_with_path(treedef.unflatten(range(treedef.num_leaves)))[0]
    path = tree.keystr(paths[i][0])
    return f" at {path}" if path else ""
