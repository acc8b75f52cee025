"""Optimisers of optimisers: clipped or added gradients, averages, other options in other places.

Each takes an optimiser first and gives one, so that they can be nested; the outermost sees the
gradients first:

>>> nn.clip_by_global_norm(nn.freeze(nn.adamw(1e-3), "0.*"), 1.0)
clip_by_global_norm(freeze(adamw(learning_rate=0.001), where='0.*'), max_norm=1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad_nn._numbers import checked, like, narrow, refuse_complex, squared_size, widen
from funcgrad_nn.parameters import (
    Where,
    beside_states,
    chosen,
    named_leaves,
    only,
    replaced,
    trainable,
    with_trainable,
)

from ._base import (
    Optimizer,
    Params,
    check_state,
    checked_count,
    checked_kept,
    described,
    kept,
    made,
    no_steps,
    norm,
    zeros,
)

__all__ = [
    "AccumulateState",
    "EMAState",
    "accumulate",
    "averaged",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "ema",
    "freeze",
    "groups",
    "polyak",
]


# -- Clipping ------------------------------------------------------------------------------------


@described
def clip_by_global_norm(optimizer: Optimizer, max_norm: float) -> Optimizer:
    """Scales all gradients down together where their norm, as one vector, is above a limit.

    As PyTorch's ``clip_grad_norm_``. R. Pascanu et al. (2013), *On the difficulty of training
    recurrent neural networks*.

    Args:
        optimizer: what takes the scaled gradients; the state is its state.
        max_norm: not negative.

    Raises:
        ArgumentError: the first argument is no optimiser, or the norm is negative.

    >>> optimizer = nn.clip_by_global_norm(nn.sgd(1.0), 1.0)
    >>> params = {"w": np.zeros(2), "b": np.zeros(1)}
    >>> grads = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    >>> optimizer.update(grads, optimizer.init(params), params)[0]
    {'b': array([-0.8]), 'w': array([-0.6,  0. ])}
    """
    limit = checked("clip_by_global_norm", "max_norm", max_norm, 0)

    def clip(grads: Params) -> Params:
        sizes = [np.sum(squared_size(widen(g))) for g in tree.leaves(grads)]
        factor = _down_to(limit, np.sqrt(sum(sizes)))

        def scaled(grad: Any) -> Any:
            return widen(grad) * like(factor, grad)

        return tree.map(scaled, grads)

    return _before("clip_by_global_norm", optimizer, clip)


@described
def clip_by_norm(optimizer: Optimizer, max_norm: float) -> Optimizer:
    """Scales each array of gradients down where its own norm is above a limit.

    Args, errors: as for :func:`clip_by_global_norm`.

    >>> optimizer = nn.clip_by_norm(nn.sgd(1.0), 1.0)
    >>> params = {"w": np.zeros(2), "b": np.zeros(1)}
    >>> grads = {"w": np.array([3.0, 4.0]), "b": np.array([0.5])}
    >>> optimizer.update(grads, optimizer.init(params), params)[0]
    {'b': array([-0.5]), 'w': array([-0.6, -0.8])}
    """
    limit = checked("clip_by_norm", "max_norm", max_norm, 0)

    def clip(grad: Any) -> Any:
        wide = widen(grad)
        return wide * _down_to(limit, norm(wide))

    return _before("clip_by_norm", optimizer, lambda grads: tree.map(clip, grads))


def _down_to(limit: float, size: Any) -> Any:
    above = size > limit
    return fnp.where(above, limit / fnp.where(above, size, 1.0), 1.0)


@described
def clip_by_value(optimizer: Optimizer, limit: float) -> Optimizer:
    """Each number in the gradients goes through ``np.clip(g, -limit, limit)``.

    As PyTorch's ``clip_grad_value_``.

    Args:
        optimizer: what takes the clipped gradients; the state is its state.
        limit: not negative.

    Raises:
        ArgumentError: the first argument is no optimiser, or the limit is negative.
        OperandTypeError: (``update``) complex gradients.

    >>> optimizer = nn.clip_by_value(nn.sgd(1.0), 1.0)
    >>> params = np.zeros(2)
    >>> optimizer.update(np.array([3.0, -0.5]), optimizer.init(params), params)[0]
    array([-1. ,  0.5])
    """
    limit = checked("clip_by_value", "limit", limit, 0)

    def clip(grad: Any) -> Any:
        refuse_complex("clip_by_value", grad)
        return np.clip(grad, -limit, limit)

    return _before("clip_by_value", optimizer, lambda grads: tree.map(clip, grads))


def _before(name: str, optimizer: Optimizer, change: Callable[[Params], Params]) -> Optimizer:
    inner = _checked(name, optimizer)

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        return inner.update(change(grads), state, params)

    return Optimizer(*beside_states(inner.init, update))


def _checked(name: str, optimizer: Any) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    raise ArgumentError(
        f"{name}: the first argument must be an optimiser, such as nn.adam(1e-3), not "
        f"{optimizer!r:.60}"
    )


# -- Accumulation --------------------------------------------------------------------------------


class AccumulateState(NamedTuple):
    """The state of :func:`accumulate`.

    Attributes:
        count: how many gradients are in the total, an integer array.
        total: their sum, a pytree like the parameters.
        inner: the state of the optimiser within.

    >>> nn.accumulate(nn.sgd(0.1), 4).init(np.zeros(2)).total
    array([0., 0.])
    """

    count: Any
    total: Any
    inner: Any


@described
def accumulate(optimizer: Optimizer, steps: int) -> Optimizer:
    """Moves the parameters at each k-th update, by the mean of the last k gradients.

    So k batches have the effect of one that is k times larger. Schedules count moves.

    Args:
        optimizer: what moves the parameters.
        steps: k, 1 or more.

    Returns:
        The optimiser; its state is an :class:`AccumulateState`.

    Raises:
        ArgumentError: the first argument is no optimiser, or k no positive integer.

    >>> optimizer = nn.accumulate(nn.sgd(1.0), 2)
    >>> params = np.zeros(2)
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(np.array([1.0, 2.0]), state, params)
    >>> params
    array([0., 0.])
    >>> params, state = optimizer.update(np.array([3.0, 2.0]), state, params)
    >>> params
    array([-2., -2.])
    """
    inner, steps = _checked("accumulate", optimizer), checked_count("accumulate", "steps", steps)

    def init(params: Params) -> AccumulateState:
        return AccumulateState(no_steps(), tree.map(zeros, params), inner.init(params))

    def update(
        grads: Params, state: AccumulateState, params: Params
    ) -> tuple[Params, AccumulateState]:
        check_state(params, state.total)
        total = tree.map(_added, state.total, grads)
        count = state.count + 1

        def share(part: Any) -> Any:
            return part / steps

        def moved(total: Params, within: Any, params: Params) -> Any:
            mean = tree.map(share, total)
            params, within = inner.update(mean, within, params)
            return params, within, tree.map(np.zeros_like, total)

        def stays(total: Params, within: Any, params: Params) -> Any:
            return params, within, total

        full = count == steps
        params, within, total = fg.cond(full, moved, stays, total, state.inner, params)
        return params, AccumulateState(fnp.where(full, 0, count), total, within)

    return made("accumulate", AccumulateState, init, update)


def _added(total: Any, grad: Any) -> Any:
    return total + narrow(grad, total.dtype)


# -- Averages of the parameters ------------------------------------------------------------------


class EMAState(NamedTuple):
    """The state of :func:`ema` and :func:`polyak`.

    Attributes:
        step: the number of updates made, an integer array.
        average: that of the parameters, a pytree like these; float32 for float16. At first they
            themselves.
        inner: the state of the optimiser within.

    >>> nn.ema(nn.sgd(0.1)).init(np.ones(2)).average
    array([1., 1.])
    """

    step: Any
    average: Any
    inner: Any


@described
def ema(optimizer: Optimizer, decay: float = 0.999) -> Optimizer:
    """Keeps an exponential moving average of the parameters beside them, in its state.

    With average a, which is p after the first update: ``a = decay * a + (1 - decay) * p``, as
    PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn(decay)``. Training goes on by the
    parameters themselves; :func:`averaged` puts the average in their places, to evaluate.

    Args:
        optimizer: what moves the parameters.
        decay: how much of the average is kept, from 0 to below 1.

    Returns:
        The optimiser; its state is an :class:`EMAState`.

    Raises:
        ArgumentError: the first argument is no optimiser, or the decay is out of range.

    >>> optimizer = nn.ema(nn.sgd(1.0), 0.5)
    >>> params = np.zeros(1)
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     params, state = optimizer.update(np.ones(1), state, params)
    >>> params, nn.averaged(params, state)
    (array([-2.]), array([-1.5]))
    """
    share = 1 - checked_kept("ema", "decay", decay)
    return _averaging("ema", optimizer, lambda step: fnp.where(step == 0, 1.0, share))


@described
def polyak(optimizer: Optimizer) -> Optimizer:
    """Keeps the mean of the parameters after all updates beside them, in its state.

    B. Polyak, A. Juditsky (1992), *Acceleration of Stochastic Approximation by Averaging*; as
    PyTorch's ``AveragedModel``. See :func:`ema`.

    >>> optimizer = nn.polyak(nn.sgd(1.0))
    >>> params = np.zeros(1)
    >>> state = optimizer.init(params)
    >>> for _ in range(3):
    ...     params, state = optimizer.update(np.ones(1), state, params)
    >>> params, nn.averaged(params, state)
    (array([-3.]), array([-2.]))
    """
    return _averaging("polyak", optimizer, lambda step: 1.0 / (step + 1))


def _averaging(name: str, optimizer: Optimizer, share_at: Callable[[Any], Any]) -> Optimizer:
    inner = _checked(name, optimizer)

    def begun(leaf: Any) -> Any:
        # A copy: parameters that are donated are overwritten.
        return widen(leaf) + zeros(leaf)

    def init(params: Params) -> EMAState:
        return EMAState(no_steps(), tree.map(begun, params), inner.init(params))

    def update(grads: Params, state: EMAState, params: Params) -> tuple[Params, EMAState]:
        check_state(params, state.average)
        params, within = inner.update(grads, state.inner, params)
        share = share_at(state.step)

        def mix(average: Any, p: Any) -> Any:
            return average + like(share, p) * (widen(p) - average)

        average = tree.map(mix, state.average, params)
        return params, EMAState(state.step + 1, average, within)

    return made(name, EMAState, init, update)


def averaged(params: Params, state: EMAState) -> Params:
    """The parameters with their averages in their places; states are those given.

    Args:
        params: the parameters.
        state: that of :func:`ema` or :func:`polyak`. Where these are within another optimiser,
            pass their part of its state, such as ``state.inner``.

    Raises:
        ArgumentError: the state is another.

    >>> optimizer = nn.polyak(nn.sgd(1.0))
    >>> params = np.zeros(1)
    >>> nn.averaged(params, optimizer.init(params))
    array([0.])
    """
    if not isinstance(state, EMAState):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(
            f"averaged: takes the state of nn.ema or nn.polyak, not a {type(state).__name__}. Call "
            "averaged(params, state); where they are within another optimiser, with state.inner."
        )

    def in_dtype(leaf: Any, average: Any) -> Any:
        return kept(average, leaf)

    alone = tree.map(in_dtype, trainable(params), state.average)
    return with_trainable(params, alone)


# -- Some of the parameters ----------------------------------------------------------------------


@described
def freeze(optimizer: Optimizer, where: Where) -> Optimizer:
    """Leaves some parameters as they are; the optimiser within never sees them.

    Args:
        optimizer: what moves the others.
        where: which stay: a pattern of their paths, as :func:`named_parameters` writes them, such
            as ``"0.*"`` or ``"*.bias"``; or a function of path and array, ``(path, leaf) -> bool``.

    Returns:
        The optimiser; its state is that of the one within, with empty nodes for what stays.

    Raises:
        ArgumentError: the first argument is no optimiser; no path fits the pattern.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> params = model.init(0, 2)
    >>> optimizer = nn.freeze(nn.sgd(0.1), "0.*")
    >>> grads = fg.tree.map(np.ones_like, params)
    >>> moved, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> [bool(np.any(moved[i]["weight"] != params[i]["weight"])) for i in range(2)]
    [False, True]
    """
    inner = _checked("freeze", optimizer)

    def moving(params: Params) -> list[bool]:
        return [not one for one in chosen("freeze", params, where)]

    def init(params: Params) -> Any:
        return inner.init(only(params, moving(params)))

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        return _part(inner, moving(params), grads, state, params)

    return Optimizer(*beside_states(init, update))


def _part(
    inner: Optimizer, mask: list[bool], grads: Params, state: Any, params: Params
) -> tuple[Params, Any]:
    tree.map(_nothing, params, grads)
    moved, state = inner.update(only(grads, mask), state, only(params, mask))
    return replaced(params, mask, moved), state


def _nothing(leaf: Any, grad: Any) -> None:
    """Visits both, so that trees that differ are an error."""


@described
def groups(optimizers: Mapping[Where, Optimizer]) -> Optimizer:
    """Other optimisers, or other options, in other places of the parameters.

    Args:
        optimizers: by the parameters that each moves: patterns of paths, or functions of path and
            array, as for :func:`freeze`. A parameter belongs to the first that chooses it.

    Returns:
        The optimiser; its state is a tuple of theirs.

    Raises:
        ArgumentError: a parameter belongs to none, or a pattern fits no path.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> params = model.init(0, 2)
    >>> optimizer = nn.groups({"*.bias": nn.sgd(0.1), "*": nn.adamw(1e-3)})
    >>> optimizer
    groups({'*.bias': sgd(learning_rate=0.1), '*': adamw(learning_rate=0.001)})
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(fg.tree.map(np.ones_like, params), state, params)
    >>> [type(part).__name__ for part in state]
    ['SGDState', 'AdamState']
    """
    if not isinstance(optimizers, Mapping) or not optimizers:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(
            "groups: takes a dict of optimisers by the parameters that they move, such as "
            "{'*.bias': nn.sgd(0.1), '*': nn.adam(1e-3)}"
        )
    inner = [_checked("groups", one) for one in optimizers.values()]

    def masks(params: Params) -> list[list[bool]]:
        named = named_leaves(params)
        free, found = [True] * len(named), list[list[bool]]()
        for where in optimizers:
            chose = chosen("groups", params, where)
            found.append([one and left for one, left in zip(chose, free, strict=True)])
            free = [left and not one for one, left in zip(chose, free, strict=True)]
        if any(free):
            paths = [path for (path, _), left in zip(named, free, strict=True) if left]
            raise ArgumentError(
                f"groups: no optimiser is for {', '.join(map(repr, paths))}. Add one for what is "
                "left, '*': nn.adam(1e-3), or nn.sgd(0.0) to leave it as it is."
            )
        return found

    def init(params: Params) -> Any:
        return tuple(
            [one.init(only(params, mask)) for one, mask in zip(inner, masks(params), strict=True)]
        )

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        states = list[Any]()
        for one, mask, part in zip(inner, masks(params), state, strict=True):
            params, part = _part(one, mask, grads, part, params)
            states.append(part)
        return params, tuple(states)

    return made("groups", tuple, init, update)
