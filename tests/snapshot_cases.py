"""Small functions, and what is printed of them: the cases of `test_snapshots.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import funcgrad as fg
from funcgrad.backends.common.prepare import prepare
from funcgrad.backends.common.sites import Lines
from funcgrad.backends.loops.fusion.target import RowPieces
from funcgrad.backends.loops.fusion.updates import planned_graph
from funcgrad.backends.loops.nests.views import View
from funcgrad.backends.loops.planning.planner import plan_program
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


# --- plans -----------------------------------------------------------------------------


def single(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def layer(x: Any, w: Any, b: Any) -> Any:
    return np.maximum(x @ w + b, 0.0)


def normalized(x: Any) -> Any:
    centred = x - np.mean(x, axis=1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)


def pairwise(x: Any) -> Any:
    away = x[:, None] - x[None]
    return np.sum(away / (np.sum(away * away, axis=-1) + 0.01)[..., None] ** 1.5, axis=1)


def energy(x: Any, w: Any) -> Any:
    return np.sum(np.sum(sliding_window_view(x, 5) * w, axis=-1) ** 2)


def max_pool(x: Any) -> Any:
    windows = sliding_window_view(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2]
    return np.max(windows, axis=(-2, -1))


def pooled(function: Callable[..., Any], *shape: int) -> Callable[..., Any]:
    """The sums of a function over windows of the last axes."""
    axes = tuple(range(-len(shape), 0))
    return lambda x: np.sum(function(sliding_window_view(x, shape, axes)), axis=axes)


def far_windows(x: Any) -> Any:
    return sliding_window_view(x, 40, axis=2)[:, :, ::2]


def optimiser(params: Any, moments: Any, grads: Any) -> Any:
    moments = [0.9 * m + 0.1 * g for m, g in zip(moments, grads, strict=True)]
    return [p - 0.01 * m for p, m in zip(params, moments, strict=True)], moments


def until(a: Any, x: Any) -> Any:
    return fg.while_loop(lambda x: np.sum(x * x) < 1e3, lambda x: np.tanh(a @ x) + 2.0 * x, x)


LEAVES = [single(300, 300)] * 3
LOGITS = single(8192, 1000)
PLANS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "fused sum": (fg.value_and_grad(lambda x: np.sum(np.tanh(x) * np.exp(-x * x))), (LOGITS,)),
    "cross-entropy": (
        fg.value_and_grad(
            lambda z, y: np.mean(special.logsumexp(z, axis=1) - z[np.arange(len(y)), y])
        ),
        (LOGITS, np.zeros(8192, np.int64)),
    ),
    "norm of rows": (normalized, (LOGITS,)),
    "product with bias and activation": (
        layer,
        (single(256, 128), single(128, 512), single(512)),
    ),
    "gradient of a layer": (
        fg.grad(total(layer), argnums=(0, 1, 2)),
        (single(256, 128), single(128, 512), single(512)),
    ),
    "N-body": (pairwise, (single(500, 3),)),
    "optimiser": (optimiser, (LEAVES, LEAVES, LEAVES)),
    "transposed": (lambda x: x.T * 2.0 + x.T, (single(300, 200),)),
    "gather and scatter": (
        fg.grad(lambda x, i: np.sum(np.sin(x[i]))),
        (single(100, 50), np.zeros(30, np.int64)),
    ),
    "update of a weight": (
        lambda w, x, g: w - 0.1 * (x.T @ g),
        (single(64, 32), single(99, 64), single(99, 32)),
    ),
    "slowest axis first": (lambda x: x.transpose(2, 1, 0) + 1.0, (single(40, 50, 60),)),
    "clusters that meet": (
        lambda x, y: np.sqrt(np.exp(x) + np.sin(y)),
        (single(3000), single(3000)),
    ),
    "correlation and its gradient": (fg.value_and_grad(energy), (single(700), single(5))),
    "max pool": (max_pool, (single(2, 3, 40, 60),)),
    "gradient of a max pool": (fg.grad(total(max_pool)), (single(2, 3, 40, 60),)),
    "put together": (
        lambda x, y: np.concatenate([x * 2.0, y + 1.0], axis=1),
        (single(100, 50), single(100, 20)),
    ),
    "rows by example": (fg.vmap(lambda x, i: x[i] * 2.0), (single(40, 60), np.zeros(40, int))),
    "host": (lambda x: np.sort(x * 2.0, axis=1) + 1.0, (single(40, 50),)),
    "scan": (recurrence, (single(200), single(50, 200))),
    "scan in registers": (recurrence, (0.0, X)),
    "while": (until, (single(200, 200), single(200))),
    "branches": (
        lambda p, x: fg.cond(p, lambda: np.sin(x) * 2.0, lambda: np.sort(x)),
        (np.array(True), single(300)),
    ),
    "small": (lambda a, x: np.tanh(a @ x), (single(3, 3), single(3))),
    "added windows": (pull(far_windows), (single(20, 1, 300), single(20, 1, 131, 40))),
    "turned windows": (
        lambda x: np.max(sliding_window_view(x, 5, axis=1)[:, ::-1], axis=-1),
        (single(300, 60),),
    ),
    "windows in a row": (
        lambda x: np.max(sliding_window_view(x, 5, axis=1).reshape(-1, 5), axis=-1),
        (single(300, 60),),
    ),
    "windows of much work": (pooled(np.tanh, 8, 8), (single(40, 60),)),
    "windows of some work": (pooled(lambda x: x / 3.0, 6, 6), (single(40, 60),)),
    "sums of short rows": (
        lambda *xs: [np.sum(x, axis=-1) for x in xs],
        (single(256, 3), single(3000, 2), single(3000, 1)),
    ),
    "sums over short rows": (lambda x: np.sum(x, axis=0), (single(3000, 3),)),
    "sums and elements of short rows": (
        lambda x: (np.sum(x * x, axis=-1), np.cos(x)),
        (single(3000, 4),),
    ),
    "turned axes": (lambda x: x.transpose(2, 1, 0), (single(40, 50, 60),)),
    "two sums over rows": (
        lambda x: (np.sum(np.exp(x), axis=0), np.sum(x, axis=0)),
        (single(3000, 400),),
    ),
}


class FixedProduct(NamedTuple):
    """A product as no processor in particular computes it."""

    rows: RowPieces | None
    adds_in_place: bool
    products: int
    work: int
    operator: str = "@"


def fixed_product(x: View, y: View, dtype: np.dtype, scale: float, adds: bool) -> FixedProduct:
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    rows, columns, inner = x.shape[-2], y.shape[-1], x.shape[-1]
    pieces = RowPieces(rows, 32) if rows >= 64 and not lead else None
    return FixedProduct(pieces, False, prod(lead), prod(lead) * rows * columns * inner)


def plan_of(function: Callable[..., Any], *args: Any, donated: tuple[int, ...] = ()) -> str:
    """A function's plan for a processor in general."""
    from funcgrad.backends.llvm.program.target import TARGET

    target = TARGET._replace(
        product=fixed_product, can_multiply=lambda eqn: True, convolution=lambda form, dtype: None
    )
    graph = prepare(fg.jit(function).lower(*args).graph)
    return str(plan_program(planned_graph(graph, target), target, Lines(graph), donated))


def graph_of(function: Callable[..., Any], *args: Any, then: Any = lambda graph: graph) -> str:
    return str(then(fg.make_graph(function)(*args)))


def source_of(function: Callable[..., Any], *args: Any) -> str:
    return fg.jit(function, backend="numpy").lower(*args).text


def texts() -> dict[str, Callable[[], str]]:
    """What prints each text, by the name of the file that it is kept in."""
    found: dict[str, Callable[[], str]] = {}
    for name, (function, args) in PLANS.items():
        found[f"plan of {name}"] = partial(plan_of, function, *args)
    for name, (function, args) in GRAPHS.items():
        found[f"graph of {name}"] = partial(graph_of, function, *args)
    for name in SIMPLIFIED:
        function, args = GRAPHS[name]
        found[f"simplified {name}"] = partial(graph_of, function, *args, then=simplify)
    for name, (function, args) in SOURCES.items():
        found[f"source of {name}"] = partial(source_of, function, *args)
    return found
