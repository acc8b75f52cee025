"""Activations and their like, as plain functions of arrays; each has a layer of the same name.

They are functions of real numbers. float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import ShapeError
from funcgrad.scipy import special

from ._numbers import activation, like, refuse_complex, widen

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "one_hot",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def relu(x: Any) -> Any:
    """The positive part: x where x > 0, else 0. Its derivative at 0 is 0, as in PyTorch and JAX.

    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    refuse_complex("relu", x)
    # np.maximum(x, 0) would have the derivative 1/2 at 0; this lets NaN through as well.
    return np.where(x <= 0, 0, x)


@activation
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else ``negative_slope * x``.

    >>> leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return fnp.where(x <= 0, x * like(negative_slope, x), x)


@activation
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), exact to rounding in both tails.

    For the logarithm of it, ``-softplus(-x)`` loses nothing; for a loss, see
    :func:`~funcgrad_nn.binary_cross_entropy_with_logits`.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return special.expit(x)


@activation
def softplus(x: Any, beta: float = 1.0) -> Any:
    """log(1 + exp(beta * x)) / beta, without overflow.

    >>> softplus(np.array([0.0, 100.0])).round(4)
    array([  0.6931, 100.    ])
    """
    beta = like(beta, x)
    return (
        special.softplus(x)
        if type(beta) is float and beta == 1
        else special.softplus(x * beta) / beta
    )


@activation
def silu(x: Any) -> Any:
    """``x * sigmoid(x)``, also called swish.

    >>> silu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7311])
    """
    return _gated(x, special.expit, 1000.0)


def _gated(x: Any, gate: Any, far: float) -> Any:
    """x times a gate that is 0 to rounding below -far, and 1 above far, at infinity as well."""
    near = fnp.where(np.abs(x) > far, 0, x)
    return fnp.where(x > far, x, near * gate(near))


@activation
def mish(x: Any) -> Any:
    """``x * tanh(softplus(x))``.

    D. Misra (2019), *Mish: A Self Regularized Non-Monotonic Activation Function*.

    >>> mish(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.3034,  0.    ,  0.8651])
    """
    return _gated(x, _mish_gate, 1000.0)


def _mish_gate(x: Any) -> Any:
    return np.tanh(special.softplus(x))


@activation
def gelu(x: Any, approximate: bool = False) -> Any:
    """x times the standard normal distribution function of x.

    D. Hendrycks, K. Gimpel (2016), *Gaussian Error Linear Units*.

    Args:
        x: any array.
        approximate: whether to use the formula with tanh, which is off by less than 5e-4 and
            faster. (It is JAX's default, and ``approximate="tanh"`` in PyTorch.)

    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    # Far out the cube and its derivative may overflow.
    return _gated(x, _near_ndtr, 32.0) if approximate else _gated(x, special.ndtr, 100.0)


def _near_ndtr(x: Any) -> Any:
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return (np.tanh(inner) + 1.0) * 0.5


# -- Exponentials below 0 ------------------------------------------------------------------------


@activation
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else ``alpha * (exp(x) - 1)``.

    D. Clevert et al. (2015), *Fast and Accurate Deep Network Learning by Exponential Linear Units*.

    >>> elu(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """
    return fnp.where(x > 0, x, like(alpha, x) * np.expm1(_negative(x)))


def _negative(x: Any) -> Any:
    return fnp.where(x > 0, 0, x)


# Those that keep mean 0 and variance 1 from layer to layer.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@activation
def selu(x: Any) -> Any:
    """``1.0507 * elu(x, 1.6733)``, which keeps mean 0 and variance 1 from layer to layer.

    G. Klambauer et al. (2017), *Self-Normalizing Neural Networks*. For weights drawn by
    ``nn.init.lecun_normal()``.

    >>> selu(np.array([-1.0, 2.0])).round(4)
    array([-1.1113,  2.1014])
    """
    return _SELU_SCALE * fnp.where(x > 0, x, _SELU_ALPHA * np.expm1(_negative(x)))


@activation
def celu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else ``alpha * (exp(x / alpha) - 1)``: smooth at 0 for any alpha.

    J. Barron (2017), *Continuously Differentiable Exponential Linear Units*.

    >>> celu(np.array([-1.0, 2.0]), alpha=2.0).round(4)
    array([-0.7869,  2.    ])
    """
    alpha = like(alpha, x)
    return fnp.where(x > 0, x, alpha * np.expm1(_negative(x) / alpha))


@activation
def logsigmoid(x: Any) -> Any:
    """``log(sigmoid(x))``, exact to rounding in both tails.

    >>> logsigmoid(np.array([-1000.0, 0.0])).round(4)
    array([-1.000e+03, -6.931e-01])
    """
    return -special.softplus(-x)


# -- Piecewise lines -----------------------------------------------------------------------------


@activation
def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x between two bounds, else the nearer one. Its derivatives at these are 0, as in PyTorch.

    >>> hardtanh(np.array([-2.0, 0.5, 3.0]))
    array([-1. ,  0.5,  1. ])
    """
    low, high = like(min_val, x), like(max_val, x)
    return fnp.where(x <= low, low, fnp.where(x >= high, high, x))


@activation
def relu6(x: Any) -> Any:
    """``hardtanh(x, 0, 6)``.

    >>> relu6(np.array([-2.0, 0.5, 9.0]))
    array([0. , 0.5, 6. ])
    """
    return fnp.where(x <= 0, 0, fnp.where(x >= 6, 6, x))


@activation
def hardsigmoid(x: Any) -> Any:
    """``relu6(x + 3) / 6``, a line in the place of the sigmoid.

    >>> hardsigmoid(np.array([-4.0, 0.0, 1.5, 4.0]))
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    return fnp.where(x <= -3, 0, fnp.where(x >= 3, 1, x / 6 + 0.5))


@activation
def hardswish(x: Any) -> Any:
    """``x * hardsigmoid(x)``.

    A. Howard et al. (2019), *Searching for MobileNetV3*.

    >>> hardswish(np.array([-4.0, 0.0, 1.5, 4.0]))
    array([0.   , 0.   , 1.125, 4.   ])
    """
    near = fnp.where(np.abs(x) >= 3, 0, x)
    return fnp.where(x >= 3, x, near * (near / 6 + 0.5))


@activation
def softshrink(x: Any, lambd: float = 0.5) -> Any:
    """x moved by ``lambd`` towards 0, and 0 where it is nearer.

    >>> softshrink(np.array([-2.0, 0.25, 1.0]))
    array([-1.5,  0. ,  0.5])
    """
    limit = like(lambd, x)
    return fnp.where(np.abs(x) <= limit, 0, x - np.sign(x) * limit)


@activation
def hardshrink(x: Any, lambd: float = 0.5) -> Any:
    """x, and 0 where it is from ``-lambd`` to ``lambd``.

    >>> hardshrink(np.array([-2.0, 0.25, 1.0]))
    array([-2.,  0.,  1.])
    """
    return fnp.where(np.abs(x) <= like(lambd, x), 0, x)


@activation
def threshold(x: Any, threshold: float, value: float) -> Any:
    """x where it is above the threshold, else the value.

    >>> nn.threshold(np.array([-2.0, 0.25, 1.0]), 0.5, -9.0)
    array([-9., -9.,  1.])
    """
    return fnp.where(x <= like(threshold, x), like(value, x), x)


@activation
def prelu(x: Any, weight: Any, axis: int = 1) -> Any:
    """x where x > 0, else ``weight * x``; the weight is learned, see :class:`PReLU`.

    K. He et al. (2015), *Delving Deep into Rectifiers*.

    Args:
        x: any array.
        weight: one number, or one for each channel, shape ``(1,)`` or ``(channels,)``.
        axis: that of the channels.

    Raises:
        ShapeError: there are neither one weight nor as many as channels.

    >>> prelu(np.array([[-1.0, -1.0, 2.0]]), np.array([0.1, 0.2, 0.3]))
    array([[-0.1, -0.2,  2. ]])
    """
    weight = widen(weight)
    if weight.size == 1:
        weight = np.reshape(weight, ())
    else:
        if not -x.ndim <= axis < x.ndim or weight.shape != (x.shape[axis],):
            raise ShapeError(
                f"prelu: weight must have shape (1,), or one number for each channel along axis "
                f"{axis} of {x.shape}, not shape {weight.shape}"
            )
        behind = x.ndim - 1 - axis % x.ndim
        weight = np.reshape(weight, (-1, *[1] * behind))
    return fnp.where(x > 0, x, _negative(x) * weight)


# -- Others --------------------------------------------------------------------------------------


@activation
def softsign(x: Any) -> Any:
    """``x / (1 + abs(x))``.

    >>> softsign(np.array([-np.inf, 0.0, 1.0]))
    array([-1. ,  0. ,  0.5])
    """
    infinite = np.isinf(x)
    near = fnp.where(infinite, 0, x)
    return fnp.where(infinite, np.sign(x), near / (1.0 + np.abs(near)))


@activation
def tanhshrink(x: Any) -> Any:
    """``x - tanh(x)``.

    >>> tanhshrink(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.2384])
    """
    return x - np.tanh(x)


@activation
def glu(x: Any, axis: int = -1) -> Any:
    """The first half along an axis, times the sigmoid of the second.

    Y. Dauphin et al. (2016), *Language Modeling with Gated Convolutional Networks*.

    Raises:
        ShapeError: the axis has an odd length.

    >>> glu(np.array([1.0, 2.0, 0.0, 0.0]))
    array([0.5, 1. ])
    """
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: axis {axis} of {x.shape} has an odd length and no halves")
    value, gate = np.split(x, 2, axis=axis)
    return value * special.expit(gate)


@activation
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis, without overflow.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    weights = np.exp(x - _finite_max(x, axis))
    return weights / np.sum(weights, axis=axis, keepdims=True)


@activation
def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along an axis, exact to rounding where softmax would underflow.

    >>> log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    shifted, log_total = shifted_logits(x, axis)
    return shifted - log_total


def shifted_logits(x: Any, axis: int = -1) -> tuple[Any, Any]:
    """x less its largest entry, and the logarithm of the sum of exp of that, axis kept.

    The difference of the two is log_softmax; where only some of it is needed, this saves the rest.
    """
    shifted = x - _finite_max(x, axis)
    return shifted, np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _finite_max(x: Any, axis: Any) -> Any:
    """What to subtract before exp: a constant, as the results do not depend on it."""
    highest = fg.stop_gradient(np.max(x, axis=axis, keepdims=True))
    # -inf - -inf would be NaN.
    return np.where(np.isfinite(highest), highest, 0)


def one_hot(labels: Any, num_classes: int, dtype: Any = np.float32) -> Any:
    """1 at each label's place on a new last axis, else 0.

    A label that is no class, a negative one included, gets a row of zeros and no error, as in
    JAX, where PyTorch raises; the losses refuse it.

    Args:
        labels: integers, of any shape.
        num_classes: the length of the new axis.
        dtype: of the result.

    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    return (np.expand_dims(labels, -1) == np.arange(num_classes)).astype(dtype)
