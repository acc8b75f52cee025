"""What the sweep found, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
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
