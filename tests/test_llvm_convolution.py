"""Convolutions in native code: Winograd's domain, patches and planes in the cache, taps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from conftest import HAS_LLVM

pytestmark = pytest.mark.skipif(not HAS_LLVM, reason="llvm")
Case = dict[str, Any]


def case(x: tuple[int, ...], out: int, window: tuple[int, ...], **more: Any) -> Case:
    """Of inputs with channels behind."""
    return {"x": x, "out": out, "window": window, "strides": 1, "dilation": 1, **more}


TILED = [
    case((4, 16, 16, 16), 32, (3, 3), padding="same"),
    case((4, 16, 16, 16), 16, (3, 3), padding="valid"),
    case((3, 9, 13, 16), 48, (3, 3), padding="same"),
    case((6, 10, 7, 32), 16, (3, 3), padding=[(2, 0), (0, 2)]),
    # More rows of tiles than a piece has, and channels that come in several parts.
    case((2, 12, 300, 16), 16, (3, 3), padding="same"),
    case((9, 8, 8, 80), 144, (3, 3), padding="same"),
]
GATHERED = [
    case((4, 16, 16, 3), 32, (3, 3), padding="same"),
    case((4, 17, 15, 5), 7, (5, 3), padding="same", strides=(2, 3)),
    case((4, 17, 15, 5), 7, (3, 5), padding=[(4, 1), (0, 3)], dilation=(1, 2)),
    # Lines longer than those which are copied as vectors, and windows wider than the image.
    case((2, 12, 9, 24), 16, (2, 5), padding="same"),
    case((6, 11, 2, 9), 8, (3, 5), padding=[(1, 1), (4, 4)]),
    case((2, 20, 20, 16), 24, (1, 1), padding="valid", strides=2),
    case((3, 400, 8), 16, (5,), padding="same", strides=2),
]
# In planes where channels lie in front: one channel and few, strides and dilations that don't fit,
# several bands of an image, the last of them shorter, one image, one dimension, one place.
PLANES = [
    case((9, 28, 28, 1), 6, (5, 5), padding="same"),
    case((7, 14, 14, 6), 16, (5, 5), padding="valid"),
    case((5, 41, 40, 3), 7, (7, 7), padding=[(3, 2), (0, 4)], strides=2),
    case((5, 41, 40, 3), 13, (3, 2), padding=[(0, 1), (2, 0)], strides=(3, 1), dilation=(2, 5)),
    case((3, 50, 60, 20), 5, (4, 3), padding="same", dilation=(1, 2)),
    case((1, 150, 90, 4), 9, (3, 3), padding="same"),
    case((3, 19, 23, 8), 8, (2, 3), padding="same", strides=(4, 5)),
    case((3, 700, 24), 16, (5,), padding="same"),
    case((5, 300, 8), 16, (4,), padding=[(3, 0)], strides=3, dilation=2),
    case((3, 20, 20, 24), 9, (1, 1), padding="valid"),
    # Lines of two vectors and more, in derivatives by the kernel.
    *(case((3, n, n, 5), 8, (3, 3), padding="valid") for n in (10, 11, 12, 17, 18, 19, 27)),
]
TAPS = [
    case((2, 9, 11, 24), 24, (3, 3), padding="same", groups=24),
    case((2, 9, 11, 24), 48, (3, 3), padding="same", groups=24, strides=2),
    case((2, 9, 11, 24), 24, (3, 3), padding="same", groups=24, strides=2),
    case((4, 30, 8), 8, (4,), padding="valid", groups=8, dilation=2),
    case((4, 28, 28, 1), 6, (5, 5), padding="same"),
]
LAYOUTS = {True: {3: "NWC", 4: "NHWC"}, False: {3: "NCW", 4: "NCHW"}}


@pytest.fixture
def direct() -> Iterator[None]:
    fg.config.winograd = False
    yield
    fg.config.winograd = True


def of(case: Case, dtype: Any, last: bool, seed: int = 0) -> tuple[Any, np.ndarray, np.ndarray]:
    """A convolution, inputs and kernel."""
    rng = np.random.default_rng(seed)
    shape, groups = case["x"], case.get("groups", 1)
    x = rng.normal(size=shape)
    seen = shape[-1] // groups
    w = rng.normal(size=(*case["window"], seen, case["out"])) / np.sqrt(seen * 9)
    if not last:
        x, w = np.moveaxis(x, -1, 1), np.moveaxis(w, (-1, -2), (0, 1))
    layout = LAYOUTS[last][len(shape)]
    names = ("strides", "padding", "dilation")
    options = {name: case[name] for name in names}

    def function(x: Any, w: Any) -> Any:
        return fg.conv(x, w, groups=groups, layout=layout, **options)

    return function, np.ascontiguousarray(x, dtype), np.ascontiguousarray(w, dtype)


def faces(function: Any) -> Any:
    """The convolution and its derivatives, of inputs, kernel and cotangent."""

    def both(x: Any, w: Any, c: Any) -> Any:
        y, pull = fg.vjp(function, x, w)
        return y, *pull(c)

    return both


def compare(case: Case, dtype: Any, last: bool, tolerance: float) -> None:
    function, x, w = of(case, dtype, last)
    exact = faces(function)
    wide = x.astype(np.float64), w.astype(np.float64)
    c = np.random.default_rng(1).normal(size=function(*wide).shape).astype(dtype)
    expected = exact(*wide, c.astype(np.float64))
    found = fg.jit(exact, backend="llvm")(x, w, c)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("case", [*TILED, *GATHERED, *PLANES, *TAPS], ids=str)
def test_single_precision(case, last):
    compare(case, np.float32, last, 2e-5)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("case", [*TILED[:2], *GATHERED, *PLANES, *TAPS[:2]], ids=str)
def test_double_precision(case, last):
    compare(case, np.float64, last, 1e-12)


@pytest.mark.parametrize("case", TILED, ids=str)
def test_small_kernels_go_through_winograds_domain(case):
    function, *arrays = of(case, np.float32, True)
    assert "winograd" in plan_of(function, *arrays)


@pytest.mark.parametrize("case", TILED, ids=str)
def test_without_winograd_single_precision_is_kept(case, direct):
    compare(case, np.float32, True, 3e-6)


def plan_of(function: Any, *arguments: Any) -> str:
    return str(fg.jit(function, backend="llvm").lower(*arguments).plan)


def test_what_is_computed_how():
    function, x, w = of(TILED[0], np.float32, True)
    c = function(x, w)
    text = plan_of(faces(function), x, w, c)
    assert text.count("*winograd*") == 2
    assert text.count("*winograd_kernel*") == 1
    function, x, w = of(GATHERED[0], np.float32, True)
    text = plan_of(faces(function), x, w, function(x, w))
    assert "*patches*" in text
    assert "*patches_kernel*" in text
    function, x, w = of(PLANES[1], np.float32, False)
    text = plan_of(faces(function), x, w, function(x, w))
    assert text.count("*planes_") == 3
    assert "*planes_kernel*" in text
    # Doubles, strides and lengths that vectors do not fill, few tiles.
    few = case((1, 16, 16, 64), 64, (3, 3), padding="same")
    others = (TILED[0], np.float64), (GATHERED[1], np.float32), (few, np.float32)
    for other in (of(*each, True) for each in others):
        function, *arrays = other
        assert "winograd" not in plan_of(function, *arrays)


@pytest.mark.parametrize("last", [True, False])
def test_one_dimension_is_not_copied(last):
    function, x, w = of(PLANES[7], np.float32, last)
    assert "kernel" not in plan_of(function, x, w).replace("*planes_kernel*", "")


def test_planes_need_no_library(monkeypatch):
    from funcgrad.backends.llvm.products import blas

    monkeypatch.setattr(blas, "find", lambda: None)
    # A shape that no other test has compiled.
    compare(case((5, 29, 31, 3), 11, (3, 3), padding="same"), np.float32, False, 2e-5)


def test_short_lines_of_single_channels_stay_sums_over_taps():
    function, x, w = of(case((256, 6, 6, 1), 6, (3, 3), padding="same"), np.float32, False)
    text = plan_of(function, x, w)
    assert "patches" not in text
    assert "planes" not in text


def test_bands_of_an_image_are_about_equal():
    function, x, w = of(case((2, 2725, 24), 24, (5,), padding="same"), np.float32, False)
    assert "*planes_" in plan_of(function, x, w)


def test_the_setting_counts_when_a_function_is_compiled(direct):
    function, x, w = of(TILED[0], np.float32, True)
    exact = function(x.astype(np.float64), w.astype(np.float64))
    slow = fg.jit(function, backend="llvm")(x, w)
    fg.config.winograd = True
    fast = fg.jit(function, backend="llvm")(x, w)
    assert "winograd" in plan_of(function, x, w)
    assert not np.array_equal(slow, fast)
    errors = [np.abs(y - exact).max() / np.abs(exact).max() for y in (slow, fast)]
    assert errors[0] < 5e-7 < errors[1] < 2e-5


def test_functions_of_pieces_are_made_once(monkeypatch):
    from funcgrad.backends.llvm.products import convolution

    begun: list[str] = []
    convolution._begin.cache_clear()
    monkeypatch.setattr(convolution.engine, "compile_soon", lambda given: begun.append(given.name))
    for each in (TILED[0], TILED[2], GATHERED[0], GATHERED[1]):
        function, x, w = of(each, np.float32, True)
        assert "*" in plan_of(function, x, w)
    own = [convolution._source(f"fg_{part}_float").name for part in ("winograd", "patches")]
    assert [begun.count(name) for name in own] == [1, 1]
    convolution._begin.cache_clear()


def test_bias_and_activation_follow_each_piece():
    function, x, w = of(TILED[0], np.float32, True)
    b = np.random.default_rng(2).normal(size=w.shape[-1]).astype(np.float32)

    def layer(x: Any, w: Any, b: Any) -> Any:
        return np.maximum(function(x, w) + b, 0)

    text = plan_of(layer, x, w, b)
    (line,) = [line for line in text.splitlines() if "*winograd*" in line]
    assert ", then " in line
    np.testing.assert_allclose(
        fg.jit(layer, backend="llvm")(x, w, b), layer(x, w, b), rtol=0, atol=2e-5
    )


IN_PARTS = [
    *((c, True) for c in (TILED[4], TILED[5], GATHERED[0], GATHERED[1])),
    *((c, False) for c in (PLANES[0], PLANES[4], PLANES[5], PLANES[7])),
]


@pytest.mark.parametrize(("case", "last"), IN_PARTS, ids=str)
def test_the_number_of_threads_changes_no_bit(case, last):
    function, x, w = of(case, np.float32, last)
    run = fg.jit(faces(function), backend="llvm")
    c = np.random.default_rng(1).normal(size=function(x, w).shape).astype(np.float32)
    before, found = fg.config.num_threads, []
    try:
        for threads in (1, 2, 7):
            fg.config.num_threads = threads
            found += [run(x, w, c) for _ in range(3)]
    finally:
        fg.config.num_threads = before
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.array_equal(a, b)


def test_edges_are_zeros_whatever_lies_beside_an_image():
    """Images beside one full of NaN, which must not be read over an edge."""
    behind = (TILED[0], TILED[2], GATHERED[0], GATHERED[2], GATHERED[4])
    for each, last in (*((c, True) for c in behind), *((c, False) for c in PLANES[:5])):
        function, x, w = of(each, np.float32, last)
        clean = fg.jit(function, backend="llvm")(x, w)
        x[1] = np.nan
        found = fg.jit(function, backend="llvm")(x, w)
        assert np.isnan(found[1]).any()
        assert np.array_equal(np.delete(found, 1, 0), np.delete(clean, 1, 0))


@pytest.mark.parametrize("case", PLANES[:5], ids=str)
def test_what_a_tap_does_not_read_is_not_in_its_derivative(case):
    """An infinity in a corner, which only some taps read."""
    function, x, w = of(case, np.float32, False)
    x[0, 0, 0, 0] = x[-1, -1, -1, -1] = np.inf
    c = np.ones(function(x, w).shape, np.float32)
    expected, found = (
        np.isfinite(run(x, w, c)[2])
        for run in (faces(function), fg.jit(faces(function), backend="llvm"))
    )
    assert not expected.all()
    assert expected.any()
    assert np.array_equal(expected, found)


def test_second_derivatives_and_batches_of_kernels():
    function, x, w = of(TILED[1], np.float32, True)

    def loss(x: Any, w: Any) -> Any:
        return np.sum(np.sin(function(x, w)))

    def twice(x: Any, w: Any) -> Any:
        return fg.grad(lambda w: np.sum(fg.grad(loss)(x, w) ** 2))(w)

    expected = twice(x.astype(np.float64), w.astype(np.float64))
    found = fg.jit(twice, backend="llvm")(x, w)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    kernels = np.stack([w, -2 * w])
    many = fg.jit(fg.vmap(function, in_axes=(None, 0)), backend="llvm")(x, kernels)
    np.testing.assert_allclose(many, fg.vmap(function, in_axes=(None, 0))(x, kernels), atol=1e-4)


def test_the_numpy_backend_is_untouched(direct):
    function, x, w = of(TILED[0], np.float32, True)
    slow = fg.jit(function, backend="numpy")(x, w)
    fg.config.winograd = True
    assert np.array_equal(slow, fg.jit(function, backend="numpy")(x, w))
