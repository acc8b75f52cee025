"""NumPy's namespace over funcgrad's primitives: `import funcgrad.numpy as fnp`.

Plain `np.` functions work on tracers wherever NumPy dispatches; this namespace has the same
names for the calls that cannot dispatch, such as `fnp.array([t, u])`.
"""

from __future__ import annotations

from funcgrad.numpy import indexing, protocol, ufuncs
from funcgrad.numpy.contraction import (
    dot,
    inner,
    matvec,
    multi_dot,
    outer,
    tensordot,
    vdot,
    vecdot,
    vecmat,
)
from funcgrad.numpy.einstein import einsum
from funcgrad.numpy.reductions import sum
from funcgrad.numpy.structure import reshape

protocol.attach_methods({"sum": sum}, {})

__all__ = [
    "dot",
    "einsum",
    "indexing",
    "inner",
    "matvec",
    "multi_dot",
    "outer",
    "protocol",
    "reshape",
    "sum",
    "tensordot",
    "ufuncs",
    "vdot",
    "vecdot",
    "vecmat",
]
