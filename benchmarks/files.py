"""Saving and loading 400 MB of parameters, beside safetensors' own functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import safetensors.numpy

import funcgrad_nn as nn
from benchmarks.harness import Bar, Contender, Plan, Result, compare

TENSORS, LENGTH = 8, 12_500_000
LIMIT = 1.3


def measure() -> list[Result]:
    """New files, which nobody waits for to be on disk; and what is then read from memory."""
    rng = np.random.default_rng(0)
    params = {f"w{i}": rng.random(LENGTH, dtype=np.float32) for i in range(TENSORS)}
    bars = {"safetensors": Bar(LIMIT)}
    plan = Plan(rounds=9, repeats=2, loop_s=0.0)
    with TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        saving = [
            Contender("funcgrad", _anew(ours, lambda: nn.save(ours, params))),
            Contender(
                "safetensors", _anew(theirs, lambda: safetensors.numpy.save_file(params, theirs))
            ),
        ]
        loading = [
            Contender("funcgrad", lambda: nn.load(ours)),
            Contender("safetensors", lambda: safetensors.numpy.load_file(theirs)),
        ]
        return [
            *compare("saving 400 MB of parameters", saving, bars, plan),
            *compare("loading 400 MB of parameters", loading, bars, plan),
        ]


def _anew(path: Path, write: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        path.unlink(missing_ok=True)
        write()

    return run
