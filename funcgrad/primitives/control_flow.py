"""Primitives that hold programs: branches, loops, and calls with rules of their own.

Their graphs are closed: whatever of the enclosing recording a graph reads is an operand. The
rules by which graphs are transformed are in `transforms/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from funcgrad.config import config
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.declarations import elementwise, higher_order
from funcgrad.core.device import namespace
from funcgrad.core.evaluate import run_graph
from funcgrad.core.execution import runner
from funcgrad.core.graph import Eqn, Graph, Var, split_invariant
from funcgrad.core.primitive import Primitive, sample

# A graph that has been interpreted this often is compiled, which costs about as much.
COMPILE_STEPS = 32


def _is_worth_compiling(graph: Graph, steps: int) -> bool:
    """Whether a graph that is to run so many steps now has run, or will, often enough."""
    graph.cache["steps"] = total = graph.cache.get("steps", 0) + steps
    return total >= COMPILE_STEPS and not config.debug_nans


def _run_once(graph: Graph, operands: Sequence[Any]) -> Sequence[Any]:
    if _is_worth_compiling(graph, 1):
        return runner(graph)(*operands)
    with np.errstate(all="ignore"):
        return run_graph(graph, operands)


def _loop(prim: Primitive, body: Graph, avals: Sequence[Aval], params: dict[str, Any]) -> Any:
    """Compiled code of a whole loop, kept with its body."""

    def alone() -> Graph:
        inputs = [Var(a) for a in avals]
        outs = [Var(a) for a in prim.infer(avals, params)]
        return Graph(inputs, [Eqn(prim, inputs, params, outs)], outs)

    return runner(body.derive(("loop", *params.items()), alone))


def _without_invariant(body: Graph, n_consts: int) -> tuple[Graph, Graph]:
    # Most bodies have nothing of the kind, and are run once: `derive` would take longer than that.
    all_varies = body.cache.get("varies")
    if all_varies is None:
        once, _ = split_invariant(body, n_consts)
        all_varies = body.cache["varies"] = not once.eqns
    if all_varies:
        return Graph(body.inputs[:n_consts], (), ()), body
    return body.derive(("invariant", n_consts), lambda: split_invariant(body, n_consts))


def _out_avals(graph: Graph) -> list[Aval]:
    return [a.strong() for a in graph.out_avals]


def _checked(avals: Sequence[Aval], graph: Graph, what: str) -> Graph:
    """The graph itself, if its inputs are of these shapes and dtypes."""
    have, want = list(avals), [v.aval for v in graph.inputs]
    if [(a.shape, a.dtype) for a in have] != [(a.shape, a.dtype) for a in want]:
        raise ValueError(f"{what} takes {want}, not {have}")
    return graph


# --- switch ---------------------------------------------------------------------------


def _switch(index: Any, *operands: Any, branches: tuple[Graph, ...]) -> Any:
    return _run_once(branches[int(index)], operands)


def _switch_shape(index: Aval, *operands: Aval, branches: tuple[Graph, ...]) -> list[Aval]:
    for number, branch in enumerate(branches):
        _checked(operands, branch, f"branch {number}")
    return _out_avals(branches[0])


def _prune_switch(eqn: Eqn, used: tuple[bool, ...]) -> Eqn:
    branches = eqn.params["branches"]
    reads = [any(column) for column in zip(*(b.reads(used) for b in branches), strict=True)]
    if all(used) and all(reads):
        return eqn
    kept = tuple(
        b.derive(("restrict", tuple(reads), used), lambda b=b: b.restrict(reads, used))
        for b in branches
    )
    ins = (eqn.ins[0], *compress(eqn.ins[1:], reads))
    return Eqn(eqn.prim, ins, {"branches": kept}, tuple(compress(eqn.outs, used)), eqn.source)


# `switch[branches](index, *operands)`: index is a boolean for two branches, or an integer in range.
switch = higher_order("switch", _switch, shape=_switch_shape, prune=_prune_switch)


def _stop_gradient_unless(x, mask):
    # Broadcasts as the derivative does.
    return np.where(mask, x, x)


# x itself; its derivative is cut where the mask is False. Under `vmap` of `switch` it keeps
# infinite derivatives in branches that were not taken from reaching the operands as NaN.
stop_gradient_unless = elementwise(
    "stop_gradient_unless",
    _stop_gradient_unless,
    lambda g, ans, x, mask: np.where(mask, g, 0),
    None,
    dtype=lambda x, mask: x.dtype,
    samples=[sample((3,), np.array([True, True, True]))],
    dtypes="fc",
    cost=1,
    linear_in=((0,),),
    operand_dtypes=lambda out, x, mask: (out, np.dtype(bool)),
)

# --- while ----------------------------------------------------------------------------


def _while(*operands: Any, cond: Graph, body: Graph, n_consts: int) -> Any:
    consts, carry = operands[:n_consts], list(operands[n_consts:])
    once, step = _without_invariant(body, n_consts)
    fixed: Sequence[Any] | None = None
    with np.errstate(all="ignore"):
        while not _is_worth_compiling(body, 1):
            if not run_graph(cond, [*consts, *carry])[0]:
                return carry
            fixed = run_graph(once, consts) if fixed is None else fixed
            carry = run_graph(step, [*consts, *fixed, *carry])
    params = {"cond": cond, "body": body, "n_consts": n_consts}
    return _loop(while_, body, body.in_avals, params)(*consts, *carry)


def _while_shape(*operands: Aval, cond: Graph, body: Graph, n_consts: int) -> list[Aval]:
    _checked(operands, cond, "the condition")
    _checked(operands, body, "the body")
    _checked(body.out_avals, Graph(body.inputs[n_consts:], (), ()), "the next step")
    return _out_avals(body)


def _prune_while(eqn: Eqn, used: tuple[bool, ...]) -> Eqn:
    cond, body, n = eqn.params["cond"], eqn.params["body"], eqn.params["n_consts"]
    tested = cond.reads([True])
    carry = [u or t for u, t in zip(used, tested[n:], strict=True)]
    carry, reads = _live_carry(body, carry, [], n)
    consts = [r or t for r, t in zip(reads[:n], tested[:n], strict=True)]
    keep = (*consts, *carry)
    if all(keep):
        return eqn
    params = {
        "cond": cond.derive(("restrict", keep), lambda: cond.restrict(keep, [True])),
        "body": body.derive(("restrict", keep), lambda: body.restrict(keep, carry)),
        "n_consts": sum(consts),
    }
    ins, outs = compress(eqn.ins, keep), compress(eqn.outs, carry)
    return Eqn(eqn.prim, tuple(ins), params, tuple(outs), eqn.source)


def _live_carry(
    body: Graph, carry: list[bool], ys: list[bool], n_consts: int
) -> tuple[list[bool], list[bool]]:
    """The least part of the carry that the chosen results need, and which inputs that reads."""
    while True:
        reads = body.reads([*carry, *ys])
        grown = [c or r for c, r in zip(carry, reads[n_consts:], strict=False)]
        if grown == carry:
            return carry, reads
        carry = grown


# `while[cond, body, n_consts](*consts, *carry)`; cond and body take (consts, carry).
while_ = higher_order("while", _while, shape=_while_shape, prune=_prune_while)

# --- scan -----------------------------------------------------------------------------


def _scan(
    *operands: Any, body: Graph, length: int, reverse: bool, n_consts: int, n_carry: int
) -> Any:
    first_x = n_consts + n_carry
    if _is_worth_compiling(body, length):
        avals = [*body.in_avals[:first_x], *map(aval_of, operands[first_x:])]
        params = {"body": body, "length": length, "reverse": reverse}
        counts = {"n_consts": n_consts, "n_carry": n_carry}
        return _loop(scan, body, avals, {**params, **counts})(*operands)
    consts, carry, xs = operands[:n_consts], operands[n_consts:first_x], operands[first_x:]
    ys = [namespace(a).empty((length, *a.shape), a.dtype) for a in body.out_avals[n_carry:]]
    once, step = _without_invariant(body, n_consts)
    with np.errstate(all="ignore"):
        fixed = run_graph(once, consts) if once.eqns and length else []
        for i in reversed(range(length)) if reverse else range(length):
            outs = run_graph(step, [*consts, *fixed, *carry, *[x[i] for x in xs]])
            carry = outs[:n_carry]
            for stack, y in zip(ys, outs[n_carry:], strict=True):
                stack[i] = y
    return [*carry, *ys]


def _scan_shape(
    *operands: Aval, body: Graph, length: int, reverse: bool, n_consts: int, n_carry: int
) -> list[Aval]:
    first_x = n_consts + n_carry
    for x in operands[first_x:]:
        if x.shape[:1] != (length,):
            raise ValueError(f"scanned operand of shape {x.shape} has not length {length}")
    slices = [x.update(shape=x.shape[1:]) for x in operands[first_x:]]
    _checked([*operands[:first_x], *slices], body, "the body")
    outs = _out_avals(body)
    _checked(outs[:n_carry], Graph(body.inputs[n_consts:first_x], (), ()), "the next step")
    return [*outs[:n_carry], *(y.update(shape=(length, *y.shape)) for y in outs[n_carry:])]


def _prune_scan(eqn: Eqn, used: tuple[bool, ...]) -> Eqn:
    params = eqn.params
    body, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    carry, ys = list(used[:n_carry]), list(used[n_carry:])
    carry, reads = _live_carry(body, carry, ys, n_consts)
    first_x = n_consts + n_carry
    keep = (*reads[:n_consts], *carry, *reads[first_x:])
    outs = (*carry, *ys)
    if all(keep) and all(outs):
        return eqn
    pruned = body.derive(("restrict", keep, outs), lambda: body.restrict(keep, outs))
    counts = {"n_consts": sum(reads[:n_consts]), "n_carry": sum(carry)}
    new_params = {**params, "body": pruned, **counts}
    ins = tuple(compress(eqn.ins, keep))
    return Eqn(eqn.prim, ins, new_params, tuple(compress(eqn.outs, outs)), eqn.source)


# `scan[body, length, reverse, n_consts, n_carry](*consts, *carry, *xs)`; the body takes one
# slice of each x and gives (next carry, one slice of each y).
scan = higher_order("scan", _scan, shape=_scan_shape, prune=_prune_scan)

# --- calls ----------------------------------------------------------------------------


def _run(*operands: Any, graph: Graph) -> Any:
    return _run_once(graph, operands)


def _prune_call(eqn: Eqn, used: tuple[bool, ...]) -> Eqn:
    graph = eqn.params["graph"]
    reads = tuple(graph.reads(used))
    if all(used) and all(reads):
        return eqn
    kept = graph.derive(("restrict", reads, used), lambda: graph.restrict(reads, used))
    ins = tuple(compress(eqn.ins, reads))
    return Eqn(eqn.prim, ins, {"graph": kept}, tuple(compress(eqn.outs, used)), eqn.source)


# A call whose values inside are computed again in the backward pass.
checkpoint = higher_order(
    "checkpoint",
    _run,
    shape=lambda *avals, graph: _out_avals(_checked(avals, graph, "the function")),
    prune=_prune_call,
)


def _run_custom(*operands: Any, graph: Graph | None, rule: Any) -> Any:
    return rule.primal(*operands) if graph is None else _run_once(graph, operands)


def _custom_shape(*avals: Aval, graph: Graph | None, rule: Any) -> list[Aval]:
    return _out_avals(rule.graph(avals) if graph is None else graph)


# Calls of functions with derivative rules of their own. `rule` has the rules as functions of
# flat operands (`transforms/custom.py`); `graph` is the function, and None where values ride
# along, so that nobody had to trace it.
custom_jvp = higher_order("custom_jvp", _run_custom, shape=_custom_shape)
custom_vjp = higher_order("custom_vjp", _run_custom, shape=_custom_shape)
