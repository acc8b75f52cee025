"""Scatters as clusters of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.partition import Cluster
from funcgrad.core.graph import Eqn
from funcgrad.primitives.indexing import block_position


def scatter_operands(eqn: Eqn) -> tuple[Any, list[Any]]:
    """A scatter's updates, and its indices."""
    first = 0 if into_zeros(eqn) else 1
    return eqn.ins[first], list(eqn.ins[first + 1 :])


def into_zeros(eqn: Eqn) -> bool:
    """Whether a scatter starts with zeros of the shape that it has as a parameter."""
    return "shape" in eqn.params


def scatter_cluster(eqn: Eqn) -> Cluster:
    """A cluster of a scatter alone: the indices' axes count rows, the others are inner."""
    updates, indices = scatter_operands(eqn)
    block = np.broadcast_shapes(*(i.aval.shape for i in indices))
    start, shape = block_position(eqn.params["axes"]), updates.aval.shape
    order = [*range(start, start + len(block))]
    order += [i for i in range(len(shape)) if i not in order]
    cluster = Cluster(0, "loops")
    cluster.eqns = [eqn]
    cluster.dims = [shape[i] for i in order] or [1]
    cluster.split = min(len(block), len(cluster.dims) - 1)
    coordinates = {axis: k for k, axis in enumerate(order)}
    cluster.labels[id(updates)] = tuple(
        None if n == 1 else coordinates[i] for i, n in enumerate(shape)
    )
    return cluster
