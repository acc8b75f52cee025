"""Looking at programs without running them: `make_graph`, `eval_shape`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Graph
from funcgrad.core.tracer import Recorder, deferred
from funcgrad.transforms.trace import leaf_avals, trace, wraps


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
        rec = Recorder("make_graph", concrete=False, owns=True, lasting=True)
        graph, _ = _trace_call(fun, args, kwargs, rec)
        return graph

    return wraps(fun, "make_graph")(wrapper)


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
    graph, out_tree = _trace_call(fun, args, kwargs, deferred("eval_shape"))
    return out_tree.unflatten([ShapeDtypeStruct(a.shape, a.dtype) for a in graph.out_avals])


def _trace_call(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], rec: Recorder
) -> tuple[Graph, Any]:
    full = (args, kwargs)
    leaves, treedef = tree.flatten(full)
    avals = leaf_avals(full, leaves, f"{rec.purpose}: a leaf of its arguments")

    def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fun(*args, **kwargs)

    return trace(call, treedef, avals, rec)
