"""In which order, and how often, samples come in an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from funcgrad.errors import DatasetError

Indices = NDArray[np.integer[Any]]


@runtime_checkable
class Sampler(Protocol):
    """What ``DataLoader(sampler=...)`` takes: a pure function of the seed and the epoch.

    It also takes any sequence of integers, which is then the order of each epoch.

    >>> class EveryOther:
    ...     def __len__(self):
    ...         return 2
    ...
    ...     def order(self, seed, epoch):
    ...         return np.array([0, 2]) + epoch % 2
    >>> loader = nn.DataLoader(nn.ArrayDataset(np.arange(4)), 2, sampler=EveryOther())
    >>> [batch.tolist() for epoch in range(2) for batch in loader]
    [[0, 2], [1, 3]]
    """

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int) -> Indices:
        """The indices of the samples of an epoch."""
        ...


def shuffled(count: int, seed: int, epoch: int) -> Indices:
    """The order of a shuffled epoch, in integers no larger than needed."""
    order = np.arange(count, dtype=np.min_scalar_type(-count))
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def came_before(order: Indices) -> Indices | None:
    """How often each index has come before in an order; None if none comes again."""
    by_index = np.argsort(order, kind="stable")
    grouped = order[by_index]
    begins = np.flatnonzero(np.diff(grouped, prepend=-1))
    if len(begins) == len(order):
        return None
    counts = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    repeats = np.empty_like(counts)
    repeats[by_index] = counts
    return repeats


class FixedSampler:
    """Indices in the order in which they are given, in each epoch.

    Args:
        indices: integers.

    Raises:
        DatasetError: they are none.

    >>> FixedSampler([2, 0]).order(seed=0, epoch=5)
    array([2, 0])
    """

    def __init__(self, indices: Iterable[int]) -> None:
        array = np.asarray(indices if isinstance(indices, (Sized, np.ndarray)) else list(indices))
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DatasetError(
                "a sampler gives integers in one axis, these are of shape "
                f"{array.shape} and dtype {array.dtype}"
            )
        self.indices: Indices = array.astype(np.intp)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, seed: int, epoch: int) -> Indices:
        """The indices."""
        return self.indices


class WeightedSampler:
    """Samples drawn at random, each in proportion to its weight.

    Random transforms do something else each time that a sample comes.

    Args:
        weights: a non-negative number for each sample of the dataset.
        num_samples: how many are drawn in an epoch; by default as many as there are weights.
        replacement: whether a sample may come more than once.

    Raises:
        DatasetError: a weight is negative or not finite, all are 0, or without replacement fewer
            have a weight than are drawn.

    >>> sampler = WeightedSampler([0, 1, 1], num_samples=4)
    >>> bool((sampler.order(seed=0, epoch=0) == 0).any())
    False
    """

    def __init__(
        self, weights: ArrayLike, num_samples: int | None = None, replacement: bool = True
    ) -> None:
        self.weights = np.asarray(weights, np.float64)
        if (
            self.weights.ndim != 1
            or not np.isfinite(self.weights).all()
            or (self.weights < 0).any()
        ):
            raise DatasetError(
                "weights must be finite, non-negative numbers, one for each sample; got shape "
                f"{self.weights.shape}"
            )
        self.num_samples = len(self.weights) if num_samples is None else int(num_samples)
        self.replacement = replacement
        some = int(np.count_nonzero(self.weights))
        if some == 0 or self.num_samples < 1:
            raise DatasetError("there is nothing to draw: all weights are 0, or num_samples is")
        if not replacement and some < self.num_samples:
            raise DatasetError(
                f"{self.num_samples} samples cannot be drawn without replacement from {some} that "
                "have a weight"
            )

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> Indices:
        """The indices that are drawn."""
        rng = np.random.default_rng((seed, epoch))
        chances = self.weights / self.weights.sum()
        return rng.choice(len(chances), self.num_samples, self.replacement, chances)


class StratifiedSampler:
    """Shuffled, with the classes spread evenly: each batch has nearly the share of each.

    Args:
        labels: the class of each sample of the dataset.

    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> loader = nn.DataLoader(nn.ArrayDataset(labels), 20, sampler=StratifiedSampler(labels))
    >>> [int(batch.sum()) for batch in loader]
    [2, 2, 2, 2, 2]
    """

    def __init__(self, labels: ArrayLike) -> None:
        values = np.asarray(labels)
        if values.ndim != 1 or not len(values):
            raise DatasetError(
                f"labels must be in one axis, one for each sample; got shape {values.shape}"
            )
        _, self._classes = np.unique(values, return_inverse=True)
        self._counts = np.bincount(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def order(self, seed: int, epoch: int) -> Indices:
        """All indices."""
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self._classes))
        by_class = order[np.argsort(self._classes[order], kind="stable")]
        starts = np.cumsum(self._counts) - self._counts
        rank = np.arange(len(order)) - np.repeat(starts, self._counts)
        # Of n samples of a class, the i-th comes about after the share i / n of the epoch; classes
        # begin at places of their own.
        offset = np.repeat(rng.random(len(self._counts)), self._counts)
        when = (rank + offset) / np.repeat(self._counts, self._counts)
        return by_class[np.argsort(when, kind="stable")]


class DistributedSampler:
    """The part of an epoch that one of several processes has: all parts are of one length.

    The processes need the same seed. Where the samples do not divide evenly, the first ones of the
    epoch come again at its end, or the last ones are left out with ``drop_last``.

    Args:
        dataset: a dataset, or its length.
        num_replicas: how many processes there are.
        rank: which of them this is, from 0.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether samples that are left over are left out.

    Raises:
        DatasetError: `rank` is not from 0 to ``num_replicas - 1``.

    >>> parts = [DistributedSampler(5, 2, rank, shuffle=False) for rank in range(2)]
    >>> [part.order(seed=0, epoch=0).tolist() for part in parts]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized | int,
        num_replicas: int,
        rank: int,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        self.count = dataset if isinstance(dataset, int) else len(dataset)
        if num_replicas < 1 or not 0 <= rank < num_replicas:
            raise DatasetError(
                f"rank must be from 0 to num_replicas - 1, got rank={rank} and "
                f"num_replicas={num_replicas}"
            )
        self.num_replicas, self.rank = num_replicas, rank
        self.shuffle, self.drop_last = shuffle, drop_last
        if len(self) == 0:
            raise DatasetError(f"{self.count} samples are too few for {num_replicas} processes")

    def __len__(self) -> int:
        whole, left = divmod(self.count, self.num_replicas)
        return whole + bool(left and not self.drop_last)

    def order(self, seed: int, epoch: int) -> Indices:
        """The indices of this process."""
        order = shuffled(self.count, seed, epoch) if self.shuffle else np.arange(self.count)
        total = len(self) * self.num_replicas
        return np.resize(order, total)[self.rank :: self.num_replicas]
