"""Names in generated source: the user's own win, everything else makes way."""

from __future__ import annotations

import importlib.util
import keyword
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.numpy.helpers import copied
from funcgrad.backends.numpy.module import BUILT_IN, Names
from funcgrad.backends.numpy.standalone import Standalone
from funcgrad.core.binding import bind
from funcgrad.core.printing import letters
from funcgrad.primitives.elementwise import logistic as logistic_p

X = np.array([-1.0, 0.0, 2.0])


def load(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace


def check(function: Callable[..., Any], *args: Any, name: str = "") -> str:
    """The function's source, which gives the same under its own parameters' names."""
    source = fg.jit(function, backend="numpy").lower(*args).text
    generated = load(source)[name or function.__name__]
    parameters = function.__code__.co_varnames[: len(args)]
    for found in (generated(*args), generated(**dict(zip(parameters, args, strict=True)))):
        np.testing.assert_allclose(found, function(*args), rtol=1e-14)
    return source


def logistic(x):
    return bind(logistic_p, x)


def test_a_function_named_like_a_helper() -> None:
    assert "def logistic_2(x):" in check(logistic, X)


def test_a_parameter_named_like_a_helper() -> None:
    def f(logistic):
        return bind(logistic_p, logistic) + logistic

    check(f, X)


def loops(np_module, values, big):
    """Uses a loop forwards and backwards, a helper, constants inline and in base64."""
    forwards = fg.scan(lambda c, v: (c + v, c * v), 0.0, values)[1]
    backwards = fg.scan(lambda c, v: (c * v, c), 1.0, values, reverse=True)[1]
    return bind(logistic_p, forwards + backwards) * 2.0 + np_module + np.sum(big * CONSTANT)


CONSTANT = np.random.default_rng(0).normal(size=100)
AWKWARD = ["np", "range", "reversed", "complex", "base64", "const0", "const1", "logistic", "i"]
AWKWARD += ["a", "b", "main", "step", "f", "np_2", "range_2", "tuple", "_", "__name__", "é"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_parameters(name: str) -> None:
    namespace = {"loops": loops}
    exec(f"def f({name}, other):\n    return loops({name}, other, 1.5)", namespace)
    check(namespace["f"], np.float64(0.5), X)
    exec(f"def f(other, {name}):\n    return loops(0.5, {name}, 1.5)", namespace)
    check(namespace["f"], np.float64(0.5), X)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_functions(name: str) -> None:
    namespace = {"loops": loops}
    exec(f"def {name}(x):\n    return loops(0.5, x, 1.5)", namespace)
    check(namespace[name], X, name=f"{name}_" if name in BUILT_IN else name)


@pytest.mark.parametrize("name", ["sum", "len", "isinstance", "tuple", "slice", "enumerate"])
def test_functions_named_like_what_a_helper_uses(name: str) -> None:
    """Their names are kept unless a helper that is copied needs Python's own."""
    namespace = {"fg": fg, "np": np}
    exec(f"def {name}(k):\n    return fg.random.normal(k, (3,)) * 1.0", namespace)
    function, key = namespace[name], fg.random.key(0)
    generated = load(fg.jit(function, backend="numpy").lower(key).text)
    found = generated.get(f"{name}_") or generated[name]
    np.testing.assert_array_equal(found(key), function(key))
    assert f"{name}_" in generated or name not in Standalone(Names()).builtins()


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_leaves(name: str) -> None:
    def f(p, q):
        return loops(p[name] + q[0][name], p["x"], 2.0)

    source = fg.jit(f, backend="numpy").lower({name: 0.5, "x": X}, [{name: X}]).text
    found = load(source)["f"]({name: 0.5, "x": X}, [{name: X}])
    np.testing.assert_allclose(found, f({name: 0.5, "x": X}, [{name: X}]), rtol=1e-14)


def test_keys_that_are_no_names() -> None:
    keys = ["class", "", " ", "1", "a b", "a_b", "a.b", "p", "p_a", "\n", "'", '"', "\\", "x"]

    def f(p):
        return sum(p[k] * float(i) for i, k in enumerate(keys))

    values = {k: X + i for i, k in enumerate(keys)}
    np.testing.assert_allclose(
        load(fg.jit(f, backend="numpy").lower(values).text)["f"](values), f(values)
    )


def test_keywords_that_are_no_names() -> None:
    def f(x, **options):
        return x + sum(options.values())

    source = (
        fg.jit(f, backend="numpy")
        .lower(X, **{"class": 1.0, "a b": 2.0, "a-b": 4.0, "x_": 8.0})
        .text
    )
    np.testing.assert_array_equal(load(source)["f"](X, 1.0, 2.0, 4.0, 8.0), X + 15.0)


def test_lambdas_and_callables_without_a_name() -> None:
    class Scale:
        def __call__(self, x):
            return x * 2.0

    for function in (lambda x: x * 2.0, Scale()):
        source = fg.jit(function, backend="numpy").lower(X).text
        np.testing.assert_array_equal(load(source)["main"](X), X * 2.0)


def test_programs_with_more_variables_than_letters() -> None:
    """Generated names pass `as`, `if`, `in`, `is`, `np` and the names of helpers on their way."""

    def f(x, y):
        for i in range(800):
            x = np.sin(x) * (1.0 + i)
            if i % 100 == 0:
                x = bind(logistic_p, x)
        return x + y

    source = check(f, X, X)
    assert " ba = " in source
    assert letters(26 * 27) == "aaa"
    assert not any(f"    {word} = " in source for word in keyword.kwlist)


# --- copies of helpers -----------------------------------------------------------------

SCALE = 3.0


def _first(x):
    return _second(x, scale=SCALE) + float(SCALE)


def _second(x, scale):
    SECOND = [scale * one for one in (1.0, 1.0)]
    return np.multiply(x, sum(SECOND))


def test_copies_bring_what_they_refer_to() -> None:
    names = Names(["first", "_second", "SCALE", "f"])
    module = Standalone(names)
    called = module.helper(_first)
    source = module.text("Copies.", [f"def f(x):\n    return {called}(x)"])
    assert (called, "def _second_2(x, scale):" in source) == ("first_2", True)
    assert "SCALE_2 = 3.0" in source
    assert {"float", "sum"} <= module.builtins()
    np.testing.assert_array_equal(load(source)["f"](X), _first(X))


def test_helpers_and_constants_of_one_name_from_different_modules(tmp_path: Path) -> None:
    parts = []
    for number in (1, 2):
        path = tmp_path / f"part{number}.py"
        path.write_text(
            f"import math\nVALUE = {number}.0\n\n\n"
            "def shifted(x):\n    return x + inner(x) * VALUE\n\n\n"
            "def inner(x):\n    return 1.0 + math.pi / VALUE\n",
            encoding="utf-8",
        )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        part = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(part)
        parts.append(part)
    module = Standalone(Names())
    calls = [module.helper(part.shifted) for part in parts]
    source = module.text("Copies.", [f"def f(x):\n    return {calls[0]}(x) + {calls[1]}(x)"])
    assert source.count("import math") == 1
    np.testing.assert_allclose(load(source)["f"](X), 2 * X + 3 + 2 * np.pi)


def test_lambdas_and_decorated_functions_cannot_be_copied() -> None:
    with pytest.raises(ValueError, match="no plain def"):
        copied(lambda x: x)
    with pytest.raises(ValueError, match="decorated"):
        copied(np.errstate(all="ignore")(_first))


def test_closures_cannot_be_copied() -> None:
    scale = 2.0

    def scaled(x):
        return x * scale

    with pytest.raises(ValueError, match="closure"):
        copied(scaled)
