"""What the files of this package contain that decide on a program's machine code.

They may lie in a folder or in an archive, and a frozen application may have none. Their sizes
and times would not tell two versions apart: packagers set all times to one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from importlib.machinery import all_suffixes
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(_HERE)))
# Whatever writes programs; a test looks whether a folder is missing.
_FOLDERS = tuple(
    os.path.join(_PACKAGE, *folder.split("/"))
    for folder in (
        "backends/common",
        "backends/loops",
        "backends/loops/nests",
        "backends/loops/fusion",
        "backends/loops/planning",
        "backends/llvm",
        "backends/llvm/ir",
        "backends/llvm/ir/functions",
        "backends/llvm/kernels",
        "backends/llvm/products",
        "backends/llvm/program",
        "backends/llvm/runtime",
        "primitives",
    )
)
_SUFFIXES = tuple(all_suffixes())
_BINARY = getattr(os, "O_BINARY", 0)
_READ_BYTES = 1 << 16


@cache
def compiler() -> str | None:
    """What changes when a file that writes programs does; None where there is no telling."""
    contents = [_contents(folder) for folder in _FOLDERS]
    return _digest(contents) if all(contents) else None


def codegen() -> str:
    """What changes when the file that makes machine code of a program's text does."""
    return _digest([_contents(_HERE, "codegen.")])


def _contents(folder: str, start: str = "") -> list[tuple[str, bytes]]:
    """The modules in a folder whose files' names start so; none where they can't be read."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_SUFFIXES)]
        chosen = sorted([name for name in names if name.startswith(start)])
        return [(name, _content(f"{folder}{os.sep}{name}")) for name in chosen]
    except OSError:
        found = _contents_in_archive(folder)
        return [(name, content) for name, content in found if name.startswith(start)]


def _contents_in_archive(folder: str) -> list[tuple[str, bytes]]:
    import pkgutil

    read: Any = getattr(pkgutil.get_importer(folder), "get_data", None)
    found: list[tuple[str, bytes]] = []
    modules = [module.name for module in pkgutil.iter_modules([folder])] if read else []
    for module in ("__init__", *modules) if read else ():
        for name in (f"{module}.py", f"{module}.pyc"):
            with contextlib.suppress(OSError):
                found.append((name, read(os.path.join(folder, name))))
    return found


def _content(path: str) -> bytes:
    # A third of the time that Python's own files take, and there are many.
    handle = os.open(path, os.O_RDONLY | _BINARY)
    try:
        parts: list[bytes] = []
        while part := os.read(handle, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def _digest(contents: list[list[tuple[str, bytes]]]) -> str:
    digest = hashlib.sha256()
    for files in contents:
        digest.update(b"%d files" % len(files))
        for name, content in files:
            digest.update(f"{name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()
