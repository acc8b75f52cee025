"""`vmap` as users call it: axes of pytrees in, axes of pytrees out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.ownership import native
from funcgrad.core.tracer import Recorder
from funcgrad.errors import ArgumentError, TreeMismatchError, at_line
from funcgrad.primitives.structural import move_axis
from funcgrad.transforms.batching import ensure_batched, run_batched
from funcgrad.transforms.trace import check_devices, leaf_avals, own_results, trace, wraps


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    *,
    axis_size: int | None = None,
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

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fun(*args, **kwargs)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        full = (args, kwargs)
        leaves, treedef = tree.flatten(full)
        leaves = list(map(native, leaves))
        avals = leaf_avals(full, leaves, "vmap: a leaf of its arguments")
        check_devices(full, avals, "vmap")
        axes = _input_axes(in_axes, args, kwargs)
        size = _mapped_size(full, avals, axes, axis_size)
        moved = [
            leaf if axis is None else move_axis(leaf, axis, 0)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        batched = [axis is not None for axis in axes]
        inner = [
            a.update(shape=tuple(n for i, n in enumerate(a.shape) if i != axis % len(a.shape)))
            if axis is not None
            else a
            for a, axis in zip(avals, axes, strict=True)
        ]
        graph, out_tree = trace(call, treedef, inner, Recorder("vmap", concrete=False))
        results, flags = run_batched(graph, moved, batched, size)
        placed = _place_outputs(results, flags, out_axes, out_tree, size)
        return out_tree.unflatten(own_results(placed, leaves, graph))

    return wraps(fun, "vmap")(wrapper)


def _is_none(x: Any) -> bool:
    return x is None


def _input_axes(in_axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    prefix = in_axes
    if type(in_axes) in (list, tuple):
        prefix = tuple(in_axes)
        if len(prefix) != len(args):
            raise at_line(
                ArgumentError,
                f"vmap: in_axes={in_axes} has {len(prefix)} entries, but the call has {len(args)} "
                "positional arguments; give one axis, None or pytree for each",
            )
    try:
        found = tree.broadcast_prefix(prefix, args, is_leaf=_is_none)
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
) -> list[Any]:
    try:
        axes = tree.broadcast_prefix(out_axes, out_tree.unflatten(results), is_leaf=_is_none)
    except TreeMismatchError as error:
        raise at_line(
            ArgumentError, f"vmap: out_axes={out_axes} does not fit the results: {error}"
        ) from None
    placed: list[Any] = []
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
        (whole,) = ensure_batched([result], [flag], size)
        rank = len(aval_of(whole).shape)
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise at_line(
                ArgumentError,
                f"vmap: out_axes has {axis!r} for a result that is {aval_of(whole)} with the "
                f"mapped axis in front; give an integer from {-rank} to {rank - 1}, or None",
            )
        placed.append(move_axis(whole, 0, axis))
    return placed
