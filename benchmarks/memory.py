"""Peak memory of training two networks, each library in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks import cnn, mlp
from benchmarks.harness import Bar, Result

ROUNDS = 3
STEPS = {"mlp": 20, "cnn": 3}
WORKLOADS = {"mlp": mlp.BUILDERS, "cnn": cnn.BUILDERS}
STATUS = Path("/proc/self/status")


def measure() -> list[Result]:
    """How far the resident set grows beyond imports, parameters and batch; and its peak."""
    return [
        *_measure("mlp", "MLP", {}),
        *_measure("cnn", "CNN for CIFAR-10", {"PyTorch": Bar(0.8)}),
    ]


def _measure(workload: str, title: str, bars: dict[str, Bar]) -> list[Result]:
    names = WORKLOADS[workload]
    growth: dict[str, list[float]] = {name: [] for name in names}
    peak: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.memory", workload, name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            growth[name].append(found["growth"])
            peak[name].append(found["peak"])
    return [
        *_results(f"memory that training the {title} adds (peak, resident)", growth, {}),
        *_results(f"memory of the process that trains the {title} (peak, resident)", peak, bars),
    ]


def _results(what: str, samples: dict[str, list[float]], bars: dict[str, Bar]) -> list[Result]:
    ours = tuple(samples["funcgrad"])
    results = []
    for name, values in samples.items():
        if name != "funcgrad":
            ratios = tuple(a / b for a, b in zip(ours, values, strict=True))
            bar = bars.get(name)
            results.append(Result(what, name, ours, tuple(values), ratios, bar, unit="MiB"))
    return results


def _train(workload: str, name: str) -> dict[str, float]:
    """Build one library's contender, train, and say in MiB what that took."""
    contender = WORKLOADS[workload][name]()
    _forget_peak()
    before = _status("VmRSS")
    for _ in range(STEPS[workload]):
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
    print(json.dumps(_train(*sys.argv[1:])))
