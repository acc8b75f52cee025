"""A pass: what follows a matrix product row by row, done for each piece of it while that is in
the cache.

A bias and an activation, their gradient with its sums over the rows, a norm of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad.backends.loops.fusion.target import RowPieces
from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.nest import Index, Load
from funcgrad.backends.loops.planning.plan import (
    MatrixProduct,
    ProductAndKernel,
    RunKernel,
    Step,
)
from funcgrad.records import replace


def with_epilogues(steps: Sequence[Step], limits: Limits) -> list[Step]:
    """The steps, kernels joined to the products whose rows they read."""
    found: list[Step] = []
    for step in steps:
        # What checks indices has a report of its own.
        if isinstance(step, RunKernel) and not step.site:
            at = _product_before(found, step, limits)
            product = None if at is None else found[at]
            if at is not None and isinstance(product, MatrixProduct):
                rows = _rows_needed(product, step, limits)
                if rows is not None:
                    run = replace(step, count=rows.count, chunk=rows.chunk)
                    found[at] = ProductAndKernel(product, run)
                    continue
        found.append(step)
    return found


def _product_before(steps: Sequence[Step], run: RunKernel, limits: Limits) -> int | None:
    """Where the last step is, if a product, that makes what a kernel reads; the kernel could as
    well follow it at once. What lies far back is no longer in the cache."""
    used, made = {*run.reads}, {*run.writes}
    for at in reversed(range(len(steps))[-limits.near_steps :]):
        step = steps[at]
        if not used.isdisjoint(step.writes):
            if isinstance(step, MatrixProduct) and step.how.rows is not None:
                return at if step.result in used else None
            return None
        if not made.isdisjoint(step.reads):
            return None
    return None


def _rows_needed(product: MatrixProduct, run: RunKernel, limits: Limits) -> RowPieces | None:
    """How many rows (or elements) a kernel has, and how many of them need a piece of the product.

    None where it needs others as well, or isn't worth a part of the piece's work.
    """
    kernel, rows, columns = run.kernel, product.how.rows, product.y.shape[-1]
    assert rows is not None
    if not kernel.parallel:
        return None
    arrays = {k for k, b in enumerate(run.buffers) if b is product.result}
    loads = [s for s in kernel.statements() if type(s) is Load and s.array in arrays]
    if not loads or any(kernel.params[k].role != "in" for k in arrays):
        return None
    pieces = -(-rows.count // rows.chunk)
    if 4 * pieces * sum(p.size for p in kernel.params if p.role == "partial") > kernel.elements:
        return None
    if kernel.outer:
        axis = kernel.outer[0]
        fits = len(kernel.outer) == 1 and axis.extent == rows.count
        if fits and all(_stays_in_row(s.index, axis, columns) for s in loads):
            return rows
        return None
    if rows.chunk * columns % limits.grain:
        return None
    axes = [loop.axes[-1] for loop in kernel.loops()]
    whole = all(len(loop.axes) == 1 for loop in kernel.loops())
    if whole and all(a.extent == rows.count * columns for a in axes):
        if all(s.index in [Index(0, ((a, 1),)) for a in axes] for s in loads):
            return RowPieces(rows.count * columns, rows.chunk * columns)
    return None


def _stays_in_row(index: Index, outer: Any, columns: int) -> bool:
    inner = [(axis, step) for axis, step in index.terms if axis is not outer]
    ends = [step * (axis.extent - 1) for axis, step in inner]
    low, high = (index.const + sum(f(e, 0) for e in ends) for f in (min, max))
    return index.step(outer) == columns and not index.dynamic and low >= 0 and high < columns
