"""The backends that there are, and which of them runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from funcgrad.backends.numpy.backend import NumpyBackend
from funcgrad.config import config
from funcgrad.core.execution import Backend
from funcgrad.core.notices import warn_at
from funcgrad.errors import ArgumentError, BackendError, BackendWarning, at_line
from funcgrad.source import user_line


class Registry:
    """Backends by name, each loaded when it is first needed.

    Args:
        loaders: what loads them, the fastest first; the last can be used everywhere. A loader
            raises a BackendError where its backend cannot be used on this machine.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Backend]]):
        self.loaders = dict(loaders)
        self.loaded: dict[str, Backend] = {}
        self.unusable: dict[str, BackendError] = {}

    def check(self, name: str, what: str) -> str:
        if name not in self.loaders:
            names = sorted(self.loaders)
            raise at_line(ArgumentError, f"{what}: there is no backend {name!r}; there are {names}")
        return name

    def named(self, name: str) -> Backend:
        found = self.loaded.get(name)
        if found is None:
            if name in self.unusable:
                raise at_line(BackendError, str(self.unusable[name]))
            try:
                found = self.loaded.setdefault(name, self.loaders[name]())
            except BackendError as error:
                self.unusable[name] = error
                raise at_line(BackendError, str(error)) from None
        return found

    def default(self) -> str:
        """The one that the user's settings name, else the fastest that can be used.

        Where that is not the fastest there is, a warning says so, once.
        """
        if config.backend is not None:
            return self.check(config.backend, "config.backend or FUNCGRAD_BACKEND")
        return next(filter(self._is_usable, self.loaders))

    def _is_usable(self, name: str) -> bool:
        if name in self.loaded or name in self.unusable:
            return name in self.loaded
        try:
            self.named(name)
        except BackendError:
            _warn(self.unusable[name])
            return False
        return True


def _warn(error: BackendError) -> None:
    message = (
        f"{error}; compiled functions run as NumPy source, which is slower. "
        'FUNCGRAD_BACKEND=numpy in the environment or fg.config.backend = "numpy" says that '
        "this is intended."
    )
    warn_at(user_line(), BackendWarning, message)


def _load_llvm() -> Backend:
    if not _has_llvmlite():
        raise BackendError(
            'the backend "llvm" needs llvmlite, which is not installed: '
            'pip install "funcgrad[llvm]"'
        )
    reason = _why_not_native()
    if reason is None:
        from funcgrad.backends.llvm.program import entry
        from funcgrad.backends.llvm.runtime import engine

        reason = entry.probe()
    if reason is None:
        # What follows is imported while LLVM works.
        starting = engine.begin()
        from funcgrad.backends.llvm.runtime import pool

        if starting:
            pool.begin()
        from funcgrad.backends.llvm.backend import LlvmBackend

        reason = engine.available()
        if reason is None:
            return LlvmBackend()
    raise BackendError(f'the backend "llvm" cannot be used here: {reason}')


def _has_llvmlite() -> bool:
    try:
        import llvmlite  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        # If it is there but for a part of it, what needs the part says so.
        return error.name != "llvmlite"
    return True


def _why_not_native() -> str | None:
    """What is known without a try: objects are read as CPython lays them out with its lock."""
    if sys.implementation.name != "cpython":
        return f"it is made for CPython, not {sys.implementation.name}"
    if "free-threading build" in sys.version:
        return "it is not made for free-threaded Python yet"
    if sys.maxsize < 2**32:
        return "it is made for 64-bit processors"
    return None


BACKENDS = Registry({"llvm": _load_llvm, "numpy": NumpyBackend})
