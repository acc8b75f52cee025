"""What random programs are made of: operations, and constructs whose bodies are such steps again.

A body gets the values made so far by closing over them, and its own inputs (a carry, a row) as
arguments; its steps take either, so that much is computed from closed-over values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One step: `apply(*operands)`, for operands whose shapes satisfy `accepts`."""

    name: str
    arity: int
    apply: Callable[..., Any]
    accepts: Callable[..., bool] = lambda *shapes: True
    smooth: bool = True


Step = tuple[Any, tuple[int, ...]]
Steps = tuple[Step, ...]
Body = Callable[..., Any]


def run(steps: Sequence[Step], values: Sequence[Any]) -> list[Any]:
    """These values, and the one that each step makes."""
    values = list(values)
    for operation, operands in steps:
        if isinstance(operation, Nested):
            values.append(operation.apply(values))
        else:
            values.append(operation.apply(*[values[i] for i in operands]))
    return values


def text(steps: Sequence[Step], first: int) -> str:
    lines = []
    for k, (operation, operands) in enumerate(steps):
        called = (
            operation.text(first + k)
            if isinstance(operation, Nested)
            else f"{operation.name}({', '.join(f'v{i}' for i in operands)})"
        )
        lines.append(f"v{first + k} = {called}")
    return "; ".join(lines)


def is_float(x: Any) -> bool:
    return np.issubdtype(x.dtype, np.floating)


def as_float(x: Any) -> Any:
    """Bounded, so that the order of a sum does not matter much."""
    return x if is_float(x) or x.dtype == bool else x % 13


def _fit(x: Any, value: Any) -> Any:
    """Something of `x`'s shape and dtype that depends on both."""
    mean = np.mean(as_float(value))
    if is_float(x):
        return x * 0.5 + np.tanh(mean).astype(x.dtype)
    return x ^ (mean > 0.1234).astype(x.dtype)


def _cond(x: Any, bodies: Sequence[Body], count: int) -> Any:
    # Above one, the operands decide; below, the predicate is a constant that is traced.
    pred = (
        np.sum(as_float(x)) > 0.1234 if count > 1 else np.sum(as_float(x) ** 2) > 2000 * count - 1
    )
    return fg.cond(pred, *[lambda body=body: _fit(x, body()) for body in bodies[:2]])


def _switch(x: Any, bodies: Sequence[Body], count: int) -> Any:
    index = np.sum(as_float(x) > 0.1234) % 3 if count > 1 else np.sum(as_float(x) > 2000) + count
    return fg.switch(index, [lambda body=body: _fit(x, body()) for body in bodies])


def _while_loop(x: Any, bodies: Sequence[Body], count: int) -> Any:
    def step(c: tuple[Any, Any]) -> tuple[Any, Any]:
        return c[0] + 1, _fit(c[1], bodies[0](c[1]))

    last = np.sum(as_float(x) ** 2 >= 0) * 0 + count
    return fg.while_loop(lambda c: c[0] < last, step, (0, x))[1]


def _fori_loop(x: Any, bodies: Sequence[Body], count: int) -> Any:
    return fg.fori_loop(0, count, lambda i, c: _fit(c, bodies[0](c)) + (i * 0).astype(c.dtype), x)


def _scan(x: Any, bodies: Sequence[Body], count: int) -> Any:
    def step(c: Any, row: Any) -> tuple[Any, Any]:
        return _fit(c, bodies[0](row)), _fit(row, bodies[1](c))

    carry, rows = fg.scan(step, x, np.ravel(x), reverse=count % 2 == 1)
    return _fit(carry, rows)


def _map(x: Any, bodies: Sequence[Body], count: int) -> Any:
    rows = fg.map(lambda row: _fit(row, bodies[0](row)), np.ravel(x), batch_size=count or None)
    return np.reshape(rows, x.shape)


def _vmap(x: Any, bodies: Sequence[Body], count: int) -> Any:
    rows = fg.vmap(lambda row: _fit(row, bodies[0](row)))(np.ravel(x))
    return np.reshape(rows, x.shape)


def _checkpoint(x: Any, bodies: Sequence[Body], count: int) -> Any:
    if count > 1:
        return fg.checkpoint(lambda a: _fit(a, bodies[0](a)))(x)
    return fg.checkpoint(lambda: _fit(x, bodies[0](x)))()


def _jit(x: Any, bodies: Sequence[Body], count: int) -> Any:
    if count > 1:
        return fg.jit(lambda a: _fit(a, bodies[0](a)))(x)
    return fg.jit(lambda: _fit(x, bodies[0](x)))()


def _grad(x: Any, bodies: Sequence[Body], count: int) -> Any:
    if not is_float(x):
        return x
    return fg.grad(lambda z: np.sum(np.tanh(_fit(np.sin(z), bodies[0](z)))))(x)


def _custom_jvp(x: Any, bodies: Sequence[Body], count: int) -> Any:
    if not is_float(x):
        return x

    def function(a: Any) -> Any:
        return np.sin(a) + _fit(x0, bodies[0](x0))

    x0 = fg.stop_gradient(x)
    custom = fg.custom_jvp(function)
    custom.defjvp(lambda p, t: (custom(*p), np.cos(p[0]) * t[0] + 0 * _fit(x0, bodies[0](x0))))
    return custom(x)


def _custom_vjp(x: Any, bodies: Sequence[Body], count: int) -> Any:
    if not is_float(x):
        return x

    def function(a: Any) -> Any:
        return np.sin(a) + _fit(x0, bodies[0](x0))

    x0 = fg.stop_gradient(x)
    custom = fg.custom_vjp(function)
    custom.defvjp(
        # Linear in ct: 0 times what is not known until the program runs may be NaN.
        lambda a: (custom(a), a),
        lambda a, ct: ((np.cos(a) + 0 * _fit(x0, bodies[0](x0))) * ct,),
    )
    return custom(x)


CONSTRUCTS: dict[str, Callable[[Any, Sequence[Body], int], Any]] = {
    "cond": _cond,
    "switch": _switch,
    "while_loop": _while_loop,
    "fori_loop": _fori_loop,
    "scan": _scan,
    "map": _map,
    "vmap": _vmap,
    "checkpoint": _checkpoint,
    "jit": _jit,
    "grad": _grad,
    "custom_jvp": _custom_jvp,
    "custom_vjp": _custom_vjp,
}
BODIES = {"cond": 2, "switch": 3, "scan": 2}
# What each body gets beside the values that it closes over: a value of the operand's shape, one
# of its elements, or nothing.
CARRY = {"while_loop", "fori_loop", "checkpoint", "jit", "grad", "custom_jvp", "custom_vjp"}
ROW = {"map", "vmap"}
# No derivative goes through these, by their nature or because rules may not close over it.
CUT = {"while_loop", "custom_jvp", "custom_vjp"}


def own_inputs(kind: str, body: int, x: Any) -> list[Any]:
    if kind in CARRY or (kind == "scan" and body == 1):
        return [x]
    return [np.ravel(x)[0]] if kind in ROW or kind == "scan" else []


@dataclass(frozen=True)
class Nested:
    """A construct over bodies that close over all values before it."""

    kind: str
    bodies: tuple[Steps, ...]
    operand: int
    count: int

    def apply(self, values: Sequence[Any]) -> Any:
        values = list(values)
        x = values[self.operand]
        if self.kind in CUT:
            values = [fg.stop_gradient(v) for v in values]
        if self.kind == "while_loop":
            x = values[self.operand]

        def body(steps: Steps) -> Body:
            return lambda *inputs: run(steps, [*values, *inputs])[-1]

        return CONSTRUCTS[self.kind](x, [body(steps) for steps in self.bodies], self.count)

    @property
    def smooth(self) -> bool:
        if self.kind == "while_loop" or (self.kind in ("cond", "switch") and self.count > 1):
            return False
        # The derivative that a custom rule gives is of its argument alone.
        return self.kind not in CUT and all(o.smooth for body in self.bodies for o, _ in body)

    def text(self, first: int) -> str:
        inside = [
            "{" + text(body, first + len(own_inputs(self.kind, k, np.zeros(1)))) + "}"
            for k, body in enumerate(self.bodies)
        ]
        return f"{self.kind}(v{self.operand}, {self.count}, {', '.join(inside)})"


def fitting(
    operations: Sequence[Operation], shapes: Sequence[Shape]
) -> list[tuple[Operation, tuple[int, ...]]]:
    """Every operation with every choice of values that it accepts."""
    singles = [(i,) for i in range(len(shapes))]
    pairs = [(i, j) for i in range(len(shapes)) for j in range(len(shapes))]
    return [
        (operation, where)
        for operation in operations
        for where in (singles if operation.arity == 1 else pairs)
        if _accepts(operation, *[shapes[i] for i in where])
    ]


@cache
def _accepts(operation: Operation, *shapes: Shape) -> bool:
    return operation.accepts(*shapes)


def draw_steps(
    draw: Any,
    operations: Sequence[Operation],
    values: Sequence[Any],
    most: int,
    smooth: bool = False,
    depth: int = 2,
) -> Steps:
    """One to `most` steps on values like these, with constructs down to `depth`."""
    values = list(values)
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, most))):
        nested = depth and draw(st.integers(0, 3)) == 3
        step = (
            _draw_nested(draw, operations, values, smooth, depth - 1)
            if nested
            else _draw_operation(draw, operations, values, smooth)
        )
        with np.errstate(all="ignore"):
            values = run([step], values)
        steps.append(step)
    return tuple(steps)


def _draw_operation(
    draw: Any, operations: Sequence[Operation], values: Sequence[Any], smooth: bool
) -> Step:
    possible = fitting(operations, [np.shape(v) for v in values])
    name = draw(st.sampled_from(sorted({o.name for o, _ in possible if o.smooth or not smooth})))
    return draw(st.sampled_from([c for c in possible if c[0].name == name][::-1]))


def _draw_nested(
    draw: Any, operations: Sequence[Operation], values: Sequence[Any], smooth: bool, depth: int
) -> Step:
    kinds = [kind for kind in CONSTRUCTS if not (smooth and kind in CUT)]
    kind = draw(st.sampled_from(kinds))
    operand = draw(st.integers(0, len(values) - 1))
    count = draw(st.integers(0, 1 if smooth and kind in ("cond", "switch") else 3))
    bodies = []
    for number in range(BODIES.get(kind, 1)):
        given = [*values, *own_inputs(kind, number, values[operand])]
        bodies.append(draw_steps(draw, operations, given, 2, smooth, depth))
    return Nested(kind, tuple(bodies), operand, count), ()
