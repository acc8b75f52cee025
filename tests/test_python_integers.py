"""Python integers beside narrow dtypes: compared exactly, else NumPy's result or its error."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import funcgrad as fg
from _modes import MODES, check, outcome
from _versions import since
from funcgrad.errors import ArgumentError, IntegerRangeError, NotAnArrayError

U8 = np.array([200, 100, 0, 255], np.uint8)
I8 = np.array([-128, 5, 127], np.int8)
U64 = np.array([0, 2**63, 2**64 - 1, 7], np.uint64)
I64 = np.array([-1, 2**63 - 1, -(2**63), 7])
F32 = np.array([1, 2, 300, np.inf], np.float32)
EDGES = [0, 127, 128, 255, 256, 300, -1, -128, -129, 2**31, 2**63 - 1, -(2**63)]
HUGE = [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**70, -(2**70)]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
JITTED = ("numpy", "llvm")


@pytest.mark.parametrize("x", [U8, I8, U64, I64, F32], ids=lambda x: x.dtype.name)
def test_comparisons_with_literals(x):
    def compared(xp, x):
        return [c(*p) for c in COMPARISONS for n in (*EDGES, *HUGE) for p in ((x, n), (n, x))]

    check(compared, x)
    check(compared, x[1])


@pytest.mark.parametrize("x", [U8, I8, U64, I64, F32], ids=lambda x: x.dtype.name)
def test_comparisons_with_traced_integers(x):
    check(lambda xp, x, *ns: [c(x, n) for c in COMPARISONS for n in ns], x, *EDGES)
    check(lambda xp, x, *ns: [c(n, x) for c in COMPARISONS for n in ns], x[1], *EDGES)


def test_unsigned_against_signed():
    arrays = [U64, I64, np.int8([-1, 0, 7, 8]), np.uint8([255, 0, 7, 8])]
    check(lambda xp, *xs: [c(x, y) for c in COMPARISONS for x in xs for y in xs], *arrays)
    check(
        lambda xp, *xs: [c(x, y) for c in COMPARISONS for x in xs for y in xs],
        *(x[0] for x in arrays),
    )


OPERATIONS = {
    "add": lambda xp, x, n: x + n,
    "sub": lambda xp, x, n: n - x,
    "floor_divide": lambda xp, x, n: x // n,
    "remainder": lambda xp, x, n: n % x,
    "power": lambda xp, x, n: x**n,
    "and": lambda xp, x, n: n & x,
    "divmod": lambda xp, x, n: xp.divmod(x, n),
    "gcd": lambda xp, x, n: xp.gcd(x, n),
    "maximum": lambda xp, x, n: xp.maximum(x, n),
    "fmin": lambda xp, x, n: xp.fmin(n, x),
    "divide": lambda xp, x, n: x / n,
    "hypot": lambda xp, x, n: xp.hypot(x, n),
    "logical_and": lambda xp, x, n: xp.logical_and(x, n),
    "where": lambda xp, x, n: xp.where(x > 1, n, x),
    "pad": lambda xp, x, n: xp.pad(x, 1, constant_values=n),
    "insert": lambda xp, x, n: xp.insert(x, 1, n),
    "max": lambda xp, x, n: xp.max(x, initial=n),
    "searchsorted": lambda xp, x, n: xp.searchsorted(xp.sort(x), n),
    "concatenate": lambda xp, x, n: xp.concatenate([x, xp.stack([n])]),
    "select": lambda xp, x, n: xp.select([x > 1], [x], n),
    "choose": lambda xp, x, n: xp.choose(x > 1, [x, n]),
    "outer": lambda xp, x, n: xp.multiply.outer(x, n),
    **since(
        "2.1.0",
        {
            "clip": lambda xp, x, n: xp.clip(x, 0, n),
            "clip from": lambda xp, x, n: xp.clip(x, n, 200),
            "full_like": lambda xp, x, n: xp.full_like(x, n),
        },
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    function = OPERATIONS[name]
    for x in (U8, I8):
        for n in (3, 300, -1):
            check(lambda xp, x, n=n: function(xp, x, n), x)
            check(function, x, n)


def test_more_than_64_bits():
    for f in (lambda xp, x: x + 2**70, lambda xp, x: xp.maximum(2**64, x)):
        for x in (U8, U64, I64, F32):
            check(f, x)
    check(lambda xp, x: x + 2**63, U64)
    check(lambda xp, x: x + 2**63, I64)


@pytest.mark.parametrize("x", [I64, U8, U8 > 0, U64, F32], ids=lambda x: x.dtype.name)
def test_arguments_of_more_than_64_bits_under_vmap(x):
    functions = [lambda xp, x, n: x + n, lambda xp, x, n: xp.multiply(n, x)]
    for function in functions:
        for n in (2**63, -(2**63) - 1):
            check(function, x, n, modes=("vmap",))


@pytest.mark.skipif(not since("2.1.0", {"": None}), reason="older NumPy refuses such bounds")
def test_bounds_that_have_no_value_yet():
    def clipped(xp, x, low, high):
        return xp.clip(x, low, high), x.clip(low), xp.clip(x, max=high)

    check(clipped, U8, -5, 300)
    check(clipped, I8, -300, 127)
    check(clipped, U64, -5, 300)


def _taken(mode):
    return lambda xp, x, i: xp.take(x, i, mode=mode)


@pytest.mark.parametrize("mode", ["clip", "wrap"])
def test_take_from_more_than_the_indices_can_count(mode):
    long = np.arange(300)
    check(_taken(mode), long, U8)
    check(_taken(mode), long, I8)
    check(_taken(mode), long[:7], U8)
    check(lambda xp, i, x: xp.choose(i, [x, x + 1], mode=mode), np.uint8([255, 0, 1]), np.ones(3))


def _added(x, value):
    x = x.copy()
    x[:1] += value
    return x


@pytest.mark.parametrize("value", [7, 300, -1])
def test_updates(value):
    wanted = outcome(lambda: _added(U8, value))
    functions = {
        "add": lambda x, n: fg.at(x)[0].add(n),
        "set": lambda x, n: fg.at(x)[0].set(n),
        "set many": lambda x, n: fg.at(x)[:2].set([n, 1]),
    }
    for name, f in functions.items():
        for mode, run in MODES.items():
            for got in (
                outcome(lambda f=f, run=run: run(lambda xp, x: f(x, value), (U8,))),
                outcome(lambda f=f, run=run: run(lambda xp, x, n: f(x, n), (U8, value))),
            ):
                if isinstance(wanted, OverflowError):
                    assert isinstance(got, OverflowError), (name, mode, got)
                else:
                    first = wanted[0] if name == "add" else value
                    assert got.dtype == np.uint8 and got[0] == first, (name, mode, got)


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float64"])
def test_updates_with_more_than_64_bits(dtype, value):
    x = np.ones(3, dtype)

    def assigned():
        y = x.copy()
        y[0] = value
        return y

    wanted = outcome(assigned)
    for mode, run in MODES.items():
        got = outcome(lambda run=run: run(lambda xp, x: fg.at(x)[0].set(value), (x,)))
        if isinstance(wanted, OverflowError):
            assert isinstance(got, IntegerRangeError), (mode, got)
        else:
            np.testing.assert_array_equal(got, wanted, strict=True)
    if dtype == "float64":
        gradient = fg.grad(lambda x: np.sum(fg.at(x)[0].set(value) * x))(x)
        np.testing.assert_array_equal(gradient, [float(value), 2.0, 2.0])


NO_NUMBERS = ["a", None, [None, 1], [2**70, 1], np.array(["a", "b"])]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_updates_with_no_numbers(value):
    for mode, run in MODES.items():
        got = outcome(lambda run=run: run(lambda xp, x: fg.at(x)[:2].set(value), (np.ones(3),)))
        assert isinstance(got, NotAnArrayError), (mode, got)


@pytest.mark.parametrize("value", [*HUGE, 0, -1])
def test_signs_of_large_integers_have_derivatives(value):
    def f(x):
        return np.copysign(x, value)

    x, sign = np.array([2.0, -3.0]), -1.0 if value < 0 else 1.0
    want = np.array([sign, -sign])
    for g in (f, *(fg.jit(f, backend=b) for b in JITTED)):
        np.testing.assert_array_equal(fg.jvp(g, (x,), (np.ones(2),))[1], want)
        np.testing.assert_array_equal(fg.vjp(g, x)[1](np.ones(2))[0], want)
        np.testing.assert_array_equal(fg.vmap(fg.grad(g))(x), want)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int64])
def test_switch_on_narrow_indices(dtype):
    branches = [lambda k=k: np.int64(k) for k in range(300)]
    limits = np.iinfo(dtype)
    for i in (0, 1, 127, min(limits.max, 2**64 - 1), limits.min):
        want = min(max(i, 0), 299)
        index = dtype(i)
        assert fg.switch(index, branches) == want
        for backend in JITTED:
            assert fg.jit(lambda i: fg.switch(i, branches), backend=backend)(index) == want
        assert (
            fg.vmap(lambda i: fg.switch(i, branches))(np.array([i, 0], dtype)) == [want, 0]
        ).all()


def test_loops_count_in_the_dtype_of_their_bounds():
    def count(low, high):
        return fg.fori_loop(low, high, lambda i, n: n + 1, 0)

    assert count(np.uint8(0), 255) == 255
    for backend in JITTED:
        assert fg.jit(count, backend=backend)(np.uint8(0), 255) == 255
        with pytest.raises(OverflowError, match="300 out of bounds for uint8"):
            fg.jit(count, backend=backend)(np.uint8(0), 300)
    with pytest.raises(IntegerRangeError, match="300 out of bounds for uint8"):
        count(np.uint8(0), 300)
    with pytest.raises(ArgumentError, match="no integer dtype holds both"):
        count(np.uint64(0), np.int64(3))


@pytest.mark.parametrize("backend", JITTED)
def test_a_step_that_is_no_narrow_integer_ends_the_loop(backend):
    @fg.jit(backend=backend)
    def total(x, n):
        return fg.fori_loop(0, 400, lambda i, x: x | i + n, x)

    np.testing.assert_array_equal(total(np.uint16([1, 2]), 3), [511, 511])
    with pytest.raises(OverflowError, match="Python integer 65536 out of bounds for uint16"):
        total(np.uint16([1, 2]), 65_530)
    with pytest.raises(OverflowError, match="Python integer -3 out of bounds for uint16"):
        total(np.uint16(1), -3)


@pytest.mark.parametrize("backend", JITTED)
def test_errors_name_the_line(backend):
    f = fg.jit(lambda x, n: x + n, backend=backend)
    assert f(np.int16(1), 300) == 301
    for n, message in (
        (70_000, "Python integer 70000 out of bounds for int16"),
        (-40_000, "Python integer -40000 out of bounds for int16"),
        (2**70, f"Python integer {2**70} out of bounds for int64"),
    ):
        with pytest.raises(IntegerRangeError, match=f"{message}[^$]*test_python_integers.py"):
            f(np.int16(1), n)
    with pytest.raises(
        IntegerRangeError, match=r"300 out of bounds for uint8[^$]*test_python_integ"
    ):
        fg.jit(lambda x: x + 300, backend=backend)(U8)
