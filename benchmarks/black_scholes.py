"""A call option's price and greeks by Black and Scholes, for a million options.

F. Black, M. Scholes (1973), *The Pricing of Options and Corporate Liabilities*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Contender, Plan, Result, Work, check_agreement, compare

OPTIONS = 1_000_000
PLAN = Plan(rounds=9, repeats=2, loop_s=0.0)
BARS = {"JAX jit": Bar(5.0, at_least=True)}
SPOT, TIME, RATE, VOLATILITY = 0, 2, 3, 4


def make_options(count: int = OPTIONS) -> tuple[np.ndarray, ...]:
    """Spot, strike, time to expiry, interest rate and volatility, each (count,) float64."""
    rng = np.random.default_rng(0)
    ranges = (80.0, 120.0), (80.0, 120.0), (0.1, 2.0), (0.0, 0.1), (0.1, 0.5)
    return tuple(rng.uniform(low, high, count) for low, high in ranges)


def make_price(xp: Any, ndtr: Callable[[Any], Any]) -> Callable[..., Any]:
    """The price of one option, spelled once for all libraries."""

    def price(spot: Any, strike: Any, time: Any, rate: Any, volatility: Any) -> Any:
        spread = volatility * xp.sqrt(time)
        d1 = (xp.log(spot / strike) + (rate + 0.5 * volatility**2) * time) / spread
        return spot * ndtr(d1) - strike * xp.exp(-rate * time) * ndtr(d1 - spread)

    return price


def make_greeks(price: Callable[..., Any], lib: Any) -> Callable[..., Any]:
    """Price, delta, gamma, vega, theta and rho by ``grad`` and ``vmap`` of a library."""
    firsts = lib.value_and_grad(price, argnums=(SPOT, TIME, RATE, VOLATILITY))
    second = lib.grad(lib.grad(price))

    def greeks(*option: Any) -> tuple[Any, ...]:
        value, (delta, by_time, rho, vega) = firsts(*option)
        return value, delta, second(*option), vega, -by_time, rho

    return lib.vmap(greeks)


def greeks_by_hand(
    spot: Any, strike: Any, time: Any, rate: Any, volatility: Any
) -> tuple[np.ndarray, ...]:
    """NumPy and SciPy alone: the textbook's formulas, what they share computed once."""
    from scipy.special import ndtr

    root = np.sqrt(time)
    spread = volatility * root
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility * volatility) * time) / spread
    delta, density = ndtr(d1), np.exp(-0.5 * d1 * d1) * (2.0 * np.pi) ** -0.5
    discounted = strike * np.exp(-rate * time) * ndtr(d1 - spread)
    decay = -0.5 * spot * density * volatility / root - rate * discounted
    vega = spot * density * root
    price = spot * delta - discounted
    return price, delta, density / (spot * spread), vega, decay, time * discounted


def measure() -> list[Result]:
    """Price and five greeks, float64."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    from funcgrad.scipy import special

    options = make_options()
    contenders = [
        *functions.ours(make_greeks(make_price(np, special.ndtr), fg), *options),
        functions.jax(make_greeks(make_price(jnp, jax.scipy.special.ndtr), jax), *options),
        *_torch(options),
        functions.contender("NumPy by hand", greeks_by_hand, *options),
    ]
    check_agreement(contenders, calls=1, rtol=1e-8, atol=1e-8)
    what = "speed-up of Black-Scholes price and greeks, 1M options, float64"
    return compare(what, contenders, BARS, PLAN, True, Work(11 * options[0].nbytes))


def _torch(options: tuple[np.ndarray, ...]) -> list[Contender]:
    """By two backward passes over the whole batch; and compiled, by its ``vmap`` and ``grad``."""
    import torch

    price = make_price(torch, torch.special.ndtr)
    tensors = [torch.tensor(part) for part in options]
    by = [tensors[index].requires_grad_() for index in (SPOT, TIME, RATE, VOLATILITY)]

    def greeks() -> Any:
        value = price(*tensors)
        delta, by_time, rho, vega = torch.autograd.grad(value.sum(), by, create_graph=True)
        (gamma,) = torch.autograd.grad(delta.sum(), by[0])
        return value, delta, gamma, vega, -by_time, rho

    contenders = [functions.contender("PyTorch", greeks)]
    if functions.can_compile_torch():
        compiled = torch.compile(make_greeks(price, _TorchFunc()))
        plain = [tensor.detach() for tensor in tensors]
        contenders.append(functions.contender(functions.COMPILED_TORCH, compiled, *plain))
    return contenders


class _TorchFunc:
    """``torch.func`` under the names that the others use."""

    def __init__(self) -> None:
        from torch import func

        self.grad, self.vmap = func.grad, func.vmap

    def value_and_grad(self, fun: Callable[..., Any], argnums: tuple[int, ...]) -> Any:
        from torch import func

        with_grads = func.grad_and_value(fun, argnums=argnums)
        return lambda *args: with_grads(*args)[::-1]
