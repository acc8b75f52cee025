"""Index errors of native programs name the user's line."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

ROOT = Path(__file__).parent.parent


def line_of(function, text):
    """`file:line` of the only line of a function that has this text."""
    lines, first = inspect.getsourcelines(function)
    (number,) = [n for n, line in enumerate(lines, first) if text in line]
    return f"{__file__}:{number} "


def message(function, *args):
    with pytest.raises(IndexError) as caught:
        fg.jit(function, backend="llvm")(*args)
    return str(caught.value)


def rows(x, i):
    y = x * 2
    return fg.at(y)[i].get() + 1  # taken


def two(x, i, j):
    first = fg.at(x)[i].get()  # first
    second = fg.at(x.T)[j].get()  # second
    return np.sum(first) + np.sum(second)


def put(x, i):
    return fg.at(x)[i].add(1.0)  # put


def pixel(x, i, j):
    return fg.at(x)[i, j].get()  # pixel


@pytest.mark.parametrize("shape", [(5,), (5, 3), (500, 30)])
@pytest.mark.parametrize("bad", [500, -501, 5000])
def test_gathers_name_their_line(shape, bad):
    x = np.ones(shape)
    for index in (np.array([0, 2, bad]), np.full(700, bad), bad):
        found = message(rows, x, index)
        assert f"index {bad} is out of bounds for an axis of size {shape[0]}" in found
        assert f"\n  at {line_of(rows, '# taken')}(in rows)" in found


def test_each_of_several_names_its_own():
    x = np.ones((5, 9))
    assert line_of(two, "# first") in message(two, x, np.array([7]), np.array([0]))
    assert line_of(two, "# second") in message(two, x, np.array([0]), np.array([11]))
    assert "# second" not in message(two, x, np.array([7]), np.array([0]))


def test_the_first_of_several_is_reported():
    x = np.ones((500, 300))
    i, j = np.full(2000, 600), np.full(2000, 400)
    found = message(lambda x, i, j: (rows(x, i), rows(x.T, j)), x, i, j)
    assert "index 600 is out of bounds for an axis of size 500" in found


def test_lines_that_cannot_be_told_apart_are_both_named():
    def both(x, i, j):
        a = fg.at(x)[i].get()  # a
        b = fg.at(x * 2)[j].get()  # b
        return a * b

    found = message(both, np.ones(50), np.full(70, 3), np.full(70, 51))
    assert "index 51 is out of bounds for an axis of size 50" in found
    assert line_of(both, "# b") in found


@pytest.mark.parametrize("n", [5, 5000])
def test_scatters_and_gradients(n):
    x, i = np.ones(n), np.array([1, n])
    assert line_of(put, "# put") in message(put, x, i)
    gradient = fg.grad(lambda x, i: np.sum(rows(x, i) ** 2))
    assert line_of(rows, "# taken") in message(gradient, x, i)


def test_within_loops_and_branches():
    x = np.ones((40, 30))

    def scanned(x, i):
        return fg.fori_loop(0, 3, lambda k, c: c + np.sum(rows(x, i)), 0.0)

    def small(x, i):
        return fg.fori_loop(0, 3, lambda k, c: c + pixel(x, i + k, 0), 0.0)

    def chosen(x, i):
        return fg.cond(i[0] > 0, lambda: np.sum(rows(x, i)), lambda: 0.0)

    for function, index in ((scanned, np.array([41])), (chosen, np.array([41]))):
        assert line_of(rows, "# taken") in message(function, x, index)
    assert line_of(pixel, "# pixel") in message(small, x[:4, :3], 2)
    repeated = fg.vmap(rows, in_axes=(None, 0))
    assert line_of(rows, "# taken") in message(repeated, x, np.array([[1], [40]]))


def test_equal_kernels_are_written_once():
    x = np.ones((500, 30))

    def layers(x, i):
        total = 0.0
        total += np.sum(fg.at(x)[i].get())
        total += np.sum(fg.at(x)[i + 1].get())
        total += np.sum(fg.at(x)[i + 2].get())
        return total

    one = fg.jit(lambda x, i: np.sum(fg.at(x)[i + 1].get()), backend="llvm")
    many = fg.jit(layers, backend="llvm").lower(x, np.zeros(100, int))
    assert len(many.kernels) <= 2 * len(one.lower(x, np.zeros(100, int)).kernels)


def test_a_recipe_names_the_lines_of_the_graph_at_hand(tmp_path):
    """The lines are not in the cache's keys, so a moved function is found there."""
    code = """
    import sys
    import numpy as np, funcgrad as fg
    def f(x, i, j):
        y = fg.at(x)[i].get()
        return y, fg.at(x)[j].get() * 2
    try:
        fg.jit(f, backend="llvm")(np.ones(500), np.full(600, 3), np.full(600, 501))
    except IndexError as error:
        print(error)
    print("funcgrad.backends.llvm.program.native" in sys.modules)
    """

    def run(name, above):
        path = tmp_path / name
        path.write_text("\n" * above + textwrap.dedent(code), encoding="utf-8")
        env = {**os.environ, "FUNCGRAD_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, str(path)], env=env, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.splitlines()

    first, second = run("a.py", 0), run("b.py", 30)
    assert f"{tmp_path / 'a.py'}:6 (in f)" in "".join(first)
    assert f"{tmp_path / 'b.py'}:36 (in f)" in "".join(second)
    assert (first[-1], second[-1]) == ("True", "False")
