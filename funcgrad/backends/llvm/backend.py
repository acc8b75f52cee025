"""The LLVM backend: graphs become machine code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from funcgrad.backends.common.prepare import prepare
from funcgrad.backends.common.spelling import is_plain, render_tree
from funcgrad.backends.llvm.ir.types import SUPPORTED
from funcgrad.backends.llvm.products import tiles
from funcgrad.backends.llvm.program import recipe
from funcgrad.core import execution
from funcgrad.core.aval import Aval
from funcgrad.core.collector import MANY, collector_paused
from funcgrad.core.execution import Inspection, Runner
from funcgrad.core.graph import Eqn, Graph
from funcgrad.source import define


class LlvmBackend:
    """Compiles a graph to machine code; what it cannot take goes to the NumPy backend."""

    name = "llvm"

    def compile(self, graph: Graph, out_tree: Any = None, donated: Sequence[int] = ()) -> Runner:
        if not _is_native(graph):
            return execution.backends.named("numpy").compile(graph, out_tree)
        single = out_tree is not None and _is_leaf(out_tree)
        with _collector(graph):
            function = _function(prepare(graph), single, donated)
        if out_tree is None or single:
            return function
        return _with_tree(function, len(graph.inputs), out_tree)

    def inspect(
        self, graph: Graph, signature: Any, out_tree: Any, donated: Sequence[int] = ()
    ) -> Inspection:
        if not _is_native(graph):
            return execution.backends.named("numpy").inspect(graph, signature, out_tree)
        from funcgrad.backends.llvm.program.native import Native

        return Native(prepare(graph), _is_leaf(out_tree), donated)


def _function(graph: Graph, single: bool, donated: Sequence[int]) -> Any:
    known = recipe.name(graph, single, donated)
    found = recipe.function(known, graph) if known else None
    if found is None:
        tiles.begin_for(graph)
        # What writes programs is not loaded where all of them are known.
        from funcgrad.backends.llvm.program.calls import call_numbers
        from funcgrad.backends.llvm.program.native import Native

        native = Native(graph, single, donated)
        found = native.function()
        if known:
            numbers = call_numbers(native.graph, native.emitter.calls)
            recipe.put(known, native.source, native.parts, numbers)
    return found


def _collector(graph: Graph) -> AbstractContextManager[None]:
    """The garbage collector's rest while a graph is compiled, where that takes long."""
    return collector_paused() if len(graph.eqns) > MANY else nullcontext()


def _is_native(graph: Graph) -> bool:
    """Whether native code can read the inputs, and is good for most of what is done with them."""
    if not all(a.dtype.isnative for a in graph.in_avals):
        return False
    made = [_is_written(e, o.aval) for e in graph.eqns for o in e.outs]
    return 2 * sum(made) >= len(made)


def _is_written(eqn: Eqn, out: Aval) -> bool:
    if not eqn.prim.multiple:
        return out.dtype in SUPPORTED
    # A loop that is not written is left to its implementation, which must not compile it here.
    known = all(a.aval.dtype in SUPPORTED for a in (*eqn.ins, *eqn.outs))
    return known and all(o.aval.size for o in eqn.outs)


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
    define(f"def run({names}):\n    r = f({names})\n    return {text}\n", namespace)
    return namespace["run"]
