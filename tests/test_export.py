"""`fg.export`: a whole file, or the one that was there."""

from __future__ import annotations

import os
import runpy
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg

X = np.array([0.5, -1.0, 2.0])
WEIGHT = np.random.default_rng(0).normal(size=(3, 40))


def predict(x: Any, *, scale: Any = 1.0) -> Any:
    return {"logits": x @ WEIGHT * scale}


def test_a_model_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    fg.export(predict, X, path=path)
    module = runpy.run_path(str(path))
    np.testing.assert_array_equal(module["predict"](X)["logits"], predict(X)["logits"])
    assert sorted(os.listdir(tmp_path)) == ["model.py"]
    assert path.read_text(encoding="utf-8") == fg.jit(predict, backend="numpy").lower(X).text


def test_keywords_static_arguments_and_text_paths(tmp_path: Path) -> None:
    path = str(tmp_path / "model.py")
    fg.export(predict, X, path=path, scale=2.0)
    found = runpy.run_path(path)["predict"](X, scale=3.0)
    np.testing.assert_allclose(found["logits"], predict(X, scale=3.0)["logits"])
    fg.export(fg.jit(lambda x, n: x * n, static_argnums=1), X, 3, path=path)
    np.testing.assert_array_equal(runpy.run_path(path)["main"](X), X * 3)


def test_a_file_without_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot write 'model.py': no such directory.*no"):
        fg.export(predict, X, path=tmp_path / "no" / "model.py")


def test_a_failure_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.py"
    path.write_text("earlier", encoding="utf-8")

    def fail(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        fg.export(predict, X, path=path)
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError):
        fg.export(lambda x: 1 / 0, X, path=path)
    with pytest.raises(fg.errors.ExportError):
        fg.export(lambda x: Node(x), X, path=path)
    assert path.read_text(encoding="utf-8") == "earlier"
    assert os.listdir(tmp_path) == ["model.py"]
    fg.export(predict, X, path=path)
    assert "def predict(x):" in path.read_text(encoding="utf-8")


def test_others_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    fg.export(predict, X, path=path)
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


# --- what source cannot spell ----------------------------------------------------------


class Node:
    def __init__(self, value: Any):
        self.value = value


fg.tree.register_node(Node, lambda n: ([n.value], None), lambda aux, children: Node(*children))


class Pair(NamedTuple):
    first: Any
    second: Any


class Colour:
    """A key that is no literal."""

    def __lt__(self, other: Any) -> bool:
        return False


def text(function: Any, *args: Any) -> str:
    return fg.jit(function, backend="numpy").lower(*args).text


def test_arguments_that_source_cannot_take_apart() -> None:
    with pytest.raises(fg.errors.ExportError, match=r"an argument's part <0> cannot be reached"):
        text(lambda n: n.value, Node(X))
    with pytest.raises(fg.errors.ExportError, match=r"part \[<.*Colour"):
        text(lambda d: list(d.values()), {Colour(): X})


def test_results_that_source_cannot_name() -> None:
    with pytest.raises(fg.errors.ExportError, match=r"a Node in the result .* return dicts"):
        text(lambda x: Node(x), X)
    with pytest.raises(fg.errors.ExportError, match="a Colour in the result"):
        text(lambda x: {Colour(): x}, X)


def test_calls_take_what_source_cannot_name() -> None:
    f = fg.jit(lambda n: {"node": Node(n.value * 2), "pair": Pair(n.value, 1.0)})
    found = f(Node(X))
    np.testing.assert_array_equal(found["node"].value, X * 2)
    assert type(found["pair"]) is Pair
