"""Machine code kept on disk from one process to the next.

An entry is a file of the user's cache folder, or of the folder that `FUNCGRAD_CACHE_DIR` names;
`FUNCGRAD_CACHE_DIR=off`, or empty, switches the cache off. An entry's name is a hash of all that
its code depends on. What is in the folder is not trusted: code is loaded only from a file that
belongs to this user, that no one else may write, and whose checksum, over name and content, is
right. Anything else counts as absent. Errors of the file system are never raised: a cache that
can't be read or written is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import threading
import time
from functools import cache

from funcgrad.backends.llvm import host

_MAGIC = b"funcgrad code 2\n"
_DIGEST_BYTES = 32
_SUFFIX = ".code"
_LIMIT_BYTES = 256 << 20
# One write in so many looks whether the folder has outgrown its limit.
_CHECK_EVERY = 32
_ABANDONED_SECONDS = 3600


def key(*texts: str) -> str:
    """The name of what these texts tell all about, but for the host and the compiler."""
    digest = hashlib.sha256()
    for part in (_MAGIC.decode(), *_surroundings(), *texts):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


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
    # No reader may see half an entry, so it comes into being under another name.
    draft = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(_MAGIC + _checksum(name, binary) + binary)
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        return
    if os.urandom(1)[0] % _CHECK_EVERY == 0:
        trim(place)


def folder() -> str | None:
    """Where entries are kept; None where the cache is off."""
    told = os.environ.get("FUNCGRAD_CACHE_DIR")
    if told is not None:
        return None if told.strip() in ("", "off") else told
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    if not base:
        home = os.path.expanduser("~")
        if home == "~":
            return None
        base = os.path.join(home, *_usual_cache())
    return os.path.join(base, "funcgrad")


def trim(place: str, limit: int = _LIMIT_BYTES) -> None:
    """Where a folder's entries take more than `limit` bytes, drops those unused for longest."""
    entries: list[tuple[float, int, str]] = []
    try:
        with os.scandir(place) as files:
            for file in files:
                if _SUFFIX in file.name:
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


@cache
def compiler() -> str:
    """What changes when one of the compiler's own files does."""
    found = []
    here = os.path.dirname(__file__)
    for folder in (here, os.path.join(here, "functions"), os.path.join(here, "..", "loops")):
        for item in os.scandir(folder):
            if item.name.endswith(".py"):
                state = item.stat()
                found.append(f"{item.name} {state.st_size} {state.st_mtime_ns}")
    return "\n".join(sorted(found))


def _usual_cache() -> tuple[str, ...]:
    if os.name == "nt":
        return ("AppData", "Local")
    return ("Library", "Caches") if sys.platform == "darwin" else (".cache",)


def _read(path: str) -> bytes:
    """A file's content, if the file is this user's own."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags), "rb") as file:
        if hasattr(os, "geteuid"):
            status = os.fstat(file.fileno())
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not stat.S_ISREG(status.st_mode) or others or status.st_uid != os.geteuid():
                raise PermissionError(path)
        return file.read()


def _checksum(name: str, binary: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + binary, digest_size=_DIGEST_BYTES).digest()


@cache
def _surroundings() -> tuple[str, ...]:
    """What code depends on besides its IR: our way with it, LLVM, and the processor."""
    import llvmlite

    folder = os.path.dirname(llvmlite.__file__)
    names = ("libllvmlite.so", "libllvmlite.dylib", "llvmlite.dll")
    files = [os.path.join(folder, "binding", name) for name in names]
    files.append(os.path.join(os.path.dirname(__file__), "codegen.py"))
    return (llvmlite.__version__, *map(_state, files), sys.platform, *host.description())


def _state(path: str) -> str:
    """What changes when a file does; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
