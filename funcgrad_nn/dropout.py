"""Dropout: layers that drop at random in training mode, and do nothing else."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from funcgrad import random
from funcgrad.errors import ArgumentError

from ._numbers import as_number
from .module import Layer, Params, shape_error

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


class Dropout(Layer):
    """In training mode, sets each element to 0 with probability ``p``, and divides by ``1 - p``.

    So the mean stays; the evaluation does nothing. G. Hinton et al. (2012), *Improving neural
    networks by preventing co-adaptation of feature detectors*.

    Args:
        p: from 0 to 1.

    Raises:
        ArgumentError: p is out of range.
        TrainingModeError: (``train``) there is no key.

    >>> layer = nn.Dropout(0.5)
    >>> layer({}, np.ones(4))
    array([1., 1., 1., 1.])
    >>> y, _ = layer.train({}, np.ones((2, 4)), fg.random.key(0))
    >>> sorted(set(y.ravel()))
    [np.float64(0.0), np.float64(2.0)]
    """

    needs_key: ClassVar[bool] = True
    _axes: ClassVar[int] = 0

    p: float = 0.5

    def __post_init__(self) -> None:
        p = as_number(self.p)
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be from 0 to 1, not {self.p!r}")

    def apply(self, params: Params, x: Any) -> Any:
        self._check(x)
        return x

    def apply_training(self, params: Params, x: Any, key: Any) -> tuple[Any, Params]:
        self._check(x)
        if not self.p:
            return x, params
        shape = x.shape[: x.ndim - self._axes] + (1,) * self._axes
        kept = random.bernoulli(key, 1 - self.p, shape)
        if self.p == 1:
            return np.where(kept, x, 0), params
        return np.where(kept, x / (1 - self.p), 0), params

    def _check(self, x: Any) -> None:
        if self._axes and x.ndim != self._axes + 2:
            spatial = ("depth", "height", "width")[3 - self._axes :]
            wanted = ", ".join(("batch", "channels", *spatial))
            raise shape_error(self, f"inputs must have shape ({wanted}), got {x.shape}.")


class Dropout1d(Dropout):
    """:class:`Dropout` of whole channels of (batch, channels, length).

    >>> y, _ = nn.Dropout1d().train({}, np.ones((1, 8, 3)), fg.random.key(0))
    >>> [len(set(channel)) for channel in y[0]]
    [1, 1, 1, 1, 1, 1, 1, 1]
    """

    _axes: ClassVar[int] = 1


class Dropout2d(Dropout):
    """:class:`Dropout` of whole channels of (batch, channels, height, width).

    >>> y, _ = nn.Dropout2d().train({}, np.ones((1, 8, 3, 3)), fg.random.key(0))
    >>> [len(set(channel.ravel())) for channel in y[0]]
    [1, 1, 1, 1, 1, 1, 1, 1]
    """

    _axes: ClassVar[int] = 2


class Dropout3d(Dropout):
    """:class:`Dropout` of whole channels of (batch, channels, depth, height, width).

    >>> nn.Dropout3d()({}, np.ones((1, 8, 3, 3, 3))).shape
    (1, 8, 3, 3, 3)
    """

    _axes: ClassVar[int] = 3


# The limit of SELU below 0: what a dropped element becomes.
_SELU_LIMIT = -1.7580993408473766


class AlphaDropout(Dropout):
    """Dropout for networks of :class:`~funcgrad_nn.SELU`: mean 0 and variance 1 stay.

    What is dropped becomes SELU's limit for -∞, and all is scaled and shifted. G. Klambauer et al.
    (2017), *Self-Normalizing Neural Networks*.

    >>> y, _ = nn.AlphaDropout(0.5).train({}, np.zeros((1, 8)), fg.random.key(0))
    >>> sorted(set(y[0].round(3).tolist()))
    [-0.779, 0.779]
    """

    def apply_training(self, params: Params, x: Any, key: Any) -> tuple[Any, Params]:
        p = as_number(self.p)
        if not p:
            return x, params
        if p == 1:
            return x * 0, params
        kept = random.bernoulli(key, 1 - p, x.shape)
        scale = ((1 - p) * (1 + p * _SELU_LIMIT**2)) ** -0.5
        shift = -scale * _SELU_LIMIT * p
        return np.where(kept, x, _SELU_LIMIT) * scale + shift, params
