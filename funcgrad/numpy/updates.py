"""Functional updates: `fg.at(x)[index].set(values)` instead of `x[index] = values`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.aval import PYTHON_SCALARS, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.device import CPU, device_of, is_array, put_beside
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Tracer, is_abstract
from funcgrad.errors import InPlaceError, OperandTypeError, ShapeError, at_line
from funcgrad.numpy.convert import as_array, assigned
from funcgrad.numpy.indexing import Plan, beside, check_range, getitem, make_plan, split_key
from funcgrad.numpy.ufuncs import as_operand
from funcgrad.primitives import indexing as ix
from funcgrad.primitives import structural as st

_KIND_ORDER = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


class Place:
    """A part of an array, to be read or replaced: what `at(x)[index]` gives.

    Each method returns an array of the shape and dtype of `x` and leaves `x` as it is. Values
    broadcast against ``x[index]`` and must fit the dtype of `x` without losing their kind.

    Where an integer array names a position twice, `add`, `subtract`, `multiply`, `divide`,
    `min` and `max` take every value into account; of those for `set` the last stays, and only
    it gets a derivative; `power` and `apply` see each position's old element alone, and their
    last result stays.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.at(np.zeros(3))[np.array([0, 0, 2])].add(1.0)
        array([2., 0., 1.])
    """

    __slots__ = ("_key", "_x")

    def __init__(self, x: Any, key: Any):
        self._x = x
        self._key = key

    def get(self) -> Any:
        """The part itself, `x[index]`; `x` may be plain and the index traced."""
        return getitem(self._x, self._key)

    def set(self, values: Any) -> Any:
        """Replace the part: `x[index] = values`."""
        return _update(self._x, self._key, values, None, ix.scatter_set)

    def add(self, values: Any) -> Any:
        """`x[index] += values`, for every time that a position is named."""
        return _update(self._x, self._key, values, np.add, ix.scatter_add)

    def subtract(self, values: Any) -> Any:
        """`x[index] -= values`, for every time that a position is named."""
        # Converted first: the negative of an unsigned number is another one in a wider dtype.
        return self.add(-cast_back(values, self._x, "subtract"))

    def multiply(self, values: Any) -> Any:
        """`x[index] *= values`, for every time that a position is named."""
        return _update(self._x, self._key, values, np.multiply, ix.scatter_mul)

    mul = multiply

    def divide(self, values: Any) -> Any:
        """`x[index] /= values`, for every time that a position is named."""
        ones = np.ones(shape_of(self._x), self._x.dtype)
        return cast_back(self._x / Place(ones, self._key).multiply(values), self._x, "divide")

    def power(self, values: Any) -> Any:
        """`x[index] **= values`."""
        return self.set(cast_back(self.get() ** as_operand(values), self._x, "power"))

    def min(self, values: Any) -> Any:
        """The smaller of each element and the values for it; equals share the derivative."""
        return _update(self._x, self._key, values, np.minimum, ix.scatter_min)

    def max(self, values: Any) -> Any:
        """The larger of each element and the values for it; equals share the derivative."""
        return _update(self._x, self._key, values, np.maximum, ix.scatter_max)

    def apply(self, function: Callable[[Any], Any]) -> Any:
        """`x[index] = function(x[index])`."""
        return self.set(cast_back(function(self.get()), self._x, "apply"))

    def __repr__(self) -> str:
        return f"at({self._x!r})[{self._key!r}]"


class At:
    """An array whose parts can be replaced functionally; see `at`."""

    __slots__ = ("_x",)

    def __init__(self, x: Any):
        self._x = as_array(x)

    def __getitem__(self, key: Any) -> Place:
        return Place(self._x, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise InPlaceError.of()

    def __repr__(self) -> str:
        return f"at({self._x!r})"


def at(x: Any) -> At:
    """Functional updates of an array: `at(x)[index].set(values)` is a copy of `x` with
    `x[index] = values`; `x` itself is never written to.

    Args:
        x: an array or a tracer (which also has it as the property `x.at`).

    Returns:
        An object to be indexed in any of NumPy's ways; what that gives has the methods `set`,
        `add`, `subtract`, `multiply` (or `mul`), `divide`, `power`, `min`, `max`,
        `apply(function)` and `get()`. See `Place` for positions that are named twice.

    Raises:
        IndexRangeError: the index does not fit the array (from the methods).
        ShapeError: the values do not broadcast to the part.
        OperandTypeError: the values do not fit the dtype, such as floats in an integer array.
        IntegerRangeError: a Python integer is beyond the dtype.
        NotAnArrayError: the values are no numbers.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> x = np.arange(4.0)
        >>> fg.at(x)[1:3].set(9.0)
        array([0., 9., 9., 3.])
        >>> fg.grad(lambda v: np.sum(fg.at(x)[[1, 1, 2]].mul(v)))(np.array([2.0, 3.0, 4.0]))
        array([3., 2., 2.])
    """
    return At(x)


def _refuse_kind(have: np.dtype, x: Any, name: str) -> OperandTypeError:
    return at_line(
        OperandTypeError,
        f"at(x)[...].{name}: the values are {have.name}, x is {x.dtype.name}; writing them would "
        f"lose part of them. Convert one of the two, as in x.astype(np.{have.name})",
    )


def cast_back(values: Any, x: Any, name: str) -> Any:
    """Values in the dtype of `x`, unless that loses their kind."""
    # A Python integer counts as one however large it is, where an array would hold an object.
    have = aval_of(values if type(values) in PYTHON_SCALARS else as_array(values)).dtype
    if _KIND_ORDER[have.kind] > _KIND_ORDER[x.dtype.kind]:
        raise _refuse_kind(have, x, name)
    return assigned(values, x.dtype)


def _update(x: Any, key: Any, values: Any, ufunc: np.ufunc | None, scatter: Any) -> Any:
    """`x` with `ufunc(x[key], values)`, or the values themselves, at `key`."""
    values = cast_back(values, x, scatter.name.removeprefix("scatter_"))
    if type(key) is Tracer and key.dtype == bool and is_abstract(key) and not shape_of(values):
        return _update_masked(x, key, values, ufunc)
    form, arrays = split_key(key)
    plan = make_plan(x.shape, form)
    if device_of(x) != device_of(values) == CPU and not shape_of(values):
        # A number: it would be spread on the host.
        values = values * put_beside(x, np.ones((), x.dtype))
    values = _arrange(values, plan, x)
    if plan.axes:
        part = x if plan.basic is None else bind(st.index, x, idx=plan.basic)
        check_range(part, plan.axes, arrays)
        part = bind(scatter, part, values, *beside(part, arrays), axes=plan.axes)
        return part if plan.basic is None else bind(ix.index_set, x, part, idx=plan.basic)
    if plan.basic is None:
        if ufunc is not None:
            return ufunc(x, values)
        return values.copy() if is_array(values) else values
    new = values if ufunc is None else ufunc(bind(st.index, x, idx=plan.basic), values)
    return bind(ix.index_set, x, new, idx=plan.basic)


def _update_masked(x: Any, mask: Tracer, value: Any, ufunc: np.ufunc | None) -> Any:
    """A mask that is not known chooses between the old elements and one new value."""
    mask = mask.reshape(mask.shape + (1,) * (len(x.shape) - mask.ndim))
    new = value if ufunc is None else ufunc(x, value)
    return np.where(mask, new, x)  # pyright: ignore[reportUnknownVariableType]


def _arrange(values: Any, plan: Plan, x: Any) -> Any:
    """Values in the layout of the primitives: the inverse of how a plan arranges a part."""
    shape = shape_of(values)
    if shape != plan.shape:
        try:
            values = bind(st.broadcast_to, values, shape=plan.shape)
        except ValueError:
            raise at_line(
                ShapeError,
                f"values of shape {shape} do not broadcast to the part of shape {plan.shape} "
                f"that is indexed in {aval_of(x)}",
            ) from None
    if plan.shape != plan.inner:
        values = bind(st.reshape, values, shape=plan.inner)
    start, length, to = plan.block
    return ix.move_block(values, to, length, start)
