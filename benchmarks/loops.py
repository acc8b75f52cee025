"""Ten thousand small steps in one compiled loop, beside XLA's and numba's loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions, logistic, scan
from benchmarks.harness import Bar, Plan, Result, check_agreement, compare

STEPS = 10_000
BARS = {"JAX jit": Bar(1.2)}
PLAN = Plan(rounds=15, repeats=2, loop_s=0.0)


def measure() -> list[Result]:
    """Training a logistic regression; a pendulum's path, and the last angle's gradient."""
    return [*_logistic(), *_pendulum_path(), *_pendulum_gradient()]


def _logistic() -> list[Result]:
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    from benchmarks import by_numba

    def training(lib_scan: Any, value_and_grad: Any) -> Callable[..., Any]:
        step = logistic.make_step(value_and_grad)

        def train(params: Any, x: Any, y: Any) -> Any:
            params, losses = lib_scan(lambda p, _: step(p, x, y), params, length=STEPS)
            return params["w"], params["b"], losses

        return train

    def of_numba(params: Any, x: Any, y: Any) -> Any:
        w, b = params["w"], float(params["b"])
        return by_numba.logistic_training(w, b, x, y, logistic.RATE, STEPS)

    data = logistic.START, logistic.X, logistic.Y
    of_jax = training(jax.lax.scan, jax.value_and_grad(logistic.make_loss(jnp)))
    contenders = [
        *functions.ours(training(fg.scan, fg.value_and_grad(logistic.make_loss(np))), *data),
        functions.jax(of_jax, *data),
        functions.contender("numba by hand", of_numba, *data),
    ]
    check_agreement(contenders, calls=1)
    return compare(f"jitted `scan` of {STEPS:,} logistic steps", contenders, BARS, PLAN)


def _pendulum_path() -> list[Result]:
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    import funcgrad.numpy as fnp
    from benchmarks import by_numba

    def swing(lib_scan: Any, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def body(state: Any, _: None) -> Any:
            state = step(state)
            return state, state

        return lambda state: lib_scan(body, state, length=STEPS)[1]

    start, numbers = scan.STATE, (scan.SPAN, STEPS)
    contenders = [
        *functions.ours(swing(fg.scan, scan.make_pendulum_step(fnp.stack, np.sin)), start),
        functions.jax(swing(jax.lax.scan, scan.make_pendulum_step(jnp.array, jnp.sin)), start),
        functions.contender("numba by hand", by_numba.pendulum_path, start, *numbers),
    ]
    check_agreement(contenders, calls=1)
    what = f"jitted `scan` of {STEPS:,} Runge-Kutta steps of a pendulum"
    return compare(what, contenders, BARS, PLAN)


def _pendulum_gradient() -> list[Result]:
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    import funcgrad.numpy as fnp
    from benchmarks import by_numba

    def last_angle(lib_scan: Any, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda state: lib_scan(lambda s, _: (step(s), None), state, length=STEPS)[0][0]

    start, numbers = scan.STATE, (scan.SPAN, STEPS)
    ours = last_angle(fg.scan, scan.make_pendulum_step(fnp.stack, np.sin))
    theirs = last_angle(jax.lax.scan, scan.make_pendulum_step(jnp.array, jnp.sin))
    contenders = [
        *functions.ours(fg.grad(ours), start),
        functions.jax(jax.grad(theirs), start),
        functions.contender("numba by hand", by_numba.pendulum_gradient, start, *numbers),
    ]
    check_agreement(contenders, calls=1)
    what = f"gradient through {STEPS:,} Runge-Kutta steps of a pendulum, jitted"
    return compare(what, contenders, BARS, PLAN)
