"""Batches of a dataset, in order or shuffled."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcgrad.errors import DatasetError
from funcgrad_nn._pytorch import named_options
from funcgrad_nn.transforms.base import Transform, as_transform
from funcgrad_nn.transforms.keys import sample_keys

from . import workers as pools
from .dataset import ArrayDataset, Dataset, Indices, gather, is_random, samples, stack
from .devices import Mover, cuda_number
from .samplers import FixedSampler, Sampler, came_before, shuffled

# Batches have keys as well; none of a sample's is among them.
_BATCHES = 2**63
_END = object()


class DataLoader:
    """The batches of a dataset: ``for batch in DataLoader(dataset, batch_size=64): ...``.

    Each ``for`` loop over it is an epoch. The order of a shuffled epoch, and what random transforms
    do to a sample, follow from the seed, the number of the epoch and the sample's index alone (and,
    where a sampler draws a sample again, from how often it came before in the epoch, so that it is
    not twice the same); :meth:`batches` gives any epoch again.

    A batch has the structure of a sample, with a new first axis on each leaf, in fresh arrays.
    Datasets with a method ``gather`` (:class:`~funcgrad_nn.ArrayDataset`, and what is made of one)
    make a batch by one indexing operation per array; others are asked for sample by sample.

    Args:
        dataset: anything with ``__len__`` and ``__getitem__``; not empty. A tuple or dict of arrays
            is taken as :class:`~funcgrad_nn.ArrayDataset` takes it. Or anything that can be
            iterated over again and again: then samples come as they come.
        batch_size: samples in a batch, at least 1; the last batch has what is left.
        shuffle: whether each epoch has an order of its own.
        seed: a non-negative integer.
        drop_last: whether a last batch of less than ``batch_size`` is left out.
        sampler: which samples come, and in which order, in place of `shuffle`: a
            :class:`~funcgrad_nn.data.Sampler`, or a sequence of integers.
        collate: makes a batch of a list of samples; by default their leaves are stacked.
        batch_transform: a transform of whole batches, such as
            :class:`~funcgrad_nn.transforms.MixUp`; with a key for each batch where it is random.
        num_workers: how many threads or processes make batches beforehand; 0 for none.
        workers: ``"threads"``, which share memory, and work at once where NumPy and Pillow compute;
            or ``"processes"``, for code in Python. Processes are started for each epoch, and the
            dataset is sent to them.
        prefetch: how many batches each worker may be ahead.
        device: where batches are put, as for :func:`funcgrad.device_put`: ``("cuda", 0)`` or an
            array that is there. Copies run on a stream of their own, begun by the threads that
            make the batches (for processes one batch ahead; without workers when a batch is asked
            for), and the stream that is current where the loop begins waits for them. Leaves that
            are no arrays of numbers stay on the host. On ``"cpu"`` nothing is done. (Tested with a
            stand-in for CuPy, which does copies late; not measured on a GPU.)
        pin_memory: whether copies to a GPU are from page-locked memory, so that they take no time
            of the host's.

    Raises:
        ArgumentError: there is no such device, or CuPy, which has it, is not imported.
        DatasetError: the dataset is empty or none; the batch size is no positive integer, or larger
            than the dataset with ``drop_last``, so that there would be no batch; options that
            exclude each other.

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

    @named_options
    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        *,
        sampler: Sampler | Iterable[int] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        batch_transform: Callable[..., Any] | None = None,
        num_workers: int = 0,
        workers: pools.Workers = "threads",
        prefetch: int = 2,
        device: Any = None,
        pin_memory: bool = False,
    ) -> None:
        self.dataset: Any = _as_dataset(dataset)
        self.batch_size = _checked("batch_size", batch_size, 1)
        if collate is None:
            _refuse_columns(dataset, self.batch_size)
        self.shuffle = shuffle
        self.seed = _checked("seed", seed, 0)
        self.drop_last = drop_last
        self.sampler = _as_sampler(sampler)
        self.num_workers = _checked("num_workers", num_workers, 0)
        self.prefetch = _checked("prefetch", prefetch, 1)
        self.workers: pools.Workers = workers
        if workers not in ("threads", "processes"):
            raise DatasetError(f"workers must be 'threads' or 'processes', not {workers!r}")
        last = None if batch_transform is None else as_transform(batch_transform)
        self._cuda = None if device is None else cuda_number(device)
        self.pin_memory = pin_memory
        self._maker = _Maker(self.dataset, self.seed, collate, last)
        self._epoch, self._first = 0, 0
        self._position: tuple[int, int] | None = None
        self._streams = not hasattr(self.dataset, "__getitem__")
        self._check()

    def _check(self) -> None:
        if self.shuffle and self.sampler is not None:
            raise DatasetError("shuffle and sampler exclude each other: a sampler gives the order")
        if self._streams:
            if self.shuffle or self.sampler is not None:
                raise DatasetError(
                    "samples that are iterated over come as they come: shuffle and sampler need a "
                    "dataset with __len__ and __getitem__"
                )
            if self.num_workers > 1 or (self.num_workers and self.workers == "processes"):
                raise DatasetError(
                    "samples that are iterated over are read by one thread: num_workers must be 0 "
                    "or 1, and workers 'threads'"
                )
            return
        count = self._count()
        if count == 0:
            raise DatasetError("the dataset is empty: there is no batch to make")
        if len(self) == 0:
            raise DatasetError(
                f"no batch is left: the dataset has {count} samples, less than "
                f"batch_size={self.batch_size}, and drop_last=True. Take a smaller batch_size."
            )

    def _count(self) -> int:
        return len(self.dataset if self.sampler is None else self.sampler)

    @property
    def epoch(self) -> int:
        """The number of the epoch that the next ``for`` loop makes; may be set."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch, self._first, self._position = _checked("epoch", epoch, 0), 0, None

    @property
    def state(self) -> dict[str, int]:
        """Where the latest ``for`` loop is: what :meth:`at` goes on from.

        >>> loader = DataLoader(np.arange(6), batch_size=2, shuffle=True)
        >>> for batch in loader:
        ...     break
        >>> loader.state
        {'epoch': 0, 'batch': 1, 'seed': 0, 'batch_size': 2}
        """
        epoch, batch = self._position or (self._epoch, self._first)
        if not self._streams and batch == len(self):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, "seed": self.seed, "batch_size": self.batch_size}

    def at(self, state: Mapping[str, Any]) -> DataLoader:
        """A loader like this one, whose next ``for`` loop goes on where `state` was taken.

        The batches are those that would have come, whatever the number of workers.

        Raises:
            DatasetError: it is no state of a loader with this seed and batch size.

        >>> loader = DataLoader(np.arange(6), batch_size=2, shuffle=True)
        >>> batches = iter(loader)
        >>> first, state = next(batches), loader.state
        >>> rest = [batch.tolist() for batch in batches]
        >>> rest == [batch.tolist() for batch in loader.at(state)]
        True
        """
        if set(state) != set(self.state):
            raise DatasetError(f"a loader's state has {sorted(self.state)}, not {sorted(state)}")
        for name in ("seed", "batch_size"):
            if int(state[name]) != getattr(self, name):
                raise DatasetError(
                    f"the state is of a loader with {name}={int(state[name])}, and this one has "
                    f"{name}={getattr(self, name)}: its batches would be others"
                )
        loader = copy.copy(self)
        loader.epoch = int(state["epoch"])
        loader._first = int(state["batch"])
        return loader

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        if self._streams:
            raise TypeError("how many batches there are is not known: samples are iterated over")
        count = self._count()
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch."""
        epoch, first = self._epoch, self._first
        self.epoch = epoch + 1
        self._position = epoch, first
        return self._positioned(epoch, first)

    def _positioned(self, epoch: int, first: int) -> Iterator[Any]:
        for number, batch in enumerate(self._run(epoch, first), first):
            self._position = epoch, number + 1
            yield batch
        self._position = epoch + 1, 0

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
        return self._run(epoch, 0)

    def _run(self, epoch: int, first: int) -> Iterator[Any]:
        """The batches of an epoch from one on."""
        if self._cuda is None:
            return self._made(epoch, first, None)
        mover = Mover(self._cuda, self.pin_memory)
        return mover.handed_out(self._made(epoch, first, mover))

    def _made(self, epoch: int, first: int, mover: Mover | None) -> Iterator[Any]:
        """The batches, made or being made beforehand; with a mover, as it begins to copy them."""
        if self._streams:
            batches = self._streamed(epoch, first)
            if mover is not None:
                batches = mover.started(batches, 0)
            if not self.num_workers:
                return batches
            calls = itertools.repeat((batches, _END))
            pool = pools.thread_pool(1)
            found = pools.in_order(next, calls, pool, self.prefetch)
            return _until(_END, found)
        calls = self._calls(epoch, first)
        if not self.num_workers:
            made = itertools.starmap(self._maker, calls)
            return made if mover is None else mover.started(made, 0)
        ahead = self.num_workers * self.prefetch
        if self.workers == "threads":
            make = self._maker if mover is None else mover.starting(self._maker)
            return pools.in_order(make, calls, pools.thread_pool(self.num_workers), ahead)
        pool = pools.process_pool(self.num_workers, self._maker)
        found = pools.in_order(pools.made, calls, pool, ahead)
        return found if mover is None else mover.started(found, 1)

    def _calls(self, epoch: int, first: int) -> Iterator[tuple[int, int, Indices, Indices | None]]:
        """What each batch is made of: the epoch, its number, the samples, how often they came."""
        order, repeats, again = None, None, None
        if self.sampler is not None:
            order = np.asarray(self.sampler.order(self.seed, epoch))
            _check_order(order, len(self.dataset))
            repeats = came_before(order) if is_random(self.dataset) else None
        elif self.shuffle:
            order = shuffled(len(self.dataset), self.seed, epoch)
        count = self._count()
        for number in range(first, len(self)):
            start = number * self.batch_size
            stop = min(start + self.batch_size, count)
            indices = np.arange(start, stop) if order is None else order[start:stop]
            if repeats is not None:
                again = repeats[start:stop].astype(np.intp, copy=False)
            yield epoch, number, indices.astype(np.intp, copy=False), again

    def _streamed(self, epoch: int, first: int) -> Iterator[Any]:
        found = itertools.islice(iter(self.dataset), first * self.batch_size, None)
        for number in itertools.count(first):
            chunk = list(itertools.islice(found, self.batch_size))
            if not chunk or (self.drop_last and len(chunk) < self.batch_size):
                return
            yield self._maker.finished(epoch, number, chunk)

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"seed={self.seed}, drop_last={self.drop_last})"
        )


@dataclass(frozen=True)
class _Maker:
    """Makes the batch of some samples: a pure function, which processes may be sent."""

    dataset: Any
    seed: int
    collate: Callable[[list[Any]], Any] | None
    last: Transform | None

    def __call__(self, epoch: int, number: int, indices: Indices, repeats: Indices | None) -> Any:
        keys = None
        if is_random(self.dataset):
            keys = sample_keys(self.seed, epoch, indices, 0 if repeats is None else repeats)
        if self.collate is not None:
            return self.finished(epoch, number, samples(self.dataset, indices, keys))
        return self._transformed(epoch, number, gather(self.dataset, indices, keys))

    def finished(self, epoch: int, number: int, found: list[Any]) -> Any:
        """The batch of these samples."""
        batch = stack(found) if self.collate is None else self.collate(found)
        return self._transformed(epoch, number, batch)

    def _transformed(self, epoch: int, number: int, batch: Any) -> Any:
        if self.last is None:
            return batch
        if self.last.random:
            return self.last(sample_keys(self.seed, epoch, _BATCHES + number), batch)
        return self.last(batch)


def _until(end: object, values: Iterator[Any]) -> Iterator[Any]:
    try:
        for value in values:
            if value is end:
                return
            yield value
    finally:
        values.close()  # type: ignore[attr-defined]


def _as_dataset(given: Any) -> Dataset | Iterable[Any]:
    """What is given, if it is a dataset; arrays as one.

    Raises:
        DatasetError: it is neither.
    """
    name: str = given.__class__.__name__
    keyed = name == "dict"
    if name in ("dict", "tuple") and given:
        parts: list[Any] = [*(given.values() if keyed else given)]
        if all(getattr(part, "shape", ()) for part in parts):
            return ArrayDataset(given)
    if name == "ndarray" and np.ndim(given):
        return ArrayDataset(given)
    if hasattr(given, "__len__") and hasattr(given, "__getitem__") and not keyed:
        return given
    if hasattr(given, "__next__"):
        raise DatasetError(
            f"{name} can be iterated over once, and each epoch starts anew: give an object whose "
            "__iter__ makes a new iterator, or list(...) of it"
        )
    if hasattr(given, "__iter__") and not keyed:
        return given
    raise DatasetError(
        f"a dataset has __len__ and __getitem__, or can be iterated over; {name} does not: "
        f"{given!r:.60}. Arrays make one: nn.ArrayDataset(images, labels)."
    )


def _refuse_columns(given: Any, batch_size: int) -> None:
    """Raise DatasetError for a list of arrays that count the samples, which make a tuple.

    Arrays that can be stacked are taken for samples.
    """
    parts: list[Any] = [*given] if type(given) is list else []
    shapes: list[Any] = [getattr(part, "shape", ()) for part in parts]
    ranks = {len(shape) for shape in shapes}
    if len(set(shapes)) < 2 or 0 in ranks or (len(ranks) == 1 and batch_size == 1):
        return
    if len({shape[0] for shape in shapes}) == 1 and shapes[0][0] > 2:
        raise DatasetError(
            f"a list is a dataset of its elements, and these are {len(shapes)} arrays of shapes "
            f"{', '.join(map(str, shapes))}, which make no batch. If their first axes count the "
            "samples, give a tuple, DataLoader((X, Y), ...), or nn.ArrayDataset(X, Y)."
        )


def _as_sampler(given: Sampler | Iterable[int] | None) -> Sampler | None:
    if given is None or isinstance(given, Sampler):
        return given
    return FixedSampler(given)


def _check_order(order: Any, count: int) -> None:
    if order.size and not (order.min() >= 0 and order.max() < count):
        raise DatasetError(
            f"the sampler gives indices from {order.min()} to {order.max()}, but the dataset has "
            f"{count} samples"
        )


def _checked(name: str, value: Any, least: int) -> int:
    # bool is an int to Python, but batch_size=True is a mistake.
    kind = "a positive integer" if least else "a non-negative integer"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise DatasetError(f"{name} must be {kind}, not {value!r}")
    if number < least:
        wanted = f"at least {least}" if least else kind
        raise DatasetError(f"{name} must be {wanted}, not {number}")
    return number
