"""Special functions of complex numbers are refused, or right; integers give float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import special as reference

import funcgrad as fg
from funcgrad.errors import OperandTypeError
from funcgrad.scipy import special

Z = np.array([0.5 + 1j, -2j, 0.25])
REAL = {
    **{
        name: getattr(special, name)
        for name in (
            "digamma entr erf erfc erfinv expit gammaln log_expit log_ndtr log_softmax logit "
            "logsumexp ndtr ndtri psi softmax softplus"
        ).split()
    },
    "polygamma": partial(special.polygamma, 1),
    "polygamma of order 0": partial(special.polygamma, 0),
    "multigammaln": lambda z: special.multigammaln(z, 2),
    "logsumexp of weights": lambda z: special.logsumexp(z.real, b=z),
    "betaln, left": lambda z: special.betaln(z, z.real),
    "betaln, right": lambda z: special.betaln(z.real, z),
    "rel_entr, left": lambda z: special.rel_entr(z, z.real),
    "rel_entr, right": lambda z: special.rel_entr(z.real, z),
}
COMPLEX = {"xlogy": special.xlogy, "xlog1py": special.xlog1py}
WRAPPERS = {
    "eager": lambda f: f,
    "vjp": lambda f: lambda z: fg.vjp(f, z),
    "jvp": lambda f: lambda z: fg.jvp(f, (z,), (z,)),
    "vmap": lambda f: lambda z: fg.vmap(f)(z[None]),
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": fg.jit,
}


def test_every_function_is_tried():
    tried = {name.split(",")[0].split(" of")[0] for name in (*REAL, *COMPLEX)}
    assert tried == set(special.__all__)


@pytest.mark.parametrize("name", REAL)
def test_complex_numbers_are_refused(name):
    for wrap in WRAPPERS.values():
        for dtype in np.complex64, np.complex128:
            with pytest.raises(OperandTypeError, match=r"for real numbers only"):
                wrap(REAL[name])(Z.astype(dtype))
    if "," not in name and "weights" not in name:
        with pytest.raises(OperandTypeError, match=r"for real numbers only"):
            REAL[name](1j)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_of_what_is_defined_for_them(name):
    f, x = COMPLEX[name], np.array([0, 1 + 2j, -0.5j])
    want = getattr(reference, name)(x, Z)
    for run in f, fg.jit(f), fg.jit(f, backend="numpy"), fg.vmap(f):
        np.testing.assert_allclose(run(x, Z), want, 1e-12)
    step = 1e-6
    for i in (0, 1):
        slope = fg.vmap(fg.grad(lambda x, z: f(x, z).real, i))(x[1:], Z[1:])
        ends = [f(x[1:] + (1 - i) * d, Z[1:] + i * d) for d in (step, -step)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), 1e-6)


@pytest.mark.parametrize("dtype", [*"?bHl"])
def test_integers_give_float64(dtype):
    x = np.ones(2, dtype)
    for name, f in REAL.items():
        if "," not in name and name != "logsumexp of weights":
            for run in f, fg.jit(f):
                have = run(x)
                assert have.dtype == np.float64, name
                np.testing.assert_array_equal(have, run(np.ones(2)), err_msg=name)


def test_dtypes_are_kept():
    for dtype in np.float16, np.float32, np.float64:
        x = np.full(2, 0.5, dtype)
        for name, f in REAL.items():
            for run in f, fg.jit(f):
                assert run(x).dtype == dtype, name
        for f in COMPLEX.values():
            assert f(x, x).dtype == dtype


def test_narrow_differences_are_computed_in_double():
    p = np.array([1e-6, 1e-12, 1e-15], np.float32)
    np.testing.assert_allclose(special.ndtri(p), reference.ndtri(p.astype(float)), 1e-3)
    a, b = np.float32(1e6), np.float32(0.5)
    assert np.isclose(special.betaln(a, b), reference.betaln(1e6, 0.5), rtol=1e-6)


def test_operands_by_name():
    assert special.ndtr(x=0.0) == 0.5
    assert special.betaln(2.0, b=3.0) == special.betaln(2.0, 3.0)
    for wrong in (lambda: special.ndtr(), lambda: special.ndtr(y=1.0), lambda: special.betaln(1.0)):
        with pytest.raises(TypeError, match="argument"):
            wrong()
