"""The wheel holds what it must, depends on NumPy alone, and imports nothing else."""

from __future__ import annotations

import email.parser
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from _markdown import ROOT

PACKAGES = ("funcgrad", "funcgrad_nn")


def _python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.Path:
    out = tmp_path_factory.mktemp("wheel")
    _python("-m", "hatchling", "build", "-t", "wheel", "-d", str(out), cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_every_file_of_both_packages(installed):
    def files(base: Path) -> set[str]:
        found = (path for package in PACKAGES for path in (base / package).rglob("*"))
        return {
            path.relative_to(base).as_posix()
            for path in found
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(installed) == files(ROOT)


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_says_that_it_is_typed(installed, package):
    assert (installed / package / "py.typed").exists()


def test_wheel_ships_the_digits_with_their_source_and_licence(installed):
    folder = installed / "funcgrad_nn" / "datasets" / "optical_digits"
    source = (folder / "SOURCE.txt").read_text(encoding="utf-8")
    assert "Optical Recognition of Handwritten Digits" in source
    assert "Licence" in source
    assert len(list(folder.glob("*.gz"))) == 2


def test_only_numpy_is_required(installed):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    required = (
        email.parser.Parser()
        .parsestr(metadata.read_text(encoding="utf-8"))
        .get_all("Requires-Dist", [])
    )
    hard = {re.match(r"[\w-]+", line)[0] for line in required if "extra ==" not in line}
    assert hard == {"numpy"}
    assert (metadata.parent / "licenses" / "LICENSE").exists()


@pytest.mark.parametrize(
    ("package", "loaded"),
    [("funcgrad", ["funcgrad"]), ("funcgrad_nn", ["funcgrad", "funcgrad_nn"])],
)
def test_import_loads_nothing_but_numpy(installed, tmp_path, package, loaded):
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        # Names are loaded when they are used: all of them.
        f"import {package}; from {package} import *\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        f"print({package}.__file__, *sorted(new - sys.stdlib_module_names - {{'numpy'}}))"
    )
    file, *new = _python("-W", "error", "-c", code, cwd=tmp_path, path=installed).split()
    assert Path(file).is_relative_to(installed)
    assert new == loaded
