"""Functions that SciPy has and NumPy lacks: `funcgrad.scipy.special`."""

from __future__ import annotations

from funcgrad.scipy import special

__all__ = ["special"]
