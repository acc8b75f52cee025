"""Programs of many equations, as loops that a user wrote in Python leave them when traced.

What it takes to write them grows with their length, and what they repeat is compiled once.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from _processes import run_python

pytest.importorskip("llvmlite")

from funcgrad.backends.common.prepare import prepare
from funcgrad.backends.llvm import backend
from funcgrad.backends.llvm.program.main import MOST_LINES
from funcgrad.backends.llvm.program.native import Native
from funcgrad.backends.loops.fusion import repeated
from funcgrad.backends.loops.fusion.cuts import LONG, cuts
from funcgrad.backends.loops.fusion.partition import MOST_EQNS
from funcgrad.backends.loops.fusion.schedule import schedule
from funcgrad.backends.loops.nests.buffers import MOST_COMPARED, Buffer, allocate

Function = Callable[..., Any]
X = np.linspace(0.1, 0.9, 1000)
SQUARE = np.random.default_rng(0).normal(0, 0.1, (64, 64))
CELL = np.random.default_rng(1).normal(0, 0.5, (4, 4))


def numbers(steps: int) -> tuple[Function, Any]:
    def f(x: Any) -> Any:
        for i in range(steps):
            x = np.sin(x) * 0.9 + (i % 7) * 0.1
        return x

    return f, (0.5,)


def cells(steps: int) -> tuple[Function, Any]:
    def f(w: Any, x: Any) -> Any:
        h = np.zeros(4)
        for t in range(steps):
            h = np.tanh(w @ h + x[t % 5])
        return np.sum(h)

    return fg.grad(f), (CELL, np.linspace(0, 1, 20).reshape(5, 4))


def vectors(steps: int) -> tuple[Function, Any]:
    def f(x: Any) -> Any:
        y = x
        for _ in range(steps):
            y = np.sin(y) * x + 0.1
        return y

    return f, (X,)


def rows(steps: int) -> tuple[Function, Any]:
    """Each sum ends a kernel, and all kernels read one array."""

    def f(x: Any) -> Any:
        y = x
        for _ in range(steps):
            y = np.tanh(y * x) + 0.5 * np.mean(y)
        return y

    return f, (X,)


def products(steps: int) -> tuple[Function, Any]:
    def f(w: Any, x: Any) -> Any:
        for _ in range(steps):
            x = np.tanh(w @ x)
        return x

    return f, (SQUARE, SQUARE)


# Each with the steps that make a program which is cut.
PROGRAMS: dict[str, tuple[Callable[[int], tuple[Function, Any]], int]] = {
    "numbers": (numbers, 250),
    "cells": (cells, 100),
    "vectors": (vectors, 250),
    "rows": (rows, 150),
    "products": (products, 300),
}


@cache
def functions(name: str, factor: int) -> dict[str, str]:
    """The functions of a program of so many times the steps."""
    make, steps = PROGRAMS[name]
    f, args = make(factor * steps)
    graph = prepare(fg.make_graph(f)(*args))
    assert len(graph.eqns) > LONG
    return Native(graph, False).emitter.module.functions


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of the backends' code run, each time that they do."""
    count = 0

    def local(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return local

    def trace(frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        # Plans are checked in tests only.
        return local if "backends" in name and not name.endswith("check.py") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", PROGRAMS)
def test_writing_twice_as_long_a_program_takes_twice_as_many_lines(name: str) -> None:
    make, steps = PROGRAMS[name]
    graphs = []
    for count in (steps, 2 * steps):
        f, args = make(count)
        graphs.append(prepare(fg.make_graph(f)(*args)))
    once, twice = (lines_run(lambda graph=graph: Native(graph, False)) for graph in graphs)
    assert twice < 2.2 * once


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_repeats_is_written_once(name: str) -> None:
    short, long = (
        sum(len(t) for key, t in found.items() if re.match("small|kernel|product", key))
        for found in (functions(name, 2), functions(name, 4))
    )
    assert long < 1.2 * short


@pytest.mark.parametrize("name", PROGRAMS)
def test_functions_do_not_grow_with_the_program(name: str) -> None:
    short, long = (
        max(text.count("\n") for text in found.values())
        for found in (functions(name, 2), functions(name, 4))
    )
    assert long < max(1.2 * short, 1.5 * MOST_LINES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_long_programs_compute_what_numpy_does(name: str) -> None:
    make, steps = PROGRAMS[name]
    f, args = make(steps)
    np.testing.assert_allclose(fg.jit(f)(*args), f(*args), rtol=1e-9)


def test_a_chain_that_is_deeper_than_pythons_stack() -> None:
    def f(x: Any) -> Any:
        for _ in range(2 * sys.getrecursionlimit()):
            x = x * 0.999 + 0.001
        return x

    np.testing.assert_allclose(fg.jit(f)(X), f(X), rtol=1e-9)


def test_short_programs_are_not_cut() -> None:
    f, args = numbers(MOST_EQNS)
    assert cuts(prepare(fg.make_graph(f)(*args)).eqns) == set()


def test_equal_steps_are_cut_at_equal_places() -> None:
    f, args = numbers(1000)
    eqns = prepare(fg.make_graph(f)(*args)).eqns
    names = [eqns[allocate].prim.name for allocate in sorted(cuts(eqns))]
    assert len({*names[1:]}) == 1


def test_many_buffers_share_places_while_none_that_is_alive_does() -> None:
    rng = np.random.default_rng(0)
    buffers = [Buffer(np.dtype(float), int(n)) for n in rng.integers(1, 100, 3 * MOST_COMPARED)]
    uses = [buffers[max(n - 5, 0) : n + 1] for n in range(len(buffers))]
    found = allocate(uses)
    assert found.size < sum(b.nbytes for b in buffers) / 10
    for used in uses:
        spans = sorted((found.offsets[b], found.offsets[b] + b.nbytes) for b in used)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_an_index_out_of_range_late_in_a_long_program() -> None:
    def f(x: Any, i: Any) -> Any:
        for _ in range(2000):
            x = np.tanh(x) + 0.1
        return x[i] + 1

    program = fg.jit(f)
    assert program(X, 3).shape == ()
    with pytest.raises(IndexError):
        program(X, 1000)


def test_pieces_that_differ_in_a_number_are_told_apart() -> None:
    numbers_used = [0.5, 0.25, -0.0, 0.0]

    def f(x: Any) -> Any:
        total = 0.0
        for i in range(600):
            x = np.tanh(x * numbers_used[(i // 37) % 4]) + np.copysign(0.1, numbers_used[i % 3])
            total = total + x
        return total

    for start in (0.3, -0.3, X):
        np.testing.assert_allclose(fg.jit(f)(start), f(start), rtol=1e-12)


def test_pieces_that_read_other_elements_are_written_once() -> None:
    def f(x: Any) -> Any:
        total = 0.0
        for i in range(300):
            total = np.tanh(total + x[i, 1:4])
        return total

    x = np.linspace(-1, 1, 1500).reshape(300, 5)
    graph = prepare(fg.make_graph(f)(x))
    names = Native(graph, False).emitter.module.functions
    assert sum(name.startswith("small") for name in names) < 8
    np.testing.assert_allclose(fg.jit(f)(x), f(x), rtol=1e-12)


@pytest.mark.parametrize("name", ["vectors", "rows", "products"])
def test_what_a_program_repeats_is_scheduled_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, steps = PROGRAMS[name]
    counts: list[int] = []

    def counted(*args: Any) -> Any:
        counts[-1] += 1
        return schedule(*args)

    monkeypatch.setattr(repeated, "schedule", counted)
    for factor in (2, 4):
        f, args = make(factor * steps)
        counts.append(0)
        Native(prepare(fg.make_graph(f)(*args)), False)
    short, long = counts
    assert short > 0
    assert long < 1.2 * short


def test_vectors_that_lie_otherwise_are_told_apart() -> None:
    def f(x: Any, rows: Any, columns: Any) -> Any:
        total = 0.0
        for i in range(200):
            # Each sum ends a kernel; what it reads lies in rows, in columns or backwards.
            way = (rows[i % 9], columns[:, i % 9], rows[i % 5, ::-1], x)[(i // 3) % 4]
            x = np.tanh(way * x) + 0.1
            total = total + np.sum(x) + np.sum(x * (x if i % 2 else way))
        return x, total

    grid = np.linspace(-1, 1, 9 * 500).reshape(9, 500)
    args = np.linspace(-1, 1, 500), grid, np.ascontiguousarray(grid[::-1].T)
    assert len(prepare(fg.make_graph(f)(*args)).eqns) > LONG
    for found, wanted in zip(fg.jit(f)(*args), f(*args), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


@contextmanager
def noted_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether garbage was looked for, each time that a program was written."""
    states: list[bool] = []
    prepare = backend.prepare
    with monkeypatch.context() as patch:
        patch.setattr(backend, "prepare", lambda g: (states.append(gc.isenabled()), prepare(g))[1])
        yield states


@pytest.mark.parametrize("name, pauses", [("long", True), ("short", False)])
def test_the_collector_rests_while_a_long_program_is_compiled(
    name: str, pauses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, args = numbers(500 if name == "long" else 5)
    assert gc.isenabled()
    with noted_collector(monkeypatch) as states:
        fg.jit(f)(*args)
    assert states == [not pauses]
    assert gc.isenabled()


@pytest.mark.parametrize("transform", [lambda f: f, fg.grad], ids=["values", "gradients"])
def test_the_collector_rests_while_a_long_program_is_traced(transform: Any) -> None:
    states: list[bool] = []

    def f(x: Any) -> Any:
        for i in range(500):
            states.append(gc.isenabled())
            x = np.sin(x) * 0.9 + (i % 7) * 0.1
        return x

    fg.make_graph(transform(f))(0.5)
    # Each step is three equations.
    assert states == [True] * 171 + [False] * 329
    assert gc.isenabled()


def test_the_collector_is_on_again_behind_a_trace_that_failed() -> None:
    def f(x: Any) -> Any:
        for _ in range(600):
            x = np.sin(x)
        assert not gc.isenabled()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.make_graph(f)(0.5)
    assert gc.isenabled()


def test_who_has_the_collector_off_finds_it_off() -> None:
    f, args = numbers(500)
    gc.disable()
    try:
        fg.jit(f)(*args)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_on_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any) -> Any:
        assert not gc.isenabled()
        raise KeyboardInterrupt

    f, args = numbers(500)
    monkeypatch.setattr(backend, "prepare", fails)
    with pytest.raises(KeyboardInterrupt):
        fg.jit(f)(*args)
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no other processes are forked")
def test_a_process_forked_meanwhile_by_another_thread_collects() -> None:
    code = """
    import gc, os, threading
    from funcgrad.core.collector import collector_paused

    paused, ended = threading.Event(), threading.Event()

    def compile():
        with collector_paused():
            paused.set()
            ended.wait()

    thread = threading.Thread(target=compile)
    thread.start()
    paused.wait()
    assert not gc.isenabled()
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0
    ended.set()
    thread.join()
    assert gc.isenabled()
    """
    run_python(dedent(code))
