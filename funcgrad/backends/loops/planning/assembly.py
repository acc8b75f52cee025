"""The steps of arrays that are put together of others, and of scatters."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.loops.fusion.scatter import (
    accumulate_cluster,
    into_zeros,
    scatter_cluster,
    scatter_operands,
)
from funcgrad.backends.loops.fusion.schedule import schedule
from funcgrad.backends.loops.nests.views import View, part, parts_of, row_major
from funcgrad.backends.loops.planning.builder import Builder
from funcgrad.backends.loops.planning.plan import Zero
from funcgrad.core.graph import Eqn


def assemble(builder: Builder, eqn: Eqn) -> None:
    sources = [builder.resolve(a) for a in eqn.ins]
    buffer = builder.result(eqn.outs[0])
    if sum(a.aval.size for a in eqn.ins) < eqn.outs[0].aval.size:
        builder.steps.append(Zero(buffer))
    for source, found in zip(sources, parts_of(eqn), strict=True):
        builder.copy(source, part(found, buffer, source.shape))


def accumulate(builder: Builder, eqn: Eqn, again: Sequence[Eqn]) -> None:
    """The steps of elements that are added up in the result.

    Args:
        again: the equations by which the operand is computed, where that is nowhere in memory.
    """
    builder.steps.append(Zero(builder.result(eqn.outs[0])))
    if eqn.ins[0].aval.size:
        limits = builder.target.limits
        cluster = accumulate_cluster(eqn)
        found = schedule(cluster, [], builder.resolve, builder.result, limits, again)
        builder.run(*found, builder.program.site([*again, eqn]))


def scatter(builder: Builder, eqn: Eqn) -> None:
    buffer, shape = builder.result(eqn.outs[0]), eqn.outs[0].aval.shape
    if into_zeros(eqn):
        builder.steps.append(Zero(buffer))
    else:
        builder.copy(builder.resolve(eqn.ins[0]), View(buffer, shape, row_major(shape), 0))
    if scatter_operands(eqn)[0].aval.size:
        found = schedule(
            scatter_cluster(eqn), [], builder.resolve, builder.result, builder.target.limits
        )
        builder.run(*found, builder.program.site([eqn]))
