"""Random small programs in plain NumPy, as a Hypothesis strategy.

A program takes a few arrays and runs a list of steps; each step applies an operation to
values made before. Operations stay where they are smooth and finite (log of something
positive, exp of something bounded), so that finite differences mean something; those with
kinks are marked, and the programs that use them are checked only against themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg
from program_steps import Operation, Shape, Steps, draw_steps, run, text

SHAPES: list[Shape] = [(), (3,), (2, 3), (3, 3), (1, 3)]


def broadcastable(*shapes: Shape) -> bool:
    try:
        return np.broadcast_shapes(*shapes) in SHAPES
    except ValueError:
        return False


def has_axis(shape: Shape) -> bool:
    return len(shape) > 0


def is_matrix(shape: Shape) -> bool:
    return len(shape) == 2


def multiplies(x: Shape, y: Shape) -> bool:
    if not x or not y:
        return False
    return x[-1] == (y[0] if len(y) == 1 else y[-2])


def _scan(x: Any) -> Any:
    carry, ys = fg.scan(lambda h, row: (np.tanh(h * 0.5 + row), np.sin(h) * row), x[0] * 0.1, x)
    return np.concatenate([ys, np.expand_dims(carry, 0)])[1:]


def _scan_back(x: Any, c: Any) -> Any:
    def step(h: Any, row: Any) -> Any:
        return np.sin(h) + c * row, h

    return fg.scan(step, np.sum(x) * 0.1, np.ravel(x), reverse=True)[0]


def _loop(x: Any) -> Any:
    return fg.fori_loop(0, 3, lambda i, h: np.tanh(h + 0.1 * i * x), x)


def _branch(x: Any, y: Any) -> Any:
    return fg.cond(np.sum(x) > 0, lambda a, b: np.sin(a) * b, lambda a, b: a - np.cos(b), x, y)


def _while(x: Any) -> Any:
    return fg.fori_loop(0, 2, lambda i, h: fg.cond(i > 0, np.sin, np.tanh, h), x)


@fg.custom_jvp
def _soft_square(x: Any) -> Any:
    return np.tanh(x) ** 2


@_soft_square.defjvp
def _soft_square_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    y = np.tanh(x)
    return y**2, 2.0 * y * (1.0 - y**2) * t


@fg.custom_vjp
def _soft_product(x: Any, y: Any) -> Any:
    return np.tanh(x) * np.sin(y)


def _soft_product_forward(x: Any, y: Any) -> Any:
    return _soft_product(x, y), (x, y)


def _soft_product_backward(residuals: Any, ct: Any) -> Any:
    x, y = residuals
    return ct * (1.0 - np.tanh(x) ** 2) * np.sin(y), ct * np.tanh(x) * np.cos(y)


_soft_product.defvjp(_soft_product_forward, _soft_product_backward)


def same(x: Shape, y: Shape) -> bool:
    return x == y


OPERATIONS = [
    Operation("sin", 1, np.sin),
    Operation("tanh", 1, np.tanh),
    Operation("exp", 1, lambda x: np.exp(np.tanh(x))),
    Operation("log", 1, lambda x: np.log(1.5 + np.square(x))),
    Operation("log1p", 1, lambda x: np.log1p(x * x)),
    Operation("sqrt", 1, lambda x: np.sqrt(1.0 + x**2)),
    Operation("expm1", 1, lambda x: np.expm1(np.sin(x))),
    Operation("arctan", 1, np.arctan),
    Operation("reciprocal", 1, lambda x: 1 / (2.0 + np.cos(x))),
    Operation("negative", 1, lambda x: -x),
    Operation("cube", 1, lambda x: np.tanh(x) ** 3),
    Operation("power", 2, lambda x, y: (1.5 + np.sin(x)) ** np.tanh(y), broadcastable),
    Operation("add", 2, lambda x, y: x + y, broadcastable),
    Operation("subtract", 2, lambda x, y: x - y, broadcastable),
    Operation("multiply", 2, lambda x, y: x * np.tanh(y), broadcastable),
    Operation("divide", 2, lambda x, y: x / (2.0 + np.sin(y)), broadcastable),
    Operation("logaddexp", 2, np.logaddexp, broadcastable),
    Operation("arctan2", 2, lambda x, y: np.arctan2(x, 2.0 + np.tanh(y)), broadcastable),
    Operation("hypot", 2, lambda x, y: np.hypot(x, 1.5 + np.cos(y)), broadcastable),
    Operation("sum", 1, np.sum),
    Operation("sum0", 1, lambda x: np.sum(x, axis=0), has_axis),
    Operation("mean", 1, lambda x: np.mean(x, axis=-1, keepdims=True), has_axis),
    Operation("var", 1, lambda x: np.var(x, axis=0), has_axis),
    Operation("prod", 1, lambda x: np.prod(1.0 + 0.3 * np.tanh(x), axis=-1), has_axis),
    Operation("norm", 1, lambda x: np.linalg.norm(2.0 + np.sin(x))),
    Operation("cumsum", 1, lambda x: np.cumsum(x, axis=-1), has_axis),
    Operation("cumprod", 1, lambda x: np.cumprod(1.0 + 0.3 * np.tanh(x), axis=-1), has_axis),
    Operation("reshape", 1, lambda x: np.reshape(np.ravel(x), x.shape[::-1]), is_matrix),
    Operation("transpose", 1, lambda x: (x @ x.T) * 0.1, is_matrix),
    Operation("broadcast", 1, lambda x: np.broadcast_to(x, (2, 3)), lambda s: s in [(), (3,)]),
    Operation(
        "concatenate",
        2,
        lambda x, y: np.concatenate([x, y])[1:-1:2],
        same_vector := (lambda x, y: x == y == (3,)),
    ),
    Operation("stack", 2, lambda x, y: np.stack([x, y])[:, 1:], same_vector),
    Operation("flip", 1, lambda x: np.flip(x, -1) * 0.5 + x, has_axis),
    Operation("roll", 1, lambda x: np.roll(x, 1, axis=-1), has_axis),
    Operation("pad", 1, lambda x: np.pad(x, (1, 0))[:3], lambda s: s == (3,)),
    Operation("index", 1, lambda x: x[-1], has_axis),
    Operation("slice", 1, lambda x: x[..., ::-1], has_axis),
    Operation("gather", 1, lambda x: x[np.array([2, 0, 2])], lambda s: s[:1] == (3,)),
    Operation("take", 1, lambda x: np.take(x, [0, 0, 1], axis=-1), lambda s: s[-1:] == (3,)),
    Operation("at", 2, lambda x, y: fg.at(x)[1].add(y), lambda x, y: x == (3,) and y == ()),
    Operation("set", 2, lambda x, y: fg.at(x)[0].set(y), lambda x, y: x == (3, 3) and y == (3,)),
    Operation("matmul", 2, lambda x, y: np.tanh(x @ y), multiplies),
    Operation("outer", 2, lambda x, y: np.outer(x, y) * 0.3, same_vector),
    Operation("einsum", 2, lambda x, y: np.einsum("ij,ij->j", x, y), lambda x, y: x == y == (2, 3)),
    Operation("where", 2, lambda x, y: np.where(np.array([True, False, True]), x, y), same_vector),
    Operation("scan", 1, _scan, has_axis),
    Operation("scan back", 2, _scan_back, lambda x, y: len(x) > 0 and y == ()),
    Operation("fori_loop", 1, _loop),
    Operation("loop of branches", 1, _while),
    Operation("checkpoint", 1, fg.checkpoint(lambda x: np.sin(x) * np.tanh(x))),
    Operation("custom_jvp", 1, _soft_square),
    Operation("custom_vjp", 2, _soft_product, same),
    Operation("inner jit", 2, fg.jit(lambda x, y: np.sin(x) * y), broadcastable),
    Operation("inner vmap", 1, lambda x: fg.vmap(lambda r: np.sin(r) * np.sum(r))(x), has_axis),
    Operation("inner grad", 1, lambda x: fg.grad(lambda z: np.sum(np.sin(z) * x))(x)),
    Operation("cond", 2, _branch, same, smooth=False),
    Operation("abs", 1, np.abs, smooth=False),
    Operation("maximum", 2, np.maximum, broadcastable, smooth=False),
    Operation("clip", 1, lambda x: np.clip(x, -0.5, 0.7), smooth=False),
    Operation("max", 1, lambda x: np.max(x, axis=-1), has_axis, smooth=False),
    Operation("sort", 1, lambda x: np.sort(x, axis=-1), has_axis, smooth=False),
    Operation("floor", 1, lambda x: x - np.floor(x), smooth=False),
    Operation("choose", 2, lambda x, y: np.where(x > y, x * y, x), broadcastable, smooth=False),
]


@dataclass(frozen=True)
class Program:
    """Steps over the arrays made so far; the result is the last value made."""

    inputs: tuple[Shape, ...]
    steps: Steps
    seed: int

    def __call__(self, *args: Any) -> Any:
        return run(self.steps, args)[-1]

    @property
    def smooth(self) -> bool:
        return all(operation.smooth for operation, _ in self.steps)

    def __repr__(self) -> str:
        inputs = "; ".join(f"v{i}: {shape}" for i, shape in enumerate(self.inputs))
        return f"<Program seed={self.seed}; {inputs}; {text(self.steps, len(self.inputs))}>"

    def arguments(self, batch: int | None = None) -> list[Any]:
        rng = np.random.default_rng(self.seed)
        lead = () if batch is None else (batch,)
        return [np.asarray(rng.uniform(-1.0, 1.0, (*lead, *s))) for s in self.inputs]


@st.composite
def programs(draw: Any, smooth: bool = False, max_steps: int = 6) -> Program:
    """Programs of one to three inputs and up to `max_steps` steps."""
    inputs = tuple(draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3)))
    seed = draw(st.integers(0, 2**16))
    values = Program(inputs, (), seed).arguments()
    return Program(inputs, draw_steps(draw, OPERATIONS, values, max_steps, smooth), seed)
