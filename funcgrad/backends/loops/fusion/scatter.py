"""Scatters, and what adds elements up in an array, as clusters of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.partition import Cluster, Labels
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.nests.views import part, place_of
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
    cluster.labels[id(updates)] = _labels(shape, order)
    return cluster


def accumulates(eqn: Eqn, target: Target) -> bool:
    """Whether a cluster of its own computes what adds elements up."""
    known = all(a.aval.dtype in target.dtypes for a in (*eqn.ins, *eqn.outs))
    return eqn.prim.accumulates is not None and known


def accumulate_cluster(eqn: Eqn) -> Cluster:
    """A cluster of one equation whose elements are added up in the result: the axes along which
    none meet count rows."""
    found, (operand,) = place_of(eqn), eqn.ins
    shape = operand.aval.shape
    steps = part(found, None, shape).strides
    long = [k for k, n in enumerate(shape) if n > 1]
    # Along a single axis none meet, so that it may be made vectors of.
    inner = max(long, key=lambda k: (abs(steps[k]) == 1, shape[k], k), default=None)
    meet = {k for k, a in enumerate(found.axes) if a is not None and a.axis in found.shared}
    apart = [k for k in long if k != inner and k not in meet]
    order = sorted(long, key=lambda k: (k == inner, k not in apart))
    cluster = Cluster(0, "loops")
    cluster.eqns = [eqn]
    cluster.dims = [shape[k] for k in order] or [1]
    cluster.split = len(apart)
    cluster.labels[id(operand)] = _labels(shape, order)
    return cluster


def _labels(shape: Sequence[int], order: Sequence[int]) -> Labels:
    places = {axis: k for k, axis in enumerate(order)}
    return tuple(None if n == 1 else places[i] for i, n in enumerate(shape))
