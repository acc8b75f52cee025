"""Whether `update` is called as `update(grads, state, params)`.

Gradients and parameters have one structure, so exchanging them is an error nowhere else.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, cast

import funcgrad as fg
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad_nn.parameters import State, expect_parameters, trainable

Init = Callable[[Any], Any]
Update = Callable[[Any, Any, Any], tuple[Any, Any]]

_MISSING: Any = object()
_ORDER = (
    "Call params, state = optimizer.update(grads, state, params), with grads = fg.grad(loss_fn)"
    "(params)."
)


def in_order(name: str, init: Init, update: Update) -> tuple[Init, Update]:
    """An optimiser's two functions, which tell arguments that stand in another order."""
    known = _Known()

    def checked_init(params: Any = _MISSING) -> Any:
        if params is _MISSING:
            raise ArgumentError(
                f"{name}: init takes the parameters: state = optimizer.init(params), with "
                "params = model.init(seed, input_shape)."
            )
        expect_parameters(f"{name}: init", params)
        state = init(params)
        known.keep(params)
        return state

    def checked_update(
        grads: Any = _MISSING, state: Any = _MISSING, params: Any = _MISSING
    ) -> tuple[Any, Any]:
        if params is _MISSING:
            given = [one is not _MISSING for one in (grads, state, params)]
            raise ArgumentError(
                f"{name}: update takes gradients, state and parameters, got {sum(given)} of the "
                f"three. {_ORDER}"
            )
        expect_parameters(f"{name}: update", params)
        if known.exchanged(grads, params) or _taken_at_first(grads, params):
            raise ArgumentError(
                f"{name}: update's first argument are the parameters, and its third the gradients: "
                f"they stand the other way round. {_ORDER}"
            )
        moved, state = update(grads, state, params)
        known.keep(moved)
        return moved, state

    return checked_init, checked_update


class _Known:
    """The first array of what were the parameters in an optimiser's last call."""

    def __init__(self) -> None:
        self._last: weakref.ref[Any] | None = None

    def keep(self, params: Any) -> None:
        # Neither tracers nor numbers can be referred to, nor are they the same object again.
        with contextlib.suppress(TypeError):
            self._last = weakref.ref(_first(params))

    def exchanged(self, first: Any, third: Any) -> bool:
        """Whether the first are these very parameters, and the third other arrays, as gradients
        are."""
        if self._last is None or (kept := self._last()) is None or _first(first) is not kept:
            return False
        (ones, form), (others, other_form) = (tree.flatten(trainable(t)) for t in (first, third))
        return (
            form == other_form
            and {id(leaf) for leaf in ones}.isdisjoint(map(id, others))
            and list(map(_kind, ones)) == list(map(_kind, others))
        )


def _taken_at_first(first: Any, third: Any) -> bool:
    """Whether the third are gradients that were taken at the first."""
    if fg.gradient_point(_first(third)) is None:
        return False
    points, leaves = [fg.gradient_point(leaf) for leaf in _leaves(third)], _leaves(first)
    return len(leaves) == len(points) and all(
        point is None or point is leaf for point, leaf in zip(points, leaves, strict=True)
    )


def _first(params: Any) -> Any:
    """One of the leaves, of equal structures at the same place; None if there is none.

    A look at it alone is cheap, and tells nearly always that nothing was exchanged.
    """
    parts: list[Any]
    if isinstance(params, dict):
        found = cast(dict[Any, Any], params)
        parts = [found[name] for name in sorted(found)]
    elif isinstance(params, (tuple, list)):
        parts = [*cast(list[Any], params)]
    else:
        return None if isinstance(params, State) else params
    return next((leaf for part in parts if (leaf := _first(part)) is not None), None)


def _kind(leaf: Any) -> Any:
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", None)


def _leaves(params: Any) -> list[Any]:
    return tree.leaves(trainable(params))
