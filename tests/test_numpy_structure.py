"""Shapes, order, joining, splitting, padding and diagonals through np. on tracers."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from _surface import check
from _versions import since

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((3, 4))
SQUARE = RNG.standard_normal((4, 4))
V = RNG.standard_normal(5)

ONE_ARRAY = {
    "reshape": (lambda x: np.reshape(x, (4, -1)), A),
    "reshape to a vector": (lambda x: np.reshape(x, -1), A),
    "reshape, Fortran": (lambda x: np.reshape(x, (4, 6), order="F"), A),
    "reshape method": (lambda x: x.reshape(4, 6).reshape((6, 4)).reshape([2, -1], order="F"), A),
    "transpose": (lambda x: np.transpose(x, (1, -1, 0)), A),
    "transpose method": (lambda x: x.transpose(2, 0, 1).transpose().transpose((0, 2, 1)), A),
    "T": (lambda x: x.T, A),
    "mT": (lambda x: x.mT, A),
    "matrix_transpose": (lambda x: np.matrix_transpose(x), A),
    "permute_dims": (lambda x: np.permute_dims(x, (2, 1, 0)), A),
    "swapaxes": (lambda x: np.swapaxes(x, 0, -1), A),
    "swapaxes method": (lambda x: x.swapaxes(1, 2), A),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1), A),
    "moveaxis of two": (lambda x: np.moveaxis(x, (0, 2), (1, 0)), A),
    "rollaxis": (lambda x: (np.rollaxis(x, 2), np.rollaxis(x, 0, 3), np.rollaxis(x, 1, 2)), A),
    "ravel": (lambda x: np.ravel(x), A),
    "ravel, Fortran": (lambda x: x.ravel("F"), A),
    "flatten": (lambda x: x.flatten(), A),
    "squeeze": (lambda x: np.squeeze(x), A[:1, :, :1]),
    "squeeze one": (lambda x: x.squeeze(axis=-1), A[:1, :, :1]),
    "squeeze two": (lambda x: np.squeeze(x, axis=(0, 2)), A[:1, :, :1]),
    "expand_dims": (lambda x: np.expand_dims(x, 1), M),
    "expand_dims twice": (lambda x: np.expand_dims(x, (0, -1)), M),
    "atleast_1d": (lambda x: np.atleast_1d(np.sum(x), x), M),
    "atleast_2d": (lambda x: np.atleast_2d(x[0], x[0, 0], x), M),
    "atleast_3d": (lambda x: np.atleast_3d(x[0], x, np.sum(x)), M),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), M),
    "broadcast_arrays": (lambda x: np.broadcast_arrays(x, x[0], 1.0), M),
    "split": (lambda x: np.split(x, 2), A),
    "split at": (lambda x: np.split(x, [1, 2, 9], axis=1), A),
    "split at the end": (lambda x: np.split(x, [-1], axis=-1), A),
    "array_split": (lambda x: np.array_split(x, 3, axis=2), A),
    "hsplit": (lambda x: np.hsplit(x, 2), M),
    "hsplit of a vector": (lambda x: np.hsplit(x, [2]), V),
    "vsplit": (lambda x: np.vsplit(x, [1]), M),
    "dsplit": (lambda x: np.dsplit(x, 2), A),
    "tile": (lambda x: np.tile(x, 3), M),
    "tile more": (lambda x: np.tile(x, (2, 1, 2)), M),
    "tile less": (lambda x: np.tile(x, (2, 2)), A),
    "repeat": (lambda x: np.repeat(x, 2), M),
    "repeat along": (lambda x: x.repeat(3, axis=1), M),
    "repeat unevenly": (lambda x: np.repeat(x, [0, 2, 1], axis=0), M),
    "flip": (lambda x: np.flip(x), A),
    "flip two": (lambda x: np.flip(x, (0, -1)), A),
    "fliplr": (lambda x: np.fliplr(x), M),
    "flipud": (lambda x: np.flipud(x), M),
    "rot90": (lambda x: [np.rot90(x, k) for k in range(-1, 4)], M),
    "rot90 of a plane": (lambda x: np.rot90(x, axes=(2, 0)), A),
    "roll": (lambda x: np.roll(x, 5), M),
    "roll along": (lambda x: np.roll(x, -1, axis=1), M),
    "roll two": (lambda x: np.roll(x, (1, 2), axis=(0, 1)), M),
    "roll two by the same": (lambda x: np.roll(x, 3, axis=(0, -1)), M),
    "pad": (lambda x: np.pad(x, 1), M),
    "pad unevenly": (lambda x: np.pad(x, ((1, 0), (0, 2))), M),
    "pad with values": (lambda x: np.pad(x, ((1, 2), (0, 2)), constant_values=((1, 2), (3, 4))), M),
    **since("2.4.0", {"pad by a dict": (lambda x: np.pad(x, {-1: (1, 2)}), M)}),
    "pad by the edge": (lambda x: np.pad(x, (2, 1), "edge"), M),
    "pad by reflection": (lambda x: np.pad(x, ((2, 2), (3, 1)), mode="reflect"), M),
    "pad by odd reflection": (lambda x: np.pad(x, 5, mode="reflect"), V),
    "pad symmetrically": (lambda x: np.pad(x, ((4, 0), (1, 5)), mode="symmetric"), M),
    "pad around": (lambda x: np.pad(x, 2, mode="wrap"), M),
    "diag of a vector": (lambda x: [np.diag(x, k) for k in (-2, 0, 1)], V),
    "diag of a matrix": (lambda x: [np.diag(x, k) for k in range(-4, 6)], M),
    "diagflat": (lambda x: np.diagflat(x, 1), M),
    "diagonal": (lambda x: np.diagonal(x, 1, 2, 0), A),
    "diagonal method": (lambda x: x.diagonal(axis1=1, axis2=2, offset=-1), A),
    "linalg.diagonal": (lambda x: np.linalg.diagonal(x, offset=1), A),
    "trace": (lambda x: np.trace(x), A),
    "trace method": (lambda x: x.trace(offset=1, axis1=2, axis2=1), A),
    "linalg.trace": (lambda x: np.linalg.trace(x), A),
    "tril": (lambda x: np.tril(x, -1), A),
    "triu": (lambda x: np.triu(x, 1), M),
    "tril of a vector": (lambda x: np.tril(x), V),
    "concatenate with itself": (lambda x: np.concatenate([x, x[:1], np.ones((2, 4))]), M),
    "concatenate flat": (lambda x: np.concatenate((x, x[0]), axis=None), M),
    "append": (lambda x: np.append(x, [[1.0, 2.0, 3.0, 4.0]], axis=0), M),
    "block": (lambda x: np.block([[x, x[:, :1]], [np.zeros((1, 5))]]), M),
    "meshgrid": (lambda x: np.meshgrid(x, x[:2], 1.0), V),
    "meshgrid, sparse": (lambda x: np.meshgrid(x, x[:2], indexing="ij", sparse=True), V),
    "zeros_like": (lambda x: x + np.zeros_like(x) + np.ones_like(x, dtype=np.float32), M),
    "full_like": (lambda x: np.full_like(x, x[0, 0]) + np.full_like(x, 2), M),
    "linspace": (lambda x: np.linspace(x[0], x[1], 4, axis=1), M),
    "linspace, open": (lambda x: np.linspace(x[0, 0], 1.0, 4, endpoint=False, retstep=True), M),
    "copy": (lambda x: np.copy(x).copy() * 2, M),
    "resize by tiling": (lambda x: np.tile(x.ravel(), 2)[:18].reshape(3, 6), M),
}


@pytest.mark.parametrize("name", ONE_ARRAY)
def test_one_array(name):
    f, x = ONE_ARRAY[name]
    check(f, x, order=1)


TWO_ARRAYS = {
    "concatenate": lambda x, y: np.concatenate([x, y, x], axis=1),
    "concat": lambda x, y: np.concat([x, y], axis=0),
    "stack": lambda x, y: np.stack([x, y]),
    "stack last": lambda x, y: np.stack((x, y, x), axis=-1),
    "hstack": lambda x, y: np.hstack([x, y]),
    "hstack of vectors": lambda x, y: np.hstack([x[0], y[:, 0], 1.0]),
    "vstack": lambda x, y: np.vstack([x, y[0]]),
    "dstack": lambda x, y: np.dstack([x, y]),
    "column_stack": lambda x, y: np.column_stack([x, y[:, 0]]),
    "fnp.array": lambda x, y: fnp.array([[x[0, 0], 1.0], [y[0, 0], y[1, 1]]]),
    "fnp.array of rows": lambda x, y: fnp.array([x[0], y[0], [1.0, 2.0, 3.0, 4.0]]),
}


@pytest.mark.parametrize("name", TWO_ARRAYS)
def test_two_arrays(name):
    check(TWO_ARRAYS[name], M, M[::-1] * 0.5, order=1)


@pytest.mark.skipif(not hasattr(np, "unstack"), reason="NumPy 2.1 has unstack")
def test_unstack():
    check(lambda x: np.unstack(x, axis=1), M, order=1)


def test_joining_promotes_as_numpy():
    x = np.ones(2, np.float32)
    for f in (
        lambda x: np.concatenate([x, np.ones(1)]),
        lambda x: np.stack([x, np.ones(2, int)]),
        lambda x: np.hstack([x, 1]),
        lambda x: np.stack([x, np.ones(2, np.float16)], dtype=np.float64),
    ):
        assert fg.jit(f)(x).dtype == fg.vjp(f, x)[0].dtype == f(x).dtype


def test_roll_by_a_traced_shift():
    x = np.arange(5.0)
    np.testing.assert_array_equal(fg.jit(np.roll)(x, 2), np.roll(x, 2))
    np.testing.assert_array_equal(
        fg.vmap(np.roll, in_axes=(None, 0))(x, np.array([1, -7])), [np.roll(x, 1), np.roll(x, -7)]
    )


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.reshape(x, (5, 2)), r"shape \(3, 4\) \(12 elements\) into \(5, 2\)"),
        (lambda x: x.reshape(-1, 5), r"\(3, 4\).*\(-1, 5\)"),
        (lambda x: np.squeeze(x, 0), r"axis=0 of shape \(3, 4\)"),
        (lambda x: np.stack([x, x.T]), r"\(3, 4\), \(4, 3\)"),
        (lambda x: np.concatenate([x, x[0]]), r"\(3, 4\), \(4,\)"),
        (lambda x: np.concatenate([x, x[:, :2]]), r"3, ?4.*3, ?2"),
        (lambda x: np.split(x, 2), r"\(3, 4\) does not split into 2"),
        (lambda x: np.transpose(x, (0, 0)), r"no permutation of the axes of shape \(3, 4\)"),
        (lambda x: np.broadcast_to(x, (3, 5)), r"3, ?4.*3, ?5"),
        (lambda x: fnp.array([x[0], x[:, 0]]), r"\(4,\), \(3,\)"),
        (lambda x: np.diagonal(x[0]), r"shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("transform", [fg.jit, lambda f: lambda x: fg.vjp(f, x)])
def test_shapes_that_do_not_fit(transform, f, message):
    with pytest.raises(fg.errors.ShapeError, match=rf"(?s){message}.*test_numpy_structure"):
        transform(f)(M)


def test_options_without_meaning():
    for f in (lambda x: np.pad(x, 1, mode="mean"), lambda x: np.reshape(x, 12, order="A")):
        with pytest.raises((fg.errors.UnsupportedFunctionError, ValueError)):
            fg.jit(f)(M)
