"""From a plan to LLVM's text: each step is a call of a function, or some instructions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from funcgrad.backends.llvm.ir.frame import Frame, call_kernel
from funcgrad.backends.llvm.ir.writer import DRIVER, KERNEL, Module, Value, Writer
from funcgrad.backends.llvm.kernels.nests import write_kernel
from funcgrad.backends.llvm.kernels.registers import Small, load_view, store_array
from funcgrad.backends.llvm.products import gemm
from funcgrad.backends.llvm.products import steps as products
from funcgrad.backends.llvm.program import gil, host_calls, joined, loops
from funcgrad.backends.llvm.program.parts import LARGE_WORK
from funcgrad.backends.loops.fusion.forms import Form
from funcgrad.backends.loops.fusion.target import ProductPlan
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.views import View
from funcgrad.backends.loops.planning.plan import (
    Branch,
    HostCall,
    MatrixProduct,
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
from funcgrad.core.graph import Var
from funcgrad.records import replace

# From so many groups of equations in registers on, those that are alike are looked for.
REPETITIVE = 8

Layout = tuple[np.dtype, tuple[int, ...]]


class Emitter:
    """Writes the steps of one program into a module.

    Args:
        steps: all of them.
        work: about how many scalar operations they take.

    Attributes:
        calls: the calls of Python functions.
        layouts: the dtypes, dimensions and strides in bytes of the arrays it calls them with.
    """

    def __init__(self, steps: Sequence[Step], work: int, vector_bytes: int):
        self.module = Module()
        self._kernels: dict[str, str] = {}
        self.layouts: list[Layout] = []
        self._work = work
        self._functions: dict[str, str] = {}
        self._forms: dict[Hashable, str] = {}
        # Those that were written, by their ids, with themselves, as an id lasts no longer.
        self._products: dict[int, tuple[str, gemm.Sharing, ProductPlan]] = {}
        self._is_repetitive = sum(type(s) is Registers for s in steps) >= REPETITIVE
        self.calls = [s for s in walk(steps) if isinstance(s, HostCall)]
        self._call_numbers = {id(s): n for n, s in enumerate(self.calls)}
        for step in walk(steps):
            for run in kernel_runs(step):
                if run.kernel.text not in self._kernels:
                    name = self._kernels[run.kernel.text] = f"kernel{len(self._kernels)}"
                    text = write_kernel(self.module, name, run.kernel, vector_bytes)
                    self.module.define(name, text)

    def steps(
        self, frame: Frame, steps: Sequence[Step], place: Callable[[Frame], Frame] = lambda f: f
    ) -> None:
        """Write the steps.

        Args:
            place: gives the function that a step is written into, for the last one's.
        """
        for long, group in gil.groups(steps):
            releases = long and not frame.unlocked
            for number, step in enumerate(group):
                frame = place(frame)
                if releases and not number:
                    gil.release(frame)
                    frame.unlocked = True
                self._step(frame, step)
            if releases:
                gil.acquire(frame.w, frame.status)
                frame.unlocked = False

    def _step(self, frame: Frame, step: Step) -> None:
        match step:
            case RunKernel():
                frame.run_site(step.site)
                name = self._kernels[step.kernel.text]
                call_kernel(frame, name, step.reads, step.count, step.chunk)
            case RunTogether():
                joined.run_together(frame, step, self._kernels[step.runs[0].kernel.text])
            case MatrixProduct():
                self._product(frame, step)
            case ProductAndKernel():
                joined.product_and_kernel(frame, step, self._kernels[step.run.kernel.text])
            case Registers():
                self._registers(frame, step)
            case RegisterLoop():
                self._register_loop(frame, step)
            case HostCall():
                layouts = [self._layout(v) for v in step.views]
                host_calls.call_host(frame, step, self._call_numbers[id(step)], layouts)
            case Zero():
                _zero(frame, step.buffer)
            case Scan():
                loops.planned_scan(frame, step, self.steps)
            case While():
                loops.planned_while(frame, step, self.steps)
            case Branch():
                loops.planned_branch(frame, step, self.steps)

    def _product(self, frame: Frame, step: MatrixProduct) -> None:
        how = step.how
        found = self._products.get(id(how))
        if found is None:
            found = products.define(frame.w.module, how), products.sharing(how), how
            self._products[id(how)] = found
        name, sharing, _ = found
        frame.pass_arguments(products.arguments(frame, step))
        if sharing.call:
            frame.parallel_for(name, sharing.pieces, sharing.chunk, sharing.call)
        else:
            frame.w.line(f"call void @{name}(ptr {frame.scratch.ref}, i64 0, i64 {sharing.pieces})")

    # -- in registers -------------------------------------------------------------------

    def _registers(self, frame: Frame, step: Registers) -> None:
        if self._is_repetitive:
            step = self._from_starts(frame, step)
        places = {id(var): view for var, view in step.operands}

        def write(inner: Frame) -> None:
            def outside(atom: Var) -> Value:
                view = places[id(atom)]
                return load_view(inner.w, inner.address(view.buffer), view, atom.aval.dtype)

            small = Small(inner.w, outside, inner.status)
            small.write(step.eqns)
            for var, buffer in step.results:
                store_array(inner.w, small.value(var), inner.address(buffer), var.aval.dtype)

        self._outlined(frame, "small", write, step, _form_of(step) if self._is_repetitive else None)

    def _from_starts(self, frame: Frame, step: Registers) -> Registers:
        """The same, but each view from an address of its own: where rounds of a loop that was
        unrolled read other elements, their functions are equal."""
        starts: dict[tuple[Buffer, int], Buffer] = {}
        operands: list[tuple[Var, View]] = []
        for var, view in step.operands:
            buffer, offset = view.buffer, view.offset
            if offset:
                key = buffer, offset
                if key not in starts:
                    start = starts[key] = Buffer(buffer.dtype, buffer.size - offset, "given")
                    place = frame.w.const(offset * buffer.dtype.itemsize, "i64")
                    frame.addresses[start] = frame.w.offset(frame.address(buffer), "i8", place)
                view = view._replace(buffer=starts[key], offset=0)
            operands.append((var, view))
        return replace(step, operands=tuple(operands))

    def _register_loop(self, frame: Frame, step: RegisterLoop) -> None:
        scan = step.eqn.prim.name == "scan"
        write = loops.register_scan if scan else loops.register_while
        self._outlined(frame, step.eqn.prim.name, lambda inner: write(inner, step), step)
        loops.end_if_reported(frame)

    def _outlined(
        self,
        frame: Frame,
        prefix: str,
        write: Callable[[Frame], None],
        step: Registers | RegisterLoop,
        form: Hashable = None,
    ) -> None:
        """Instructions as a function of their own; equal ones are written once.

        Args:
            form: all that the instructions follow from, if it is known.
        """
        buffers = list(dict.fromkeys([*step.reads, *step.writes]))
        name = self._forms.get(form)
        if name is None:
            name = self._written(frame, prefix, write, buffers)
            if form is not None:
                self._forms[form] = name
        frame.run_site(step.site)
        frame.pass_arguments([*(frame.address(b) for b in buffers), frame.status])
        frame.w.line(f"call void @{name}(ptr {frame.scratch.ref})")

    def _written(
        self, frame: Frame, prefix: str, write: Callable[[Frame], None], buffers: Sequence[Buffer]
    ) -> str:
        inner = Frame(Writer(self.module), Value("%status", "ptr"), frame.scratch)
        args = Value("%args", "ptr")
        for k, buffer in enumerate(buffers):
            place = inner.w.offset(args, "ptr", inner.w.const(k, "i64"))
            inner.addresses[buffer] = inner.w.load(place, "ptr")
        place = inner.w.offset(args, "ptr", inner.w.const(len(buffers), "i64"))
        inner.status = inner.w.load(place, "ptr")
        write(inner)
        inner.w.line("ret void")
        return self._function(prefix, [*inner.w.allocas, *inner.w.lines])

    def _function(self, prefix: str, lines: Sequence[str]) -> str:
        """The name of a function `void f(ptr args)` of these instructions."""
        body = "\n".join(lines)
        if body not in self._functions:
            name = self._functions[body] = f"{prefix}{len(self._functions)}"
            # What runs once a call is of no weight in a large program.
            mark = DRIVER if prefix == "small" and self._work > LARGE_WORK else KERNEL
            head = f"define internal void @{name}(ptr %args) {mark} {{"
            self.module.define(name, f"{head}\nentry:\n{body}\n}}")
        return self._functions[body]

    def _layout(self, view: View) -> int:
        """The number of a view's dtype, dimensions and strides in bytes, for array objects."""
        size = view.buffer.dtype.itemsize
        found = (view.buffer.dtype, (*view.shape, *(s * size for s in view.strides)))
        if found not in self.layouts:
            self.layouts.append(found)
        return self.layouts.index(found)


def _form_of(step: Registers) -> Hashable:
    """The same for steps that compute the same of values that lie alike; None if unknown."""
    values, buffers = Form(), Form()
    operands = [
        (values.number(var), var.aval, buffers.number(view.buffer), view[1:])
        for var, view in step.operands
    ]
    eqns = [values.eqn(e) for e in step.eqns]
    results = [(values.number(var), buffers.number(buffer)) for var, buffer in step.results]
    form = (*operands, None, *eqns, None, *results)
    try:
        hash(form)
    except TypeError:
        return None
    return form


def _zero(frame: Frame, buffer: Buffer) -> None:
    w = frame.w
    w.module.declare("llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    address = frame.address(buffer).ref
    w.line(f"call void @llvm.memset.p0.i64(ptr {address}, i8 0, i64 {buffer.nbytes}, i1 false)")
