"""What the rules of primitives that hold graphs have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.graph import Graph
from funcgrad.core.primitive import Primitive, shape_of, zeros_like
from funcgrad.records import NamedTuple

Mask = tuple[bool, ...]


class Rules(NamedTuple):
    """The rules of a primitive that holds graphs; what is not given follows from what is.

    One of `jvp` and `pushforward` is, and one of `vjp` and `pullback`.
    """

    batch: Callable[..., Any]
    jvp: Callable[..., Any] | None = None
    pushforward: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    pullback: Callable[..., Any] | None = None


def set_rules(prim: Primitive, rules: Rules) -> None:
    def jvp_by_pushforward(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
        assert rules.pushforward is not None
        return rules.pushforward(tangents, ins, params)[1]

    def vjp_by_pullback(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
        assert rules.pullback is not None
        return rules.pullback(ins, params, need)[1](ct, need)

    prim.batch, prim.pushforward, prim.pullback = rules.batch, rules.pushforward, rules.pullback
    prim.jvp = rules.jvp or jvp_by_pushforward
    prim.vjp = rules.vjp or vjp_by_pullback


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
