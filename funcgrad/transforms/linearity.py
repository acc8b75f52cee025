"""Whether a recorded function is linear, read off its equations.

A backward rule is meant to be linear in the cotangent; one that clips it, say, is not, and
then has no transpose that forward mode could use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from funcgrad.core.aval import aval_of
from funcgrad.core.graph import Eqn, Graph, is_zero, live_eqns
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import Recorder, Tracer, own_value
from funcgrad.primitives import control_flow
from funcgrad.primitives.call import call
from funcgrad.records import NamedTuple
from funcgrad.transforms.partial import carry_activity

CUSTOM = (control_flow.custom_jvp, control_flow.custom_vjp)


class Obstacle(NamedTuple):
    """What keeps a function from being known as linear.

    Attributes:
        what: the primitive, or what else it is.
        hidden: it cannot be seen whether it does, as with a function that cannot be traced.
    """

    what: Primitive | str
    hidden: bool = False


def first_nonlinear(
    eqns: Sequence[Eqn], inputs: Iterable[Any], outputs: Sequence[Any]
) -> Obstacle | None:
    """The first primitive that keeps `outputs` from being linear in `inputs`; None if none does.

    Equations that hold graphs are looked into.
    """
    dependent = set(map(id, inputs))
    return _walk(live_eqns(eqns, outputs), dependent)


def _walk(eqns: Iterable[Eqn], dependent: set[int]) -> Obstacle | None:
    """The same for equations; `dependent` grows by the ids of what depends on the inputs."""
    hidden = None
    for eqn in eqns:
        flags = [id(a) in dependent for a in eqn.ins]
        if not any(flags):
            continue
        obstacle, outs = _look(eqn, flags)
        if obstacle is not None and not obstacle.hidden:
            return obstacle
        hidden = hidden or obstacle
        dependent.update(id(o) for o, depends in zip(eqn.outs, outs, strict=True) if depends)
    return hidden


def _look(eqn: Eqn, flags: Sequence[bool]) -> tuple[Obstacle | None, list[bool]]:
    """What keeps an equation from being linear, and which of its results depend on the inputs."""
    prim, params = eqn.prim, eqn.params
    every = [True] * len(eqn.outs)
    if any(f and not aval_of(a).inexact for f, a in zip(flags, eqn.ins, strict=True)):
        return Obstacle(prim), every
    if prim in CUSTOM:
        return _look_at_rule(eqn, flags), every
    if prim is call or prim is control_flow.checkpoint:
        return _inside(params["graph"], flags)
    if prim is control_flow.switch and not flags[0]:
        found = [_inside(branch, flags[1:]) for branch in params["branches"]]
        return _join([o for o, _ in found]), _any_of([outs for _, outs in found])
    if prim is control_flow.scan:
        return _look_at_scan(eqn, flags)
    return None if _is_linear(eqn, flags) else Obstacle(prim), every


def _inside(graph: Graph, flags: Sequence[bool]) -> tuple[Obstacle | None, list[bool]]:
    dependent = {id(v) for v, f in zip(graph.inputs, flags, strict=True) if f}
    obstacle = _walk(graph.eqns, dependent)
    return obstacle, [id(a) in dependent for a in graph.outputs]


def _look_at_rule(eqn: Eqn, flags: Sequence[bool]) -> Obstacle | None:
    """A function with a rule of its own is linear if its derivative is the same everywhere."""
    rule = eqn.params["rule"]
    try:
        with Recorder("linearity", concrete=False, owns=True) as rec:
            ins = [rec.abstract_input(aval_of(a).strong()) for a in eqn.ins]
            found = rule.derivative(ins, flags, lambda x: rec.abstract_input(aval_of(x)))
            wanted = [d for d in found if type(d) is Tracer]
            graph = rec.graph(wanted)
    except Exception:
        # It asks for values, or calls another library.
        return Obstacle(eqn.prim, hidden=True)
    reads = graph.reads([True] * len(wanted))
    return Obstacle(eqn.prim) if any(f and r for f, r in zip(flags, reads, strict=False)) else None


def _look_at_scan(eqn: Eqn, flags: Sequence[bool]) -> tuple[Obstacle | None, list[bool]]:
    body, n_consts, n_carry = (eqn.params[name] for name in ("body", "n_consts", "n_carry"))
    inputs, outs = carry_activity(body, flags, n_consts, n_carry)
    obstacle, _ = _inside(body, inputs)
    # A carry that starts at something else adds it to what is linear.
    starts = zip(inputs, flags, eqn.ins, strict=True)
    if any(grown and not f and not is_zero(a) for grown, f, a in starts):
        return Obstacle(eqn.prim), outs
    return obstacle, outs


def _join(obstacles: Sequence[Obstacle | None]) -> Obstacle | None:
    found = [o for o in obstacles if o is not None]
    return min(found, key=lambda o: o.hidden) if found else None


def _any_of(rows: Sequence[Sequence[bool]]) -> list[bool]:
    return [any(column) for column in zip(*rows, strict=True)]


def _is_linear(eqn: Eqn, flags: Sequence[bool]) -> bool:
    asked = {i for i, f in enumerate(flags) if f}
    # Anything else in a group is a term of its own.
    return any(
        asked <= {*group} and all(flags[i] or is_zero(eqn.ins[i]) for i in group)
        for group in eqn.prim.linear_groups(len(flags))
    )


def same_values(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether a derivative, None for 0, is the same at two places; not where values are unknown."""
    for a, b in zip(first, second, strict=True):
        if a is None and b is None:
            continue
        a, b = (0.0 if x is None else own_value(x) for x in (a, b))
        if type(a) is Tracer or type(b) is Tracer:
            return False
        scale = np.max(np.abs(a), initial=0.0)
        close = np.abs(np.subtract(a, b)) <= 1e3 * np.finfo(np.result_type(a, b)).eps * scale
        if not np.all(close | (np.isnan(a) & np.isnan(b))):
            return False
    return True
