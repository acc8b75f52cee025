"""Python's garbage collector, which long programs are compiled without."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_pauses: set[object] = set()


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cycles are looked for meanwhile, unless someone else says so.

    A long program is some hundred thousand objects, which all live until it is compiled: to walk
    over them, again and again as they become more, would take a fifth of the time.
    """
    if not gc.isenabled():
        yield
        return
    pause = object()
    _pauses.add(pause)
    try:
        gc.disable()
        yield
    finally:
        # A forked process may have left the pause already.
        _pauses.discard(pause)
        gc.enable()


def _in_child() -> None:
    """The thread that paused may not be there."""
    if _pauses:
        _pauses.clear()
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
