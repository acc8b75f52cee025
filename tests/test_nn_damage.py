"""Damaged and crafted files: FileFormatError or what was written, soon, and in little memory."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import random
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad.errors import FileFormatError, MissingDependencyError
from funcgrad_nn import load, save
from funcgrad_nn.data import read_idx, write_idx

CASES = 500


@contextlib.contextmanager
def little_memory(limit: int = 1 << 22) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def damaged(content: bytes, rng: random.Random, tokens: tuple[bytes, ...]) -> bytes:
    """The content with a few of its bits, bytes or words changed, or with a part missing."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + rng.choice((1, 4, 8))]
            case 3:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
            case 4 if data:
                data[at] = rng.choice((0, 255, 127, 128))
            case 5:
                old = rng.choice([token for token in tokens if token in data] or [b""])
                begin = data.find(old)
                data[begin : begin + len(old)] = rng.choice(tokens)
    return bytes(data)


# -- safetensors ---------------------------------------------------------------------------------

PARAMS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [np.zeros(0), True, None]}
TOKENS = (
    b'"dtype"', b'"shape"', b'"data_offsets"', b'"F32"', b'"F64"', b'"BF16"', b'"F4"', b'"BOOL"',
    b"[2,3]", b"[0,24]", b"[0]", b"[24,24]", b"null", b"-1", b"1e400", b"18446744073709551616",
    b"{", b"}", b"[", b"]", b",", b'"', b'"w"', b'"b.0"', b"__metadata__", b'\\"', b"\xff",
    b'"\\ud800"', b"true", b"0", b"9" * 30,
)  # fmt: skip


def as_file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_length(content: bytes) -> bytes:
    """Damaged content whose header's length is right again, so that more of it is looked at."""
    end = content.find(b"}}", 8) + 2
    return (end - 8).to_bytes(8, "little") + content[8:] if end > 8 else content


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_of_ones_own(tmp_path, seed):
    save(tmp_path / "p", PARAMS)
    content = (tmp_path / "p").read_bytes()
    rng = random.Random(seed)
    for i in range(CASES):
        changed = damaged(content, rng, TOKENS)
        (tmp_path / "p").write_bytes(changed if i % 2 else with_length(changed))
        try:
            found = load(tmp_path / "p")
        except (FileFormatError, MissingDependencyError):
            continue
        # What is left without the metadata is a file of another program's.
        if found.keys() == PARAMS.keys():
            np.testing.assert_array_equal(found["w"], PARAMS["w"])
            assert found["b"][1:] == PARAMS["b"][1:]
        else:
            assert b'"sha256"' not in changed


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_of_other_programs(tmp_path, seed):
    """Whatever is read is what safetensors' own reader reads."""
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"w": PARAMS["w"], "b": np.array([True, False]), "n": np.arange(2)}
    content = safetensors.save(tensors, {"format": "np"})
    rng = random.Random(seed)
    count = 0
    for i in range(CASES):
        changed = damaged(content, rng, TOKENS)
        changed = changed if i % 2 else with_length(changed)
        (tmp_path / "p").write_bytes(changed)
        try:
            found = load(tmp_path / "p")
        except (FileFormatError, MissingDependencyError):
            continue
        count += 1
        expected = safetensors.load(changed)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()
    assert count > CASES // 50


def tensor(dtype: Any = "F32", shape: Any = (), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DEEP = b"[" * 100_000
CRAFTED = {
    "no metadata": as_file({"__metadata__": None}),
    "metadata that is no object": as_file({"__metadata__": "text"}),
    "metadata that is no text": as_file({"__metadata__": {"format": 3}}),
    "metadata of lists": as_file({"__metadata__": {"format": [3]}}),
    "list": as_file([1, 2]),
    "null": as_file(b"null"),
    "nothing": as_file(b""),
    "number": as_file(b"1" * 10_000),
    "deep": as_file(DEEP + b"]" * len(DEEP)),
    "deep in a tensor": as_file(b'{"w":{"dtype":"F32","shape":' + DEEP),
    "deep objects": as_file(b'{"a":' * 100_000),
    "empty objects": as_file(b"{" + b'"":{},' * 300_000 + b'"":{}}'),
    "empty lists": as_file(b"{" + b'"":[],' * 300_000 + b'"":[]}'),
    "lists in a tensor": as_file(b'{"w":{"dtype":"F32","shape":[' + b"[]," * 500_000),
    "many axes": as_file({"w": tensor(shape=[1] * 500_000)}, bytes(4)),
    "65 axes": as_file({"w": tensor(shape=[1] * 65)}, bytes(4)),
    "0 times huge": as_file({"w": tensor(shape=[0, 2**63], offsets=[0, 0])}),
    "0 times larger": as_file({"w": tensor(shape=[2**62, 2**62, 0], offsets=[0, 0])}),
    "0 times more than 64 bits": as_file({"w": tensor(shape=[0, 10**19], offsets=[0, 0])}),
    "product beyond 64 bits": as_file({"w": tensor(shape=[2**32, 2**32], offsets=[0, 0])}),
    "negative length": as_file({"w": tensor(shape=[-1], offsets=[0, -4])}),
    "negative offsets": as_file({"w": tensor(offsets=[-4, 0])}, bytes(4)),
    "reversed offsets": as_file({"w": tensor(offsets=[4, 0])}, bytes(4)),
    "huge offsets": as_file({"w": tensor(shape=[2**60], offsets=[0, 2**62])}, bytes(4)),
    "a gap": as_file({"w": tensor(offsets=[4, 8])}, bytes(8)),
    "overlap": as_file({"w": tensor(), "v": tensor()}, bytes(4)),
    "partial overlap": as_file({"w": tensor(), "v": tensor(offsets=[2, 6])}, bytes(6)),
    "too many bytes": as_file({"w": tensor()}, bytes(5)),
    "too few bytes": as_file({"w": tensor()}, bytes(3)),
    "another size": as_file({"w": tensor(shape=[2])}, bytes(4)),
    "floats": as_file({"w": tensor(shape=[1.0])}, bytes(4)),
    "huge number": as_file(
        b'{"w":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 9999)
    ),
    "exponent": as_file(b'{"w":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}'),
    "nan": as_file(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'),
    "true": as_file({"w": tensor(shape=[True])}, bytes(4)),
    "dtype of lists": as_file({"w": tensor(dtype=[1])}, bytes(4)),
    "dtype of numbers": as_file({"w": tensor(dtype=3)}, bytes(4)),
    "unknown dtype": as_file({"w": tensor(dtype="F128", offsets=[0, 16])}, bytes(16)),
    "missing field": as_file({"w": {"dtype": "F32", "shape": []}}, bytes(4)),
    "one more field": as_file({"w": {**tensor(), "x": 1}}, bytes(4)),
    "three offsets": as_file({"w": tensor(offsets=[0, 4, 4])}, bytes(4)),
    "a name twice": as_file(
        b'{"w":%b,"w":%b}' % ((json.dumps(tensor()).encode(),) * 2), bytes(4)
    ),
    "a field twice": as_file(
        b'{"w":{"dtype":"I32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4)
    ),
    "half a character": as_file(
        b'{"\\ud800":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4)
    ),
    "no UTF-8": as_file(b'{"\xff":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4)),
    "UTF-16": as_file(json.dumps({"w": tensor()}).encode("utf-16"), bytes(4)),
    "control character": as_file(
        b'{"\n":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4)
    ),
    "no boolean": as_file({"w": tensor("BOOL", [2], [0, 2])}, b"\x01\x02"),
    "header of 2**63": struct.pack("<Q", 2**63) + b"{}",
    "header of 2**64 - 1": b"\xff" * 8 + b"{}",
    "header of more than 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "header longer than the file": struct.pack("<Q", 99_999_999) + b"{}",
    "open text": as_file(b'{"w'),
    "text to the end": as_file(b'{"w\\'),
    "trailing comma": as_file(b'{"__metadata__":{},}'),
    "bytes after the header": as_file(b'{"__metadata__":{}}x'),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files(tmp_path, name):
    (tmp_path / "crafted").write_bytes(CRAFTED[name])
    with pytest.raises(FileFormatError, match="crafted"), little_memory():
        load(tmp_path / "crafted")


@pytest.mark.parametrize("code", ["F4", "F6_E2M3", "F6_E3M2", "E8", "f32", ""])
def test_dtypes_that_numpy_lacks_are_refused_by_name(tmp_path, code):
    (tmp_path / "p").write_bytes(as_file({"layer.w": tensor(code, [8])}, bytes(4)))
    with pytest.raises(FileFormatError, match=rf"'layer\.w' is of type '{code}'"):
        load(tmp_path / "p")


@pytest.mark.parametrize(
    ("code", "dtype", "content", "value"),
    [
        ("BF16", "bfloat16", b"\x80\x3f", 1.0),
        ("F8_E4M3", "float8_e4m3fn", b"\x38", 1.0),
        ("F8_E5M2", "float8_e5m2", b"\x3c", 1.0),
        ("F8_E8M0", "float8_e8m0fnu", b"\x7f", 1.0),
    ],
)
def test_dtypes_of_ml_dtypes(tmp_path, monkeypatch, code, dtype, content, value):
    path = tmp_path / "p"
    path.write_bytes(as_file({"w": tensor(code, [1], [0, len(content)])}, content))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ml_dtypes", None)
        message = rf"'w' in .*p is of dtype {dtype} \({code}\)\. ml_dtypes .*funcgrad\[io\]"
        with pytest.raises(MissingDependencyError, match=message):
            load(path)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    found = load(path)["w"]
    assert found.dtype == getattr(ml_dtypes, dtype)
    assert found.astype(float) == value


def with_structure(structure: Any, tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A file with a checksum that is right, as someone can write who means harm."""
    text = structure if isinstance(structure, str) else json.dumps(structure)
    metadata = {
        "funcgrad": "1",
        "structure": text,
        "sha256": hashlib.sha256(text.encode() + data).hexdigest(),
    }
    return as_file({"__metadata__": metadata, **tensors}, data)


ARRAY = {"array": "w", "dtype": "float32", "shape": []}
W = {"w": tensor()}
STRUCTURES: dict[str, tuple[Any, Any]] = {
    "no JSON": ("{", {}),
    "nothing": ("", {}),
    "null": (None, {}),
    "list": ([], {}),
    "number": (3, {}),
    "deep": ("[" * 100_000, {}),
    "deep nodes": ('{"node":"list","keys":[0],"children":[' * 50_000, {}),
    "deep nodes that end": (
        '{"node":"list","keys":[0],"children":[' * 20_000 + '{"value":1}' + "]}" * 20_000, {}
    ),
    "empty node": ({}, {}),
    "text as value": ({"value": "x"}, {}),
    "null as value": ({"value": None}, {}),
    "object as value": ({"value": {}}, {}),
    "half a complex number": ({"real": 1.0}, {}),
    "complex number of text": ({"real": 1.0, "imag": "x"}, {}),
    "list as value": ({"value": [1.0, 2.0]}, {}),
    "value and more": ({"value": 1, "node": "list"}, {}),
    "huge integer": ('{"value":' + "9" * 10_000 + "}", {}),
    "unknown array": ({**ARRAY, "array": "v"}, W),
    "array of a list": ({**ARRAY, "array": ["w"]}, W),
    "another dtype": ({**ARRAY, "dtype": "int32"}, W),
    "no dtype": ({**ARRAY, "dtype": "what"}, W),
    "dtype of a list": ({**ARRAY, "dtype": []}, W),
    "another shape": ({**ARRAY, "shape": [1]}, W),
    "shape of text": ({**ARRAY, "shape": ["x"]}, W),
    "shape of a number": ({**ARRAY, "shape": 0}, W),
    "no shape": ({"array": "w", "dtype": "float32"}, W),
    "array not used": ({"value": 1}, W),
    "array used twice": ({"node": "list", "keys": [0, 1], "children": [ARRAY, ARRAY]}, W),
    "no children": ({"node": "list", "keys": []}, {}),
    "too few keys": ({"node": "list", "keys": [], "children": [ARRAY]}, W),
    "keys of a list": ({"node": "list", "keys": [1], "children": [ARRAY]}, W),
    "keys that are no keys": ({"node": "dict", "keys": [[]], "children": [ARRAY]}, W),
    "keys of objects": ({"node": "dict", "keys": [{}], "children": [ARRAY]}, W),
    "a key of null": ({"node": "dict", "keys": [None], "children": [ARRAY]}, W),
    "a key twice": (
        {"node": "dict", "keys": ["a", "a"], "children": [ARRAY, {"value": 1}]}, W
    ),
    "None with children": ({"node": "NoneType", "keys": [0], "children": [ARRAY]}, W),
    "kind of a number": ({"node": 3, "keys": [], "children": []}, {}),
    "children that are none": ({"node": "list", "keys": "", "children": ""}, {}),
}  # fmt: skip


@pytest.mark.parametrize("like", [False, True])
@pytest.mark.parametrize("name", STRUCTURES)
def test_crafted_structures(tmp_path, name, like):
    structure, tensors = STRUCTURES[name]
    content = with_structure(structure, tensors, bytes(4) if tensors else b"")
    (tmp_path / "crafted").write_bytes(content)
    with pytest.raises(FileFormatError, match="crafted"), little_memory(1 << 25):
        load(tmp_path / "crafted", like=[1.0] if like else None)


def test_crafted_structures_are_otherwise_sound(tmp_path):
    (tmp_path / "p").write_bytes(with_structure(ARRAY, W, bytes(4)))
    assert load(tmp_path / "p") == 0


# -- IDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_damaged_idx_files(tmp_path, name):
    path = tmp_path / name
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    write_idx(path, array)
    content = path.read_bytes()
    rng = random.Random(0)
    tokens = (b"\xff" * 4, bytes(4), b"\x1f\x8b", b"\x00\x00\x08", b"\x00\x00\x0d", b"\xff")
    for _ in range(2 * CASES):
        changed = damaged(content, rng, tokens)
        path.write_bytes(changed)
        try:
            found = read_idx(path)
        except FileFormatError:
            continue
        if name.endswith("gz"):
            # Not all of gzip's header matters, such as the time.
            np.testing.assert_array_equal(found, array)
        else:
            assert changed[:3] in (bytes([0, 0, code]) for code in (8, 9, 11, 12, 13, 14))
            assert found.ndim == changed[3]
            assert found.nbytes == len(changed) - 4 - 4 * found.ndim


def idx(shape: tuple[int, ...], code: int = 8, data: bytes = b"") -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape) + data


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx((1,) * 65, data=b"1"), "65 axes|dimensions"),
        (idx((1,) * 255, data=b"1"), "dimensions|axes"),
        (idx((0,) + (2**32 - 1,) * 9), "too big|too large"),
        (idx((2**32 - 1,) * 4), "is truncated"),
        (idx((2**32 - 1,), 14, bytes(100)), "is truncated"),
        (idx((10,), data=bytes(9)), "is truncated"),
        (idx((10,), data=bytes(11)), "has trailing bytes"),
        (idx(()), "is truncated"),
    ],
    ids=range(8),
)
def test_crafted_idx_files(tmp_path, content, message, compress):
    path = tmp_path / "crafted.idx"
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(FileFormatError, match=rf"crafted\.idx .*({message})"), little_memory():
        read_idx(path)


def test_a_bomb_is_not_decompressed(tmp_path):
    """200 MB of zeros behind a header that announces ten."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(idx((10,)))
        for _ in range(200):
            file.write(bytes(1 << 20))
    with pytest.raises(FileFormatError, match="has trailing bytes"), little_memory():
        read_idx(path)


def test_what_follows_a_compressed_file(tmp_path):
    path = tmp_path / "a.gz"
    whole = gzip.compress(idx((3,), data=b"abc"))
    path.write_bytes(whole + bytes(100))
    np.testing.assert_array_equal(read_idx(path), [97, 98, 99])
    for garbage in (b"garbage", whole, gzip.compress(b"x"), b"\x1f\x8b"):
        path.write_bytes(whole + garbage)
        with pytest.raises(FileFormatError):
            read_idx(path)
    half = gzip.compress(idx((3,), data=b"a")) + gzip.compress(b"bc")
    path.write_bytes(half)
    np.testing.assert_array_equal(read_idx(path), [97, 98, 99])


def test_streams_that_never_end():
    for device in ("/dev/zero", "/dev/urandom"):
        if Path(device).is_char_device():
            for read in (load, read_idx):
                with pytest.raises(FileFormatError), little_memory(1 << 28):
                    read(device)
