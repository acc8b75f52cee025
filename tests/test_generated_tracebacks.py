"""Tracebacks through compiled programs show the generated lines, and nothing is left behind."""

from __future__ import annotations

import gc
import linecache
import traceback

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.registry import BACKENDS


def _program():
    return BACKENDS.named("numpy").compile(fg.make_graph(lambda x: np.exp(x) @ x)(np.ones(3)))


def test_a_traceback_shows_the_generated_line():
    with pytest.raises(ValueError, match="shapes") as caught:
        _program()(np.ones((2, 3)))
    assert ".dot(" in (traceback.extract_tb(caught.value.__traceback__)[-1].line or "")


def test_compiling_leaves_nothing_in_linecache():
    before = set(linecache.cache)
    program = _program()
    assert program(np.ones(3))[0] == pytest.approx(3 * np.e)
    del program
    gc.collect()
    assert set(linecache.cache) <= before
