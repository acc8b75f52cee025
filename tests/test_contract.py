"""Each primitive keeps the contract of its declaration; new ones are tested unasked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from contract import (
    assert_transposed,
    awkward,
    batchings,
    cases,
    differentiable,
    directions,
    finished,
    function_of,
    inexact,
    loop,
    numeric_jvp,
    operands,
    rounding,
)
from funcgrad.core.aval import aval_of
from funcgrad.core.primitive import REGISTRY
from funcgrad.core.tracer import deferred

NEEDS_LLVM = pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")
ALL = list(cases())
INEXACT = list(cases("fc"))
DOUBLE = [c for c in INEXACT if c[2] in (np.float64, np.complex128)]


def parametrize(found: list[Any]) -> Callable[[Any], Any]:
    """Makes a test for each primitive and dtype of a check of one of its samples: a test for each
    sample would take longer for itself than for what it checks."""
    numbers: dict[tuple[str, Any], list[int]] = {}
    for prim, number, dtype in found:
        numbers.setdefault((prim.name, dtype), []).append(number)
    groups = [(REGISTRY[name], ns, dtype) for (name, dtype), ns in numbers.items()]
    ids = [f"{name}-{dtype.__name__}" for name, dtype in numbers]

    def decorate(check: Any) -> Any:
        def test(prim: Any, numbers: Sequence[int], dtype: Any, *args: Any, **kwargs: Any) -> None:
            skipped = []
            for number in numbers:
                try:
                    check(prim, number, dtype, *args, **kwargs)
                except pytest.skip.Exception as why:
                    skipped.append(why)
                except Exception as error:
                    error.add_note(f"in sample {number} of {prim.name}")
                    raise
            if len(skipped) == len(numbers):
                raise skipped[0]

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, __name__
        signature = inspect.signature(check)
        given = signature.parameters.values()
        named = [p.replace(name="numbers") if p.name == "number" else p for p in given]
        test.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
        return pytest.mark.parametrize(("prim", "numbers", "dtype"), groups, ids=ids)(test)

    return decorate


def differentiated(prim: Any, number: int, dtype: Any) -> tuple[Any, list[Any]]:
    """A sample as a function of the operands that have a derivative, and these."""
    sample = prim.samples[number]
    full = operands(sample, dtype)
    where = differentiable(full)
    if not where:
        pytest.skip("no operand to differentiate by")
    return function_of(prim, full, sample, where), [full[i] for i in where]


def assert_same(found: Any, expected: Any, dtype: Any) -> None:
    """Equal in shape and dtype, and up to rounding."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype.kind in "fc":
        rtol = max(rounding(expected.dtype), rounding(dtype))
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    else:
        np.testing.assert_array_equal(found, expected)


def assert_near(found: Any, numeric: Any) -> None:
    """Equal up to what finite differences can tell: nothing at infinities."""
    known = np.isfinite(numeric)
    found, numeric = np.asarray(found)[known], np.asarray(numeric)[known]
    tol = 2e-6 if np.asarray(found).dtype.itemsize >= 8 else 2e-2
    np.testing.assert_allclose(found, numeric, rtol=tol, atol=tol)


@parametrize(ALL)
def test_shape_rule(prim: Any, number: int, dtype: Any) -> None:
    sample = prim.samples[number]
    args = finished(sample, operands(sample, dtype))
    expected = prim.infer([aval_of(a) for a in args], sample.params)
    out = prim.impl(*args, **sample.params)
    outs = out if prim.multiple else [out]
    assert [(aval_of(o).shape, aval_of(o).dtype) for o in outs] == [
        (a.shape, a.dtype) for a in expected
    ]


@parametrize(DOUBLE)
def test_derivatives(prim: Any, number: int, dtype: Any) -> None:
    """First and second order against finite differences."""
    function, args = differentiated(prim, number, dtype)
    if prim.kind == "nondifferentiable":
        tangents = fg.jvp(function, tuple(args), tuple(directions(args, 1)))[1]
        assert all(not np.any(t) for t in inexact(tangents))
        return

    v, u = directions(args, 1), directions(args, 2)
    _, tangent = fg.jvp(function, tuple(args), tuple(v))
    expected = numeric_jvp(function, args, v)
    for found, value in zip(tangent, expected, strict=True):
        if np.asarray(found).dtype.kind in "fc":
            assert_near(found, value)

    def along_v(*xs: Any) -> list[Any]:
        return fg.jvp(function, xs, tuple(v))[1]

    _, second = fg.jvp(along_v, tuple(args), tuple(u))
    expected = numeric_jvp(along_v, args, u)
    for found, value in zip(second, expected, strict=True):
        if np.asarray(found).dtype.kind in "fc":
            assert_near(found, value)


@parametrize(INEXACT)
def test_transposition(prim: Any, number: int, dtype: Any) -> None:
    function, args = differentiated(prim, number, dtype)
    assert_transposed(function, args, rounding(dtype))
    if dtype in (np.float64, np.complex128):
        v = directions(args, 3)
        assert_transposed(lambda *xs: fg.jvp(function, xs, tuple(v))[1], args, rounding(dtype))


@parametrize([c for c in DOUBLE if c[2] is np.float64])
def test_transposition_at_ties(prim: Any, number: int, dtype: Any) -> None:
    """Whatever the derivative is where operands are equal, both modes agree on it."""
    sample = prim.samples[number]
    full = [
        np.full(np.shape(a), 1.0) if np.asarray(a).dtype.kind == "f" else a
        for a in operands(sample, dtype)
    ]
    where = differentiable(full)
    args = [full[i] for i in where]
    low, high = sample.domain
    if not args or not low <= 1.0 <= high:
        pytest.skip("1 is outside the domain")
    assert_transposed(function_of(prim, full, sample, where), args, 1e-10)


@parametrize([c for c in ALL if c[2] is not np.float32])
def test_batching(prim: Any, number: int, dtype: Any) -> None:
    sample = prim.samples[number]
    for batch in batchings(operands(sample, dtype)):
        args = operands(sample, dtype, batch=batch)
        function = function_of(prim, args, sample, range(len(args)))
        axes = tuple(0 if b else None for b in batch)
        found = fg.vmap(function, in_axes=axes)(*args)
        for f, e in zip(found, loop(function, args, batch), strict=True):
            assert_same(f, e, dtype)


BACKENDS = ("numpy", pytest.param("llvm", marks=NEEDS_LLVM))


@pytest.mark.parametrize("backend", BACKENDS)
@parametrize(ALL)
def test_compiled(prim: Any, number: int, dtype: Any, backend: str) -> None:
    """The backend's result is NumPy's, whatever the inputs' layout."""
    sample = prim.samples[number]
    args = operands(sample, dtype)
    arrays = [i for i, a in enumerate(args) if isinstance(a, (np.ndarray, np.generic))]
    function = function_of(prim, args, sample, arrays)
    compiled = fg.jit(function, backend=backend)
    given = [args[i] for i in arrays]
    expected = function(*given)
    kept = [np.copy(g) for g in given]
    for f, e in zip(compiled(*given), expected, strict=True):
        assert_same(f, e, dtype)
    for position, x in enumerate(given):
        for other in awkward(x):
            changed = [other if i == position else g for i, g in enumerate(given)]
            for f, e in zip(compiled(*changed), expected, strict=True):
                assert_same(f, e, dtype)
    for before, after in zip(kept, given, strict=True):
        np.testing.assert_array_equal(before, after)


@NEEDS_LLVM
@parametrize(ALL)
def test_compiled_for_many_examples(prim: Any, number: int, dtype: Any) -> None:
    """Arrays that are too large for registers, so that kernels compute on them."""
    sample = prim.samples[number]
    examples = [operands(sample, dtype, seed) for seed in range(37)]
    arrays = [i for i, a in enumerate(examples[0]) if isinstance(a, (np.ndarray, np.generic))]
    if not arrays:
        pytest.skip("no arrays")
    function = fg.vmap(function_of(prim, examples[0], sample, arrays))
    given = [np.stack([e[i] for e in examples]) for i in arrays]
    expected = fg.jit(function, backend="numpy")(*given)
    for f, e in zip(fg.jit(function, backend="llvm")(*given), expected, strict=True):
        assert_same(f, e, dtype)


@parametrize([c for c in ALL if c[0].expansion not in (None, c[0].impl)])
def test_expansion(prim: Any, number: int, dtype: Any) -> None:
    """Where one fails, backends do without it, which nothing else would tell."""
    sample = prim.samples[number]
    avals = [aval_of(a) for a in finished(sample, operands(sample, dtype))]
    if not all(a.size for a in avals):
        pytest.skip("empty arrays are not expanded")
    with deferred("expansion") as rec:
        result = prim.expansion(*map(rec.abstract_input, avals), **sample.params)
        if result is None:
            pytest.skip("it has none of these operands")
        (found,) = rec.graph([result]).out_avals
    (expected,) = prim.infer(avals, sample.params)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


# What results and tangents of narrow operands may be.
NARROW = {
    np.float16: {np.float16, np.complex64},
    np.float32: {np.float32, np.complex64},
    np.complex64: {np.float32, np.complex64},
}


@parametrize([c for c in INEXACT if c[2] in NARROW])
def test_narrow_dtypes_stay(prim: Any, number: int, dtype: Any) -> None:
    sample = prim.samples[number]
    full = operands(sample, dtype)
    where = differentiable(full)
    if prim.name == "convert" or any(np.asarray(full[i]).dtype != dtype for i in where):
        pytest.skip("another dtype is asked for")
    args = [full[i] for i in where]
    outs, tangents = fg.jvp(
        function_of(prim, full, sample, where), tuple(args), tuple(directions(args, 1))
    )
    assert {np.asarray(out).dtype.type for out in inexact([*outs, *tangents])} <= NARROW[dtype]
