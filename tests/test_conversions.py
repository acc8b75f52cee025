"""Plain numbers, text and arrays of tracers: what is granted, warned of, refused."""
# ruff: noqa: NPY002

from __future__ import annotations

import functools
import math
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

X = np.array([1.5, 3.2, 2.1])
TABLE = np.arange(10.0) ** 2
LIST = TABLE.tolist()


# --- integers and booleans -------------------------------------------------------------


def written(place: Any, x: Any) -> Any:
    buffer = np.zeros(3)
    buffer[place] = 2.0
    return np.sum(buffer * x)


# Functions that use computed integers or booleans as plain ones.
INTEGERS: dict[str, Callable[[Any], Any]] = {
    "array[integers]": lambda x: np.sum(TABLE[np.floor(x).astype(int)] * x),
    "array[integers, integer]": lambda x: np.eye(4)[np.argsort(x), np.argmax(x)] @ x,
    "array[list of integers]": lambda x: np.sum(TABLE[[np.argmax(x), np.argmin(x)]]) * x[0],
    "array[integer]": lambda x: TABLE[np.argmax(x)] * x[0],
    "array[mask]": lambda x: np.sum(TABLE[:3][x > 2]) * x[0],
    "array[mask, slice]": lambda x: np.sum(np.ones((3, 2))[x > 2, :]) * x[0],
    "array[slice]": lambda x: np.sum(TABLE[: np.argmax(x) + 1]) * x[0],
    "array[integers] = 2": lambda x: written(np.argsort(x)[:2], x),
    "array[mask] = 2": lambda x: written(x > 2, x),
    "list[integer]": lambda x: LIST[np.argmax(x)] * x[0],
    "take": lambda x: np.sum(np.take(TABLE, np.argsort(x)) * x),
    "method take": lambda x: np.sum(TABLE.take(np.argsort(x)) * x),
    "take_along_axis": lambda x: np.take_along_axis(TABLE[:3], np.argsort(x), 0) @ x,
    "asarray": lambda x: np.asarray(np.argsort(x)) @ x,
    "asarray(float)": lambda x: np.asarray(np.argsort(x), float) @ x,
    "array of a list": lambda x: np.array([np.argmax(x), 2, np.argmin(x)]) @ x,
    "np.int32": lambda x: np.int32(np.argmax(x)) * x[0],
    "np.float64": lambda x: np.float64(np.argmax(x)) * x[0],
    "math.sqrt": lambda x: math.sqrt(np.argmax(x)) * x[0],
    "range": lambda x: sum(range(np.argmax(x) + 2)) * x[0],
    "zeros": lambda x: np.zeros(np.argmax(x) + 1).size * x[0],
    "reshape": lambda x: np.ones(6).reshape(np.argmax(x) + 2, -1).shape[0] * x[0],
    "bincount": lambda x: np.bincount(np.argsort(x)) @ x,
    "isin": lambda x: np.isin(np.argsort(x), [0, 2]) @ x,
    "float": lambda x: float(np.argmax(x)) * x[0],
    "text": lambda x: len(f"{np.argmax(x):03d}{np.argmax(x)}") * x[0],
    "item": lambda x: np.argmax(x).item() * x[0],
    "tolist": lambda x: np.argsort(x).tolist()[1] * x[0],
}


@pytest.mark.parametrize("name", INTEGERS)
def test_known_integers_are_as_good_as_plain_ones(name: str) -> None:
    f = INTEGERS[name]
    expected = [(f(X + e) - f(X - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    for gradient in (fg.grad(f), fg.jacfwd(f), fg.jacrev(f), fg.grad(fg.checkpoint(f))):
        if gradient(X) is not None:
            np.testing.assert_allclose(gradient(X), expected, atol=1e-6)
    value, tangent = fg.jvp(fg.grad(f), (X,), (X,))
    np.testing.assert_allclose(value, expected, atol=1e-6)
    np.testing.assert_array_equal(tangent, 0.0 * X)
    np.testing.assert_allclose(fg.hessian(f)(X), np.zeros((3, 3)))


@pytest.mark.parametrize(
    "name", [name for name in INTEGERS if name not in ("text", "take_along_axis")]
)
@pytest.mark.parametrize("backend", ["numpy", "llvm", "vmap"])
def test_unknown_integers_are_refused(backend: str, name: str) -> None:
    f = INTEGERS[name]
    for function in (f, fg.grad(f), lambda x: fg.jvp(f, (x,), (x,))):
        traced = fg.vmap(function) if backend == "vmap" else fg.jit(function, backend=backend)
        with pytest.raises(TypeError) as caught:
            traced(X[None] if backend == "vmap" else X)
        # NumPy has its own words for a shape, which name the tracer.
        assert isinstance(caught.value, errors.FuncgradError) or "Tracer(i64" in str(caught.value)


def test_floats_are_no_index_and_no_array() -> None:
    with pytest.raises(errors.TracerArrayError, match=r"fg.at\(a\)\[t\]"):
        fg.grad(lambda x: np.sum(TABLE[x]))(X)
    with pytest.raises(errors.UnsupportedFunctionError):
        fg.grad(lambda x: np.sum(np.bincount(np.argsort(x), x)))(X)


# --- derivatives that end --------------------------------------------------------------

CUTS: dict[str, Callable[[Any], Any]] = {
    "float": lambda x: float(x) ** 2 * x,
    "complex": lambda x: complex(x).real ** 2 * x,
    "item": lambda x: x.item() ** 2 * x,
    "tolist": lambda x: x.tolist() ** 2 * x,
    "text": lambda x: float(f"{x:.17g}") ** 2 * x,
    "str": lambda x: float(str(x)) ** 2 * x,
    "percent": lambda x: float("%.17g" % x) ** 2 * x,  # noqa: UP031
    "format": lambda x: float("{:.17g}".format(x)) ** 2 * x,  # noqa: UP032
    "of a result": lambda x: float(x * 1.0) ** 2 * x,
}
DERIVATIVES: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "grad": fg.grad,
    "vjp": lambda f: lambda x: fg.vjp(f, x)[1](1.0)[0],
    "jvp": lambda f: lambda x: fg.jvp(f, (x,), (1.0,))[1],
    "linearize": lambda f: lambda x: fg.linearize(f, x)[1](1.0),
    "nested": lambda f: lambda x: fg.grad(lambda y: fg.grad(lambda z: z * y)(1.0) * f(y) / x)(x),
}


@pytest.mark.parametrize("how", DERIVATIVES)
@pytest.mark.parametrize("name", CUTS)
def test_numbers_that_cut_a_derivative_are_warned_of(how: str, name: str) -> None:
    f = CUTS[name]
    if how == "nested":
        f = functools.partial(lambda f, x: f(x), f)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert DERIVATIVES[how](f)(np.float64(3.0)) in (9.0, 18.0)
    (told,) = caught
    assert told.category is errors.CutDerivativeWarning
    assert (told.filename, told.lineno) == (__file__, CUTS[name].__code__.co_firstlineno)
    for part in ("fg.stop_gradient(x)", f"{__file__}:{told.lineno}", "counts as constant"):
        assert part in str(told.message)


def shown(x: Any) -> Any:
    print(f"loss {x:.2f}", x, float(x))
    print("%.2f" % x, str(x))  # noqa: UP031
    assert x > 0, f"negative: {x}"
    if x < 0:
        raise ValueError(f"negative: {float(x)}")
    return x**2


QUIET: dict[str, Callable[[Any], Any]] = {
    "stop_gradient": lambda x: float(fg.stop_gradient(x)) * x,
    "stopped text": lambda x: float(f"{fg.stop_gradient(x)}") * x,
    "what is computed of it": lambda x: float(fg.stop_gradient(x) * 2.0) * x,
    "steps": lambda x: float(np.floor(x)) * x,
    "integers": lambda x: float(np.argmax(np.stack([x, 2 * x]))) * x,
    "bool": lambda x: float(x > 0) * x,
    "int": lambda x: int(x) * x,
    "round": lambda x: round(x) * x,
    "floor": lambda x: math.floor(x) * math.ceil(x) * math.trunc(x) * x,
    "constants": lambda x: float(np.sum(np.ones(3))) * x,
    "shown": shown,
    "repr": lambda x: len(repr(x)) * x,
}


@pytest.mark.parametrize("name", QUIET)
def test_what_cuts_no_derivative_is_not_warned_of(name: str) -> None:
    f = QUIET[name]
    for derivative in DERIVATIVES.values():
        derivative(f)(2.5)
    fg.grad(lambda x, y: x * f(y))(1.0, 2.5)


def test_a_derivative_of_an_outer_function_is_cut_too() -> None:
    with pytest.warns(errors.CutDerivativeWarning):
        fg.grad(lambda x: fg.grad(lambda y: y * float(x))(1.0) * x)(3.0)


# --- Python's functions ----------------------------------------------------------------


@pytest.mark.parametrize("x", [2.5, np.float64(-1.25), np.float32(7.75)])
def test_python_functions_of_known_scalars(x: Any) -> None:
    def f(x: Any) -> Any:
        numbers = [round(x), math.floor(x), math.ceil(x), int(x)]
        # NumPy's float32 has no math.trunc.
        seen.append([*numbers, 0 if dtype == np.float32 else math.trunc(x)])
        return round(x, 1) * x

    dtype = getattr(x, "dtype", None)
    seen: list[Any] = []
    value = f(x)
    result, gradient = fg.value_and_grad(f)(x)
    assert result == value
    np.testing.assert_allclose(gradient, round(x, 1), rtol=1e-6)
    assert seen[0] == seen[1]
    assert all(type(number) is int for number in seen[1])


def test_rounding_to_digits_is_traced() -> None:
    for backend in ("numpy", "llvm"):
        assert fg.jit(lambda x: round(x, 1), backend=backend)(2.26) == 2.3
    assert fg.vmap(lambda x: round(x, 1))(np.array([2.26])) == 2.3
    for name, f in {"round": round, "math.floor": math.floor, "math.ceil": math.ceil}.items():
        with pytest.raises(errors.TracerValueError, match=name):
            fg.jit(f)(1.5)
    with pytest.raises(errors.OperandTypeError, match=r"np.round\(x\)"):
        fg.grad(lambda x: np.sum(round(x)))(X)


def test_elements_are_looked_for_as_numpy_does() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    for item in (4.0, 9.0):
        assert fg.grad(lambda x, i=item: x[0, 0] * (i in x))(matrix)[0, 0] == (item in matrix)


@pytest.mark.parametrize("transform", [fg.jit, lambda f: lambda x: fg.vmap(f)(x[None])])
def test_text_without_a_value_says_so(transform: Any) -> None:
    texts: list[str] = []

    def f(x: Any) -> Any:
        total = np.sum(x)
        texts.extend([f"{total}", str(total), repr(total), f"{total:>20}"])
        return total

    transform(f)(X)
    assert [text.strip() for text in texts] == ["Tracer(f64[])"] * 4


@pytest.mark.parametrize("transform", [fg.jit, lambda f: lambda x: fg.vmap(f)(x[None])])
@pytest.mark.parametrize("spec", [".3f", ",", "e", "d"])
def test_digits_without_a_value_are_an_error(transform: Any, spec: str) -> None:
    with pytest.raises(errors.TracerValueError, match=rf"(?s)x:{spec}.*print.*test_conversions"):
        transform(lambda x: format(np.sum(x), spec) and x)(X)


def test_formats_of_known_values() -> None:
    def f(x: Any) -> Any:
        print(f"{x:.2f} {x:8.3e} {x}", x, "%.3f" % x)  # noqa: UP031
        with pytest.raises(ValueError, match="format"):
            f"{fg.stop_gradient(x):q}"
        return x

    fg.grad(f)(2.5)


def test_numbers_are_given_however_often_a_line_runs() -> None:
    """Python rewrites the instructions of what runs often."""
    gradient = fg.grad(lambda x: float(fg.stop_gradient(x)) * x)
    assert [gradient(3.0) for _ in range(50)] == [3.0] * 50


# --- NumPy's random numbers ------------------------------------------------------------

GENERATOR = np.random.default_rng(0)
STATE = np.random.RandomState(0)
PYTHONS = random.Random(0)
normal, uniform = np.random.normal, random.uniform


class Model:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(1)

    def noisy(self, x: Any) -> Any:
        return x + self.generator.normal()


def helper(x: Any) -> Any:
    return x + np.random.normal()


def noise() -> Any:
    return GENERATOR.normal()


tools = types.ModuleType("tools")
tools.__file__ = "tools.py"
tools.noise = noise  # pyright: ignore[reportAttributeAccessIssue]


def closed_over() -> Callable[[Any], Any]:
    generator = np.random.default_rng(0)
    return lambda x: x + generator.normal()


class Parts:
    """An object whose parts have a generator."""

    def __init__(self) -> None:
        self.parts = {"first": [Model()]}

    def noisy(self, x: Any) -> Any:
        return self.parts["first"][0].noisy(x)


NOISES, PARTS = {"noise": (np.random.default_rng(2), 1.0)}, Parts()

DRAWS: dict[str, Callable[[Any], Any]] = {
    "np.random": lambda x: x + np.random.normal(),
    "np.random.rand": lambda x: x * (np.random.rand(3)[0] < 2.0),
    "a generator": lambda x: x + GENERATOR.normal(),
    "integers": lambda x: x + GENERATOR.integers(3),
    "a state": lambda x: x + STATE.standard_normal(),
    "a method": lambda x: x + normal(),
    "Python's": lambda x: x + random.random(),
    "Python's method": lambda x: x + uniform(0.0, 1.0),
    "Python's generator": lambda x: x + PYTHONS.random(),
    "closure": closed_over(),
    "self": Model().noisy,
    "partial": functools.partial(lambda generator, x: x + generator.normal(), GENERATOR),
    "default": lambda x, generator=GENERATOR: x + generator.normal(),
    "helper": lambda x: helper(x),
    "helper of a wrapper": fg.checkpoint(lambda x: x + noise()),
    "container": lambda x: x + NOISES["noise"][0].normal(),
    "object": lambda x: PARTS.noisy(x),
    "parts": Parts().noisy,
    "module": lambda x: x + tools.noise(),
}
FREEZING: dict[str, Callable[[Any], Any]] = {
    "vmap": lambda f: fg.vmap(f)(X),
    "numpy": lambda f: fg.jit(f, backend="numpy")(1.0),
    "llvm": lambda f: fg.jit(f, backend="llvm")(1.0),
    "grad": lambda f: fg.jit(fg.grad(f))(1.0),
    "scan": lambda f: fg.scan(lambda c, x: (f(c), None), 0.0, X),
    "map": lambda f: fg.map(f, X),
}


@pytest.mark.parametrize("how", FREEZING)
@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_that_are_frozen_are_warned_of(how: str, name: str) -> None:
    # The second of two normal numbers leaves the global generator's words as they are.
    for _ in range(2):
        with pytest.warns(errors.FrozenRandomWarning, match=r"fg.random") as caught:
            FREEZING[how](DRAWS[name])
        assert [w.filename for w in caught] == [__file__]
        assert f"{__file__}:{caught[0].lineno}" in str(caught[0].message)
    elsewhere = ("self", "partial", "default", "helper", "helper of a wrapper", "object", "parts")
    if name not in (*elsewhere, "module"):
        assert caught[0].lineno == DRAWS[name].__code__.co_firstlineno


def out_of_sight(x: Any) -> Any:
    return x + vars(np)["random"].uniform()


@pytest.mark.parametrize("how", FREEZING)
def test_draws_from_the_global_generator_are_noticed_by_what_is_left_of_it(how: str) -> None:
    for _ in range(2):
        with pytest.warns(errors.FrozenRandomWarning, match=r"fg.random") as caught:
            FREEZING[how](out_of_sight)
        assert [w.filename for w in caught] == [__file__]


@pytest.fixture
def global_generator() -> Iterator[None]:
    module: Any = np.random
    before = module.get_bit_generator()
    yield
    module.set_bit_generator(before)


@pytest.mark.usefixtures("global_generator")
def test_a_global_generator_that_is_loaded_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["numpy.random"]

    def loaded(x: Any) -> Any:
        monkeypatch.setitem(sys.modules, "numpy.random", module)
        module.set_bit_generator(module.MT19937(0))
        return x

    monkeypatch.setitem(sys.modules, "numpy.random", None)
    assert fg.jit(loaded)(1.0) == 1.0
    monkeypatch.setitem(sys.modules, "numpy.random", None)
    with pytest.warns(errors.FrozenRandomWarning, match=r"fg.random"):
        fg.jit(lambda x: out_of_sight(loaded(x)))(1.0)


@pytest.mark.usefixtures("global_generator")
def test_global_generators_of_other_kinds_do_not_tell() -> None:
    module: Any = np.random
    module.set_bit_generator(module.PCG64(0))
    assert 1.0 <= fg.jit(out_of_sight)(1.0) < 2.0


def test_draws_outside_are_not_warned_of() -> None:
    def f(x: Any) -> Any:
        return x + noise

    for _ in range(2):
        noise = np.random.normal() + GENERATOR.normal()
        fg.jit(f)(1.0)
        fg.vmap(lambda x: x + fg.random.normal(fg.random.key(0)))(X)
        fg.grad(lambda x: x + np.random.normal())(1.0)


def test_generators_without_a_state_do_not_keep_functions_from_being_traced() -> None:
    system = random.SystemRandom()
    for transform in (fg.jit, lambda f: lambda x: fg.vmap(f)(np.stack([x, x]))[0]):
        assert 1.0 <= transform(lambda x: x + system.random())(np.float64(1.0)) < 2.0
