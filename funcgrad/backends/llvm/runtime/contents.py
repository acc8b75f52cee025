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


@cache
def compiler() -> str | None:
    """What changes when a file that writes programs does; None where there is no telling."""
    digests = [_digests(folder) for folder in _FOLDERS]
    return _digest(repr(digests).encode()) if all(digests) else None


def codegen() -> str:
    """What changes when the file that makes machine code of a program's text does."""
    return repr([d for name, d in _digests(_HERE).items() if name.startswith("codegen.")])


@cache
def _digests(folder: str) -> dict[str, str]:
    """Of the modules in a folder, by their files' names; empty where they can't be read."""
    try:
        names = [name for name in sorted(os.listdir(folder)) if name.endswith(_SUFFIXES)]
        return {name: _digest(_content(os.path.join(folder, name))) for name in names}
    except OSError:
        return _digests_in_archive(folder)


def _digests_in_archive(folder: str) -> dict[str, str]:
    import pkgutil

    read: Any = getattr(pkgutil.get_importer(folder), "get_data", None)
    found: dict[str, str] = {}
    modules = [module.name for module in pkgutil.iter_modules([folder])] if read else []
    for module in ("__init__", *modules) if read else ():
        for name in (f"{module}.py", f"{module}.pyc"):
            with contextlib.suppress(OSError):
                found[name] = _digest(read(os.path.join(folder, name)))
    return found


def _content(path: str) -> bytes:
    # A third of the time that Python's own files take, and there are many.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return b"".join(iter(lambda: os.read(handle, 1 << 15), b""))
    finally:
        os.close(handle)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
