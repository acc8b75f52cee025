"""The safetensors format: a JSON header that names the tensors, then their bytes without gaps.

The file begins with the header's length as a little-endian 64-bit integer; see "Format" in
https://github.com/huggingface/safetensors. Reading and writing it here, straight from and to the
arrays' own memory, takes no copy, and no file can do more than be refused. The package safetensors
(0.8) reads no pipes, gives no bfloat16 or float8 to NumPy, needs gigabytes for some
crafted headers, orders metadata at random, and replaces files in a way of its own.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import FileFormatError

from ._optional import require

Array = NDArray[Any]
Path = str | os.PathLike[str]

METADATA = "__metadata__"
HEADER_LIMIT = 100_000_000
MAX_AXES = 64
_CHUNK = 1 << 24
_ALIGNMENT = 8

_NUMPY_DTYPES = {
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "C64": "complex64",
    "F32": "float32",
    "I32": "int32",
    "U32": "uint32",
    "F16": "float16",
    "I16": "int16",
    "U16": "uint16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
# These are NumPy's only where the package ml_dtypes is installed.
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_ITEM_SIZES = {
    **{code: np.dtype(name).itemsize for code, name in _NUMPY_DTYPES.items()},
    **{code: 2 if code == "BF16" else 1 for code in _ML_DTYPES},
}
CODES = {name: code for code, name in {**_NUMPY_DTYPES, **_ML_DTYPES}.items()}


class Entry(NamedTuple):
    """What the header says about a tensor; its bytes are counted from the header's end."""

    code: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def dtype(self) -> str:
        """NumPy's name for the tensor's dtype."""
        return _NUMPY_DTYPES.get(self.code) or _ML_DTYPES[self.code]


# -- Writing -------------------------------------------------------------------------------------


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a dtype, which NumPy takes long to say."""
    return dtype.name


def layout(tensors: dict[str, Array]) -> dict[str, Entry]:
    """Where each tensor goes: those of wide dtypes first, so that each is aligned."""
    entries: dict[str, Entry] = {}
    start = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        array = tensors[name]
        entries[name] = Entry(CODES[name_of(array.dtype)], array.shape, start, start + array.nbytes)
        start += array.nbytes
    return entries


def header(entries: dict[str, Entry], metadata: dict[str, str]) -> bytes:
    """The bytes before the tensors."""
    described: dict[str, Any] = {METADATA: metadata}
    for name, entry in entries.items():
        offsets = [entry.start, entry.stop]
        described[name] = {"dtype": entry.code, "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def stored(array: Array) -> memoryview:
    """An array's bytes as they are in a file: in C order and little-endian."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def reserve(file: BinaryIO, size: int) -> None:
    """Has a new file's room on the disk found at once, which takes less time than bit by bit."""
    if hasattr(os, "posix_fallocate"):
        # Neither streams nor all file systems can.
        with suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)


# -- Reading -------------------------------------------------------------------------------------

# What a header may be. Because it has been matched with this, JSON of any other structure, however
# large or deep, is refused before anything is built of it.
_SPACE = r"[ \t\n\r]*+"
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_NUMBER = r"(?:0|[1-9][0-9]{0,19}+)"
_MOST_NUMBERS = 999


def _separated(item: str, times: str = "*") -> str:
    return f"{_SPACE}{item}(?:{_SPACE},{_SPACE}{item}){times}+{_SPACE}"


def _pair(name: str, value: str) -> str:
    return f"{name}{_SPACE}:{_SPACE}{value}"


_NUMBERS = rf"\[(?:{_separated(_NUMBER, f'{{0,{_MOST_NUMBERS - 1}}}')}|{_SPACE})\]"
_FIELD = _pair(_STRING, f"(?:{_STRING}|{_NUMBERS})")
_TENSOR = _pair(_STRING, rf"\{{{_separated(_FIELD, '{2}')}\}}")
_TEXTS = rf"\{{(?:{_separated(_pair(_STRING, _STRING))}|{_SPACE})\}}"
_METADATA = _pair(f'"{METADATA}"', _TEXTS)
_MEMBER = f"(?:{_METADATA}|{_TENSOR})"
_HEADER = re.compile(
    rf"{_SPACE}\{{(?:{_separated(_MEMBER)}|{_SPACE})\}}{_SPACE}",
    re.DOTALL,
)


class Reader:
    """The tensors and the metadata of an open file.

    Raises:
        FileFormatError: it is truncated, corrupted or no safetensors file.
    """

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self._path = path
        self._file: io.BufferedIOBase = file
        size = _size(file)
        length = int.from_bytes(self._exactly(8), "little")
        if length > HEADER_LIMIT or (size is not None and length > size - 8):
            raise self._wrong(f"its header of {length:,} bytes cannot be")
        try:
            self.entries, self.metadata = parsed(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise self._wrong(str(error)) from error
        self._start = 8 + length
        self._check_size(size)

    def read(self, name: str, seen: Callable[[memoryview], object] = id) -> Array:
        """The tensor; each part of its bytes is shown to `seen` as soon as it is read."""
        entry = self.entries[name]
        dtype = _dtype(entry, name, self._path)
        try:
            array = np.empty(entry.shape, dtype)
        except (ValueError, OverflowError) as error:
            raise self._wrong(f"the tensor {name!r} of shape {entry.shape}: {error}") from error
        content = array.reshape(-1).view(np.uint8)
        self._file.seek(self._start + entry.start)
        for start in range(0, len(content), _CHUNK):
            part = content[start : start + _CHUNK]
            if self._file.readinto(part.data) < len(part):
                raise self._wrong("it ends before its last tensor does")
            if entry.code == "BOOL" and part.max() > 1:
                raise self._wrong(f"the tensor {name!r} has booleans that are neither 0 nor 1")
            seen(part.data)
        return array.byteswap() if sys.byteorder == "big" else array

    def _check_size(self, size: int | None) -> None:
        total = max((entry.stop for entry in self.entries.values()), default=0)
        if size is None:
            # A pipe: what it has is kept, so that tensors can be read in any order.
            content = bytearray(self._start)
            while len(content) <= self._start + total and (chunk := self._file.read(1 << 20)):
                content += chunk
            self._file, size = io.BytesIO(content), len(content)
        if size != self._start + total:
            problem = "has trailing bytes" if size > self._start + total else "is truncated"
            raise self._wrong(f"it {problem}: {size} for {self._start + total}")

    def _exactly(self, count: int) -> bytes:
        content = self._file.read(count)
        if len(content) < count:
            raise self._wrong("it ends within its header")
        return content

    def _wrong(self, reason: str) -> FileFormatError:
        return FileFormatError(
            f"{self._path} is truncated, corrupted or no safetensors file: {reason}."
        )


def _size(file: io.BufferedReader) -> int | None:
    """The size of a file; None of a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def parsed(text: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors that a header describes, and the metadata.

    Raises:
        ValueError: it is no header, or describes what cannot be.
    """
    decoded = text.decode()
    if _HEADER.fullmatch(decoded) is None:
        raise ValueError("its header describes no tensors")
    content = json.loads(decoded, object_pairs_hook=_unique)
    metadata = content.pop(METADATA, {})
    if not all(type(value) is str for value in metadata.values()):
        raise ValueError("its metadata is not text")
    entries = {name: _entry(name, fields) for name, fields in content.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            raise ValueError(f"the tensor {name!r} does not begin where the one before it ends")
        end = entry.stop
    return entries, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON as a dict.

    Raises:
        ValueError: a name occurs twice, or there is text that is none in Unicode.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in its header")
    for name, value in pairs:
        name.encode()
        if type(value) is str:
            value.encode()
    return found


def kinds(value: Any) -> dict[str, type]:
    """The types of an object's values, of what JSON made; of anything else, none."""
    fields = cast("dict[str, Any]", value) if type(value) is dict else {}
    return {key: type(field) for key, field in fields.items()}


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    expected = {"dtype": str, "shape": list, "data_offsets": list}
    if kinds(fields) != expected or len(fields["data_offsets"]) != 2:
        raise ValueError(f"the tensor {name!r} is described by {fields!r:.100}")
    code, shape, (start, stop) = (fields[key] for key in expected)
    if code not in _NUMPY_DTYPES and code not in _ML_DTYPES:
        raise ValueError(f"the tensor {name!r} is of type {code!r}, which NumPy has no dtype for")
    if len(shape) > MAX_AXES:
        raise ValueError(f"the tensor {name!r} has {len(shape)} axes, more than NumPy's {MAX_AXES}")
    needed = math.prod(shape) * _ITEM_SIZES[code]
    if stop - start != needed:
        raise ValueError(
            f"the tensor {name!r} has {stop - start} bytes, where {code} of shape {shape} needs "
            f"{needed}"
        )
    return Entry(code, tuple(shape), start, stop)


def _dtype(entry: Entry, name: str, path: Path) -> np.dtype[Any]:
    if entry.code in _NUMPY_DTYPES:
        return np.dtype(entry.dtype)
    what = f"The tensor {name!r} in {path} is of dtype {entry.dtype} ({entry.code})"
    return np.dtype(getattr(require("ml_dtypes", "io", what), entry.dtype))
