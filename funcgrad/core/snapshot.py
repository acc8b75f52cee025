"""Arrays as they are at a moment."""

from __future__ import annotations

import re
import sys
import threading
import weakref
from typing import Any

import numpy as np

from funcgrad.core.device import is_cupys
from funcgrad.errors import CapturedWriteError

# Parts of larger arrays are copied up to this size.
_PART_BYTES = 1 << 20
# So many elements of a held array are compared when it is released.
_SAMPLES = 256
# Comparing so few bytes takes less time than comparing numbers.
_COMPARED_AS_BYTES = 1 << 16
# How NumPy, Python's buffers and their users say that memory cannot be written to.
_REFUSAL = "read-?only|read-write|writable|writeable"

# Snapshots by their ids. What else is read-only may have an older view that can be written to.
_snapshots: dict[int, weakref.ref[np.ndarray]] = {}


def snapshot(x: np.ndarray) -> np.ndarray:
    """A read-only copy; x itself if it is one. What is repeated stays repeated.

    CuPy's arrays cannot be made read-only.
    """
    if is_cupys(type(x)):
        return x.copy()
    if is_snapshot(x):
        return x
    copy = np.array(x[_once(x)])
    copy.flags.writeable = False
    if copy.shape != x.shape:
        copy = np.broadcast_to(copy, x.shape)
    key = id(copy)
    _snapshots[key] = weakref.ref(copy, lambda _: _snapshots.pop(key, None))
    return copy


def is_snapshot(x: np.ndarray) -> bool:
    """Whether nobody can write to it."""
    found = _snapshots.get(id(x))
    return found is not None and found() is x


def _once(x: np.ndarray) -> tuple[slice, ...]:
    """The index of the elements without their repetitions."""
    return tuple([slice(None) if stride else slice(0, 1) for stride in x.strides])


def same_bits(x: Any, y: Any) -> bool:
    """Whether arrays have the same elements: of zeros the signs count, and NaNs are equal."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if 0 in x.strides:
        # A snapshot repeats what its array does.
        x, y = x[_once(x)], y[_once(x)]
    if x.nbytes <= _COMPARED_AS_BYTES:
        return x.tobytes() == y.tobytes()
    if x.dtype.kind == "c":
        return same_bits(x.real, y.real) and same_bits(x.imag, y.imag)
    bits = f"u{x.itemsize}" if x.itemsize <= 8 else x.dtype
    return np.array_equal(x.view(bits), y.view(bits))


class _Lock:
    """Why an array is read-only at the moment: so many have it, and views wait for it."""

    __slots__ = ("array", "holders", "views")

    def __init__(self, array: np.ndarray):
        self.array = array
        self.holders = 0
        self.views: list[np.ndarray] = []


_locks: dict[int, _Lock] = {}
_mutex = threading.RLock()


class Held:
    """Arrays that a function has used while it is recorded, too large to be copied each time.

    Nobody may write to them until they are released, through themselves or through what they
    are views of as a whole. Another view can still be written through; a comparison on release
    finds such writes, of some of the elements where there is no copy.
    """

    __slots__ = ("_arrays", "_copies", "_locked")

    def __init__(self) -> None:
        # By ids: the array, some of its elements, and what they were.
        self._arrays: dict[int, tuple[np.ndarray, np.ndarray, bytes]] = {}
        self._copies: dict[int, np.ndarray] = {}
        self._locked: list[_Lock] = []

    def keep(self, a: np.ndarray) -> np.ndarray:
        """The array itself, which keeps its elements from now on; a copy where it could not."""
        if id(a) not in self._arrays:
            chain = _chain(a)
            if chain is None:
                return snapshot(a)
            if any(owner.nbytes > a.nbytes for owner in chain):
                # The rest of the memory is none of ours: rows of one array may be buffers.
                if a.nbytes <= _PART_BYTES:
                    return snapshot(a)
                chain = chain[-1:] if a.flags.writeable else []
            locks = list(map(_lock, chain))
            self._locked += locks
            sample = _sample(a)
            self._arrays[id(a)] = (a, sample, sample.tobytes())
        return a

    def copy_of(self, a: np.ndarray) -> np.ndarray:
        """A copy, the same one each time, as the array keeps its elements from now on."""
        copy = self._copies.get(id(a))
        if copy is None:
            copy = snapshot(a)
            if self.keep(a) is a:
                self._copies[id(a)] = copy
        return copy

    def release(self, purpose: str, error: BaseException | None) -> None:
        """Let arrays be written to again.

        Raises:
            CapturedWriteError: `error`, in the recorded function, came of writing to one of
                them; or another way to write to one was found.
        """
        held, arrays, copies = bool(self._locked), self._arrays, self._copies
        self._unlock()
        if held and isinstance(error, (ValueError, TypeError)) and re.search(_REFUSAL, str(error)):
            raise CapturedWriteError.refused(purpose, error) from error
        if error is None:
            for array, sample, before in arrays.values():
                copy = copies.get(id(array))
                same = sample.tobytes() == before if copy is None else same_bits(array, copy)
                if not same:
                    raise CapturedWriteError.found(purpose, array)

    def _unlock(self) -> None:
        locked, self._locked, self._arrays, self._copies = self._locked, [], {}, {}
        # What an array is a view of stands before it, and has to be writeable first.
        for lock in locked:
            _unlock(lock)

    def __del__(self) -> None:
        # Where Ctrl-C kept a recording from ending in order.
        self._unlock()


def _chain(a: Any) -> list[np.ndarray] | None:
    """A writeable array and those that it is a view of, the owner of the memory first.

    None where it could not be made writeable again, as the memory is another library's.
    """
    chain: list[np.ndarray] = []
    while isinstance(a, np.ndarray):
        if a.flags.writeable or id(a) in _locks:
            chain.append(a)
        a = a.base
    if chain and not (a is None or isinstance(a, (bytearray, memoryview)) or _is_map(a)):
        return None
    chain.reverse()
    bases = [None, *chain]
    stays = (isinstance(x.base, np.ndarray) and x.base is not bases[i] for i, x in enumerate(chain))
    return None if any(stays) else chain


def _is_map(x: object) -> bool:
    """Whether it is a file in memory; who has one has imported what makes it."""
    return "mmap" in sys.modules and isinstance(x, sys.modules["mmap"].mmap)


def _lock(a: np.ndarray) -> _Lock:
    with _mutex:
        lock = _locks.get(id(a))
        if lock is None:
            lock = _locks[id(a)] = _Lock(a)
            a.flags.writeable = False
        lock.holders += 1
        return lock


def _unlock(lock: _Lock) -> None:
    with _mutex:
        lock.holders -= 1
        if lock.holders:
            return
        del _locks[id(lock.array)]
        for array in (lock.array, *lock.views):
            base = _locks.get(id(array.base))
            if base is not None:
                base.views.append(array)
            else:
                array.flags.writeable = True


def _sample(a: np.ndarray) -> np.ndarray:
    """A view of some elements, spread over all of the array."""
    size = a.size
    for axis in sorted(range(a.ndim), key=lambda i: -a.shape[i]):
        if size <= _SAMPLES:
            break
        n = a.shape[axis]
        a = a[(slice(None),) * axis + (slice(None, None, min(n, -(-size // _SAMPLES))),)]
        size = size // n * a.shape[axis]
    return a
