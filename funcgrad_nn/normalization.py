"""Normalisation: of a batch, of single examples, of groups of channels.

Formulas and defaults are PyTorch's. float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

import funcgrad as fg
from funcgrad.errors import ArgumentError

from ._numbers import computed_in, narrow, widen
from .module import Array, Key, Layer, Params, Shape, shape_error
from .parameters import State

__all__ = [
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchStatistics",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
]


class BatchStatistics(State):
    """What :class:`BatchNorm` has gathered, arrays of shape (channels,).

    Attributes:
        mean: the running mean.
        var: the running variance, unbiased.

    >>> nn.BatchNorm(2).init(0, 2)["running"]
    BatchStatistics(mean=array([0., 0.], dtype=float32), var=array([1., 1.], dtype=float32))
    """

    mean: Any
    var: Any


def _check_count(layer: Layer, name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ArgumentError(
            f"{type(layer).__name__}: {name} must be a positive integer, not {count!r}"
        )


def _check_not_negative(layer: Layer, name: str, number: float) -> None:
    if not number >= 0:
        raise ArgumentError(f"{type(layer).__name__}: {name} must not be negative, got {number!r}")


def _scales(size: Shape, dtype: np.dtype[Any], bias: bool = True) -> dict[str, Array]:
    weight = {"weight": np.ones(size, dtype)}
    return weight | {"bias": np.zeros(size, dtype)} if bias else weight


def _scaled(params: Params, x: Any, shape: Shape | None = None) -> Any:
    """x times the weight plus the bias, of those that there are, broadcast as this shape."""
    for name, combine in (("weight", np.multiply), ("bias", np.add)):
        if name in params:
            scale = widen(params[name])
            x = combine(x, scale if shape is None else scale.reshape(shape))
    return x


def _standardized(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    """Of mean 0 and variance 1 over these axes; the variance is that of the numbers themselves."""
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + eps)


class BatchNorm(Layer):
    """Each channel less its mean over its standard deviation, times a weight, plus a bias.

    In training mode, ``train``, mean and variance are the batch's, over all axes but that of the
    channels, and the running ones move towards them; the evaluation takes the running ones.
    S. Ioffe, C. Szegedy (2015), *Batch Normalization: Accelerating Deep Network Training by
    Reducing Internal Covariate Shift*.

    Parameters: ``{"weight": (channels,), "bias": (channels,), "running": BatchStatistics}``,
    without the first two where not ``affine``, without the last where statistics are not tracked.

    Args:
        num_features: the number of channels; None for as many as inputs have when ``init`` makes
            the parameters.
        eps: added to the variance.
        momentum: how far the running statistics move towards the batch's, from 0 to 1.
        affine: whether there are a weight and a bias.
        axis: that of the channels; -1 for channels last.
        track_running_stats: whether there are running statistics; without, the evaluation takes
            those of its batch, too.

    Inputs have shape ``(batch, channels, ...)``, with any number of axes behind.

    Raises:
        ArgumentError: an option is out of range.
        LayerShapeError: there are other channels, or (``train``) one number a channel.

    >>> layer = nn.BatchNorm(2)
    >>> params = layer.init(0, 2)
    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    >>> y, params = layer.train(params, x)
    >>> y.round(3)
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)
    >>> params["running"].mean.round(3), params["running"].var.round(3)
    (array([0.2, 0.5], dtype=float32), array([1.1, 0.9], dtype=float32))
    """

    _ranks: ClassVar[tuple[int, ...] | None] = None

    num_features: int | None
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    axis: int = 1
    track_running_stats: bool = True

    def __post_init__(self) -> None:
        if self.num_features is not None:
            _check_count(self, "num_features", self.num_features)
        _check_not_negative(self, "eps", self.eps)
        if not 0 <= self.momentum <= 1:
            name = type(self).__name__
            raise ArgumentError(f"{name}: momentum must be from 0 to 1, not {self.momentum!r}")

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        channels = self._check((1, *input_shape), None)[0]
        shape, wide = (math.prod(channels),), computed_in(dtype)
        params: dict[str, Any] = {**_scales(shape, dtype)} if self.affine else {}
        if self.track_running_stats:
            params["running"] = BatchStatistics(np.zeros(shape, wide), np.ones(shape, wide))
        return params

    def apply(self, params: Params, x: Any) -> Any:
        if not self.track_running_stats:
            return self._by_batch(params, x)[0]
        shape, _ = self._check(x.shape, params)
        wide, running = widen(x), params["running"]
        scale = 1 / np.sqrt(running.var + self.eps)
        centred = wide - running.mean.reshape(shape)
        return narrow(_scaled(params, centred * scale.reshape(shape), shape), x.dtype)

    def apply_training(self, params: Params, x: Any, key: Any) -> tuple[Any, Params]:
        y, mean, unbiased = self._by_batch(params, x)
        if not self.track_running_stats:
            return y, params

        def moved(old: Any, new: Any) -> Any:
            new = narrow(fg.stop_gradient(new).reshape(old.shape), old.dtype)
            return (1 - self.momentum) * old + self.momentum * new

        running = params["running"]
        new = BatchStatistics(moved(running.mean, mean), moved(running.var, unbiased))
        return y, {**params, "running": new}

    def _by_batch(self, params: Params, x: Any) -> tuple[Any, Any, Any]:
        """The outputs by the batch's own statistics; its mean and its unbiased variance."""
        shape, axes = self._check(x.shape, params)
        count = math.prod([x.shape[axis] for axis in axes])
        if count < 2:
            raise shape_error(
                self,
                f"takes more than one number a channel for statistics of the batch, got inputs of "
                f"shape {x.shape}. Make batches larger (DataLoader(..., drop_last=True)).",
            )
        wide = widen(x)
        mean = np.mean(wide, axis=axes, keepdims=True)
        centred = wide - mean
        var = np.mean(np.square(centred), axis=axes, keepdims=True)
        y = _scaled(params, centred / np.sqrt(var + self.eps), shape)
        return narrow(y, x.dtype), mean, var * (count / (count - 1))

    def _check(self, shape: Shape, params: Params) -> tuple[Shape, tuple[int, ...]]:
        """The shape that arrays of the channels are broadcast as, and the axes of the rest."""
        rank = len(shape)
        if self._ranks is not None and rank not in self._ranks:
            ranks = " or ".join(map(str, self._ranks))
            raise shape_error(self, f"inputs must have {ranks} axes, got shape {tuple(shape)}.")
        axis = self.axis + rank if self.axis < 0 else self.axis
        count = self.num_features
        if count is None and params:
            known = params["running"].mean if self.track_running_stats else params["weight"]
            (count,) = known.shape
        if not 0 < axis < rank or count not in (None, shape[axis]):
            number = "" if count is None else f"{count} "
            raise shape_error(
                self,
                f"inputs must have {number}channels along axis {self.axis}, behind the batch's, "
                f"got shape {tuple(shape)}.",
            )
        axes = tuple(i for i in range(rank) if i != axis)
        return tuple([n if i == axis else 1 for i, n in enumerate(shape)]), axes


class BatchNorm1d(BatchNorm):
    """:class:`BatchNorm` of (batch, channels) or (batch, channels, length).

    >>> layer = nn.BatchNorm1d(3)
    >>> layer(layer.init(0, 3), np.ones((2, 3), np.float32)).shape
    (2, 3)
    """

    _ranks: ClassVar[tuple[int, ...] | None] = (2, 3)


class BatchNorm2d(BatchNorm):
    """:class:`BatchNorm` of (batch, channels, height, width).

    >>> layer = nn.BatchNorm2d(3)
    >>> layer(layer.init(0, (3, 4, 4)), np.ones((2, 3, 4, 4), np.float32)).shape
    (2, 3, 4, 4)
    """

    _ranks: ClassVar[tuple[int, ...] | None] = (4,)


class BatchNorm3d(BatchNorm):
    """:class:`BatchNorm` of (batch, channels, depth, height, width).

    >>> layer = nn.BatchNorm3d(1)
    >>> layer(layer.init(0, (1, 2, 2, 2)), np.ones((2, 1, 2, 2, 2), np.float32)).shape
    (2, 1, 2, 2, 2)
    """

    _ranks: ClassVar[tuple[int, ...] | None] = (5,)


class _LastAxes(Layer):
    """What normalises over the last axes of single examples."""

    normalized_shape: int | tuple[int, ...]

    def _sizes(self) -> Shape:
        sizes = self.normalized_shape
        return tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)

    def _check(self, shape: Shape) -> tuple[int, ...]:
        sizes = self._sizes()
        if tuple(shape[len(shape) - len(sizes) :]) != sizes or len(shape) < len(sizes):
            raise shape_error(self, f"inputs must end in {sizes}, got shape {tuple(shape)}.")
        return tuple(range(-len(sizes), 0))


class LayerNorm(_LastAxes):
    """Each example of mean 0 and variance 1 over its last axes, times a weight, plus a bias.

    J. L. Ba, J. R. Kiros, G. E. Hinton (2016), *Layer Normalization*.

    Parameters: ``{"weight": normalized_shape, "bias": normalized_shape}``.

    Args:
        normalized_shape: the lengths of the last axes, or of the last one.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias.

    >>> layer = nn.LayerNorm(2)
    >>> layer(layer.init(0, 2), np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])
    """

    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        _check_not_negative(self, "eps", self.eps)

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check(input_shape)
        return _scales(self._sizes(), dtype, self.bias) if self.elementwise_affine else {}

    def apply(self, params: Params, x: Any) -> Any:
        axes = self._check(x.shape)
        return narrow(_scaled(params, _standardized(widen(x), axes, self.eps)), x.dtype)


class RMSNorm(_LastAxes):
    """Each example over the root of its mean square, over the last axes, times a weight.

    B. Zhang, R. Sennrich (2019), *Root Mean Square Layer Normalization*.

    Parameters: ``{"weight": normalized_shape}``.

    Args:
        normalized_shape: the lengths of the last axes, or of the last one.
        eps: added to the mean square; by default the dtype's epsilon.
        elementwise_affine: whether there is a weight.

    >>> layer = nn.RMSNorm(2)
    >>> layer(layer.init(0, 2), np.array([[3.0, 4.0]])).round(3)
    array([[0.849, 1.131]])
    """

    eps: float | None = None
    elementwise_affine: bool = True

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check(input_shape)
        return _scales(self._sizes(), dtype, bias=False) if self.elementwise_affine else {}

    def apply(self, params: Params, x: Any) -> Any:
        axes, wide = self._check(x.shape), widen(x)
        eps = float(np.finfo(x.dtype).eps) if self.eps is None else self.eps
        size = np.mean(np.square(wide), axis=axes, keepdims=True)
        return narrow(_scaled(params, wide / np.sqrt(size + eps)), x.dtype)


class GroupNorm(Layer):
    """Groups of channels of each example, of mean 0 and variance 1, times a weight, plus a bias.

    Y. Wu, K. He (2018), *Group Normalization*.

    Parameters: ``{"weight": (channels,), "bias": (channels,)}``.

    Args:
        num_groups: into so many groups the channels are divided.
        num_channels: a multiple of that.
        eps: added to the variance.
        affine: whether there are a weight and a bias.

    Inputs have shape ``(batch, channels, ...)``.

    Raises:
        ArgumentError: the groups do not divide the channels.

    >>> layer = nn.GroupNorm(1, 2)
    >>> layer(layer.init(0, 2), np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])
    """

    num_groups: int
    num_channels: int
    eps: float = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        _check_count(self, "num_groups", self.num_groups)
        _check_count(self, "num_channels", self.num_channels)
        _check_not_negative(self, "eps", self.eps)
        if self.num_channels % self.num_groups:
            raise ArgumentError(
                f"GroupNorm: {self.num_groups} groups do not divide {self.num_channels} channels"
            )

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check((1, *input_shape))
        return _scales((self.num_channels,), dtype) if self.affine else {}

    def apply(self, params: Params, x: Any) -> Any:
        self._check(x.shape)
        groups = widen(x).reshape((x.shape[0], self.num_groups, -1))
        y = _standardized(groups, (2,), self.eps).reshape(x.shape)
        channels = (self.num_channels, *[1] * (x.ndim - 2))
        return narrow(_scaled(params, y, channels), x.dtype)

    def _check(self, shape: Shape) -> None:
        if tuple(shape[1:2]) != (self.num_channels,):
            raise shape_error(
                self,
                f"inputs must have shape (batch, {self.num_channels}, ...), got {tuple(shape)}.",
            )


class InstanceNorm(Layer):
    """Each channel of each example of mean 0 and variance 1 over the axes behind it.

    D. Ulyanov, A. Vedaldi, V. Lempitsky (2016), *Instance Normalization: The Missing Ingredient
    for Fast Stylization*. As in PyTorch, there are by default no parameters; training and
    evaluation are the same.

    Args:
        num_features: the number of channels.
        eps: added to the variance.
        affine: whether there are a weight and a bias, of shape (channels,).

    Inputs have shape ``(batch, channels, ...)`` with at least one axis behind.

    >>> layer = nn.InstanceNorm(1)
    >>> layer(layer.init(0, (1, 2)), np.array([[[1.0, 3.0]]])).round(3)
    array([[[-1.,  1.]]])
    """

    num_features: int
    eps: float = 1e-5
    affine: bool = False

    def __post_init__(self) -> None:
        _check_count(self, "num_features", self.num_features)
        _check_not_negative(self, "eps", self.eps)

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check((1, *input_shape))
        return _scales((self.num_features,), dtype) if self.affine else {}

    def apply(self, params: Params, x: Any) -> Any:
        self._check(x.shape)
        y = _standardized(widen(x), tuple(range(2, x.ndim)), self.eps)
        return narrow(_scaled(params, y, (self.num_features, *[1] * (x.ndim - 2))), x.dtype)

    def _check(self, shape: Shape) -> None:
        if len(shape) < 3 or shape[1] != self.num_features:
            raise shape_error(
                self,
                f"inputs must have shape (batch, {self.num_features}, ...) with an axis behind "
                f"the channels', got {tuple(shape)}.",
            )
