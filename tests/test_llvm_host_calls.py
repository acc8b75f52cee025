"""Python functions that native programs call: when the GIL is held, and what goes wrong in them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.binding import bind
from funcgrad.core.declarations import nondifferentiable
from funcgrad.core.primitive import sample

pytest.importorskip("llvmlite")

X = np.random.default_rng(0).random(100_000)

pytestmark = pytest.mark.usefixtures("own_primitives")


def host(impl: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of an array to one like it, which compiled programs call as it is."""
    prim = nondifferentiable(
        "host",
        impl,
        shape=lambda x: x.strong(),
        batch=lambda prim, args, *_: (bind(prim, *args), True),
        samples=[sample((3,))],
    )
    return lambda x: bind(prim, x)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    return fg.jit(function, backend="llvm", **options)


def wave(x: Any) -> Any:
    return np.sin(x) * np.exp(-x) + np.cos(2 * x)


# --- the GIL --------------------------------------------------------------------------


def releases(function: Callable[..., Any], *args: Any) -> int:
    text = compiled(function).lower(*args).text
    found = text.count("call ptr @PyEval_SaveThread")
    # Also where an exception ends the program.
    assert text.count("call void @PyEval_RestoreThread") >= found + (found > 0)
    return found


def test_long_steps_between_calls_release_the_gil() -> None:
    small = X[:100]
    assert releases(lambda x: wave(np.sort(wave(x))), small) == 0
    assert releases(wave, X) == 1
    assert releases(lambda x: wave(np.sort(wave(x))), X) == 2
    assert releases(lambda x: np.sort(wave(x)[:10]) + 1, X) == 1


def test_loops_release_the_gil_around_long_rounds_only() -> None:
    def rounds(i: Any, x: Any) -> Any:
        return wave(np.sort(wave(x)))

    assert releases(lambda x: fg.fori_loop(0, 10**6, rounds, x), X[:100]) == 0
    assert releases(lambda x: fg.fori_loop(0, 3, rounds, x), X) == 2
    # One that calls nothing is one step.
    assert releases(lambda x: fg.fori_loop(0, 10**6, lambda i, x: wave(x), x), X[:100]) == 1
    assert releases(lambda x: np.sort(fg.fori_loop(0, 50, lambda i, x: wave(x), x)), X) == 1


def test_branches_release_the_gil_where_they_take_long() -> None:
    def function(p: Any, x: Any) -> Any:
        return fg.cond(p, lambda x: np.sort(wave(x)), lambda x: x, x)

    assert releases(function, True, X) == 1
    run = compiled(function)
    np.testing.assert_allclose(run(True, X), np.sort(wave(X)))
    np.testing.assert_allclose(run(False, X), X)


def test_long_programs_of_several_functions_release_the_gil_once() -> None:
    def function(x: Any) -> Any:
        for k in range(60):
            x = fg.fori_loop(0, 3, lambda i, x, k=k: x[::-1] * (k + 2.0) / (k + 1), x)
        return np.sort(x)

    small = X[:50_000]
    assert "fg_steps1" in compiled(function).lower(small).text
    assert releases(function, small) == 1
    np.testing.assert_allclose(compiled(function)(small), function(small))


def test_other_threads_run_during_long_steps() -> None:
    ticks, seen, stop = [0], [], threading.Event()

    def look(x: np.ndarray) -> np.ndarray:
        seen.append(ticks[0])
        return x

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    look_p = host(look)

    def function(n: Any, x: Any) -> Any:
        n, x = n + 1, look_p(x)
        n, x = fg.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 0.5 + 1), (0, x[0]))
        return look_p(x[None])

    run = compiled(function)
    run(5, X[:3])
    seen.clear()
    other = threading.Thread(target=tick)
    other.start()
    try:
        run(200_000_000, X[:3])
    finally:
        stop.set()
        other.join()
    assert seen[1] - seen[0] > 10


@contextmanager
def quick_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(jobs: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def attempt(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


@pytest.mark.parametrize("donated", [(), (0,)])
def test_threads_run_one_program_at_once(donated: tuple[int, ...]) -> None:
    def function(x: Any) -> Any:
        return wave(np.sort(wave(x)) * np.mean(wave(x))) + 1, np.sort(x[:10])

    run = compiled(function, donate_argnums=donated)
    inputs = [X + k for k in range(4)]
    expected = [function(x) for x in inputs]

    def job(k: int) -> None:
        for _ in range(10):
            for have, want in zip(run(inputs[k].copy()), expected[k], strict=True):
                np.testing.assert_allclose(have, want)

    with quick_turns():
        in_threads([lambda k=k: job(k) for k in range(4)])


# --- what goes wrong ------------------------------------------------------------------


class Refused(Exception):
    pass


def test_exceptions_end_a_program_that_has_released_the_gil() -> None:
    refuse = [False]

    def maybe(x: np.ndarray) -> np.ndarray:
        if refuse[0]:
            raise Refused
        return x * 2

    maybe_p = host(maybe)

    def function(x: Any) -> Any:
        return fg.fori_loop(0, 2, lambda i, x: wave(maybe_p(wave(x))), x), wave(x)

    run, x = compiled(function), X.copy()
    expected = run(x)
    before = sys.getrefcount(x)

    def job() -> None:
        for _ in range(10):
            with pytest.raises(Refused):
                run(x)

    refuse[0] = True
    in_threads([job, job])
    assert sys.getrefcount(x) == before
    refuse[0] = False
    for have, want in zip(run(x), expected, strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
@pytest.mark.parametrize("rounds", [1, 3])
def test_signals_end_loops_between_calls(rounds: int) -> None:
    def function(stop: Any, x: Any) -> Any:
        def round_(i: Any, x: Any) -> Any:
            y = np.sort(x) + 1
            return fg.while_loop(lambda c: c[0] < stop, lambda c: (c[0] + 1, c[1] * 0.5), (0, y))[1]

        return np.sort(fg.fori_loop(0, rounds, round_, x) + 2)

    run = compiled(function)
    expected = run(3, X[:500])
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(2):
            signal.setitimer(signal.ITIMER_REAL, 0.1, 20.0)
            with pytest.raises(KeyboardInterrupt):
                run(10**13, X[:500])
            np.testing.assert_array_equal(run(3, X[:500]), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("n", [3, 200_000])
def test_what_an_index_out_of_range_leaves_is_not_passed_on(n: int) -> None:
    seen: list[float] = []

    def look(x: np.ndarray) -> np.ndarray:
        seen.append(x[0])
        raise Refused

    look_p = host(look)
    run = compiled(lambda x, i: look_p(wave(x[i])))
    with pytest.raises(IndexError, match="index 7"):
        run(X[:5], np.full(n, 7))
    assert not seen
    with pytest.raises(Refused):
        run(X[:5], np.full(n, 4))


def test_a_call_may_run_the_same_program() -> None:
    depth = [0]

    def inner(x: np.ndarray) -> np.ndarray:
        depth[0] += 1
        return run(x)[0] if depth[0] < 4 else x * 2

    inner_p = host(inner)
    run = compiled(lambda x: (wave(inner_p(wave(x))), np.sort(x)))
    expected = X
    for _ in range(4):
        expected = wave(expected)
    expected = expected * 2
    for _ in range(4):
        expected = wave(expected)
    np.testing.assert_allclose(run(X)[0], expected)
    assert depth == [4]


def test_a_call_may_take_its_time() -> None:
    """While another thread runs the same program."""
    met = threading.Barrier(2, timeout=60)

    def meet(x: np.ndarray) -> np.ndarray:
        met.wait()
        time.sleep(0)
        return x + 1

    meet_p = host(meet)
    run = compiled(lambda x: wave(meet_p(wave(x))))

    def job(k: int) -> None:
        np.testing.assert_allclose(run(X * k), wave(wave(X * k) + 1))

    in_threads([lambda: job(1), lambda: job(2)])


# --- arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 8, 100_000])
@pytest.mark.parametrize("scale", [1, 2])
def test_arrays_that_are_kept_stay_in_memory(n: int, scale: int) -> None:
    """What a function is given lies in the memory of the program, or of its caller."""
    kept: list[np.ndarray] = []
    keep = host(lambda x: kept.append(x[::-1]) or x)
    run = compiled(lambda x: (keep(x if scale == 1 else x * scale), x + 1))
    for k in range(5):
        np.testing.assert_array_equal(run(np.full(n, 1.0 * k))[0], np.full(n, 1.0 * k * scale))
    del run
    np.testing.assert_array_equal(np.stack(kept), np.arange(5)[:, None] * np.full(n, scale))


def test_tracebacks_keep_arrays_alive() -> None:
    def refuse(x: np.ndarray) -> np.ndarray:
        raise Refused

    refuse_p = host(refuse)
    run = compiled(lambda x: refuse_p(wave(x)))
    errors = []
    for k in range(4):
        with pytest.raises(Refused) as info:
            run(X + k)
        errors.append(info.value)
    for k, error in enumerate(errors):
        trace = error.__traceback__
        while trace.tb_next:
            trace = trace.tb_next
        np.testing.assert_allclose(trace.tb_frame.f_locals["x"], wave(X + k))


def test_memory_is_given_back() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    kept: list[np.ndarray] = []

    def keep(x: np.ndarray) -> np.ndarray:
        kept.append(x)
        if len(kept) % 2:
            raise Refused
        return x

    keep_p = host(keep)
    run, x = compiled(lambda x: np.sort(keep_p(wave(x)))), X.copy()
    tracemalloc.start()
    try:
        for k in range(12):
            with suppress(Refused):
                run(x)
            if k == 1:
                kept.clear()
                before, count = tracemalloc.get_traced_memory()[0], sys.getrefcount(x)
            if k % 2:
                kept.clear()
        assert tracemalloc.get_traced_memory()[0] - before < x.nbytes
        assert sys.getrefcount(x) == count
    finally:
        tracemalloc.stop()


def test_operands_are_read_only() -> None:
    seen: list[bool] = []

    def write(x: np.ndarray) -> np.ndarray:
        seen.append(x.flags.writeable)
        x += 1
        return x

    write_p = host(write)
    x = X[:10].copy()
    for function in (lambda x: write_p(x) + 1, lambda x: write_p(x * 2.0)):
        with pytest.raises(ValueError, match="read-only"):
            compiled(function)(x)
    np.testing.assert_array_equal(x, X[:10])
    assert seen == [False] * 2


RESULTS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "a view": lambda x: x[::-1],
    "Fortran's order": lambda x: np.array(x, order="F"),
    "read-only": lambda x: np.broadcast_to(np.float64(2.5), np.shape(x)),
    "single precision": lambda x: x.astype(np.float32),
    "a subclass": lambda x: x.view(np.ma.MaskedArray) if x.size else x,
    "another byte order": lambda x: x.astype(">f8"),
    "a list": lambda x: x.tolist() if x.size else x,
}


@pytest.mark.parametrize("shape", [(3, 4), (), (0,), (1, 1), (0, 3)])
@pytest.mark.parametrize("name", RESULTS)
def test_any_result_of_the_right_shape_will_do(name: str, shape: tuple[int, ...]) -> None:
    impl = RESULTS[name]
    if not shape and name in ("a view", "a subclass"):
        pytest.skip("a number has none")
    host_p, x = host(impl), np.asarray(np.random.default_rng(0).random(shape))
    want = np.asarray(impl(x * 2), float) * x + 1
    for function in (lambda x: host_p(x * 2) * x + 1, lambda x: host_p(host_p(x * 2) + 0) * x + 1):
        found = compiled(function)(x)
        assert found.shape == shape and found.dtype == np.float64
    np.testing.assert_array_equal(compiled(lambda x: host_p(x * 2) * x + 1)(x), want)


@pytest.mark.parametrize(
    ("impl", "have"),
    [
        (lambda x: x[:1], r"float64\[1\]"),
        (lambda x: 1.0, r"float64\[\]"),
        (lambda x: x + 1j, r"complex128\[5\]"),
        (lambda x: np.stack([x, x]), r"float64\[2, 5\]"),
        (lambda x: None, "object"),
    ],
)
def test_what_a_shape_rule_does_not_say_is_an_error(impl: Callable[[Any], Any], have: str) -> None:
    host_p = host(impl)
    with pytest.raises(fg.errors.GraphError, match=f"host: .*{have}.*f64\\[5\\]"):
        compiled(lambda x: host_p(x * 2) + 1)(X[:5])


@pytest.mark.parametrize("dtype", [np.float16, np.complex64, np.complex128, np.int8, bool])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 2)])
def test_dtypes_that_kernels_have_not(dtype: Any, shape: tuple[int, ...]) -> None:
    def function(x: Any, y: Any) -> Any:
        z = np.abs(wave(y)) + np.sqrt(y) * 2
        return z + np.real(x + x), x + x, np.sort(y.ravel()) if shape else y

    x, y = (np.random.default_rng(k).random(shape) * 3 for k in range(2))
    x = np.asarray(x).astype(dtype)
    for have, want in zip(compiled(function)(x, y), function(x, y), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_calls_are_silent_and_leave_numpys_error_state() -> None:
    host_p = host(lambda x: np.log(x) / 0)
    run = compiled(lambda x: host_p(x - x) + 1)
    with np.errstate(all="raise"):
        assert np.all(np.isneginf(run(X[:5])))
        assert np.geterr()["divide"] == "raise"
        with pytest.raises(FloatingPointError):
            np.log(np.zeros(2))
