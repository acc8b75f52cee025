"""What a plan's steps take: scalar operations, kernels run, calls of libraries, bytes moved."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.planning.plan import (
    Branch,
    HostCall,
    MatrixProduct,
    ProductAndKernel,
    RegisterLoop,
    Registers,
    RunKernel,
    RunTogether,
    Scan,
    Step,
    While,
    Zero,
)
from funcgrad.records import NamedTuple

# What a round of a loop through memory takes beside its kernels' work.
_ROUND_WORK = 50
# A loop whose number of rounds isn't known is taken for a long one.
_WHILE_WORK = 1 << 20
# A product's multiplications go together, four and more at a time.
_PRODUCT_WORK = 4


class Spent(NamedTuple):
    """Of loops the rounds are counted where their number is known, else one; of branches all.

    Attributes:
        kernels: how many are run.
        calls: of libraries: products, and Python functions.
        moved: bytes read and written by each.
    """

    kernels: int = 0
    calls: int = 0
    moved: int = 0


def spent(steps: Sequence[Step]) -> Spent:
    return Spent(*map(sum, zip(*map(_spent, steps), strict=True))) if steps else Spent()


def _spent(step: Step) -> Spent:
    match step:
        case RunKernel():
            return Spent(1, 0, _bytes(step.inputs, step.results))
        case RunTogether():
            return spent(step.runs)
        case MatrixProduct():
            return Spent(0, step.how.products, _bytes(step.reads, step.writes))
        case ProductAndKernel():
            return spent([step.product, step.run])
        case Registers():
            return Spent(0, 0, _bytes(step.reads, step.writes))
        case RegisterLoop():
            return Spent(0, 0, sum(b.nbytes for b in (*step.reads, *step.writes)))
        case HostCall():
            return Spent(0, 1, _bytes(step.reads[step.written :], step.writes))
        case Scan():
            return Spent(*(n * step.length for n in spent(step.body.steps)))
        case While():
            return spent([*step.test.steps, *step.body.steps])
        case Branch():
            return spent([s for b in step.branches for s in b.steps])
        case Zero():
            return Spent()


def _bytes(reads: Sequence[Buffer], writes: Sequence[Buffer]) -> int:
    return sum(b.nbytes for b in {*reads} - {*writes}) + sum(b.nbytes for b in writes)


def work(steps: Sequence[Step]) -> int:
    """Scalar operations, roughly."""
    return sum(map(_work, steps))


def round_work(step: Scan | While) -> int:
    """What one round of a loop takes."""
    tests = step.test.steps if isinstance(step, While) else ()
    return work([*tests, *step.body.steps]) + _ROUND_WORK


def _work(step: Step) -> int:
    match step:
        case RunKernel():
            return step.work
        case RunTogether():
            return work(step.runs)
        case MatrixProduct():
            return step.how.work // _PRODUCT_WORK
        case ProductAndKernel():
            return work([step.product, step.run])
        case RegisterLoop():
            length = step.eqn.params.get("length")
            return _WHILE_WORK if length is None else length * _ROUND_WORK
        case Scan():
            return step.length * round_work(step)
        case While():
            return _WHILE_WORK + round_work(step)
        case Branch():
            return work([s for b in step.branches for s in b.steps])
        case Registers() | HostCall() | Zero():
            return 0
