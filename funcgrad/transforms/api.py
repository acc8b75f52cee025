"""Derivatives and vectorisation as users call them: pytrees in, pytrees out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.tracer import Recorder, Tracer, bind
from funcgrad.errors import (
    ArgumentError,
    GradDtypeError,
    NonScalarError,
    NotAnArrayError,
    ShapeError,
    TreeMismatchError,
    at_line,
)
from funcgrad.primitives.elementwise import cast
from funcgrad.primitives.elementwise import stop_gradient as stop_gradient_p
from funcgrad.primitives.structural import move_axis
from funcgrad.transforms.jvp import pushforward_of
from funcgrad.transforms.trace import leaf_avals, trace
from funcgrad.transforms.vjp import match_cotangent, pullback_of
from funcgrad.transforms.vmap import ensure_batched, run_batched

Argnums = int | Sequence[int]


def record(
    fun: Callable[..., Any], purpose: str, leaves: Sequence[Any]
) -> tuple[Recorder, list[Any], Any]:
    """Run `fun(tracers)` with values riding along; the tape, result leaves, their structure."""
    with Recorder(purpose, concrete=True, reverse=purpose == "vjp") as rec:
        out = fun([rec.input(leaf) for leaf in leaves])
        out_leaves, out_tree = tree.flatten(out)
    return rec, out_leaves, out_tree


def _results(rec: Recorder, leaves: list[Any], args: Sequence[Any], finish: Any) -> Any:
    """Like `finish` (pullback_of, pushforward_of), but lets leaves that are no arrays pass."""
    where = [i for i, leaf in enumerate(leaves) if type(leaf) is Tracer]
    values, push = finish(rec, [leaves[i] for i in where], args)
    full = list(leaves)
    for i, value in zip(where, values, strict=True):
        full[i] = value
    return full, where, push


def _wraps(fun: Callable[..., Any], name: str) -> Callable[[Any], Any]:
    def decorate(wrapper: Any) -> Any:
        functools.update_wrapper(wrapper, fun, updated=())
        if hasattr(fun, "__name__"):
            wrapper.__name__ = f"{name}({fun.__name__})"
        return wrapper

    return decorate


# --- grad -----------------------------------------------------------------------------


def select_arguments(args: tuple[Any, ...], argnums: Argnums, name: str) -> Any:
    """The arguments a transformation works on, and a function that puts new ones in place.

    Raises:
        ArgumentError: there is no such argument.
    """
    n = len(args)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in numbers:
        if not isinstance(i, int) or not -n <= i < n:
            raise at_line(
                ArgumentError,
                f"{name}: argnums={argnums!r}, but the call has {n} positional argument"
                f"{'' if n == 1 else 's'}; argnums counts them from 0, and keyword arguments "
                "cannot be chosen",
            )
    if isinstance(argnums, int):
        chosen: Any = args[argnums]
        position = argnums % n

        def place(new: Any) -> tuple[Any, ...]:
            return (*args[:position], new, *args[position + 1 :])

        return chosen, place

    def place_all(new: Sequence[Any]) -> tuple[Any, ...]:
        full = list(args)
        for i, value in zip(numbers, new, strict=True):
            full[i] = value
        return tuple(full)

    return tuple(args[i] for i in numbers), place_all


def _check_differentiable(
    chosen: Any, leaves: Sequence[Any], name: str, complex_ok: bool = True
) -> None:
    for i, leaf in enumerate(leaves):
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and dtype.kind == "f":
            continue
        if type(leaf) is float:
            continue
        path = tree.keystr(tree.flatten_with_path(chosen)[0][i][0])
        try:
            aval = aval_of(leaf)
        except NotAnArrayError:
            raise NotAnArrayError.of(leaf, path, f"{name}: a leaf of its argument") from None
        if aval.dtype.kind == "c" and complex_ok:
            continue
        where = f" at {path}" if path else ""
        raise at_line(
            GradDtypeError,
            f"{name} needs float arguments, got {aval}{where}: a derivative by a "
            f"{aval.dtype.name} is not defined. Pass floats (3.0 instead of 3, "
            "x.astype(float)), or choose other argnums",
        )


def _check_scalar(out: Any, name: str, holomorphic: bool) -> None:
    try:
        aval = aval_of(out)
    except NotAnArrayError:
        raise at_line(
            NonScalarError,
            f"{name} needs a function that returns a scalar, this one returned "
            f"{type(out).__name__}; with (loss, extra results) use has_aux=True",
        ) from None
    if aval.shape != ():
        raise at_line(
            NonScalarError,
            f"{name} needs a function that returns a scalar, this one returned shape "
            f"{aval.shape}. Reduce it (np.sum, np.mean), or use fg.jacrev, fg.jacfwd or fg.vjp",
        )
    wanted = "fc" if holomorphic else "f"
    if aval.dtype.kind not in wanted:
        hint = (
            "take the real part or np.abs(z)**2, or pass holomorphic=True"
            if aval.dtype.kind == "c"
            else "the loss must be a float"
        )
        raise at_line(GradDtypeError, f"{name}: the function returned a {aval.dtype.name}; {hint}")


_REAL_SCALARS = frozenset({np.float64, np.float32})
_ONES = {np.float64: np.float64(1), np.float32: np.float32(1)}


def _one_like(x: Any) -> Any:
    one = _ONES.get(type(x))
    return aval_of(x).dtype.type(1) if one is None else one


def _value_and_aux(out: Any, name: str) -> Any:
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise at_line(
            NonScalarError,
            f"{name} with has_aux=True needs a function that returns (loss, aux), this one "
            f"returned {type(out).__name__}",
        )
    return out


def own_results(cts: Sequence[Any], leaves: Sequence[Any], given: Sequence[Any] = ()) -> list[Any]:
    """Cotangents as users may keep them: matching their inputs, and in memory of their own.

    `given` are arrays of the caller's that must not be handed back.
    """
    taken = {*map(id, leaves), *map(id, given)}
    results = []
    for ct, leaf in zip(cts, leaves, strict=True):
        ct = match_cotangent(ct, leaf)
        if type(ct) is np.ndarray:
            if id(ct) in taken or (ct.base is not None and ct.ndim):
                ct = ct.copy()
            taken.add(id(ct))
        results.append(ct)
    return results


def _differentiate(
    fun: Callable[..., Any], argnums: Argnums, has_aux: bool, holomorphic: bool, name: str
) -> Callable[..., Any]:
    """What `grad` and `value_and_grad` share; messages speak of `name`."""
    position = argnums if isinstance(argnums, int) else -1

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if 0 <= position < len(args):
            chosen, place = args[position], None
        else:
            chosen, place = select_arguments(args, argnums, name)
        leaves, treedef = tree.flatten(chosen)
        _check_differentiable(chosen, leaves, name)
        with Recorder("grad", concrete=True, reverse=True) as rec:
            new = treedef.unflatten([rec.input(leaf) for leaf in leaves])
            full = place(new) if place else (*args[:position], new, *args[position + 1 :])
            out = fun(*full, **kwargs)
        aux: Any = None
        if has_aux:
            out, aux = _value_and_aux(out, name)
        if type(out) is not Tracer or type(out.value) not in _REAL_SCALARS:
            _check_scalar(out, name, holomorphic)
        if has_aux:
            aux_leaves, aux_tree = tree.flatten(aux)
            results, where, pull = _results(rec, [out, *aux_leaves], leaves, pullback_of)
            cts: list[Any] = [None] * len(where)
            if type(out) is Tracer:
                cts[0] = _one_like(results[0])
            aux = aux_tree.unflatten(results[1:])
        elif type(out) is Tracer:
            results, pull = pullback_of(rec, [out], leaves)
            cts = [_one_like(results[0])]
        else:
            results, pull, cts = [out], lambda _: [None] * len(leaves), []
        with np.errstate(all="ignore"):
            found = pull(cts)
        grads = treedef.unflatten(own_results(found, leaves))
        return ((results[0], aux), grads) if has_aux else (results[0], grads)

    return _wraps(fun, name)(wrapper)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives `fun`'s value and its gradient, at the cost of about one gradient.

    Args:
        fun: returns a real scalar, or `(scalar, auxiliary results)` with `has_aux`.
        argnums: which positional argument, or arguments (a tuple), to differentiate by;
            each is a pytree of float or complex arrays.
        has_aux: the second result is passed through undifferentiated.
        holomorphic: `fun` is complex and holomorphic; its result may be complex.

    Returns:
        A function with `fun`'s arguments that returns `(value, gradient)`, with `has_aux`
        `((value, aux), gradient)`. The gradient has the structure, shapes and dtypes of the
        chosen argument (a tuple of them for a tuple of argnums). For a complex argument it
        is JAX's: the conjugate of the direction of steepest ascent.

    Raises:
        NonScalarError: the function's value is no scalar.
        GradDtypeError: an argument has integers or booleans, or the value is complex.
        ArgumentError: there is no argument of that number.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.value_and_grad(lambda w: np.sum(w**2))(np.array([1.0, 2.0]))
        (np.float64(5.0), array([2., 4.]))
    """
    return _differentiate(fun, argnums, has_aux, holomorphic, "value_and_grad")


def grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives the gradient of a scalar function.

    The arguments, results and errors are those of `value_and_grad`, without the value: the
    result is the gradient, or `(gradient, aux)` with `has_aux`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> def loss(params, x):
        ...     return np.sum((params["w"] * x + params["b"]) ** 2)
        >>> fg.grad(loss)({"w": 2.0, "b": 1.0}, np.array([1.0, 3.0]))
        {'b': np.float64(20.0), 'w': np.float64(48.0)}
    """
    both = _differentiate(fun, argnums, has_aux, holomorphic, "grad")

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return _wraps(fun, "grad")(wrapper)


def stop_gradient(x: Any) -> Any:
    """`x` itself, held constant by every derivative.

    Args:
        x: a pytree of arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.grad(lambda x: x * fg.stop_gradient(x))(3.0)
        np.float64(3.0)
    """
    return tree.map(lambda leaf: bind(stop_gradient_p, leaf), x)


# --- vjp, jvp, linearize --------------------------------------------------------------


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
    full, where, pull = _results(rec, out_leaves, leaves, pullback_of)
    result, aux = out_tree.unflatten(full)
    result_leaves, result_tree = tree.flatten(result)
    avals = leaf_avals(result, result_leaves, "vjp: a leaf of the result")

    def pullback(ct: Any) -> tuple[Any, ...]:
        cts = _matching_leaves(ct, result_tree, avals, "vjp: the cotangent", "the result")
        with np.errstate(all="ignore"):
            found = pull([cts[i] if i < len(cts) else None for i in where])
        return treedef.unflatten(own_results(found, leaves, cts))

    return (result, pullback, aux) if has_aux else (result, pullback)


def _matching_leaves(
    given: Any, treedef: Any, avals: Sequence[Aval], what: str, like: str
) -> list[Any]:
    """The leaves of a (co)tangent, checked against what it belongs to and cast to its dtype."""
    leaves, have = tree.flatten(given)
    if have != treedef:
        raise at_line(
            TreeMismatchError,
            f"{what} has the structure {have}, but {like} has {treedef}; give one leaf for each",
        )
    out = []
    for i, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
        have_aval = aval_of(leaf)
        if have_aval.shape != aval.shape:
            path = tree.keystr(tree.flatten_with_path(given)[0][i][0])
            raise at_line(
                ShapeError,
                f"{what} has shape {have_aval.shape}{f' at {path}' if path else ''}, but {like} "
                f"has {aval.shape} there; they must be equal",
            )
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
        TreeMismatchError: the tangents have another structure than the primals.
        ShapeError: a tangent's leaf has another shape than its primal.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.jvp(np.square, (3.0,), (1.0,))
        (np.float64(9.0), np.float64(6.0))
    """
    result, pushforward, aux = _linearized(fun, tuple(primals), has_aux, "jvp")
    tangent = pushforward(*tangents)
    return (result, tangent, aux) if has_aux else (result, tangent)


def _linearized(
    fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, name: str
) -> tuple[Any, Callable[..., Any], Any]:
    leaves, treedef = tree.flatten(primals)
    primal_avals = leaf_avals(primals, leaves, f"{name}: a leaf of its primals")

    def flat(tracers: list[Any]) -> Any:
        out = fun(*treedef.unflatten(tracers))
        return out if has_aux else (out, None)

    rec, out_leaves, out_tree = record(flat, name, leaves)
    full, where, push = _results(rec, out_leaves, leaves, pushforward_of)
    result, aux = out_tree.unflatten(full)
    result_leaves, result_tree = tree.flatten(result)
    zeros = leaf_avals(result, result_leaves, f"{name}: a leaf of the result")

    def pushforward(*tangents: Any) -> Any:
        given = _matching_leaves(
            tuple(tangents), treedef, primal_avals, f"{name}: the tangent", "the primal"
        )
        with np.errstate(all="ignore"):
            found = push(given)
        by_position = dict(zip(where, found, strict=True))
        return result_tree.unflatten(
            [
                by_position[i] if i in by_position else np.zeros(a.shape, a.dtype)
                for i, a in enumerate(zeros)
            ]
        )

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
    result, pushforward, aux = _linearized(fun, primals, has_aux, "linearize")
    leaves, treedef = tree.flatten(primals)
    avals = leaf_avals(primals, leaves, "linearize: a leaf of its primals")
    graph, out_tree = trace(pushforward, treedef, [a.strong() for a in avals], "linearize")

    def linear(*tangents: Any) -> Any:
        given = _matching_leaves(
            tuple(tangents), treedef, avals, "linearize: the tangent", "the primal"
        )
        filled = [
            np.zeros(a.shape, a.dtype) if t is None else t
            for t, a in zip(given, avals, strict=True)
        ]
        with np.errstate(all="ignore"):
            return out_tree.unflatten(run_graph(graph, filled))

    return (result, linear, aux) if has_aux else (result, linear)


# --- Jacobians ------------------------------------------------------------------------


def _basis(leaves: Sequence[Any]) -> list[Any]:
    """The standard basis of a pytree's space: per leaf, (dimension, *shape)."""
    avals = [aval_of(leaf) for leaf in leaves]
    total = sum(a.size for a in avals)
    basis, start = [], 0
    for a in avals:
        block = np.zeros((total, a.size), a.dtype)
        block[start : start + a.size] = np.eye(a.size, dtype=a.dtype)
        basis.append(block.reshape((total, *a.shape)))
        start += a.size
    return basis


def _split_rows(x: Any, leaves: Sequence[Any]) -> list[Any]:
    """Cut axis 0 of `x` into one block per leaf, each with the leaf's shape as its axes."""
    pieces, start = [], 0
    for aval in map(aval_of, leaves):
        block = x[start : start + aval.size]
        pieces.append(block.reshape((*aval.shape, *x.shape[1:])))
        start += aval.size
    return pieces


def jacfwd(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives the Jacobian, column by column in forward mode (all at once).

    Best where there are fewer inputs than outputs.

    Returns:
        A function whose result has the structure of `fun`'s result; each leaf is replaced by
        the structure of the chosen argument, with leaves of shape
        `(*result's shape, *argument's shape)`. With `has_aux`: `(jacobian, aux)`.

    Raises:
        GradDtypeError: an argument has integers or booleans.
        ArgumentError: there is no argument of that number.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.jacfwd(lambda x: x**2)(np.array([1.0, 2.0]))
        array([[2., 0.],
               [0., 4.]])
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen, place = select_arguments(args, argnums, "jacfwd")
        leaves, treedef = tree.flatten(chosen)
        _check_differentiable(chosen, leaves, "jacfwd", complex_ok=holomorphic)
        _, push, aux = _linearized(lambda x: fun(*place(x), **kwargs), (chosen,), has_aux, "jacfwd")
        columns = vmap(lambda *t: push(treedef.unflatten(t)), out_axes=-1)(*_basis(leaves))

        def split(column: Any) -> Any:
            rows = move_axis(column, -1, 0)
            pieces = _split_rows(rows, leaves)
            moved = [
                _rotate(p, len(aval_of(leaf).shape)) for p, leaf in zip(pieces, leaves, strict=True)
            ]
            return treedef.unflatten(moved)

        jacobian = tree.map(split, columns)
        return (jacobian, aux) if has_aux else jacobian

    return _wraps(fun, "jacfwd")(wrapper)


def _rotate(x: Any, k: int) -> Any:
    """Move the first k axes to the end."""
    rank = len(x.shape)
    return x.transpose((*range(k, rank), *range(k)))


def jacrev(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives the Jacobian, row by row in reverse mode (all at once).

    Best where there are fewer outputs than inputs. Result and errors as for `jacfwd`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.jacrev(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
        array([2., 4.])
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen, place = select_arguments(args, argnums, "jacrev")
        leaves, _ = tree.flatten(chosen)
        _check_differentiable(chosen, leaves, "jacrev", complex_ok=holomorphic)
        result, pullback, *aux = vjp(lambda x: fun(*place(x), **kwargs), chosen, has_aux=has_aux)
        out_leaves, out_tree = tree.flatten(result)
        (rows,) = vmap(lambda *ct: pullback(out_tree.unflatten(ct)))(*_basis(out_leaves))
        row_leaves, row_tree = tree.flatten(rows)
        blocks = [_split_rows(leaf, out_leaves) for leaf in row_leaves]
        jacobian = out_tree.unflatten(
            [row_tree.unflatten([b[i] for b in blocks]) for i in range(len(out_leaves))]
        )
        return (jacobian, aux[0]) if has_aux else jacobian

    return _wraps(fun, "jacrev")(wrapper)


def hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives the second derivatives, forward over reverse.

    Returns:
        A function whose result nests the structure of the chosen argument in itself, with
        leaves of shape `(*result's shape, *argument's shape, *argument's shape)`.

    Raises:
        GradDtypeError: an argument has integers or booleans.
        ArgumentError: there is no argument of that number.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
        array([[ 6.,  0.],
               [ 0., 12.]])
    """
    inner = jacrev(fun, argnums, has_aux, holomorphic)
    return _wraps(fun, "hessian")(jacfwd(inner, argnums, has_aux, holomorphic))


# --- vmap -----------------------------------------------------------------------------


def vmap(
    fun: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, axis_size: int | None = None
) -> Callable[..., Any]:
    """A function that applies `fun` along an axis of its arguments, all at once.

    Args:
        fun: a function of pytrees of arrays, written for one example.
        in_axes: which axis of each argument to map over: an integer, None (the argument is
            the same for all), or a tuple with a pytree prefix of these per argument. Keyword
            arguments are mapped over axis 0.
        out_axes: where the mapped axis stands in the results: an integer or a pytree prefix
            of them; None for results that do not depend on it.
        axis_size: the axis' length, needed only where no argument is mapped.

    Raises:
        ArgumentError: axes that the arguments do not have, or of different lengths; the
            message shows the shapes and the paths.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.vmap(np.dot, in_axes=(0, None))(np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0]))
        array([ 2.,  8., 14.])
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        full = (args, kwargs)
        leaves, treedef = tree.flatten(full)
        avals = leaf_avals(full, leaves, "vmap: a leaf of its arguments")
        axes = _input_axes(in_axes, args, kwargs)
        size = _mapped_size(full, avals, axes, axis_size)
        moved = [
            leaf if axis is None else move_axis(leaf, axis, 0)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        batched = [axis is not None for axis in axes]
        inner = [
            Aval(tuple(n for i, n in enumerate(a.shape) if i != axis % len(a.shape)), a.dtype)
            if axis is not None
            else a
            for a, axis in zip(avals, axes, strict=True)
        ]
        graph, out_tree = trace(lambda a, k: fun(*a, **k), treedef, inner, "vmap")
        results, flags = run_batched(graph, moved, batched, size)
        return _place_outputs(results, flags, out_axes, out_tree, size)

    return _wraps(fun, "vmap")(wrapper)


def _is_none(x: Any) -> bool:
    return x is None


def _input_axes(in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise at_line(
            ArgumentError,
            f"vmap: in_axes={in_axes} has {len(in_axes)} entries, but the call has {len(args)} "
            "positional arguments; give one axis, None or pytree for each",
        )
    try:
        found = tree.broadcast_prefix(in_axes, args, is_leaf=_is_none)
    except TreeMismatchError as error:
        raise at_line(
            ArgumentError, f"vmap: in_axes={in_axes} does not fit the arguments: {error}"
        ) from None
    return [*found, *[0] * len(tree.leaves(kwargs))]


def _mapped_size(full: Any, avals: Sequence[Aval], axes: Sequence[Any], size: int | None) -> int:
    found: dict[int, str] = {} if size is None else {size: "axis_size"}

    def path(i: int) -> str:
        (where, _) = tree.flatten_with_path(full)[0][i]
        return "argument " + tree.keystr(where[1:])

    for i, (aval, axis) in enumerate(zip(avals, axes, strict=True)):
        if axis is None:
            continue
        rank = len(aval.shape)
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise at_line(
                ArgumentError,
                f"vmap: {path(i)} of shape {aval.shape} has no axis {axis!r} to map over; name "
                "one it has in in_axes, or None to pass it whole",
            )
        found.setdefault(aval.shape[axis], f"{path(i)} of shape {aval.shape}, axis {axis}")
    if not found:
        raise at_line(
            ArgumentError,
            "vmap: no argument is mapped over; give an axis in in_axes, or axis_size",
        )
    if len(found) > 1:
        lines = "".join(f"\n  {n} for {where}" for n, where in found.items())
        raise at_line(ArgumentError, f"vmap: the mapped axes have different lengths:{lines}")
    return next(iter(found))


def _place_outputs(
    results: list[Any], flags: list[bool], out_axes: Any, out_tree: Any, size: int
) -> Any:
    try:
        axes = tree.broadcast_prefix(out_axes, out_tree.unflatten(results), is_leaf=_is_none)
    except TreeMismatchError as error:
        raise at_line(
            ArgumentError, f"vmap: out_axes={out_axes} does not fit the results: {error}"
        ) from None
    placed = []
    for result, flag, axis in zip(results, flags, axes, strict=True):
        if axis is None:
            if flag:
                raise at_line(
                    ArgumentError,
                    "vmap: out_axes is None for a result that depends on the mapped axis "
                    f"(batched shape {aval_of(result).shape}); give it an axis",
                )
            placed.append(result)
            continue
        whole = ensure_batched(result, flag, size)
        placed.append(move_axis(whole, 0, axis))
    return out_tree.unflatten(placed)


# --- looking at programs --------------------------------------------------------------


class ShapeDtypeStruct(Aval):
    """A shape and dtype in place of an array, for `eval_shape` and `make_graph`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.eval_shape(np.sum, fg.ShapeDtypeStruct((1000, 1000), np.float32))
        f32[]
    """

    __slots__ = ("aval",)

    def __init__(self, shape: Sequence[int], dtype: Any):
        super().__init__(tuple(shape), np.dtype(dtype))
        self.aval = Aval(self.shape, self.dtype)


def make_graph(fun: Callable[..., Any]) -> Callable[..., Graph]:
    """A function that gives the graph of `fun` for the shapes and dtypes of its arguments.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.make_graph(lambda x: np.sum(np.sin(x) * 2.0))(np.ones(3))
        graph(a: f64[3]) {
          b: f64[3] = sin(a)
          c: f64[3] = mul(b, 2.0)
          d: f64[] = sum[axes=(0,), keepdims=False](c)
          return d
        }
    """

    def wrapper(*args: Any, **kwargs: Any) -> Graph:
        graph, _ = _trace_call(fun, args, kwargs, "make_graph")
        return graph

    return _wraps(fun, "make_graph")(wrapper)


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of `fun(*args)`, without computing it.

    Args:
        args: arrays, or anything with `shape` and `dtype` such as `ShapeDtypeStruct`.

    Returns:
        `fun`'s result with each leaf replaced by an object with `shape` and `dtype`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.eval_shape(np.matmul, np.ones((2, 3)), np.ones((3, 4))).shape
        (2, 4)
    """
    graph, out_tree = _trace_call(fun, args, kwargs, "eval_shape")
    return out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in graph.out_avals])


def _trace_call(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[Graph, Any]:
    full = (args, kwargs)
    leaves, treedef = tree.flatten(full)
    avals = leaf_avals(full, leaves, f"{name}: a leaf of its arguments")
    return trace(lambda a, k: fun(*a, **k), treedef, avals, name)
