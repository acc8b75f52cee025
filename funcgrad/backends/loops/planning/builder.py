"""What steps are built with: where values lie, and the plain steps that others consist of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.common.sites import Lines, Site
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.kernels import copy_nest, neighbours_together
from funcgrad.backends.loops.nests.nest import Kernel
from funcgrad.backends.loops.nests.views import View, contiguous, view_of
from funcgrad.backends.loops.planning.plan import HostCall, Plan, RunKernel, Step
from funcgrad.core.graph import Const, Eqn, Graph


class Program:
    """What all plans of one program share.

    Attributes:
        target: the backend.
        lines: the user's, where indices are checked.
        constants: the buffers of constant arrays, by the array's id; a buffer's value is the
            array that the program reads, and the one that it stands for.
        sites: where indices are checked, with their numbers, from 1 on.
        products: how those are computed that were met, by all that this follows from.
    """

    def __init__(self, target: Target, lines: Lines):
        self.target = target
        self.lines = lines
        self.constants: dict[int, Buffer] = {}
        self.sites: dict[Site, int] = {}
        self.products: dict[Hashable, Any] = {}

    def site(self, eqns: Iterable[Eqn]) -> int:
        """The number of the site where these equations are computed; 0 if they check nothing."""
        found = self.lines.site(eqns)
        return self.sites.setdefault(found, len(self.sites) + 1) if found else 0

    def constant(self, value: np.ndarray) -> Buffer:
        found = self.constants.get(id(value))
        if found is None:
            array = np.ascontiguousarray(value)
            found = self.constants[id(value)] = Buffer(
                array.dtype, array.size, "given", (array, value)
            )
        return found


# The plan of a nested graph between buffers: `plan(graph, inputs, targets)`.
PlanGraph = Callable[[Graph, Sequence[View], Sequence[Buffer]], Plan]


class Builder:
    """The steps of one graph while they are made.

    Args:
        made_by: the equation that makes a variable, by its id.
        views: where variables lie that are known from outside, by their ids.
        inner: makes the plans of loops' and branches' graphs.

    Attributes:
        steps: those made so far.
        written: the buffer that a variable is written to, by its id.
    """

    def __init__(
        self,
        program: Program,
        made_by: Mapping[int, Eqn],
        views: dict[int, View],
        inner: PlanGraph,
    ):
        self.program = program
        self.target = program.target
        self.steps: list[Step] = []
        self.written: dict[int, Buffer] = {}
        self.inner = inner
        self._made_by = made_by
        self._views = views
        self._copies: dict[View, View] = {}

    def result(self, var: Any) -> Buffer:
        """The buffer that a variable is written to."""
        found = self.written.get(id(var))
        if found is None:
            found = self.written[id(var)] = Buffer(var.aval.dtype, max(var.aval.size, 1))
        self._views[id(var)] = contiguous(found, var.aval.shape)
        return found

    def resolve(self, atom: Any) -> View:
        """Where an atom lies; views of arrays take no room."""
        if type(atom) is Const:
            value = np.asarray(atom.value, atom.aval.dtype)
            if value.size > 1 and not any(value.strides):
                one = self.program.constant(_once(atom, value))
                return View(one, value.shape, (0,) * value.ndim, 0)
            kept = atom.value if isinstance(atom.value, np.ndarray) else _once(atom, value)
            return contiguous(self.program.constant(kept), value.shape)
        found = self._views.get(id(atom))
        if found is None:
            eqn = self._made_by[id(atom)]
            if not eqn.prim.view:
                raise AssertionError(f"{eqn.prim.name}: its result is read before it is made")
            found = self._views[id(atom)] = self._view(eqn)
        return found

    def _view(self, eqn: Eqn) -> View:
        base = self.resolve(eqn.ins[0])
        found = view_of(eqn, base)
        if found is None:
            found = view_of(eqn, self.contiguous_copy(base))
        assert found is not None
        return found

    def contiguous_copy(self, view: View) -> View:
        """The same elements in row-major order, copied for the first who asks."""
        if view.contiguous:
            return view
        found = self._copies.get(view)
        if found is None:
            buffer = Buffer(view.buffer.dtype, max(prod(view.shape), 1))
            found = self._copies[view] = contiguous(buffer, view.shape)
            self.copy(view, found)
        return found

    def host(self, eqn: Eqn) -> None:
        """A call of the primitive's own implementation, on arrays in the program's memory."""
        operands = [self.resolve(a) for a in eqn.ins if type(a) is not Const]
        for out in eqn.outs:
            self.result(out)
        results = [self._views[id(o)] for o in eqn.outs]
        views = (*results, *operands)
        self.steps.append(HostCall(eqn, views, len(results)))

    def copy(self, source: View, destination: View) -> None:
        """Elements from one view to another of the same shape."""
        if not prod(source.shape):
            return
        if not {source.buffer.dtype, destination.buffer.dtype} <= self.target.dtypes:
            self.steps.append(HostCall(None, (destination, source), 1))
            return
        self.run(copy_nest(source, destination), [source.buffer, destination.buffer])

    def run(self, kernel: Kernel, buffers: Sequence[Buffer | None], site: int = 0) -> None:
        """A step that runs a kernel, whose checks have a site of this number."""
        self.steps.append(
            RunKernel(neighbours_together(kernel, self.target.limits), tuple(buffers), site=site)
        )


def _once(atom: Any, value: np.ndarray) -> np.ndarray:
    """A constant's one number as an array, which lives as long as the atom."""
    if isinstance(atom.value, np.ndarray):
        return atom.value[tuple([slice(0, 1)] * value.ndim)]
    return value
