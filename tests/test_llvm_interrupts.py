"""Long loops of native programs end when a signal's handler raises."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.llvm.backend import LlvmBackend

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")

ROOT = Path(__file__).parent.parent
MANY = 10**13


class Alarm(Exception):
    pass


@contextmanager
def alarm(seconds, handler):
    before = signal.signal(signal.SIGALRM, handler)
    # The first may land in a destructor, of what was compiled for instance, which swallows what
    # the handler raises; so others follow.
    signal.setitimer(signal.ITIMER_REAL, seconds, 20.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def give_up(number, frame):
    raise Alarm


def in_registers(stop, x):
    return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, c[1] * 0.5), (0, x[0]))


def in_memory(stop, x):
    return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, c[1] * 0.5), (0, x))


def of_products(stop, x):
    w = np.eye(len(x))
    return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, w @ c[1]), (0, x))


def of_scans(stop, x):
    def round(c):
        inner = fg.fori_loop(0, 20, lambda i, v: np.sin(v), c[1])
        return c[0] + 1, inner

    return fg.while_loop(lambda c: c[0] < stop, round, (0, x))


def of_calls(stop, x):
    return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, np.sort(c[1])), (0, x))


def within_a_scan(stop, x):
    def inner(i, v):
        return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, c[1] * 0.5), (0, v))[1]

    return fg.fori_loop(0, 50, inner, x[0])


def within_a_scan_in_memory(stop, x):
    def inner(i, v):
        return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, c[1] * 0.5), (0, v))[1]

    return fg.fori_loop(0, 50, inner, x)


def within_a_branch(stop, x):
    return fg.cond(stop > 0, lambda: in_memory(stop, x)[1], lambda: x)


def one_after_the_other(stop, x):
    first, second = in_registers(stop, x), in_memory(stop, x)
    return first, second, fg.fori_loop(0, 1000, lambda i, v: v + x, x)


WHILES = [
    in_registers,
    in_memory,
    of_products,
    of_scans,
    of_calls,
    within_a_scan,
    within_a_scan_in_memory,
    within_a_branch,
    one_after_the_other,
]


@pytest.mark.parametrize("function", WHILES)
@pytest.mark.parametrize("n", [50, 3000])
def test_endless_loops_end(function, n):
    run, x = fg.jit(function, backend="llvm"), np.ones(n if function is not of_products else 50)
    expected = function(5, x)
    run(5, x)
    before = sys.getrefcount(x)
    for _ in range(2):
        with alarm(0.2, give_up), pytest.raises(Alarm):
            run(MANY, x)
        assert sys.getrefcount(x) == before
        for have, want in zip(fg.tree.leaves(run(5, x)), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(have, want)


def repeat(length, step, first):
    return fg.scan(lambda v, _: (step(v), None), first, None, length)[0]


def scan_in_registers(x):
    return repeat(MANY, lambda v: v * 0.5 + 1, x[0])


def scan_in_memory(x):
    return repeat(MANY, lambda v: v * 0.5 + 1, x)


def scan_of_scans(x):
    return repeat(10**5, lambda v: repeat(10**8, lambda u: u * 0.5 + 1, v), x[0])


def scans_none_of_which_is_long(x):
    def inner(v):
        return repeat(5000, lambda u: repeat(5000, lambda t: np.sin(t) + 1, u), v)

    return repeat(5000, inner, x[:4])


SCANS = [scan_in_registers, scan_in_memory, scan_of_scans, scans_none_of_which_is_long]


@pytest.mark.parametrize("function", SCANS)
def test_long_scans_end(function, monkeypatch):
    make = LlvmBackend.compile

    def compile(*args):
        run = make(*args)

        def with_alarm(*leaves):
            with alarm(0.2, give_up):
                return run(*leaves)

        return with_alarm

    # While programs are compiled, a destructor may swallow the exception.
    monkeypatch.setattr(LlvmBackend, "compile", compile)
    with pytest.raises(Alarm):
        fg.jit(function, backend="llvm")(np.ones(500))


@pytest.mark.parametrize("length", [16383, 16384, 20480, 20481, 100001])
def test_long_scans_take_every_step(length):
    run = fg.jit(lambda v: fg.fori_loop(0, length, lambda i, v: v + i, v), backend="llvm")
    assert run(0) == length * (length - 1) // 2
    run = fg.jit(lambda v: fg.fori_loop(0, length, lambda i, v: v + i, v), backend="llvm")
    assert run(np.zeros(100, int))[0] == length * (length - 1) // 2


def test_results_are_given_up():
    """The arrays that results were to be written to."""
    tracemalloc = pytest.importorskip("tracemalloc")
    run, x = fg.jit(in_memory, backend="llvm"), np.ones(100_000)
    run(5, x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(4):
            with alarm(0.1, give_up), pytest.raises(Alarm):
                run(MANY, x)
        assert tracemalloc.get_traced_memory()[0] - before < x.nbytes
    finally:
        tracemalloc.stop()


def test_handlers_that_return_change_nothing():
    seen = []
    run = fg.jit(in_registers, backend="llvm")
    run(5, np.ones(3))
    with alarm(0.05, lambda *_: seen.append(time.perf_counter())):
        start = time.perf_counter()
        assert run(300_000_000, np.ones(3))[0] == 300_000_000
        done = time.perf_counter()
    assert len(seen) == 1
    # On the way, not when the loop was over.
    assert seen[0] - start < 0.7 * (done - start)


def test_other_threads_leave_signals_to_the_main_one():
    """A loop there goes on, and its thread does not take the exception."""
    run, found = fg.jit(in_memory, backend="llvm"), []
    run(5, np.ones(300))
    worker = threading.Thread(target=lambda: found.append(run(3_000_000, np.ones(300))[0]))
    worker.start()
    with pytest.raises(Alarm), alarm(0.1, give_up):
        while True:
            time.sleep(0.01)
    worker.join()
    assert found == [3_000_000]


def test_ctrl_c():
    code = """
    import numpy as np, funcgrad as fg
    run = fg.jit(
        lambda x: fg.while_loop(lambda v: v[0] > -1.0, lambda v: v * 0.5, x), backend="llvm"
    )
    print("ready", flush=True)
    try:
        run(np.ones(1000))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert process.wait(10) == 0
        finally:
            process.kill()
