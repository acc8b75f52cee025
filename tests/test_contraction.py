"""Products that sum: every shape NumPy takes, its dtypes, and as few equations as can be."""

from __future__ import annotations

import random

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from _surface import assert_same, check, check_values
from funcgrad.errors import OperandTypeError, ShapeError
from funcgrad.transforms.simplify import simplify

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def equations(f, *shapes):
    """The names of the primitives that f records for operands of these shapes."""
    graph = fg.make_graph(f)(*(np.ones(s) for s in shapes)).check()
    return [eqn.prim.name for eqn in graph.eqns]


# --- matmul ---------------------------------------------------------------------------

MATMUL = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (4, 3, 1)),
]


@pytest.mark.parametrize(("a", "b"), MATMUL)
def test_matmul(a, b):
    check(lambda x, y: x @ y, normal(*a), normal(*b))


@pytest.mark.parametrize(("a", "b"), MATMUL)
@pytest.mark.parametrize("axes", [(1, None), (None, -1), (-1, 0)])
def test_matmul_over_any_axis(a, b, axes):
    """vmap with either operand whole, and with the batch anywhere."""
    x, y = normal(*a), normal(*b)
    xs, ys = np.stack([x, 2 * x, -x]), np.stack([y, y + 1, 3 * y])
    expected = np.stack(
        [
            (x if axes[0] is None else p) @ (y if axes[1] is None else q)
            for p, q in zip(xs, ys, strict=True)
        ]
    )
    args = [
        v if axis is None else np.moveaxis(vs, 0, axis)
        for v, vs, axis in zip((x, y), (xs, ys), axes, strict=True)
    ]
    np.testing.assert_allclose(fg.vmap(np.matmul, in_axes=axes)(*args), expected, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0,), (0,))])
def test_products_without_elements(a, b):
    check_values(lambda x, y: x @ y, np.ones(a), np.ones(b))
    dx, dy = fg.grad(lambda x, y: np.sum(x @ y), argnums=(0, 1))(np.ones(a), np.ones(b))
    assert (dx.shape, dy.shape) == (a, b)


@pytest.mark.parametrize("axes", [(0, None), (None, 0)])
@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4))])
def test_a_batch_on_one_side_needs_one_product(axes, shapes):
    full = [s if axis is None else (5, *s) for s, axis in zip(shapes, axes, strict=True)]
    names = equations(fg.vmap(np.matmul, in_axes=axes), *full)
    assert names.count("matmul") == 1
    assert set(names) <= {"matmul", "transpose"}


def test_gradient_of_a_shared_matrix_is_one_product():
    names = equations(fg.grad(lambda w, x: np.sum(x @ w)), (3, 4), (5, 2, 3))
    assert names.count("matmul") == 1


# --- dot and its like -----------------------------------------------------------------

TWO_ARRAYS = {
    "dot": (
        np.dot,
        [*MATMUL[:4], ((2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((), (2, 3)), ((3,), ())],
    ),
    "inner": (np.inner, [((3,), (3,)), ((2, 3), (4, 3)), ((2, 3), (3,)), ((), (3,)), ((), ())]),
    "outer": (np.outer, [((3,), (2,)), ((2, 3), (4,)), ((), (2,))]),
    "linalg.outer": (np.linalg.outer, [((3,), (2,))]),
    "vdot": (np.vdot, [((3,), (3,)), ((2, 3), (3, 2)), ((), ())]),
    "vecdot": (np.vecdot, [((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)), ((4, 1, 3), (2, 3))]),
    "linalg.vecdot": (lambda x, y: np.linalg.vecdot(x, y, axis=0), [((3, 2), (3, 2))]),
    "linalg.matmul": (np.linalg.matmul, [((2, 3), (3, 4))]),
    "tensordot": (np.tensordot, [((5, 2, 3), (2, 3, 4)), ((2, 3), (2, 3))]),
    "tensordot 0": (lambda x, y: np.tensordot(x, y, 0), [((2, 3), (4,)), ((), (2,))]),
    "tensordot 1": (lambda x, y: np.tensordot(x, y, 1), [((2, 3), (3, 4)), ((3,), (3, 2))]),
    "tensordot axes": (
        lambda x, y: np.tensordot(x, y, axes=((0, -1), (1, 0))),
        [((4, 2, 3), (3, 4, 2)), ((4, 3), (3, 4))],
    ),
    "tensordot one axis": (lambda x, y: np.tensordot(x, y, axes=(0, 1)), [((4, 2), (3, 4))]),
    "linalg.tensordot": (lambda x, y: np.linalg.tensordot(x, y, axes=1), [((2, 3), (3, 4))]),
    "method": (lambda x, y: x.dot(y), [((2, 3), (3, 4))]),
}
CASES = [(name, f, *shapes) for name, (f, cases) in TWO_ARRAYS.items() for shapes in cases]


@pytest.mark.parametrize(("name", "f", "a", "b"), CASES)
def test_two_arrays(name, f, a, b):
    check(f, np.asarray(normal(*a)), np.asarray(normal(*b)))


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="NumPy 2.2 has matvec and vecmat")
def test_matrices_and_vectors():
    for a, b in [((2, 3), (3,)), ((4, 2, 3), (3,)), ((4, 2, 3), (4, 3)), ((2, 3), (4, 3))]:
        check(np.matvec, normal(*a), normal(*b))
        check(lambda m, v: np.vecmat(v, np.swapaxes(m, -1, -2)), normal(*a), normal(*b))


@pytest.mark.parametrize("f", [np.vdot, np.vecdot, np.dot, np.inner, np.matmul, np.outer])
def test_complex_numbers(f):
    x, y = normal(3) + 1j * normal(3), normal(3) + 1j * normal(3)
    assert_same(fg.jit(f)(x, y), f(x, y))
    size = lambda x: np.sum(np.abs(f(x, y)) ** 2)  # noqa: E731
    g, step = fg.grad(size)(x), 1e-6
    for direction in (normal(3), 1j * normal(3)):
        slope = (size(x + step * direction) - size(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(np.sum(g * direction).real, slope, rtol=1e-6)


@pytest.mark.parametrize(
    "dtypes", [("i4", "i8"), ("f4", "f8"), ("i2", "f4"), ("?", "?"), ("f4", "c8")]
)
@pytest.mark.parametrize(
    "f", [np.dot, np.inner, np.outer, np.vdot, np.matmul, lambda x, y: np.einsum("i,i->i", x, y)]
)
def test_dtypes_are_numpys(f, dtypes):
    x, y = (np.array([0, 1, 1]).astype(d) for d in dtypes)
    assert_same(fg.jit(f)(x, y), f(x, y))
    assert_same(fg.vjp(f, x, y)[0], f(x, y))


@pytest.mark.parametrize("f", [np.dot, np.inner, np.outer, lambda x, y: np.einsum("i,->i", x, y)])
def test_python_numbers_count_as_arrays(f):
    x = np.ones(3, np.float32)
    assert fg.jit(lambda x: f(x, 2.0))(x).dtype == f(x, 2.0).dtype == np.float64


@pytest.mark.parametrize("f", [np.dot, np.inner, np.vdot, lambda x, y: np.tensordot(x, y, 1)])
def test_plain_products_are_one_equation(f):
    assert equations(f, (3,), (3,)) == ["matmul"]


def test_plain_matrix_products_are_one_equation():
    for f in (np.dot, lambda x, y: np.tensordot(x, y, 1), lambda x, y: np.einsum("ij,jk", x, y)):
        assert equations(f, (2, 3), (3, 4)) == ["matmul"]
    assert equations(lambda x, y: np.einsum("bij,bjk->bik", x, y), (5, 2, 3), (5, 3, 4)) == [
        "matmul"
    ]
    assert equations(lambda x, y: np.einsum("ij,j->i", x, y), (2, 3), (3,)) == ["matmul"]


def test_multi_dot():
    shapes = [(10, 2), (2, 30), (30, 3), (3, 4)]
    arrays = [normal(*s) for s in shapes]
    f = lambda *xs: np.linalg.multi_dot(xs)  # noqa: E731
    assert_same(fg.jit(f)(*arrays), f(*arrays), rtol=1e-10)
    sizes = [e.outs[0].aval.shape for e in fg.make_graph(f)(*arrays).eqns]
    assert sizes == [(2, 3), (2, 4), (10, 4)]
    check(
        lambda x, y: np.linalg.multi_dot([x, y, x]), normal(3), normal(3, 3)[:, :1] @ normal(1, 3)
    )
    with pytest.raises(ShapeError, match="multi_dot needs two or more"):
        fg.jit(lambda x: np.linalg.multi_dot([x]))(normal(2, 2))


# --- einsum ---------------------------------------------------------------------------

EINSUM = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk->ki": [(2, 3), (3, 4)],
    "ji,kj": [(3, 2), (4, 3)],
    "i,i": [(3,), (3,)],
    "i,j->ji": [(3,), (2,)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "ij,ij->i": [(2, 3), (2, 3)],
    "bij,bjk->bik": [(5, 2, 3), (5, 3, 4)],
    "bqhd,bkhd->bhqk": [(2, 3, 2, 4), (2, 5, 2, 4)],
    "ijk,lkj->il": [(2, 3, 4), (5, 4, 3)],
    "...ij,...jk->...ik": [(5, 1, 2, 3), (4, 3, 2)],
    "i...,i...->...": [(3, 2), (3, 1)],
    "...,...": [(2, 1), (3,)],
    "ii,i->i": [(3, 3), (3,)],
    "iij,jjk->ik": [(2, 2, 3), (3, 3, 4)],
    "ij,k->k": [(2, 3), (4,)],
    "ij,jk->ik ": [(2, 1), (3, 4)],
    "i,ij->": [(0,), (0, 2)],
}


@pytest.mark.parametrize("subscripts", EINSUM)
def test_einsum_of_two(subscripts):
    a, b = EINSUM[subscripts]
    check(lambda x, y: np.einsum(subscripts, x, y), normal(*a), normal(*b))


@pytest.mark.parametrize(
    ("subscripts", "shape"),
    [
        ("ii", (3, 3)),
        ("ii->i", (3, 3)),
        ("iii->i", (2, 2, 2)),
        ("ijij->ji", (2, 3, 2, 3)),
        ("ij->", (2, 3)),
        ("ba", (2, 3)),
        ("...i->i...", (2, 3, 4)),
        ("i...i", (3, 2, 3)),
        ("->", ()),
    ],
)
def test_einsum_of_one(subscripts, shape):
    check(lambda x: np.einsum(subscripts, x), np.asarray(normal(*shape)))


@pytest.mark.parametrize("optimize", [False, True, "greedy", "optimal"])
@pytest.mark.parametrize(
    "subscripts", ["ij,jk,kl->il", "ij,jk,ki", "a,ab,abc,cd->d", "ij,kl,ij->l", "i,i,i->i"]
)
def test_einsum_of_many(subscripts, optimize):
    sizes = dict(zip("abcdijkl", (2, 3, 4, 5, 2, 3, 4, 5), strict=True))
    arrays = [normal(*(sizes[c] for c in part)) for part in subscripts.split("->")[0].split(",")]
    f = lambda *xs: np.einsum(subscripts, *xs, optimize=optimize)  # noqa: E731
    assert_same(fg.jit(f)(*arrays), f(*arrays), rtol=1e-10)
    gradients = fg.grad(lambda *xs: np.sum(f(*xs)), argnums=tuple(range(len(arrays))))(*arrays)
    for i, g in enumerate(gradients):
        step = np.zeros_like(arrays[i])
        step.flat[-1] = 1.0
        moved = [a + step if j == i else a for j, a in enumerate(arrays)]
        # The function is linear in each operand, so that the difference is exact.
        np.testing.assert_allclose(g.flat[-1], np.sum(f(*moved)) - np.sum(f(*arrays)), atol=1e-9)


def test_einsum_interleaved():
    f = lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2])  # noqa: E731
    check(f, normal(2, 3), normal(3, 4))
    check(lambda x, y: np.einsum(x, [..., 0], y, [0]), normal(2, 3), normal(3))


def test_einsum_in_a_dtype():
    f = lambda x, y: np.einsum("i,i", x, y, dtype=np.float64)  # noqa: E731
    x = np.ones(3, np.float32)
    assert fg.jit(f)(x, x).dtype == fg.vjp(f, x, x)[0].dtype == np.float64


def test_einsum_takes_lists_that_hold_tracers():
    f = lambda x: fnp.einsum("ij,j", [[x, 1.0], [2.0, x]], [x, x])  # noqa: E731
    np.testing.assert_allclose(fg.jacfwd(f)(3.0), [7.0, 8.0])


def _random_einsum(rng):
    """Subscripts of NumPy's full syntax, and operands for them."""
    sizes = {c: rng.choice([1, 2, 3]) for c in "abcde"}
    lead = [rng.choice([2, 3]) for _ in range(2)]
    parts, arrays = [], []
    for _ in range(rng.randint(1, 4)):
        labels = [rng.choice("abcde") for _ in range(rng.randint(0, 3))]
        shape = [sizes[c] for c in labels]
        part = "".join(labels)
        if rng.random() < 0.3:
            at, count = rng.randint(0, len(labels)), rng.randint(0, 2)
            part = part[:at] + "..." + part[at:]
            shape[at:at] = [n if rng.random() < 0.8 else 1 for n in lead[2 - count :]]
        parts.append(part)
        dtype = rng.choice([np.float64, np.float32, np.int8, np.complex128])
        arrays.append(RNG.integers(-3, 4, shape).astype(dtype))
    subscripts = ",".join(parts)
    if rng.random() < 0.7:
        labels = sorted({c for c in subscripts if c.isalpha()})
        rng.shuffle(labels)
        output = "".join(labels[: rng.randint(0, len(labels))])
        at = rng.randint(0, len(output))
        subscripts += "->" + output[:at] + ("..." if "..." in subscripts else "") + output[at:]
    return subscripts, arrays


def test_einsum_as_numpy_on_random_subscripts():
    rng = random.Random(0)
    for _ in range(300):
        subscripts, arrays = _random_einsum(rng)
        expected = np.einsum(subscripts, *arrays)
        actual = fg.vjp(lambda *xs: np.einsum(subscripts, *xs), *arrays)[0]  # noqa: B023
        assert (np.shape(actual), actual.dtype) == (expected.shape, expected.dtype), subscripts
        np.testing.assert_allclose(actual, expected, err_msg=subscripts)


# --- what does not fit ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.dot(x, x), r"matmul of f64\[2,3\], f64\[2,3\]"),
        (lambda x: x @ x, r"matmul of f64\[2,3\], f64\[2,3\]"),
        (lambda x: x @ 2.0, r"matmul of f64\[2,3\], f64"),
        (lambda x: np.tensordot(x, x, 1), r"\(2, 3\) and \(2, 3\).*equal lengths"),
        (lambda x: np.tensordot(x, x, 3), "axes=3, but the operands have 2 and 2 axes"),
        (lambda x: np.einsum("ij,jk", x, x), r"'j' is 3 long and 2 long"),
        (lambda x: np.einsum("ii", x), r"'i' is 2 long and 3 long"),
        (lambda x: np.einsum("i", x), r"'i' does not label the axes of shape \(2, 3\)"),
        (lambda x: np.einsum("ijk...", x), r"does not label the axes of shape \(2, 3\)"),
        (lambda x: np.einsum("ij,ij", x), "2 parts for 1 operand"),
        (lambda x: np.einsum("ij->ik", x), "'ik' must name labels of the operands"),
        (lambda x: np.einsum("ij->ii", x), "each once"),
        (lambda x: np.inner(x, x.T), "equal lengths"),
    ],
)
@pytest.mark.parametrize("transform", [fg.jit, lambda f: lambda x: fg.vjp(f, x)])
def test_shapes_that_do_not_fit(transform, f, message):
    with pytest.raises(ShapeError, match=rf"(?s){message}.*test_contraction"):
        transform(f)(np.ones((2, 3)))


def test_objects_and_out():
    with pytest.raises((OperandTypeError, fg.errors.NotAnArrayError)):
        fg.jit(lambda x: np.dot(x, np.array([None] * 3)))(np.ones(3))
    with pytest.raises(fg.errors.OutArgumentError):
        fg.jit(lambda x: np.dot(x, x, out=np.zeros(())))(np.ones(3))


# --- one row or one column ------------------------------------------------------------

THIN = [
    ((300, 40), (40,)),
    ((40,), (40, 300)),
    ((300, 40), (40, 1)),
    ((1, 40), (40, 300)),
    ((5, 30, 40), (40,)),
    ((5, 30, 40), (5, 40, 1)),
    ((40,), (5, 40, 30)),
    ((5, 1, 40), (5, 40, 30)),
    ((400,), (400,)),
]


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?", "c16"])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize(("a", "b"), THIN)
def test_thin_products(a, b, backend, dtype):
    """Of a matrix and a vector: sums in loops, where a backend writes them so."""
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    x, y = (np.rint(4 * normal(*s)).astype(dtype) for s in (a, b))
    want = x @ y
    got = fg.jit(lambda x, y: x @ y, backend=backend)(x, y)
    assert (got.dtype, got.shape) == (want.dtype, np.shape(want))
    np.testing.assert_allclose(got, want, rtol=1e-2 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda a, v: a.T @ v, [(50, 70), (50,)]),
        (lambda a, v: a.T @ v[:, None], [(50, 70), (50,)]),
        (lambda a, v: v @ a.T, [(50, 70), (70,)]),
        (lambda a, v: v[None] @ a.T, [(50, 70), (70,)]),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_transposed_matrices_are_read_as_they_lie(f, shapes, backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    args = [normal(*s) for s in shapes]
    lowered = fg.jit(f, backend=backend).lower(*args)
    want = f(*args)
    got = fg.jit(f, backend=backend)(*args)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert "transpose" not in str(simplify(lowered.graph))


@pytest.mark.parametrize(
    "f",
    [
        lambda a, v: a.T.T @ v,
        lambda a, v: v @ a.T.T,
        lambda a, v: a.T.T.T @ v,
        lambda a, v: np.transpose(a, (0, 1)) @ v[:, None],
        lambda a, v: fg.grad(lambda a: np.sum((a.T.T @ v) ** 2))(a),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_matrices_transposed_twice_are_themselves(f, n, backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    args = normal(n, n), normal(n)
    np.testing.assert_allclose(fg.jit(f, backend=backend)(*args), f(*args), rtol=1e-12)


def test_thin_products_fuse_with_what_is_around_them():
    pytest.importorskip("llvmlite")

    def loss(w, x, y):
        return np.mean((np.tanh(x @ w) - y) ** 2)

    args = normal(20), normal(3000, 20), normal(3000)
    plan = str(fg.jit(loss, backend="llvm").lower(*args).plan)
    assert " @ " not in plan and "call" not in plan
    assert plan.count("\nkernel(") == 2, "the sum of what each thread has summed is the second"
    got = fg.jit(fg.grad(loss), backend="llvm")(*args)
    np.testing.assert_allclose(got, fg.grad(loss)(*args), rtol=1e-10)


def test_windows_times_taps_are_read_where_they_are():
    pytest.importorskip("llvmlite")
    x, taps = normal(5000), normal(7)

    def correlate(x, taps):
        return np.lib.stride_tricks.sliding_window_view(x, 7) @ taps

    lowered = fg.jit(correlate, backend="llvm").lower(x, taps)
    assert str(lowered.plan).count("\nkernel(") == 1 and " @ " not in str(lowered.plan)
    got = fg.jit(correlate, backend="llvm")(x, taps)
    np.testing.assert_allclose(got, np.correlate(x, taps), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("columns", [2, 3, 8, 10])
def test_sums_of_few_columns_are_no_loops_over_them(columns):
    pytest.importorskip("llvmlite")
    x = normal(1000, columns)
    plan = str(fg.jit(lambda x: np.sum(x * 2, 0), backend="llvm").lower(x).plan)
    assert f"i1 < {columns}:" not in plan.partition("\nkernel(")[2].partition("\nkernel(")[0]
    got = fg.jit(lambda x: np.sum(x * 2, 0), backend="llvm")(x)
    np.testing.assert_allclose(got, np.sum(x * 2, 0), rtol=1e-10)
