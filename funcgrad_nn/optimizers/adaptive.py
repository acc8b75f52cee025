"""Steps over roots of sums or means of squared gradients: RMSprop, Adagrad, Adadelta, Adafactor."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError
from funcgrad_nn._numbers import checked, like, refuse_complex, squared_size, widen
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
    squares,
    zeros,
)

__all__ = [
    "AdadeltaState",
    "AdafactorState",
    "AdagradState",
    "RMSpropState",
    "adadelta",
    "adafactor",
    "adagrad",
    "rmsprop",
]


class RMSpropState(NamedTuple):
    """The state of :func:`rmsprop`.

    Attributes:
        step: the number of updates made, an integer array.
        square: running means of the gradients' squares, a pytree like the parameters.
        mean: running means of the gradients; None if not centred.
        velocity: None without momentum.

    >>> nn.rmsprop().init(np.zeros(2))
    RMSpropState(step=array(0), square=array([0., 0.]), mean=None, velocity=None)
    """

    step: Any
    square: Any
    mean: Any
    velocity: Any


@described
def rmsprop(
    learning_rate: Any = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    decay: Where | None = None,
) -> Optimizer:
    """RMSprop, with the meaning PyTorch's ``RMSprop`` gives to its options.

    With gradient g, parameter p, mean of squares s and velocity v, which begin as 0::

        g = g + weight_decay * p
        s = alpha * s + (1 - alpha) * g**2
        v = momentum * v + g / (sqrt(s) + eps)
        p = p - learning_rate * v

    T. Tieleman, G. Hinton (2012), *Lecture 6.5* of *Neural Networks for Machine Learning*.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        alpha: how much of the mean of squares is kept, from 0 to below 1.
        eps: added to the root of the mean.
        weight_decay: times the parameters, added to the gradients.
        momentum: not negative.
        centered: whether the gradients' mean, squared, is subtracted from the squares' mean.
        decay: which parameters decay, as for :func:`sgd`.

    Returns:
        The optimiser; its state is an :class:`RMSpropState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.

    >>> optimizer = nn.rmsprop(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0., 3.])
    """
    rate, alpha = checked_rate("rmsprop", learning_rate), checked_kept("rmsprop", "alpha", alpha)
    eps = checked("rmsprop", "eps", eps, 0)
    momentum = checked("rmsprop", "momentum", momentum, 0)
    decays = decay_of("rmsprop", weight_decay, decay)

    def init(params: Params) -> RMSpropState:
        return RMSpropState(
            step=no_steps(),
            square=tree.map(squares, params),
            mean=tree.map(zeros, params) if centered else None,
            velocity=tree.map(zeros, params) if momentum else None,
        )

    def update(grads: Params, state: RMSpropState, params: Params) -> tuple[Params, RMSpropState]:
        slopes = slopes_of(params, grads, decays(params))
        check_state(params, state.square, state.mean, state.velocity)
        now, step = advance(rate, state.step)

        def moved(p: Any, g: Any, s: Any, m: Any, v: Any) -> tuple[Any, ...]:
            s = mixed(alpha, s, squared_size(g))
            m = mixed(alpha, m, g) if centered else None
            # Rounding can make the difference negative.
            spread = np.maximum(s - squared_size(m), 0) if centered else s
            d = g / (np.sqrt(spread) + eps)
            v = momentum * v + d if momentum else None
            return kept(widen(p) - like(now, p) * (v if momentum else d), p), s, m, v

        params, *slots = move(moved, params, (slopes,), *state[1:])
        return params, RMSpropState(step, *slots)

    return made("rmsprop", RMSpropState, init, update)


class AdagradState(NamedTuple):
    """The state of :func:`adagrad`.

    Attributes:
        step: the number of updates made, an integer array.
        total: sums of the gradients' squares, a pytree like the parameters.

    >>> nn.adagrad().init(np.zeros(2))
    AdagradState(step=array(0), total=array([0., 0.]))
    """

    step: Any
    total: Any


@described
def adagrad(
    learning_rate: Any = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    decay: Where | None = None,
) -> Optimizer:
    """Adagrad, with the meaning PyTorch's ``Adagrad`` gives to its options.

    With gradient g, parameter p and sum s, at update t::

        g = g + weight_decay * p
        s = s + g**2
        p = p - learning_rate / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    J. Duchi et al. (2011), *Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization*.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        lr_decay: not negative.
        weight_decay: times the parameters, added to the gradients.
        initial_accumulator_value: what the sums begin as.
        eps: added to the roots of the sums.
        decay: which parameters decay, as for :func:`sgd`.

    Returns:
        The optimiser; its state is an :class:`AdagradState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.

    >>> optimizer = nn.adagrad(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.9, 2.1])
    """
    rate = checked_rate("adagrad", learning_rate)
    lr_decay = checked("adagrad", "lr_decay", lr_decay, 0)
    start = checked("adagrad", "initial_accumulator_value", initial_accumulator_value, 0)
    eps = checked("adagrad", "eps", eps, 0)
    decays = decay_of("adagrad", weight_decay, decay)

    def begun(leaf: Any) -> Any:
        return squares(leaf) + start

    def init(params: Params) -> AdagradState:
        return AdagradState(no_steps(), tree.map(begun, params))

    def update(grads: Params, state: AdagradState, params: Params) -> tuple[Params, AdagradState]:
        slopes = slopes_of(params, grads, decays(params))
        check_state(params, state.total)
        now, step = advance(rate, state.step)
        now = now / (1 + state.step * lr_decay)

        def moved(p: Any, g: Any, total: Any) -> tuple[Any, ...]:
            total = total + squared_size(g)
            return kept(widen(p) - like(now, p) * g / (np.sqrt(total) + eps), p), total

        params, total = move(moved, params, (slopes,), state.total)
        return params, AdagradState(step, total)

    return made("adagrad", AdagradState, init, update)


class AdadeltaState(NamedTuple):
    """The state of :func:`adadelta`.

    Attributes:
        step: the number of updates made, an integer array.
        square: running means of the gradients' squares, a pytree like the parameters.
        change: running means of the steps' squares.

    >>> nn.adadelta().init(np.zeros(2))
    AdadeltaState(step=array(0), square=array([0., 0.]), change=array([0., 0.]))
    """

    step: Any
    square: Any
    change: Any


@described
def adadelta(
    learning_rate: Any = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """Adadelta, with the meaning PyTorch's ``Adadelta`` gives to its options.

    With gradient g, parameter p, and means s and c, which begin as 0::

        g = g + weight_decay * p
        s = rho * s + (1 - rho) * g**2
        d = sqrt(c + eps) / sqrt(s + eps) * g
        c = rho * c + (1 - rho) * d**2
        p = p - learning_rate * d

    M. Zeiler (2012), *ADADELTA: An Adaptive Learning Rate Method*.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        rho: how much of both means is kept, from 0 to below 1.
        eps: below both roots.
        weight_decay: times the parameters, added to the gradients.
        decay: which parameters decay, as for :func:`sgd`.

    Returns:
        The optimiser; its state is an :class:`AdadeltaState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.

    >>> optimizer = nn.adadelta()
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.9968, 2.0032])
    """
    rate, rho = checked_rate("adadelta", learning_rate), checked_kept("adadelta", "rho", rho)
    eps = checked("adadelta", "eps", eps, 0)
    decays = decay_of("adadelta", weight_decay, decay)

    def init(params: Params) -> AdadeltaState:
        return AdadeltaState(no_steps(), tree.map(squares, params), tree.map(squares, params))

    def update(grads: Params, state: AdadeltaState, params: Params) -> tuple[Params, AdadeltaState]:
        slopes = slopes_of(params, grads, decays(params))
        check_state(params, state.square, state.change)
        now, step = advance(rate, state.step)

        def moved(p: Any, g: Any, s: Any, c: Any) -> tuple[Any, ...]:
            s = mixed(rho, s, squared_size(g))
            d = np.sqrt(c + eps) / np.sqrt(s + eps) * g
            return kept(widen(p) - like(now, p) * d, p), s, mixed(rho, c, squared_size(d))

        params, *slots = move(moved, params, (slopes,), state.square, state.change)
        return params, AdadeltaState(step, *slots)

    return made("adadelta", AdadeltaState, init, update)


class AdafactorState(NamedTuple):
    """The state of :func:`adafactor`.

    Attributes:
        step: the number of updates made, an integer array.
        row: means of squared gradients along the last axis, a pytree like the parameters. Those of
            a vector are its squares' means themselves.
        column: means along the last axis but one; 0 for vectors.

    >>> state = nn.adafactor().init(np.zeros((200, 300)))
    >>> state.row.shape, state.column.shape
    ((200, 1), (1, 300))
    """

    step: Any
    row: Any
    column: Any


@described
def adafactor(
    learning_rate: Any = 1e-2,
    beta2_decay: float = -0.8,
    eps1: float | None = None,
    eps2: float = 1e-3,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """Adafactor: the squares' means of a matrix are kept as a column times a row.

    N. Shazeer, M. Stern (2018), *Adafactor: Adaptive Learning Rates with Sublinear Memory Cost*;
    the options have the meaning that PyTorch's ``Adafactor`` gives to them, whose ``eps`` is the
    pair of `eps1` and `eps2`, ``d`` is `clip`.

    Args:
        learning_rate: the highest rate, a number, an array or tracer without axes, or a schedule;
            update t takes it, or 1 / sqrt(t) if that is less, times the parameter's root mean
            square.
        beta2_decay: of the means ``1 - t**beta2_decay`` is kept; not positive.
        eps1: under the squares' roots; by default the distance of the dtype's 1 to the next.
        eps2: the least root mean square that a parameter counts as.
        clip: the largest root mean square of a step before it is multiplied by the rate.
        weight_decay: the share by which parameters shrink, times the rate.
        decay: which parameters decay, as for :func:`sgd`.

    Returns:
        The optimiser; its state is an :class:`AdafactorState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.
        OperandTypeError: also for complex parameters.

    >>> optimizer = nn.adafactor(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.8419, 2.1581])
    """
    rate = checked_rate("adafactor", learning_rate)
    beta2_decay = checked("adafactor", "beta2_decay", beta2_decay, -np.inf, 0)
    least = None if eps1 is None else checked("adafactor", "eps1", eps1, 0)
    eps2, clip = checked("adafactor", "eps2", eps2, 0), checked("adafactor", "clip", clip, 0)
    if not clip:
        raise ArgumentError("adafactor: clip must be positive")
    decays = decay_of("adafactor", weight_decay, decay)

    def init(params: Params) -> AdafactorState:
        return AdafactorState(no_steps(), tree.map(_row, params), tree.map(_column, params))

    def update(
        grads: Params, state: AdafactorState, params: Params
    ) -> tuple[Params, AdafactorState]:
        refuse_complex("adafactor", *tree.leaves(params))
        slopes = slopes_of(params, grads)
        check_state(tree.map(_row, params), state.row)
        check_state(tree.map(_column, params), state.column)
        now, step = advance(rate, state.step)
        fresh = step**beta2_decay
        limited = np.minimum(now, step**-0.5)

        def moved(p: Any, g: Any, decay: float, row: Any, column: Any) -> tuple[Any, ...]:
            wide, share = widen(p), like(fresh, p)
            eps = np.finfo(g.dtype).eps if least is None else least
            size = like(limited, p) * np.maximum(_root_mean(wide), eps2)
            row, column, square = _renewed(row, column, squared_size(g), share, eps)
            d = g / np.sqrt(np.maximum(square, eps * eps))
            d = d * (size / np.maximum(_root_mean(d) / clip, 1.0))
            wide = wide - like(now * decay, p) * wide if decay else wide
            return kept(wide - d, p), row, column

        params, *slots = move(moved, params, (slopes, decays(params)), state.row, state.column)
        return params, AdafactorState(step, *slots)

    return made("adafactor", AdafactorState, init, update)


def _row(leaf: Any) -> Any:
    return np.sum(squares(leaf), axis=-1, keepdims=True) if np.ndim(leaf) > 1 else squares(leaf)


def _column(leaf: Any) -> Any:
    return (
        np.sum(squares(leaf), axis=-2, keepdims=True)
        if np.ndim(leaf) > 1
        else np.sum(squares(leaf))
    )


def _renewed(row: Any, column: Any, square: Any, share: Any, eps: float) -> tuple[Any, Any, Any]:
    """The factors with a share of new squares, and the squares' means that they stand for."""
    if square.ndim < 2:
        row = row + share * (square - row)
        return row, column, row
    row = row + share * (np.mean(square, axis=-1, keepdims=True) - row)
    column = column + share * (np.mean(square, axis=-2, keepdims=True) - column)
    mean: Any = np.mean(row, axis=-2, keepdims=True)
    return row, column, row * column / np.maximum(mean, eps)


def _root_mean(x: Any) -> Any:
    return np.sqrt(np.sum(np.square(x)) / max(1, x.size))
