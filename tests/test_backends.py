"""Which backend runs: the fastest that works, unless something says otherwise."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from _markdown import ROOT
from conftest import HAS_LLVM
from funcgrad.backends.registry import BACKENDS

needs_llvm = pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been chosen yet, by this process or its environment."""
    monkeypatch.setattr(fg.config, "backend", None)
    monkeypatch.setattr(BACKENDS, "unusable", {})
    monkeypatch.setattr(BACKENDS, "loaded", {})


@pytest.fixture
def refused(untouched: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which the LLVM backend cannot be loaded."""

    def load() -> Any:
        raise fg.errors.BackendError('the backend "llvm" cannot be used here: refused')

    monkeypatch.setitem(BACKENDS.loaders, "llvm", load)
    yield


def run(script: str, **environment: str) -> str:
    """What a fresh process prints, warnings included."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nowhere", **environment},
        check=False,
    )
    return done.stdout + done.stderr


WITHOUT_LLVMLITE = """
    import sys, warnings
    sys.modules["llvmlite"] = None
    import numpy as np, funcgrad as fg
"""


# --- the default ------------------------------------------------------------------------


@needs_llvm
@pytest.mark.usefixtures("untouched")
def test_llvm_where_it_works() -> None:
    assert fg.jit(np.sin).lower(1.0).backend == "llvm"
    assert "define" in fg.jit(np.sin).lower(1.0).text


def test_nothing_is_loaded_by_the_import() -> None:
    script = """
        import sys
        import funcgrad as fg
        fg.jit(lambda x: x)
        print(sorted(m for m in sys.modules if "llvm" in m))
    """
    assert run(script) == "[]\n"


def test_importing_loads_little_else() -> None:
    """What the import does without counts for every program that imports it."""
    script = """
        # What only some versions of NumPy load themselves.
        import __future__, sys, inspect, numpy
        before = {*sys.modules}
        import funcgrad
        new = {*sys.modules} - before - {*sys.builtin_module_names}
        print(sorted(m for m in new if m.partition(".")[0] != "funcgrad"))
    """
    assert run(script) == "['threading']\n"


def test_first_calls_load_what_they_need() -> None:
    """What shows programs, and writes loops, stays away from one that has none."""
    script = """
        import sys, numpy as np, funcgrad as fg
        before = {*sys.modules}
        print(*sorted(m for m in before if m.startswith("funcgrad.backends.")))
        fg.jit(lambda x: np.where(x > 0, x, 0.0) @ x, backend="numpy")(np.ones(3))
        print(*sorted({*sys.modules} - before))
    """
    names = (
        "common",
        "common.prepare",
        "common.spelling",
        "numpy",
        "numpy.backend",
        "numpy.emit",
        "numpy.liveness",
        "numpy.masks",
        "numpy.module",
        "registry",
    )
    assert run(script) == " ".join(f"funcgrad.backends.{name}" for name in names) + "\n\n"


@pytest.mark.usefixtures("refused")
def test_one_warning_where_it_is_refused() -> None:
    with pytest.warns(fg.errors.BackendWarning, match="refused; .* NumPy source") as caught:
        assert fg.jit(lambda x: x + 1.0)(1.0) == 2.0
        assert fg.jit(lambda x: x + 2.0)(1.0) == 3.0
        assert fg.grad(fg.jit(lambda x: x * x))(1.0) == 2.0
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert fg.jit(np.sin).lower(1.0).backend == "numpy"


@pytest.mark.usefixtures("refused")
def test_a_warning_that_is_an_error_stops_one_call_only() -> None:
    f = fg.jit(lambda x: x + 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(fg.errors.BackendWarning):
            f(1.0)
        assert f(1.0) == 2.0


@pytest.mark.usefixtures("refused")
def test_no_warning_where_numpy_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    fg.jit(np.sin, backend="numpy")(1.0)
    monkeypatch.setattr(fg.config, "backend", "numpy")
    fg.jit(np.sin)(1.0)


def test_without_llvmlite() -> None:
    script = """
        f = fg.jit(lambda x: np.sum(np.sin(x) ** 2))
        for n in (2, 3):
            print(float(f(np.zeros(n))), fg.grad(f)(np.zeros(n)))
        print(f.lower(np.zeros(2)).backend)
        try:
            fg.jit(f, backend="llvm")(np.zeros(2))
        except fg.errors.BackendError as error:
            print(error)
    """
    without = textwrap.dedent(WITHOUT_LLVMLITE)
    script = textwrap.dedent(script)
    said = run(without + script)
    assert said.count("BackendWarning") == 1
    assert said.count('pip install "funcgrad[llvm]"') == 2
    assert "0.0 [0. 0.]\n0.0 [0. 0. 0.]\nnumpy\n" in said
    assert "BackendWarning" not in run(without + script, FUNCGRAD_BACKEND="numpy")


# --- what overrules it ------------------------------------------------------------------


@needs_llvm
def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy", "llvm"):
        monkeypatch.setattr(fg.config, "backend", name)
        assert fg.jit(np.sin).lower(1.0).backend == name
        for own in ("numpy", "llvm"):
            assert fg.jit(np.sin, backend=own).lower(1.0).backend == own
    for name in ("numpy", "llvm"):
        script = "import funcgrad as fg; print(fg.config.backend, fg.jit(abs).lower(1.0).backend)"
        assert run(script, FUNCGRAD_BACKEND=name) == f"{name} {name}\n"


def test_names_that_there_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(fg.errors.ArgumentError, match="no backend 'tpu'"):
        fg.jit(np.sin, backend="tpu")
    monkeypatch.setattr(fg.config, "backend", "tpu")
    with pytest.raises(fg.errors.ArgumentError, match=r"config\.backend.*'tpu'"):
        fg.jit(np.sin)(1.0)


@pytest.mark.usefixtures("refused")
def test_asked_for_by_name_where_it_is_refused() -> None:
    f = fg.jit(np.sin, backend="llvm")
    for _ in range(2):
        with pytest.raises(fg.errors.BackendError, match=r"refused\n  at .*test_backends"):
            f(1.0)


@needs_llvm
def test_a_functions_choice_reaches_its_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name in ("numpy", "llvm"):
        backend = BACKENDS.named(name)
        original = backend.compile

        def compile_(graph: Any, *args: Any, name: str = name, original: Any = original) -> Any:
            used.append(name)
            return original(graph, *args)

        monkeypatch.setattr(backend, "compile", compile_)
    for name, other in (("numpy", "llvm"), ("llvm", "numpy")):
        monkeypatch.setattr(fg.config, "backend", other)
        f = fg.jit(lambda x: np.sum(np.sin(x)), backend=name)
        fg.grad(f)(np.ones(3))
        fg.vmap(f)(np.ones((2, 3)))
        fg.jvp(f, (np.ones(3),), (np.ones(3),))
        fg.hessian(f)(np.ones(3))
        assert set(used) == {name}
        used.clear()


@needs_llvm
def test_export_is_numpy_source(tmp_path: Any) -> None:
    path = tmp_path / "f.py"
    fg.export(fg.jit(np.sin, backend="llvm"), 1.0, path=path)
    assert path.read_text(encoding="utf-8").startswith(
        '"""Generated by funcgrad; needs only NumPy."""'
    )


# --- looking inside ---------------------------------------------------------------------


@needs_llvm
def test_what_is_seen_of_native_code() -> None:
    lowered = fg.jit(lambda x: np.sum(np.sin(x) * x), backend="llvm").lower(np.ones(1000))
    assert len(lowered.kernels) == 1
    assert "sin(" in str(lowered.kernels[0])
    assert str(lowered.kernels) == repr(lowered.kernels) == str(lowered.kernels[0])
    assert "define ptr @fg_entry" in lowered.text
    assert "fg_entry" in lowered.assembly
    cost = lowered.cost()
    assert (cost.kernels, cost.library_calls, cost.bytes_moved) == (1, 0, 8008)
    assert cost.flops == 3000


@needs_llvm
def test_costs() -> None:
    def product(x: Any, y: Any) -> Any:
        return np.tanh(x @ y)

    x, y = np.ones((100, 50)), np.ones((50, 70))
    cost = fg.jit(product, backend="llvm").lower(x, y).cost()
    assert (cost.kernels, cost.library_calls) == (1, 1)
    assert cost.flops == 2 * 100 * 50 * 70 + 100 * 70
    assert cost.bytes_moved == 8 * (100 * 50 + 50 * 70 + 3 * 100 * 70)
    once = fg.jit(lambda c: fg.fori_loop(0, 1, lambda i, c: np.sin(c), c), backend="llvm")
    often = fg.jit(lambda c: fg.fori_loop(0, 9, lambda i, c: np.sin(c), c), backend="llvm")
    costs = [f.lower(np.ones(5000)).cost() for f in (once, often)]
    assert costs[1].flops == 9 * costs[0].flops > 0
    assert costs[1].bytes_moved > costs[0].bytes_moved


@needs_llvm
def test_readers_share_a_copy() -> None:
    def products(a: Any, x: Any) -> Any:
        rows = a.transpose(0, 2, 1)
        return rows.reshape(-1, 50) @ x, rows.reshape(40, -1) @ np.ones((300, 2))

    a, x = np.arange(12000.0).reshape(6, 50, 40), np.ones((50, 3))
    run = fg.jit(products, backend="llvm")
    assert run.lower(a, x).cost().kernels == 1
    for have, want in zip(run(a, x), products(a, x), strict=True):
        np.testing.assert_allclose(have, want)


def test_what_is_seen_of_numpy_source() -> None:
    lowered = fg.jit(lambda x: np.sum(np.sin(x) * x), backend="numpy").lower(np.ones(1000))
    assert lowered.kernels == ()
    assert lowered.cost() == (0, 3, 48_008, 3000, 0)
    assert "flops           3,000" in str(lowered.cost())
    with pytest.raises(fg.errors.BackendError, match="no assembly"):
        _ = lowered.assembly
