"""Which tiles of a matrix product this processor's registers hold."""

from __future__ import annotations

from funcgrad.backends.llvm.runtime import engine
from funcgrad.records import NamedTuple


class Shape(NamedTuple):
    """A tile has `rows` of `across` vectors, which leave registers for what is read.

    Attributes:
        group: so many rows of a are reached from one pointer.
        low: the rows of a tile below the last whole one.
    """

    rows: int
    across: int
    group: int
    low: int


# By the bytes of a vector.
SHAPES = {64: Shape(16, 1, 4, 4), 32: Shape(6, 2, 3, 2)}
BYTES = {"float": 4, "double": 8}


def symbol(part: str, ty: str) -> str:
    return f"fg_{part}_{ty}"


def available() -> bool:
    return engine.vector_bytes() in SHAPES


def shape() -> Shape:
    return SHAPES[engine.vector_bytes()]


def width(ty: str) -> int:
    """The columns of a tile."""
    return shape().across * lanes(ty)


def lanes(ty: str) -> int:
    return engine.vector_bytes() // BYTES[ty]
