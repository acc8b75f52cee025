"""Datasets made of others: one after the other, or with their samples transformed."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.errors import DatasetError
from funcgrad_nn.transforms.base import Transform, as_transform
from funcgrad_nn.transforms.keys import sample_keys

from .dataset import (
    Dataset,
    Indices,
    Keys,
    classes_of,
    gather,
    is_random,
    is_vectorized,
    nonnegative,
    sample,
    samples,
    stack,
    stacked,
)


class ConcatDataset:
    """The samples of several datasets, one dataset after the other.

    Args:
        datasets: at least one; their samples must have the same structure to be in one batch.

    Raises:
        DatasetError: there is none.

    >>> from funcgrad_nn.data import ArrayDataset
    >>> both = ConcatDataset([ArrayDataset(np.array([1, 2])), ArrayDataset(np.array([30]))])
    >>> len(both), int(both[2]), both.gather(np.array([2, 0, 1]))
    (3, 30, array([30,  1,  2]))
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise DatasetError("ConcatDataset needs at least one dataset")
        self._ends = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()

    @property
    def vectorized(self) -> bool:
        """Whether batches are made without asking for single samples."""
        return all(is_vectorized(dataset) for dataset in self.datasets)

    @property
    def random(self) -> bool:
        """Whether samples depend on keys."""
        return any(is_random(dataset) for dataset in self.datasets)

    @property
    def classes(self) -> tuple[str, ...]:
        """What labels stand for, as the first of the datasets has it."""
        return classes_of(self.datasets[0])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int, /) -> Any:
        return self.sample(index, None)

    def sample(self, index: int, key: Keys | None) -> Any:
        """The sample at an integer; `key` is for transforms that are random."""
        index = nonnegative(index, len(self))
        part = bisect.bisect_right(self._ends, index)
        start = self._ends[part - 1] if part else 0
        return sample(self.datasets[part], index - start, key)

    def gather(self, indices: Indices, keys: Keys | None = None) -> Any:
        """The batch of the samples at an array of integers, in fresh arrays."""
        parts = np.searchsorted(self._ends, indices, side="right")
        batches: list[Any] = []
        places: list[Indices] = []
        for part in np.unique(parts):
            (place,) = np.nonzero(parts == part)
            start = self._ends[part - 1] if part else 0
            chosen = None if keys is None else keys[place]
            batches.append(gather(self.datasets[part], indices[place] - start, chosen))
            places.append(place)
        if len(batches) == 1:
            return batches[0]
        order = np.argsort(np.concatenate(places))

        def join(path: tree.Path, *leaves: Any) -> Any:
            return _joined(path, leaves)[order]

        return tree.map_with_path(join, *batches)

    def __repr__(self) -> str:
        return f"ConcatDataset({self.datasets!r})"


def _joined(path: tree.Path, leaves: Sequence[Any]) -> Any:
    try:
        return np.concatenate(leaves)
    except ValueError as error:
        shapes = ", ".join(str(leaf.shape[1:]) for leaf in leaves)
        raise DatasetError(
            f"the datasets have samples of different shapes at {tree.keystr(path) or 'their root'}"
            f": {shapes}. Resize or pad them to one shape."
        ) from error


class TransformedDataset:
    """A dataset with its samples transformed.

    Where samples are tuples, such as (image, label), `transform` is applied to the first item and
    `target_transform` to the second; other samples are given to `transform` as they are.

    A random transform gets a key from the loader, which follows from its seed, the epoch and the
    sample's index: so results do not depend on order, batch size or workers. ``dataset[i]`` is what
    a loader with seed 0 gives in epoch 0.

    Args:
        dataset: any dataset.
        transform: a transform or function, see :mod:`funcgrad_nn.transforms`.
        target_transform: likewise, but not random.

    Raises:
        DatasetError: `target_transform` is random.

    >>> from funcgrad_nn.data import ArrayDataset
    >>> images = np.full((2, 4, 4), 255, np.uint8)
    >>> plain = ArrayDataset(images, np.array([1, 0]))
    >>> dataset = TransformedDataset(plain, nn.transforms.ToArray())
    >>> image, label = dataset[0]
    >>> image.shape, image.dtype, float(image.max())
    ((1, 4, 4), dtype('float32'), 1.0)
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform, self.target_transform = checked_transforms(transform, target_transform)

    @property
    def vectorized(self) -> bool:
        """Whether batches are made without asking for single samples."""
        return is_vectorized(self.dataset)

    @property
    def random(self) -> bool:
        """Whether samples depend on keys."""
        own = self.transform is not None and self.transform.random
        return own or is_random(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        """What labels stand for."""
        return classes_of(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Any:
        return self.sample(index, None)

    def sample(self, index: int, key: Keys | None) -> Any:
        """The sample at an integer; `key` is for transforms that are random."""
        index = nonnegative(index, len(self))
        found = sample(self.dataset, index, key)
        if self.random and key is None:
            key = sample_keys(0, 0, index)
        return transformed(found, key, self.transform, self.target_transform)

    def gather(self, indices: Indices, keys: Keys | None = None) -> Any:
        """The batch of the samples at an array of integers, in fresh arrays."""
        if self.random and keys is None:
            keys = sample_keys(0, 0, indices)
        both = self.transform, self.target_transform
        if self.vectorized:
            return transformed(gather(self.dataset, indices, keys), keys, *both, many=True)
        return transformed_batch(self, self.dataset, indices, keys, *both)

    def __repr__(self) -> str:
        return f"TransformedDataset({self.dataset!r}, {self.transform!r})"


def checked_transforms(
    transform: Callable[..., Any] | None, target_transform: Callable[..., Any] | None
) -> tuple[Transform | None, Transform | None]:
    """Both as transforms.

    Raises:
        DatasetError: the second is random.
    """
    first = None if transform is None else as_transform(transform)
    second = None if target_transform is None else as_transform(target_transform)
    if second is not None and second.random:
        raise DatasetError(f"target_transform must not be random, but {second!r} takes a key")
    return first, second


def transformed(
    found: Any,
    key: Keys | None,
    transform: Transform | None,
    target_transform: Transform | None,
    many: bool = False,
) -> Any:
    """A sample, or a batch of `many`, with its parts transformed."""
    if transform is None and target_transform is None:
        return found
    pair = type(found) is tuple
    items: list[Any] = [*found] if pair else [found]
    if transform is not None:
        call = transform.batch if many else transform
        items[0] = call(key, items[0]) if transform.random else call(items[0])
    if target_transform is not None:
        if len(items) < 2:
            raise DatasetError(
                "target_transform needs samples that are tuples (input, target); these are "
                f"{type(items[0]).__name__}"
            )
        items[1] = (target_transform.batch if many else target_transform)(items[1])
    return tuple(items) if pair else items[0]


def transformed_batch(
    dataset: Dataset,
    source: Dataset,
    indices: Indices,
    keys: Keys | None,
    transform: Transform | None,
    target_transform: Transform | None,
) -> Any:
    """The batch of a `dataset` that transforms the samples of a `source` without batches.

    From where on the samples have one shape, they are transformed together.
    """
    found = samples(source, indices, keys)
    first: list[Any] = [item[0] if type(item) is tuple else item for item in found]
    try:
        inputs = first
        if transform is not None:
            inputs = transform.stacked(keys if transform.random else None, first)
    except Exception:
        # One by one, so that it is known which sample it is.
        return stacked(dataset, indices, keys)
    apart = not hasattr(inputs, "dtype")
    if type(found[0]) is not tuple:
        return stack(inputs) if apart else inputs
    firsts: list[Any] = [*inputs] if apart else [None] * len(found)
    whole: list[Any] = [(one, *item[1:]) for one, item in zip(firsts, found, strict=True)]
    batch = stack([transformed(item, None, None, target_transform) for item in whole])
    return batch if apart else (inputs, *batch[1:])
