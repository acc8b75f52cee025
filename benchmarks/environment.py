"""The conditions that all contenders share, and the line that describes them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("funcgrad", "numpy", "jax", "jaxlib", "torch", "numba", "autograd", "llvmlite")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> None:
    """Give every library the same number of threads; call before any of them is imported."""
    for library in ("OPENBLAS", "OMP", "MKL", "NUMBA", "FUNCGRAD"):
        os.environ[f"{library}_NUM_THREADS"] = str(cores())
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1"  # the logistic rows are float64, NumPy's default


def describe() -> str:
    """CPU, cores, versions and how busy the machine has been, in one line."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"{_cpu_model()}, {cores()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}, load average {_load()} at the end"
    )


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"
