"""Adam and its like: steps of running means of the gradients, over the roots of those of squares.

D. Kingma, J. Ba (2014), *Adam: A Method for Stochastic Optimization*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as fnp
from funcgrad import tree
from funcgrad_nn._numbers import checked, like, squared_size, widen
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
    norm,
    slopes_of,
    squares,
    zeros,
)

__all__ = [
    "AdamState",
    "AdamaxState",
    "NAdamState",
    "adam",
    "adamax",
    "adamw",
    "lamb",
    "nadam",
    "radam",
]


class AdamState(NamedTuple):
    """The state of :func:`adam`, :func:`adamw`, :func:`radam` and :func:`lamb`.

    Attributes:
        step: the number of updates made, an integer array.
        mean: running means of the gradients, a pytree like the parameters.
        square: running means of their squares.
        highest: with ``amsgrad``, the highest of these, else None.

    >>> nn.adam().init(np.zeros(2, np.float32)).mean
    array([0., 0.], dtype=float32)
    """

    step: Any
    mean: Any
    square: Any
    highest: Any = None


@described
def adam(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    decay: Where | None = None,
) -> Optimizer:
    """Adam, with the meaning PyTorch's ``Adam`` gives to its options.

    With gradient g, parameter p, and means m and s, which begin as 0, at update t::

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g**2
        p = p - learning_rate * m / (1 - beta1**t) / (sqrt(s / (1 - beta2**t)) + eps)

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        beta1: how much of the mean of the gradients is kept, from 0 to below 1.
        beta2: how much of the mean of their squares is kept, from 0 to below 1.
        eps: added to the root of the squares' mean.
        weight_decay: times the parameters, added to the gradients; see :func:`adamw`.
        amsgrad: whether the highest mean of squares so far takes the place of the last. S. Reddi
            et al. (2018), *On the Convergence of Adam and Beyond*.
        decay: which parameters decay, as for :func:`sgd`.

    Returns:
        The optimiser; its state is an :class:`AdamState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.

    >>> optimizer = nn.adam(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.9, 2.1])
    """
    decays = decay_of("adam", weight_decay, decay)
    return _adam("adam", learning_rate, (beta1, beta2), eps, decays, amsgrad, decoupled=False)


@described
def adamw(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    decay: Where | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay: parameters shrink by ``learning_rate * weight_decay``.

    I. Loshchilov, F. Hutter (2017), *Decoupled Weight Decay Regularization*; the options are
    those of :func:`adam`, their meaning that of PyTorch's ``AdamW``.

    >>> optimizer = nn.adamw(0.1, weight_decay=0.5)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.85, 2.  ])

    Biases, and scales of normalisations, are mostly left out of the decay:

    >>> optimizer = nn.adamw(0.1, decay=lambda path, array: array.ndim > 1)
    """
    decays = decay_of("adamw", weight_decay, decay)
    return _adam("adamw", learning_rate, (beta1, beta2), eps, decays, amsgrad, decoupled=True)


def _adam(
    name: str,
    learning_rate: Any,
    betas: tuple[float, float],
    eps: float,
    decays: Any,
    amsgrad: bool,
    decoupled: bool,
) -> Optimizer:
    rate, beta1, beta2, eps = _options(name, learning_rate, *betas, eps)

    def init(params: Params) -> AdamState:
        state = _begun(params)
        return state._replace(highest=state.square) if amsgrad else state

    def update(grads: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        shares = decays(params)
        slopes = slopes_of(params, grads, None if decoupled else shares)
        check_state(params, state.mean, state.square, state.highest)
        now, step = advance(rate, state.step)
        # Both means begin as 0; this undoes what is left of that.
        gain, root = 1 / (1 - beta1**step), (1 - beta2**step) ** 0.5

        def moved(p: Any, g: Any, decay: float, m: Any, s: Any, top: Any) -> tuple[Any, ...]:
            m, s = mixed(beta1, m, g), mixed(beta2, s, squared_size(g))
            top = np.maximum(top, s) if amsgrad else None
            by = np.sqrt(top if amsgrad else s) * like(1 / root, p) + eps
            wide = _shrunk(p, now, decay if decoupled else 0.0)
            return kept(wide - like(now * gain, p) * m / by, p), m, s, top

        params, *slots = move(moved, params, (slopes, shares), *state[1:])
        return params, AdamState(step, *slots)

    return made(name, AdamState, init, update)


def _options(
    name: str, learning_rate: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Any, float, float, float]:
    return (
        checked_rate(name, learning_rate),
        checked_kept(name, "beta1", beta1),
        checked_kept(name, "beta2", beta2),
        checked(name, "eps", eps, 0),
    )


def _begun(params: Params) -> AdamState:
    return AdamState(no_steps(), tree.map(zeros, params), tree.map(squares, params))


def _shrunk(p: Any, now: Any, decay: float) -> Any:
    """The parameter less its decoupled decay."""
    wide = widen(p)
    return wide - like(now * decay, p) * wide if decay else wide


class AdamaxState(NamedTuple):
    """The state of :func:`adamax`.

    Attributes:
        step: the number of updates made, an integer array.
        mean: running means of the gradients, a pytree like the parameters.
        size: running maxima of their absolute values.

    >>> nn.adamax().init(np.zeros(2)).size
    array([0., 0.])
    """

    step: Any
    mean: Any
    size: Any


@described
def adamax(
    learning_rate: Any = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """Adam by the largest absolute gradients in place of the squares' means.

    With the mean m of :func:`adam`::

        u = max(beta2 * u, abs(g) + eps)
        p = p - learning_rate / (1 - beta1**t) * m / u

    The options are those of :func:`adam`, their meaning that of PyTorch's ``Adamax``.

    >>> optimizer = nn.adamax(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.9, 2.1])
    """
    rate, beta1, beta2, eps = _options("adamax", learning_rate, beta1, beta2, eps)
    decays = decay_of("adamax", weight_decay, decay)

    def init(params: Params) -> AdamaxState:
        return AdamaxState(no_steps(), tree.map(zeros, params), tree.map(squares, params))

    def update(grads: Params, state: AdamaxState, params: Params) -> tuple[Params, AdamaxState]:
        slopes = slopes_of(params, grads, decays(params))
        check_state(params, state.mean, state.size)
        now, step = advance(rate, state.step)
        gain = 1 / (1 - beta1**step)

        def moved(p: Any, g: Any, m: Any, u: Any) -> tuple[Any, ...]:
            m, u = mixed(beta1, m, g), np.maximum(beta2 * u, np.abs(g) + eps)
            return kept(widen(p) - like(now * gain, p) * m / u, p), m, u

        params, *slots = move(moved, params, (slopes,), state.mean, state.size)
        return params, AdamaxState(step, *slots)

    return made("adamax", AdamaxState, init, update)


class NAdamState(NamedTuple):
    """The state of :func:`nadam`.

    Attributes:
        step: the number of updates made, an integer array.
        product: that of the momenta so far, an array without axes.
        mean: running means of the gradients, a pytree like the parameters.
        square: running means of their squares.

    >>> nn.nadam().init(np.zeros(2)).product
    array(1.)
    """

    step: Any
    product: Any
    mean: Any
    square: Any


@described
def nadam(
    learning_rate: Any = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled: bool = False,
    decay: Where | None = None,
) -> Optimizer:
    """Adam with Nesterov's momentum.

    T. Dozat (2016), *Incorporating Nesterov Momentum into Adam*; the options are those of
    :func:`adam`, their meaning that of PyTorch's ``NAdam``.

    Args:
        learning_rate, beta1, beta2, eps, weight_decay, decay: as for :func:`adam`.
        momentum_decay: how fast the momentum grows to `beta1`.
        decoupled: whether the weight decays as in :func:`adamw`.

    Returns:
        The optimiser; its state is an :class:`NAdamState`. Parameters keep their dtypes.

    >>> optimizer = nn.nadam(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.8944, 2.1056])
    """
    rate, beta1, beta2, eps = _options("nadam", learning_rate, beta1, beta2, eps)
    momentum_decay = checked("nadam", "momentum_decay", momentum_decay, 0)
    decays = decay_of("nadam", weight_decay, decay)

    def init(params: Params) -> NAdamState:
        begun = _begun(params)
        return NAdamState(begun.step, np.ones(()), begun.mean, begun.square)

    def momentum(step: Any) -> Any:
        return beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    def update(grads: Params, state: NAdamState, params: Params) -> tuple[Params, NAdamState]:
        shares = decays(params)
        slopes = slopes_of(params, grads, None if decoupled else shares)
        check_state(params, state.mean, state.square)
        now, step = advance(rate, state.step)
        mu, after = momentum(step), momentum(step + 1)
        product, root = state.product * mu, (1 - beta2**step) ** 0.5
        of_slope, of_mean = now * (1 - mu) / (1 - product), now * after / (1 - product * after)

        def moved(p: Any, g: Any, decay: float, m: Any, s: Any) -> tuple[Any, ...]:
            m, s = mixed(beta1, m, g), mixed(beta2, s, squared_size(g))
            by = np.sqrt(s) * like(1 / root, p) + eps
            wide = _shrunk(p, now, decay if decoupled else 0.0)
            return kept(wide - (like(of_slope, p) * g + like(of_mean, p) * m) / by, p), m, s

        params, *slots = move(moved, params, (slopes, shares), state.mean, state.square)
        return params, NAdamState(step, product, *slots)

    return made("nadam", NAdamState, init, update)


@described
def radam(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    decay: Where | None = None,
) -> Optimizer:
    """Adam whose first steps, of few squares, are rectified.

    L. Liu et al. (2019), *On the Variance of the Adaptive Learning Rate and Beyond*; the options
    are those of :func:`nadam`, their meaning that of PyTorch's ``RAdam``. The state is an
    :class:`AdamState`.

    >>> optimizer = nn.radam(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.7, 2.5])
    """
    rate, beta1, beta2, eps = _options("radam", learning_rate, beta1, beta2, eps)
    decays = decay_of("radam", weight_decay, decay)
    longest = 2 / (1 - beta2) - 1
    # At 5 or less, none is trusted.
    whole = longest / ((max(longest, 5.0) - 4) * (max(longest, 5.0) - 2))

    def update(grads: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        shares = decays(params)
        slopes = slopes_of(params, grads, None if decoupled else shares)
        check_state(params, state.mean, state.square)
        now, step = advance(rate, state.step)
        gain, left = 1 / (1 - beta1**step), 1 - beta2**step
        length = longest - 2 * step * beta2**step / left
        trusted, safe = length > 5, fnp.where(length > 5, length, 6.0)
        rectified = (safe - 4) * (safe - 2) / safe * whole
        factor = (rectified * left) ** 0.5

        def moved(p: Any, g: Any, decay: float, m: Any, s: Any) -> tuple[Any, ...]:
            m, s = mixed(beta1, m, g), mixed(beta2, s, squared_size(g))
            scale = fnp.where(trusted, like(factor, p) / (np.sqrt(s) + eps), 1.0)
            wide = _shrunk(p, now, decay if decoupled else 0.0)
            return kept(wide - like(now * gain, p) * m * scale, p), m, s

        params, *slots = move(moved, params, (slopes, shares), state.mean, state.square)
        return params, AdamState(step, *slots)

    return made("radam", AdamState, _begun, update)


@described
def lamb(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    decay: Where | None = None,
) -> Optimizer:
    """LAMB: steps of Adam as long as ``learning_rate`` times the parameter's norm, array by array.

    With d for the step of :func:`adam` at a rate of 1::

        d = d + weight_decay * p
        p = p - learning_rate * norm(p) / norm(d) * d

    where a norm is 0, the two have no influence. Y. You et al. (2019), *Large Batch Optimization
    for Deep Learning: Training BERT in 76 minutes*; as optax's ``lamb``. The state is an
    :class:`AdamState`; options as for :func:`adam`.

    >>> optimizer = nn.lamb(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.8419, 2.1581])
    """
    rate, beta1, beta2, eps = _options("lamb", learning_rate, beta1, beta2, eps)
    decays = decay_of("lamb", weight_decay, decay)

    def update(grads: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        slopes = slopes_of(params, grads)
        check_state(params, state.mean, state.square)
        now, step = advance(rate, state.step)
        gain, root = 1 / (1 - beta1**step), (1 - beta2**step) ** 0.5

        def moved(p: Any, g: Any, decay: float, m: Any, s: Any) -> tuple[Any, ...]:
            m, s, wide = mixed(beta1, m, g), mixed(beta2, s, squared_size(g)), widen(p)
            d = like(gain, p) * m / (np.sqrt(s) * like(1 / root, p) + eps)
            d = d + decay * wide if decay else d
            ours, its = norm(wide), norm(d)
            both = (ours > 0) & (its > 0)
            trust = fnp.where(both, ours / fnp.where(both, its, 1.0), 1.0)
            return kept(wide - like(now, p) * trust * d, p), m, s

        params, *slots = move(moved, params, (slopes, decays(params)), state.mean, state.square)
        return params, AdamState(step, *slots)

    return made("lamb", AdamState, _begun, update)
