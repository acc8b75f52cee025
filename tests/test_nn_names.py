"""The names of `funcgrad_nn`: all there, loaded when used, and seen by type checkers."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import funcgrad_nn as nn


def typed() -> dict[str, str | None]:
    """By name, the module that type checkers are told of; None for modules."""
    tree = ast.parse(Path(nn.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name
            found[alias.name] = node.module
    return found


def test_type_checkers_and_python_see_the_same_names():
    assert typed() == nn._HOMES | dict.fromkeys(nn._MODULES)
    assert nn.__all__ == sorted(typed()) and set(nn.__all__) <= set(dir(nn))


def test_every_name_is_what_its_module_has():
    for name, home in typed().items():
        value = getattr(nn, name)
        if home is None:
            assert value is importlib.import_module(f"funcgrad_nn.{name}")
        else:
            assert value is getattr(importlib.import_module(f"funcgrad_nn.{home}"), name)
        # The second time it is an attribute like any other.
        assert vars(nn)[name] is value


# Types for annotations, and samplers, which are names of `nn.data`.
ELSEWHERE = {
    "DistributedSampler", "FixedSampler", "Sampler", "Schedule", "Scores", "StratifiedSampler",
    "WeightedSampler",
}  # fmt: skip


def test_public_names_of_modules_are_names_of_the_package():
    for home in nn._NAMES:
        module = importlib.import_module(f"funcgrad_nn.{home}")
        missing = {*getattr(module, "__all__", ())} - {*nn.__all__}
        assert missing <= ELSEWHERE, (home, missing)


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    return result.stdout.strip()


def test_modules_are_loaded_when_they_are_used():
    loaded = "sorted(n for n in sys.modules if n.startswith('funcgrad'))"
    assert run(f"import sys, funcgrad_nn; print({loaded})") == "['funcgrad_nn']"
    found = run(f"import sys, funcgrad_nn as nn; nn.Linear(2, 3); print({loaded})")
    assert "'funcgrad_nn.layers'" in found
    for other in ("data", "datasets", "optimizers", "losses", "plot", "convolution"):
        assert f"'funcgrad_nn.{other}'" not in found


def test_modules_that_are_no_public_names_are_found_as_well():
    code = "import funcgrad_nn as nn; print(nn.losses.mse is nn.mse, nn.optimizers.sgd is nn.sgd)"
    assert run(code) == "True True"


def test_all_names_at_once():
    code = "from funcgrad_nn import *; print(Linear.__name__, summary.__name__, data.__name__)"
    assert run(code) == "Linear summary funcgrad_nn.data"


def test_names_that_there_are_not():
    with pytest.raises(AttributeError, match=r"'funcgrad_nn' has no attribute 'Linera'$"):
        nn.Linera  # type: ignore[attr-defined]  # noqa: B018
    for name, part in (
        ("Module", "nn.Layer"),
        ("LazyLinear", "nn.Linear(None"),
        ("MSELoss", "mse"),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(nn, name)
        assert part in str(caught.value)


def test_hints_name_what_there_is():
    for name, hint in nn._ELSEWHERE.items():
        assert name not in nn.__all__
        for found in re.findall(r"nn\.(\w+)", hint):
            assert hasattr(nn, found), (name, found)
