"""The interface between graphs and the backends that compile them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from funcgrad.config import config
from funcgrad.core.device import CPU
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.records import NamedTuple

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
    def plan(self) -> str: ...
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


class Backends(Protocol):
    """The backends that there are, by name."""

    def check(self, name: str, what: str) -> str:
        """The name, if there is a backend of it, whether or not it can be used here.

        Raises:
            ArgumentError: there is none; the message begins with `what`.
        """
        ...

    def named(self, name: str) -> Backend:
        """The backend of this name.

        Raises:
            BackendError: it cannot be used here; the message says why and what to do.
        """
        ...

    def default(self) -> str:
        """The name of the backend that runs what does not name one."""
        ...


# Set by the package as it is imported: what makes graphs does not know who compiles them.
backends = cast(Backends, None)


def compiler_of(graph: Graph, name: str | None = None) -> Backend:
    """Who compiles a graph: the backend of that name, else the default.

    What runs on a device is written as calls of the array library, by "numpy", whatever is asked
    for: the others make code for the processor.
    """
    if graph.device != CPU:
        return backends.named("numpy")
    return backends.named(name or backends.default())


def runner(graph: Graph, backend: str | None = None) -> Runner:
    """Compiled code of a graph, made once and kept with it.

    Args:
        backend: the compiler's name, if it is not the default.
    """
    if config.debug_nans:
        return lambda *args: run_graph(graph, args)
    name = backend or backends.default()
    found = graph.cache.get(name)
    if found is None:
        # Without a lock: tracing the rules of a user's function may run code that waits for
        # another thread. At worst two threads compile the same graph.
        found = graph.cache.setdefault(name, compiler_of(graph, name).compile(graph))
    return found
