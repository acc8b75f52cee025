"""Which arguments a derivative is taken by, and whether one can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.errors import ArgumentError, GradDtypeError, NotAnArrayError, at_line

Argnums = int | Sequence[int]


def select_arguments(args: tuple[Any, ...], argnums: Argnums, name: str) -> Any:
    """The arguments a transformation works on, and a function that puts new ones in place.

    Raises:
        ArgumentError: there is no such argument.
    """
    n = len(args)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in numbers:
        if not isinstance(i, int) or not -n <= i < n:
            raise at_line(
                ArgumentError,
                f"{name}: argnums={argnums!r}, but the call has {n} positional argument"
                f"{'' if n == 1 else 's'}; argnums counts them from 0, and keyword arguments "
                "cannot be chosen",
            )
    if isinstance(argnums, int):
        chosen: Any = args[argnums]
        position = argnums % n

        def place(new: Any) -> tuple[Any, ...]:
            return (*args[:position], new, *args[position + 1 :])

        return chosen, place

    def place_all(new: Sequence[Any]) -> tuple[Any, ...]:
        full = list(args)
        for i, value in zip(numbers, new, strict=True):
            full[i] = value
        return tuple(full)

    return tuple(args[i] for i in numbers), place_all


def check_differentiable(
    chosen: Any, leaves: Sequence[Any], name: str, complex_ok: bool = True
) -> None:
    for i, leaf in enumerate(leaves):
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and dtype.kind == "f":
            continue
        if type(leaf) is float:
            continue
        path = tree.keystr(tree.flatten_with_path(chosen)[0][i][0])
        try:
            aval = aval_of(leaf)
        except NotAnArrayError:
            raise NotAnArrayError.of(leaf, path, f"{name}: a leaf of its argument") from None
        if aval.dtype.kind == "c" and complex_ok:
            continue
        where = f" at {path}" if path else ""
        raise at_line(
            GradDtypeError,
            f"{name} needs float arguments, got {aval}{where}: a derivative by a "
            f"{aval.dtype.name} is not defined. Pass floats (3.0 instead of 3, "
            "x.astype(float)), or choose other argnums",
        )
