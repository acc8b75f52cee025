"""What the README shows is true: its code runs, its commands and links exist."""

from __future__ import annotations

import re
import tomllib

import pytest

from _markdown import ROOT, blocks, run_page

README = ROOT / "README.md"


def test_the_code_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page(README) > 0


def test_code_stands_in_the_first_screen():
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:40])
    assert "fg.grad(loss_fn)(params" in first_screen


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_named_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    shell = "".join(block.text for block in blocks(ROOT / page) if block.language == "sh")
    named = set(re.findall(r"\bmake ([a-z]+)", shell))
    assert named
    assert named <= targets


def test_every_extra_named_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    named = re.findall(r"\[([a-z,]+)\]\"", README.read_text(encoding="utf-8"))
    assert named
    assert {extra for group in named for extra in group.split(",")} <= extras


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_relative_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", prose)
    assert [link for link in links if not (ROOT / link).exists()] == []
