"""What any NumPy function of a float array must do: traced, compiled, derived, vectorised."""

from __future__ import annotations

import warnings

import numpy as np

import _modes
import funcgrad as fg


def leaves(x):
    return fg.tree.leaves(x)


def assert_same(actual, expected, rtol=1e-12, atol=1e-13):
    """Equal values, shapes, dtypes and structure of tuples and lists."""
    a, b = leaves(actual), leaves(expected)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def float_leaves(x):
    return [leaf for leaf in leaves(x) if np.asarray(leaf).dtype.kind in "fc"]


def _direction(args, seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(np.shape(a)) for a in args)


def _moved(args, direction, step):
    return tuple(a + step * d for a, d in zip(args, direction, strict=True))


def _slope(f, args, direction, step=1e-6):
    up, down = (float_leaves(f(*_moved(args, direction, s))) for s in (step, -step))
    return [(u - d) / (2 * step) for u, d in zip(up, down, strict=True)]


def _floats(f):
    """f with its float results alone: what has a derivative."""
    return lambda *args: _only_floats(f(*args))


def _only_floats(out):
    return [leaf for leaf in leaves(out) if leaf.dtype.kind in "fc"]


def check_values(f, *args):
    """f gives the same with values riding along, without, compiled, and in float32."""
    with np.errstate(all="ignore"):
        plain = f(*args)
    assert_same(fg.vjp(f, *args)[0], plain)
    graph = fg.make_graph(f)(*args).check()
    assert [(a.shape, a.dtype) for a in graph.out_avals] == [
        (np.shape(x), np.asarray(x).dtype) for x in leaves(plain)
    ]
    assert_same(fg.jit(f)(*args), plain)
    single = [a.astype(np.float32) for a in args]
    with np.errstate(all="ignore"):
        assert_same(fg.vjp(f, *single)[0], f(*single), rtol=2e-5, atol=1e-5)


def check_derivatives(f, *args, order=2, rtol=1e-5, atol=1e-6):
    """Tangents against finite differences, cotangents against tangents, to second order."""
    f = _floats(f)
    if not f(*args):
        return
    v = _direction(args, 1)
    _, tangents = fg.jvp(f, args, v)
    for t, slope in zip(tangents, _slope(f, args, v), strict=True):
        np.testing.assert_allclose(t, slope, rtol=rtol, atol=atol)
    out, pull = fg.vjp(f, *args)
    w = [np.random.default_rng(2).standard_normal(np.shape(o)) for o in out]
    cotangents = pull(w)
    forward = sum(np.sum(a * b) for a, b in zip(w, tangents, strict=True))
    backward = sum(np.sum(a * b) for a, b in zip(cotangents, v, strict=True))
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-12)
    single = [a.astype(np.float32) for a in args]
    out, pull = fg.vjp(f, *single)
    for ct in pull([x.astype(o.dtype) for x, o in zip(map(np.asarray, w), out, strict=True)]):
        assert ct.dtype == np.float32
    if order > 1:
        check_derivatives(
            lambda *xs: fg.vjp(f, *xs)[1](w), *args, order=order - 1, rtol=10 * rtol, atol=10 * atol
        )


def check_vmap(f, *args, size=3):
    """f over a batch is a loop over it; also with one argument that is not batched."""
    stacked = [np.stack(_batch(a, size, i)) for i, a in enumerate(args)]
    expected = [f(*(s[i] for s in stacked)) for i in range(size)]
    expected = [np.stack(parts) for parts in zip(*map(leaves, expected), strict=True)]
    assert_same(leaves(fg.vmap(f)(*stacked)), expected, rtol=1e-10)
    if len(args) > 1:
        axes = (0,) + (None,) * (len(args) - 1)
        expected = [f(stacked[0][i], *args[1:]) for i in range(size)]
        expected = [np.stack(parts) for parts in zip(*map(leaves, expected), strict=True)]
        assert_same(leaves(fg.vmap(f, in_axes=axes)(stacked[0], *args[1:])), expected, rtol=1e-10)


def _batch(a, size, seed):
    rng = np.random.default_rng(seed + 10)
    return [a, *(rng.permutation(a.ravel()).reshape(a.shape) for _ in range(size - 1))]


def check(f, *args, order=2):
    check_values(f, *args)
    check_derivatives(f, *args, order=order)
    check_vmap(f, *args)


def check_modes(f, *args):
    """f is what it is on plain arrays: with values riding along, batched, compiled; any dtype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _modes.check(lambda xp, *xs: f(*xs), *args)
