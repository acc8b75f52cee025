"""What the rules of primitives that hold graphs have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.graph import Graph
from funcgrad.core.primitive import Primitive, shape_of, zeros_like

Mask = tuple[bool, ...]


def set_rules(
    prim: Primitive,
    *,
    pushforward: Callable[..., Any],
    batch: Callable[..., Any],
    pullback: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
) -> None:
    """Give a primitive its rules; what is not given follows from what is."""

    def jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
        return pushforward(tangents, ins, params)[1]

    def vjp_by_pullback(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
        assert pullback is not None
        return pullback(ins, params, need)[1](ct, need)

    prim.pushforward, prim.jvp, prim.batch, prim.pullback = pushforward, jvp, batch, pullback
    prim.vjp = vjp or vjp_by_pullback


def spread(values: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """One value for each True of the mask, None elsewhere."""
    supply = iter(values)
    return [next(supply) if m else None for m in mask]


def filled(values: Sequence[Any], avals: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """The masked values, with zeros for those that are None."""
    return [
        zeros_like(aval) if value is None else value
        for value, aval, m in zip(values, avals, mask, strict=True)
        if m
    ]


def differentiable_wrt(need: Sequence[bool], graph: Graph) -> Mask:
    return tuple(n and v.aval.inexact for n, v in zip(need, graph.inputs, strict=True))


def as_column(mask: Any, like: Any) -> Any:
    """A mask over the batch axis, shaped to broadcast along the other axes of `like`."""
    rank = len(shape_of(like))
    return mask if rank == 1 else mask.reshape(shape_of(mask) + (1,) * (rank - 1))
