"""Results that are the caller's alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from sys import getrefcount
from typing import Any

import numpy as np

from funcgrad.core.device import is_array, is_cupys


def _owner(x: Any) -> Any:
    """What the memory of an array belongs to: the array itself, or what it is a view of."""
    while is_array(x.base):
        x = x.base
    return x


def _is_writeable(x: Any) -> bool:
    """Whether its elements can be written to, each alone."""
    return _are_apart(x) if is_cupys(type(x)) else x.flags.writeable


def _are_apart(x: Any) -> bool:
    """Whether no element is there twice, of what slices, broadcasts and windows give."""
    reach = 0
    for step, n in sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        if step <= reach:
            return not x.size
        reach += step * (n - 1)
    return True


def native(x: Any) -> Any:
    """x itself; an array of another byte order than the machine's in the machine's."""
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        return x.astype(x.dtype.newbyteorder("="))
    return x


def own_arrays(results: Iterable[Any], given: Iterable[Any]) -> list[Any]:
    """The results, copied where an array shares memory with one that is `given`, or with another
    of them, or is read-only, or of another byte order than the machine's."""
    arrays = list(filter(is_array, given))
    taken = {id(x if x.base is None else _owner(x)) for x in arrays}
    own: list[Any] = []
    for x in results:
        if is_array(x):
            if id(_owner(x)) in taken or not _is_writeable(x) or not x.dtype.isnative:
                x = native(x).copy("K")
            taken.add(id(_owner(x)))
        own.append(x)
    return own


def read_only(x: Any) -> Any:
    """A view of an array, NumPy's, that cannot be written through."""
    if type(x) is np.ndarray:
        x = x.view()
        # `write=False`; by name, or through `flags`, it takes several times as long.
        x.setflags(False)  # pyright: ignore[reportCallIssue]
    return x


def guarded(impl: Callable[..., Any], multiple: bool) -> Callable[..., Any]:
    """A user's function of arrays, which cannot write to them, and whose results are the caller's.

    What it returns is copied if anybody else has that, too: an operand, a view of one, or an
    array that the function keeps and writes to in another call.
    """

    if multiple:

        @functools.wraps(impl)
        def several(*args: Any, **params: Any) -> Any:
            rest = list(impl(*map(read_only, args), **params))
            own: list[Any] = []
            while rest:
                x = rest.pop()
                if is_array(x) and not (getrefcount(x) <= _REFERENCES_OF_NEW and x.flags.owndata):
                    x = x.copy("K")
                own.append(x)
            return own[::-1]

        return several

    @functools.wraps(impl)
    def one(*args: Any, **params: Any) -> Any:
        x = impl(*map(read_only, args), **params)
        if is_array(x) and not (getrefcount(x) <= _REFERENCES_OF_NEW and x.flags.owndata):
            return x.copy("K")
        return x

    return one


def _references_of_new() -> int:
    x = np.empty(1)
    return getrefcount(x)


# Of an array that only a variable has, as Python counts them here.
_REFERENCES_OF_NEW = _references_of_new()
