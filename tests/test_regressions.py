"""Bugs that were, each with the least that shows it."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.errors import ArgumentError, GradDtypeError, TracerArrayError


def test_mixed_derivative_of_power_at_exponent_zero():
    # d2/dx dy of x**y is x**(y - 1) * (1 + y log x): 1/x at y = 0.
    mixed = fg.grad(fg.grad(lambda x, y: x**y, 0), 1)
    assert mixed(2.0, 0.0) == 0.5
    assert mixed(np.float64(4.0), np.float64(0.0)) == 0.25
    assert fg.grad(lambda x, y: x**y)(0.0, np.float64(0.0)) == 0
    assert fg.grad(lambda x, y: x**y)(np.float64(np.inf), np.float64(0.0)) == 0


@pytest.mark.parametrize("power", [0.5, 1.5, -1, -0.5])
@pytest.mark.parametrize("x", [0.0, -1.0, 2.0])
def test_powers_of_python_floats_are_numpys(power, x):
    """Python's power raises at 0, and leaves the real numbers below it."""
    with np.errstate(all="ignore"):
        for f in (lambda x: x**power, fg.grad(lambda x: x**power)):
            np.testing.assert_allclose(fg.grad(f)(x), fg.grad(f)(np.float64(x)), rtol=1e-15)


def test_remainder_by_an_infinite_divisor():
    # 1 % -inf is -inf: 1 - (-1) * -inf.
    assert fg.grad(np.remainder, 1)(1.0, -np.inf) == 1
    assert fg.grad(np.remainder, 1)(1.0, np.inf) == 0


def test_sign_of_complex_zero_is_held_constant():
    assert fg.grad(lambda z: np.real(np.sign(z)))(0j) == 0


@pytest.mark.parametrize("argnums", [(0, 0), (1, -1), [0, -2]])
@pytest.mark.parametrize("transform", [fg.grad, fg.value_and_grad, fg.jacfwd, fg.jacrev])
def test_an_argument_named_twice(transform, argnums):
    """The first of the two used to get a gradient of zero."""
    with pytest.raises(ArgumentError, match="twice"):
        transform(lambda x, y: x * y, argnums)(1.0, 2.0)


def test_argnums_may_be_numpy_integers():
    assert fg.grad(lambda x, y: x * y, np.int64(1))(3.0, 2.0) == 3
    with pytest.raises(ArgumentError, match="no integer"):
        fg.grad(lambda x: x, 1.0)(3.0)


@pytest.mark.parametrize("axis", [2, -3, "a", 1.0])
def test_output_axis_out_of_range(axis):
    """It used to be taken modulo the rank."""
    with pytest.raises(ArgumentError, match="out_axes"):
        fg.vmap(lambda x: 2 * x, out_axes=axis)(np.ones((2, 3)))


@pytest.mark.parametrize("transform", [fg.grad, fg.jacfwd, fg.jacrev])
def test_holomorphic_derivatives_need_complex_arguments(transform):
    """The imaginary part of the derivative used to be lost."""
    with pytest.raises(GradDtypeError, match=r"holomorphic=True needs complex.*f64"):
        transform(lambda x: x * (1 + 1j), holomorphic=True)(1.0)
    assert transform(lambda x: x * (1 + 1j), holomorphic=True)(1.0 + 0j) == 1 + 1j


def test_holomorphic_functions_return_complex_numbers():
    with pytest.raises(GradDtypeError, match="must be complex"):
        fg.grad(np.real, holomorphic=True)(1.0 + 0j)
    with pytest.raises(GradDtypeError, match="must be complex"):
        fg.jacrev(np.abs, holomorphic=True)(np.ones(2) + 0j)


def test_reverse_jacobians_between_real_and_complex():
    with pytest.raises(GradDtypeError, match=r"\['z'\].*real and imaginary"):
        fg.jacrev(lambda x: {"r": x, "z": x * 1j})(np.ones(2))
    z = np.array([3 + 4j, 1 - 1j])
    rows = [fg.grad(lambda z, i=i: np.abs(z)[i])(z) for i in range(2)]
    np.testing.assert_allclose(fg.jacrev(np.abs)(z), rows)


def test_complex_cotangents_of_real_results():
    _, pullback = fg.vjp(np.square, 3.0)
    with pytest.raises(GradDtypeError, match="imaginary part"):
        pullback(1j)


def test_jvp_of_bare_arrays():
    """An array used to be taken for a tuple of its elements."""
    with pytest.raises(ArgumentError, match=r"jvp\(f, \(x,\), \(dx,\)\)"):
        fg.jvp(np.hypot, np.ones(2), np.ones(2))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_of_tracers_keep_the_derivative(duplicate):
    """A copy used to be another tracer, whose derivative was lost without a word."""
    x = np.array([1.0, 2.0])
    gradient = fg.grad(lambda x: np.sum(duplicate({"x": x})["x"] ** 2))
    np.testing.assert_array_equal(gradient(x), 2 * x)
    np.testing.assert_array_equal(fg.jit(gradient)(x), 2 * x)


def test_tracers_cannot_be_pickled():
    with pytest.raises(TracerArrayError):
        fg.grad(lambda x: pickle.loads(pickle.dumps(x)))(1.0)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, int])
@pytest.mark.parametrize("x", [0.7, np.float32(1.7), np.array([0.3, -1.6])], ids=str)
def test_no_derivative_goes_through_integers(dtype, x):
    """Not even where a float is made of them again: they are constant but for jumps."""

    def f(x):
        whole = np.abs(x).astype(dtype)
        return np.sum(0.5 * x + whole * 2.0 + np.sum(whole) + whole.astype(np.float64))

    def by_map(x):
        return f(fg.map(lambda row: abs(row).astype(dtype) + 0.5 * row, np.ravel(x)))

    x = np.asarray(x)
    want = np.full_like(x, 0.5)
    for backend in ("numpy", None):
        jit = functools.partial(fg.jit, backend=backend)
        for grad in (fg.grad(f), fg.grad(jit(f)), jit(fg.grad(f))):
            np.testing.assert_array_equal(grad(x), want)
            np.testing.assert_array_equal(fg.vmap(grad)(np.stack([x, x])), [want, want])
        np.testing.assert_array_equal(jit(fg.grad(by_map))(x), want * 0.5)
    np.testing.assert_array_equal(fg.grad(by_map)(x), want * 0.5)
    np.testing.assert_array_equal(fg.vjp(f, x)[1](1.0)[0], want)
    np.testing.assert_array_equal(fg.jvp(f, (x,), (np.ones_like(x),))[1], np.sum(want))


def test_a_loop_that_counts_what_floats_decide_is_constant_in_reverse_mode():
    def f(x):
        above = np.count_nonzero(x > 0.3) * 4
        count = fg.while_loop(lambda n: n < above, lambda n: n + np.any(x > 0.1), np.array(0))
        return np.sum(x) * 0.5 + count * 2.0

    x = np.array([0.25, 0.5])
    for grad in (fg.grad(f), fg.jit(fg.grad(f), backend="numpy"), fg.jit(fg.grad(f))):
        np.testing.assert_array_equal(grad(x), [0.5, 0.5])
        np.testing.assert_array_equal(fg.vmap(grad)(np.stack([x, x])), np.full((2, 2), 0.5))


def test_cotangents_of_integer_results_do_not_reach_rules():
    @fg.custom_vjp
    def counted(x):
        return x * 2.0, np.floor(x).astype(int)

    counted.defvjp(lambda x: (counted(x), ()), lambda _, cts: (cts[0] * 2.0 + cts[1] * 1e3,))

    def f(x):
        y, n = counted(x)
        return np.sum(y + n * 3.0)

    for grad in (fg.grad(f), fg.jit(fg.grad(f), backend="numpy"), fg.jit(fg.grad(f))):
        np.testing.assert_array_equal(grad(np.array([0.25, 3.5])), [2.0, 2.0])


@pytest.mark.parametrize("jacobian", [fg.jacrev, fg.jacfwd])
def test_jacobians_with_aux(jacobian):
    x = np.array([1.0, 2.0])
    found, aux = jacobian(lambda x: (x**2, {"sum": np.sum(x)}), has_aux=True)(x)
    np.testing.assert_allclose(found, np.diag(2 * x))
    assert aux == {"sum": 3.0}


@pytest.mark.parametrize("x", [2.0, np.array([2.0, -3.0, 0.0])])
@pytest.mark.parametrize(("power", "slope"), [(0, 0.0), (1, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_slopes_of_the_first_powers(x, power, slope):
    for wrap in (lambda f: f, fg.jit):
        got = wrap(fg.grad(lambda x: np.sum(x**power)))(x)
        np.testing.assert_array_equal(got, np.full(np.shape(x), slope))
