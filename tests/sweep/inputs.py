"""Odd inputs: every dtype, extremes, emptiness, unusual layouts, numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FLOATS = ("f2", "f4", "f8")
COMPLEX = ("c8", "c16")
SIGNED = ("i1", "i2", "i4", "i8")
UNSIGNED = ("u1", "u2", "u4", "u8")
INTEGERS = SIGNED + UNSIGNED
DTYPES = ("b1", *INTEGERS, *FLOATS, *COMPLEX)
WITH_NUMBERS = ("b1", "i1", "u1", "i8", "u8", "f2", "f4", "c16")
# One of each kind, for what is swept over much else.
FEW = ("b1", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "c16")


class Operand(NamedTuple):
    """What a function is called with.

    Attributes:
        text: how reports write it.
        value: an array, a number, or a list or tuple of them.
        traced: whether it is an input of the traced function, or a constant in it.
    """

    text: str
    value: Any
    traced: bool = True


def constant(value: Any, text: str | None = None) -> Operand:
    return Operand(repr(value) if text is None else text, value, False)


def _short(dtype: Any) -> str:
    dtype = np.dtype(dtype)
    return {"b": "bool"}.get(dtype.kind, f"{dtype.kind}{8 * dtype.itemsize}")


def _written(array: Any, note: str = "") -> str:
    lengths = ",".join(map(str, array.shape))
    return f"{_short(array.dtype)}[{lengths}]{note and ' ' + note}"


# --- elements -------------------------------------------------------------------------


def _tame_elements(dtype: np.dtype) -> list[Any]:
    if dtype.kind == "b":
        return [True, False, True, True, False]
    if dtype.kind == "u":
        return [1, 4, 2, 7, 3, 2, 5]
    if dtype.kind == "i":
        return [1, -4, 2, 7, -3, 2, 5]
    if dtype.kind == "f":
        return [1.5, -0.25, 2.0, 0.75, -3.5, 2.0, 0.5]
    return [1.5 + 1j, -0.25 + 0.5j, 2.0, 0.75 - 2j, -3.5j, 2.0, 0.5 + 0.25j]


def _odd_elements(dtype: np.dtype) -> list[Any]:
    """Extremes, zeros of both signs, halves and infinities, but no NaN, which hides the rest."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
        around = [high, low, 0, high - 1, low + 1, 1, high // 2, high // 2 + 1, 2, 63]
        return around + ([-1, -2] if dtype.kind == "i" else [3, 10])
    limits = np.finfo(dtype)
    big, small = float(limits.max), float(limits.tiny)
    inf = float("inf")
    real = [0.0, -0.0, inf, -inf, 0.5, -0.5, 1.5, 2.5, big, -small, 1.0, -1.0]
    if dtype.kind == "f":
        return real
    turned = real[3:] + real[:3]
    return [complex(a, b) for a, b in zip(real, turned, strict=True)] + [complex(0.0, 1.0)]


def _nan_elements(dtype: np.dtype) -> list[Any]:
    nan, inf = float("nan"), float("inf")
    if dtype.kind == "f":
        return [1.0, nan, -2.0, inf, nan, 0.0, 3.0]
    return [1 + 1j, complex(nan, 0), complex(0, nan), complex(inf, nan), 2 - 1j, complex(-inf, 1)]


_ELEMENTS = {"": _tame_elements, "odd": _odd_elements, "nan": _nan_elements}


def filled(dtype: Any, shape: tuple[int, ...], flavour: str = "") -> np.ndarray:
    """An array of the flavour's elements, over and over."""
    dtype = np.dtype(dtype)
    with np.errstate(all="ignore"):
        elements = np.array(_ELEMENTS[flavour](dtype), dtype)
    return np.resize(elements, shape) if np.prod(shape) else np.zeros(shape, dtype)


def of(dtype: Any, shape: tuple[int, ...] = (2, 3), flavour: str = "", traced: bool = True) -> Any:
    array = filled(dtype, shape, flavour)
    return Operand(_written(array, flavour), array, traced)


def array(value: Any, dtype: Any = None, traced: bool = True) -> Operand:
    """An operand of these very elements."""
    made = np.array(value, dtype)
    return Operand(f"{_short(made.dtype)} {made.tolist()}", made, traced)


# --- layouts and numbers --------------------------------------------------------------


def layouts(dtype: Any = "f8", shape: tuple[int, ...] = (3, 4)) -> list[Operand]:
    plain = filled(dtype, shape)
    frozen = plain.copy()
    frozen.flags.writeable = False
    swapped = plain.astype(plain.dtype.newbyteorder())
    made = {
        "Fortran": np.asfortranarray(plain),
        "backwards": plain[..., ::-1],
        "every other": np.repeat(plain, 2, -1)[..., ::2],
        "read-only": frozen,
        "swapped bytes": swapped,
    }
    return [Operand(_written(a, note), a) for note, a in made.items()]


NUMBERS = [
    Operand(f"{type(x).__name__}({x!r})" if isinstance(x, (int, float, complex)) else repr(x), x)
    for x in (3, -1, 2.5, True, 1 + 2j, float("inf"), float("nan"), -0.0)
] + [
    Operand(repr(x), x)
    for x in (
        np.float32(1.5),
        np.float16(2.5),
        np.int8(-3),
        np.uint8(200),
        np.bool_(True),
        np.complex64(1 - 2j),
    )
]

SHAPES = ((), (0,), (1,), (5,), (3, 1), (0, 3), (2, 0), (2, 3, 2), (4, 4))


def every_dtype(shape: tuple[int, ...] = (2, 3), flavour: str = "") -> list[Operand]:
    return [of(d, shape, flavour) for d in DTYPES if flavour != "nan" or np.dtype(d).kind in "fc"]


def zoo(shapes: tuple[Any, ...] = SHAPES) -> list[Operand]:
    """For functions of one array."""
    return [
        *every_dtype(),
        *every_dtype((3, 4), "odd"),
        *every_dtype((2, 3), "nan"),
        *(of(d, s) for d in ("f8", "u1") for s in shapes),
        *(of(d, (8,), "odd") for d in ("f4", "i1")),
        *layouts(),
        *layouts("i2"),
        *NUMBERS,
    ]


def few(shape: tuple[int, ...] = (2, 3)) -> list[Operand]:
    """For options: one array of each kind, some odd ones, some empty."""
    return [
        *(of(d, shape) for d in FEW),
        *(of(d, shape, "odd") for d in ("b1", "i1", "u1", "u8", "f2", "f4", "f8", "c16")),
        *(of(d, shape, "nan") for d in ("f4", "f8", "c16")),
        of("f8", (0, 3)),
        of("f8", (2, 3, 2)),
        of("f8", (4,)),
        of("f8", ()),
    ]


def pairs(dtypes: tuple[str, ...] = DTYPES) -> list[tuple[Operand, ...]]:
    """For functions of two arrays: all pairs of dtypes, shapes that broadcast, numbers."""
    f8, odd = of("f8"), "odd"
    return [
        *((of(a), of(b, (2, 3))) for a in dtypes for b in dtypes),
        *((of(a, (12, 1), odd), of(b, (12,), odd)) for a in FEW for b in FEW),
        *((of(a, (12, 1), odd), of(a, (12,), odd)) for a in dtypes),
        *((of(a, (7, 1), "nan"), of(a, (7,), "nan")) for a in FLOATS + COMPLEX),
        *((of("f8", s), of("f8", t)) for s, t in BROADCASTS),
        *((x, of(d, (12,), odd)) for d in WITH_NUMBERS for x in NUMBERS),
        *((of(d, (12,), odd), x) for d in WITH_NUMBERS for x in NUMBERS),
        *((of(d, (12,), odd), x._replace(traced=False)) for d in WITH_NUMBERS for x in BEYOND),
        *((x._replace(traced=False), of(d, (12,), odd)) for d in WITH_NUMBERS for x in BEYOND),
        *((x, y) for x in NUMBERS[::2] for y in NUMBERS),
        *((x, f8) for x in layouts("f8", (2, 3)) + layouts("f4", (2, 3))),
    ]


# Python numbers that the function holds, also integers that do not fit in narrow dtypes.
BEYOND = [Operand(f"int({n})", n) for n in (-129, 128, 300, 2**31, 2**63 - 1, -(2**63), 0, 2)]
BEYOND += [Operand("2.5", 2.5), Operand("True", True), Operand("1j", 1j), Operand("inf", np.inf)]
BROADCASTS = (
    ((), (2, 3)),
    ((0,), (1,)),
    ((0, 3), (3,)),
    ((2, 0), (2, 1)),
    ((3, 1), (1, 4)),
    ((2, 3, 2), (3, 1)),
    ((2, 3), (2,)),
    ((), ()),
    ((1,), ()),
)
