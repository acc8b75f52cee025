"""Which recorders are open in this thread, and which of them owns what is computed."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import numpy as np

from funcgrad.core.snapshot import same_bits, snapshot
from funcgrad.source import SourceLine


class _Recorders(threading.local):
    def __init__(self) -> None:
        # The innermost recorder that is open, and the innermost that owns what is computed.
        self.top: Any = None
        self.owner: Any = None
        # Captured arrays by their ids: themselves, and as they were.
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.source: SourceLine | None = None


current = _Recorders()
# The open recorders of all threads that own what is computed of arrays alone, too. While there
# are none, which is nearly always, nobody needs to ask for this thread's.
deferring: list[Any] = []


def owner() -> Any:
    """The recorder that owns what this thread computes now.

    One whose `with` block is no longer being run was kept from ending, by Ctrl-C as it began to.
    It ends here.
    """
    found = current.owner
    while found is not None and not _is_running(found.frame):
        found.__exit__(None, None, None)
        found = current.owner
    return found


def _is_running(frame: FrameType | None) -> bool:
    here: FrameType | None = sys._getframe(1)
    while here is not None and here is not frame:
        here = here.f_back
    return here is not None


def is_deferring() -> bool:
    """Whether this thread records a program that may never run: a branch, a loop's body."""
    found = owner()
    return found is not None and found.defers


def is_staging() -> bool:
    """Whether a graph for later use is being recorded in this thread."""
    owner()
    recorder = current.top
    while recorder is not None and not recorder.stages:
        recorder = recorder.outer
    return recorder is not None


def trace_level() -> int:
    """How many transformations record what this thread computes now: 0 in plain Python.

    Of use to libraries that keep something beside a function: what was begun at one level cannot
    take in what is computed at a deeper one.

    >>> fg.trace_level()
    0
    >>> levels = []
    >>> fg.grad(lambda x: levels.append(fg.trace_level()) or x**2)(1.0)
    np.float64(2.0)
    >>> levels
    [1]
    """
    owner()
    top = current.top
    return 0 if top is None else top.level


def set_source(source: SourceLine | None) -> SourceLine | None:
    """What is recorded from now on comes from this line of the user's; returns the one before."""
    before = current.source
    current.source = source
    return before


def kept(a: np.ndarray) -> np.ndarray:
    """A captured array as it is now; the user may write something else to it next."""
    original, copy = current.kept.get(id(a), (None, a))
    if original is not a or not same_bits(a, copy):
        copy = snapshot(a)
        current.kept[id(a)] = (a, copy)
        current.kept[id(copy)] = (copy, copy)
    return copy
