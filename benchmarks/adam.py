"""Adam over ten million parameters in forty leaves, beside the time that its bytes take to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions, roofline
from benchmarks.harness import Bar, Contender, Plan, Result, Work, check_agreement, compare

LEAVES, SHAPE = 40, (500, 500)
RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
PLAN = Plan(rounds=15, repeats=3, loop_s=0.0)
MOVED = "its bytes moved by a numba loop", "as many bytes moved by `copyto` in threads"
BARS = {MOVED: Bar(1.2)}

Params = dict[str, Any]


def make_params(leaves: int = LEAVES, shape: tuple[int, int] = SHAPE, seed: int = 0) -> Params:
    """Named float32 arrays; with another seed, their gradients."""
    rng = np.random.default_rng(seed)
    return {f"w{i:02}": rng.standard_normal(shape, dtype=np.float32) for i in range(leaves)}


class _Training:
    """Advances parameters and state by ``update(grads, state, params)`` with the same gradients."""

    def __init__(self, update: Callable[..., Any], grads: Any, state: Any, params: Any) -> None:
        self.update, self.grads, self.state, self.params = update, grads, state, params

    def __call__(self) -> None:
        self.params, self.state = self.update(self.grads, self.state, self.params)

    def contender(
        self, name: str, wait: Callable[[Any], object] = lambda value: value
    ) -> Contender:
        return Contender(
            name,
            self,
            lambda: wait((self.params, self.state)),
            lambda: functions.leaves(self.params),
        )


def update_by_hand(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
    """NumPy alone, in place, leaf by leaf with two temporaries of a leaf's size."""
    step, mean, square = state
    step += 1
    rate, root = RATE / (1 - BETA1**step), (1 - BETA2**step) ** 0.5
    for name, grad in grads.items():
        m, s = mean[name], square[name]
        scratch = grad * (1 - BETA1)
        m *= BETA1
        m += scratch
        np.multiply(grad, grad, out=scratch)
        scratch *= 1 - BETA2
        s *= BETA2
        s += scratch
        np.sqrt(s, out=scratch)
        scratch *= 1 / root
        scratch += EPS
        np.divide(m, scratch, out=scratch)
        scratch *= rate
        params[name] -= scratch
    return params, (step, mean, square)


def zero_state(params: Params) -> tuple[int, Params, Params]:
    """No steps, both means 0."""
    mean, square = ({k: np.zeros_like(v) for k, v in params.items()} for _ in range(2))
    return 0, mean, square


def measure() -> list[Result]:
    """A step, parameters and state given up for the new ones where a library knows how."""
    contenders = [
        _ours(functions.OURS),
        _ours(functions.OURS_ON_NUMPY, backend="numpy"),
        _jax(),
        *_torch(),
        _Training(update_by_hand, make_params(seed=1), *_start()).contender("NumPy by hand"),
    ]
    check_agreement(contenders, rtol=1e-4, atol=1e-6)
    count = LEAVES * SHAPE[0] * SHAPE[1]
    what = f"Adam step, {count // 1_000_000}M parameters in {LEAVES} leaves, float32"
    work = Work(moved=7 * count * 4)  # four arrays read and three written
    return compare(what, [*contenders, *_moving(count)], BARS, PLAN, work=work)


def _start() -> tuple[Any, Params]:
    params = make_params()
    return zero_state(params), params


def _ours(name: str, **options: Any) -> Contender:
    import funcgrad as fg
    import funcgrad_nn as nn

    optimizer, params = nn.adam(RATE, BETA1, BETA2, EPS), make_params()
    update = fg.jit(optimizer.update, donate_argnums=(1, 2), **options)
    return _Training(update, make_params(seed=1), optimizer.init(params), params).contender(name)


def _jax() -> Contender:
    import jax
    import jax.numpy as jnp

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        step, mean, square = state
        step = step + 1
        rate, root = RATE / (1 - BETA1**step), jnp.sqrt(1 - BETA2**step)
        mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, grads)
        square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, square, grads)
        rate, root = rate.astype(jnp.float32), root.astype(jnp.float32)
        params = jax.tree.map(
            lambda p, m, s: p - rate * m / (jnp.sqrt(s) / root + EPS), params, mean, square
        )
        return params, (step, mean, square)

    args = jax.tree.map(jnp.array, (make_params(seed=1), *_start()))
    return _Training(jax.jit(update, donate_argnums=(1, 2)), *args).contender(
        "JAX jit", jax.block_until_ready
    )


def _torch() -> list[Contender]:
    """The optimiser's fused loop, and its default implementation."""
    return [_torch_optimizer("PyTorch, fused", fused=True), _torch_optimizer("PyTorch")]


def _torch_optimizer(name: str, **options: Any) -> Contender:
    import torch

    params = {key: torch.tensor(value) for key, value in make_params().items()}
    for key, grad in make_params(seed=1).items():
        params[key].grad = torch.tensor(grad)
    optimizer = torch.optim.Adam(params.values(), RATE, (BETA1, BETA2), EPS, **options)
    return Contender(name, optimizer.step, outcome=lambda: functions.leaves(params))


def _moving(count: int) -> list[Contender]:
    """Four arrays read and three written: with next to no arithmetic, and by copying."""
    from benchmarks import by_numba

    # Zeros that no one has written yet would all be read from one page, in the cache.
    arrays = [tuple(np.ones(count // LEAVES, np.float32) for _ in range(LEAVES)) for _ in range(4)]
    return [
        Contender(MOVED[0], lambda: by_numba.touch(*arrays)),
        Contender(MOVED[1], roofline.Moving("copying", 7 * count * 4)),
    ]
