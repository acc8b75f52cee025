"""A plugin of pytest that records which lines each test executes, for `tests/mutants.py`."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "mutants"
IMPORT, COLLECTION = "import", "collection"


def write_programs_anew() -> None:
    """No program is known from an earlier process, while its machine code may be."""
    with contextlib.suppress(ImportError):
        from funcgrad.backends.llvm.program import recipe

        recipe.name = lambda *_: None


def import_all() -> None:
    import funcgrad

    for module in pkgutil.walk_packages(funcgrad.__path__, "funcgrad."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)


class Recorder:
    def __init__(self, worker: str) -> None:
        import coverage

        parts = json.loads(os.environ["FUNCGRAD_MUTATED"])
        self.lines = coverage.Coverage(
            data_file=str(FOLDER / f"{worker}.lines"),
            config_file=False,
            include=[str(ROOT / "funcgrad" / part / "*") for part in parts],
            messages=False,
        )
        self.lines.set_option("run:disable_warnings", ["trace-changed", "module-not-measured"])
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.worker = worker

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        self.lines.start()
        self.lines.switch_context(IMPORT)
        import_all()
        write_programs_anew()
        self.lines.switch_context(COLLECTION)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: Any) -> None:
        total = self.seconds.get(report.nodeid, 0.0) + report.duration
        self.seconds[report.nodeid] = total
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.lines.stop()
        self.lines.save()
        passed = {k: v for k, v in self.seconds.items() if k not in self.failed}
        (FOLDER / f"{self.worker}.json").write_text(json.dumps(passed), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        config.pluginmanager.register(Recorder(worker))
