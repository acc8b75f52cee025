"""The LLVM backend: graphs become machine code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from funcgrad.backends.cost import graph_flops
from funcgrad.backends.llvm import engine, entry, pool, products
from funcgrad.backends.llvm.donation import copies_itself, donations
from funcgrad.backends.llvm.frame import Frame
from funcgrad.backends.llvm.program import Body, Compiled
from funcgrad.backends.llvm.scalar import SUPPORTED
from funcgrad.backends.llvm.writer import Module, Value, Writer
from funcgrad.backends.loops.decompose import decompose
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.nest import Kernel
from funcgrad.backends.loops.views import contiguous
from funcgrad.backends.numpy.interface import is_plain, render_tree
from funcgrad.backends.numpy.prepare import prepare
from funcgrad.core.execution import BACKENDS, Cost, Inspection, Runner
from funcgrad.core.graph import Graph


class Native:
    """A graph's program.

    Attributes:
        shared: its kernels and constants.
        signature: how it is called.
        text: its LLVM IR.
    """

    def __init__(self, graph: Graph, single: bool, donated: Sequence[int] = ()):
        self.graph = decompose(prepare(graph))
        graph = self.graph
        self.shared = Compiled(engine.vector_bytes())
        inputs = [Buffer(v.aval.dtype, max(v.aval.size, 1), "given") for v in graph.inputs]
        results = [Buffer(a.aval.dtype, max(a.aval.size, 1), "given") for a in graph.outputs]
        views = [contiguous(b, v.aval.shape) for b, v in zip(inputs, graph.inputs, strict=True)]
        body = Body(self.shared, graph, views, results)
        pairs = donations(graph, donated, inputs, results, body.steps) if donated else {}
        memory = {results[r]: inputs[i] for r, i in pairs.items()}
        body.steps = [s for s in body.steps if not copies_itself(s, memory)]
        plan = body.plan
        self.constants = list(self.shared.constants.values())
        self.signature = entry.Signature(
            graph.in_avals,
            graph.out_avals,
            plan.size,
            self.shared.work,
            single,
            len(self.constants),
            bool(self.shared.hosts),
            pairs,
        )
        module = self.shared.module
        given = [*inputs, *self.constants, *results]
        module.define("fg_main", _main(module, body, plan, given, self._first_host))
        module.define("fg_entry", entry.entry_text(Writer(module), self.signature))
        # Nothing but calls: making them faster would take longer than all of them.
        attributes = (
            "attributes #0 = { nounwind alignstack=64 }\nattributes #1 = { noinline optnone }"
        )
        self.text = f"{attributes}\n{module}"

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return tuple(kernel for _, kernel in self.shared.kernels.values())

    @property
    def assembly(self) -> str:
        _register()
        return engine.compile_ir(self.text).assembly

    def cost(self) -> Cost:
        spent = self.shared.spent
        flops, arena = graph_flops(self.graph), self.signature.arena
        return Cost(spent.kernels, spent.calls, spent.moved, flops, arena)

    @property
    def _first_host(self) -> int:
        """The context's slot of the first host function."""
        return entry.FIRST_FREE + 2 * len(self.graph.outputs) + len(self.constants)

    def function(self) -> Any:
        """The native function of flat leaves."""
        _register()
        code = engine.compile_ir(self.text)
        hosts, layouts = self.shared.hosts, self.shared.layouts
        ctx = entry.context(self._first_host + len(hosts) + 2 * len(layouts) + 1)
        ctx.keep = [code]
        self._fill(ctx)
        function = entry.native_function(code.address("fg_entry"), ctx)
        fallback = _in_order(function, self.signature)
        ctx.keep.append(fallback)
        ctx[entry.FALLBACK] = id(fallback)
        return function

    def _fill(self, ctx: entry.Context) -> None:
        ctx[entry.NDARRAY] = id(np.ndarray)
        ctx[entry.INDEX_ERROR] = id(IndexError)
        slot = entry.FIRST_FREE
        for aval in self.signature.outs:
            slot = self._put_layout(ctx, slot, aval.dtype, aval.shape)
        for buffer in self.constants:
            array = buffer.value[0]
            ctx.keep.append(array)
            ctx[slot] = array.ctypes.data
            slot += 1
        for host in self.shared.hosts:
            ctx.keep.append(host)
            ctx[slot] = id(host)
            slot += 1
        for dtype, numbers in self.shared.layouts:
            slot = self._put_layout(ctx, slot, dtype, numbers)

    def _put_layout(
        self, ctx: entry.Context, slot: int, dtype: np.dtype, numbers: Sequence[int]
    ) -> int:
        """A dtype object and an array of numbers (dimensions, strides), by their addresses."""
        array = np.array(numbers, np.int64)
        ctx.keep += [dtype, array]
        ctx[slot], ctx[slot + 1] = id(dtype), array.ctypes.data
        return slot + 2


def _main(module: Module, body: Body, plan: Any, given: Sequence[Buffer], first_host: int) -> str:
    """The function `fg_main(ptr table)`, whose table holds the addresses of `given`."""
    w = Writer(module)
    frame = Frame(w, Value("%status", "ptr"), Value("%scratch", "ptr"))
    table = Value("%table", "ptr")
    for k, buffer in enumerate(given):
        frame.addresses[buffer] = w.load(w.offset(table, "ptr", w.const(k, "i64")), "ptr")
    arena = w.load(w.offset(table, "ptr", w.const(len(given), "i64")), "ptr")
    frame.context = w.load(w.offset(table, "ptr", w.const(len(given) + 1, "i64")), "ptr")
    frame.first_host = first_host
    frame.first_layout = first_host + len(body.shared.hosts)
    frame.place(plan, arena)
    body.emit(frame)
    code = w.load(frame.status, "i64")
    w.line(f"ret i64 {code.ref}")
    head = [
        "define internal i64 @fg_main(ptr %table) #1 {",
        "entry:",
        "  %status = alloca i64",
        "  store i64 0, ptr %status",
        f"  %scratch = alloca [{max(frame.most_arguments, 1)} x i64], align 16",
    ]
    return "\n".join([*head, *w.lines, "}"])


def _in_order(function: Any, signature: entry.Signature) -> Callable[..., Any]:
    """What the native function calls with arrays that it cannot take: it gets copies of them."""
    written = set(signature.donated.values())

    def ready(number: int, leaf: Any) -> Any:
        if not signature.ins[number].shape and not isinstance(leaf, np.ndarray):
            return leaf
        flags = leaf.flags
        if flags.c_contiguous and flags.aligned and number not in written:
            return leaf
        return np.array(leaf, order="C", copy=True)

    return lambda *leaves: function(*map(ready, range(len(leaves)), leaves))


@cache
def _register() -> None:
    entry.register_symbols()
    pool.load()
    products.load()


class LlvmBackend:
    """Compiles a graph to machine code; what it cannot take goes to the NumPy backend."""

    name = "llvm"

    def compile(self, graph: Graph, out_tree: Any = None, donated: Sequence[int] = ()) -> Runner:
        if not _is_native(graph):
            return BACKENDS["numpy"].compile(graph, out_tree)
        single = out_tree is not None and _is_leaf(out_tree)
        function = Native(graph, single, donated).function()
        if out_tree is None or single:
            return function
        return _with_tree(function, len(graph.inputs), out_tree)

    def inspect(
        self, graph: Graph, signature: Any, out_tree: Any, donated: Sequence[int] = ()
    ) -> Inspection:
        if not _is_native(graph):
            return BACKENDS["numpy"].inspect(graph, signature, out_tree)
        return Native(graph, _is_leaf(out_tree), donated)


def _is_native(graph: Graph) -> bool:
    """Whether native code can read the inputs, and is good for most of what is done with them."""
    if not all(a.dtype.isnative for a in graph.in_avals):
        return False
    made = [o.aval.dtype in SUPPORTED for e in graph.eqns for o in e.outs]
    return 2 * sum(made) >= len(made)


def _is_leaf(out_tree: Any) -> bool:
    if out_tree.num_leaves != 1:
        return False
    mark = object()
    return out_tree.unflatten([mark]) is mark


def _with_tree(function: Any, arity: int, out_tree: Any) -> Runner:
    """The results in a structure."""
    if not is_plain(out_tree):
        return lambda *leaves: out_tree.unflatten(function(*leaves))
    names = ", ".join(f"x{i}" for i in range(arity))
    n = out_tree.num_leaves
    text = render_tree(out_tree, [f"r[{i}]" for i in range(n)])
    namespace: dict[str, Any] = {"f": function}
    exec(f"def run({names}):\n    r = f({names})\n    return {text}\n", namespace)
    return namespace["run"]
