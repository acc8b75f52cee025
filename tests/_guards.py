"""Memory that ends the process where a compiled program reaches beyond an array.

Inputs, results, constants and temporaries each lie directly before a page that may not be
touched, or directly behind one, and are filled with ones (NaN) before they are written.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.backends.llvm.program import entry, linked
from funcgrad.backends.llvm.runtime import engine
from funcgrad.backends.loops.nests.buffers import Allocation, Buffer, allocate
from funcgrad.backends.loops.planning import planner

PAGE = mmap.PAGESIZE
_UNTOUCHABLE, _POISON = 0, 0xFF
_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
# With the GIL held, as NumPy allocates.
_NEW_ARRAY = ctypes.PYFUNCTYPE(
    ctypes.py_object,
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
)  # fmt: skip


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def _close(address: int) -> None:
    if _protect(address, PAGE, _UNTOUCHABLE):
        raise OSError(ctypes.get_errno(), "mprotect")


class Guards:
    """Guarded memory: `at_end` tells whether the page behind an array or before it is adjacent."""

    def __init__(self) -> None:
        self.at_end = True
        # Of arenas by their size, which is made unlike any other's: where pages are closed.
        self._closed: dict[int, list[int]] = {}

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        nbytes = prod(shape) * dtype.itemsize
        room = max(_pages(nbytes), PAGE)
        memory = mmap.mmap(-1, room + 2 * PAGE)
        whole = np.frombuffer(memory, np.uint8)
        start = PAGE + (room - nbytes if self.at_end else 0)
        whole[PAGE : PAGE + room] = _POISON
        for page in (0, PAGE + room):
            _close(whole.ctypes.data + page)
        return np.ndarray(shape, dtype, memory, start)

    def copy(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        found = self.empty(value.shape, value.dtype)
        found[...] = value
        return found

    def placement(self, found: Allocation) -> Allocation:
        """Places for a plan's temporaries with closed pages between them, all at a time."""
        offsets, closed, offset = {}, [0], PAGE
        for buffer in found.offsets:
            room = max(_pages(buffer.nbytes), PAGE)
            offsets[buffer] = offset + (room - buffer.nbytes if self.at_end else 0)
            closed.append(offset + room)
            offset += room + PAGE
        size = offset + len(self._closed) * PAGE
        if offsets:
            self._closed[size] = closed
        return Allocation(offsets, size if offsets else 0)

    def arena(self, nbytes: int) -> np.ndarray:
        """The native code asks for some more than the plan says, to align it."""
        memory = mmap.mmap(-1, nbytes - 64 + PAGE)
        whole = np.frombuffer(memory, np.uint8)
        whole[:] = _POISON
        for page in self._closed[nbytes - 64]:
            _close(whole.ctypes.data + page)
        return whole

    def install(self) -> None:
        """From now on compiled programs work in guarded memory."""
        guards = self

        class GuardedProgram(planner.Program):
            def constant(self, value: np.ndarray) -> Buffer:
                known = id(value) in self.constants
                found = super().constant(value)
                if not known:
                    found.value = (guards.copy(found.value[0]), value)
                return found

        original = _NEW_ARRAY(entry.array_function("fg_PyArray_NewFromDescr"))
        release = ctypes.pythonapi.Py_DecRef
        release.argtypes = [ctypes.c_void_p]

        def new_array(kind: Any, descr: int, rank: int, dims: int, *rest: Any) -> np.ndarray:
            if rest[1]:
                return original(kind, descr, rank, dims, *rest)
            dtype = ctypes.cast(descr, ctypes.py_object).value
            shape = (ctypes.c_ssize_t * rank).from_address(dims)
            release(descr)
            if dtype == np.uint8 and rank == 1 and shape[0] - 64 in guards._closed:
                return guards.arena(shape[0])
            return guards.empty(tuple(shape), dtype)

        linked.register()
        self.hook = _NEW_ARRAY(new_array)
        address = ctypes.cast(self.hook, ctypes.c_void_p).value or 0
        engine.register_symbol("fg_PyArray_NewFromDescr", address)
        planner.allocate = lambda uses: guards.placement(allocate(uses))
        planner.Program = GuardedProgram
