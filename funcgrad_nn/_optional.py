"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from funcgrad.errors import MissingDependencyError


def require(module: str, extra: str, why: str = "") -> Any:
    """Import a module, or say which extra of the package installs it, and what it is needed for.

    Raises:
        MissingDependencyError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = f"{why}. " if why else ""
        raise MissingDependencyError(
            f"{reason}{module.partition('.')[0]} is needed for this and cannot be imported "
            f'({error}). Install it with: pip install "funcgrad[{extra}]"'
        ) from error
