"""Making arrays: of nested lists that hold tracers, and in the likeness of tracers."""

from __future__ import annotations

from operator import index as to_int
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of, result_dtype
from funcgrad.core.device import namespace
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, at_line
from funcgrad.numpy.convert import (
    as_array,
    as_shape,
    assigned,
    check_device,
    check_order,
    contains_tracer,
    normalize_axes,
)
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.ufuncs import as_operand
from funcgrad.primitives.elementwise import cast


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
) -> Any:
    """`np.array`, also of tracers and of nested lists that hold them.

    Args:
        object: an array, a tracer, a number, or nested lists or tuples of them.
        dtype: of the result; NumPy's common dtype of the elements if None.
        ndmin: the least number of axes; those that lack are put in front.

    Raises:
        ShapeError: rows of a nested list differ in shape.

    Example:
        >>> import numpy as np, funcgrad as fg, funcgrad.numpy as fnp
        >>> fg.grad(lambda x: np.sum(fnp.array([x, 2 * x]) ** 2))(3.0)
        np.float64(30.0)
    """
    if not contains_tracer(object):
        return np.array(object, dtype, copy=copy, order=order, subok=subok, ndmin=ndmin)
    check_order(order, "array")
    result = as_array(object) if dtype is None else assigned(object, np.dtype(dtype))
    return result.reshape((1,) * (ndmin - result.ndim) + result.shape)


def asarray(a: Any, dtype: Any = None, order: Any = None, **options: Any) -> Any:
    """`np.asarray`, also of tracers and of nested lists that hold them; see `array`."""
    if not contains_tracer(a):
        return np.asarray(a, dtype, order, **options)
    return array(a, dtype, order=order)


def ascontiguousarray(a: Any, dtype: Any = None, **options: Any) -> Any:
    """`np.ascontiguousarray`, also of tracers: an array of at least one axis."""
    return array(a, dtype, ndmin=1)


def _likeness(name: str) -> Any:
    make = name.removesuffix("_like")

    def like(
        a: Any,
        dtype: Any = None,
        order: Any = "K",
        subok: bool = True,
        shape: Any = None,
        *,
        device: Any = None,
    ) -> Any:
        a = as_array(a)
        shape = a.shape if shape is None else as_shape(shape)
        layout = "C" if order in ("K", "A", None) else order
        library = namespace(a)
        options = {"device": device} if library is np else {}
        return getattr(library, make)(shape, a.dtype if dtype is None else dtype, layout, **options)

    like.__name__ = name
    return implements(getattr(np, name))(like)


zeros_like, ones_like, empty_like = map(_likeness, ("zeros_like", "ones_like", "empty_like"))


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    a = as_array(a)
    shape = a.shape if shape is None else shape
    layout = "C" if order in ("K", "A", None) else order
    library = namespace(a)
    if library is not np and not contains_tracer(fill_value):
        return library.full(shape, fill_value, a.dtype if dtype is None else dtype, layout)
    return full(shape, fill_value, a.dtype if dtype is None else dtype, layout, device=device)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", **options: Any) -> Any:
    """`np.full`, also with a tracer for the value."""
    shape = as_shape(shape)
    if not contains_tracer(fill_value):
        return np.full(shape, fill_value, dtype, order, **options)
    check_order(order, "full")
    check_device(options.get("device"), "full")
    return np.broadcast_to(array(fill_value, dtype), shape)


@implements(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    check_device(device, "linspace")
    num = to_int(num)
    if num < 0:
        raise at_line(ArgumentError, f"np.linspace makes num={num} numbers: it cannot be negative")
    start, stop = as_operand(start), as_operand(stop)
    common = np.result_type(result_dtype(aval_of(start), aval_of(stop)), 1.0)
    start, stop = as_array(start), as_array(stop)
    start, stop = cast(start, common), cast(stop, common)
    intervals = num - 1 if endpoint else num
    step = (stop - start) / intervals if intervals > 0 else np.nan
    shape = np.broadcast_shapes(start.shape, stop.shape)
    count = namespace(start, stop).arange(num, dtype=common).reshape((num,) + (1,) * len(shape))
    out = np.broadcast_to(start + count * (step if intervals > 0 else stop - start), (num, *shape))
    if endpoint and num > 1:
        out = np.concatenate([out[:-1], np.broadcast_to(stop, (1, *shape))])
    if dtype is not None:
        dtype = np.dtype(dtype)
        # As NumPy has it: the integer below, also of negative numbers.
        out = cast(np.floor(out) if dtype.kind in "iu" else out, dtype)
    out = np.moveaxis(out, 0, axis)
    return (out, step) if retstep else out


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing is 'xy' or 'ij', got {indexing!r}")
    rank = len(xi)
    swap = indexing == "xy" and rank > 1
    grids = []
    for i, x in enumerate(map(as_array, xi)):
        place = 1 - i if swap and i < 2 else i
        grids.append(x.reshape((1,) * place + (-1,) + (1,) * (rank - place - 1)))
    return tuple(grids) if sparse else np.broadcast_arrays(*grids)


# --- what is known without values -----------------------------------------------------


@implements(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    return as_array(a).shape


@implements(np.ndim)
def ndim(a: Any) -> int:
    return as_array(a).ndim


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    if axis is None:
        return as_array(a).size
    lengths = as_array(a).shape
    return int(np.prod([lengths[i] for i in normalize_axes(axis, len(lengths))]))


def _stand_in(x: Any) -> Any:
    """What has the same part in promotion: a dtype, or a Python number for a weak tracer."""
    if type(x) is not Tracer:
        return x
    return x.aval.dtype.type(0).item() if x.aval.weak else x.dtype


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*map(_stand_in, arrays_and_dtypes))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(_stand_in(from_), _stand_in(to), casting)


@implements(np.may_share_memory, np.shares_memory)
def shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    return a is b
