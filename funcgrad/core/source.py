"""Where in the user's code something happened."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import numpy as np

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INTERNAL = (_PACKAGE, os.path.dirname(np.__file__) + os.sep, "<__array_function__", "<frozen")


class SourceLine(NamedTuple):
    """A file and line of the user's."""

    filename: str
    lineno: int
    function: str

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno} (in {self.function})"


def user_line() -> SourceLine | None:
    """The innermost frame outside funcgrad and NumPy, or None if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_INTERNAL):
            return SourceLine(filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


def at_user_line() -> str:
    """`" at file:line (in f)"` for the end of a message, or nothing."""
    line = user_line()
    return f"\n  at {line}" if line else ""
