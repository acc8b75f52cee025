"""Operands with a structure, on which the contract test tries primitives that need one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.records import Value


class Drawn(Value):
    """A sample's operand with a structure: `finish` of a random array of this shape.

    It is written in NumPy calls, as derivatives are tried through it: the operand keeps its
    structure wherever the random array goes.
    """

    shape: tuple[int, ...]
    finish: Callable[[Any], Any]


def positive_definite(*shape: int) -> Drawn:
    """Symmetric matrices whose eigenvalues are 1 at least."""
    return Drawn(shape, lambda x: x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1], dtype=x.dtype))


def triangular(*shape: int) -> Drawn:
    """Lower triangular matrices with a diagonal that is no smaller than 3 or so."""
    return Drawn(shape, lambda x: np.tril(x) + 5 * np.eye(shape[-1], dtype=x.dtype))


def distinct(*shape: int) -> Drawn:
    """Numbers that differ along the last axis, by 1 at least."""
    steps = np.arange(shape[-1])
    return Drawn(shape, lambda x: np.tanh(x) + 3 * steps.astype(x.dtype))


def symmetric(*shape: int) -> Drawn:
    """Symmetric matrices whose eigenvalues are distinct: near 0, 10, 20 ..."""
    steps = 10 * np.diag(np.arange(shape[-1]))
    return Drawn(shape, lambda x: x + np.swapaxes(x, -1, -2) + steps.astype(x.dtype))
