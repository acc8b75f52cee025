"""The NumPy backend: graphs become straight-line Python over NumPy calls."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from funcgrad.backends.common.spelling import is_plain, render_tree
from funcgrad.backends.numpy.emit import Emitter, as_calls, write_lines
from funcgrad.backends.numpy.module import ERRSTATE, Module, Names
from funcgrad.core.execution import Inspection, Runner
from funcgrad.core.graph import Graph, graphs_in

_serial = itertools.count()


class NumpyBackend:
    """Compiles a graph to a Python function of flat arrays."""

    name = "numpy"

    def compile(self, graph: Graph, out_tree: Any = None, donated: Sequence[int] = ()) -> Runner:
        """A function of the graph's inputs, which never writes to them.

        With `out_tree` its result is a tree of that structure, and what is in it is the
        caller's: new arrays, none of which shares memory with another, an input or a constant.
        Without, it is a list, and an input that is a result is passed on as it is.
        """
        parameters = [f"x{i}" for i in range(len(graph.inputs))]
        written = as_calls(graph)
        module = Module(Names([*parameters, "main"]), graph.device)
        native = out_tree is not None and is_plain(out_tree)
        render = (lambda texts: render_tree(out_tree, texts)) if native else _render_list
        emitters = _emitters(written)
        lines = write_lines(written, module, emitters, parameters, render, out_tree is None)
        head = [ERRSTATE, f"def main({', '.join(parameters)}):"]
        run = load(module, [*head, *lines], "main")
        if _tells(written):
            from funcgrad.backends.common.sites import telling

            run = telling(run, written)
        if out_tree is None or native:
            return run
        return lambda *leaves: out_tree.unflatten(run(*leaves))

    def inspect(
        self, graph: Graph, signature: Any, out_tree: Any, donated: Sequence[int] = ()
    ) -> Inspection:
        from funcgrad.backends.numpy.inspection import Source

        return Source(graph, signature, out_tree)


def _tells(graph: Graph) -> bool:
    """Whether a library says something of an index out of range."""
    if any(e.source is not None and e.source.index_error for e in graph.eqns):
        return True
    return any(_tells(inner) for e in graph.eqns for inner in graphs_in(e.params))


def _emitters(graph: Graph) -> Mapping[str, Emitter]:
    """What writes branches and loops, which most graphs have none of."""
    if next(graph.subgraphs(), None) is None:
        return {}
    from funcgrad.backends.numpy.control_flow import EMITTERS

    return EMITTERS


def _render_list(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"


class _Source:
    """Where tracebacks find a program's lines, as long as its function lives.

    An entry of one's own in linecache would have to be removed when the function goes, at a
    moment at which linecache may be walking through its entries.
    """

    def __init__(self, text: str):
        self.text = text

    def get_source(self, name: str) -> str:
        """The loader protocol that `linecache` knows."""
        return self.text


def load(module: Module, lines: Sequence[str], name: str) -> Runner:
    """Compile a program's lines."""
    text = "\n".join([*module.functions, *lines])
    # In the package's folder, so that no frame of the program counts as the user's line.
    filename = f"{os.path.dirname(__file__)}{os.sep}generated-{next(_serial)}"
    namespace = {**module.namespace, "__name__": "generated", "__loader__": _Source(text)}
    exec(compile(text, filename, "exec"), namespace)
    return namespace[name]
