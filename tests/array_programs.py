"""Random programs over arrays of some size, as a Hypothesis strategy: what kernels are made of.

Shapes are drawn for each program from a few lengths, so that operands broadcast, reductions
meet what they reduced, and rows and columns differ. Each value stays bounded, whatever has been
applied before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

import funcgrad as fg
from funcgrad.scipy.special import logsumexp
from program_checks import assert_close, backends, weighted

# Where operands are equal but for rounding, these have another derivative.
KINKS = {"moving extreme", "positive", "clip", "maximum", "choose", "max", "min", "sort"}
Step = tuple[str, tuple[Any, ...]]

# Lengths around the widths of vectors, and some that fill blocks.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40, 64, 65, 100, 127, 129, 257, 1025)
MOST_ELEMENTS = 20_000

UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": np.sin,
    "tanh": np.tanh,
    "exp": lambda x: np.exp(-np.abs(x)),
    "log": lambda x: np.log(1.5 + np.square(x)),
    "sqrt": lambda x: np.sqrt(1.0 + np.square(x)),
    "negative": lambda x: -x,
    "square": lambda x: np.square(np.tanh(x)),
    "positive": lambda x: np.where(x > 0, x, 0.1 * x),
    "clip": lambda x: np.clip(x, -0.5, 0.7),
    "logistic": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "float32": lambda x: np.sin(x.astype(np.float32)).astype(x.dtype),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: (x + y) * 0.5,
    "subtract": lambda x, y: (x - y) * 0.5,
    "multiply": lambda x, y: x * np.tanh(y),
    "divide": lambda x, y: x / (2.0 + np.square(y)),
    "maximum": np.maximum,
    "choose": lambda x, y: np.where(x > y, x - y, 0.0),
    "arctan2": lambda x, y: np.arctan2(x, 2.0 + np.tanh(y)),
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "var": lambda x, **k: np.var(np.tanh(x), **k),
    "all": lambda x, **k: np.where(np.all(np.isfinite(x), **k), 0.5, -0.5),
    "logsumexp": lambda x, **k: logsumexp(x, **k) * 0.1,
}
ALONG = {
    "flip": lambda x, a: np.flip(x, a),
    "roll": lambda x, a: np.roll(x, 1, axis=a),
    "softmax": lambda x, a: _softmax(x, a),
    "normalise": lambda x, a: (
        (x - np.mean(x, axis=a, keepdims=True)) / np.sqrt(np.var(x, axis=a, keepdims=True) + 1.0)
    ),
    "sort": lambda x, a: np.sort(x, axis=a),
    "cumsum": lambda x, a: np.tanh(np.cumsum(x, axis=a) * 0.1),
    "half": lambda x, a: np.take(x, np.arange((x.shape[a] + 1) // 2), axis=a),
    "every other": lambda x, a: x[(slice(None),) * a + (slice(None, None, 2),)],
    "backwards": lambda x, a: x[(slice(None),) * a + (slice(None, None, -1),)],
    "first": lambda x, a: x[(slice(None),) * a + (0,)],
    "gather": lambda x, a: np.take(x, np.arange(x.shape[a]) * 7 % x.shape[a], axis=a),
    "pick": lambda x, a: _picked(x, a, x.shape[a], 3),
    "pick some": lambda x, a: _picked(x, a, (x.shape[a] + 1) // 2, 3),
    "diagonal": lambda x, a: _picked(x, a, min(x.shape[a], x.shape[(a + 1) % x.ndim]), 1),
    "twice": lambda x, a: np.concatenate([x, np.tanh(x)], axis=a),
    "pad": lambda x, a: np.pad(x, [(1, 0) if i == a else (0, 0) for i in range(x.ndim)]),
    "windows": lambda x, a: _windows(x, a, 3)[(slice(None),) * a + (slice(None, None, 2),)],
    "moving mean": lambda x, a: np.mean(_windows(x, a, 4), axis=-1),
    "moving extreme": lambda x, a: np.max(_windows(np.tanh(x), a, 70), axis=-1),
    "expand": lambda x, a: np.expand_dims(x, a),
    "set": lambda x, a: fg.at(x)[(slice(None),) * a + (0,)].set(0.25),
    "add at": lambda x, a: fg.at(x)[(slice(None),) * a + (slice(0, 2),)].add(0.25),
    "scan": lambda x, a: _scan(x, a),
}


# On integers and booleans every result is exact.
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
INTEGER_UNARY: dict[str, Callable[[Any], Any]] = {
    **{f"as {d}": lambda x, d=d: x.astype(d) for d in INTEGERS},
    "not": np.logical_not,
    "invert": lambda x: ~(x > 1),
    "twice as much": lambda x: x * 2,
    "magnitude": lambda x: np.abs(x.astype(np.int64)),
}
INTEGER_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "plus": lambda x, y: x + y,
    "times": lambda x, y: x * y,
    "quotient": lambda x, y: x.astype(np.int64) // y.astype(np.int64),
    "modulo": lambda x, y: x.astype(np.int32) % y.astype(np.int32),
    "larger": np.maximum,
    "less": lambda x, y: x < y,
    "equal": lambda x, y: x == y,
    "both": lambda x, y: (x > 0) & (y > 0),
    "which": lambda x, y: np.where(x > 1, x, y),
    "look up": lambda x, y: fg.numpy.take(
        np.arange(9) * 3, (x.astype(np.int32) + y.astype(np.int32)) % 9, axis=0
    ),
}
INTEGER_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "highest": np.max,
    "lowest": np.min,
    "any": np.any,
    "every": np.all,
    "count": np.count_nonzero,
    "where highest": lambda x, axis, keepdims: np.argmax(
        x, axis=axis[0] if isinstance(axis, tuple) else axis, keepdims=keepdims
    ),
}
KEEP_INTEGERS = [
    *"flip roll sort half backwards first gather pick diagonal windows expand".split(),
    *("every other", "pick some"),
]


def _picked(x: Any, axis: int, count: int, step: int) -> Any:
    """Elements by a count along one axis, and by steps along the next."""
    other = (axis + 1) % x.ndim
    first = np.arange(count)
    if other == axis:
        return np.take(x, first, axis=axis)
    return np.moveaxis(x, (axis, other), (0, 1))[first, first * step % x.shape[other]]


def _windows(x: Any, axis: int, length: int) -> Any:
    return sliding_window_view(x, min(length, x.shape[axis]), axis)


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _scan(x: Any, axis: int) -> Any:
    rows = np.moveaxis(x, axis, 0)
    start = fg.numpy.zeros_like(rows[0])
    return fg.scan(lambda h, row: (np.tanh(0.5 * h + row), h * row), start, rows)[1]


@dataclass(frozen=True)
class ArrayProgram:
    """Steps on the values made so far; the last few values are the results."""

    inputs: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    results: int
    seed: int
    dtype: str

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        values = list(args)
        for name, operands in self.steps:
            values.append(apply(name, values, operands))
        return tuple(values[-self.results :])

    @property
    def exact(self) -> bool:
        return self.dtype == "integers"

    @property
    def smooth(self) -> bool:
        return not self.exact and not {name for name, _ in self.steps} & KINKS

    @property
    def tolerance(self) -> float:
        if self.exact:
            return 0.0
        if self.dtype == "float16":
            return 2e-2
        single = self.dtype == "float32" or any(name == "float32" for name, _ in self.steps)
        return 1e-4 if single else 1e-10

    def arguments(self) -> list[Any]:
        rng = np.random.default_rng(self.seed)
        if self.exact:
            dtypes = rng.choice(INTEGERS, len(self.inputs))
            return [
                rng.integers(0, 9, s).astype(d) for s, d in zip(self.inputs, dtypes, strict=True)
            ]
        return [rng.uniform(-1.0, 1.0, s).astype(self.dtype) for s in self.inputs]


def apply(name: str, values: list[Any], operands: tuple[Any, ...]) -> Any:
    x, *rest = operands
    for unary in (UNARY, INTEGER_UNARY):
        if name in unary:
            return unary[name](values[x])
    for binary in (BINARY, INTEGER_BINARY):
        if name in binary:
            return binary[name](values[x], values[rest[0]])
    for reductions in (REDUCTIONS, INTEGER_REDUCTIONS):
        if name in reductions:
            return reductions[name](values[x], axis=rest[0], keepdims=rest[1])
    if name == "transpose":
        return np.transpose(values[x], rest[0])
    if name == "reshape":
        return np.reshape(values[x], rest[0])
    if name == "matmul":
        return np.tanh((values[x] @ np.swapaxes(values[rest[0]], -1, -2)) * 0.3)
    return ALONG[name](values[x], rest[0])


def check_arrays(program: ArrayProgram) -> None:
    """The program and its gradient: the same by each backend."""
    args = program.arguments()
    found = [fg.jit(program, backend=b)(*args) for b in backends()]
    for other in found[1:]:
        assert_close(other, found[0], program.tolerance)
    if program.smooth:
        gradient = fg.grad(weighted(program), argnums=tuple(range(len(args))))
        found = [fg.jit(gradient, backend=b)(*args) for b in backends()]
        for other in found[1:]:
            assert_close(other, found[0], 10 * program.tolerance)


def _broadcast(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    try:
        shape = np.broadcast_shapes(x, y)
    except ValueError:
        return False
    return int(np.prod(shape)) <= MOST_ELEMENTS


def _step(draw: Any, shapes: list[tuple[int, ...]], exact: bool) -> Step | None:
    """A step on values of these shapes; None where the operation drawn fits none."""
    kinds = ("unary", "binary", "reduce", "along", "layout", "matmul")
    kind = draw(st.sampled_from(kinds[:-1] if exact else kinds))
    unary, binary, reductions, along = (
        (INTEGER_UNARY, INTEGER_BINARY, INTEGER_REDUCTIONS, KEEP_INTEGERS)
        if exact
        else (UNARY, BINARY, REDUCTIONS, ALONG)
    )
    x = draw(st.integers(0, len(shapes) - 1))
    shape = shapes[x]
    if kind == "unary":
        return draw(st.sampled_from(sorted(unary))), (x,)
    if kind == "binary":
        others = [i for i, s in enumerate(shapes) if _broadcast(shape, s)]
        return draw(st.sampled_from(sorted(binary))), (x, draw(st.sampled_from(others)))
    if not shape:
        return None
    axis = draw(st.integers(0, len(shape) - 1))
    if kind == "reduce":
        axes = draw(st.sampled_from((axis, None, tuple(range(len(shape))), (axis,))))
        return draw(st.sampled_from(sorted(reductions))), (x, axes, draw(st.booleans()))
    if kind == "along":
        name = draw(st.sampled_from(sorted(along)))
        grows = name in ("twice", "pad") and 2 * int(np.prod(shape)) > MOST_ELEMENTS
        deep = name in ("expand", "windows") and len(shape) > 3
        return None if grows or deep else (name, (x, axis))
    if kind == "layout":
        if draw(st.booleans()):
            return "transpose", (x, draw(st.permutations(range(len(shape)))))
        size = int(np.prod(shape))
        ways = [(size,), shape[::-1], (shape[0], size // shape[0]), (size, 1)]
        return "reshape", (x, draw(st.sampled_from(ways)))
    others = [i for i, s in enumerate(shapes) if len(s) == 2 == len(shape) and s[1] == shape[1]]
    return ("matmul", (x, draw(st.sampled_from(others)))) if others else None


@st.composite
def array_programs(draw: Any, max_steps: int = 8) -> ArrayProgram:
    lengths = draw(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=3))
    shapes_of = st.lists(st.sampled_from([*lengths, 1]), max_size=3).map(tuple)
    fitting = shapes_of.filter(lambda s: int(np.prod(s)) <= MOST_ELEMENTS)
    inputs = tuple(draw(st.lists(fitting, min_size=1, max_size=3)))
    dtype = draw(st.sampled_from(("float64", "float32", "float16", "integers")))
    program = ArrayProgram(inputs, (), 1, draw(st.integers(0, 2**16)), dtype)
    values = program.arguments()
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, max_steps))):
        step = _step(draw, [np.shape(v) for v in values], program.exact)
        if step is None:
            continue
        with np.errstate(all="ignore"):
            value = apply(step[0], values, step[1])
        if np.size(value) <= MOST_ELEMENTS:
            values.append(value)
            steps.append(step)
    results = draw(st.integers(1, 3))
    return ArrayProgram(inputs, tuple(steps), results, program.seed, dtype)
