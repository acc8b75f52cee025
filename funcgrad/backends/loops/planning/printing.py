"""Plans as text: a line a step, then the kernels that they run, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.nest import Kernel, Kernels
from funcgrad.backends.loops.nests.views import View, row_major
from funcgrad.backends.loops.planning.plan import (
    Branch,
    Carry,
    HostCall,
    MatrixProduct,
    Plan,
    ProductAndKernel,
    RegisterLoop,
    Registers,
    RunKernel,
    RunTogether,
    Scan,
    Step,
    While,
    Zero,
    kernel_runs,
    walk,
)
from funcgrad.core.aval import short_dtype


def format_plan(plan: Plan, given: Mapping[str, Sequence[Buffer]]) -> str:
    """The text of a program's plan.

    Args:
        given: what lies outside of its arena, by the letters that name it.
    """
    printer = _Printer()
    for letters, buffers in given.items():
        for number, buffer in enumerate(buffers):
            printer.names.setdefault(buffer, f"{letters}{number}")
    head = [f"{name}: {_type(buffer)}" for buffer, name in printer.names.items()]
    lines = [f"plan({', '.join(head)}), arena of {plan.memory.size:,} bytes {{"]
    printer.block(plan, "  ", lines)
    lines.append("}")
    kernels = [printer.kernel_texts[n] for n in sorted(printer.kernel_texts)]
    return "\n".join([*lines, *(["", str(Kernels(kernels))] if kernels else [])])


def _type(buffer: Buffer) -> str:
    return f"{short_dtype(buffer.dtype)}[{buffer.size}]"


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Buffer, str] = {}
        self.kernels: dict[str, int] = {}
        self.kernel_texts: dict[int, Kernel] = {}
        self._temporaries = 0

    def name(self, buffer: Buffer | None) -> str:
        if buffer is None:
            return "?"
        if buffer not in self.names:
            self.names[buffer] = f"t{self._temporaries}"
            self._temporaries += 1
        return self.names[buffer]

    def view(self, view: View) -> str:
        shape = ",".join(map(str, view.shape))
        at = f" at {view.offset}" if view.offset else ""
        plain = view.strides == row_major(view.shape)
        steps = "" if plain else f" by {','.join(map(str, view.strides))}"
        return f"{self.name(view.buffer)}[{shape}{steps}{at}]"

    def kernel(self, kernel: Kernel) -> str:
        number = self.kernels.setdefault(kernel.text, len(self.kernels))
        self.kernel_texts.setdefault(number, kernel)
        return f"kernel{number}"

    def block(self, plan: Plan, indent: str, lines: list[str]) -> None:
        for step in plan.steps:
            text, *inner = self.step(step)
            lines.append(indent + str(text))
            for names, title, nested in inner:
                for letters, buffers in names.items():
                    self.names.update({b: f"{letters}{k}" for k, b in enumerate(buffers)})
                lines.append(f"{indent}  {title}, arena of {nested.memory.size:,} bytes:")
                self.block(nested, indent + "    ", lines)

    def step(self, step: Step) -> list[Any]:
        """What a step's line says, and the plans within it: names of their own, title, plan."""
        match step:
            case RunKernel():
                return [self._run(step)]
            case RunTogether():
                return ["together: " + "; ".join(map(self._run, step.runs))]
            case MatrixProduct():
                return [self._product(step)]
            case ProductAndKernel():
                return [f"{self._product(step.product)}, then {self._run(step.run)}"]
            case Registers():
                names = " ".join(e.prim.name for e in step.eqns)
                return [f"{self._all(step.writes)} = registers({self._all(step.reads)}): {names}"]
            case RegisterLoop():
                name = step.eqn.prim.name
                operands = ", ".join(map(self.view, step.operands))
                return [f"{self._all(step.results)} = {name} in registers({operands})"]
            case HostCall():
                name = "copy" if step.eqn is None else step.eqn.prim.name
                views = [*map(self.view, step.views)]
                written, read = views[: step.written], views[step.written :]
                return [f"{', '.join(written)} = call {name}({', '.join(read)})"]
            case Zero():
                return [f"{self.name(step.buffer)} = zeros"]
            case Scan():
                way = "backwards " if step.reverse else ""
                carried = f"carry {self._all(step.carry.buffers[0])}"
                xs = ", ".join(map(self.view, step.xs))
                results = self._all([*step.results, *(v.buffer for v in step.stacks)])
                text = f"{results} = scan {way}{step.length} rounds({carried}; slices {xs})"
                names = _carried(step.carry) | {"slice": step.slices, "part": step.parts}
                return [text, (names, "body", step.body)]
            case While():
                text = f"{self._all(step.results)} = while({self._all(step.carry.buffers[0])})"
                names = _carried(step.carry) | {"flag": [step.flag]}
                return [text, (names, "test", step.test), (names, "body", step.body)]
            case Branch():
                text = f"{self._all(step.results)} = switch({self.view(step.index)})"
                return [text, *(({}, f"branch {k}", b) for k, b in enumerate(step.branches))]

    def _all(self, buffers: Iterable[Buffer]) -> str:
        return ", ".join(map(self.name, dict.fromkeys(buffers)))

    def _run(self, run: RunKernel) -> str:
        unit = "rows" if run.kernel.outer else "elements"
        chunks = f" in chunks of {run.chunk}" if run.chunk < run.count else ""
        call = f"{self.kernel(run.kernel)}({self._all(run.inputs)})"
        return f"{self._all(run.writes)} = {call}, {run.count} {unit}{chunks}"

    def _product(self, step: MatrixProduct) -> str:
        rows = step.how.rows
        scale = "" if step.scale == 1 else f"{step.scale:g} * "
        source = "" if step.source is None else f"{self.view(step.source)} + "
        pieces = "" if rows is None else f", pieces of {rows.chunk} of {rows.count} rows"
        operands = f"{self.view(step.x)} {step.how.operator} {self.view(step.y)}"
        return f"{self.name(step.result)} = {source}{scale}{operands}{pieces}"


def _carried(carry: Carry) -> dict[str, Sequence[Buffer]]:
    return {"carry": carry.now, "next": carry.next}


def kernels_of(plan: Plan) -> Kernels:
    """The kernels that a plan runs, each once."""
    runs = (run for step in walk(plan.steps) for run in kernel_runs(step))
    return Kernels({run.kernel.text: run.kernel for run in runs}.values())
