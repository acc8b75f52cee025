"""IDX files: round trips, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad.errors import FileFormatError
from funcgrad_nn.data import read_idx, write_idx

DTYPES = ["u1", "i1", "i2", "i4", "f4", "f8", ">i2", ">f8"]


@given(array=hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0)))
@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_round_trip(tmp_path_factory, name, array):
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, array)
    again = read_idx(path)
    assert again.dtype == array.dtype.newbyteorder("=")
    assert again.flags.writeable
    np.testing.assert_array_equal(again, array)


def test_bytes_of_the_format(tmp_path):
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 255, 255]))
    np.testing.assert_array_equal(read_idx(path), np.array([[0x0102, -1]], np.int16))


def test_compression_is_told_from_the_content(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(3, dtype=np.uint8))
    (tmp_path / "a.gz").rename(tmp_path / "a")
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), [0, 1, 2])


def test_compressed_files_of_one_array_are_the_same(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(3, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


VALID = struct.pack(">HBBII", 0, 0x0C, 2, 2, 3) + bytes(24)


@pytest.mark.parametrize("length", range(len(VALID)))
def test_truncated_anywhere(tmp_path, length):
    path = tmp_path / "short.idx"
    path.write_bytes(VALID[:length])
    with pytest.raises(FileFormatError, match=r"short\.idx (ends within its header|is truncated)"):
        read_idx(path)


@pytest.mark.parametrize("length", range(2, len(gzip.compress(VALID))))
def test_truncated_compressed_file(tmp_path, length):
    path = tmp_path / "short.idx.gz"
    path.write_bytes(gzip.compress(VALID)[:length])
    with pytest.raises(FileFormatError, match=r"short\.idx\.gz is a damaged gzip file"):
        read_idx(path)


def test_corrupted_compressed_file(tmp_path):
    path = tmp_path / "bad.gz"
    content = bytearray(gzip.compress(VALID))
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"bad\.gz is a damaged gzip file \(CRC"):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VALID + b"!", r"has trailing bytes: .*shape \(2, 3\) of int32, .*36 bytes, .*more"),
        (VALID[:-1], r"is truncated: .*36 bytes, but there are at most 35"),
        (b"\x01" + VALID[1:], "is no IDX file: it begins with the bytes 01 00 0c 02"),
        (b"\x00\x00\x0a" + VALID[3:], "is no IDX file"),
        (b"label,pixel\n", "is no IDX file: it begins with the bytes 6c 61 62 65"),
        (b"", "ends within its header, after 0 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "is truncated"),
    ],
)
def test_what_is_no_idx_file(tmp_path, content, message):
    path = tmp_path / "wrong.idx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"wrong\.idx " + message):
        read_idx(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.idx"):
        read_idx(tmp_path / "absent.idx")


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool, complex, "S3"])
def test_write_refuses_other_dtypes(tmp_path, dtype):
    with pytest.raises(TypeError, match=r"uint8, int8, int16, int32, float32, float64; this one"):
        write_idx(tmp_path / "a.idx", np.zeros(3, dtype))
    assert list(tmp_path.iterdir()) == []
