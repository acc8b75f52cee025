"""Declaring primitives, each in one call.

There are five kinds; each declaration gives the least from which the rest follows:

==================  ==========================================  =========================
kind                the declaration gives                       what follows
==================  ==========================================  =========================
elementwise         one partial derivative per operand          shape, jvp, vjp, batching
linear              its transpose                               jvp, vjp
bilinear            its two transposes                          jvp, vjp
nondifferentiable   nothing                                     zero tangents
custom              jvp and vjp                                 --
==================  ==========================================  =========================

How rules are called is said in `funcgrad.core.primitive`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from funcgrad.core.aval import (
    BOOL,
    Aval,
    broadcast_shapes,
    promotion_kind,
    resolve_ufunc,
    result_dtype,
)
from funcgrad.core.binding import bind
from funcgrad.core.primitive import (
    Partial,
    Primitive,
    Rule,
    Sample,
    broadcast_up,
    declare,
    pad_rank,
    sample,
    shape_of,
    unbroadcast,
    zeros_like,
)


def one_a_result(ins: Sequence[Aval], out: Aval, **params: Any) -> int:
    return out.size


def one_an_operand(ins: Sequence[Aval], out: Aval, **params: Any) -> int:
    return ins[0].size


# --- elementwise ----------------------------------------------------------------------


def elementwise(
    name: str,
    impl: Rule,
    *partials: Partial,
    dtype: Rule | None = None,
    shapes: Sequence[tuple[int, ...]] | None = None,
    domain: tuple[float, float] = (-2.0, 2.0),
    samples: Sequence[Sample] | None = None,
    **options: Any,
) -> Primitive:
    """Declare an elementwise primitive.

    `partials[i](g, ans, *ins)` is ``g`` times the derivative by operand i. Written as a
    function of g it is both the jvp (g a tangent) and the vjp (g a cotangent), for the
    Jacobian is diagonal; and ``g / y`` costs less than ``g * (1 / y)``.

    `dtype(*avals)` gives the result's dtype where `impl` on arrays of one element does not tell.
    """
    arity = len(partials)
    if samples is None:
        cases = [shapes] if shapes else _elementwise_shapes(arity)
        samples = [sample(*case, domain=domain) for case in cases]
    options = {"flops": one_a_result, "expansion": impl, **options}
    return declare(
        Primitive(
            name,
            "elementwise",
            impl,
            _elementwise_shape(impl, dtype),
            jvp=_elementwise_jvp(partials),
            vjp=_elementwise_vjp(partials),
            batch=batch_elementwise,
            samples=samples,
            **options,
        )
    )


def _elementwise_shapes(arity: int) -> list[tuple[tuple[int, ...], ...]]:
    if arity == 1:
        return [((3,),), ((),), ((2, 0),)]
    broadcasting = ((2, 3), (3,), (2, 1), ())
    return [((3,),) * arity, broadcasting[:arity], broadcasting[:arity][::-1], ((0,),) * arity]


def _ufunc_dtype(ufunc: np.ufunc) -> Rule:
    nin = ufunc.nin

    def dtype(*avals: Aval) -> np.dtype:
        return resolve_ufunc(ufunc, tuple(map(promotion_kind, avals)))[nin]

    return dtype


def _tried_dtype(impl: Rule) -> Rule:
    """The dtype of what an implementation gives for arrays of one element."""

    @cache
    def tried(*kinds: Any) -> np.dtype | None:
        ones = [np.ones(1, k) if isinstance(k, np.dtype) else k(1) for k in kinds]
        try:
            with np.errstate(all="ignore"):
                return np.asarray(impl(*ones)).dtype
        except Exception:
            # It takes no such operands, which is an error where they are given.
            return None

    def dtype(*avals: Aval, **params: Any) -> np.dtype:
        found = None if params else tried(*map(promotion_kind, avals))
        return result_dtype(*avals) if found is None else found

    return dtype


def _elementwise_shape(impl: Rule, dtype: Rule | None) -> Rule:
    rule = dtype or (_ufunc_dtype(impl) if isinstance(impl, np.ufunc) else _tried_dtype(impl))

    def shape(*avals: Aval, **params: Any) -> Aval:
        out = rule(*avals, **params)
        first = avals[0].shape
        same, weak = True, out != BOOL
        for aval in avals:
            weak = weak and aval.weak
            same = same and aval.shape == first
        return Aval(first if same else broadcast_shapes(*[a.shape for a in avals]), out, weak)

    return shape


def _elementwise_jvp(partials: Sequence[Partial]) -> Rule:
    def jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> Any:
        total = None
        for partial, tangent in zip(partials, tangents, strict=True):
            if tangent is None or partial is None:
                continue
            term = partial(tangent, ans, *ins, **params)
            if term is not None:
                total = term if total is None else total + term
        return None if total is None else broadcast_up(total, shape_of(ans))

    return jvp


def _elementwise_vjp(partials: Sequence[Partial]) -> Rule:
    if len(partials) == 1:
        return _unary_vjp(partials[0])
    if len(partials) == 2:
        return _binary_vjp(*partials)

    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> list:
        return [
            _fitted(partial(ct, ans, *ins, **params), x) if needed and partial is not None else None
            for partial, x, needed in zip(partials, ins, need, strict=True)
        ]

    return vjp


def _fitted(ct: Any, x: Any) -> Any:
    """A cotangent in the shape of the operand, which may have been broadcast."""
    if ct is None:
        return None
    shape = getattr(x, "shape", ())
    return ct if ct.shape == shape else unbroadcast(ct, shape)


def _unary_vjp(partial: Partial) -> Rule:
    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
        if partial is None:
            return (None,)
        return (partial(ct, ans, ins[0], **params) if params else partial(ct, ans, ins[0]),)

    return vjp


def _binary_vjp(first: Partial, second: Partial) -> Rule:
    # Most operations have two operands, and the eager backward pass waits for this.
    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
        x, y = ins
        left = right = None
        if first is not None and need[0]:
            left = _fitted(first(ct, ans, x, y, **params) if params else first(ct, ans, x, y), x)
        if second is not None and need[1]:
            right = _fitted(second(ct, ans, x, y, **params) if params else second(ct, ans, x, y), y)
        return left, right

    return vjp


def batch_elementwise(
    prim: Primitive, args: Sequence[Any], batched: Sequence[bool], size: int, params: dict
) -> Any:
    """The batching rule of anything that broadcasts as NumPy's ufuncs do."""
    rank = max(len(shape_of(a)) + (not b) for a, b in zip(args, batched, strict=True))
    args = [pad_rank(a, rank) if b else a for a, b in zip(args, batched, strict=True)]
    return bind(prim, *args, **params), True


# --- linear and bilinear --------------------------------------------------------------


def linear(
    name: str,
    impl: Rule,
    transpose: Rule,
    *,
    shape: Rule,
    batch: Rule,
    samples: Sequence[Sample],
    over: Callable[[int], Sequence[int]] | Sequence[int] = (0,),
    tangent: Rule | None = None,
    **options: Any,
) -> Primitive:
    """Declare a primitive linear in the operands at `over` jointly.

    `transpose(ct, *ins, **params)` gives the cotangents of those operands, in order (one
    operand: the cotangent itself). Of the operands it may read only shape and dtype where
    they are linear. `over` may be a function of the number of operands. Of several results (then
    `multiple=True`) `ct` is the sequence, with zeros for those that nothing depends on.
    `tangent(t, **params)` is for a primitive that rounds where rules must not.
    """
    single = over == (0,)

    def positions(n: int) -> Sequence[int]:
        return over(n) if callable(over) else over

    def jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> Any:
        if tangent is not None:
            return tangent(tangents[0], **params)
        where = positions(len(ins))
        if all(tangents[i] is None for i in where):
            return [None] * len(ans) if prim.multiple else None
        args = list(ins)
        for i in where:
            args[i] = zeros_like(ins[i]) if tangents[i] is None else tangents[i]
        return bind(prim, *args, **params)

    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> list:
        if prim.multiple:
            ct = [zeros_like(a) if c is None else c for c, a in zip(ct, ans, strict=True)]
        result = transpose(ct, *ins, **params)
        if single:
            return [result] if len(ins) == 1 else [result, *[None] * (len(ins) - 1)]
        cts: list[Any] = [None] * len(ins)
        for i, term in zip(positions(len(ins)), result, strict=True):
            cts[i] = term
        return cts

    prim = Primitive(
        name,
        "linear",
        impl,
        shape,
        jvp=jvp,
        vjp=vjp,
        batch=batch,
        samples=samples,
        linear_in=lambda n: (positions(n),),
        **options,
    )
    return declare(prim)


def bilinear(
    name: str,
    impl: Rule,
    transposes: tuple[Rule, Rule],
    *,
    shape: Rule,
    batch: Rule,
    samples: Sequence[Sample],
    **options: Any,
) -> Primitive:
    """Declare a primitive linear in each of its two operands.

    `transposes[i](ct, x, y, **params)` gives the cotangent of operand i.
    """

    def jvp(tangents: Sequence[Any], ans: Any, ins: Sequence[Any], params: dict) -> Any:
        (x, y), (dx, dy) = ins, tangents
        left = None if dx is None else bind(prim, dx, y, **params)
        right = None if dy is None else bind(prim, x, dy, **params)
        if left is None or right is None:
            return right if left is None else left
        return left + right

    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> list:
        left = transposes[0](ct, *ins, **params) if need[0] else None
        right = transposes[1](ct, *ins, **params) if need[1] else None
        return [left, right]

    prim = Primitive(
        name,
        "bilinear",
        impl,
        shape,
        jvp=jvp,
        vjp=vjp,
        batch=batch,
        samples=samples,
        linear_in=((0,), (1,)),
        **options,
    )
    return declare(prim)


# --- the other kinds ------------------------------------------------------------------


def nondifferentiable(
    name: str,
    impl: Rule,
    *,
    shape: Rule,
    batch: Rule,
    samples: Sequence[Sample],
    **options: Any,
) -> Primitive:
    """Declare a primitive whose results are constant almost everywhere, or no real numbers."""
    return declare(
        Primitive(name, "nondifferentiable", impl, shape, batch=batch, samples=samples, **options)
    )


def elementwise_nondifferentiable(
    name: str,
    impl: Rule,
    *,
    arity: int = 1,
    dtype: Rule | None = None,
    samples: Sequence[Sample] | None = None,
    **options: Any,
) -> Primitive:
    """Declare an elementwise primitive with zero derivative: comparisons, rounding, logic."""
    if samples is None:
        samples = [sample(*case) for case in _elementwise_shapes(arity)]
    options = {"flops": one_a_result, "expansion": impl, **options}
    return nondifferentiable(
        name,
        impl,
        shape=_elementwise_shape(impl, dtype),
        batch=batch_elementwise,
        samples=samples,
        **options,
    )


def custom(
    name: str,
    impl: Rule,
    *,
    shape: Rule,
    jvp: Rule,
    vjp: Rule,
    batch: Rule,
    samples: Sequence[Sample],
    **options: Any,
) -> Primitive:
    """Declare a primitive by its jvp and vjp."""
    return declare(
        Primitive(
            name, "custom", impl, shape, jvp=jvp, vjp=vjp, batch=batch, samples=samples, **options
        )
    )


def higher_order(name: str, impl: Rule, *, shape: Rule, **options: Any) -> Primitive:
    """Declare a primitive whose parameters hold graphs.

    Its derivative and batching rules transform those graphs, so they are given by
    `transforms/`, which sets `jvp`, `vjp` and `batch`.
    """
    return declare(Primitive(name, "higher-order", impl, shape, multiple=True, **options))
