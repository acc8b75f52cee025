"""From a user's function on pytrees to a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import PYTHON_SCALARS, Aval, aval_of
from funcgrad.core.binding import bind, recorder_of
from funcgrad.core.device import is_array
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.core.ownership import native, own_arrays
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import Recorder, Tracer, own_value
from funcgrad.errors import ArgumentError, DeviceError, NotAnArrayError, at_line
from funcgrad.transforms import draws

# Captured arrays from this size on are operands of the equations that hold graphs.
LIFT_BYTES = 4096


def trace(
    fun: Callable[..., Any], treedef: Any, avals: Sequence[Aval], rec: Recorder
) -> tuple[Graph, Any]:
    """Record `fun(*args)` for leaves of these avals; the graph and the result's structure.

    `treedef` is the structure of the tuple of arguments.
    """
    watched = draws.watch(fun)
    with rec:
        leaves = [rec.abstract_input(a) for a in avals]
        out = fun(*treedef.unflatten(leaves))
        draws.check(watched, rec.purpose)
        out_leaves, out_tree = flatten_result(out, rec.purpose)
        return rec.graph(out_leaves), out_tree


def flatten_result(out: Any, purpose: str) -> tuple[list[Any], Any]:
    """A function's result as leaves that are arrays, numbers or tracers.

    Raises:
        NotAnArrayError: a leaf is none of these; the message has its path.
    """
    leaves, treedef = tree.flatten(out)
    for i, leaf in enumerate(leaves):
        if type(leaf) is not Tracer:
            try:
                leaves[i] = native(leaf)
                aval_of(leaf)
            except NotAnArrayError:
                path = tree.keystr(tree.flatten_with_path(out)[0][i][0])
                role = f"under {purpose} a leaf of the result"
                raise NotAnArrayError.of(leaf, path, role) from None
    return leaves, treedef


def leaf_avals(args: Any, leaves: Sequence[Any], role: str) -> list[Aval]:
    """The avals of a pytree's leaves.

    Raises:
        NotAnArrayError: a leaf is no array; the message has its path.
    """
    avals = []
    for i, leaf in enumerate(leaves):
        try:
            avals.append(aval_of(leaf))
        except NotAnArrayError:
            path = tree.keystr(tree.flatten_with_path(args)[0][i][0])
            raise NotAnArrayError.of(leaf, path, role) from None
    return avals


def check_devices(args: Any, avals: Sequence[Aval], what: str) -> None:
    """Refuse arguments that no program can read together.

    Raises:
        DeviceError: their arrays are on several devices; the message has their paths.
    """
    if DeviceError.concerns(avals):
        paths = tree.flatten_with_path(args)[0]
        names = [f"the leaf at {tree.keystr(path)}" for path, _ in paths]
        raise DeviceError.of(f"the arguments of {what}", avals, names)


def lift_captures(*graphs: Graph, also: Sequence[Tracer] = ()) -> tuple[list[Graph], list[Tracer]]:
    """Turn captured tracers of enclosing recordings into leading inputs, the same in each graph.

    Graphs that sit in an equation's parameters must be closed, so that a transformation of
    the enclosing graph sees what they depend on. `also`: tracers that become inputs anyhow.
    """
    found = [*also, *(c.value for g in graphs for c in g.consts() if type(c.value) is Tracer)]
    return _lift(graphs, found)


def lift_arrays(*graphs: Graph) -> tuple[list[Graph], list[Any]]:
    """Like `lift_captures`, and for large arrays, too: compiled code copies its constants."""
    values = [c.value for g in graphs for c in g.consts()]
    return _lift(graphs, [v for v in values if type(v) is Tracer or v.nbytes >= LIFT_BYTES])


def _lift(graphs: Sequence[Graph], found: Sequence[Any]) -> tuple[list[Graph], list[Any]]:
    captured = list({id(v): v for v in found}.values())
    if not captured:
        return list(graphs), []
    return [_with_inputs(g, captured) for g in graphs], captured


def _with_inputs(graph: Graph, captured: Sequence[Any]) -> Graph:
    new = {id(v): Var(aval_of(v)) for v in captured}

    def swap(atom: Any) -> Any:
        return new.get(id(atom.value), atom) if type(atom) is Const else atom

    eqns = [Eqn(e.prim, tuple(map(swap, e.ins)), e.params, e.outs, e.source) for e in graph.eqns]
    return Graph((*new.values(), *graph.inputs), eqns, map(swap, graph.outputs))


def as_operands(leaves: Sequence[Any]) -> list[Any]:
    """Leaves as operands of an equation that holds a graph: Python numbers become NumPy's."""
    return [np.dtype(type(x)).type(x) if type(x) in PYTHON_SCALARS else x for x in leaves]


def own_results(results: Sequence[Any], operands: Sequence[Any], graph: Graph) -> list[Any]:
    """The results of a graph that was run on arrays, none of which may be the caller's own."""
    # Nearly always all of them have been made just now: neither views, nor what was there.
    taken = set(map(id, operands))
    for x, atom in zip(results, graph.outputs, strict=True):
        if is_array(x):
            if x.base is not None or type(atom) is Const or id(x) in taken:
                return own_arrays(results, [*operands, *(c.value for c in graph.consts())])
            taken.add(id(x))
    return list(results)


def bind_known(
    prim: Primitive, operands: Sequence[Any], params: dict[str, Any], results: Sequence[Any]
) -> list[Any]:
    """Apply a primitive whose results have been computed already, where values ride along.

    `results` are these values, or tracers that carry them.
    """
    rec = recorder_of(operands, prim.name)
    known = [own_value(r) for r in results]
    values = [own_value(x) for x in operands]
    if rec is None and not any(type(v) is Tracer for v in known):
        return known
    if rec is None or not rec.concrete or any(type(v) is Tracer for v in (*known, *values)):
        return bind(prim, *operands, **params)
    if any(type(x) is Tracer and x.rec is not rec for x in operands):
        rec.captures = True
    return rec.append(prim, operands, values, params, known)


def check_function(fun: Any, name: str) -> None:
    """`fun` is called only later, far from the line where a value was given instead."""
    if not callable(fun):
        raise at_line(
            ArgumentError,
            f"{name} takes a function, not its value, a {type(fun).__name__}. Pass the function "
            f"and call what comes back: fg.{name}(loss)(params), not fg.{name}(loss(params))",
        )


def wraps(fun: Callable[..., Any], name: str) -> Callable[[Any], Any]:
    """Give a wrapper the metadata of what it wraps, and a name that shows both."""
    check_function(fun, name)

    def decorate(wrapper: Any) -> Any:
        functools.update_wrapper(wrapper, fun, updated=())
        if hasattr(fun, "__name__"):
            wrapper.__name__ = f"{name}({fun.__name__})"
        return wrapper

    return decorate
