"""Saved parameters: round trips, checks against ``like``, damage, and interrupted writes."""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad import tree
from funcgrad.errors import (
    FileFormatError,
    MissingDependencyError,
    ParameterMismatchError,
    TreeMismatchError,
)
from funcgrad_nn import serialization
from funcgrad_nn.serialization import load, save


class Moments(NamedTuple):
    first: Any
    second: Any


@dataclass
class Affine:
    weight: Any
    bias: Any
    name: str = field(default="affine", metadata={"static": True})


def assert_same(actual: Any, expected: Any) -> None:
    assert tree.structure(actual) == tree.structure(expected)
    for (path, a), (_, b) in zip(
        *(tree.flatten_with_path(t)[0] for t in (actual, expected)), strict=True
    ):
        if type(b) in (bool, int, float):
            assert type(a) is type(b) and repr(a) == repr(b), tree.keystr(path)
        else:
            assert a.dtype == b.dtype.newbyteorder("=")
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b, err_msg=tree.keystr(path))


DTYPES = ["f2", "f4", "f8", "c8", "c16", "i1", "i4", "i8", "u1", "u4", "?", ">f4", ">c16"]
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))
leaves = arrays | st.floats() | st.integers(-(2**70), 2**70) | st.booleans() | st.none()
# Names with dots make tensor names that would collide; such trees are saved all the same.
names = st.sampled_from(["weight", "a", "b", "a.b", "", "\N{GREEK SMALL LETTER ALPHA}", "\n"])
trees = st.recursive(
    leaves,
    lambda c: (
        st.lists(c, max_size=3)
        | st.lists(c, max_size=3).map(tuple)
        | st.dictionaries(names, c, max_size=3)
        | st.dictionaries(st.integers(), c, max_size=3)
        | st.dictionaries(names, c, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


@given(trees)
def test_round_trip(tmp_path_factory, params):
    path = tmp_path_factory.mktemp("params") / "p.safetensors"
    save(path, params)
    assert_same(load(path), params)
    assert_same(load(path, like=params), params)
    assert os.listdir(path.parent) == ["p.safetensors"]


def params() -> dict[str, Any]:
    return {
        "layers": [
            {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)},
            None,
        ],
        "step": 3,
    }


def test_loaded_arrays_can_be_changed(tmp_path):
    save(tmp_path / "p", params())
    weight = load(tmp_path / "p")["layers"][0]["weight"]
    weight += 1
    assert weight[0, 0] == 1


def test_views_of_any_memory_layout(tmp_path):
    base = np.arange(24.0).reshape(4, 6)
    views = {"transposed": base.T, "strided": base[::2, ::-3], "broadcast": np.broadcast_to(1.0, 3)}
    save(tmp_path / "p", views)
    assert_same(load(tmp_path / "p"), views)


def test_named_tuples_and_dataclasses_come_back_by_like(tmp_path):
    value = {"m": Moments(np.zeros(2), [np.ones(3)]), "l": Affine(np.ones((2, 2)), None, "first")}
    save(tmp_path / "p", value)
    assert_same(load(tmp_path / "p", like=value), value)
    with pytest.raises(ParameterMismatchError, match=r"Affine at \['l'\].*pass like="):
        load(tmp_path / "p")


def test_like_may_be_anything_with_shapes_and_dtypes(tmp_path):
    class Shape:
        def __init__(self, array: np.ndarray) -> None:
            self.shape, self.dtype = array.shape, array.dtype

    value = {"w": np.ones((2, 3), np.float32)}
    save(tmp_path / "p", value)
    assert_same(load(tmp_path / "p", like=tree.map(Shape, value)), value)


def test_other_programs_can_read_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "p", params())
    tensors = safetensors.load_file(tmp_path / "p")
    assert sorted(tensors) == ["layers.0.bias", "layers.0.weight"]
    np.testing.assert_array_equal(tensors["layers.0.weight"], params()["layers"][0]["weight"])


def test_files_of_other_programs_come_as_a_dict(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"fc.weight": np.ones((2, 2))}, tmp_path / "p", {"format": "pt"})
    assert_same(load(tmp_path / "p"), {"fc.weight": np.ones((2, 2))})
    with pytest.raises(ParameterMismatchError, match=r"not written by funcgrad_nn\.save"):
        load(tmp_path / "p", like={"fc.weight": np.ones((2, 2))})


# -- Against `like` ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p["layers"][0].update(weight=np.zeros((3, 2), np.float32)),
            r"at \['layers'\]\[0\]\['weight'\]: the file has float32 of shape \(2, 3\), "
            r"like has float32 of shape \(3, 2\)",
        ),
        (
            lambda p: p["layers"][0].update(bias=np.zeros(3, np.float32)),
            r"\['bias'\]: the file has float64 of shape \(3,\), like has float32",
        ),
        (lambda p: p["layers"][0].pop("bias"), r"at \['layers'\]\[0\]: the file has dict with"),
        (lambda p: p["layers"].pop(), r"at \['layers'\]: the file has list with 0, 1, like .* 0$"),
        (lambda p: p.update(step=3.0), r"at \['step'\]: .* a Python int, like has a Python float"),
        (lambda p: p.update(step=[3]), r"at \['step'\]: .* a Python int, like has list with 0"),
        (lambda p: p.update(layers=tuple(p["layers"])), r"list with 0, 1, like has tuple"),
    ],
)
def test_load_compares_with_like(tmp_path, change, message):
    save(tmp_path / "model", params())
    like = params()
    change(like)
    with pytest.raises(ParameterMismatchError, match=f"(?m){message}") as caught:
        load(tmp_path / "model", like=like)
    assert str(tmp_path / "model") in str(caught.value)
    assert isinstance(caught.value, TreeMismatchError)


def test_all_differences_are_listed_up_to_a_limit(tmp_path):
    save(tmp_path / "p", [np.zeros(2)] * 10)
    with pytest.raises(ParameterMismatchError, match=r"(?s)at \[0\].*at \[7\].*and 2 more"):
        load(tmp_path / "p", like=[np.zeros(3)] * 10)


# -- What cannot be saved ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": ["text"]}, r"leaf at params\['w'\]\[0\] is 'text' \(str\)"),
        ({"w": np.array([None])}, r"leaf at params\['w'\]"),
        ([np.array(["a"])], r"leaf at params\[0\]"),
        ({(1, 2): np.zeros(2)}, r"the key \(1, 2\) at params"),
    ],
)
def test_save_refuses(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "p", value)
    assert os.listdir(tmp_path) == []


def test_missing_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "funcgrad\[io\]"'):
        save(tmp_path / "p", params())


# -- Damage --------------------------------------------------------------------------------------


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "cut.safetensors"
    save(path, params())
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"cut\.safetensors"):
            load(path)


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_is_noticed(tmp_path, bit):
    path = tmp_path / "flipped.safetensors"
    save(path, {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": 3})
    content = path.read_bytes()
    for i in range(len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=r"flipped\.safetensors"):
            load(path)


def test_no_safetensors_file(tmp_path):
    (tmp_path / "p").write_text(json.dumps({"w": [1, 2]}), encoding="utf-8")
    with pytest.raises(FileFormatError, match="no safetensors file"):
        load(tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")


def test_another_version_of_the_format(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "_FORMAT_VERSION", "2")
    save(tmp_path / "p", params())
    monkeypatch.undo()
    with pytest.raises(FileFormatError, match="has version 2 of the format"):
        load(tmp_path / "p")


# -- Interrupted writes --------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_earlier_file_and_leaves_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "p.safetensors"
    save(path, params())

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="disk full"):
            save(path, {"other": np.zeros(3)})
    assert os.listdir(tmp_path) == ["p.safetensors"]
    assert_same(load(path), params())


def test_a_new_file_replaces_the_earlier_one(tmp_path):
    save(tmp_path / "p", params())
    save(tmp_path / "p", [1, 2])
    assert load(tmp_path / "p") == [1, 2]


def test_a_link_stays_a_link(tmp_path):
    save(tmp_path / "target", [1])
    (tmp_path / "link").symlink_to(tmp_path / "target")
    save(tmp_path / "link", [2])
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "target") == [2]


def test_permissions_are_those_of_a_new_file(tmp_path):
    (tmp_path / "plain").write_text("", encoding="utf-8")
    save(tmp_path / "p", [1])
    assert (tmp_path / "p").stat().st_mode == (tmp_path / "plain").stat().st_mode
