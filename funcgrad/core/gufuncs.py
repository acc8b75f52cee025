"""Declaring primitives on the last axes of stacks of arrays, by a signature as gufuncs have one.

``"(n,n),(n,k)->(n,k)"`` tells the shape rule, that other axes broadcast, and how to batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from funcgrad.core.aval import Aval, Shape, broadcast_shapes, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.graph import Eqn
from funcgrad.core.primitive import (
    Primitive,
    Rule,
    Sample,
    broadcast_up,
    declare,
    pad_rank,
    shape_of,
    unbroadcast,
    zeros_like,
)
from funcgrad.records import NamedTuple

Core = tuple[str, ...]


class Signature(NamedTuple):
    """The names of the last axes of each operand and result."""

    ins: tuple[Core, ...]
    outs: tuple[Core, ...]

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The results' shapes.

        Raises:
            ValueError: operands lack axes, or axes of one name differ in length.
        """
        sizes: dict[str, int] = {}
        loops = []
        for shape, core in zip(shapes, self.ins, strict=True):
            rank = len(shape) - len(core)
            if rank < 0:
                raise ValueError(f"an operand of shape {shape} lacks axes: it has to be {core}")
            loops.append(shape[:rank])
            for axis, n in zip(core, shape[rank:], strict=True):
                if sizes.setdefault(axis, n) != n:
                    raise ValueError(f"axes {axis!r} of lengths {sizes[axis]} and {n}: {shapes}")
        loop = broadcast_shapes(*loops)
        return [(*loop, *(sizes[axis] for axis in core)) for core in self.outs]


def parsed(text: str) -> Signature:
    """The signature that a text like ``"(n,n)->(n),(n,n)"`` stands for."""
    sides = [re.findall(r"\(([\w,]*)\)", side) for side in text.replace(" ", "").split("->")]
    ins, outs = (tuple(tuple(filter(None, g.split(","))) for g in side) for side in sides)
    return Signature(ins, outs)


def gufunc(
    name: str,
    impl: Rule,
    signature: str,
    *,
    samples: Sequence[Sample],
    jvp: Rule | None = None,
    vjp: Rule | None = None,
    linear_in: Sequence[int] = (),
    transpose: Rule | None = None,
    dtypes_of: Rule | None = None,
    fewer: dict[tuple[bool, ...], Primitive] | None = None,
    **options: Any,
) -> Primitive:
    """Declare a primitive by its signature, and by its derivatives on stacks.

    Results are a sequence where the signature has several; `ct`, `ans` and tangents then are, too,
    zeros filled in.

    Args:
        impl: computes on stacks that broadcast, with leading axes of any number.
        jvp: `jvp(tangents, ans, ins, params)` for the operands that it is not linear in; None
            stands for a zero tangent.
        vjp: `vjp(ct, ans, ins, params, need)`, for these operands; what others get is not read.
        linear_in: the operands that it is linear in, jointly. Their tangents are pushed through the
            primitive itself.
        transpose: `transpose(ct, *ins, **params)` gives the cotangents of these.
        dtypes_of: `dtypes_of(dtype)` gives the results' dtypes for that of the operands together.
        fewer: primitives of the same operands that give some results alone, by which they give: an
            equation whose other results nobody uses becomes one of these.
    """
    sig = parsed(signature)
    multiple, linear = len(sig.outs) > 1, tuple(linear_in)

    def results_of(out: Any) -> list[Any]:
        return list(out) if multiple else [out]

    def given(results: Sequence[Any]) -> Any:
        return results if multiple else results[0]

    def shape(*avals: Aval, **params: Any) -> Any:
        dtype = result_dtype(*avals)
        dtypes = [dtype] * len(sig.outs) if dtypes_of is None else dtypes_of(dtype)
        shapes = sig.shapes([a.shape for a in avals])
        return given([Aval(s, d) for s, d in zip(shapes, dtypes, strict=True)])

    def full_jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> Any:
        answers = results_of(ans)
        terms: list[list[Any]] = []
        if any(tangents[i] is not None for i in linear):
            args = list(ins)
            for i in linear:
                args[i] = zeros_like(ins[i]) if tangents[i] is None else tangents[i]
            terms.append(results_of(bind(prim, *args, **params)))
        others = [None if i in linear else t for i, t in enumerate(tangents)]
        if jvp is not None and any(t is not None for t in others):
            terms.append(results_of(jvp(others, ans, ins, params)))
        found = [_sum(column) for column in zip(*terms, strict=True)] or [None] * len(answers)
        pairs = zip(found, answers, strict=True)
        return given([None if t is None else broadcast_up(t, shape_of(a)) for t, a in pairs])

    def full_vjp(
        ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]
    ) -> list[Any]:
        pairs = zip(results_of(ct), results_of(ans), strict=True)
        ct = given([zeros_like(a) if c is None else c for c, a in pairs])
        cts: list[Any] = [None] * len(ins)
        if vjp is not None and any(n for i, n in enumerate(need) if i not in linear):
            cts = list(vjp(ct, ans, ins, params, need))
        if transpose is not None and any(need[i] for i in linear):
            found = transpose(ct, *ins, **params)
            for i, term in zip(linear, found, strict=True):
                cts[i] = term
        keep = zip(cts, ins, need, strict=True)
        return [unbroadcast(c, shape_of(x)) if n and c is not None else None for c, x, n in keep]

    def batch(
        prim: Primitive, args: Sequence[Any], batched: Sequence[bool], size: int, params: dict
    ) -> Any:
        cases = list(zip(args, sig.ins, batched, strict=True))
        # The batch axis stands before the axes that broadcast.
        rank = max(len(shape_of(a)) - len(core) + (not b) for a, core, b in cases)
        args = [pad_rank(a, rank + len(core)) if b else a for a, core, b in cases]
        return bind(prim, *args, **params), given([True] * len(sig.outs))

    def prune(eqn: Eqn, used: tuple[bool, ...]) -> Eqn:
        other = (fewer or {}).get(used)
        if other is None:
            return eqn
        outs = tuple(o for o, u in zip(eqn.outs, used, strict=True) if u)
        return Eqn(other, eqn.ins, eqn.params, outs, eqn.source)

    prim = Primitive(
        name,
        "custom",
        impl,
        shape,
        jvp=full_jvp if jvp or linear else None,
        vjp=full_vjp if vjp or transpose else None,
        batch=batch,
        prune=prune if fewer else None,
        multiple=multiple,
        linear_in=(linear,) if linear else (),
        samples=samples,
        **options,
    )
    return declare(prim)


def _sum(terms: Sequence[Any]) -> Any:
    known = [t for t in terms if t is not None]
    total = known[0] if known else None
    for term in known[1:]:
        total = total + term
    return total
