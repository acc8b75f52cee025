"""Random programs: every transformation, and every composition of two, against a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import funcgrad as fg
from funcgrad.core.evaluate import run_graph
from program_checks import (
    REFERENCES,
    TRANSFORMS,
    assert_close,
    check_compiled,
    check_composition,
    check_derivatives,
    check_recording,
    check_symmetry,
    check_vmap,
)
from programs import OPERATIONS, Program, programs
from typed_programs import TypedProgram, check_typed, typed_programs

# Few examples each, as there are many pairs: a long run is `python tests/fuzz.py 20000`.
FEW = settings(max_examples=25)
SOME = settings(max_examples=100)


@given(programs())
@SOME
def test_recorded_and_compiled_programs_compute_what_numpy_does(program: Program) -> None:
    check_recording(program)


@given(programs())
@SOME
def test_derivatives_agree_with_each_other_and_with_differences(program: Program) -> None:
    check_derivatives(program)


@given(programs())
@FEW
def test_backends_agree_on_programs_and_their_derivatives(program: Program) -> None:
    check_compiled(program)


@given(programs(smooth=True))
@SOME
def test_second_derivatives_are_symmetric(program: Program) -> None:
    check_symmetry(program)


@given(programs())
@SOME
def test_vmap_is_a_loop(program: Program) -> None:
    check_vmap(program)


@given(typed_programs())
@SOME
def test_programs_over_every_dtype(program: TypedProgram) -> None:
    check_typed(program)


@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("inner", TRANSFORMS)
@given(program=programs(smooth=True, max_steps=4))
@FEW
def test_compositions(outer: str, inner: str, program: Program) -> None:
    check_composition(outer, inner, program)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_every_operation_is_reached(operation: Any) -> None:
    """Each operation accepts some of the shapes the strategy draws from, and runs on them."""
    from itertools import product

    from programs import SHAPES

    rng = np.random.default_rng(0)
    tried = 0
    for shapes in product(SHAPES, repeat=operation.arity):
        if operation.accepts(*shapes):
            operation.apply(*[np.asarray(rng.uniform(-1, 1, s)) for s in shapes])
            tried += 1
    assert tried


def test_the_checks_can_fail() -> None:
    """A wrong derivative, a wrong batching and a wrong program are each found."""

    @fg.custom_jvp
    def wrong(x: Any) -> Any:
        return np.sin(x)

    @wrong.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return np.sin(primals[0]), tangents[0] * 2.0

    program = _single(wrong)
    for check in (
        lambda: check_derivatives(program),
        lambda: check_composition("jvp", "jit", program),
    ):
        with pytest.raises(AssertionError):
            check()
    with pytest.raises(AssertionError):
        assert_close([np.ones(3)], [np.ones(3) * (1 + 1e-4)])


def _single(function: Callable[..., Any]) -> Program:
    from programs import Operation

    return Program(((3,),), ((Operation("wrong", 1, function), (0,)),), 0)


def test_references_cover_every_transform() -> None:
    assert set(REFERENCES) == set(TRANSFORMS)
    graph = fg.make_graph(np.sin)(1.0)
    assert_close(run_graph(graph.check(), [1.0]), [np.sin(1.0)])
