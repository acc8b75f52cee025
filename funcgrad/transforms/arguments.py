"""Which arguments a derivative is taken by, and whether one can be."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, GradDtypeError, NotAnArrayError, at_line

Argnums = int | Sequence[int]
# What most leaves are; others are looked at more closely.
_ARRAYS = frozenset({np.ndarray, np.float64, np.float32, Tracer})


def select_arguments(args: tuple[Any, ...], argnums: Argnums, name: str) -> Any:
    """The arguments a transformation works on, and a function that puts new ones in place.

    Raises:
        ArgumentError: there is no such argument, or one is named twice.
    """
    single = not isinstance(argnums, (tuple, list))
    numbers = select_positions(argnums, len(args), f"{name}: argnums")
    if single:
        (position,) = numbers
        chosen: Any = args[position]

        def place(new: Any) -> tuple[Any, ...]:
            return (*args[:position], new, *args[position + 1 :])

        return chosen, place

    def place_all(new: Sequence[Any]) -> tuple[Any, ...]:
        full = list(args)
        for i, value in zip(numbers, new, strict=True):
            full[i] = value
        return tuple(full)

    return tuple(args[i] for i in numbers), place_all


def select_positions(argnums: Any, n: int, what: str) -> tuple[int, ...]:
    """The chosen ones of n positional arguments, counted from the first."""
    try:
        numbers = tuple(map(index, argnums if isinstance(argnums, (tuple, list)) else [argnums]))
    except TypeError:
        raise at_line(
            ArgumentError, f"{what}={argnums!r} is no integer and no tuple of integers"
        ) from None
    if not all(-n <= i < n for i in numbers):
        raise at_line(
            ArgumentError,
            f"{what}={argnums!r}, but the call has {n} positional argument"
            f"{'' if n == 1 else 's'}; {what.split()[-1]} counts them from 0, and keyword "
            "arguments cannot be chosen",
        )
    positions = tuple(i % n for i in numbers)
    if len(set(positions)) < len(positions):
        raise at_line(ArgumentError, f"{what}={argnums!r} names an argument twice")
    return positions


def check_differentiable(
    chosen: Any,
    leaves: Sequence[Any],
    name: str,
    complex_ok: bool = True,
    holomorphic: bool = False,
) -> None:
    """Check the dtypes of the leaves of `chosen`, by which a derivative is to be taken.

    Raises:
        GradDtypeError: a leaf is no float, or complex where that is not asked for; or it is
            real under `holomorphic`, where the derivative's imaginary part would be lost.
        NotAnArrayError: a leaf is no array.
    """
    allowed = "c" if holomorphic else "fc" if complex_ok else "f"
    for i, leaf in enumerate(leaves):
        kind = type(leaf)
        if not holomorphic and (kind is float or (kind in _ARRAYS and leaf.dtype.kind == "f")):
            continue
        path = tree.keystr(tree.flatten_with_path(chosen)[0][i][0])
        try:
            aval = aval_of(leaf)
        except NotAnArrayError:
            raise NotAnArrayError.of(leaf, path, f"{name}: a leaf of its argument") from None
        if aval.dtype.kind in allowed:
            continue
        where = f" at {path}" if path else ""
        if holomorphic:
            raise at_line(
                GradDtypeError,
                f"{name} with holomorphic=True needs complex arguments, got {aval}{where}; pass "
                "x.astype(complex)",
            )
        raise at_line(
            GradDtypeError,
            f"{name} needs float arguments, got {aval}{where}: a derivative by "
            f"{aval.dtype.name} is not defined. Pass floats (3.0 instead of 3, "
            "x.astype(float)), or choose other argnums",
        )
