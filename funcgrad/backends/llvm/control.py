"""Loops and branches as native ones.

Where all that a body computes is small it stays in registers from one step to the next. Else
the body is a program of its own, which reads one set of buffers and writes another; between
two steps they change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from funcgrad.backends.cost import graph_flops
from funcgrad.backends.llvm.frame import Frame, counted
from funcgrad.backends.llvm.interrupts import (
    due,
    end_if_reported,
    end_if_stopped,
    rounds,
    stopped,
)
from funcgrad.backends.llvm.kinds import memory_kind
from funcgrad.backends.llvm.program import Body
from funcgrad.backends.llvm.rules import rule
from funcgrad.backends.llvm.small import RULES as SMALL_RULES
from funcgrad.backends.llvm.small import Small, can_be_small, load_view, store_array, to_bool
from funcgrad.backends.llvm.writer import Value, Writer
from funcgrad.backends.loops.decompose import decompose
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.partition import SMALL
from funcgrad.backends.loops.views import View, row_major
from funcgrad.core.graph import Eqn, Graph

# A body in registers may have so many numbers in all of its values.
REGISTER_NUMBERS = 6000
# What a round through memory takes beside its kernels' work.
CALL_WORK = 50
BOOL = np.dtype(bool)


def simple(graph: Graph) -> Graph:
    """A nested graph without composite equations."""
    return graph.derive("decomposed", lambda: decompose(graph))


def in_registers(graph: Graph) -> bool:
    """Whether a body can be computed in registers."""
    return graph.derive("in registers", lambda: [_in_registers(simple(graph))])[0]


def _in_registers(graph: Graph) -> bool:
    total = 0
    for eqn in graph.eqns:
        atoms = (*eqn.ins, *eqn.outs)
        if any(a.aval.size > SMALL for a in atoms) or not _is_small(eqn):
            return False
        total += sum(o.aval.size for o in eqn.outs) * (8 if eqn.prim.name == "matmul" else 1)
    sizes = [a.aval.size for a in (*graph.inputs, *graph.outputs)]
    return total <= REGISTER_NUMBERS and all(0 < n <= SMALL for n in sizes)


def _is_small(eqn: Eqn) -> bool:
    predicate = _PREDICATES.get(eqn.prim.name)
    return can_be_small(eqn) if predicate is None else predicate(eqn)


def _small_scan(eqn: Eqn) -> bool:
    counts = eqn.params["n_consts"] + eqn.params["n_carry"]
    no_slices = len(eqn.ins) == counts and len(eqn.outs) == eqn.params["n_carry"]
    return no_slices and in_registers(eqn.params["body"])


_PREDICATES: dict[str, Callable[[Eqn], bool]] = {
    "scan": _small_scan,
    "while": lambda eqn: in_registers(eqn.params["cond"]) and in_registers(eqn.params["body"]),
    "switch": lambda eqn: all(map(in_registers, eqn.params["branches"])),
}


# --- in registers ---------------------------------------------------------------------


def run_small(small: Small, graph: Graph, inputs: Iterable[Value]) -> list[Value]:
    """A graph's results for values in registers."""
    graph = simple(graph)
    inner = Small(small.w, small.outside, small.status)
    for var, value in zip(graph.inputs, inputs, strict=True):
        inner.env[id(var)] = value
    inner.write(graph.eqns)
    return [inner.value(a) for a in graph.outputs]


def _times(
    w: Writer,
    status: Value,
    length: int,
    carry: Sequence[Value],
    step: Callable[..., Sequence[Value]],
    work: int,
) -> list[Value]:
    """`length` rounds of `carry = step(i, *carry)`, each of so many operations.

    Where they take long they can be interrupted, a block at a time.
    """
    first, end, every = w.const(0, "i64"), w.const(length, "i64"), rounds(work)
    if length < 4 * every:
        return counted(w, first, end, 1, step, carry)

    def block(values: list[Value]) -> list[Value]:
        begin, *inner = values
        far = w.op("add", begin, w.const(every, "i64"))
        stop = w.intrinsic("smin", far, end)
        return [stop, *counted(w, begin, stop, 1, step, inner)]

    def more(values: list[Value]) -> Value:
        return w.compare("icmp slt", values[0], end)

    return _repeated(w, status, [first, *carry], more, block, 1)[1:]


def _repeated(
    w: Writer,
    status: Value,
    carry: Sequence[Value],
    test: Callable[[list[Value]], Value],
    step: Callable[[list[Value]], Sequence[Value]],
    every: int,
) -> list[Value]:
    """Rounds of `carry = step(carry)` while `test(carry)` and all went well.

    What follows an index out of range is not what it should be: it might never end the loop.
    Signals are looked for after every so many rounds.
    """
    head, inside, after = w.new_label("head"), w.new_label("loop"), w.new_label("done")
    start = w.block
    w.branch(head)
    w.label(head)
    place = len(w.lines)
    number = Value(w.fresh(), "i64")
    phis = [Value(w.fresh(), c.kind, c.lanes) for c in carry]
    wanted = test(phis)
    fine = w.compare("icmp eq", w.load(status, "i64"), w.const(0, "i64"))
    w.branch_if(w.op("and", wanted, fine), inside, after)
    w.label(inside)
    found = step(phis)
    later = w.op("add", number, w.const(1, "i64"))
    with w.when(due(w, number, every), "look"):
        stopped(w, status)
    back = w.block
    w.branch(head)
    first = [w.const(0, "i64"), *carry]
    w.lines[place:place] = [
        f"  {p.ref} = phi {p.type} [{a.ref}, %{start}], [{b.ref}, %{back}]"
        for p, a, b in zip([number, *phis], first, [later, *found], strict=True)
    ]
    w.label(after)
    return phis


def _branches(
    w: Writer, index: Value, count: int, write: Callable[[int], Sequence[Value]]
) -> list[Value]:
    """The results of the branch that an index chooses; beyond the last, the last's."""
    labels, after = [w.new_label("branch") for _ in range(count)], w.new_label("after")
    if index.kind != "i64":
        index = w.cast("zext" if index.kind == "i1" else "sext", index, "i64")
    cases = " ".join(f"i64 {k}, label %{label}" for k, label in enumerate(labels[:-1]))
    w.line(f"switch i64 {index.ref}, label %{labels[-1]} [{cases}]")
    ends: list[tuple[Sequence[Value], str]] = []
    for k, label in enumerate(labels):
        w.label(label)
        found = write(k)
        ends.append((found, w.block))
        w.branch(after)
    w.label(after)
    columns = zip(*(values for values, _ in ends), strict=True)
    blocks = [block for _, block in ends]
    return [w.phi(c[0].kind, c[0].lanes, *zip(c, blocks, strict=True)) for c in columns]


def _scan_small(small: Small, eqn: Eqn) -> list[Value]:
    p = eqn.params
    values = [small.value(a) for a in eqn.ins]
    consts, carry = values[: p["n_consts"]], values[p["n_consts"] :]
    if not p["length"]:
        return carry

    def step(i: Value, *carry: Value) -> list[Value]:
        return run_small(small, p["body"], [*consts, *carry])

    work = graph_flops(p["body"])
    return _times(small.w, small.status, p["length"], carry, step, work)


def _while_small(small: Small, eqn: Eqn) -> list[Value]:
    return _while_values(small, eqn.params, [small.value(a) for a in eqn.ins])


def _while_values(small: Small, p: dict[str, Any], values: Sequence[Value]) -> list[Value]:
    consts, carry = values[: p["n_consts"]], values[p["n_consts"] :]
    return _repeated(
        small.w,
        small.status,
        carry,
        lambda c: run_small(small, p["cond"], [*consts, *c])[0],
        lambda c: run_small(small, p["body"], [*consts, *c]),
        rounds(graph_flops(p["cond"]) + graph_flops(p["body"])),
    )


def _switch_small(small: Small, eqn: Eqn) -> list[Value]:
    index, *operands = [small.value(a) for a in eqn.ins]
    graphs = eqn.params["branches"]
    return _branches(small.w, index, len(graphs), lambda k: run_small(small, graphs[k], operands))


SMALL_RULES.update({"scan": _scan_small, "while": _while_small, "switch": _switch_small})


# --- through memory -------------------------------------------------------------------


def _given(aval: Any) -> Buffer:
    return Buffer(aval.dtype, max(aval.size, 1), "given")


def _whole(buffer: Buffer, aval: Any) -> View:
    return View(buffer, aval.shape, row_major(aval.shape), 0)


def _inner(body: Body, graph: Graph, inputs: Sequence[View], targets: Sequence[Buffer]) -> Any:
    inner = Body(body.shared, simple(graph), inputs, targets)
    return inner, inner.plan


def _workspace(size: int) -> Buffer:
    return Buffer(np.dtype(np.uint8), max(size, 1))


@rule("scan")
def _scan(body: Body, eqn: Eqn) -> None:
    p = eqn.params
    n_consts, n_carry, length = p["n_consts"], p["n_carry"], p["length"]
    views = [body.resolve(a) for a in eqn.ins]
    consts, first = views[:n_consts], views[n_consts : n_consts + n_carry]
    xs = views[n_consts + n_carry :]
    targets = [body.target(o) for o in eqn.outs]
    if not length:
        for view, target, out in zip(first, targets, eqn.outs, strict=False):
            body.copy(view, _whole(target, out.aval))
        return
    before, spent = body.shared.work, replace(body.shared.spent)
    write = _scan_registers if in_registers(p["body"]) else _scan_buffers
    write(body, eqn, consts, first, xs, targets)
    body.shared.work = before + (body.shared.work - before + CALL_WORK) * length
    body.shared.spent.repeat(spent, length)


def _slice_address(frame: Frame, view: View, i: Value) -> Value:
    """Where the i-th slice of a view begins."""
    w, size = frame.w, view.buffer.dtype.itemsize
    start = w.op("mul", i, w.const(view.strides[0] * size, "i64"))
    if view.offset:
        start = w.op("add", start, w.const(view.offset * size, "i64"))
    return w.offset(frame.address(view.buffer), "i8", start)


def _slice(view: View) -> View:
    return View(view.buffer, view.shape[1:], view.strides[1:], 0)


def _reach(view: View) -> int:
    """How many elements lie from a view's first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True) if n)


def _number(w: Writer, i: Value, p: dict[str, Any]) -> Value:
    """The slice that step i of a scan takes."""
    return w.op("sub", w.const(p["length"] - 1, "i64"), i) if p["reverse"] else i


def _scan_registers(
    body: Body, eqn: Eqn, consts: Any, first: Any, xs: Any, targets: list[Buffer]
) -> None:
    p = eqn.params
    n_carry = p["n_carry"]
    stacks = [
        View(t, o.aval.shape, _whole(t, o.aval).strides, 0)
        for t, o in zip(targets[n_carry:], eqn.outs[n_carry:], strict=True)
    ]

    def write(frame: Frame) -> None:
        w = frame.w
        small = Small(w, lambda atom: Value("poison", "i64"), frame.status)
        fixed, start = (
            [load_view(w, frame.address(v.buffer), v, v.buffer.dtype) for v in group]
            for group in (consts, first)
        )

        def step(i: Value, *carry: Value) -> list[Value]:
            i = _number(w, i, p)
            slices = [
                load_view(w, _slice_address(frame, x, i), _slice(x), x.buffer.dtype) for x in xs
            ]
            found = run_small(small, p["body"], [*fixed, *carry, *slices])
            for stack, y in zip(stacks, found[n_carry:], strict=True):
                store_array(w, y, _slice_address(frame, stack, i), stack.buffer.dtype)
            return found[:n_carry]

        work = graph_flops(p["body"])
        final = _times(w, frame.status, p["length"], start, step, work)
        for target, value in zip(targets, final, strict=False):
            store_array(w, value, frame.address(target), target.dtype)

    reads = [v.buffer for v in (*consts, *first, *xs)]
    # The slices of all steps are these arrays; the caller counts what one step takes.
    body.shared.spent.moved += sum(b.nbytes for b in (*reads, *targets)) // p["length"]
    body.outlined("scan", write, reads, targets, body.shared.site([eqn]))
    body.step(end_if_reported, [], [])


def _copy_memory(w: Writer, source: Value, target: Value, nbytes: int) -> None:
    name = "llvm.memcpy.p0.p0.i64"
    w.module.declare(name, f"declare void @{name}(ptr, ptr, i64, i1)")
    w.line(f"call void @{name}(ptr {target.ref}, ptr {source.ref}, i64 {nbytes}, i1 false)")


class _Carry:
    """Two sets of buffers, one of which a step reads while it writes the other."""

    def __init__(self, body: Body, avals: Sequence[Any], first: Sequence[View]):
        self.now, self.next = [_given(a) for a in avals], [_given(a) for a in avals]
        self.room = [[Buffer(a.dtype, max(a.size, 1)) for a in avals] for _ in range(2)]
        self.views = [_whole(b, a) for b, a in zip(self.now, avals, strict=True)]
        for view, buffer, aval in zip(first, self.room[0], avals, strict=True):
            body.copy(view, _whole(buffer, aval))

    def start(self, frame: Frame) -> list[Value]:
        return [frame.address(b) for b in (*self.room[0], *self.room[1])]

    def enter(self, frame: Frame, pointers: Sequence[Value]) -> list[Value]:
        """Let the body's buffers lie here; the pointers of the next step."""
        n = len(self.now)
        for buffer, pointer in zip((*self.now, *self.next), pointers, strict=True):
            frame.addresses[buffer] = pointer
        return [*pointers[n:], *pointers[:n]]

    def finish(self, frame: Frame, pointers: Sequence[Value], targets: Sequence[Buffer]) -> None:
        n = len(self.now)
        for pointer, target in zip(pointers[:n], targets[:n], strict=True):
            _copy_memory(frame.w, pointer, frame.address(target), target.nbytes)

    @property
    def buffers(self) -> list[Buffer]:
        return [*self.room[0], *self.room[1]]


def _scan_buffers(
    body: Body, eqn: Eqn, consts: Any, first: Any, xs: Any, targets: list[Buffer]
) -> None:
    p, n_carry, before = eqn.params, eqn.params["n_carry"], body.shared.work
    graph = simple(p["body"])
    carry = _Carry(body, [a.aval for a in graph.outputs[:n_carry]], first)
    # Checks of kernels know no elements before the first.
    xs = [body.contiguous_copy(x) if min(x.strides) < 0 else x for x in xs]
    pieces = [Buffer(x.buffer.dtype, _reach(_slice(x)), "given") for x in xs]
    slices = [View(b, *_slice(x)[1:]) for b, x in zip(pieces, xs, strict=True)]
    parts = [_given(a.aval) for a in graph.outputs[n_carry:]]
    stacks = [_whole(t, o.aval) for t, o in zip(targets, eqn.outs, strict=True)][n_carry:]
    inner, inner_plan = _inner(body, graph, [*consts, *carry.views, *slices], [*carry.next, *parts])
    workspace = _workspace(inner_plan.size)
    every = rounds(body.shared.work - before + CALL_WORK)

    def emit(frame: Frame) -> None:
        w = frame.w
        frame.place(inner_plan, frame.address(workspace))

        def step(i: Value, *pointers: Value) -> list[Value]:
            if every < p["length"]:
                end_if_stopped(frame, i, every)
            i = _number(w, i, p)
            later = carry.enter(frame, pointers)
            for buffer, view in zip((*pieces, *parts), (*xs, *stacks), strict=True):
                frame.addresses[buffer] = _slice_address(frame, view, i)
            inner.emit(frame)
            return later

        length = w.const(p["length"], "i64")
        final = counted(w, w.const(0, "i64"), length, 1, step, carry.start(frame))
        carry.finish(frame, final, targets)

    reads = [v.buffer for v in (*consts, *first, *xs)]
    body.step(emit, [*reads, *carry.buffers, workspace], targets)


@rule("while")
def _while(body: Body, eqn: Eqn) -> None:
    p = eqn.params
    n_consts = p["n_consts"]
    views = [body.resolve(a) for a in eqn.ins]
    targets = [body.target(o) for o in eqn.outs]
    body.shared.work += 1 << 20
    if in_registers(p["cond"]) and in_registers(p["body"]):
        _while_registers(body, eqn, views, targets)
    else:
        _while_buffers(body, eqn, views[:n_consts], views[n_consts:], targets)


def _while_registers(
    body: Body, eqn: Eqn, views: Sequence[View], targets: Sequence[Buffer]
) -> None:
    def write(frame: Frame) -> None:
        w = frame.w
        small = Small(w, lambda atom: Value("poison", "i64"), frame.status)
        values = [load_view(w, frame.address(v.buffer), v, v.buffer.dtype) for v in views]
        for target, value in zip(targets, _while_values(small, eqn.params, values), strict=True):
            store_array(w, value, frame.address(target), target.dtype)

    reads = [v.buffer for v in views]
    body.outlined("while", write, reads, targets, body.shared.site([eqn]))
    body.step(end_if_reported, [], [])


def _while_buffers(
    body: Body,
    eqn: Eqn,
    consts: Sequence[View],
    first: Sequence[View],
    targets: Sequence[Buffer],
) -> None:
    p = eqn.params
    carry = _Carry(body, [o.aval for o in eqn.outs], first)
    inputs = [*consts, *carry.views]
    flag = _given(p["cond"].outputs[0].aval)
    room = Buffer(BOOL, 1)
    before = body.shared.work
    test, test_plan = _inner(body, p["cond"], inputs, [flag])
    inner, inner_plan = _inner(body, p["body"], inputs, carry.next)
    workspaces = [_workspace(test_plan.size), _workspace(inner_plan.size)]
    every = rounds(body.shared.work - before + CALL_WORK)

    def emit(frame: Frame) -> None:
        w = frame.w
        frame.addresses[flag] = frame.address(room)
        for found, workspace in zip((test_plan, inner_plan), workspaces, strict=True):
            frame.place(found, frame.address(workspace))

        def holds(pointers: list[Value]) -> Value:
            carry.enter(frame, pointers)
            test.emit(frame)
            return to_bool(w, w.load(frame.address(flag), "i8"))

        def step(pointers: list[Value]) -> list[Value]:
            later = carry.enter(frame, pointers)
            inner.emit(frame)
            return later

        final = _repeated(w, frame.status, carry.start(frame), holds, step, every)
        end_if_reported(frame)
        carry.finish(frame, final, targets)

    reads = [v.buffer for v in (*consts, *first)]
    body.step(emit, [*reads, *carry.buffers, room, *workspaces], targets)


@rule("switch")
def _switch(body: Body, eqn: Eqn) -> None:
    index, *operands = [body.resolve(a) for a in eqn.ins]
    targets = [body.target(o) for o in eqn.outs]
    bodies = [_inner(body, g, operands, targets) for g in eqn.params["branches"]]
    workspace = _workspace(max(found.size for _, found in bodies))

    def emit(frame: Frame) -> None:
        w = frame.w
        place = w.offset(
            frame.address(index.buffer),
            memory_kind(index.buffer.dtype),
            w.const(index.offset, "i64"),
        )
        chosen = w.load(place, memory_kind(index.buffer.dtype))
        if index.buffer.dtype == BOOL:
            chosen = to_bool(w, chosen)

        def write(k: int) -> list[Value]:
            inner, found = bodies[k]
            known = dict(frame.addresses)
            frame.place(found, frame.address(workspace))
            inner.emit(frame)
            frame.addresses = known
            return []

        _branches(w, chosen, len(bodies), write)

    reads = [v.buffer for v in (index, *operands)]
    body.step(emit, [*reads, workspace], targets)
