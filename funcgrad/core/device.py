"""Where arrays are, and which library computes with them.

A `Device` is "cpu" or ("cuda", number). NumPy's arrays and all numbers are on the CPU, CuPy's
arrays where they say. CuPy is never imported here: who has one of its arrays has done that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from funcgrad.errors import DeviceError

Device = str | tuple[str, int]
CPU: Device = "cpu"


@cache
def is_cupys(kind: type) -> bool:
    """Whether this is the class of CuPy's arrays."""
    return kind.__name__ == "ndarray" and kind.__module__.partition(".")[0] == "cupy"


def is_array(x: Any) -> bool:
    """Whether x is an array of either library; a NumPy scalar is none."""
    kind = type(x)
    return kind is np.ndarray or isinstance(x, np.ndarray) or is_cupys(kind)


def device_of(x: Any) -> Device:
    """The device of an array, number, aval or tracer."""
    if is_cupys(type(x)):
        return ("cuda", x.device.id)
    return getattr(x, "device", CPU)


def namespace(*arrays: Any) -> Any:
    """The library that computes with these arrays, avals or tracers: the module NumPy or CuPy."""
    on_cpu = all(device_of(x) == CPU for x in arrays)
    return np if on_cpu else sys.modules["cupy"]


def is_numpys(x):
    """Whether an implementation may call of NumPy's what CuPy's arrays do not answer."""
    return isinstance(x, (np.ndarray, np.generic))


def zeros_beside(x, shape, dtype):
    """Zeros where the array x is."""
    if is_numpys(x):
        return np.zeros(shape, dtype)
    # Not zeros_like: CuPy takes its shape=() for none that is given.
    return np.zeros(shape, dtype, like=x)


def put(x: Any, device: Device) -> Any:
    """An array or number as an array of a device that is not the CPU."""
    cupy = sys.modules["cupy"]
    with cupy.cuda.Device(device[1]):
        return cupy.asarray(x)


def put_beside(x: Any, host: Any) -> Any:
    """An array of the host, such as one made for an operation on x, where x is."""
    device = device_of(x)
    return host if device == CPU else put(host, device)


def common_device(what: str, avals: Sequence[Any]) -> Device:
    """Where an operation on operands of these avals is computed.

    Numbers, and host arrays without axes, go anywhere.

    Raises:
        DeviceError: arrays are on several devices; the message begins with `what`.
    """
    if DeviceError.concerns(avals):
        raise DeviceError.of(what, avals)
    return next((a.device for a in avals if a.device != CPU), CPU)


def as_numbers(operands: list[Any]) -> bool:
    """Replace host arrays without axes by numbers, in place, where those go to a device.

    CuPy takes numbers, but no such arrays. Whether there were any.
    """
    hosts = [i for i, x in enumerate(operands) if isinstance(x, np.ndarray)]
    on_device = any(is_cupys(type(x)) for x in operands)
    if not hosts or not on_device or any(operands[i].shape for i in hosts):
        return False
    for i in hosts:
        operands[i] = operands[i][()]
    return True


def short_device(device: Device) -> str:
    """`cuda:0`: the spelling of printed avals."""
    return device if isinstance(device, str) else f"{device[0]}:{device[1]}"
