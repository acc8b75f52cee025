"""The steps of arrays that are put together of others, and of scatters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.backends.loops.builder import Builder
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.plan import Zero
from funcgrad.backends.loops.scatter import into_zeros, scatter_cluster, scatter_operands
from funcgrad.backends.loops.schedule import schedule
from funcgrad.backends.loops.views import View, row_major
from funcgrad.core.graph import Eqn


def _whole(builder: Builder, eqn: Eqn) -> tuple[Buffer, tuple[int, ...]]:
    return builder.result(eqn.outs[0]), eqn.outs[0].aval.shape


def _part(buffer: Buffer, shape: Sequence[int], idx: Sequence[Any]) -> View:
    """The view `x[idx]` of a buffer of this shape."""
    new, strides, offset = [], [], 0
    for n, step, e in zip(shape, row_major(shape), idx, strict=True):
        if type(e) is tuple:
            start, _, stride = slice(*e).indices(n)
            new.append(len(range(*slice(*e).indices(n))))
            strides.append(step * stride)
            offset += start * step if new[-1] else 0
        else:
            offset += (e % n) * step
    return View(buffer, tuple(new), tuple(strides), offset)


def _embed(builder: Builder, eqn: Eqn) -> None:
    source = builder.resolve(eqn.ins[0])
    buffer, shape = _whole(builder, eqn)
    builder.steps.append(Zero(buffer))
    builder.copy(source, _part(buffer, shape, eqn.params["idx"]))


def _concatenate(builder: Builder, eqn: Eqn) -> None:
    axis = eqn.params.get("axis", 0)
    sources = [builder.resolve(a) for a in eqn.ins]
    buffer, shape = _whole(builder, eqn)
    start = 0
    for atom, source in zip(eqn.ins, sources, strict=True):
        n = atom.aval.shape[axis] if atom.aval.shape else 1
        idx: list[Any] = [(0, None, 1)] * len(shape)
        idx[axis] = (start, start + n, 1) if atom.aval.shape else start
        builder.copy(source, _part(buffer, shape, idx))
        start += n


def _index_set(builder: Builder, eqn: Eqn) -> None:
    x, updates = (builder.resolve(a) for a in eqn.ins)
    buffer, shape = _whole(builder, eqn)
    builder.copy(x, View(buffer, shape, row_major(shape), 0))
    builder.copy(updates, _part(buffer, shape, eqn.params["idx"]))


def scatter(builder: Builder, eqn: Eqn) -> None:
    buffer, shape = _whole(builder, eqn)
    if into_zeros(eqn):
        builder.steps.append(Zero(buffer))
    else:
        builder.copy(builder.resolve(eqn.ins[0]), View(buffer, shape, row_major(shape), 0))
    if scatter_operands(eqn)[0].aval.size:
        found = schedule(
            scatter_cluster(eqn), [], builder.resolve, builder.result, builder.target.limits
        )
        builder.run(*found, builder.program.site([eqn]))


RULES: dict[str, Callable[[Builder, Eqn], None]] = {
    "embed": _embed,
    "concatenate": _concatenate,
    "pack": _concatenate,
    "index_set": _index_set,
}
