"""Writing files so that an earlier one is never lost, and reading without waiting for ever."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import BinaryIO

Path = str | os.PathLike[str]

# For how long somebody may take to open a pipe whose other end is read.
PATIENCE_SECONDS = 5
_BINARY = getattr(os, "O_BINARY", 0)
_FLAGS = _BINARY | getattr(os, "O_NONBLOCK", 0)
_STREAMS = {stat.S_IFIFO, stat.S_IFCHR}


@contextmanager
def atomic_write(path: Path) -> Generator[BinaryIO]:
    """Open a file that takes the place of the one at `path` when the block succeeds.

    Until then, and for good when the block raises, an earlier file stays as it was; it is
    replaced only once the new one is on disk. The new file has the earlier one's permissions,
    owner and group as far as this process may give them, or what the umask leaves. A link is
    followed: what it points to is replaced. Pipes and character devices are written to, as they
    have nothing to lose.

    Args:
        path: where to write; the folder must exist.

    Raises:
        OSError: the file cannot be written, which includes earlier ones that are read-only, and
            whatever is neither a file nor a stream (a folder, say, or a loop of links).

    Example:
        >>> import os, tempfile
        >>> from funcgrad.files import atomic_write
        >>> path = os.path.join(tempfile.mkdtemp(), "notes")
        >>> with atomic_write(path) as file:
        ...     size = file.write(b"first")
        >>> with atomic_write(path) as file:
        ...     size = file.write(b"sec")
        ...     raise RuntimeError("interrupted")
        Traceback (most recent call last):
        ...
        RuntimeError: interrupted
        >>> with open(path, encoding="utf-8") as file:
        ...     file.read()
        'first'
    """
    path = os.fsdecode(path)
    earlier = _earlier(path)
    if earlier is not None and stat.S_IFMT(earlier.st_mode) in _STREAMS:
        with open(_open_stream(path), "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    if earlier is None:
        with replacing(target) as file:
            yield file
        return

    def finish(file: BinaryIO) -> None:
        if os.name == "posix":
            _keep_access(file.fileno(), target, earlier)
        os.fsync(file.fileno())

    with replacing(target, 0o600, finish) as file:
        yield file
    _sync_folder(os.path.dirname(target))


@contextmanager
def replacing(
    target: str, mode: int = 0o666, finish: Callable[[BinaryIO], None] = lambda file: None
) -> Generator[BinaryIO]:
    """Open a file that takes the place of whatever is at `target` when the block succeeds.

    Nothing is kept of what was there, and the disk is not waited for.

    Args:
        mode: the new file's permissions, of which the umask takes some.
        finish: is called on the complete file before anyone else can see it.
    """
    draft = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.part")
    try:
        descriptor, hidden = _open_draft(draft, mode)
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            finish(file)
            if hidden:
                _show(file, draft, finish)
        os.replace(draft, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def _earlier(path: str) -> os.stat_result | None:
    """What is at a path, if something is and may be written; links are followed."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if not os.path.basename(path):
            raise IsADirectoryError(errno.EISDIR, "cannot write without a name", path) from None
        folder, name = os.path.split(os.path.realpath(path))
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                errno.ENOENT, f"cannot write {name!r}: no such directory", folder
            ) from None
        return None
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "cannot write a file in a folder's place", path)
    if kind != stat.S_IFREG and kind not in _STREAMS:
        raise OSError(errno.EINVAL, "cannot write to what is neither a file nor a stream", path)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot replace what is write-protected", path)
    return found


def open_to_read(path: Path) -> io.BufferedReader:
    """Open a file, or a pipe that somebody writes to.

    Raises:
        OSError: it cannot be read; nobody has opened the pipe to write to it, nor does so within
            a few seconds.
    """
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not _has_writer(descriptor, path):
            raise OSError(errno.ENXIO, "cannot read a pipe that nobody writes to", path)
        os.set_blocking(descriptor, True)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _has_writer(descriptor: int, path: Path) -> bool:
    events = select.poll()
    events.register(descriptor, select.POLLIN)
    if events.poll(PATIENCE_SECONDS * 1000):
        return True
    # Only of a pipe that had a writer does the system tell that it has none now.
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | _FLAGS))
    return not any(event & select.POLLHUP for _, event in events.poll(0))


def _open_stream(path: str) -> int:
    # Without O_NONBLOCK, opening a pipe that nobody reads would wait for ever.
    try:
        descriptor = os.open(path, os.O_WRONLY | _FLAGS)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "cannot write to a pipe that nobody reads", path) from None
    os.set_blocking(descriptor, True)
    return descriptor


def is_draft(name: str) -> bool:
    """Whether a file is what a process left behind that was killed as it wrote."""
    return re.fullmatch(r"\.[0-9a-f]{16}\.part", name) is not None


def _open_draft(draft: str, mode: int) -> tuple[int, bool]:
    """A new file beside the target, and whether it has no name yet.

    Linux removes files without a name with the process, however that ends; and so no draft is
    left when it is killed.
    """
    flags = os.O_RDWR | _BINARY
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):
            return os.open(os.path.dirname(draft), flags | os.O_TMPFILE, mode), True
    return os.open(draft, flags | os.O_CREAT | os.O_EXCL, mode), False


def _show(file: BinaryIO, draft: str, finish: Callable[[BinaryIO], None]) -> None:
    """Gives a finished draft its name."""
    try:
        # Only with a folder's descriptor (of which an absolute path makes no use) is the link in
        # /proc followed.
        os.link(f"/proc/self/fd/{file.fileno()}", draft, src_dir_fd=file.fileno())
    except OSError:
        # No /proc, or a system without hard links.
        file.seek(0)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            while chunk := file.read(1 << 20):
                copy.write(chunk)
            copy.flush()
            finish(copy)


def _keep_access(descriptor: int, target: str, earlier: os.stat_result) -> None:
    mode = stat.S_IMODE(earlier.st_mode)
    try:
        os.fchown(descriptor, earlier.st_uid, earlier.st_gid)
    except PermissionError:
        try:
            os.fchown(descriptor, -1, earlier.st_gid)
        except PermissionError:
            # Another group may do no more than others.
            mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)
    if hasattr(os, "listxattr"):
        # Among these are access control lists. Not every file system and user may set them.
        with suppress(OSError):
            for name in os.listxattr(target):
                with suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(target, name))


def _sync_folder(folder: str) -> None:
    # Not every system opens folders (Windows) or syncs them (some network mounts); there the
    # rename is as durable as the system makes it.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
