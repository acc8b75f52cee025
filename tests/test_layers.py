"""Imports follow the way data travels and never point back."""

from __future__ import annotations

import ast

import pytest

from _markdown import ROOT

# What the modules below a name must not import, not even inside a function.
FORBIDDEN = {
    "funcgrad": ("funcgrad_nn",),
    "funcgrad.files": ("funcgrad",),
    "funcgrad.tree": ("funcgrad.core", "funcgrad.numpy"),
    "funcgrad.core": (
        "funcgrad.primitives",
        "funcgrad.numpy",
        "funcgrad.transforms",
        "funcgrad.backends",
    ),
    "funcgrad.primitives": ("funcgrad.transforms", "funcgrad.backends"),
    "funcgrad.transforms": ("funcgrad.backends",),
}
PUBLIC = {
    "funcgrad",
    *(
        f"funcgrad.{name}"
        for name in ("config", "errors", "files", "numpy", "random", "scipy", "tree")
    ),
}


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _imports(package: str) -> list[tuple[str, str]]:
    """(importing module, imported module) for every import statement below a package."""
    found = []
    for file in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(module, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = module.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                # `from funcgrad import core` imports the module as much as the name.
                found += [(module, f"{base}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_no_import_points_back(layer):
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in _imports("funcgrad")
        if _within(importer, layer)
        for prefix in FORBIDDEN[layer]
        if _within(imported, prefix)
    ]
    assert wrong == []


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
