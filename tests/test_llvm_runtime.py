"""What lies beneath compiled programs: code, its cache on disk, threads and the BLAS."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from funcgrad.config import _cpu_quota, config, threads

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm import blas, cache, engine, host, loader, pool

OWN_LOADER = sys.platform == "linux" and host.platform.machine() == "x86_64"
POSIX = os.name == "posix"

# Adds `args[2]` to the integers of a range, and counts in `args[1]` how often it is called.
KERNEL = """
define void @kernel(ptr %args, i64 %begin, i64 %end) {
entry:
  %data = load ptr, ptr %args
  %calls.at = getelementptr ptr, ptr %args, i64 1
  %calls = load ptr, ptr %calls.at
  %amount.at = getelementptr i64, ptr %args, i64 2
  %amount = load i64, ptr %amount.at
  atomicrmw add ptr %calls, i64 1 seq_cst, align 8
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %at = getelementptr i64, ptr %data, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, %amount
  store i64 %new, ptr %at
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "code"
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(folder))
    yield folder
    config.num_threads = None


def adder(number: int) -> str:
    return f"define i64 @f(i64 %a) {{\n  %b = add i64 %a, {number}\n  ret i64 %b\n}}\n"


def call(code: engine.Code, *args: int, name: str = "f") -> int:
    kinds = [ctypes.c_int64] * (len(args) + 1)
    return ctypes.CFUNCTYPE(*kinds)(code.address(name))(*args)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.code"))


def run_python(text: str, **environment: str) -> str:
    """What a fresh interpreter prints, which must end well and in time."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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
    return loader._OwnImage(binary, engine._resolve)


def llvm_image(binary: bytes) -> loader.Image:
    return loader._LLVMImage(binary, {})


LOADERS = [
    pytest.param(own_image, marks=pytest.mark.skipif(not OWN_LOADER, reason="other platform")),
    llvm_image,
]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("load", LOADERS)
def test_every_kind_of_reference_leads_where_it_should(
    load: Callable[[bytes], loader.Image], level: int
) -> None:
    binary = engine._machine(level).emit_object(engine._optimized(REFERENCES, level))
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
    code = engine.compile_ir(REFERENCES)
    register = {64: "zmm", 32: "ymm", 16: ""}[width]
    assert register in code.assembly
    assert code.text == REFERENCES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("load", LOADERS)
def test_code_frees_its_memory(
    load: Callable[[bytes], loader.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", "off")
    monkeypatch.setattr(loader, "load", lambda binary, *_: load(binary))
    text = "@room = global [2097152 x i8] zeroinitializer\n" + adder(1)

    def megabytes() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
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
    text = "import sys; import funcgrad.backends.llvm.blas, funcgrad.backends.llvm.pool; "
    assert run_python(text + "print('llvmlite' in sys.modules)") == "False"


def test_without_llvmlite_there_is_a_reason() -> None:
    text = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "from funcgrad.backends.llvm import engine; print(engine.available())"
    )
    assert run_python(text) == "llvmlite is not installed"


def test_a_broken_llvmlite_is_a_reason() -> None:
    text = (
        "import sys; sys.modules['llvmlite.binding'] = None\n"
        "from funcgrad.backends.llvm import engine; print(engine.available())"
    )
    assert "llvmlite cannot be imported" in run_python(text, FUNCGRAD_CACHE_DIR="off")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's prctl")
def test_refused_memory_is_a_reason() -> None:
    # PR_SET_MDWE: no memory of this process becomes executable any more.
    text = (
        "import ctypes, funcgrad\n"
        "refused = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)\n"
        "from funcgrad.backends.llvm import engine, loader\n"
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

    monkeypatch.setattr(engine, "_optimized", unexpected)
    assert call(engine.compile_ir(adder(1)), 1) == 2
    for other in (lambda: engine.compile_ir(adder(2)), lambda: engine.compile_ir(adder(1), 2)):
        with pytest.raises(AssertionError):
            other()


@pytest.mark.skipif(not OWN_LOADER, reason="elsewhere LLVM loads the code")
def test_another_process_finds_it_without_llvm(own_cache: Path) -> None:
    text = (
        "import sys; from funcgrad.backends.llvm import engine, pool, blas\n"
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
    with pytest.raises(OSError, match="symbolic links"):
        cache._read(str(link))
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get(entry.stem) is None


def test_a_folder_that_cannot_be_used_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
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
    draft = own_cache / "9.code.1.2"
    draft.write_bytes(b"abandoned")
    os.utime(draft, (1, 1))
    other = own_cache / "notes.txt"
    other.write_text("not ours")
    assert cache.get("0") == bytes(1000)
    cache.trim(str(own_cache), limit=100_000)
    assert len(entries(own_cache)) == 6
    assert not draft.exists()
    cache.trim(str(own_cache), limit=5500)
    assert [entry.stem for entry in entries(own_cache)] == ["0", "4", "5"]
    assert other.exists()


def test_processes_may_share_the_cache(own_cache: Path) -> None:
    text = (
        "from funcgrad.backends.llvm import engine; import ctypes\n"
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
    keys = {cache.key("a", 1), cache.key("b", 1), cache.key("a", 2), cache.key("a1", 1)}
    assert len(keys) == 4
    assert cache.key("a", 1) == cache.key("a", 1)
    for place, name in ((host, "description"), (cache, "_state")):
        cache._surroundings.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *args: ("other",) if not args else "other")
            keys.add(cache.key("a", 1))
        cache._surroundings.cache_clear()
    assert len(keys) == 6


# -- threads ------------------------------------------------------------------------------


class Job:
    """Adds to `n` integers in pieces; knows whether each was met once."""

    def __init__(self, n: int):
        self.code = engine.compile_ir(KERNEL)
        self.data = np.zeros(n, np.int64)
        self.calls = np.zeros(1, np.int64)
        self.args = np.array([self.data.ctypes.data, self.calls.ctypes.data, 1], np.int64)
        signature = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        )
        self.parallel = signature(pool.load())

    def run(self, chunk: int) -> None:
        kernel = self.code.address("kernel")
        self.parallel(kernel, self.args.ctypes.data, len(self.data), chunk)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_piece_runs_once(count: int) -> None:
    config.num_threads = count
    for n in (0, 1, 2, 63, 64, 65, 10_007):
        for chunk in (1, 7, 64, 5000, 10**6, 2**62):
            job = Job(n)
            for _ in range(3):
                job.run(chunk)
            assert (job.data == 3).all()
            assert job.calls[0] == 3 * -(-n // chunk)


def test_many_jobs_in_quick_and_in_slow_succession() -> None:
    config.num_threads = 4
    job = Job(64)
    for _ in range(5000):
        job.run(1)
    assert (job.data == 5000).all()
    for _ in range(30):
        time.sleep(0.002)
        job.run(1)
    assert (job.data == 5030).all()


def test_threads_of_python_may_call_at_once() -> None:
    config.num_threads = 3
    jobs = [Job(1000) for _ in range(4)]

    def work(job: Job) -> None:
        for _ in range(500):
            job.run(10)

    workers = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for worker in workers:
        worker.start()
    for size in (1, 4, 2):
        time.sleep(0.005)
        config.num_threads = size
    for worker in workers:
        worker.join()
    assert all((job.data == 500).all() for job in jobs)


def test_a_platform_without_threads_runs_the_pieces_in_order() -> None:
    job = Job(100)
    code = engine.compile_ir(pool._SERIAL)
    job.parallel = type(job.parallel)(code.address("fg_parallel"))
    job.run(7)
    assert (job.data == 1).all()
    assert job.calls[0] == 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_workers_of_its_own() -> None:
    text = f"""
import os, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_llvm_runtime import Job, config
config.num_threads = 3
stop, job, mine = False, Job(100_000), Job(100_000)
def work():
    while not stop:
        job.run(100)
thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    time.sleep(0.002)
    child = os.fork()
    if not child:
        for _ in range(20):
            mine.run(100)
        os._exit(0 if (mine.data == 20).all() and len(os.listdir('/proc/self/task')) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
assert len(set(job.data)) == 1
mine.run(100)
assert (mine.data == 1).all()
print("done")
"""
    if not os.path.isdir("/proc/self/task"):
        text = text.replace(" and len(os.listdir('/proc/self/task')) == 3", "")
    assert run_python(text, OPENBLAS_NUM_THREADS="1") == "done"


@pytest.mark.parametrize("busy", [False, True])
def test_the_interpreter_ends_while_workers_live(busy: bool) -> None:
    text = f"""
import sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_llvm_runtime import Job, config
config.num_threads = 4
job = Job(100_000)
job.run(10)
def work():
    while True:
        job.run(10)
if {busy}:
    threading.Thread(target=work, daemon=True).start()
print("done")
"""
    assert run_python(text) == "done"


def test_signals_reach_python_while_workers_live() -> None:
    text = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_llvm_runtime import Job, config
config.num_threads = 4
Job(1000).run(1)
signal.signal(signal.SIGALRM, lambda *_: sys.exit(0 if print("rang") is None else 1))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(20)
sys.exit(1)
"""
    if not hasattr(os, "fork"):
        pytest.skip("POSIX signals")
    start = time.monotonic()
    assert run_python(text) == "rang"
    assert time.monotonic() - start < 15


# -- the number of threads ------------------------------------------------------------------


def test_the_number_of_threads_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUNCGRAD_NUM_THREADS", raising=False)
    assert config.num_threads is None
    assert threads() >= 1
    config.num_threads = 3
    assert (config.num_threads, threads()) == (3, 3)
    config.num_threads = np.int64(2)  # pyright: ignore[reportAttributeAccessIssue]
    assert config.num_threads == 2
    for bad in (0, -1, 1.5, "two", True, 10**6, [1]):
        with pytest.raises(ValueError, match=r"config\.num_threads must be"):
            config.num_threads = bad  # pyright: ignore[reportAttributeAccessIssue]
    assert config.num_threads == 2
    config.num_threads = None
    monkeypatch.setenv("FUNCGRAD_NUM_THREADS", "5")
    assert threads() == 5
    config.num_threads = 1
    assert threads() == 1
    config.num_threads = None
    monkeypatch.setenv("FUNCGRAD_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="FUNCGRAD_NUM_THREADS must be"):
        threads()
    monkeypatch.delenv("FUNCGRAD_NUM_THREADS")


def test_a_containers_share_of_processors_counts(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "sys"
    (root / "a" / "b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    quota = _cpu_quota

    assert quota(str(root), str(own)) >= 1000
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert quota(str(root), str(own)) >= 1000
    (root / "a" / "cpu.max").write_text("150000 100000\n")
    assert quota(str(root), str(own)) == 2
    (root / "cpu.max").write_text("garbage\n")
    assert quota(str(root), str(own)) == 2

    group = root / "cpu,cpuacct" / "x"
    group.mkdir(parents=True)
    own.write_text("4:memory:/x\n3:cpu,cpuacct:/x\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert quota(str(root), str(own)) >= 1000
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    assert quota(str(root), str(own)) == 3
    assert quota(str(root), str(tmp_path / "nowhere")) >= 1000


# -- the BLAS -----------------------------------------------------------------------------


def test_numpys_blas_multiplies_from_native_code() -> None:
    found = blas.find()
    if found is None:
        pytest.skip("NumPy's BLAS can't be called here")
    code = engine.compile_ir(
        "declare void @fg_dgemm(i32, i32, i32, i64, i64, i64, double, ptr, i64, ptr, i64,"
        " double, ptr, i64)\n"
        "define void @f(ptr %a, ptr %b, ptr %c) {\n"
        "  call void @fg_dgemm(i32 101, i32 112, i32 111, i64 30, i64 50, i64 40, double 1.0,"
        " ptr %a, i64 30, ptr %b, i64 50, double 0.0, ptr %c, i64 50)\n"
        "  ret void\n}\n"
    )
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(40, 30)), rng.normal(size=(40, 50)), np.empty((30, 50))
    pointers = [array.ctypes.data for array in (a, b, c)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(code.address("f"))(*pointers)
    assert np.allclose(c, a.T @ b, rtol=1e-13, atol=1e-13)
    assert found.limit >= 2**31 - 1


def test_a_blas_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_works", lambda name, function: name != "dgemv")
    assert blas.find.__wrapped__() is None
    monkeypatch.undo()
    monkeypatch.setattr(blas, "_SPELLINGS", (("no_such_{}", False),))
    assert blas.find.__wrapped__() is None


def test_the_probe_notices_each_wrong_argument() -> None:
    if blas.find() is None:
        pytest.skip("NumPy's BLAS can't be called here")
    library = next(iter(blas._libraries()))
    spelling = next(s for s, _ in blas._SPELLINGS if blas._functions(library, s))
    functions = blas._functions(library, spelling)
    assert functions is not None
    for name, function in functions.items():
        assert blas._works(name, function)
        scaled = [2.0, 0.5] if name.endswith("gemm") else [2.0]
        for factor in scaled:

            def other(*args: float, factor: float = factor, call: Callable = function) -> None:
                call(*(factor * a if a == -3.0 else a for a in args))

            assert not blas._works(name, other)
        assert not blas._works(name, lambda *args: None)
