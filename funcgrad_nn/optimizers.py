"""Optimisers: pairs of pure functions, ``init(params)`` and ``update(grads, state, params)``.

State and parameters are pytrees of arrays, so a step can be compiled by ``fg.jit``, be the body of
``fg.scan``, or train many models at once under ``fg.vmap``:

>>> optimizer = nn.sgd(0.1, momentum=0.9)
>>> params = {"w": np.array([1.0, 2.0])}
>>> state = optimizer.init(params)
>>> def loss_fn(params):
...     return np.sum(params["w"] ** 2)
>>> for _ in range(3):
...     grads = fg.grad(loss_fn)(params)
...     params, state = optimizer.update(grads, state, params)
>>> params["w"]
array([0.062, 0.124])

A learning rate is a number, or a *schedule*: a function that takes the number of updates made
before, an integer array, to the rate of the next:

>>> optimizer = nn.sgd(lambda step: 0.1 * 0.99**step)

Parameters keep their dtypes. Those of float16 are moved in float32, and rounded once; so is their
state, which is float32: a squared gradient of 300 is beyond float16's range, one of 1e-5 below it.
For complex parameters the squares are those of the absolute values; gradients are to be the
directions of steepest ascent, which are the conjugates of what ``fg.grad`` gives:
``fg.tree.map(np.conj, grads)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError, GradDtypeError, OperandTypeError, ShapeError

from ._numbers import as_number, checked, computed_in, like, narrow, squared_size, widen
from .parameters import beside_states

Params = Any
State = Any
Schedule = Callable[[Any], Any]

__all__ = ["AdamState", "Optimizer", "SGDState", "Schedule", "adam", "adamw", "sgd"]


class Optimizer(NamedTuple):
    """What an optimiser is: two pure functions.

    Attributes:
        init: ``init(params) -> state``.
        update: ``update(grads, state, params) -> (params, state)``, the new ones. The gradients
            have the structure and shapes of the parameters.

    >>> def init(params):
    ...     return None
    >>> def update(grads, state, params):
    ...     return fg.tree.map(lambda p, g: p - 0.1 * np.sign(g), params, grads), state
    >>> sign_descent = nn.Optimizer(init, update)
    >>> sign_descent.update({"w": 4.0}, None, {"w": 1.0})
    ({'w': np.float64(0.9)}, None)
    """

    init: Callable[[Params], State]
    update: Callable[[Params, State, Params], tuple[Params, State]]


# -- SGD -----------------------------------------------------------------------------------------


class SGDState(NamedTuple):
    """The state of :func:`sgd`.

    Attributes:
        step: the number of updates made, an integer array; None if the rate is a number.
        velocity: a pytree like the parameters; None without momentum.

    >>> nn.sgd(0.1).init({"w": np.zeros(2)})
    SGDState(step=None, velocity=None)
    """

    step: Any
    velocity: Any


def sgd(
    learning_rate: Any,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent, with the meaning PyTorch's ``SGD`` gives to its options.

    With gradient g, parameter p and velocity v, which begins as 0::

        g = g + weight_decay * p
        v = momentum * v + g
        d = g + momentum * v  if nesterov else  v
        p = p - learning_rate * d

    I. Sutskever et al. (2013), *On the importance of initialization and momentum in deep
    learning*; unlike there, the rate multiplies the velocity and is not part of it.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        momentum: not negative.
        nesterov: whether to look ahead by one more step of the velocity; needs momentum.
        weight_decay: not negative.

    Returns:
        The optimiser; its state is an :class:`SGDState`. Parameters keep their dtypes.

    Raises:
        ArgumentError: an option is out of range.
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
    rate = _checked_rate("sgd", learning_rate)
    momentum = checked("sgd", "momentum", momentum, 0)
    weight_decay = checked("sgd", "weight_decay", weight_decay, 0)
    if nesterov and not momentum:
        raise ArgumentError("sgd: nesterov=True needs momentum, such as momentum=0.9")

    def init(params: Params) -> SGDState:
        return SGDState(
            step=np.zeros((), np.int64) if callable(rate) else None,
            velocity=tree.map(_zeros, params) if momentum else None,
        )

    def update(grads: Params, state: SGDState, params: Params) -> tuple[Params, SGDState]:
        slopes = _slopes(params, grads, weight_decay)
        velocity = None
        if momentum:
            _check_state(params, state.velocity)
            velocity = tree.map(_plus(momentum), slopes, state.velocity)
            slopes = tree.map(_plus(momentum), slopes, velocity) if nesterov else velocity
        now, step = _advance(rate, state.step)

        def moved(p: Any, d: Any) -> Any:
            return _kept(widen(p) - like(now, p) * d, p)

        return tree.map(moved, params, slopes), SGDState(step, velocity)

    return Optimizer(*beside_states(init, update))


# -- Adam ----------------------------------------------------------------------------------------


class AdamState(NamedTuple):
    """The state of :func:`adam` and :func:`adamw`.

    Attributes:
        step: the number of updates made, an integer array.
        mean: running means of the gradients, a pytree like the parameters.
        square: running means of their squares.

    >>> nn.adam().init(np.zeros(2, np.float32)).mean
    array([0., 0.], dtype=float32)
    """

    step: Any
    mean: Any
    square: Any


def adam(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam, with the meaning PyTorch's ``Adam`` gives to its options.

    D. Kingma, J. Ba (2014), *Adam: A Method for Stochastic Optimization*.

    Args:
        learning_rate: a number, an array or tracer without axes, or a schedule.
        beta1: how much of the mean of the gradients is kept, from 0 to below 1.
        beta2: how much of the mean of their squares is kept, from 0 to below 1.
        eps: added to the root of the squares' mean.
        weight_decay: times the parameters, added to the gradients; see :func:`adamw`.

    Returns:
        The optimiser; its state is an :class:`AdamState`. Parameters keep their dtypes.

    Raises:
        ArgumentError, TreeMismatchError, ShapeError: as for :func:`sgd`.

    >>> optimizer = nn.adam(0.1)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.9, 2.1])
    """
    return _adam("adam", learning_rate, (beta1, beta2), eps, weight_decay, decoupled=False)


def adamw(
    learning_rate: Any = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Optimizer:
    """Adam with decoupled weight decay: parameters shrink by ``learning_rate * weight_decay``.

    I. Loshchilov, F. Hutter (2017), *Decoupled Weight Decay Regularization*; the options are
    those of :func:`adam`, their meaning that of PyTorch's ``AdamW``.

    >>> optimizer = nn.adamw(0.1, weight_decay=0.5)
    >>> params = np.array([1.0, 2.0])
    >>> optimizer.update(np.array([3.0, -5.0]), optimizer.init(params), params)[0].round(4)
    array([0.85, 2.  ])
    """
    return _adam("adamw", learning_rate, (beta1, beta2), eps, weight_decay, decoupled=True)


def _adam(
    name: str,
    learning_rate: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> Optimizer:
    rate = _checked_rate(name, learning_rate)
    eps = checked(name, "eps", eps, 0)
    weight_decay = checked(name, "weight_decay", weight_decay, 0)
    beta1, beta2 = [as_number(beta) for beta in betas]
    for beta in (beta1, beta2):
        if not 0.0 <= beta < 1.0:
            raise ArgumentError(f"{name}: betas must be from 0 to below 1, not {beta!r}")

    def init(params: Params) -> AdamState:
        mean = tree.map(_zeros, params)
        return AdamState(np.zeros((), np.int64), mean, tree.map(squared_size, mean))

    def update(grads: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        slopes = _slopes(params, grads, 0.0 if decoupled else weight_decay)
        _check_state(params, state.mean, state.square)
        mean = tree.map(_mixed(beta1), state.mean, slopes)
        square = tree.map(_mixed(beta2), state.square, tree.map(squared_size, slopes))
        now, step = _advance(rate, state.step)
        # Both means begin as 0; this undoes what is left of that.
        gain, root = 1 / (1 - beta1**step), (1 - beta2**step) ** 0.5

        def moved(p: Any, m: Any, s: Any) -> Any:
            wide = widen(p)
            shrunk = wide - like(now * weight_decay, p) * wide if decoupled else wide
            step = like(now * gain, p) * m / (np.sqrt(s) * like(1 / root, p) + eps)
            return _kept(shrunk - step, p)

        return tree.map(moved, params, mean, square), AdamState(step, mean, square)

    return Optimizer(*beside_states(init, update))


# -- What both need ------------------------------------------------------------------------------


def _checked_rate(name: str, rate: Any) -> Any:
    rate = as_number(rate)
    if isinstance(rate, (int, float)):
        return float(checked(name, "learning_rate", rate, 0))
    if not callable(rate) and not hasattr(rate, "dtype"):
        raise ArgumentError(
            f"{name}: learning_rate must be a number or a function of the step, not {rate!r:.60}"
        )
    return rate


def _plus(factor: float) -> Callable[[Any, Any], Any]:
    def add(x: Any, y: Any) -> Any:
        return x + factor * y

    return add


def _mixed(kept: float) -> Callable[[Any, Any], Any]:
    def mix(old: Any, new: Any) -> Any:
        return kept * old + (1 - kept) * new

    return mix


def _advance(rate: Any, step: Any) -> tuple[Any, Any]:
    """The rate of this update, and the number of updates after it."""
    now = as_number(rate(step) if callable(rate) else rate)
    if np.shape(now):
        raise ShapeError(
            f"update: the learning rate must be one number, got an array of shape {np.shape(now)}"
        )
    return now, None if step is None else step + 1


def _zeros(leaf: Any) -> Any:
    """What the state of a parameter begins as."""
    return np.zeros_like(widen(leaf))


def _slopes(params: Params, grads: Params, weight_decay: float) -> Any:
    """The gradients in the dtypes that steps are computed in, with the decay's part."""
    slopes = tree.map_with_path(_matching, params, grads)
    if not weight_decay:
        return slopes
    return tree.map(_plus(weight_decay), slopes, tree.map(widen, params))


def _kept(new: Any, leaf: Any) -> Any:
    """The parameter in the dtype that it had."""
    return narrow(new, getattr(leaf, "dtype", None))


def _matching(path: tree.Path, leaf: Any, grad: Any) -> Any:
    dtype, given = getattr(leaf, "dtype", None), getattr(grad, "dtype", None)
    if np.shape(grad) != np.shape(leaf):
        raise ShapeError(
            f"update: the gradient{_at(path)} has shape {np.shape(grad)}, its parameter "
            f"{np.shape(leaf)}. Call update(grads, state, params) with the gradients of one loss, "
            "averaged over the batch."
        )
    if dtype is None or given is None:
        return grad
    if dtype.kind not in "fc":
        raise OperandTypeError(
            f"update: the parameter{_at(path)} is an array of {dtype}, and steps are fractions. "
            "Convert it, x.astype(np.float32), or keep it apart from the parameters."
        )
    if given.kind == "c" and dtype.kind != "c":
        raise GradDtypeError(
            f"update: the gradient{_at(path)} is {given}, its parameter {dtype}; the imaginary "
            "part would be lost. Pass its real part, or make the parameter complex."
        )
    return narrow(grad, computed_in(dtype))


def _check_state(params: Params, *parts: Any) -> None:
    """Raise ShapeError for a state of other shapes, which would be broadcast."""
    shapes = [np.shape(leaf) for leaf in tree.leaves(params)]
    for part in parts:
        if [np.shape(leaf) for leaf in tree.leaves(part)] != shapes:
            tree.map_with_path(_check_part, params, part)


def _check_part(path: tree.Path, leaf: Any, part: Any) -> None:
    if np.shape(part) != np.shape(leaf):
        raise ShapeError(
            f"update: the state{_at(path)} has shape {np.shape(part)}, its parameter "
            f"{np.shape(leaf)}. Pass the state that init(params), or the update before, has given "
            "for these parameters."
        )


def _at(path: tree.Path) -> str:
    return f" at {tree.keystr(path)}" if path else ""
