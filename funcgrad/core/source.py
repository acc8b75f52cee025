"""Where in the user's code something happened."""

from __future__ import annotations

import dis
import os
import sys
from functools import lru_cache
from types import CodeType
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


@lru_cache(maxsize=256)
def _operation(code: CodeType, offset: int) -> tuple[str, str | None]:
    instructions = list(dis.get_instructions(code))
    here = next(i for i in instructions if i.offset == offset)
    if not here.opname.startswith("CALL") or here.positions is None:
        return here.opname, None
    start = (here.positions.lineno, here.positions.col_offset)
    for i in instructions:
        at = i.positions and (i.positions.lineno, i.positions.col_offset)
        if i.offset < offset and at == start and i.opname.startswith("LOAD_"):
            return here.opname, str(i.argval)
    return here.opname, None


def caller_operation(depth: int) -> tuple[str, str | None]:
    """What the frame `depth` levels up is doing: its instruction, and the name it calls.

    The call `float(x)` starts where the name `float` does, `math.sin(x)` where `math` does.
    """
    frame = sys._getframe(depth)
    return _operation(frame.f_code, frame.f_lasti)
