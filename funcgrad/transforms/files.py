"""Writing files so that an earlier one is never lost."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Any, text: str) -> None:
    """Write `text` to `path`: beside it first, then in its place in one step.

    Raises:
        FileNotFoundError: its directory does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"cannot write {target.name!r}: no such directory", str(target.parent)
        )
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
