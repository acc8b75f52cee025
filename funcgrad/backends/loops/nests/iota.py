"""Constant indices that count 0, 1, 2, ...: what they pick is where it is anyway."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.core.graph import Const, Eqn


def counted_axis(atom: Any, n: int) -> int | None:
    """The axis along which a constant counts from 0 to n - 1, if that is all it does."""
    value = _integers(atom)
    if value is None or value.size != n or n == 1:
        return None
    long = [k for k, length in enumerate(value.shape) if length > 1]
    return long[0] if len(long) == 1 and _counts(value) else None


def is_iota(atom: Any) -> bool:
    """Whether a constant counts its elements in order: 0, 1, 2, ..."""
    value = _integers(atom)
    return value is not None and 1 < value.size < 2**31 and _counts(value)


def one_hot_rows(eqn: Eqn) -> dict[int, int] | None:
    """Of a scatter that puts each row's update somewhere in the row: the axes that count rows,
    each with the axis of the updates along which it does. None for other scatters.

    All axes but one count rows, each along an axis of its own, and nothing is left over.
    """
    updates, *indices = eqn.ins
    shape, axes = eqn.params["shape"], eqn.params["axes"]
    if len(axes) != len(shape) or len(axes) < 2:
        return None
    rank = len(updates.aval.shape)
    rows: dict[int, int] = {}
    for axis, i in zip(axes, indices, strict=True):
        along = counted_axis(i, shape[axis])
        if along is not None and (row := along + rank - len(i.aval.shape)) not in rows.values():
            rows[axis] = row
    if len(rows) != len(axes) - 1:
        return None
    left_over = any(n > 1 and k not in rows.values() for k, n in enumerate(updates.aval.shape))
    return None if left_over else rows


def _integers(atom: Any) -> np.ndarray | None:
    value = atom.value if type(atom) is Const else None
    return value if type(value) is np.ndarray and value.dtype.kind in "iu" else None


def _counts(value: np.ndarray) -> bool:
    return bool((value.ravel() == np.arange(value.size)).all())
