"""Batches of a dataset, in order or shuffled."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import DatasetError

from .dataset import Dataset, gather


class DataLoader:
    """The batches of a dataset: ``for batch in DataLoader(dataset, batch_size=64): ...``.

    Each ``for`` loop over it is an epoch. The order of a shuffled epoch follows from the seed and
    the number of the epoch alone; :meth:`batches` gives any epoch again.

    A batch has the structure of a sample, with a new first axis on each leaf, in fresh arrays.
    Datasets with a method ``gather`` (:class:`~funcgrad_nn.ArrayDataset`, and subsets of one)
    make a batch by one indexing operation per array; others are asked for sample by sample.

    Args:
        dataset: anything with ``__len__`` and ``__getitem__``; not empty.
        batch_size: samples in a batch, at least 1; the last batch has what is left.
        shuffle: whether each epoch has an order of its own.
        seed: a non-negative integer.
        drop_last: whether a last batch of less than ``batch_size`` is left out.

    Raises:
        DatasetError: the dataset is empty; the batch size is no positive integer; or it is larger
            than the dataset with ``drop_last``, so that there would be no batch.

    >>> from funcgrad_nn.data import ArrayDataset
    >>> loader = DataLoader(ArrayDataset(np.arange(5), np.arange(5) ** 2), batch_size=2)
    >>> len(loader)
    3
    >>> for x, y in loader:
    ...     print(x, y)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _checked_batch_size(batch_size)
        self.shuffle = shuffle
        self.seed = _checked_seed(seed)
        self.drop_last = drop_last
        self.epoch = 0
        """The number of the epoch that the next ``for`` loop makes; may be set."""
        if len(dataset) == 0:
            raise DatasetError("the dataset is empty: there is no batch to make")
        if len(self) == 0:
            raise DatasetError(
                f"no batch is left: the dataset has {len(dataset)} samples, less than "
                f"batch_size={batch_size}, and drop_last=True. Take a smaller batch_size."
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, without moving on to the next one.

        Args:
            epoch: the number of the epoch, from 0.

        >>> from funcgrad_nn.data import ArrayDataset
        >>> loader = DataLoader(ArrayDataset(np.arange(6)), batch_size=3, shuffle=True)
        >>> first, again = [[b.tolist() for b in loader.batches(0)] for _ in range(2)]
        >>> first == again, first == [b.tolist() for b in loader.batches(1)]
        (True, False)
        """
        order = self._order(epoch)
        count, total = len(self.dataset), len(self) * self.batch_size
        for start in range(0, total, self.batch_size):
            stop = min(start + self.batch_size, count)
            positions = np.arange(start, stop) if order is None else order[start:stop]
            yield gather(self.dataset, positions.astype(np.intp, copy=False))

    def _order(self, epoch: int) -> NDArray[np.integer[Any]] | None:
        """The samples of a shuffled epoch, in integers no larger than needed."""
        if not self.shuffle:
            return None
        count = len(self.dataset)
        order = np.arange(count, dtype=np.min_scalar_type(-count))
        np.random.default_rng((self.seed, epoch)).shuffle(order)
        return order

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"seed={self.seed}, drop_last={self.drop_last})"
        )


def _checked_batch_size(batch_size: Any) -> int:
    size = _integer(batch_size)
    if size is None:
        raise DatasetError(f"batch_size must be a positive integer, not {batch_size!r}")
    if size < 1:
        raise DatasetError(f"batch_size must be at least 1, not {size}")
    return size


def _checked_seed(seed: Any) -> int:
    number = _integer(seed)
    if number is None or number < 0:
        raise DatasetError(f"seed must be a non-negative integer, not {seed!r}")
    return number


def _integer(value: Any) -> int | None:
    # bool is an int to Python, but batch_size=True is a mistake.
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
