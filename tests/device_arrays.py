"""The library of device arrays that tests use: CuPy with FUNCGRAD_TEST_CUPY=1, else a stand-in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fakecupy

REAL = os.environ.get("FUNCGRAD_TEST_CUPY", "") not in ("", "0")
library = import_module("cupy") if REAL else fakecupy.cupy

# More than two show nothing new.
COUNT = min(2, library.cuda.runtime.getDeviceCount()) if REAL else 2
NEEDS_TWO_DEVICES = pytest.mark.skipif(COUNT < 2, reason="there is one GPU")
STAND_IN_ONLY = pytest.mark.skipif(REAL, reason="this is about the stand-in")
CUPY_ONLY = pytest.mark.skipif(not REAL, reason="the stand-in has no memory of its own")


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """While it lasts, funcgrad finds the library where it looks for CuPy."""
    with contextlib.nullcontext() if REAL else fakecupy.installed():
        yield


def is_device_array(x: Any) -> bool:
    return type(x) is library.ndarray


def to_device(x: Any) -> Any:
    """Arrays on a device, C-contiguous or not as they were; numbers as they are."""
    return library.asarray(x) if isinstance(x, np.ndarray) else x


def to_host(x: Any) -> Any:
    assert is_device_array(x), f"{type(x)} is no array of a device"
    return library.asnumpy(x)


def on(number: int, x: Any) -> Any:
    """The array on the device of this number."""
    with library.cuda.Device(number):
        return library.asarray(x)


def assert_same(found: list[Any], expected: list[Any]) -> None:
    """Arrays of the device, equal to the host's in shape and dtype, and up to rounding."""
    assert len(found) == len(expected)
    for f, e in zip(map(to_host, found), map(np.asarray, expected), strict=True):
        assert f.shape == e.shape
        assert f.dtype == e.dtype
        if e.dtype.kind in "fc":
            rtol = max(1e-10, 100 * float(np.finfo(e.dtype).eps))
            np.testing.assert_allclose(f, e, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(f, e)
