"""Parameters that a layer declares, by their shapes and initialisers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from funcgrad.errors import ArgumentError

from .init import Initializer

_UNGIVEN: Any = None


@dataclass(frozen=True)
class Parameter:
    """Declares a layer's own parameter: its shape, and what draws it.

    Args:
        shape: a tuple of integers and names of the layer's fields, or one of these.
        init: draws it, such as ``nn.init.ones()``.

    >>> class Scale(nn.Layer):
    ...     size: int
    ...     scale = nn.Parameter("size", nn.init.ones())
    ...
    ...     def apply(self, params, x):
    ...         return x * params["scale"]
    >>> Scale(3).init(0, 3)
    {'scale': array([1., 1., 1.], dtype=float32)}
    """

    shape: int | str | tuple[int | str, ...]
    init: Initializer = _UNGIVEN

    def __post_init__(self) -> None:
        given: Any = self.shape
        sizes: Any = given if is_sequence(given) else (given,)
        if not all(isinstance(n, (int, np.integer, str)) for n in sizes):
            what = f"an array of shape {np.shape(given)}" if is_array(given) else f"{given!r:.60}"
            raise ArgumentError(
                f"nn.Parameter declares a parameter by its shape and what draws it, and was given "
                f"{what}: the arrays are in what init makes. Write nn.Parameter((3, 4), "
                "nn.init.zeros())."
            )
        if not callable(self.init) or (inspect.isfunction(self.init) and _takes_no_key(self.init)):
            name = getattr(self.init, "__name__", "zeros")
            raise ArgumentError(
                f"nn.Parameter({given!r}, ...) takes what draws the parameter as its second "
                f"argument: nn.Parameter({given!r}, nn.init.{name}())."
            )
        if type(given) is list:
            object.__setattr__(self, "shape", tuple(sizes))

    def shape_in(self, layer: Any) -> tuple[int, ...]:
        """The shape in a layer, with its fields in the places of their names."""
        sizes = self.shape if isinstance(self.shape, tuple) else (self.shape,)
        return tuple([getattr(layer, n) if isinstance(n, str) else n for n in sizes])


def _takes_no_key(function: Any) -> bool:
    """Whether it makes initialisers rather than is one: ``nn.init.zeros`` without parentheses."""
    return function.__module__ == Initializer.__module__


def declared(layer: Any) -> dict[str, Parameter]:
    """The parameters that a layer's class, its bases and its ``__init__`` declare."""
    found: dict[str, Parameter] = {}
    for owner in (*reversed(type(layer).__mro__), layer):
        found |= {n: value for n, value in vars(owner).items() if isinstance(value, Parameter)}
    return found


def is_sequence(obj: object) -> TypeGuard[tuple[Any, ...] | list[Any]]:
    """Whether this is a tuple or a list."""
    return isinstance(obj, (tuple, list))


def is_array(value: Any) -> bool:
    """Whether it has axes: others are numbers, and may be options."""
    return hasattr(value, "dtype") and bool(getattr(value, "shape", ()))
