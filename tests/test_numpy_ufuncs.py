"""Every ufunc of NumPy on tracers: dtypes, values, options; derivatives at the edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.numpy.ufuncs import UFUNCS

EVERY = sorted({f for f in vars(np).values() if isinstance(f, np.ufunc)}, key=lambda f: f.__name__)
# Products with axes of their own are tested with the contractions.
ELEMENTWISE = [f for f in EVERY if f.signature is None and f in UFUNCS]
DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"]
WEAK = [2, 0.5, True, 1j]


def test_every_ufunc_is_there():
    # isnat is about dates.
    assert {f.__name__ for f in EVERY} - {f.__name__ for f in UFUNCS} == {"isnat"}
    with pytest.raises(fg.errors.UnsupportedFunctionError, match=r"np\.isnat"):
        fg.jit(np.isnat)(1.0)


def _outcome(f, *args):
    """The results' dtypes and values, or None where NumPy has none for these dtypes."""
    with np.errstate(all="ignore"):
        try:
            out = f(*args)
        except (TypeError, OverflowError):
            return None
    return list(out) if isinstance(out, tuple) else [out]


def _check_same(cases):
    """Functions of these arguments compute what NumPy does: eagerly, and in one program."""
    known = []
    for f, args in cases:
        expected = _outcome(f, *args)
        if expected is None:
            with pytest.raises((fg.errors.OperandTypeError, OverflowError)):
                fg.jit(f)(*args)
            continue
        avals = fg.tree.leaves(fg.eval_shape(f, *args))
        assert [a.dtype for a in avals] == [np.asarray(e).dtype for e in expected]
        with np.errstate(all="ignore"):
            _assert_equal(fg.tree.leaves(fg.vjp(f, *args)[0]), expected)
        known.append((f, args, expected))

    # One program of all: a program for each would spend the time on what surrounds it.
    functions = [f for f, _, _ in known]
    program = fg.jit(lambda args: [f(*xs) for f, xs in zip(functions, args, strict=True)])
    found = program([args for _, args, _ in known]) if known else []
    for results, (_, _, expected) in zip(found, known, strict=True):
        _assert_equal(fg.tree.leaves(results), expected)


def _assert_equal(results, expected):
    for result, e in zip(results, expected, strict=True):
        result, e = np.asarray(result), np.asarray(e)
        assert (result.dtype, result.shape) == (e.dtype, e.shape)
        precision = 2e-3 if e.dtype == np.float16 else 1e-5 if e.dtype.itemsize < 8 else 1e-6
        np.testing.assert_allclose(result, e, rtol=precision)


@pytest.mark.parametrize("f", [f for f in ELEMENTWISE if f.nin == 1], ids=lambda f: f.__name__)
def test_unary(f):
    _check_same([(f, (np.array([1, 0, 1, 3], dtype),)) for dtype in DTYPES])


@pytest.mark.parametrize("f", [f for f in ELEMENTWISE if f.nin == 2], ids=lambda f: f.__name__)
def test_binary(f):
    cases = []
    for left, right in itertools.combinations_with_replacement(DTYPES, 2):
        a, b = np.array([[3], [2]], left), np.array([1, 2, 1], right)
        cases += [(f, (a, b)), (f, (b, a))]
    _check_same(cases)


@pytest.mark.parametrize("f", [f for f in ELEMENTWISE if f.nin == 2], ids=lambda f: f.__name__)
def test_binary_with_a_python_number(f):
    # What NumPy does and what resolve_dtypes says of ldexp of booleans differ.
    dtypes = [d for d in DTYPES if f is not np.ldexp or d != "bool"]
    _check_same(_with_numbers(f, dtypes))


def _with_numbers(f, dtypes):
    for dtype, number in itertools.product(dtypes, WEAK):
        a = np.array([3, 1, 2], dtype)
        yield lambda x, number=number: f(x, number), (a,)
        yield lambda x, number=number: f(number, x), (a,)


OPERATORS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "**": lambda x, y: x**y,
    "divmod": divmod,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
    "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y,
    "==": lambda x, y: x == y,
    "<": lambda x, y: x < y,
    ">=": lambda x, y: x >= y,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_promote_as_numpys(name):
    f = OPERATORS[name]
    _check_same(
        (f, (np.array([3, 1], left), np.array([2, 1], right)))
        for left, right in itertools.product(DTYPES, repeat=2)
    )
    # NumPy squares booleans as int8, and raises them to the third as int64.
    _check_same(_with_numbers(f, [d for d in DTYPES if name != "**" or d != "bool"]))


def test_a_mixed_array_on_the_left_meets_the_tracer():
    w = np.arange(3.0)
    assert fg.grad(lambda x: np.sum(w * x + w @ x + w / x))(np.ones(3)).shape == (3,)
    assert fg.grad(lambda x: np.float64(2) * x)(1.0) == 2.0
    assert fg.jit(lambda x: np.float32(2) * x)(np.float32(1)).dtype == np.float32
    assert fg.jit(lambda x: [1.0, 2.0] * x)(np.ones(2)).tolist() == [1.0, 2.0]


def test_options():
    x = np.array([1.0, 4.0])
    assert fg.jit(lambda x: np.sqrt(x, dtype=np.float32))(x).dtype == np.float32
    with pytest.raises(fg.errors.OutArgumentError, match="sqrt"):
        fg.grad(lambda x: np.sum(np.sqrt(x, out=np.zeros(2))))(x)
    with pytest.raises(fg.errors.OutArgumentError, match=r"np\.sqrt"):
        fg.grad(lambda x: np.sum(np.sqrt(x, np.zeros(2))))(x)
    with pytest.raises(fg.errors.UnsupportedFunctionError, match=r"where=.*np\.where"):
        fg.grad(lambda x: np.sum(np.sqrt(x, where=x > 0)))(x)
    with pytest.raises(fg.errors.UnsupportedFunctionError, match="reduceat"):
        fg.jit(lambda x: np.add.reduceat(x, [0]))(x)
    with pytest.raises(fg.errors.OutArgumentError, match=r"add\.at"):
        fg.jit(lambda x: np.add.at(np.zeros(2), [0, 1], x))(x)


def test_in_place_operators():
    def f(x):
        before = x
        x += 1.0
        x *= before
        return x

    assert fg.grad(f)(3.0) == 7.0

    def into_an_array(x):
        total = np.zeros(2)
        total += x
        return np.sum(total)

    with pytest.raises(fg.errors.OutArgumentError, match=r"a = a \+ b"):
        fg.grad(into_an_array)(np.ones(2))


def _gradients(f, *args):
    with np.errstate(all="ignore"):
        return [float(g) for g in fg.grad(f, argnums=tuple(range(len(args))))(*args)]


INF, NAN = np.inf, np.nan
EDGES = [
    (lambda x: x**0, (0.0,), [0.0]),
    (lambda x: x**1, (0.0,), [1.0]),
    (lambda x: x**2, (0.0,), [0.0]),
    (lambda x: x**3, (-2.0,), [12.0]),
    (np.power, (0.0, 0.0), [0.0, 0.0]),
    (np.power, (0.0, 1.0), [1.0, 0.0]),
    (np.power, (0.0, 2.0), [0.0, 0.0]),
    (np.power, (2.0, 0.0), [0.0, np.log(2.0)]),
    (np.float_power, (0.0, 2.0), [0.0, 0.0]),
    (np.abs, (0.0,), [0.0]),
    (np.fabs, (-2.0,), [-1.0]),
    (np.sqrt, (0.0,), [INF]),
    (np.log, (0.0,), [INF]),
    (np.tanh, (INF,), [0.0]),
    (np.exp, (-INF,), [0.0]),
    (np.expm1, (1e-20,), [1.0]),
    (np.hypot, (0.0, 0.0), [0.0, 0.0]),
    (np.hypot, (3e200, 4e200), [0.6, 0.8]),
    (np.arctan2, (1e200, 1e200), [5e-201, -5e-201]),
    (np.arctan2, (1e-200, 1e-200), [5e199, -5e199]),
    (np.maximum, (1.0, 1.0), [0.5, 0.5]),
    (np.minimum, (INF, INF), [0.5, 0.5]),
    (np.maximum, (NAN, 1.0), [0.0, 0.0]),
    (np.fmax, (NAN, 1.0), [0.0, 1.0]),
    (np.fmin, (1.0, NAN), [1.0, 0.0]),
    (np.fmin, (2.0, 2.0), [0.5, 0.5]),
    (np.logaddexp, (-INF, -INF), [0.5, 0.5]),
    (np.logaddexp, (-INF, 0.0), [0.0, 1.0]),
    (np.logaddexp, (1000.0, -1000.0), [1.0, 0.0]),
    (np.logaddexp2, (INF, INF), [0.5, 0.5]),
    (np.copysign, (-2.0, 1.0), [-1.0, 0.0]),
    (np.remainder, (-5.5, 2.0), [1.0, 3.0]),
    (np.fmod, (-5.5, 2.0), [1.0, 2.0]),
    (np.heaviside, (0.0, 0.5), [0.0, 1.0]),
    (lambda x: np.modf(x)[0], (-2.0,), [1.0]),
    (lambda x: np.frexp(x)[0], (3.0,), [0.25]),
    (lambda x: np.ldexp(x, 3), (1.0,), [8.0]),
    (lambda x: divmod(x, 2.0)[1], (3.0,), [1.0]),
    (np.rint, (0.5,), [0.0]),
    (lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0), (0.0,), [0.0]),
]


@pytest.mark.parametrize(("f", "args", "expected"), EDGES)
def test_derivatives_at_the_edges(f, args, expected):
    np.testing.assert_allclose(_gradients(f, *args), expected, rtol=1e-14)
    if all(1e-30 < abs(a) < 1e30 for a in args):
        single = [np.float32(a) for a in args]
        assert all(g.dtype == np.float32 for g in fg.grad(f, tuple(range(len(args))))(*single))


@pytest.mark.parametrize("x", [INF, -INF, -2.0, 2.5, -0.0, 0.0])
def test_modf_and_frexp_split_as_numpys(x):
    for f in (np.modf, np.frexp):
        with np.errstate(all="ignore"):
            for mine, numpys in zip(fg.vjp(f, x)[0], f(x), strict=True):
                np.testing.assert_array_equal(mine, numpys)
                assert np.signbit(mine) == np.signbit(numpys)


Z = np.array([0.3 + 0.4j, -1.0 - 0.5j, 2.0 + 0.1j])


@pytest.mark.parametrize(
    ("f", "derivative"),
    [
        (lambda z: np.real(z), lambda z: np.ones(3)),
        (lambda z: np.imag(z), lambda z: np.full(3, -1j)),
        (lambda z: np.abs(z), lambda z: np.conj(z) / np.abs(z)),
        (lambda z: np.abs(z) ** 2, lambda z: 2 * np.conj(z)),
        (lambda z: np.real(z * np.conj(z)), lambda z: 2 * np.conj(z)),
        (lambda z: np.angle(z), lambda z: -1j / z),
        (lambda z: np.real(np.exp(z)), lambda z: np.exp(z)),
        (lambda z: np.real(z**3), lambda z: 3 * z**2),
        (lambda z: np.real(np.log(z)), lambda z: 1 / z),
    ],
)
def test_gradients_of_complex_numbers(f, derivative):
    # JAX's convention: for f = u + iv of z = x + iy it is du/dx - i du/dy.
    np.testing.assert_allclose(fg.grad(lambda z: np.sum(f(z)))(Z), derivative(Z), rtol=1e-12)


@pytest.mark.parametrize(
    "f",
    [f for f in ELEMENTWISE if f.nin == f.nout == 1 and "D->D" in f.types],
    ids=lambda f: f.__name__,
)
def test_holomorphic_derivatives(f):
    z = Z * 0.7 + 0.11
    if f is np.conjugate or np.all(fg.jvp(f, (z,), (z,))[1] == 0):
        return
    slope = (f(z + 1e-6) - f(z - 1e-6)) / 2e-6
    if f is np.sign:
        np.testing.assert_allclose(fg.jvp(f, (z,), (np.ones(3) + 0j,))[1], slope, rtol=1e-7)
        return
    np.testing.assert_allclose(fg.jvp(f, (z,), (np.ones(3) + 0j,))[1], slope, rtol=1e-7)
    np.testing.assert_allclose(fg.vjp(f, z)[1](np.ones(3) + 0j)[0], slope, rtol=1e-7)
