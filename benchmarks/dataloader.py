"""One shuffled epoch of Fashion-MNIST in batches of 64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

import funcgrad_nn as nn
from benchmarks.harness import Bar, Contender, Plan, Result, compare
from funcgrad_nn.datasets import fashion_mnist

BATCH = 64
COUNT = 60_000


def load_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images (60000, 28, 28) float32 in [0, 1] and labels (60000,) int64.

    The real ones if this machine has them, else random numbers of the same shapes and types: no
    loader looks at the values.
    """
    try:
        return fashion_mnist("train", download=False).arrays
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        images = rng.random((COUNT, 28, 28), dtype=np.float32)
        return images, rng.integers(0, 10, COUNT)


def measure() -> list[Result]:
    """An epoch over images as floats, and over the bytes that the dataset's files hold."""
    images, labels = load_arrays()
    integers = np.rint(images * 255).astype(np.uint8)
    return [*_measure("float32", images, labels), *_measure("uint8", integers, labels)]


def _measure(kind: str, images: np.ndarray, labels: np.ndarray) -> list[Result]:
    """The library's loader, PyTorch's over two kinds of Dataset, and a loop written by hand."""

    class Pairs(torch.utils.data.Dataset):
        """The Dataset of PyTorch's tutorials: one sample per index, collated by default."""

        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.integer]:
            return images[index], labels[index]

    def of_torch(dataset: Any) -> Iterable[Any]:
        return torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)

    tensors = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    ours = nn.DataLoader(nn.ArrayDataset(images, labels), batch_size=BATCH, shuffle=True, seed=0)
    loaders: dict[str, Callable[[], Iterable[Any]]] = {
        "funcgrad": lambda: ours,
        "PyTorch, TensorDataset": lambda: of_torch(tensors),
        "PyTorch, Dataset of arrays": lambda: of_torch(Pairs()),
        "NumPy by hand": lambda: _by_hand(images, labels),
    }
    for loader in loaders.values():
        _check_epoch(loader(), images, labels)
    contenders = [Contender(name, _epoch(loader)) for name, loader in loaders.items()]
    bars = {name: Bar(20.0, at_least=True) for name in loaders if name.startswith("PyTorch")}
    what = f"speed-up of DataLoader: Fashion-MNIST as {kind}, shuffled, batch 64, an epoch"
    plan = Plan(rounds=11, repeats=2, loop_s=0.0)
    return compare(what, contenders, bars, plan, speed_up=True)


def _by_hand(images: np.ndarray, labels: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    order = np.random.default_rng().permutation(len(labels))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


def _epoch(loader: Callable[[], Iterable[Any]]) -> Callable[[], None]:
    def run() -> None:
        for _ in loader():
            pass

    return run


def _check_epoch(loader: Iterable[Any], images: np.ndarray, labels: np.ndarray) -> None:
    """Every sample comes once, with its own label, in shuffled order and batches of 64."""
    batches = [(np.asarray(x), np.asarray(y)) for x, y in loader]
    assert [len(y) for _, y in batches[:-1]] == [BATCH] * (len(batches) - 1)
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert x.shape == images.shape and x.dtype == images.dtype and not np.array_equal(y, labels)
    got, expected = (_sorted_pairs(*pair) for pair in ((x, y), (images, labels)))
    np.testing.assert_array_equal(got, expected)


def _sorted_pairs(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A fingerprint of each (image, label), sorted."""
    flat = images.reshape(len(images), -1)
    weights = np.random.default_rng(1).random(flat.shape[1])
    return np.sort(np.einsum("ij,j->i", flat, weights) + 1e6 * labels)
