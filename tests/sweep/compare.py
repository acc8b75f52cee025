"""What a call gave, and how two of them differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcgrad import errors
from funcgrad.core.tracer import Tracer


class Answer(NamedTuple):
    """A call's result: its arrays and numbers in order, and the structure around them."""

    leaves: list[Any]
    structure: Any


class Raised(NamedTuple):
    error: BaseException


_ARRAYS = (Tracer, np.ndarray, np.generic, bool, int, float, complex)


def split(result: Any) -> Answer:
    leaves: list[Any] = []

    def walk(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return (list if isinstance(x, list) else tuple)([walk(item) for item in x])
        if isinstance(x, _ARRAYS):
            leaves.append(x)
            return "*"
        return x

    structure = walk(result)
    return Answer(leaves, structure)


# --- values ---------------------------------------------------------------------------

# Results of the library's own formulas and loops: some units in the last place.
_TOLERANCES = {"f2": 4e-3, "f4": 4e-6, "f8": 1e-12, "c8": 4e-6, "c16": 1e-12}


def _parts(x: np.ndarray) -> list[np.ndarray]:
    return [x.real, x.imag] if x.dtype.kind == "c" else [x]


def _same_floats(actual: np.ndarray, expected: np.ndarray, rtol: float) -> bool:
    if expected.dtype.kind == "c":
        # Which part of a complex number a NaN is in says little; that there is one, much.
        missing = np.isnan(expected)
        if not np.array_equal(missing, np.isnan(actual)):
            return False
        actual, expected = np.where(missing, 0, actual), np.where(missing, 0, expected)
        scale = np.abs(np.where(np.isfinite(expected), expected, 0))
    else:
        scale = np.abs(expected)
    for a, e in zip(_parts(actual), _parts(expected), strict=True):
        finite = np.isfinite(e)
        if not np.array_equal(np.isfinite(a), finite):
            return False
        if not np.array_equal(a[~finite], e[~finite], equal_nan=True):
            return False
        room = rtol * scale[finite] + np.finfo(e.dtype).smallest_subnormal * 8
        if np.any(np.abs(a[finite] - e[finite]) > room):
            return False
    return True


def _zeros_differ(actual: np.ndarray, expected: np.ndarray) -> bool:
    return any(
        bool(np.any((e == 0) & (a == 0) & (np.signbit(a) != np.signbit(e))))
        for a, e in zip(_parts(actual), _parts(expected), strict=True)
    )


def _leaf_difference(actual: Any, expected: Any, scale: float) -> str | None:
    a, e = np.asarray(actual), np.asarray(expected)
    if a.shape != e.shape:
        return f"shape: {a.shape}, NumPy has {e.shape}"
    if a.dtype.newbyteorder("=") != e.dtype.newbyteorder("="):
        return f"dtype: {a.dtype}, NumPy has {e.dtype}"
    if a.dtype.kind not in "fc":
        if not np.array_equal(a, e):
            return f"value: {_shown(a)}, NumPy has {_shown(e)}"
        return None
    tolerance = _TOLERANCES[f"{e.dtype.kind}{e.dtype.itemsize}"] * scale
    with np.errstate(all="ignore"):
        if not _same_floats(a, e, tolerance):
            return f"value: {_shown(a)}, NumPy has {_shown(e)}"
        if _zeros_differ(a, e):
            return f"zero: {_shown(a)}, NumPy has {_shown(e)}"
    return None


def _shown(a: np.ndarray) -> str:
    text = " ".join(np.array2string(a.ravel()[:16], precision=8).split())
    return text if len(text) < 160 else text[:157] + "..."


# --- answers and errors ---------------------------------------------------------------


def difference(actual: Answer | Raised, expected: Answer | Raised, scale: float = 1) -> str | None:
    """How they differ, as `kind: what`; None if they are the same.

    Kinds: structure, shape, dtype, value, zero (the sign of one); refuses (an error of ours
    where NumPy answers), answers (where NumPy raises), raw (an error that is not ours, and of
    another class than NumPy's).
    """
    if isinstance(actual, Raised):
        return _error_difference(actual.error, expected)
    if isinstance(expected, Raised):
        shown = ", ".join(_shown(np.asarray(leaf)) for leaf in actual.leaves)
        return f"answers: {shown}; NumPy raises {expected.error!r}"
    if str(actual.structure) != str(expected.structure):
        return f"structure: {actual.structure}, NumPy has {expected.structure}"
    for a, e in zip(actual.leaves, expected.leaves, strict=True):
        found = _leaf_difference(a, e, scale)
        if found is not None:
            return found
    return None


def _error_difference(error: BaseException, expected: Answer | Raised) -> str | None:
    ours = isinstance(error, errors.FuncgradError)
    first = str(error).splitlines()[0] if str(error) else ""
    shown = f"{type(error).__name__}: {first[:200]}"
    if isinstance(expected, Raised):
        same = isinstance(error, _family(expected.error))
        return None if ours or same else f"raw: {shown}; NumPy raises {expected.error!r}"
    return f"refuses: {shown}" if ours else f"raw: {shown}"


def _family(error: BaseException) -> type:
    """NumPy's private classes of errors stand for the public ones that they derive from."""
    kind = type(error)
    while not hasattr(np.exceptions, kind.__name__) and kind.__module__ != "builtins":
        kind = kind.__bases__[0]
    return kind
