"""Results that are the caller's alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def _owner(x: np.ndarray) -> Any:
    """What the memory of an array belongs to: the array itself, or what it is a view of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def native(x: Any) -> Any:
    """x itself; an array of another byte order than the machine's in the machine's."""
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        return x.astype(x.dtype.newbyteorder("="))
    return x


def own_arrays(results: Iterable[Any], given: Iterable[Any]) -> list[Any]:
    """The results, copied where an array shares memory with one that is `given`, or with another
    of them, or is read-only, or of another byte order than the machine's."""
    arrays = [x for x in given if isinstance(x, np.ndarray)]
    taken = {id(x if x.base is None else _owner(x)) for x in arrays}
    own: list[Any] = []
    for x in results:
        if isinstance(x, np.ndarray):
            if id(_owner(x)) in taken or not x.flags.writeable or not x.dtype.isnative:
                x = np.array(native(x))
            taken.add(id(_owner(x)))
        own.append(x)
    return own
