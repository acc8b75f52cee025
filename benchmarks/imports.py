"""How long a fresh interpreter needs to import each library, beyond NumPy itself."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.harness import Bar, Contender, Plan, Result, interleave

LIMIT_S = 60e-3
LIBRARIES = {
    "funcgrad": "funcgrad",
    "HIPS autograd": "autograd.numpy",
    "JAX": "jax.numpy",
    "PyTorch": "torch",
}


def measure() -> list[Result]:
    """Wall time of ``python -c "import LIBRARY"`` less that of ``import numpy``, pair by pair."""
    contenders = [_importing("NumPy", "numpy")]
    contenders += [_importing(name, module) for name, module in LIBRARIES.items()]
    samples = interleave(contenders, Plan(rounds=15, repeats=3, loop_s=0.0))
    numpy = samples.pop("NumPy")
    beyond = {
        name: tuple(a - b for a, b in zip(seconds, numpy, strict=True))
        for name, seconds in samples.items()
    }
    ours, bar = beyond.pop("funcgrad"), Bar(LIMIT_S)
    what = "`import funcgrad` beyond `import numpy`"
    results = [Result(what, "NumPy", samples["funcgrad"], numpy, ours, bar, figure_unit="s")]
    for name, theirs in beyond.items():
        ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
        results.append(Result(what, f"{name}, beyond NumPy too", ours, theirs, ratios))
    return results


def _importing(name: str, module: str) -> Contender:
    # numpy first in every case, so that the difference is the library's own share
    command = [sys.executable, "-c", f"import numpy; import {module}"]
    # An installed package has its bytecode; so has an editable one, after the first import.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return Contender(name, lambda: subprocess.run(command, check=True, env=environment))
