"""How primitives that hold graphs are written: branches and loops as Python's own."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.common.spelling import dtype_name
from funcgrad.backends.numpy.emit import INDENT, Body
from funcgrad.backends.numpy.module import CUPY
from funcgrad.core.device import CPU
from funcgrad.core.graph import Eqn


def _assign(body: Body, names: Sequence[str], values: Sequence[str], deeper: int = 0) -> None:
    """`a, b = c, d`, without what is assigned to itself."""
    pairs = [(n, v) for n, v in zip(names, values, strict=True) if n != v]
    if pairs:
        left, right = zip(*pairs, strict=True)
        body.write(f"{INDENT * deeper}{', '.join(left)} = {', '.join(right)}")


def _switch(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    branches = eqn.params["branches"]
    index, operands = ins[0], ins[1:]
    results = [body.fresh() for _ in eqn.outs]
    if not results:
        return results
    boolean = eqn.ins[0].aval.dtype == bool
    # A boolean chooses the second branch where it is true; True first reads better.
    order = list(reversed(range(len(branches)))) if boolean else list(range(len(branches)))
    for position, number in enumerate(order):
        test = index if boolean else f"{index} == {number}"
        if position == len(order) - 1:
            body.write("else:" if position else "if True:")
        else:
            body.write(f"{'elif' if position else 'if'} {test}:")
        lines, found = body.block(branches[number], operands)
        body.lines += lines
        _assign(body, results, found, deeper=1)
    return results


def _while(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    n = eqn.params["n_consts"]
    consts, carry = ins[:n], _start_carry(body, ins[n:])
    body.write("while True:")
    lines, (test,) = body.block(eqn.params["cond"], [*consts, *carry])
    body.lines += lines
    body.write(f"{INDENT}if not {test}:")
    body.write(f"{INDENT * 2}break")
    lines, step = body.block(eqn.params["body"], [*consts, *carry])
    body.lines += lines
    _assign(body, carry, step, deeper=1)
    return carry


def _scan(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    params = eqn.params
    graph, n_consts, n_carry = params["body"], params["n_consts"], params["n_carry"]
    consts, xs = ins[:n_consts], ins[n_consts + n_carry :]
    carry = _start_carry(body, ins[n_consts : n_consts + n_carry])
    stacks = [body.fresh() for _ in eqn.outs[n_carry:]]
    for stack, out in zip(stacks, eqn.outs[n_carry:], strict=True):
        library = "np" if out.aval.device == CPU else CUPY
        body.write(f"{stack} = {library}.empty({out.aval.shape}, {dtype_name(out.aval.dtype)})")
    if not eqn.outs:
        return []
    i = body.module.names.unused("i")
    steps = f"range({params['length']})"
    body.write(f"for {i} in {f'reversed({steps})' if params['reverse'] else steps}:")
    start = len(body.lines)
    slices = [body.fresh() for _ in xs]
    for name, x in zip(slices, xs, strict=True):
        body.write(f"{INDENT}{name} = {x}[{i}]")
    lines, found = body.block(graph, [*consts, *carry, *slices])
    body.lines += lines
    for stack, value in zip(stacks, found[n_carry:], strict=True):
        body.write(f"{INDENT}{stack}[{i}] = {value}")
    _assign(body, carry, found[:n_carry], deeper=1)
    if len(body.lines) == start:
        body.write(f"{INDENT}pass")
    return [*carry, *stacks]


def _start_carry(body: Body, initial: Sequence[str]) -> list[str]:
    carry = [body.fresh() for _ in initial]
    _assign(body, carry, initial)
    return carry


EMITTERS = {"switch": _switch, "while": _while, "scan": _scan}
