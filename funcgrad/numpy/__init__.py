"""NumPy's namespace over funcgrad's primitives: `import funcgrad.numpy as fnp`.

Plain `np.` functions work on tracers wherever NumPy dispatches; this namespace has the same
names for the calls that cannot dispatch, such as `fnp.array([t, u])`. Each takes arrays,
tracers, numbers and nested lists of them, and is NumPy's own where no tracer is involved.

For some values NumPy raises. Under `jit` and `vmap` none is known when the function is recorded:
there a quantile that is out of range is NaN, an average whose weights sum to zero what the
division gives, and the bins of `digitize` between edges that neither rise nor fall are undefined.

>>> import numpy as np, funcgrad as fg, funcgrad.numpy as fnp
>>> fg.grad(lambda x: fnp.sum([x, x**2]))(3.0)
np.float64(7.0)
>>> fnp.array([1.0, 2.0])
array([1., 2.])
"""

from __future__ import annotations

from typing import Any

from funcgrad.numpy import (
    contraction,
    creation,
    einstein,
    elementary,
    indexing,
    interpolation,
    joining,
    norms,
    quantiles,
    reductions,
    selection,
    sorting,
    structure,
    ufuncs,
    updates,
    windows,
)
from funcgrad.numpy.methods import install_methods
from funcgrad.numpy.namespace import public_names, resolve


def __getattr__(name: str) -> Any:
    value = globals()[name] = resolve(name)
    return value


def __dir__() -> list[str]:
    return public_names()


install_methods()
