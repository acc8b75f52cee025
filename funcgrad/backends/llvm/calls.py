"""Equations that are no loop nests: assembled arrays, and NumPy's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.backends.llvm.kinds import SUPPORTED
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.scatter import SCATTERS, scatter_cluster, scatter_operands
from funcgrad.backends.loops.schedule import schedule
from funcgrad.backends.loops.views import View, row_major
from funcgrad.core.graph import Const, Eqn

if TYPE_CHECKING:
    from funcgrad.backends.llvm.frame import Frame
    from funcgrad.backends.llvm.program import Body

Rule = Callable[["Body", Eqn], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def write_call(body: Body, eqn: Eqn) -> None:
    """The steps of an equation that no cluster takes."""
    found = RULES.get(eqn.prim.name)
    known = all(a.aval.dtype in SUPPORTED for a in (*eqn.ins, *eqn.outs))
    if found is not None and known and all(o.aval.size for o in eqn.outs):
        found(body, eqn)
    else:
        host(body, eqn)


# --- NumPy's functions ----------------------------------------------------------------


def host(body: Body, eqn: Eqn) -> None:
    """A call of the primitive's own implementation, on arrays that lie in the program's memory."""
    views = [body.resolve(a) for a in eqn.ins if type(a) is not Const]
    for out in eqn.outs:
        body.target(out)
    outs = [body.views[id(o)] for o in eqn.outs]
    call_host(body, _host_function(eqn), [*outs, *views], len(outs))


def call_host(
    body: Body, function: Callable[..., None], views: Sequence[View], written: int
) -> None:
    """A step that calls a Python function with arrays; it writes the first of them."""
    number = len(body.shared.hosts)
    body.shared.hosts.append(function)
    layouts = [body.shared.layout(v) for v in views]

    def emit(frame: Frame) -> None:
        frame.call_host(number, views, layouts)

    buffers = [v.buffer for v in views]
    body.shared.spent.calls += 1
    body.shared.spent.add(buffers[written:], buffers[:written])
    body.step(emit, buffers, buffers[:written])


def _host_function(eqn: Eqn) -> Callable[..., None]:
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    fixed = [a.value if type(a) is Const else None for a in eqn.ins]
    # Complex numbers stay NumPy's: what is taken of Python's, as a real part, has no methods.
    weak = [a.aval.weak and a.aval.dtype.kind != "c" for a in eqn.ins]

    def call(*arrays: np.ndarray) -> None:
        supply = iter(arrays[n:])
        ins = []
        for atom, value, is_weak in zip(eqn.ins, fixed, weak, strict=True):
            if type(atom) is Const:
                ins.append(value)
                continue
            array = next(supply)
            ins.append(array.item() if is_weak else array if array.ndim else array[()])
        with np.errstate(all="ignore"):
            result = prim.impl(*ins, **params)
        for out, value in zip(arrays[:n], result if prim.multiple else [result], strict=True):
            out[...] = value

    return call


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
        w.module.declare("memset", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
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
        body.run(*schedule(scatter_cluster(eqn), [], body.resolve, body.target))
