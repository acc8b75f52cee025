"""What plans are made of, by itself: views, copies, and the steps that there need be."""

from __future__ import annotations

import itertools
from math import prod
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.loops.nests.buffers import Buffer
from funcgrad.backends.loops.nests.kernels import copy_nest
from funcgrad.backends.loops.nests.nest import Kernel, Load, Loop, Store
from funcgrad.backends.loops.nests.views import View, contiguous, elements, through
from funcgrad.backends.loops.planning.products import leading
from funcgrad.core.view_map import whole
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


# --- views ------------------------------------------------------------------------------

SHAPES = [s for n in (1, 2, 3, 4) for s in itertools.product([1, 2, 3, 4, 6, 8, 12], repeat=n)]
BASES: dict[str, np.ndarray] = {
    "rows": np.arange(24).reshape(4, 6),
    "turned": np.arange(24).reshape(4, 6).T,
    "backwards": np.arange(24).reshape(4, 6)[::-1],
    "part": np.arange(60).reshape(5, 12)[1:, ::2],
    "three axes": np.arange(24).reshape(2, 3, 4),
    "two in order": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    "none in order": np.arange(24).reshape(2, 3, 4).transpose(2, 1, 0),
    "spread": np.broadcast_to(np.arange(6)[:, None], (6, 4)),
    "short ones": np.arange(24).reshape(4, 6).T[:, None, :, None],
    "empty": np.zeros((0, 24)),
}


@pytest.mark.parametrize("name", BASES)
def test_reshaped_views_are_numpys(name: str) -> None:
    array = BASES[name]
    steps = tuple(s // array.itemsize for s in array.strides)
    base = View(None, array.shape, steps, 60)
    for shape in [*SHAPES, (0, 5), (3, 0)]:
        if prod(shape) != array.size:
            continue
        found = through(whole(shape), base, shape)
        expected = array.reshape(shape)
        assert (found is not None) == (np.shares_memory(expected, array) or not array.size), shape
        if found is not None:
            assert found.shape == shape
            np.testing.assert_array_equal(elements(found).ravel(), elements(base).ravel())


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


def test_a_factor_of_a_product_may_be_on_either_side() -> None:
    def update(x: Any, g: Any, w: Any) -> Any:
        return w - 0.1 * (x.T @ g)

    def other(x: Any, g: Any, w: Any) -> Any:
        return w - (x.T @ g) * 0.1

    args = single(99, 64), single(99, 32), single(64, 32)
    assert plan_of(update, *args) == plan_of(other, *args)
    assert "kernel" not in plan_of(other, *args)


def test_products_count_for_more_in_registers() -> None:
    """Loops of some long bodies would take too long to compile."""

    def steps(count: int, step: Any) -> str:
        def body(_: int, x: Any) -> Any:
            for _ in range(count):
                x = step(x)
            return x

        return plan_of(lambda x: fg.fori_loop(0, 9, body, x), single(5, 5))

    assert "scan in registers" in steps(20, lambda x: x @ x)
    assert "scan in registers" not in steps(40, lambda x: x @ x)
    assert "scan in registers" in steps(40, lambda x: np.sin(x))
