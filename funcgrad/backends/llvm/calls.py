"""Equations that are no loop nests: assembled arrays, and NumPy's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.llvm.frame import Frame
from funcgrad.backends.llvm.program import Body
from funcgrad.backends.llvm.rules import rule
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.scatter import SCATTERS, scatter_cluster, scatter_operands
from funcgrad.backends.loops.schedule import schedule
from funcgrad.backends.loops.views import View, row_major
from funcgrad.core.graph import Eqn

# --- arrays put together --------------------------------------------------------------


def _whole(body: Body, eqn: Eqn) -> tuple[Buffer, tuple[int, ...]]:
    return body.target(eqn.outs[0]), eqn.outs[0].aval.shape


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


def _zero(body: Body, buffer: Buffer) -> None:
    def emit(frame: Frame) -> None:
        w = frame.w
        w.module.declare("llvm.memset.p0.i64", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        address = frame.address(buffer).ref
        w.line(f"call void @llvm.memset.p0.i64(ptr {address}, i8 0, i64 {buffer.nbytes}, i1 false)")

    body.step(emit, [], [buffer])


@rule("embed")
def _embed(body: Body, eqn: Eqn) -> None:
    source = body.resolve(eqn.ins[0])
    buffer, shape = _whole(body, eqn)
    _zero(body, buffer)
    body.copy(source, _part(buffer, shape, eqn.params["idx"]))


@rule("concatenate", "pack")
def _concatenate(body: Body, eqn: Eqn) -> None:
    axis = eqn.params.get("axis", 0)
    sources = [body.resolve(a) for a in eqn.ins]
    buffer, shape = _whole(body, eqn)
    start = 0
    for atom, source in zip(eqn.ins, sources, strict=True):
        n = atom.aval.shape[axis] if atom.aval.shape else 1
        idx: list[Any] = [(0, None, 1)] * len(shape)
        idx[axis] = (start, start + n, 1) if atom.aval.shape else start
        body.copy(source, _part(buffer, shape, idx))
        start += n


@rule("index_set")
def _index_set(body: Body, eqn: Eqn) -> None:
    x, updates = (body.resolve(a) for a in eqn.ins)
    buffer, shape = _whole(body, eqn)
    body.copy(x, View(buffer, shape, row_major(shape), 0))
    body.copy(updates, _part(buffer, shape, eqn.params["idx"]))


@rule(*SCATTERS)
def _scatter(body: Body, eqn: Eqn) -> None:
    buffer, shape = _whole(body, eqn)
    if eqn.prim.name == "scatter_zeros":
        _zero(body, buffer)
    else:
        body.copy(body.resolve(eqn.ins[0]), View(buffer, shape, row_major(shape), 0))
    if scatter_operands(eqn)[0].aval.size:
        found = schedule(scatter_cluster(eqn), [], body.resolve, body.target)
        body.run(*found, body.shared.site([eqn]))
