"""The interface between graphs and the backends that compile them.

Backends register here, so that what comes before them in the pipeline can ask for compiled
code without knowing who makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from funcgrad.config import config
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.notices import warn_at
from funcgrad.errors import ArgumentError, BackendError, BackendWarning, at_line
from funcgrad.source import user_line

Runner = Callable[..., Sequence[Any]]


class Cost(NamedTuple):
    """What one call of a compiled program takes.

    Attributes:
        kernels: how many loop nests it runs.
        library_calls: how many calls of libraries it makes: matrix products, NumPy's functions.
        bytes_moved: what each of these reads and writes, added up; what finds room in a
            processor's cache in between costs less than that.
        flops: operations on numbers. A function such as `exp` counts as one.
        arena_bytes: the memory for values that are no results.

    Example:
        >>> fg.jit(lambda x: x @ x, backend="numpy").lower(np.ones((100, 100))).cost().flops
        2000000
    """

    kernels: int
    library_calls: int
    bytes_moved: int
    flops: int
    arena_bytes: int

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), f"{n:,}") for name, n in self._asdict().items()]
        width = max(len(n) for _, n in rows) + 2
        return "\n".join(f"{name:13}{n:>{width}}" for name, n in rows)


class Inspection(Protocol):
    """What a backend tells of a program; `Lowered` says what the parts are."""

    @property
    def text(self) -> str: ...
    @property
    def kernels(self) -> tuple[Any, ...]: ...
    @property
    def assembly(self) -> str: ...
    def cost(self) -> Cost: ...


class Backend(Protocol):
    """What a backend offers.

    `compile(graph, out_tree, donated)` gives a callable of flat arrays. Given a structure, it
    returns a tree of it whose arrays are the caller's own: none shares memory with another, an
    argument or a constant. Without, it returns a list, and an argument that is a result is
    passed on. Of the arguments it writes to none, except that the ones numbered in `donated`
    may be overwritten, and be results. `inspect` gives what can be seen of the program.
    """

    name: str

    def compile(
        self, graph: Graph, out_tree: Any = None, donated: Sequence[int] = ()
    ) -> Runner: ...

    def inspect(
        self, graph: Graph, signature: Any, out_tree: Any, donated: Sequence[int] = ()
    ) -> Inspection: ...


# Those that have been loaded; and what loads the others, the fastest first.
BACKENDS: dict[str, Backend] = {}
_LOADERS: dict[str, Callable[[], Backend]] = {}
_unusable: dict[str, BackendError] = {}


def register_backend(backend: Backend) -> None:
    BACKENDS[backend.name] = backend


def register_lazily(name: str, load: Callable[[], Backend]) -> None:
    """A backend that is loaded when it is first needed, and preferred to those already loaded.

    `load` raises a BackendError where the backend cannot be used on this machine.
    """
    _LOADERS[name] = load


def backend_names() -> list[str]:
    return sorted({*BACKENDS, *_LOADERS})


def check_backend(name: str, what: str) -> str:
    """The name, if there is a backend of it, whether or not it can be used here."""
    if name not in BACKENDS and name not in _LOADERS:
        raise at_line(
            ArgumentError, f"{what}: there is no backend {name!r}; there are {backend_names()}"
        )
    return name


def backend_named(name: str) -> Backend:
    """The backend of this name.

    Raises:
        BackendError: it cannot be used here; the message says why and what to do.
    """
    found = BACKENDS.get(name)
    if found is None:
        if name in _unusable:
            raise at_line(BackendError, str(_unusable[name]))
        try:
            found = BACKENDS.setdefault(name, _LOADERS[name]())
        except BackendError as error:
            _unusable[name] = error
            raise at_line(BackendError, str(error)) from None
    return found


def default_backend() -> str:
    """The name of the backend that runs what does not name one.

    It is the one that the user's settings name, else the fastest that can be used. Where that
    is not the fastest there is, a warning says so, once.
    """
    name = config.backend
    if name is not None:
        return check_backend(name, "config.backend or FUNCGRAD_BACKEND")
    for name in _LOADERS:
        if name in BACKENDS:
            return name
        known = name in _unusable
        try:
            backend_named(name)
        except BackendError:
            if not known:
                _warn(_unusable[name])
            continue
        return name
    return next(iter(BACKENDS))


def _warn(error: BackendError) -> None:
    message = (
        f"{error}; compiled functions run as NumPy source, which is slower. "
        'FUNCGRAD_BACKEND=numpy in the environment or fg.config.backend = "numpy" says that '
        "this is intended."
    )
    warn_at(user_line(), BackendWarning, message)


def runner(graph: Graph, backend: str | None = None) -> Runner:
    """Compiled code of a graph, made once and kept with it.

    Args:
        backend: the compiler's name, if it is not the default.
    """
    if config.debug_nans:
        return lambda *args: run_graph(graph, args)
    name = backend or default_backend()
    found = graph.cache.get(name)
    if found is None:
        # Without a lock: tracing the rules of a user's function may run code that waits for
        # another thread. At worst two threads compile the same graph.
        found = graph.cache.setdefault(name, backend_named(name).compile(graph))
    return found
