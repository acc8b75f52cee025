"""Python's garbage collector, which long programs are traced and compiled without."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Programs of more equations are long.
MANY = 512

# The pauses that are on, by their ids.
_pauses: set[int] = set()


class Pause:
    """No cycles are looked for until it ends, unless someone else says so.

    A long program is some hundred thousand objects, which all live until it is compiled: to walk
    over them, again and again as they become more, would take a fifth of the time.
    """

    __slots__ = ()

    def __init__(self) -> None:
        if gc.isenabled():
            _pauses.add(id(self))
            gc.disable()

    def end(self) -> None:
        # A forked process may have left the pause already.
        if id(self) in _pauses:
            _pauses.discard(id(self))
            gc.enable()

    # Of a recording that was kept from ending.
    __del__ = end


@contextmanager
def collector_paused() -> Iterator[None]:
    """A pause while this context lasts."""
    pause = Pause()
    try:
        yield
    finally:
        pause.end()


def _in_child() -> None:
    """The thread that paused may not be there."""
    if _pauses:
        _pauses.clear()
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
