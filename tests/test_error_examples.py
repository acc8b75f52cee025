"""What an error's docstring says fails does, with that error, and what it says mends it does."""

from __future__ import annotations

import ast
import gzip
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fakecupy
import funcgrad as fg
import funcgrad.numpy as fnp
import funcgrad_nn as nn
from funcgrad.backends.registry import BACKENDS

NAMES = {"np": np, "fg": fg, "fnp": fnp, "nn": nn}
ROW = np.array([0.5, -1.0, 2.0])


class Model:
    def __init__(self, w: Any, b: Any):
        self.w, self.b = w, b


fg.tree.register_node(Model, lambda m: ((m.w, m.b), None), lambda _, parts: Model(*parts))


def predict(model: Model, x: Any) -> Any:
    return x @ model.w + model.b


# What examples take for granted, by the error's name.
GIVEN: dict[str, dict[str, Any]] = {
    "ArgumentError": {"f": lambda x, y: x * y, "x": 1.0, "y": 2.0},
    "BackendError": {"f": np.sin, "x": ROW},
    "BackendWarning": {"f": np.sin, "x": ROW, "warnings": warnings},
    "BranchTypeError": {"x": ROW},
    "CapturedWriteError": {"w": np.ones(10**6), "buffer": np.zeros(10**6), "k": 0},
    "CutDerivativeWarning": {"history": []},
    "DatasetError": {"dataset": nn.ArrayDataset(np.zeros((4, 2)))},
    "DeviceError": {"x": fakecupy.asarray(ROW), "batch": ROW, "step": lambda p, x: p["w"] * x},
    "ExportError": {"predict": predict, "Model": Model, "w": np.eye(3), "b": ROW, "x": ROW},
    "LeakedTracerError": {"w": ROW},
    "NaNError": {"x": ROW},
    "NotAnArrayError": {
        "w": ROW,
        "loss": lambda params: np.sum(params["w"]),
        "f": lambda w, name=None: w * 2,
    },
    "OutArgumentError": {"x": ROW, "buffer": np.zeros(3)},
    "ProgramLimitWarning": {"f": fg.jit(np.negative)},
    "StaticArgumentError": {"f": np.reshape, "x": np.ones(4096)},
    "TreeKeyError": {"w": ROW, "b": ROW},
    "TreeMismatchError": {"w": ROW, "b": ROW, "dw": ROW, "db": ROW},
    "UnsupportedFunctionError": {"x": ROW},
}


def no_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise fg.errors.BackendError("llvmlite is missing")

    monkeypatch.setattr(BACKENDS, "loaded", {"numpy": BACKENDS.named("numpy")})
    monkeypatch.setattr(BACKENDS, "unusable", {})
    monkeypatch.setitem(BACKENDS.loaders, "llvm", load)
    monkeypatch.setattr(fg.config, "backend", None)


def label_files(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("labels.csv").write_text("3,1,2\n", encoding="utf-8")
    nn.write_idx("labels", np.array([3, 1], np.uint8))
    Path("train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(Path("labels").read_bytes()))


def with_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fakecupy.cupy)


def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fg.config, "max_programs", 3)


# What has to be done before examples run.
PREPARED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "BackendError": no_llvm,
    "BackendWarning": no_llvm,
    "DeviceError": with_cupy,
    "ProgramLimitWarning": few_programs,
    "FileFormatError": label_files,
}


def examples(error: type) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements that fail, and those that mend them; commands of a shell are left out."""
    found: dict[str, list[ast.stmt]] = {"Fails": [], "Warns": [], "Mended": []}
    for word, _, block in re.findall(
        r"^(Fails|Warns|Mended)([^\n]*(?:\n(?! {4}|\n)[^\n]*)*)::\n\n((?: {4}[^\n]*\n|\n)+)",
        (inspect.getdoc(error) or "") + "\n",
        re.MULTILINE,
    ):
        text = re.sub(r"^(pip|python|export) .*$", "", textwrap.dedent(block), flags=re.MULTILINE)
        found[word] += ast.parse(text).body
    return found["Fails"] + found["Warns"], found["Mended"]


def run(statement: ast.stmt, names: dict[str, Any]) -> None:
    """Warnings are errors in tests; NumPy's own, of numbers that are not defined, are not meant."""
    with np.errstate(all="ignore"):
        exec(compile(ast.Module([statement], []), "<example>", "exec"), names)


ERRORS = [
    kind
    for kind in vars(fg.errors).values()
    if inspect.isclass(kind) and issubclass(kind, Exception) and any(examples(kind))
]


def test_examples_are_found() -> None:
    kinds = [c for c in vars(fg.errors).values() if inspect.isclass(c)]
    shown = {c.__name__ for c in kinds if re.search("Fails|Warns", c.__doc__ or "")}
    assert shown - {c.__name__ for c in ERRORS} == {"MissingDependencyError"}
    assert all(all(examples(error)) for error in ERRORS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_what_fails_and_what_mends_it(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PREPARED.get(error.__name__, lambda _: None)(monkeypatch)
    names = NAMES | GIVEN.get(error.__name__, {})
    failing, mended = examples(error)
    raised: list[type | None] = []
    for statement in failing:
        try:
            run(statement, names)
        except Exception as caught:
            raised.append(type(caught))
        else:
            raised.append(None)
    assert set(raised) - {None} == {error}
    assert raised[-1] is error
    for statement in mended:
        run(statement, names)
