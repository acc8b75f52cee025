"""From a graph to a plan: its clusters become steps, and their values get buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcgrad.backends.loops import assembly, check, control, products
from funcgrad.backends.loops.check import after_pass
from funcgrad.backends.loops.chunks import chunked
from funcgrad.backends.loops.donation import copies_itself, donations
from funcgrad.backends.loops.epilogue import with_epilogues
from funcgrad.backends.loops.host import host_function
from funcgrad.backends.loops.joins import joined
from funcgrad.backends.loops.kernels import copy_nest, neighbours_together
from funcgrad.backends.loops.memory import Buffer, place
from funcgrad.backends.loops.nest import Kernel
from funcgrad.backends.loops.partition import VIEWS, Cluster, Partition
from funcgrad.backends.loops.plan import HostCall, Plan, Registers, RunKernel, Step
from funcgrad.backends.loops.plan_printing import format_plan
from funcgrad.backends.loops.recompute import recomputed
from funcgrad.backends.loops.schedule import schedule
from funcgrad.backends.loops.sites import Lines, Site
from funcgrad.backends.loops.target import Target
from funcgrad.backends.loops.views import View, contiguous, view_of
from funcgrad.core.graph import Const, Eqn, Graph, Var

# The steps of an equation that no cluster takes, by its primitive's name.
RULES: dict[str, Callable[[Any, Eqn], None]] = {
    **assembly.RULES,
    **control.RULES,
    **products.RULES,
}


class Program:
    """What all plans of one program share.

    Attributes:
        target: the backend.
        lines: the user's, where indices are checked.
        constants: the buffers of constant arrays, by the array's id; a buffer's value is the
            array that the program reads, and the one that it stands for.
        sites: where indices are checked, with their numbers, from 1 on.
    """

    def __init__(self, target: Target, lines: Lines):
        self.target = target
        self.lines = lines
        self.constants: dict[int, Buffer] = {}
        self.sites: dict[Site, int] = {}

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


class PlannedProgram(NamedTuple):
    """A graph as a plan, between buffers that are given when it runs.

    Attributes:
        constants: each with the array that it holds as its value.
        donated: the results that are written into an input, each with the input's number.
        sites: where indices are checked.
    """

    plan: Plan
    inputs: Sequence[Buffer]
    constants: Sequence[Buffer]
    results: Sequence[Buffer]
    donated: dict[int, int]
    sites: Sequence[Site]

    def __str__(self) -> str:
        given = {"in": self.inputs, "const": self.constants, "out": self.results}
        return format_plan(self.plan, given)


def plan_program(
    graph: Graph, target: Target, lines: Lines, donated: Sequence[int] = ()
) -> PlannedProgram:
    """The plan of a whole program.

    Args:
        graph: decomposed.
        lines: the user's, where indices are checked.
        donated: the inputs that results may be written into.
    """
    program = Program(target, lines)
    inputs = [Buffer(v.aval.dtype, max(v.aval.size, 1), "given") for v in graph.inputs]
    results = [Buffer(a.aval.dtype, max(a.aval.size, 1), "given") for a in graph.outputs]
    views = [contiguous(b, v.aval.shape) for b, v in zip(inputs, graph.inputs, strict=True)]
    steps = steps_of(program, graph, views, results)
    pairs = donations(graph, donated, inputs, results, steps) if donated else {}
    memory = {results[r]: inputs[i] for r, i in pairs.items()}
    steps = joined([s for s in steps if not copies_itself(s, memory)], memory)
    plan = planned(after_pass(steps, {*inputs, *results}), [*inputs, *results])
    constants = list(program.constants.values())
    return PlannedProgram(plan, inputs, constants, results, pairs, [*program.sites])


def steps_of(
    program: Program, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]
) -> Sequence[Step]:
    """The steps of a graph, after the passes that do not look beyond it.

    Args:
        graph: decomposed.
        inputs: where the inputs lie.
        targets: the buffers that the outputs are written to.
    """
    steps: Sequence[Step] = Planner(program, graph, inputs, targets).steps
    outside = {*(view.buffer for view in inputs), *targets}
    for improved in (with_epilogues, chunked):
        steps = improved(after_pass(steps, outside))
    return after_pass(steps, outside)


def planned(steps: Sequence[Step], outside: Iterable[Buffer]) -> Plan:
    """Steps with places for their temporaries; what surrounds them has a place already."""
    apart = set(outside)
    uses = [[b for b in (*s.reads, *s.writes) if b not in apart] for s in steps]
    plan = Plan(steps, place(uses))
    if check.ALWAYS:
        check.check_placement(plan)
    return plan


class Planner:
    """Turns the clusters of one graph into steps, before passes go over them."""

    def __init__(
        self, program: Program, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]
    ):
        self.program = program
        self.target = program.target
        self.graph = graph
        self.steps: list[Step] = []
        self.views: dict[int, View] = {
            id(v): view for v, view in zip(graph.inputs, inputs, strict=True)
        }
        self.partition = Partition(graph, self.target.can_loop, self.target.can_be_small)
        self.written: dict[int, Buffer] = {}
        self.copies: dict[View, View] = {}
        self._give_targets(targets)
        self._read_outside = _read_outside(self.partition)
        self._recomputed = recomputed(self.partition, self._read_outside)
        for cluster in self.partition.in_order():
            self._cluster(cluster)
        for atom, target in zip(graph.outputs, targets, strict=True):
            if self.written.get(id(atom)) is not target:
                self.copy(self.resolve(atom), contiguous(target, atom.aval.shape))

    # -- where values lie ---------------------------------------------------------------

    def _give_targets(self, targets: Sequence[Buffer]) -> None:
        """Outputs that an equation makes are written where they are wanted, the first time."""
        given = {id(v) for v in self.graph.inputs}
        for atom, target in zip(self.graph.outputs, targets, strict=True):
            if type(atom) is not Var or id(atom) in given or id(atom) in self.written:
                continue
            if self.partition.root(atom) is atom and atom.aval.dtype == target.dtype:
                self.written[id(atom)] = target

    def result(self, var: Any) -> Buffer:
        """The buffer that a variable is written to."""
        found = self.written.get(id(var))
        if found is None:
            found = self.written[id(var)] = Buffer(var.aval.dtype, max(var.aval.size, 1))
        self.views[id(var)] = contiguous(found, var.aval.shape)
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
        found = self.views.get(id(atom))
        if found is None:
            eqn = self.partition.made_by[id(atom)]
            if eqn.prim.name not in VIEWS:
                raise AssertionError(f"{eqn.prim.name}: its result is read before it is made")
            found = self.views[id(atom)] = self._view(eqn)
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
        found = self.copies.get(view)
        if found is None:
            buffer = Buffer(view.buffer.dtype, max(prod(view.shape), 1))
            found = self.copies[view] = contiguous(buffer, view.shape)
            self.copy(view, found)
        return found

    def _outputs_of(self, cluster: Cluster) -> list[Any]:
        """The variables of a cluster that something outside of it reads."""
        stored = self._read_outside - self._recomputed.keys()
        return [o for e in cluster.eqns for o in e.outs if id(o) in stored]

    def _computed_again(self, cluster: Cluster) -> list[Eqn]:
        """The equations of other clusters by which this one computes what they do not store."""
        own, found = set(map(id, cluster.eqns)), {}
        for eqn in cluster.eqns:
            for atom in eqn.ins:
                for step in self._recomputed.get(id(self.partition.root(atom)), ()):
                    if id(step) not in own:
                        found[id(step)] = step
                        self._views_between(atom, found)
        return list(found.values())

    def _views_between(self, atom: Any, found: dict[int, Eqn]) -> None:
        root = self.partition.root(atom)
        while atom is not root:
            eqn = self.partition.made_by[id(atom)]
            found[id(eqn)] = eqn
            atom = eqn.ins[0]

    # -- steps --------------------------------------------------------------------------

    def _cluster(self, cluster: Cluster) -> None:
        if cluster.kind == "loops":
            outputs = self._outputs_of(cluster)
            if outputs:
                again = self._computed_again(cluster)
                found = schedule(cluster, outputs, self.resolve, self.result, again)
                self.run(*found, self.program.site((*again, *cluster.eqns)))
        elif cluster.kind == "small":
            self._registers(cluster)
        else:
            self._call(cluster.eqns[0])

    def _registers(self, cluster: Cluster) -> None:
        outputs = self._outputs_of(cluster)
        if not outputs:
            return
        made = {id(o) for e in cluster.eqns for o in e.outs}
        reads: dict[int, tuple[Var, View]] = {}
        for eqn in cluster.eqns:
            for atom in eqn.ins:
                if type(atom) is Var and id(atom) not in made:
                    reads[id(atom)] = atom, self.resolve(atom)
        views_of_memory = [
            e.outs[0]
            for e in cluster.eqns
            if e.prim.name in VIEWS
            and type(e.ins[0]) is not Const
            and id(self.partition.root(e.ins[0])) not in made
        ]
        for var in views_of_memory:
            reads[id(var)] = var, self.resolve(var)
        results = tuple((o, self.result(o)) for o in outputs)
        site = self.program.site(cluster.eqns)
        self.steps.append(Registers(tuple(cluster.eqns), tuple(reads.values()), results, site))

    def _call(self, eqn: Eqn) -> None:
        """The steps of an equation that no cluster takes."""
        found = assembly.scatter if eqn.prim.scatters else RULES.get(eqn.prim.name)
        known = all(a.aval.dtype in self.target.dtypes for a in (*eqn.ins, *eqn.outs))
        if found is not None and known and all(o.aval.size for o in eqn.outs):
            found(self, eqn)
        else:
            self.host(eqn)

    def host(self, eqn: Eqn) -> None:
        """A call of the primitive's own implementation, on arrays in the program's memory."""
        operands = [self.resolve(a) for a in eqn.ins if type(a) is not Const]
        for out in eqn.outs:
            self.result(out)
        results = [self.views[id(o)] for o in eqn.outs]
        views = (*results, *operands)
        self.steps.append(HostCall(host_function(eqn), views, len(results), eqn))

    def copy(self, source: View, destination: View) -> None:
        """Elements from one view to another of the same shape."""
        if not prod(source.shape):
            return
        if not {source.buffer.dtype, destination.buffer.dtype} <= set(self.target.dtypes):
            self.steps.append(HostCall(np.copyto, (destination, source), 1))
            return
        self.run(copy_nest(source, destination), [source.buffer, destination.buffer])

    def run(self, kernel: Kernel, buffers: Sequence[Buffer | None], site: int = 0) -> None:
        """A step that runs a kernel, whose checks have a site of this number."""
        self.steps.append(RunKernel(neighbours_together(kernel), tuple(buffers), site=site))

    def inner(self, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]) -> Plan:
        """The plan of a loop's or branch's graph, decomposed."""
        steps = steps_of(self.program, graph, inputs, targets)
        return planned(steps, [*(view.buffer for view in inputs), *targets])


def _read_outside(partition: Partition) -> set[int]:
    """What a cluster makes that another one, or the caller, reads, perhaps through views."""
    found = {id(partition.root(a)) for a in partition.graph.outputs}
    for eqn in partition.graph.eqns:
        if eqn.prim.name in VIEWS:
            continue
        home = partition.home.get(id(eqn.outs[0])) if eqn.outs else None
        for atom in eqn.ins:
            if type(atom) is Var:
                root = partition.root(atom)
                if partition.home.get(id(root)) is not home:
                    found.add(id(root))
    return found


def _once(atom: Any, value: np.ndarray) -> np.ndarray:
    """A constant's one number as an array, which lives as long as the atom."""
    if isinstance(atom.value, np.ndarray):
        return atom.value[tuple([slice(0, 1)] * value.ndim)]
    return value
