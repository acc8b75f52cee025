"""The IDX format of the MNIST files: a header, then one array in C order, big-endian.

The header is two zero bytes, a byte for the type, a byte for the number of axes, and the length
of each axis as a big-endian 32-bit integer (Y. LeCun, C. Cortes, C. Burges, *The MNIST database*,
"File formats for the MNIST database").
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import FileFormatError
from funcgrad.files import atomic_write, open_to_read

Path = str | os.PathLike[str]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _DTYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"
# A byte of deflated data stands for at most so many (https://zlib.net/zlib_tech.html).
_MOST_COMPRESSED = 1032
_CHUNK = 1 << 20
_MAX_AXES = 64


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, plain or compressed with gzip.

    Args:
        path: the file; whether it is compressed is told from its content, not from its name.

    Returns:
        A new array of dtype uint8, int8, int16, int32, float32 or float64, in the byte order of
        this machine.

    Raises:
        OSError: the file cannot be opened, or is a pipe that nobody writes to.
        FileFormatError: the file is truncated, corrupted, longer than its header says, or no IDX
            file; the message names it.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/ages.idx"
    >>> write_idx(path, np.array([[25, 31], [47, 8]], np.int32))
    >>> read_idx(path)
    array([[25, 31],
           [47,  8]], dtype=int32)
    """
    with open_to_read(path) as file:
        return decoded(file, path).array()


class Content(NamedTuple):
    """What an IDX file holds, decompressed."""

    header: bytes
    values: NDArray[Any]
    """The array, in the file's byte order."""

    def array(self) -> NDArray[Any]:
        """The array in the byte order of this machine; the memory is the same."""
        values = self.values
        if not values.dtype.isnative:
            values = values.byteswap(inplace=True).view(values.dtype.newbyteorder("="))
        return values


def decoded(file: io.BufferedReader, path: Path) -> Content:
    """Read an IDX file, whether or not it is compressed; ``path`` is named in errors.

    No more is decompressed than the header announces, and no memory is taken for what a file of
    this size cannot hold.
    """
    size = None
    if file.seekable():
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    if file.peek(2)[:2] != _GZIP_MAGIC:
        return _decoded(file, size, path)
    try:
        with gzip.GzipFile(fileobj=file) as plain:
            return _decoded(plain, size and size * _MOST_COMPRESSED, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path} is a damaged gzip file ({error}); fetch or compress it again."
        ) from error


def _decoded(file: io.BufferedIOBase, most: int | None, path: Path) -> Content:
    """The content of a decompressed file of no more than so many bytes, if that is known."""
    header = file.read(4)
    if len(header) < 4:
        raise FileFormatError(f"{path} ends within its header, after {len(header)} bytes.")
    zeros, code, ndim = struct.unpack(">HBB", header)
    if zeros != 0 or code not in _DTYPES:
        raise FileFormatError(
            f"{path} is no IDX file: it begins with the bytes {header.hex(' ')}, where two "
            f"zeros and a type code ({', '.join(f'{c:02x}' for c in _DTYPES)}) are expected."
        )
    if ndim > _MAX_AXES:
        raise FileFormatError(f"{path} has {ndim} axes, NumPy's arrays have at most {_MAX_AXES}.")
    header += file.read(4 * ndim)
    if len(header) < 4 + 4 * ndim:
        raise FileFormatError(
            f"{path} ends within its header: {ndim} axes need {4 + 4 * ndim} bytes, there are "
            f"{len(header)}."
        )
    shape = struct.unpack_from(f">{ndim}I", header, 4)
    dtype = np.dtype(_DTYPES[code])
    count = math.prod(shape) * dtype.itemsize
    claim = (
        f"its header announces shape {shape} of {dtype.name}, which makes {len(header) + count} "
        "bytes"
    )
    if most is not None and len(header) + count > most:
        raise FileFormatError(f"{path} is truncated: {claim}, but there are at most {most}.")
    content = np.empty(count, np.uint8)
    try:
        values = content.view(dtype).reshape(shape)
    except ValueError as error:
        raise FileFormatError(f"{path} holds no array of NumPy's: {claim}, but {error}.") from error
    found = sum(_filled(file, content))
    if found < count:
        there = len(header) + found
        raise FileFormatError(f"{path} is truncated: {claim}, but there are {there}.")
    if file.read(1):
        raise FileFormatError(f"{path} has trailing bytes: {claim}, but there are more.")
    return Content(header, values)


def _filled(file: io.BufferedIOBase, content: NDArray[np.uint8]) -> Iterator[int]:
    """Reads until the array is full or the file ends; gives the sizes of what was read."""
    start = 0
    while start < len(content) and (size := file.readinto(content[start : start + _CHUNK].data)):
        yield size
        start += size


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, compressed with gzip if the name ends in ``.gz``.

    A file that was there before is replaced only when the new one is complete.

    Args:
        path: where to write.
        array: of dtype uint8, int8, int16, int32, float32 or float64, with at most 255 axes of
            less than 2**32 elements.

    Raises:
        TypeError: IDX has no code for the array's dtype.
        ValueError: an axis is too long.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> write_idx(tempfile.mkdtemp() + "/labels-idx1-ubyte.gz", np.array([3, 1], np.uint8))
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise TypeError(
            f"IDX files hold arrays of {known}; this one is of dtype {array.dtype}. "
            "Convert it with array.astype(...)."
        )
    if any(length >= 2**32 for length in array.shape):
        raise ValueError(
            f"IDX files hold arrays with axes of less than 2**32 elements; this one is of shape "
            f"{array.shape}."
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    with atomic_write(path) as file:
        if os.fsdecode(path).endswith(".gz"):
            # No time stamp, so that the same array makes the same file.
            with gzip.GzipFile("", "wb", 9, file, mtime=0) as compressed:
                _write(compressed, header, array.astype(_DTYPES[code], copy=False))
        else:
            _write(file, header, array.astype(_DTYPES[code], copy=False))


def _write(file: Any, header: bytes, array: NDArray[Any]) -> None:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    file.write(header)
    for start in range(0, len(content), _CHUNK):
        file.write(content[start : start + _CHUNK])
