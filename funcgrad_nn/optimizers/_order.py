"""Whether `update` is called as `update(grads, state, params)`.

Gradients and parameters have one structure, so exchanging them is an error nowhere else.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import funcgrad as fg
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad_nn.parameters import expect_parameters, trainable

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
    """The arrays that were the parameters in an optimiser's last call."""

    def __init__(self) -> None:
        self._last: dict[int, weakref.ref[Any]] = {}

    def keep(self, params: Any) -> None:
        # Neither tracers nor numbers can be referred to, nor are they the same object again.
        with contextlib.suppress(TypeError):
            self._last = {id(leaf): weakref.ref(leaf) for leaf in _leaves(params)}

    def exchanged(self, first: Any, third: Any) -> bool:
        """Whether the first are these very arrays, and the third others, as gradients are."""
        if first is third or not self._last:
            return False
        ones, others = _leaves(first), _leaves(third)
        return (
            bool(ones)
            and all(map(self._has, ones))
            and not any(map(self._has, others))
            and list(map(_kind, ones)) == list(map(_kind, others))
            and tree.structure(trainable(first)) == tree.structure(trainable(third))
        )

    def _has(self, leaf: Any) -> bool:
        found = self._last.get(id(leaf))
        return found is not None and found() is leaf


def _taken_at_first(first: Any, third: Any) -> bool:
    """Whether the third are gradients that were taken at the first."""
    points = [fg.gradient_point(leaf) for leaf in _leaves(third)]
    if all(point is None for point in points):
        return False
    leaves = _leaves(first)
    return len(leaves) == len(points) and all(
        point is None or point is leaf for point, leaf in zip(points, leaves, strict=True)
    )


def _kind(leaf: Any) -> Any:
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", None)


def _leaves(params: Any) -> list[Any]:
    return tree.leaves(trainable(params))
