"""Arrays of a device, here a stand-in for CuPy's: what is computed of them stays where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import device_arrays
import funcgrad as fg
from conftest import HAS_LLVM
from contract import batchings, cases, differentiable, directions, function_of, operands
from device_arrays import NEEDS_TWO_DEVICES, assert_same, is_device_array, to_device, to_host
from funcgrad.core.primitive import REGISTRY
from funcgrad.transforms.dispatch import MISS

NEEDS_LLVM = pytest.mark.skipif(not HAS_LLVM, reason="llvmlite is not installed")


pytestmark = pytest.mark.usefixtures("device_library")


def of_results(function: Any, args: list[Any]) -> list[Any]:
    return function(*args)


def compiled(function: Any, args: list[Any]) -> list[Any]:
    return fg.jit(function, backend="numpy")(*args)


def gradient(function: Any, args: list[Any]) -> list[Any]:
    """The gradient of the sum of the results' real parts."""

    def total(*xs: Any) -> Any:
        outs = [np.sum(np.real(o)) for o in function(*xs) if o.dtype.kind in "fc"]
        return sum(outs) if outs else np.sum(np.real(xs[0]))

    return list(fg.grad(total, argnums=tuple(range(len(args))))(*args))


def compiled_gradient(function: Any, args: list[Any]) -> list[Any]:
    return fg.jit(lambda *xs: gradient(function, list(xs)), backend="numpy")(*args)


def pushed(function: Any, args: list[Any]) -> list[Any]:
    """The results and their tangents."""
    tangents = directions([np.empty(a.shape, a.dtype) for a in args], 2)
    if any(map(is_device_array, args)):
        tangents = list(map(to_device, tangents))
    outs, found = fg.jvp(function, tuple(args), tuple(tangents))
    return [*outs, *[t for t in found if t.dtype.kind in "fc"]]


MODES = {
    "eager": of_results,
    "jit": compiled,
    "grad": gradient,
    "jvp": pushed,
    "jit of grad": compiled_gradient,
}
DERIVED = ("grad", "jvp", "jit of grad")
SAMPLED = [name for name, prim in REGISTRY.items() if prim.samples]
# What CuPy lacks, by the primitive's name.
LACKING = {"spacing": "there is no cupy.spacing"}


def on_both(function: Any, transform: Any, given: list[Any], on_device: Any) -> None:
    """The same transformation on the device and on the host."""
    with np.errstate(all="ignore"):
        expected = transform(function, given)
        found = transform(on_device, list(map(to_device, given)))
    assert_same(found, expected)


def samples_of(name: str) -> Iterator[tuple[Any, int, Any]]:
    """One precision of each kind and float16, which rules widen."""
    for prim, number, dtype in cases():
        if prim.name == name and dtype not in (np.float32, np.complex64):
            yield prim, number, dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SAMPLED)
def test_contract(name: str, mode: str) -> None:
    for prim, number, dtype in samples_of(name):
        sample = prim.samples[number]
        args = operands(sample, dtype)
        arrays = [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]
        if mode in DERIVED:
            arrays = [i for i in differentiable(args) if i in arrays]
        if not arrays:
            continue
        functions = (
            function_of(prim, given, sample, arrays) for given in (args, list(map(to_device, args)))
        )
        on_host, on_device = functions
        chosen = [args[i] for i in arrays]
        if name in LACKING:
            with pytest.raises((TypeError, NotImplementedError)):
                on_both(on_host, of_results, chosen, on_device)
        else:
            on_both(on_host, MODES[mode], chosen, on_device)


@pytest.mark.parametrize("name", [name for name in SAMPLED if name not in LACKING])
def test_contract_of_vmap(name: str) -> None:
    for prim, number, dtype in samples_of(name):
        sample = prim.samples[number]
        for batch in batchings(operands(sample, dtype)):
            args = operands(sample, dtype, batch=batch)
            axes = tuple(0 if b else None for b in batch)
            function = function_of(prim, args, sample, range(len(args)))

            def mapped(f: Any, xs: Any, axes: Any = axes) -> Any:
                return fg.vmap(f, in_axes=axes)(*xs)

            on_both(function, mapped, args, function)


# --- where things are -----------------------------------------------------------------

X = np.array([1.0, 2.0, 3.0])
# The stand-in has two devices, a machine may have one.
NUMBERS = range(device_arrays.COUNT)
LAST = NUMBERS[-1]


def on(number: int, x: Any = X) -> Any:
    return device_arrays.on(number, x)


def everywhere() -> list[Any]:
    """X on each device."""
    return list(map(on, NUMBERS))


def wave(x: Any) -> Any:
    return np.sum(np.sin(x) * x)


def test_printed_avals_tell_the_device() -> None:
    graph = fg.make_graph(np.sin)(on(LAST))
    at = f"f64[3]@cuda:{LAST}"
    assert str(graph) == f"graph(a: {at}) {{\n  b: {at} = sin(a)\n  return b\n}}"
    assert graph.check().device == ("cuda", LAST)
    assert fg.make_graph(np.sin)(X).device == "cpu"


def test_tracers_tell_the_device() -> None:
    seen: list[Any] = []
    for x in (X, *everywhere()):
        fg.jit(lambda x: seen.append(x.device) or x * 2)(x)
        fg.grad(lambda x: seen.append(x.device) or np.sum(x))(x)
    assert seen == ["cpu", "cpu", *[("cuda", number) for number in NUMBERS for _ in range(2)]]


def test_jit_makes_a_program_for_each_device() -> None:
    traced: list[Any] = []
    f = fg.jit(lambda x: traced.append(x.device) or np.sin(x))
    for _ in range(2):
        for x in (X, *everywhere()):
            assert fg.device_get(f(x)).tolist() == np.sin(X).tolist()
    assert traced == ["cpu", *[("cuda", number) for number in NUMBERS]]
    f(on(LAST, X[:2]))
    assert f.explain() == (
        f"retraced: [0] is f64[2]@cuda:{LAST}; "
        f"it was f64[3]@cuda:{LAST} in the nearest earlier call"
    )


def test_a_guard_knows_the_device() -> None:
    f = fg.jit(lambda tree: tree["x"] * 2)
    f({"x": on(0)})
    guard = f._guard
    assert guard is not None
    assert to_host(guard(({"x": on(0)},))).tolist() == [2.0, 4.0, 6.0]
    for other in (X, *everywhere()[1:], on(0, X[:2]), on(0, X.astype(np.float32)), 1.0):
        assert guard(({"x": other},)) is MISS


@pytest.mark.parametrize("backend", ["numpy", pytest.param("llvm", marks=NEEDS_LLVM)])
def test_programs_of_a_device_call_the_array_library(backend: str) -> None:
    lowered = fg.jit(fg.grad(wave), backend=backend).lower(on(0))
    assert lowered.backend == "numpy"
    namespace: dict[str, Any] = {}
    exec(lowered.text, namespace)
    found = namespace["grad_wave"](on(0))
    np.testing.assert_allclose(to_host(found), fg.grad(wave)(X), rtol=1e-14)


@pytest.mark.parametrize(
    "number", [2.0, 2, np.float64(2.0), np.float32(2.0), np.array(2.0)], ids=lambda x: type(x)
)
def test_numbers_go_anywhere(number: Any) -> None:
    expected = fg.value_and_grad(lambda x: np.sum(np.sin(x * number) + number / x))(X)
    for f in (lambda x, y: np.sum(np.sin(x * y) + y / x),):
        for transform in (fg.value_and_grad(f), fg.jit(fg.value_and_grad(f))):
            found = transform(on(0), number)
            np.testing.assert_allclose(to_host(found[0]), expected[0], rtol=1e-7)
            np.testing.assert_allclose(to_host(found[1]), expected[1], rtol=1e-7)


def test_a_captured_array_is_as_it_was_when_it_was_captured() -> None:
    w = on(0)
    f = fg.jit(lambda x: x * w)
    f(on(0))
    w[0] = 100.0
    assert to_host(f(on(0))).tolist() == [1.0, 4.0, 9.0]


def test_results_are_the_callers() -> None:
    x, w = on(0), on(0)
    f = fg.jit(lambda x: (x, x[0], w, np.broadcast_to(x[1], (2,)), x.T, x[:2]))
    for result in [*f(x), *fg.vmap(lambda x: (x, x * 1))(x), fg.grad(np.sum)(x)]:
        result[...] = 7.0
    assert to_host(x).tolist() == to_host(w).tolist() == X.tolist()


# --- transformations ------------------------------------------------------------------


def _body(c: Any, x: Any) -> Any:
    return np.tanh(c + x), c * x


def _without_nans(x: Any) -> Any:
    with fg.debug_nans():
        return fg.grad(wave)(x)


PROGRAMS: dict[str, Any] = {
    "jacrev": lambda x: fg.jacrev(lambda v: np.sin(v) * v)(x),
    "jacfwd": lambda x: fg.jacfwd(lambda v: np.sin(v) * v)(x),
    "hessian": lambda x: fg.hessian(lambda v: np.sum(np.sin(v) * v))(x),
    "linearize": lambda x: fg.linearize(np.sin, x)[1](x),
    "unused": lambda x: fg.grad(lambda p: np.sum(p["a"]))({"a": x, "b": x * 2}),
    "vjp": lambda x: fg.vjp(lambda v: v * v, x)[1](x),
    "cond": lambda x: fg.cond(True, np.sin, np.cos, x),
    "cond traced": lambda x: fg.jit(lambda x: fg.cond(np.sum(x) > 0, np.sin, np.cos, x))(x),
    "grad cond": lambda x: fg.grad(
        lambda x: np.sum(fg.cond(np.sum(x) > 0, np.sin, lambda v: v * 0 + 1, x))
    )(x),
    "jit grad cond": lambda x: fg.jit(
        fg.grad(lambda x: np.sum(fg.cond(np.sum(x) > 0, np.sin, np.cos, x)))
    )(x),
    "vmap cond": lambda x: fg.vmap(lambda x: fg.cond(x > 0.7, np.sin, np.cos, x))(x),
    "scan": lambda x: fg.scan(_body, np.float64(0.5), x),
    "scan py": lambda x: fg.scan(_body, 0.5, x),
    "scan jit": lambda x: fg.jit(lambda x: fg.scan(_body, np.sum(x), x))(x),
    "grad scan": lambda x: fg.grad(lambda x: fg.scan(_body, np.sum(x), x)[0])(x),
    "grad scan py": lambda x: fg.grad(lambda x: fg.scan(_body, 0.5, x)[0])(x),
    "jit grad scan": lambda x: fg.jit(fg.grad(lambda x: fg.scan(_body, np.sum(x), x)[0]))(x),
    "vmap scan": lambda x: fg.vmap(lambda s: fg.scan(_body, s, x))(x),
    "fori": lambda x: fg.fori_loop(0, 3, lambda i, c: c * x + i, x),
    "jit fori": lambda x: fg.jit(lambda x: fg.fori_loop(0, 3, lambda i, c: c * x + i, x))(x),
    "while": lambda x: fg.while_loop(lambda c: np.sum(c) < 50, lambda c: c * 1.5, x),
    "jit while": lambda x: fg.jit(
        lambda x: fg.while_loop(lambda c: np.sum(c) < 50, lambda c: c * 1.5, x)
    )(x),
    "vmap while": lambda x: fg.vmap(
        lambda x: fg.while_loop(lambda c: c < 50, lambda c: c * 1.5, x)
    )(x),
    "map": lambda x: fg.map(np.sin, x),
    "checkpoint": lambda x: fg.grad(lambda x: np.sum(fg.checkpoint(np.sin)(x)))(x),
    "jit checkpoint": lambda x: fg.jit(fg.grad(lambda x: np.sum(fg.checkpoint(np.sin)(x))))(x),
    "jit in grad": lambda x: fg.grad(lambda x: np.sum(fg.jit(np.sin)(x)))(x),
    "switch": lambda x: fg.jit(lambda x: fg.switch(np.argmax(x), [np.sin, np.cos, np.tanh], x))(x),
    "if": lambda x: fg.grad(lambda x: np.sum(x) if x[0] > 0 else np.sum(-x))(x),
    "item": lambda x: fg.grad(lambda x: np.sum(x * fg.stop_gradient(x[0]).item()))(x),
    "zeros_like": lambda x: fg.jit(
        lambda x: np.zeros_like(x) + x + np.ones_like(x) + np.full_like(x, 2.0)
    )(x),
    "at": lambda x: fg.grad(lambda x: np.sum(fg.at(x)[1:].set(x[:2]) ** 2))(x),
    "index": lambda x: fg.grad(lambda x: np.sum(x[::-1][:2] ** 2))(x),
    "softmax": lambda x: fg.grad(lambda x: np.log(np.exp(x) / np.sum(np.exp(x)))[1])(x),
    "mean var": lambda x: fg.grad(lambda x: np.mean(x) + np.var(x) + np.std(x) + np.linalg.norm(x))(
        x
    ),
    "sort": lambda x: fg.grad(lambda x: np.sum(np.sort(x) * x))(x),
    "cumsum": lambda x: fg.jit(fg.grad(lambda x: np.sum(np.cumsum(x) * np.cumprod(x))))(x),
    "einsum": lambda x: fg.grad(lambda x: np.einsum("i,j->", x, x))(x),
    "outer": lambda x: fg.jit(fg.grad(lambda x: np.sum(np.outer(x, x) @ x)))(x),
    "stack": lambda x: fg.grad(
        lambda x: np.sum(np.stack([x, x]) * np.concatenate([x, x]).reshape(2, 3))
    )(x),
    "where": lambda x: fg.grad(lambda x: np.sum(np.where(x > 1, x * x, 0)))(x),
    "clip": lambda x: fg.grad(lambda x: np.sum(np.clip(x, 1.5, 2.5)))(x),
    "max": lambda x: fg.jit(fg.grad(lambda x: np.max(x) + np.min(x)))(x),
    "hvp": lambda x: fg.jvp(fg.grad(lambda x: np.sum(np.sin(x) * x)), (x,), (x,))[1],
    "per example": lambda x: fg.jit(
        fg.vmap(fg.grad(lambda w, x: np.sin(w * x)), in_axes=(None, 0))
    )(2.0, x),
    "aux": lambda x: fg.value_and_grad(lambda x: (np.sum(x), x), has_aux=True)(x),
    "scalar w": lambda x: fg.grad(lambda w: np.sum(w * x))(2.0),
    "triu": lambda x: fg.jit(lambda x: np.triu(np.outer(x, x)))(x),
    "linspace": lambda x: fg.jit(lambda x: np.linspace(x[0], x[1], 5))(x),
    "median": lambda x: fg.grad(lambda x: np.median(x))(x),
    "debug_nans": _without_nans,
    "operators": lambda x: fg.jit(fg.grad(lambda v: np.sum(2.0 * v - x) + np.sum(x / v)))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    """What a program gives on the host, in arrays of the device."""
    program = PROGRAMS[name]
    found, expected = fg.tree.leaves(program(on(0))), fg.tree.leaves(program(X))
    assert_same(found, expected)


def test_an_update_of_all_gives_an_array_of_its_own() -> None:
    values = on(0)
    fg.at(on(0))[:].set(values)[...] = 7.0
    assert to_host(values).tolist() == X.tolist()


def test_classes_that_look_like_device_arrays_are_none() -> None:
    class Lookalike:
        __cuda_array_interface__: Any = {}  # noqa: RUF012
        shape, dtype = (3,), np.dtype(float)

    with pytest.raises(fg.errors.NotAnArrayError):
        fg.jit(np.sin)(Lookalike())
    with pytest.raises(TypeError, match="unsupported operand"):
        fg.grad(lambda x: np.sum(x * Lookalike()))(X)


# --- host arrays and device arrays ----------------------------------------------------

MEETINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "grad": (
        lambda: fg.grad(lambda x: np.sum(x * X))(on(0)),
        ("mul:", "operand 0 is f64[3]@cuda:0, operand 1 is f64[3] on the host"),
    ),
    "grad by two": (
        lambda: fg.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(on(0), X),
        ("add:", "operand 1 is f64[3] on the host"),
    ),
    "jit, captured": (lambda: fg.jit(lambda x: X - x)(on(0)), ("sub:", "operand 0 is f64[3] on")),
    "jit, a leaf": (
        lambda: fg.jit(lambda p, x: p["w"] * x)({"w": on(0)}, X),
        (
            "the arguments of jit:",
            "the leaf at [0]['w'] is f64[3]@cuda:0",
            "the leaf at [1] is f64[3]",
        ),
    ),
    "vmap": (
        lambda: fg.vmap(lambda x, y: x * y)(on(0), X),
        ("the arguments of vmap:", "the leaf at [0][1] is f64[3] on the host"),
    ),
    "two devices": (
        lambda: fg.jit(lambda x, y: x * y)(on(0), on(1)),
        ("the leaf at [0] is f64[3]@cuda:0, the leaf at [1] is f64[3]@cuda:1",),
    ),
    "two devices, grad": (
        lambda: fg.grad(lambda x: np.sum(x * on(1)))(on(0)),
        ("operand 0 is f64[3]@cuda:0, operand 1 is f64[3]@cuda:1",),
    ),
    "a cotangent": (
        lambda: fg.vjp(np.sin, on(0))[1](X),
        ("vjp: the cotangent", "f64[3] on the host"),
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=NEEDS_TWO_DEVICES if "two devices" in n else ()) for n in MEETINGS],
)
def test_arrays_of_several_devices_do_not_meet(name: str) -> None:
    call, parts = MEETINGS[name]
    with pytest.raises(fg.errors.DeviceError) as caught:
        call()
    for part in (*parts, "fg.device_put(x, device)", "test_devices.py"):
        assert part in str(caught.value)


def test_device_put_and_device_get() -> None:
    tree = {"w": X, "n": [3, np.float32(2.0)]}
    put = fg.device_put(tree, ("cuda", LAST))
    assert put["w"].device.id == LAST
    assert all(map(is_device_array, fg.tree.leaves(put)))
    assert fg.device_put(put, on(LAST))["w"] is put["w"]
    back = fg.device_get(put)
    assert type(back["w"]) is np.ndarray
    assert back["w"].tolist() == X.tolist()
    assert fg.device_put(tree, "cpu")["w"] is X
    assert fg.device_put(put, X)["n"][1].dtype == np.float32
    for wrong in ("gpu", ("cuda", "0"), ("tpu", 0), None, 1j.__class__):
        with pytest.raises(fg.errors.ArgumentError, match="there is no device"):
            fg.device_put(X, wrong)
    with pytest.raises(fg.errors.NotAnArrayError, match="device_put: a leaf at"):
        fg.device_put({"w": "text"}, "cpu")
    with pytest.raises(fg.errors.DeviceError, match="a traced array is on cuda:0, not on cpu"):
        fg.jit(lambda x: fg.device_put(x, "cpu"))(on(0))
    assert to_host(fg.jit(lambda x: fg.device_put(x, on(0)) * 2)(on(0))).tolist() == [2, 4, 6]


def test_what_is_written_after_recording_changes_no_derivative() -> None:
    x, captured = on(0), on(0)
    _, pull = fg.vjp(lambda x: x * x * captured, x)
    expected = to_host(2 * x * captured)
    x[:] = captured[:] = 50.0
    np.testing.assert_allclose(to_host(pull(on(0, np.ones_like(X)))[0]), expected)


def test_captured_numbers_of_numpys_are_numbers_on_the_device() -> None:
    number = np.array(2.0)
    scaled = fg.custom_jvp(lambda x, s: x * s)
    scaled.defjvp(lambda primals, tangents: (scaled(*primals), tangents[0] * primals[1]))
    np.testing.assert_allclose(to_host(fg.jit(lambda x: x * number)(on(0))), 2.0 * X)
    np.testing.assert_allclose(
        to_host(fg.grad(lambda x: np.sum(scaled(x, number)))(on(0))), np.full_like(X, 2.0)
    )


def test_static_arguments_beside_many_device_arrays() -> None:
    calls = []

    @fg.jit(static_argnums=1)
    def total(xs: Any, n: int) -> Any:
        calls.append(n)
        return sum(xs) * n

    for _ in range(3):
        np.testing.assert_allclose(to_host(total([on(0)] * 30, 2)), 60.0 * X)
    assert calls == [2]


def test_masks_by_bits_are_the_processors() -> None:
    function = fg.jit(lambda x: np.where(x > 0, x, 0.0), backend="numpy")
    text = function.lower(on(0, np.ones((300, 300)))).text
    assert "where" in text and "needs only CuPy" in text


@pytest.mark.parametrize("device", ["", "cuda", ("cuda", -1), ("cuda",), (), ("cuda", 0, 1)])
def test_device_put_names_what_is_no_device(device: Any) -> None:
    with pytest.raises(fg.errors.ArgumentError, match="there is no device"):
        fg.device_put(X, device)
