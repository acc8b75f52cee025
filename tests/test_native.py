"""Programs as machine code compute what NumPy does: sizes, layouts, values at the edges."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad as fg
from array_programs import ArrayProgram, array_programs, check_arrays
from funcgrad.scipy.special import logsumexp

pytest.importorskip("llvmlite")

jit = partial(fg.jit, backend="llvm")

# Around the widths of vectors, of unrolled ones, and of what threads and blocks take.
SIZES = [*range(1, 71), 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097]
LARGE = [65535, 65536, 65537]


def array(shape: Any, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(dtype)


def check(function: Callable[..., Any], *args: Any, tol: float = 1e-12) -> None:
    """Equal to plain NumPy in values, shapes and dtypes; the arguments stay as they are."""
    before = [np.copy(a) for a in args]
    with np.errstate(all="ignore"):
        expected = function(*args)
    found = jit(function)(*args)
    for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        f, e = np.asarray(f), np.asarray(e)
        assert (f.shape, f.dtype) == (e.shape, e.dtype)
        if e.dtype.kind in "fc":
            rtol = max(tol, 8 * float(np.finfo(e.dtype).eps))
            np.testing.assert_allclose(f, e, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(f, e)
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b)


# --- sizes ------------------------------------------------------------------------------


def by_size(x: Any) -> Any:
    y = np.tanh(x) * 2.0
    return y, np.sum(y), np.max(x), y[::-1] + x, np.argmax(x), x > 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [*SIZES, *LARGE])
def test_vectors(n: int, dtype: Any) -> None:
    check(by_size, array(n, dtype), tol=1e-5 if dtype is np.float32 else 1e-12)


def by_rows(x: Any, row: Any, column: Any) -> Any:
    y = np.sin(x * row) + column
    mean = np.mean(y, axis=1, keepdims=True)
    top = np.max(y, axis=0)
    return y - mean, np.sum(y, axis=0), top, np.sum(y), y.T * column[:, 0], logsumexp(y, axis=1)


SHAPES = [
    (1, 1), (1, 7), (7, 1), (3, 5), (2, 33), (33, 2), (17, 16), (16, 17), (5, 129), (129, 5),
    (31, 33), (64, 65), (257, 255), (3, 4097), (4097, 3), (2, 65537), (65537, 2),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices(shape: tuple[int, int]) -> None:
    m, n = shape
    check(by_rows, array(shape), array((n,), seed=1), array((m, 1), seed=2), tol=1e-11)


def by_blocks(x: Any, y: Any) -> Any:
    z = x * y
    return [np.sum(z, axis=a) for a in (0, 1, 2, (0, 1), (0, 2), (1, 2), None)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (16, 2, 9), (2, 31, 17), (40, 3, 65)])
def test_three_axes(shape: tuple[int, int, int]) -> None:
    a, b, c = shape
    for other in (shape, (c,), (b, 1), (a, 1, c), (1, b, 1)):
        check(by_blocks, array(shape), array(other, seed=1), tol=1e-11)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_nothing(shape: tuple[int, ...]) -> None:
    check(lambda x: (np.sin(x), np.sum(x), np.sum(x, axis=-1), x.T, x > 0), array(shape))
    check(lambda x, y: x @ y, np.ones((3, 0)), np.ones((0, 2)))


@pytest.mark.parametrize("rows", [40, 400, 4097])
def test_short_last_axes(rows: int) -> None:
    """Such an axis is no loop of its own: its elements are computed side by side."""
    x = array((rows, 3))
    check(lambda x: (np.sum(np.sin(x)), logsumexp(np.sin(x), axis=1)), x, tol=1e-11)
    check(lambda x: (np.sum(x * x), np.max(x), np.sum(x, axis=0), np.sum(x, axis=1)), x, tol=1e-11)
    check(lambda x: x - np.mean(x, axis=1, keepdims=True) + np.prod(1.0 + x * 1e-3), x, tol=1e-11)


def test_what_is_computed_again_reaches_into_other_clusters() -> None:
    def normalised(x: Any) -> Any:
        y = np.clip(x, -0.5, 0.7)
        centred = y - np.mean(y, axis=0, keepdims=True)
        return centred / np.sqrt(np.var(y, axis=0, keepdims=True) + 1.0)

    check(normalised, array((7, 7)))
    check(normalised, array((70, 70)))


@pytest.mark.parametrize("shape", [(), (3,), (100,)])
def test_loops_and_branches_on_computed_values(shape: tuple[int, ...]) -> None:
    def branch(x: Any) -> Any:
        a = np.abs(x)
        return fg.cond(np.sum(a) > 9, lambda a: np.sin(a) * a, lambda a: a - np.cos(a), a)

    def loops(x: Any) -> Any:
        a, b = np.abs(x), np.tanh(x)
        y = fg.fori_loop(0, 3, lambda i, c: c * a + b, a)
        return y, fg.scan(lambda c, i: (np.sin(c) + b, c * a), y, None, length=4)

    for size in (1.0, 100.0):
        x = array(shape) * size
        check(branch, x)
        found, expected = jit(loops)(x), fg.jit(loops, backend="numpy")(x)
        for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-10)


# --- layouts ----------------------------------------------------------------------------


def layouts(x: np.ndarray) -> Iterator[np.ndarray]:
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield np.ascontiguousarray(x[::-1])[::-1]
    yield np.ascontiguousarray(x.T).T
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    memory = bytearray(x.nbytes + 1)
    unaligned = np.frombuffer(memory, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    yield unaligned


@pytest.mark.parametrize("shape", [(4, 5), (40, 50)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_])
def test_layouts(shape: tuple[int, int], dtype: Any) -> None:
    f = jit(lambda x, y: (x * 2 + y, np.sum(x, axis=0), y.T))
    x, y = array(shape) > 0, array(shape, seed=1) > 0
    x, y = x.astype(dtype), y.astype(dtype)
    expected = f(x, y)
    for other in layouts(x):
        for found in (f(other, y), f(x, other), f(other, other)):
            assert all(r.flags.c_contiguous and r.flags.writeable for r in found)
        for a, b in zip(f(other, y), expected, strict=True):
            np.testing.assert_array_equal(a, b)
        # What is seen through a layout is what counts, whatever lies around it.
        for a, b in zip(f(y, other), f(y, x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_overlapping_arguments() -> None:
    whole = array(200)
    f = jit(lambda x, y: (x - y, y * 2.0, x))
    for x, y in ((whole[:100], whole[50:150]), (whole, whole), (whole[::-1], whole)):
        for found, e in zip(f(x, y), (x - y, y * 2.0, x), strict=True):
            np.testing.assert_array_equal(found, e)
            assert not np.may_share_memory(found, whole)


def test_repeated_elements() -> None:
    check(lambda x: np.sin(x) * 2.0, np.broadcast_to(array(50), (20, 50)))
    windows = np.lib.stride_tricks.sliding_window_view(array(60), 20)
    check(lambda x: np.sum(x, axis=0), windows)


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_orders(order: str) -> None:
    x = array(50).astype(f"{order}f8")
    np.testing.assert_array_equal(jit(lambda x: x * 2.0)(x), x * 2.0)


# --- values at the edges ----------------------------------------------------------------

INF, NAN = np.inf, np.nan
EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    INF,
    -INF,
    NAN,
    1e-310,
    -1e-310,
    1e308,
    -1e308,
    5e-324,
    2.5,
    -2.5,
]
UNARY = [
    np.negative, np.abs, np.square, np.sqrt, np.sign, np.floor, np.ceil, np.trunc, np.rint,
    np.isnan, np.isinf, np.isfinite, np.signbit, np.reciprocal, np.exp, np.log, np.log1p, np.expm1,
    np.sin, np.cos, np.tan, np.tanh, np.arctan, np.arcsin, np.arccosh, np.exp2, np.log2, np.cbrt,
    np.logical_not, np.positive, np.spacing, np.sinh, np.arctanh,
]  # fmt: skip
BINARY = [
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.fmax, np.fmin,
    np.power, np.floor_divide, np.remainder, np.fmod, np.arctan2, np.hypot, np.copysign,
    np.logaddexp, np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.logical_and,
    np.logical_xor, np.nextafter, np.heaviside, np.float_power,
]  # fmt: skip


def assert_as_numpy(found: Any, expected: Any, *, rtol: float, signs: Any = True) -> None:
    """Equal with the signs of zeros, where `signs`; a NaN is one whatever its sign."""
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-320)
    if expected.dtype.kind == "f":
        known = ~np.isnan(expected) & signs
        np.testing.assert_array_equal(np.signbit(found)[known], np.signbit(expected)[known])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("function", UNARY, ids=lambda f: f.__name__)
def test_one_operand(function: Any, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        x = np.array(EDGES).astype(dtype)
        try:
            expected = function(x)
            f = jit(lambda x: function(x))
            f.lower(x)
        except (fg.errors.UnsupportedFunctionError, TypeError):
            pytest.skip("not there")
    rtol = 4 * float(np.finfo(dtype).eps)
    for many in (1, 10):
        with np.errstate(all="ignore"):
            expected = function(np.tile(x, many))
        assert_as_numpy(f(np.tile(x, many)), expected, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
def test_two_operands(function: Any, dtype: Any) -> None:
    with np.errstate(all="ignore"):
        edges = np.array(EDGES).astype(dtype)
        x, y = (a.ravel() for a in np.meshgrid(edges, edges))
        try:
            expected = function(x, y)
            f = jit(lambda x, y: function(x, y))
            f.lower(x, y)
        except (fg.errors.UnsupportedFunctionError, TypeError):
            pytest.skip("not there")
    # Which of 0.0 and -0.0 is larger depends, in NumPy, on where in an array they are.
    signs = (x != y) | (function not in (np.maximum, np.minimum, np.fmax, np.fmin))
    rtol = 8 * float(np.finfo(dtype).eps)
    assert_as_numpy(f(x, y), expected, rtol=rtol, signs=signs)
    for k in range(0, len(x), 17):
        one = slice(k, k + 1)
        assert_as_numpy(f(x[one], y[one]), expected[one], rtol=rtol, signs=signs[one])


@pytest.mark.parametrize("n", [3, 15, 40, 1000])
@pytest.mark.parametrize("function", [np.sum, np.max, np.min, np.prod, np.any, np.all])
def test_reductions_of_edges(function: Any, n: int) -> None:
    f = jit(lambda x: (function(x), function(x, axis=0), function(x, axis=1)))
    for special in (NAN, INF, -INF, -0.0):
        x = np.ones((n, 15)) if function is not np.sum else np.full((n, 15), -0.0)
        x[n // 2, 7] = special
        for found, axis in zip(f(x), (None, 0, 1), strict=True):
            np.testing.assert_array_equal(found, function(x, axis=axis))


ON_ONE_INTEGER = "negative abs square sign invert logical_not bitwise_count"
ON_TWO_INTEGERS = (
    "add subtract multiply floor_divide remainder maximum minimum bitwise_and bitwise_or "
    "bitwise_xor less equal fmod divide logical_and"
)
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: Any) -> None:
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 100], dtype)
    if info.min < 0:
        edges = np.concatenate([edges, np.array([-1, -2, -3, -100], dtype)])
    x, y = (a.ravel() for a in np.meshgrid(edges, edges))

    def all_of(x: Any, y: Any) -> Any:
        pairs = [getattr(np, name)(x, y) for name in ON_TWO_INTEGERS.split()]
        return pairs, [getattr(np, name)(x) for name in ON_ONE_INTEGER.split()]

    check(all_of, x, y)
    check(all_of, x[:9], y[:9])
    shifts = (y.astype(np.uint64) % (8 * x.itemsize)).astype(dtype)
    check(lambda x, s: (np.left_shift(x, s), np.right_shift(x, s)), x, shifts)
    check(lambda x: (np.sum(x), np.prod(x), np.max(x), np.min(x), np.cumsum(x)), x)
    check(lambda x: [x.astype(d) for d in (*INTEGERS, np.float32, np.float64, np.bool_)], x)


def test_bools() -> None:
    x, y = array(70) > 0, array(70, seed=1) > 0
    check(lambda x, y: (x & y, x | y, x ^ y, ~x, x + y, x * y, x == y, x < y), x, y)
    check(lambda x: (np.sum(x), np.any(x), np.all(x), np.where(x, 1, 2), x * 1.5, x + 1), x)
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    np.testing.assert_array_equal(jit(np.logical_not)(odd[:2]), [True, False])


def test_mixed_dtypes() -> None:
    x, i, h = array(50), np.arange(50), array(50, np.float32)
    check(
        lambda x, i, h: (x + i, i * h, h + 1, h * 2.5, i / 3, x > h, np.where(i > 9, h, x)), x, i, h
    )
    check(lambda h: (h + np.float64(1.0), np.sum(h), np.mean(h)), h, tol=1e-6)


# --- numbers ----------------------------------------------------------------------------


NUMBERS = [
    1.5, 2, -3, True, np.float32(1.5), np.float64(2.5), np.int8(-3), np.uint16(9), np.bool_(True),
    np.array(1.5), np.array(3), np.array(True), np.array(2.5, np.float32), 2**40, -(2**40),
    1 + 2j, np.complex64(1 - 2j), np.complex128(3j), np.float16(1.5), np.longdouble(2.5),
]  # fmt: skip


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers(value: Any) -> None:
    f = jit(lambda v, x: (v * x, v + v, v == 0))
    with np.errstate(all="ignore"):
        for x in (2.0, 3, np.float32(0.5), array(50), array(3, np.float32)):
            try:
                expected = (value * x, np.add(value, value), np.equal(value, 0))
            except OverflowError:
                continue
            for found, e in zip(f(value, x), expected, strict=True):
                assert found.dtype == np.asarray(e).dtype
                np.testing.assert_array_equal(found, e)


def test_integers_that_are_too_large() -> None:
    with pytest.raises((OverflowError, fg.errors.FuncgradError)):
        jit(lambda n: n + 1)(2**63)


def test_views_of_numbers() -> None:
    x = array((3, 4))
    check(lambda a: a * 2.0, x[1, 2:3].reshape(()))
    check(lambda a: a * 2.0, np.frombuffer(bytearray(9), np.uint8)[1:].view(np.float64).reshape(()))


def test_arrays_in_files(tmp_path: Any) -> None:
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(1,))
    x[:] = 7.0
    f = jit(lambda x: x * 2.0)
    for found, expected in ((f(x), [14.0]), (f(x.reshape(())), 14.0)):
        assert not isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, expected)


# --- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 40, 70000])
def test_indices_out_of_range(n: int) -> None:
    f = jit(lambda x, i: np.sin(x)[i] * 2.0)
    x, i = array(10), np.zeros(n, np.int64)
    for bad in (10, 11, -11, 2**40, -(2**62)):
        i[n // 2] = bad
        with pytest.raises(IndexError):
            f(x, i)
    i[n // 2] = -10
    np.testing.assert_allclose(f(x, i), np.sin(x)[i] * 2.0)


def test_errors_of_numpys_functions_come_through() -> None:
    class Refuses(Exception):
        pass

    def refuse(*args: Any, **params: Any) -> Any:
        if refuses:
            raise Refuses("no")
        return original(*args, **params)

    f = jit(lambda x: np.sin(np.sort(x)) * 2.0)
    x = array(100)
    np.testing.assert_allclose(f(x), np.sin(np.sort(x)) * 2.0)
    from funcgrad.primitives.sorting import sort

    g = jit(lambda x: np.sin(np.sort(x * 2.0)))
    original, refuses = sort.impl, True
    try:
        sort.impl = refuse
        for _ in range(3):
            with pytest.raises(Refuses):
                g(x)
    finally:
        sort.impl = original
    refuses = False
    np.testing.assert_allclose(g(x), np.sin(np.sort(x * 2.0)))


# --- memory and threads -----------------------------------------------------------------


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_does_not_grow() -> None:
    many = jit(lambda x, n: (np.sin(x) * n, np.sum(x), x[::-1], np.sort(x), n * 2))
    failing = jit(lambda x, i: x[i])
    x, strided, bad = array(2000), array(4000)[::2], np.full(50, 9999)

    def rounds(count: int) -> None:
        for _ in range(count):
            many(x, 2.0)
            many(strided, 2.0)
            with contextlib.suppress(IndexError):
                failing(x, bad)

    rounds(500)
    gc.collect()
    before = resident()
    rounds(3000)
    gc.collect()
    assert resident() - before < 4 << 20


def test_programs_go_when_nobody_has_them() -> None:
    x = array(10)

    def rounds(count: int) -> None:
        for _ in range(count):
            jit(lambda x: np.sin(x) * 2.0)(x)

    rounds(5)
    gc.collect()
    before = resident()
    rounds(50)
    gc.collect()
    assert resident() - before < 6 << 20


def test_threads_call_the_same_function() -> None:
    f = jit(lambda x, y: (np.tanh(x @ y), np.sum(np.exp(x), axis=1), np.sort(y, axis=0)))
    inputs = [(array((60, 70), seed=k), array((70, 80), seed=9 + k)) for k in range(4)]
    expected = [f(*args) for args in inputs]
    wrong: list[Any] = []

    def work(k: int) -> None:
        for _ in range(150):
            found = f(*inputs[k])
            if not all(map(np.array_equal, found, expected[k])):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        y = np.exp(np.sin(x))
        return np.sum(y), np.sum(y, axis=0), np.sum(y, axis=1), fg.grad(lambda x: np.sum(x**3))(x)

    x = array((700, 900), np.float32)
    compiled = jit(f)
    before = fg.config.num_threads
    try:
        results = []
        for number in (1, 2, 3):
            fg.config.num_threads = number
            results.append(compiled(x))
    finally:
        fg.config.num_threads = before
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


# --- at random --------------------------------------------------------------------------


@given(array_programs())
@settings(max_examples=80)
def test_random_programs_on_arrays(program: ArrayProgram) -> None:
    check_arrays(program)
