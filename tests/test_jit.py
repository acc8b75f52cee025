"""`jit`: what is traced and compiled, when, and what is kept."""

from __future__ import annotations

import dataclasses
import functools
import gc
import threading
import tracemalloc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.registry import BACKENDS

pytestmark = pytest.mark.usefixtures("by_each_backend")

X = np.linspace(-1.0, 1.0, 5)
ROWS = np.stack([X, X * 2.0])


class Counted:
    """A function that counts how often Python runs it: once for each time it is traced."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.runs = 0
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return self.function(*args, **kwargs)


def energy(x: Any) -> Any:
    return np.sum(np.tanh(x) ** 2)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that were compiled."""
    found: list[Any] = []
    backend = BACKENDS.named(BACKENDS.default())
    original = backend.compile

    def compile_(graph: Any, *args: Any) -> Any:
        found.append(graph)
        return original(graph, *args)

    monkeypatch.setattr(backend, "compile", compile_)
    yield found


# --- compiled once ---------------------------------------------------------------------

COMPOSITIONS = {
    "jit": (fg.jit, X, 1),
    "grad of jit": (lambda f: fg.grad(fg.jit(f)), X, 2),
    "jit of grad": (lambda f: fg.jit(fg.grad(f)), X, 1),
    "jit of grad of jit": (lambda f: fg.jit(fg.grad(fg.jit(f))), X, 1),
    "value_and_grad of jit": (lambda f: fg.value_and_grad(fg.jit(f)), X, 2),
    "vmap of jit of grad": (lambda f: fg.vmap(fg.jit(fg.grad(f))), ROWS, 1),
    "vmap of grad of jit": (lambda f: fg.vmap(fg.grad(fg.jit(f))), ROWS, 2),
    "jit of vmap of hessian": (lambda f: fg.jit(fg.vmap(fg.hessian(f))), ROWS, 1),
    "vmap of vmap of jit": (lambda f: fg.vmap(fg.vmap(fg.jit(f))), ROWS[:, None], 1),
    "jvp of jit": (lambda f: (lambda j: lambda x: fg.jvp(j, (x,), (x,)))(fg.jit(f)), X, 2),
    "hessian of jit": (lambda f: fg.hessian(fg.jit(f)), X, None),
    "jit of jit": (lambda f: fg.jit(fg.jit(f)), X, 1),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_traced_and_compiled_once(name: str, compiled: list[Any]) -> None:
    compose, argument, programs = COMPOSITIONS[name]
    function = Counted(energy)
    composed = compose(function)
    first = composed(argument)
    assert function.runs == 1
    made = len(compiled)
    assert made == programs or programs is None
    for _ in range(3):
        np.testing.assert_array_equal(
            np.asarray(fg.tree.leaves(composed(argument + 0.0))[0]),
            np.asarray(fg.tree.leaves(first)[0]),
        )
    assert (function.runs, len(compiled)) == (1, made)


def test_a_jitted_function_is_traced_once_for_all_that_is_done_with_it() -> None:
    function = Counted(energy)
    jitted = fg.jit(function)
    for _ in range(2):
        jitted(X)
        fg.grad(jitted)(X)
        fg.value_and_grad(jitted)(X)
        fg.vmap(jitted)(ROWS)
        fg.jit(lambda x: jitted(x) * 2.0)(X)
        fg.jvp(jitted, (X,), (X,))
        fg.hessian(jitted)(X)
        jitted.lower(X)
    assert function.runs == 1


def test_new_programs_for_new_kinds_of_arguments_only() -> None:
    function = Counted(lambda x: x * 2)
    jitted = fg.jit(function)
    same = [np.float64(1.0), np.array(1.0), np.float64(3.0), np.ones(1)[0], np.ones((2,)).sum()]
    for x in same:
        jitted(x)
    assert function.runs == 1
    for runs, x in enumerate(
        [1.0, 1, True, 1j, np.float32(1), np.int64(1), np.ones(3), np.ones((3, 1))], start=2
    ):
        assert jitted(x).dtype == np.multiply(x, 2).dtype
        jitted(x)
        assert function.runs == runs


def test_layouts_are_no_new_kind() -> None:
    function = Counted(lambda x: x.T @ x)
    jitted = fg.jit(function)
    x = np.arange(9.0).reshape(3, 3)
    read_only = x.copy()
    read_only.flags.writeable = False
    for y in (x, x.T, x[::-1], np.asfortranarray(x), read_only, np.broadcast_to(x[0], (3, 3))):
        np.testing.assert_allclose(jitted(y), y.T @ y)
    assert function.runs == 1


# --- arguments -------------------------------------------------------------------------


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Model:
    w: Any
    name: str = dataclasses.field(default="m", metadata={"static": True})


TREES = [
    {"b": X, "a": {"c": 1.0}},
    [X, (X, [2.0])],
    Point(X, np.float32(2)),
    Model(X),
    OrderedDict(b=X, a=X),
    {"none": None, "empty": [], "x": X},
    {1: X, 2: 3.0},
]


@pytest.mark.parametrize("value", TREES, ids=lambda v: type(v).__name__)
def test_pytrees(value: Any) -> None:
    def double(t: Any, *, factor: Any = 2.0) -> Any:
        return fg.tree.map(lambda leaf: leaf * factor, t)

    function = Counted(double)
    jitted = fg.jit(function)
    expected = double(value)
    for _ in range(2):
        found = jitted(value)
        assert type(found) is type(value)
        fg.tree.map(np.testing.assert_array_equal, found, expected)
        fg.tree.map(np.testing.assert_array_equal, jitted(value, factor=2.0), expected)
    assert function.runs == 2


def test_fields_that_are_no_data_are_part_of_the_key() -> None:
    function = Counted(lambda m: m.w * len(m.name))
    jitted = fg.jit(function)
    assert jitted(Model(2.0, "ab")) == 4.0
    assert jitted(Model(2.0, "abc")) == 6.0
    assert jitted(Model(3.0, "ab")) == 6.0
    assert function.runs == 2


def test_positional_and_keyword_arguments_of_the_same_structure() -> None:
    """Called as f((x,), {"k": y}) and as f(x, k=y): the same trees, not the same call."""

    def f(*args: Any, **kwargs: Any) -> Any:
        return (len(args), len(kwargs))

    jitted = fg.jit(f)
    assert jitted((1.0,), {"k": 2.0}) == (2, 0)
    assert jitted(1.0, k=2.0) == (1, 1)
    assert jitted((1.0,), {"k": 2.0}) == (2, 0)
    assert "arg0" in jitted.by_numpy().lower((1.0,), {"k": 2.0}).text


def test_keywords_in_any_order() -> None:
    function = Counted(lambda *, a, b: a - b)
    jitted = fg.jit(function)
    assert jitted(a=3.0, b=1.0) == jitted(b=1.0, a=3.0) == 2.0
    assert function.runs == 1


def test_calls_that_alternate() -> None:
    jitted = fg.jit(lambda x, y=1.0: x * y)
    for x in (X, 2.0, X[:3], np.float32(2)):
        for _ in range(2):
            np.testing.assert_array_equal(jitted(x), x)
            np.testing.assert_array_equal(jitted(x, y=2.0), x * 2)
            np.testing.assert_array_equal(jitted(x, 3.0), x * 3)


def test_dicts_of_other_keys_miss() -> None:
    jitted = fg.jit(lambda d: fg.tree.map(lambda v: v + 1, d))
    assert jitted({"a": 1.0, "b": 2.0}) == {"a": 2.0, "b": 3.0}
    assert jitted({"b": 1.0, "a": 2.0}) == {"a": 3.0, "b": 2.0}
    assert jitted({"a": 1.0, "c": 2.0}) == {"a": 2.0, "c": 3.0}
    assert jitted({"a": 1.0}) == {"a": 2.0}
    assert jitted([]) == []


def test_without_arguments() -> None:
    assert fg.jit(lambda: 2.5)() == 2.5


# --- static arguments ------------------------------------------------------------------


def power(x: Any, n: Any, *, root: Any = False) -> Any:
    out = x**n if n > 0 else 1.0 / x**-n
    return np.sqrt(out) if root else out


STATIC = {
    "number": {"static_argnums": 1},
    "negative number": {"static_argnums": -1},
    "numbers": {"static_argnums": (1,)},
    "name": {"static_argnames": "n"},
    "names": {"static_argnames": ("n", "root")},
    "both": {"static_argnums": 1, "static_argnames": ["n"]},
}


@pytest.mark.parametrize("options", STATIC.values(), ids=STATIC)
def test_static_arguments_in_every_spelling(options: dict[str, Any]) -> None:
    function = Counted(power)
    jitted = fg.jit(function, **options)
    for call in (
        lambda n: jitted(2.0, n),
        lambda n: jitted(2.0, n=n),
        lambda n: jitted(n=n, x=2.0),
    ):
        assert [call(n) for n in (2, 3, -1)] == [4.0, 8.0, 0.5]
    runs = function.runs
    assert runs == 9
    for call in (
        lambda n: jitted(3.0, n),
        lambda n: jitted(3.0, n=n),
        lambda n: jitted(n=n, x=3.0),
    ):
        assert call(2) == 9.0
    assert function.runs == runs


def test_static_keyword_only_arguments_and_defaults() -> None:
    jitted = fg.jit(power, static_argnums=1, static_argnames="root")
    assert jitted(4.0, 2, root=True) == 4.0
    assert jitted(4.0, 2) == jitted(4.0, 2, root=False) == 16.0
    defaults = fg.jit(lambda x, n=2, k=3: x * n * k, static_argnums=(1, 2))
    assert (defaults(1.0), defaults(1.0, 4), defaults(1.0, k=5), defaults(1.0, 1, 1)) == (
        6,
        12,
        10,
        1,
    )


def test_static_values_that_are_equal_but_of_different_types() -> None:
    jitted = fg.jit(lambda x, n: x if n is True else x * n, static_argnums=1)
    results = [jitted(X, n).dtype for n in (1, 1.0, True, 1j)]
    assert results == [np.dtype("f8")] * 3 + [np.dtype("c16")]


def test_static_arguments_of_functions_that_take_any() -> None:
    def f(first: Any, *rest: Any, **options: Any) -> Any:
        return first * len(rest) if options.get("double") else first + rest[-1]

    jitted = fg.jit(f, static_argnums=-1, static_argnames="double")
    assert jitted(X, 2.0, 3)[0] == X[0] + 3
    assert jitted(X, 2.0, 3, double=True)[0] == X[0] * 2


def test_static_functions_and_classes() -> None:
    jitted = fg.jit(lambda f, x: f(x), static_argnums=0)
    np.testing.assert_array_equal(jitted(np.sin, X), np.sin(X))
    np.testing.assert_array_equal(jitted(np.cos, X), np.cos(X))


@pytest.mark.parametrize("number", [0, -2])
def test_the_first_argument_is_static_by_either_number(number: int) -> None:
    jitted = fg.jit(lambda n, x: [x] * n, static_argnums=number)
    assert len(jitted(3, X)) == 3


@pytest.mark.parametrize("options", [{"static_argnums": 3}, {"static_argnums": -3}])
def test_static_numbers_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(fg.errors.ArgumentError, match=r"static_argnums has .*takes 2"):
        fg.jit(lambda x, n: x, **options)


def test_static_names_that_do_not_exist() -> None:
    with pytest.raises(fg.errors.ArgumentError, match=r"'m', which is no parameter.*\['n', 'x'\]"):
        fg.jit(lambda x, n: x, static_argnames="m")


# --- decorators and methods ------------------------------------------------------------


def test_as_a_decorator() -> None:
    @fg.jit
    def plain(x: Any) -> Any:
        """Doubles."""
        return x * 2.0

    @fg.jit(static_argnames="n")
    def with_options(x: Any, n: int) -> Any:
        return x * n

    assert (plain.__name__, plain.__doc__) == ("plain", "Doubles.")
    assert plain(2.0) == 4.0
    assert with_options(2.0, n=3) == 6.0
    assert "plain" in repr(plain)


@dataclasses.dataclass
class Scale:
    factor: Any

    @fg.jit
    def apply(self, x: Any) -> Any:
        return self.factor * x

    @staticmethod
    @fg.jit
    def double(x: Any) -> Any:
        return x * 2

    @functools.partial(fg.jit, static_argnums=0)
    def count(self, x: Any) -> Any:
        return x + 1

    def __hash__(self) -> int:
        return 1


def test_methods() -> None:
    scale = Scale(np.float64(3.0))
    assert scale.apply(2.0) == Scale.apply(scale, 2.0) == 6.0
    scale.factor = np.float64(4.0)
    assert scale.apply(2.0) == 8.0
    assert scale.double(2.0) == Scale.double(2.0) == 4.0
    assert scale.count(1.0) == 2.0
    assert scale.apply.lower(2.0).graph.eqns
    assert "self.factor" in Scale.apply.by_numpy().lower(scale, 2.0).text
    assert "first call" in scale.apply.explain()
    assert fg.grad(lambda s: s.apply(2.0))(scale).factor == 2.0


def test_callables_of_every_kind() -> None:
    for function in (np.sin, functools.partial(np.power, 2.0), Counted(np.cos)):
        np.testing.assert_allclose(fg.jit(function)(X), function(X))


# --- explain ---------------------------------------------------------------------------


def explained(*calls: Any, **options: Any) -> str:
    jitted = fg.jit(lambda *args, **kwargs: 0.0, **options)
    for args in calls:
        jitted(*args[:-1], **args[-1]) if isinstance(args[-1], dict) else jitted(*args)
    return jitted.explain()


def test_explain() -> None:
    assert explained() == "not traced yet"
    assert explained((X,)) == "traced: this was the first call"
    assert explained((X,), (X[:3],)) == (
        "retraced: [0] is f64[3]; it was f64[5] in the nearest earlier call"
    )
    assert "[0] is a Python float (f64[]); it was f64[]" in explained((np.float64(1),), (1.0,))
    assert "[0]['b'] is f32[]; it was f64[]" in explained(
        ({"a": X, "b": np.float64(1)}, {}), ({"a": X, "b": np.float32(1)}, {})
    )
    assert "the arguments' structure is" in explained(((X, X),), ((X,),))
    assert "static argument 1 is 3; it was 2" in explained((X, 2), (X, 3), static_argnums=1)
    assert "1 is 1.0; it was 1 " in explained((X, 1), (X, 1.0), static_argnums=1)


def test_explain_names_the_nearest() -> None:
    far, near = (X, X, X), (X, X, X[:2])
    assert explained(far, near, (X, X, X[:3])).count(";") == 1


# --- nesting ---------------------------------------------------------------------------


def test_jit_inside_every_transformation() -> None:
    square = fg.jit(lambda x: x * x)
    np.testing.assert_allclose(fg.grad(lambda x: np.sum(square(x)))(X), 2 * X)
    np.testing.assert_allclose(fg.vmap(square)(X), X * X)
    np.testing.assert_allclose(fg.jit(lambda x: square(square(x)))(X), X**4)
    np.testing.assert_allclose(fg.scan(lambda c, x: (square(c) + x, c), 0.5, X)[0].shape, ())
    assert fg.fori_loop(0, 3, lambda i, c: square(c), 2.0) == 256.0
    assert fg.cond(True, square, lambda x: x, 3.0) == 9.0
    assert fg.while_loop(lambda c: c < 100.0, square, 2.0) == 256.0
    assert fg.grad(fg.grad(lambda x: square(square(x))))(2.0) == 48.0
    np.testing.assert_allclose(fg.hessian(lambda x: np.sum(square(x)))(X), 2 * np.eye(5))


def test_inlined_in_graphs_for_later_use() -> None:
    inner = fg.jit(lambda x: x * x)
    assert "call" not in str(fg.make_graph(lambda x: inner(x) + 1.0)(X))
    assert "call" not in str(fg.jit(fg.grad(lambda x: inner(x) + 1.0)).lower(2.0).graph)
    assert "call" not in str(fg.jit(lambda x: fg.vmap(inner)(x)).lower(X).graph)


def test_functions_that_close_over_tracers() -> None:
    def outer(a: Any, x: Any) -> Any:
        return np.sum(fg.jit(lambda y: np.sin(y * a))(x))

    expected = [np.sum(X * np.cos(2.0 * X)), 2.0 * np.cos(2.0 * X)]
    for transform in (lambda f: f, fg.jit):
        found = transform(fg.grad(outer, argnums=(0, 1)))(2.0, X)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, e)
    np.testing.assert_allclose(
        fg.vmap(outer, in_axes=(0, None))(np.ones(2), X), [np.sum(np.sin(X))] * 2
    )


def test_a_jitted_function_that_meets_a_tracer_only_in_a_closure() -> None:
    """Nothing of the recording it meets may be kept for the next call."""
    holder: list[Any] = [1.0]
    jitted = fg.jit(lambda x: x * holder[0])

    def outer(a: Any) -> Any:
        holder[0] = a
        return np.sum(jitted(X))

    for a in (2.0, 3.0):
        np.testing.assert_allclose(fg.grad(outer)(a), np.sum(X), atol=1e-15)
        np.testing.assert_allclose(fg.vmap(outer)(np.array([a, 1.0])), 0.0, atol=1e-15)
    holder[0] = 5.0
    np.testing.assert_allclose(jitted(X), X * 5.0)


# --- failures --------------------------------------------------------------------------


def test_a_trace_that_fails_leaves_nothing_behind() -> None:
    fail = True

    def f(x: Any) -> Any:
        if fail:
            raise KeyError("later")
        return x * 2.0

    jitted = fg.jit(f)
    for _ in range(2):
        with pytest.raises(KeyError, match="later"):
            jitted(X)
        with pytest.raises(KeyError, match="later"):
            fg.grad(lambda x: np.sum(jitted(x)))(X)
    assert jitted.explain() == "not traced yet"
    fail = False
    np.testing.assert_array_equal(jitted(X), X * 2.0)
    assert fg.grad(lambda x: x * 2.0)(1.0) == 2.0


def test_unknown_backends() -> None:
    with pytest.raises(
        fg.errors.ArgumentError, match=r"no backend 'tpu'; there are \['llvm', 'numpy'"
    ):
        fg.jit(energy, backend="tpu")


def test_calls_that_do_not_fit_the_function() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        fg.jit(energy)(X, X)
    with pytest.raises(TypeError, match="unexpected keyword"):
        fg.jit(energy)(X, y=1.0)


def test_debug_nans_finds_them_in_compiled_functions() -> None:
    jitted = fg.jit(lambda x: np.sum(np.log(x)))
    assert np.isnan(jitted(-np.ones(3)))
    with fg.debug_nans():
        with pytest.raises(fg.errors.NaNError, match="log"):
            jitted(-np.ones(3))
        assert jitted(np.ones(3)) == 0.0
        with pytest.raises(fg.errors.NaNError, match="log"):
            fg.grad(jitted)(-np.ones(3))
    assert np.isnan(jitted(-np.ones(3)))


# --- lower -----------------------------------------------------------------------------


def test_lower_from_shapes_alone() -> None:
    function = Counted(lambda p, x: x @ p["w"])
    jitted = fg.jit(function)
    w = fg.ShapeDtypeStruct((3, 2), np.float32)
    arguments = {"w": w}, fg.ShapeDtypeStruct((4, 3), np.float32)
    lowered = jitted.lower(*arguments)
    assert lowered.graph.out_avals[0].shape == (4, 2)
    assert "p_w = p['w']" in jitted.by_numpy().lower(*arguments).text
    assert str(lowered) == lowered.text
    jitted({"w": np.ones((3, 2), np.float32)}, np.ones((4, 3), np.float32))
    assert function.runs == 1


def test_lower_with_static_and_keyword_arguments() -> None:
    both = fg.jit(power, static_argnums=1, static_argnames="root", backend="numpy")
    assert "def power(x):" in both.lower(X, 2, root=True).text
    first = fg.jit(power, static_argnums=1, backend="numpy")
    assert "def power(x):" in first.lower(x=X, n=2).text


def test_lowered_graphs_pass_their_check() -> None:
    fg.jit(fg.hessian(energy)).lower(X).graph.check()


# --- what is kept ----------------------------------------------------------------------


def test_inputs_and_results_are_not_kept() -> None:
    jitted = fg.jit(lambda d: {"y": d["x"] * 2.0})
    grad = fg.grad(lambda d: np.sum(jitted(d)["y"]))
    for function in (jitted, grad, jitted.lower, fg.vmap(jitted)):
        x = np.ones((100, 100))
        watch = weakref.ref(x)
        result = function({"x": x})
        kept = result if function == jitted.lower else None
        del x, result
        gc.collect()
        assert watch() is None
        del kept


def test_functions_that_are_gone_take_their_programs_along() -> None:
    def make() -> Any:
        weight = np.ones(1000)
        jitted = fg.jit(lambda x: x * weight)
        jitted(np.ones(1000))
        fg.grad(lambda x: np.sum(jitted(x)))(np.ones(1000))
        return weakref.ref(jitted), weakref.ref(weight)

    watches = [watch for _ in range(5) for watch in make()]
    gc.collect()
    assert [watch() for watch in watches] == [None] * 10


def test_memory_does_not_grow_with_calls() -> None:
    jitted = fg.jit(lambda p, x: {"w": p["w"] * 0.9 + np.sum(x)})
    grad = fg.grad(lambda p, x: np.sum(jitted(p, x)["w"]))
    params, x = {"w": np.ones(100)}, np.ones(50)

    def calls(n: int) -> None:
        p = params
        for _ in range(n):
            p = jitted(p, x)
            grad(p, x)

    calls(20)
    gc.collect()
    tracemalloc.start()
    try:
        calls(20)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        calls(200)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # An array of each call, kept, would make 160 kB.
    assert grown < 80_000


def test_captured_arrays_are_copied_once() -> None:
    weight = np.ones(250_000)
    x = np.ones(250_000)
    jitted = fg.jit(lambda x: np.sum(x * weight))
    # What the first compilation imports, and keeps for others, is no copy.
    fg.jit(lambda x: np.sum(x * 2.0))(x)
    tracemalloc.start()
    try:
        jitted(x)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 1.5 * weight.nbytes


# --- threads ---------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures, failures


def test_threads_that_trace_compile_and_call_together() -> None:
    jitted = fg.jit(lambda x, n=1: np.sin(x) * n, static_argnames="n")
    grad = fg.jit(fg.grad(lambda x: np.sum(jitted(x, n=3))))
    eager = fg.grad(lambda x: np.sum(jitted(x, n=2)))

    def work(number: int) -> None:
        for i in range(30):
            x = np.full((number + i) % 4 + 1, 0.1 * number)
            np.testing.assert_allclose(jitted(x), np.sin(x))
            np.testing.assert_allclose(jitted(x, n=i % 3), np.sin(x) * (i % 3))
            np.testing.assert_allclose(grad(x), 3 * np.cos(x))
            np.testing.assert_allclose(eager(x), 2 * np.cos(x))
            np.testing.assert_allclose(fg.vmap(jitted)(x), np.sin(x))

    in_threads(6, work)


def test_a_function_that_waits_for_threads_while_it_is_traced() -> None:
    """No lock is held while user code runs."""
    inner = fg.jit(lambda x: x + 1.0)

    def f(x: Any) -> Any:
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append((inner(1.0), outer(2.0, False))))
        thread.start()
        thread.join(30)
        return x * results[0][0] * results[0][1]

    outer = fg.jit(lambda x, wait: f(x) if wait else x * 1.0, static_argnums=1)
    assert outer(3.0, True) == 12.0


class Reversed(NamedTuple):
    """A named tuple that is flattened in another order than its fields have."""

    first: Any
    second: Any


fg.tree.register_node(
    Reversed, lambda r: ([r.second, r.first], None), lambda aux, c: Reversed(c[1], c[0])
)


@pytest.mark.parametrize("kind", [Point, Reversed])
def test_named_tuples_take_the_short_way(kind: Any) -> None:
    jitted = fg.jit(lambda p: p[0] - p[1])
    for _ in range(3):
        assert jitted(kind(5.0, 3.0)) == 2.0
        assert jitted(kind(5.0, np.float64(4.0))) == 1.0
        assert jitted((5.0, 1.0)) == 4.0
