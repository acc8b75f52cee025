"""Composite primitives as graphs of simpler ones, so that kernels can take them apart."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.common.prepare import inline
from funcgrad.core.aval import Aval, Shape, broadcast_shapes
from funcgrad.core.graph import Eqn, Graph, live_eqns
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import bind, deferred
from funcgrad.primitives.discrete import comparisons


def _never_called(*args: Any) -> Any:
    raise NotImplementedError("it is there for native code alone")


def _logsumexp(x: Any, axes: Any, keepdims: bool) -> Any:
    top = np.maximum.reduce(x, axes, keepdims=True)
    # Nothing to shift by where all are -inf or one is inf: inf - inf would be NaN.
    shift = np.where(np.isfinite(top), top, 0)
    total = np.add.reduce(np.exp(x - shift), axes, keepdims=True)
    out = np.log(total) + shift
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    return out if keepdims else out.reshape(kept)


# --- random bits ----------------------------------------------------------------------

WORD = np.dtype(np.uint32)
# A 64-bit counter (its high and low word) encrypted under a key of two words: the result's
# first word, its second, one after the other in 64 bits, or folded into one.
THREEFRY = {
    name: Primitive(
        name,
        "nondifferentiable",
        _never_called,
        lambda *avals, dtype=dtype: Aval(broadcast_shapes(*(a.shape for a in avals)), dtype),
    )
    for name, dtype in {
        "threefry_first": WORD,
        "threefry_second": WORD,
        "threefry_both": np.dtype(np.uint64),
        "threefry_folded": WORD,
    }.items()
}


def _random_bits(key: Any, shape: Shape, width: int) -> Any:
    rank = len(shape)
    k0, k1 = (key[..., i].reshape((*key.shape[:-1], *(1,) * rank)) for i in range(2))
    low = np.arange(prod(shape), dtype=WORD).reshape(shape)
    name = "threefry_both" if width == 64 else "threefry_folded"
    bits = bind(THREEFRY[name], k0, k1, np.zeros((1,) * rank, WORD), low)
    return bits if width >= 32 else bits.astype(f"u{width // 8}")


def _random_split(key: Any, start: Any, shape: Shape) -> Any:
    rank = len(shape)
    k0, k1 = (key[..., i].reshape((*key.shape[:-1], *(1,) * rank)) for i in range(2))
    first = start.astype(np.uint64).reshape((*start.shape, *(1,) * rank))
    counter = first + np.arange(prod(shape), dtype=np.uint64).reshape(shape)
    high, low = (counter >> np.uint64(32)).astype(WORD), counter.astype(WORD)
    words = [
        bind(THREEFRY[name], k0, k1, high, low) for name in ("threefry_first", "threefry_second")
    ]
    return np.concatenate([w.reshape((*w.shape, 1)) for w in words], -1)


# --- comparisons of unsigned with signed numbers --------------------------------------


def _mixed(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison of uint64 with signed integers, which no dtype holds both of."""

    def rule(x: Any, y: Any) -> Any:
        signed = x if x.dtype.kind == "i" else y
        same = ufunc(x.astype(np.uint64), y.astype(np.uint64))
        below = ufunc(0, 1) if signed is x else ufunc(1, 0)
        return np.where(signed < 0, bool(below), same)

    return rule


_MIXED = {name: _mixed(prim.impl) for name, prim in comparisons.items()}


def _rule(eqn: Eqn) -> Callable[..., Any] | None:
    name = eqn.prim.name
    if name in _MIXED:
        kinds = {a.aval.dtype.kind if not a.aval.weak else "" for a in eqn.ins}
        wide = any(a.aval.dtype == np.uint64 for a in eqn.ins)
        return _MIXED[name] if wide and kinds == {"i", "u"} else None
    return DECOMPOSE.get(name)


DECOMPOSE: dict[str, Callable[..., Any]] = {
    "logsumexp": _logsumexp,
    "random_bits": _random_bits,
    "random_split": _random_split,
}


def decompose(graph: Graph) -> Graph:
    """The graph with composite equations replaced."""
    if not any(map(_rule, graph.eqns)):
        return graph
    eqns: list[Eqn] = []
    atoms: dict[int, Any] = {}
    for eqn in graph.eqns:
        ins = tuple([atoms.get(id(a), a) for a in eqn.ins])
        rule = _rule(eqn)
        if rule is None or not all(a.aval.size for a in (*ins, *eqn.outs)):
            eqns.append(Eqn(eqn.prim, ins, eqn.params, eqn.outs, eqn.source))
            continue
        results = inline(_parts(rule, eqn), ins, eqns)
        atoms.update(zip(map(id, eqn.outs), results, strict=True))
    outputs = [atoms.get(id(a), a) for a in graph.outputs]
    return Graph(graph.inputs, live_eqns(eqns, outputs), outputs)


def _parts(rule: Callable[..., Any], eqn: Eqn) -> Graph:
    with deferred("decompose") as rec:
        inputs = [rec.abstract_input(a.aval) for a in eqn.ins]
        return rec.graph([rule(*inputs, **eqn.params)])
