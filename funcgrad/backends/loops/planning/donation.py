"""Results that take the memory of arguments which the caller has given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.nest import INDEXED, Kernel, Load, Loop, Rows, Store
from funcgrad.backends.loops.planning.plan import MatrixProduct, ProductAndKernel, RunKernel, Step


def donations(
    graph: Any,
    donated: Sequence[int],
    inputs: Sequence[Buffer],
    results: Sequence[Buffer],
    steps: Sequence[Step],
    limits: Limits,
) -> dict[int, int]:
    """The input that each result is written into, by their numbers.

    An input serves one result of its shape and dtype, whose writing must not come before the
    last reading of the input. Best is one that the same kernel reads: what is written then lies
    in the cache, and runs over other leaves stay independent.
    """
    last_read = {b: n for n, step in enumerate(steps) for b in step.reads}
    first_write = {b: n for n, step in reversed([*enumerate(steps)]) for b in step.writes}
    free: dict[Any, list[int]] = {}
    for k in donated:
        if inputs[k].nbytes >= limits.least_donation:
            free.setdefault(_form(graph.inputs[k]), []).append(k)
    replaced: dict[int, list[int]] = {}
    earlier: dict[int, list[int]] = {}
    for number, (atom, result) in enumerate(zip(graph.outputs, results, strict=True)):
        at = first_write.get(result, len(steps))
        replaced[number], earlier[number] = [], []
        for k in free.get(_form(atom), ()):
            read = last_read.get(inputs[k], -1)
            if read < at:
                earlier[number].append(k)
            elif read == at and _may_replace(steps[at], inputs[k], result):
                replaced[number].append(k)
    found: dict[int, int] = {}
    for choices in (replaced, earlier):
        # Whoever has the fewest to choose from goes first.
        for number in sorted(choices, key=lambda n: len(choices[n])):
            left = [k for k in choices[number] if k not in found.values()]
            if left and number not in found:
                found[number] = left[0]
    return found


def _form(atom: Any) -> tuple[Any, ...]:
    return atom.aval.shape, atom.aval.dtype


def _may_replace(step: Step, source: Buffer, result: Buffer) -> bool:
    """Whether `result` may lie where `source` does, which the step that writes it reads."""
    if isinstance(step, MatrixProduct):
        # What is added to is read where the sum is then written.
        added = step.source is not None and step.source.buffer is source
        return added and source not in (step.x.buffer, step.y.buffer)
    if isinstance(step, ProductAndKernel):
        apart = source not in step.product.reads
        return apart and _run_replaces(step.run, source, result)
    return isinstance(step, RunKernel) and _run_replaces(step, source, result)


def _run_replaces(run: RunKernel, source: Buffer, result: Buffer) -> bool:
    return _replaces(run.kernel, _numbers(run, source), _numbers(run, result))


def _numbers(run: RunKernel, buffer: Buffer) -> list[int]:
    return [n for n, b in enumerate(run.buffers) if b is buffer]


def _replaces(kernel: Kernel, sources: list[int], results: list[int]) -> bool:
    """Whether each element is read, at the place where it is then written, and not after."""
    if any(kernel.params[n].role != "out" for n in results) or len(results) != 1:
        return False
    stores = [s for s in kernel.statements() if type(s) is Store and s.array in results]
    if len(stores) != 1:
        return False
    if any(type(s) is Rows for s in kernel.body):
        return False
    (store,) = stores
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
    if not isinstance(step, RunKernel) or len(step.kernel.params) != 2:
        return False
    source, target = step.buffers
    loops = step.kernel.body
    if target is None or memory.get(target) is not source:
        return False
    if len(loops) != 1 or type(loops[0]) is not Loop:
        return False
    body = loops[0].body
    if [type(s) for s in body] != [Load, Store]:
        return False
    load, store = body
    return load.index == store.index and store.value is load.out
