"""Equations that are no loop nests: matrix products, assembled arrays, NumPy's own functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.backends.llvm import blas
from funcgrad.backends.llvm.scalar import SUPPORTED
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.schedule import View, row_major
from funcgrad.core.graph import Const, Eqn

if TYPE_CHECKING:
    from funcgrad.backends.llvm.program import Body, Frame

Rule = Callable[["Body", Eqn], None]
RULES: dict[str, Rule] = {}
# Products of more multiplications are split over the threads.
SPLIT_WORK = 1 << 19


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
    targets = [body.target(o) for o in eqn.outs]
    outs = [
        View(t, o.aval.shape, row_major(o.aval.shape), 0)
        for t, o in zip(targets, eqn.outs, strict=True)
    ]
    number = len(body.shared.hosts)
    body.shared.hosts.append(_host_function(eqn))
    arrays = [*outs, *views]
    layouts = [body.shared.layout(v) for v in arrays]

    def emit(frame: Frame) -> None:
        frame.call_host(number, arrays, layouts)

    body.shared.spent.calls += 1
    body.shared.spent.add([v.buffer for v in views], targets)
    body.step(emit, [v.buffer for v in arrays], targets)


def _host_function(eqn: Eqn) -> Callable[..., None]:
    prim, params, n = eqn.prim, eqn.params, len(eqn.outs)
    fixed = [a.value if type(a) is Const else None for a in eqn.ins]
    weak = [a.aval.weak for a in eqn.ins]

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


# --- matrix products ------------------------------------------------------------------


@rule("matmul")
def _matmul(body: Body, eqn: Eqn) -> None:
    found = blas.find()
    out = eqn.outs[0].aval
    sizes = [n for a in eqn.ins for n in a.aval.shape]
    if found is None or out.dtype.kind != "f" or not min(sizes) or max(sizes) > found.limit:
        host(body, eqn)
        return
    x, y = (_matrix(body, atom, out.dtype, side) for side, atom in enumerate(eqn.ins))
    target = body.target(eqn.outs[0])
    rows, columns = x.shape[-2], y.shape[-1]
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if not any(y.strides[:-2]) and len(x.shape) > 2 and _one_matrix(x):
        # One product over all the rows.
        rows = prod(x.shape[:-1])
        x = View(x.buffer, (rows, x.shape[-1]), x.strides[-2:], x.offset)
        lead = ()
    work = rows * columns * x.shape[-1]
    body.shared.work += prod(lead) * work // 4

    def emit(frame: Frame) -> None:
        for number, index in enumerate(np.ndindex(*lead)):
            place = [_offset(v, lead, index) for v in (x, y)]
            write_gemm(frame, x, y, target, (*place, number * rows * columns), rows, columns)

    if prod(lead) > 64:
        host(body, eqn)
    else:
        body.shared.spent.calls += prod(lead)
        body.shared.spent.add([x.buffer, y.buffer], [target])
        body.step(emit, [x.buffer, y.buffer], [target])


def _matrix(body: Body, atom: Any, dtype: np.dtype, side: int) -> View:
    """An operand as matrices that BLAS can read: unit stride along one of the last two axes."""
    view = body.resolve(atom)
    if len(view.shape) == 1:
        at = 0 if side == 0 else 1
        shape, strides = list(view.shape), list(view.strides)
        shape.insert(at, 1)
        strides.insert(at, view.shape[0] if side == 0 else 1)
        view = View(view.buffer, tuple(shape), tuple(strides), view.offset)
    if view.buffer.dtype != dtype or leading(view) is None:
        copy = Buffer(dtype, prod(view.shape))
        fresh = View(copy, view.shape, row_major(view.shape), 0)
        body.copy(view, fresh)
        return fresh
    return view


def leading(view: View) -> tuple[int, bool] | None:
    """(leading dimension, is transposed) as BLAS takes them."""
    (m, n), (by_row, by_column) = view.shape[-2:], view.strides[-2:]
    if (by_column == 1 or n == 1) and (by_row >= n or m == 1):
        return max(by_row if m > 1 else n, n, 1), False
    if (by_row == 1 or m == 1) and (by_column >= m or n == 1):
        return max(by_column if n > 1 else m, m, 1), True
    return None


def _one_matrix(x: View) -> bool:
    """Whether the rows of all matrices follow each other at one distance."""
    for i in range(len(x.shape) - 2):
        if x.shape[i] > 1 and x.strides[i] != x.strides[i + 1] * x.shape[i + 1]:
            return False
    return x.strides[-1] == 1


def _offset(view: View, lead: Sequence[int], index: Sequence[int]) -> int:
    own = index[len(lead) - (len(view.shape) - 2) :]
    pairs = zip(own, view.shape, view.strides, strict=False)
    return view.offset + sum(i * s for i, n, s in pairs if n > 1)


def write_gemm(
    frame: Frame,
    x: View,
    y: View,
    target: Buffer,
    offsets: Sequence[int],
    rows: int,
    columns: int,
) -> None:
    """`target = x @ y` for one matrix each."""
    w, kind = frame.w, "float" if target.dtype.itemsize == 4 else "double"
    name = "fg_sgemm" if kind == "float" else "fg_dgemm"
    inner = x.shape[-1]
    (lda, turned_a), (ldb, turned_b) = leading(x) or (0, False), leading(y) or (0, False)
    a, b, c = (
        w.offset(frame.address(buffer), kind, w.const(offset, "i64"))
        for buffer, offset in zip((x.buffer, y.buffer, target), offsets, strict=True)
    )
    flags = [112 if turned else 111 for turned in (turned_a, turned_b)]
    one, zero = w.const(1.0, kind), w.const(0.0, kind)
    w.module.declare(
        name,
        f"declare void @{name}(i32, i32, i32, i64, i64, i64, {kind}, ptr, i64, ptr, i64, {kind}, "
        "ptr, i64)",
    )
    w.line(
        f"call void @{name}(i32 101, i32 {flags[0]}, i32 {flags[1]}, i64 {rows}, i64 {columns}, "
        f"i64 {inner}, {kind} {one.ref}, ptr {a.ref}, i64 {lda}, ptr {b.ref}, i64 {ldb}, "
        f"{kind} {zero.ref}, ptr {c.ref}, i64 {columns})"
    )
