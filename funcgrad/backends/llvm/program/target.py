"""The processor as a target of plans."""

from __future__ import annotations

from math import prod

from funcgrad.backends.llvm.ir.types import SUPPORTED
from funcgrad.backends.llvm.kernels.limits import LIMITS
from funcgrad.backends.llvm.kernels.registers import can_be_small, is_elementwise
from funcgrad.backends.llvm.products import convolution
from funcgrad.backends.llvm.products import gemm as products
from funcgrad.backends.loops.fusion.scatter import into_zeros
from funcgrad.backends.loops.fusion.target import Target
from funcgrad.backends.loops.nests.iota import one_hot_rows
from funcgrad.core.graph import Eqn


def can_loop(eqn: Eqn) -> bool:
    """Whether an equation can be written inside a loop nest."""
    prim = eqn.prim
    if any(a.aval.dtype not in SUPPORTED for a in (*eqn.ins, *eqn.outs)):
        return False
    if prim.reduces or prim.gathers:
        return True
    if prim.scatters and into_zeros(eqn):
        return prod(eqn.params["shape"]) > LIMITS.small and one_hot_rows(eqn) is not None
    return is_elementwise(eqn)


TARGET = Target(
    name="llvm",
    dtypes=frozenset(SUPPORTED),
    limits=LIMITS,
    can_loop=can_loop,
    can_be_small=can_be_small,
    can_multiply=products.can_multiply,
    product=products.product,
    panel=products.panel,
    convolution=convolution.convolution,
)
