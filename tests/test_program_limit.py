"""A jitted function keeps so many programs, the ones used last, and says once when it is full."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.lru_cache import LruCache, Notice
from funcgrad.errors import ProgramLimitWarning


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    before = fg.config.max_programs
    fg.config.max_programs = 3
    yield
    fg.config.max_programs = before


@pytest.fixture(params=["numpy", "llvm"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "llvm":
        pytest.importorskip("llvmlite")
    return request.param


def traced(backend: str, **options: Any) -> tuple[Any, list[Any]]:
    """A jitted function, and the kinds of arguments it has been traced for."""
    found: list[Any] = []

    def fun(x: Any, *rest: Any) -> Any:
        found.append((x.shape, *rest))
        return x * 2.0

    return fg.jit(fun, backend=backend, **options), found


def lengths(f: Any) -> list[int]:
    """Those of the arrays that there are programs for."""
    return sorted(shape[0] for _, shape, _ in [*f._programs.keys()])


def test_the_least_recently_used_program_goes(backend: str) -> None:
    f, found = traced(backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 2, 3, 1, 2, 3, 1):
            f(np.ones(n))
    assert found == [((1,),), ((2,),), ((3,),)]
    with pytest.warns(ProgramLimitWarning, match="max_programs") as told:
        f(np.ones(4))
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (3, 1, 4):
            f(np.ones(n))
        assert lengths(f) == [1, 3, 4]
        np.testing.assert_array_equal(f(np.ones(2)), [2.0, 2.0])
        assert lengths(f) == [1, 2, 4]
        for n in range(5, 25):
            f(np.ones(n))
    assert len(f._programs) == len(f._graphs) == 3


def test_each_kind_of_argument_counts(backend: str) -> None:
    for arguments in (
        [(np.ones(1), k) for k in range(5)],
        [(np.ones(1), k * 1.0) for k in range(5)],
        [(np.ones(1), str(k)) for k in range(5)],
    ):
        f, found = traced(backend, static_argnums=1)
        with pytest.warns(ProgramLimitWarning) as told:
            for given in arguments:
                f(*given)
        assert (len(told), len(found), len(f._programs)) == (1, 5, 3)


def test_functions_in_others_are_limited_too(backend: str) -> None:
    """Under `grad`, where a program is derived, and `vmap`, where one is for each batch size."""
    f = fg.jit(lambda x: x * x, backend=backend)
    with pytest.warns(ProgramLimitWarning) as told:
        for n in range(1, 8):
            np.testing.assert_array_equal(fg.vmap(f)(np.ones(n)), np.ones(n))
            np.testing.assert_array_equal(fg.vmap(fg.grad(f))(np.ones(n)), 2 * np.ones(n))
    assert all(w.filename == __file__ for w in told)
    (graph, _) = f._graphs.get(f._graphs.keys()[0])
    assert len(graph.derived) == 3
    with pytest.warns(ProgramLimitWarning):
        for n in range(1, 8):
            assert fg.grad(lambda x: np.sum(f(x)))(np.ones(n)).shape == (n,)
    assert len(f._graphs) == 3


def test_loops_of_any_length_are_right(backend: str) -> None:
    f = fg.jit(lambda x: fg.scan(lambda c, x: (c + x, None), 0.0, x)[0], backend=backend)
    with pytest.warns(ProgramLimitWarning):
        for n in (40, 41, 42, 43, 44, 40):
            assert f(np.ones(n)) == n
            assert fg.grad(f)(np.ones(n)).sum() == n


def test_no_limit(backend: str) -> None:
    fg.config.max_programs = None
    f, found = traced(backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in [*range(1, 9), *range(1, 9)]:
            f(np.ones(n))
    assert len(found) == 8


def test_a_lower_limit_holds_from_the_next_program_on(backend: str) -> None:
    f, _ = traced(backend)
    for n in range(1, 4):
        f(np.ones(n))
    fg.config.max_programs = 1
    with pytest.warns(ProgramLimitWarning):
        f(np.ones(4))
    assert len(f._programs) == 1


@pytest.mark.parametrize("bad", [0, -1, 1.5, "many", True])
def test_limits_that_make_no_sense(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"config\.max_programs must be"):
        fg.config.max_programs = bad
    assert fg.config.max_programs == 3


@pytest.mark.filterwarnings("ignore::funcgrad.errors.ProgramLimitWarning")
def test_threads_share_a_full_function() -> None:
    kept: LruCache[int] = LruCache(Notice("a test"))
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 8, 3000).tolist():
            found = kept.get(key)
            if (kept.put(key, key) if found is None else found) != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(kept) <= 3 + len(threads)
