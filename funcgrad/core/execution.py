"""The interface between graphs and the backends that compile them.

Backends register here, so that what comes before them in the pipeline can ask for compiled
code without knowing who makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from funcgrad.config import config
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph

Runner = Callable[..., Sequence[Any]]


class Backend(Protocol):
    """What a backend offers.

    `compile(graph, out_tree)` gives a callable of flat arrays, which never writes to them. Given
    a structure, it returns a tree of it whose arrays are the caller's own: none shares memory
    with another, an argument or a constant. Without, it returns a list, and an argument that is
    a result is passed on. `text` gives the program's source.
    """

    name: str

    def compile(self, graph: Graph, out_tree: Any = None) -> Runner: ...

    def text(self, graph: Graph, signature: Any, out_tree: Any) -> str: ...


BACKENDS: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    BACKENDS[backend.name] = backend


def runner(graph: Graph, backend: str = "numpy") -> Runner:
    """Compiled code of a graph, made once and kept with it."""
    if config.debug_nans:
        return lambda *args: run_graph(graph, args)
    found = graph.cache.get(backend)
    if found is None:
        # Without a lock: tracing the rules of a user's function may run code that waits for
        # another thread. At worst two threads compile the same graph.
        found = graph.cache.setdefault(backend, BACKENDS[backend].compile(graph))
    return found
