"""Peak memory of training the quickstart's network, each library in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks import mlp
from benchmarks.harness import Result

ROUNDS = 3
STEPS = 20
STATUS = Path("/proc/self/status")


def measure() -> list[Result]:
    """How far the resident set grows beyond imports, parameters and batch; and its peak."""
    growth: dict[str, list[float]] = {name: [] for name in mlp.BUILDERS}
    peak: dict[str, list[float]] = {name: [] for name in mlp.BUILDERS}
    for _ in range(ROUNDS):
        for name in mlp.BUILDERS:
            command = [sys.executable, "-m", "benchmarks.memory", name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            growth[name].append(found["growth"])
            peak[name].append(found["peak"])
    return [
        *_results("memory that training the MLP adds (peak, resident)", growth),
        *_results("memory of the whole process that trains the MLP (peak, resident)", peak),
    ]


def _results(what: str, samples: dict[str, list[float]]) -> list[Result]:
    ours = tuple(samples["funcgrad"])
    results = []
    for name, values in samples.items():
        if name != "funcgrad":
            ratios = tuple(a / b for a, b in zip(ours, values, strict=True))
            results.append(Result(what, name, ours, tuple(values), ratios, unit="MiB"))
    return results


def _train(name: str) -> dict[str, float]:
    """Build one library's contender, train, and say in MiB what that took."""
    contender = mlp.BUILDERS[name]()
    _forget_peak()
    before = _status("VmRSS")
    for _ in range(STEPS):
        contender.call()
    contender.finish()
    return {
        "growth": _status("VmHWM") - before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _forget_peak() -> None:
    """Reset the kernel's high-water mark, which importing may have set."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(field: str) -> float:
    for line in STATUS.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{STATUS} has no {field}; peak memory is measured on Linux only")


if __name__ == "__main__":
    print(json.dumps(_train(sys.argv[1])))
