"""`funcgrad.numpy`: NumPy's names, for arrays, tracers, and lists that hold tracers."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.numpy.protocol import FUNCTIONS


def test_names_are_numpys():
    for name in dir(fnp):
        assert hasattr(np, name), name
    assert {"sin", "sum", "array", "linalg", "float32", "pi", "arange", "where"} <= set(dir(fnp))
    assert not {"load", "isnat", "unwrap"} & set(dir(fnp))


def test_constants_and_types_are_numpys():
    assert fnp.pi == np.pi
    assert fnp.newaxis is None
    assert fnp.float32 is np.float32
    assert fnp.dtype is np.dtype


def test_without_tracers_it_is_numpy():
    x = np.array([3.0, 1.0, 2.0])
    assert fnp.sum(x) == 6.0
    assert fnp.sin(0.5) == np.sin(0.5)
    assert fnp.unwrap([0.0, 7.0]).shape == (2,)
    assert fnp.add.reduce([1, 2]) == 3
    assert fnp.add.nin == 2
    assert fnp.array([1, 2], dtype=np.int8).dtype == np.int8
    assert fnp.linalg.det(np.eye(2)) == 1.0
    out = np.zeros(())
    assert fnp.sum(x, out=out) is out
    a = fnp.asarray(x)
    assert a is x
    assert fnp.array(x) is not x


def test_lists_with_tracers():
    def f(x):
        total = fnp.sum([x, 2 * x, [x, 1.0][0]]) + fnp.max((x, 0.0)) + fnp.sin([x, x])[1]
        total = total + fnp.add.reduce([x, x]) + fnp.linalg.norm([3 * x, 4 * x])
        total = total + fnp.concatenate([[x], [[x][0]]])[0] + fnp.full((2,), x)[1]
        return (
            total
            + fnp.array([[x, 2.0], [0.0, x]])[1, 1]
            + fnp.asarray(x)
            + fnp.where(True, x, [x])[0]
        )

    np.testing.assert_allclose(fg.grad(f)(0.5), 4 + 1 + np.cos(0.5) + 2 + 5 + 1 + 1 + 1 + 1 + 1)
    np.testing.assert_allclose(fg.jit(f)(0.5), f(0.5))


def test_array_of_tracers():
    def f(x):
        a = fnp.array([[x, 1], [2, x]], dtype=np.float32, ndmin=3)
        assert (a.shape, a.dtype) == ((1, 2, 2), np.float32)
        b = fnp.array([x, np.float32(2)])
        assert b.dtype == np.array([1.0, np.float32(2)]).dtype
        assert fnp.array(x).shape == ()
        assert fnp.array([[], []]).shape == (2, 0)
        assert fnp.array((fnp.ones(2) * x, [1, 2])).shape == (2, 2)
        return fnp.sum(a) + fnp.sum(b)

    assert fg.grad(f)(1.0) == 3.0


def test_every_covered_function_dispatches():
    # What NEP 18 cannot reach through np. must be reachable through fnp.
    reachable = {getattr(np, n) for n in dir(np) if callable(getattr(np, n))}
    reachable |= {getattr(np.linalg, n) for n in dir(np.linalg) if callable(getattr(np.linalg, n))}
    reachable |= {np.lib.stride_tricks.sliding_window_view}
    assert set(FUNCTIONS) <= reachable


def test_submodules():
    assert "norm" in dir(fnp.linalg)
    assert "norm" in repr(fnp.linalg.norm)
    assert fg.jit(lambda x: fnp.linalg.norm(x))(np.array([3.0, 4.0])) == 5.0


def test_array_namespace():
    def f(x):
        xp = x.__array_namespace__(api_version="2023.12")
        assert xp is fnp
        return xp.sum(xp.exp(x)) + xp.permute_dims(x[None], (1, 0))[0, 0] + xp.concat([x, x])[0]

    np.testing.assert_allclose(fg.grad(f)(np.zeros(2)), [3.0, 1.0])


def test_unknown_names():
    with pytest.raises(AttributeError, match="nor has numpy"):
        fnp.sine  # noqa: B018
    with pytest.raises(ImportError):
        exec("from funcgrad.numpy import sine")


def test_unsupported_functions_say_so():
    with pytest.raises(
        fg.errors.UnsupportedFunctionError, match=r"(?s)np\.unwrap.*test_numpy_namespace"
    ):
        fg.grad(lambda x: np.sum(fnp.unwrap(x)))(np.ones(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.array([x, x]),
        lambda x: np.asarray(x),
        lambda x: np.zeros(3)[x],
        lambda x: np.float32(x),
        lambda x: np.full(3, x),
        lambda x: np.array([[x, 1.0]]),
    ],
)
def test_what_numpy_cannot_dispatch_names_the_way_out(f):
    with pytest.raises(fg.errors.TracerArrayError, match=r"fnp\.|np\."):
        fg.grad(lambda x: np.sum(f(x)))(1.0)


def test_attributes_and_methods_of_an_array():
    """What an ndarray has, a tracer has, or it refuses with a reason."""
    array = np.empty((1, 1))
    # NumPy 2.0 still lists what it has no longer.
    public = {name for name in dir(array) if not name.startswith("_") and hasattr(array, name)}
    missing = public - set(dir(fg.core.tracer.Tracer))
    # Memory, bytes and files: a tracer has none.
    of_memory = """
        base byteswap ctypes data device dump dumps flags flat getfield resize setfield setflags
        strides to_device tobytes tofile tostring view
    """
    assert missing <= set(of_memory.split())
