"""Examples in docstrings and in the documentation run, and show what really comes out."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re

import numpy as np
import pytest

import contract
import funcgrad as fg
import funcgrad.numpy as fnp
import funcgrad_nn as nn
import test_contract
from _markdown import OPTIONS, ROOT, blocks, run_page
from funcgrad.core.primitive import REGISTRY
from program_checks import backends

PACKAGES = ("funcgrad", "funcgrad_nn")
# The names that every docstring may use without importing them.
NAMES = {"np": np, "fg": fg, "fnp": fnp, "nn": nn}


def _modules() -> list[str]:
    names = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts[-1] != "__main__":
                names.append(".".join(parts))
    return names


def _public_callables() -> list[object]:
    found = []
    for module in (fg, nn, fg.tree, fg.random):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found.append(pytest.param(value, id=f"{module.__name__}.{name}"))
    return found


@pytest.mark.parametrize("name", _modules())
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(
        importlib.import_module(name), extraglobs=NAMES, optionflags=OPTIONS, verbose=False
    )
    assert results.failed == 0


@pytest.mark.parametrize("public", _public_callables())
def test_public_callable_has_an_example(public):
    assert ">>>" in (inspect.getdoc(public) or "")


def _mistakes() -> list[type]:
    """The error classes that stand for a mistake of a user's."""
    general = (fg.errors.FuncgradError, fg.errors.GraphError)
    classes = [value for value in vars(fg.errors).values() if inspect.isclass(value)]
    return [c for c in classes if issubclass(c, fg.errors.FuncgradError) and c not in general]


@pytest.mark.parametrize("error", _mistakes(), ids=lambda error: error.__name__)
def test_error_shows_failing_and_mended_code(error):
    doc = inspect.getdoc(error) or ""
    assert "Fails" in doc
    assert "Mended" in doc


PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", [ROOT / "docs" / "index.md", *PAGES], ids=lambda page: page.stem)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.stem == "native":
        pytest.importorskip("llvmlite")
    assert run_page(page) > 0


def _public_names_of_networks() -> set[str]:
    modules = {name for name in nn.__all__ if inspect.ismodule(getattr(nn, name))}
    names = set(nn.__all__) - modules
    for module in modules:
        values = {name: getattr(getattr(nn, module), name) for name in getattr(nn, module).__all__}
        names |= {f"{module}.{n}" for n, v in values.items() if getattr(nn, n, None) is not v}
    return names


def test_the_reference_of_networks_shows_what_is_public_and_nothing_else():
    # What a module says about itself has no heading of its own.
    entry = re.compile(r"^::: funcgrad_nn\.([\w.]+)\n(?!.*\n *show_root_heading: false)", re.M)
    pages = (ROOT / "docs" / "reference" / "nn").glob("*.md")
    shown = [name for page in pages for name in entry.findall(page.read_text("utf-8"))]
    # Functions that have the name of their module, which else would be shown.
    shown = [re.sub(r"(?:optimizers\.)?\b(adam|digits|mnist)\.\1$", r"\1", n) for n in shown]
    assert sorted(shown) == sorted(_public_names_of_networks())


def _shown() -> list[object]:
    """What examples print: of each docstring with some, and of each page."""
    finder = doctest.DocTestFinder()
    texts = {
        example.name: "".join(line.want for line in example.examples)
        for name in _modules()
        for example in finder.find(importlib.import_module(name), name)
        if example.examples
    }
    for page in (ROOT / "README.md", ROOT / "docs" / "index.md", *PAGES):
        texts[page.name] = "".join(
            block.output + block.text * (block.language == "pycon") for block in blocks(page)
        )
    return [pytest.param(text, id=name) for name, text in texts.items()]


# A `float`, or an array of float32, is printed to its last digit, which depends on how the
# processor's version of a function rounds. Constants in a printed program are written by hand.
_TO_THE_LAST_DIGIT = {
    "float64": re.compile(r"(?<![\w.])-?(?=[\d.]{15})\d+\.\d+"),
    "float32": re.compile(r"\d\.\d{6,}.*dtype=float32"),
}


@pytest.mark.parametrize("text", _shown())
def test_examples_print_the_same_on_every_processor(text):
    """Print arrays of float64, of which NumPy shows eight digits, or format the number."""
    assert {kind: p.findall(text) for kind, p in _TO_THE_LAST_DIGIT.items() if p.search(text)} == {}


@pytest.fixture
def registry_restored():
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.usefixtures("registry_restored")
def test_the_primitive_that_contributing_adds_keeps_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page(ROOT / "CONTRIBUTING.md") > 0
    added = [case for case in contract.cases("f") if case[0].name == "log_cosh"]
    assert added
    for prim, number, dtype in added:
        sample = (prim, [number], dtype)
        test_contract.test_shape_rule(*sample)
        test_contract.test_batching(*sample)
        for backend in backends():
            test_contract.test_compiled(*sample, backend)
        if dtype is np.float64:
            test_contract.test_derivatives(*sample)
            test_contract.test_transposition(*sample)
