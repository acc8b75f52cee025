"""Whatever writes a file: what was there before, its permissions, links, pipes and devices."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.files import atomic_write
from funcgrad_nn import plot

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX files")

ARRAY = np.arange(6, dtype=np.float32)
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def by_block(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"content")


def by_export(path: Path) -> None:
    fg.export(lambda x: x * 2, ARRAY, path=path)


def by_picture(path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    plot._finished(figure, path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "atomic_write": by_block,
    "export": by_export,
    "save": lambda path: nn.save(path, {"w": ARRAY, "n": 3}),
    "write_idx": lambda path: nn.data.write_idx(path, ARRAY),
    "picture": by_picture,
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@every_writer
def test_pipes_are_written_to(tmp_path, write):
    write(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    expected = (tmp_path / "file").read_bytes()
    for name in ("pipe", "link"):
        # The reader's end is opened first, as a shell does; small contents fit into the pipe.
        descriptor = os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
        write(tmp_path / name)
        found = os.read(descriptor, 1 << 16)
        os.close(descriptor)
        assert len(found) == min(len(expected), 1 << 16)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]


@every_writer
def test_a_pipe_that_nobody_reads_does_not_hang(tmp_path, write):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe that nobody reads") as caught:
        write(tmp_path / "pipe")
    assert caught.value.errno == errno.ENXIO
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no null device")
@every_writer
def test_devices_stay_devices(tmp_path, write):
    device = tmp_path / "null"
    if AS_ROOT:
        try:
            os.mknod(device, 0o666 | stat.S_IFCHR, Path("/dev/null").stat().st_rdev)
            device.open("wb").close()
        except OSError:
            pytest.skip("no device can be made here")
    else:
        device = Path("/dev/null")
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        write(path)
        assert path.is_char_device()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no full device")
@every_writer
def test_a_full_device(tmp_path, write):
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "link")
    assert os.listdir(tmp_path) == ["link"]


@every_writer
def test_loops_of_links_and_folders_are_refused(tmp_path, write):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to("folder")
    before = sorted(os.listdir(tmp_path))
    for name in ("a", "self", "self/below", "folder", "to folder"):
        with pytest.raises(OSError) as caught:
            write(tmp_path / name)
        assert caught.value.errno in (errno.ELOOP, errno.EISDIR)
    assert sorted(os.listdir(tmp_path)) == before
    assert all((tmp_path / name).is_symlink() for name in ("a", "b", "self", "to folder"))


@every_writer
def test_sockets_are_refused(tmp_path, write, monkeypatch):
    socket = pytest.importorskip("socket")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match="neither a file nor a stream"):
            write(Path("socket"))
    assert stat.S_ISSOCK(os.stat("socket").st_mode)


@every_writer
def test_links_are_followed(tmp_path, write):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_bytes(b"earlier")
    (tmp_path / "link").symlink_to("folder/target")
    (tmp_path / "link to link").symlink_to("link")
    (tmp_path / "dangling").symlink_to("folder/new")
    for link, target in (("link to link", "target"), ("dangling", "new")):
        write(tmp_path / link)
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / "folder" / target).stat().st_size > 7 - (write is by_block)
    assert sorted(os.listdir(tmp_path / "folder")) == ["new", "target"]
    assert len(os.listdir(tmp_path)) == 4


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
@every_writer
def test_new_files_follow_the_umask(tmp_path, write, umask):
    earlier = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
@every_writer
def test_permissions_are_kept(tmp_path, write, mode):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    path.chmod(mode)
    if AS_ROOT:
        os.chown(path, 1234, 4321)
    earlier = path.stat()
    write(path)
    later = path.stat()
    assert later.st_ino != earlier.st_ino
    for field in ("st_mode", "st_uid", "st_gid"):
        assert getattr(later, field) == getattr(earlier, field)


def test_attributes_are_kept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    try:
        os.setxattr(path, "user.origin", b"here")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    by_block(path)
    assert os.getxattr(path, "user.origin") == b"here"


def test_a_group_that_cannot_be_kept_leaves_no_more_to_another(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    path.chmod(0o664)

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    by_block(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(AS_ROOT, reason="root may write to everything")
@every_writer
def test_what_is_write_protected_stays(tmp_path, write):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="write-protected"):
        write(path)
    assert path.read_bytes() == b"earlier"


@every_writer
def test_names_of_any_length(tmp_path, write):
    path = tmp_path / ("n" * 255)
    write(path)
    write(path)
    assert os.listdir(tmp_path) == [path.name]


@every_writer
def test_a_path_without_a_name(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("", "new/"):
        with pytest.raises(IsADirectoryError, match="without a name"):
            write(path)
    assert os.listdir(tmp_path) == []


@every_writer
def test_a_folder_that_is_not_there(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="cannot write 'file': no such directory"):
        write(tmp_path / "no" / "file")


def test_bytes_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_block(Path("relative"))
    with atomic_write(os.fsencode(tmp_path / "bytes")) as file:
        os.chdir("/")
        file.write(b"1")
    assert sorted(os.listdir(tmp_path)) == ["bytes", "relative"]
    with pytest.raises(TypeError):
        by_block(1)


# -- Failures ------------------------------------------------------------------------------------

DRAFTS = ["without a name", "no O_TMPFILE", "no link"]


@pytest.fixture(params=DRAFTS)
def draft(request, monkeypatch):
    """Systems where drafts can have no name, must have one, or can get none later."""
    if request.param == "no O_TMPFILE":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif request.param == "no link":

        def refuse(*args, **kwargs):
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize("there", [False, True])
def test_whole_files_by_every_kind_of_draft(tmp_path, there):
    path = tmp_path / "file"
    umask = os.umask(0o022)
    mode = 0o644
    if there:
        path.write_bytes(b"earlier")
        path.chmod(0o604)
        mode = 0o604
    by_block(path)
    os.umask(umask)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, ZeroDivisionError])
@pytest.mark.parametrize("there", [False, True])
def test_a_failing_block_changes_nothing(tmp_path, error, there):
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"earlier")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert os.listdir(tmp_path) == ["file"] * there
    assert not there or path.read_bytes() == b"earlier"


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
@every_writer
def test_a_failing_step_changes_nothing(tmp_path, monkeypatch, write, step):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")

    def fail(*args):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write(path)
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"earlier"


def test_a_full_disk_changes_nothing(tmp_path):
    """A limit on the size of files stands for it."""
    path = tmp_path / "file"
    nn.save(path, [1])
    code = (
        "import resource, signal, sys, numpy as np, funcgrad_nn as nn\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try: nn.save(sys.argv[1], np.zeros(1 << 16))\n"
        "except OSError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert "File too large" in done.stdout
    assert os.listdir(tmp_path) == ["file"]
    assert nn.load(path) == [1]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="drafts have names here")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_draft(tmp_path, number):
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("drafts have names here")
    (tmp_path / "file").write_bytes(b"earlier")
    code = (
        "import sys, os; from funcgrad.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush()\n"
        f"    os.kill(os.getpid(), {int(number)})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")])
    assert done.returncode == -number
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"earlier"
