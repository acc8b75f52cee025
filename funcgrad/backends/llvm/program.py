"""A whole graph as one native function: kernels, products, host calls and loops, in order.

The graph's clusters become *steps*. Once all steps are known their temporaries get places in
one arena, and the steps write their calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcgrad.backends.llvm.epilogue import RowPieces, chunking_after, joined
from funcgrad.backends.llvm.frame import Frame, call_kernel
from funcgrad.backends.llvm.kinds import SUPPORTED
from funcgrad.backends.llvm.loops import write_kernel
from funcgrad.backends.llvm.parts import LARGE_WORK
from funcgrad.backends.llvm.rules import RULES
from funcgrad.backends.llvm.sites import Lines, Site
from funcgrad.backends.llvm.small import Small, can_be_small, is_elementwise, load_view, store_array
from funcgrad.backends.llvm.writer import GLUE, KERNEL, Module, Value, Writer
from funcgrad.backends.loops.counts import one_hot_rows
from funcgrad.backends.loops.kernels import chunking, copy_nest, neighbours_together, work_of
from funcgrad.backends.loops.memory import Buffer, Plan, Use, plan
from funcgrad.backends.loops.nest import (
    Kernel,
)
from funcgrad.backends.loops.partials import combine_nest, in_order
from funcgrad.backends.loops.partition import (
    GATHERS,
    REDUCES,
    SMALL,
    VIEWS,
    Cluster,
    Partition,
)
from funcgrad.backends.loops.recompute import recomputed
from funcgrad.backends.loops.schedule import schedule
from funcgrad.backends.loops.views import View, contiguous, view_of
from funcgrad.core.graph import Const, Eqn, Graph, Var

# Kernels follow products that were at most so many steps ago.
NEAR_STEPS = 16


class KernelCall(NamedTuple):
    """One run of a kernel over all its rows, and those of its buffers that it only reads."""

    name: str
    buffers: Sequence[Buffer]
    reads: Sequence[Buffer]
    count: int
    chunk: int
    work: int


class Step(NamedTuple):
    """One action: what it touches, and how it is written.

    Attributes:
        kernel: a loop nest that it runs on the first of the arrays `reads`.
        call: how, if that is all it runs.
        replaceable: what it reads at no other place than it then writes: the result may lie there.
        rows: the product that it is, if its pieces are whole rows.
    """

    emit: Callable[[Frame], None]
    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    kernel: Kernel | None = None
    call: KernelCall | None = None
    replaceable: Sequence[Buffer] = ()
    rows: RowPieces | None = None


@dataclass
class Spent:
    """What the steps so far take: kernels run, calls of libraries, bytes read and written."""

    kernels: int = 0
    calls: int = 0
    moved: int = 0

    def add(self, reads: Iterable[Buffer], writes: Iterable[Buffer]) -> None:
        self.moved += sum(b.nbytes for b in {*reads} - {*writes}) + sum(b.nbytes for b in writes)

    def repeat(self, before: Spent, times: int) -> None:
        """Count what was added since then so many times."""
        self.kernels = before.kernels + (self.kernels - before.kernels) * times
        self.calls = before.calls + (self.calls - before.calls) * times
        self.moved = before.moved + (self.moved - before.moved) * times


class Compiled:
    """What all parts of one program share: the module, kernels known by their text, constants.

    Attributes:
        kernels: each kernel with its name, once.
        constants: the buffers of constant arrays, by the array's id.
        hosts: Python functions that the program calls.
        sites: where indices are checked, with their numbers, from 1 on.
    """

    def __init__(self, vector_bytes: int, lines: Lines):
        self.module = Module()
        self.vector_bytes = vector_bytes
        self.lines = lines
        self.sites: dict[Site, int] = {}
        self.kernels: dict[str, tuple[str, Kernel]] = {}
        self.functions: dict[str, str] = {}
        self.constants: dict[int, Buffer] = {}
        self.hosts: list[Callable[..., None]] = []
        self.layouts: list[tuple[np.dtype, tuple[int, ...]]] = []
        self.work = 0
        self.spent = Spent()

    def kernel(self, kernel: Kernel) -> str:
        """The name of a kernel's function; equal ones are written once."""
        key = str(kernel)
        if key not in self.kernels:
            name = f"kernel{len(self.kernels)}"
            self.kernels[key] = (name, kernel)
            self.module.define(name, write_kernel(self.module, name, kernel, self.vector_bytes))
        return self.kernels[key][0]

    def function(self, wish: str, lines: Sequence[str]) -> str:
        """The name of a function `void f(ptr args)` of these instructions."""
        body = "\n".join(lines)
        if body not in self.functions:
            name = self.functions[body] = f"{wish}{len(self.functions)}"
            # What runs once a call is of no weight in a large program.
            mark = GLUE if wish == "small" and self.work > LARGE_WORK else KERNEL
            head = f"define internal void @{name}(ptr %args) {mark} {{"
            self.module.define(name, f"{head}\nentry:\n{body}\n}}")
        return self.functions[body]

    def site(self, eqns: Iterable[Eqn]) -> int:
        """The number of the site where these equations are computed; 0 if they check nothing."""
        found = self.lines.site(eqns)
        return self.sites.setdefault(found, len(self.sites) + 1) if found else 0

    def layout(self, view: View) -> int:
        """The number of a view's dtype, dimensions and strides in bytes, for array objects."""
        size = view.buffer.dtype.itemsize
        found = (view.buffer.dtype, (*view.shape, *(s * size for s in view.strides)))
        if found not in self.layouts:
            self.layouts.append(found)
        return self.layouts.index(found)

    def constant(self, value: np.ndarray) -> Buffer:
        found = self.constants.get(id(value))
        if found is None:
            array = np.ascontiguousarray(value)
            found = self.constants[id(value)] = Buffer(
                array.dtype, array.size, "given", (array, value)
            )
        return found


class Body:
    """The steps of one graph.

    Args:
        graph: as `prepare` gives it, decomposed.
        inputs: where the inputs lie.
        targets: the buffers that the outputs are written to.
    """

    def __init__(
        self, shared: Compiled, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]
    ):
        self.shared = shared
        self.graph = graph
        self.steps: list[Step] = []
        self.views: dict[int, View] = {
            id(v): view for v, view in zip(graph.inputs, inputs, strict=True)
        }
        self.partition = Partition(graph, can_loop, can_be_small)
        self.targets: dict[int, Buffer] = {}
        self.copies: dict[View, View] = {}
        self._outside = {*(view.buffer for view in inputs), *targets}
        self._give_targets(targets)
        self._read_outside = self._find_read_outside()
        self._recomputed = recomputed(self.partition, self._read_outside)
        for cluster in self.partition.in_order():
            self._cluster(cluster)
        for atom, target in zip(graph.outputs, targets, strict=True):
            if self.targets.get(id(atom)) is not target:
                self.copy(self.resolve(atom), contiguous(target, atom.aval.shape))

    @property
    def plan(self) -> Plan:
        """Where the values of these steps lie; what surrounds them has a place already."""
        own = [[b for b in (*s.reads, *s.writes) if b not in self._outside] for s in self.steps]
        return plan([Use(buffers, ()) for buffers in own])

    def emit(self, frame: Frame) -> None:
        for step in self.steps:
            step.emit(frame)

    # -- where values lie ---------------------------------------------------------------

    def _give_targets(self, targets: Sequence[Buffer]) -> None:
        """Outputs that an equation makes are written where they are wanted, the first time."""
        given = {id(v) for v in self.graph.inputs}
        for atom, target in zip(self.graph.outputs, targets, strict=True):
            if type(atom) is not Var or id(atom) in given or id(atom) in self.targets:
                continue
            if self.partition.root(atom) is atom and atom.aval.dtype == target.dtype:
                self.targets[id(atom)] = target

    def target(self, var: Any) -> Buffer:
        """The buffer that a variable is written to."""
        found = self.targets.get(id(var))
        if found is None:
            found = self.targets[id(var)] = Buffer(var.aval.dtype, max(var.aval.size, 1))
        self.views[id(var)] = contiguous(found, var.aval.shape)
        return found

    def resolve(self, atom: Any) -> View:
        """Where an atom lies; views of arrays take no room."""
        if type(atom) is Const:
            value = np.asarray(atom.value, atom.aval.dtype)
            if value.size > 1 and not any(value.strides):
                one = self.shared.constant(_once(atom, value))
                return View(one, value.shape, (0,) * value.ndim, 0)
            kept = atom.value if isinstance(atom.value, np.ndarray) else _once(atom, value)
            return contiguous(self.shared.constant(kept), value.shape)
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

    def outputs_of(self, cluster: Cluster) -> list[Any]:
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

    def _find_read_outside(self) -> set[int]:
        """What a cluster makes that another one, or the caller, reads, perhaps through views."""
        partition = self.partition
        found = {id(partition.root(a)) for a in self.graph.outputs}
        for eqn in self.graph.eqns:
            if eqn.prim.name in VIEWS:
                continue
            home = partition.home.get(id(eqn.outs[0])) if eqn.outs else None
            for atom in eqn.ins:
                if type(atom) is Var:
                    root = partition.root(atom)
                    if partition.home.get(id(root)) is not home:
                        found.add(id(root))
        return found

    # -- steps --------------------------------------------------------------------------

    def _cluster(self, cluster: Cluster) -> None:
        if cluster.kind == "loops":
            outputs = self.outputs_of(cluster)
            if outputs:
                again = self._computed_again(cluster)
                found = schedule(cluster, outputs, self.resolve, self.target, again)
                self.run(*found, self.shared.site((*again, *cluster.eqns)))
        elif cluster.kind == "small":
            self._small(cluster)
        else:
            self._call(cluster.eqns[0])

    def step(
        self,
        emit: Callable[[Frame], None],
        reads: Sequence[Any],
        writes: Sequence[Any],
    ) -> None:
        self.steps.append(Step(emit, reads, writes))

    def _small(self, cluster: Cluster) -> None:
        outputs = self.outputs_of(cluster)
        if not outputs:
            return
        made = {id(o) for e in cluster.eqns for o in e.outs}
        reads: dict[int, View] = {}
        for eqn in cluster.eqns:
            for atom in eqn.ins:
                if type(atom) is Var and id(atom) not in made:
                    reads[id(atom)] = self.resolve(atom)
        lazy = [
            e.outs[0]
            for e in cluster.eqns
            if e.prim.name in VIEWS
            and type(e.ins[0]) is not Const
            and id(self.partition.root(e.ins[0])) not in made
        ]
        for var in lazy:
            reads[id(var)] = self.resolve(var)
        targets = [(o, self.target(o)) for o in outputs]

        def write(frame: Frame) -> None:
            w = frame.w

            def outside(atom: Any) -> Value:
                view = reads[id(atom)]
                return load_view(w, frame.address(view.buffer), view, atom.aval.dtype)

            small = Small(w, outside, frame.status)
            small.write(cluster.eqns)
            for var, target in targets:
                store_array(w, small.value(var), frame.address(target), var.aval.dtype)

        sources, results = [v.buffer for v in reads.values()], [t for _, t in targets]
        self.shared.spent.add(sources, results)
        self.outlined("small", write, sources, results, self.shared.site(cluster.eqns))

    def outlined(
        self,
        wish: str,
        write: Callable[[Frame], None],
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        site: int = 0,
    ) -> None:
        """A step whose instructions are a function of their own; equal ones are written once."""
        buffers = list(dict.fromkeys([*reads, *writes]))

        def emit(frame: Frame) -> None:
            inner = Frame(Writer(self.shared.module), Value("%status", "ptr"), frame.scratch)
            args = Value("%args", "ptr")
            for k, buffer in enumerate(buffers):
                place = inner.w.offset(args, "ptr", inner.w.const(k, "i64"))
                inner.addresses[buffer] = inner.w.load(place, "ptr")
            place = inner.w.offset(args, "ptr", inner.w.const(len(buffers), "i64"))
            inner.status = inner.w.load(place, "ptr")
            write(inner)
            inner.w.line("ret void")
            name = self.shared.function(wish, [*inner.w.rooms, *inner.w.lines])
            frame.run_site(site)
            frame.pass_arguments([*(frame.address(b) for b in buffers), frame.status])
            frame.w.line(f"call void @{name}(ptr {frame.scratch.ref})")

        self.step(emit, reads, writes)

    def _call(self, eqn: Eqn) -> None:
        """The steps of an equation that no cluster takes."""
        found = RULES.get(eqn.prim.name)
        known = all(a.aval.dtype in SUPPORTED for a in (*eqn.ins, *eqn.outs))
        if found is not None and known and all(o.aval.size for o in eqn.outs):
            found(self, eqn)
        else:
            self.host(eqn)

    def host(self, eqn: Eqn) -> None:
        """A call of the primitive's own implementation, on arrays in the program's memory."""
        views = [self.resolve(a) for a in eqn.ins if type(a) is not Const]
        for out in eqn.outs:
            self.target(out)
        outs = [self.views[id(o)] for o in eqn.outs]
        self.call_host(_host_function(eqn), [*outs, *views], len(outs))

    def call_host(self, function: Callable[..., None], views: Sequence[View], written: int) -> None:
        """A step that calls a Python function with arrays; it writes the first of them."""
        number = len(self.shared.hosts)
        self.shared.hosts.append(function)
        layouts = [self.shared.layout(v) for v in views]

        def emit(frame: Frame) -> None:
            frame.call_host(number, views, layouts)

        buffers = [v.buffer for v in views]
        self.shared.spent.calls += 1
        self.shared.spent.add(buffers[written:], buffers[:written])
        self.step(emit, buffers, buffers[:written])

    def copy(self, source: View, destination: View) -> None:
        """Elements from one view to another of the same shape."""
        if not prod(source.shape):
            return
        if source.buffer.dtype not in SUPPORTED or destination.buffer.dtype not in SUPPORTED:
            self.call_host(np.copyto, [destination, source], 1)
            return
        self.run(copy_nest(source, destination), [source.buffer, destination.buffer])

    def run(self, kernel: Kernel, buffers: Sequence[Buffer | None], site: int = 0) -> None:
        """A step that runs a kernel, and one that combines what its chunks have accumulated.

        Args:
            site: the number of the site of its checks.
        """
        kernel = neighbours_together(kernel)
        place = None if site else self._product_before(kernel, buffers)
        product = None if place is None else self.steps[place].rows
        after = None if product is None else chunking_after(product, kernel, buffers)
        n_rows, chunk = after or chunking(kernel)
        chunks = -(-n_rows // chunk)
        kernel, steps = in_order(kernel)
        bound: list[Any] = list(buffers)
        finish: list[tuple[Kernel, list[Any]]] = []
        for i, p in enumerate(kernel.params):
            if p.role == "scratch":
                bound[i] = Buffer(p.dtype, p.size * chunks)
            elif p.role == "partial":
                into = bound[p.into]
                if chunks == 1 and i not in steps:
                    bound[i] = into
                    continue
                bound[i] = Buffer(p.dtype, p.size * chunks)
                finish.append((combine_nest(p, chunks, steps.get(i, 1)), [bound[i], into]))
        name, work = self.shared.kernel(kernel), work_of(kernel)
        self.shared.work += work

        def emit(frame: Frame) -> None:
            frame.run_site(site)
            call_kernel(frame, name, bound, n_rows, chunk)

        written = [b for b, p in zip(bound, kernel.params, strict=True) if p.role != "in"]
        roles = [p.role for p in kernel.params]
        only_read = [b for b, role in zip(bound, roles, strict=True) if role == "in"]
        results = [b for b, role in zip(bound, roles, strict=True) if role in ("out", "partial")]
        self.shared.spent.kernels += 1
        self.shared.spent.add(only_read, results)
        # Runs that are joined have no site of their own.
        call = None if site else KernelCall(name, bound, only_read, n_rows, chunk, work)
        step = Step(emit, bound, written, kernel, call)
        if after and product and call and place is not None:
            old = self.steps[place]
            reads, writes = [*bound, *old.reads], [*old.writes, *written]
            self.steps[place] = Step(joined(product, call), reads, writes, kernel)
        else:
            self.steps.append(step)
        for nest, arrays in finish:
            self.run(nest, arrays)

    def _product_before(self, kernel: Kernel, buffers: Sequence[Buffer | None]) -> int | None:
        """The last step, if it is a product, that makes what a kernel reads; the kernel could
        as well follow it at once. What lies far back is no longer in the cache."""
        used = {b for b in buffers if b is not None}
        made = {b for b, p in zip(buffers, kernel.params, strict=True) if p.role != "in"}
        for place in reversed(range(len(self.steps))[-NEAR_STEPS:]):
            step = self.steps[place]
            if not used.isdisjoint(step.writes):
                return place if step.rows and step.rows.target in used else None
            if not made.isdisjoint(step.reads):
                return None
        return None


def _host_function(eqn: Eqn) -> Callable[..., None]:
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    fixed = [a.value if type(a) is Const else None for a in eqn.ins]
    # Complex numbers stay NumPy's: what is taken of Python's, as a real part, has no methods.
    weak = [a.aval.weak and a.aval.dtype.kind != "c" for a in eqn.ins]

    def call(*arrays: np.ndarray) -> None:
        supply = iter(arrays[n:])
        ins = []
        for atom, value, is_weak in zip(eqn.ins, fixed, weak, strict=True):
            if type(atom) is Const:
                ins.append(value)
                continue
            array = next(supply)
            ins.append(array.item() if is_weak else array if array.ndim else array[()])
        with np.errstate(all="ignore"):
            result = prim.impl(*ins, **params)
        for out, value in zip(arrays[:n], result if prim.multiple else [result], strict=True):
            out[...] = value

    return call


def _once(atom: Any, value: np.ndarray) -> np.ndarray:
    """A constant's one number as an array, which lives as long as the atom."""
    if isinstance(atom.value, np.ndarray):
        return atom.value[tuple([slice(0, 1)] * value.ndim)]
    return value


def can_loop(eqn: Eqn) -> bool:
    """Whether an equation can be written inside a loop nest."""
    name = eqn.prim.name
    if any(a.aval.dtype not in SUPPORTED for a in (*eqn.ins, *eqn.outs)):
        return False
    if name in REDUCES:
        return True
    if name in GATHERS:
        return True
    if name == "scatter_zeros":
        return prod(eqn.params["shape"]) > SMALL and one_hot_rows(eqn) is not None
    return is_elementwise(eqn)
