"""One function in every mode, against NumPy itself: plain, eager, vmap, jit on both backends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core.tracer import Recorder, own_value

Function = Callable[..., Any]


def _eager(f: Function, args: tuple[Any, ...]) -> Any:
    """Values ride along, as under grad: of integers, too, which no derivative is taken by."""
    with Recorder("grad", concrete=True) as recorder:
        return fg.tree.map(own_value, f(np, *map(recorder.input, args)))


def _vmap(f: Function, args: tuple[Any, ...]) -> Any:
    arrays = [isinstance(a, (np.ndarray, np.generic)) for a in args]
    axes = tuple(0 if array else None for array in arrays)
    stacked = [np.stack([a, a]) if array else a for a, array in zip(args, arrays, strict=True)]
    out = fg.vmap(lambda *xs: f(np, *xs), in_axes=axes)(*stacked)
    first = fg.tree.map(lambda x: x[0], out)
    compare(fg.tree.map(lambda x: x[1], out), first)
    return first


MODES: dict[str, Callable[[Function, tuple[Any, ...]], Any]] = {
    "plain": lambda f, args: f(fnp, *args),
    "eager": _eager,
    "vmap": _vmap,
    "numpy": lambda f, args: fg.jit(lambda *xs: f(np, *xs), backend="numpy")(*args),
    "llvm": lambda f, args: fg.jit(lambda *xs: f(np, *xs), backend="llvm")(*args),
}


def compare(got: Any, want: Any) -> None:
    """The same numbers, dtypes and shapes; of inexact ones the last digits may differ."""
    got, want = (x if isinstance(x, (tuple, list)) else (x,) for x in (got, want))
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert np.shape(mine) == np.shape(theirs)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype
        dtype = np.asarray(theirs).dtype
        rtol = 8 * np.finfo(dtype).eps if dtype.kind in "fc" else 0
        np.testing.assert_allclose(mine, theirs, rtol=rtol)


def outcome(f: Callable[[], Any]) -> Any:
    """The result, or the exception."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f()
    except Exception as error:
        return error


def differences(f: Function, *args: Any, modes: Any = tuple(MODES)) -> Iterator[str]:
    """How each mode's outcome for `f(xp, *args)` differs from NumPy's: in its result, or in
    which kind of exception it raises."""
    want = outcome(lambda: f(np, *args))
    for mode in modes:
        got = outcome(lambda mode=mode: MODES[mode](f, args))
        if isinstance(want, Exception) or isinstance(got, Exception):
            same = isinstance(got, Exception) and isinstance(want, Exception)
            if same and isinstance(got, _kind(want)):
                continue
            yield f"{mode}: {got!r}, NumPy has {want!r}"
            continue
        try:
            compare(got, want)
        except AssertionError:
            yield f"{mode}: {got!r}, NumPy has {want!r}"


def _kind(error: Exception) -> type:
    kinds = (OverflowError, TypeError, IndexError, ValueError, ZeroDivisionError)
    return next((k for k in kinds if isinstance(error, k)), Exception)


def check(f: Function, *args: Any, modes: Any = tuple(MODES)) -> None:
    found = list(differences(f, *args, modes=modes))
    assert not found, "\n".join(found)
