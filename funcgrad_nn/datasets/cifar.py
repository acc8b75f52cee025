"""CIFAR-10: 60,000 colour images of 32×32 pixels in 10 classes."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from funcgrad.errors import FileFormatError
from funcgrad.files import atomic_write
from funcgrad_nn._pytorch import named_options
from funcgrad_nn.data import ArrayDataset, TransformedDataset
from funcgrad_nn.data.images import ImageFolder, has_images

from ._files import Source, download_to, folders, not_found
from ._images import Split, checked_split, image_dataset
from ._safe_pickle import read_batch

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""What the labels 0 to 9 of CIFAR-10 stand for."""

_ARCHIVE = "cifar-10-python.tar.gz"
_FOLDER = "cifar-10-batches-py"
_BINARY_FOLDER = "cifar-10-batches-bin"
_SOURCE = Source(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    sha256={_ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
)
# MD5, as their authors and other libraries publish it.
_BATCHES = {
    "train": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
}
_PIXELS = 32 * 32 * 3


@named_options
def cifar10(
    split: Split = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike = np.float32,
    transform: Callable[..., Any] | None = None,
    target_transform: Callable[..., Any] | None = None,
    download: bool = True,
) -> ArrayDataset | TransformedDataset:
    """CIFAR-10: small photographs of animals and vehicles.

    It is looked for in `root`, and where :func:`fashion_mnist` is, with the folder name
    ``cifar10``: as pickled batches (``cifar-10-batches-py``, whose MD5 is checked, and of which no
    code is run), as binary batches (``cifar-10-batches-bin``), or as images in folders ``train``
    and ``test`` with one for each class (see :class:`~funcgrad_nn.data.ImageFolder`; all are read
    into memory); else the pickled batches are downloaded.

    Source: A. Krizhevsky (2009), *Learning Multiple Layers of Features from Tiny Images*.

    Args:
        split: ``"train"`` (50,000 images) or ``"test"`` (10,000).
        root: a folder to look in first, and to download to.
        dtype: ``np.float32``, as layers take images, or ``np.uint8``, as files have them.
        transform: of images in uint8, see :mod:`funcgrad_nn.transforms`; `dtype` is not used then.
        target_transform: of labels.
        download: whether it is downloaded (170 MB) where it is not on this machine.

    Returns:
        A dataset of pairs: images, float32 of shape (3, 32, 32) from 0 to 1, or uint8 of shape
        (32, 32, 3); and labels, int64, indices into its ``.classes``.

    Raises:
        FileNotFoundError: it is nowhere, and ``download`` is false.
        FileFormatError: a file is damaged or not what its name says.
        OSError: the download failed.
        ValueError: there is no such split.

    >>> cifar10("test", dtype=np.uint8)  # doctest: +SKIP
    ArrayDataset((uint8[10000, 32, 32, 3], int64[10000]))
    """
    checked_split(split)
    places = folders(_SOURCE, root)
    found = next(filter(None, (_found(folder, split) for folder in places)), None)
    if found is None:
        if not download:
            raise FileNotFoundError(not_found(_SOURCE, _FOLDER, places))
        place = places[0] if root is not None else places[-1]
        _unpack(download_to(_SOURCE, _ARCHIVE, place), place / _FOLDER)
        found = _pickled(place / _FOLDER, split)
    images, labels, classes = found
    return image_dataset(images, labels, classes, dtype, transform, target_transform)


def _found(folder: Path, split: Split) -> tuple[Any, Any, tuple[str, ...]] | None:
    """Images, labels and classes, if a folder has them in some format."""
    for place in (folder / _FOLDER, folder):
        if all((place / name).is_file() for name in _BATCHES[split]):
            return _pickled(place, split)
    for place in (folder / _BINARY_FOLDER, folder):
        if all((place / f"{name}.bin").is_file() for name in _BATCHES[split]):
            parts = [read_binary_batch(place / f"{name}.bin") for name in _BATCHES[split]]
            return *_joined(parts), CIFAR10_CLASSES
    if has_images(folder / split):
        files = ImageFolder(folder / split)
        images, labels = files.to_arrays(num_workers=2).arrays
        return images, labels, files.classes
    return None


def _joined(parts: list[Arrays]) -> Arrays:
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _pickled(folder: Path, split: Split) -> tuple[Any, Any, tuple[str, ...]]:
    parts: list[Arrays] = []
    for name, md5 in _BATCHES[split].items():
        path = folder / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5:
            raise FileFormatError(
                f"{path} is not the file of CIFAR-10 that it should be: its MD5 is "
                f"{digest.hexdigest()}, not {md5}. Remove it, and download it again."
            )
        parts.append(read_pickled_batch(path))
    return *_joined(parts), CIFAR10_CLASSES


def read_pickled_batch(path: str | os.PathLike[str]) -> Arrays:
    """Images (n, 32, 32, 3) and labels (n,) of a batch in the version for Python.

    Raises:
        OSError: it cannot be read.
        FileFormatError: it is damaged or something else.
    """
    with open(path, "rb") as file:
        batch = read_batch(file, path)
    data: Any = batch.get("data")
    labels: Any = batch.get("labels")
    if not hasattr(data, "dtype") or labels.__class__ is not list:
        raise FileFormatError(f"{path} has no array 'data' and list 'labels': {sorted(batch)}")
    try:
        numbers = np.asarray(labels)
    except ValueError as error:
        raise FileFormatError(f"{path} has labels that are no numbers: {error}") from error
    return _checked(path, data, numbers)


def read_binary_batch(path: str | os.PathLike[str]) -> Arrays:
    """Images (n, 32, 32, 3) and labels (n,) of a batch in the binary version.

    Raises:
        OSError: it cannot be read.
        FileFormatError: it is damaged or something else.
    """
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % (_PIXELS + 1):
        raise FileFormatError(
            f"{path} is truncated or no binary batch of CIFAR-10: its {len(content)} bytes are not "
            f"so many rows of {_PIXELS + 1}"
        )
    rows = content.reshape(-1, _PIXELS + 1)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _checked(path: object, data: NDArray[np.uint8], labels: NDArray[Any]) -> Arrays:
    if data.ndim != 2 or data.shape[1] != _PIXELS or labels.shape != data.shape[:1]:
        raise FileFormatError(
            f"{path} has data of shape {data.shape} and labels of shape {labels.shape}, not (n, "
            f"{_PIXELS}) and (n,)"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise FileFormatError(f"{path} has labels that are not integers from 0 to 9")
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, labels.astype(np.int64)


def _unpack(archive: Path, folder: Path) -> None:
    """The batches from an archive that has been verified; nothing else is taken from it."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = [name for batches in _BATCHES.values() for name in batches]
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(f"{_FOLDER}/{name}")
            assert member is not None
            with atomic_write(folder / name) as file:
                while chunk := member.read(1 << 20):
                    file.write(chunk)
