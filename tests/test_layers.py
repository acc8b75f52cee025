"""Imports follow the way data travels and never point back."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from _markdown import ROOT

# The layers from the bottom up; an import, be it inside a function, points further down or stays
# within a package. What stands in one line does not know of each other.
LAYERS = [
    ["records"],
    ["config", "files", "source"],
    ["errors"],
    ["_spatial", "_static"],
    ["_nodes", "core"],
    ["tree", "primitives"],
    ["devices", "numpy", "transforms"],
    ["_sampling", "backends.common", "convolution", "pooling", "scipy"],
    ["backends.loops", "backends.numpy", "random"],
    ["backends.llvm"],
    ["backends.registry"],
]
# The rooms of the two that are large, likewise; a backend's own face stands above them.
ROOMS = [
    ["loops.nests"],
    ["loops.fusion"],
    ["loops.planning"],
    ["llvm.runtime"],
    ["llvm.ir"],
    ["llvm.kernels", "llvm.products"],
    ["llvm.program"],
]
PUBLIC = {
    "funcgrad",
    *(
        f"funcgrad.{name}"
        for name in ("config", "errors", "files", "numpy", "random", "scipy", "tree")
    ),
}


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@cache
def _imports(package: str) -> list[tuple[str, str]]:
    """(importing module, imported module) for every import statement below a package."""
    found = []
    for file in _files(package):
        module = _name(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(module, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = module.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                # `from funcgrad import core` imports the module as much as the name.
                found += [(module, f"{base}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_imports_point_down(number):
    below = [name for layer in LAYERS[:number] for name in layer]
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _imports("funcgrad")
        for name in LAYERS[number]
        if _within(importer, f"funcgrad.{name}") and _within(imported, "funcgrad")
        if not any(_within(imported, f"funcgrad.{known}") for known in (*below, name))
    ]
    assert wrong == []


@pytest.mark.parametrize("number", range(len(ROOMS)))
def test_imports_between_rooms_point_down(number):
    below = [name for row in ROOMS[:number] for name in row]
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _imports("funcgrad/backends")
        for name in ROOMS[number]
        if _within(importer, f"funcgrad.backends.{name}")
        for folder in ("loops", "llvm")
        if _within(imported, f"funcgrad.backends.{folder}")
        if not any(_within(imported, f"funcgrad.backends.{known}") for known in (*below, name))
    ]
    assert wrong == []


def test_every_room_is_known():
    backends = ROOT / "funcgrad" / "backends"
    folders = [path.parent for path in backends.glob("l*/*/__init__.py")]
    found = {".".join(folder.relative_to(backends).parts) for folder in folders}
    assert found == {name for row in ROOMS for name in row}


def test_every_module_has_a_layer():
    found = {file.stem for file in (ROOT / "funcgrad").iterdir() if file.suffix == ".py"}
    found |= {file.parent.name for file in (ROOT / "funcgrad").glob("*/__init__.py")}
    found |= {f"backends.{file.stem}" for file in (ROOT / "funcgrad" / "backends").iterdir()}
    others = {"__init__", "backends", "backends.__init__", "backends.__pycache__"}
    assert found - others == {name for layer in LAYERS for name in layer}


def test_no_circles():
    """Not even of imports within functions, or for types alone."""
    files = {_name(file): file for p in ("funcgrad", "funcgrad_nn") for file in _files(p)}
    graph: dict[str, set[str]] = {name: set() for name in files}
    for importer, imported in [*_imports("funcgrad"), *_imports("funcgrad_nn")]:
        # `from a import b` imports a module b, a package b, or a name of the module or package a.
        parent = imported.rpartition(".")[0]
        names = [imported, f"{imported}.__init__", parent, f"{parent}.__init__"]
        found = next((name for name in names if name in files), None)
        if found and found != importer:
            graph[importer].add(found)
    assert tuple(TopologicalSorter(graph).static_order())


def test_funcgrad_does_not_import_what_stands_on_it():
    assert not [i for i in _imports("funcgrad") if _within(i[1], "funcgrad_nn")]


def test_funcgrad_nn_sees_only_public_names():
    folders = {path.stem for path in (ROOT / "funcgrad").iterdir()}
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _imports("funcgrad_nn")
        if _within(imported, "funcgrad")
        and imported not in PUBLIC
        and imported.split(".")[1] in folders
        and not any(_within(imported, name) for name in PUBLIC - {"funcgrad"})
    ]
    assert wrong == []
