"""Classes of a few named values behave as those of the standard library would."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

import funcgrad as fg
from _processes import run_python
from funcgrad import records
from funcgrad.records import NamedTuple, Record, Value, replace


class Ours(NamedTuple):
    """A tuple."""

    first: int
    second: tuple[int, ...] = ()

    @property
    def both(self) -> int:
        return self.first + len(self.second)


class Theirs(typing.NamedTuple):
    first: int
    second: tuple[int, ...] = ()


class Step(Record):
    reads: list[int]
    chunk: int = 0


class Point(Value):
    x: int
    y: int = 2


def test_a_named_tuple_is_one() -> None:
    a, b = Ours(1, second=(2,)), Theirs(1, second=(2,))
    assert a == b
    assert repr(a) == repr(b).replace("Theirs", "Ours")
    assert (Ours._fields, Ours._field_defaults) == (Theirs._fields, Theirs._field_defaults)
    assert a._replace(first=3) == (3, (2,))
    assert a._asdict() == b._asdict()
    assert Ours._make([1, (2,)]) == a
    with pytest.raises(TypeError, match="Ours takes first, second"):
        Ours._make([1])
    with pytest.raises(ValueError, match="Ours takes only first, second"):
        a._replace(third=3)  # pyright: ignore[reportCallIssue]
    assert a.both == 2
    assert (Ours.__doc__, Ours.__module__, Ours.__qualname__) == ("A tuple.", __name__, "Ours")
    assert pickle.loads(pickle.dumps(a)) == copy.deepcopy(a) == a
    match a:
        case Ours(first, second):
            assert (first, second) == (1, (2,))
    with pytest.raises(TypeError, match=r"Ours.__new__.. missing 1 .* 'first'"):
        Ours()  # pyright: ignore[reportCallIssue]


def test_named_tuples_of_as_many_fields_are_made_by_the_same_code(monkeypatch) -> None:
    monkeypatch.setattr(records, "eval", None, raising=False)

    class Pair(NamedTuple):
        left: int
        right: int = 3

    assert Pair(2) == Pair(right=3, left=2) == (2, 3)
    assert Ours(2, (3,)).first == 2


def test_a_record_has_attributes_and_identity() -> None:
    a = Step([1])
    assert (a.reads, a.chunk) == ([1], 0)
    assert a != Step([1])
    b = replace(a, chunk=4)
    assert (b.reads is a.reads, b.chunk, a.chunk) == (True, 4, 0)
    match b:
        case Step(reads, chunk):
            assert (reads, chunk) == ([1], 4)


@pytest.mark.parametrize(
    "values, named", [((), {}), (([], 1, 2), {}), (([],), {"reads": []}), (([],), {"other": 1})]
)
def test_a_record_of_other_values_is_a_type_error(values: tuple, named: dict) -> None:
    with pytest.raises(TypeError, match=r"Step takes (only )?reads, chunk"):
        Step(*values, **named)


def test_a_value_is_known_by_what_it_holds() -> None:
    a = Point(1)
    assert a == Point(1, 2) != Point(1, 3)
    assert hash(a) == hash(Point(y=2, x=1))
    assert repr(a) == "Point(x=1, y=2)"
    assert pickle.loads(pickle.dumps(a)) == copy.deepcopy(a) == a
    for change in (lambda: setattr(a, "x", 3), lambda: delattr(a, "x")):
        with pytest.raises(AttributeError, match="a Point does not change"):
            change()
    assert a.x == 1


def test_steps_of_paths_are_equal_within_their_class() -> None:
    keys = fg.tree.SequenceKey(0), fg.tree.ChildKey(0), fg.tree.DictKey(0), fg.tree.AttrKey("a")
    assert len({*keys, *map(copy.copy, keys)}) == len(keys)
    assert [str(k) for k in keys] == ["[0]", "<0>", "[0]", ".a"]
    assert repr(keys[2]) == "DictKey(key=0)"


def test_importing_makes_no_dataclasses() -> None:
    """What compiles a class's methods is not loaded where NumPy does without."""
    code = "import sys, numpy; had = {*sys.modules}; import funcgrad; print({*sys.modules} - had)"
    assert "'dataclasses'" not in run_python(code)
