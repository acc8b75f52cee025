"""Steps along the gradients, or along their signs: SGD, Lion, Rprop."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as fnp
from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad_nn._numbers import checked, like, refuse_complex, widen
from funcgrad_nn.parameters import Where

from ._base import (
    Optimizer,
    Params,
    advance,
    check_state,
    checked_kept,
    checked_rate,
    decay_of,
    described,
    kept,
    made,
    mixed,
    move,
    no_steps,
    slopes_of,
    zeros,
)

__all__ = ["LionState", "RpropState", "SGDState", "lion", "rprop", "sgd"]


class SGDState(NamedTuple):
    """The state of :func:`sgd`.

    Attributes:
        step: the number of updates made, an integer array; None if the rate is a number and
            nothing is damped.
        velocity: a pytree like the parameters; None without momentum.

    >>> nn.sgd(0.1).init({"w": np.zeros(2)})
    SGDState(step=None, velocity=None)
    """

    step: Any
    velocity: Any


@described
def sgd(
    learning_rate: Any,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """Stochastic gradient descent, with the meaning PyTorch's ``SGD`` gives to its options.

    With gradient g, parameter p and velocity v, which is g after the first update::

        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g
        d = g + momentum * v  if nesterov else  v
        p = p - learning_rate * d

    I. Sutskever et al. (2013), *On the importance of initialization and momentum in deep
    learning*; unlike there, the rate multiplies the velocity and is not part of it.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        momentum: not negative.
        nesterov: whether to look ahead by one more step of the velocity; needs momentum.
        weight_decay: not negative.
        dampening: of the gradients in the velocity; not with nesterov.
        decay: which parameters decay: a pattern of their paths such as ``"*.weight"``, or a
            function of path and array; by default all.

    Returns:
        The optimiser; its state is an :class:`SGDState`. Parameters keep their dtypes.

    Raises:
        ArgumentError: an option is out of range; (``update``) the arguments are in another order.
        TreeMismatchError: (``update``) gradients or state have another structure than the
            parameters.
        ShapeError: (``update``) a gradient, or its part of the state, has another shape than its
            parameter.
        GradDtypeError: (``update``) a gradient is complex, its parameter is not.
        OperandTypeError: a parameter is an array of integers, which cannot be moved in steps.

    >>> optimizer = nn.sgd(0.5)
    >>> params = {"w": np.array([1.0, 2.0], np.float32)}
    >>> optimizer.update({"w": np.array([1.0, -1.0])}, optimizer.init(params), params)[0]
    {'w': array([0.5, 2.5], dtype=float32)}
    """
    rate = checked_rate("sgd", learning_rate)
    momentum = checked("sgd", "momentum", momentum, 0)
    dampening = checked("sgd", "dampening", dampening, 0)
    decays = decay_of("sgd", weight_decay, decay)
    if nesterov and (not momentum or dampening):
        raise ArgumentError(
            "sgd: nesterov=True needs momentum, such as momentum=0.9, and no dampening"
        )
    counted = callable(rate) or bool(momentum and dampening)

    def init(params: Params) -> SGDState:
        return SGDState(
            step=no_steps() if counted else None,
            velocity=tree.map(zeros, params) if momentum else None,
        )

    def update(grads: Params, state: SGDState, params: Params) -> tuple[Params, SGDState]:
        slopes = slopes_of(params, grads, decays(params))
        if momentum:
            check_state(params, state.velocity)
        share = fnp.where(state.step == 0, 1.0, 1.0 - dampening) if momentum and dampening else 1
        now, step = advance(rate, state.step)

        def moved(p: Any, d: Any, v: Any) -> tuple[Any, Any]:
            if momentum:
                v = (like(share, d) * d if dampening else d) + momentum * v
                d = d + momentum * v if nesterov else v
            return kept(widen(p) - like(now, p) * d, p), v

        params, velocity = move(moved, params, (slopes,), state.velocity)
        return params, SGDState(step, velocity)

    return made("sgd", SGDState, init, update)


class LionState(NamedTuple):
    """The state of :func:`lion`.

    Attributes:
        step: the number of updates made, an integer array.
        mean: running means of the gradients, a pytree like the parameters.

    >>> nn.lion().init(np.zeros(2, np.float32)).mean
    array([0., 0.], dtype=float32)
    """

    step: Any
    mean: Any


@described
def lion(
    learning_rate: Any = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """Lion: steps of one size, along the signs of mixed means and gradients.

    With gradient g, parameter p and mean m, which begins as 0::

        d = sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
        p = p - learning_rate * (d + weight_decay * p)

    X. Chen et al. (2023), *Symbolic Discovery of Optimization Algorithms*; as optax's ``lion``.
    Rates are 3 to 10 times lower than those of AdamW, decays as many times higher.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        beta1: how much of the mean is in the step, from 0 to below 1.
        beta2: how much of the mean is kept, from 0 to below 1.
        weight_decay, decay: as for :func:`adamw`.

    Returns:
        The optimiser; its state is a :class:`LionState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.
        OperandTypeError: also for complex parameters.

    >>> optimizer = nn.lion(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0]
    array([0.9, 2.1])
    """
    rate = checked_rate("lion", learning_rate)
    beta1, beta2 = checked_kept("lion", "beta1", beta1), checked_kept("lion", "beta2", beta2)
    decays = decay_of("lion", weight_decay, decay)

    def init(params: Params) -> LionState:
        return LionState(no_steps(), tree.map(zeros, params))

    def update(grads: Params, state: LionState, params: Params) -> tuple[Params, LionState]:
        refuse_complex("lion", *tree.leaves(params))
        slopes = slopes_of(params, grads)
        check_state(params, state.mean)
        now, step = advance(rate, state.step)

        def moved(p: Any, g: Any, decay: float, m: Any) -> tuple[Any, Any]:
            wide, direction = widen(p), np.sign(mixed(beta1, m, g))
            direction = direction + decay * wide if decay else direction
            return kept(wide - like(now, p) * direction, p), mixed(beta2, m, g)

        params, mean = move(moved, params, (slopes, decays(params)), state.mean)
        return params, LionState(step, mean)

    return made("lion", LionState, init, update)


class RpropState(NamedTuple):
    """The state of :func:`rprop`.

    Attributes:
        step: the number of updates made, an integer array.
        size: the sizes of the steps, a pytree like the parameters.
        before: the gradients of the update before.

    >>> nn.rprop(0.1).init(np.zeros(2)).size
    array([0.1, 0.1])
    """

    step: Any
    size: Any
    before: Any


@described
def rprop(
    learning_rate: Any = 1e-2,
    shrink: float = 0.5,
    grow: float = 1.2,
    min_step: float = 1e-6,
    max_step: float = 50.0,
) -> Optimizer:
    """Resilient backpropagation, for full batches: each number has a step size of its own.

    It grows where the gradient keeps its sign; where the sign turns, it shrinks, and the step is
    left out. M. Riedmiller, H. Braun (1993), *A direct adaptive method for faster backpropagation
    learning*; as PyTorch's ``Rprop``, whose ``etas`` are `shrink` and `grow`, ``step_sizes``
    `min_step` and `max_step`.

    Args:
        learning_rate: the size of the first steps, a number, array or tracer.
        shrink: from 0 to 1.
        grow: 1 or more.
        min_step, max_step: between what the sizes stay.

    Returns:
        The optimiser; its state is an :class:`RpropState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.
        OperandTypeError: also for complex parameters.

    >>> optimizer = nn.rprop(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0]
    array([0.9, 2.1])
    """
    rate = checked_rate("rprop", learning_rate)
    if callable(rate):
        raise ArgumentError("rprop: learning_rate is the size of the first steps, no schedule")
    shrink = checked("rprop", "shrink", shrink, 0, 1)
    grow = checked("rprop", "grow", grow, 1)
    low, high = (
        checked("rprop", "min_step", min_step, 0),
        checked("rprop", "max_step", max_step, 0),
    )

    def begun(leaf: Any) -> Any:
        return zeros(leaf) + like(advance(rate, None)[0], leaf)

    def init(params: Params) -> RpropState:
        return RpropState(no_steps(), tree.map(begun, params), tree.map(zeros, params))

    def update(grads: Params, state: RpropState, params: Params) -> tuple[Params, RpropState]:
        refuse_complex("rprop", *tree.leaves(params))
        slopes = slopes_of(params, grads)
        check_state(params, state.size, state.before)

        def moved(p: Any, g: Any, size: Any, before: Any) -> tuple[Any, Any, Any]:
            # The product of the gradients themselves may underflow.
            turn = np.sign(g) * np.sign(before)
            size = fnp.where(turn > 0, size * grow, fnp.where(turn < 0, size * shrink, size))
            size = np.clip(size, low, high)
            g = fnp.where(turn < 0, 0, g)
            return kept(widen(p) - np.sign(g) * size, p), size, g

        params, size, before = move(moved, params, (slopes,), state.size, state.before)
        return params, RpropState(state.step + 1, size, before)

    return made("rprop", RpropState, init, update)
