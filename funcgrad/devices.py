"""Copying arrays from one device to another: `device_put`, `device_get`."""

from __future__ import annotations

import sys
from typing import Any, cast

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.core.device import CPU, Device, put, short_device
from funcgrad.core.tracer import Tracer
from funcgrad.errors import ArgumentError, DeviceError, NotAnArrayError, at_line


def device_put(x: Any, device: Any) -> Any:
    """The leaves of `x` as arrays on a device.

    Args:
        x: a pytree of arrays and numbers; traced arrays only where they are on it already.
        device: "cpu", ("cuda", number), or an array that is where the others shall be.

    Returns:
        A tree of the same structure, shapes and dtypes. What is on the device already is passed
        on, and on the CPU arrays are NumPy's.

    Raises:
        ArgumentError: there is no such device, or CuPy, which has it, is not imported.
        NotAnArrayError: a leaf is no array.
        DeviceError: a traced array is elsewhere.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.device_put({"w": np.ones(2)}, "cpu")
        {'w': array([1., 1.])}
    """
    place = _device(device)
    paths, treedef = tree.flatten_with_path(x)
    return treedef.unflatten([_put(leaf, place, tree.keystr(path)) for path, leaf in paths])


def device_get(x: Any) -> Any:
    """The leaves of `x` as NumPy's arrays: `device_put(x, "cpu")`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.device_get((np.ones(2), 3.0))
        (array([1., 1.]), 3.0)
    """
    return device_put(x, CPU)


def _device(device: Any) -> Device:
    if isinstance(device, str):
        if device == CPU:
            return CPU
    elif isinstance(device, tuple):
        kind, *numbers = cast(tuple[Any, ...], device) or (None,)
        if kind == "cuda" and len(numbers) == 1 and type(numbers[0]) is int and numbers[0] >= 0:
            return "cuda", numbers[0]
    else:
        try:
            return aval_of(device).device
        except NotAnArrayError:
            pass
    raise at_line(
        ArgumentError,
        f"device_put: there is no device {device!r}; there are 'cpu' and ('cuda', 0), ('cuda', 1) "
        "and so on, and an array of theirs names each",
    )


def _put(leaf: Any, device: Device, path: str) -> Any:
    try:
        have = aval_of(leaf).device
    except NotAnArrayError:
        raise NotAnArrayError.of(leaf, path, "device_put: a leaf") from None
    if type(leaf) is Tracer:
        if have == device:
            return leaf
        raise at_line(
            DeviceError,
            f"device_put: a traced array is on {short_device(have)}, not on "
            f"{short_device(device)}; what a function computes stays on its arguments' device. "
            "Copy before or after the transformation",
        )
    if device == CPU:
        return leaf if have == CPU else leaf.get()
    if have == device:
        return leaf
    if "cupy" not in sys.modules:
        raise at_line(
            ArgumentError,
            f"device_put: {short_device(device)} takes CuPy's arrays; import cupy before",
        )
    return put(leaf, device)
