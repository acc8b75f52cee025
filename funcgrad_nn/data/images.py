"""Datasets of image files: in a folder for each class, or listed with labels in a CSV file."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import DatasetError, FileFormatError
from funcgrad_nn._optional import require
from funcgrad_nn.transforms.keys import sample_keys

from .combined import checked_transforms, transformed, transformed_batch
from .dataset import ArrayDataset, Indices, Keys, nonnegative

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 1 << 26
"""Images of more pixels are refused: a file of some kilobytes can announce any number of them."""

# No format that Pillow hands to another program.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
_SHOWN = 5


def read_image(
    path: str | os.PathLike[str], mode: str = "RGB", max_pixels: int = MAX_PIXELS
) -> NDArray[Any]:
    """Read an image file with Pillow (``pip install "funcgrad[images]"``).

    Args:
        path: a JPEG, PNG, BMP, PPM, TIFF, WebP or GIF file; of several pictures, the first.
        mode: what it is converted to: ``"RGB"``, ``"L"`` for grey, ``"RGBA"``, or ``""`` for what
            the file has.
        max_pixels: images of more pixels are refused before they take memory.

    Returns:
        uint8 of shape (height, width, channels), of grey images (height, width). Grey levels of 16
        bits are scaled to 8, ``round(level / 257)``; with ``mode=""`` they stay uint16.

    Raises:
        OSError: the file cannot be opened.
        FileFormatError: it is truncated, damaged, too large, or no image; the message names it.
        MissingDependencyError: Pillow is not installed.

    >>> read_image("missing.jpg")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.jpg'
    """
    pillow = require("PIL.Image", "images", "Image files are read with Pillow")
    with open(path, "rb") as file:
        try:
            with pillow.open(file, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise FileFormatError(
                        f"{os.fspath(path)} is an image of {width}×{height} pixels, more than "
                        f"max_pixels={max_pixels}"
                    )
                image.load()
                return np.array(_converted(pillow, image, mode, path))
        except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
            raise FileFormatError(f"{os.fspath(path)} is too large an image: {error}") from error
        except FileFormatError:
            raise
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
            raise FileFormatError(
                f"{os.fspath(path)} is damaged or no image that can be read ({error}). Fetch it "
                "again, or leave it out."
            ) from error


def _converted(pillow: Any, image: Any, mode: str, path: str | os.PathLike[str]) -> Any:
    """An image in another mode; Pillow by itself would cut grey levels above 255 off."""
    have: str = image.mode
    if not mode or mode == have or have[0] not in "IF" or mode[0] in "IF":
        return image.convert(mode) if mode else image
    # Older versions of Pillow read 16 bits as an image of 32; of these formats there are no others.
    if not have.startswith("I;16") and not (have == "I" and image.format in ("PNG", "PPM")):
        raise FileFormatError(
            f"{os.fspath(path)} has grey levels of 32 bits, of which it is not known how far they "
            f'go, so they cannot be made {mode!r}. Read them as they are, mode="", and scale them.'
        )
    levels = np.asarray(image).astype(np.uint32)
    return pillow.fromarray(((levels + 128) // 257).astype(np.uint8)).convert(mode)


class _ImageFiles:
    """A dataset of pairs (image, label) whose images are read when they are asked for."""

    paths: list[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __init__(
        self,
        transform: Callable[..., Any] | None,
        target_transform: Callable[..., Any] | None,
        mode: str,
        max_pixels: int,
    ) -> None:
        # Now rather than at the first sample, and in whatever thread.
        require("PIL.Image", "images", "Image files are read with Pillow")
        self.mode, self.max_pixels = mode, max_pixels
        self._both = checked_transforms(transform, target_transform)

    vectorized = False

    @property
    def random(self) -> bool:
        """Whether samples depend on keys."""
        return self._both[0] is not None and self._both[0].random

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class."""
        return {name: label for label, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        return self.sample(index, None)

    def sample(self, index: int, key: Keys | None) -> tuple[Any, Any]:
        """The sample at an integer; `key` is for transforms that are random."""
        index = nonnegative(index, len(self))
        if self.random and key is None:
            key = sample_keys(0, 0, index)
        return transformed(self.raw(index), key, *self._both)

    def raw(self, index: int) -> tuple[NDArray[Any], np.int64]:
        """The image, uint8, and its label, before the transforms."""
        image = read_image(self.paths[index], self.mode, self.max_pixels)
        return image, self.labels[index]

    def gather(self, indices: Indices, keys: Keys | None = None) -> Any:
        """The batch of the samples at an array of integers."""
        if self.random and keys is None:
            keys = sample_keys(0, 0, indices)
        return transformed_batch(self, _Raw(self), indices, keys, *self._both)

    def to_arrays(self, num_workers: int = 0) -> ArrayDataset:
        """All images in memory, before the transforms; they must be of one size.

        Args:
            num_workers: how many threads read them.
        """
        from .loader import DataLoader

        images: Any = None
        start = 0
        for batch, _ in DataLoader(_Raw(self), 256, num_workers=num_workers):
            if images is None:
                images = np.empty((len(self), *batch.shape[1:]), batch.dtype)
            if images.shape[1:] != batch.shape[1:]:
                raise DatasetError(
                    f"the images are of several sizes: {images.shape[1:]}, {batch.shape[1:]}"
                )
            images[start : start + len(batch)] = batch
            start += len(batch)
        return ArrayDataset(images, self.labels, classes=self.classes)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({len(self)} images of {len(self.classes)} classes in {self._place})"

    _place = ""


class _Raw:
    """The samples of a dataset of files before its transforms."""

    def __init__(self, files: _ImageFiles) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], np.int64]:
        return self.files.raw(index)

    def __repr__(self) -> str:
        return repr(self.files)


class ImageFolder(_ImageFiles):
    """Images in one folder for each class: ``root/cat/1.jpg``, ``root/dog/tom/2.png``.

    Samples are pairs: an image, uint8 of shape (height, width, 3), and its label, the place of its
    folder among the names in order. They are read when they are asked for;
    ``DataLoader(..., num_workers=2)`` reads ahead.

    Args:
        root: the folder of the classes' folders.
        transform: of images, see :mod:`funcgrad_nn.transforms`.
        target_transform: of labels.
        skip_others: whether files that are no images, by their names, are left out; else they are
            an error.
        mode: as in :func:`read_image`: ``"L"`` for grey images of shape (height, width).
        max_pixels: images of more pixels are refused.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: there are no classes, one has no images, or there are other files.
        MissingDependencyError: Pillow is not installed.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("dog", "cat"):
    ...     (root / name).mkdir()
    ...     Image.new("RGB", (8, 6), "red").save(root / name / "1.png")
    >>> dataset = ImageFolder(root, transform=nn.transforms.ToArray())
    >>> dataset.classes, dataset.class_to_idx
    (('cat', 'dog'), {'cat': 0, 'dog': 1})
    >>> image, label = dataset[1]
    >>> image.shape, image.dtype, int(label)
    ((3, 6, 8), dtype('float32'), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
        *,
        skip_others: bool = False,
        mode: str = "RGB",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(transform, target_transform, mode, max_pixels)
        self.root = self._place = os.fspath(root)
        with os.scandir(self.root) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        self.classes = tuple(entry.name for entry in found if entry.is_dir())
        others = [entry.path for entry in found if not entry.is_dir()]
        if not self.classes:
            raise DatasetError(
                f"{self.root} has no folders: an ImageFolder has one for each class, with its "
                "images. Images with labels in a file are a CSVDataset."
            )
        self.paths = []
        counts: list[int] = []
        for name in self.classes:
            images, rest = _image_paths(os.path.join(self.root, name))
            self.paths += images
            others += rest
            counts.append(len(images))
        self.labels = np.repeat(np.arange(len(counts)), counts)
        if others and not skip_others:
            raise DatasetError(
                f"{len(others)} files in {self.root} are no images of a class, by their names: "
                f"{_some(others)}. Remove them, or pass skip_others=True."
            )
        if empty := [name for name, n in zip(self.classes, counts, strict=True) if not n]:
            raise DatasetError(f"classes without images in {self.root}: {_some(empty)}")


def _image_paths(folder: str) -> tuple[list[str], list[str]]:
    """The images below a folder, and the other files, both in order."""
    images: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            # A link to a folder above itself.
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            known = name.lower().endswith(IMAGE_SUFFIXES)
            (images if known else others).append(os.path.join(place, name))
    return images, others


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


class CSVDataset(_ImageFiles):
    """Images whose names and labels are the lines of a CSV file: ``tshirt1.jpg, 0``.

    A first line that names no image, by its ending, and no file of the folder is a heading. Labels
    are integers, or names, which stand for their places in order.

    Args:
        annotations: the CSV file: in each line the image's name, in the folder, and its label.
        folder: where the images are.
        transform: of images, see :mod:`funcgrad_nn.transforms`.
        target_transform: of labels.
        classes: what the labels stand for; labels that are names must be among them, and integers
            from 0 to below their number.
        header: whether the first line is a heading, where that is not to be guessed.
        mode: as in :func:`read_image`.
        max_pixels: images of more pixels are refused.

    Raises:
        OSError: the CSV file cannot be read.
        DatasetError: a line has no label, a label is no class, or files are missing; the message
            names them.
        MissingDependencyError: Pillow is not installed.

    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> Image.new("L", (4, 4)).save(folder / "tshirt1.png")
    >>> lines = "file,label\\ntshirt1.png, 3\\n"
    >>> size = (folder / "labels.csv").write_text(lines, encoding="utf-8")
    >>> dataset = CSVDataset(folder / "labels.csv", folder, mode="L")
    >>> image, label = dataset[0]
    >>> image.shape, int(label)
    ((4, 4), 3)
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        header: bool | None = None,
        mode: str = "RGB",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(transform, target_transform, mode, max_pixels)
        self._place = os.fspath(annotations)
        rows = _rows(self._place)
        there = [os.path.isfile(os.path.join(folder, name)) for _, name, _ in rows]
        image = rows[0][1].lower().endswith(IMAGE_SUFFIXES)
        if header or (header is None and not there[0] and not image):
            rows, there = rows[1:], there[1:]
        missing = [name for (_, name, _), found in zip(rows, there, strict=True) if not found]
        if missing or not rows:
            what = f"{len(missing)} files named in {self._place} are not in {os.fspath(folder)}: "
            raise DatasetError(
                what + _some(missing) if missing else f"{self._place} names no images"
            )
        self.paths = [os.path.join(folder, name) for _, name, _ in rows]
        self.classes, self.labels = _labels(self._place, rows, classes)


_Row = tuple[int, str, str]


def _rows(path: str) -> list[_Row]:
    """The lines of a CSV file as (line's number, image's name, label)."""
    rows: list[_Row] = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != 2:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: a line has the image's name and its "
                        f"label, as in `tshirt1.jpg, 0`; this one has {len(cells)} cells: {cells}"
                    )
                rows.append((reader.line_num, cells[0].strip(), cells[1].strip()))
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileFormatError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise DatasetError(f"{path} is empty")
    return rows


def _labels(
    path: str, rows: Sequence[_Row], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The names of the classes, and the labels as integers."""
    numbers = [_integer(label) for _, _, label in rows]
    named = classes is not None
    if all(n is not None for n in numbers):
        if classes is None:
            classes = [str(n) for n in range(max(n for n in numbers if n is not None) + 1)]
    else:
        if classes is None:
            _refuse_mixed(path, rows, numbers)
            classes = sorted({label for _, _, label in rows})
        places = {name: place for place, name in enumerate(classes)}
        numbers = [places.get(label) for _, _, label in rows]
    for (line, _, label), number in zip(rows, numbers, strict=True):
        if number is None or not 0 <= number < len(classes):
            problem = (
                f"is none of the {len(classes)} classes {_some(classes)}; labels are their names, "
                f"or integers from 0 to {len(classes) - 1}"
                if named
                else "is negative; labels are integers from 0 on, or names of classes"
            )
            raise DatasetError(f"{path}, line {line}: the label {label!r} {problem}")
    return tuple(classes), np.array(numbers, np.int64)


def _integer(label: str) -> int | None:
    try:
        return int(label)
    except ValueError:
        return None


def _refuse_mixed(path: str, rows: Sequence[_Row], numbers: Sequence[int | None]) -> None:
    """Raise DatasetError for labels of which some are integers: as names they would be others."""
    texts = [row for row, n in zip(rows, numbers, strict=True) if n is None]
    integers = [row for row, n in zip(rows, numbers, strict=True) if n is not None]
    if not integers:
        return
    kinds = {"no integer": texts, "an integer": integers}
    kind = min(kinds, key=lambda kind: len(kinds[kind]))
    line, _, label = kinds[kind][0]
    count = len(kinds[kind])
    raise DatasetError(
        f"{path}, line {line}: the label {label!r} is {kind}, as {count} of {len(rows)} are. "
        "Labels are either all integers, or all names. If these are names, say which there are: "
        "classes=[...]."
    )


def has_images(folder: Path) -> bool:
    """Whether a folder looks like that of an :class:`ImageFolder`."""
    if not folder.is_dir():
        return False
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            return any(path.suffix.lower() in IMAGE_SUFFIXES for path in entry.iterdir())
    return False
