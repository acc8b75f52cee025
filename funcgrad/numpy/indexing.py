"""Indexing: `x[...]` in all of NumPy's forms."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad.core.tracer import NO_VALUE, Tracer, bind, is_abstract
from funcgrad.errors import IndexRangeError, TracerValueError, at_line
from funcgrad.numpy.protocol import attach_methods
from funcgrad.primitives import indexing as ix
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast

FULL = st.FULL


class Plan(NamedTuple):
    """An index in four steps: basic indexing, gathering, moving the block, new axes.

    Attributes:
        basic: an entry per axis, for the `index` primitive; None if it would change nothing.
        axes, indices: what to gather then; empty if nothing.
        block: (start, length, destination) of the gathered axes, where NumPy puts them
            elsewhere than the `gather` primitive.
        shape: the final shape if there are new axes, else None.
        inner: the shape before new axes are inserted.
    """

    basic: tuple[st.Entry, ...] | None
    axes: tuple[int, ...]
    indices: tuple[Any, ...]
    block: tuple[int, int, int]
    inner: tuple[int, ...]
    shape: tuple[int, ...]


def _refuse(message: str) -> IndexRangeError:
    return at_line(IndexRangeError, message)


def normalize_int(i: int, axis: int, shape: tuple[int, ...]) -> int:
    """A non-negative index.

    Raises:
        IndexRangeError: it lies outside the axis.
    """
    n = shape[axis]
    if not -n <= i < n:
        raise _refuse(f"index {i} is out of range for axis {axis} of shape {shape}")
    return i + n if i < 0 else i


def normalize_slice(s: slice, n: int) -> st.Entry:
    """The triple of the `index` primitive: equal slices give equal triples."""
    start, stop, step = s.indices(n)
    if len(range(start, stop, step)) == 0:
        return (0, 0, 1)
    if step > 0:
        return (start, None if stop == n else stop, step)
    return (start, None if stop < 0 else stop, step)


def _entry(item: Any) -> list[Any]:
    """An index's item as those it stands for: masks become integer arrays."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return [item]
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return [int(item)]
    if type(item) is Tracer:
        if item.dtype.kind == "b":
            if item.value is NO_VALUE:
                raise _traced_mask(item)
            return list(np.nonzero(item.value))
        if item.dtype.kind in "iu":
            return [cast(item, np.int64) if item.dtype == np.uint64 else item]
        raise _refuse(f"an index must be integer or boolean, not a traced {item.aval}")
    if isinstance(item, (list, tuple)) and not len(item):
        return [np.zeros(0, np.intp)]
    array = np.asarray(item)
    if array.dtype.kind == "b":
        return list(np.nonzero(array))
    if array.dtype.kind in "iu":
        return [int(array) if array.ndim == 0 else array.astype(np.intp, copy=False)]
    raise _refuse(f"an index must be integers, slices, None, ... or masks, not {array.dtype}")


def _traced_mask(mask: Tracer) -> TracerValueError:
    return at_line(
        TracerValueError,
        f"x[mask] with a traced mask {mask.aval}: under {mask.rec.purpose} the mask's values, and "
        "so the result's shape, are not known. To reduce over the chosen elements use "
        "np.sum(np.where(mask, x, 0)); to replace them np.where(mask, new, x)",
    )


def _items(key: Any, shape: tuple[int, ...]) -> list[Any]:
    """The index's items, one for each axis but for None; `...` is spelled out."""
    key = key if type(key) is tuple else (key,)
    items = [e for item in key for e in _entry(item)]
    used = sum(e is not None and e is not Ellipsis for e in items)
    if used > len(shape):
        raise _refuse(f"too many indices: {used} for an array of shape {shape}")
    where = [i for i, e in enumerate(items) if e is Ellipsis]
    if len(where) > 1:
        raise _refuse("an index can have only one ellipsis ('...')")
    rest = [slice(None)] * (len(shape) - used)
    if not where:
        return items + rest
    # An ellipsis that stands for no axes still parts the integers at its sides.
    return [*items[: where[0]], *(rest or [Ellipsis]), *items[where[0] + 1 :]]


def make_plan(shape: tuple[int, ...], key: Any) -> Plan:
    """How to compute `x[key]` for an `x` of this shape.

    Raises:
        IndexRangeError: NumPy would raise IndexError.
        TracerValueError: a traced mask, or traced bounds of a slice, without a value.
    """
    items = _items(key, shape)
    basic: list[st.Entry] = []
    axes: list[int] = []
    indices: list[Any] = []
    kept: list[int] = []  # lengths of the sliced axes
    new: list[int] = []  # positions of new axes among the sliced ones
    fancy: list[int] = []  # positions of integers and arrays among the items
    before = 0  # sliced and new axes before the first of them
    dim = 0
    for position, item in enumerate(items):
        if item is Ellipsis:
            continue
        if item is None:
            new.append(len(kept) + len(new))
        elif isinstance(item, slice):
            entry = normalize_slice(item, shape[dim])
            basic.append(entry)
            kept.append(len(range(*slice(*entry).indices(shape[dim]))))
            dim += 1
        else:
            if not fancy:
                before = len(kept) + len(new)
            fancy.append(position)
            if type(item) is int:
                basic.append(normalize_int(item, dim, shape))
            else:
                axes.append(len(kept) + len(axes))
                indices.append(item)
                basic.append(FULL)
            dim += 1
    static = None if all(e == FULL for e in basic) else tuple(basic)
    outer = list(kept)
    for position in new:
        outer.insert(position, 1)
    if not axes:
        return Plan(static, (), (), (0, 0, 0), tuple(kept), tuple(outer))
    try:
        block = ix.block_shape(indices)
    except IndexError as error:
        raise _refuse(str(error)) from None
    natural = ix.block_position(tuple(axes))
    together = fancy[-1] - fancy[0] == len(fancy) - 1
    to = before if together else 0
    ahead = sum(p < to for p in new)
    inner = (*kept[: to - ahead], *block, *kept[to - ahead :])
    return Plan(
        static,
        tuple(axes),
        tuple(indices),
        (natural, len(block), to - ahead),
        inner,
        (*outer[:to], *block, *outer[to:]),
    )


def getitem(x: Any, key: Any) -> Any:
    """`x[key]`."""
    if type(key) is int:
        shape = x.shape
        if shape:
            idx = (normalize_int(key, 0, shape), *[FULL] * (len(shape) - 1))
            return bind(st.index, x, idx=idx)
    return read(x, make_plan(x.shape, key))


def read(x: Any, plan: Plan) -> Any:
    """Carry out a plan."""
    if plan.basic is not None:
        x = bind(st.index, x, idx=plan.basic)
    if plan.axes:
        check_range(x, plan)
        x = ix.gather_at(x, plan.indices, plan.axes)
        x = ix.move_block(x, *plan.block)
    return x if plan.shape == plan.inner else bind(st.reshape, x, shape=plan.shape)


def check_range(x: Any, plan: Plan) -> None:
    """While staging, refuse known indices that would only fail when the program runs."""
    if not is_abstract(x):
        return
    for axis, i in zip(plan.axes, plan.indices, strict=True):
        n = x.shape[axis]
        if type(i) is not Tracer and i.size and not (-n <= i.min() and i.max() < n):
            worst = i.min() if i.min() < -n else i.max()
            raise _refuse(f"index {worst} is out of range for axis {axis} of shape {x.shape}")


attach_methods({"__getitem__": getitem}, {})
