"""Ufuncs, their methods, operators, and what else works element by element."""

from __future__ import annotations

import operator

import numpy as np

from funcgrad.numpy.ufuncs import UFUNCS
from sweep.cases import each, entry, many, one, product
from sweep.inputs import (
    COMPLEX,
    DTYPES,
    FEW,
    FLOATS,
    INTEGERS,
    NUMBERS,
    array,
    constant,
    every_dtype,
    few,
    layouts,
    of,
    pairs,
    zoo,
)

_MATRICES = {"matmul", "vecdot", "matvec", "vecmat"}
# Whose results NumPy computes by other formulas, or to fewer digits, than the library.
_SCALE = {"float_power": 16, "power": 16, "logaddexp": 16, "logaddexp2": 16, "tan": 4}

PAIRS = pairs()
# Functions that stand for the others see all of them.
_WHOLE = """
    add multiply divide power floor_divide remainder less equal maximum left_shift bitwise_and
""".split()
# For functions of two arrays that are compositions of what is swept over all pairs.
FEW_PAIRS = pairs(FEW)[::3]


def _name(ufunc: np.ufunc) -> str:
    return ufunc.__name__


UNARY = [u for u in UFUNCS if u.nin == 1]
BINARY = [u for u in UFUNCS if u.nin == 2 and _name(u) not in _MATRICES]

for _ufunc in UNARY:
    _scale = _SCALE.get(_name(_ufunc), 4)
    entry(_name(_ufunc), one(zoo(), scale=_scale))
    entry(
        _name(_ufunc),
        one(few()[::3], *each(dtype=["f4", "f8", "i8", "c16", bool]), scale=_scale, every=2),
        one(few()[::3], {"casting": "no"}),
    )
for _ufunc in BINARY:
    _scale = _SCALE.get(_name(_ufunc), 4)
    entry(_name(_ufunc), many(PAIRS, scale=_scale, every=1 if _name(_ufunc) in _WHOLE else 4))
    entry(
        _name(_ufunc),
        many(
            FEW_PAIRS[::7],
            *each(dtype=["f4", "f8", "i8", "u1", "c16", bool], casting=["no", "same_kind"]),
            scale=_scale,
            every=4,
        ),
    )
    entry(
        f"{_name(_ufunc)}.outer",
        many(FEW_PAIRS[::5], scale=_scale, every=4),
    )
entry("ldexp", many([(of(f), of(i, (2, 3))) for f in FLOATS for i in INTEGERS]))

# Names that NumPy has more than once.
for _alias in """
    abs acos acosh asin asinh atan atan2 atanh bitwise_invert bitwise_left_shift bitwise_not
    bitwise_right_shift conj mod pow true_divide
""".split():
    if hasattr(np, _alias):
        _pairwise = getattr(np, _alias).nin == 2
        entry(_alias, many(FEW_PAIRS[::5]) if _pairwise else one(few()))

# --- reductions by ufuncs -------------------------------------------------------------

_REDUCED = zoo()
_ORDERS = product(axis=[0, None, -1, (0, 1), ()], keepdims=[..., True])
for _ufunc in "add multiply maximum minimum fmax fmin logical_and logical_or logaddexp".split():
    entry(
        f"{_ufunc}.reduce",
        one(_REDUCED, scale=8, every=2),
        one(few()[::2], *_ORDERS, scale=8, every=3),
        one(few(), *each(dtype=["f4", "i1", "u1", "c8", bool], initial=[3, 2.5]), scale=8, every=3),
        one(few()[::2], {"where": np.array([True, False, True]), "initial": 1}, scale=8),
    )
for _ufunc in "add multiply maximum minimum logaddexp".split():
    entry(
        f"{_ufunc}.accumulate",
        one(_REDUCED, scale=8),
        one(
            few(),
            *each(axis=[0, -1, 1, None], dtype=["f4", "i1", "u1", "c8", bool]),
            scale=8,
            every=3,
        ),
    )

# --- operators ------------------------------------------------------------------------

_OPERATORS = "add sub mul truediv floordiv mod pow and_ or_ xor lshift rshift".split()
_COMPARED = "eq ne lt le gt ge".split()
for _op in [*_OPERATORS, *_COMPARED]:
    _function = getattr(operator, _op)
    entry(f"operator.{_op}", many(PAIRS, scale=16, every=4), ours=_function, numpys=_function)
entry("operator.divmod", many(FEW_PAIRS, scale=4), ours=divmod, numpys=divmod)
for _op in "neg pos abs invert".split():
    _function = getattr(operator, _op)
    entry(f"operator.{_op}", one(zoo()), ours=_function, numpys=_function)
for _op in "iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift".split():
    _function = getattr(operator, _op)
    entry(f"operator.{_op}", many(FEW_PAIRS, scale=16, every=2), ours=_function, numpys=_function)
for _convert in (bool, int, float, complex, round):
    entry(
        f"operator.{_convert.__name__}",
        one([*NUMBERS, *(of(d, s) for d in FEW for s in ((), (1,), (2,), (0,)))], modes="eager"),
        ours=_convert,
        numpys=_convert,
    )
for _op in ("len", "iter"):
    _function = len if _op == "len" else lambda x: list(x)
    entry(
        f"operator.{_op}",
        one([of("f8", s) for s in ((), (0,), (3,), (2, 3), (0, 2))]),
        ours=_function,
        numpys=_function,
    )

# --- choices --------------------------------------------------------------------------

_MASK = of("b1", (2, 3))
entry(
    "where",
    many([(_MASK, *p) for p in [(of(a), of(b)) for a in DTYPES for b in DTYPES]]),
    many([(c, of("f8"), of("f4")) for c in every_dtype() + every_dtype((2, 3), "nan")]),
    many([(_MASK, of("u1"), x) for x in NUMBERS] + [(_MASK, x, of("f4")) for x in NUMBERS]),
    many(
        [(_MASK, of(d, (2, 3)), constant(n)) for d in FEW for n in (-1, 300, 2.5, True, 1j)]
        + [(_MASK, constant(n), constant(m)) for n in (1, 2.5, True) for m in (-1, 2.0, 1j)]
    ),
    many([(of("b1", s), of("f8", t), of("f8", ())) for s in ((), (0,), (3,)) for t in ((), (1,))]),
    one(few(), modes="plain eager"),
)
_NUMBERS_FOR = (-1, 2, 300, 2.5, True, np.inf, np.float32(1), np.int8(3), 2**63)
_BOUNDS = [(constant(n), constant(m)) for n in (None, -1, 0, 1.5) for m in (None, 2, 300, 2.5)]
entry(
    "clip",
    many([(x, *b) for x in few() for b in _BOUNDS], every=2),
    many([(x, constant(1), constant(2)) for x in zoo()]),
    many(
        [
            (of(d, (12,), "odd"), constant(n), constant(m))
            for d in DTYPES
            for n in (-1, 0, 1)
            for m in (1, 100, 256, -3, 70000)
        ]
    ),
    many([(of(a), of(b), of(c)) for a in FEW for b in FEW for c in ("f4", "i4")]),
    many([(of("f8"), of("f8", (3,)), of("f8", (2, 1))), (of("f8", ()), of("f8", (2,)), of("i8"))]),
    one(few(), *each(min=[0, None], max=[1, 300])),
    one(few()),
)
entry(
    "select",
    many(
        [([_MASK, array([True, False, True])], [of(a), of(b)]) for a in FEW for b in FEW]
        and [
            (
                constant([_MASK.value, np.array([True, False, True])], "masks"),
                of(a)._replace(text=f"[{a}, {b}]", value=[of(a).value, of(b).value]),
            )
            for a in FEW
            for b in FEW
        ],
        {},
        {"default": 7},
        {"default": -1.5},
    ),
    many(
        [
            (
                of("b1")._replace(text="traced masks", value=[_MASK.value, ~_MASK.value]),
                of("f8")._replace(text="[f8, i4]", value=[of("f8").value, of("i4").value]),
            ),
            (
                constant([np.array([1, 0])], "int masks"),
                of("f8")._replace(text="[f8]", value=[of("f8", (2,)).value]),
            ),
            (constant([], "none"), of("f8")._replace(text="[]", value=[])),
            (
                constant([_MASK.value], "one mask"),
                of("f8")._replace(text="two", value=[of("f8").value, of("i4").value]),
            ),
        ]
    ),
)
entry(
    "nan_to_num",
    one(zoo()),
    one(few(), *each(nan=[7.0, 1], posinf=[5.0, 300], neginf=[-5.0], copy=[True])),
)

# --- rounding and parts ---------------------------------------------------------------

entry(
    "round around",
    one(zoo()),
    one(every_dtype((12,), "odd"), *each(decimals=[1, 2, -1, -2, 0, 20, -20]), scale=4),
    one(every_dtype() + few(), *each(decimals=[1, -1]), scale=4),
)
entry("fix real imag iscomplex isreal isposinf isneginf iscomplexobj isrealobj sinc", one(zoo()))
entry("angle", one(zoo(), scale=4), one(few(), {"deg": True}, scale=4))
entry(
    "real_if_close",
    one(zoo(), modes="plain eager"),
    one(
        [array([1 + 1e-15j, 2]), array([1 + 1e-3j]), array([1 + 1e-6j], "c8")],
        *each(tol=[100, 1e-2, 1000]),
        modes="plain eager",
    ),
)
entry("copy", one(zoo()), one(layouts(), *each(order=["C", "F", "A", "K"])))
if hasattr(np, "astype"):
    entry(
        "astype",
        many(
            [(x, constant(np.dtype(d), d)) for x in every_dtype((12,), "odd") for d in DTYPES]
            + [(x, constant(np.dtype(d), d)) for x in every_dtype() for d in DTYPES]
            + [(x, constant(np.dtype(d), d)) for x in few() for d in ("f4", "i4", "c16")]
            + [(x, constant(np.dtype(d), d)) for x in every_dtype((6,), "nan") for d in FLOATS]
        ),
    )

# --- equality -------------------------------------------------------------------------

_NEAR = [
    (
        array([1.0, 1.0 + 1e-9, np.nan, np.inf, -np.inf, 0.0], d),
        array([1.0, 1.0, np.nan, np.inf, np.inf, 1e-9], d),
    )
    for d in FLOATS + COMPLEX
]
entry(
    "isclose allclose",
    many(FEW_PAIRS + _NEAR),
    many(_NEAR + FEW_PAIRS[::9], *each(rtol=[0.0, 1e-3, 1], atol=[0.0, 1e-3], equal_nan=[True])),
    many([(of(d, (12,), "odd"), of(d, (12,), "odd")) for d in DTYPES], {}, {"atol": 3}),
)
entry("array_equal", many(FEW_PAIRS + _NEAR), many(_NEAR + FEW_PAIRS[::9], {"equal_nan": True}))
entry("array_equiv", many(FEW_PAIRS + _NEAR))

# --- differences ----------------------------------------------------------------------

entry(
    "diff",
    one(zoo()),
    one(few(), *product(n=[..., 0, 2, 4], axis=[..., 0])),
    one(few(), *each(prepend=[0, 1.5, np.ones((2, 1))], append=[0, 300, np.ones((2, 1), "i4")])),
)
entry("ediff1d", one(zoo()), one(few(), *each(to_end=[1, [1, 2]], to_begin=[1.5, [3]])))
entry(
    "trapezoid",
    one(zoo(), scale=4),
    one(few(), *each(axis=[0, -1], dx=[2, 0.5]), scale=4),
    one(few((2, 4)), {"x": np.array([0.0, 1, 3, 4])}, {"x": np.array([1, 2, 4, 7], "u1")}, scale=4),
    one(few((3, 4)), {"x": np.array([0, 1, 5]), "axis": 0}, scale=4),
)
_VECTORS = [(of(a, (2, 3)), of(b, (3,))) for a in FEW for b in FEW]
entry(
    "cross linalg.cross",
    many(_VECTORS, scale=4),
    many([(of("f8", (3, 2)), of("f8", (3, 2))), (of("u1", (3, 4)), of("u1", (3, 4)))], {"axis": 0}),
    many(
        [
            (of("f8", (2,)), of("f8", (2,))),
            (of("f8", (0, 3)), of("f8", (3,))),
            (of("f8", (2, 4)), of("f8", (4,))),
            (of("f8", ()), of("f8", (3,))),
        ]
    ),
)
entry(
    "kron",
    many(FEW_PAIRS[::2]),
    many(
        [(of("f8", s), of("i4", t)) for s in ((2,), (2, 1), (2, 3, 2)) for t in ((), (2, 2), (0,))]
    ),
)
_GRIDS = [array([1, 2, 3, 4], d) for d in ("f8", "f4", "f2", "i8", "u1")]
_AT = [of(d, (12,), "odd") for d in ("f8", "f4", "i1", "u1", "b1")] + [of("f8"), of("f8", ())]
_VALUES = [
    array([1.0, 2.0, 4.0, 8.0]),
    array([3, 2, 1, 0], "u1"),
    array([1, -np.inf, np.inf, 2]),
    array([1, np.nan, 2, 3], "f4"),
    array([1j, 2, 3, 4]),
    array([5, 6, 7, 8], "i8"),
]
entry(
    "interp",
    many([(x, g, v) for x in _AT for g in _GRIDS for v in _VALUES], scale=16),
    many(
        [(x, _GRIDS[0], v) for x in _AT[:3] for v in _VALUES],
        *each(left=[7.0, -1], right=[0.5], period=[3.0, 2]),
        scale=16,
    ),
    many([(of("f8"), array([1.0]), array([5.0])), (of("f8"), of("f8", (0,)), of("f8", (0,)))]),
    many([(of("f8", (7,), "nan"), _GRIDS[0], v) for v in _VALUES]),
    many([(array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0]), array([1.0, 2, 2, 3]), v) for v in _VALUES]),
)
entry(
    "polyval",
    many([(of(a, (3,)), of(b, s)) for a in FEW for b in FEW for s in ((), (2, 3))], scale=8),
    many([(of("f8", (0,)), of("f8")), (of("f8", ()), of("f8")), (of("f8", (2, 3)), of("f8", ()))]),
    many([(of("i8", (3,)), x) for x in NUMBERS]),
)
