"""Compiled programs touch no memory outside of their arrays.

`python tests/_guarded_kernels.py` does the same for many more sizes.
"""

from __future__ import annotations

import os

import pytest

from _processes import run_python

pytest.importorskip("llvmlite")

TESTS = os.path.dirname(__file__)
RUN = """
import sys
sys.path.insert(0, {tests!r})
import _guarded_kernels
print(_guarded_kernels.run([{size}], {at_end}, ["float32"], ["{other}"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@pytest.mark.parametrize(
    ("size", "at_end", "other"),
    [
        (65, True, "float64"),
        (6, True, "bool"),
        (33, False, "bool"),
        (257, True, "int32"),
        (225, False, "int32"),
    ],
)
def test_no_access_goes_astray(size: int, at_end: bool, other: str) -> None:
    text = RUN.format(tests=TESTS, size=size, at_end=at_end, other=other)
    # Programs from the disk cache would not be those that work in guarded memory.
    assert int(run_python(text, FUNCGRAD_CACHE_DIR="off")) > 30
