"""The reference pages leave no public name out."""

from __future__ import annotations

import re

import pytest

import funcgrad as fg
import funcgrad_nn as nn
from _markdown import ROOT

PAGES = sorted((ROOT / "docs" / "reference").rglob("*.md"))
DOCUMENTED = {
    name
    for page in PAGES
    for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M)
}


def _is_documented(package: str, name: str, value: object) -> bool:
    module = getattr(value, "__module__", None)
    spellings = {f"{package}.{name}", f"{module}.{name}", module}
    # A second name for the same thing is documented under the first.
    spellings.add(f"{package}.{getattr(value, '__name__', name)}")
    return not spellings.isdisjoint(DOCUMENTED)


@pytest.mark.parametrize("package", [fg, nn], ids=lambda package: package.__name__)
def test_every_public_name_is_documented(package):
    missing = [
        name
        for name in package.__all__
        if not _is_documented(package.__name__, name, getattr(package, name))
    ]
    assert missing == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = (ROOT / "docs").rglob("*.md")
    paths = [page.relative_to(ROOT / "docs").as_posix() for page in pages]
    assert [path for path in paths if path not in navigation] == []
