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

from funcgrad.backends.llvm import control as _control  # noqa: F401  (registers its rules)
from funcgrad.backends.llvm import products as _products  # noqa: F401  (registers its rule)
from funcgrad.backends.llvm.calls import call_host, write_call
from funcgrad.backends.llvm.loops import write_kernel
from funcgrad.backends.llvm.scalar import SUPPORTED
from funcgrad.backends.llvm.small import Small, can_be_small, is_elementwise, load_view, store_array
from funcgrad.backends.llvm.writer import Module, Value, Writer
from funcgrad.backends.loops.memory import Buffer, Plan, Use, plan
from funcgrad.backends.loops.nest import (
    INDEXED,
    Axis,
    Combine,
    Kernel,
    Load,
    Loop,
    Op,
    Param,
    Reduction,
    Ref,
    Store,
    affine,
)
from funcgrad.backends.loops.partition import (
    GATHERS,
    REDUCES,
    VIEWS,
    Cluster,
    Partition,
    is_one_hot,
)
from funcgrad.backends.loops.recompute import recomputed
from funcgrad.backends.loops.schedule import View, row_major, schedule
from funcgrad.core.graph import Const, Eqn, Graph, Var

CHUNKS = 64
# From this many scalar operations on, a kernel is worth the threads.
PARALLEL_WORK = 150_000
# Programs of more scalar operations have their glue compiled quickly rather than well.
LARGE_WORK = 200_000
_FUNCTION_WORK = 12


class Step(NamedTuple):
    """One action: what it touches, and how it is written.

    Attributes:
        kernel: the loop nest, if that is all it runs, on the arrays `reads`.
    """

    emit: Callable[[Frame], None]
    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    kernel: Kernel | None = None


class Frame:
    """The native function that is being written.

    Attributes:
        w: takes its instructions.
        addresses: where buffers lie.
        status: where errors are reported.
        scratch: room for one call's arguments.
    """

    def __init__(self, w: Writer, status: Value, scratch: Value):
        self.w = w
        self.status = status
        self.scratch = scratch
        self.addresses: dict[Buffer, Value] = {}
        self.most_arguments = 0
        self.context = Value("null", "ptr")
        self.first_host = 0
        self.first_layout = 0

    def address(self, buffer: Buffer) -> Value:
        return self.addresses[buffer]

    def pass_arguments(self, values: Sequence[Value]) -> None:
        """Write what the next call's first argument points to."""
        self.most_arguments = max(self.most_arguments, len(values))
        for i, value in enumerate(values):
            self.w.store(value, self.w.offset(self.scratch, "i64", self.w.const(i, "i64")))

    def slot(self, number: int) -> Value:
        """What the program's context holds at a slot."""
        w = self.w
        return w.load(w.offset(self.context, "ptr", w.const(number, "i64")), "ptr")

    def call_host(self, number: int, views: Sequence[View], layouts: Sequence[int]) -> None:
        """Call a Python function with arrays on these views; an exception ends the program."""
        w, null = self.w, Value("null", "ptr")
        self.most_arguments = max(self.most_arguments, len(views) + 1)
        arrays = []
        for k, (view, layout) in enumerate(zip(views, layouts, strict=True)):
            first = self.first_layout + 2 * layout
            descr, dims = self.slot(first), self.slot(first + 1)
            rank = len(view.shape)
            strides = w.offset(dims, "i64", w.const(rank, "i64"))
            kind = "i8"
            data = w.offset(
                self.address(view.buffer),
                kind,
                w.const(view.offset * view.buffer.dtype.itemsize, "i64"),
            )
            w.module.declare("Py_IncRef", "declare void @Py_IncRef(ptr)")
            w.module.declare("Py_DecRef", "declare void @Py_DecRef(ptr)")
            w.line(f"call void @Py_IncRef(ptr {descr.ref})")
            args = [self.slot(0), descr, w.const(rank, "i32"), dims, strides, data]
            args += [w.const(0x0500, "i32"), null]
            array = w.call("fg_PyArray_NewFromDescr", "ptr", 1, args)
            w.store(array, w.offset(self.scratch, "ptr", w.const(k, "i64")))
            arrays.append(array)
        count = w.const(len(views), "i64")
        args = [self.slot(self.first_host + number), self.scratch, count, null]
        found = w.call("PyObject_Vectorcall", "ptr", 1, args)
        for array in arrays:
            w.line(f"call void @Py_DecRef(ptr {array.ref})")
        failed, fine = w.new_label("failed"), w.new_label("fine")
        w.branch_if(w.compare("icmp eq", found, null), failed, fine)
        w.label(failed)
        w.line("ret i64 2")
        w.label(fine)
        w.line(f"call void @Py_DecRef(ptr {found.ref})")

    def place(self, found: Plan, arena: Value) -> None:
        """Give a plan's temporaries their addresses."""
        for buffer, offset in found.offsets.items():
            self.addresses[buffer] = self.w.offset(arena, "i8", self.w.const(offset, "i64"))


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
    """

    def __init__(self, vector_bytes: int):
        self.module = Module()
        self.vector_bytes = vector_bytes
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
            attributes = "#1" if wish == "small" and self.work > LARGE_WORK else "#0"
            head = f"define internal void @{name}(ptr %args) {attributes} {{"
            self.module.define(name, f"{head}\nentry:\n{body}\n}}")
        return self.functions[body]

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
        return plan([Use(s.reads, s.writes) for s in self.steps])

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
        """The same elements in row-major order."""
        if view.contiguous:
            return view
        copy = contiguous(Buffer(view.buffer.dtype, max(prod(view.shape), 1)), view.shape)
        self.copy(view, copy)
        return copy

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
                self.run(*schedule(cluster, outputs, self.resolve, self.target, again))
        elif cluster.kind == "small":
            self._small(cluster)
        else:
            write_call(self, cluster.eqns[0])

    def step(
        self,
        emit: Callable[[Frame], None],
        reads: Sequence[Any],
        writes: Sequence[Any],
        kernel: Kernel | None = None,
    ) -> None:
        self.steps.append(Step(emit, reads, writes, kernel))

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
        self.outlined("small", write, sources, results)

    def outlined(
        self,
        wish: str,
        write: Callable[[Frame], None],
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
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
            name = self.shared.function(wish, inner.w.lines)
            frame.pass_arguments([*(frame.address(b) for b in buffers), frame.status])
            frame.w.line(f"call void @{name}(ptr {frame.scratch.ref})")

        self.step(emit, reads, writes)

    def copy(self, source: View, destination: View) -> None:
        """Elements from one view to another of the same shape."""
        if not prod(source.shape):
            return
        if source.buffer.dtype not in SUPPORTED or destination.buffer.dtype not in SUPPORTED:
            call_host(self, np.copyto, [destination, source], 1)
            return
        self.run(copy_nest(source, destination), [source.buffer, destination.buffer])

    def run(self, kernel: Kernel, buffers: Sequence[Buffer | None]) -> None:
        """A step that runs a kernel, and one that combines what its chunks have accumulated."""
        n_rows, chunk = chunking(kernel)
        chunks = -(-n_rows // chunk)
        bound: list[Any] = list(buffers)
        finish: list[tuple[Kernel, list[Any]]] = []
        for i, p in enumerate(kernel.params):
            if p.role == "scratch":
                bound[i] = Buffer(p.dtype, p.size * chunks)
            elif p.role == "partial":
                into = bound[p.into]
                bound[i] = into if chunks == 1 else Buffer(p.dtype, p.size * chunks)
                if chunks > 1:
                    finish.append((combine_nest(p, chunks), [bound[i], into]))
        name = self.shared.kernel(kernel)
        self.shared.work += work_of(kernel)

        def emit(frame: Frame) -> None:
            call_kernel(frame, name, bound, n_rows, chunk)

        written = [b for b, p in zip(bound, kernel.params, strict=True) if p.role != "in"]
        roles = [p.role for p in kernel.params]
        self.shared.spent.kernels += 1
        self.shared.spent.add(
            [b for b, role in zip(bound, roles, strict=True) if role == "in"],
            [b for b, role in zip(bound, roles, strict=True) if role in ("out", "partial")],
        )
        self.step(emit, bound, written, kernel)
        for nest, arrays in finish:
            self.run(nest, arrays)


def contiguous(buffer: Buffer, shape: Sequence[int]) -> View:
    return View(buffer, tuple(shape), row_major(shape), 0)


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
        return is_one_hot(eqn)
    return is_elementwise(eqn)


# --- views ----------------------------------------------------------------------------


def view_of(eqn: Eqn, base: View) -> View | None:
    """The view that an equation makes of its operand's; None where only a copy has it."""
    name, params, shape = eqn.prim.name, eqn.params, eqn.outs[0].aval.shape
    strides, offset = base.strides, base.offset
    if name == "transpose":
        return View(base.buffer, shape, tuple(strides[p] for p in params["perm"]), offset)
    if name == "broadcast_to":
        lead = (0,) * (len(shape) - len(base.shape))
        kept = tuple(0 if n == 1 else s for n, s in zip(base.shape, strides, strict=True))
        return View(base.buffer, shape, lead + kept, offset)
    if name == "flip":
        new = list(strides)
        for a in params["axes"]:
            offset += strides[a] * max(base.shape[a] - 1, 0)
            new[a] = -strides[a]
        return View(base.buffer, shape, tuple(new), offset)
    if name == "index":
        new = []
        for n, s, e in zip(base.shape, strides, params["idx"], strict=True):
            if type(e) is tuple:
                start, _, step = slice(*e).indices(n)
                offset += start * s if len(range(*slice(*e).indices(n))) else 0
                new.append(s * step)
            else:
                offset += (e % n) * s
        return View(base.buffer, shape, tuple(new), offset)
    if name == "reshape":
        new_strides = _reshaped(base, shape)
        return None if new_strides is None else View(base.buffer, shape, new_strides, offset)
    return base


def _reshaped(base: View, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The strides of a reshaped view, as NumPy finds them; None where it needs a copy."""
    if base.contiguous or not prod(shape):
        return row_major(shape)
    old = [(n, s) for n, s in zip(base.shape, base.strides, strict=True) if n != 1]
    new: list[int] = []
    i = 0
    for n in shape:
        if n == 1:
            new.append(0)
            continue
        if i >= len(old):
            return None
        length, step = old[i]
        if n == length:
            new.append(step)
            i += 1
        elif n < length and length % n == 0:
            new.append(step * (length // n))
            old[i] = (length // n, step)
        else:
            while n > length and i + 1 < len(old):
                following, small = old[i + 1]
                if step != small * following:
                    return None
                length, step = length * following, small
                i += 1
            if n != length:
                return None
            new.append(step)
            i += 1
    return tuple(new)


# --- kernels --------------------------------------------------------------------------


def work_of(kernel: Kernel) -> int:
    """Scalar operations, roughly."""
    total = 0
    for loop in kernel.loops():
        cost = 1
        for s in loop.body:
            cost += _FUNCTION_WORK if type(s) is Op and s.name in _SLOW else 1
        total += cost * prod(a.extent for a in loop.axes)
    return kernel.rows * max(total, 1)


_SLOW = frozenset(
    "exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh arcsin arccos arctan arctan2 "
    "arcsinh arccosh arctanh erf erfc erfinv logistic cbrt hypot logaddexp logaddexp2 sinc power "
    "fmod div sqrt threefry_first threefry_second threefry_both threefry_folded".split()
)


def chunking(kernel: Kernel) -> tuple[int, int]:
    """How many rows (or elements, where there are none) there are, and how many make a chunk.

    It depends on the kernel alone, so that sums are formed alike by any number of threads.
    """
    if kernel.outer:
        count, grain = kernel.rows, 1
    else:
        loops = kernel.loops()
        count, grain = (loops[0].axes[-1].extent if loops else 1), 1024
    work = work_of(kernel)
    if not kernel.parallel or work < PARALLEL_WORK:
        return count, count
    chunks = min(CHUNKS, count, max(2, work // (PARALLEL_WORK // 2)))
    kept = sum(p.size for p in kernel.params if p.role == "partial")
    if kept:
        chunks = min(chunks, max(1, kernel.elements // (4 * kept)))
    chunk = -(-count // chunks)
    return count, -(-chunk // grain) * grain


def call_kernel(frame: Frame, name: str, buffers: Sequence[Buffer], count: int, chunk: int) -> None:
    w = frame.w
    values = [frame.address(b) for b in buffers]
    frame.pass_arguments([*values, frame.status, w.const(chunk, "i64")])
    if chunk >= count:
        w.line(f"call void @{name}(ptr {frame.scratch.ref}, i64 0, i64 {count})")
        return
    w.module.declare("fg_parallel", "declare void @fg_parallel(ptr, ptr, i64, i64)")
    w.line(
        f"call void @fg_parallel(ptr @{name}, ptr {frame.scratch.ref}, i64 {count}, i64 {chunk})"
    )


def copy_nest(source: View, destination: View) -> Kernel:
    """A kernel that copies one view to another."""
    axes = [Axis(n, False) for n in source.shape] or [Axis(1, False)]
    have, want = source.buffer.dtype, destination.buffer.dtype
    value = Ref(have, 2)
    terms = list(zip(axes, source.strides, strict=False))
    body: list[Any] = [Load(value, 0, affine(source.offset, terms))]
    stored = value
    if have != want:
        stored = Ref(want, 2)
        body.append(Op(stored, "convert", (value,)))
    terms = list(zip(axes, destination.strides, strict=False))
    body.append(Store(1, affine(destination.offset, terms), stored))
    return _rows_of(
        [Param(have, source.buffer.size, "in"), Param(want, destination.buffer.size, "out")],
        axes,
        body,
    )


def _rows_of(params: list[Param], axes: list[Axis], body: list[Any]) -> Kernel:
    """A kernel of one pass, its axes merged where they can be; the last one is inner."""
    from funcgrad.backends.loops.schedule import merge_axes, renamed

    changes: dict[Any, Any] = {}
    merged = merge_axes(axes, [s.index for s in body if isinstance(s, INDEXED)], changes)
    body = [renamed(s, changes) for s in body]
    for axis in merged[:-1]:
        axis.outer = True
    return Kernel(params, tuple(merged[:-1]), [], [Loop(merged[-1:], body, [])])


def combine_nest(param: Param, chunks: int) -> Kernel:
    """A kernel that combines the chunks' parts of a reduction, in order."""
    params = [Param(param.dtype, param.size * chunks, "in"), Param(param.dtype, param.size, "out")]
    if param.size == 1:
        axis = Axis(chunks, False)
        value, total = Ref(param.dtype, 2), Ref(param.dtype, 1)
        loop = Loop(
            (axis,), [Load(value, 0, affine(0, [(axis, 1)]))], [Reduction(total, param.op, value)]
        )
        return Kernel(params, (), [], [loop, Store(1, affine(0, []), total)], parallel=False)
    axis, later = Axis(param.size, False), Axis(chunks - 1, False)
    first, value = Ref(param.dtype, 2), Ref(param.dtype, 2)
    place = affine(0, [(axis, 1)])
    start: list[Any] = [Load(first, 0, place), Store(1, place, first)]
    behind = affine(param.size, [(later, param.size), (axis, 1)])
    rest: list[Any] = [Load(value, 0, behind), Combine(1, place, param.op, value)]
    body: list[Any] = [Loop((axis,), start, []), Loop((later, axis), rest, [])]
    return Kernel(params, (), [], body, parallel=False)
