"""A pass: neighbouring runs of one kernel as one: an optimiser's leaves, say.

Each run would otherwise end with the threads waiting for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.planning.plan import RunKernel, RunTogether, Step


def joined(steps: Sequence[Step], memory: Mapping[Buffer, Buffer], limits: Limits) -> list[Step]:
    """The steps, with runs of one kernel joined that do not depend on each other.

    Args:
        memory: for a buffer the one whose memory it takes, if it has none of its own.
    """
    found: list[Step] = []
    group: list[RunKernel] = []
    for step in steps:
        # What checks indices has a report of its own.
        run = step if isinstance(step, RunKernel) and not step.site else None
        if group and (run is None or not _may_join(group, run, memory, limits)):
            found += _together(group, limits)
            group = []
        if run is None:
            found.append(step)
        else:
            group.append(run)
    return [*found, *_together(group, limits)]


def _may_join(
    group: Sequence[RunKernel], run: RunKernel, memory: Mapping[Buffer, Buffer], limits: Limits
) -> bool:
    first = group[0]
    if len(group) >= limits.most_runs or (first.count, first.chunk) != (run.count, run.chunk):
        return False
    if first.kernel.text != run.kernel.text:
        return False

    def places(buffers: Sequence[Buffer]) -> set[Buffer]:
        return {memory.get(b, b) for b in buffers}

    read, written = places(run.inputs), places(run.writes)
    return not any(
        places(other.writes) & (read | written) or places(other.inputs) & written for other in group
    )


def _together(group: Sequence[RunKernel], limits: Limits) -> Sequence[Step]:
    if len(group) < 2 or sum(run.work for run in group) < limits.parallel_work:
        return group
    return [RunTogether(tuple(group))]
