"""A thousand small steps in one compiled loop: what a loop costs beyond its body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import logistic
from benchmarks.harness import Bar, Contender, Plan, Result, check_agreement, compare

STEPS = 1000
BARS = {"NumPy by hand": Bar(1.3)}
PLAN = Plan(rounds=21, repeats=3)

SPAN = 1e-2  # seconds a step of the pendulum
STATE = np.array([2.5, 0.0])  # angle, angular velocity


def measure_logistic() -> list[Result]:
    """The logistic regression's step, its losses collected."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg

    def loop(scan: Any, value_and_grad: Any) -> Callable[..., Any]:
        step = logistic.make_step(value_and_grad)
        return lambda params, x, y: scan(lambda p, _: step(p, x, y), params, length=STEPS)

    ours = fg.jit(loop(fg.scan, fg.value_and_grad(logistic.make_loss(np))), backend="numpy")
    theirs = jax.jit(loop(jax.lax.scan, jax.value_and_grad(logistic.make_loss(jnp))))
    by_hand = logistic.make_step(logistic.value_and_grad_by_hand)
    simplified = logistic.make_step(logistic.value_and_grad_simplified)
    data = logistic.START, logistic.X, logistic.Y
    jax_data = jax.tree.map(jnp.asarray, data)
    contenders = [
        _training("funcgrad", ours, data),
        _training("NumPy by hand", _numpy_training(by_hand), data),
        _training("NumPy by hand, slope simplified to p − y", _numpy_training(simplified), data),
        _training("JAX jit", lambda *args: jax.block_until_ready(theirs(*args)), jax_data),
    ]
    check_agreement(contenders, calls=1)
    return compare(f"`scan` of {STEPS:,} logistic steps, jitted for NumPy", contenders, BARS, PLAN)


def measure_pendulum() -> list[Result]:
    """Runge-Kutta steps of a pendulum, its path collected."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    import funcgrad.numpy as fnp

    def swing(scan: Any, array: Any, sin: Any) -> Callable[[Any], Any]:
        step = make_pendulum_step(array, sin)

        def body(state: Any, _: None) -> Any:
            state = step(state)
            return state, state

        return lambda state: scan(body, state, length=STEPS)[1]

    by_hand = make_pendulum_step(np.array, np.sin)

    def loop(state: Any) -> Any:
        path = np.empty((STEPS, 2))
        for index in range(STEPS):
            state = by_hand(state)
            path[index] = state
        return path

    ours = fg.jit(swing(fg.scan, fnp.stack, np.sin), backend="numpy")
    theirs = jax.jit(swing(jax.lax.scan, jnp.array, jnp.sin))
    jax_state = jnp.asarray(STATE)
    contenders = [
        _swinging("funcgrad", lambda: ours(STATE)),
        _swinging("NumPy by hand", lambda: loop(STATE)),
        _swinging("JAX jit", lambda: theirs(jax_state).block_until_ready()),
    ]
    check_agreement(contenders, calls=1)
    what = f"`scan` of {STEPS:,} Runge-Kutta steps of a pendulum, jitted for NumPy"
    return compare(what, contenders, BARS, PLAN)


def make_pendulum_step(array: Any, sin: Any) -> Callable[[Any], Any]:
    """The classical fourth-order step for angle'' = -sin(angle)."""

    def slope(state: Any) -> Any:
        return array([state[1], -sin(state[0])])

    def step(state: Any) -> Any:
        k1 = slope(state)
        k2 = slope(state + 0.5 * SPAN * k1)
        k3 = slope(state + 0.5 * SPAN * k2)
        k4 = slope(state + SPAN * k3)
        return state + SPAN / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

    return step


def _numpy_training(step: Callable[..., Any]) -> Callable[..., Any]:
    def train(params: Any, x: Any, y: Any) -> Any:
        losses = np.empty(STEPS)
        for index in range(STEPS):
            params, losses[index] = step(params, x, y)
        return params, losses

    return train


def _training(name: str, train: Callable[..., Any], data: tuple[Any, ...]) -> Contender:
    def outcome() -> tuple[object, ...]:
        params, losses = train(*data)
        return params["w"], params["b"], losses

    return Contender(name, lambda: train(*data), outcome=outcome)


def _swinging(name: str, swing: Callable[[], Any]) -> Contender:
    return Contender(name, swing, outcome=lambda: [swing()])
