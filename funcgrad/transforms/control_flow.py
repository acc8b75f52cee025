"""Branches and loops that can be compiled: `cond`, `switch`, `while_loop`, `scan` and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import BOOL, Aval, aval_of, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.device import CPU, namespace
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.ownership import native, own_arrays
from funcgrad.core.primitive import zeros_like
from funcgrad.core.tracer import Tracer, deferred, own_value
from funcgrad.errors import (
    ArgumentError,
    BranchTypeError,
    CarryTypeError,
    FuncgradError,
    TreeMismatchError,
    at_line,
)
from funcgrad.primitives import control_flow as prims
from funcgrad.primitives.elementwise import cast, where
from funcgrad.primitives.integers import fit
from funcgrad.transforms import draws
from funcgrad.transforms.trace import (
    as_operands,
    flatten_result,
    leaf_avals,
    lift_arrays,
    own_results,
    trace,
)
from funcgrad.transforms.vmap import vmap

_LEAF = tree.structure(0)

# --- branches -------------------------------------------------------------------------


def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any
) -> Any:
    """`true_fun(*operands)` if `pred` holds, else `false_fun(*operands)`.

    Only the chosen branch runs, except under `vmap` with a predicate that differs between the
    examples: then both do, and each example takes its own.

    Args:
        pred: a scalar; a number counts as true where it is not zero.
        true_fun, false_fun: functions of the operands, which may close over others. Both are
            traced, so that they are known to agree.
        operands: pytrees of arrays.

    Returns:
        What the branch returns. Python numbers take the dtype of the other branch.

    Raises:
        BranchTypeError: the branches' results differ in shape or dtype, or `pred` is no scalar.
        TreeMismatchError: the branches' results differ in structure.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> @fg.jit
        ... def safe_log(x):
        ...     return fg.cond(x > 0, np.log, lambda x: -np.inf, x)
        >>> safe_log(1.0), safe_log(-1.0)
        (np.float64(0.0), np.float64(-inf))
    """
    aval = _scalar_aval(pred, "cond: the predicate")
    index = pred if aval.dtype == BOOL else pred != 0
    return _choose("cond", index, (false_fun, true_fun), ("false_fun", "true_fun"), operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`, with `index` clamped to the branches there are.

    Args:
        index: an integer scalar.
        branches: functions of the operands, as for `cond`.
        operands: pytrees of arrays.

    Raises:
        BranchTypeError: the branches' results differ in shape or dtype, or `index` is no
            integer scalar.
        TreeMismatchError: the branches' results differ in structure.
        ArgumentError: there are no branches.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.switch(2, [np.sin, np.cos, np.square], 3.0)
        np.float64(9.0)
    """
    functions = tuple(branches)
    if not functions:
        raise at_line(ArgumentError, "switch: needs at least one branch")
    aval = _scalar_aval(index, "switch: the index")
    if aval.dtype.kind not in "iu":
        raise at_line(BranchTypeError, f"switch: the index must be an integer, got {aval}")
    last = len(functions) - 1
    if not last:
        index = 0
    elif type(index) is Tracer:
        # Its own dtype may not hold the last number.
        index = cast(np.clip(index, 0, last), np.intp)
    else:
        index = min(max(int(index), 0), last)
    names = [f"branch {i}" for i in range(len(functions))]
    return _choose("switch", index, functions, names, operands)


def _scalar_aval(x: Any, what: str) -> Aval:
    aval = aval_of(x)
    if aval.shape != ():
        raise at_line(
            BranchTypeError,
            f"{what} must be a scalar, got {aval}. Reduce it with np.any or np.all, choose element "
            "by element with np.where, or map over its axis with fg.vmap",
        )
    return aval


def _choose(
    name: str,
    index: Any,
    functions: Sequence[Callable[..., Any]],
    names: Sequence[str],
    operands: tuple[Any, ...],
) -> Any:
    leaves, treedef = tree.flatten(operands)
    leaves = [native(x) for x in leaves]
    avals = leaf_avals(operands, leaves, f"{name}: a leaf of its operands")
    if type(index) is Tracer:
        index.rec.asked = True
    index = own_value(index)
    taken = None if type(index) is Tracer else int(index)
    traced: dict[int, tuple[Graph, Any]] = {}
    for i, function in enumerate(functions):
        try:
            traced[i] = trace(function, treedef, avals, deferred(f"a branch of {name}"))
        except (LookupError, ArithmeticError):
            # As in an `if` that is not taken, `items[i]` may have no such item.
            if taken is None or taken == i:
                raise
    names = [names[i] for i in traced]
    out_tree = next(iter(traced.values()))[1]
    for label, (_, other) in zip(names, traced.values(), strict=True):
        if other != out_tree:
            raise _structure_error(f"{name}: {label}", other, names[0], out_tree)
    graphs = _agreeing([g for g, _ in traced.values()], out_tree, name, names)
    if taken is None:
        closed, captured = lift_arrays(*graphs)
        everything = [*captured, *as_operands(leaves)]
        outs = bind(prims.switch, index, *everything, branches=tuple(closed))
    else:
        graph = graphs[list(traced).index(taken)]
        outs = own_results(run_graph(graph, leaves), leaves, graph)
    return out_tree.unflatten(outs)


def _agreeing(
    graphs: Sequence[Graph], out_tree: Any, name: str, names: Sequence[str]
) -> list[Graph]:
    """The branches, with results that are Python numbers cast to the other branches' dtype."""
    columns = list(zip(*(g.out_avals for g in graphs), strict=True))
    dtypes = [result_dtype(*column) for column in columns]
    for i, (column, dtype) in enumerate(zip(columns, dtypes, strict=True)):
        for number, aval in enumerate(column):
            if aval.shape != column[0].shape or not (aval.weak or aval.dtype == dtype):
                first = 0 if aval.shape != column[0].shape else _other_dtype(column, aval)
                raise at_line(
                    BranchTypeError,
                    f"{name}: the branches must return the same shapes and dtypes, but"
                    f"{_at(out_tree, i)} {names[first]} returns {column[first]} and "
                    f"{names[number]} {aval}; reshape, or cast with .astype",
                )
    return [_cast_outputs(g, dtypes) for g in graphs]


def _other_dtype(column: Sequence[Aval], aval: Aval) -> int:
    return next(i for i, a in enumerate(column) if a.dtype != aval.dtype)


def _at(treedef: Any, leaf: int) -> str:
    """` at ['path']` of a leaf, for messages."""
    paths = tree.flatten_with_path(treedef.unflatten(range(treedef.num_leaves)))[0]
    path = tree.keystr(paths[leaf][0])
    return f" at {path}" if path else ""


def _structure_error(what: str, found: Any, like: str, expected: Any) -> FuncgradError:
    """Two structures that should be equal: where they differ, and both of them."""
    text = f"{what} returns another structure than {like}"
    try:
        subtrees = expected.flatten_up_to(found.unflatten(range(found.num_leaves)))
    except TreeMismatchError as error:
        return at_line(TreeMismatchError, f"{text}: {error}")
    i = next(i for i, subtree in enumerate(subtrees) if tree.structure(subtree) != _LEAF)
    return at_line(
        TreeMismatchError,
        f"{text}: there is {tree.structure(subtrees[i])}{_at(expected, i)}, where {like} has an "
        f"array.\n  {like}: {expected}\n  {what}: {found}",
    )


def _cast_outputs(graph: Graph, dtypes: Sequence[np.dtype]) -> Graph:
    if all(a.dtype == d and not a.weak for a, d in zip(graph.out_avals, dtypes, strict=True)):
        return graph
    with deferred("cond") as rec:
        outs = run_graph(graph, [rec.abstract_input(v.aval) for v in graph.inputs])
        return rec.graph([cast(o, d) for o, d in zip(outs, dtypes, strict=True)])


# --- the bodies of loops --------------------------------------------------------------


def _trace_body(
    name: str,
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    extra: tuple[Any, Sequence[Aval]],
) -> tuple[Graph, list[Any], Any]:
    """Record one step, `(carry, extra) -> (carry, y)`.

    Python numbers in the first carry take the dtype that the step gives them, which may take
    more than one trace.

    Returns:
        the graph, the leaves of the first carry in their final dtypes, the structure of y.
    """
    leaves, treedef = tree.flatten(init)
    leaves = [native(x) for x in leaves]
    avals = leaf_avals(init, leaves, f"{name}: a leaf of the carry")
    extra_tree, extra_avals = extra
    watched = draws.watch(step)
    while True:
        with deferred(f"the body of {name}") as rec:
            carry = treedef.unflatten([rec.abstract_input(a) for a in avals])
            new, y = step(carry, extra_tree.unflatten([rec.abstract_input(a) for a in extra_avals]))
            draws.check(watched, name)
            outs, out_tree = flatten_result(new, name)
            if out_tree != treedef:
                raise _structure_error(f"{name}: the body", out_tree, "the first carry", treedef)
            out_avals = [aval_of(o) for o in outs]
            promoted = [_promote(a, o) for a, o in zip(avals, out_avals, strict=True)]
            if promoted == avals:
                _check_carry(name, treedef, avals, out_avals)
                ys, y_tree = flatten_result(y, name)
                results = [
                    *(_of_dtype(o, a) for o, a in zip(outs, avals, strict=True)),
                    *(cast(y, aval_of(y).dtype) for y in ys),
                ]
                graph = rec.graph(results)
                break
        avals = promoted
    # Not weak, as a loop's results are arrays.
    first = [_beside(cast(x, a.dtype), a) for x, a in zip(leaves, avals, strict=True)]
    return graph, first, y_tree


def _promote(carry: Aval, out: Aval) -> Aval:
    """A weak carry takes the dtype of what the step returns for it, and a number its device."""
    if carry.weak:
        carry = Aval(carry.shape, result_dtype(carry, out), out.weak, carry.device)
    return carry.on(out.device) if carry.device == CPU and not carry.shape else carry


def _beside(x: Any, aval: Aval) -> Any:
    """A number as an array of the device where it has to be."""
    if aval_of(x).device == aval.device:
        return x
    library = namespace(aval)
    chosen = library.ones((), bool), x, library.zeros((), aval.dtype)
    return bind(where, *chosen)


def _check_carry(name: str, treedef: Any, avals: Sequence[Aval], outs: Sequence[Aval]) -> None:
    for i, (aval, out) in enumerate(zip(avals, outs, strict=True)):
        same_dtype = aval.dtype == out.dtype or (out.weak and result_dtype(aval, out) == aval.dtype)
        if aval.shape != out.shape or not same_dtype:
            raise at_line(
                CarryTypeError,
                f"{name}: the carry must keep its shape and dtype, but{_at(treedef, i)} it enters "
                f"a step as {aval} and leaves it as {out}; start with a value of that kind, or "
                "cast the result with .astype",
            )


def _of_dtype(x: Any, aval: Aval) -> Any:
    return x if aval_of(x).dtype == aval.dtype else cast(x, aval.dtype)


def _pair(out: Any) -> tuple[Any, Any]:
    is_sequence = issubclass(type(out), (tuple, list))
    if not is_sequence or len(out) != 2:
        raise at_line(
            TreeMismatchError,
            "scan: the body must return a pair (next carry, output), this one returned "
            f"{tree.structure(out)}; return (carry, None) where there is no output",
        )
    return out[0], out[1]


# --- loops ----------------------------------------------------------------------------


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """A loop over the leading axis of `xs` that carries a state and stacks its outputs.

    The same as this loop, traced once and differentiable in both modes::

        carry, ys = init, []
        for x in xs:
            carry, y = f(carry, x)
            ys.append(y)
        return carry, np.stack(ys)

    Args:
        f: one step, `(carry, x) -> (next carry, y)`. It may close over other values.
        init: the first carry, a pytree; each step must keep its structure, shapes and dtypes.
            Python numbers in it take the dtype that the step gives them.
        xs: a pytree of arrays of equal length, or None.
        length: the number of steps; needed where `xs` is None.
        reverse: go through `xs` from the end; each y stands where its x does.
        unroll: JAX's hint to its compiler, taken so that programs written for it run. It never
            changes results; here it changes nothing, as a step of Python's loop costs little.

    Returns:
        `(last carry, ys)`; each leaf of `ys` has an axis of the loop's length in front.

    Raises:
        CarryTypeError: the carry's shapes or dtypes change.
        TreeMismatchError: the carry's structure changes, or `f` returns no pair.
        ArgumentError: the lengths of `xs` differ, or there is no length.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.scan(lambda total, x: (total + x, total), 0.0, np.array([1.0, 2.0, 3.0]))
        (np.float64(6.0), array([0., 1., 3.]))
    """
    leaves, treedef = tree.flatten(xs)
    leaves = [native(x) for x in leaves]
    avals = leaf_avals(xs, leaves, "scan: a leaf of xs")
    n = _scan_length(xs, avals, length)
    slices = [a.update(shape=a.shape[1:]) for a in avals]
    return _scan("scan", lambda c, x: _pair(f(c, x)), init, leaves, (treedef, slices), n, reverse)


def _scan_length(xs: Any, avals: Sequence[Aval], length: int | None) -> int:
    found: dict[int, str] = {} if length is None else {int(length): "length"}
    for (path, _), aval in zip(tree.flatten_with_path(xs)[0], avals, strict=True):
        name = f"xs{tree.keystr(path)} of shape {aval.shape}"
        if not aval.shape:
            raise at_line(
                ArgumentError, f"scan: {name} has no axis to loop over; close over it instead"
            )
        found.setdefault(aval.shape[0], name)
    if not found:
        raise at_line(ArgumentError, "scan: without xs the number of steps is needed: length=")
    if len(found) > 1:
        lines = "".join(f"\n  {n} for {where}" for n, where in found.items())
        raise at_line(ArgumentError, f"scan: the lengths differ:{lines}")
    n = next(iter(found))
    if n < 0:
        raise at_line(ArgumentError, f"scan: length={n} is negative")
    return n


def _scan(
    name: str,
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Sequence[Any],
    extra: tuple[Any, Sequence[Aval]],
    length: int,
    reverse: bool,
) -> tuple[Any, Any]:
    graph, carry, y_tree = _trace_body(name, step, init, extra)
    if length == 0:
        # Nothing that the body would compute is computed, in derivatives neither.
        ys = [zeros_like(a.update(shape=(0, *a.shape))) for a in graph.out_avals[len(carry) :]]
        return tree.structure(init).unflatten(own_arrays(carry, carry)), y_tree.unflatten(ys)
    (body,), captured = lift_arrays(graph)
    outs = bind(
        prims.scan,
        *captured,
        *carry,
        *xs,
        body=body,
        length=length,
        reverse=reverse,
        n_consts=len(captured),
        n_carry=len(carry),
    )
    outs = own_results(outs, [*captured, *carry, *xs], body)
    n = len(carry)
    return tree.structure(init).unflatten(outs[:n]), y_tree.unflatten(outs[n:])


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """`f` applied to each slice of `xs` along its leading axis, one after the other.

    Like `vmap`, with the memory of one call at a time, or of `batch_size` of them.

    Args:
        f: a function of one slice.
        xs: a pytree of arrays of equal length.
        batch_size: how many slices to take at once, through `vmap`; without it, one.

    Returns:
        `f`'s results, stacked along a new leading axis.

    Raises:
        ArgumentError: the lengths of `xs` differ, or `batch_size` is below 1.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.map(lambda row: np.sum(row), np.ones((2, 3)))
        array([3., 3.])
    """
    if batch_size is None:
        return scan(lambda carry, x: (carry, f(x)), None, xs)[1]
    if batch_size < 1:
        raise at_line(ArgumentError, f"map: batch_size={batch_size} is below 1")
    return _map_batches(vmap(f), xs, batch_size)


def _map_batches(f: Callable[[Any], Any], xs: Any, size: int) -> Any:
    leaves = tree.leaves(xs)
    n = _scan_length(xs, leaf_avals(xs, leaves, "map: a leaf of xs"), None)
    if n <= size:
        return f(xs)
    whole = n - n % size

    def batched(x: Any) -> Any:
        return x[:whole].reshape((-1, size, *x.shape[1:]))

    def flat(y: Any) -> Any:
        return y.reshape((whole, *y.shape[2:]))

    def rest(x: Any) -> Any:
        return x[whole:]

    def joined(y: Any, last: Any) -> Any:
        return np.concatenate([y, last])

    ys = tree.map(flat, map(f, tree.map(batched, xs)))
    return ys if whole == n else tree.map(joined, ys, f(tree.map(rest, xs)))


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """`val = body_fun(val)` from `init_val` on, as long as `cond_fun(val)` holds.

    Forward mode goes through it; reverse mode does not, as the number of steps is not known
    beforehand: use `scan` or `fori_loop` with known bounds. Under `vmap`, steps are taken until
    the last example is done.

    Args:
        cond_fun: gives a boolean scalar.
        body_fun: keeps the structure, shapes and dtypes of its argument.
        init_val: the first value, a pytree; Python numbers in it take the dtype that the step
            gives them.

    Raises:
        CarryTypeError: the value's shapes or dtypes change, or `cond_fun` gives no boolean
            scalar.
        TreeMismatchError: the value's structure changes.
        NotDifferentiableError: in reverse mode.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.while_loop(lambda x: x < 100, lambda x: x * 3, 1)
        np.int64(243)
    """

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        return body_fun(carry), None

    def goes_on(val: Any) -> Any:
        return _boolean(cond_fun(val))

    body, carry, _ = _trace_body("while_loop", step, init_val, (tree.structure(None), []))
    treedef = tree.structure(init_val)
    test, _ = trace(
        goes_on,
        tree.structure((init_val,)),
        [v.aval for v in body.inputs],
        deferred("the condition of while_loop"),
    )
    (test, body), captured = lift_arrays(test, body)
    outs = bind(prims.while_, *captured, *carry, cond=test, body=body, n_consts=len(captured))
    return treedef.unflatten(own_results(outs, [*captured, *carry], body))


def _boolean(result: Any) -> Any:
    leaves, treedef = flatten_result(result, "the condition of while_loop")
    if treedef != _LEAF or aval_of(leaves[0]).on(CPU) != Aval((), BOOL):
        found = aval_of(leaves[0]) if treedef == _LEAF else treedef
        raise at_line(
            CarryTypeError,
            f"while_loop: cond_fun must return a boolean scalar, this one returned {found}; "
            "compare (x > 0), or reduce with np.any or np.all",
        )
    return result


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """`val = body_fun(i, val)` for i from `lower` up to, without, `upper`.

    With bounds whose values are known (Python numbers, arrays) it is a `scan`, through which
    reverse mode goes; with traced ones under `jit` a `while_loop`, through which it does not.

    Args:
        lower, upper: integer scalars.
        body_fun: `(i, val) -> val`, keeps the structure, shapes and dtypes of `val`.
        init_val: the first value, a pytree; Python numbers in it take the dtype that the step
            gives them.
        unroll: as `scan` has it.

    Raises:
        CarryTypeError: the value's shapes or dtypes change.
        TreeMismatchError: the value's structure changes.
        ArgumentError: the bounds are no integer scalars.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.fori_loop(1, 6, lambda i, product: product * i, 1)
        np.int64(120)
    """
    bounds = [_bound(b, which) for b, which in ((lower, "lower"), (upper, "upper"))]
    index = Aval((), result_dtype(*bounds), weak=all(b.weak for b in bounds))
    if index.dtype.kind not in "iu":
        raise at_line(
            ArgumentError,
            f"fori_loop: no integer dtype holds both bounds, {bounds[0]} and {bounds[1]}; convert "
            "one of them with .astype",
        )
    lower, upper = (
        fit(b, index.dtype) if a.weak else b for b, a in zip((lower, upper), bounds, strict=True)
    )
    low, high = own_value(lower), own_value(upper)
    if type(low) is Tracer or type(high) is Tracer:
        low, high = cast(lower, index.dtype), cast(upper, index.dtype)
        _, val = while_loop(
            lambda state: state[0] < high,
            lambda state: (state[0] + 1, body_fun(*state)),
            (low, init_val),
        )
        return val
    indices = np.arange(int(low), int(high), dtype=index.dtype)
    extra = (_LEAF, [index])

    def step(carry: Any, i: Any) -> tuple[Any, Any]:
        return body_fun(i, carry), None

    return _scan("fori_loop", step, init_val, [indices], extra, len(indices), False)[0]


def _bound(x: Any, which: str) -> Aval:
    aval = aval_of(x)
    if aval.shape != () or aval.dtype.kind not in "iu":
        raise at_line(
            ArgumentError, f"fori_loop: the {which} bound must be an integer scalar, got {aval}"
        )
    return aval
