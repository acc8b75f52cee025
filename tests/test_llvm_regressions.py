"""Programs that native code once got wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import funcgrad as fg

pytest.importorskip("llvmlite")

jit = partial(fg.jit, backend="llvm")


def test_values_of_unknown_dtypes_are_not_computed_again_in_kernels() -> None:
    x = np.linspace(0.0, 1.0, 63).reshape(7, 9).astype(np.float16)
    found = jit(np.mean)(x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.mean(x))


def test_parts_of_pythons_complex_numbers() -> None:
    def parts(z: Any) -> Any:
        return z.astype(np.float32), np.real(z), np.imag(z), np.conj(z)

    found = jit(parts)(1 + 2j)
    np.testing.assert_array_equal(found, [1, 1, 2, 1 - 2j])
    assert found[0].dtype == np.float32
