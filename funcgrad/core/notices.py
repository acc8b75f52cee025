"""Warnings that name a line of the user's: each line once."""

from __future__ import annotations

import warnings
from typing import Any

from funcgrad.core.source import SourceLine

# What has been told, by kind and line, under which filters: `catch_warnings` begins anew.
_told: dict[tuple[type, str, int], Any] = {}


def is_told(kind: type[Warning], line: SourceLine) -> bool:
    """Whether this warning has been given for this line."""
    return _told.get((kind, line.filename, line.lineno)) is warnings.filters


def tell(kind: type[Warning], message: str, line: SourceLine) -> None:
    """Warn of a line, once."""
    if not is_told(kind, line):
        _told[kind, line.filename, line.lineno] = warnings.filters
        warnings.warn_explicit(f"{message}\n  at {line}", kind, line.filename, line.lineno)
