"""Random bits and new keys from keys: the two primitives that all of `funcgrad.random` rests on.

A key is two uint32, so keys are arrays like any other; both primitives take any number of keys
at once along leading axes, which is what batching makes of them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, broadcast_shapes
from funcgrad.core.binding import bind
from funcgrad.core.declarations import nondifferentiable
from funcgrad.core.primitive import Primitive, pad_rank, sample, shape_of
from funcgrad.primitives import _threefry

_KEY = np.array([0, 42], np.uint32)
_KEYS = np.arange(6, dtype=np.uint32).reshape(3, 2)


# --- what kernels make of them --------------------------------------------------------


def _never_called(*args: Any) -> Any:
    raise NotImplementedError("it is there for native code alone")


WORD = np.dtype(np.uint32)
# A 64-bit counter (its high and low word) encrypted under a key of two words: the result's
# first word, its second, one after the other in 64 bits, or folded into one.
THREEFRY = {
    name: Primitive(
        name,
        "nondifferentiable",
        _never_called,
        lambda *avals, dtype=dtype: Aval(broadcast_shapes(*(a.shape for a in avals)), dtype),
        operand_dtypes=lambda out, *words: (WORD,) * len(words),
    )
    for name, dtype in {
        "threefry_first": WORD,
        "threefry_second": WORD,
        "threefry_both": np.dtype(np.uint64),
        "threefry_folded": WORD,
    }.items()
}


def _expanded_bits(key: Any, shape: Shape, width: int) -> Any:
    rank = len(shape)
    k0, k1 = (key[..., i].reshape((*key.shape[:-1], *(1,) * rank)) for i in range(2))
    low = np.arange(prod(shape), dtype=WORD).reshape(shape)
    name = "threefry_both" if width == 64 else "threefry_folded"
    bits = bind(THREEFRY[name], k0, k1, np.zeros((1,) * rank, WORD), low)
    return bits if width >= 32 else bits.astype(f"u{width // 8}")


def _expanded_split(key: Any, start: Any, shape: Shape) -> Any:
    rank = len(shape)
    k0, k1 = (key[..., i].reshape((*key.shape[:-1], *(1,) * rank)) for i in range(2))
    first = start.astype(np.uint64).reshape((*start.shape, *(1,) * rank))
    counter = first + np.arange(prod(shape), dtype=np.uint64).reshape(shape)
    high, low = (counter >> np.uint64(32)).astype(WORD), counter.astype(WORD)
    words = [
        bind(THREEFRY[name], k0, k1, high, low) for name in ("threefry_first", "threefry_second")
    ]
    return np.concatenate([w.reshape((*w.shape, 1)) for w in words], -1)


# --- declared -------------------------------------------------------------------------


def _bits_shape(key: Aval, *, shape: Shape, width: int) -> Aval:
    return Aval(key.shape[:-1] + shape, np.dtype(f"u{width // 8}"))


def _bits_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    return bind(prim, args[0], **params), True


random_bits = nondifferentiable(
    "random_bits",
    _threefry.random_bits,
    shape=_bits_shape,
    batch=_bits_batch,
    samples=[
        sample(_KEY, shape=(3,), width=32),
        sample(_KEY, shape=(), width=64),
        sample(_KEYS, shape=(5, 4), width=64),
        sample(_KEYS, shape=(0,), width=8),
    ],
    dtypes="i",
    expansion=_expanded_bits,
)


def _split_shape(key: Aval, start: Aval, *, shape: Shape) -> Aval:
    batch = broadcast_shapes(key.shape[:-1], start.shape)
    return Aval((*batch, *shape, 2), np.dtype(np.uint32))


def _split_batch(prim: Any, args: Any, batched: Any, size: int, params: Any) -> Any:
    key, start = args
    rank = max(len(shape_of(key)) - 1 - batched[0], len(shape_of(start)) - batched[1])
    if batched[0]:
        key = pad_rank(key, rank + 2)
    if batched[1]:
        start = pad_rank(start, rank + 1)
    return bind(prim, key, start, **params), True


random_split = nondifferentiable(
    "random_split",
    _threefry.random_split,
    shape=_split_shape,
    batch=_split_batch,
    samples=[
        sample(_KEY, np.array(0, np.uint32), shape=(2,)),
        sample(_KEY, np.arange(3, dtype=np.uint32), shape=()),
        sample(_KEYS, np.arange(3, dtype=np.uint32), shape=(2, 2)),
        sample(_KEYS, np.array(7, np.uint32), shape=(0,)),
    ],
    dtypes="i",
    expansion=_expanded_split,
)
