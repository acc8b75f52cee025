"""What lies beneath compiled programs: how code is made, loaded, and kept on disk."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from _processes import run_python

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm.runtime import cache, codegen, engine, host, loader

OWN_LOADER = sys.platform == "linux" and host.platform.machine() == "x86_64"
POSIX = os.name == "posix"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "code"
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(folder))
    return folder


def adder(number: int) -> str:
    return f"define i64 @f(i64 %a) {{\n  %b = add i64 %a, {number}\n  ret i64 %b\n}}\n"


def call(code: engine.Code, *args: int, name: str = "f") -> int:
    kinds = [ctypes.c_int64] * (len(args) + 1)
    return ctypes.CFUNCTYPE(*kinds)(code.address(name))(*args)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.code"))


# -- the engine ---------------------------------------------------------------------------

REFERENCES = """
@PyTuple_Type = external global ptr
@table = private constant [4 x double] [double 1.0, double 2.0, double 3.0, double 4.0]
@count = internal global i64 41
@empty = internal global [3 x i64] zeroinitializer
@function = private constant ptr @bump
declare ptr @PyTuple_New(i64)
declare double @exp(double)
declare double @llvm.sin.f64(double)
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
define ptr @tuple() {
  %t = call ptr @PyTuple_New(i64 0)
  ret ptr %t
}
define i64 @tuple_type() {
  %n = ptrtoint ptr @PyTuple_Type to i64
  ret i64 %n
}
define i64 @bump() {
  %old = load i64, ptr @count
  %new = add i64 %old, 1
  store i64 %new, ptr @count
  %last = getelementptr i64, ptr @empty, i64 2
  %zero = load i64, ptr %last
  %sum = add i64 %new, %zero
  ret i64 %sum
}
define i64 @indirect() {
  %f = load volatile ptr, ptr @function
  %n = call i64 %f()
  ret i64 %n
}
define double @numbers(double %x, i64 %i) {
  %y = call double @exp(double %x)
  %s = call double @llvm.sin.f64(double %x)
  %p = getelementptr double, ptr @table, i64 %i
  %v = load double, ptr %p
  %z = fadd double %y, %v
  %r = fadd double %z, %s
  ret double %r
}
define void @lanes(ptr %p) {
  %a = load <16 x float>, ptr %p, align 4
  %b = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> splat (float 3.25),
    <16 x float> splat (float 1.25))
  store <16 x float> %b, ptr %p, align 4
  ret void
}
"""


def own_image(binary: bytes) -> loader.Image:
    return loader._OwnImage([binary], engine._resolve)


def llvm_image(binary: bytes) -> loader.Image:
    return loader._LLVMImage([binary], {})


LOADERS = [
    pytest.param(own_image, marks=pytest.mark.skipif(not OWN_LOADER, reason="other platform")),
    llvm_image,
]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("load", LOADERS)
def test_every_kind_of_reference_leads_where_it_should(
    load: Callable[[bytes], loader.Image], level: int
) -> None:
    binary = codegen.emit(codegen.Part(REFERENCES, level))
    image = load(binary)
    make = ctypes.PYFUNCTYPE(ctypes.py_object)(image.address("tuple"))
    assert make() == ()
    number = ctypes.CFUNCTYPE(ctypes.c_int64)
    assert number(image.address("tuple_type"))() == id(tuple)
    assert number(image.address("bump"))() == 42
    assert number(image.address("indirect"))() == 43
    kinds = (ctypes.c_double, ctypes.c_double, ctypes.c_int64)
    assert ctypes.CFUNCTYPE(*kinds)(image.address("numbers"))(0.0, 3) == 5.0
    x = np.arange(16, dtype=np.float32)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(image.address("lanes"))(x.ctypes.data)
    assert np.array_equal(x, np.arange(16) * np.float32(3.25) + np.float32(1.25))
    with pytest.raises(KeyError, match="nothing"):
        image.address("nothing")


def test_an_object_of_an_unknown_kind_goes_to_llvms_loader() -> None:
    for binary in (b"", b"\x7fELF" + bytes(100), b"MZ" + bytes(200)):
        with pytest.raises(loader.UnknownObjectError):
            own_image(binary)


def test_registered_symbols_can_be_called() -> None:
    signature = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    double = signature(lambda n: 2 * n)
    address = ctypes.cast(double, ctypes.c_void_p).value
    assert address
    engine.register_symbol("fg_test_double", address)
    code = engine.compile_ir(
        "declare i64 @fg_test_double(i64)\n"
        "define i64 @f(i64 %a) {\n  %b = call i64 @fg_test_double(i64 %a)\n  ret i64 %b\n}\n"
    )
    assert call(code, 21) == 42


def test_unknown_symbols_and_bad_ir_are_errors() -> None:
    with pytest.raises(RuntimeError, match="fg_missing"):
        engine.compile_ir(
            "declare void @fg_missing()\n"
            "define void @f() {\n  call void @fg_missing()\n  ret void\n}\n"
        )
    with pytest.raises(RuntimeError):
        engine.compile_ir("define void @f() {\n  ret i32 1\n}\n")
    with pytest.raises(RuntimeError):
        engine.compile_ir("no IR")


def test_vectors_are_as_wide_as_the_host_has_them() -> None:
    width = engine.vector_bytes()
    assert width in (16, 32, 64)
    register = {64: "zmm", 32: "ymm", 16: ""}[width]
    assert register in codegen.assembly(codegen.Part(REFERENCES))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("load", LOADERS)
def test_code_frees_its_memory(
    load: Callable[[bytes], loader.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", "off")
    monkeypatch.setattr(loader, "load", lambda binaries, *_: load(*binaries))
    text = "@room = global [2097152 x i8] zeroinitializer\n" + adder(1)

    def megabytes() -> float:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    for _ in range(20):
        assert call(engine.compile_ir(text, level=0), 1) == 2
    before = megabytes()
    for _ in range(200):
        assert call(engine.compile_ir(text, level=0), 1) == 2
    # All of them together would take 400 MB.
    assert megabytes() - before < 100


def test_several_threads_may_compile_at_once() -> None:
    wrong: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + 10):
            if call(engine.compile_ir(adder(number)), 1) != number + 1:
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(first,)) for first in (0, 5, 10, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# -- where native code can't be had --------------------------------------------------------


def test_llvm_is_not_needed_before_it_is_used() -> None:
    text = "import sys; from funcgrad.backends.llvm.products import blas; "
    text += "from funcgrad.backends.llvm.runtime import pool; print('llvmlite' in sys.modules)"
    assert run_python(text) == "False"


def test_without_llvmlite_there_is_a_reason() -> None:
    text = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "from funcgrad.backends.llvm.runtime import engine; print(engine.available())"
    )
    assert run_python(text) == "llvmlite is not installed"


def test_a_broken_llvmlite_is_a_reason() -> None:
    text = (
        "import sys; sys.modules['llvmlite.binding'] = None\n"
        "from funcgrad.backends.llvm.runtime import engine; print(engine.available())"
    )
    assert "llvmlite cannot be imported" in run_python(text, FUNCGRAD_CACHE_DIR="off")
    text = (
        "import sys, warnings; sys.modules['llvmlite.binding'] = None\n"
        "import funcgrad as fg\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    print(fg.jit(lambda x: x + 1)(1.0))\n"
        "print([str(w.message) for w in said])"
    )
    number, said = run_python(text, FUNCGRAD_CACHE_DIR="off").splitlines()
    assert number == "2.0" and said.count("llvmlite cannot be imported") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's prctl")
def test_refused_memory_is_a_reason() -> None:
    # PR_SET_MDWE: no memory of this process becomes executable any more.
    text = (
        "import ctypes, funcgrad\n"
        "refused = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)\n"
        "from funcgrad.backends.llvm.runtime import engine, loader\n"
        "if refused:\n"  # An older kernel.
        "    loader._mprotect = lambda: lambda *args: -1\n"
        "print(engine.available())"
    )
    assert "cannot be made here" in run_python(text)


def test_native_code_is_available_here() -> None:
    assert engine.available() is None


# -- the cache ----------------------------------------------------------------------------


def test_code_is_kept_and_found_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(engine.compile_ir(adder(1)), 1) == 2
    assert len(entries(own_cache)) == 1

    def unexpected(*args: object) -> None:
        raise AssertionError("compiled although it is in the cache")

    monkeypatch.setattr(codegen, "emit", unexpected)
    assert call(engine.compile_ir(adder(1)), 1) == 2
    for other in (lambda: engine.compile_ir(adder(2)), lambda: engine.compile_ir(adder(1), 2)):
        with pytest.raises(AssertionError):
            other()


@pytest.mark.skipif(not OWN_LOADER, reason="elsewhere LLVM loads the code")
def test_another_process_finds_it_without_llvm(own_cache: Path) -> None:
    text = (
        "import sys; from funcgrad.backends.llvm.products import blas\n"
        "from funcgrad.backends.llvm.runtime import engine, pool\n"
        "assert engine.available() is None; pool.load(); blas.find()\n"
        "print('llvmlite.binding' in sys.modules)"
    )
    assert [run_python(text) for _ in range(2)] == ["True", "False"]


def spoil_cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoil_bit(data: bytes) -> bytes:
    at = len(data) * 2 // 3
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def spoil_longer(data: bytes) -> bytes:
    return data + b"x"


def spoil_empty(data: bytes) -> bytes:
    return b""


def spoil_foreign(data: bytes) -> bytes:
    return b"something else" * 100


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_bit, spoil_longer, spoil_empty, spoil_foreign])
def test_a_spoilt_entry_is_never_loaded(own_cache: Path, spoil: Callable[[bytes], bytes]) -> None:
    engine.compile_ir(adder(1))
    (entry,) = entries(own_cache)
    sound = entry.read_bytes()
    entry.write_bytes(spoil(sound))
    assert cache.get(entry.stem) is None
    assert call(engine.compile_ir(adder(1)), 1) == 2
    assert cache.get(entry.stem) == sound[len(sound) - len(cache.get(entry.stem) or b"") :]


def test_an_entry_under_another_name_is_not_loaded(own_cache: Path) -> None:
    engine.compile_ir(adder(1))
    (entry,) = entries(own_cache)
    engine.compile_ir(adder(2))
    (other,) = set(entries(own_cache)) - {entry}
    other.write_bytes(entry.read_bytes())
    assert call(engine.compile_ir(adder(2)), 1) == 3


@pytest.mark.skipif(not POSIX, reason="POSIX permissions")
def test_what_others_could_have_written_is_not_loaded(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.compile_ir(adder(1))
    (entry,) = entries(own_cache)
    assert own_cache.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600
    entry.chmod(0o620)
    assert cache.get(entry.stem) is None
    entry.chmod(0o600)
    assert cache.get(entry.stem) is not None
    link = own_cache / ("0" * 64 + ".code")
    link.symlink_to(entry)
    with pytest.raises(PermissionError):
        cache._read(str(link))
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get(entry.stem) is None


def test_a_folder_that_cannot_be_used_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(place))
        assert call(engine.compile_ir(adder(1)), 1) == 2
    assert cache.get("0" * 64) is None


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for off in ("", "off", " "):
        monkeypatch.setenv("FUNCGRAD_CACHE_DIR", off)
        assert cache.folder() is None
        assert call(engine.compile_ir(adder(1)), 1) == 2
    monkeypatch.delenv("FUNCGRAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache.folder() == str(tmp_path / "funcgrad")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found = cache.folder()
    assert found is not None
    assert found.startswith(str(tmp_path))
    assert found.endswith("funcgrad")


def test_the_cache_keeps_what_was_used_last(own_cache: Path) -> None:
    for number in range(6):
        cache.put(f"{number}", bytes(1000))
        os.utime(own_cache / f"{number}.code", (number + 1, number + 1))
    draft = own_cache / f".{9:016x}.part"
    draft.write_bytes(b"abandoned")
    os.utime(draft, (1, 1))
    others = [own_cache / "notes.txt", own_cache / "video.part"]
    for other in others:
        other.write_text("not ours", encoding="utf-8")
        os.utime(other, (1, 1))
    assert cache.get("0") == bytes(1000)
    cache.trim(str(own_cache), limit=100_000)
    assert len(entries(own_cache)) == 6
    assert not draft.exists()
    cache.trim(str(own_cache), limit=5500)
    assert [entry.stem for entry in entries(own_cache)] == ["0", "4", "5"]
    assert all(other.exists() for other in others)


def test_processes_may_share_the_cache(own_cache: Path) -> None:
    text = (
        "from funcgrad.backends.llvm.runtime import engine; import ctypes\n"
        "for n in list(range(12)) * 2:\n"
        "    ir = 'define i64 @f() {\\n  ret i64 %d\\n}\\n' % n\n"
        "    code = engine.compile_ir(ir, 0)\n"
        "    assert ctypes.CFUNCTYPE(ctypes.c_int64)(code.address('f'))() == n\n"
    )
    command = [sys.executable, "-c", text]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for process in running:
        assert process.wait(60) == 0, process.communicate()[1]
        process.communicate()
    assert len(entries(own_cache)) == 12
    assert all(cache.get(entry.stem) for entry in entries(own_cache))
    assert len(list(own_cache.iterdir())) == 12


def test_the_key_depends_on_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {cache.key("a", "1"), cache.key("b", "1"), cache.key("a", "2"), cache.key("a1", "1")}
    assert len(keys) == 4
    assert cache.key("a", "1") == cache.key("a", "1")
    for place, name in ((host, "description"), (cache, "_state")):
        cache._surroundings.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *args: ("other",) if not args else "other")
            keys.add(cache.key("a", "1"))
        cache._surroundings.cache_clear()
    assert len(keys) == 6
