"""Reading pickled dicts of arrays without running what a pickle says.

A pickle is a program that may call any function. Here, it may name what NumPy's arrays are pickled
with, and gets stand-ins for these, which keep what they are called with; anything else that it
names is an error.
"""

from __future__ import annotations

import math
import pickle
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.errors import FileFormatError


class _Dtype:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for ``numpy.ndarray``."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # How Python 3 writes bytes in the protocols of Python 2.
    if encoding != "latin1":
        raise FileFormatError(f"bytes in the encoding {encoding!r}")
    return str(text).encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _KNOWN[module_name, global_name]
        except KeyError:
            raise FileFormatError(
                f"it names {module_name}.{global_name}, which is not run: batches of arrays have "
                "no need of it"
            ) from None


def read_batch(file: IO[bytes], path: object) -> dict[str, Any]:
    """A pickled dict of uint8 arrays, lists, numbers and text; `path` is named in errors.

    Raises:
        FileFormatError: the file is truncated, damaged or something else, or names any function.
    """
    try:
        # Text of Python 2 is bytes: in Latin-1, all of them have a letter.
        found: Any = _Unpickler(file, encoding="latin1").load()
        if found.__class__ is not dict:
            raise FileFormatError(f"it holds a {type(found).__name__}, not a dict")
        return {_text(key): _value(found[key]) for key in found}
    except RecursionError as error:
        raise FileFormatError(f"{path} is nested too deeply to be a batch of images") from error
    except FileFormatError as error:
        raise FileFormatError(f"{path} is no batch of images: {error}") from error
    except Exception as error:
        # A damaged pickle may end in any error.
        raise FileFormatError(
            f"{path} is truncated, damaged or no batch of images ({error})"
        ) from error


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _value(value: Any) -> Any:
    return _array(value) if isinstance(value, _Array) else value


def _array(array: _Array) -> NDArray[np.uint8]:
    _, shape, dtype, fortran, content = array.state
    if not isinstance(dtype, _Dtype) or dtype.code != "u1":
        raise FileFormatError("an array is not of bytes")
    content = content.encode("latin1") if isinstance(content, str) else content
    lengths = [int(n) for n in shape]
    if min(lengths, default=0) < 0 or math.prod(lengths) != len(content):
        raise FileFormatError(f"an array of shape {tuple(lengths)} has {len(content)} bytes")
    return np.frombuffer(content, np.uint8).reshape(lengths, order="F" if fortran else "C")
