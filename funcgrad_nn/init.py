"""Initialisers: how the entries of a new parameter are drawn.

An initialiser is a function ``(key, shape, dtype) -> array``; any function of this form will do.
Those made here are immutable, compare by their settings and print readably.

The fans of a shape are those of a weight in the layout ``(..., inputs, outputs)``: ``fan_in`` is
the product of all axes but the last, ``fan_out`` that of all but the last but one.

>>> from funcgrad_nn import init
>>> init.glorot_uniform()(fg.random.key(0), (2, 3)).shape
(2, 3)
>>> nn.Linear(2, 3, weight_init=init.he_normal())
Linear(in_features=2, out_features=3, bias=True, weight_init=he_normal())
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from funcgrad import random
from funcgrad.errors import ArgumentError

from ._numbers import as_number

Array = NDArray[Any]
Key = NDArray[np.uint32]
Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["uniform", "normal", "truncated_normal"]

__all__ = [
    "Initializer",
    "constant",
    "fan_in_uniform",
    "fans",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


class Initializer(Protocol):
    """A function that draws a new parameter.

    >>> def small(key, shape, dtype=np.float32):
    ...     return fg.random.normal(key, shape, dtype) * np.float32(1e-2)
    >>> nn.Linear(2, 3, weight_init=small).init(0, (2,))["weight"].dtype
    dtype('float32')
    """

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = ..., /) -> Array: ...


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs and outputs a weight of this shape connects: ``(fan_in, fan_out)``.

    Raises:
        ArgumentError: the shape has less than two axes.

    >>> fans((784, 512))
    (784, 512)
    >>> fans((3, 3, 16, 32))
    (144, 288)
    """
    if len(shape) < 2:
        raise ArgumentError(
            f"the fans of shape {tuple(shape)} are not defined: it takes (..., inputs, outputs). "
            "For vectors, such as biases, use zeros, uniform or normal."
        )
    *kernel, inputs, outputs = shape
    return math.prod(kernel) * inputs, math.prod(kernel) * outputs


# -- Constants -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Constant:
    value: float
    name: str = "constant"

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = np.float32, /) -> Array:
        return np.full(tuple(shape), self.value, dtype)

    def __repr__(self) -> str:
        return f"constant({self.value!r})" if self.name == "constant" else f"{self.name}()"


def constant(value: float) -> Initializer:
    """All entries are ``value``.

    >>> constant(0.5)(fg.random.key(0), (2,))
    array([0.5, 0.5], dtype=float32)
    """
    return _Constant(as_number(value))


def zeros() -> Initializer:
    """All entries are 0.

    >>> zeros()(fg.random.key(0), (2,))
    array([0., 0.], dtype=float32)
    """
    return _Constant(0.0, "zeros")


def ones() -> Initializer:
    """All entries are 1.

    >>> ones()(fg.random.key(0), (2,))
    array([1., 1.], dtype=float32)
    """
    return _Constant(1.0, "ones")


# -- Distributions with given parameters ---------------------------------------------------------


@dataclass(frozen=True)
class _Uniform:
    low: float
    high: float

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = np.float32, /) -> Array:
        return random.uniform(key, tuple(shape), dtype, self.low, self.high)

    def __repr__(self) -> str:
        return f"uniform({self.low!r}, {self.high!r})"


def uniform(low: float = 0.0, high: float = 1.0) -> Initializer:
    """Uniform in [low, high).

    >>> values = uniform(-0.1, 0.1)(fg.random.key(0), (1000,))
    >>> bool(np.all(np.abs(values) <= 0.1))
    True
    """
    return _Uniform(as_number(low), as_number(high))


@dataclass(frozen=True)
class _Normal:
    stddev: float
    mean: float
    truncated: bool = False

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = np.float32, /) -> Array:
        return _gaussian(key, shape, dtype, self.truncated) * self.stddev + self.mean

    def __repr__(self) -> str:
        kind = "truncated_normal" if self.truncated else "normal"
        return f"{kind}({self.stddev!r}, {self.mean!r})"


def _gaussian(key: Key, shape: Sequence[int], dtype: DTypeLike, truncated: bool) -> Array:
    if truncated:
        return random.truncated_normal(key, -2.0, 2.0, tuple(shape), dtype)
    return random.normal(key, tuple(shape), dtype)


def normal(stddev: float = 1.0, mean: float = 0.0) -> Initializer:
    """Normal with a mean and a standard deviation.

    >>> normal(0.01)(fg.random.key(0), (2, 2)).dtype
    dtype('float32')
    """
    return _Normal(as_number(stddev), as_number(mean))


def truncated_normal(stddev: float = 1.0, mean: float = 0.0) -> Initializer:
    """Normal, cut off two standard deviations from its mean.

    ``stddev`` is that of the normal distribution before it is cut off.

    >>> values = truncated_normal(0.5)(fg.random.key(0), (1000,))
    >>> bool(np.all(np.abs(values) <= 1.0))
    True
    """
    return _Normal(as_number(stddev), as_number(mean), truncated=True)


# -- Distributions scaled by the fans ------------------------------------------------------------


# The standard deviation of a standard normal distribution cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class _VarianceScaling:
    scale: float
    mode: Mode
    distribution: Distribution
    text: str

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = np.float32, /) -> Array:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        if self.distribution == "uniform":
            bound = math.sqrt(3.0) * stddev
            return random.uniform(key, tuple(shape), dtype, -bound, bound)
        truncated = self.distribution == "truncated_normal"
        draws = _gaussian(key, shape, dtype, truncated)
        return draws * (stddev / _TRUNCATED_STDDEV if truncated else stddev)

    def __repr__(self) -> str:
        return self.text


def variance_scaling(scale: float, mode: Mode, distribution: Distribution) -> Initializer:
    """Mean 0 and variance ``scale / fan``; the other initialisers with fans are cases of it.

    Args:
        scale: the variance times the fan.
        mode: which fan: ``"fan_in"``, ``"fan_out"``, or ``"fan_avg"``, the mean of both.
        distribution: ``"uniform"``, ``"normal"``, or ``"truncated_normal"``, which is cut off at
            two standard deviations and scaled to have the variance afterwards.

    Raises:
        ArgumentError: an unknown mode or distribution, or a negative scale.

    >>> variance_scaling(2.0, "fan_in", "normal")(fg.random.key(0), (100, 10)).shape
    (100, 10)
    """
    scale = as_number(scale)
    text = f"variance_scaling({scale!r}, {mode!r}, {distribution!r})"
    return _scaled(scale, mode, distribution, text)


def _scaled(scale: float, mode: Any, distribution: Any, text: str) -> Initializer:
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ArgumentError(f"mode must be 'fan_in', 'fan_out' or 'fan_avg', not {mode!r}")
    if distribution not in ("uniform", "normal", "truncated_normal"):
        raise ArgumentError(
            f"distribution must be 'uniform', 'normal' or 'truncated_normal', not {distribution!r}"
        )
    if scale < 0:
        raise ArgumentError(f"scale must not be negative, got {scale!r}")
    return _VarianceScaling(scale, mode, distribution, text)


def fan_in_uniform() -> Initializer:
    """Uniform in ±1/√fan_in: PyTorch's default for the weights of ``Linear``.

    >>> weight = fan_in_uniform()(fg.random.key(0), (100, 30))
    >>> bool(np.abs(weight).max() <= 0.1)
    True
    """
    return _scaled(1 / 3, "fan_in", "uniform", "fan_in_uniform()")


def _call(name: str, gain: float) -> str:
    return f"{name}()" if gain == 1.0 else f"{name}({gain!r})"


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)).

    X. Glorot, Y. Bengio (2010), *Understanding the difficulty of training deep feedforward neural
    networks*.

    >>> glorot_uniform()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    gain = as_number(gain)
    return _scaled(gain**2, "fan_avg", "uniform", _call("glorot_uniform", gain))


def glorot_normal(gain: float = 1.0) -> Initializer:
    """Normal with standard deviation gain·√(2 / (fan_in + fan_out)); see :func:`glorot_uniform`.

    >>> glorot_normal()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    gain = as_number(gain)
    return _scaled(gain**2, "fan_avg", "normal", _call("glorot_normal", gain))


def he_uniform(mode: Mode = "fan_in") -> Initializer:
    """Uniform in ±√(6 / fan), for layers before a ReLU.

    K. He, X. Zhang, S. Ren, J. Sun (2015), *Delving Deep into Rectifiers*.

    >>> he_uniform()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _scaled(2.0, mode, "uniform", _of_mode("he_uniform", mode))


def he_normal(mode: Mode = "fan_in") -> Initializer:
    """Normal with standard deviation √(2 / fan), for layers before a ReLU; see :func:`he_uniform`.

    >>> he_normal()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _scaled(2.0, mode, "normal", _of_mode("he_normal", mode))


def _of_mode(name: str, mode: str) -> str:
    return f"{name}()" if mode == "fan_in" else f"{name}({mode!r})"


def lecun_uniform() -> Initializer:
    """Uniform in ±√(3 / fan_in).

    Y. LeCun, L. Bottou, G. Orr, K. Müller (1998), *Efficient BackProp*.

    >>> lecun_uniform()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _scaled(1.0, "fan_in", "uniform", "lecun_uniform()")


def lecun_normal() -> Initializer:
    """Normal with standard deviation √(1 / fan_in); see :func:`lecun_uniform`.

    >>> lecun_normal()(fg.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _scaled(1.0, "fan_in", "normal", "lecun_normal()")


xavier_uniform = glorot_uniform
""":func:`glorot_uniform`, as PyTorch calls it."""
xavier_normal = glorot_normal
""":func:`glorot_normal`, as PyTorch calls it."""
kaiming_uniform = he_uniform
""":func:`he_uniform`, as PyTorch calls it."""
kaiming_normal = he_normal
""":func:`he_normal`, as PyTorch calls it."""


@dataclass(frozen=True)
class _Orthogonal:
    gain: float

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = np.float32, /) -> Array:
        if len(shape) < 2:
            raise ArgumentError(f"orthogonal needs at least two axes, not shape {tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(random.normal(key, tall, np.float64))
        # Without the signs the distribution would depend on the decomposition's conventions.
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        q = q if rows >= columns else q.T
        return (self.gain * q).reshape(tuple(shape)).astype(dtype)

    def __repr__(self) -> str:
        return _call("orthogonal", self.gain)


def orthogonal(gain: float = 1.0) -> Initializer:
    """Orthonormal rows or columns, whichever are fewer, times ``gain``.

    All axes but the last count as one. The distribution is uniform (Haar's): F. Mezzadri (2007),
    *How to generate random matrices from the classical compact groups*.

    >>> q = orthogonal()(fg.random.key(0), (4, 2), np.float64)
    >>> bool(np.allclose(q.T @ q, np.eye(2)))
    True
    """
    return _Orthogonal(as_number(gain))
