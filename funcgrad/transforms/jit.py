"""`jit`: from a function's calls to compiled programs, one for each kind of arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from funcgrad import tree
from funcgrad.config import config
from funcgrad.core import execution
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.evaluate import run_graph
from funcgrad.core.execution import Cost, Inspection
from funcgrad.core.graph import Graph
from funcgrad.core.lru_cache import LruCache, Notice
from funcgrad.core.open_recorders import deferring, is_deferring, is_staging
from funcgrad.core.ownership import native
from funcgrad.core.tracer import Recorder, Tracer
from funcgrad.errors import ArgumentError, IntegerRangeError, NotAnArrayError, at_line
from funcgrad.primitives.call import call
from funcgrad.primitives.integers import INT64, holds
from funcgrad.records import NamedTuple
from funcgrad.transforms.dispatch import MISS, Guard, make_guard
from funcgrad.transforms.explain import explain_miss
from funcgrad.transforms.frozen import frozen
from funcgrad.transforms.static import (
    NamedArguments,
    StaticArguments,
    Statics,
    names_of_rest,
    with_static,
)
from funcgrad.transforms.trace import check_devices, check_function, leaf_avals, trace

_SCALARS = frozenset({float, int, complex, bool})


class Form(NamedTuple):
    """How a call is put together, its leaves aside.

    Attributes:
        treedef: the structure of the positional arguments, or of (positional, keywords).
        static: the static arguments.
        keywords: there are keyword arguments.
    """

    treedef: tree.TreeDef
    static: Statics
    keywords: bool


class Program(NamedTuple):
    """One compiled specialisation: a function of leaves, and the guard that calls it."""

    run: Callable[..., Any]
    guard: Guard | None


class Signature(NamedTuple):
    """How a generated function is called: its name, and its parameters as trees of avals."""

    name: str
    parameters: list[tuple[str, Any]]


class Lowered:
    """What `jit(f)` runs for arguments of certain shapes and dtypes.

    Attributes:
        graph: the traced graph; prints as text.
        backend: the compiler's name.
        text: the generated program. By "numpy" it is a complete module that needs only NumPy;
            by "llvm", LLVM's intermediate language.
        plan: the program's steps, as text: which kernels and products it runs on which arrays,
            and what lies where; by "llvm", else it is empty.
        kernels: the loop nests that the program consists of beside calls of libraries, each
            once; they print as text. By "numpy" there are none.
        assembly: the machine's instructions, by "llvm".

    Example:
        >>> print(fg.jit(lambda x: x * x).lower(3.0).graph)
        graph(a: f64~[]) {
          b: f64~[] = mul(a, a)
          return b
        }
    """

    def __init__(self, graph: Graph, backend: str, inspect: Callable[[], Inspection]):
        self.graph = graph
        self.backend = backend
        self._inspect = inspect

    @functools.cached_property
    def _seen(self) -> Inspection:
        return self._inspect()

    @functools.cached_property
    def text(self) -> str:
        return self._seen.text

    @functools.cached_property
    def plan(self) -> str:
        return self._seen.plan

    @functools.cached_property
    def kernels(self) -> tuple[Any, ...]:
        return self._seen.kernels

    @functools.cached_property
    def assembly(self) -> str:
        return self._seen.assembly

    def cost(self) -> Cost:
        """What a call of the program takes; prints as a table.

        Example:
            >>> import numpy as np, funcgrad as fg
            >>> lowered = fg.jit(lambda x: np.sum(x * x), backend="numpy").lower(np.ones(1000))
            >>> print(lowered.cost())
            kernels            0
            library calls      2
            bytes moved   24,008
            flops          2,000
            arena bytes        0
        """
        return self._seen.cost()

    def __str__(self) -> str:
        return self.text


class Jitted:
    """A jitted function; made by `jit`.

    Attributes:
        fun: the function.
        backend: the compiler's name where one was asked for, else None.

    Example:
        >>> square = fg.jit(lambda x: x * x)
        >>> isinstance(square, fg.Jitted), square(3.0)
        (True, np.float64(9.0))
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        static: StaticArguments,
        donated: NamedArguments,
        backend: str | None,
    ):
        functools.update_wrapper(self, fun, updated=())
        self.fun = fun
        self.backend = backend
        self._static = static
        self._donated = donated
        # Threads take no lock: at worst two of them compile the same program. A lock held while
        # user code runs could block it.
        notice = Notice(f"jit: {getattr(fun, '__qualname__', fun)}")
        self._programs: LruCache[Program] = LruCache(notice)
        self._graphs: LruCache[tuple[Graph, tree.TreeDef]] = LruCache(notice)
        self._guard: Guard | None = None
        self._last_miss: tuple[Any, list[Any]] | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _Bound(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {getattr(self.fun, '__qualname__', self.fun)!s}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        guard = self._guard
        if guard is not None and not kwargs and not config.debug_nans and not deferring:
            try:
                result = guard(args)
            except OverflowError as error:
                raise _located(error, args) from error
            if result is not MISS:
                return result
        form, leaves = self._take_apart(args, kwargs)
        parts: list[Any] = [form]
        for i, leaf in enumerate(leaves):
            kind = cast(Any, type(leaf))
            if kind is np.ndarray:
                if not leaf.dtype.isnative:
                    leaves[i] = leaf = native(leaf)
                parts.append(leaf.shape)
                parts.append(leaf.dtype)
            elif kind in _SCALARS:
                parts.append(kind)
            elif isinstance(leaf, np.generic):
                parts.append(())
                parts.append(cast(Any, leaf).dtype)
            elif kind is Tracer:
                return self._call_traced(form, list(map(native, leaves)))
            elif isinstance(leaf, np.memmap):
                leaves[i] = plain = native(np.asarray(cast(Any, leaf)))
                parts += (plain.shape, plain.dtype)
            else:
                try:
                    parts.append(aval_of(leaf))
                except NotAnArrayError:
                    # Tells which leaf it is.
                    _avals(form, leaves)
                    raise
        if deferring and is_deferring():
            return self._call_traced(form, leaves)
        if config.debug_nans:
            return self._call_checked(form, leaves)
        key = tuple(parts)
        program = self._programs.get(key) or self._compile(key, form, leaves)
        if program is None:
            return self._call_traced(form, leaves)
        # A guard knows positional arguments only.
        self._guard = None if form.static or form.keywords else program.guard
        try:
            return program.run(*leaves)
        except OverflowError as error:
            raise _located(error, leaves) from error

    # -- programs ---------------------------------------------------------------------

    def _take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Form, list[Any]]:
        static: Statics = ()
        if self._static:
            static, args, kwargs = self._static.split(args, kwargs)
        leaves, treedef = tree.flatten((args, kwargs) if kwargs else args)
        return Form(treedef, static, bool(kwargs)), leaves

    def _graph(self, form: Form, avals: tuple[Aval, ...]) -> tuple[Graph, tree.TreeDef]:
        """The function's graph for these arguments, and its result's structure."""
        found = self._graphs.get((form, avals))
        if found is not None:
            return found
        fun = with_static(self.fun, form.static)

        def with_keywords(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return fun(*args, **kwargs)

        target = with_keywords if form.keywords else fun
        name = getattr(self.fun, "__name__", "a function")
        rec = Recorder(f"jit of {name}", concrete=False, owns=True, lasting=True)
        graph, out_tree = trace(target, form.treedef, avals, rec)
        if _captures_tracers(graph):
            return graph, out_tree
        return self._graphs.put((form, avals), (frozen(graph), out_tree))

    def _compile(self, key: Any, form: Form, leaves: Sequence[Any]) -> Program | None:
        """A new program; None where the function closes over tracers, so cannot be kept."""
        graph, out_tree = self._graph(form, _avals(form, leaves))
        if _captures_tracers(graph):
            return None
        self._last_miss = (key, self._programs.keys())
        donated = self._donated_leaves(form, leaves)
        run = execution.compiler_of(graph, self.backend).compile(graph, out_tree, donated)
        program = Program(run, make_guard(form.treedef, leaves, run))
        return self._programs.put(key, program)

    def _donated_leaves(self, form: Form, leaves: Sequence[Any]) -> tuple[int, ...]:
        """The numbers of the leaves that may be overwritten."""
        if not self._donated:
            return ()
        given = form.treedef.unflatten(leaves)
        args, kwargs = given if form.keywords else (given, dict[str, Any]())
        static = {where for where, _ in form.static}
        total = len(args) + sum(isinstance(where, int) for where in static)
        places = [i for i in range(total) if i not in static]
        named = self._donated.among(total)
        chosen = [i in named for i in places]
        # Keywords are flattened in their names' order.
        chosen += [name in self._donated.names for name in sorted(kwargs)]
        parts = [*args, *(kwargs[name] for name in sorted(kwargs))]
        flags = [
            flag
            for flag, part in zip(chosen, parts, strict=True)
            for _ in range(len(tree.leaves(part)))
        ]
        return tuple(i for i, flag in enumerate(flags) if flag)

    def _call_checked(self, form: Form, leaves: Sequence[Any]) -> Any:
        """Under debug_nans: equation by equation, each result checked where it is made."""
        graph, out_tree = self._graph(form, _avals(form, leaves))
        with np.errstate(all="ignore"):
            return out_tree.unflatten(run_graph(graph, leaves))

    def _call_traced(self, form: Form, leaves: Sequence[Any]) -> Any:
        """Inside a recording: inlined where a graph is being made, else one call equation."""
        graph, out_tree = self._graph(form, _avals(form, leaves))
        if is_staging() or config.debug_nans or _captures_tracers(graph):
            with np.errstate(all="ignore"):
                return out_tree.unflatten(run_graph(graph, leaves))
        return out_tree.unflatten(bind(call, *leaves, graph=graph, backend=self.backend))

    # -- looking inside ---------------------------------------------------------------

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for these arguments, without running it.

        Args:
            args, kwargs: as for a call; arrays or `ShapeDtypeStruct`s.

        Returns:
            An object with `.graph` (the traced graph), `.text` (the program), `.plan`, `.kernels`,
            `.assembly` and `.cost()`.

        Example:
            >>> import numpy as np, funcgrad as fg
            >>> print(fg.jit(lambda x: np.sin(x) * 2.0).lower(np.ones(3)).graph)
            graph(a: f64[3]) {
              b: f64[3] = sin(a)
              c: f64[3] = mul(b, 2.0)
              return c
            }
        """
        form, leaves = self._take_apart(args, kwargs)
        avals = _avals(form, leaves)
        graph, out_tree = self._graph(form, avals)
        signature, donated = self._signature(form, avals), self._donated_leaves(form, avals)
        backend = execution.compiler_of(graph, self.backend)
        return Lowered(
            graph, backend.name, lambda: backend.inspect(graph, signature, out_tree, donated)
        )

    def _signature(self, form: Form, avals: Sequence[Aval]) -> Signature:
        given = form.treedef.unflatten(avals)
        args, kwargs = given if form.keywords else (given, dict[str, Any]())
        names = names_of_rest(self.fun, form.static, len(args))
        parameters: list[tuple[str, Any]] = [*zip(names, args, strict=True), *kwargs.items()]
        return Signature(getattr(self.fun, "__name__", "main"), parameters)

    def by_numpy(self) -> Jitted:
        """The same function as NumPy source; what has been traced is kept."""
        other = Jitted(self.fun, self._static, self._donated, "numpy")
        other._graphs = self._graphs
        return other

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


class _Bound:
    """A jitted method with its instance."""

    def __init__(self, jitted: Jitted, instance: Any):
        self._jitted = jitted
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(self._instance, *args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        return self._jitted.lower(self._instance, *args, **kwargs)

    def explain(self) -> str:
        return self._jitted.explain()


def _avals(form: Form, leaves: Sequence[Any]) -> tuple[Aval, ...]:
    try:
        avals = tuple(map(aval_of, leaves))
    except NotAnArrayError:
        # Once more, for a message with the leaf's path.
        return tuple(
            leaf_avals(form.treedef.unflatten(leaves), leaves, "jit: a leaf of its arguments")
        )
    check_devices(form.treedef.unflatten(avals), avals, "jit")
    return avals


def _located(error: OverflowError, args: Any) -> OverflowError:
    """An integer that is out of range when a program runs: the error with the call's line."""
    if isinstance(error, IntegerRangeError):
        return error
    wide = [x for x in tree.leaves(args) if type(x) is int and not holds(INT64, x)]
    reason = f"Python integer {wide[0]} out of bounds for int64" if wide else str(error)
    return at_line(IntegerRangeError, f"in a call of a jitted function: {reason}")


def _captures_tracers(graph: Graph) -> bool:
    return any(type(c.value) is Tracer for c in graph.consts())


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Sequence[str] = (),
    backend: str | None = None,
) -> Any:
    """A function that runs as a compiled program, traced once for each kind of arguments.

    The first call with arguments of new shapes, dtypes, structure or static values traces
    `fun` and compiles the graph; further calls run the program. Results are those of `fun`
    up to rounding, in memory of their own: none shares it with an argument that is not donated,
    with an array that `fun` closes over, or with another result, also where `fun` gives back an
    argument or a view. What `fun` closes over is kept as it was when it was traced.

    Args:
        fun: a pure function of pytrees of arrays. Without it, a decorator is returned.
        static_argnums: positional arguments that are no data: settings, by which the function
            may branch. They must be hashable.
        static_argnames: the same for keyword arguments, by name; a name that `fun` also takes
            by position is static there, too.
        donate_argnums: positional arguments that the caller gives up: their arrays may be
            overwritten, and be the results, so that an update of parameters takes no further
            memory and less time. Use only what the call returns in their place. Arrays that
            cannot be written to, are not contiguous or overlap another argument are left as
            they are; so are all, by the backend "numpy".
        donate_argnames: the same by name.
        backend: the compiler: "llvm", which needs llvmlite, or "numpy", which is always there.
            Without it, the one that `fg.config.backend` or the environment variable
            `FUNCGRAD_BACKEND` names, else the fastest that can be used.

    Raises:
        TracerValueError: `fun` asks for a value (`if x > 0`, `float(x)`).
        StaticArgumentError: a static argument cannot be hashed.
        NotAnArrayError: an argument is no array, number or pytree of them.
        ArgumentError: there is no such backend, or `fun` has no such argument.
        BackendError: on the first call, the backend that was asked for cannot be used here.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> step = fg.jit(lambda w, x: w - 0.1 * fg.grad(lambda w: np.sum((x @ w) ** 2))(w))
        >>> step(np.ones(2), np.eye(2))
        array([0.8, 0.8])
    """
    if fun is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            donate_argnames=donate_argnames,
            backend=backend,
        )
    check_function(fun, "jit")
    if backend is not None:
        execution.backends.check(backend, "jit")
    static = StaticArguments(fun, static_argnums, static_argnames, "static")
    donated = NamedArguments(fun, donate_argnums, donate_argnames, "donate")
    both = {*static.numbers, *static.names} & {*donated.numbers, *donated.names}
    if both:
        raise at_line(
            ArgumentError, f"jit: argument {min(both, key=str)!r} is both static and donated"
        )
    return Jitted(fun, static, donated, backend)


def export(fun: Callable[..., Any], *args: Any, path: Any, **kwargs: Any) -> None:
    """Write `fun`, compiled for these arguments, as a Python file that needs only NumPy.

    Args:
        fun: a pure function; one that is jitted already keeps its static arguments.
        args, kwargs: examples, of which shapes, dtypes and structure matter. What `fun`
            closes over (a trained model's parameters, say) is written into the file.
        path: the file, written by :func:`funcgrad.files.atomic_write`, so a failure leaves an
            earlier one whole.

    Raises:
        ExportError: an argument or the result has parts that source without funcgrad cannot name.
        OSError: the file cannot be written; its directory does not exist, for one.

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
    from funcgrad.files import atomic_write

    jitted = fun.by_numpy() if isinstance(fun, Jitted) else jit(fun, backend="numpy")
    text = jitted.lower(*args, **kwargs).text
    with atomic_write(path) as file:
        file.write(text.encode())
