"""A graph as a native program: its IR, and what it takes beside machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.common.cost import cost_of_calls
from funcgrad.backends.common.sites import Lines
from funcgrad.backends.llvm.ir.writer import Writer
from funcgrad.backends.llvm.program import entry, linked
from funcgrad.backends.llvm.program.emit import Emitter
from funcgrad.backends.llvm.program.entry_code import entry_text
from funcgrad.backends.llvm.program.main import define_main
from funcgrad.backends.llvm.program.parts import parts, whole
from funcgrad.backends.llvm.program.target import TARGET
from funcgrad.backends.llvm.runtime import engine
from funcgrad.backends.loops.fusion.updates import planned_graph
from funcgrad.backends.loops.nests.nest import Kernels
from funcgrad.backends.loops.planning.host import host_function
from funcgrad.backends.loops.planning.planner import plan_program
from funcgrad.backends.loops.planning.printing import kernels_of
from funcgrad.backends.loops.planning.spent import spent, work
from funcgrad.core.execution import Cost
from funcgrad.core.graph import Graph


class Native:
    """A graph's program.

    Args:
        graph: as `prepare` gives it.
        single: it returns its only result itself, not in a tuple.
        donated: the inputs that results may be written into.

    Attributes:
        program: its steps, and where their values lie.
        emitter: what has written them.
        signature: how it is called.
        text: its LLVM IR.
        source: what its machine code is made of.
        lines: the user's, where indices are checked.
    """

    def __init__(self, graph: Graph, single: bool, donated: Sequence[int] = ()):
        self.lines = Lines(graph)
        self.graph = graph = planned_graph(graph, TARGET)
        self.program = found = plan_program(graph, TARGET, self.lines, donated)
        steps, amount = found.plan.steps, work(found.plan.steps)
        self.emitter = Emitter(steps, amount, engine.vector_bytes())
        self.signature = entry.Signature(
            graph.in_avals,
            graph.out_avals,
            found.plan.memory.size,
            amount,
            single,
            len(found.constants),
            bool(self.emitter.calls),
            found.donated,
            found.sites,
        )
        module = self.emitter.module
        given = [*found.inputs, *found.constants, *found.results]
        define_main(self.emitter, found.plan, given, self.signature.first_host)
        module.define("fg_entry", entry_text(Writer(module), self.signature))
        self.text = whole(module)
        outside = engine.declared("\n".join(module.declarations.values()))
        self.source = engine.source(parts(module, "fg_entry"), outside)

    @property
    def kernels(self) -> Kernels:
        return kernels_of(self.program.plan)

    @property
    def plan(self) -> str:
        return str(self.program)

    @property
    def assembly(self) -> str:
        return engine.assembly(self.source)

    def cost(self) -> Cost:
        return Cost(
            *spent(self.program.plan.steps), cost_of_calls(self.graph).flops, self.signature.arena
        )

    @property
    def parts(self) -> linked.Parts:
        hosts = [host_function(c.eqn) for c in self.emitter.calls]
        arrays = [b.value[0] for b in self.program.constants]
        return linked.Parts(self.signature, arrays, hosts, self.emitter.layouts)

    def function(self) -> Any:
        """The native function of flat leaves."""
        linked.register()
        made = linked.function(engine.compile_source(self.source), self.parts)
        return entry.name_lines(made, self.signature.sites, self.lines.found)
