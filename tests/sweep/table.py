"""The table: for each function, what it is called with."""

from __future__ import annotations

import funcgrad.numpy as fnp
from funcgrad.core.tracer import Tracer
from funcgrad.numpy.namespace import _PLAIN
from funcgrad.numpy.protocol import UFUNC_METHODS
from funcgrad.scipy import special
from sweep import (  # noqa: F401  (each fills in its part)
    table_elementwise,
    table_products,
    table_reductions,
    table_selection,
    table_special,
    table_structure,
)
from sweep.cases import TABLE, Case, cases_of

# What a tracer has besides an array's methods and operators.
_OWN = {"at", "aval", "device", "inexact", "rec", "value"}


def public_names() -> set[str]:
    """Every function that takes tracers, and so must be in the table."""
    names = set(dir(fnp)) - set(_PLAIN) - {"linalg"}
    names |= {f"linalg.{name}" for name in dir(fnp.linalg)}
    names |= {f"{ufunc.__name__}.{method}" for ufunc, method in UFUNC_METHODS}
    names |= {f"special.{name}" for name in special.__all__}
    methods = set(dir(Tracer)) - set(dir(object)) - _OWN
    return names | {f"ndarray.{name}" for name in methods if not name.startswith("_")}


__all__ = ["TABLE", "Case", "cases_of", "public_names"]
