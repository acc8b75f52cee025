"""Random programs over arrays of every dtype, as a Hypothesis strategy, and what must hold of them.

Integers are drawn from their whole range, so that they wrap, and dtypes meet each other. Where
integers become floats they are made small first: sums of huge ones differ by their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad.core.evaluate import run_graph
from program_checks import BATCH, backends, directions
from program_steps import (
    Operation,
    Shape,
    Steps,
    as_float,
    draw_steps,
    is_float,
    run,
    text,
)
from programs import SHAPES, broadcastable, has_axis, multiplies

DTYPES = (
    *("float64", "float32", "float16", "bool"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
# Rounding errors of a program's steps, and of as many sums, in its narrowest dtype.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2}


def as_integer(x: Any) -> Any:
    """Floats are told apart where hardly any of them lies."""
    return x > 0.1234 if is_float(x) else x


def odd(x: Any) -> Any:
    return as_integer(x) | 1


def together(x: Any, y: Any) -> tuple[Any, Any]:
    """Operands of one operation, small where it is done in floats."""
    return (as_float(x), as_float(y)) if np.result_type(x.dtype, y.dtype).kind == "f" else (x, y)


def _as(dtype: str) -> Operation:
    def convert(x: Any) -> Any:
        return (as_integer(x) if np.dtype(dtype).kind in "iu" else x).astype(dtype)

    return Operation(f"as {dtype}", 1, convert)


def _float(name: str, function: Any, **options: Any) -> Operation:
    return Operation(name, 1, lambda x: function(as_float(x)), **options)


def _binary(name: str, function: Any, **options: Any) -> Operation:
    return Operation(name, 2, lambda x, y: function(*together(x, y)), broadcastable, **options)


def _integers(name: str, function: Any) -> Operation:
    return Operation(
        name, 2, lambda x, y: function(*together(as_integer(x), as_integer(y))), broadcastable
    )


def bits(function: Any) -> Any:
    """Of integers that have a common dtype: int64 and uint64 have none."""

    def apply(x: Any, y: Any) -> Any:
        x, y = as_integer(x), as_integer(y)
        y = y if np.result_type(x.dtype, y.dtype).kind != "f" else y.astype(x.dtype)
        return function(x, y)

    return apply


OPERATIONS = [
    *[_as(dtype) for dtype in DTYPES if dtype != "float64"],
    _float("sin", np.sin),
    _float("tanh", np.tanh),
    _float("exp", lambda x: np.exp(np.tanh(x))),
    _float("log", lambda x: np.log(x * x + 1.5)),
    _float("sqrt", lambda x: np.sqrt(np.abs(x) + 1.0)),
    _float("mean", np.mean),
    _float("means", lambda x: np.mean(x, axis=-1, keepdims=True), accepts=has_axis),
    _float("half", lambda x: x / 2),
    _float("isfinite", np.isfinite),
    Operation("twice", 1, lambda x: x * 2 if not is_float(x) else np.tanh(x) * 2),
    Operation("one more", 1, lambda x: x + 1),
    Operation("true", 1, lambda x: x + True),
    Operation("negative", 1, lambda x: ~x if x.dtype == bool else -x),
    Operation("abs", 1, np.abs),
    Operation("square", 1, lambda x: np.square(np.tanh(x) if is_float(x) else x)),
    Operation("cube", 1, lambda x: (np.tanh(x) if is_float(x) else x) ** 3),
    Operation("invert", 1, lambda x: ~as_integer(x)),
    Operation("left", 1, lambda x: as_integer(x) << 1),
    Operation("right", 1, lambda x: as_integer(x) >> 1),
    Operation("by three", 1, lambda x: as_integer(x) // 3),
    Operation("modulo five", 1, lambda x: as_integer(x) % 5),
    Operation("positive", 1, lambda x: x > 0.1234),
    Operation("not", 1, lambda x: np.logical_not(as_integer(x))),
    Operation("sum", 1, np.sum),
    Operation("sum0", 1, lambda x: np.sum(x, axis=0), has_axis),
    Operation("cumsum", 1, lambda x: np.cumsum(x, axis=-1), has_axis),
    Operation("prod", 1, lambda x: np.prod(np.tanh(x) if is_float(x) else x, axis=-1), has_axis),
    Operation("max", 1, lambda x: np.max(x, axis=-1), has_axis),
    Operation("min", 1, lambda x: np.min(x, axis=0), has_axis),
    Operation("any", 1, lambda x: np.any(as_integer(x), axis=-1), has_axis),
    Operation("count", 1, lambda x: np.count_nonzero(as_integer(x)) + np.int64(0)),
    Operation("sort", 1, lambda x: np.sort(x, axis=-1), has_axis),
    Operation("argmax", 1, lambda x: np.argmax(as_integer(x), axis=-1), has_axis),
    Operation("argsort", 1, lambda x: np.argsort(as_integer(x), axis=0, kind="stable"), has_axis),
    Operation("flip", 1, lambda x: np.flip(x, 0), has_axis),
    Operation("slice", 1, lambda x: x[..., ::-1], has_axis),
    Operation("transpose", 1, lambda x: np.transpose(x), lambda s: s == (3, 3)),
    Operation("index", 1, lambda x: x[-1], has_axis),
    Operation("clip", 1, lambda x: np.clip(x, 0, 1) if x.dtype != bool else x),
    Operation("look up", 1, lambda x: fg.numpy.take(np.arange(5) * 3, as_integer(x) % 5, axis=0)),
    _binary("add", lambda x, y: x + y),
    _binary("subtract", lambda x, y: x ^ y if x.dtype == y.dtype == bool else x - y),
    _binary("multiply", lambda x, y: x * (np.tanh(y) if is_float(y) else y)),
    _binary("maximum", np.maximum),
    _binary("minimum", np.minimum),
    _binary("less", lambda x, y: x < y + (0.1234 if is_float(y) else 0)),
    Operation("divide", 2, lambda x, y: as_float(x) / (as_float(y) ** 2 + 1), broadcastable),
    Operation("where", 2, lambda x, y: np.where(as_integer(x), *together(x, y)), broadcastable),
    _integers("equal", lambda x, y: x == y),
    _integers("quotient", lambda x, y: x // odd(y)),
    _integers("remainder", lambda x, y: x % odd(y)),
    _integers("both", np.logical_and),
    Operation("and", 2, bits(lambda x, y: x & y), broadcastable),
    Operation("or", 2, bits(lambda x, y: x | y), broadcastable),
    Operation("xor", 2, bits(lambda x, y: x ^ y), broadcastable),
    Operation("matmul", 2, lambda x, y: np.matmul(*together(x, y)), multiplies),
    Operation("set", 2, lambda x, y: fg.at(x)[0].set(as_integer(y).astype(x.dtype)),
              lambda x, y: len(x) > 0 and y == ()),
    Operation("add at", 2, lambda x, y: fg.at(x)[0].add(as_integer(y).astype(x.dtype)),
              lambda x, y: len(x) > 0 and y == ()),
    Operation("concatenate", 2, lambda x, y: np.concatenate(together(x, y))[1:-1:2],
              lambda x, y: x == y == (3,)),
]  # fmt: skip


@dataclass(frozen=True)
class TypedProgram:
    """Steps over inputs of these shapes and dtypes; the result is the last value made."""

    inputs: tuple[tuple[Shape, str], ...]
    steps: Steps
    seed: int

    def __call__(self, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return run(self.steps, args)[-1]

    def __repr__(self) -> str:
        inputs = "; ".join(f"v{i}: {d}{list(s)}" for i, (s, d) in enumerate(self.inputs))
        return f"<Program seed={self.seed}; {inputs}; {text(self.steps, len(self.inputs))}>"

    def arguments(self, *lead: int) -> list[Any]:
        rng = np.random.default_rng(self.seed)
        return [_array(rng, (*lead, *shape), np.dtype(dtype)) for shape, dtype in self.inputs]

    @property
    def tolerance(self) -> float:
        """By the narrowest dtype that a value of the program has."""
        with np.errstate(all="ignore"):
            values = run(self.steps, self.arguments())
        narrow = {d for _, d in self.inputs} | {np.asarray(v).dtype.name for v in values}
        narrow |= {d for d in TOLERANCES if f"as {d}" in repr(self)}
        # Sines of bytes are float16, and so on, also within a body.
        small = {"bool", "int8", "uint8", "float16"}, {"int16", "uint16", "float32"}
        if narrow & small[0] or any(f"as {d}" in repr(self) for d in small[0]):
            return TOLERANCES["float16"]
        return TOLERANCES["float32" if narrow & small[1] else "float64"]


def _array(rng: Any, shape: Shape, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return np.asarray(rng.uniform(-1.0, 1.0, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    info = np.iinfo(dtype)
    whole = np.asarray(rng.integers(info.min, info.max, shape, dtype, endpoint=True))
    return np.where(rng.integers(0, 2, shape), whole, whole % 7).astype(dtype)


@st.composite
def typed_programs(draw: Any, max_steps: int = 5) -> TypedProgram:
    """Programs of one to three inputs of any dtype and up to `max_steps` steps."""
    typed = st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES))
    inputs = tuple(draw(st.lists(typed, min_size=1, max_size=3)))
    seed = draw(st.integers(0, 2**16))
    values = TypedProgram(inputs, (), seed).arguments()
    return TypedProgram(inputs, draw_steps(draw, OPERATIONS, values, max_steps), seed)


def assert_same(found: Any, expected: Any, tol: float) -> None:
    """Shape and dtype too; integers to the last bit."""
    assert np.shape(found) == np.shape(expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=tol, atol=tol)
    else:
        np.testing.assert_array_equal(found, expected)


def check_typed(program: TypedProgram) -> None:
    """NumPy's values and dtypes in every mode; gradients that agree with each other."""
    args, many, tol = program.arguments(), program.arguments(BATCH), program.tolerance
    expected = program(*args)
    assert_same(run_graph(fg.make_graph(program)(*args).check(), args), [expected], tol)
    rows = np.stack([program(*[a[i] for a in many]) for i in range(BATCH)])
    assert_same(fg.vmap(program)(*many), rows, tol)
    for backend in backends():
        assert_same(fg.jit(program, backend=backend)(*args), expected, tol)
        assert_same(fg.jit(fg.vmap(program), backend=backend)(*many), rows, tol)
    floats = tuple(i for i, a in enumerate(args) if a.dtype.kind == "f")
    if floats:
        _check_gradient(program, args, floats, expected, tol)


def _check_gradient(
    program: TypedProgram, args: Sequence[Any], floats: tuple[int, ...], expected: Any, tol: float
) -> None:
    def function(*chosen: Any) -> Any:
        full = list(args)
        for i, x in zip(floats, chosen, strict=True):
            full[i] = x
        return program(*full)

    def loss(*chosen: Any) -> Any:
        out = function(*chosen)
        # Values ride along: what is no float must be NumPy's here, too.
        weight = directions([out], 5)[0] if is_float(out) else np.zeros(out.shape)
        return np.sum(as_float(out) * weight), out

    chosen = [args[i] for i in floats]
    gradient = fg.grad(loss, argnums=tuple(range(len(chosen))), has_aux=True)
    grads, out = gradient(*chosen)
    assert_same(out, expected, tol)
    for x, g in zip(chosen, grads, strict=True):
        assert np.shape(g) == x.shape and g.dtype == x.dtype
    for backend in backends():
        found, out = fg.jit(gradient, backend=backend)(*chosen)
        assert_same(out, expected, tol)
        for g, f in zip(grads, found, strict=True):
            assert_same(f, g, 5 * tol)
