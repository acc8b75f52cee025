"""A program as data: its steps in order, what each reads and writes, and where all of it lies.

Between the partition of a graph and the code that a backend writes. Nothing here knows how a
step is spelled; passes (`epilogue`, `chunks`, `joins`, `donation`) make one plan of another. Nobody
changes a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from funcgrad.backends.loops.fusion.target import ProductPlan
from funcgrad.backends.loops.nests.buffers import Allocation, Buffer
from funcgrad.backends.loops.nests.kernels import work_of
from funcgrad.backends.loops.nests.nest import Kernel
from funcgrad.backends.loops.nests.views import View
from funcgrad.core.graph import Eqn, Var
from funcgrad.records import NamedTuple, Record

Buffers = Sequence[Buffer]


class RunKernel(Record):
    """A kernel run over all its rows (or elements, where it has no rows).

    Attributes:
        buffers: one for each of the kernel's parameters; None where it is the kernel's own and
            not yet given a place (see `chunks`).
        count, chunk: how many rows there are, and how many are a chunk; 0 before `chunks`.
        site: the number of the site of its checks; 0 if it checks nothing.
    """

    kernel: Kernel
    buffers: tuple[Buffer | None, ...]
    count: int = 0
    chunk: int = 0
    site: int = 0

    @cached_property
    def reads(self) -> Buffers:
        return [b for b in self.buffers if b is not None]

    @cached_property
    def writes(self) -> Buffers:
        return self._with_roles("out", "partial", "scratch")

    @cached_property
    def inputs(self) -> Buffers:
        """What is only read."""
        return self._with_roles("in")

    @cached_property
    def results(self) -> Buffers:
        return self._with_roles("out", "partial")

    @cached_property
    def work(self) -> int:
        return work_of(self.kernel)

    def _with_roles(self, *roles: str) -> list[Buffer]:
        pairs = zip(self.buffers, self.kernel.params, strict=True)
        return [b for b, p in pairs if b is not None and p.role in roles]


class RunTogether(Record):
    """Independent runs of one kernel, shared by the threads as one."""

    runs: tuple[RunKernel, ...]

    @cached_property
    def reads(self) -> Buffers:
        return [b for r in self.runs for b in r.reads]

    @cached_property
    def writes(self) -> Buffers:
        return [b for r in self.runs for b in r.writes]


class MatrixProduct(Record):
    """`result = scale * x @ y`, added to `source` where there is one; or a convolution.

    Attributes:
        x, y: matrices, or stacks of them that broadcast; each with unit stride along one of the
            last two axes, and of the result's dtype.
        how: the target's own plan.
        room: what it computes in between.
    """

    x: View
    y: View
    result: Buffer
    scale: float
    source: View | None
    how: ProductPlan
    room: Buffer | None = None

    @property
    def reads(self) -> Buffers:
        views = [self.x, self.y, *([] if self.source is None else [self.source])]
        return [v.buffer for v in views]

    @property
    def writes(self) -> Buffers:
        return [self.result] if self.room is None else [self.result, self.room]


class ProductAndKernel(Record):
    """A product and a kernel on its rows, which follows each piece while that is in the cache."""

    product: MatrixProduct
    run: RunKernel

    @cached_property
    def reads(self) -> Buffers:
        return [*self.run.reads, *self.product.reads]

    @cached_property
    def writes(self) -> Buffers:
        return [*self.product.writes, *self.run.writes]


class Registers(Record):
    """Equations on small arrays, all of whose values are held in registers.

    Attributes:
        operands: what they read, each with where it lies.
        results: what is kept, each with where it is written.
    """

    eqns: tuple[Eqn, ...]
    operands: tuple[tuple[Var, View], ...]
    results: tuple[tuple[Var, Buffer], ...]
    site: int = 0

    @cached_property
    def reads(self) -> Buffers:
        return [view.buffer for _, view in self.operands]

    @cached_property
    def writes(self) -> Buffers:
        return [buffer for _, buffer in self.results]


class HostCall(Record):
    """A call of an equation's own implementation with arrays, of which it writes the first ones.

    Attributes:
        eqn: what it computes; None for a copy.
    """

    eqn: Eqn | None
    views: tuple[View, ...]
    written: int

    @cached_property
    def reads(self) -> Buffers:
        return [v.buffer for v in self.views]

    @cached_property
    def writes(self) -> Buffers:
        return [v.buffer for v in self.views[: self.written]]


class Zero(Record):
    """Zeros in all of a buffer."""

    buffer: Buffer

    @property
    def reads(self) -> Buffers:
        return []

    @property
    def writes(self) -> Buffers:
        return [self.buffer]


class RegisterLoop(Record):
    """A scan or a while loop whose body's values are held in registers.

    Attributes:
        eqn: the loop; `operands` and `results` are where its own lie.
    """

    eqn: Eqn
    operands: tuple[View, ...]
    results: tuple[Buffer, ...]
    site: int = 0

    @cached_property
    def reads(self) -> Buffers:
        return [v.buffer for v in self.operands]

    @property
    def writes(self) -> Buffers:
        return self.results


class Carry(NamedTuple):
    """What a loop hands from one round to the next, in two sets of buffers.

    Attributes:
        now, next: what the body's steps read and write; in each round they lie in other `buffers`.
        buffers: the two sets; the first holds the initial values when the loop begins.
    """

    now: tuple[Buffer, ...]
    next: tuple[Buffer, ...]
    buffers: tuple[tuple[Buffer, ...], tuple[Buffer, ...]]


class Scan(Record):
    """A loop of so many rounds with a planned body.

    Attributes:
        slices: for each of `xs` the buffer that stands for one of its slices in the body.
        parts: as much for each of the `stacks` that slices are written to.
        results: where the final carry is wanted.
        workspace: where the body's temporaries lie.
    """

    length: int
    reverse: bool
    body: Plan
    carry: Carry
    consts: tuple[View, ...]
    xs: tuple[View, ...]
    slices: tuple[Buffer, ...]
    stacks: tuple[View, ...]
    parts: tuple[Buffer, ...]
    results: tuple[Buffer, ...]
    workspace: Buffer

    @cached_property
    def reads(self) -> Buffers:
        outside = [v.buffer for v in (*self.consts, *self.xs)]
        return [*outside, *self.carry.buffers[0], *self.carry.buffers[1], self.workspace]

    @cached_property
    def writes(self) -> Buffers:
        return [*self.results, *(v.buffer for v in self.stacks)]


class While(Record):
    """A loop with a planned test, which writes to `flag`, and a planned body."""

    test: Plan
    body: Plan
    flag: Buffer
    flag_buffer: Buffer
    carry: Carry
    consts: tuple[View, ...]
    results: tuple[Buffer, ...]
    workspaces: tuple[Buffer, Buffer]

    @cached_property
    def reads(self) -> Buffers:
        own = [*self.carry.buffers[0], *self.carry.buffers[1], self.flag_buffer, *self.workspaces]
        return [*(v.buffer for v in self.consts), *own]

    @property
    def writes(self) -> Buffers:
        return self.results


class Branch(Record):
    """One of several plans, chosen by an index; beyond the last, the last."""

    index: View
    branches: tuple[Plan, ...]
    operands: tuple[View, ...]
    results: tuple[Buffer, ...]
    workspace: Buffer

    @cached_property
    def reads(self) -> Buffers:
        return [self.index.buffer, *(v.buffer for v in self.operands), self.workspace]

    @property
    def writes(self) -> Buffers:
        return self.results


Step = (
    RunKernel
    | RunTogether
    | MatrixProduct
    | ProductAndKernel
    | Registers
    | HostCall
    | Zero
    | RegisterLoop
    | Scan
    | While
    | Branch
)


class Plan(NamedTuple):
    """Steps in order, and where their temporaries lie in an arena."""

    steps: Sequence[Step]
    memory: Allocation


def nested(step: Step) -> Sequence[Plan]:
    """The plans that a step runs."""
    if isinstance(step, Scan):
        return [step.body]
    if isinstance(step, While):
        return [step.test, step.body]
    return step.branches if isinstance(step, Branch) else []


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """All steps, those of nested plans behind their own."""
    for step in steps:
        yield step
        for inner in nested(step):
            yield from walk(inner.steps)


def kernel_runs(step: Step) -> Sequence[RunKernel]:
    """The runs of kernels that a step consists of."""
    if isinstance(step, RunKernel):
        return [step]
    if isinstance(step, RunTogether):
        return step.runs
    return [step.run] if isinstance(step, ProductAndKernel) else []
