"""What the sweep found, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from _modes import check
from funcgrad.scipy import special

INF = np.inf
X32 = np.array([0.5, 2.0, 3.0], np.float32)


def _eager(function: Callable[..., Any], x: Any) -> Any:
    seen: list[Any] = []
    fg.vjp(lambda t: (seen.append(fg.stop_gradient(function(t))), 1.0)[1], x)
    return seen[0].value if hasattr(seen[0], "value") else seen[0]


MODES: dict[str, Callable[..., Any]] = {
    "plain": lambda f, x: f(x),
    "eager": _eager,
    "vmap": lambda f, x: fg.vmap(f)(x[None])[0],
    "numpy": lambda f, x: fg.jit(f, backend="numpy")(x),
    "llvm": lambda f, x: fg.jit(f, backend="llvm")(x),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: special.xlogy(2, x), 2 * np.log(X32)),
        (lambda x: special.rel_entr(2.0, x), 2 * np.log(2 / X32)),
        (lambda x: special.logsumexp(x, b=2), np.log(2 * np.sum(np.exp(X32)))),
        (lambda x: special.betaln(x, INF), np.full(3, -INF)),
        (lambda x: special.betaln(INF, -x), np.array([INF, INF, INF])),
        (lambda x: special.betaln(-3.0, x), np.array([INF, np.log(1 / 6), np.log(1 / 3)])),
        (lambda x: np.vecdot(np.stack([x, x]), np.ones((2, 3), "f4"), axis=0), 2 * X32),
        (lambda x: np.select([x > 1], [fnp.astype(x, np.int8)]), np.array([0, 2, 3])),
    ],
)
def test_values_and_dtypes(mode: str, function: Callable[[Any], Any], expected: np.ndarray) -> None:
    result = np.asarray(MODES[mode](function, X32))
    np.testing.assert_allclose(result, expected, rtol=2e-6)
    assert result.dtype in (np.float32, np.int8)


@pytest.mark.parametrize("mode", MODES)
def test_booleans_stay_what_they_are_when_conjugated(mode: str) -> None:
    assert np.asarray(MODES[mode](lambda x: (x > 1).conj(), X32)).dtype == bool


@pytest.mark.parametrize("mode", MODES)
def test_numbers_that_do_not_fit_are_refused(mode: str) -> None:
    with pytest.raises(OverflowError):
        MODES[mode](lambda x: fg.at(x)[0].power(300), np.array([1, 2], np.uint8))
    with pytest.raises(ValueError, match="NaN"):
        MODES[mode](lambda x: fnp.pad(x, 1, constant_values=np.nan), np.array([1, 2], np.int8))


def test_a_python_complex_number_is_no_real_array() -> None:
    with pytest.raises(fg.errors.OperandTypeError, match="real"):
        fg.jit(lambda z: fnp.array([z, z], dtype=np.float32))(1 + 2j)


@pytest.mark.parametrize("lengths", [(1, 2), (1, 1, 2), (2, 2), (2, 1, 2)])
@pytest.mark.parametrize("where", [slice(None, None, 2), [0, 2], [1], 1], ids=str)
def test_inserted_values_may_have_more_axes_of_length_one(where: Any, lengths: Any) -> None:
    values = np.arange(1.0, 1 + np.prod(lengths)).reshape(lengths)
    check(lambda xp, x, values: xp.insert(x, where, values), np.arange(3.0), values)
    check(lambda xp, x, values: xp.insert(x, where, values, axis=0), np.ones((4, 2)), values)


@pytest.mark.parametrize("order", ["fro", 1, np.inf])
def test_a_matrix_norm_needs_a_matrix(order: Any) -> None:
    for x in (np.array(2.0), np.ones(3)):
        for run in MODES.values():
            with pytest.raises(np.exceptions.AxisError):
                run(lambda x: fnp.linalg.matrix_norm(x, ord=order), x)


def test_a_sorter_is_as_long_as_what_it_sorts() -> None:
    a, v = np.array([3.0, 1.0, 2.0]), np.array([0.5, 1.5, 9.0])
    for sorter in ([1, 2], [1, 2, 0, 0]):
        check(lambda xp, a, v, sorter=sorter: xp.searchsorted(a, v, sorter=sorter), a, v)
    check(lambda xp, *xs: xp.searchsorted(*xs[:2], sorter=xs[2]), a, v, np.array([1, 2]))
    check(lambda xp, *xs: xp.searchsorted(*xs[:2], sorter=xs[2]), a, v, np.array([1, 2, 0]))


@pytest.mark.parametrize("mean", [np.float64([[1.0]]), np.float16([[1.0]]), 1, np.array([[1j]])])
@pytest.mark.parametrize("name", ["var", "std", "nanvar", "nanstd"])
def test_a_mean_that_is_given_may_widen(name: str, mean: Any) -> None:
    for x in (X32, X32 + 1j * X32, np.array([1, 7, 3], np.int8)):
        for dtype in (None, np.float32, np.float64):
            if np.iscomplexobj(mean) and dtype is not None:
                continue
            options = {"mean": mean, "keepdims": True, "dtype": dtype}
            check(lambda xp, x, o=options: getattr(xp, name)(x, axis=-1, **o), np.stack([x, x]))


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_a_sign_keeps_the_zeros_of_its_parts(dtype: str) -> None:
    parts = [0.0, -0.0, 0.5, -2.0, INF, -INF]
    z = np.array([complex(a, b) for a in parts for b in parts], dtype)
    with np.errstate(invalid="ignore"):
        wanted = np.sign(z)
        for mode, run in MODES.items():
            found = np.asarray(run(np.sign, z))
            for a, b in ((found.real, wanted.real), (found.imag, wanted.imag)):
                np.testing.assert_array_equal(a, b, mode)
                np.testing.assert_array_equal(np.signbit(a[a == a]), np.signbit(b[b == b]), mode)


@pytest.mark.parametrize("exponent", [3, -1, 2**31, -(2**31) - 1, 2**40, 2**63])
@pytest.mark.parametrize("dtype", ["?", "i1", "f2", "f4", "f8"])
def test_exponents_beyond_int32(dtype: str, exponent: int) -> None:
    x = np.array([1, 0], dtype)
    check(lambda xp, x: xp.ldexp(x, exponent), x)
    check(lambda xp, x, n: xp.ldexp(x, n), x, exponent)


@pytest.mark.parametrize("x", [2, 2.5, True])
def test_numbers_with_exponents_that_are_arrays(x: Any) -> None:
    for dtype in ("?", "i1", "u2", "i4", "i8"):
        check(lambda xp, n: xp.ldexp(x, n), np.array([1, 0], dtype))
        check(lambda xp, n, x: xp.ldexp(x, n), np.array([1, 0], dtype), x)


@pytest.mark.parametrize("name", ["nanquantile", "nanpercentile"])
def test_quantiles_out_of_range_are_none_of_nothing_either(name: str) -> None:
    check(lambda xp, x: getattr(xp, name)(x, -0.5), np.zeros((0, 3)))
    check(lambda xp, x: getattr(xp, name)(x, 0.5), np.zeros((0, 3)))


@pytest.mark.parametrize("name", ["all", "any"])
def test_truth_under_a_mask(name: str) -> None:
    mask, x = np.array([True, False, True]), np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    check(lambda xp, x: getattr(xp, name)(x, axis=1, where=mask), x)
    check(lambda xp, x: xp.where(mask, x > 0, True), x)


def test_numbers_of_every_kind_are_chosen() -> None:
    for number in (False, 0, 0.0, -0.0, 0j):
        for x in (X32, X32 > 1, X32 * 1j, np.arange(3)):
            check(lambda xp, x, n=number: xp.where(x != 2, x, n), np.resize(x, 4000))
