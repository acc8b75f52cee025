"""What a backend can do, and from where on it pays: all that partition and plan ask it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Protocol

import numpy as np

from funcgrad.backends.loops.nests.limits import Limits
from funcgrad.backends.loops.nests.views import View
from funcgrad.core.graph import Eqn
from funcgrad.records import NamedTuple


class RowPieces(NamedTuple):
    """The result's rows of which a piece of a product consists: so many in all, and in a piece."""

    count: int
    chunk: int


class ProductPlan(Protocol):
    """How a target computes a matrix product, as it decided itself.

    Attributes:
        rows: the pieces, where they are whole rows that a kernel may follow at once.
        adds_in_place: what is added to lies where the result does, before the product runs.
        products: of how many it consists.
        work: multiplications.
        operator: what stands between the operands where the plan is printed.
    """

    @property
    def rows(self) -> RowPieces | None: ...

    @property
    def adds_in_place(self) -> bool: ...

    @property
    def products(self) -> int: ...

    @property
    def work(self) -> int: ...

    @property
    def operator(self) -> str: ...


class ConvolutionPlan(ProductPlan, Protocol):
    """How a target computes a convolution.

    Attributes:
        shape: of what it makes.
        tiled: whether it takes, or makes, the kernel in Winograd's domain.
        in_front: whether channels lie in front, as they were given.
        room: the bytes that it needs in between.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def tiled(self) -> bool: ...

    @property
    def in_front(self) -> bool: ...

    @property
    def room(self) -> int: ...


class ConvolutionForm(NamedTuple):
    """A convolution in two dimensions, of one group.

    Attributes:
        x, made: the shapes of inputs and results, with channels behind.
        in_front: whether channels are given in front.
        by_kernel: whether its derivative by the kernel is wanted.
    """

    x: tuple[int, ...]
    made: tuple[int, ...]
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    in_front: bool
    by_kernel: bool = False

    @property
    def work(self) -> int:
        """Multiplications."""
        return prod(self.made) * prod(self.window) * self.x[-1]


class Target(NamedTuple):
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
        panel: how many columns its own code takes at a time of products of a matrix of so many
            rows and columns, `panel(dtype, rows, inner)`; 0 where it leaves such to a library.
        convolution: how it computes a convolution; None for one that is left to products.
    """

    name: str
    dtypes: frozenset[np.dtype]
    limits: Limits
    can_loop: Callable[[Eqn], bool]
    can_be_small: Callable[[Eqn], bool]
    can_multiply: Callable[[Eqn], bool]
    product: Callable[[View, View, np.dtype, float, bool], ProductPlan]
    panel: Callable[[np.dtype, int, int], int]
    convolution: Callable[[ConvolutionForm, np.dtype], ConvolutionPlan | None]
