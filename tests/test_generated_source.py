"""`.text` is a complete module: it runs with NumPy alone and gives the same numbers."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import funcgrad as fg
from contract import cases, differentiable, function_of, operands
from funcgrad.backends.common.spelling import spell
from funcgrad.core.primitive import REGISTRY, Primitive
from funcgrad.transforms.simplify import simplify
from generated import Case, assert_same, check_alone, run_alone
from programs import programs

X = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]])


def family_of(prim: Primitive) -> str:
    """The module of its implementation; NumPy's ufuncs have told theirs since 2.2 only."""
    return getattr(prim.impl, "__module__", "numpy").rpartition(".")[2]


FAMILIES = sorted({family_of(prim) for prim in REGISTRY.values() if prim.samples})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_primitive(family: str, tmp_path: Path) -> None:
    """Each sample of each primitive, in each dtype it declares."""
    found = []
    for prim, number, dtype in cases():
        if family_of(prim) != family:
            continue
        sample = prim.samples[number]
        args = operands(sample, dtype)
        where = differentiable(args) or [i for i, a in enumerate(args) if np.ndim(a)]
        function = function_of(prim, args, sample, where)
        chosen = [args[i] for i in where]
        found.append(Case(f"{prim.name} {number} {dtype.__name__}", function, chosen))
    assert found
    check_alone(found, tmp_path)


@given(st.lists(programs(max_steps=5), min_size=20, max_size=20))
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
def test_random_programs(tmp_path_factory: Any, some: list[Any]) -> None:
    found = [Case(repr(p), p, p.arguments()) for p in some]
    check_alone(found, tmp_path_factory.mktemp("programs"), tol=1e-11)


class Layer(NamedTuple):
    w: Any
    b: Any


@dataclasses.dataclass
class Net:
    first: Any
    second: Any
    slope: float = dataclasses.field(default=0.1, metadata={"static": True})


def apply(net: Any, x: Any) -> Any:
    h = x @ net.first.w + net.first.b
    h = np.where(h > 0, h, net.slope * h)
    return np.tanh(h @ net.second["w"])


def net() -> Net:
    rng = np.random.default_rng(0)
    return Net(Layer(rng.normal(size=(3, 4)), np.zeros(4)), {"w": rng.normal(size=(4, 2))})


def without_classes(x: Any) -> Any:
    """The same attributes on objects of no particular class."""
    if isinstance(x, Net):
        return SimpleNamespace(first=without_classes(x.first), second=x.second, slope=x.slope)
    return SimpleNamespace(w=x.w, b=x.b)


def as_plain(x: Any) -> Any:
    """What generated functions return: tuples for named tuples, dicts for dataclasses."""
    if isinstance(x, Net):
        return {"first": as_plain(x.first), "second": as_plain(x.second), "slope": x.slope}
    return tuple(x) if isinstance(x, Layer) else x


def mlp_loss(params: Any, x: Any, y: Any) -> Any:
    for w, b in params["hidden"]:
        x = np.maximum(x @ w + b, 0)
    return np.mean((x @ params["out"] - y) ** 2)


def mlp_params() -> Any:
    rng = np.random.default_rng(1)
    hidden = [(rng.normal(size=(3, 8)), np.zeros(8)), (rng.normal(size=(8, 8)), np.ones(8))]
    return {"hidden": hidden, "out": rng.normal(size=8)}


def normal_numbers(key: Any) -> Any:
    first, second = fg.random.split(key)
    return fg.random.normal(first, (3,)), fg.random.uniform(second, (2,), np.float32)


def newton(x: Any) -> Any:
    return fg.while_loop(lambda y: np.abs(y * y - x) > 1e-12, lambda y: 0.5 * (y + x / y), x)


def collatz(n: Any) -> Any:
    def step(c: Any) -> Any:
        m, count = c
        return fg.cond(m % 2 == 0, lambda m: m // 2, lambda m: 3 * m + 1, m), count + 1

    return fg.while_loop(lambda c: c[0] != 1, step, (n, 0))


def switched(i: Any, x: Any) -> Any:
    return fg.switch(i, [lambda x: x, lambda x: -x, lambda x: x * CONSTANTS["big"][:3]], x)


CONSTANTS = {
    "big": np.random.default_rng(2).normal(size=500),
    "single": np.arange(100, dtype=np.float32),
    "complex": np.array([1 + 2j, complex(0.0, -0.0), complex(np.inf, np.nan)]),
    "many complex": np.arange(70) * 1j,
    "bool": np.array([True, False]),
    "int": np.arange(3, dtype=np.int8),
    "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1]),
    "empty": np.zeros((0, 3)),
    "unit": np.array(2.5),
    "other bytes": np.arange(80.0).astype(">f8"),
    "few other bytes": np.arange(3.0).astype(">f4"),
    "not contiguous": np.arange(200.0).reshape(20, 10).T[::2],
    "half": np.array([1.5, 65504.0], np.float16),
}
SCALARS = {
    "float": 0.1,
    "int": -7,
    "bool": True,
    "complex": complex(0.0, -0.0),
    "nan": float("nan"),
    "inf": float("-inf"),
    "float32": np.float32(0.1),
    "int8": np.int8(-3),
    "complex64": np.complex64(1 - 0.0j),
    "bool_": np.bool_(False),
    "float16": np.float16(0.1),
    "float32 nan": np.float32("nan"),
}


def weak_numbers(s: Any, n: Any, z: Any, b: Any, x: Any) -> Any:
    return s * x, n * x, z * x, np.logical_not(b)


def keywords(x: Any, *, scale: Any, shift: Any) -> Any:
    return x * scale + shift


def hand_written() -> list[Case]:
    x, params = np.array([0.5, -1.5, 2.5]), mlp_params()
    return [
        Case("mlp", fg.value_and_grad(mlp_loss), (params, X, np.ones(2))),
        Case("adam", lambda p: fg.tree.map(lambda a: a - 0.1 * a, p), (params,)),
        Case("net", apply, (net(), X), given=(without_classes(net()), X)),
        Case("scan", lambda x: fg.scan(lambda c, r: (c + r, c * r), 0.0, x, reverse=True), (x,)),
        Case("grad of scan", fg.grad(lambda x: fg.scan(lambda c, r: (c * r, c), 1.0, x)[0]), (x,)),
        Case("fori", lambda x: fg.fori_loop(0, 4, lambda i, c: c * x + i, x), (x,)),
        Case("newton", newton, (2.0,)),
        Case("collatz", collatz, (27,)),
        *[Case(f"switch {i}", switched, (np.int64(i), x)) for i in range(3)],
        Case("checkpoint", fg.grad(lambda x: np.sum(fg.checkpoint(np.sin)(x))), (x,)),
        Case("keys", normal_numbers, (fg.random.key(3),)),
        Case("keys under vmap", fg.vmap(normal_numbers), (fg.random.split(fg.random.key(3), 4),)),
        Case("hessian", fg.hessian(lambda x: np.sum(np.exp(x) ** 2)), (x,)),
        Case("vmap", fg.vmap(lambda a, b: a @ b, in_axes=(0, None)), (X, np.ones(3))),
        Case(
            "weak numbers",
            lambda s, n, z, b: (s * x, n * x, z * x, np.logical_not(b)),
            (2.0, 3, 1j, True),
        ),
        Case("weak beside float32", lambda s, x: (s * x, s), (2.0, np.ones(2, np.float32))),
        Case("keywords", keywords, (x,), {"scale": 2.0, "shift": x}),
        Case("variadic", lambda *xs, **ks: sum(xs) + sum(ks.values()), (x, x), {"z": x, "y": x}),
        Case("keys of dicts", lambda d: {k: d[k] * 2 for k in d}, ({0: x, 2: x},)),
        Case("odd keys", lambda d: {k: d[k] * 2 for k in d}, ({"a'b\n": x, '"""': x, "é": x},)),
        Case("nothing", lambda x, d: ((), {}, None, [], x, d), (x, {"none": None, "of": ()})),
        Case("no arguments", lambda: np.arange(3.0), ()),
        Case("deep", deep(30), (x,)),
        *[Case(k, lambda x, v=v: (v, x[0] * v), (x,)) for k, v in CONSTANTS.items()],
        *[Case(k, lambda x, v=v: (np.asarray(v), x * v), (x,)) for k, v in SCALARS.items()],
    ]


def deep(levels: int) -> Any:
    """Loops and branches in one another, more than Python allows."""

    def level(n: int, x: Any) -> Any:
        if n == 0:
            return np.sin(x) + 1

        def inner(x: Any) -> Any:
            return level(n - 1, x)

        if n % 3 == 0:
            return fg.cond(x[0] > -9.0, inner, lambda x: x, x)
        return fg.fori_loop(0, 1, lambda i, c: inner(c) + i, x)

    return lambda x: level(levels, x)


def test_programs_by_hand(tmp_path: Path) -> None:
    check_alone(hand_written(), tmp_path)


def test_results_of_classes_become_dicts_and_tuples(tmp_path: Path) -> None:
    gradient = fg.grad(lambda n, x: np.sum(apply(n, x)))
    case = Case("grad of net", gradient, (net(), X), given=(without_classes(net()), X))
    (found,) = run_alone([case], tmp_path)
    assert_same(found, as_plain(gradient(net(), X)), "grad of net")


# --- values as source ------------------------------------------------------------------

DTYPES = ["f8", "f4", "f2", "c16", "c8", "i8", "i1", "u8", "u4", "?", ">f8", "<i4"]


def real_parts(x: Any, kind: np.dtype) -> np.ndarray:
    """The floats that an array of floats or complex numbers is made of."""
    return np.asarray(x, kind).reshape(-1).view(f"f{kind.itemsize // (1 + (kind.kind == 'c'))}")


@given(st.sampled_from(DTYPES), st.integers(0, 200), st.randoms(use_true_random=False))
def test_spelled_arrays_are_the_same(dtype: str, size: int, random: Any) -> None:
    native = np.dtype(dtype).newbyteorder("=")
    data = random.randbytes(size * native.itemsize)
    array = np.frombuffer(data, "u1") > 99 if dtype == "?" else np.frombuffer(data, dtype)
    for value in (array, *array[:3]):
        again = eval(spell(value), {"np": np, "base64": base64})
        assert again.dtype == native
        if native.kind not in "fc":
            np.testing.assert_array_equal(again, value)
            continue
        found, expected = real_parts(again, native), real_parts(value, native)
        np.testing.assert_array_equal(found, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@given(st.complex_numbers() | st.floats() | st.integers() | st.booleans())
def test_spelled_numbers_are_the_same(value: Any) -> None:
    assert repr(eval(spell(value), {"np": np})) == repr(value)


# --- masks -----------------------------------------------------------------------------

MASKED = {
    "zero behind": lambda x, mask: np.where(mask, x, 0.0),
    "zero in front": lambda x, mask: np.where(mask, 0, x),
    "in a branch": lambda x, mask: fg.cond(
        x[0] > 0, lambda: np.where(mask, x, 0.0), lambda: np.where(mask, 0.0, x)
    ),
    "in a loop": lambda x, mask: fg.fori_loop(0, 3, lambda i, y: np.where(mask, y + x, 0.0), x),
}


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
@pytest.mark.parametrize("name", MASKED)
def test_large_arrays_are_masked_by_their_bits(name: str, dtype: str) -> None:
    """With the numbers of `np.where`, infinities, NaN and signs included."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000).astype(dtype)
    x[:8] = [1, np.inf, -np.inf, np.nan, -0.0, 0.0, np.inf, np.nan]
    mask = rng.random(5000) < 0.5
    function = MASKED[name]
    lowered = fg.jit(function, backend="numpy").lower(x, mask)
    assert "masked(" in lowered.text
    found, expected = fg.jit(function, backend="numpy")(x, mask), function(x, mask)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])
    small = fg.jit(function, backend="numpy").lower(x[:100], mask[:100])
    assert "masked(" not in small.text


def test_what_all_backends_get_has_no_masks() -> None:
    graph = fg.make_graph(MASKED["zero behind"])(np.ones(5000), np.ones(5000, bool))
    assert [eqn.prim.name for eqn in simplify(graph).eqns] == ["where"]
