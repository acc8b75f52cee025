"""The UCI optical digits, which the package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from funcgrad_nn.data import ArrayDataset, read_idx

_FOLDER = Path(__file__).parent / "optical_digits"


def digits() -> ArrayDataset:
    """The UCI optical digits: 1,797 handwritten digits as images of 8×8 pixels.

    They come with the package; nothing is downloaded. Source: E. Alpaydin and C. Kaynak (1998),
    *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49, licence CC BY 4.0.

    Returns:
        A dataset of pairs: images of shape (8, 8), float32 from 0 (paper) to 1 (ink), and labels,
        int64 from 0 to 9.

    >>> dataset = digits()
    >>> dataset
    ArrayDataset((float32[1797, 8, 8], int64[1797]))
    >>> image, label = dataset[0]
    >>> for row in image:
    ...     print("".join(" .:*#"[int(4 * ink)] for ink in row).rstrip())
      .*:
      **:*.
      *  ::
     .*  ::
     .:  ::
     .:  *.
      *.:*
      .*:
    >>> int(label)
    0
    """
    images = read_idx(_FOLDER / "images-idx3-ubyte.gz")
    labels = read_idx(_FOLDER / "labels-idx1-ubyte.gz")
    return ArrayDataset(images / np.float32(16), labels.astype(np.int64))
