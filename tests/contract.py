"""What the contract test needs: operands from samples, and numerical derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funcgrad as fg
from funcgrad.core.binding import bind
from funcgrad.core.primitive import REGISTRY, Primitive, Sample
from funcgrad.core.samples import Drawn

DTYPES = {
    "f": (np.float64, np.float32, np.float16),
    "c": (np.complex128, np.complex64),
    "i": (np.int64,),
    "b": (np.bool_,),
}


def cases(kinds: str = "fcib") -> Iterator[tuple[Primitive, int, type]]:
    """Each primitive with the number of a sample and a dtype it declares."""
    for prim in REGISTRY.values():
        for number, _ in enumerate(prim.samples):
            for kind in prim.dtypes:
                if kind in kinds:
                    for dtype in DTYPES[kind]:
                        yield prim, number, dtype


def rounding(dtype: Any) -> float:
    """What results that were computed in another order may differ by."""
    return {np.float16: 2e-3, np.float32: 2e-5, np.complex64: 2e-5}.get(np.dtype(dtype).type, 1e-10)


def draw(shape: tuple[int, ...], dtype: type, domain: tuple[float, float], rng: Any) -> Any:
    """A random array of a sample's domain; () gives an array of shape ()."""
    low, high = domain
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if kind == "i":
        return np.asarray(rng.integers(1, 5, shape), dtype)
    if kind == "c":
        return np.asarray(rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape), dtype)
    return np.asarray(rng.uniform(low, high, shape), dtype)


def operands(sample: Sample, dtype: type, seed: int = 0, batch: Sequence[bool] = ()) -> list[Any]:
    """A sample's operands, before they are `finished`; those in `batch` have a leading axis of
    length 2."""
    rng = np.random.default_rng(seed)
    found = []
    for i, arg in enumerate(sample.args):
        lead = (2,) if batch and batch[i] else ()
        if isinstance(arg, (tuple, Drawn)):
            shape = arg.shape if isinstance(arg, Drawn) else arg
            found.append(draw((*lead, *shape), dtype, sample.domain, rng))
        else:
            found.append(np.stack([arg] * 2) if lead else arg)
    return found


def finished(sample: Sample, args: Sequence[Any]) -> list[Any]:
    """Operands with the structure that they should have."""
    pairs = zip(sample.args, args, strict=True)
    return [arg.finish(x) if isinstance(arg, Drawn) else x for arg, x in pairs]


def function_of(
    prim: Primitive, args: Sequence[Any], sample: Sample, where: Sequence[int]
) -> Callable[..., list[Any]]:
    """The primitive as a function of the operands at `where`; its results as a list."""

    def function(*chosen: Any) -> list[Any]:
        full = list(args)
        for i, x in zip(where, chosen, strict=True):
            full[i] = x
        out = bind(prim, *finished(sample, full), **sample.params)
        outs = list(out) if prim.multiple else [out]
        return outs if prim.determined is None else list(prim.determined(*outs))

    return function


def differentiable(args: Sequence[Any]) -> list[int]:
    return [i for i, a in enumerate(args) if np.asarray(a).dtype.kind in "fc"]


def directions(args: Sequence[Any], seed: int) -> list[Any]:
    """Random tangents for these primals."""
    rng = np.random.default_rng(seed)
    found = []
    for a in args:
        t = rng.normal(size=np.shape(a))
        if np.asarray(a).dtype.kind == "c":
            t = t + 1j * rng.normal(size=np.shape(a))
        found.append(np.asarray(t, np.asarray(a).dtype))
    return found


def numeric_jvp(
    function: Callable[..., list[Any]], args: Sequence[Any], tangents: Sequence[Any]
) -> list[Any]:
    """Central differences of fourth order along a direction."""
    h = 1e-4

    def at(t: float) -> list[Any]:
        return function(*[a + t * v for a, v in zip(args, tangents, strict=True)])

    with np.errstate(all="ignore"):
        near = [(p - m) / (2 * h) for p, m in zip(at(h), at(-h), strict=True)]
        far = [(p - m) / (4 * h) for p, m in zip(at(2 * h), at(-2 * h), strict=True)]
        return [(4 * n - f) / 3 for n, f in zip(near, far, strict=True)]


def inner(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    """<x, y> = Re(sum(x * y)), the pairing in which cotangents are defined."""
    return sum(
        float(np.real(np.sum(np.asarray(x) * np.asarray(y)))) for x, y in zip(xs, ys, strict=True)
    )


def inexact(outs: Sequence[Any]) -> list[Any]:
    return [o for o in outs if np.asarray(o).dtype.kind in "fc"]


def assert_transposed(function: Callable[..., list[Any]], args: Sequence[Any], rtol: float) -> None:
    """<Jv, w> = <v, Jᵀw> for random v and w."""
    tangents = directions(args, 1)
    outs, out_tangents = fg.jvp(function, tuple(args), tuple(tangents))
    cts = directions(outs, 2)
    _, pullback = fg.vjp(function, *args)
    in_cts = pullback(cts)
    for a, ct in zip(args, in_cts, strict=True):
        assert np.shape(ct) == np.shape(a)
        assert np.asarray(ct).dtype == np.asarray(a).dtype
    left = inner(out_tangents, cts)
    right = inner(tangents, in_cts)
    rtol = max(rtol, *(rounding(np.asarray(o).dtype) for o in outs))
    scale = 1 + abs(left) + sum(float(np.sum(np.abs(c))) for c in in_cts)
    assert abs(left - right) <= rtol * scale


def batchings(args: Sequence[Any]) -> list[tuple[bool, ...]]:
    """Which operands to batch: all, and each alone."""
    arrays = [isinstance(a, (np.ndarray, np.generic)) for a in args]
    n = len(args)
    alone = [tuple(i == j for j in range(n)) for i in range(n) if arrays[i]]
    return list(dict.fromkeys([tuple(arrays), *alone]))


def awkward(x: Any) -> Iterator[Any]:
    """The same array read-only, strided, and in Fortran order."""
    if not isinstance(x, np.ndarray) or not x.ndim:
        return
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    wide = np.repeat(x, 2, axis=-1)
    yield wide[..., ::2]
    yield np.asfortranarray(x)


def loop(
    function: Callable[..., list[Any]], args: Sequence[Any], batch: Sequence[bool]
) -> list[Any]:
    """What vmap must give: one call per example."""
    rows = [
        function(*[a[i] if b else a for a, b in zip(args, batch, strict=True)]) for i in range(2)
    ]
    return [np.stack(column) for column in itertools.zip_longest(*rows)]
