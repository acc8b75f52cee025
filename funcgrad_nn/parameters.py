"""The tree of a model's parameters: their names and number, and states beside them.

Statistics that batch normalisation gathers are of use in every evaluation, so they are part of the
tree of parameters, ``model(params, x)`` needs nothing else, and they are saved with it. But they
are no parameters: they have no derivatives, and no optimiser moves, decays or counts them. A
:class:`State` in the tree says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, dataclass_transform

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError

from .module import Layer

__all__ = ["State", "named_parameters", "num_parameters", "trainable"]

Params = Any
Where = str | Callable[[str, Any], bool]
"""Which parameters: a pattern of their paths, such as ``"*.bias"``, or ``(path, leaf) -> bool``."""


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class State:
    """Base of a layer's state: a node of the parameters' tree that optimisers leave alone.

    Subclasses become frozen dataclasses by themselves; their fields are arrays. A layer makes one
    in ``init_params`` and renews it in ``apply_training``:

    >>> class Mean(nn.State):
    ...     value: np.ndarray
    >>> class Centred(nn.Layer):
    ...     def init_params(self, key, input_shape, dtype):
    ...         return {"mean": Mean(np.zeros(input_shape, dtype))}
    ...
    ...     def apply(self, params, x):
    ...         return x - params["mean"].value
    ...
    ...     def apply_training(self, params, x, key):
    ...         mean = fg.stop_gradient(np.mean(x, axis=0))
    ...         value = 0.9 * params["mean"].value + 0.1 * mean
    ...         return x - mean, {"mean": Mean(value)}
    >>> layer = Centred()
    >>> y, params = layer.train(layer.init(0, 2), np.ones((4, 2), np.float32))
    >>> params
    {'mean': Mean(value=array([0.1, 0.1], dtype=float32))}
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, eq=False)(cls)


class _NoState(State):
    """Stands in a tree where a state was."""


def is_state(part: Any) -> bool:
    """Whether a part of a tree is a state."""
    return isinstance(part, State)


def expect_parameters(name: str, params: Params) -> None:
    """Raise ArgumentError where layers are in the place of their parameters."""
    for leaf in tree.leaves(params):
        if isinstance(leaf, Layer):
            model = type(leaf).__name__
            raise ArgumentError(
                f"{name} takes parameters, and was given a layer, {model}(...), which holds none. "
                "Make them, params = model.init(seed, input_shape), and pass params."
            )


def trainable(params: Params) -> Params:
    """The parameters alone: the tree with an empty node for each state.

    Raises:
        ArgumentError: it is a model, which holds no parameters.

    >>> layer = nn.BatchNorm(2)
    >>> params = layer.init(0, 2)
    >>> len(fg.tree.leaves(params)), len(fg.tree.leaves(nn.trainable(params)))
    (4, 2)
    """
    expect_parameters("trainable", params)
    if not any(map(is_state, tree.leaves(params, is_leaf=is_state))):
        return params
    return tree.map(_without, params, is_leaf=is_state)


def _without(part: Any) -> Any:
    return _NoState() if is_state(part) else part


def num_parameters(params: Params) -> int:
    """The number of numbers in the parameters, states not counted.

    >>> nn.num_parameters(nn.Linear(64, 10).init(0, 64))
    650
    """
    expect_parameters("num_parameters", params)
    return sum(math.prod(np.shape(leaf)) for leaf in tree.leaves(trainable(params)))


def named_parameters(params: Params) -> dict[str, Any]:
    """The parameters by their paths with dots, as PyTorch names them; states are left out.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> for name, array in nn.named_parameters(model.init(0, 4)).items():
    ...     print(name, array.shape)
    0.bias (3,)
    0.weight (4, 3)
    2.bias (2,)
    2.weight (3, 2)
    """
    expect_parameters("named_parameters", params)
    return dict(named_leaves(trainable(params)))


def named_leaves(params: Params) -> list[tuple[str, Any]]:
    """Paths with dots and leaves, in the tree's order."""
    return [
        (".".join(str(plain(key)) for key in path), leaf)
        for path, leaf in tree.flatten_with_path(params)[0]
    ]


def chosen(name: str, params: Params, where: Where) -> list[bool]:
    """Whether each parameter is one of those that a pattern or predicate chooses.

    Raises:
        ArgumentError: it is neither of the two, or a pattern that no path fits.
    """
    named = named_leaves(params)
    if isinstance(where, str):
        found = [fnmatchcase(path, where) for path, _ in named]
        if not any(found):
            paths = ", ".join([repr(path) for path, _ in named[:12]])
            raise ArgumentError(
                f"{name}: no parameter's path fits the pattern {where!r}. There are {paths}"
                f"{', ...' if len(named) > 12 else ''}; * stands for any part of a path."
            )
        return found
    if not callable(where):
        raise ArgumentError(
            f"{name}: which parameters is said by a pattern such as '*.bias', or by a function of "
            f"the path and the array, not by {where!r:.60}"
        )
    return [bool(where(path, leaf)) for path, leaf in named]


def only(params: Params, keep: list[bool]) -> Params:
    """The tree with an empty node for each parameter that is not kept."""
    leaves, treedef = tree.flatten(params)
    return treedef.unflatten(
        [leaf if one else _NoState() for leaf, one in zip(leaves, keep, strict=True)]
    )


def replaced(params: Params, keep: list[bool], new: Params) -> Params:
    """The tree with the leaves of `new`, which has those kept alone, in their places."""
    leaves, treedef = tree.flatten(params)
    rest = iter(tree.leaves(new))
    return treedef.unflatten(
        [next(rest) if one else leaf for leaf, one in zip(leaves, keep, strict=True)]
    )


def plain(key: tree.Key) -> Any:
    """The dict key, attribute name or index in a step of a path."""
    match key:
        case tree.DictKey():
            return key.key
        case tree.AttrKey():
            return key.name
        case tree.SequenceKey() | tree.ChildKey():
            return key.index


def beside_states(
    init: Callable[[Params], Any], update: Callable[[Params, Any, Params], tuple[Params, Any]]
) -> tuple[Any, Any]:
    """An optimiser's two functions for trees with states: it sees the parameters alone."""

    def init_trainable(params: Params) -> Any:
        return init(trainable(params))

    def update_trainable(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        alone = trainable(params)
        if alone is params:
            return update(grads, state, params)
        moved, state = update(trainable(grads), state, alone)
        return with_trainable(params, moved), state

    return init_trainable, update_trainable


def with_trainable(params: Params, alone: Params) -> Params:
    """The tree with other parameters, and its own states."""
    return tree.map(_either, params, alone, is_leaf=is_state)


def _either(before: Any, moved: Any) -> Any:
    return before if is_state(before) else moved
