"""`jit`: from a function's calls to compiled programs, one for each kind of arguments."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from funcgrad import tree
from funcgrad.config import config
from funcgrad.core.aval import aval_of
from funcgrad.core.evaluate import run_graph
from funcgrad.core.execution import BACKENDS, Runner
from funcgrad.core.graph import Graph
from funcgrad.core.tracer import Tracer, bind
from funcgrad.errors import ArgumentError, StaticArgumentError, at_line
from funcgrad.primitives.call import call
from funcgrad.transforms import call as _call_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
from funcgrad.transforms.dispatch import MISS, Guard, make_guard
from funcgrad.transforms.explain import explain_miss
from funcgrad.transforms.trace import leaf_avals, trace

_SCALARS = frozenset({float, int, complex, bool})


class Program(NamedTuple):
    """One compiled specialisation."""

    graph: Graph
    out_tree: Any
    run: Callable[..., Any]
    guard: Guard | None


class Lowered:
    """What `jit(f)` runs for arguments of certain shapes and dtypes.

    Attributes:
        graph: the traced graph; prints as text.
        text: the generated program: a complete module that needs only NumPy.

    Example:
        >>> print(fg.jit(lambda x: x * x).lower(3.0).graph)
        graph(a: f64~[]) {
          b: f64~[] = mul(a, a)
          return b
        }
    """

    def __init__(self, graph: Graph, text: Callable[[], str]):
        self.graph = graph
        self._text = text

    @functools.cached_property
    def text(self) -> str:
        return self._text()

    def __str__(self) -> str:
        return self.text


class Jitted:
    """A jitted function; made by `jit`.

    Example:
        >>> square = fg.jit(lambda x: x * x)
        >>> isinstance(square, fg.Jitted), square(3.0)
        (True, np.float64(9.0))
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        static_argnums: tuple[int, ...],
        static_argnames: tuple[str, ...],
        backend: str,
    ):
        functools.update_wrapper(self, fun, updated=())
        self.fun = fun
        self.backend = backend
        self._static_nums = static_argnums
        self._static_names = static_argnames
        self._has_static = bool(static_argnums or static_argnames)
        self._programs: dict[Any, Program] = {}
        self._graphs: dict[Any, tuple[Graph, Any]] = {}
        self._guard: Guard | None = None
        self._last_miss: tuple[Any, list[Any]] | None = None
        self._lock = threading.RLock()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {getattr(self.fun, '__qualname__', self.fun)!s}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        guard = self._guard
        if guard is not None and not kwargs and not config.debug_nans:
            result = guard(args)
            if result is not MISS:
                return result
        static: Any = None
        if self._has_static:
            static, args, kwargs = self._split_static(args, kwargs)
        if kwargs:
            leaves, treedef = tree.flatten((args, kwargs))
        else:
            leaves, treedef = tree.flatten(args)
        parts: list[Any] = [treedef, static]
        for leaf in leaves:
            kind = type(leaf)  # pyright: ignore[reportUnknownVariableType]
            if kind is np.ndarray:
                parts.append(leaf.shape)
                parts.append(leaf.dtype)
            elif kind in _SCALARS:
                parts.append(kind)
            elif isinstance(leaf, np.generic):
                parts.append(())
                parts.append(leaf.dtype)  # pyright: ignore[reportUnknownMemberType]
            elif kind is Tracer:
                return self._call_traced(leaves, treedef, static, bool(kwargs))
            else:
                parts.append(_leaf_key(leaf, leaves, treedef))
        if config.debug_nans:
            return self._call_checked(leaves, treedef, static, bool(kwargs))
        key = tuple(parts)
        program = self._programs.get(key)
        if program is None:
            program = self._compile(key, leaves, treedef, static, bool(kwargs))
            if program is None:
                return self._call_traced(leaves, treedef, static, bool(kwargs))
        self._guard = None if static or kwargs else program.guard
        return program.run(*leaves)

    # -- keys -------------------------------------------------------------------------

    def _split_static(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        n = len(args)
        numbers = {i % n for i in self._static_nums if -n <= i < n}
        fixed: list[tuple[int | str, Any]] = [(i, args[i]) for i in sorted(numbers)]
        fixed += [(k, kwargs[k]) for k in self._static_names if k in kwargs]
        for where, value in fixed:
            try:
                hash(value)
            except TypeError:
                name = f"argument {where}" if isinstance(where, int) else f"argument {where!r}"
                raise at_line(
                    StaticArgumentError,
                    f"jit: static {name} of type {type(value).__name__} cannot be hashed, so it "
                    "cannot be part of the cache's key; pass a tuple instead of a list, a frozen "
                    "dataclass instead of a dict, or make the argument an ordinary one",
                ) from None
        # 1, 1.0 and True are equal, but the programs they lead to are not.
        static: Any = tuple((where, cast(Any, type(value)), value) for where, value in fixed)
        rest = tuple(a for i, a in enumerate(args) if i not in numbers)
        return static, rest, {k: v for k, v in kwargs.items() if k not in self._static_names}

    def _function(self, static: Any, has_kwargs: bool) -> Callable[..., Any]:
        """The user's function of what is not static, as `fun(*args)` or `fun(args, kwargs)`."""
        fun = self.fun
        fixed = {where: value for where, _, value in static or ()}

        def full(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            supply = iter(args)
            positional: list[Any] = []
            total = len(args) + sum(isinstance(w, int) for w in fixed)
            for i in range(total):
                positional.append(fixed[i] if i in fixed else next(supply))
            named = {w: v for w, v in fixed.items() if isinstance(w, str)}
            return fun(*positional, **kwargs, **named)

        return full if has_kwargs else lambda *args: full(args, {})

    # -- programs ---------------------------------------------------------------------

    def _trace(
        self, leaves: Sequence[Any], treedef: Any, static: Any, has_kwargs: bool
    ) -> tuple[Graph, Any]:
        args = treedef.unflatten(leaves)
        avals = leaf_avals(args, leaves, "jit: a leaf of its arguments")
        name = getattr(self.fun, "__name__", "a function")
        return trace(self._function(static, has_kwargs), treedef, avals, f"jit of {name}")

    def _compile(
        self, key: Any, leaves: Sequence[Any], treedef: Any, static: Any, has_kwargs: bool
    ) -> Program | None:
        """A new program; None where the function closes over tracers, so cannot be kept."""
        with self._lock:
            program = self._programs.get(key)
            if program is not None:
                return program
            graph, out_tree = self._trace(leaves, treedef, static, has_kwargs)
            if _captures(graph):
                return None
            self._last_miss = (key, list(self._programs))
            flat: Runner = BACKENDS[self.backend].compile(graph, out_tree)
            program = Program(graph, out_tree, flat, make_guard(treedef, leaves, flat))
            self._programs[key] = program
            return program

    def _call_checked(
        self, leaves: Sequence[Any], treedef: Any, static: Any, has_kwargs: bool
    ) -> Any:
        """Under debug_nans: equation by equation, each result checked where it is made."""
        graph, out_tree = self._trace(leaves, treedef, static, has_kwargs)
        with np.errstate(all="ignore"):
            return out_tree.unflatten(run_graph(graph, leaves))

    def _call_traced(
        self, leaves: Sequence[Any], treedef: Any, static: Any, has_kwargs: bool
    ) -> Any:
        """Inside a recording: one call equation where the result is computed next, else inlined.

        It is where values ride along, and where `vmap` runs what it has recorded.
        """
        key = (treedef, static, *map(aval_of, leaves))
        found = self._graphs.get(key)
        if found is None:
            found = self._trace(leaves, treedef, static, has_kwargs)
            if not _captures(found[0]):
                self._graphs[key] = found
        graph, out_tree = found
        tracers = [leaf for leaf in leaves if type(leaf) is Tracer]
        runs = all(t.has_value or t.rec.purpose == "vmap" for t in tracers)
        if runs and not _captures(graph) and not config.debug_nans:
            return out_tree.unflatten(bind(call, *leaves, graph=graph))
        return out_tree.unflatten(run_graph(graph, leaves))

    # -- looking inside ---------------------------------------------------------------

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for these arguments, without running it.

        Args:
            args, kwargs: as for a call; arrays or `ShapeDtypeStruct`s.

        Returns:
            An object with `.graph` (the traced graph) and `.text` (the program's source).

        Example:
            >>> import numpy as np, funcgrad as fg
            >>> print(fg.jit(lambda x: np.sin(x) * 2.0).lower(np.ones(3)).graph)
            graph(a: f64[3]) {
              b: f64[3] = sin(a)
              c: f64[3] = mul(b, 2.0)
              return c
            }
        """
        static: Any = None
        if self._has_static:
            static, args, kwargs = self._split_static(args, kwargs)
        full = (args, kwargs) if kwargs else args
        leaves, treedef = tree.flatten(full)
        graph, out_tree = self._trace(leaves, treedef, static, bool(kwargs))
        backend = BACKENDS[self.backend]
        return Lowered(graph, lambda: backend.text(graph, self._signature(static, full), out_tree))

    def _signature(self, static: Any, full: Any) -> Signature:
        name = getattr(self.fun, "__name__", "main")
        args, kwargs = full if static_kwargs(full) else (full, dict[str, Any]())
        fixed = {where for where, _, _ in static or ()}
        names = _parameter_names(self.fun, len(args), fixed)
        return Signature(name, [*zip(names, args, strict=True), *kwargs.items()])

    def explain(self) -> str:
        """Why the last call that traced did so: what differs from the nearest program kept.

        Example:
            >>> import numpy as np, funcgrad as fg
            >>> f = fg.jit(lambda x: x * 2.0)
            >>> _ = f(np.ones(3)), f(np.ones(4))
            >>> print(f.explain())
            retraced: [0] is f64[4]; it was f64[3] in the nearest earlier call
        """
        return explain_miss(self._last_miss)


class Signature(NamedTuple):
    """How a generated function is called: its name, and its parameters with examples."""

    name: str
    parameters: list[tuple[str, Any]]


def static_kwargs(full: Any) -> bool:
    return len(full) == 2 and isinstance(full[0], tuple) and isinstance(full[1], dict)


def _parameter_names(fun: Callable[..., Any], count: int, fixed: set[Any]) -> list[str]:
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    free = [n for i, n in enumerate(names) if i not in fixed]
    return [free[i] if i < len(free) else f"arg{i}" for i in range(count)]


def _leaf_key(leaf: Any, leaves: Sequence[Any], treedef: Any) -> Any:
    leaf_avals(treedef.unflatten(leaves), leaves, "jit: a leaf of its arguments")
    # Arrays of another library, CuPy's say, run another program.
    return (type(leaf), aval_of(leaf))


def _captures(graph: Graph) -> bool:
    return any(type(c.value) is Tracer for c in graph.consts())


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    backend: str | None = None,
) -> Any:
    """A function that runs as a compiled program, traced once for each kind of arguments.

    The first call with arguments of new shapes, dtypes, structure or static values traces
    `fun` and compiles the graph; further calls run the program. Results are those of `fun`
    up to rounding.

    Args:
        fun: a pure function of pytrees of arrays. Without it, a decorator is returned.
        static_argnums: positional arguments that are no data: settings, by which the function
            may branch. They must be hashable.
        static_argnames: the same for keyword arguments, by name; a name that `fun` also takes
            by position is static there, too.
        backend: the compiler's name; "numpy" is always there.

    Raises:
        TracerValueError: `fun` asks for a value (`if x > 0`, `float(x)`).
        StaticArgumentError: a static argument cannot be hashed.
        NotAnArrayError: an argument is no array, number or pytree of them.
        ArgumentError: there is no such backend.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> step = fg.jit(lambda w, x: w - 0.1 * fg.grad(lambda w: np.sum((x @ w) ** 2))(w))
        >>> step(np.ones(2), np.eye(2))
        array([0.8, 0.8])
    """
    if fun is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames, backend=backend
        )
    chosen = backend or next(iter(BACKENDS))
    if chosen not in BACKENDS:
        raise at_line(
            ArgumentError, f"jit: there is no backend {backend!r}; there are {sorted(BACKENDS)}"
        )
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    return Jitted(fun, *_complete_static(fun, numbers, names), chosen)


def _complete_static(
    fun: Callable[..., Any], numbers: tuple[int, ...], names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """An argument that is static by number is static by name, and the other way round."""
    if not numbers and not names:
        return (), ()
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return numbers, names
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p.name for p in parameters if p.kind in kinds]
    known = {p.name for p in parameters}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in names:
            if name not in known:
                raise at_line(
                    ArgumentError,
                    f"jit: static_argnames has {name!r}, which is no parameter of "
                    f"{getattr(fun, '__name__', fun)}; it has {sorted(known)}",
                )
    all_names = [
        *names,
        *(positional[i] for i in numbers if -len(positional) <= i < len(positional)),
    ]
    all_numbers = [*numbers, *(positional.index(n) for n in names if n in positional)]
    return tuple(dict.fromkeys(all_numbers)), tuple(dict.fromkeys(all_names))


def export(fun: Callable[..., Any], *args: Any, path: Any, **kwargs: Any) -> None:
    """Write `fun`, compiled for these arguments, as a Python file that needs only NumPy.

    Args:
        fun: a pure function; one that is jitted already keeps its static arguments.
        args, kwargs: examples, of which shapes, dtypes and structure matter. What `fun`
            closes over (a trained model's parameters, say) is written into the file.
        path: the file; it is replaced atomically, so a failure leaves an earlier one whole.

    The file's function has `fun`'s name and parameters. It takes and returns dicts, lists,
    tuples and arrays; a named tuple or dataclass among the arguments is read by its attributes,
    and becomes a tuple or a dict among the results.

    Example:
        >>> import numpy as np, funcgrad as fg, tempfile, pathlib, runpy
        >>> def energy(x):
        ...     return np.sum(x**4)
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "force.py"
        >>> def force(x):
        ...     return -fg.grad(energy)(x)
        >>> fg.export(force, np.ones(2), path=file)
        >>> runpy.run_path(str(file))["force"](np.array([1.0, 2.0]))
        array([ -4., -32.])
    """
    from funcgrad.transforms.files import write_atomically

    jitted = fun if isinstance(fun, Jitted) else jit(fun, backend="numpy")
    write_atomically(path, jitted.lower(*args, **kwargs).text)
