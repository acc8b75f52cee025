"""Convolutions against their definition, in every mode, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM
from funcgrad.backends.loops.fusion import convolutions
from funcgrad.errors import ArgumentError, OperandTypeError, ShapeError
from funcgrad.primitives import convolution

BACKENDS = ["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not HAS_LLVM, reason="llvm"))]
by_backend = pytest.mark.parametrize("backend", BACKENDS)
Case = dict[str, Any]


def numbers(rng: np.random.Generator, shape: Sequence[int], dtype: Any = np.float64) -> np.ndarray:
    x = rng.integers(-4, 5, shape) if np.dtype(dtype).kind in "iu" else rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.abs(x).astype(dtype) if np.dtype(dtype).kind == "u" else x.astype(dtype)


# --- the definition --------------------------------------------------------------------


def channels_first(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout[1] == "C" else np.moveaxis(x, -1, 1)


def channels_back(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout[1] == "C" else np.moveaxis(x, 1, -1)


def kernel_first(w: np.ndarray, layout: str) -> np.ndarray:
    return w if layout[1] == "C" else np.moveaxis(w, (-1, -2), (0, 1))


def defined(x: Any, w: Any, case: Case) -> np.ndarray:
    """The sum over a window for each place by itself."""
    layout, groups = case["layout"], case["groups"]
    strides, dilation, spread = case["strides"], case["dilation"], case["input_dilation"]
    x, w = channels_first(x, layout), kernel_first(w, layout)
    rank = x.ndim - 2
    dilated = [(n - 1) * d + 1 for n, d in zip(x.shape[2:], spread, strict=True)]
    whole = np.zeros((*x.shape[:2], *dilated), x.dtype)
    whole[(..., *[slice(None, None, d) for d in spread])] = x
    pads = case["pads"]
    whole = np.pad(whole, [(0, 0), (0, 0), *pads])
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    counts = [(n - k) // s + 1 for n, k, s in zip(whole.shape[2:], spans, strides, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *counts), np.result_type(x, w))
    seen, made = w.shape[1], w.shape[0] // groups
    for at in np.ndindex(*counts):
        where = [
            slice(i * s, i * s + k, d)
            for i, s, k, d in zip(at, strides, spans, dilation, strict=True)
        ]
        part = whole[(..., *where)]
        for g in range(groups):
            inputs = part[:, g * seen : (g + 1) * seen]
            kernel = w[g * made : (g + 1) * made]
            axes = list(range(1, rank + 2))
            out[(slice(None), slice(g * made, (g + 1) * made), *at)] = np.tensordot(
                inputs, kernel, (axes, axes)
            )
    return channels_back(out, layout)


def drawn(rng: np.random.Generator) -> Case:
    """Shapes and options, as integers and as sequences, that fit each other."""
    rank = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 2, 3]))
    seen, made = (int(n) for n in rng.integers(1, 4, 2))
    window = [int(n) for n in rng.integers(1, 4, rank)]

    def option(high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(1, high + 1, rank))

    case: Case = {
        "groups": groups,
        "strides": option(3),
        "dilation": option(2),
        "input_dilation": option(2) if rng.random() < 0.3 else (1,) * rank,
    }
    first = rng.random() < 0.5
    case["layout"] = {1: "NCW", 2: "NCHW", 3: "NCDHW"}[rank]
    if not first:
        case["layout"] = case["layout"].replace("C", "", 1) + "C"
    spans = [(k - 1) * d + 1 for k, d in zip(window, case["dilation"], strict=True)]
    sizes = [int(s + rng.integers(0, 4)) for s in spans]
    long = [(n - 1) * d + 1 for n, d in zip(sizes, case["input_dilation"], strict=True)]
    kind = rng.integers(4)
    if kind == 0:
        case["padding"], case["pads"] = "valid", ((0, 0),) * rank
    elif kind == 1:
        whole = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(long, case["strides"], spans, strict=True)
        ]
        case["padding"], case["pads"] = "same", tuple((n // 2, n - n // 2) for n in whole)
    elif kind == 2:
        n = int(rng.integers(0, 3))
        case["padding"], case["pads"] = n, ((n, n),) * rank
    else:
        case["pads"] = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
        case["padding"] = case["pads"]
    batch = int(rng.integers(1, 4))
    x, w = (batch, seen * groups, *sizes), (made * groups, seen, *window)
    case["x"] = x if first else (batch, *sizes, seen * groups)
    case["w"] = w if first else (*window, seen, made * groups)
    return case


CASES = [drawn(np.random.default_rng(seed)) for seed in range(60)]
OPTIONS = ("strides", "padding", "dilation", "input_dilation", "groups", "layout")


def call(x: Any, w: Any, case: Case) -> Any:
    return fg.conv(x, w, **{name: case[name] for name in OPTIONS})


def operands(case: Case, dtype: Any = np.float64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return numbers(rng, case["x"], dtype), numbers(rng, case["w"], dtype)


def assert_close(found: Any, expected: Any, tol: float = 1e-10) -> None:
    assert (np.shape(found), found.dtype) == (np.shape(expected), expected.dtype)
    np.testing.assert_allclose(found, expected, tol, tol)


# --- results ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_definition(number: int) -> None:
    case = CASES[number]
    for dtype, tol in ((np.float64, 1e-12), (np.float32, 1e-5), (np.complex128, 1e-12)):
        x, w = operands(case, dtype)
        assert_close(call(x, w, case), defined(x, w, case), tol)
    for dtype in (np.int64, np.int8, np.uint16):
        x, w = operands(case, dtype)
        np.testing.assert_array_equal(call(x, w, case), defined(x, w, case))


@by_backend
@pytest.mark.parametrize("number", range(0, len(CASES), 3))
def test_compiled(number: int, backend: str) -> None:
    case = CASES[number]
    x, w = operands(case)
    function = fg.jit(lambda x, w: call(x, w, case), backend=backend)
    assert_close(function(x, w), defined(x, w, case))
    grads = fg.jit(fg.grad(lambda x, w: np.sum(np.sin(call(x, w, case))), (0, 1)), backend=backend)
    expected = fg.grad(lambda x, w: np.sum(np.sin(call(x, w, case))), (0, 1))(x, w)
    for f, e in zip(grads(x, w), expected, strict=True):
        assert_close(f, e)


def test_larger_arrays_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = numbers(rng, (3, 2, 9, 7)), numbers(rng, (4, 2, 3, 2))

    def loss(x: Any, w: Any) -> Any:
        return np.sum(np.sin(fg.conv(x, w, strides=(2, 1), padding=1)))

    expected = fg.grad(loss, (0, 1))(x, w)
    # Blocks of two examples, of one, and of some places of an example.
    row = 2 * 3 * 2 * 8
    for size in (2 * 5 * 8 * row, 5 * 8 * row, 2 * 8 * row, 1):
        monkeypatch.setattr(convolution, "BLOCK_BYTES", size)
        for f, e in zip(fg.grad(loss, (0, 1))(x, w), expected, strict=True):
            assert_close(f, e)


def test_nothing() -> None:
    w = np.ones((4, 2, 3))
    assert fg.conv(np.ones((0, 2, 5)), w).shape == (0, 4, 3)
    assert fg.conv(np.ones((2, 2, 0)), w, padding=2).shape == (2, 4, 2)
    assert not fg.conv(np.ones((2, 0, 5)), np.ones((4, 0, 3))).any()
    assert fg.conv(np.ones((2, 2, 5)), np.ones((0, 2, 3))).shape == (2, 0, 3)
    grads = fg.grad(lambda x, w: np.sum(fg.conv(x, w)), (0, 1))(np.ones((0, 2, 5)), w)
    assert grads[0].shape == (0, 2, 5)
    assert grads[1].shape == w.shape and not grads[1].any()


@by_backend
def test_half_precision_adds_up_in_single(backend: str) -> None:
    x, w = np.ones((1, 3000, 2), np.float16), np.ones((1, 3000, 1), np.float16)
    found = fg.jit(fg.conv, backend=backend)(x, w)
    assert found.dtype == np.float16 and (found == 3000).all()
    many = np.ones((3000, 1, 1), np.float16)
    slope = fg.jit(fg.grad(lambda w: np.sum(fg.conv(many, w)).astype(np.float32)), backend=backend)
    assert slope(np.ones((1, 1, 1), np.float16)) == 3000
    back = fg.conv_transpose(np.ones((1, 3000, 1), np.float16), np.ones((3000, 1, 1), np.float16))
    assert back == 3000


def test_dtypes_meet_as_numpys() -> None:
    x, w = np.ones((1, 1, 3), np.int32), np.ones((1, 1, 2), np.float32)
    assert fg.conv(x, w).dtype == np.float64
    assert fg.conv(x.astype(bool), w).dtype == np.float32
    assert fg.conv([[[1.0, 2.0]]], np.ones((1, 1, 2), np.float32)).dtype == np.float64
    grads = fg.grad(lambda x, w: np.sum(fg.conv(x, w)), (0, 1))(
        np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2))
    )
    assert [g.dtype for g in grads] == [np.float32, np.float64]


# --- derivatives -----------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, len(CASES), 4))
def test_derivatives(number: int) -> None:
    """First and second ones against differences."""
    case = CASES[number]
    x, w = operands(case)
    dx, dw = operands(case, seed=1)

    def loss(x: Any, w: Any) -> Any:
        return np.sum(np.sin(call(x, w, case)))

    def slope(x: Any, w: Any) -> Any:
        gx, gw = fg.grad(loss, (0, 1))(x, w)
        return np.sum(gx * dx) + np.sum(gw * dw)

    def difference(function: Any, h: float = 1e-5) -> Any:
        return (function(x + h * dx, w + h * dw) - function(x - h * dx, w - h * dw)) / (2 * h)

    np.testing.assert_allclose(slope(x, w), difference(loss), 1e-5, 1e-5)
    forward = fg.jvp(loss, (x, w), (dx, dw))[1]
    np.testing.assert_allclose(forward, slope(x, w), 1e-9, 1e-9)
    second = sum(np.sum(g * d) for g, d in zip(fg.grad(slope, (0, 1))(x, w), (dx, dw), strict=True))
    np.testing.assert_allclose(second, difference(slope), 1e-5, 1e-4)


@by_backend
@pytest.mark.parametrize("number", range(2, len(CASES), 5))
def test_batches_of_each_operand(number: int, backend: str) -> None:
    case = CASES[number]
    xs, ws = (np.stack(pair) for pair in zip(operands(case), operands(case, seed=1), strict=True))

    def value_and_grads(x: Any, w: Any) -> Any:
        return fg.value_and_grad(lambda x, w: np.sum(np.sin(call(x, w, case))), (0, 1))(x, w)

    for axes in ((0, 0), (0, None), (None, 0)):
        given = [a if axis == 0 else a[1] for a, axis in zip((xs, ws), axes, strict=True)]
        found = fg.jit(fg.vmap(value_and_grads, in_axes=axes), backend=backend)(*given)
        rows = [
            value_and_grads(*[a[i] if b == 0 else a for a, b in zip(given, axes, strict=True)])
            for i in range(2)
        ]
        expected = fg.tree.map(lambda *leaves: np.stack(leaves), *rows)
        for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(f, e, 1e-10, 1e-10)


def test_batches_add_no_groups_where_one_operand_has_none() -> None:
    x, w = np.ones((2, 5, 3, 4)), np.ones((6, 3, 2))
    graph = fg.make_graph(fg.vmap(fg.conv, in_axes=(0, None)))(x, w)
    assert "groups=1" in str(graph)
    ws = np.ones((7, 6, 3, 2))
    assert "groups=1" in str(fg.make_graph(fg.vmap(fg.conv, in_axes=(None, 0)))(x[0], ws))
    assert "groups=2" in str(fg.make_graph(fg.vmap(fg.conv))(x, ws[:2]))


# --- transposed ------------------------------------------------------------------------


def transposed(x: Any, w: Any, strides: Any, pads: Any, more: Any, dilation: Any, groups: int):
    """Every input adds its multiple of the kernel."""
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, spans, strict=True)]
    seen, made = x.shape[1] // groups, w.shape[1]
    out = np.zeros((x.shape[0], made * groups, *[n + m for n, m in zip(sizes, more, strict=True)]))
    for at in np.ndindex(*x.shape[2:]):
        where = [
            slice(i * s, i * s + k, d)
            for i, s, k, d in zip(at, strides, spans, dilation, strict=True)
        ]
        for g in range(groups):
            inputs = x[(slice(None), slice(g * seen, (g + 1) * seen), *at)]
            kernel = w[g * seen : (g + 1) * seen]
            out[(slice(None), slice(g * made, (g + 1) * made), *where)] += np.tensordot(
                inputs, kernel, (1, 0)
            )
    cut = [slice(b, n - e) for (b, e), n in zip(pads, out.shape[2:], strict=True)]
    return out[(..., *cut)]


TRANSPOSED = [
    ((2, 3, 5), (3, 2, 3), {}),
    ((2, 3, 5), (3, 2, 3), {"strides": 2, "padding": 1, "output_padding": 1}),
    ((1, 4, 3, 4), (4, 3, 2, 3), {"strides": (3, 2), "padding": ((0, 1), (1, 0)), "groups": 2}),
    ((2, 2, 3, 2), (2, 1, 3, 2), {"dilation": (2, 3), "output_padding": (1, 2), "padding": (2, 1)}),
    ((1, 2, 2, 3, 2), (2, 2, 2, 1, 2), {"strides": (2, 1, 2), "output_padding": (1, 0, 1)}),
    ((1, 2, 4), (2, 1, 1), {"strides": 3, "output_padding": 2}),
]


@by_backend
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case: Any, backend: str) -> None:
    shape, window, options = case
    rng = np.random.default_rng(0)
    x, w = numbers(rng, shape), numbers(rng, window)
    rank = x.ndim - 2

    def each(name: str, default: int) -> Any:
        value = options.get(name, default)
        return (value,) * rank if isinstance(value, int) else value

    pads = [(p, p) if isinstance(p, int) else p for p in each("padding", 0)]
    expected = transposed(
        x, w, each("strides", 1), pads, each("output_padding", 0), each("dilation", 1),
        options.get("groups", 1),
    )  # fmt: skip
    function = fg.jit(lambda x, w: fg.conv_transpose(x, w, **options), backend=backend)
    assert_close(function(x, w), expected)
    # Channels behind: the kernel is (*window, out, in).
    layout = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[rank]
    behind = fg.conv_transpose(
        np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2)), layout=layout, **options
    )
    assert_close(np.moveaxis(behind, -1, 1), expected)
    direction = numbers(rng, shape), numbers(rng, window)

    def loss(x: Any, w: Any) -> Any:
        return np.sum(np.sin(fg.conv_transpose(x, w, **options)))

    grads = fg.jit(fg.grad(loss, (0, 1)), backend=backend)(x, w)
    slope = sum(np.sum(g * d) for g, d in zip(grads, direction, strict=True))
    h = 1e-5
    near = [loss(x + s * direction[0], w + s * direction[1]) for s in (h, -h)]
    np.testing.assert_allclose(slope, (near[0] - near[1]) / (2 * h), 1e-5, 1e-5)


def test_transposed_is_the_derivative() -> None:
    rng = np.random.default_rng(0)
    x, w = numbers(rng, (2, 3, 8, 8)), numbers(rng, (4, 3, 3, 3))
    options: Any = {"strides": 2, "padding": 1}
    y, pullback = fg.vjp(lambda x: fg.conv(x, w, **options), x)
    assert_close(fg.conv_transpose(y, w, output_padding=1, **options), pullback(y)[0])


# --- what is refused -------------------------------------------------------------------

IMAGES, KERNEL = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3))


def fails(kind: type[Exception], *parts: str, of: Any = fg.conv, **options: Any) -> None:
    x, w = options.pop("x", IMAGES), options.pop("w", KERNEL)
    with pytest.raises(kind) as caught:
        of(x, w, **options)
    for part in ("conv", *parts):
        assert part in str(caught.value), caught.value


def test_shapes_that_do_not_fit() -> None:
    fails(ShapeError, "NCHW", "(3, 8, 8)", "x[None]", x=IMAGES[0])
    fails(ShapeError, "NCW", "(2, 3, 8, 8)", w=np.ones((4, 3, 3)))
    fails(ShapeError, "(3, 3)", "one to three", w=np.ones((3, 3)))
    fails(ShapeError, "3 channels", "takes 5", "(4, 5, 3, 3)", w=np.ones((4, 5, 3, 3)))
    wanted = ("8 channels", "layout='NHWC'", "(*window, in, out)")
    fails(ShapeError, *wanted, x=np.moveaxis(IMAGES, 1, -1))
    fails(ShapeError, "layout='NCHW'", w=np.ones((3, 3, 3, 4)), layout="NHWC")
    fails(ShapeError, "groups=3", w=np.ones((6, 1, 3, 3)))
    fails(ShapeError, "4 channels of outputs", "groups=3", groups=3, w=np.ones((4, 1, 3, 3)))
    fails(ShapeError, "3 channels of inputs", "groups=2", groups=2)
    fails(ShapeError, "window of 9", "axis 2", "same", w=np.ones((4, 3, 9, 3)))
    fails(ShapeError, "steps of 4, 9 long", w=np.ones((4, 3, 1, 3)), dilation=4)
    fails(ShapeError, "covers nothing", w=np.ones((4, 3, 0, 3)))
    fails(ShapeError, "nothing is left", of=fg.conv_transpose, w=np.ones((3, 4, 1, 1)), padding=4)
    fails(ShapeError, "3 channels", "takes 4", of=fg.conv_transpose)


def test_options_without_meaning() -> None:
    fails(ArgumentError, "layout='HWC'", "'NCHW'", layout="HWC")
    fails(ArgumentError, "strides", "positive", strides=0)
    fails(ArgumentError, "strides", "(1, 2, 3)", strides=(1, 2, 3))
    fails(ArgumentError, "dilation", "1.5", dilation=1.5)
    fails(ArgumentError, "padding", "'full'", padding="full")
    fails(ArgumentError, "padding", "-1", padding=-1)
    fails(ArgumentError, "padding", padding=((1, 2), (3,)))
    fails(ArgumentError, "groups", groups=0)
    fails(ArgumentError, "groups", groups=1.0)
    up = {"of": fg.conv_transpose, "w": np.ones((3, 4, 3, 3))}
    fails(ArgumentError, "output_padding=2", "strides=2", strides=2, output_padding=2, **up)
    fails(ArgumentError, "padding", padding="same", **up)
    fails(OperandTypeError, "booleans", x=IMAGES > 0, w=KERNEL > 0)


def test_errors_name_the_line() -> None:
    with pytest.raises(ShapeError, match=r"test_convolution\.py"):
        fg.jit(lambda x: fg.conv(x, KERNEL))(IMAGES[0])


# --- kernels -------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": "same", "groups": 2}, {"strides": 2, "padding": 1}, {"groups": 4}],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("room", [1, 1 << 30])
def test_compiled_convolutions_are_products(
    layout: str, options: Any, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the patches of all examples, or of one in each round of a loop; nothing is called."""
    monkeypatch.setattr(convolutions, "CACHED_BYTES", room)
    rng = np.random.default_rng(0)
    seen = 4 // options.get("groups", 1)
    x, w = numbers(rng, (3, 4, 9, 8), np.float32), numbers(rng, (8, seen, 3, 2), np.float32)
    if layout == "NHWC":
        x, w = np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))

    def loss(x: Any, w: Any) -> Any:
        return np.sum(np.tanh(fg.conv(x, w, layout=layout, **options)))

    grads = fg.jit(fg.value_and_grad(loss, (0, 1)), backend="llvm")
    steps = str(grads.lower(x, w).plan).split("\n}")[0]
    assert "call" not in steps
    # On single channels the convolution itself is a sum over taps.
    loops = 3 - (seen == 1)
    assert steps.count("scan 3 rounds") == (loops if room == 1 else 0)
    expected = fg.value_and_grad(loss, (0, 1))(x, w)
    for f, e in zip(fg.tree.leaves(grads(x, w)), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(f, e, 1e-4, 1e-4)


@pytest.mark.skipif(not HAS_LLVM, reason="llvm")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spatial", [(34,), (4, 10), (18, 6), (6, 6), (9, 9), (4, 6, 6)])
def test_panels_of_places(spatial: tuple[int, ...], dtype: Any) -> None:
    """Where our own code multiplies; of kernels of three, so that there are two places less."""
    rng = np.random.default_rng(0)
    x = numbers(rng, (2, 40, *spatial), dtype)
    w = numbers(rng, (96, 40, *[3] * len(spatial)), dtype)
    found = fg.jit(fg.conv, backend="llvm")(x, w)
    assert_close(found, fg.conv(x, w), 2e-3 if dtype is np.float32 else 1e-10)
