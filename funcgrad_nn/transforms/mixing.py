"""Transforms of a batch of images and labels, which mix its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import ArgumentError, DatasetError, OperandTypeError

from . import layout
from .base import Transform
from .convert import one_hot_rows
from .keys import as_states

Array = NDArray[Any]


class _Mixing(Transform):
    """A random function of a batch: ``(key, (images, labels))``."""

    random = True

    def __init__(self, num_classes: int, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ArgumentError(f"{type(self).__name__}: alpha must be positive, not {alpha!r}")
        self.num_classes, self.alpha = num_classes, alpha

    def __call__(self, *args: Any) -> Any:
        key, batch = self._split(args, "")
        name = type(self).__name__
        seed = int(as_states(name, key, 0))
        pair = type(batch) is tuple
        parts: list[Any] = [*batch] if pair else []
        if len(parts) != 2 or not np.ndim(parts[0]):
            raise DatasetError(
                f"{name} mixes the samples of a batch, a pair (images, labels): use it as "
                "DataLoader(..., batch_transform=...), not as the transform of a dataset"
            )
        images, labels = parts
        rng = np.random.default_rng(seed)
        share = rng.beta(self.alpha, self.alpha)
        rows = labels
        if labels.ndim == 1:
            rows = one_hot_rows(name, labels, self.num_classes)
        mixed, share = self._mixed(images, share, rng)
        share = rows.dtype.type(share)
        return mixed, share * rows + (1 - share) * np.roll(rows, 1, axis=0)

    def batch(self, *args: Any) -> Any:
        raise ArgumentError(f"{type(self).__name__} takes one key and one batch: call it")

    def _mixed(self, images: Array, share: float, rng: np.random.Generator) -> tuple[Array, float]:
        raise NotImplementedError


class MixUp(_Mixing):
    """Each image and its label mixed with those of the sample before, in one proportion a batch.

    Args:
        num_classes: how many classes there are; labels become rows of so many probabilities.
        alpha: the proportion is drawn from Beta(alpha, alpha).

    Source: H. Zhang et al. (2017), *mixup: Beyond Empirical Risk Minimization*,
    https://arxiv.org/abs/1710.09412.

    >>> images, labels = np.zeros((2, 3, 8, 8), np.float32), np.array([0, 2])
    >>> images, labels = MixUp(num_classes=3)(fg.random.key(0), (images, labels))
    >>> labels.shape, bool(np.allclose(labels.sum(axis=1), 1))
    ((2, 3), True)
    """

    def _mixed(self, images: Array, share: float, rng: np.random.Generator) -> tuple[Array, float]:
        if not layout.channels_first(images):
            raise OperandTypeError(f"MixUp takes floats, not {images.dtype}: use ToArray() before")
        share = images.dtype.type(share)
        return share * images + (1 - share) * np.roll(images, 1, axis=0), share


class CutMix(_Mixing):
    """In each image, a box taken from the sample before; the label mixed by the box's area.

    Args:
        num_classes: how many classes there are; labels become rows of so many probabilities.
        alpha: the part outside the box is drawn from Beta(alpha, alpha).

    Source: S. Yun et al. (2019), *CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features*, https://arxiv.org/abs/1905.04899.

    >>> images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 2])
    >>> images, labels = CutMix(num_classes=3)(fg.random.key(0), (images, labels))
    >>> images.shape, labels.shape
    ((2, 8, 8, 3), (2, 3))
    """

    def _mixed(self, images: Array, share: float, rng: np.random.Generator) -> tuple[Array, float]:
        x = layout.planes("CutMix", images)
        bounds: list[slice] = []
        for length in x.shape[2:4]:
            half = 0.5 * float(np.sqrt(1 - share)) * length
            center: Any = rng.integers(0, int(length))  # pyright: ignore[reportUnknownMemberType]
            bounds.append(slice(max(0, int(center - half)), min(length, int(center + half))))
        result = x.copy()
        rows, columns = bounds
        result[:, :, rows, columns] = np.roll(x, 1, axis=0)[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / (x.shape[2] * x.shape[3])
        return layout.restored(result, images), share
