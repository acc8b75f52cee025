"""Pytrees: flattening and its inverse, registration, several trees at once, errors."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad import tree
from funcgrad.errors import FuncgradError, TreeKeyError, TreeMismatchError


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Affine:
    weight: Any
    bias: Any
    name: str = field(default="affine", metadata={"static": True})


@dataclass
class Positive:
    value: Any

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError("value must be positive")


@dataclass(slots=True)
class Slotted:
    value: Any


class Interval:
    def __init__(self, low: Any, high: Any, closed: bool) -> None:
        self.low, self.high, self.closed = low, high, closed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interval) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


tree.register_node(
    Interval,
    # A generator: children need only be iterable.
    flatten=lambda i: ((v for v in (i.low, i.high)), i.closed),
    unflatten=lambda closed, children: Interval(*children, closed),
)


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One container of the given children, of each kind there is."""
    dicts = st.dictionaries(st.text(max_size=3), children, max_size=3)
    return st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        dicts,
        st.dictionaries(st.integers(), children, max_size=3),
        dicts.map(OrderedDict),
        dicts.map(lambda d: defaultdict(list, d)),
        st.builds(Point, children, children),
        st.builds(Affine, children, children, st.sampled_from(["first", "second"])),
        st.builds(Slotted, children),
        st.builds(Interval, children, children, st.booleans()),
    )


trees = st.recursive(st.integers() | st.none(), containers, max_leaves=12)


# -- Flattening ----------------------------------------------------------------------------------


@given(trees)
def test_unflatten_inverts_flatten(value):
    leaves, treedef = tree.flatten(value)
    rebuilt = tree.unflatten(treedef, leaves)
    assert rebuilt == value
    assert type(rebuilt) is type(value)
    assert treedef.num_leaves == len(leaves) == len(tree.leaves(value))
    assert tree.structure(rebuilt) == treedef


@given(trees)
def test_treedef_is_hashable_comparable_and_picklable(value):
    treedef = tree.structure(value)
    again = tree.structure(tree.map(lambda x: str(x), value))
    for other in (again, copy.deepcopy(treedef), pickle.loads(pickle.dumps(treedef))):
        assert other == treedef
        assert hash(other) == hash(treedef)
        assert repr(other) == repr(treedef)
    assert tree.structure([value]) != treedef


@given(trees, trees)
def test_treedefs_are_equal_just_when_map_accepts_both_ways(first, second):
    def accepts(a, b):
        try:
            tree.map(lambda x, y: None, a, b)
        except TreeMismatchError:
            return False
        return True

    same = tree.structure(first) == tree.structure(second)
    assert same == (accepts(first, second) and accepts(second, first))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "*"),
        (None, "None"),
        ({"b": [1, 2], "a": 3}, "{'a': *, 'b': [*, *]}"),
        ((1,), "(*,)"),
        ((), "()"),
        ([], "[]"),
        (Point(1, (2, 3)), "Point(x=*, y=(*, *))"),
        (Affine(1, None), "Affine(weight=*, bias=None, name='affine')"),
        (OrderedDict(b=1, a=2), "OrderedDict({'b': *, 'a': *})"),
        (defaultdict(int, b=1), "defaultdict(<class 'int'>, {'b': *})"),
        (Interval(1, 2, True), "Interval[True](*, *)"),
    ],
)
def test_repr_of_treedef(value, text):
    assert repr(tree.structure(value)) == f"PyTreeDef({text})"


def test_dict_leaves_come_in_sorted_order_whatever_the_insertion_order():
    assert tree.leaves({"b": 1, "a": 2}) == tree.leaves({"a": 2, "b": 1}) == [2, 1]
    assert tree.structure({"b": 1, "a": 2}) == tree.structure({"a": 2, "b": 1})


def test_ordered_dict_keeps_its_order_and_needs_no_sortable_keys():
    value = OrderedDict([("b", 1), (0, 2)])
    assert tree.leaves(value) == [1, 2]
    assert tree.map(lambda x: x, value) == value


def test_none_is_a_node_without_leaves_unless_asked_for():
    assert tree.leaves([None, 1]) == [1]
    assert tree.leaves([None, 1], is_leaf=lambda x: x is None) == [None, 1]
    assert tree.leaves(None) == []


def test_is_leaf_stops_at_the_outermost_node_that_satisfies_it():
    value = {"a": [1, [2]], "b": (3,)}
    assert tree.leaves(value, is_leaf=lambda x: isinstance(x, list)) == [[1, [2]], 3]


def test_arrays_are_leaves_and_are_not_copied():
    w = np.ones((2, 3), np.float32)
    assert tree.leaves({"w": w})[0] is w
    assert tree.map(lambda x: x, {"w": w})["w"] is w


@pytest.mark.parametrize("leaf", ["text", b"bytes", {1, 2}, range(3), object()])
def test_what_is_no_container_is_a_leaf(leaf):
    assert tree.leaves([leaf]) == [leaf]


def test_unflatten_takes_any_iterable():
    assert tree.unflatten(tree.structure([0, 0]), iter("ab")) == ["a", "b"]


# -- Dataclasses and registered classes ----------------------------------------------------------


def test_static_fields_of_a_dataclass_are_structure():
    assert tree.leaves(Affine(1, 2, "one")) == [1, 2]
    assert tree.structure(Affine(1, 2, "one")) != tree.structure(Affine(1, 2, "two"))
    assert tree.map(lambda x: -x, Affine(1, 2, "one")) == Affine(-1, -2, "one")


def test_dataclasses_are_rebuilt_without_their_validation():
    assert tree.map(lambda x: -x, Positive(3)).value == -3


def test_register_dataclass_overrides_what_the_fields_say():
    @dataclass
    class Layer:
        size: int
        weight: float

    assert tree.leaves(Layer(3, 0.5)) == [3, 0.5]
    tree.register_dataclass(Layer, data_fields=["weight"], meta_fields=["size"])
    assert tree.leaves(Layer(3, 0.5)) == [0.5]
    assert tree.map(lambda x: 2 * x, Layer(3, 0.5)) == Layer(3, 1.0)


def test_register_dataclass_works_on_a_plain_class():
    class Pair:
        def __init__(self) -> None:
            self.left, self.right = 1, 2

    tree.register_dataclass(Pair, data_fields=["left", "right"])
    doubled = tree.map(lambda x: 2 * x, Pair())
    assert (doubled.left, doubled.right) == (2, 4)


def test_register_dataclass_checks_the_fields():
    @dataclass
    class Two:
        a: int
        b: int

    with pytest.raises(ValueError, match=r"each field of Two once.*\['a', 'b'\].*\['a'\]"):
        tree.register_dataclass(Two, data_fields=["a"])


def test_register_leaf():
    @dataclass(frozen=True)
    class Spec:
        shape: tuple[int, ...]

    assert tree.leaves(Spec((2, 3))) == [2, 3]
    tree.register_leaf(Spec)
    assert tree.leaves([Spec((2, 3))]) == [Spec((2, 3))]


@pytest.mark.parametrize("cls", [dict, list, tuple, type(None), Interval])
def test_a_class_is_registered_once(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} is already registered"):
        tree.register_node(cls, lambda x: ((), None), lambda aux, children: None)


def test_subclasses_of_dict_and_list_are_leaves_until_registered():
    class Config(dict):  # type: ignore[type-arg]
        pass

    assert tree.leaves([Config(a=1)]) == [{"a": 1}]
    tree.register_node(
        Config, lambda c: (c.values(), tuple(c)), lambda k, v: Config(zip(k, v, strict=True))
    )
    assert tree.leaves([Config(a=1)]) == [1]
    assert type(tree.map(lambda x: x, Config(a=1))) is Config


# -- Paths ---------------------------------------------------------------------------------------


def test_paths_print_as_python_spells_them():
    value = {"w": [Affine(1, Point(2, 3))]}
    pairs, treedef = tree.flatten_with_path(value)
    paths = [tree.keystr(path) for path, _ in pairs]
    assert paths == ["['w'][0].weight", "['w'][0].bias.x", "['w'][0].bias.y"]
    assert treedef == tree.structure(value)


@given(st.recursive(st.integers(), lambda c: st.lists(c) | st.builds(Point, c, c)))
def test_a_path_leads_to_its_leaf(value):
    for path, leaf in tree.flatten_with_path(value)[0]:
        assert eval("value" + tree.keystr(path), {"value": value}) == leaf


@given(trees)
def test_paths_are_unique_and_in_the_order_of_the_leaves(value):
    pairs, _ = tree.flatten_with_path(value)
    assert [leaf for _, leaf in pairs] == tree.leaves(value)
    assert len({path for path, _ in pairs}) == len(pairs)


def test_path_into_a_registered_node_and_of_a_bare_leaf():
    assert tree.keystr(tree.flatten_with_path([Interval(1, 2, True)])[0][1][0]) == "[0]<1>"
    assert tree.keystr(tree.flatten_with_path(7)[0][0][0]) == ""


def test_map_with_path():
    result = tree.map_with_path(lambda path, a, b: (tree.keystr(path), a + b), [1, 2], [10, 20])
    assert result == [("[0]", 11), ("[1]", 22)]


# -- map, reduce, prefixes -----------------------------------------------------------------------


@given(trees)
def test_map_of_identity_and_composition(value):
    assert tree.map(lambda x: x, value) == value
    twice = tree.map(lambda x: x * 2, tree.map(lambda x: x + 1, value))
    assert tree.map(lambda x: (x + 1) * 2, value) == twice


def test_map_gives_subtrees_of_further_trees():
    assert tree.map(lambda a, b: (a, b), [1, 2], [{"k": 3}, None]) == [(1, {"k": 3}), (2, None)]


def test_map_with_is_leaf():
    result = tree.map(lambda a, b: b, [None, 1], [2, 3], is_leaf=lambda x: x is None)
    assert result == [2, 3]


def test_reduce():
    assert tree.reduce(lambda a, b: f"({a}{b})", {"b": 3, "a": [1, 2]}, 0) == "(((01)2)3)"
    assert tree.reduce(max, [3, (5, 4)]) == 5
    assert tree.reduce(max, [], 7) == 7
    with pytest.raises(TypeError, match="without leaves needs an init"):
        tree.reduce(max, [])


def is_none(x: object) -> bool:
    return x is None


def test_astype_changes_arrays_of_floats_alone():
    start = {"w": np.ones(2), "h": np.ones(2, np.float16), "n": np.arange(2), "lr": 0.1, "z": 1j}
    found = tree.astype(start, np.float32)
    assert found["w"].dtype == found["h"].dtype == np.float32
    assert found["n"] is start["n"] and found["lr"] == 0.1 and found["z"] == 1j
    assert type(found["lr"]) is float
    cast = fg.jit(lambda t: tree.astype(t, np.float32))({"w": np.ones(2), "n": np.arange(2)})
    assert cast["w"].dtype == np.float32 and cast["n"].dtype == np.int64


@pytest.mark.parametrize(
    ("prefix", "full", "expected"),
    [
        (0, 5, [0]),
        (0, {"a": 1, "b": [2, 3]}, [0, 0, 0]),
        (None, (1, 2), [None, None]),
        ((0, None), ({"w": 1, "b": 2}, 3), [0, 0, None]),
        ({"w": 0, "b": None}, {"w": [1, 2], "b": 3}, [None, 0, 0]),
        ((0, 1), (None, 3), [1]),
        (Point(0, None), Point((1, 2), 3), [0, 0, None]),
    ],
)
def test_broadcast_prefix(prefix, full, expected):
    assert tree.broadcast_prefix(prefix, full, is_leaf=is_none) == expected


@given(trees)
def test_a_tree_is_a_prefix_of_itself_and_a_leaf_of_every_tree(value):
    leaves = tree.leaves(value)
    assert tree.broadcast_prefix(value, value) == leaves
    assert tree.broadcast_prefix("x", value) == ["x"] * len(leaves)


# -- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, r"at its root: the dict there lacks \['b'\]"),
        ({"a": 1}, {"a": 1, "b": 2}, r"at its root: the dict there has an unexpected \['b'\]"),
        ({"w": [1, 2]}, {"w": [1]}, r"at \['w'\]: the list there lacks \[1\]"),
        ({"w": [1, (2,)]}, {"w": [1, 2]}, r"at \['w'\]\[1\]: there is an int where a tuple"),
        ([(1, 2)], [[1, 2]], r"at \[0\]: there is a list where a tuple of length 2 is expected"),
        ([None], [3], r"at \[0\]: there is an int where None is expected"),
        ([[1]], [None], r"at \[0\]: there is None where a list of length 1 is expected"),
        ([[1]], [np.ones((2, 3))], r"an ndarray of shape \(2, 3\) where a list"),
        (Affine(1, [2]), Affine(1, 2), r"at \.bias: there is an int where a list"),
        (Affine(1, 2, "p"), Affine(1, 2, "q"), r"the Affine there has the static part \('q',\)"),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), r"keys in the order \['b'\]\['a'\]"),
        (Interval(1, 2, True), Interval(1, 2, False), "static part False instead of True"),
    ],
)
def test_map_names_the_place_and_the_structures(first, second, message):
    with pytest.raises(TreeMismatchError, match=message) as caught:
        tree.map(lambda a, b: None, first, second)
    text = str(caught.value)
    assert f"tree 1  {tree.structure(first)}" in text
    assert f"tree 2  {tree.structure(second)}" in text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FuncgradError)


def test_map_says_which_tree_differs():
    with pytest.raises(TreeMismatchError, match="tree 3 differs"):
        tree.map(lambda *x: None, [1], [2], [])


def test_broadcast_prefix_names_the_place():
    with pytest.raises(TreeMismatchError, match=r"the tree differs in structure at \[0\]"):
        tree.broadcast_prefix(({"w": 0}, None), ([1], 2), is_leaf=is_none)


def test_wrong_number_of_leaves():
    with pytest.raises(TreeMismatchError, match=r"has 2 leaves, but 3 were given"):
        tree.unflatten(tree.structure([0, 0]), [1, 2, 3])


def test_unsortable_keys():
    with pytest.raises(TreeKeyError, match=r"types int, str: \['w', 0\]"):
        tree.leaves({"w": 1, 0: 2})
