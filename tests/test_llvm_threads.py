"""The threads and the BLAS that compiled programs run on."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from _processes import run_python
from funcgrad.config import _cpu_quota, config, threads

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm.products import blas
from funcgrad.backends.llvm.runtime import engine, pool

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
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "code"))
    yield
    config.num_threads = None


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
from test_llvm_threads import Job, config
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
from test_llvm_threads import Job, config
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
from test_llvm_threads import Job, config
config.num_threads = 4
Job(1000).run(1)
signal.signal(signal.SIGALRM, lambda *_: sys.exit(0 if print("rang") is None else 1))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(3600)
sys.exit(1)
"""
    if not hasattr(os, "fork"):
        pytest.skip("POSIX signals")
    assert run_python(text) == "rang"


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
    own.write_text("0::/a/b\n", encoding="utf-8")
    quota = _cpu_quota

    assert quota(str(root), str(own)) >= 1000
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n", encoding="utf-8")
    assert quota(str(root), str(own)) >= 1000
    (root / "a" / "cpu.max").write_text("150000 100000\n", encoding="utf-8")
    assert quota(str(root), str(own)) == 2
    (root / "cpu.max").write_text("garbage\n", encoding="utf-8")
    assert quota(str(root), str(own)) == 2

    group = root / "cpu,cpuacct" / "x"
    group.mkdir(parents=True)
    own.write_text("4:memory:/x\n3:cpu,cpuacct:/x\n", encoding="utf-8")
    (group / "cpu.cfs_quota_us").write_text("-1\n", encoding="utf-8")
    (group / "cpu.cfs_period_us").write_text("100000\n", encoding="utf-8")
    assert quota(str(root), str(own)) >= 1000
    (group / "cpu.cfs_quota_us").write_text("300000\n", encoding="utf-8")
    assert quota(str(root), str(own)) == 3
    assert quota(str(root), str(tmp_path / "nowhere")) >= 1000


# -- the BLAS -----------------------------------------------------------------------------


def test_numpys_blas_multiplies_from_native_code() -> None:
    found = blas.find()
    if found is None:
        pytest.skip("NumPy's BLAS can't be called here")
    blas.register()
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
