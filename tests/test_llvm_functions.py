"""The LLVM backend's functions: errors in ulp against mpmath, and special values against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import mpmath as mp
from scipy import special

from _llvm_kernels import compiled
from funcgrad.backends.llvm.ir.functions import FUNCTIONS
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer
from funcgrad.primitives import _gamma

DTYPES = ("float32", "float64")
LANES = {"float32": 16, "float64": 8}
BOUND = {"float32": 2.0, "float64": 4.0}
INF = math.inf


def _logaddexp(x: Any, y: Any) -> Any:
    return max(x, y) + mp.log1p(mp.exp(-abs(x - y)))


# Each: the function in mpmath, and the ends of the intervals of its arguments.
UNARY: dict[str, tuple[Callable[..., Any], float, float]] = {
    "exp": (mp.exp, -760, 710),
    "exp2": (lambda x: mp.mpf(2) ** x, -1080, 1025),
    "expm1": (mp.expm1, -60, 710),
    "log": (mp.log, 0, INF),
    "log2": (lambda x: mp.log(x) / mp.log(2), 0, INF),
    "log10": (mp.log10, 0, INF),
    "log1p": (mp.log1p, -1, INF),
    "logistic": (lambda x: 1 / (1 + mp.exp(-x)), -760, 50),
    "sin": (mp.sin, -INF, INF),
    "cos": (mp.cos, -INF, INF),
    "tan": (mp.tan, -INF, INF),
    "sinc": (mp.sincpi, -1e6, 1e6),
    "sinh": (mp.sinh, -711, 711),
    "cosh": (mp.cosh, -711, 711),
    "tanh": (mp.tanh, -40, 40),
    "arcsin": (mp.asin, -1, 1),
    "arccos": (mp.acos, -1, 1),
    "arctan": (mp.atan, -INF, INF),
    "arcsinh": (mp.asinh, -INF, INF),
    "arccosh": (mp.acosh, 1, INF),
    "arctanh": (mp.atanh, -1, 1),
    "erf": (mp.erf, -8, 8),
    "erfc": (mp.erfc, -8, 28),
    "erfinv": (mp.erfinv, -1, 1),
    "gammaln": (lambda x: mp.re(mp.loggamma(x)), 0, INF),
    "digamma": (mp.digamma, 0, INF),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), -INF, INF),
}
BINARY: dict[str, tuple[Callable[..., Any], float, float]] = {
    "power": (mp.power, 0, INF),
    "arctan2": (mp.atan2, -INF, INF),
    "hypot": (mp.hypot, -INF, INF),
    "logaddexp": (_logaddexp, 0, 1000),
    "logaddexp2": (
        lambda x, y: _logaddexp(x * mp.log(2), y * mp.log(2)) / mp.log(2),
        0,
        1000,
    ),
}
EXACT = ("fmod", "remainder", "floor_divide")
ARITY = {**dict.fromkeys(UNARY, 1), **dict.fromkeys(BINARY, 2), **dict.fromkeys(EXACT, 2)}
# What NumPy lacks, in float64.
WIDE = {
    "erf": special.erf,
    "erfc": special.erfc,
    "erfinv": special.erfinv,
    # SciPy's gammaln is infinite of subnormal numbers, and its psi inexact of negative ones.
    "gammaln": _gamma.gammaln,
    "digamma": _gamma.digamma,
    "logistic": special.expit,
}


def function(name: str, dtype: str) -> Callable[..., np.ndarray]:
    return compiled(name, dtype, LANES[dtype], ARITY[name])


def reference(name: str) -> Callable[..., np.ndarray]:
    return WIDE[name] if name in WIDE else getattr(np, name)


def sample(rng: np.random.Generator, dtype: str, low: float, high: float, n: int) -> np.ndarray:
    """Numbers of an interval: of all magnitudes, evenly spread, and near 1 and its ends."""
    info = np.finfo(dtype)
    least, most = math.log(float(info.smallest_subnormal)), math.log(float(info.max)) - 1e-6
    sizes = np.exp(rng.uniform(least, most, 4 * n)) * rng.choice([-1.0, 1.0], 4 * n)
    ends = [v for v in (low, high, 1.0, -1.0, 0.0) if math.isfinite(v)]
    near = rng.choice(ends, n) + np.exp(rng.uniform(-30, -1, n)) * rng.choice([-1, 1], n)
    spread = rng.uniform(max(low, -20), min(high, 20), n)
    wide = rng.uniform(max(low, -2000), min(high, 2000), n)
    pieces = [np.asarray(v).astype(dtype) for v in (sizes, near, spread, wide)]
    inside = [v[(v >= low) & (v <= high) & np.isfinite(v)][:n] for v in pieces]
    return np.concatenate(inside)


def ulps(got: float, exact: Any, dtype: str) -> float:
    """The error of `got` in units of the last place of the exact result."""
    info = np.finfo(dtype)
    if mp.isnan(exact) or math.isnan(got):
        return 0.0 if mp.isnan(exact) and math.isnan(got) else INF
    if math.isinf(got):
        return 0.0 if abs(exact) >= float(info.max) and (got > 0) == (exact > 0) else INF
    exponent = mp.frexp(exact)[1] if exact else info.minexp
    unit = mp.ldexp(1, max(exponent - 1, info.minexp) - info.nmant)
    return float(abs(mp.mpf(float(got)) - exact) / unit)


def worst_error(name: str, dtype: str, arguments: list[np.ndarray], precise: Any) -> tuple:
    results = function(name, dtype)(*arguments)
    with mp.workdps(60):
        return max(
            (ulps(float(got), precise(*(mp.mpf(float(v)) for v in point)), dtype), *point)
            for got, *point in zip(results, *arguments, strict=True)
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_are_within_the_bound(name: str, dtype: str) -> None:
    precise, low, high = UNARY[name]
    slow = name in ("erfinv", "sinc", "erfc")
    x = sample(np.random.default_rng(0), dtype, low, high, 80 if slow else 250)
    assert worst_error(name, dtype, [x], precise)[0] <= BOUND[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_within_the_bound(name: str, dtype: str) -> None:
    precise, low, high = BINARY[name]
    rng = np.random.default_rng(0)
    x, y = (sample(rng, dtype, low, high, 60) for _ in range(2))
    n = min(len(x), len(y))
    arguments = [x[:n], rng.permutation(y[:n])]
    if name == "power":
        # Exponents whose results are in range, and whole ones of either sign.
        arguments[1] = sample(rng, dtype, -40, 40, 60)[:n]
        n = len(arguments[1])
        arguments[0] = arguments[0][:n]
    assert worst_error(name, dtype, arguments, precise)[0] <= BOUND[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 2.5])
def test_constant_exponents(exponent: float, dtype: str) -> None:
    rng = np.random.default_rng(5)
    power = compiled("power", dtype, LANES[dtype], 1, (exponent,))
    x = sample(rng, dtype, 0, INF, 300)
    with mp.workdps(40):
        exact = [mp.power(mp.mpf(float(v)), exponent) for v in x if v > 0]
    errors = [ulps(float(g), e, dtype) for g, e in zip(power(x[x > 0]), exact, strict=True)]
    assert max(errors) <= BOUND[dtype]
    x = special_values(dtype)
    with np.errstate(all="ignore"):
        # NumPy has taken roots here since 2.3, which differ from powers at -0 and -inf.
        root = exponent == 0.5
        want = np.sqrt(x) if root else np.power(x.astype(np.float64), exponent).astype(dtype)
    assert_like("power", power(x), want, x)


# Float64's functions are exact enough to check float32's on many points.
@pytest.mark.parametrize("name", [n for n in UNARY if n != "sinc"])
def test_float32_against_float64_on_many_points(name: str) -> None:
    _, low, high = UNARY[name]
    rng = np.random.default_rng(1)
    x = sample(rng, "float32", low, high, 20_000)
    got = function(name, "float32")(x).astype(np.float64)
    with np.errstate(all="ignore"):
        exact = reference(name)(x.astype(np.float64))
        rounded = exact.astype(np.float32).astype(np.float64)
        unit = np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - 1, -126) - 23)
        error = np.where(got == rounded, 0.0, np.abs(got - exact) / unit)
    worst = np.argmax(np.where(np.isnan(error), INF, error))
    assert error[worst] <= BOUND["float32"], x[worst]


def special_values(dtype: str) -> np.ndarray:
    info = np.finfo(dtype)
    sizes = [
        0.0, INF, math.nan, 1.0, 2.0, 3.0, 0.5, 0.25, 1.5, 7.0, 100.0, 1e4, 1e9, 1e30,
        float(info.max), float(info.tiny), float(info.smallest_subnormal), float(info.eps),
        1.0 + float(info.eps), 1.0 - float(info.epsneg),
        2.0**info.nmant + 1, 2.0 ** (info.nmant + 1), 2.0 ** (info.nmant + 2),
    ]  # fmt: skip
    return np.array([*sizes, *(-v for v in sizes)], dtype)


def assert_like(name: str, got: np.ndarray, want: np.ndarray, *arguments: np.ndarray) -> None:
    """NaN, infinities, zeros and their signs in the same places, and nearly equal elsewhere."""
    for g, e, *point in zip(got, want, *arguments, strict=True):
        case = f"{name}{tuple(float(v) for v in point)} = {g}, not {e}"
        if math.isnan(e):
            assert math.isnan(g), case
        else:
            assert g == e or abs(g - e) <= 4 * np.spacing(abs(e)), case
            assert np.signbit(g) == np.signbit(e), case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in UNARY if n != "sinc"])
def test_special_values_of_unary_functions(name: str, dtype: str) -> None:
    x = special_values(dtype)
    with np.errstate(all="ignore"):
        want = reference(name)(x.astype(np.float64)).astype(dtype)
    assert_like(name, function(name, dtype)(x), want, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*BINARY, *EXACT])
def test_special_values_of_binary_functions(name: str, dtype: str) -> None:
    values = special_values(dtype)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        wide = "float64" if name not in EXACT else dtype
        want = reference(name)(x.astype(wide), y.astype(wide)).astype(dtype)
    got = function(name, dtype)(x, y)
    if name.startswith("logaddexp"):
        # Where the sum of the powers is near 1 all digits cancel, as they do in NumPy.
        cancelled = (np.abs(want) < 0.5) & (want != 0)
        np.testing.assert_allclose(got[cancelled], want[cancelled], atol=float(np.finfo(dtype).eps))
        got, want, x, y = (v[~cancelled] for v in (got, want, x, y))
    assert_like(name, got, want, x, y)


def test_sinc_at_special_values() -> None:
    x = np.array([0.0, -0.0, 1.0, -3.0, 1e30, INF, math.nan])
    want = [1.0, 1.0, 0.0, 0.0, 0.0, math.nan, math.nan]
    np.testing.assert_array_equal(function("sinc", "float64")(x), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_modulo_functions_equal_numpys(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    x, y = (sample(rng, dtype, -INF, INF, 2000) for _ in range(2))
    n = min(len(x), len(y))
    x, y = x[:n], rng.permutation(y[:n])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(function(name, dtype)(x, y), getattr(np, name)(x, y))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_do_not_depend_on_the_number_of_lanes(name: str) -> None:
    """Up to 128 bits alike, which take the shortest chain of operations; and beyond."""
    rng = np.random.default_rng(4)
    arguments = [special_values("float32").repeat(4), sample(rng, "float32", -INF, INF, 200)]
    arguments = [np.resize(a, 800) for a in arguments][: ARITY[name]]
    for few, many in ((1, 4), (8, 16)):
        by_few, by_many = (
            compiled(name, "float32", lanes, ARITY[name])(*arguments) for lanes in (few, many)
        )
        np.testing.assert_array_equal(by_many, by_few)


# Near multiples of pi/2: the doubles with the least remainders (J.-M. Muller, Elementary
# Functions, 2006), and the greatest numbers.
HARD_ANGLES = [6381956970095103.0 * 2.0**797, 2.0**1023, 1.7976931348623157e308, 1e22, 2.0**30 + 1]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_that_are_hard_to_reduce(name: str) -> None:
    multiples = np.arange(1, 200) * (math.pi / 2)
    x = np.concatenate([HARD_ANGLES, multiples, np.nextafter(multiples, 0)])
    precise = UNARY[name][0]
    with mp.workdps(400):
        expected = [float(precise(mp.mpf(v))) for v in x]
    got = function(name, "float64")(x)
    assert np.all(np.abs(got - expected) <= 4 * np.spacing(np.abs(expected)))


# Near each of their zeros the error is small beside the terms that cancel there: the first, and
# a number that the second one is near.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gammaln", "digamma"])
def test_reflected_functions_below_zero(name: str, dtype: str) -> None:
    rng = np.random.default_rng(6)
    x = -np.concatenate(
        [rng.uniform(0, 4, 200), rng.uniform(4, 200, 100), np.exp(rng.uniform(-80, 30, 100))]
    )
    x = np.concatenate([x, np.rint(x[:200] - 1) + 2.0 ** rng.uniform(-20, -1, 200)]).astype(dtype)
    x = x[x != np.rint(x)]
    got = function(name, dtype)(x)
    precise = UNARY[name][0]
    with mp.workdps(80):
        for g, v in zip(got, x, strict=True):
            point = mp.mpf(float(v))
            exact = precise(point)
            term = 1 + abs(precise(1 - point))
            error = abs(mp.mpf(float(g)) - exact)
            allowed = float(BOUND[dtype]) * np.spacing(np.abs(np.array(float(exact), dtype)))
            assert error <= float(allowed) + term * 2.0**-51, v


def test_sin_and_cos_of_one_value_share_their_reduction() -> None:
    def lines(*names: str) -> int:
        w = Writer(Module())
        for name in names:
            FUNCTIONS[name](w, Value("%x", "float", 16))
        return len(w.lines)

    assert lines("sin", "cos") < lines("sin") + 10


def test_what_one_branch_knows_is_not_used_in_another() -> None:
    w = Writer(Module())
    x = Value("%x", "float", 16)
    with w.when(Value("%test", "i1")):
        FUNCTIONS["sin"](w, x)
    assert not w.known
