"""A compiled function as one equation: what `jit` records where values ride along."""

from __future__ import annotations

from typing import Any

from funcgrad.core.declarations import higher_order
from funcgrad.core.execution import runner
from funcgrad.core.graph import Graph


def _call(*args: Any, graph: Graph, backend: str | None = None) -> Any:
    return runner(graph, backend)(*args)


def _shape(*avals: Any, graph: Graph, backend: str | None = None) -> Any:
    return graph.out_avals


call = higher_order("call", _call, shape=_shape)
