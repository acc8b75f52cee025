"""Compiled programs and memory: inputs are only read, results are arrays of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad as fg
from programs import Operation, Program, programs

pytestmark = pytest.mark.usefixtures("by_each_backend")

# Large enough for buffers to be written to again.
N = 64
SIDE = (N, N)
CONSTANT = np.linspace(0.0, 1.0, N * N).reshape(SIDE)


def large(seed: int = 0, shape: tuple[int, ...] = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)


def same_operand_twice(x, y):
    a = x + y
    b = a * a
    return b - b / (b + 2.0)


def transposed_beside_itself(x, y):
    a = x * y
    return a + a.T


def view_outlives_its_array(x, y):
    a = x + y
    row = a[3]
    b = a * 2.0
    c = b * 3.0
    return c * 4.0 + row


def view_of_a_view(x, y):
    a = x + y
    tail = a.T[1:][:, ::2]
    b = np.exp(a)
    c = b * 2.0
    return np.sum(tail) + c


def broadcast_operand(x, y):
    a = np.sum(x * y, axis=0)
    b = np.broadcast_to(a, SIDE)
    c = b * 2.0
    return c + b


def reversed_in_place(x, y):
    a = x * y
    return a - a[::-1]


def products(x, y):
    a = x @ y
    b = np.tanh(a)
    c = b @ a
    d = np.tanh(c) @ b
    return d * a


def many_temporaries(x, y):
    a = x
    for i in range(12):
        a = np.sin(a * y) + a.T * float(i)
    return a


def several_results(x, y):
    a = np.sin(x) * y
    b = a * a
    c = b + 1.0
    return a, b, c, c.T, a[0], b[:, 1]


def mixed_dtypes(x, y):
    a = (x * y).astype(np.float32)
    b = a * a
    return b.astype(np.float64) + x, b > 0.1


def constant_operand(x, y):
    a = x * CONSTANT
    return a + CONSTANT * y, CONSTANT.T


def branches(x, y):
    a = x * y
    b = fg.cond(np.sum(a) > 0, lambda: a, lambda: a * 2.0)
    c = a * 3.0
    d = c * 4.0
    return d + b


def branch_gives_an_argument(x, y):
    picked = fg.cond(np.sum(x) > 0, lambda: x, lambda: y)
    a = picked * 2.0
    return a * 3.0, picked


def loop_carries_an_argument(x, y):
    a, b = fg.fori_loop(0, 3, lambda i, c: (c[1], c[0] + c[1]), (x, y))
    return a * b, a


def loop_keeps_part_of_the_carry(x, y):
    h = x + y
    kept, total = fg.fori_loop(0, 3, lambda i, c: (c[0], c[1] + c[0]), (h, x * y))
    a = x * 5.0
    b = a * 6.0
    return b * kept, total


def loop_never_runs(x, y):
    h = x * y
    out = fg.fori_loop(0, 0, lambda i, c: c * 2.0, h)
    a = np.sin(x) * 2.0
    b = a * 3.0
    return out + b, out


def while_loop(x, y):
    h = x * y
    out = fg.while_loop(lambda c: np.sum(np.abs(c)) < 1e6, lambda c: c * 8.0 + 1.0, h)
    other = fg.while_loop(lambda c: np.sum(c) > 1e9, lambda c: c * 8.0, h)
    a = x + 1.0
    b = a * 2.0
    return out, other * b, h


def scanned(x, y):
    def step(c, row):
        a = c * row
        b = a + 1.0
        return np.tanh(b) * c, (a, c)

    return fg.scan(step, y, np.stack([x, y, x]))


def checkpointed(x, y):
    block = fg.checkpoint(lambda a, b: np.sin(a * b) * a)
    a = block(x, y)
    return block(a, a) + a


PROGRAMS = [
    same_operand_twice,
    transposed_beside_itself,
    view_outlives_its_array,
    view_of_a_view,
    broadcast_operand,
    reversed_in_place,
    products,
    many_temporaries,
    several_results,
    mixed_dtypes,
    constant_operand,
    branches,
    branch_gives_an_argument,
    loop_carries_an_argument,
    loop_keeps_part_of_the_carry,
    loop_never_runs,
    while_loop,
    scanned,
    checkpointed,
]


def results_of(function: Callable[..., Any], *args: Any) -> list[Any]:
    return fg.tree.leaves(function(*args))


def assert_own_memory(results: list[Any], others: list[Any]) -> None:
    """Results can be written to, and writing to one changes nothing else."""
    arrays = [r for r in results if isinstance(r, np.ndarray)]
    for i, result in enumerate(arrays):
        assert result.flags.writeable
        assert 0 not in result.strides or result.size == 0
        for other in [*others, *arrays[i + 1 :]]:
            assert not np.shares_memory(result, other)


def check(function: Callable[..., Any], *args: Any, rtol: float = 1e-12) -> None:
    """Compiled and plain agree, inputs and constants stay as they were, results are fresh."""
    before, constant = [a.copy() for a in args], CONSTANT.copy()
    expected = results_of(function, *args)
    jitted = fg.jit(function)
    results_of(jitted, *args)
    found = results_of(jitted, *args)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == np.asarray(e).dtype
        np.testing.assert_allclose(f, e, rtol=rtol, atol=1e-12)
    for a, b in zip([*args, CONSTANT], [*before, constant], strict=True):
        np.testing.assert_array_equal(a, b)
    assert_own_memory(found, [*args, CONSTANT])


@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(function: Any) -> None:
    check(function, large(1), large(2))


@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_arguments_that_share_memory(function: Any) -> None:
    x = large(3)
    check(function, x, x)
    check(function, x, x.T)


@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_layouts(function: Any) -> None:
    strided = large(4, (2 * N, 2 * N))[::2, ::-2]
    read_only = np.asfortranarray(large(5))
    read_only.flags.writeable = False
    check(function, strided, read_only)
    repeated = np.broadcast_to(large(6, (N,)), SIDE)
    check(function, repeated, strided.T)


@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients(function: Any) -> None:
    if function is while_loop:
        pytest.skip("reverse mode through while_loop is refused")

    def total(x, y):
        leaves = [leaf for leaf in results_of(function, x, y) if leaf.dtype.kind == "f"]
        return sum(np.sum(np.sin(leaf)) for leaf in leaves)

    # Sines of numbers of a million make a thousand rounding errors of one.
    check(fg.grad(total, argnums=(0, 1)), large(7) * 0.1, large(8) * 0.1, rtol=1e-8)


def test_large_programs_do_reuse_their_buffers() -> None:
    """What the tests above are about: without reuse they would test nothing."""
    text = fg.jit(many_temporaries, backend="numpy").lower(large(), large()).text
    assert text.count("out=") + text.count("+=") + text.count("*=") > 20
    loop = fg.jit(loop_keeps_part_of_the_carry, backend="numpy")
    text = loop.lower(large(), large()).text
    assert "*=" in text


# --- results ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: (x, x),
        lambda x: x.T,
        lambda x: x[0],
        lambda x: x.reshape(-1),
        lambda x: [x, x * 1.0, x + 0, x[...]],
        lambda x: np.broadcast_to(x[0], SIDE),
        lambda x: np.broadcast_to(x[0], SIDE).T[1:],
        lambda x: np.broadcast_to(np.sin(x[0]), SIDE).reshape(2, -1),
        lambda x: (x + 1.0, x + 1.0),
        lambda x: (lambda y: (y, y.T, y[0], y[1]))(x + 1.0),
        lambda x: np.split(x * 2.0, 4),
        lambda x: (CONSTANT, CONSTANT.T, CONSTANT[0]),
        lambda x: (np.zeros(SIDE), np.broadcast_to(3.0, SIDE), 1.5, True, np.float32(2.0)),
        lambda x: fg.stop_gradient(x),
        lambda x: fg.cond(x[0, 0] > 9, lambda: CONSTANT, lambda: x),
        lambda x: fg.scan(lambda c, r: (c, r), x, x),
        lambda x: fg.scan(lambda c, r: (r, c), x[0], x),
        lambda x: fg.scan(lambda c, r: ((c[1], c[1]), c), (x, x), None, length=2),
        lambda x: fg.fori_loop(0, 2, lambda i, c: CONSTANT, x),
        lambda x: fg.while_loop(lambda c: c[0, 0] > 9, lambda c: c + 1, x),
        lambda x: x[:0],
        lambda x: x[0, 0],
        lambda x: x.sum(),
    ],
)
def test_results_are_new_arrays(function: Any) -> None:
    check(function, large(9))


def test_results_of_shape_unit_are_numbers() -> None:
    f = fg.jit(lambda x, y: (x, y * 2, 1.5, np.float32(1), x > 0))
    for value in (2.0, np.float64(2.0), np.array(2.0)):
        for result in f(value, np.array(3)):
            assert isinstance(result, np.generic)


def test_writing_to_a_result_leaves_later_calls_alone() -> None:
    f = fg.jit(lambda x: (x, CONSTANT * 1.0, np.zeros(SIDE), x * 2.0))
    x = large(10)
    kept = x.copy()
    first = f(x)
    for result in first:
        result[...] = np.nan
    np.testing.assert_array_equal(x, kept)
    for result, expected in zip(f(x), (x, CONSTANT, np.zeros(SIDE), x * 2.0), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_captured_arrays_are_those_of_the_time_of_tracing() -> None:
    weight = np.ones(SIDE)
    f = fg.jit(lambda x: x * weight)
    x = large(11)
    before = f(x)
    weight[...] = 0.0
    np.testing.assert_array_equal(f(x), before)


# --- at random -------------------------------------------------------------------------


def _in_bulk(program: Program, size: int) -> Program:
    """The program on many examples side by side, as its steps run on arrays of any batch."""
    run = fg.vmap(program)
    operation = Operation("bulk", len(program.inputs), run)
    shapes = tuple((size, *s) for s in program.inputs)
    return Program(shapes, ((operation, tuple(range(len(shapes)))),), program.seed)


@given(programs())
@settings(max_examples=60)
def test_random_programs_on_large_arrays(program: Program) -> None:
    bulk = _in_bulk(program, 2500)
    check(bulk, *bulk.arguments())


@given(programs(smooth=True, max_steps=4))
@settings(max_examples=40)
def test_gradients_of_random_programs_on_large_arrays(program: Program) -> None:
    bulk = _in_bulk(program, 2500)
    gradient = fg.grad(lambda *xs: np.sum(bulk(*xs)), argnums=tuple(range(len(bulk.inputs))))
    check(gradient, *bulk.arguments())
