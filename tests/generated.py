"""Runs generated modules in a Python of their own, which can import nothing but NumPy."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg

_RUN = """
import pickle, sys, warnings
sys.path.append({packages!r})
import numpy as np
warnings.simplefilter("error")
known = set(sys.modules)
results = []
with open({tasks!r}, "rb") as file:
    tasks = pickle.load(file)
for source, arguments, keywords in tasks:
    namespace = {{}}
    exec(compile(source, "<generated>", "exec"), namespace)
    *_, function = filter(callable, namespace.values())
    results.append(function(*arguments, **keywords))
imported = {{name.partition(".")[0] for name in set(sys.modules) - known}}
assert imported <= {{*sys.stdlib_module_names, "numpy"}}, imported
assert "funcgrad" not in sys.modules
with open({results!r}, "wb") as file:
    pickle.dump(results, file)
"""


class Case(NamedTuple):
    """A function to be written as source, with arguments.

    `given` are the arguments as a program without funcgrad passes them.
    """

    name: str
    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = MappingProxyType({})
    given: Sequence[Any] | None = None

    def source(self) -> str:
        given = self.function
        function = given if isinstance(given, fg.Jitted) else fg.jit(given)
        return function.by_numpy().lower(*self.args, **self.kwargs).text


def run_alone(cases: Sequence[Case], folder: Path) -> list[Any]:
    """What each case's generated module gives, in one process without funcgrad."""
    tasks, results = folder / "tasks.pickle", folder / "results.pickle"
    rows = [(c.source(), c.args if c.given is None else c.given, dict(c.kwargs)) for c in cases]
    tasks.write_bytes(pickle.dumps(rows))
    packages = str(Path(np.__file__).resolve().parent.parent)
    script = _RUN.format(packages=packages, tasks=str(tasks), results=str(results))
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return pickle.loads(results.read_bytes())


def assert_same(found: Any, expected: Any, name: str, tol: float = 1e-12) -> None:
    """Equal in structure, shapes, dtypes, and up to rounding."""
    if isinstance(expected, (dict, list, tuple)):
        assert type(found) is type(expected), name
        assert len(found) == len(expected), name
        keys = expected if isinstance(expected, dict) else range(len(expected))
        for key in keys:
            assert_same(found[key], expected[key], f"{name}[{key!r}]", tol)
    elif expected is None or type(found) is float:
        assert found == expected, name
    else:
        expected = np.asarray(expected)
        assert isinstance(found, (np.ndarray, np.generic)), name
        # Bytes in another order are written in this machine's.
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype.newbyteorder("=")), (
            name
        )
        if expected.dtype.kind in "fc":
            rtol = max(tol, 4 * float(np.finfo(expected.dtype).eps))
            np.testing.assert_allclose(found, expected, rtol, rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


def check_alone(cases: Sequence[Case], folder: Path, tol: float = 1e-12) -> None:
    """Generated modules give what plain NumPy does."""
    for case, found in zip(cases, run_alone(cases, folder), strict=True):
        with np.errstate(all="ignore"):
            expected = case.function(*case.args, **case.kwargs)
        assert_same(found, expected, case.name, tol)
