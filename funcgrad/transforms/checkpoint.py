"""`checkpoint`: less memory for more computing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.core.tracer import Recorder
from funcgrad.primitives.control_flow import checkpoint as checkpoint_p
from funcgrad.primitives.elementwise import cast
from funcgrad.transforms.arguments import select_positions
from funcgrad.transforms.trace import (
    as_operands,
    bind_known,
    flatten_result,
    leaf_avals,
    lift_arrays,
    wraps,
)


def checkpoint(
    fun: Callable[..., Any], *, static_argnums: int | Sequence[int] = ()
) -> Callable[..., Any]:
    """A function like `fun`, whose inner values are computed again in the backward pass.

    Reverse mode keeps every value that a derivative needs until the backward pass comes to it.
    Of a checkpointed function it keeps the arguments only, and runs it a second time. Also
    called `remat`.

    Args:
        fun: a function of pytrees of arrays; it may close over others.
        static_argnums: the positional arguments that `fun` is to get as they are: settings
            of any type, in place of arrays.

    Raises:
        ArgumentError: `static_argnums` has a number that no argument of the call has.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> @fg.checkpoint
        ... def block(w, x):
        ...     return np.exp(w * x)
        >>> fg.grad(lambda w: block(w, block(w, 1.0)))(0.0)
        np.float64(1.0)
    """

    @wraps(fun, "checkpoint")
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = args
        static = select_positions(static_argnums, len(given), "checkpoint: static_argnums")
        full = (tuple(None if i in static else a for i, a in enumerate(given)), kwargs)
        leaves, treedef = tree.flatten(full)
        leaf_avals(full, leaves, "checkpoint: a leaf of its arguments")
        with Recorder("checkpoint", concrete=True, owns=True) as rec:
            traced, kwargs = treedef.unflatten([rec.input(leaf) for leaf in leaves])
            args = tuple(given[i] if i in static else a for i, a in enumerate(traced))
            outs, out_tree = flatten_result(fun(*args, **kwargs), "checkpoint")
            outs = [cast(o, aval_of(o).dtype) for o in outs]
            graph = rec.graph(outs)
        (closed,), captured = lift_arrays(graph)
        operands = [*captured, *as_operands(leaves)]
        return out_tree.unflatten(bind_known(checkpoint_p, operands, {"graph": closed}, outs))

    return wrapper
