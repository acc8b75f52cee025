"""The backends that there are: NumPy's, which is always there, and those loaded when needed."""

from __future__ import annotations

import importlib.util
import sys

from funcgrad.backends.numpy import backend as _numpy  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers itself)
from funcgrad.core.execution import Backend, register_lazily
from funcgrad.errors import BackendError


def _load_llvm() -> Backend:
    if importlib.util.find_spec("llvmlite") is None:
        raise BackendError(
            'the backend "llvm" needs llvmlite, which is not installed: '
            'pip install "funcgrad[llvm]"'
        )
    reason = _why_not_native()
    if reason is None:
        from funcgrad.backends.llvm import engine, entry

        reason = entry.probe()
    if reason is None:
        # What follows is imported while LLVM works.
        starting = engine.begin()
        from funcgrad.backends.llvm import pool

        if starting:
            pool.begin()
        from funcgrad.backends.llvm.backend import LlvmBackend

        reason = engine.available()
        if reason is None:
            return LlvmBackend()
    raise BackendError(f'the backend "llvm" cannot be used here: {reason}')


def _why_not_native() -> str | None:
    """What is known without a try: objects are read as CPython lays them out with its lock."""
    if sys.implementation.name != "cpython":
        return f"it is made for CPython, not {sys.implementation.name}"
    if "free-threading build" in sys.version:
        return "it is not made for free-threaded Python yet"
    if sys.maxsize < 2**32:
        return "it is made for 64-bit processors"
    return None


register_lazily("llvm", _load_llvm)
