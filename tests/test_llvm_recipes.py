"""Programs that an earlier process, or an earlier `jit`, has left in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

from funcgrad.backends.common.prepare import prepare
from funcgrad.backends.llvm.program import native, recipe


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that programs were written for, rather than found."""
    found: list[Any] = []
    make = native.Native.__init__

    def counted(self: Any, graph: Any, *args: Any) -> None:
        found.append(graph)
        make(self, graph, *args)

    monkeypatch.setattr(native.Native, "__init__", counted)
    return found


def jitted(fun: Any, *args: Any, **options: Any) -> Any:
    return fg.jit(lambda *xs: fun(*xs), backend="llvm", **options)(*args)


def test_a_known_program_is_not_written_again(written: list[Any]) -> None:
    x = np.linspace(-1, 1, 100).reshape(20, 5)
    shift = np.arange(100.0).reshape(20, 5)

    def fun(x: Any) -> Any:
        return {"a": np.sum(np.tanh(x + shift), axis=0), "b": (x * 2, np.max(x))}

    first, second = jitted(fun, x), jitted(fun, x)
    assert len(written) == 1
    for a, b in zip(fg.tree.leaves(first), fg.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, b)


def test_each_difference_makes_another_program(written: list[Any]) -> None:
    x = np.linspace(-1, 1, 100)
    variants: list[Any] = [
        lambda x: x + 1.0,
        lambda x: x + 1.0000000000000002,
        lambda x: x + np.float64(-0.0),
        lambda x: x - np.arange(100.0),
        lambda x: x - np.arange(100.0)[::-1],
        lambda x: fg.scan(lambda h, r: (h + r, h * 2.0), 0.0, x)[1],
        lambda x: fg.scan(lambda h, r: (h + r, h * 3.0), 0.0, x)[1],
        lambda x: x[:50],
        lambda x: x[1:51],
    ]
    for _ in range(2):
        for fun in variants:
            expected = fg.jit(fun, backend="numpy")(x)
            np.testing.assert_allclose(jitted(fun, x), expected, rtol=1e-15, atol=1e-15)
    assert len(written) == len(variants)


def test_programs_that_call_python_functions_are_kept(written: list[Any]) -> None:
    x = np.linspace(-1, 1, 60).reshape(20, 3)

    def fun(x: Any) -> Any:
        rows, _ = fg.scan(lambda h, r: (np.sort(h + r), r), x[0], x * 2)
        either = fg.cond(x[0, 0] > 0, lambda: np.argsort(rows), lambda: np.argsort(-rows))
        return rows, either, np.sort(x * 1j, axis=0), np.sort(x, axis=1)

    for value in (x, x[::-1].copy()):
        found = [jitted(fun, value), jitted(fun, value)]
        for result in found:
            for a, b in zip(result, fun(value), strict=True):
                np.testing.assert_array_equal(a, b)
    assert len(written) == 1


def test_donated_arguments_are_part_of_the_name(written: list[Any]) -> None:
    def fun(x: Any) -> Any:
        return np.sin(x)

    for _ in range(2):
        x = np.ones(1000)
        assert not np.shares_memory(jitted(fun, x), x)
        assert np.shares_memory(jitted(fun, x, donate_argnums=0), x)
    assert len(written) == 2


def test_a_damaged_or_lonely_recipe_is_replaced(folder: Path, written: list[Any]) -> None:
    def fun(x: Any) -> Any:
        return np.cos(x) * 2.0

    x = np.linspace(0, 1, 64)
    expected = jitted(fun, x)
    entries = list(folder.iterdir())
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-7])
    np.testing.assert_array_equal(jitted(fun, x), expected)
    assert len(written) == 2
    graph = prepare(fg.make_graph(fun)(x))
    name = recipe.name(graph, True, ())
    for entry in folder.iterdir():
        if name is None or name not in entry.name:
            entry.unlink()
    np.testing.assert_array_equal(jitted(fun, x), expected)
    assert len(written) == 3


def test_large_constants_have_no_recipe() -> None:
    table = np.zeros(200_000)
    graph = prepare(fg.make_graph(lambda x: x + table)(table))
    assert recipe.name(graph, True, ()) is None


_LAYER = """
import numpy as np, funcgrad as fg
from funcgrad.backends.llvm.runtime import loader
if {by_llvm}:
    def unknown(*args):
        raise loader.UnknownObjectError
    loader._OwnImage = unknown
f = fg.jit(lambda x, w: np.maximum(x @ w, 0) @ w[:, :8], backend="llvm")
print(f(np.ones((512, 96), np.float32), np.ones((96, 96), np.float32))[0, 0])
"""


@pytest.mark.parametrize("by_llvm", [False, True])
def test_another_process_finds_what_a_program_calls(folder: Path, by_llvm: bool) -> None:
    # LLVM's loader ends the process over what it can't find.
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", _LAYER.format(by_llvm=by_llvm)]
        run = subprocess.run(command, env=dict(os.environ), capture_output=True, check=True)
        found.append(float(run.stdout))
    assert found == [96.0 * 96, 96.0 * 96]
