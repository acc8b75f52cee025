"""Arrays that a function captures count as they were when it used them, or an error says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

# Copied when they are used; held, but not where parts of larger arrays; held.
SIZES = [2048, 2049, 131_073]
MODES: dict[str, Callable[..., Any]] = {
    "grad": lambda f, x: fg.grad(lambda x: np.sum(f(x)))(x),
    "jvp": lambda f, x: fg.jvp(f, (x,), (np.ones_like(x),))[1],
    "vjp": lambda f, x: (lambda y, pull: pull(np.ones_like(y))[0])(*fg.vjp(f, x)),
    "linearize": lambda f, x: fg.linearize(f, x)[1](np.ones_like(x)),
    "jit": lambda f, x: fg.jit(fg.grad(lambda x: np.sum(f(x))))(x),
    "grad of jit": lambda f, x: fg.grad(lambda x: np.sum(fg.jit(f)(x)))(x),
    "vmap": lambda f, x: fg.grad(lambda x: np.sum(fg.vmap(f)(x[None])))(x),
    "scan": lambda f, x: fg.grad(
        lambda x: np.sum(fg.scan(lambda c, _: (c + f(x), None), 0.0 * x, None, 1)[0])
    )(x),
    "cond": lambda f, x: fg.grad(lambda x: np.sum(fg.cond(x[0] < 9, lambda: f(x), lambda: x)))(x),
    "checkpoint": lambda f, x: fg.grad(lambda x: np.sum(fg.checkpoint(f)(x)))(x),
}


def kinds_of_buffers(size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What is used, and another way to the same memory."""
    whole, rows, column = np.zeros(size), np.zeros((2, size)), np.zeros((size, 2))
    return {
        "itself": (whole, whole),
        "a view": (whole[:], whole),
        "what was a view": (whole, whole[:]),
        "a row": (rows[1], rows),
        "a column": (column[:, 1], column),
        "backwards": (whole[::-1], whole),
        "read-only": (np.broadcast_to(whole, (1, size))[0], whole),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_a_buffer_is_written_to_between_uses(mode: str, size: int) -> None:
    x = np.full(size, 2.0)
    for kind, (used, written) in kinds_of_buffers(size).items():
        flags = used.flags.writeable, written.flags.writeable

        def f(x: Any, used: Any = used, written: Any = written) -> Any:
            total = 0.0
            for k in range(3):
                written[...] = k
                total = total + x * used
            return total

        try:
            found = MODES[mode](f, x)
        except errors.CapturedWriteError as error:
            assert size * 8 > 1 << 14, kind
            assert __file__ in str(error)
        else:
            np.testing.assert_array_equal(found, np.full(size, 3.0), err_msg=kind)
        assert (used.flags.writeable, written.flags.writeable) == flags, kind


@pytest.mark.parametrize("size", SIZES)
def test_arguments_written_to_before_the_pullback_runs(size: int) -> None:
    for transform in (
        lambda f, x: fg.vjp(f, x)[1],
        lambda f, x: lambda ct: (fg.linearize(f, x)[1](ct),),
        lambda f, x: fg.linearize(f, x)[1],
    ):
        x, y = np.full(size, 3.0), np.full(size, 5.0)
        pull = transform(lambda x, y=y: x * x * y, x)
        x[...] = y[...] = -1.0
        found = pull(np.ones(size))
        if type(found) is tuple and pull.__name__ == "<lambda>":
            continue
        np.testing.assert_array_equal(found[0] if type(found) is tuple else found, 30.0)


@pytest.mark.parametrize("size", SIZES)
def test_an_argument_is_written_to_while_its_function_runs(size: int) -> None:
    x = np.full(size, 3.0)

    def f(t: Any) -> Any:
        y = t * t
        x[...] = -1.0
        return np.sum(y)

    for transform in (fg.grad(f), lambda x: fg.vjp(f, x)[1](1.0)[0]):
        x[...] = 3.0
        try:
            found = transform(x)
        except errors.CapturedWriteError:
            assert size * 8 > 1 << 14
        else:
            np.testing.assert_array_equal(found, np.full(size, 6.0))
        assert x.flags.writeable


def test_rows_of_one_array_may_be_buffers_at_any_size() -> None:
    for size in SIZES:
        rows, x = np.zeros((3, size)), np.ones(size)

        def f(x: Any, rows: Any = rows) -> Any:
            total = 0.0
            for k in range(3):
                rows[k] = k
                total = total + x * rows[k]
            return np.sum(total)

        np.testing.assert_array_equal(fg.grad(f)(x), np.full(size, 3.0))
        np.testing.assert_array_equal(fg.jit(fg.grad(f))(x), np.full(size, 3.0))


def test_arrays_are_writeable_again_after_errors_and_in_nested_recordings() -> None:
    large = np.ones(100_000)

    def fails(x: Any) -> Any:
        np.sum(x * large)
        raise KeyError

    with pytest.raises(KeyError):
        fg.grad(fails)(large)
    assert large.flags.writeable

    def inner(x: Any) -> Any:
        return np.sum(fg.grad(lambda y: np.sum(y * large * x))(large) * large)

    np.testing.assert_array_equal(fg.grad(inner)(2.0), 100_000.0)
    assert large.flags.writeable
    fixed = np.ones(100_000)
    fixed.flags.writeable = False
    fg.grad(lambda x: np.sum(x * fixed))(large)
    assert not fixed.flags.writeable


def test_an_outer_recording_holds_what_an_inner_one_has_released() -> None:
    large = np.ones(100_000)

    def f(x: Any) -> Any:
        y = x * large
        fg.grad(lambda z: np.sum(z * large))(large)
        large[...] = 5.0
        return np.sum(y)

    with pytest.raises(errors.CapturedWriteError):
        fg.grad(f)(2.0)
    assert large.flags.writeable


def test_threads_may_use_the_same_arrays() -> None:
    large, failures = np.ones(50_000), []

    def work() -> None:
        try:
            for _ in range(50):
                assert fg.grad(lambda x: np.sum(x * large))(large)[0] == 1.0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert large.flags.writeable


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_files_in_memory_are_arrays_as_others(mode: str, size: int, tmp_path: Path) -> None:
    buffer = np.memmap(tmp_path / "buffer", np.float64, "w+", shape=(size,))

    def f(x: Any) -> Any:
        total = 0.0
        for k in range(3):
            buffer[...] = k
            total = total + x * buffer
        return total

    x = np.full(size, 2.0)
    try:
        found = MODES[mode](f, x)
    except errors.CapturedWriteError as error:
        assert size * 8 > 1 << 14
        assert __file__ in str(error)
    else:
        np.testing.assert_array_equal(found, np.full(size, 3.0))
    assert buffer.flags.writeable


@pytest.mark.parametrize("backend", ["eager", "numpy", "llvm"])
def test_a_refused_write_is_told_of_however_it_was_tried(backend: str, tmp_path: Path) -> None:
    def by_file(a: np.ndarray) -> None:
        path = tmp_path / "numbers"
        path.write_bytes(a.tobytes())
        with path.open("rb") as file:
            file.readinto(a)

    writers: list[Callable[[np.ndarray], Any]] = [
        lambda a: memoryview(a).__setitem__(0, 1.0),
        lambda a: np.random.default_rng(0).random(out=a),
        lambda a: np.random.default_rng(0).shuffle(a),
        by_file,
        lambda a: a.sort(),
        lambda a: np.copyto(a, 1.0),
    ]
    for write in writers:
        large = np.zeros(200_000)

        def f(x: Any, large: Any = large, write: Any = write) -> Any:
            y = np.sum(x * large)
            write(large)
            return y

        if backend == "eager":
            with pytest.raises(errors.CapturedWriteError):
                fg.grad(f)(2.0)
        else:
            # Programs have copies.
            assert fg.jit(f, backend=backend)(2.0) == 0.0
        assert large.flags.writeable


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_zero_of_the_other_sign_is_another_value(backend: str) -> None:
    buffer = np.zeros(3)

    def f(x: Any) -> Any:
        buffer[...] = 0.0
        first = np.copysign(x, buffer)
        buffer[...] = -0.0
        return first, np.copysign(x, buffer)

    first, second = fg.jit(f, backend=backend)(2.0)
    np.testing.assert_array_equal(first, np.full(3, 2.0))
    np.testing.assert_array_equal(second, np.full(3, -2.0))


# --- another way to the memory ------------------------------------------------------------

PROGRAMS: dict[str, Callable[..., Any]] = {
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
    "jit of grad": lambda f: fg.jit(fg.grad(lambda x: np.sum(f(x)))),
    "jit of vmap": lambda f: fg.jit(lambda x: fg.vmap(f)(x[None])[0]),
    "jit of scan": lambda f: fg.jit(
        lambda x: fg.scan(lambda c, _: (c + f(x), None), 0.0 * x, None, 1)[0]
    ),
    "jit of cond": lambda f: fg.jit(lambda x: fg.cond(x[0] < 9, lambda: f(x), lambda: x)),
}


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16", "i1"])
@pytest.mark.parametrize("size", [100, 10_000, 2_000_000])
@pytest.mark.parametrize("mode", ["numpy", "llvm"])
def test_programs_see_each_element_as_it_was(mode: str, size: int, dtype: str) -> None:
    """Also of a large array that is written to, and back, through a view made before."""
    whole = np.zeros(size, dtype)
    for buffer in (whole, whole[::-1], np.broadcast_to(whole[:1], (size,))):
        view = whole[:]

        def f(x: Any, buffer: Any = buffer, view: Any = view) -> Any:
            total = 0.0 * x
            for k in (0, 3, 0, 4):
                view[0] = k
                total = total + x * buffer
            view[0] = 0
            return total

        x = np.ones(size, dtype)
        expected = np.where(np.arange(size) == 0, 7, 0) if buffer is whole else None
        if buffer.base is whole and buffer.strides[0] < 0:
            expected = np.where(np.arange(size) == size - 1, 7, 0)
        if expected is None:
            expected = np.full(size, 7)
        np.testing.assert_array_equal(PROGRAMS[mode](f)(x), expected.astype(dtype))
        assert whole.flags.writeable


@pytest.mark.parametrize("size", [3, 5000, 200_000])
@pytest.mark.parametrize("mode", PROGRAMS)
def test_programs_read_copies_of_what_is_read_only_to_some(mode: str, size: int) -> None:
    buffer, x = np.zeros(size), np.ones(size)
    view = buffer[:]
    buffer.flags.writeable = False
    run = PROGRAMS[mode](lambda x: x * x + x * buffer)
    first = run(x)
    view[0] = 5.0
    np.testing.assert_array_equal(run(x), first)
    np.testing.assert_array_equal(fg.grad(lambda x: np.sum(run(x)))(x), np.full(size, 2.0))
    pull = fg.vjp(lambda x: x * buffer, x)[1]
    view[0] = 7.0
    np.testing.assert_array_equal(pull(x)[0][0], 5.0)


def test_single_writes_are_found_where_there_is_a_copy() -> None:
    for transform in (lambda f, x: fg.vjp(f, x), lambda f, x: fg.linearize(f, x)):
        buffer = np.zeros(500_000)
        view = buffer[:]

        def f(x: Any, buffer: Any = buffer, view: Any = view) -> Any:
            y = x * buffer
            view[1] = 1.0
            return y + x * buffer

        with pytest.raises(errors.CapturedWriteError):
            transform(f, np.ones(500_000))
        assert buffer.flags.writeable
