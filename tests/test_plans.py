"""What plans are made of, by itself: views, copies, and the steps that there need be."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.kernels import copy_nest
from funcgrad.backends.loops.nests.nest import Kernel, Load, Loop, Store
from funcgrad.backends.loops.nests.views import View, contiguous, elements
from funcgrad.backends.loops.planning.products import leading
from snapshot_cases import plan_of, single

# --- operands of products ---------------------------------------------------------------


def fits(view: View, lead: int, transposed: bool) -> bool:
    """Whether BLAS finds a matrix's elements where they are."""
    m, n = view.shape
    rows, columns = np.indices(view.shape)
    places = columns * lead + rows if transposed else rows * lead + columns
    return lead >= (m if transposed else n) and bool((places == elements(view)).all())


@pytest.mark.parametrize("shape", [*itertools.product([1, 2, 3], repeat=2)], ids=str)
def test_matrices_are_copied_only_where_blas_cannot_take_them(shape: tuple[int, int]) -> None:
    for strides in itertools.product(range(5), repeat=2):
        view = View(None, shape, strides, 0)
        ways = [(lead, t) for t in (False, True) for lead in range(1, 5) if fits(view, lead, t)]
        found = leading(view)
        assert (found is None) == (not ways), view
        assert found is None or found in ways, view


# --- copies -----------------------------------------------------------------------------


def run(kernel: Kernel, source: np.ndarray, out: np.ndarray) -> int:
    """Run a copy, and count what it stores."""
    (loop,) = kernel.body
    assert type(loop) is Loop
    axes, count = (*kernel.outer, *loop.axes), 0
    for at in itertools.product(*(range(a.extent) for a in axes)):
        position = dict(zip(axes, at, strict=True))
        load, store = loop.body
        assert type(load) is Load and type(store) is Store and store.value is load.out
        places = [s.index.const + sum(position[a] * k for a, k in s.index.terms) for s in loop.body]
        out[places[1]] = source[places[0]]
        count += 1
    return count


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
def test_copies_store_each_element_once(order: tuple[int, ...]) -> None:
    x = np.arange(2.0 * 3 * 4 * 5)
    array = x.reshape(2, 3, 4, 5).transpose(order)
    steps = tuple(s // x.itemsize for s in array.strides)
    source = View(Buffer(x.dtype, x.size), array.shape, steps, 0)
    kernel = copy_nest(source, contiguous(Buffer(x.dtype, x.size), array.shape))
    assert all(a.outer for a in kernel.outer)
    (loop,) = kernel.loops()
    assert [a.outer for a in loop.axes] == [False]
    out = np.zeros_like(x)
    assert run(kernel, x, out) == x.size
    np.testing.assert_array_equal(out.reshape(array.shape), array)


# --- what is computed together ------------------------------------------------------------


def test_results_that_are_donated_arguments_take_no_step() -> None:
    """They would be copied to where they lie."""

    def same(x: Any) -> Any:
        return x

    assert "kernel" not in plan_of(same, single(300, 200), donated=(0,))
    assert "kernel" in plan_of(same, single(300, 200))
