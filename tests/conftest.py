"""What every test relies on: no display, reproducible Hypothesis runs."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")
# Machine code of tests is kept apart from the user's own.
os.environ.setdefault(
    "FUNCGRAD_CACHE_DIR", str(Path(__file__).resolve().parent.parent / "build" / "test-cache")
)
# Plans of programs are checked after each pass.
os.environ.setdefault("FUNCGRAD_CHECK_PLANS", "1")
# The interpreters that tests start would each compile all of funcgrad.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if os.environ.get("FUNCGRAD_TEST_WITHOUT_LLVMLITE"):
    # As where it is not installed: imports and searches find nothing.
    sys.modules["llvmlite"] = None  # type: ignore[assignment]
HAS_LLVM = importlib.util.find_spec("llvmlite") is not None
if not HAS_LLVM:
    # Says that NumPy source is what is wanted: else the first compilation would warn.
    os.environ.setdefault("FUNCGRAD_BACKEND", "numpy")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script started the tests in the background; the programs that they start are interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each run draws the same programs, so that what fails once fails again; other programs with
# `--hypothesis-profile random`. A shared machine pauses at any moment: a deadline would only
# measure its neighbours.
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
settings.register_profile(
    "random", settings.get_profile("default"), derandomize=False, print_blob=True
)
settings.load_profile("default")


def pytest_collection_finish() -> None:
    """Thousands of tests are never garbage: a collection that looks through them takes a third of a
    second."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("FUNCGRAD_TEST_CUPY", "") in ("", "0"):
        return
    try:
        importlib.import_module("cupy").ones(1).sum().item()
    except Exception as error:
        reason = f"FUNCGRAD_TEST_CUPY is set, but CuPy cannot compute here: {error!r}"
        raise pytest.UsageError(reason) from error


@pytest.fixture
def device_library() -> Iterator[None]:
    """Arrays of a device are CuPy's, or the stand-in's where FUNCGRAD_TEST_CUPY is not set."""
    import device_arrays

    with device_arrays.installed():
        yield


@pytest.fixture
def own_primitives() -> Iterator[None]:
    """The primitives that a test declares go when it ends."""
    from funcgrad.core.primitive import REGISTRY

    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture(scope="module", params=["numpy", "llvm"])
def by_each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a module's tests by one compiler after the other."""
    import funcgrad as fg

    if request.param == "llvm" and not HAS_LLVM:
        pytest.skip("llvmlite is not installed")
    before, fg.config.backend = fg.config.backend, request.param
    yield request.param
    fg.config.backend = before
