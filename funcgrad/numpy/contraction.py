"""Products that sum: dot, matmul, tensordot, einsum and their like, all over one `matmul`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Aval, Shape, aval_of
from funcgrad.core.binding import bind
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.primitive import shape_of
from funcgrad.core.tracer import Recorder, own_value
from funcgrad.errors import ShapeError, at_line
from funcgrad.numpy import ufuncs
from funcgrad.numpy.convert import as_array, check_out, normalize_axis, promote
from funcgrad.numpy.protocol import implements
from funcgrad.numpy.ufuncs import is_plain_float, matmul
from funcgrad.primitives import structural as st
from funcgrad.primitives.contraction import matmul as matmul_p


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    return x if shape_of(x) == shape else bind(st.reshape, x, shape=shape)


def permute(x: Any, perm: Sequence[int]) -> Any:
    perm = tuple(perm)
    return x if perm == tuple(range(len(perm))) else bind(st.transpose, x, perm=perm)


def composition(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: a composition of primitives of two arguments: arrays, and settings.

    It is recorded once for each choice of settings, shapes and dtypes; calls only repeat the
    equations.
    """

    @lru_cache(maxsize=1024)
    def recorded(settings: Any, *kinds: tuple[Shape, np.dtype]) -> Graph:
        with Recorder(function.__name__, concrete=False) as rec:
            arrays = [rec.abstract_input(Aval(*kind)) for kind in kinds]
            graph = rec.graph([function(arrays, settings)])
        for eqn in graph.eqns:
            # The line is that of each call.
            eqn.source = None
        return graph

    def call(arrays: Sequence[Any], settings: Any) -> Any:
        graph = recorded(settings, *((shape_of(x), x.dtype) for x in arrays))
        return run_graph(graph, arrays)[0]

    return call


def operands(a: Any, b: Any) -> Sequence[Any]:
    """Two operands as arrays of one dtype; nothing is done where they are."""
    x, y = own_value(a), own_value(b)
    arrays = type(x) is np.ndarray and type(y) is np.ndarray
    ready = arrays and x.dtype is y.dtype and is_plain_float(x.dtype)
    return (a, b) if ready else promote((a, b))


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """The product of `a`'s last axis with `b`'s last but one, or its only one."""
    check_out(out, "dot")
    a, b = operands(a, b)
    rank_a, rank_b = len(shape_of(a)), len(shape_of(b))
    if rank_a == 0 or rank_b == 0:
        return np.multiply(a, b)
    if rank_b <= 1 or (rank_a <= 2 and rank_b == 2):
        return bind(matmul_p, a, b)
    return tensordot(a, b, ((-1,), (-2,)))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """The product of the last axes of both."""
    a, b = operands(a, b)
    if not shape_of(a) or not shape_of(b):
        return np.multiply(a, b)
    return tensordot(a, b, ((-1,), (-1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """Every element of `a` times every element of `b`, both flattened."""
    check_out(out, "outer")
    a, b = operands(a, b)
    return np.multiply(reshape(a, (aval_of(a).size, 1)), reshape(b, (1, aval_of(b).size)))


@implements(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any, /) -> Any:
    shapes = [shape_of(as_array(x)) for x in (x1, x2)]
    if any(len(shape) != 1 for shape in shapes):
        raise at_line(ShapeError, f"np.linalg.outer takes vectors, got the shapes {shapes}")
    return outer(x1, x2)


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    """The scalar product of flattened arrays; the first is conjugated."""
    a, b = operands(a, b)
    a, b = (reshape(x, (aval_of(x).size,)) for x in (a, b))
    return bind(matmul_p, _conjugate(a), b)


def _conjugate(x: Any) -> Any:
    # np.conjugate makes integers of booleans.
    return np.conjugate(x) if aval_of(x).dtype.kind == "c" else x


# --- tensordot ------------------------------------------------------------------------


def _tensordot_axes(axes: Any, rank_a: int, rank_b: int) -> tuple[list[int], list[int]]:
    if isinstance(axes, (int, np.integer)):
        n = int(axes)
        if n > min(rank_a, rank_b):
            raise at_line(
                ShapeError, f"tensordot: axes={n}, but the operands have {rank_a} and {rank_b} axes"
            )
        return list(range(rank_a - n, rank_a)), list(range(n))
    first, second = ([a] if isinstance(a, (int, np.integer)) else list(a) for a in axes)
    return (
        [normalize_axis(int(a), rank_a) for a in first],
        [normalize_axis(int(a), rank_b) for a in second],
    )


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sum over pairs of axes: an integer n pairs the last n of `a` with the first n of `b`.

    Raises:
        ShapeError: paired axes have different lengths.
    """
    a, b = operands(a, b)
    axes_a, axes_b = _tensordot_axes(axes, len(shape_of(a)), len(shape_of(b)))
    return _tensordot((a, b), (tuple(axes_a), tuple(axes_b)))


@composition
def _tensordot(arrays: Sequence[Any], axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Any:
    (a, b), (axes_a, axes_b) = arrays, axes
    shape_a, shape_b = shape_of(a), shape_of(b)
    lengths = [shape_a[i] for i in axes_a]
    if lengths != [shape_b[i] for i in axes_b]:
        raise at_line(
            ShapeError,
            f"tensordot of shapes {shape_a} and {shape_b}: the axes {axes_a} and {axes_b} that are "
            "summed over must have equal lengths",
        )
    free_a = [i for i in range(len(shape_a)) if i not in axes_a]
    free_b = [i for i in range(len(shape_b)) if i not in axes_b]
    rows, columns = [shape_a[i] for i in free_a], [shape_b[i] for i in free_b]
    if not axes_a:
        return np.multiply(reshape(a, (*rows, *[1] * len(columns))), b)
    a, b = permute(a, (*free_a, *axes_a)), permute(b, (*axes_b, *free_b))
    inner = prod(lengths)
    out = bind(
        matmul_p,
        reshape(a, (*_merged(rows), inner)),
        reshape(b, (inner, *_merged(columns))),
    )
    return reshape(out, (*rows, *columns))


def _merged(lengths: Sequence[int]) -> tuple[int, ...]:
    """The axes' product as one axis; none stay none."""
    return (prod(lengths),) if lengths else ()


# --- products of vectors and matrices in the last axes --------------------------------


def _to_end(x: Any, axis: int) -> Any:
    return st.move_axis(x, normalize_axis(axis, len(shape_of(x))), -1)


def _as_row(x: Any) -> Any:
    shape = shape_of(x)
    return reshape(x, (*shape[:-1], 1, *shape[-1:]))


def _as_column(x: Any) -> Any:
    return reshape(x, (*shape_of(x), 1))


def _without(x: Any, axis: int) -> Any:
    shape = list(shape_of(x))
    del shape[axis]
    return reshape(x, tuple(shape))


def _check_ranks(name: str, *least: tuple[Any, int]) -> None:
    if any(len(shape_of(x)) < rank for x, rank in least):
        raise at_line(
            ShapeError,
            f"np.{name} takes arrays of at least {' and '.join(str(rank) for _, rank in least)} "
            f"axes, got the shapes {' and '.join(str(shape_of(x)) for x, _ in least)}",
        )


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """The scalar products of vectors along `axis`; the first is conjugated.

    >>> import numpy as np, funcgrad.numpy as fnp
    >>> fnp.vecdot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 1.0]))
    array([3., 7.])
    """
    x1, x2 = operands(x1, x2)
    x1, x2 = _conjugate(_to_end(x1, axis)), _to_end(x2, axis)
    if len(shape_of(x2)) == 1:
        return bind(matmul_p, x1, x2)
    if len(shape_of(x1)) == 1:
        return bind(matmul_p, x2, x1)
    return _without(_without(bind(matmul_p, _as_row(x1), _as_column(x2)), -1), -1)


def matvec(x1: Any, x2: Any, /) -> Any:
    """Matrices (the last two axes of `x1`) times vectors (the last of `x2`)."""
    x1, x2 = operands(x1, x2)
    _check_ranks("matvec", (x1, 2), (x2, 1))
    if len(shape_of(x2)) == 1:
        return bind(matmul_p, x1, x2)
    return _without(bind(matmul_p, x1, _as_column(x2)), -1)


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Conjugated vectors (the last axis of `x1`) times matrices (the last two of `x2`)."""
    x1, x2 = operands(x1, x2)
    _check_ranks("vecmat", (x1, 1), (x2, 2))
    x1 = _conjugate(x1)
    if len(shape_of(x1)) == 1:
        return bind(matmul_p, x1, x2)
    return _without(bind(matmul_p, _as_row(x1), x2), -2)


def _register_ufuncs() -> None:
    # np.matvec and np.vecmat are of NumPy 2.2.
    for ours in (vecdot, matvec, vecmat):
        theirs = getattr(np, ours.__name__, None)
        if theirs is not None:
            ufuncs.UFUNCS[theirs] = ours
    ufuncs.OWN_OPTIONS[np.vecdot] = ("axis",)


_register_ufuncs()
implements(np.linalg.vecdot)(vecdot)
implements(np.linalg.matmul)(matmul)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """The product of a chain of matrices, in the order that costs least.

    The first and the last may be vectors.
    """
    check_out(out, "linalg.multi_dot")
    arrays = list(map(as_array, arrays))
    shapes = [shape_of(a) for a in arrays]
    if len(arrays) < 2 or any(len(s) != 2 for s in shapes[1:-1]):
        raise at_line(
            ShapeError,
            "multi_dot needs two or more matrices (the first and last may be vectors), got "
            f"shapes {shapes}",
        )
    sizes = [shapes[0][0] if len(shapes[0]) == 2 else 1]
    sizes += [s[-1] for s in shapes[:-1]]
    sizes += [shapes[-1][1] if len(shapes[-1]) == 2 else 1]
    return _multiply(arrays, _chain_order(tuple(sizes)), 0, len(arrays) - 1)


def _multiply(arrays: Sequence[Any], cut: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return arrays[i]
    k = cut[i, j]
    return dot(_multiply(arrays, cut, i, k), _multiply(arrays, cut, k + 1, j))


@lru_cache(maxsize=256)
def _chain_order(sizes: tuple[int, ...]) -> dict[tuple[int, int], int]:
    """Where to cut each stretch (i, j) of the chain; matrix i is sizes[i] x sizes[i + 1].

    Source: Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", section 15.2.
    """
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return cut
