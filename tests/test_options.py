"""Options that NumPy's functions take: each is done, or refused by an error of ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from _versions import since
from funcgrad import errors
from funcgrad.numpy.protocol import FUNCTIONS, UFUNC_METHODS
from funcgrad.numpy.ufuncs import UFUNCS

X = np.array([[3.0, 1.0, 2.0], [0.5, 4.0, -1.0]])

MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: lambda *args: fg.vjp(f, *args)[0],
    "vmap": lambda f: (
        lambda *args: fg.tree.map(lambda y: y[0], fg.vmap(f)(*[np.stack([a, a]) for a in args]))
    ),
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
}
modes = pytest.mark.parametrize("mode", MODES)


# --- out= ------------------------------------------------------------------------------

# The arguments of each function that takes out=, before it and after it.
OUT: dict[str, tuple[Callable[[Any], tuple[Any, ...]], Callable[[Any], tuple[Any, ...]]]] = {
    "all": (lambda x: (x, None), lambda x: ()),
    "amax": (lambda x: (x, None), lambda x: ()),
    "amin": (lambda x: (x, None), lambda x: ()),
    "any": (lambda x: (x, None), lambda x: ()),
    "argmax": (lambda x: (x, None), lambda x: ()),
    "argmin": (lambda x: (x, None), lambda x: ()),
    "around": (lambda x: (x, 1), lambda x: ()),
    "choose": (lambda x: (np.array([[0, 1, 0], [1, 0, 0]]), [x, -x]), lambda x: ("clip",)),
    "clip": (lambda x: (x, 0.0, 1.0), lambda x: ()),
    "compress": (lambda x: (np.array([True, False]), x, 0), lambda x: ()),
    "concatenate": (lambda x: ([x, x], 0), lambda x: ()),
    "cumprod": (lambda x: (x, 0, None), lambda x: ()),
    "cumsum": (lambda x: (x, 0, None), lambda x: ()),
    "dot": (lambda x: (x, x.T), lambda x: ()),
    "fix": (lambda x: (x,), lambda x: ()),
    "isneginf": (lambda x: (x,), lambda x: ()),
    "isposinf": (lambda x: (x,), lambda x: ()),
    "max": (lambda x: (x, None), lambda x: ()),
    "mean": (lambda x: (x, 0, None), lambda x: (True,)),
    "median": (lambda x: (x, 0), lambda x: (True,)),
    "min": (lambda x: (x, None), lambda x: ()),
    "nancumprod": (lambda x: (x, 0, None), lambda x: ()),
    "nancumsum": (lambda x: (x, 0, None), lambda x: ()),
    "nanmax": (lambda x: (x, 0), lambda x: ()),
    "nanmean": (lambda x: (x, 0, None), lambda x: ()),
    "nanmedian": (lambda x: (x, 0), lambda x: ()),
    "nanmin": (lambda x: (x, 0), lambda x: ()),
    "nanpercentile": (lambda x: (x, 50, 0), lambda x: ()),
    "nanprod": (lambda x: (x, 0, None), lambda x: ()),
    "nanquantile": (lambda x: (x, 0.5, 0), lambda x: ()),
    "nanstd": (lambda x: (x, 0, None), lambda x: (1,)),
    "nansum": (lambda x: (x, 0, None), lambda x: ()),
    "nanvar": (lambda x: (x, 0, None), lambda x: (1,)),
    "outer": (lambda x: (x, x), lambda x: ()),
    "percentile": (lambda x: (x, 50, 0), lambda x: ()),
    "prod": (lambda x: (x, 0, None), lambda x: ()),
    "ptp": (lambda x: (x, 0), lambda x: ()),
    "quantile": (lambda x: (x, 0.5, 0), lambda x: ()),
    "round": (lambda x: (x, 1), lambda x: ()),
    "stack": (lambda x: ([x, x], 0), lambda x: ()),
    "std": (lambda x: (x, 0, None), lambda x: (1,)),
    "sum": (lambda x: (x, 0, None), lambda x: ()),
    "take": (lambda x: (x, np.array([0, 1]), 1), lambda x: ("wrap",)),
    "trace": (lambda x: (x, 0, 0, 1, None), lambda x: ()),
    "var": (lambda x: (x, 0, None), lambda x: (1,)),
}
OUT_BY_KEYWORD: dict[str, Callable[[Any, Any], Any]] = {
    **since(
        "2.1.0",
        {
            "cumulative_prod": lambda x, out: fnp.cumulative_prod(x, axis=0, out=out),
            "cumulative_sum": lambda x, out: fnp.cumulative_sum(x, axis=0, out=out),
        },
    ),
    "einsum": lambda x, out: fnp.einsum("ij->j", x, out=out),
    "multi_dot": lambda x, out: fnp.linalg.multi_dot([x, x.T, x], out=out),
}
# Methods of arrays that take out=, with the arguments before it.
OUT_OF_METHODS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "all": lambda x: (None,),
    "any": lambda x: (None,),
    "argmax": lambda x: (None,),
    "argmin": lambda x: (None,),
    "clip": lambda x: (0.0, 1.0),
    "compress": lambda x: (np.array([True, False]), 0),
    "cumprod": lambda x: (0, None),
    "cumsum": lambda x: (0, None),
    "dot": lambda x: (x.T,),
    "max": lambda x: (None,),
    "mean": lambda x: (0, None),
    "min": lambda x: (None,),
    "prod": lambda x: (0, None),
    "round": lambda x: (1,),
    "std": lambda x: (0, None),
    "sum": lambda x: (0, None),
    "take": lambda x: (np.array([0, 1]), 1),
    "trace": lambda x: (0, 0, 1, None),
    "var": lambda x: (0, None),
}


def test_every_function_with_out_is_tried() -> None:
    # Of functions in C older versions of NumPy don't tell.
    told = [(f.__name__, _parameters(f)) for f in FUNCTIONS]
    takes = {name for name, names in told if "out" in names}
    unknown = {name for name, names in told if not names}
    assert takes == (OUT.keys() | OUT_BY_KEYWORD.keys()) - unknown


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except ValueError:
        return ()


def refused(mode: str, function: Callable[..., Any]) -> None:
    with pytest.raises(errors.OutArgumentError, match=r"test_options.py:\d+"):
        MODES[mode](lambda x: function(x))(X.copy())


@modes
def test_out_is_refused_wherever_it_stands(mode: str) -> None:
    out = np.full((2, 3), 7.0)
    for name, (before, after) in OUT.items():
        ours, theirs = getattr(fnp, name), getattr(np, name)
        for function in (theirs, ours):
            refused(mode, lambda x, f=function, b=before, a=after: f(*b(x), out, *a(x)))
            refused(mode, lambda x, f=function, b=before: f(*b(x), out=out))
        # What is asked for explicitly, and is nothing, is granted.
        MODES[mode](lambda x, f=theirs, b=before, a=after: f(*b(x), None, *a(x)))(X)
    for function in OUT_BY_KEYWORD.values():
        refused(mode, lambda x, f=function: f(x, out))
        MODES[mode](lambda x, f=function: f(x, None))(X)
    for name, before in OUT_OF_METHODS.items():
        refused(mode, lambda x, n=name, b=before: getattr(x, n)(*b(x), out))
        refused(mode, lambda x, n=name, b=before: getattr(x, n)(*b(x), out=out))
    assert (out == 7.0).all()


@modes
def test_out_may_be_the_only_tracer(mode: str) -> None:
    refused(mode, lambda x: np.add(X, X, x))
    refused(mode, lambda x: np.exp(X, out=x))
    refused(mode, lambda x: np.sum(X, 0, None, x))
    refused(mode, lambda x: np.take(X, [0, 1], 1, x))
    refused(mode, lambda x: np.dot(X, X.T, x))
    refused(mode, lambda x: np.median(X, 0, x))
    refused(mode, lambda x: np.clip(X, 0, 1, x))
    refused(mode, lambda x: np.concatenate([X, X], 0, x))


@modes
def test_out_of_ufuncs_and_their_methods(mode: str) -> None:
    out, pair = np.full((2, 3), 7.0), (np.zeros((2, 3)), np.zeros((2, 3), int))
    for ufunc in UFUNCS:
        if ufunc.signature or ufunc.nout > 1 or "d" not in "".join(ufunc.types):
            continue
        if ufunc not in (np.maximum, np.minimum):  # NumPy warns of it
            refused(mode, lambda x, f=ufunc: f(*[x] * f.nin, out))
        refused(mode, lambda x, f=ufunc: f(*[x] * f.nin, out=(out,)))
    refused(mode, lambda x: np.frexp(x, *pair))
    refused(mode, lambda x: np.matmul(x, x.T, out))
    for ufunc, method in UFUNC_METHODS:
        refused(mode, lambda x, f=ufunc, m=method: getattr(f, m)(x, 0, None, out))
        refused(mode, lambda x, f=ufunc, m=method: getattr(f, m)(x, out=out))
    refused(mode, lambda x: np.multiply.outer(x, x, out=out))
    refused(mode, lambda x: np.add.at(out, (0, 0), x[0, 0]))
    refused(mode, lambda x: np.nan_to_num(x, copy=False))
    refused(mode, lambda x: np.nan_to_num(x, False))
    assert (out == 7.0).all()


# --- options of ufuncs -----------------------------------------------------------------


def same(actual: Any, expected: Any) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


N = np.array([[3, 1, 2], [0, 4, -1]])
DONE: list[Callable[[Any, Any], Any]] = [
    lambda x, n: np.add(x, n, dtype=np.float32),
    lambda x, n: np.add(n, n, dtype=np.float32),
    lambda x, n: np.add(n, 1.5, dtype="f4"),
    lambda x, n: np.add(x, x, casting="unsafe", dtype=np.int64),
    lambda x, n: np.equal(x, n, dtype=bool),
    lambda x, n: np.less(n, 1, dtype=bool),
    lambda x, n: np.logical_and(x, n, dtype=bool),
    lambda x, n: np.isfinite(x, dtype=bool),
    lambda x, n: np.sin(n, dtype=np.float32),
    lambda x, n: np.sqrt(np.abs(n), signature=(np.float32, None)),
    lambda x, n: np.add(n, n, signature="dd->d"),
    lambda x, n: np.add(n, x, sig=(None, None, np.float32)),
    lambda x, n: np.true_divide(n, 2, dtype=np.float32),
    lambda x, n: np.exp(x, subok=False),
    lambda x, n: np.exp(x, order="K", casting="same_kind", where=True),
    lambda x, n: np.matmul(n, n.T, dtype=np.float64),
    lambda x, n: np.divmod(n, 2, dtype=np.float32)[0],
    lambda x, n: np.modf(n, dtype=np.float32)[1],
    lambda x, n: np.maximum.outer(x, n, dtype=np.float32),
    lambda x, n: np.concatenate([x, n], dtype=np.float32),
    lambda x, n: np.stack([x, n], dtype=np.int32, casting="unsafe"),
    lambda x, n: np.vstack([n, n], dtype=np.float64),
    lambda x, n: np.einsum("ij->i", n, dtype=np.float64),
    lambda x, n: np.einsum("ij->i", x, dtype=np.float32, casting="same_kind"),
    lambda x, n: np.zeros_like(x, order="F", device="cpu"),
]


@modes
@pytest.mark.parametrize("i", range(len(DONE)))
def test_options_that_numpy_resolves(mode: str, i: int) -> None:
    same(MODES[mode](DONE[i])(X, N), DONE[i](X, N))


NUMPY_REFUSES: list[Callable[[Any, Any], Any]] = [
    lambda x, n: np.add(x, x, dtype=np.int64),
    lambda x, n: np.add(x, x, dtype=np.float32, casting="safe"),
    lambda x, n: np.add(x, n, casting="no"),
    lambda x, n: np.add(x, n, casting="sometimes"),
    lambda x, n: np.bitwise_and(x, n, casting="safe"),
    lambda x, n: np.sin(x, signature="ll->l"),
    lambda x, n: np.concatenate([x, n], dtype=np.int64),
    lambda x, n: np.stack([x, n], casting="no"),
    lambda x, n: np.hstack([x, n], dtype=np.float32, casting="safe"),
    lambda x, n: np.einsum("ij->i", x, dtype=np.float32),
    lambda x, n: x.astype(np.int64, casting="safe"),
]


@modes
@pytest.mark.parametrize("i", range(len(NUMPY_REFUSES)))
def test_casts_that_numpy_refuses(mode: str, i: int) -> None:
    function = NUMPY_REFUSES[i]
    with pytest.raises((TypeError, ValueError)):
        function(X, N)
    with pytest.raises((errors.OperandTypeError, errors.ShapeError), match=r"test_options.py:\d+"):
        MODES[mode](function)(X, N)


OURS_REFUSE: list[Callable[[Any], Any]] = [
    lambda x: np.exp(x, where=x > 0),
    lambda x: np.exp(x, where=X > 0),
    lambda x: np.exp(X, where=x > 0),
    lambda x: np.add(x, x, order="F"),
    lambda x: np.multiply.outer(x, x, where=False),
    lambda x: np.copy(x, order="F"),
    lambda x: x.copy("F"),
    lambda x: x.astype(np.float32, order="F"),
    lambda x: fnp.array(x, order="F"),
    lambda x: fnp.asarray([x, x], order="F"),
    lambda x: fnp.full((2,), x[0, 0], order="F"),
    lambda x: np.einsum("ij->i", x, order="F"),
    lambda x: np.clip(x, 0, 1, dtype=np.float32),
    lambda x: x.clip(0, 1, where=False),
    lambda x: np.matmul(x, x, axes=[(0, 1), (1, 0), (0, 1)]),
    lambda x: fnp.sort(x, order="name"),
    lambda x: np.logaddexp.reduce(x, initial=0.0),
    lambda x: np.logical_or.reduce(x, initial=True),
    lambda x: np.subtract.reduce(x),
    lambda x: np.add.reduceat(x, [0, 1]),
]


@modes
@pytest.mark.parametrize("i", range(len(OURS_REFUSE)))
def test_options_without_a_meaning_for_tracers(mode: str, i: int) -> None:
    with pytest.raises(errors.UnsupportedFunctionError, match=r"test_options.py:\d+"):
        MODES[mode](OURS_REFUSE[i])(X)
