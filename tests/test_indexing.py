"""Indexing, taking and functional updates: NumPy's layouts, derivatives, bad indices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as fnp
from _surface import assert_same, check
from _versions import since
from funcgrad.errors import (
    IndexRangeError,
    InPlaceError,
    OperandTypeError,
    ShapeError,
    TracerArrayError,
    TracerValueError,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4, 5))
M = RNG.standard_normal((3, 4))
V = RNG.standard_normal(6)
TRANSFORMS = [fg.jit, lambda f: lambda *xs: fg.vjp(f, *xs)]


# --- every form of index, at random ---------------------------------------------------


@st.composite
def arrays_and_keys(draw):
    """An array and a key: integers, slices, None, an ellipsis, index arrays, masks, mixed."""
    shape = draw(st.lists(st.integers(0, 3), max_size=4).map(tuple))
    block = draw(st.lists(st.integers(1, 3), max_size=2))
    bound = st.none() | st.integers(-4, 4)
    key: list = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 9)):
        n = shape[axis]
        kind = draw(st.sampled_from("integer slice new array mask".split()))
        if kind == "new":
            key.append(None)
            continue
        axis += 1
        if kind == "slice" or n == 0:
            step = draw(st.sampled_from([None, 1, 2, -1, -2]))
            key.append(slice(draw(bound), draw(bound), step))
        elif kind == "integer":
            key.append(draw(st.integers(-n, n - 1)))
        elif kind == "array":
            part = [draw(st.sampled_from([m, 1])) for m in block]
            flat = draw(st.lists(st.integers(-n, n - 1), min_size=9, max_size=9))
            key.append(np.array(flat[: int(np.prod(part))]).reshape(part))
        else:
            key.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
    if draw(st.booleans()):
        key.insert(draw(st.integers(0, len(key))), Ellipsis)
    size = int(np.prod(shape))
    return np.arange(size, dtype=float).reshape(shape) + 1, tuple(key)


def _numpy_result(f):
    try:
        return f()
    except IndexError:
        return None


@given(arrays_and_keys())
def test_any_index_reads_as_numpy(case):
    x, key = case
    expected = _numpy_result(lambda: x[key])
    if expected is None:
        for transform in TRANSFORMS:
            with pytest.raises(IndexRangeError):
                transform(lambda x: x[key])(x)
        return
    assert_same(fg.jit(lambda x: x[key])(x), expected)
    value, pull = fg.vjp(lambda x: x[key], x)
    assert_same(value, expected)
    weights = np.arange(np.size(expected)).reshape(np.shape(expected)) + 1.0
    gradient = np.zeros_like(x)
    np.add.at(gradient, key, weights)
    np.testing.assert_allclose(pull(weights)[0], gradient)
    batch = np.stack([x, -x, x * x])
    assert_same(fg.vmap(lambda x: x[key])(batch), np.stack([b[key] for b in batch]))


_IN_PLACE = {
    "set": lambda x, key, v: x.__setitem__(key, v),
    "add": np.add.at,
    "subtract": np.subtract.at,
    "multiply": np.multiply.at,
    "divide": np.divide.at,
    "min": np.minimum.at,
    "max": np.maximum.at,
}


@given(arrays_and_keys(), st.sampled_from(sorted(_IN_PLACE)), st.booleans())
def test_any_index_writes_as_numpy(case, name, whole):
    x, key = case
    part = _numpy_result(lambda: x[key])
    assume(part is not None)
    v = np.asarray(np.sqrt(2 + np.arange(np.size(part))).reshape(np.shape(part)) if whole else 2.5)
    write = lambda x, v: getattr(fg.at(x)[key], name)(v)  # noqa: E731

    def numpy_write(x, v):
        out = np.array(x)
        _IN_PLACE[name](out, key, v)
        return out

    expected, before = numpy_write(x, v), x.copy()
    assert_same(np.asarray(write(x, v)), expected)
    np.testing.assert_array_equal(x, before)
    assert_same(np.asarray(fg.jit(write)(x, v)), expected)
    value, pull = fg.vjp(write, x, v)
    assert_same(np.asarray(value), expected)
    rng = np.random.default_rng(0)
    w, dx, dv = (rng.standard_normal(np.shape(a)) for a in (x, x, v))
    slope = (
        numpy_write(x + 1e-6 * dx, v + 1e-6 * dv) - numpy_write(x - 1e-6 * dx, v - 1e-6 * dv)
    ) / 2e-6
    cx, cv = pull(w)
    np.testing.assert_allclose(np.sum(cx * dx) + np.sum(cv * dv), np.sum(w * slope), atol=1e-5)
    tangent = fg.jvp(write, (x, v), (dx, dv))[1]
    np.testing.assert_allclose(tangent, slope, atol=1e-5)


# --- reading --------------------------------------------------------------------------

I = np.array([2, 0, -1])  # noqa: E741
READ = {
    "integer": (lambda x: x[1], A),
    "negative integer": (lambda x: x[-1, 2], A),
    "all integers": (lambda x: x[1, 2, 3], A),
    "slice": (lambda x: x[1:, ::-2], A),
    "ellipsis": (lambda x: x[..., 1], A),
    "new axes": (lambda x: x[None, :, None, 1, ..., None], A),
    "index array": (lambda x: x[I], A),
    "list": (lambda x: x[:, [0, 0, 3]], A),
    "two index arrays": (lambda x: x[I, I + 1], A),
    "apart": (lambda x: x[I, :, I], A),
    "apart by an integer's slice": (lambda x: x[0, :, I], A),
    "broadcasting": (lambda x: x[I[:, None], I], A),
    "mixed": (lambda x: x[1:, None, I, 1], A),
    "mask": (lambda x: x[np.array([True, False, True])], A),
    "mask of two axes": (lambda x: x[M > 0], A),
    "mask and integers": (lambda x: x[np.array([True, False, True]), 1:3, 2], A),
    "empty": (lambda x: x[[]], A),
    "iteration": (lambda x: [row * 2 for row in x], M),
    "take": (lambda x: np.take(x, [0, 5, -1]), A),
    "take along": (lambda x: np.take(x, [[0, 3], [1, 1]], axis=1), A),
    "take one": (lambda x: x.take(2, axis=-1), A),
    "take, clipped": (lambda x: np.take(x, [-9, 1, 9], axis=0, mode="clip"), A),
    "take, wrapped": (lambda x: np.take(x, [-9, 1, 9], axis=0, mode="wrap"), A),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.argsort(M, axis=1), axis=1), M),
    "take_along_axis, broadcasting": (lambda x: np.take_along_axis(x, np.array([[1, 0]]), 1), M),
    "take_along_axis, flat": (lambda x: np.take_along_axis(x, np.array([5, 0, 5]), None), M),
    "choose": (lambda x: np.choose(np.array([0, 2, 1, 0]), x), M),
    "choose, wrapped": (lambda x: np.choose(np.array([-1, 5, 1, 0]), list(x), mode="wrap"), M),
    "compress": (lambda x: np.compress([True, False, True], x, axis=0), M),
    "compress method": (lambda x: x.compress([True, False, True]), M),
    "extract": (lambda x: np.extract(M > 0, x), M),
    "delete": (lambda x: np.delete(x, [0, -1], axis=1), M),
    "delete a slice": (lambda x: np.delete(x, slice(1, 4)), M),
    "insert": (lambda x: np.insert(x, 1, x[0] * 2, axis=0), M),
    "insert a number": (lambda x: np.insert(x, 2, 7.0, axis=1), M),
    "insert at several": (lambda x: np.insert(x, [0, 2], x[:, :2], axis=1), M),
    "insert at a slice": (lambda x: np.insert(x, slice(0, 4, 2), 1.5), V),
    # Before, a mask was taken for integers there, with a warning.
    **since("2.2.0", {"insert at a mask": (lambda x: np.insert(x, V > 0, 1.5), V)}),
}


@pytest.mark.parametrize("name", READ)
def test_reading(name):
    f, x = READ[name]
    check(f, x, order=1)


WRITE = {
    "set": lambda x, v: fg.at(x)[1].set(v),
    "set at an array": lambda x, v: fg.at(x)[np.array([0, 2])].set(v),
    "set where named twice": lambda x, v: fg.at(x)[np.array([1, 1, 0])].set(v),
    "set in a region": lambda x, v: fg.at(x)[1:, np.array([3, 1, 0, 2])].set(v),
    "set all": lambda x, v: fg.at(x)[...].set(v),
    "add": lambda x, v: fg.at(x)[I, 1:3].add(v[1:3]),
    "subtract": lambda x, v: fg.at(x)[:, I].subtract(v[:3]),
    "mul": lambda x, v: fg.at(x)[np.array([0, 0, 1])].mul(v),
    "mul by zeros": lambda x, v: fg.at(x)[np.array([0, 0, 1])].mul(v * np.array([0, 1, 1, 0])),
    "divide": lambda x, v: fg.at(x)[np.array([0, 0, 1])].divide(2 + v * v),
    "power": lambda x, v: fg.at(x * x + 1)[1:].power(v),
    "min": lambda x, v: fg.at(x)[np.array([0, 0, 1])].min(v),
    "max": lambda x, v: fg.at(x)[:2].max(v),
    "apply": lambda x, v: fg.at(x)[I, I].apply(np.sin) * v,
    "get": lambda x, v: fg.at(x)[I].get() * v,
}


@pytest.mark.parametrize("name", WRITE)
def test_writing(name):
    check(WRITE[name], M, V[:4])


def test_the_last_of_several_values_stays_and_is_derived():
    write = lambda v: fg.at(np.zeros(3))[np.array([1, 1, 0])].set(v)  # noqa: E731
    v = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(write(v), [3.0, 2.0, 0.0])
    np.testing.assert_array_equal(
        fg.jacrev(write)(v), [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    )
    np.testing.assert_array_equal(fg.jacfwd(write)(v), fg.jacrev(write)(v))


@pytest.mark.parametrize("name", ["min", "max"])
def test_equals_share_the_derivative(name):
    write = lambda x, v: getattr(fg.at(x)[np.array([0, 0])], name)(v)  # noqa: E731
    _, pull = fg.vjp(write, np.array([1.0, 5.0]), np.array([1.0, 1.0]))
    dx, dv = pull(np.array([3.0, 1.0]))
    np.testing.assert_allclose(dx, [1.0, 1.0])
    np.testing.assert_allclose(dv, [1.0, 1.0])


def test_a_product_with_zeros_has_its_derivatives():
    times = lambda v: fg.at(np.ones(1))[np.zeros(3, int)].mul(v)[0]  # noqa: E731
    np.testing.assert_allclose(fg.grad(times)(np.array([2.0, 0.0, 3.0])), [0.0, 6.0, 0.0])
    np.testing.assert_allclose(fg.grad(times)(np.array([0.0, 0.0, 3.0])), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(
        fg.hessian(times)(np.array([0.0, 0.0, 3.0])), [[0, 3, 0], [3, 0, 0], [0, 0, 0]]
    )


# --- indices that are traced ----------------------------------------------------------


@pytest.mark.parametrize("i", [1, -1, np.array(2), I, np.array([[0], [1]]), np.uint64(1)])
def test_traced_indices(i):
    for f in (lambda x, i: x[i], lambda x, i: x[:, i], lambda x, i: x[i, :, 0]):
        assert_same(fg.jit(f)(A, i), f(A, i))
        assert_same(fg.vjp(f, A, i)[0], f(A, i))
        gradient = fg.jit(fg.grad(lambda x, i: np.sum(f(x, i) ** 2)))(A, i)  # noqa: B023
        np.testing.assert_allclose(gradient, fg.grad(lambda x: np.sum(f(x, i) ** 2))(A))  # noqa: B023


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (2, 1)])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, i: x[i],
        lambda x, i: x[:, i],
        lambda x, i: x[i, 0],
        lambda x, i: x[i[0], :],
        lambda x, i: x[i[0], i[1]],
        lambda x, i: fg.at(x)[:, i].add(1.0),
        lambda x, i: fg.at(x)[i, i].set(2.0),
        lambda x, i: fg.at(x)[i].mul(i[:, None] + 0.5),
        lambda x, i: fg.at(x)[0, i].min(0.0),
        lambda x, i: fg.grad(lambda x: np.sum(np.sin(x[i, :])))(x),
    ],
)
def test_batches_of_arrays_and_indices(f, in_axes):
    x, i = RNG.standard_normal((3, 3, 3)), np.array([[0, 2, 1], [1, 1, 0], [2, 0, 0]])
    loop = [
        f(
            *(
                a if axis is None else np.take(a, k, axis)
                for a, axis in zip((x, i), in_axes, strict=True)
            )
        )
        for k in range(3)
    ]
    whole = [a[0] if axis is None else a for a, axis in zip((x, i), in_axes, strict=True)]
    loop = [
        f(
            *(
                a if axis is None else np.take(a, k, axis)
                for a, axis in zip(whole, in_axes, strict=True)
            )
        )
        for k in range(3)
    ]
    np.testing.assert_allclose(fg.vmap(f, in_axes=in_axes)(*whole), np.stack(loop))


def test_a_loop_over_traced_positions():
    def total(x):
        return fg.fori_loop(0, 3, lambda i, s: s + x[i] ** 2 * x[i, 0], np.zeros(4))

    np.testing.assert_allclose(fg.jit(total)(M), np.sum(M**2 * M[:, :1], axis=0))
    slopes = fg.grad(lambda x: np.sum(total(x)))(M)
    expected = fg.grad(lambda x: np.sum(x**2 * x[:, :1]))(M)
    np.testing.assert_allclose(slopes, expected)


def test_masks_whose_values_ride_along():
    np.testing.assert_array_equal(
        fg.grad(lambda x: np.sum(x[x > 0] ** 2))(V), np.where(V > 0, 2 * V, 0)
    )
    np.testing.assert_array_equal(
        fg.grad(lambda x: np.sum(fg.at(x)[x > 0].set(0.0) ** 2))(V), np.where(V > 0, 0, 2 * V)
    )


def test_unknown_masks_choose_between_old_and_new():
    write = fg.jit(lambda x, m: (fg.at(x)[m].set(0.0), fg.at(x)[m].add(2.0)))
    assert_same(write(A, M > 0), (np.where((M > 0)[..., None], 0, A), A + 2.0 * (M > 0)[..., None]))


def test_unknown_masks_cannot_select():
    for f in (lambda x: x[x > 0], lambda x: fg.at(x)[x > 0].set(np.ones(2))):
        with pytest.raises(TracerValueError, match=r"(?s)np.where\(mask, x, 0\).*test_indexing"):
            fg.jit(f)(V)
    for f in (np.nonzero, np.flatnonzero, np.argwhere, lambda x: np.compress(x > 0, x)):
        with pytest.raises(TracerValueError):
            fg.jit(f)(V)
        assert_same(fg.vjp(f, V)[0], f(V))


def test_slices_with_traced_bounds_need_their_values():
    window = lambda x, k: x[k : k + 2]  # noqa: E731
    assert_same(fg.vjp(window, V, 1)[0], V[1:3])
    with pytest.raises(TracerValueError):
        fg.jit(window)(V, 1)
    moving = lambda x, k: np.take(x, k + np.arange(2))  # noqa: E731
    assert_same(fg.jit(moving)(V, 1), V[1:3])


def test_plain_arrays_by_traced_indices():
    table = np.arange(5.0)
    for read in (lambda i: fg.at(table)[i].get(), lambda i: fnp.take(table, i)):
        assert_same(fg.jit(read)(I), table[I])
        assert_same(fg.vjp(read, I)[0], table[I])
    # A number goes through __index__, which gives the very number.
    assert fg.vjp(lambda i: table[i], 3)[0] == 3.0
    for i in (I, I[:1]):
        assert_same(fg.vjp(lambda i: table[i], i)[0], table[i])
    for i in (I, 3):
        with pytest.raises(TracerArrayError, match=r"fg.at\(a\)\[t\].get\(\)"):
            fg.jit(lambda i: table[i])(i)


# --- programs -------------------------------------------------------------------------


def equations(f, *args):
    return [eqn.prim.name for eqn in fg.make_graph(f)(*args).check().eqns]


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: x[:], []),
        (lambda x: x[...], []),
        (lambda x: x[1:3, 0], ["index"]),
        (lambda x: x[:, None], ["reshape"]),
        (lambda x: x[I], ["gather"]),
        (lambda x: x[:, I, 0], ["index", "gather"]),
        (lambda x: fg.at(x)[0].set(1.0), ["broadcast_to", "index_set"]),
        (lambda x: fg.at(x)[I].add(x[I]), ["gather", "scatter_add"]),
    ],
)
def test_equations(f, expected):
    # What has no traced operand is computed while tracing.
    assert [name for name in equations(f, A) if name != "broadcast_to"] == [
        name for name in expected if name != "broadcast_to"
    ]


def test_generated_source_reads_like_numpy():
    f = fg.jit(lambda x, i: (x[i], x[:, i], x[i, i], x[1:, ::2]), backend="numpy")
    text = f.lower(M, I).text
    for piece in (".take(i, 0)", ".take(i, 1)", "x[i, i]", "x[1:, ::2]"):
        assert piece in text


def test_float32_stays():
    x = A.astype(np.float32)
    f = lambda x: np.sum(fg.at(x)[I].mul(2.0)[:, I] * fg.at(x)[I, I].add(1)[:, I])  # noqa: E731
    assert fg.grad(f)(x).dtype == fg.jit(fg.grad(f))(x).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.complex64, bool])
def test_other_dtypes(dtype):
    x = (A > 0).astype(dtype)
    for f in (
        lambda x: x[I, :, 1:],
        lambda x: fg.at(x)[I].set(x[0]),
        lambda x: fg.at(x)[0].set(True),
    ):
        assert_same(fg.jit(f)(x), f(x))


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x[3], r"index 3 is out of range for axis 0 of shape \(3, 4, 5\)"),
        (lambda x: x[0, -5], r"index -5 is out of range for axis 1 of shape \(3, 4, 5\)"),
        (lambda x: x[:, [0, 4]], "4.*out of"),
        (lambda x: np.take(x, [60]), "60.*out of"),
        (lambda x: fg.at(x)[np.array([0, -4])].add(1.0), "-4.*out of"),
        (lambda x: x[0, 0, 0, 0], r"too many indices: 4 for an array of shape \(3, 4, 5\)"),
        (lambda x: x[..., 0, ...], "only one ellipsis"),
        (lambda x: x[1.0], "float64"),
        (lambda x: x["a"], "an index must be integers"),
        (lambda x: x[x[0, 0]], "an index must be integer or boolean"),
        (lambda x: x[[0, 1], [0, 1, 2]], r"\(2,\), \(3,\).*do not broadcast"),
        (lambda x: x[np.array([True, False])], "a mask is 2 long for axis 0 of shape"),
        (lambda x: x[np.ones((3, 5), bool)], "a mask is 5 long for axis 1 of shape"),
        (lambda x: x[True], r"x\[None\]"),
    ],
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_bad_indices(transform, f, message):
    with pytest.raises(IndexRangeError, match=rf"(?s){message}"):
        transform(f)(A)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_values_that_do_not_fit(transform):
    for f, shapes in [
        (lambda x: fg.at(x)[0].set(np.ones(3)), r"\(3,\) do not broadcast to .* \(4, 5\)"),
        (lambda x: fg.at(x)[I].add(np.ones((2, 4, 5))), r"\(2, 4, 5\).*\(3, 4, 5\)"),
    ]:
        with pytest.raises(ShapeError, match=rf"(?s){shapes}.*f64\[3,4,5\].*test_indexing"):
            transform(f)(A)
    for f in (
        lambda x: fg.at(x.astype(int))[0].set(1.5),
        lambda x: fg.at(x)[0].set(1j),
        lambda x: fg.at(x.astype(int))[0].divide(2),
    ):
        with pytest.raises(OperandTypeError, match="would lose part of them"):
            transform(f)(A)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.__setitem__(0, 1.0),
        lambda x: fg.at(x).__setitem__(0, 1.0),
        lambda x: np.put(x, 0, 1.0),
        lambda x: np.copyto(np.zeros(6), x),
        lambda x: np.place(x, V > 0, 0.0),
        lambda x: np.put_along_axis(x, np.array([0]), 1.0, 0),
        lambda x: np.fill_diagonal(x, 1.0),
        lambda x: x.fill(1.0),
        lambda x: x.put(0, 1.0),
    ],
)
def test_writing_in_place(write):
    with pytest.raises(InPlaceError, match=r"fg.at\(x\)\[i\].set\(v\)"):
        fg.grad(lambda x: write(x) or np.sum(x))(V)


def test_take_along_axis_of_other_rank():
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3, 4\)"):
        fg.jit(lambda x: np.take_along_axis(x, np.array([0, 1]), 0))(M)
    with pytest.raises(IndexRangeError, match="float64"):
        fg.jit(lambda x: np.take_along_axis(x, x, 0))(M)
    with pytest.raises(ValueError, match="'raise', 'wrap' or 'clip'"):
        fg.jit(lambda x: np.take(x, [0], mode="skip"))(M)
