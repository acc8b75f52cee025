"""Graph to graph: the same numbers from fewer operations.

Only identities that hold exactly in IEEE arithmetic, NaN, infinities and signed zeros
included. Equal equations are shared and dead ones dropped by recording the graph anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of, broadcast_shapes, result_dtype
from funcgrad.core.binding import bind
from funcgrad.core.declarations import batch_elementwise
from funcgrad.core.device import is_array
from funcgrad.core.evaluate import read
from funcgrad.core.graph import Graph
from funcgrad.core.open_recorders import set_source
from funcgrad.core.primitive import Primitive, shape_of
from funcgrad.core.tracer import Tracer, deferred
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives import structural as st
from funcgrad.primitives.call import call
from funcgrad.primitives.contraction import matmul
from funcgrad.primitives.windows import overlap_add, windows

# What made a tracer: (primitive, operands, params).
Origin = tuple[Primitive, Sequence[Any], dict[str, Any]]
Rewrite = Callable[[Sequence[Any], dict[str, Any], Callable[[Any], Origin | None]], Any]


def simplify(graph: Graph) -> Graph:
    """Rewrite a closed graph and inline its calls; other sub-graphs wait for their own turn."""
    with deferred("simplify") as rec:
        inputs = [rec.abstract_input(v.aval) for v in graph.inputs]
        before = set_source(None)
        try:
            return rec.graph(_run(graph, inputs, {}))
        finally:
            set_source(before)


def _run(graph: Graph, args: Sequence[Any], origins: dict[int, Origin]) -> list[Any]:
    env: dict[int, Any] = {id(v): a for v, a in zip(graph.inputs, args, strict=True)}

    def origin(x: Any) -> Origin | None:
        return origins.get(id(x))

    for eqn in graph.eqns:
        set_source(eqn.source)
        ins = [read(env, a) for a in eqn.ins]
        if eqn.prim.multiple:
            inline = eqn.prim is call
            results = (
                _run(eqn.params["graph"], ins, origins)
                if inline
                else bind(eqn.prim, *ins, **eqn.params)
            )
            env.update(zip(map(id, eqn.outs), results, strict=True))
            continue
        result, made = _apply(eqn.prim, ins, eqn.params, origin, eqn.outs[0].aval)
        if type(result) is Tracer:
            origins.setdefault(id(result), made)
        env[id(eqn.outs[0])] = result
    return [read(env, a) for a in graph.outputs]


def _apply(
    prim: Primitive, ins: list[Any], params: dict[str, Any], origin: Any, aval: Any
) -> tuple[Any, Origin]:
    if prim.kind == "elementwise" or prim.batch is batch_elementwise:
        ins = _drop_broadcasts(prim, ins, params, origin, aval.shape)
    rewrite = _REWRITES.get(prim.name)
    if rewrite is not None:
        found = rewrite(ins, params, origin)
        if found is not None:
            if type(found) is tuple:
                prim, ins, params = found
            else:
                return found, (prim, ins, params)
    return bind(prim, *ins, **params), (prim, ins, params)


def _drop_broadcasts(
    prim: Primitive, ins: list[Any], params: dict[str, Any], origin: Any, shape: tuple[int, ...]
) -> list[Any]:
    """Let elementwise operations broadcast by themselves."""
    if not shape:
        return ins
    new = [_unbroadcast_operand(x, origin) for x in ins]
    for i, x in enumerate(new):
        if x is not ins[i]:
            break
    else:
        return ins
    # The result's shape must still follow from the operands that are left.
    order = range(len(ins))
    for i in order:
        trial = [new[j] if j <= i else ins[j] for j in order]
        if broadcast_shapes(*map(shape_of, trial)) != shape:
            new[i] = ins[i]
    return new


def _unbroadcast_operand(x: Any, origin: Any) -> Any:
    if type(x) is not Tracer and is_array(x):
        return x.dtype.type(x[(0,) * x.ndim].item()) if _is_uniform(x) else x
    made = origin(x)
    if made is not None and made[0] is st.broadcast_to:
        return made[1][0]
    return x


def _is_uniform(x: Any) -> bool:
    """Whether a constant repeats one number, as what comes of the cotangent of a sum does."""
    if not x.ndim or x.size < 2:
        return False
    if not any(x.strides):
        return True
    # Elements of a device are not asked for.
    if x.dtype.kind == "c" or not isinstance(x, np.ndarray):
        return False
    first = x.flat[0]
    # Zeros may differ in sign, and a look at the last element spares most arrays the pass.
    return bool(first) and x.flat[-1] == first and bool((x == first).all())


def _made_by(x: Any, prim: Primitive, origin: Any) -> Any:
    made = origin(x)
    return made[1] if made is not None and made[0] is prim else None


def _negated(x: Any, origin: Any) -> Any:
    """[y] where x is -y of real numbers, else None.

    Unsigned integers have no negative constants, and the zeros of complex products have signs.
    """
    made = _made_by(x, ew.neg, origin)
    return made if made is not None and aval_of(x).dtype.kind == "f" else None


def _add(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    x, y = ins
    negated = _negated(y, origin)
    if negated:
        return ew.sub, [x, negated[0]], {}
    negated = _negated(x, origin)
    return (ew.sub, [y, negated[0]], {}) if negated else None


def _sub(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    negated = _negated(ins[1], origin)
    return (ew.add, [ins[0], negated[0]], {}) if negated else None


def _mul(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    x, y = ins
    for a, b in ((x, y), (y, x)):
        if _is_scalar_constant(b) and shape_of(a) == broadcast_shapes(shape_of(a), shape_of(b)):
            aval = aval_of(a)
            kept = aval.dtype == _dtype_of(a, b) and aval.dtype.kind != "c"
            if b == 1 and kept and not aval.weak:
                return a
            if b == -1 and kept and aval.dtype.kind == "f":
                return ew.neg, [a], {}
            negated = _negated(a, origin)
            if negated:
                return ew.mul, [negated[0], -b], {}
    left, right = _negated(x, origin), _negated(y, origin)
    return (ew.mul, [left[0], right[0]], {}) if left and right else None


def _div(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    x, y = ins
    negated = _negated(x, origin) if _is_scalar_constant(y) else None
    return (ew.div, [negated[0], -y], {}) if negated else None


def _neg(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    inner = _made_by(ins[0], ew.neg, origin)
    if inner:
        return inner[0]
    product = _made_by(ins[0], ew.mul, origin)
    if product and aval_of(ins[0]).dtype.kind == "f":
        x, y = product
        if _is_scalar_constant(y):
            return ew.mul, [x, -y], {}
        if _is_scalar_constant(x):
            return ew.mul, [-x, y], {}
    return None


def _is_scalar_constant(x: Any) -> bool:
    if type(x) in (int, float):
        return True
    return isinstance(x, np.generic) and x.dtype.kind == "f"


def _dtype_of(x: Any, y: Any) -> np.dtype:
    return result_dtype(aval_of(x), aval_of(y))


def _reshape(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    inner = _made_by(ins[0], st.reshape, origin)
    return (st.reshape, [inner[0]], params) if inner else None


def _transpose(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    made = origin(ins[0])
    if made is None or made[0] is not st.transpose:
        return None
    perm = tuple(made[2]["perm"][p] for p in params["perm"])
    return st.transpose, [made[1][0]], {"perm": perm}


def _matmul(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    """A transposed matrix times one column is that column, as a row, times the matrix itself."""
    (x, y), (xs, ys) = ins, map(shape_of, ins)
    if len(xs) == 2 and ys[1:] in ((), (1,)) and (matrix := _transposed(x, origin)) is not None:
        row = y if len(ys) == 1 else bind(st.reshape, y, shape=ys[:1])
        return _with_axis((matmul, [row, matrix], {}), ys[1:], xs[:1] + ys[1:])
    if len(ys) == 2 and xs[:-1] in ((), (1,)) and (matrix := _transposed(y, origin)) is not None:
        column = x if len(xs) == 1 else bind(st.reshape, x, shape=xs[1:])
        return _with_axis((matmul, [matrix, column], {}), xs[:-1], xs[:-1] + ys[1:])
    return None


def _transposed(x: Any, origin: Any) -> Any:
    """The matrix of which x is the transpose, else None."""
    made = origin(x)
    if made is None or made[0] is not st.transpose or made[2]["perm"] != (1, 0):
        return None
    return made[1][0]


def _with_axis(eqn: Any, axis: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    if not axis:
        return eqn
    prim, ins, params = eqn
    return st.reshape, [bind(prim, *ins, **params)], {"shape": shape}


def _every(idx: Sequence[st.Entry]) -> list[int] | None:
    """The steps of slices that go over whole axes forwards; None for other indices."""
    steps = [e[2] for e in idx if type(e) is tuple and e[:2] == (0, None) and e[2] > 0]
    return steps if len(steps) == len(idx) else None


def _index(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    """Every so many-th window is one in a longer stride."""
    made, steps = origin(ins[0]), _every(params["idx"])
    if made is None or made[0] is not windows or steps is None:
        return None
    strided = _strided(made[2], steps)
    return None if strided is None else (windows, made[1], strided)


def _overlap_add(ins: Sequence[Any], params: Any, origin: Any) -> Any:
    made = origin(ins[0])
    steps = None if made is None or made[0] is not st.embed else _every(made[2]["idx"])
    strided = None if steps is None else _strided(params, steps)
    return None if made is None or strided is None else (overlap_add, made[1], strided)


def _strided(params: Any, steps: Sequence[int]) -> dict[str, Any] | None:
    axes, stride = params["axes"], params["stride"]
    if any(step != 1 for axis, step in enumerate(steps) if axis not in axes):
        return None
    longer = (s * steps[axis] for axis, s in zip(axes, stride, strict=True))
    return {**params, "stride": tuple(longer)}


_REWRITES: dict[str, Rewrite] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "reshape": _reshape,
    "transpose": _transpose,
    "matmul": _matmul,
    "index": _index,
    "overlap_add": _overlap_add,
}
