"""Primitives: everything known of an operation.

Rules are written in plain NumPy: on arrays they run at NumPy's speed, on tracers they
record, so that higher derivatives come free. The signatures that all kinds of primitives share:

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

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from funcgrad.core.aval import (
    Aval,
    aval_of,
)
from funcgrad.core.device import CPU, common_device, namespace
from funcgrad.core.ownership import guarded
from funcgrad.core.view_map import ViewMap
from funcgrad.errors import NotDifferentiableError
from funcgrad.records import NamedTuple, Record

Rule = Callable[..., Any]
Partial = Callable[..., Any] | None
Groups = Sequence[Sequence[int]]


class Sample(NamedTuple):
    """Inputs on which the contract test tries a primitive.

    `args`: a shape (tuple) stands for a random array of the dtype under test, drawn from
    `domain`, and a `Drawn` for one with a structure; arrays and scalars are passed as they are.
    `params`: the equation's parameters.
    """

    args: tuple[Any, ...]
    params: dict[str, Any]
    domain: tuple[float, float] = (-2.0, 2.0)
    integers: bool = False


def sample(*args: Any, domain: tuple[float, float] = (-2.0, 2.0), **params: Any) -> Sample:
    return Sample(args, params, domain)


class Samples(Sequence[Sample]):
    """Samples that are made once somebody asks for them, as a program never does."""

    def __init__(self, make: Callable[[], Sequence[Sample]]):
        self._make = make

    @cached_property
    def _made(self) -> Sequence[Sample]:
        return self._make()

    def __getitem__(self, index: Any) -> Any:
        return self._made[index]

    def __len__(self) -> int:
        return len(self._made)

    def __bool__(self) -> bool:
        # Asked of each primitive as it is declared, which makes none yet.
        return True


class Primitive(Record):
    """An operation; see the module's docstring for what the rules receive and return.

    Attributes:
        kind: one of the five kinds, or "higher-order" (its params hold graphs).
        multiple: the result is a sequence of arrays.
        may_alias: the NumPy implementation may share memory with its first operand; views do.
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
        determined: `determined(*results)` gives what results have in common that are equally
            right: of eigenvectors what their signs leave. The contract is kept by these.

    What the derivative's structure is read off:

    Attributes:
        linear_in: groups of operands; it is linear in those of each group jointly. Or a function
            of the number of operands that gives them.

    What compilers need to know:

    Attributes:
        expansion: `expansion(*arrays, **params)` gives the same by simpler primitives, written in
            NumPy calls; kernels are made of these where a backend cannot write it as it is. It may
            give None: of such operands nothing simpler is made.
        operand_dtypes: `operand_dtypes(out, *ins)` gives the dtypes that operands are converted
            to before it computes, from all dtypes; without it they are those of NumPy's ufunc, or
            the result's.
        cost: what an element takes, in cheap operations: 1 is an addition or a comparison, 4 a
            division, 12 a function such as the exponential.
        flops: `flops(ins, out, **params)` gives the operations on numbers that it takes, from the
            avals.
        reduces: the scalar operation that it combines elements by, over the parameter `axes`.
        running: the same along `axis`, each result of those up to its place.
        gathers: it reads its first operand where the others, integers, tell.
        scatters: the scalar operation by which it combines elements with updates, where integers
            tell; "set" where an update takes the element's place.
        view: `view(shape, **params)` gives the `ViewMap` of its only operand that the result is.
        assembles: `assembles(*shapes, **params)` gives for each operand the `ViewMap` of the part
            of the result that it becomes, where later ones cover earlier ones; the rest is zero.
        accumulates: `accumulates(shape, **params)` gives the `ViewMap` of the part of the result,
            else zeros, that its only operand is added to: elements that meet add up.
        module: the module that declares it.
        foreign: a user's implementation as it was declared, which `impl` calls with care: it may
            keep what it is given, and return that, or an array that it writes to later.
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
    may_alias: bool = False
    takes_out: bool = False
    infix: str | None = None
    source: Callable[[Sequence[str], dict[str, Any]], str] | None = None
    simplify: Rule | None = None
    samples: Sequence[Sample] = ()
    dtypes: str = "fc"
    determined: Rule | None = None
    linear_in: Groups | Callable[[int], Groups] = ()
    expansion: Rule | None = None
    operand_dtypes: Callable[..., Sequence[np.dtype]] | None = None
    cost: int = 12
    flops: Callable[..., int] | None = None
    reduces: str | None = None
    running: str | None = None
    gathers: bool = False
    scatters: str | None = None
    view: Callable[..., ViewMap] | None = None
    assembles: Callable[..., Sequence[ViewMap]] | None = None
    accumulates: Callable[..., ViewMap] | None = None
    module: str = ""
    foreign: Rule | None = None

    def infer(self, avals: Sequence[Aval], params: dict[str, Any]) -> Sequence[Aval]:
        """The avals of the results."""
        result = self.shape(*avals, **params)
        results = result if self.multiple else (result,)
        for aval in avals:
            if aval.device != CPU:
                break
        else:
            return results
        # Graphs in parameters know where their results are; of all else the operands tell.
        if self.kind == "higher-order":
            return results
        device = common_device(self.name, avals)
        return [aval.on(device) for aval in results]

    @property
    def differentiable(self) -> bool:
        return self.vjp is not None

    def linear_groups(self, arity: int) -> Groups:
        """The groups of operands in each of which it is linear, for so many operands."""
        return self.linear_in(arity) if callable(self.linear_in) else self.linear_in

    @property
    def is_built_in(self) -> bool:
        return self.module.partition(".")[0] == "funcgrad"

    @property
    def cheap(self) -> bool:
        """Whether computing an element takes less than reading one more from memory."""
        return self.cost <= 1

    def __repr__(self) -> str:
        return self.name


# What is computed of constants for a program that may never run is as small as this.
FOLDED_BYTES = 1 << 12


def folded(prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> tuple[Any] | None:
    """The result for constants if it is small and does no harm, else None."""
    try:
        avals = prim.infer([aval_of(a) for a in args], params)
        if not prim.may_alias and sum(a.nbytes for a in avals) > FOLDED_BYTES:
            return None
        with np.errstate(all="ignore"):
            result = prim.impl(*args, **params)
        harm = any(
            a.inexact and np.isnan(r).any()
            for a, r in zip(avals, result if prim.multiple else [result], strict=True)
        )
    except Exception:
        # It is the program's error, if that ever comes there.
        return None
    return None if harm else (result,)


def with_pullback(
    prim: Primitive, ins: Sequence[Any], params: dict[str, Any], need: Sequence[bool]
) -> tuple[Any, Any]:
    """A primitive's results and pullback; neither where something in it has no reverse mode.

    That is an error only if the backward pass comes there, which then raises it.
    """
    try:
        return prim.pullback(ins, params, need)  # pyright: ignore[reportOptionalCall]
    except NotDifferentiableError:
        return None, None


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
    prim.may_alias = prim.may_alias or prim.view is not None
    prim.module = _declaring_module()
    if not prim.is_built_in and prim.kind != "higher-order" and not _is_numpys(prim.impl):
        prim.foreign, prim.impl = prim.impl, guarded(prim.impl, prim.multiple)
    REGISTRY[prim.name] = prim
    return prim


def _is_numpys(impl: Rule) -> bool:
    return (
        isinstance(impl, np.ufunc)
        or (getattr(impl, "__module__", None) or "").partition(".")[0] == "numpy"
    )


def _declaring_module() -> str:
    """The module whose code called what this package has for declarations."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(f"{__package__}."):
        frame = frame.f_back
    return frame.f_globals["__name__"]


# --- helpers for rules ----------------------------------------------------------------


def shape_of(x: Any) -> tuple[int, ...]:
    return getattr(x, "shape", ())


def zeros_like(x: Any) -> Any:
    """Zeros of the shape and dtype of a value, tracer or aval."""
    aval = x if isinstance(x, Aval) else aval_of(x)
    if aval.device != CPU:
        return namespace(aval).zeros(aval.shape, aval.dtype)
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
    if not shape:
        return total(x, tuple(range(len(have))))
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
