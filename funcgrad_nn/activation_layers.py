"""Activations as layers; their functions are in :mod:`funcgrad_nn.activations`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import funcgrad.numpy as fnp
from funcgrad import random
from funcgrad.errors import ArgumentError

from . import activations
from ._numbers import as_number, computed_in, narrow
from .layers import check_params
from .module import Key, Layer, Params, Shape, shape_error

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class ReLU(Layer):
    """:func:`~funcgrad_nn.relu` of each element.

    >>> nn.ReLU()({}, np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.relu(x)


class LeakyReLU(Layer):
    """:func:`~funcgrad_nn.leaky_relu` of each element.

    >>> nn.LeakyReLU(0.1)({}, np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    negative_slope: float = 0.01

    def apply(self, params: Params, x: Any) -> Any:
        return activations.leaky_relu(x, self.negative_slope)


class Tanh(Layer):
    """``np.tanh`` of each element.

    >>> nn.Tanh()({}, np.zeros(2))
    array([0., 0.])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return np.tanh(x)


class Sigmoid(Layer):
    """:func:`~funcgrad_nn.sigmoid` of each element.

    >>> nn.Sigmoid()({}, np.zeros(2))
    array([0.5, 0.5])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.sigmoid(x)


class GELU(Layer):
    """:func:`~funcgrad_nn.gelu` of each element, exact or approximate.

    >>> nn.GELU()({}, np.array([0.0, 1.0])).round(3)
    array([0.   , 0.841])
    """

    approximate: bool = False

    def apply(self, params: Params, x: Any) -> Any:
        return activations.gelu(x, self.approximate)


class SiLU(Layer):
    """:func:`~funcgrad_nn.silu` of each element.

    >>> nn.SiLU()({}, np.array([0.0, 1.0])).round(3)
    array([0.   , 0.731])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.silu(x)


class Softplus(Layer):
    """:func:`~funcgrad_nn.softplus` of each element.

    >>> nn.Softplus()({}, np.array([0.0, 1.0])).round(3)
    array([0.693, 1.313])
    """

    beta: float = 1.0

    def apply(self, params: Params, x: Any) -> Any:
        return activations.softplus(x, self.beta)


class Softmax(Layer):
    """:func:`~funcgrad_nn.softmax` along an axis.

    Before :func:`~funcgrad_nn.cross_entropy` leave it out: that takes logits.

    >>> nn.Softmax()({}, np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    axis: int = -1

    def apply(self, params: Params, x: Any) -> Any:
        return activations.softmax(x, self.axis)


class Softmax2d(Layer):
    """:func:`~funcgrad_nn.softmax` over the channels of (batch, channels, height, width).

    >>> nn.Softmax2d()({}, np.zeros((1, 2, 1, 1))).ravel()
    array([0.5, 0.5])
    """

    def apply(self, params: Params, x: Any) -> Any:
        if len(x.shape) != 4:
            raise shape_error(
                self, f"inputs must have shape (batch, channels, height, width), got {x.shape}."
            )
        return activations.softmax(x, 1)


class Softmin(Layer):
    """:func:`~funcgrad_nn.softmax` of ``-x`` along an axis.

    >>> nn.Softmin()({}, np.array([[0.0, np.log(3.0)]]))
    array([[0.75, 0.25]])
    """

    axis: int = -1

    def apply(self, params: Params, x: Any) -> Any:
        return activations.softmax(-x, self.axis)


class LogSoftmax(Layer):
    """:func:`~funcgrad_nn.log_softmax` along an axis; for :func:`~funcgrad_nn.nll`.

    >>> nn.LogSoftmax()({}, np.zeros((1, 4))).round(3)
    array([[-1.386, -1.386, -1.386, -1.386]])
    """

    axis: int = -1

    def apply(self, params: Params, x: Any) -> Any:
        return activations.log_softmax(x, self.axis)


class ELU(Layer):
    """:func:`~funcgrad_nn.elu` of each element.

    >>> nn.ELU()({}, np.array([-1.0, 2.0])).round(3)
    array([-0.632,  2.   ])
    """

    alpha: float = 1.0

    def apply(self, params: Params, x: Any) -> Any:
        return activations.elu(x, self.alpha)


class SELU(Layer):
    """:func:`~funcgrad_nn.selu` of each element.

    >>> nn.SELU()({}, np.array([-1.0, 2.0])).round(3)
    array([-1.111,  2.101])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.selu(x)


class CELU(Layer):
    """:func:`~funcgrad_nn.celu` of each element.

    >>> nn.CELU(2.0)({}, np.array([-1.0, 2.0])).round(3)
    array([-0.787,  2.   ])
    """

    alpha: float = 1.0

    def apply(self, params: Params, x: Any) -> Any:
        return activations.celu(x, self.alpha)


class Mish(Layer):
    """:func:`~funcgrad_nn.mish` of each element.

    >>> nn.Mish()({}, np.array([-1.0, 1.0])).round(3)
    array([-0.303,  0.865])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.mish(x)


class LogSigmoid(Layer):
    """:func:`~funcgrad_nn.logsigmoid` of each element.

    >>> nn.LogSigmoid()({}, np.array([0.0])).round(3)
    array([-0.693])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.logsigmoid(x)


class Hardtanh(Layer):
    """:func:`~funcgrad_nn.hardtanh` of each element.

    >>> nn.Hardtanh()({}, np.array([-2.0, 0.5]))
    array([-1. ,  0.5])
    """

    min_val: float = -1.0
    max_val: float = 1.0

    def apply(self, params: Params, x: Any) -> Any:
        return activations.hardtanh(x, self.min_val, self.max_val)


class ReLU6(Layer):
    """:func:`~funcgrad_nn.relu6` of each element.

    >>> nn.ReLU6()({}, np.array([-1.0, 9.0]))
    array([0., 6.])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.relu6(x)


class Hardsigmoid(Layer):
    """:func:`~funcgrad_nn.hardsigmoid` of each element.

    >>> nn.Hardsigmoid()({}, np.array([-4.0, 0.0]))
    array([0. , 0.5])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.hardsigmoid(x)


class Hardswish(Layer):
    """:func:`~funcgrad_nn.hardswish` of each element.

    >>> nn.Hardswish()({}, np.array([-4.0, 1.5]))
    array([0.   , 1.125])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.hardswish(x)


class Softshrink(Layer):
    """:func:`~funcgrad_nn.softshrink` of each element.

    >>> nn.Softshrink()({}, np.array([0.25, 1.0]))
    array([0. , 0.5])
    """

    lambd: float = 0.5

    def apply(self, params: Params, x: Any) -> Any:
        return activations.softshrink(x, self.lambd)


class Hardshrink(Layer):
    """:func:`~funcgrad_nn.hardshrink` of each element.

    >>> nn.Hardshrink()({}, np.array([0.25, 1.0]))
    array([0., 1.])
    """

    lambd: float = 0.5

    def apply(self, params: Params, x: Any) -> Any:
        return activations.hardshrink(x, self.lambd)


class Softsign(Layer):
    """:func:`~funcgrad_nn.softsign` of each element.

    >>> nn.Softsign()({}, np.array([0.0, 1.0]))
    array([0. , 0.5])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.softsign(x)


class Tanhshrink(Layer):
    """:func:`~funcgrad_nn.tanhshrink` of each element.

    >>> nn.Tanhshrink()({}, np.array([0.0, 1.0])).round(3)
    array([0.   , 0.238])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return activations.tanhshrink(x)


class Threshold(Layer):
    """:func:`~funcgrad_nn.threshold` of each element.

    >>> nn.Threshold(0.5, -9.0)({}, np.array([0.25, 1.0]))
    array([-9.,  1.])
    """

    threshold: float
    value: float

    def apply(self, params: Params, x: Any) -> Any:
        return activations.threshold(x, self.threshold, self.value)


class GLU(Layer):
    """:func:`~funcgrad_nn.glu` along an axis, which becomes half as long.

    >>> nn.GLU()({}, np.array([[1.0, 2.0, 0.0, 0.0]]))
    array([[0.5, 1. ]])
    """

    axis: int = -1

    def apply(self, params: Params, x: Any) -> Any:
        return activations.glu(x, self.axis)


class PReLU(Layer):
    """:func:`~funcgrad_nn.prelu` of each element, with a slope below 0 that is learned.

    Parameters: ``{"weight": (num_parameters,)}``.

    Args:
        num_parameters: 1, or the number of channels, for a slope of each.
        init_value: what the slopes begin as.
        axis: that of the channels; -1 for channels last.

    >>> layer = nn.PReLU(3)
    >>> params = layer.init(0, 3)
    >>> params
    {'weight': array([0.25, 0.25, 0.25], dtype=float32)}
    >>> layer(params, np.array([[-1.0, 0.0, 2.0]]))
    array([[-0.25,  0.  ,  2.  ]])
    """

    num_parameters: int = 1
    init_value: float = 0.25
    axis: int = 1

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        return {"weight": np.full(self.num_parameters, self.init_value, dtype)}

    def apply(self, params: Params, x: Any) -> Any:
        check_params(self, params, {"weight": (self.num_parameters,)})
        return activations.prelu(x, params["weight"], self.axis)


class RReLU(Layer):
    """ReLU with a slope below 0 that is drawn for each element in training mode.

    The evaluation takes the mean of the two. B. Xu, N. Wang, T. Chen, M. Li (2015), *Empirical
    Evaluation of Rectified Activations in Convolutional Network*.

    Args:
        lower: the least slope.
        upper: the greatest.

    Raises:
        ArgumentError: the first is larger than the second.
        TrainingModeError: (``train``) there is no key.

    >>> layer = nn.RReLU(0.1, 0.3)
    >>> layer({}, np.array([-1.0, 2.0]))
    array([-0.2,  2. ])
    >>> y, _ = layer.train({}, np.array([[-1.0, 2.0]]), fg.random.key(0))
    >>> -0.3 <= y[0, 0] <= -0.1, y[0, 1]
    (np.True_, np.float64(2.0))
    """

    needs_key: ClassVar[bool] = True

    lower: float = 1 / 8
    upper: float = 1 / 3

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise ArgumentError(f"RReLU: lower={self.lower!r} is not below upper={self.upper!r}")

    def apply(self, params: Params, x: Any) -> Any:
        return activations.leaky_relu(x, (as_number(self.lower) + as_number(self.upper)) / 2)

    def apply_training(self, params: Params, x: Any, key: Any) -> tuple[Any, Params]:
        dtype = computed_in(x.dtype) if x.dtype.kind == "f" else np.dtype(float)
        u = random.uniform(key, x.shape, dtype=dtype)
        slopes = as_number(self.lower) + (as_number(self.upper) - as_number(self.lower)) * u
        return narrow(fnp.where(x > 0, x, slopes * x), x.dtype), params
