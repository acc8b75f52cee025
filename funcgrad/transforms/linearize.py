"""Derivatives as linear maps: `vjp`, `jvp`, `linearize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.device import is_array
from funcgrad.core.evaluate import run_graph
from funcgrad.core.ownership import own_arrays
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import Recorder, Tracer
from funcgrad.errors import (
    ArgumentError,
    DeviceError,
    GradDtypeError,
    ShapeError,
    TreeMismatchError,
    at_line,
)
from funcgrad.primitives.elementwise import cast
from funcgrad.transforms.ahead import run_ahead
from funcgrad.transforms.jvp import jvp_of, pushforward_of
from funcgrad.transforms.trace import leaf_avals, own_results, trace
from funcgrad.transforms.vjp import match_cotangent, pullback_of


def record(
    fun: Callable[..., Any], purpose: str, leaves: Sequence[Any]
) -> tuple[Recorder, list[Any], Any]:
    """Run `fun(tracers)` with values riding along; the tape, result leaves, their structure."""
    lasting = purpose != "jvp"
    with Recorder(purpose, concrete=True, reverse=purpose == "vjp", lasting=lasting) as rec:
        out = fun([rec.input(leaf) for leaf in leaves])
        out_leaves, out_tree = tree.flatten(out)
    return rec, out_leaves, out_tree


def results_of(rec: Recorder, leaves: list[Any], args: Sequence[Any], finish: Any) -> Any:
    """Like `finish` (pullback_of, pushforward_of), but lets leaves that are no arrays pass."""
    where = [i for i, leaf in enumerate(leaves) if type(leaf) is Tracer]
    values, push = finish(rec, [leaves[i] for i in where], args)
    full = list(leaves)
    for i, value in zip(where, values, strict=True):
        full[i] = value
    return full, where, push


def constants(leaves: Sequence[Any], where: Sequence[int]) -> list[Any]:
    """Leaves of a result that nothing recorded gives: what a function returns as it found it."""
    recorded = set(where)
    return [leaf for i, leaf in enumerate(leaves) if i not in recorded]


def copies(leaves: Sequence[Any]) -> list[Any]:
    """Copies of arrays: the user may write to them before the derivative is asked for."""
    return [leaf.copy() if is_array(leaf) else leaf for leaf in leaves]


def own_cotangents(
    cts: Sequence[Any], leaves: Sequence[Any], given: Sequence[Any] = ()
) -> list[Any]:
    """Cotangents as users may keep them: matching their inputs, and in memory of their own.

    `given` are arrays of the caller's that must not be handed back.
    """
    taken = {*map(id, leaves), *map(id, given)}
    results: list[Any] = []
    for ct, leaf in zip(cts, leaves, strict=True):
        ct = match_cotangent(ct, leaf)
        if is_array(ct):
            if id(ct) in taken or ct.base is not None:
                ct = ct.copy()
            taken.add(id(ct))
        results.append(ct)
    return results


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `fun(*primals)` and its pullback, the linear map from cotangents.

    Args:
        fun: any function of pytrees of arrays.
        primals: where it is linearised.
        has_aux: `fun` returns `(result, aux)`.

    Returns:
        `(result, pullback)`, with `has_aux` `(result, pullback, aux)`. `pullback(ct)` takes a
        cotangent with the structure, shapes and dtypes of the result and returns a tuple with
        one cotangent per primal; it may be called more than once.

    Raises:
        TreeMismatchError: a cotangent has another structure than the result.
        ShapeError: a cotangent's leaf has another shape than the result's.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> y, pullback = fg.vjp(np.sin, np.array([0.0, np.pi]))
        >>> pullback(np.ones(2))
        (array([ 1., -1.]),)
    """
    leaves, treedef = tree.flatten(primals)
    leaf_avals(primals, leaves, "vjp: a leaf of its arguments")
    aux: Any = None

    def flat(tracers: list[Any]) -> Any:
        nonlocal aux
        out = fun(*treedef.unflatten(tracers))
        if has_aux:
            out, aux = out
        return (out, aux)

    rec, out_leaves, out_tree = record(flat, "vjp", leaves)
    full, where, pull = results_of(rec, out_leaves, leaves, pullback_of)
    result, aux = out_tree.unflatten(copies(full))
    result_leaves, result_tree = tree.flatten(result)
    avals = leaf_avals(result, result_leaves, "vjp: a leaf of the result")

    def pullback(ct: Any) -> tuple[Any, ...]:
        cts = matching_leaves(ct, result_tree, avals, "vjp: the cotangent", "the result")
        with np.errstate(all="ignore"):
            found = pull([cts[i] if i < len(cts) else None for i in where])
        return treedef.unflatten(own_cotangents(found, leaves, cts))

    return (result, pullback, aux) if has_aux else (result, pullback)


def matching_leaves(
    given: Any, treedef: Any, avals: Sequence[Aval], what: str, like: str
) -> list[Any]:
    """The leaves of a (co)tangent, checked against what it belongs to and cast to its dtype."""
    leaves, have = tree.flatten(given)
    if have != treedef:
        raise at_line(
            TreeMismatchError,
            f"{what} has the structure {have}, but {like} has {treedef}; give one leaf for each",
        )
    out: list[Any] = []
    for i, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
        have_aval = aval_of(leaf)
        if have_aval.shape != aval.shape:
            path = tree.keystr(tree.flatten_with_path(given)[0][i][0])
            raise at_line(
                ShapeError,
                f"{what} has shape {have_aval.shape}{f' at {path}' if path else ''}, but {like} "
                f"has {aval.shape} there; they must be equal",
            )
        if have_aval.dtype.kind == "c" and aval.dtype.kind == "f":
            raise at_line(
                GradDtypeError,
                f"{what} is complex ({have_aval}), but {like} is real ({aval}); its imaginary part "
                "would be lost. Pass its real part",
            )
        if DeviceError.concerns((have_aval, aval)):
            raise DeviceError.of(f"{what} and {like}", [have_aval, aval], [what, like])
        if not aval.inexact:
            out.append(None)
        elif have_aval.dtype != aval.dtype or have_aval.weak:
            out.append(cast(leaf, aval.dtype))
        else:
            out.append(leaf)
    return out


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of `fun(*primals)` and its directional derivative along `tangents`.

    Args:
        fun: any function of pytrees of arrays.
        primals: a tuple or list of its arguments.
        tangents: one for each, of the same structures and shapes.
        has_aux: `fun` returns `(result, aux)`.

    Returns:
        `(result, tangent)`, with `has_aux` `(result, tangent, aux)`.

    Raises:
        ArgumentError: the primals or the tangents are no tuple or list.
        TreeMismatchError: the tangents have another structure than the primals.
        ShapeError: a tangent's leaf has another shape than its primal.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.jvp(np.square, (3.0,), (1.0,))
        (np.float64(9.0), np.float64(6.0))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise at_line(
            ArgumentError,
            "jvp takes primals and tangents as tuples, also of one argument: jvp(f, (x,), (dx,)), "
            f"not {type(primals).__name__} and {type(tangents).__name__}",
        )
    leaves, treedef = tree.flatten(tuple(primals))
    primal_avals = leaf_avals(tuple(primals), leaves, "jvp: a leaf of its primals")
    given = matching_leaves(
        tuple(tangents), treedef, primal_avals, "jvp: the tangent", "the primal"
    )
    rec, out_leaves, out_tree = record(_flat(fun, treedef, has_aux), "jvp", leaves)

    def finish(rec: Recorder, outputs: Sequence[Any], args: Sequence[Any]) -> Any:
        with np.errstate(all="ignore"):
            return jvp_of(rec, outputs, args, given)

    full, where, found = results_of(rec, out_leaves, leaves, finish)
    taken = [*leaves, *given, *constants(full, where)]
    found = own_arrays([*full, *found], taken)
    full, found = found[: len(full)], found[len(full) :]
    result, aux = out_tree.unflatten(full)
    tangent = _tangents(result, where, found, "jvp")
    return (result, tangent, aux) if has_aux else (result, tangent)


def _flat(fun: Callable[..., Any], treedef: Any, has_aux: bool) -> Callable[[list[Any]], Any]:
    """`fun` as a function of leaves that returns `(result, aux)`."""

    def flat(tracers: list[Any]) -> Any:
        out = fun(*treedef.unflatten(tracers))
        return out if has_aux else (out, None)

    return flat


def _tangents(result: Any, where: Sequence[int], found: Sequence[Any], name: str) -> Any:
    """A tree of tangents like `result`: those found for the leaves at `where`, else zeros."""
    leaves, treedef = tree.flatten(result)
    by_position = dict(zip(where, found, strict=True))
    avals = leaf_avals(result, leaves, f"{name}: a leaf of the result")
    return treedef.unflatten(
        [by_position[i] if i in by_position else zeros_like(a) for i, a in enumerate(avals)]
    )


def linearized(
    fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, name: str
) -> tuple[Any, Callable[..., Any], Any]:
    leaves, treedef = tree.flatten(primals)
    primal_avals = leaf_avals(primals, leaves, f"{name}: a leaf of its primals")
    rec, out_leaves, out_tree = record(_flat(fun, treedef, has_aux), name, leaves)
    full, where, push = results_of(rec, out_leaves, leaves, pushforward_of)
    result, aux = out_tree.unflatten(copies(full))

    def pushforward(*tangents: Any) -> Any:
        given = matching_leaves(
            tuple(tangents), treedef, primal_avals, f"{name}: the tangent", "the primal"
        )
        with np.errstate(all="ignore"):
            found = push(given)
        return _tangents(result, where, found, name)

    return result, pushforward, aux


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `fun(*primals)` and its derivative there as a linear function of tangents.

    What depends on the primals alone is computed once; `pushforward` costs only what is
    linear in the tangents.

    Returns:
        `(result, pushforward)`, with `has_aux` `(result, pushforward, aux)`.
        `pushforward(*tangents)` takes tangents like the primals.

    Raises:
        TreeMismatchError: tangents have another structure than the primals.
        ShapeError: a tangent's leaf has another shape than its primal.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> y, pushforward = fg.linearize(np.sin, 0.0)
        >>> pushforward(2.0)
        np.float64(2.0)
    """
    result, pushforward, aux = linearized(fun, primals, has_aux, "linearize")
    leaves, treedef = tree.flatten(primals)
    avals = leaf_avals(primals, leaves, "linearize: a leaf of its primals")
    rec = Recorder("linearize", concrete=False, lasting=True)
    graph, out_tree = trace(pushforward, treedef, [a.strong() for a in avals], rec)
    graph = run_ahead(graph)

    def linear(*tangents: Any) -> Any:
        given = matching_leaves(
            tuple(tangents), treedef, avals, "linearize: the tangent", "the primal"
        )
        filled = [zeros_like(a) if t is None else t for t, a in zip(given, avals, strict=True)]
        with np.errstate(all="ignore"):
            outs = run_graph(graph, filled)
        return out_tree.unflatten(own_results(outs, filled, graph))

    return (result, linear, aux) if has_aux else (result, linear)
