"""Python's operators on tracers: with foreign operands, and in place."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import errors

X = np.array([1.0, 2.0, 3.0])


def in_vmap(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return fg.tree.map(
            lambda y: y[0], fg.vmap(f)(*(np.stack([np.asarray(a)] * 2) for a in args))
        )

    return call


MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: lambda *args: fg.vjp(f, *args)[0],
    "vmap": in_vmap,
    "numpy": lambda f: fg.jit(f, backend="numpy"),
    "llvm": lambda f: fg.jit(f, backend="llvm"),
}
modes = pytest.mark.parametrize("mode", MODES)


# --- operands that answer by themselves ------------------------------------------------

BINARY = "add sub mul truediv floordiv mod pow matmul lshift rshift and xor or".split()


def method(name: str) -> Any:
    return lambda self, other: (name, type(self).__name__)


class OptsOut:
    """As xarray's, and others that align their operands before they compute."""

    __array_ufunc__ = None


for _name in [*BINARY, "divmod"]:
    setattr(OptsOut, f"__r{_name}__", method(f"r{_name}"))
    setattr(OptsOut, f"__{_name}__", method(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(OptsOut, f"__{_name}__", method(_name))


class Prior:
    """Without a protocol, with a priority, as SciPy's sparse matrices are."""

    __array_priority__ = 2000.0
    __radd__, __add__ = method("radd"), method("add")


class Silent:
    """Without any of these, but for an operator."""

    __radd__, __rmatmul__ = method("radd"), method("rmatmul")


class Nothing:
    pass


class Quantity:
    """As pint's: answers ufuncs and functions, and carries something along."""

    def __init__(self, value: Any, unit: str):
        self.value, self.unit = value, unit

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [x.value if isinstance(x, Quantity) else x for x in inputs]
        return Quantity(getattr(ufunc, method)(*plain, **kwargs), self.unit)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        plain = [x.value if isinstance(x, Quantity) else x for x in args]
        return Quantity(function(*plain, **kwargs), self.unit)


class Tagged(np.ndarray):
    """As astropy's: an array that answers ufuncs in its own way."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, Tagged) else x for x in inputs]
        return ("tagged", getattr(ufunc, method)(*plain, **kwargs))


class Refuses:
    """Answers ufuncs by refusing them."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented


def during(mode: str, f: Callable[[Any], Any]) -> Any:
    """What f gives for a tracer."""
    found: list[Any] = []

    def call(x: Any) -> Any:
        found.append(f(x))
        return x

    MODES[mode](call)(X)
    return found[0]


@modes
def test_operands_that_opt_out_of_ufuncs(mode: str) -> None:
    other = OptsOut()
    functions = {name: getattr(operator, name.strip("_"), None) for name in BINARY}
    functions |= {"and": operator.and_, "or": operator.or_, "divmod": divmod}
    for name, function in functions.items():
        assert during(mode, lambda x, f=function: f(x, other)) == (f"r{name}", "OptsOut")
        assert during(mode, lambda x, f=function: f(other, x)) == (name, "OptsOut")
    mirrored = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}
    for name, mirror in mirrored.items():
        function = getattr(operator, name)
        assert during(mode, lambda x, f=function: f(x, other)) == (mirror, "OptsOut")
        assert during(mode, lambda x, f=function: f(other, x)) == (name, "OptsOut")


@modes
def test_operands_with_operators_alone(mode: str) -> None:
    for other in (Prior(), Silent()):
        assert during(mode, lambda x, o=other: x + o) == ("radd", type(other).__name__)
    assert during(mode, lambda x: Prior() + x) == ("add", "Prior")
    assert during(mode, lambda x: x @ Silent()) == ("rmatmul", "Silent")
    for other in (Nothing(), Prior(), Silent(), None, "text", {}, Refuses(), OptsOut):
        for function in (operator.sub, operator.truediv, operator.pow, divmod, operator.lt):
            for f in (lambda x, o, f=function: f(x, o), lambda x, o, f=function: f(o, x)):
                if other is OptsOut and function is not operator.lt:
                    continue
                with pytest.raises(TypeError):
                    during(mode, lambda x, o=other, f=f: f(x, o))


@modes
def test_operands_that_answer_ufuncs(mode: str) -> None:
    unit = Quantity(2.0, "m")
    cases: list[Callable[[Any], Any]] = [
        lambda x: x * unit,
        lambda x: np.multiply(x, unit),
        lambda x: np.multiply(unit, x),
        lambda x: np.add.reduce(x) * unit,
        lambda x: x**unit,
        lambda x: x < unit,
        lambda x: np.where(x > 0, x, unit),
        lambda x: np.dot(x, unit),
    ]
    for f in cases:
        result, expected = during(mode, f), f(X)
        assert type(result) is Quantity
        assert result.unit == expected.unit == "m"
        assert np.shape(result.value) == np.shape(expected.value)
    assert during(mode, lambda x: x + np.ones(3).view(Tagged))[0] == "tagged"
    assert during(mode, lambda x: np.ones(3).view(Tagged) + x)[0] == "tagged"
    with pytest.raises(errors.NotAnArrayError):
        during(mode, lambda x: x + np.ma.masked_array([1.0, 2.0, 3.0]))


def test_derivatives_through_classes_that_answer_ufuncs() -> None:
    gradient = fg.grad(lambda x: np.sum((x * Quantity(X, "m") * x).value))(X)
    np.testing.assert_array_equal(gradient, 2 * X * X)


@modes
def test_integers_repeat_sequences(mode: str) -> None:
    for f in (lambda n: [1.0, 2.0] * n, lambda n: n * (1, 2), lambda n: "ab" * n):
        if mode == "eager":
            assert during(mode, lambda x, f=f: f(np.argmax(x))) == f(np.argmax(X))
        else:
            with pytest.raises(errors.TracerValueError):
                during(mode, lambda x, f=f: f(np.argmax(x)))
    np.testing.assert_array_equal(MODES[mode](lambda x: [2.0] * x)(X), 2 * X)


# --- in place --------------------------------------------------------------------------

IN_PLACE = {
    name: getattr(operator, f"i{name}")
    for name in "add sub mul truediv floordiv mod pow lshift rshift and xor or".split()
}
ARRAYS: dict[str, Any] = {
    "f64": np.array([1.0, 2.0, 3.0]),
    "f32": np.array([1.0, 2.0, 3.0], np.float32),
    "f16": np.array([1.0, 2.0, 3.0], np.float16),
    "i64": np.array([1, 2, 3]),
    "i16": np.array([1, 2, 3], np.int16),
    "u8": np.array([1, 2, 3], np.uint8),
    "c64": np.array([1.0, 2.0, 3.0], np.complex64),
    "bool": np.array([True, False, True]),
    "column": np.array([[1.0], [2.0]]),
    "one": np.array([2.0]),
    "float": 2.0,
    "int": 2,
    "f64 scalar": np.float64(2.0),
    "i64 scalar": np.int64(2),
}


def outcome(f: Callable[..., Any], *args: Any) -> Any:
    """The result, or the class of error that NumPy and we should agree in."""
    try:
        with np.errstate(all="ignore"):
            return f(*args)
    except (TypeError, ValueError) as error:
        return TypeError if isinstance(error, TypeError) else ValueError


@modes
@pytest.mark.parametrize("left", [name for name in ARRAYS if np.ndim(ARRAYS[name])])
def test_in_place_operators_keep_shape_and_dtype(mode: str, left: str) -> None:
    x = ARRAYS[left]
    known = []
    for (name, function), (right, y) in itertools.product(IN_PLACE.items(), ARRAYS.items()):
        expected = outcome(function, x.copy(), y)
        if name == "pow" and not np.can_cast(np.result_type(x, y), x.dtype, "same_kind"):
            # Before 2.3 NumPy squared integers in place, whatever the exponent's type.
            expected = TypeError
        # A Python number is a setting of the function; an argument would be an array to jit.
        fixed = type(y) in (float, int)
        f = (lambda x, f=function, y=y: f(x, y)) if fixed else function
        given = () if fixed else (y,)
        if isinstance(expected, type):
            assert outcome(MODES[mode](f), x, *given) is expected, (name, right)
        else:
            known.append(((name, right), f, given, expected))

    def together(x: Any, *ys: Any) -> list[Any]:
        left_over = iter(ys)
        return [f(x, *(next(left_over) for _ in given)) for _, f, given, _ in known]

    # One program of all, where each would take its time to compile.
    with np.errstate(all="ignore"):
        found = MODES[mode](together)(x, *(y for *_, given, _ in known for y in given))
    for (names, *_, expected), actual in zip(known, found, strict=True):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), names
        np.testing.assert_allclose(actual, expected, rtol=1e-6, err_msg=str(names))


@modes
def test_in_place_matrix_products(mode: str) -> None:
    a, b = np.arange(9.0).reshape(3, 3), np.arange(9.0, dtype=np.float32).reshape(3, 3)
    for x, y in ((a, b), (b, a), (X, a), (a, X), (a, a[:, :2]), (a.astype(int), a)):
        expected = outcome(operator.imatmul, x.copy(), y)
        actual = outcome(MODES[mode](operator.imatmul), x, y)
        if isinstance(expected, type):
            assert actual is expected
        else:
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected)


@modes
def test_in_place_operators_bind_numbers_anew(mode: str) -> None:
    """NumPy's scalars and Python's numbers are not written to."""

    def grows(x: Any) -> Any:
        total = np.sum(x)
        total += x
        count = np.argmax(x)
        count += 1.5
        count /= 2
        return total, count

    total, count = MODES[mode](grows)(X)
    np.testing.assert_array_equal(total, X + 6.0)
    assert (count.dtype, count) == (np.float64, 1.75)
    narrow = MODES[mode](lambda x, y: operator.iadd(np.sum(x), y))(X.astype(np.float32), X)
    assert narrow.dtype == np.float64


@modes
def test_errors_of_in_place_operators_name_the_line(mode: str) -> None:
    def wide(x: Any) -> Any:
        x += np.ones((2, 3))
        return x

    def fractions(x: Any) -> Any:
        n = np.argsort(x)
        n += 1.5
        return n

    for kind, f in ((errors.ShapeError, wide), (errors.OperandTypeError, fractions)):
        with pytest.raises(kind, match=r"x \+= y: .*does not hold.*") as caught:
            MODES[mode](lambda x, f=f: f(x))(X)
        assert f"{__file__}:" in str(caught.value)
    with pytest.raises(TypeError):
        during(mode, lambda x: operator.iadd(x, OptsOut()))


def test_derivatives_of_in_place_operators() -> None:
    def f(x: Any) -> Any:
        y = x * x
        y *= x
        y -= 1.0
        y /= 2.0
        return np.sum(y)

    for gradient in (fg.grad(f), fg.jit(fg.grad(f)), fg.jacfwd(f)):
        np.testing.assert_allclose(gradient(X), 1.5 * X**2)
        assert gradient(X.astype(np.float32)).dtype == np.float32
