"""From a graph to a plan: its clusters become steps, and their values get buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.backends.common.sites import Lines, Site
from funcgrad.backends.loops.fusion.cuts import LONG
from funcgrad.backends.loops.fusion.partition import Cluster, Partition
from funcgrad.backends.loops.fusion.recompute import recomputed
from funcgrad.backends.loops.fusion.repeated import Repeated
from funcgrad.backends.loops.fusion.scatter import accumulates
from funcgrad.backends.loops.fusion.schedule import schedule
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.nests.buffers import Buffer, allocate
from funcgrad.backends.loops.nests.views import View, contiguous
from funcgrad.backends.loops.planning import assembly, check, loops, products
from funcgrad.backends.loops.planning.builder import Builder, Program
from funcgrad.backends.loops.planning.chunks import chunked
from funcgrad.backends.loops.planning.donation import copies_itself, donations
from funcgrad.backends.loops.planning.epilogue import with_epilogues
from funcgrad.backends.loops.planning.joins import joined
from funcgrad.backends.loops.planning.plan import Plan, Registers, Step
from funcgrad.backends.loops.planning.printing import format_plan
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.primitives.structural import reshape
from funcgrad.records import NamedTuple

# The steps of an equation that no cluster takes, by its primitive's name.
RULES: dict[str, Callable[[Builder, Eqn], None]] = {
    **loops.RULES,
    **products.RULES,
}


def _rule(eqn: Eqn) -> Callable[[Builder, Eqn], None] | None:
    if eqn.prim.scatters:
        return assembly.scatter
    return assembly.assemble if eqn.prim.assembles else RULES.get(eqn.prim.name)


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
    pairs = donations(graph, donated, inputs, results, steps, target.limits) if donated else {}
    memory = {results[r]: inputs[i] for r, i in pairs.items()}
    steps = joined([s for s in steps if not copies_itself(s, memory)], memory, target.limits)
    plan = planned(check.after_pass(steps, {*inputs, *results}), [*inputs, *results])
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
    steps: Sequence[Step] = Planner(program, graph, inputs, targets).builder.steps
    outside = {*(view.buffer for view in inputs), *targets}
    for improved in (with_epilogues, chunked):
        steps = improved(check.after_pass(steps, outside), program.target.limits)
    return check.after_pass(steps, outside)


def planned(steps: Sequence[Step], outside: Iterable[Buffer]) -> Plan:
    """Steps with places for their temporaries; what surrounds them has a place already."""
    apart = set(outside)
    uses = [[b for b in (*s.reads, *s.writes) if b not in apart] for s in steps]
    plan = Plan(steps, allocate(uses))
    if check.ALWAYS:
        check.check_allocation(plan)
    return plan


class Planner:
    """Turns the clusters of one graph into steps, before passes go over them."""

    def __init__(
        self, program: Program, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]
    ):
        self.graph = graph
        self.target = program.target
        self.partition = Partition(graph, self.target)
        views = {id(v): view for v, view in zip(graph.inputs, inputs, strict=True)}

        def inner(graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]) -> Plan:
            steps = steps_of(program, graph, inputs, targets)
            return planned(steps, [*(view.buffer for view in inputs), *targets])

        self.builder = builder = Builder(program, self.partition.made_by, views, inner)
        self._schedule = Repeated().schedule if len(graph.eqns) > LONG else schedule
        self._give_targets(targets)
        self._read_outside = _read_outside(self.partition)
        self._recomputed = recomputed(self.partition, self._read_outside)
        self._stored = self._read_outside - self._recomputed.keys()
        for cluster in self.partition.in_order():
            self._cluster(cluster)
        for atom, target in zip(graph.outputs, targets, strict=True):
            if builder.written.get(id(self._unshaped(atom))) is not target:
                builder.copy(builder.resolve(atom), contiguous(target, atom.aval.shape))

    def _give_targets(self, targets: Sequence[Buffer]) -> None:
        """Outputs that an equation makes are written where they are wanted, the first time."""
        written = self.builder.written
        given = {id(v) for v in self.graph.inputs}
        for atom, target in zip(map(self._unshaped, self.graph.outputs), targets, strict=True):
            if type(atom) is not Var or id(atom) in given or id(atom) in written:
                continue
            if self.partition.root(atom) is atom and atom.aval.dtype == target.dtype:
                written[id(atom)] = target

    def _unshaped(self, atom: Any) -> Any:
        """What has the same elements in the same order, in the shape it is made in."""
        while type(atom) is Var:
            eqn = self.partition.made_by.get(id(atom))
            if eqn is None or eqn.prim is not reshape:
                break
            atom = eqn.ins[0]
        return atom

    def _outputs_of(self, cluster: Cluster) -> list[Any]:
        """The variables of a cluster that something outside of it reads."""
        return [o for e in cluster.eqns for o in e.outs if id(o) in self._stored]

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

    def _cluster(self, cluster: Cluster) -> None:
        builder = self.builder
        if cluster.form == "loops":
            outputs = self._outputs_of(cluster)
            if outputs:
                again = self._computed_again(cluster)
                found = self._schedule(
                    cluster, outputs, builder.resolve, builder.result, self.target.limits, again
                )
                builder.run(*found, builder.program.site((*again, *cluster.eqns)))
        elif cluster.form == "small":
            self._registers(cluster)
        elif accumulates(cluster.eqns[0], self.target):
            assembly.accumulate(builder, cluster.eqns[0], self._computed_again(cluster))
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
                    reads[id(atom)] = atom, self.builder.resolve(atom)
        views_of_memory = [
            e.outs[0]
            for e in cluster.eqns
            if e.prim.view
            and type(e.ins[0]) is not Const
            and id(self.partition.root(e.ins[0])) not in made
        ]
        for var in views_of_memory:
            reads[id(var)] = var, self.builder.resolve(var)
        results = tuple((o, self.builder.result(o)) for o in outputs)
        site = self.builder.program.site(cluster.eqns)
        step = Registers(tuple(cluster.eqns), tuple(reads.values()), results, site)
        self.builder.steps.append(step)

    def _call(self, eqn: Eqn) -> None:
        """The steps of an equation that no cluster takes."""
        found = _rule(eqn)
        known = all(a.aval.dtype in self.target.dtypes for a in (*eqn.ins, *eqn.outs))
        if found is not None and known and all(o.aval.size for o in eqn.outs):
            found(self.builder, eqn)
        else:
            self.builder.host(eqn)


def _read_outside(partition: Partition) -> set[int]:
    """What a cluster makes that another one, or the caller, reads, perhaps through views."""
    found = {id(partition.root(a)) for a in partition.graph.outputs}
    for eqn in partition.graph.eqns:
        if eqn.prim.view:
            continue
        owner = partition.cluster_of.get(id(eqn.outs[0])) if eqn.outs else None
        for atom in eqn.ins:
            if type(atom) is Var:
                root = partition.root(atom)
                if partition.cluster_of.get(id(root)) is not owner:
                    found.add(id(root))
    return found
