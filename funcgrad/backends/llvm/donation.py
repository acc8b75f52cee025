"""Results that take the memory of arguments which the caller has given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.llvm.program import Step
from funcgrad.backends.loops.memory import Buffer
from funcgrad.backends.loops.nest import INDEXED, Kernel, Load, Loop, Store

# A new array costs as much as writing so many bytes.
_LEAST_BYTES = 512


def donations(
    graph: Any,
    donated: Sequence[int],
    inputs: Sequence[Buffer],
    results: Sequence[Buffer],
    steps: Sequence[Step],
) -> dict[int, int]:
    """The input that each result is written into, by their numbers.

    An input serves one result of its shape and dtype, whose writing must not come before the
    last reading of the input.
    """
    free = [k for k in donated if inputs[k].nbytes >= _LEAST_BYTES]
    found: dict[int, int] = {}
    for number, (atom, result) in enumerate(zip(graph.outputs, results, strict=True)):
        for k in free:
            have, want = graph.inputs[k].aval, atom.aval
            if (have.shape, have.dtype) != (want.shape, want.dtype):
                continue
            if _is_safe(steps, inputs[k], result):
                found[number] = k
                free.remove(k)
                break
    return found


def _is_safe(steps: Sequence[Step], source: Buffer, result: Buffer) -> bool:
    """Whether `result` may lie where `source` does."""
    reads = [n for n, step in enumerate(steps) if any(b is source for b in step.reads)]
    writes = [n for n, step in enumerate(steps) if any(b is result for b in step.writes)]
    if not reads or not writes or reads[-1] < writes[0]:
        return True
    step = steps[writes[0]]
    if reads[-1] > writes[0] or step.kernel is None:
        return False
    return _replaces(step.kernel, _number(step, source), _number(step, result))


def _number(step: Step, buffer: Buffer) -> list[int]:
    return [n for n, b in enumerate(step.reads) if b is buffer]


def _replaces(kernel: Kernel, sources: list[int], results: list[int]) -> bool:
    """Whether each element is read, at the place where it is then written, and not after."""
    if any(kernel.params[n].role != "out" for n in results) or len(results) != 1:
        return False
    (store,) = stores = [
        s for s in kernel.statements() if type(s) is Store and s.array in results
    ] or [None]
    if len(stores) != 1 or store is None:
        return False
    written = False
    for s in (*kernel.setup, *kernel.body):
        inside = s.body if type(s) is Loop else [s]
        for statement in inside:
            if statement is store:
                written = True
            elif isinstance(statement, INDEXED) and _reads(statement, sources):
                if written or statement.index != store.index:
                    return False
    return written


def _reads(statement: Any, arrays: Sequence[int]) -> bool:
    return type(statement) is Load and statement.array in arrays


def copies_itself(step: Step, memory: dict[Buffer, Buffer]) -> bool:
    """Whether a step would copy an array to where it lies already."""
    if step.kernel is None or len(step.reads) != 2 or len(step.kernel.params) != 2:
        return False
    source, target = step.reads
    loops = step.kernel.body
    if memory.get(target) is not source or len(loops) != 1 or type(loops[0]) is not Loop:
        return False
    body = loops[0].body
    if [type(s) for s in body] != [Load, Store]:
        return False
    load, store = body
    return load.index == store.index and store.value is load.out
