"""The clusters of a long program, of which those that are alike are scheduled once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from funcgrad.backends.loops.fusion.forms import Form
from funcgrad.backends.loops.fusion.partition import Cluster
from funcgrad.backends.loops.fusion.schedule import Scheduled, schedule
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.nest import Kernel
from funcgrad.backends.loops.nests.views import View
from funcgrad.core.graph import Eqn
from funcgrad.records import NamedTuple

Resolve = Callable[[Any], View]
Target = Callable[[Any], Any]


class _Question(NamedTuple):
    """A scheduler asks where one of the cluster's atoms lies, or is to be written."""

    place: int
    is_result: bool


class _Known(NamedTuple):
    """What is scheduled of what is computed: in answer to these questions, by the answers, the
    kernels, each with the numbers of its buffers among the answers'."""

    asked: Sequence[_Question]
    kernels: dict[Hashable, tuple[Kernel, Sequence[int | None]]]


class Repeated:
    """Schedules clusters; one that is like an earlier one has the earlier one's kernel.

    A kernel follows from what is computed and from where the operands lie. Questions are asked
    again in the order in which they were asked first, as an answer may take a copy.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}

    def schedule(
        self,
        cluster: Cluster,
        outputs: Sequence[Any],
        resolve: Resolve,
        target: Target,
        limits: Limits,
        again: Sequence[Eqn] = (),
    ) -> Scheduled:
        """As the function of that name."""
        atoms = [a for e in (*again, *cluster.eqns) for a in (*e.ins, *e.outs)]
        computed = _computed(cluster, outputs, again)
        known = self._known.get(computed)
        if known is not None:
            answers, buffers = _answers(known.asked, atoms, resolve, target)
            found = known.kernels.get(answers)
            if found is not None:
                kernel, numbers = found
                return Scheduled(kernel, [None if n is None else buffers[n] for n in numbers])
        asked: dict[_Question, None] = {}
        places = {id(a): n for n, a in reversed([*enumerate(atoms)])}

        def resolve_noted(atom: Any) -> View:
            asked[_Question(places[id(atom)], False)] = None
            return resolve(atom)

        def target_noted(atom: Any) -> Any:
            asked[_Question(places[id(atom)], True)] = None
            return target(atom)

        made = schedule(cluster, outputs, resolve_noted, target_noted, limits, again)
        if computed is not None:
            known = self._known.setdefault(computed, _Known([*asked], {}))
            if known.asked == [*asked]:
                answers, buffers = _answers(known.asked, atoms, resolve, target)
                numbers = [None if b is None else buffers.index(b) for b in made.buffers]
                known.kernels[answers] = made.kernel, numbers
        return made


def _computed(cluster: Cluster, outputs: Sequence[Any], again: Sequence[Eqn]) -> Hashable:
    """What a cluster computes, on which axes; None where that cannot be compared."""
    form = Form()
    eqns = tuple([form.eqn(e) for e in (*again, *cluster.eqns)])
    results = tuple([form.number(o) for o in outputs])
    labels, reduced, ended = cluster.labels, cluster.reduced, cluster.ended
    values = tuple(
        [(v.aval, labels.get(id(v)), reduced.get(id(v)), id(v) in ended) for v in form.met]
    )
    found = len(again), eqns, results, values, tuple(cluster.dims), cluster.split
    try:
        hash(found)
    except TypeError:
        return None
    return found


def _answers(
    asked: Sequence[_Question], atoms: Sequence[Any], resolve: Resolve, target: Target
) -> tuple[Hashable, Sequence[Any]]:
    """What the answers say, with numbers in place of buffers, and the buffers."""
    form = Form()
    found: list[Hashable] = []
    for place, is_result in asked:
        if is_result:
            buffer, where = target(atoms[place]), ()
        else:
            buffer, *where = resolve(atoms[place])
        found.append((form.number(buffer), buffer.dtype, buffer.size, *where))
    return tuple(found), form.met
