"""Jacobians and Hessians: derivatives along the standard basis, all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.core.device import namespace
from funcgrad.errors import GradDtypeError, at_line
from funcgrad.primitives.structural import move_axis
from funcgrad.transforms.arguments import Argnums, check_differentiable, select_arguments
from funcgrad.transforms.linearize import linearized, vjp
from funcgrad.transforms.trace import check_function, wraps
from funcgrad.transforms.vmap import vmap


def _basis(leaves: Sequence[Any]) -> list[Any]:
    """The standard basis of a pytree's space: per leaf, (dimension, *shape)."""
    avals = [aval_of(leaf) for leaf in leaves]
    total = sum(a.size for a in avals)
    basis: list[Any] = []
    start = 0
    for a in avals:
        library = namespace(a)
        block = library.zeros((total, a.size), a.dtype)
        block[start : start + a.size] = library.eye(a.size, dtype=a.dtype)
        basis.append(block.reshape((total, *a.shape)))
        start += a.size
    return basis


def _split_rows(x: Any, leaves: Sequence[Any]) -> list[Any]:
    """Cut axis 0 of `x` into one block per leaf, each with the leaf's shape as its axes."""
    pieces: list[Any] = []
    start = 0
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
        GradDtypeError: an argument has integers or booleans, or is complex without
            `holomorphic` (or real with it).
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
        check_differentiable(chosen, leaves, "jacfwd", False, holomorphic)

        def of_chosen(x: Any) -> Any:
            return fun(*place(x), **kwargs)

        _, push, aux = linearized(of_chosen, (chosen,), has_aux, "jacfwd")
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

    return wraps(fun, "jacfwd")(wrapper)


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

    Best where there are fewer outputs than inputs. Result and errors as for `jacfwd`, but
    the argument may be complex; the result must be real, or both complex with `holomorphic`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.jacrev(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
        array([2., 4.])
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen, place = select_arguments(args, argnums, "jacrev")
        leaves, _ = tree.flatten(chosen)
        check_differentiable(chosen, leaves, "jacrev", holomorphic=holomorphic)

        def of_chosen(x: Any) -> Any:
            return fun(*place(x), **kwargs)

        result, pullback, *aux = vjp(of_chosen, chosen, has_aux=has_aux)
        out_leaves, out_tree = tree.flatten(result)
        _check_results(result, out_leaves, holomorphic)
        (rows,) = vmap(lambda *ct: pullback(out_tree.unflatten(ct)))(*_basis(out_leaves))
        row_leaves, row_tree = tree.flatten(rows)
        blocks = [_split_rows(leaf, out_leaves) for leaf in row_leaves]
        jacobian = out_tree.unflatten(
            [row_tree.unflatten([b[i] for b in blocks]) for i in range(len(out_leaves))]
        )
        return (jacobian, aux[0]) if has_aux else jacobian

    return wraps(fun, "jacrev")(wrapper)


def _check_results(result: Any, leaves: Sequence[Any], holomorphic: bool) -> None:
    """The Jacobian of a complex result by a real argument would lose its imaginary part."""
    for i, aval in enumerate(map(aval_of, leaves)):
        if (aval.dtype.kind == "c") == holomorphic or aval.dtype.kind in "iub":
            continue
        path = tree.keystr(tree.flatten_with_path(result)[0][i][0])
        mend = (
            "with holomorphic=True it must be complex"
            if holomorphic
            else "differentiate its real and imaginary parts, use fg.jacfwd, or pass "
            "holomorphic=True with complex arguments"
        )
        raise at_line(
            GradDtypeError,
            f"jacrev: the function returned {aval}{f' at {path}' if path else ''}; {mend}",
        )


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
    check_function(fun, "hessian")
    inner = jacrev(fun, argnums, has_aux, holomorphic)
    return wraps(fun, "hessian")(jacfwd(inner, argnums, has_aux, holomorphic))
