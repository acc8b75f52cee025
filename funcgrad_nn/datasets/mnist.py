"""MNIST and Fashion-MNIST: 70,000 images of 28×28 pixels in 10 classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from funcgrad_nn._pytorch import named_options
from funcgrad_nn.data import ArrayDataset, TransformedDataset

from ._files import Source, load_idx
from ._images import Split, checked_split, image_dataset

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""What the labels 0 to 9 of Fashion-MNIST stand for."""

MNIST_CLASSES = tuple("0123456789")

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_FASHION_MNIST = Source(
    name="fashion-mnist",
    url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    sha256={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    other_folders=("FashionMNIST/raw",),
)

_MNIST = Source(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    sha256={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    other_folders=("MNIST/raw",),
)


@named_options
def fashion_mnist(
    split: Split = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike = np.float32,
    transform: Callable[..., Any] | None = None,
    target_transform: Callable[..., Any] | None = None,
    download: bool = True,
) -> ArrayDataset | TransformedDataset:
    """Fashion-MNIST: photographs of clothes from Zalando's shop.

    The files are looked for in `root`, in ``$FUNCGRAD_DATA`` and its folder ``fashion-mnist``, in
    ``/usr/share/datasets/fashion-mnist`` (where Debian's package ``dataset-fashion-mnist`` puts
    them), and in ``funcgrad/fashion-mnist`` in the user's cache (``$XDG_CACHE_HOME`` or
    ``~/.cache``); else they are downloaded there. Wherever they come from, their SHA-256 is
    checked.

    Source: H. Xiao, K. Rasul, R. Vollgraf (2017), *Fashion-MNIST: a Novel Image Dataset for
    Benchmarking Machine Learning Algorithms*, https://arxiv.org/abs/1708.07747, MIT licence.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).
        root: a folder to look in first, and to download to.
        dtype: ``np.float32``, from 0 to 1, or ``np.uint8``, as files have them.
        transform: of images in uint8, see :mod:`funcgrad_nn.transforms`; `dtype` is not used then.
        target_transform: of labels.
        download: whether files that are not on this machine are downloaded (31 MB in all).

    Returns:
        A dataset of pairs: images of shape (28, 28), float32 from 0 to 1, and labels, int64,
        indices into its ``.classes``.

    Raises:
        FileNotFoundError: the files are nowhere, and ``download`` is false.
        FileFormatError: a file is damaged or not what its name says.
        OSError: the download failed.
        ValueError: there is no such split.

    >>> fashion_mnist("test")  # doctest: +SKIP
    ArrayDataset((float32[10000, 28, 28], int64[10000]))
    """
    args = dtype, transform, target_transform
    return _load(_FASHION_MNIST, FASHION_MNIST_CLASSES, split, root, download, *args)


@named_options
def mnist(
    split: Split = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike = np.float32,
    transform: Callable[..., Any] | None = None,
    target_transform: Callable[..., Any] | None = None,
    download: bool = True,
) -> ArrayDataset | TransformedDataset:
    """MNIST: handwritten digits.

    Found or downloaded as :func:`fashion_mnist` is, with the folder name ``mnist``; 12 MB.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), *Gradient-based learning applied to
    document recognition*, Proceedings of the IEEE 86(11).

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000).
        root: a folder to look in first, and to download to.
        dtype: ``np.float32``, from 0 to 1, or ``np.uint8``, as files have them.
        transform: of images in uint8, see :mod:`funcgrad_nn.transforms`; `dtype` is not used then.
        target_transform: of labels.
        download: whether files that are not on this machine are downloaded.

    Returns:
        A dataset of pairs: images of shape (28, 28), float32 from 0 (paper) to 1 (ink), and
        labels, int64 from 0 to 9.

    Raises:
        FileNotFoundError: the files are nowhere, and ``download`` is false.
        FileFormatError: a file is damaged or not what its name says.
        OSError: the download failed.
        ValueError: there is no such split.

    >>> mnist("test")  # doctest: +SKIP
    ArrayDataset((float32[10000, 28, 28], int64[10000]))
    """
    args = dtype, transform, target_transform
    return _load(_MNIST, MNIST_CLASSES, split, root, download, *args)


def _load(
    source: Source,
    classes: Sequence[str],
    split: Split,
    root: str | os.PathLike[str] | None,
    download: bool,
    *how: Any,
) -> ArrayDataset | TransformedDataset:
    checked_split(split)
    images, labels = (load_idx(source, name, download, root) for name in _FILES[split])
    return image_dataset(images, labels, classes, *how)
