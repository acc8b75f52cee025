"""Warnings that name a line of the user's."""

from __future__ import annotations

import warnings
from typing import Any

from funcgrad.source import SourceLine

# What has been told, by kind and line, under which filters: `catch_warnings` begins anew.
_told: dict[tuple[type, str, int], Any] = {}


def is_told(kind: type[Warning], line: SourceLine) -> bool:
    """Whether this warning has been given for this line."""
    return _told.get((kind, line.filename, line.lineno)) is warnings.filters


def tell(kind: type[Warning], message: str, line: SourceLine) -> None:
    """Warn of a line, once."""
    if not is_told(kind, line):
        _told[kind, line.filename, line.lineno] = warnings.filters
        warn_at(line, kind, f"{message}\n  at {line}")


def warn_at(line: SourceLine | None, kind: type[Warning], message: str) -> None:
    """Warn as if from this line; where there is none, from the caller's caller."""
    if line is None:
        warnings.warn(message, kind, stacklevel=3)
    else:
        warnings.warn_explicit(message, kind, line.filename, line.lineno)
