"""Primitives: everything known of an operation, declared in one call.

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

Rules are written in plain NumPy: on arrays they run at NumPy's speed, on tracers they
record, so that higher derivatives come free. The signatures that all kinds share:

- ``impl(*arrays, **params)`` computes; it calls NumPy functions (which CuPy arrays answer
  too) and must be self-contained, as its source is copied into exported programs;
- ``shape(*avals, **params)`` gives the result's aval (a sequence of them if ``multiple``);
- ``jvp(tangents, ans, ins, params)`` gives the result's tangent; a zero tangent is None;
- ``vjp(ct, ans, ins, params, need)`` gives a cotangent per operand, None where it is zero
  or `need` says that nobody asks; ``ct`` has the dtype and shape of the result;
- ``batch(prim, args, batched, size, params)`` gives the result over a leading batch axis and
  whether it has one; batched operands carry theirs as axis 0.

Two more serve primitives that hold graphs, whose values inside are not seen from outside:

- ``pullback(ins, params, need)`` gives the results and ``pull(cts, need)``, which gives a
  cotangent per operand from what was kept on the way forward;
- ``pushforward(tangents, ins, params)`` gives the results and their tangents in one pass.

For primitives with several results ``ans``, ``ct``, tangents and ``batched`` are sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.aval import (
    BOOL,
    Aval,
    aval_of,
    broadcast_shapes,
    promotion_kind,
    resolve_ufunc,
    result_dtype,
)
from funcgrad.core.tracer import bind

Rule = Callable[..., Any]
Partial = Callable[..., Any] | None
Groups = Sequence[Sequence[int]]


class Sample(NamedTuple):
    """Inputs on which the contract test tries a primitive.

    `args`: a shape (tuple) stands for a random array of the dtype under test, drawn from
    `domain`; arrays and scalars are passed as they are. `params`: the equation's parameters.
    """

    args: tuple[Any, ...]
    params: dict[str, Any]
    domain: tuple[float, float] = (-2.0, 2.0)
    integers: bool = False


def sample(*args: Any, domain: tuple[float, float] = (-2.0, 2.0), **params: Any) -> Sample:
    return Sample(args, params, domain)


@dataclass(eq=False)
class Primitive:
    """An operation; see the module's docstring for what the rules receive and return.

    Attributes:
        kind: one of the five kinds, or "higher-order" (its params hold graphs).
        multiple: the result is a sequence of arrays.
        view: the NumPy implementation may share memory with its first operand.
        takes_out: `impl` takes `out=`, as ufuncs do anyway: an array, perhaps one of the
            operands, to write the result into.
        infix: Python's operator for it, for readable source; None if there is none.
        source: spelling in generated NumPy source, `source(names, params) -> str`;
            without it a call of `impl`.
        prune: `prune(eqn, used)` gives an equal equation without the results (and whatever
            made them) that are not used.
        simplify: `simplify(ins, params)` gives an equal value that exists already, or None;
            only identities exact in IEEE arithmetic.
        dtypes: the dtype kinds the contract test tries ("f", "c", "i", "b").

    What the derivative's structure is read off:

    Attributes:
        linear_in: groups of operands; it is linear in those of each group jointly. Or a function
            of the number of operands that gives them.

    What compilers need to know:

    Attributes:
        cost: what an element takes, in cheap operations: 1 is an addition or a comparison, 4 a
            division, 12 a function such as the exponential.
        flops: `flops(ins, out)` gives the operations on numbers that it takes, from the avals.
        reduces: the scalar operation that it combines elements by, over the parameter `axes`.
        running: the same along `axis`, each result of those up to its place.
        gathers: it reads its first operand where the others, integers, tell.
        scatters: the scalar operation by which it combines elements with updates, where integers
            tell; "set" where an update takes the element's place.
        assembles: it puts its operands, as they are, into a larger array.
    """

    name: str
    kind: str
    impl: Rule
    shape: Rule
    jvp: Rule | None = None
    vjp: Rule | None = None
    batch: Rule | None = None
    pullback: Rule | None = None
    pushforward: Rule | None = None
    prune: Rule | None = None
    multiple: bool = False
    view: bool = False
    takes_out: bool = False
    infix: str | None = None
    source: Callable[[Sequence[str], dict[str, Any]], str] | None = None
    simplify: Rule | None = None
    samples: Sequence[Sample] = field(default_factory=tuple)
    dtypes: str = "fc"
    linear_in: Groups | Callable[[int], Groups] = ()
    cost: int = 12
    flops: Callable[[Sequence[Aval], Aval], int] | None = None
    reduces: str | None = None
    running: str | None = None
    gathers: bool = False
    scatters: str | None = None
    assembles: bool = False

    def infer(self, avals: Sequence[Aval], params: dict[str, Any]) -> Sequence[Aval]:
        """The avals of the results."""
        result = self.shape(*avals, **params)
        return result if self.multiple else (result,)

    @property
    def differentiable(self) -> bool:
        return self.vjp is not None

    def linear_groups(self, arity: int) -> Groups:
        """The groups of operands in each of which it is linear, for so many operands."""
        return self.linear_in(arity) if callable(self.linear_in) else self.linear_in

    @property
    def cheap(self) -> bool:
        """Whether computing an element takes less than reading one more from memory."""
        return self.cost <= 1

    def __repr__(self) -> str:
        return self.name


REGISTRY: dict[str, Primitive] = {}
KINDS = ("elementwise", "linear", "bilinear", "nondifferentiable", "custom", "higher-order")


def declare(prim: Primitive) -> Primitive:
    """Enter a primitive in the registry (the contract test walks it)."""
    if prim.name in REGISTRY:
        raise ValueError(f"primitive {prim.name!r} is declared twice")
    if prim.kind not in KINDS:
        raise ValueError(f"primitive {prim.name!r}: no kind {prim.kind!r}")
    if not prim.samples and prim.kind != "higher-order":
        raise ValueError(f"primitive {prim.name!r} has no samples")
    REGISTRY[prim.name] = prim
    return prim


def one_a_result(ins: Sequence[Aval], out: Aval) -> int:
    return out.size


def one_an_operand(ins: Sequence[Aval], out: Aval) -> int:
    return ins[0].size


# --- helpers for rules ----------------------------------------------------------------


def shape_of(x: Any) -> tuple[int, ...]:
    return getattr(x, "shape", ())


def zeros_like(x: Any) -> Any:
    """Zeros of the shape and dtype of a value, tracer or aval."""
    aval = x if isinstance(x, Aval) else aval_of(x)
    return np.zeros(aval.shape, aval.dtype) if aval.shape else aval.dtype.type(0)


HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def widen(x: Any) -> Any:
    """What rules add up or multiply: float16 as float32, anything else as it is.

    A sum of ones stops growing at 2048 in float16, and what is beyond 65504 is infinite.
    """
    return x.astype(SINGLE) if x.dtype == HALF else x


def narrow(x: Any, dtype: np.dtype) -> Any:
    """The result of what `widen` has given, rounded once."""
    return x if x.dtype == dtype else x.astype(dtype)


def total(x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
    """The sum of terms that a rule has made."""
    if x.dtype == HALF:
        return np.add.reduce(x.astype(SINGLE), axis=axes, keepdims=keepdims).astype(HALF)
    return np.add.reduce(x, axis=axes, keepdims=keepdims)


def unbroadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum `x` down to `shape`: the transpose of broadcasting `shape` up to `x.shape`."""
    have = shape_of(x)
    if have == shape:
        return x
    extra = len(have) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and have[i + extra] != 1
    )
    x = total(x, axes)
    return x if shape_of(x) == shape else x.reshape(shape)


def broadcast_up(x: Any, shape: tuple[int, ...]) -> Any:
    return x if shape_of(x) == shape else np.broadcast_to(x, shape)


def pad_rank(x: Any, rank: int) -> Any:
    """Insert axes of length one behind the batch axis until `x` has `rank` axes."""
    shape = shape_of(x)
    if len(shape) == rank:
        return x
    return x.reshape(shape[:1] + (1,) * (rank - len(shape)) + shape[1:])


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

    `dtype(*avals)` gives the result's dtype where NumPy's ufunc does not tell.
    """
    arity = len(partials)
    if samples is None:
        cases = [shapes] if shapes else _elementwise_shapes(arity)
        samples = [sample(*case, domain=domain) for case in cases]
    options.setdefault("flops", one_a_result)
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


def _elementwise_shape(impl: Rule, dtype: Rule | None) -> Rule:
    rule = dtype or (_ufunc_dtype(impl) if isinstance(impl, np.ufunc) else result_dtype)

    def shape(*avals: Aval, **params: Any) -> Aval:
        out = rule(*avals, **params)
        weak = out != BOOL and all(a.weak for a in avals)
        return Aval(broadcast_shapes(*(a.shape for a in avals)), out, weak)

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

    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> list:
        cts: list[Any] = []
        for i, partial in enumerate(partials):
            if not need[i] or partial is None:
                cts.append(None)
                continue
            term = partial(ct, ans, *ins, **params)
            if term is not None:
                shape = getattr(ins[i], "shape", ())
                if term.shape != shape:
                    term = unbroadcast(term, shape)
            cts.append(term)
        return cts

    return vjp


def _unary_vjp(partial: Partial) -> Rule:
    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> Any:
        return (None if partial is None else partial(ct, ans, ins[0], **params),)

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
    they are linear. `over` may be a function of the number of operands.
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
            return None
        args = list(ins)
        for i in where:
            args[i] = zeros_like(ins[i]) if tangents[i] is None else tangents[i]
        return bind(prim, *args, **params)

    def vjp(ct: Any, ans: Any, ins: Sequence[Any], params: dict, need: Sequence[bool]) -> list:
        result = transpose(ct, *ins, **params)
        if single:
            return [result, *[None] * (len(ins) - 1)]
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
        return [
            transpose(ct, *ins, **params) if wanted else None
            for transpose, wanted in zip(transposes, need, strict=True)
        ]

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
    options.setdefault("flops", one_a_result)
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
