"""Where in the user's code something happened."""

from __future__ import annotations

import ast
import dis
import linecache
import os
import sys
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import numpy as np

from funcgrad.records import NamedTuple

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# The layers that stand on it are no more the user's than itself.
_LAYERS = _PACKAGE.removesuffix(os.sep) + "_nn" + os.sep
_INTERNAL = (
    _PACKAGE,
    _LAYERS,
    os.path.dirname(np.__file__) + os.sep,
    "<__array_function__",
    "<frozen",
)


def define(text: str, namespace: dict[str, Any]) -> None:
    """Run source that the library has written, none of whose frames is a user's line."""
    exec(compile(text, f"{_PACKAGE}generated", "exec"), namespace)


class SourceLine(NamedTuple):
    """A file and line of the user's.

    Attributes:
        index_error: what an index out of range at this line is to say, with ``{index}`` in it.
    """

    filename: str
    lineno: int
    function: str
    index_error: str = ""

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno} (in {self.function})"


_new = tuple.__new__


def user_line() -> SourceLine | None:
    """The innermost frame outside funcgrad and NumPy, or None if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            # As `line_of`, which each operation that is recorded would call.
            return _new(SourceLine, (code.co_filename, frame.f_lineno, code.co_name, ""))
        frame = frame.f_back
    return None


def user_frame() -> FrameType | None:
    """The innermost frame outside funcgrad and NumPy, or None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


# Each operation that is recorded asks, of all frames down to the user's.
@lru_cache(maxsize=4096)
def is_internal(filename: str) -> bool:
    """Whether a file is funcgrad's or NumPy's."""
    return filename.startswith(_INTERNAL)


def line_of(frame: FrameType) -> SourceLine:
    return SourceLine(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def error_line(error: BaseException) -> SourceLine | None:
    """The innermost frame outside funcgrad and NumPy that an error came through."""
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_INTERNAL):
            found = SourceLine(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next
    return found


def at_user_line() -> str:
    """`" at file:line (in f)"` for the end of a message, or nothing."""
    line = user_line()
    return f"\n  at {line}" if line else ""


@lru_cache(maxsize=256)
def _operation(code: CodeType, offset: int) -> tuple[str, str | None]:
    instructions = list(dis.get_instructions(code))
    here = next(i for i in instructions if i.offset == offset)
    # Python 3.11 is at PRECALL where it has specialised that.
    if "CALL" not in here.opname or here.positions is None:
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


# A place in a file: line and column of its begin and its end.
_Span = tuple[tuple[int, int], tuple[int, int]]


@lru_cache(maxsize=32)
def _constructs(source: str) -> list[tuple[_Span, str]]:
    """The calls in a file, by the last name of what they call, and its raise and assert."""
    found: list[tuple[_Span, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", None) or getattr(function, "id", "")
        elif isinstance(node, (ast.Raise, ast.Assert)):
            name = type(node).__name__.lower()
        else:
            continue
        begin = (node.lineno, node.col_offset)
        found.append(((begin, (node.end_lineno or 0, node.end_col_offset or 0)), name))
    return found


def constructs_around(frame: FrameType) -> set[str]:
    """The names of the calls, and whether a `raise` or `assert`, that a frame is amid of.

    Nothing where the source is not there, as in `exec`.
    """
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    first, last, start, stop = positions
    if first is None or last is None or start is None or stop is None:
        return set()
    try:
        found = _constructs("".join(linecache.getlines(frame.f_code.co_filename)))
    except SyntaxError:
        return set()
    return {n for (begin, end), n in found if begin <= (first, start) and (last, stop) <= end}
