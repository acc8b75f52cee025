"""Datasets: what has a length and gives samples by index."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from funcgrad import tree
from funcgrad.errors import DatasetError

Indices = NDArray[np.intp]
Keys = NDArray[np.uint32]


@runtime_checkable
class Dataset(Protocol):
    """What :class:`~funcgrad_nn.DataLoader` needs: a length, and samples that are pytrees.

    A dataset that can do better than one sample at a time may also have a method
    ``gather(indices)``, which takes an integer array to the batch of these samples. One whose
    samples are random has an attribute ``random`` that is true, a method ``sample(index, key)``
    that the loader calls in place of ``dataset[index]``, and ``gather(indices, keys)``.

    >>> class Squares:
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def __getitem__(self, index):
    ...         return {"x": index, "y": index**2}
    >>> isinstance(Squares(), Dataset)
    True
    >>> gather(Squares(), np.array([3, 1]))
    {'x': array([3, 1]), 'y': array([9, 1])}
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def _take(array: Any, indices: Indices) -> Any:
    # `take` is the faster, but would first copy the whole of an array that it cannot walk.
    flags = getattr(array, "flags", None)
    if type(array) is np.memmap:
        # What is read of it is an ordinary array.
        array = np.ndarray.view(array, np.ndarray)
    walks = getattr(flags, "c_contiguous", False) and getattr(flags, "aligned", False)
    return array.take(indices, axis=0) if walks and array.dtype.isnative else array[indices]


class ArrayDataset:
    """A dataset over arrays whose first axes count the samples.

    Args:
        *arrays: arrays of equal length, or pytrees of them (NumPy or CuPy). With one argument a
            sample has that argument's structure; with several it is a tuple. Arrays that are
            mapped from a file (``np.load(path, mmap_mode="r")``) stay there.
        classes: what labels stand for.

    Raises:
        DatasetError: no arrays, one without a first axis, something that is no array, or lengths
            that differ; the message shows the shapes.

    >>> images, labels = np.zeros((3, 8, 8)), np.array([4, 0, 7])
    >>> dataset = ArrayDataset(images, labels)
    >>> len(dataset)
    3
    >>> image, label = dataset[2]
    >>> image.shape, int(label)
    ((8, 8), 7)
    >>> ArrayDataset({"x": images, "y": labels})[1:]["y"]
    array([0, 7])
    """

    def __init__(self, *arrays: Any, classes: Sequence[str] = ()) -> None:
        self.classes = tuple(classes)
        self.arrays = arrays[0] if len(arrays) == 1 else arrays
        self._leaves, self._treedef = tree.flatten(self.arrays)
        self._length = _common_length(self.arrays)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """The sample at an integer; the batch at a slice or an integer or boolean array."""
        if isinstance(index, (int, np.integer)) and not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} samples")
        return self._treedef.unflatten([leaf[index] for leaf in self._leaves])

    def gather(self, indices: Indices) -> Any:
        """The batch of the samples at an array of integers, in fresh arrays."""
        return self._treedef.unflatten([_take(leaf, indices) for leaf in self._leaves])

    def __repr__(self) -> str:
        return f"ArrayDataset({tree.map(_Shape, self.arrays)})"


class _Shape:
    """Prints as an array's dtype and shape, also within containers."""

    def __init__(self, array: Any) -> None:
        self.text = f"{array.dtype}{list(array.shape)}"

    def __repr__(self) -> str:
        return self.text


def _common_length(arrays: Any) -> int:
    pairs, _ = tree.flatten_with_path(arrays)
    if not pairs:
        raise DatasetError("a dataset needs at least one array")
    for path, leaf in pairs:
        if not getattr(leaf, "shape", ()):
            raise DatasetError(
                f"{_named(path)} is {_describe(leaf)}, but each must be an array whose first axis "
                "counts the samples. Lists are containers of leaves: convert with np.asarray."
            )
    if len({len(leaf) for _, leaf in pairs}) > 1:
        shapes = "\n".join(f"  {_named(path)} has shape {leaf.shape}" for path, leaf in pairs)
        raise DatasetError(f"the arrays of a dataset must have first axes of one length:\n{shapes}")
    return len(pairs[0][1])


def _named(path: tree.Path) -> str:
    return f"the array at {tree.keystr(path)}" if path else "the array"


def _describe(leaf: Any) -> str:
    return f"the {type(leaf).__name__} {leaf!r:.40}"


class Subset:
    """The samples of a dataset at given indices; a view, nothing is copied.

    Args:
        dataset: any dataset.
        indices: integers, each from ``-len(dataset)`` to ``len(dataset) - 1``; of shape ``(n,)``.
            A ``range`` stays one, so that a part of a large dataset costs nothing.

    Raises:
        IndexError: an index is out of range.

    >>> subset = Subset(ArrayDataset(np.array([10, 20, 30])), [2, 0])
    >>> [int(x) for x in subset]
    [30, 10]
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices: Indices | range = (
            _checked_range(indices, len(dataset))
            if isinstance(indices, range)
            else _checked_indices(indices, len(dataset))
        )

    @property
    def vectorized(self) -> bool:
        """Whether batches are made without asking for single samples."""
        return is_vectorized(self.dataset)

    @property
    def random(self) -> bool:
        """Whether samples depend on keys."""
        return is_random(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        """What labels stand for."""
        return classes_of(self.dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any, /) -> Any:
        """The sample at an integer; the batch at a slice or an integer or boolean array."""
        chosen = self._chosen(index)
        return gather(self.dataset, chosen) if chosen.ndim else self.dataset[int(chosen)]

    def sample(self, index: int, key: Keys | None) -> Any:
        """The sample at an integer; `key` is for transforms that are random."""
        return sample(self.dataset, int(self._chosen(index)), key)

    def gather(self, indices: Indices, keys: Keys | None = None) -> Any:
        """The batch of the samples at an array of integers, in fresh arrays."""
        return gather(self.dataset, self._chosen(indices), keys)

    def _chosen(self, index: Any) -> Indices:
        """Where in the dataset samples of this subset are."""
        if not isinstance(self.indices, range):
            return self.indices[index]
        if isinstance(index, slice):
            chosen = self.indices[index]
            return np.arange(chosen.start, chosen.stop, chosen.step, dtype=np.intp)
        positions = np.asarray(index)
        if positions.dtype == bool:
            return self._chosen(slice(None))[positions]
        positions = _checked_indices(positions.reshape(-1), len(self)).reshape(positions.shape)
        return self.indices.start + self.indices.step * positions

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {len(self.dataset)} samples of {self.dataset!r})"


def _checked_range(indices: range, length: int) -> Indices | range:
    ends = [*indices[:1], *indices[-1:]]
    _check_bounds(ends, length)
    if min(ends, default=0) >= 0:
        return indices
    return _checked_indices(np.arange(indices.start, indices.stop, indices.step), length)


def _checked_indices(indices: Sequence[int] | Indices, length: int) -> Indices:
    array = np.asarray(indices)
    if array.size == 0:
        return np.empty(0, np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"indices must be integers in one axis, not of shape {array.shape} and dtype "
            f"{array.dtype}"
        )
    _check_bounds([int(array.min()), int(array.max())], length)
    array = array.astype(np.intp)
    array[array < 0] += length
    return array


def _check_bounds(indices: Sequence[int], length: int) -> None:
    for index in indices:
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for {length} samples")


def classes_of(dataset: Dataset) -> tuple[str, ...]:
    """What the labels of a dataset stand for; empty where it does not say."""
    return tuple(getattr(dataset, "classes", ()))


def is_random(dataset: Dataset) -> bool:
    """Whether samples depend on keys."""
    return bool(getattr(dataset, "random", False))


def is_vectorized(dataset: Dataset) -> bool:
    """Whether a dataset makes batches without being asked for single samples."""
    return bool(getattr(dataset, "vectorized", hasattr(dataset, "gather")))


def nonnegative(index: int, length: int) -> int:
    """An index counted from the front.

    Raises:
        IndexError: it is out of range.
    """
    index = operator.index(index)
    _check_bounds([index], length)
    return index + length if index < 0 else index


def sample(dataset: Dataset, index: int, key: Keys | None) -> Any:
    """A sample, with a key where the dataset takes one."""
    if key is None or not is_random(dataset):
        return dataset[index]
    return dataset.sample(index, key)  # type: ignore[attr-defined]


def gather(dataset: Dataset, indices: Indices, keys: Keys | None = None) -> Any:
    """The batch of the samples at an array of integers, leaves stacked on a new first axis.

    Raises:
        DatasetError: the samples differ in structure or in the shape of a leaf.
    """
    vectorised = getattr(dataset, "gather", None)
    if vectorised is None:
        return stacked(dataset, indices, keys)
    if keys is None or not is_random(dataset):
        return vectorised(indices)
    return vectorised(indices, keys)


def samples(dataset: Dataset, indices: Indices, keys: Keys | None) -> list[Any]:
    """Samples one by one; what an exception says is which of them it was."""
    found: list[Any] = []
    for place, index in enumerate(indices.tolist()):
        try:
            found.append(sample(dataset, index, None if keys is None else keys[place]))
        except Exception as error:
            error.add_note(f"raised for sample {index} of {dataset!r:.200}")
            raise
    return found


def stacked(dataset: Dataset, indices: Indices, keys: Keys | None) -> Any:
    """The batch of samples that are asked for one by one."""
    return stack(samples(dataset, indices, keys))


def stack(found: Sequence[Any]) -> Any:
    """Samples as a batch: leaves stacked on a new first axis.

    Raises:
        DatasetError: they differ in structure or in the shape of a leaf.
    """
    return tree.map_with_path(_stack, *found)


def _stack(path: tree.Path, *leaves: Any) -> NDArray[Any]:
    try:
        return np.stack(leaves)
    except ValueError as error:
        shapes = sorted({np.shape(leaf) for leaf in leaves})
        raise DatasetError(
            f"the samples of a batch have leaves of different shapes at "
            f"{tree.keystr(path) or 'their root'}: {', '.join(map(str, shapes))}. "
            "Pad or crop them to one shape, by a transform or in the dataset's __getitem__, or "
            "make batches by DataLoader(..., collate=...)."
        ) from error


def random_split(
    dataset: Dataset, lengths: Sequence[int] | Sequence[float], seed: int = 0
) -> list[Subset]:
    """Divide a dataset at random into disjoint subsets that together hold each sample once.

    Args:
        dataset: any dataset.
        lengths: either integers whose sum is ``len(dataset)``, or fractions whose sum is 1; of
            fractions the lengths are rounded down, and the samples that are left go one each to
            the first subsets.
        seed: a non-negative integer; the same seed makes the same subsets.

    Raises:
        DatasetError: the lengths do not add up, or one is negative.

    >>> train, test = random_split(ArrayDataset(np.arange(10)), [0.8, 0.2], seed=1)
    >>> len(train), len(test)
    (8, 2)
    >>> sorted(int(x) for part in (train, test) for x in part)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    counts = _lengths(lengths, len(dataset))
    order = np.random.default_rng(seed).permutation(len(dataset))
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(counts)[:-1])]


def _lengths(lengths: Sequence[int] | Sequence[float], total: int) -> list[int]:
    if not lengths or any(length < 0 for length in lengths):
        raise DatasetError(f"lengths must be non-negative and at least one, got {list(lengths)}")
    try:
        counts = [operator.index(length) for length in lengths]  # type: ignore[arg-type]
    except TypeError:
        if abs(sum(lengths) - 1) > 1e-6:
            raise DatasetError(
                f"fractions must add up to 1, but {list(lengths)} make {sum(lengths):g}"
            ) from None
        counts = [int(fraction * total + 1e-9) for fraction in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != total:
        raise DatasetError(
            f"lengths {counts} add up to {sum(counts)}, but the dataset has {total} samples"
        )
    return counts
