"""`checkpoint`: the same derivatives, with less kept until the backward pass."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

X = np.array([0.5, -1.0, 2.0])


def block(x):
    return np.sin(np.exp(np.sin(x)))


def chain(f):
    return lambda x: np.sum(f(f(f(x))))


MODES = {
    "grad": fg.grad,
    "jit": lambda f: fg.jit(fg.grad(f)),
    "inner jit": lambda f: fg.grad(fg.jit(f)),
    "jacfwd": fg.jacfwd,
    "hessian": fg.hessian,
    "grad of grad": lambda f: fg.grad(lambda x: np.sum(fg.grad(f)(x) ** 2)),
    "vmap": lambda f: lambda x: fg.vmap(fg.grad(f))(np.stack([x, 2 * x])),
    "grad of vmap": lambda f: fg.grad(lambda x: np.sum(fg.vmap(f)(np.stack([x, 2 * x])))),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_same_derivatives(mode):
    plain = MODES[mode](chain(block))(X)
    once = MODES[mode](chain(fg.checkpoint(block)))(X)
    nested = MODES[mode](fg.remat(chain(fg.checkpoint(block))))(X)
    np.testing.assert_allclose(once, plain, rtol=1e-12)
    np.testing.assert_allclose(nested, plain, rtol=1e-12)


def test_the_backward_pass_computes_again():
    graph = fg.make_graph(fg.grad(lambda x: np.sum(fg.checkpoint(block)(x))))(X)
    # Nothing but the argument goes into the backward pass, which runs the block itself.
    (again,) = [e for e in graph.eqns if e.prim.name == "checkpoint"]
    assert [a.aval.shape for a in again.ins] == [(3,), (3,)]
    assert str(again.params["graph"]).count("exp") == 1

    both = fg.make_graph(fg.value_and_grad(lambda x: np.sum(fg.checkpoint(block)(x))))(X)
    assert str(both).count("exp") == 2
    plain = fg.make_graph(fg.value_and_grad(lambda x: np.sum(block(x))))(X)
    assert str(plain).count("exp") == 1


def test_checkpointed_step_of_a_scan_keeps_only_the_carry():
    def loss(step):
        return lambda x: np.sum(fg.scan(lambda c, _: (step(c), None), x, None, length=4)[0])

    def kept(step):
        graph = fg.make_graph(fg.grad(loss(step)))(X)
        forward = next(e for e in graph.eqns if e.prim.name == "scan")
        return sum(o.aval.shape == (4, 3) for o in forward.outs)

    assert kept(fg.checkpoint(block)) == 1 and kept(block) == 3
    plain = fg.grad(loss(block))(X)
    np.testing.assert_allclose(fg.jit(fg.grad(loss(fg.checkpoint(block))))(X), plain)


def test_python_control_flow_on_values_under_grad():
    @fg.checkpoint
    def f(x):
        return x * 3 if x > 0 else -x

    assert fg.grad(f)(2.0) == 3.0 and fg.grad(f)(-2.0) == -1.0


def test_closures_pytrees_integers_and_keywords():
    def loss(params, x):
        @fg.checkpoint
        def layer(h, *, times):
            return {"h": np.tanh(h * params["w"]) * times, "n": times + 1}

        out = layer(layer(x, times=2)["h"], times=3)
        return np.sum(out["h"]) + out["n"]

    def plain(params, x):
        h = np.tanh(x * params["w"]) * 2
        return np.sum(np.tanh(h * params["w"]) * 3) + 4

    for transform in (lambda f: f, fg.jit):
        found = transform(fg.value_and_grad(loss, argnums=(0, 1)))({"w": X + 1}, X)
        expected = fg.value_and_grad(plain, argnums=(0, 1))({"w": X + 1}, X)
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b)


def test_without_tracers_it_is_the_function():
    np.testing.assert_array_equal(fg.checkpoint(block)(X), block(X))
    assert fg.checkpoint(block).__name__ == "checkpoint(block)"


def test_arguments_are_arrays():
    with pytest.raises(errors.NotAnArrayError, match="checkpoint"):
        fg.checkpoint(lambda x, mode: x)(1.0, "fast")


def test_static_arguments_reach_the_function_as_they_are():
    @partial(fg.checkpoint, static_argnums=(1, -1))
    def apply(x, activation, scale, power):
        assert type(power) is int
        return np.sum(activation(x) * scale**power)

    plain = fg.grad(lambda x: np.sum(np.sin(x) * 3.0**2))(X)
    np.testing.assert_allclose(fg.grad(apply)(X, np.sin, 3.0, 2), plain)
    np.testing.assert_allclose(fg.jit(fg.grad(lambda x: apply(x, np.sin, 3.0, 2)))(X), plain)


def test_static_arguments_must_be_there():
    with pytest.raises(errors.ArgumentError, match="static_argnums=2, but the call has 1"):
        fg.checkpoint(np.sin, static_argnums=2)(X)
