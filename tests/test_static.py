"""Static arguments, static fields and keys: a program for each that a program could tell apart."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import tree
from funcgrad._static import Static
from funcgrad.errors import StaticArgumentError

BACKENDS = ["numpy", "llvm"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "llvm":
        pytest.importorskip("llvmlite")
    return request.param


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass(frozen=True)
class Setting:
    value: Any
    note: str = field(default="", compare=False)


class Inherits(Setting):
    pass


class Level(enum.IntEnum):
    one = 1


class Ratio(float, enum.Enum):
    one = 1.0


class MyInt(int):
    pass


class MyFloat(float):
    pass


class MyTuple(tuple):
    pass


# Values that `==` takes for one another.
EQUALS: list[list[Any]] = [
    [1, 1.0, True, 1 + 0j, np.int64(1), np.float32(1), np.float64(1), np.True_, Level.one],
    [Ratio.one, MyInt(1), MyFloat(1), fractions.Fraction(1), decimal.Decimal(1)],
    [0.0, -0.0, 0, False, np.float64(-0.0), np.float64(0.0), MyFloat(0), MyFloat(-0.0)],
    [complex(0.0, 0.0), complex(0.0, -0.0), complex(-0.0, 0.0), np.complex128(-0.0)],
    [decimal.Decimal("1.0"), decimal.Decimal("1.00")],
    [
        datetime.datetime(2000, 1, 1, 12, tzinfo=datetime.UTC),
        datetime.datetime(2000, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ],
    [range(0, 3, 2), range(0, 4, 2)],
    [np.dtype(float), float],
]
NESTS: list[Callable[[Any], Any]] = [
    lambda v: v,
    lambda v: (v,),
    lambda v: ((0, v), "a"),
    lambda v: Pair(v, 2),
    lambda v: MyTuple([v]),
    lambda v: frozenset({v}),
    lambda v: Setting(v),
    lambda v: Inherits(v),
    lambda v: (Setting((v,)), frozenset({Pair(1, v)})),
]


def variants(nest: Callable[[Any], Any]) -> list[list[Any]]:
    return [[nest(v) for v in group] for group in EQUALS]


@pytest.mark.parametrize("nest", NESTS)
def test_values_that_differ_are_not_the_same(nest: Callable[[Any], Any]) -> None:
    for group in variants(nest):
        assert len({Static(v) for v in group}) == len(group)
        again = pickle.loads(pickle.dumps([Static(v) for v in group])) if nest(0) == 0 else None
        assert again is None or again == [Static(v) for v in group]
    for a, b in ((nest(x), nest(x)) for group in EQUALS for x in group):
        assert Static(a) == Static(b)
        assert hash(Static(a)) == hash(Static(b))


def test_not_a_number_is_itself() -> None:
    assert Static((float("nan"),)) == Static((float("nan"),))
    assert Static(np.float32("nan")) == Static(np.float32("nan"))


def seen(value: Any, found: list[str]) -> Any:
    found.append(repr(value))
    return len(found)


@pytest.mark.parametrize("nest", NESTS)
def test_static_arguments(backend: str, nest: Callable[[Any], Any]) -> None:
    for group in variants(nest):
        found: list[str] = []
        f = fg.jit(lambda x, s, found=found: x * seen(s, found), static_argnums=1, backend=backend)
        for _ in range(2):
            for number, value in enumerate(group, 1):
                assert f(1.0, value) == number
        assert found == list(map(repr, group))
        g = fg.jit(lambda x, *, s, found=found: x * seen(s, found), static_argnames="s")
        assert len({float(g(1.0, s=v)) for v in group}) == len(group)


@dataclass
class Module:
    weight: Any
    static: Any = field(metadata={"static": True})


class Node:
    def __init__(self, child: Any, aux: Any):
        self.child, self.aux = child, aux


class Plain:
    def __init__(self, child: Any, aux: Any):
        self.child, self.aux = child, aux


tree.register_node(Node, lambda n: ((n.child,), n.aux), lambda aux, c: Node(c[0], aux))
tree.register_dataclass(Plain, data_fields=["child"], meta_fields=["aux"])


def entry(x: Any) -> Any:
    """What a structure carries beside its leaves."""
    if isinstance(x, Module):
        return x.static
    return x.aux if isinstance(x, Node | Plain) else next(iter(x))


CONTAINERS: list[Callable[[Any], Any]] = [
    lambda v: Module(1.0, v),
    lambda v: Node(1.0, v),
    lambda v: Plain(1.0, v),
    lambda v: {v: 1.0},
    lambda v: OrderedDict({v: 1.0}),
    lambda v: defaultdict(float, {v: 1.0}),
]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("nest", [NESTS[0], NESTS[1], NESTS[5], NESTS[6]])
def test_static_fields_and_keys(
    backend: str, container: Callable[[Any], Any], nest: Callable[[Any], Any]
) -> None:
    for group in variants(nest):
        trees = list(map(container, group))
        assert len({tree.structure(t) for t in trees}) == len(group)
        f = fg.jit(lambda t: t, backend=backend)
        nested = fg.jit(lambda t, f=f: f([t])[0], backend=backend)
        for _ in range(2):
            for t in trees:
                for g in (f, nested, fg.vmap(f, axis_size=2, in_axes=None)):
                    found = entry(g(t))
                    assert repr(found) == repr(entry(t)) and type(found) is type(entry(t))


def test_branches_of_other_static_fields_differ() -> None:
    def choose(p: Any) -> Any:
        return fg.cond(p > 0, lambda: Module(p, 1), lambda: Module(p, 1.0))

    with pytest.raises(fg.errors.TreeMismatchError, match="static part"):
        fg.jit(choose)(2.0)


def test_trees_of_the_same_static_fields_go_together() -> None:
    a, b = Module(1.0, (2,)), Module(2.0, (2,))
    assert tree.map(lambda x, y: x + y, a, b) == Module(3.0, (2,))
    assert tree.structure(a) == pickle.loads(pickle.dumps(tree.structure(b)))
    assert str(tree.structure(a)) == "PyTreeDef(Module(weight=*, static=(2,)))"
    with pytest.raises(fg.errors.TreeMismatchError, match=r"\(2.0,\)"):
        tree.map(lambda x, y: x + y, a, Module(2.0, (2.0,)))


# -- values that cannot be keys ----------------------------------------------------------------


class ByArray:
    """Its `==` gives an array."""

    def __init__(self, *numbers: float):
        self.numbers = np.array(numbers)

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> Any:
        assert isinstance(other, ByArray)
        return self.numbers == other.numbers


class Unhashable:
    def __hash__(self) -> int:
        raise ValueError("no hash")


BAD = [[1], {"a": 1}, {1}, np.ones(2), bytearray(b"a"), Unhashable()]
FIELDS = [lambda v: Module(1.0, v), lambda v: Node(1.0, v), lambda v: Plain(1.0, v)]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("nest", [NESTS[0], NESTS[1], NESTS[3], NESTS[6]])
def test_what_cannot_be_hashed(bad: Any, nest: Callable[[Any], Any]) -> None:
    f = fg.jit(lambda x, s: x, static_argnums=1)
    with pytest.raises(StaticArgumentError, match=r"test_static\.py"):
        f(1.0, nest(bad))
    for container in FIELDS:
        t = container(nest(bad))
        for run in (fg.jit(lambda t: t), fg.jit(lambda t: t).lower):
            with pytest.raises(StaticArgumentError, match=r"(?s)tuple.*test_static\.py"):
                run(t)
        # Only programs need a key.
        assert tree.leaves(tree.map(lambda x: x + 1.0, t)) == [2.0]


@pytest.mark.parametrize("nest", [NESTS[0], NESTS[1], NESTS[6]])
def test_what_cannot_be_compared(nest: Callable[[Any], Any]) -> None:
    f = fg.jit(lambda x, s: x, static_argnums=1)
    value = nest(ByArray(1, 2))
    assert f(1.0, value) == f(2.0, value) - 1 == 1.0
    with pytest.raises(StaticArgumentError, match=r"(?s)__eq__.*test_static\.py"):
        f(1.0, nest(ByArray(1, 2)))
    for container in FIELDS:
        g = fg.jit(lambda t: t)
        g(container(value))
        with pytest.raises(StaticArgumentError, match=r"(?s)__eq__.*test_static\.py"):
            g(container(nest(ByArray(1, 2))))
