"""Programs that native code once got wrong."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from _processes import run_python

pytest.importorskip("llvmlite")

jit = partial(fg.jit, backend="llvm")


def test_values_of_unknown_dtypes_are_not_computed_again_in_kernels() -> None:
    x = np.linspace(0.0, 1.0, 63).reshape(7, 9).astype(np.float16)
    found = jit(np.mean)(x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.mean(x))


def test_parts_of_pythons_complex_numbers() -> None:
    def parts(z: Any) -> Any:
        return z.astype(np.float32), np.real(z), np.imag(z), np.conj(z)

    found = jit(parts)(1 + 2j)
    np.testing.assert_array_equal(found, [1, 1, 2, 1 - 2j])
    assert found[0].dtype == np.float32


@pytest.mark.parametrize("n", [3, 300])
def test_a_loop_ends_where_an_index_is_out_of_range(n: int) -> None:
    def by_test(x: Any, i: Any) -> Any:
        return fg.while_loop(lambda c: x[i + c[0]] < 99.0, lambda c: (c[0] + 1, c[1] + x), (0, x))

    def by_body(x: Any, i: Any) -> Any:
        return fg.while_loop(lambda v: v[0] < 99.0, lambda v: v + x[i], x)

    for function in (by_test, by_body):
        with pytest.raises(IndexError):
            jit(function)(np.zeros(n), 400)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64, np.int8])
def test_small_gathers_of_any_length(dtype: Any) -> None:
    f = jit(lambda x, i: (x[i], x[::-1][i[::-1]]))
    for n in range(1, 33):
        x, i = np.arange(n).astype(dtype) + 1, (np.arange(n) * 7) % n - n // 2
        for found, expected in zip(f(x, i), (x[i], x[::-1][i[::-1]]), strict=True):
            np.testing.assert_array_equal(found, expected)


FORKS = """
import os, threading
import numpy as np
import funcgrad as fg

fg.config.num_threads = 2
f = fg.jit(lambda x: np.tanh(x @ x) @ x, backend="llvm")
x = np.random.default_rng(0).normal(size=(150, 150))
expected, done = f(x), threading.Event()

def work():
    while not done.is_set():
        f(x)

workers = [threading.Thread(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
for _ in range(20):
    child = os.fork()
    if not child:
        os._exit(not np.array_equal(f(x), expected))
    assert os.waitpid(child, 0)[1] == 0
done.set()
for worker in workers:
    worker.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_matrix_products() -> None:
    """A child had no use of the library if another thread was setting its threads."""
    run_python(FORKS)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_small_gathers_at_constant_places(dtype: Any) -> None:
    """LLVM looked through a conversion of the indices, and failed again."""
    for n in range(2, 17):
        i = (np.arange(n) * 5) % 3 - n % 3
        f = jit(lambda a, i=i: np.take(np.broadcast_to(np.abs(a), (3,)), i))
        x = np.ones(1, dtype)
        np.testing.assert_array_equal(f(x), np.ones(n, dtype))


@pytest.mark.parametrize("to", [np.int8, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("start", [np.int64, np.uint64, np.int32, np.int16])
def test_a_last_number_that_is_narrowed_writes_nothing_behind_it(start: Any, to: Any) -> None:
    f = jit(lambda x, y: x.astype(to), donate_argnums=1)
    for n in (129, 257, 513, 1025):
        room = np.full(n + 8, 7, to)
        x = (np.arange(n) % 100).astype(start)
        np.testing.assert_array_equal(f(x, room[:n]), x.astype(to))
        np.testing.assert_array_equal(room[n:], 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 17])
def test_powers_to_constants_that_differ_between_elements(n: int, dtype: Any) -> None:
    # Small arrays are constants of the code; the first one's power is no rule for the others.
    x = np.linspace(1.0, 2.0, n, dtype=dtype)
    simple = np.resize(np.array([1, 2, 3, 0, -1, 0.5, 4, -2, 1.5, -0.5], dtype), n)
    for y in (simple, simple[::-1].copy(), np.full(n, 2.0, dtype), np.append(simple[:-1], [0.0])):
        y = y.astype(dtype)
        f = fg.jit(lambda x, y=y: x**y)
        np.testing.assert_allclose(f(x), x**y, rtol=1e-6)
        np.testing.assert_allclose(fg.vmap(f)(np.stack([x, x]))[1], x**y, rtol=1e-6)
        base = abs(y) + 1
        np.testing.assert_allclose(fg.jit(lambda x, b=base: b**x)(x), base**x, rtol=1e-5)
        slope = fg.jit(fg.grad(lambda x, y=y: np.sum(x**y)))(x)
        np.testing.assert_allclose(slope, y * x ** (y - 1), rtol=1e-5)
