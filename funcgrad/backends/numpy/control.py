"""How graph-carrying primitives are written: calls inline, loops and branches as Python's."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.numpy.emit import Body, emits
from funcgrad.core.graph import Eqn, Graph, Var
from funcgrad.transforms.simplify import simplify


@emits("call")
@emits("checkpoint")
def _call(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    return body.nested(eqn.params["graph"], ins, extra="")


@emits("custom_jvp")
@emits("custom_vjp")
def _custom(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    graph, rule = eqn.params["graph"], eqn.params["rule"]
    return body.nested(graph or rule.graph([a.aval for a in eqn.ins]), ins, extra="")


@emits("switch")
def _switch(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    branches = eqn.params["branches"]
    index, operands = ins[0], ins[1:]
    results = [body.names.fresh() for _ in eqn.outs]
    if not results:
        return results
    boolean = eqn.ins[0].aval.dtype == bool
    # A boolean chooses the second branch where it is true; True first reads better.
    order = list(reversed(range(len(branches)))) if boolean else list(range(len(branches)))
    for position, number in enumerate(order):
        if len(order) == 1:
            body.write("if True:")
        elif position == len(order) - 1:
            body.write("else:")
        else:
            test = index if boolean else f"{index} == {number}"
            body.write(f"{'elif' if position else 'if'} {test}:")
        found = body.nested(branches[number], operands)
        body.write(f"    {', '.join(results)} = {', '.join(found)}")
    return results


@emits("while")
def _while(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    n = eqn.params["n_consts"]
    consts, carry = ins[:n], _start_carry(body, ins[n:])
    body.write("while True:")
    (test,) = body.nested(eqn.params["cond"], [*consts, *carry])
    body.write(f"    if not {test}:")
    body.write("        break")
    step = body.nested(eqn.params["body"], [*consts, *carry])
    body.write(f"    {', '.join(carry)} = {', '.join(step)}")
    return carry


@emits("scan")
def _scan(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    params = eqn.params
    graph, n_consts, n_carry = simplify(params["body"]), params["n_consts"], params["n_carry"]
    consts, xs = ins[:n_consts], ins[n_consts + n_carry :]
    once, graph = _hoist(graph, n_consts)
    fixed = body.nested(once, consts, extra="") if once.outputs else []
    carry = _start_carry(body, ins[n_consts : n_consts + n_carry])
    stacks = [body.names.fresh() for _ in eqn.outs[n_carry:]]
    for stack, out in zip(stacks, eqn.outs[n_carry:], strict=True):
        body.write(f"{stack} = np.empty({out.aval.shape}, np.{out.aval.dtype.name})")
    i = body.names.fresh("i")
    steps = f"range({params['length']})"
    body.write(f"for {i} in {f'reversed({steps})' if params['reverse'] else steps}:")
    slices = [body.names.fresh() for _ in xs]
    for name, x in zip(slices, xs, strict=True):
        body.write(f"    {name} = {x}[{i}]")
    found = body.nested(graph, [*consts, *fixed, *carry, *slices])
    for stack, value in zip(stacks, found[n_carry:], strict=True):
        body.write(f"    {stack}[{i}] = {value}")
    if carry:
        body.write(f"    {', '.join(carry)} = {', '.join(found[:n_carry])}")
    elif not (stacks or slices):
        body.write("    pass")
    return [*carry, *stacks]


def _start_carry(body: Body, initial: Sequence[str]) -> list[str]:
    carry = [body.names.fresh() for _ in initial]
    if carry:
        body.write(f"{', '.join(carry)} = {', '.join(initial)}")
    return carry


def _hoist(graph: Graph, n_consts: int) -> tuple[Graph, Graph]:
    """A loop's body in two: what no step changes, and the rest, which takes it as inputs."""
    fixed = {id(v) for v in graph.inputs[:n_consts]}
    once, rest = [], []
    for eqn in graph.eqns:
        if all(id(a) in fixed or type(a) is not Var for a in eqn.ins):
            fixed.update(map(id, eqn.outs))
            once.append(eqn)
        else:
            rest.append(eqn)
    made = {id(o): o for eqn in once for o in eqn.outs}
    read = {id(a): a for eqn in rest for a in eqn.ins} | {id(a): a for a in graph.outputs}
    shared = [v for key, v in made.items() if key in read]
    consts, others = graph.inputs[:n_consts], graph.inputs[n_consts:]
    return Graph(consts, once, shared), Graph((*consts, *shared, *others), rest, graph.outputs)
