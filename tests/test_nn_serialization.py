"""Saved parameters: round trips, checks against ``like``, damage, and interrupted writes."""

from __future__ import annotations

import errno
import json
import os
import threading
import tracemalloc
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad import files, tree
from funcgrad.errors import (
    ArgumentError,
    FileFormatError,
    ParameterMismatchError,
    TreeMismatchError,
)
from funcgrad_nn import _safetensors, serialization
from funcgrad_nn.data.idx import read_idx
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
        if type(b) in (bool, int, float, complex):
            assert type(a) is type(b) and repr(a) == repr(b), tree.keystr(path)
        else:
            assert a.dtype == b.dtype.newbyteorder("=")
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b, err_msg=tree.keystr(path))


DTYPES = ["f2", "f4", "f8", "c8", "c16", "i1", "i4", "i8", "u1", "u4", "?", ">f4", ">c16"]
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))
leaves = (
    arrays
    | st.floats()
    | st.complex_numbers()
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
)
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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2, np.longdouble), r"leaf at params is .*ndarray of dtype (float128|longdouble)"),
        ([np.zeros(2, "M8[D]")], r"leaf at params\[0\] .*dtype datetime64"),
        ([np.zeros(2, [("a", "f4")])], r"leaf at params\[0\]"),
        ({"m": np.ma.masked_array([1.0, 2.0], [True, False])}, r"leaf at params\['m'\]"),
        ({True: np.zeros(2)}, "the key True at params"),
        ({np.int64(1): np.zeros(2)}, "the key np.int64"),
        ({"n": 10**5000}, "integer among the params"),
        (np.zeros((1,) * 64, np.complex128), "complex128 arrays of 64 axes"),
    ],
)
def test_what_load_could_not_read_leaves_the_earlier_file(tmp_path, value, message):
    path = tmp_path / "p"
    save(path, params())
    with pytest.raises(TypeError, match=message):
        save(path, value)
    assert_same(load(path), params())
    assert os.listdir(tmp_path) == ["p"]


def test_more_names_than_a_header_holds(tmp_path, monkeypatch):
    save(tmp_path / "p", params())
    monkeypatch.setattr(_safetensors, "HEADER_LIMIT", 1000)
    with pytest.raises(FileFormatError, match=r"cannot be written: .* holds 1,000\. Stack"):
        save(tmp_path / "p", [np.zeros(2)] * 50)
    assert_same(load(tmp_path / "p"), params())


@pytest.mark.parametrize(
    "value",
    [
        {"__metadata__": np.ones(2)},
        np.ones(()),
        {"__metadata__": {"__metadata__": np.ones(2)}, "a": {"__metadata__": 1.0}},
        {"\ud800": np.ones(2), "\udc80x": {"é": np.zeros(1)}},
        {"a.b": np.ones(2), "a": {"b": np.zeros(1)}},
        {"a": [np.zeros(2)], "a.0": np.ones(1)},
        OrderedDict({1: np.zeros(1), "1": np.ones(2)}),
        {"": np.zeros(1), "params": np.ones(1), "\x00": 1, '"\\': np.zeros(2)},
        {"['a']": np.ones(1), "a": np.zeros(1), ".": [np.zeros(1)]},
        {-(2**70): np.zeros(1), 0: 2**70},
        {},
        [],
        (),
        None,
        [None, {}, ((), [])],
        3,
        True,
        float("nan"),
        -0.0,
        1j,
        {"c": complex(-0.0, float("inf"))},
        np.zeros((0, 3)),
        {"a": np.zeros((3, 0), "c16"), "b": np.zeros(0, bool), "c": np.float16(1)},
        np.zeros((1,) * 64, np.float32),
        [np.zeros(1)] * 300,
    ],
    ids=lambda value: f"{value!a:.30}",
)
def test_trees_of_any_shape_and_names_come_back(tmp_path, value):
    save(tmp_path / "p", value)
    assert_same(load(tmp_path / "p"), value)
    assert_same(load(tmp_path / "p", like=value), value)
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = [leaf for leaf in tree.leaves(value) if hasattr(leaf, "dtype")]
    assert len(safetensors.load_file(tmp_path / "p")) == len(arrays)


def test_arrays_in_dtypes_that_numpy_lacks(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = {
        name: np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name))
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
    }
    save(tmp_path / "p", value)
    for found in (load(tmp_path / "p"), load(tmp_path / "p", like=value)):
        for name, array in value.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name].astype(float), array.astype(float))
    with pytest.raises(TypeError, match=r"params\['i'\] .*dtype int4"):
        save(tmp_path / "p", {"i": np.zeros(2, ml_dtypes.int4)})


def test_the_same_params_make_the_same_file(tmp_path):
    for name in "ab":
        save(tmp_path / name, params())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_copy_is_made(tmp_path):
    value = {"a": np.ones(1 << 22, np.float32), "b": [np.ones((3, 1 << 20))]}
    size = sum(leaf.nbytes for leaf in tree.leaves(value))
    save(tmp_path / "p", {})
    load(tmp_path / "p")
    tracemalloc.start()
    save(tmp_path / "p", value)
    assert tracemalloc.get_traced_memory()[1] < size // 20
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    again = load(tmp_path / "p")
    assert tracemalloc.get_traced_memory()[1] - before < size * 1.05
    tracemalloc.stop()
    assert_same(again, value)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing is reserved here")
def test_file_systems_that_reserve_no_room(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    save(tmp_path / "reserved", params())
    monkeypatch.setattr(os, "posix_fallocate", fail)
    save(tmp_path / "p", params())
    assert (tmp_path / "p").read_bytes() == (tmp_path / "reserved").read_bytes()


def test_pipes(tmp_path):
    if os.name != "posix":
        pytest.skip("no pipes in the file system")
    os.mkfifo(tmp_path / "pipe")
    value = {"a": np.arange(1 << 18), "b": np.ones(3, np.float32), "n": 1}
    found = []
    reader = threading.Thread(target=lambda: found.append(load(tmp_path / "pipe")), daemon=True)
    # Both ends are open from the beginning, so that neither side has to wait for the other.
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    reader.start()
    save(tmp_path / "pipe", value)
    os.close(descriptor)
    reader.join(timeout=60)
    assert_same(found[0], value)


@pytest.mark.parametrize("read", [load, read_idx])
def test_a_pipe_that_nobody_writes_to_does_not_hang(read, tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("no pipes in the file system")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(OSError, match="pipe that nobody writes to") as caught:
        read(tmp_path / "pipe")
    assert caught.value.filename == tmp_path / "pipe"


def test_a_pipe_is_waited_for_while_somebody_may_write(tmp_path, monkeypatch):
    """However long the writer, which has the pipe open, takes to begin."""
    if os.name != "posix":
        pytest.skip("no pipes in the file system")
    os.mkfifo(tmp_path / "pipe")
    waited = threading.Event()
    has_writer = files._has_writer

    def wait(*args):
        answer = has_writer(*args)
        waited.set()
        return answer

    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(files, "_has_writer", wait)
    found = []
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    reader = threading.Thread(target=lambda: found.append(load(tmp_path / "pipe")), daemon=True)
    reader.start()
    assert waited.wait(60)
    save(tmp_path / "pipe", {"a": np.ones(3)})
    os.close(descriptor)
    reader.join(timeout=60)
    assert_same(found[0], {"a": np.ones(3)})


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


def test_any_changed_word_of_large_arrays_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(_safetensors, "_CHUNK", 1 << 14)
    path = tmp_path / "large.safetensors"
    value = {"a": np.arange(10_001, dtype=np.float32), "b": np.arange(30_001, dtype=np.uint8)}
    save(path, value)
    assert_same(load(path), value)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    for at in [start, len(content) - 1, *rng.integers(start, len(content), 60)]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="checksum"):
            load(path)
    blocks = content[:start] + content[start + 4096 : start + 8192] + content[start : start + 4096]
    path.write_bytes(blocks + content[start + 8192 :])
    with pytest.raises(FileFormatError, match="checksum"):
        load(path)


def test_no_safetensors_file(tmp_path):
    (tmp_path / "p").write_text(json.dumps({"w": [1, 2]}), encoding="utf-8")
    with pytest.raises(FileFormatError, match="no safetensors file"):
        load(tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")


def test_another_version_of_the_format(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "_FORMAT_VERSION", "3")
    monkeypatch.setattr(serialization, "_CHECKSUMS", {"3": serialization._add_sums})
    save(tmp_path / "p", params())
    monkeypatch.undo()
    with pytest.raises(FileFormatError, match="has version 3 of the format"):
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


def test_the_path_stands_first(tmp_path):
    for path in (tmp_path / "x.safetensors", "x.safetensors"):
        with pytest.raises(ArgumentError, match=r"nn\.save\('.*x\.safetensors', params\)"):
            save({"w": np.ones(2)}, path)  # type: ignore[arg-type]
