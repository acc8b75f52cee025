"""Kernels of each kind, run in guarded memory for arrays of many sizes.

`python tests/_guarded_kernels.py` runs the long list of sizes, in a process that ends where an
access goes astray; the last line printed says which kernel that was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import funcgrad as fg
from _guards import Guards
from funcgrad.scipy.special import logsumexp

FLOATS, NUMBERS = ("float64", "float32"), ("float64", "float32", "int64", "int32", "bool")
SIZES = [*range(1, 71), 127, 128, 129, 255, 256, 257, 1023, 1024, 1025]
ROWS = 5


def squares(m: Any) -> list[Any]:
    """The largest square that the elements fill, from the first on, and up to the last."""
    elements, side = m.reshape(-1), math.isqrt(m.size)
    return [e.reshape(side, side) for e in (elements[: side**2], elements[-(side**2) :])]


def turned(m: Any) -> list[Any]:
    """The elements as tables of few columns, across; and of two short axes, backwards."""
    elements = m.reshape(-1)
    tables = [elements[: m.size // k * k].reshape(-1, k).T for k in (5, 7, 12, 20, 31)]
    return [*tables, elements[: m.size // 25 * 25].reshape(-1, 5, 5).T]


def windows(x: Any, m: Any, reduce: Any) -> list[Any]:
    """Of windows at every place, at some, of elements apart; short, long, of all there are."""
    n = x.shape[0]
    few, many = min(3, n), min(40, n)
    found = [sliding_window_view(x, k) for k in (few, many, n)]
    found += [
        found[0][::2],
        found[0][:, ::2],
        found[1][::3, ::-2],
        sliding_window_view(x[::-1], few),
    ]
    found += [sliding_window_view(m, k, 1) for k in (few, many)]
    both = sliding_window_view(m, (2, few))
    flat = [reduce(both, (-2, -1)), reduce(both[::2, ::2], (-2, -1)), reduce(both[..., 1, :], 0)]
    return [reduce(w, -1) for w in found] + flat


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def layer_norm(x: Any) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(np.square(centred), axis=-1, keepdims=True) + 1e-3)


def cross_entropy(x: Any, labels: Any) -> Any:
    return np.mean(logsumexp(x, axis=-1) - x[np.arange(x.shape[0]), labels])


# Of a vector x of n numbers, a matrix m of ROWS by n, and integers i below n, n of them.
ON_NUMBERS: dict[str, Callable[..., Any]] = {
    "compare": lambda x, m, i: (x > 0, np.where(m > x, m, x), x == m),
    "broadcast": lambda x, m, i: (m + x, m * m[:, :1], x[:, None] + m[0, :1]),
    "sums": lambda x, m, i: [np.sum(m, axis=a) for a in (0, 1, None)],
    "extremes": lambda x, m, i: [f(m, axis=a) for a in (0, 1, None) for f in (np.max, np.min)],
    "tests": lambda x, m, i: [f(m, axis=a) for a in (0, 1, None) for f in (np.any, np.all)],
    "positions": lambda x, m, i: (np.argmax(m, axis=1), np.argmin(m, axis=0), np.argmax(x)),
    "flip": lambda x, m, i: (x[::-1], m[:, ::-1], m[::-1], m[::-1, ::-1] + x),
    "steps": lambda x, m, i: (x[::2], x[1::3], m[:, ::2], m[::2, ::-3], x[-1::-2] + x[0]),
    "transpose": lambda x, m, i: (m.T, m.T + x[:, None], m.T.reshape(-1)),
    "squares": lambda x, m, i: [t + s[0] for s in squares(m) for t in (s.T, s.T[::-1])],
    "turned": lambda x, m, i: [t * t for t in turned(m)],
    "some rows": lambda x, m, i: (np.max(m, 1), np.max(m, 1)[:3], np.max(m, 1)[np.arange(3)]),
    "join": lambda x, m, i: (np.concatenate([x, m[0], x[::-1]]), np.stack([x, m[1]], -1)),
    "pad": lambda x, m, i: (np.pad(x, 1), np.pad(m, ((0, 2), (3, 0)))),
    "roll": lambda x, m, i: (np.roll(x, 1), np.roll(m, 2, axis=1)),
    "windows": lambda x, m, i: windows(x, m, np.max),
    "sums of windows": lambda x, m, i: windows(x, m, np.sum),
    "gather": lambda x, m, i: (x[i], m[:, i], m[0][i[::-1]], m[i % ROWS]),
    "convert": lambda x, m, i: [m.astype(d) for d in NUMBERS],
    "set": lambda x, m, i: (fg.at(m)[:, ::2].set(x[0]), fg.at(x)[-1].set(m[0, 0])),
    "scatter": lambda x, m, i: (fg.at(m)[:, i].set(m), fg.at(x)[i].max(m[0])),
    "running": lambda x, m, i: (np.cumsum(m, axis=1), np.cumsum(m, axis=0)),
    "sort": lambda x, m, i: np.sort(m, axis=1),
}
ON_FLOATS: dict[str, Callable[..., Any]] = {
    "functions": lambda x, m, i: (np.sin(x) * 2, np.tanh(m), np.exp(-m * m), np.log1p(m * m)),
    "special": lambda x, m, i: (fg.scipy.special.erf(m), np.arctan2(m, x), np.hypot(x, m)),
    "softmax": lambda x, m, i: (softmax(m, 1), softmax(m, 0), softmax(x, 0)),
    "some of softmax": lambda x, m, i: softmax(m, 1)[np.arange(3), i[:3] if len(x) > 2 else 0],
    "norm": lambda x, m, i: (layer_norm(m), layer_norm(x), layer_norm(m.T)),
    "logsumexp": lambda x, m, i: (logsumexp(m, axis=0), logsumexp(m, axis=1), logsumexp(m)),
    "matmul": lambda x, m, i: (m @ x, m @ m.T, m.T @ m[:, :3], x @ m.T, np.sin(m.T) @ m[:, ::-1]),
    "scatter add": lambda x, m, i: (fg.at(x)[i].add(m[0]), fg.at(m)[:, i].add(x)),
    "gradients": lambda x, m, i: fg.grad(
        lambda x, m: np.sum(softmax(layer_norm(m) * x, 1)[:, i] ** 2), (0, 1)
    )(x, m),
    "cross entropy": lambda x, m, i: fg.value_and_grad(lambda m: cross_entropy(m.T, i % ROWS))(m),
    "gradients of windows": lambda x, m, i: fg.grad(
        lambda x, m: sum(np.sum(s * s) for s in windows(x, m, np.sum)), (0, 1)
    )(x, m),
    "scan": lambda x, m, i: fg.scan(lambda h, r: (np.tanh(h + r), h * r), x, m),
    "scan of numbers": lambda x, m, i: fg.scan(lambda h, e: (0.5 * h + e, h), x[0], x),
    "while": lambda x, m, i: fg.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, np.sin(c[1]) + x), (0, m)
    ),
    "cond": lambda x, m, i: fg.cond(np.sum(x) > 0, np.sin, lambda m: m[::-1] * 2.0, m),
    "vmap": lambda x, m, i: fg.vmap(lambda r: r @ x + np.max(r))(m),
    "together": lambda x, m, i: fg.grad(
        lambda m: np.sum(np.tanh(np.concatenate([m @ m.T, m], 1)) * 0.5)
    )(m),
}


def arguments(n: int, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    x, m = (rng.uniform(-3.0, 3.0, s) for s in ((n,), (ROWS, n)))
    if dtype == "bool":
        x, m = x > 0, m > 0
    return [x.astype(dtype), m.astype(dtype), rng.permutation(n) - (n // 2)]


def check(found: Any, expected: Any, dtype: str) -> None:
    tol = 2e-4 if dtype == "float32" else 1e-9
    for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        f, e = np.asarray(f), np.asarray(e)
        assert (f.shape, f.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(f, e, tol, tol * (1.0 + len(e) if e.ndim else 1.0))


def run(
    sizes: Sequence[int],
    at_end: bool,
    floats: Sequence[str] = FLOATS,
    numbers: Sequence[str] = NUMBERS,
) -> int:
    """How many programs have run, for these dtypes."""
    faulthandler.enable()
    guards = Guards()
    guards.at_end = at_end
    guards.install()
    kinds = ((floats, ON_FLOATS), (numbers, ON_NUMBERS))
    cases = [(*item, d) for dtypes, table in kinds for d in dtypes for item in table.items()]
    count = 0
    for name, function, dtype in cases:
        for n in sizes:
            args = arguments(n, dtype)
            sys.stderr.write(f"\r{name} {dtype} {n}: ")
            with np.errstate(all="ignore"):
                expected = fg.jit(function, backend="numpy")(*args)
            given = [guards.copy(a) for a in args]
            donated = (0, 1, 2) if n % 2 else ()
            compiled = fg.jit(function, backend="llvm", donate_argnums=donated)
            check(compiled(*given), expected, dtype)
            count += 1
    outside(guards)
    return count


def outside(guards: Guards) -> None:
    """Indices that lie far outside are an error before anything is read or written there."""
    x = guards.copy(np.ones((30, 40)))
    functions = [
        lambda x, i: np.sin(x)[i] * 2.0,
        lambda x, i: x[:, i],
        lambda x, i: x[i, i],
        lambda x, i: fg.at(x)[i].add(1.0),
        lambda x, i: fg.at(x)[:, i].set(1.0),
        lambda x, i: fg.scan(lambda c, k: (c + x[k], c[0]), x[0], i),
        lambda x, i: fg.scan(lambda c, k: (c + x[k, 3], c), x[0, 0], i),
        lambda x, i: fg.grad(lambda x: np.sum(x[i] ** 2))(x),
    ]
    for function in functions:
        compiled = fg.jit(function, backend="llvm")
        for n in (3, 70):
            for bad in (40, -41, 2**40, -(2**62), 2**63 - 1):
                index = guards.copy(np.full(n, bad))
                with contextlib.suppress(IndexError):
                    compiled(x, index)
                    raise AssertionError("no error")


if __name__ == "__main__":
    for side in (True, False):
        print(run(SIZES, side), "programs, the closed page", "behind" if side else "before")
