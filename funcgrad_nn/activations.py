"""Activations and their like, as plain functions of arrays; each has a layer of the same name.

They are functions of real numbers. float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.scipy import special

from ._numbers import activation, like, refuse_complex

__all__ = [
    "gelu",
    "leaky_relu",
    "log_softmax",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
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
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    >>> softplus(np.array([0.0, 100.0])).round(4)
    array([  0.6931, 100.    ])
    """
    return special.softplus(x)


@activation
def silu(x: Any) -> Any:
    """``x * sigmoid(x)``, also called swish.

    >>> silu(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7311])
    """
    return x * sigmoid(x)


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
    if not approximate:
        return x * special.ndtr(x)
    # Further out tanh is -1 or 1, but the cube and its derivative may overflow.
    near = np.clip(x, -32, 32)
    inner = (near + near * near * near * 0.044715) * math.sqrt(2 / math.pi)
    return x * ((np.tanh(inner) + 1.0) * 0.5)


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
