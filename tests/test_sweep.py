"""A small sample of the sweep over odd inputs; `make sweep` runs it whole."""

from __future__ import annotations

import pytest

from conftest import HAS_LLVM
from sweep.cases import sample
from sweep.known import explain
from sweep.modes import MODES, differences
from sweep.table import TABLE, cases_of, public_names

# One case in so many. Machine code takes ten times as long to make as all else.
_EVERY = {"plain": 60, "eager": 30, "vmap": 90, "numpy": 90, "llvm": 900}


def test_every_function_is_swept():
    """A new function needs an entry in one of the tables in tests/sweep."""
    assert not public_names() - set(TABLE)


@pytest.mark.parametrize("mode", MODES)
def test_sample(mode):
    if mode == "llvm" and not HAS_LLVM:
        pytest.skip("llvmlite is not installed")
    cases = [c for name in sorted(TABLE) for c in cases_of(name)]
    unexplained = [
        f"{case.text}\n    {found}"
        for case, found in differences(sample(cases, _EVERY[mode]), mode)
        if found is not None and explain(case, mode, found) is None
    ]
    assert not unexplained, "\n".join([f"{len(unexplained)} in mode {mode}:", *unexplained[:20]])
