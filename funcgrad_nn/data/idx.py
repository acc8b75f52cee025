"""The IDX format of the MNIST files: a header, then one array in C order, big-endian.

The header is two zero bytes, a byte for the type, a byte for the number of axes, and the length
of each axis as a big-endian 32-bit integer (Y. LeCun, C. Cortes, C. Burges, *The MNIST database*,
"File formats for the MNIST database").
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import FileFormatError
from funcgrad.files import atomic_write

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _DTYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or compressed with gzip.

    Args:
        path: the file; whether it is compressed is told from its content, not from its name.

    Returns:
        A new array of dtype uint8, int8, int16, int32, float32 or float64, in the byte order of
        this machine.

    Raises:
        OSError: the file cannot be opened.
        FileFormatError: the file is truncated, corrupted, longer than its header says, or no IDX
            file; the message names it.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/ages.idx"
    >>> write_idx(path, np.array([[25, 31], [47, 8]], np.int32))
    >>> read_idx(path)
    array([[25, 31],
           [47,  8]], dtype=int32)
    """
    return parse_idx(decompressed(Path(path).read_bytes(), path), path)


def decompressed(content: bytes, path: str | os.PathLike[str]) -> bytes:
    """The content of a file without gzip's compression, if it has that; ``path`` names it."""
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path} is a damaged gzip file ({error}); fetch or compress it again."
        ) from error


def parse_idx(content: bytes, path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in the content of an IDX file; ``path`` is named in errors."""
    if len(content) < 4:
        raise FileFormatError(f"{path} ends within its header, after {len(content)} bytes.")
    zeros, code, ndim = struct.unpack_from(">HBB", content)
    if zeros != 0 or code not in _DTYPES:
        raise FileFormatError(
            f"{path} is no IDX file: it begins with the bytes {content[:4].hex(' ')}, where two "
            f"zeros and a type code ({', '.join(f'{c:02x}' for c in _DTYPES)}) are expected."
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise FileFormatError(
            f"{path} ends within its header: {ndim} axes need {start} bytes, there are "
            f"{len(content)}."
        )
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    dtype = np.dtype(_DTYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        problem = "is truncated" if len(content) < expected else "has trailing bytes"
        raise FileFormatError(
            f"{path} {problem}: its header announces shape {shape} of {dtype.name}, which makes "
            f"{expected} bytes, but there are {len(content)}."
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, compressed with gzip if the name ends in ``.gz``.

    A file that was there before is replaced only when the new one is complete.

    Args:
        path: where to write.
        array: of dtype uint8, int8, int16, int32, float32 or float64, with at most 255 axes of
            less than 2**32 elements.

    Raises:
        TypeError: IDX has no code for the array's dtype.

    >>> import tempfile
    >>> write_idx(tempfile.mkdtemp() + "/labels-idx1-ubyte.gz", np.array([3, 1], np.uint8))
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise TypeError(
            f"IDX files hold arrays of {known}; this one is of dtype {array.dtype}. "
            "Convert it with array.astype(...)."
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    content = header + array.astype(_DTYPES[code]).tobytes()
    with atomic_write(path) as file:
        if os.fspath(path).endswith(".gz"):
            # No time stamp, so that the same array makes the same file.
            content = gzip.compress(content, compresslevel=9, mtime=0)
        file.write(content)
