"""Whether a plan keeps its rules: what the tests ask after every pass."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from funcgrad.backends.loops.nests.buffers import Allocation, Buffer
from funcgrad.backends.loops.planning.plan import (
    Branch,
    Plan,
    RunKernel,
    Scan,
    Step,
    While,
    kernel_runs,
    nested,
)
from funcgrad.errors import GraphError

# Set where the library itself is tested: each plan is checked after each pass.
ALWAYS = bool(os.environ.get("FUNCGRAD_CHECK_PLANS"))


def after_pass(steps: Sequence[Step], outside: Iterable[Buffer]) -> Sequence[Step]:
    """The steps, checked where plans are."""
    if ALWAYS:
        check_steps(steps, outside)
    return steps


def check_steps(steps: Sequence[Step], outside: Iterable[Buffer]) -> None:
    """Verify that steps read what has been written, and that kernels fit their buffers.

    Args:
        outside: what holds values before the first step, or may be read without.

    Raises:
        GraphError: a step breaks a rule.
    """
    known = {*outside}
    for number, step in enumerate(steps):
        for run in kernel_runs(step):
            _check_run(run)
        for plan in nested(step):
            check_steps(plan.steps, known | {*step.reads, *step.writes})
        written = {*step.writes, *_own_room(step)}
        for buffer in step.reads:
            if buffer.storage == "temp" and buffer not in known and buffer not in written:
                raise GraphError(f"step {number}, {step}: reads what no step has written")
        known |= written


def _own_room(step: Step) -> Sequence[Buffer]:
    """What a loop reads that it writes itself before."""
    if isinstance(step, Scan):
        return [*step.carry.buffers[1], step.workspace]
    if isinstance(step, While):
        return [*step.carry.buffers[1], step.flag_buffer, *step.workspaces]
    return [step.workspace] if isinstance(step, Branch) else []


def _check_run(run: RunKernel) -> None:
    kernel = run.kernel.check()
    if len(kernel.params) != len(run.buffers):
        raise GraphError(f"{len(run.buffers)} buffers for a kernel of {len(kernel.params)}")
    chunks = -(-run.count // run.chunk) if run.chunk else 0
    for param, buffer in zip(kernel.params, run.buffers, strict=True):
        if buffer is None:
            if chunks and param.role in ("in", "out"):
                raise GraphError("a kernel without a buffer for what it reads or writes")
            continue
        own = param.role in ("scratch", "partial")
        needed = param.size * chunks if own else param.size
        if buffer.dtype != param.dtype or buffer.size < needed:
            raise GraphError(
                f"{buffer.size} of {buffer.dtype} for {param.role} {param.dtype}[{needed}]"
            )


def check_allocation(plan: Plan) -> None:
    """Verify that temporaries which live at the same time lie apart.

    Raises:
        GraphError: two overlap, or one lies outside of the arena.
    """
    lives = _lives(plan.steps, plan.memory)
    placed = sorted(lives, key=lambda b: plan.memory.offsets[b])
    for number, buffer in enumerate(placed):
        end = plan.memory.offsets[buffer] + buffer.nbytes
        if end > plan.memory.size:
            raise GraphError("a temporary outside of the arena")
        for other in placed[number + 1 :]:
            if plan.memory.offsets[other] >= end:
                break
            (first, last), (begin, stop) = lives[buffer], lives[other]
            if first <= stop and begin <= last:
                raise GraphError("two temporaries that live at one time overlap")


def _lives(steps: Sequence[Step], memory: Allocation) -> dict[Buffer, tuple[int, int]]:
    found: dict[Buffer, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for buffer in (*step.reads, *step.writes):
            if buffer in memory.offsets:
                found[buffer] = found.get(buffer, (number, number))[0], number
    return found
