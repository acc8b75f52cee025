"""Loops and branches as native ones: their values in registers, or steps within them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.backends.common.cost import cost_of_calls
from funcgrad.backends.llvm.ir.flow import branches, counted, repeated
from funcgrad.backends.llvm.ir.frame import Frame
from funcgrad.backends.llvm.ir.types import memory_type
from funcgrad.backends.llvm.ir.writer import Value, Writer
from funcgrad.backends.llvm.kernels.registers import BOOL, Small, load_view, store_array, to_bool
from funcgrad.backends.llvm.kernels.registers import RULES as SMALL_RULES
from funcgrad.backends.llvm.program.interrupts import (
    due,
    end_if_reported,
    end_if_stopped,
    rounds,
    stopped,
)
from funcgrad.backends.llvm.program.target import TARGET
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.views import View, contiguous
from funcgrad.backends.loops.planning.loops import simple, slice_of
from funcgrad.backends.loops.planning.plan import Branch, Carry, RegisterLoop, Scan, Step, While
from funcgrad.backends.loops.planning.spent import round_work
from funcgrad.core.graph import Eqn, Graph

WriteSteps = Callable[[Frame, Sequence[Step]], None]

# --- in registers ---------------------------------------------------------------------


def run_small(small: Small, graph: Graph, inputs: Iterable[Value]) -> list[Value]:
    """A graph's results for values in registers."""
    graph = simple(graph, TARGET)
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

    return _while_fine(w, status, [first, *carry], more, block, 1)[1:]


def _while_fine(
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

    def goes_on(values: list[Value]) -> Value:
        wanted = test(values[1:])
        fine = w.compare("icmp eq", w.load(status, "i64"), w.const(0, "i64"))
        return w.op("and", wanted, fine)

    def round_(values: list[Value]) -> Sequence[Value]:
        number, *inner = values
        found = step(inner)
        later = w.op("add", number, w.const(1, "i64"))
        with w.when(due(w, number, every), "look"):
            stopped(w, status)
        return [later, *found]

    return repeated(w, [w.const(0, "i64"), *carry], goes_on, round_)[1:]


def _scan_small(small: Small, eqn: Eqn) -> list[Value]:
    p = eqn.params
    values = [small.value(a) for a in eqn.ins]
    consts, carry = values[: p["n_consts"]], values[p["n_consts"] :]
    if not p["length"]:
        return carry

    def step(i: Value, *carry: Value) -> list[Value]:
        return run_small(small, p["body"], [*consts, *carry])

    work = cost_of_calls(p["body"]).flops
    return _times(small.w, small.status, p["length"], carry, step, work)


def _while_small(small: Small, eqn: Eqn) -> list[Value]:
    return _while_values(small, eqn.params, [small.value(a) for a in eqn.ins])


def _while_values(small: Small, p: dict[str, Any], values: Sequence[Value]) -> list[Value]:
    consts, carry = values[: p["n_consts"]], values[p["n_consts"] :]
    return _while_fine(
        small.w,
        small.status,
        carry,
        lambda c: run_small(small, p["cond"], [*consts, *c])[0],
        lambda c: run_small(small, p["body"], [*consts, *c]),
        rounds(cost_of_calls(p["cond"]).flops + cost_of_calls(p["body"]).flops),
    )


def _switch_small(small: Small, eqn: Eqn) -> list[Value]:
    index, *operands = [small.value(a) for a in eqn.ins]
    graphs = eqn.params["branches"]
    return branches(small.w, index, len(graphs), lambda k: run_small(small, graphs[k], operands))


SMALL_RULES.update({"scan": _scan_small, "while": _while_small, "switch": _switch_small})


# --- loops as functions of their own --------------------------------------------------


def _slice_address(frame: Frame, view: View, i: Value) -> Value:
    """Where the i-th slice of a view begins."""
    w, size = frame.w, view.buffer.dtype.itemsize
    start = w.op("mul", i, w.const(view.strides[0] * size, "i64"))
    if view.offset:
        start = w.op("add", start, w.const(view.offset * size, "i64"))
    return w.offset(frame.address(view.buffer), "i8", start)


def _slice_number(w: Writer, i: Value, length: int, reverse: bool) -> Value:
    """The slice that round i of a scan takes."""
    return w.op("sub", w.const(length - 1, "i64"), i) if reverse else i


def _no_outside(atom: Any) -> Value:
    raise AssertionError("a body in registers has all its values from its inputs")


def register_scan(frame: Frame, step: RegisterLoop) -> None:
    w, p = frame.w, step.eqn.params
    n_consts, n_carry, length = p["n_consts"], p["n_carry"], p["length"]
    views, outs = step.operands, step.eqn.outs
    xs = views[n_consts + n_carry :]
    pairs = zip(step.results[n_carry:], outs[n_carry:], strict=True)
    stacks = [contiguous(buffer, out.aval.shape) for buffer, out in pairs]
    small = Small(w, _no_outside, frame.status)
    values = [
        load_view(w, frame.address(v.buffer), v, v.buffer.dtype)
        for v in views[: n_consts + n_carry]
    ]

    def round_(i: Value, *carry: Value) -> list[Value]:
        i = _slice_number(w, i, length, p["reverse"])
        slices = [
            load_view(w, _slice_address(frame, x, i), slice_of(x), x.buffer.dtype) for x in xs
        ]
        found = run_small(small, p["body"], [*values[:n_consts], *carry, *slices])
        for stack, y in zip(stacks, found[n_carry:], strict=True):
            store_array(w, y, _slice_address(frame, stack, i), stack.buffer.dtype)
        return found[:n_carry]

    work = cost_of_calls(p["body"]).flops
    final = _times(w, frame.status, length, values[n_consts:], round_, work)
    for buffer, value in zip(step.results, final, strict=False):
        store_array(w, value, frame.address(buffer), buffer.dtype)


def register_while(frame: Frame, step: RegisterLoop) -> None:
    w = frame.w
    small = Small(w, _no_outside, frame.status)
    values = [load_view(w, frame.address(v.buffer), v, v.buffer.dtype) for v in step.operands]
    found = _while_values(small, step.eqn.params, values)
    for buffer, value in zip(step.results, found, strict=True):
        store_array(w, value, frame.address(buffer), buffer.dtype)


# --- planned bodies -------------------------------------------------------------------


def _copy_memory(w: Writer, source: Value, target: Value, nbytes: int) -> None:
    name = "llvm.memcpy.p0.p0.i64"
    w.module.declare(name, f"declare void @{name}(ptr, ptr, i64, i1)")
    w.line(f"call void @{name}(ptr {target.ref}, ptr {source.ref}, i64 {nbytes}, i1 false)")


def _start(frame: Frame, carry: Carry) -> list[Value]:
    return [frame.address(b) for some in carry.buffers for b in some]


def _enter(frame: Frame, carry: Carry, pointers: Sequence[Value]) -> list[Value]:
    """Let the body's buffers lie here; the pointers of the next round."""
    n = len(carry.now)
    for buffer, pointer in zip((*carry.now, *carry.next), pointers, strict=True):
        frame.addresses[buffer] = pointer
    return [*pointers[n:], *pointers[:n]]


def _finish(frame: Frame, pointers: Sequence[Value], results: Sequence[Buffer]) -> None:
    for pointer, result in zip(pointers, results, strict=False):
        _copy_memory(frame.w, pointer, frame.address(result), result.nbytes)


def planned_scan(frame: Frame, step: Scan, write: WriteSteps) -> None:
    w, every = frame.w, rounds(round_work(step))
    frame.bind_buffers(step.body.memory, frame.address(step.workspace))

    def round_(i: Value, *pointers: Value) -> list[Value]:
        if every < step.length:
            end_if_stopped(frame, i, every)
        i = _slice_number(w, i, step.length, step.reverse)
        later = _enter(frame, step.carry, pointers)
        inner, outer = (*step.slices, *step.parts), (*step.xs, *step.stacks)
        for buffer, view in zip(inner, outer, strict=True):
            frame.addresses[buffer] = _slice_address(frame, view, i)
        write(frame, step.body.steps)
        return later

    first, length = w.const(0, "i64"), w.const(step.length, "i64")
    final = counted(w, first, length, 1, round_, _start(frame, step.carry))
    _finish(frame, final, step.results)


def planned_while(frame: Frame, step: While, write: WriteSteps) -> None:
    w = frame.w
    frame.addresses[step.flag] = frame.address(step.flag_buffer)
    for plan, workspace in zip((step.test, step.body), step.workspaces, strict=True):
        frame.bind_buffers(plan.memory, frame.address(workspace))

    def holds(pointers: list[Value]) -> Value:
        _enter(frame, step.carry, pointers)
        write(frame, step.test.steps)
        return to_bool(w, w.load(frame.address(step.flag), "i8"))

    def round_(pointers: list[Value]) -> list[Value]:
        later = _enter(frame, step.carry, pointers)
        write(frame, step.body.steps)
        return later

    start, every = _start(frame, step.carry), rounds(round_work(step))
    final = _while_fine(w, frame.status, start, holds, round_, every)
    end_if_reported(frame)
    _finish(frame, final, step.results)


def planned_branch(frame: Frame, step: Branch, write: WriteSteps) -> None:
    w, index = frame.w, step.index
    ty = memory_type(index.buffer.dtype)
    chosen = w.load(w.offset(frame.address(index.buffer), ty, w.const(index.offset, "i64")), ty)
    if index.buffer.dtype == BOOL:
        chosen = to_bool(w, chosen)

    def branch(k: int) -> list[Value]:
        known = dict(frame.addresses)
        frame.bind_buffers(step.branches[k].memory, frame.address(step.workspace))
        write(frame, step.branches[k].steps)
        frame.addresses = known
        return []

    branches(w, chosen, len(step.branches), branch)
