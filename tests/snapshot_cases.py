"""Small functions, and what is printed of them: the cases of `test_snapshots.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
from funcgrad.scipy import special
from funcgrad.transforms.simplify import simplify

X = np.linspace(0.1, 0.9, 3)
ROWS = np.stack([X, X * 2.0])


def f(x: Any) -> Any:
    return np.sin(x) * x


def loss(params: Any, x: Any, y: Any) -> Any:
    return np.mean((np.tanh(x @ params["w"] + params["b"]) - y) ** 2)


PARAMS = {"w": np.ones((3, 2)), "b": np.zeros(2)}
BATCH = (PARAMS, np.ones((4, 3)), np.ones((4, 2)))


def branch(x: Any) -> Any:
    return fg.cond(np.sum(x) > 1.0, np.sin, lambda x: x * x, x)


def choose(i: Any, x: Any) -> Any:
    return fg.switch(i, [np.sin, np.cos, lambda x: x], x)


def recurrence(h: Any, xs: Any) -> Any:
    return fg.scan(lambda h, x: (np.tanh(h + x), h * x), h, xs)


def repeated(x: Any) -> Any:
    return fg.fori_loop(0, 3, lambda i, c: c * x + i, x)


def invariant(w: Any, x: Any) -> Any:
    return fg.fori_loop(0, 5, lambda i, c: np.tanh(w @ w.T @ c), x)


def newton(x: Any) -> Any:
    return fg.while_loop(lambda y: np.abs(y * y - x) > 1e-6, lambda y: 0.5 * (y + x / y), x)


@fg.custom_jvp
def soft(x: Any) -> Any:
    return np.log1p(np.exp(x))


@soft.defjvp
def _soft_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return soft(x), t / (1.0 + np.exp(-x))


@fg.custom_vjp
def clipped(x: Any) -> Any:
    return x * 1.0


clipped.defvjp(lambda x: (x * 1.0, None), lambda residuals, ct: (np.clip(ct, -1.0, 1.0),))

block = fg.checkpoint(lambda x: np.exp(np.sin(x)))


def total(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: np.sum(function(*args))


def pull(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, ct: fg.vjp(function, x)[1](ct)


def push(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, t: fg.jvp(function, (x,), (t,))


def linear(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, t: fg.linearize(function, x)[1](t)


def random(key: Any) -> Any:
    first, second = fg.random.split(key)
    return fg.random.uniform(first, (2,)) + fg.random.bernoulli(second, 0.5, (2,))


# Per case, a function and the arguments it is traced for.
GRAPHS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "function": (f, (X,)),
    "loss": (loss, BATCH),
    "indexing": (lambda x, i: (x[0], x[:, ::-1], x[i], fg.at(x)[i].add(1.0)), (ROWS, np.array(1))),
    "random": (random, (fg.random.key(0),)),
    "grad": (fg.grad(total(f)), (X,)),
    "value_and_grad of the loss": (fg.value_and_grad(loss), BATCH),
    "vjp": (pull(f), (X, X)),
    "jvp": (push(f), (X, X)),
    "linearize": (linear(f), (X, X)),
    "jacfwd": (fg.jacfwd(f), (X,)),
    "jacrev": (fg.jacrev(f), (X,)),
    "hessian": (fg.hessian(total(f)), (X,)),
    "vmap": (fg.vmap(f), (ROWS,)),
    "vmap of the loss over examples": (fg.vmap(loss, in_axes=(None, 0, 0)), BATCH),
    "vmap of grad": (fg.vmap(fg.grad(total(f))), (ROWS,)),
    "jit": (lambda x: fg.jit(f)(x) + 1.0, (X,)),
    "stop_gradient": (fg.grad(lambda x: x * fg.stop_gradient(x)), (1.0,)),
    "cond": (branch, (X,)),
    "grad of cond": (fg.grad(total(branch)), (X,)),
    "jvp of cond": (push(branch), (X, X)),
    "vmap of cond": (fg.vmap(branch), (ROWS,)),
    "switch": (choose, (1, X)),
    "scan": (recurrence, (0.0, X)),
    "grad of scan": (fg.grad(lambda h, xs: recurrence(h, xs)[0]), (0.0, X)),
    "jvp of scan": (push(lambda xs: recurrence(0.0, xs)), (X, X)),
    "vmap of scan": (fg.vmap(recurrence, in_axes=(None, 0)), (0.0, ROWS)),
    "fori_loop": (repeated, (X,)),
    "grad of fori_loop": (fg.grad(total(repeated)), (X,)),
    "while_loop": (newton, (2.0,)),
    "jvp of while_loop": (push(newton), (2.0, 1.0)),
    "vmap of while_loop": (fg.vmap(newton), (X,)),
    "custom_jvp": (soft, (X,)),
    "grad of custom_jvp": (fg.grad(total(soft)), (X,)),
    "jvp of custom_jvp": (push(soft), (X, X)),
    "custom_vjp": (clipped, (X,)),
    "grad of custom_vjp": (fg.grad(total(lambda x: clipped(x) ** 2)), (X,)),
    "vmap of grad of custom_vjp": (fg.vmap(fg.grad(total(lambda x: clipped(x) ** 2))), (ROWS,)),
    "checkpoint": (block, (X,)),
    "grad of checkpoint": (fg.grad(total(lambda x: block(x) ** 2)), (X,)),
}
SIMPLIFIED = ["value_and_grad of the loss", "hessian", "jit", "grad of scan", "vmap of cond"]
SOURCES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "step": (fg.value_and_grad(loss), BATCH),
    "large": (fg.value_and_grad(loss), (PARAMS, np.ones((9000, 3)), np.ones((9000, 2)))),
    "loops": (lambda h, xs, x: (recurrence(h, xs), newton(x)), (0.0, X, 2.0)),
    "grad of scan": (fg.grad(lambda h, xs: recurrence(h, xs)[0]), (0.0, X)),
    "grad of checkpoint": (fg.grad(total(lambda x: block(x) ** 2)), (X,)),
    "loop with an invariant": (invariant, (np.eye(3), X)),
    "branches": (lambda i, x: (branch(x), choose(i, x)), (1, X)),
    "helpers": (lambda x: special.logsumexp(x) + special.expit(x), (X,)),
}


def texts() -> dict[str, str]:
    """What is printed, by the name of the file that it is kept in."""
    found: dict[str, str] = {}
    for name, (function, args) in GRAPHS.items():
        graph = fg.make_graph(function)(*args)
        found[f"graph of {name}"] = str(graph)
        if name in SIMPLIFIED:
            found[f"simplified {name}"] = str(simplify(graph))
    for name, (function, args) in SOURCES.items():
        found[f"source of {name}"] = fg.jit(function, backend="numpy").lower(*args).text
    return found
