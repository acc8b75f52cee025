"""The cache of machine code: what its names cover, where it lies, and what may lie in it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from _processes import run_python

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm.runtime import cache, contents

PACKAGE = Path(fg.__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "code"
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(place))
    return place


def forget() -> None:
    for function in (contents.compiler, cache._surroundings):
        function.cache_clear()


def runs() -> bool:
    """Whether a program that hasn't been compiled in this process computes what it should."""
    x = np.linspace(0, 1, 50)
    f = fg.jit(lambda x: np.tanh(x) + 2.0, backend="llvm")
    return np.allclose(f(x), np.tanh(x) + 2.0)


# -- names ---------------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The folders that the compiler's digest covers, to be changed."""
    found = [tmp_path / "own" / str(n) for n in range(len(contents._FOLDERS))]
    for original, copy in zip(contents._FOLDERS, found, strict=True):
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
    own = contents._FOLDERS.index(contents._HERE)
    monkeypatch.setattr(contents, "_FOLDERS", tuple(map(str, found)))
    monkeypatch.setattr(contents, "_HERE", str(found[own]))
    forget()
    yield found
    forget()


def changed(path: Path) -> None:
    """Another content of the same size and times."""
    before, text = path.stat(), path.read_bytes()
    at = text.index(b"e")
    path.write_bytes(text[:at] + b"E" + text[at + 1 :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_names_cover_every_folder_of_the_compiler() -> None:
    package = Path(fg.__file__).parent
    folders = {path.parent for path in (package / "backends").rglob("*.py")}
    others = {package / "backends", package / "backends" / "numpy"}
    assert {*map(Path, contents._FOLDERS)} == folders - others | {package / "primitives"}


def test_names_cover_what_the_compilers_files_contain(copies: list[Path]) -> None:
    seen = {contents.compiler()}
    for count, place in enumerate(copies, 2):
        changed(max(place.glob("*.py"), key=lambda path: path.stat().st_size))
        forget()
        seen.add(contents.compiler())
        assert len(seen) == count
    key = cache.key("a")
    changed(Path(contents._HERE) / "codegen.py")
    forget()
    assert cache.key("a") != key


def test_names_do_not_depend_on_files_times(copies: list[Path]) -> None:
    names = contents.compiler(), cache.key("a")
    for place in copies:
        for path in place.iterdir():
            os.utime(path, (1, 1))
    forget()
    assert (contents.compiler(), cache.key("a")) == names


def test_names_cover_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite

    seen = {cache.key("a")}
    for owner, name in ((np, "__version__"), (sys, "version"), (llvmlite, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, "another")
            forget()
            seen.add(cache.key("a"))
    forget()
    assert len(seen) == 4
    assert cache.key("a") in seen


def test_a_missing_folder_switches_the_cache_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    gone = str(tmp_path / "gone")
    monkeypatch.setattr(contents, "_FOLDERS", (gone, *contents._FOLDERS[1:]))
    monkeypatch.setattr(contents, "_HERE", gone)
    forget()
    assert cache.folder() is None
    assert runs()
    assert not folder.exists()
    monkeypatch.undo()
    forget()


# -- applications without a folder ----------------------------------------------------------

PROGRAM = """
import numpy as np, funcgrad as fg
x = np.linspace(0, 1, 50)
f = fg.jit(lambda x: np.tanh(x) + 2.0)
assert np.allclose(f(x), np.tanh(x) + 2.0)
assert np.allclose(fg.vmap(fg.grad(f))(x), 1 - np.tanh(x) ** 2)
assert not fg.__file__.startswith({package!r})
import sys
from funcgrad.backends.registry import BACKENDS
print(BACKENDS.default(), "funcgrad.backends.llvm.program.native" in sys.modules)
"""


def test_zipped_applications_use_the_cache(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in PACKAGE.rglob("*.py"):
            file.write(path, Path("funcgrad") / path.relative_to(PACKAGE))
    text = f"import sys; sys.path.insert(0, {str(archive)!r})\n"
    text += PROGRAM.format(package=str(PACKAGE))
    assert run_python(text) == "llvm True"
    assert run_python(text) == "llvm False"


FROZEN = """
import sys, pathlib
from importlib.machinery import ModuleSpec
package = pathlib.Path({package!r})
class Frozen:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "funcgrad":
            return None
        place = package.parent.joinpath(*name.split("."))
        is_package = place.is_dir()
        self.sources[name] = (place / "__init__.py" if is_package else place.with_suffix(".py"))
        spec = ModuleSpec(name, self, is_package=is_package)
        file = pathlib.Path("/nowhere").joinpath(*name.split("."))
        spec.origin = str(file / "__init__.py" if is_package else file.with_suffix(".py"))
        spec.has_location = True
        return spec
    sources = {{}}
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        text = self.sources[module.__name__].read_text(encoding="utf-8")
        exec(compile(text, module.__spec__.origin, "exec"), module.__dict__)
sys.meta_path.insert(0, Frozen())
"""


@pytest.mark.parametrize("switched", ["off", "on"])
def test_frozen_applications_compile(switched: str, tmp_path: Path) -> None:
    text = FROZEN.format(package=str(PACKAGE)) + PROGRAM.format(package=str(PACKAGE))
    place = "off" if switched == "off" else str(tmp_path / "code")
    assert run_python(text, FUNCGRAD_CACHE_DIR=place) == "llvm True"
    assert not (tmp_path / "code").exists()


# -- what may lie in the folder --------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sock(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def unreadable(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)


def endless(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 33)
    path.chmod(0o600)


def link_to_entry(path: Path) -> None:
    path.symlink_to(path.with_suffix(".original"))


OBSTACLES = [fifo, loop, dangling, device, sock, empty, unreadable, endless, Path.mkdir]
OBSTACLES.append(link_to_entry)

IN_FOLDER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
import test_llvm_cache
from funcgrad.backends.llvm.runtime import cache
assert test_llvm_cache.runs()
place = pathlib.Path(cache.folder())
for entry in list(place.iterdir()):
    entry.rename(entry.with_suffix(".original"))
    getattr(test_llvm_cache, {name!r}, pathlib.Path.mkdir)(entry)
assert test_llvm_cache.runs()
assert test_llvm_cache.runs()
cache.trim(str(place), 0)
"""


@POSIX
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda f: f.__name__)
def test_what_is_no_entry_is_left_alone(obstacle: Callable[[Path], Any]) -> None:
    text = IN_FOLDER.format(tests=os.path.dirname(__file__), name=obstacle.__name__)
    # In a process that can be given up, where one waits for a pipe.
    run_python(text)


@POSIX
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda f: f.__name__)
def test_entries_do_not_replace_what_is_no_file(
    obstacle: Callable[[Path], Any], folder: Path
) -> None:
    folder.mkdir()
    name = "0" * 64
    path = folder / f"{name}.code"
    path.with_suffix(".original").write_bytes(b"x")
    obstacle(path)
    kind = os.lstat(path).st_mode
    cache.put(name, b"code")
    if obstacle in (empty, unreadable, endless):
        assert cache.get(name) == b"code"
    else:
        assert os.lstat(path).st_mode == kind
    assert [p for p in folder.iterdir() if p.name.endswith(".part")] == []


@POSIX
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda f: f.__name__)
def test_what_is_no_folder_is_no_cache(
    obstacle: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacle(tmp_path / "place")
    for place in (tmp_path / "place", tmp_path / "place" / "below"):
        monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(place))
        assert runs()


# -- where it lies ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no", "disabled", "never", "", " "])
def test_words_switch_it_off(word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", word)
    assert cache.folder() is None
    assert runs()
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", os.path.join("~", "codes"))
    assert cache.folder() == str(tmp_path / "codes")
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", os.path.join("~nobody-of-this-name", "codes"))
    assert cache.folder() is None
    monkeypatch.delenv("FUNCGRAD_CACHE_DIR")
    if os.name == "posix":
        usual = cache._usual_cache()
        for given, base in (("~/own", "own"), ("", None), ("relative", None), ("~", "")):
            monkeypatch.setenv("XDG_CACHE_HOME", given)
            want = tmp_path.joinpath(*usual) if base is None else tmp_path / base
            assert cache.folder() == str(want / "funcgrad")
