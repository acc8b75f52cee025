"""Copying batches to a device ahead of their use, on a stream of their own.

Copies are ordered behind what the consumer's stream had been given when memory was taken from its
pool, and the consumer's stream behind the copies; no thread waits for either. Host memory is kept
until it has been copied.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import funcgrad as fg
from funcgrad import tree

Array = NDArray[Any]


class Copying(NamedTuple):
    """A batch on the device, the event behind its copies, and the host memory they read."""

    batch: Any
    copied: Any
    hosts: list[Array]


def cuda_number(device: Any) -> int | None:
    """The number of a GPU, None for the CPU.

    Raises:
        ArgumentError: there is no such device, or CuPy is not imported.
    """
    probe = fg.device_put(np.zeros(1, np.uint8), device)
    return None if isinstance(probe, np.ndarray) else probe.device.id


class Mover:
    """Copies the batches of an epoch to a GPU, for the stream that is current now."""

    def __init__(self, number: int, pinned: bool) -> None:
        self._cupy: Any = sys.modules["cupy"]
        self._number, self._pinned = number, pinned
        # Memory must not be given to others while a copy reads or writes it.
        self._begun: dict[int, Copying] = {}
        with self._cupy.cuda.Device(number):
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            self._consumer = self._cupy.cuda.get_current_stream()

    def start(self, batch: Any) -> Copying:
        """Begin to copy a batch, in any thread."""
        hosts: list[Array] = []
        leaves, treedef = tree.flatten(batch)
        with self._cupy.cuda.Device(self._number):
            try:
                moved = [self._copy(leaf, hosts) for leaf in leaves]
            except BaseException:
                self._stream.synchronize()
                raise
            copying = Copying(treedef.unflatten(moved), self._stream.record(), hosts)
        self._begun[id(copying)] = copying
        return copying

    def starting(self, make: Callable[..., Any]) -> Callable[..., Copying]:
        """A function that makes a batch and begins to copy it."""

        def made(*call: Any) -> Copying:
            return self.start(make(*call))

        return made

    def _copy(self, leaf: Any, hosts: list[Array]) -> Any:
        if not _has_numbers(leaf):
            return leaf
        host: Array = np.ascontiguousarray(leaf).reshape(leaf.shape)
        if self._pinned and host.nbytes:
            memory = self._cupy.cuda.alloc_pinned_memory(host.nbytes)
            pinned = np.frombuffer(memory, host.dtype, host.size).reshape(host.shape)
            pinned[...] = host
            host = pinned
        # From the consumer's pool, as it ends there: what had this memory before may still be read
        # by what that stream has not done yet.
        with self._consumer:
            array = self._cupy.empty(host.shape, host.dtype)
        self._stream.wait_event(self._consumer.record())
        array.set(host, stream=self._stream)
        hosts.append(host)
        return array

    def started(self, batches: Iterator[Any], ahead: int) -> Generator[Copying]:
        """Each batch, begun to be copied so many batches before it is asked for."""
        waiting: deque[Copying] = deque()
        try:
            for batch in batches:
                waiting.append(self.start(batch))
                if len(waiting) > ahead:
                    yield waiting.popleft()
            yield from waiting
        finally:
            _close(batches)

    def handed_out(self, copies: Iterator[Copying]) -> Iterator[Any]:
        """The batches, for the consumer's stream to use."""
        before: list[Any] | None = None
        try:
            for copying in copies:
                if before is not None:
                    before[0].synchronize()
                batch, *before = self._begun.pop(id(copying))
                self._consumer.wait_event(copying.copied)
                del copying
                yield batch
        finally:
            _close(copies)
            self._stream.synchronize()
            self._begun.clear()


def _close(values: Any) -> None:
    if hasattr(values, "close"):
        values.close()


def _has_numbers(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return (
        isinstance(dtype, np.dtype)
        and isinstance(leaf, (np.ndarray, np.generic))
        and dtype.kind in "biufc"
    )
