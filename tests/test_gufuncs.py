"""Primitives declared by a signature keep the contract, and those with several results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import test_contract as contract
from conftest import HAS_LLVM
from funcgrad.core.aval import Aval
from funcgrad.core.binding import bind
from funcgrad.core.declarations import linear
from funcgrad.core.gufuncs import gufunc, parsed
from funcgrad.core.primitive import sample
from funcgrad.core.samples import distinct, positive_definite, symmetric, triangular
from funcgrad.transforms.simplify import simplify

BACKENDS = ("numpy", "llvm") if HAS_LLVM else ("numpy",)

pytestmark = pytest.mark.usefixtures("own_primitives")


def keeps_the_contract(prim: Any) -> None:
    numbers = range(len(prim.samples))
    for dtype in (np.float64, np.float32):
        case = (prim, numbers, dtype)
        contract.test_shape_rule(*case)
        contract.test_transposition(*case)
        if dtype is np.float32:
            contract.test_narrow_dtypes_stay(*case)
        for backend in BACKENDS:
            contract.test_compiled(*case, backend)
    contract.test_derivatives(prim, numbers, np.float64)
    contract.test_batching(prim, numbers, np.float64)
    if HAS_LLVM:
        contract.test_compiled_for_many_examples(prim, numbers, np.float64)


def swap(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


# --- signatures -----------------------------------------------------------------------


def test_a_signature_gives_shapes() -> None:
    sig = parsed("(n,n), (n,k) -> (n), (k,n)")
    assert sig.shapes([(5, 1, 3, 3), (2, 3, 4)]) == [(5, 2, 3), (5, 2, 4, 3)]
    assert parsed("(n),()->()").shapes([(2, 3), (2,)]) == [(2,)]
    with pytest.raises(ValueError, match="axes 'n' of lengths 3 and 2"):
        sig.shapes([(3, 2), (3, 1)])
    with pytest.raises(ValueError, match="lacks axes"):
        sig.shapes([(3,), (3, 1)])


# --- linear in one operand ------------------------------------------------------------


def _solve(a, b):
    return np.linalg.solve(a, b)


def declare_solve() -> Any:
    solve = gufunc(
        "solve_",
        _solve,
        "(n,n),(n,k)->(n,k)",
        jvp=lambda tangents, ans, ins, params: -bind(solve, ins[0], tangents[0] @ ans),
        vjp=lambda ct, ans, ins, params, need: [
            -bind(solve, swap(ins[0]), ct) @ swap(ans),
            None,
        ],
        linear_in=(1,),
        transpose=lambda ct, a, b: [bind(solve, swap(a), ct)],
        samples=[
            sample(positive_definite(3, 3), (3, 2)),
            sample(triangular(2, 2, 2), (2, 1)),
            sample(positive_definite(2, 2), (3, 2, 1)),
        ],
    )
    return solve


def test_solve_is_linear_in_one_operand() -> None:
    solve = declare_solve()
    keeps_the_contract(solve)
    a = np.eye(3) * 2 + 1.0
    # By the right-hand side alone it takes one solve more, and nothing for the matrix.
    graph = fg.make_graph(lambda b: fg.grad(lambda b: np.sum(bind(solve, a, b)))(b))(
        np.ones((3, 1))
    )
    assert [str(e.prim) for e in simplify(graph).eqns].count("matmul") == 0

    @fg.custom_vjp
    def f(b: Any) -> Any:
        return bind(solve, a, b)

    f.defvjp(lambda b: (f(b), None), lambda _, ct: (bind(solve, a.T, ct),))
    np.testing.assert_allclose(
        fg.jvp(f, (np.ones((3, 1)),), (np.ones((3, 1)),))[1], np.linalg.solve(a, np.ones((3, 1)))
    )


# --- several results ------------------------------------------------------------------


def _eigh(x):
    return tuple(np.linalg.eigh(x))


def _eigvalsh(x):
    return np.linalg.eigvalsh(x)


def _eigh_jvp(tangents: Any, ans: Any, ins: Any, params: Any) -> Any:
    w, v = ans
    inner = swap(v) @ tangents[0] @ v
    n = w.shape[-1]
    gaps = np.expand_dims(w, -2) - np.expand_dims(w, -1) + np.eye(n, dtype=w.dtype)
    dw = np.diagonal(inner, axis1=-2, axis2=-1)
    return [dw, v @ (inner * (1 - np.eye(n, dtype=w.dtype)) / gaps)]


def _eigh_vjp(ct: Any, ans: Any, ins: Any, params: Any, need: Any) -> Any:
    (w, v), (dw, dv) = ans, ct
    eye = np.eye(w.shape[-1], dtype=w.dtype)
    gaps = np.expand_dims(w, -2) - np.expand_dims(w, -1) + eye
    middle = np.expand_dims(dw, -1) * eye + (swap(v) @ dv) * (1 - eye) / gaps
    return [v @ middle @ swap(v)]


def declare_eigh() -> Any:
    samples = [sample(symmetric(3, 3)), sample(symmetric(2, 2, 2))]

    def vectors(x: Any) -> Any:
        return bind(eigh, x)[1]

    values = gufunc(
        "eigvalsh_",
        _eigvalsh,
        "(n,n)->(n)",
        jvp=lambda tangents, ans, ins, params: np.diagonal(
            swap(vectors(ins[0])) @ tangents[0] @ vectors(ins[0]), axis1=-2, axis2=-1
        ),
        vjp=lambda ct, ans, ins, params, need: [
            (vectors(ins[0]) * np.expand_dims(ct, -2)) @ swap(vectors(ins[0]))
        ],
        samples=samples,
    )
    eigh = gufunc(
        "eigh_",
        _eigh,
        "(n,n)->(n),(n,n)",
        jvp=_eigh_jvp,
        vjp=_eigh_vjp,
        fewer={(True, False): values},
        determined=lambda w, v: (w, v * v),
        samples=samples,
    )
    return eigh, values


def test_eigenvectors_keep_the_contract_up_to_their_signs() -> None:
    for prim in declare_eigh():
        keeps_the_contract(prim)


def test_what_nobody_uses_is_not_computed() -> None:
    eigh, values = declare_eigh()
    x = np.diag([1.0, 2.0, 5.0])
    graph = simplify(fg.make_graph(lambda x: bind(eigh, x)[0] * 2)(x))
    assert graph.eqns[0].prim is values
    graph = simplify(fg.make_graph(lambda x: bind(eigh, x)[1] * 2)(x))
    assert graph.eqns[0].prim is eigh
    for backend in BACKENDS:
        found = fg.jit(lambda x: bind(eigh, x)[0] * 2, backend=backend)(x)
        np.testing.assert_allclose(found, [2.0, 4.0, 10.0])


def _halves(x):
    n = x.shape[-1] // 2
    return x[..., :n], x[..., n:]


def test_a_linear_primitive_with_several_results() -> None:
    def shape(x: Aval) -> list[Aval]:
        n = x.shape[-1] // 2
        return [Aval((*x.shape[:-1], k), x.dtype) for k in (n, x.shape[-1] - n)]

    halves = linear(
        "halves",
        _halves,
        lambda ct, x: np.concatenate(ct, -1),
        shape=shape,
        batch=lambda prim, args, batched, size, params: (bind(prim, *args), [True, True]),
        multiple=True,
        samples=[sample((5,)), sample((2, 4))],
    )
    keeps_the_contract(halves)
    # Of a result that nothing depends on the cotangent is zero.
    found = fg.grad(lambda x: np.sum(bind(halves, x)[1] ** 2))(np.arange(4.0))
    np.testing.assert_array_equal(found, [0, 0, 4, 6])


# --- samples with a structure ---------------------------------------------------------


@pytest.mark.parametrize("make", [positive_definite, triangular, symmetric, distinct])
def test_samples_have_their_structure(make: Any) -> None:
    x = make(2, 4, 4).finish(np.random.default_rng(0).uniform(-2, 2, (2, 4, 4)))
    if make is distinct:
        assert np.min(np.diff(x, axis=-1)) >= 1
    elif make is triangular:
        assert not np.any(np.triu(x, 1))
        assert np.min(np.abs(np.diagonal(x, axis1=-2, axis2=-1))) >= 3
    else:
        np.testing.assert_array_equal(x, swap(x))
        low = np.linalg.eigvalsh(x)
        assert np.min(low if make is positive_definite else np.diff(low)) >= 1 - 1e-12
