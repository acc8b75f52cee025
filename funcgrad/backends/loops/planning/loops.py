"""The steps of loops and branches.

Where all that a body computes is small it stays in registers from one round to the next. Else
the body has a plan of its own, which reads one set of buffers and writes another; between two
rounds they change places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.loops.fusion.decompose import decompose
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.views import View, contiguous
from funcgrad.backends.loops.planning.builder import Builder
from funcgrad.backends.loops.planning.plan import Branch, Carry, RegisterLoop, Scan, Step, While
from funcgrad.core.graph import Eqn, Graph

BOOL = np.dtype(bool)


def simple(graph: Graph, target: Target) -> Graph:
    """A nested graph without composite equations."""
    return graph.derive(f"decomposed for {target.name}", lambda: decompose(graph, target))


# --- in registers ---------------------------------------------------------------------


def in_registers(graph: Graph, target: Target) -> bool:
    """Whether a body can be computed in registers."""
    key = f"in registers of {target.name}"
    return graph.derive(key, lambda: [_in_registers(simple(graph, target), target)])[0]


def _in_registers(graph: Graph, target: Target) -> bool:
    total = 0
    for eqn in graph.eqns:
        atoms = (*eqn.ins, *eqn.outs)
        if any(a.aval.size > target.limits.small for a in atoms) or not _is_small(eqn, target):
            return False
        total += sum(o.aval.size for o in eqn.outs) * (8 if eqn.prim.name == "matmul" else 1)
    sizes = [a.aval.size for a in (*graph.inputs, *graph.outputs)]
    return total <= target.limits.register_numbers and all(
        0 < n <= target.limits.small for n in sizes
    )


def _is_small(eqn: Eqn, target: Target) -> bool:
    p = eqn.params
    if eqn.prim.name == "scan":
        counts = p["n_consts"] + p["n_carry"]
        no_slices = len(eqn.ins) == counts and len(eqn.outs) == p["n_carry"]
        return no_slices and in_registers(p["body"], target)
    if eqn.prim.name == "while":
        return in_registers(p["cond"], target) and in_registers(p["body"], target)
    if eqn.prim.name == "switch":
        return all(in_registers(g, target) for g in p["branches"])
    return target.can_be_small(eqn)


# --- planned --------------------------------------------------------------------------


def _given(aval: Any) -> Buffer:
    return Buffer(aval.dtype, max(aval.size, 1), "given")


def _buffer(aval: Any) -> Buffer:
    return Buffer(aval.dtype, max(aval.size, 1))


def _workspace(size: int) -> Buffer:
    return Buffer(np.dtype(np.uint8), max(size, 1))


def slice_of(view: View) -> View:
    """The first slice of a view."""
    return View(view.buffer, view.shape[1:], view.strides[1:], 0)


def _reach(view: View) -> int:
    """How many elements lie from a view's first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True) if n)


def _carry(builder: Builder, avals: Sequence[Any], first: Sequence[View]) -> Carry:
    """Buffers for what a loop carries, the first values copied into them."""
    now, later = tuple(map(_given, avals)), tuple(map(_given, avals))
    buffers = tuple(map(_buffer, avals)), tuple(map(_buffer, avals))
    for view, buffer, aval in zip(first, buffers[0], avals, strict=True):
        builder.copy(view, contiguous(buffer, aval.shape))
    return Carry(now, later, buffers)


def _views(buffers: Sequence[Buffer], avals: Sequence[Any]) -> list[View]:
    return [contiguous(b, a.shape) for b, a in zip(buffers, avals, strict=True)]


def _scan(builder: Builder, eqn: Eqn) -> None:
    p = eqn.params
    n_consts, n_carry = p["n_consts"], p["n_carry"]
    views = [builder.resolve(a) for a in eqn.ins]
    results = [builder.result(o) for o in eqn.outs]
    first = views[n_consts : n_consts + n_carry]
    if not p["length"]:
        for view, result, out in zip(first, results, eqn.outs, strict=False):
            builder.copy(view, contiguous(result, out.aval.shape))
    elif in_registers(p["body"], builder.target):
        builder.steps.append(_register_loop(builder, eqn, views, results))
    else:
        xs = views[n_consts + n_carry :]
        builder.steps.append(_planned_scan(builder, eqn, views[:n_consts], first, xs, results))


def _register_loop(
    builder: Builder, eqn: Eqn, views: Sequence[View], results: Sequence[Buffer]
) -> Step:
    return RegisterLoop(eqn, tuple(views), tuple(results), builder.program.site([eqn]))


def _planned_scan(
    builder: Builder,
    eqn: Eqn,
    consts: Sequence[View],
    first: Sequence[View],
    xs: Sequence[View],
    results: Sequence[Buffer],
) -> Scan:
    p, n_carry = eqn.params, eqn.params["n_carry"]
    graph = simple(p["body"], builder.target)
    carried = [a.aval for a in graph.outputs[:n_carry]]
    carry = _carry(builder, carried, first)
    # Checks of kernels know no elements before the first.
    xs = [builder.contiguous_copy(x) if min(x.strides) < 0 else x for x in xs]
    slices = [Buffer(x.buffer.dtype, _reach(slice_of(x)), "given") for x in xs]
    inputs = [View(b, *slice_of(x)[1:]) for b, x in zip(slices, xs, strict=True)]
    parts = [_given(a.aval) for a in graph.outputs[n_carry:]]
    stacks = _views(results[n_carry:], [o.aval for o in eqn.outs[n_carry:]])
    body = builder.inner(
        graph, [*consts, *_views(carry.now, carried), *inputs], [*carry.next, *parts]
    )
    return Scan(
        p["length"],
        p["reverse"],
        body,
        carry,
        tuple(consts),
        tuple(xs),
        tuple(slices),
        tuple(stacks),
        tuple(parts),
        tuple(results[:n_carry]),
        _workspace(body.memory.size),
    )


def _while(builder: Builder, eqn: Eqn) -> None:
    p = eqn.params
    n_consts = p["n_consts"]
    views = [builder.resolve(a) for a in eqn.ins]
    results = [builder.result(o) for o in eqn.outs]
    if all(in_registers(p[k], builder.target) for k in ("cond", "body")):
        builder.steps.append(_register_loop(builder, eqn, views, results))
        return
    consts, carried = views[:n_consts], [o.aval for o in eqn.outs]
    carry = _carry(builder, carried, views[n_consts:])
    inputs = [*consts, *_views(carry.now, carried)]
    flag = _given(p["cond"].outputs[0].aval)
    test = builder.inner(simple(p["cond"], builder.target), inputs, [flag])
    body = builder.inner(simple(p["body"], builder.target), inputs, carry.next)
    workspaces = _workspace(test.memory.size), _workspace(body.memory.size)
    builder.steps.append(
        While(test, body, flag, Buffer(BOOL, 1), carry, tuple(consts), tuple(results), workspaces)
    )


def _switch(builder: Builder, eqn: Eqn) -> None:
    index, *operands = [builder.resolve(a) for a in eqn.ins]
    results = [builder.result(o) for o in eqn.outs]
    branches = [
        builder.inner(simple(g, builder.target), operands, results) for g in eqn.params["branches"]
    ]
    workspace = _workspace(max(b.memory.size for b in branches))
    builder.steps.append(Branch(index, tuple(branches), tuple(operands), tuple(results), workspace))


RULES: dict[str, Callable[[Builder, Eqn], None]] = {
    "scan": _scan,
    "while": _while,
    "switch": _switch,
}
