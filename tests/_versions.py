"""What NumPy's versions differ in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

T = TypeVar("T")


def since(version: str, cases: dict[str, T]) -> dict[str, T]:
    """Cases of what NumPy has done since this version; none where it is older."""
    return cases if np.lib.NumpyVersion(np.__version__) >= version else {}
