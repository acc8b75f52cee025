"""Numbers where arrays are expected, and options NumPy refuses: as on plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.errors import FuncgradError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
MODES = ["eager", "numpy", *(["llvm"] if HAS_LLVM else [])]


def _run(mode, function, x):
    if mode == "eager":
        return fg.vjp(function, x)[0]
    return fg.jit(function, backend=mode)(x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.all(x, axis=-1, keepdims=True),
        lambda x: np.argmax(x, axis=0),
        lambda x: np.argsort(x),
        lambda x: np.cumsum(x, axis=-1),
        lambda x: np.maximum.reduce(x),
        lambda x: np.nanmax(x),
        lambda x: np.nanmin(x, axis=0),
    ],
)
def test_axis_of_a_number(function, mode):
    for x in (np.float64(2.5), np.float64(np.nan)):
        np.testing.assert_array_equal(_run(mode, function, x), function(x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.sum(x[0], where=np.array([True, False])),
        lambda x: np.var(x, ddof=1, correction=1),
        lambda x: np.add.accumulate(x.reshape(1, 3), axis=None),
        lambda x: np.sort(x, kind="bad"),
        lambda x: np.argsort(x, kind="stable", stable=True),
        lambda x: np.argpartition(x, 1.0),
        lambda x: np.average(x, weights=np.zeros(3)),
    ],
)
def test_refused_as_by_numpy(function, mode):
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        function(np.arange(3.0))
    with pytest.raises(FuncgradError):
        _run(mode, function, np.arange(3.0))


@pytest.mark.parametrize("mode", MODES)
def test_values_once_wrong(mode):
    x = np.array([250, 251, 252], "u1")
    weights = np.array([1, 2, 3], "u1")
    assert _run(mode, lambda x: np.average(x, weights=weights), x) == np.average(x, weights=weights)
    y = np.array([1.0, np.nan, 2.0])
    assert np.isnan(_run(mode, lambda y: np.nanvar(y, ddof=2), y))


def test_integers_beyond_int64():
    for f in (lambda x: np.asarray(x), lambda x: np.stack([x, x])):
        got = fg.vjp(f, 2**63)[0]
        np.testing.assert_array_equal(got, f(2**63), strict=True)
