"""Abstract values: what is known of an array before it is computed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from funcgrad.core.device import CPU, Device, device_of, is_cupys, short_device
from funcgrad.errors import NotAnArrayError

Shape = tuple[int, ...]

_SHORT_KIND = {"f": "f", "i": "i", "u": "u", "c": "c"}
# Python scalars are weak: they take the dtype of the array they meet (NEP 50).
PYTHON_SCALARS: dict[type, np.dtype] = {
    float: np.dtype(np.float64),
    int: np.dtype(np.int64),
    complex: np.dtype(np.complex128),
}
_WEAK_TYPE = {"f": float, "i": int, "u": int, "c": complex, "b": bool}
BOOL = np.dtype(bool)


class Aval:
    """Shape, dtype, weakness and device of a value; immutable and hashable.

    A *weak* aval stands for a Python scalar, which under NEP 50 does not widen
    the arrays it is combined with.
    """

    __slots__ = ("device", "dtype", "shape", "weak")

    def __init__(
        self, shape: Shape, dtype: np.dtype, weak: bool = False, device: Device = CPU
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.weak = weak
        self.device = device

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def inexact(self) -> bool:
        return self.dtype.kind in "fc"

    def update(self, shape: Shape | None = None, dtype: Any = None) -> Aval:
        """The same aval with another shape or dtype, strong."""
        return Aval(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else np.dtype(dtype),
            device=self.device,
        )

    def strong(self) -> Aval:
        return self.update() if self.weak else self

    def on(self, device: Device) -> Aval:
        """The same aval on a device."""
        return self if device == self.device else Aval(self.shape, self.dtype, self.weak, device)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Aval)
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak == other.weak
            and self.device == other.device
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak, self.device))

    def __repr__(self) -> str:
        kind = f"{short_dtype(self.dtype)}{'~' if self.weak else ''}{short_shape(self.shape)}"
        return kind if self.device == CPU else f"{kind}@{short_device(self.device)}"


# Those of Python scalars.
_AVALS = {k: Aval((), dtype, True) for k, dtype in PYTHON_SCALARS.items()} | {bool: Aval((), BOOL)}


def short_shape(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def short_dtype(dtype: np.dtype) -> str:
    """`f32` for float32, `bool` for bool: the spelling of printed graphs."""
    prefix = _SHORT_KIND.get(dtype.kind)
    return f"{prefix}{dtype.itemsize * 8}" if prefix else dtype.name


def aval_of(value: Any) -> Aval:
    """The aval of an array, NumPy scalar, Python scalar or tracer.

    Raises:
        NotAnArrayError: `value` is none of these, an array of objects, or a subclass's.
    """
    kind = type(value)
    known = _AVALS.get(kind)
    if known is not None:
        return known
    if kind is np.ndarray or isinstance(value, (np.generic, np.memmap)):
        if value.dtype.kind not in "fiucb":
            raise NotAnArrayError.of(value)
        return Aval(value.shape, value.dtype)
    aval = value if isinstance(value, Aval) else getattr(value, "aval", None)
    if isinstance(aval, Aval):
        return aval
    # Other classes that look like arrays compute something else with `*` or `+`, lose what they
    # carry (a mask, units, an index), or both.
    if is_cupys(kind):
        return Aval(value.shape, value.dtype, device=device_of(value))
    raise NotAnArrayError.of(value)


@lru_cache(maxsize=4096)
def _result_type(kinds: tuple[Any, ...]) -> np.dtype:
    return np.result_type(*(k if isinstance(k, np.dtype) else k(0) for k in kinds))


def promotion_kind(aval: Aval) -> Any:
    """What stands for `aval` in NumPy's promotion: its dtype, or a Python type if it is weak."""
    return _WEAK_TYPE[aval.dtype.kind] if aval.weak else aval.dtype


def result_dtype(*avals: Aval) -> np.dtype:
    """NEP 50's common dtype."""
    return _result_type(tuple(map(promotion_kind, avals)))


@lru_cache(maxsize=4096)
def resolve_ufunc(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> tuple[np.dtype, ...]:
    """The dtypes NumPy computes `ufunc` in (inputs, then outputs), or TypeError as NumPy's."""
    found = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))
    if any(d.kind == "O" for d in found):
        # NumPy compares Python integers as objects; here they are integers of the default size.
        kinds = tuple(PYTHON_SCALARS.get(k, k) for k in kinds)
        found = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))
    return found


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's broadcasting of shapes; equal ones, and none, are answered without any work.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    different = {*shapes}
    different.discard(())
    if len(different) > 1:
        return np.broadcast_shapes(*shapes)
    return different.pop() if different else ()
