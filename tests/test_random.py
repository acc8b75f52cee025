"""funcgrad.random: JAX's numbers, under every transformation, and bad input."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import random
from funcgrad.errors import ArgumentError, RandomKeyError, ShapeError
from funcgrad.primitives import _threefry
from random_cases import CASES, SEEDS, equal

RECORDED = np.load(Path(__file__).parent / "data" / "random_values.npz")
KEY = random.key(0)


# --- the same numbers -----------------------------------------------------------------


def test_keys_are_those_recorded():
    np.testing.assert_array_equal([random.key(seed) for seed in SEEDS], RECORDED["key"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_numbers_are_those_recorded(case):
    for key, want in zip(RECORDED["key"], RECORDED[case.name], strict=True):
        got = case.call(random, key)
        assert equal(got, want, case), f"{case.name}, key {key}: {got}, not {want}"


def test_every_recorded_answer_has_a_case():
    assert set(RECORDED.files) == {"key", *(case.name for case in CASES)}


@pytest.mark.parametrize(
    ("key", "counter", "want"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_block_function_answers_random123(key, counter, want):
    # The known answers that Random123 ships for threefry2x32 with 20 rounds (kat_vectors).
    assert _threefry.block(*key, *counter) == want


@pytest.mark.parametrize("rows", [1, 3, 700])
@pytest.mark.parametrize("columns", [1, 50, 40_000])
def test_array_block_function_is_the_integer_one(rows, columns):
    keys = random.split(KEY, rows)
    starts = np.arange(rows, dtype=np.uint64) + np.uint64(2**32 - 2)
    got = _threefry.random_split(keys, starts, shape=(columns,))
    for i, j in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)):
        counter = 2**32 - 2 + i + j
        want = _threefry.block(*keys[i].tolist(), counter >> 32, counter & 0xFFFFFFFF)
        assert tuple(got[i, j].tolist()) == want


def test_key_from_numpy_integers():
    # JAX widens nothing: a 32-bit seed has no upper half to carry its sign.
    np.testing.assert_array_equal(random.key(np.int64(-1)), [2**32 - 1, 2**32 - 1])
    np.testing.assert_array_equal(random.key(np.int32(-1)), [0, 2**32 - 1])
    np.testing.assert_array_equal(random.key(np.array(2**40 + 7)), random.key(2**40 + 7))
    np.testing.assert_array_equal(random.key(2**64 - 1), random.key(-1))


def test_fold_in_is_an_element_of_split():
    keys = random.split(KEY, 5)
    np.testing.assert_array_equal([random.fold_in(KEY, i) for i in range(5)], keys)
    np.testing.assert_array_equal(random.fold_in(KEY, np.int64(2**32 + 3)), keys[3])


def test_results_are_pure():
    first, again = random.normal(KEY, (4,)), random.normal(KEY, (4,))
    assert first is not again
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(KEY, [0, 0])


@pytest.mark.parametrize(
    ("draw", "mean", "variance"),
    [
        (lambda k, n: random.uniform(k, n, minval=-1.0, maxval=3.0), 1.0, 16 / 12),
        (lambda k, n: random.normal(k, n), 0.0, 1.0),
        (lambda k, n: random.normal(k, n, np.float32), 0.0, 1.0),
        (lambda k, n: random.exponential(k, n), 1.0, 1.0),
        (lambda k, n: random.gumbel(k, n), np.euler_gamma, np.pi**2 / 6),
        (lambda k, n: random.bernoulli(k, 0.3, n), 0.3, 0.21),
        (lambda k, n: random.randint(k, n, 0, 6), 2.5, 35 / 12),
        (
            lambda k, n: random.truncated_normal(k, 0.0, np.inf, n),
            (2 / np.pi) ** 0.5,
            1 - 2 / np.pi,
        ),
    ],
)
def test_moments(draw, mean, variance):
    numbers = np.asarray(draw(KEY, (200_000,)), np.float64)
    # Five standard errors; the fourth moments are below 24 variance**2.
    np.testing.assert_allclose(numbers.mean(), mean, atol=5 * (variance / 200_000) ** 0.5)
    np.testing.assert_allclose(numbers.var(), variance, rtol=5 * (24 / 200_000) ** 0.5)


def test_permutation_permutes():
    x = np.arange(60).reshape(3, 20)
    np.testing.assert_array_equal(np.sort(random.permutation(KEY, 3000)), np.arange(3000))
    columns = random.permutation(KEY, x, axis=1)
    np.testing.assert_array_equal(np.sort(columns, axis=1), x)
    assert np.all(np.ptp(columns - x[0] * 0 - np.array([[0], [20], [40]]), axis=0) == 0)
    own = random.permutation(KEY, x, axis=1, independent=True)
    np.testing.assert_array_equal(np.sort(own, axis=1), x)
    assert not np.array_equal(own[0] + 20, own[1])


def test_truncated_normal_stays_strictly_inside():
    for dtype in (np.float32, np.float64):
        numbers = random.truncated_normal(KEY, -0.01, 0.01, (1000,), dtype)
        assert numbers.dtype == dtype
        assert numbers.min() > dtype(-0.01) and numbers.max() < dtype(0.01)


# --- under transformations ------------------------------------------------------------

LOGITS = np.array([0.3, -1.0, 0.5])
DRAWS = {
    "split": lambda k: random.split(k, (2, 2)),
    "fold_in": lambda k: random.fold_in(k, 7),
    "bits": lambda k: random.bits(k, (3,), np.uint16),
    "uniform": lambda k: random.uniform(k, (2, 3), np.float32, -0.3, 1.7),
    "bernoulli": lambda k: random.bernoulli(k, 0.4, (5,)),
    "normal": lambda k: random.normal(k, (30, 2)),
    "normal, one": lambda k: random.normal(k),
    "normal complex": lambda k: random.normal(k, (2,), np.complex64),
    "truncated_normal": lambda k: random.truncated_normal(k, -1.0, 2.0, (4,)),
    "exponential": lambda k: random.exponential(k, (2,)),
    "gumbel": lambda k: random.gumbel(k, (2,), np.float32),
    "randint": lambda k: random.randint(k, (5,), 0, 10),
    "randint, one": lambda k: random.randint(k, (), -3, 70, np.int8),
    "permutation": lambda k: random.permutation(k, 9),
    "permutation of rows": lambda k: random.permutation(k, np.arange(8.0).reshape(2, 4), 1, True),
    "categorical": lambda k: random.categorical(k, LOGITS, shape=(4,)),
    "categorical, once": lambda k: random.categorical(k, LOGITS, shape=(2,), replace=False),
    "choice": lambda k: random.choice(k, LOGITS, (4,)),
    "choice by weight": lambda k: random.choice(k, 3, (4,), p=np.array([0.2, 0.5, 0.3])),
}
draws = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


def assert_same_numbers(got, want):
    """The same bits; what is computed from these by functions such as `log` up to rounding."""
    assert got.dtype == want.dtype
    if want.dtype.kind in "fc":
        rtol = 16 * np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
    else:
        np.testing.assert_array_equal(got, want)


@draws
def test_vmap_is_a_loop(draw):
    keys = random.split(KEY, 3)
    assert_same_numbers(fg.vmap(draw)(keys), np.stack([draw(k) for k in keys]))


@draws
def test_nested_vmap_is_a_loop(draw):
    keys = random.split(KEY, (2, 3))
    want = np.stack([np.stack([draw(k) for k in row]) for row in keys])
    assert_same_numbers(fg.vmap(fg.vmap(draw))(keys), want)


@draws
def test_jit_gives_the_same_numbers(draw):
    jitted = fg.jit(draw)
    for key in random.split(KEY, 2):
        assert_same_numbers(jitted(key), draw(key))


@draws
def test_exported_source_gives_the_same_numbers(draw, tmp_path):
    path = tmp_path / "program.py"
    fg.export(draw, KEY, path=path)
    program = runpy.run_path(path)
    assert "funcgrad" not in {getattr(v, "__name__", None) for v in program.values()}
    assert_same_numbers(np.asarray(program["main"](KEY)), draw(KEY))


def test_seeds_and_data_may_be_traced():
    seeds = np.array([0, 5, -1, 2**40 + 7])
    keys = np.stack([random.key(int(seed)) for seed in seeds])
    np.testing.assert_array_equal(fg.vmap(random.key)(seeds), keys)
    np.testing.assert_array_equal(fg.jit(random.key)(seeds[3]), keys[3])
    folded = fg.vmap(random.fold_in, in_axes=(None, 0))(KEY, np.arange(4))
    np.testing.assert_array_equal(folded, random.split(KEY, 4))
    both = fg.vmap(random.fold_in)(keys, np.arange(4))
    want = np.stack([random.fold_in(k, i) for i, k in enumerate(keys)])
    np.testing.assert_array_equal(both, want)


def test_parameters_may_be_traced():
    def draw(low, high, p):
        return (
            random.randint(KEY, (20,), low, high),
            random.randint(KEY, (20,), low, high, np.uint8),
            random.uniform(KEY, (20,), np.float32, low, high),
            random.bernoulli(KEY, p, (20,)),
        )

    want = draw(-3, 11, np.float64(0.3))
    got = fg.jit(draw)(-3, 11, np.float64(0.3))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_keys_in_loops():
    def chain(key):
        def step(key, i):
            key, subkey = random.split(key)
            return key, random.normal(random.fold_in(subkey, i), (2,))

        return fg.scan(step, key, np.arange(3))[1]

    key, want = KEY, []
    for i in range(3):
        key, subkey = random.split(key)
        want.append(random.normal(random.fold_in(subkey, i), (2,)))
    for transformed in (chain, fg.jit(chain)):
        assert_same_numbers(transformed(KEY), np.stack(want))
    np.testing.assert_array_equal(fg.vmap(chain)(KEY[None])[0], want)


def test_derivatives_by_the_bounds():
    unit = random.uniform(KEY, (5,))

    def total(low, high):
        return np.sum(random.uniform(KEY, (5,), minval=low, maxval=high))

    low, high = fg.grad(total, argnums=(0, 1))(-0.3, 1.7)
    np.testing.assert_allclose(low, np.sum(1 - unit))
    np.testing.assert_allclose(high, np.sum(unit))


def test_derivatives_of_truncated_normal():
    def total(low, high):
        return np.sum(random.truncated_normal(KEY, low, high, (5,)))

    slopes = fg.grad(total, argnums=(0, 1))(-0.5, 1.5)
    step = 1e-6
    by_low = (total(-0.5 + step, 1.5) - total(-0.5 - step, 1.5)) / (2 * step)
    by_high = (total(-0.5, 1.5 + step) - total(-0.5, 1.5 - step)) / (2 * step)
    np.testing.assert_allclose(slopes, (by_low, by_high), rtol=1e-6)


def test_derivatives_through_a_permutation():
    weights = np.arange(4.0)
    order = random.permutation(KEY, 4)
    slope = fg.grad(lambda x: np.dot(random.permutation(KEY, x), weights))(np.ones(4))
    np.testing.assert_array_equal(slope[order], weights)


def test_a_key_in_a_pytree():
    def loss(params):
        noise = random.normal(params["key"], params["w"].shape)
        return np.sum(params["w"] * noise)

    w = np.ones(3)
    slope = fg.grad(lambda w: loss({"w": w, "key": KEY}))(w)
    np.testing.assert_array_equal(slope, random.normal(KEY, (3,)))


# --- bad input ------------------------------------------------------------------------

VALUES = {
    "bits": lambda k, **o: random.bits(k, **o),
    "uniform": lambda k, **o: random.uniform(k, **o),
    "bernoulli": lambda k, **o: random.bernoulli(k, **o),
    "normal": lambda k, **o: random.normal(k, **o),
    "truncated_normal": lambda k, **o: random.truncated_normal(k, -1.0, 1.0, **o),
    "exponential": lambda k, **o: random.exponential(k, **o),
    "gumbel": lambda k, **o: random.gumbel(k, **o),
    "randint": lambda k, shape=(), **o: random.randint(k, shape, 0, 5, **o),
    "categorical": lambda k, **o: random.categorical(k, LOGITS, **o),
    "choice": lambda k, **o: random.choice(k, 5, **o),
}
OTHERS = {
    "split": random.split,
    "fold_in": lambda k: random.fold_in(k, 1),
    "permutation": lambda k: random.permutation(k, 5),
}
DTYPED = [n for n in VALUES if n not in ("bernoulli", "categorical", "choice")]


@pytest.mark.parametrize(("name", "draw"), [*VALUES.items(), *OTHERS.items()])
def test_bad_keys(name, draw):
    message = rf"{name} takes a key, uint32\[2\], as its first argument, not "
    for bad, given in (
        (0, "int"),
        (None, "NoneType"),
        (np.zeros(2), r"float64\[2\]"),
        (np.zeros(2, np.int32), r"int32\[2\]"),
        (np.zeros(3, np.uint32), r"uint32\[3\]"),
        (np.uint32(3), r"uint32\[\]"),
    ):
        with pytest.raises(RandomKeyError, match=message + given):
            draw(bad)
    with pytest.raises(RandomKeyError, match=rf"{name} takes one key.*vmap"):
        draw(random.split(KEY, 3))


@pytest.mark.parametrize(("name", "draw"), VALUES.items())
def test_bad_shapes(name, draw):
    for bad in (-1, (2, -1), 2.0, (2.0,), "ab", None if name in DTYPED[:1] else 1.5):
        with pytest.raises(ArgumentError, match=f"{name}: a shape"):
            draw(KEY, shape=bad)


@pytest.mark.parametrize("name", DTYPED)
def test_bad_dtypes(name):
    for bad in (bool, np.int32 if name != "randint" else np.float32, np.longdouble):
        with pytest.raises(ArgumentError, match=rf"{name}: (the )?dtype must be"):
            VALUES[name](KEY, dtype=bad)


@pytest.mark.parametrize("bad", [1.5, np.float64(2), "1", np.arange(2), None])
def test_bad_seeds(bad):
    with pytest.raises(RandomKeyError, match="the seed must be one integer"):
        random.key(bad)
    with pytest.raises(RandomKeyError, match="data must be one integer"):
        random.fold_in(KEY, bad)


def test_seeds_out_of_range():
    for bad in (2**64, -(2**63) - 1):
        with pytest.raises(ArgumentError, match="does not fit in 64 bits"):
            random.key(bad)
    for bad in (-1, 2**32):
        with pytest.raises(ArgumentError, match=r"in \[0, 2\*\*32\)"):
            random.fold_in(KEY, bad)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: random.split(KEY, -1), ArgumentError, "split: a shape has no negative"),
        (lambda: random.split(KEY, 1.5), ArgumentError, "split: a shape is made of integers"),
        (
            lambda: random.uniform(KEY, (3,), minval=np.zeros(2)),
            ShapeError,
            r"minval of shape \(2,\) does not broadcast to \(3,\)",
        ),
        (
            lambda: random.uniform(KEY, (), maxval=np.zeros(2)),
            ShapeError,
            r"maxval of shape \(2,\) does not broadcast to \(\)",
        ),
        (lambda: random.bernoulli(KEY, 1), ArgumentError, "bernoulli: the dtype must be"),
        (lambda: random.bernoulli(KEY, np.ones(2), (3,)), ShapeError, "p of shape"),
        (
            lambda: random.truncated_normal(KEY, np.zeros(2), 1.0, (3,)),
            ShapeError,
            "lower of shape",
        ),
        (lambda: random.randint(KEY, (3,), 0.0, 5), ArgumentError, "bounds must be integers"),
        (lambda: random.randint(KEY, (3,), np.zeros(2, int), 5), ShapeError, "minval of shape"),
        (lambda: random.permutation(KEY, 2.5), ArgumentError, "x must be an integer or an array"),
        (lambda: random.permutation(KEY, np.ones(3), 1), ArgumentError, "no axis 1"),
        (lambda: random.categorical(KEY, [1, 2]), ArgumentError, "the dtype must be"),
        (lambda: random.categorical(KEY, 1.0), ArgumentError, "no axis -1"),
        (lambda: random.categorical(KEY, np.zeros((2, 0))), ArgumentError, "no categories"),
        (
            lambda: random.categorical(KEY, np.zeros((2, 3)), shape=(4,)),
            ShapeError,
            r"logits of shape \(2,\) does not broadcast to \(4,\)",
        ),
        (
            lambda: random.categorical(KEY, np.zeros(3), shape=(4,), replace=False),
            ArgumentError,
            "4 draws without replacement from 3",
        ),
        (
            lambda: random.categorical(KEY, np.zeros((1, 3)), shape=(2, 5), replace=False),
            ShapeError,
            "must end in",
        ),
        (lambda: random.choice(KEY, 0, (2,)), ArgumentError, "2 draws from 0"),
        (
            lambda: random.choice(KEY, 3, (4,), replace=False),
            ArgumentError,
            "4 draws without replacement from 3",
        ),
        (lambda: random.choice(KEY, 3, p=np.ones(2)), ArgumentError, r"of shape \(3,\)"),
        (lambda: random.choice(KEY, np.ones(3), axis=1), ArgumentError, "no axis 1"),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()
