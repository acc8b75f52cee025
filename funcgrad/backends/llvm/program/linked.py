"""Machine code as a Python function: its context filled with what the code must not contain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from funcgrad.backends.llvm.products import blas, convolution, tiles
from funcgrad.backends.llvm.program import entry, guard
from funcgrad.backends.llvm.runtime import pool
from funcgrad.core.aval import Aval, aval_of
from funcgrad.errors import GraphError
from funcgrad.records import NamedTuple
from funcgrad.source import at_user_line

Layout = tuple[np.dtype, tuple[int, ...]]


class Parts(NamedTuple):
    """What a program takes beside its code.

    Attributes:
        signature: how it is called.
        constants: arrays that it reads.
        hosts: Python functions that it calls.
        layouts: of the arrays that it calls them with: dtype, dimensions and strides in bytes.
    """

    signature: entry.Signature
    constants: Sequence[np.ndarray]
    hosts: Sequence[Callable[..., None]] = ()
    layouts: Sequence[Layout] = ()


def function(code: Any, parts: Parts) -> Any:
    """The native function of flat leaves."""
    size = parts.signature.first_host + len(parts.hosts) + 2 * len(parts.layouts) + 1
    ctx = entry.context(size)
    ctx.keep = [code]
    _fill(ctx, parts)
    made = entry.native_function(code.address("fg_entry"), ctx)
    fallback = _in_order(made, parts.signature)
    ctx.keep.append(fallback)
    ctx[entry.FALLBACK] = id(fallback)
    return made


def _fill(ctx: entry.Context, parts: Parts) -> None:
    ctx[entry.NDARRAY] = id(np.ndarray)
    ctx[entry.INDEX_ERROR] = id(IndexError)
    _put_layout(ctx, entry.ARENA_LAYOUT, np.dtype(np.uint8), (parts.signature.arena + 64,))
    slot = entry.FIRST_FREE
    for aval in parts.signature.outs:
        slot = _put_layout(ctx, slot, aval.dtype, aval.shape)
    for array in parts.constants:
        ctx.keep.append(array)
        ctx[slot] = array.ctypes.data
        slot += 1
    for host in parts.hosts:
        ctx.keep.append(host)
        ctx[slot] = id(host)
        slot += 1
    for dtype, numbers in parts.layouts:
        slot = _put_layout(ctx, slot, dtype, numbers)


def _put_layout(ctx: entry.Context, slot: int, dtype: np.dtype, numbers: Sequence[int]) -> int:
    """A dtype object and an array of numbers (dimensions, strides), by their addresses."""
    array = np.array(numbers, np.int64)
    ctx.keep += [dtype, array]
    ctx[slot], ctx[slot + 1] = id(dtype), array.ctypes.data
    return slot + 2


def _in_order(function: Any, signature: entry.Signature) -> Callable[..., Any]:
    """What the native function calls with objects that it cannot take: it gets copies of them."""
    written = set(signature.donated.values())

    def again(*leaves: Any) -> Any:
        if len(leaves) != len(signature.ins):
            raise GraphError(f"a program of {len(signature.ins)} operands, given {len(leaves)}")
        pairs = enumerate(zip(signature.ins, leaves, strict=True))
        return function(*[_ready(leaf, aval, k in written) for k, (aval, leaf) in pairs])

    return again


def _ready(leaf: Any, aval: Aval, written: bool) -> np.ndarray:
    """An array as programs take it, of exactly this shape and dtype."""
    dtype = entry.one_of_equals(aval.dtype)
    try:
        # A Python number takes the dtype at once, or is too large for it.
        array = np.asarray(leaf, dtype if type(leaf) is int else None)
    except OverflowError:
        message = f"{leaf} is too large for a compiled program's {dtype}; pass a float"
        raise OverflowError(message + at_user_line()) from None
    if array.shape != aval.shape or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise GraphError(f"a compiled program takes {aval}, not {aval_of(array)}{at_user_line()}")
    array = array.astype(dtype, order="C", copy=written)
    # Equal dtypes may differ in their numbers; what isn't aligned was left as it is.
    array = array if array.flags.aligned else array.copy()
    return array.view(dtype)


@cache
def register() -> None:
    """Name what programs call."""
    entry.register_symbols()
    pool.load()
    blas.register()
    guard.register()
    tiles.register()
    convolution.register()
