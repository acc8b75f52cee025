"""Matrix products of compiled programs: our tiles, NumPy's BLAS, and what follows row by row."""

import ctypes

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm.products import tile_code, tiles
from funcgrad.backends.llvm.runtime import engine, host

RTOL = {np.float32: 3e-5, np.float64: 1e-12}


def compiled(f, **options):
    return fg.jit(f, backend="llvm", **options)


def rand(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def agree(found, expected, inner=1):
    dtype = np.asarray(found).dtype.type
    tolerance = RTOL[dtype] * np.sqrt(inner)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * 4)


def tiled(f, *args):
    return "tiled" in f.lower(*args).text


# -- tiles by themselves ----------------------------------------------------------------------


@pytest.fixture(params=[64, 32])
def by_tiles(request, monkeypatch):
    """c = a @ b, or s + scale * (a @ b), by the function of tiles for vectors of so many bytes."""
    if host.vector_bytes() < request.param:
        pytest.skip("the processor has no vectors of this length")
    monkeypatch.setattr(engine, "vector_bytes", lambda: request.param)
    size, pointer = ctypes.c_int64, ctypes.c_void_p

    def function(part, kind):
        codes.append(engine.compile_ir(tile_code.text(part, kind)))
        return codes[-1].address(tiles.symbol(part, kind))

    def all_parts(dtype):
        kind, scalar = (
            ("float", ctypes.c_float) if dtype == np.float32 else ("double", ctypes.c_double)
        )
        first = (pointer, size, size)
        kinds = (*first, *(pointer, size) * 3, scalar, *[size] * 4, pointer, pointer)
        parts = [function(part, kind) for part in tiles.PARTS]
        return ctypes.CFUNCTYPE(None, *kinds)(parts[0]), *parts[1:]

    codes = []
    functions = {dtype: all_parts(dtype) for dtype in (np.float32, np.float64)}

    def strides(x):
        return [s // x.itemsize for s in x.strides]

    def run(a, b, c, s=None, scale=1.0):
        tile, low, turn = functions[a.dtype.type]
        low = low if a.shape[0] % tiles.shape().rows else None
        turn = turn if strides(b)[1] != 1 else None
        given = (None, 0) if s is None else (s.ctypes.data, strides(s)[0])
        places = (a.ctypes.data, *strides(a), b.ctypes.data, strides(b)[0])
        results = (c.ctypes.data, strides(c)[0], *given, scale)
        tile(*places, *results, a.shape[0], b.shape[1], a.shape[1], strides(b)[1], low, turn)

    run.codes = codes  # They live as long.
    return run


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_all_sizes(by_tiles, dtype):
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows, columns = rng.integers(1, 80, 2)
        inner = rng.choice([1, 2, 5, 17, 64, 511, 512, 513, 1030])
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((rows, inner), (inner, columns)))
        turned = rng.integers(0, 2, 2)
        a, b = (np.asfortranarray(x) if t else x for x, t in zip((a, b), turned, strict=True))
        frame = np.full((rows + 2, columns + 3), 7, dtype)
        c = frame[1:-1, 1 : 1 + columns]
        s = rng.standard_normal((rows, columns)).astype(dtype) if rng.integers(2) else None
        by_tiles(a, b, c, s, 1.0 if s is None else -0.5)
        expected = a.astype(np.float64) @ b.astype(np.float64)
        agree(c, expected if s is None else s - 0.5 * expected, inner)
        c[...] = 7
        assert (frame == 7).all(), "written beside the result"


def test_tiles_of_a_part_of_a_matrix(by_tiles):
    a, wide = rand(100, 600), rand(600, 2048, seed=1)
    b, c = wide[:, 3:68], np.empty((100, 65), np.float32)
    by_tiles(a, b, c)
    agree(c, a.astype(float) @ b, 600)


def test_tiles_in_place(by_tiles):
    a, b, w = rand(70, 1100), rand(1100, 50, seed=1), rand(70, 50, seed=2)
    expected = w + 2 * (a.astype(float) @ b)
    by_tiles(a, b, w, w, 2.0)
    agree(w, expected, 1100)


def test_what_is_not_finite_stays_in_its_row(by_tiles):
    a, b, c = (
        np.ones((30, 40), np.float32),
        np.ones((40, 33), np.float32),
        np.empty((30, 33), np.float32),
    )
    a[3, 5], a[7, 7], b[:, 32] = np.nan, np.inf, -1
    by_tiles(a, b, c)
    assert np.isnan(c[3]).all()
    assert (c[7, :32] == np.inf).all()
    assert c[7, 32] == -np.inf
    rest = np.delete(c, [3, 7], 0)
    assert (rest[:, :32] == 40).all()
    assert (rest[:, 32] == -40).all()


# -- products of programs -----------------------------------------------------------------------

SHAPES = [
    (64, 96, 784),
    (200, 64, 300),
    (1000, 128, 77),
    (97, 130, 513),
    (256, 10, 400),
    (24, 512, 96),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns", "inner"), SHAPES)
def test_products_of_programs(dtype, rows, columns, inner):
    a, b = rand(rows, inner, dtype=dtype), rand(inner, columns, dtype=dtype, seed=1)
    expected = a.astype(np.float64) @ b
    agree(compiled(lambda a, b: a @ b)(a, b), expected, inner)
    agree(compiled(lambda a, b: a.T @ b)(a.T.copy(), b), expected, inner)
    agree(compiled(lambda a, b: a @ b.T)(a, b.T.copy()), expected, inner)
    agree(compiled(lambda a, b: (b.T @ a.T).T)(a, b), expected, inner)


def test_batches_of_products():
    a, b = rand(5, 70, 64), rand(5, 64, 96, seed=1)
    f = compiled(np.matmul)
    agree(f(a, b), np.matmul(a.astype(float), b), 64)
    agree(f(a, b[0]), np.matmul(a.astype(float), b[0]), 64)
    agree(f(a[:1], b), np.matmul(a[:1].astype(float), b), 64)


BROADCAST = {
    "gradient": lambda x, w: fg.grad(lambda v: np.sum(np.sum(x @ v, axis=0) * x[:, :1]))(
        np.stack([w, w, w])
    ),
    "no batches of its own": lambda x, w: x @ np.broadcast_to(w, (5, *w.shape)),
    "one row, many times": lambda x, w: np.broadcast_to(x[:1], (5, 1, 64)) @ w,
    "equal rows": lambda x, w: np.broadcast_to(x[:1], (5, 64)) @ w,
    "some batches of its own": lambda x, w: x[:, None] @ np.broadcast_to(w, (2, 70, *w.shape)),
    "batches of rows": lambda x, w: np.broadcast_to(x, (2, 3, 70, 64)) @ w,
    "an axis of length one": lambda x, w: x.reshape(7, 1, 10, 64) @ w,
}


@pytest.mark.parametrize("name", BROADCAST)
def test_broadcast_operands(name):
    x, w, f = rand(70, 64, dtype=np.float64), rand(64, 96, dtype=np.float64), BROADCAST[name]
    agree(compiled(f)(x, w), fg.jit(f, backend="numpy")(x, w), 64)


def test_which_products_are_tiled():
    if not tiles.available():
        pytest.skip("the processor's vectors are short")
    f = compiled(np.matmul)
    assert tiled(f, rand(64, 784), rand(784, 512))
    assert not tiled(f, rand(64, 784), rand(784, 17)), "half of the tiles would be empty"
    assert not tiled(f, rand(64, 1024), rand(1024, 512)), "its rows meet in the cache"
    assert not tiled(f, rand(8, 8), rand(8, 64)), "small"
    assert not tiled(f, rand(64, 2048), rand(2048, 2048)), "more than the caches hold"


# -- with what follows ----------------------------------------------------------------------------


def layer(x, w, b):
    return np.maximum(x @ w + b, 0)


def normed(x, w, b):
    h = x @ w + b
    h = h - np.mean(h, axis=1, keepdims=True)
    return h / np.sqrt(np.mean(h * h, axis=1, keepdims=True) + 1e-5)


def flat(x, w, b):
    return np.tanh(x @ w) * 0.5 + b.sum()


@pytest.mark.parametrize("f", [layer, normed, flat])
@pytest.mark.parametrize("rows", [512, 500, 577])
def test_epilogues(f, rows):
    args = rand(rows, 300), rand(300, 96, seed=1) / 17, rand(96, seed=2)
    agree(compiled(f)(*args), f(*(a.astype(float) for a in args)), 300)

    ramp = np.linspace(0.1, 1, 96, dtype=np.float32)

    def loss(*args):
        return np.sum(f(*args) ** 2 * ramp)

    slopes = compiled(fg.grad(loss, argnums=(0, 1, 2)))(*args)
    wide = fg.grad(loss, argnums=(0, 1, 2))(*(a.astype(float) for a in args))
    for found, expected in zip(slopes, wide, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-5)


def test_an_epilogue_shares_the_pieces():
    if not tiles.available():
        pytest.skip("the processor's vectors are short")
    low = compiled(layer).lower(rand(512, 300), rand(300, 96), rand(96))
    (call,) = [line for line in low.text.splitlines() if "call void @fg_parallel" in line]
    assert "tiled.kernel" in call


def test_what_reads_other_rows_waits():
    x, w = rand(512, 300), rand(300, 96, seed=1)

    def f(x, w):
        h = x @ w
        return h - h[::-1], h + np.sum(h, axis=0), np.sum(h.T * np.arange(512.0), axis=1)

    for found, expected in zip(compiled(f)(x, w), f(x.astype(float), w), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_two_readers_of_a_product():
    x, w, v = rand(512, 300), rand(300, 96, seed=1), rand(96, 96, seed=2)

    def f(x, w, v):
        h = x @ w
        return (np.tanh(h) @ v, np.sum(h, axis=0), h)

    for found, expected in zip(compiled(f)(x, w, v), f(x.astype(float), w, v), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_epilogues_in_a_loop():
    w, x = rand(96, 96) / 20, rand(512, 96, seed=1)

    def f(w, x):
        def body(x, _):
            h = np.tanh(x @ w)
            return x + h, np.sum(h, axis=0)

        return fg.scan(body, x, None, length=3)

    (last, sums), (wide, wide_sums) = compiled(f)(w, x), f(w.astype(float), x.astype(float))
    agree(last, wide, 96)
    np.testing.assert_allclose(sums, wide_sums, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("f", [layer, normed])
def test_any_number_of_threads_gives_the_same_bits(f):
    args = rand(577, 300), rand(300, 96, seed=1), rand(96, seed=2)

    def loss(*args):
        return np.sum(f(*args) ** 3)

    step = compiled(fg.value_and_grad(loss, argnums=(0, 1, 2)))
    before, found = fg.config.num_threads, []
    try:
        for threads in (1, 2, 4):
            fg.config.num_threads = threads
            value, slopes = step(*args)
            found.append([np.asarray(v).tobytes() for v in (value, *slopes)])
    finally:
        fg.config.num_threads = before
    assert found[0] == found[1] == found[2]


# -- updates --------------------------------------------------------------------------------------


def update(w, x, y):
    return w - 0.25 * (x.T @ y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_by_a_product(dtype):
    w, x, y = (
        rand(*s, dtype=dtype, seed=k) for k, s in enumerate([(200, 96), (64, 200), (64, 96)])
    )
    expected = update(w.astype(float), x, y)
    kept = w.copy()
    agree(compiled(update)(w, x, y), expected, 64)
    np.testing.assert_array_equal(w, kept)


def test_a_donated_parameter_is_updated_in_place():
    w, x, y = rand(200, 96), rand(64, 200, seed=1), rand(64, 96, seed=2)
    expected, place = update(w.astype(float), x, y), w.ctypes.data
    new = compiled(update, donate_argnums=0)(w, x, y)
    agree(new, expected, 64)
    assert new.ctypes.data == place


def test_an_epilogue_writes_into_donated_memory():
    m, x, y = rand(512, 96), rand(512, 300, seed=1), rand(300, 96, seed=2)
    expected, place = 0.5 * m + np.tanh(x.astype(float) @ y), m.ctypes.data
    f = compiled(lambda m, x, y: 0.5 * m + np.tanh(x @ y), donate_argnums=0)
    new = f(m, x, y)
    np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-4)
    assert new.ctypes.data == place


def test_an_operand_is_not_overwritten_by_an_epilogue():
    x, y = rand(512, 512), rand(512, 512, seed=1)
    f = compiled(lambda x, y: x + np.tanh(x @ y), donate_argnums=0)
    np.testing.assert_allclose(
        f(x.copy(), y), x + np.tanh(x.astype(float) @ y), rtol=1e-3, atol=1e-4
    )


def test_a_donated_operand_is_not_overwritten():
    w = rand(96, 96)
    f = compiled(lambda w: w - 0.25 * (w @ w), donate_argnums=0)
    agree(f(w.copy()), w - 0.25 * (w.astype(float) @ w), 96)


def test_an_update_by_nothing_keeps_what_is_no_number():
    w, x = np.ones((600, 10), np.float32), np.ones((600, 8), np.float32)
    x[5, 3] = np.inf
    y = np.ones((8, 10), np.float32)
    with np.errstate(invalid="ignore"):
        assert np.isnan(compiled(lambda w, x, y: w - 0.0 * (x @ y))(w, x, y)[5]).all()


def test_factors_of_an_update_are_not_multiplied():
    w, x = np.zeros((64, 96), np.float32), np.full((64, 64), 1e-36, np.float32)
    y = np.ones((64, 96), np.float32)
    f = compiled(lambda w, x, y: w - 1e30 * (1e30 * (x @ y)))
    np.testing.assert_allclose(f(w, x, y), -1e60 * 64e-36, rtol=1e-5)
