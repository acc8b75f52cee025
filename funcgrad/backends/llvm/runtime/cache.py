"""Machine code kept on disk from one process to the next.

An entry is a file of the user's cache folder, or of the folder that `FUNCGRAD_CACHE_DIR` names
with a path; `FUNCGRAD_CACHE_DIR=off`, as any single word, or empty, switches the cache off, and it
is off where nothing tells one version of the compiler from another. An entry's name is a hash of
all that its code depends on. What is in the folder is not trusted: code is loaded only from a
regular file that belongs to this user, that no one else may write, and whose checksum, over name
and content, is right. Anything else counts as absent. Errors of the file system are never raised:
a cache that can't be read or written is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import time
from functools import cache
from typing import Any

import numpy as np

from funcgrad.backends.llvm.runtime import contents, host
from funcgrad.files import is_draft, replacing

_MAGIC = b"funcgrad code 2\n"
_DIGEST_BYTES = 32
_SUFFIX = ".code"
_LIMIT_BYTES = 256 << 20
# One write in so many looks whether the folder has outgrown its limit.
_CHECK_EVERY = 32
_ABANDONED_SECONDS = 3600


def key(*texts: str) -> str:
    """The name of what these texts tell all about, but for the host and the compiler."""
    digest = _surroundings().copy()
    for text in texts:
        _add(digest, text)
    return digest.hexdigest()


def _add(digest: Any, text: str) -> None:
    data = text.encode()
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def get(name: str) -> bytes | None:
    """The code of this name, if there is a sound entry."""
    place = folder()
    if place is None:
        return None
    path = os.path.join(place, name + _SUFFIX)
    try:
        data = _read(path)
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    binary = data[start:]
    if data[:start] != _MAGIC + _checksum(name, binary):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return binary


def put(name: str, binary: bytes) -> None:
    """Keeps code by this name, unless that can't be done."""
    place = folder()
    if place is None:
        return
    path = os.path.join(place, name + _SUFFIX)
    try:
        if not _is_free(path):
            return
        os.makedirs(place, mode=0o700, exist_ok=True)
        with replacing(path, 0o600) as file:
            file.write(_MAGIC + _checksum(name, binary) + binary)
    except OSError:
        return
    if os.urandom(1)[0] % _CHECK_EVERY == 0:
        trim(place)


def folder() -> str | None:
    """Where entries are kept; None where the cache is off."""
    told = os.environ.get("FUNCGRAD_CACHE_DIR")
    if told is not None and not os.path.dirname(told):
        return None
    if contents.compiler() is None:
        return None
    return _usual_folder() if told is None else _expanded(told)


def _usual_folder() -> str | None:
    given = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    base = _expanded(given or "")
    # The XDG specification has relative paths ignored.
    if not base or not os.path.isabs(base):
        base = _expanded(os.path.join("~", *_usual_cache()))
    return base and os.path.join(base, "funcgrad")


def _expanded(path: str) -> str | None:
    """The path with the home folder in place of `~`; None where that isn't known."""
    found = os.path.expanduser(path)
    return None if found.startswith("~") else found


def trim(place: str, limit: int = _LIMIT_BYTES) -> None:
    """Where a folder's entries take more than `limit` bytes, drops those unused for longest."""
    entries: list[tuple[float, int, str]] = []
    try:
        with os.scandir(place) as files:
            for file in files:
                ours = file.name.endswith(_SUFFIX) or is_draft(file.name)
                if ours and file.is_file(follow_symlinks=False):
                    status = file.stat(follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, file.path))
    except OSError:
        return
    total = sum(size for _, size, _ in entries)
    enough = limit if total <= limit else limit * 3 // 4
    for used, size, path in sorted(entries):
        draft = not path.endswith(_SUFFIX) and used < time.time() - _ABANDONED_SECONDS
        if total > enough or draft:
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _usual_cache() -> tuple[str, ...]:
    if os.name == "nt":
        return ("AppData", "Local")
    return ("Library", "Caches") if sys.platform == "darwin" else (".cache",)


def _read(path: str) -> bytes:
    """A file's content, if it is a regular file and this user's own."""
    # A pipe would be waited for, a device may act on being opened: neither is opened, nor waited
    # for where it takes the file's place just now.
    _check(path, os.lstat(path))
    flags = (getattr(os, f"O_{name}", 0) for name in ("BINARY", "NOFOLLOW", "NONBLOCK"))
    with open(os.open(path, os.O_RDONLY | sum(flags)), "rb") as file:
        _check(path, os.fstat(file.fileno()))
        return file.read()


def _check(path: str, status: os.stat_result) -> None:
    sound = stat.S_ISREG(status.st_mode) and status.st_size <= _LIMIT_BYTES
    if hasattr(os, "geteuid"):
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        sound = sound and not others and status.st_uid == os.geteuid()
    if not sound:
        raise PermissionError(path)


def _is_free(path: str) -> bool:
    """Whether an entry may take this path: nothing is there but, perhaps, another file."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _checksum(name: str, binary: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + binary, digest_size=_DIGEST_BYTES).digest()


@cache
def _surroundings() -> Any:
    """The digest of what code depends on besides its IR: our way with it, LLVM, the processor, and
    how Python and NumPy lay out what it reads."""
    import llvmlite

    folder = os.path.dirname(llvmlite.__file__)
    names = ("libllvmlite.so", "libllvmlite.dylib", "llvmlite.dll")
    files = [os.path.join(folder, "binding", name) for name in names]
    versions = (llvmlite.__version__, np.__version__, sys.version, getattr(sys, "abiflags", ""))
    platform = (sys.platform, *host.description())
    digest = hashlib.sha256(_MAGIC)
    for text in (*versions, *map(_state, files), contents.codegen(), *platform):
        _add(digest, text)
    return digest


def _state(path: str) -> str:
    """What changes when a file does; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
