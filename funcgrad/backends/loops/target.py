"""What a backend can do, and from where on it pays: all that partition and plan ask it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from funcgrad.backends.loops.limits import Limits
from funcgrad.backends.loops.plan import ProductPlan
from funcgrad.backends.loops.views import View
from funcgrad.core.graph import Eqn


@dataclass(frozen=True, kw_only=True)
class Target:
    """A backend as partition and plan see it.

    Attributes:
        name: the backend's.
        dtypes: those that its code computes with; others are left to NumPy.
        limits: where one way of computing something becomes better than another.
        can_loop: whether an equation can be written inside a loop nest.
        can_be_small: whether an equation on small arrays can be computed in registers.
        can_multiply: whether it has products of such operands, an equation's last two.
        product: how it computes the product of two stacks of matrices, times a scale, and
            whether something is added: `product(x, y, dtype, scale, adds)`.
    """

    name: str
    dtypes: Collection[np.dtype]
    limits: Limits
    can_loop: Callable[[Eqn], bool]
    can_be_small: Callable[[Eqn], bool]
    can_multiply: Callable[[Eqn], bool]
    product: Callable[[View, View, np.dtype, float, bool], ProductPlan]
