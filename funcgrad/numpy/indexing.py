"""Indexing: `x[...]` in all of NumPy's forms.

A key is split into a form, which has shapes in place of index arrays, and those arrays. What
is to be done depends on the form alone, and is planned once for each.
"""

from __future__ import annotations

from functools import lru_cache
from operator import index as to_int
from typing import Any

import numpy as np

from funcgrad.core.aval import Shape, broadcast_shapes
from funcgrad.core.binding import bind
from funcgrad.core.device import CPU, device_of, put_beside
from funcgrad.core.evaluate import known_value
from funcgrad.core.tracer import NO_VALUE, Tracer, is_abstract
from funcgrad.errors import IndexRangeError, TracerValueError, at_line
from funcgrad.numpy.convert import as_array
from funcgrad.primitives import indexing as ix
from funcgrad.primitives import structural as st
from funcgrad.primitives.elementwise import cast
from funcgrad.records import NamedTuple

FULL = st.FULL


class IndexArray(NamedTuple):
    """Stands in a form for an index array.

    Attributes:
        shape: the array's.
        length: for one that was made of a mask, how long the indexed axis must be.
    """

    shape: Shape
    length: int | None = None


# The items of a form; a triple stands for a slice.
Item = int | tuple[Any, Any, Any] | None | IndexArray | Any


class Plan(NamedTuple):
    """Indexing in four steps: the basic part, gathering, moving the block, new axes.

    Attributes:
        basic: an entry per axis, for the `index` primitive; None if it would change nothing.
        axes: what to gather along then; empty if nothing.
        block: (start, length, destination) of the gathered axes: NumPy may want them elsewhere
            than the `gather` primitive puts them.
        inner: the shape before new axes are inserted.
        shape: the final shape.
    """

    basic: tuple[st.Entry, ...] | None
    axes: tuple[int, ...]
    block: tuple[int, int, int]
    inner: Shape
    shape: Shape


def _refuse(message: str) -> IndexRangeError:
    return at_line(IndexRangeError, message)


# --- from a key to its form -----------------------------------------------------------


def split_key(key: Any) -> tuple[tuple[Item, ...], list[Any]]:
    """A key's form, and its index arrays; masks become integer arrays.

    Raises:
        IndexRangeError: an item is no index.
        TracerValueError: a mask, or the bounds of a slice, are traced and have no value.
    """
    form: list[Item] = []
    arrays: list[Any] = []
    for item in key if type(key) is tuple else (key,):
        kind = type(item)
        if kind is int or item is None or item is Ellipsis:
            form.append(item)
        elif kind is slice:
            form.append((_bound(item.start), _bound(item.stop), _bound(item.step)))
        elif isinstance(item, np.integer):
            form.append(int(item))
        else:
            for array, length in _index_arrays(item):
                if type(array) is int:
                    form.append(array)
                else:
                    form.append(IndexArray(array.shape, length))
                    arrays.append(array)
    return tuple(form), arrays


def _bound(bound: Any) -> int | None:
    return bound if bound is None or type(bound) is int else to_int(bound)


def _index_arrays(item: Any) -> list[tuple[Any, int | None]]:
    """What an item stands for: an integer or integer arrays, with the axis' length for masks."""
    if type(item) is Tracer:
        if item.dtype.kind == "b":
            return _mask_arrays(_known_mask(item))
        if item.dtype.kind in "iu":
            return [(cast(item, np.int64) if item.dtype == np.uint64 else item, None)]
        raise _refuse(f"an index must be integer or boolean, not a traced {item.aval}")
    if isinstance(item, (list, tuple)) and not len(item):
        return [(np.zeros(0, np.intp), None)]
    array = as_array(item)
    if type(array) is Tracer:
        return _index_arrays(array)
    if array.dtype.kind == "b":
        return _mask_arrays(array)
    if array.dtype.kind in "iu":
        return [(int(array) if array.ndim == 0 else array.astype(np.intp, copy=False), None)]
    raise _refuse(f"an index must be integers, slices, None, ... or masks, not {array.dtype}")


def _mask_arrays(mask: Any) -> list[tuple[Any, int | None]]:
    if np.ndim(mask) == 0:
        raise _refuse("a mask of one element is no index here; write x[None] for a new axis")
    return list(zip(np.nonzero(mask), mask.shape, strict=True))


def _known_mask(mask: Tracer) -> Any:
    value = known_value(mask)
    if value is not NO_VALUE:
        return value
    raise at_line(
        TracerValueError,
        f"x[mask] with a traced mask {mask.aval}: under {mask.rec.purpose} the mask's values, and "
        "so the result's shape, are not known. To reduce over the chosen elements use "
        "np.sum(np.where(mask, x, 0)); to replace them np.where(mask, new, x)",
    )


# --- from a form to a plan ------------------------------------------------------------


def normalize_int(i: int, axis: int, shape: Shape) -> int:
    """A non-negative index.

    Raises:
        IndexRangeError: it lies outside the axis.
    """
    n = shape[axis]
    if not -n <= i < n:
        raise _refuse(f"index {i} is out of range for axis {axis} of shape {shape}")
    return i + n if i < 0 else i


def normalize_slice(bounds: tuple[Any, Any, Any], n: int) -> tuple[int, int | None, int]:
    """The triple of the `index` primitive: equal slices give equal triples."""
    start, stop, step = slice(*bounds).indices(n)
    if not range(start, stop, step):
        return (0, 0, 1)
    if step > 0:
        return (start, None if stop == n else stop, step)
    return (start, None if stop < 0 else stop, step)


def _spell_out(form: tuple[Item, ...], shape: Shape) -> list[Item]:
    """A form with an item for each axis, besides those for new ones."""
    used = sum(item is not None and item is not Ellipsis for item in form)
    if used > len(shape):
        raise _refuse(f"too many indices: {used} for an array of shape {shape}")
    rest: list[Item] = [(None, None, None)] * (len(shape) - used)
    where = [i for i, item in enumerate(form) if item is Ellipsis]
    if not where:
        return [*form, *rest]
    if len(where) > 1:
        raise _refuse("an index can have only one ellipsis ('...')")
    # An ellipsis that stands for no axes still parts the integers at its sides.
    return [*form[: where[0]], *(rest or [Ellipsis]), *form[where[0] + 1 :]]


@lru_cache(maxsize=4096)
def make_plan(shape: Shape, form: tuple[Item, ...]) -> Plan:
    """How to index an array of this shape by a key of this form.

    Raises:
        IndexRangeError: where NumPy raises IndexError.
    """
    basic: list[st.Entry] = []
    axes: list[int] = []
    blocks: list[Shape] = []
    outer: list[int | None] = []  # lengths of sliced axes; None for a new one
    fancy: list[int] = []  # where the integers and arrays stand among the items
    before = 0  # how many axes of the result come before the first of them
    for position, item in enumerate(_spell_out(form, shape)):
        axis = len(basic)
        if item is None:
            outer.append(None)
        elif isinstance(item, (int, IndexArray)):
            before = before if fancy else len(outer)
            fancy.append(position)
            if isinstance(item, int):
                basic.append(normalize_int(item, axis, shape))
            else:
                _check_mask(item, axis, shape)
                axes.append(sum(n is not None for n in outer) + len(axes))
                blocks.append(item.shape)
                basic.append(FULL)
        elif item is not Ellipsis:
            entry = normalize_slice(item, shape[axis])
            basic.append(entry)
            outer.append(len(range(*slice(*entry).indices(shape[axis]))))
    block = _broadcast(blocks)
    together = not fancy or fancy[-1] - fancy[0] == len(fancy) - 1
    to = before if axes and together else 0
    result = [*outer[:to], *block, *outer[to:]]
    return Plan(
        None if all(entry == FULL for entry in basic) else tuple(basic),
        tuple(axes),
        (
            ix.block_position(tuple(axes)) if axes else 0,
            len(block),
            sum(n is not None for n in outer[:to]),
        ),
        tuple(n for n in result if n is not None),
        tuple(1 if n is None else n for n in result),
    )


def _check_mask(item: IndexArray, axis: int, shape: Shape) -> None:
    if item.length is not None and item.length != shape[axis]:
        raise _refuse(
            f"a mask is {item.length} long for axis {axis} of shape {shape}; they must agree"
        )


def _broadcast(blocks: list[Shape]) -> Shape:
    try:
        return broadcast_shapes((), *blocks)
    except ValueError:
        raise _refuse(f"index arrays of shapes {blocks} do not broadcast together") from None


# --- reading --------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> Any:
    """`x[key]`, for an array or a tracer.

    Raises:
        IndexRangeError: where NumPy raises IndexError.
        TracerValueError: a mask, or the bounds of a slice, are traced and have no value.
    """
    form, arrays = split_key(key)
    plan = make_plan(x.shape, form)
    if plan.basic is not None:
        x = bind(st.index, x, idx=plan.basic)
    if plan.axes:
        check_range(x, plan.axes, arrays)
        x = ix.gather_at(x, beside(x, arrays), plan.axes)
        x = ix.move_block(x, *plan.block)
    return x if plan.shape == plan.inner else bind(st.reshape, x, shape=plan.shape)


def beside(x: Any, arrays: list[Any]) -> list[Any]:
    """Index arrays where x is: CuPy, too, copies those of the host."""
    return [put_beside(x, i) if type(i) is np.ndarray and i.shape else i for i in arrays]


def check_range(x: Any, axes: tuple[int, ...], arrays: list[Any]) -> None:
    """Refuse what would fail only when the program runs, or not at all where x is empty."""
    computed = not is_abstract(x) and 0 not in x.shape
    if computed and device_of(x) == CPU:
        return
    if 0 in ix.block_shape(arrays):
        # NumPy checks only what it reads.
        return
    for axis, i in zip(axes, arrays, strict=True):
        n = x.shape[axis]
        # CuPy checks no range. What is on the device is not waited for.
        known = type(i) is np.ndarray if computed else type(i) is not Tracer
        if known and i.size and not (-n <= i.min() and i.max() < n):
            worst = i.min() if i.min() < -n else i.max()
            raise _refuse(f"index {worst} is out of range for axis {axis} of shape {x.shape}")
