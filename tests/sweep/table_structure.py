"""Shapes, joining, splitting, repeating, creation, choosing, indexing and updating."""

from __future__ import annotations

import numpy as np

from sweep.cases import each, entry, many, one, product
from sweep.inputs import (
    DTYPES,
    FEW,
    NUMBERS,
    Operand,
    array,
    constant,
    every_dtype,
    few,
    layouts,
    of,
    zoo,
)

CUBE = [of("f8", (2, 3, 4)), of("u1", (2, 3, 4)), of("f8", (2, 0, 3)), of("f8", ()), of("c16")]
LAID = (
    layouts()
    + layouts("u1")
    + [Operand("f64[2,3,4] permuted", np.arange(24.0).reshape(4, 2, 3).transpose(1, 2, 0))]
)


def together(*operands: Operand) -> Operand:
    """One operand that is a list of several."""
    return Operand(f"[{', '.join(o.text for o in operands)}]", [o.value for o in operands])


# --- shape ----------------------------------------------------------------------------

_ORDERS = ["C", "F", "A", "K", "X"]
entry(
    "reshape",
    many([(x, constant(s)) for x in zoo() for s in (-1, (3, -1), (1, -1, 1))]),
    many(
        [(x, constant(s)) for x in CUBE + LAID for s in (-1, (4, -1), (2, 2, -1), (0, -1), ())],
        *each(order=_ORDERS),
    ),
    many(
        [
            (of("f8"), constant(s))
            for s in (
                6,
                (6,),
                [2, 3],
                (-1, -1),
                (4, -1),
                (7,),
                -2,
                (2.0, 3),
                np.array([3, 2]),
                np.int8(6),
                (-1, 0),
                (3, np.int64(2)),
            )
        ]
    ),
)
entry("ravel", one(zoo()), one(CUBE + LAID, *each(order=_ORDERS)))
entry(
    "squeeze",
    one(zoo()),
    one(
        [of("f8", s) for s in ((1, 3, 1), (1,), (1, 1), (1, 0), ())],
        *each(axis=[0, -1, (0, 2), (0, 0), 1, 5, (), None]),
    ),
)
entry(
    "expand_dims",
    one(zoo(), {"axis": 0}),
    one(CUBE, *each(axis=[0, -1, (0, 2), (0, 0), 5, (), [0, 1], (0, -1), 1.0])),
)
entry(
    "atleast_1d atleast_2d atleast_3d",
    one(zoo()),
    many([(of("f8"), of("i4", ())), (of("f8", ()), of("f8", (3,)), of("f8", (0,))), ()]),
)
entry(
    "transpose",
    one(zoo()),
    one(CUBE, *each(axes=[(0, 1, 2), (2, 0, 1), (-1, 0, 1), (0, 0, 1), (1, 0), [1, 0], (), 0])),
)
entry("permute_dims", one(CUBE, *each(axes=[(2, 0, 1), (1, 0), None])))
entry(
    "swapaxes",
    many(
        [
            (x, constant(i), constant(j))
            for x in [*CUBE, *few()[::3]]
            for i in (0, -1, 3)
            for j in (1, -1, -4)
        ]
    ),
)
entry(
    "moveaxis",
    many(
        [
            (x, constant(i), constant(j))
            for x in [*CUBE, *few()[::3]]
            for i in (0, -1, (0, 1), (0, 0), [2, 0])
            for j in (1, -1, (2, 0), (1, 1))
        ]
    ),
)
entry(
    "rollaxis",
    many(
        [(x, constant(i)) for x in CUBE for i in (0, 1, -1, 5)], {}, *each(start=[0, 1, 3, -1, 4])
    ),
)
entry("matrix_transpose linalg.matrix_transpose", one(zoo()), one(CUBE))

_TARGETS = [constant(s) for s in ((2, 3), (2, 2, 3), (2, 3, 4), 3, (), (0, 3), (2, 1), (-1, 3))]
entry(
    "broadcast_to",
    many([(x, s) for x in [*zoo(), *CUBE] for s in _TARGETS[:2]]),
    many([(of("f8", s), t) for s in ((), (1,), (3,), (2, 1), (0,), (0, 3)) for t in _TARGETS]),
)
entry(
    "broadcast_arrays",
    many(
        [
            (),
            (of("f8"),),
            (of("f8"), of("i4", (3,))),
            (of("f8", ()), of("u1", (0, 1))),
            (of("f8"), of("f8", (2,))),
            *((x, of("f8", (1, 1))) for x in NUMBERS),
        ]
    ),
)

entry(
    "lib.stride_tricks.sliding_window_view",
    one(zoo(), {"window_shape": (1, 2), "axis": (0, 1)}),
    many(
        [
            (x, constant(n), constant(axis))
            for x in [*CUBE, *LAID]
            for n, axis in (
                (2, 0),
                (2, -1),
                ((2,), (1,)),
                ((1, 2, 3), None),
                ((2, 2), (2, 1)),
                ((2, 1), (1, 1)),
                (0, 0),
                (5, 0),
                (-1, 0),
                (2, None),
                (2, 3),
                ((2, 2), 0),
                (np.int8(2), np.int64(0)),
                ((), ()),
            )
        ]
    ),
)

# --- joining --------------------------------------------------------------------------

_PARTS = [together(of(a, (2, 3)), of(b, (2, 3))) for a in DTYPES for b in DTYPES]
_PARTS += [
    together(of("f8", s), of("f8", t))
    for s, t in (
        ((), ()),
        ((0,), (2,)),
        ((2,), (3,)),
        ((2, 1), (2, 3)),
        ((1, 3), (2, 3)),
        ((2, 3), (3,)),
        ((2, 0), (2, 3)),
        ((1,), ()),
        ((2, 3, 1), (2, 3, 1)),
    )
]
_PARTS += [together(of(d, (2, 3)), x) for d in ("f4", "u1") for x in NUMBERS]
_PARTS += [
    together(of("f8"))._replace(text="one", value=[filled_one])
    for filled_one in (np.ones((2, 3)), np.float64(2), 3)
]
_PARTS += [constant([], "[]"), together(*layouts()), constant((1, 2), "(1, 2)")]
_FEW_PARTS = _PARTS[::11] + _PARTS[196:]
_JOINED = one(_FEW_PARTS, *each(dtype=["f4", "i4", "c16", "u1"], casting=["no", "unsafe"]))
entry(
    "concatenate concat",
    one(_PARTS, every=2),
    one(_FEW_PARTS, *each(axis=[1, -1, None, 2, -3])),
    _JOINED,
)
entry("stack", one(_PARTS, every=2), one(_FEW_PARTS, *each(axis=[1, -1, 2, 3, -3])), _JOINED)
entry("hstack vstack", one(_PARTS, every=2), _JOINED)
entry("dstack column_stack", one(_PARTS, every=2))
for _name in "concatenate stack hstack vstack dstack column_stack".split():
    entry(_name, one([of("f8", (2, 3)), of("f8", (3,)), of("f8", (2, 3, 2)), of("f8", ())]))
_NUMBER_PAIRS = [(x, y) for x in NUMBERS for y in (of("f4"), of("u1", (0,)), NUMBERS[0])]
entry(
    "append",
    many([(of(a), of(b, (3,))) for a in FEW for b in FEW] + _NUMBER_PAIRS),
    many([(of("f8"), of("i4")), (of("f8"), of("f8", (3,)))], {"axis": 0}, {"axis": 1}),
)
entry(
    "block",
    one(_FEW_PARTS),
    one(
        [
            Operand(t, v)
            for t, v in (
                ("[[a, b], [c]]", [[np.ones((2, 2)), np.ones((2, 1))], [np.zeros((1, 3))]]),
                ("[[a], [b]]", [[np.ones(2)], [np.zeros(2, "i4")]]),
                ("[1, 2]", [1, 2]),
                ("[[1, 2], 3]", [[1, 2], 3]),
                ("[[]]", [[]]),
                ("[1, [2]]", [1, [2]]),
                ("a", np.ones(2)),
                ("2", 2),
                ("[[[a]]]", [[[np.ones(2)]]]),
                ("(a, b)", (np.ones(2), np.ones(2))),
            )
        ]
    ),
)

# --- splitting ------------------------------------------------------------------------

_CUTS = [
    constant(c)
    for c in (
        1,
        2,
        3,
        0,
        -1,
        [1],
        [1, 3],
        [3, 1],
        [-1],
        [],
        [7],
        (0, 2),
        np.array([1, 2]),
        2.0,
        [1.0],
    )
]
_SPLITTABLE = [of("f8", (6,)), of("u1", (6, 2)), of("f8", (0,)), of("f8", (2, 6, 6)), of("f8", ())]
entry(
    "split array_split",
    many([(x, c) for x in _SPLITTABLE for c in _CUTS], {}, {"axis": -1}, {"axis": 1}),
)
entry("hsplit vsplit dsplit", many([(x, c) for x in _SPLITTABLE for c in _CUTS]))
if hasattr(np, "unstack"):
    entry("unstack", one([*zoo(), *CUBE]), one(CUBE, *each(axis=[1, -1, 3])))

# --- repeating, flipping, rolling -----------------------------------------------------

_REPS = [
    constant(r)
    for r in (
        2,
        0,
        (2,),
        (2, 1),
        (1, 2, 1),
        (),
        [2, 2],
        -1,
        2.0,
        np.array([2, 1]),
        np.int8(2),
        (2, -1),
    )
]
entry("tile", many([(x, _REPS[0]) for x in zoo()] + [(x, r) for x in CUBE for r in _REPS]))
_REPEATS = [
    constant(r)
    for r in (
        2,
        0,
        [2],
        [1, 0, 2],
        [1, 2],
        -1,
        [1, -1, 0],
        2.0,
        [],
        True,
        np.array([1, 2, 3], "u1"),
        [[1, 2, 3]],
        np.uint64(2),
    )
]
entry(
    "repeat",
    many([(x, _REPEATS[0]) for x in zoo()]),
    many(
        [
            (x, r)
            for x in (of("f8"), of("u1", (3,)), of("f8", ()), of("f8", (0, 3)))
            for r in _REPEATS
        ],
        {},
        *each(axis=[0, 1, -1, 2]),
    ),
)
entry("flip", one(zoo()), one(CUBE, *each(axis=[0, -1, (0, 1), (0, 0), 3, ()])))
entry("fliplr flipud", one(zoo()), one(CUBE))
entry(
    "rot90",
    one([*zoo(), *CUBE]),
    one(CUBE, *product(k=[0, 1, 2, 3, -1, 7], axes=[..., (1, 2), (0, -1), (0, 0), (0, 5)])),
    one([of("f8")], *each(k=[1.0, np.int8(1), True], axes=[(0,), (0, 1, 2), [1, 0]])),
)
_SHIFTS = [constant(s) for s in (1, 0, -1, 7, -100, (1, 2), [1], np.int8(1), 1.5, 2**40)]
entry(
    "roll",
    many([(x, _SHIFTS[0]) for x in zoo()]),
    many([(x, s) for x in CUBE for s in _SHIFTS], {}, *each(axis=[0, -1, (0, 1), (0, 0), 4])),
    many(
        [
            (of("f8", (5,)), array(2)),
            (of("f8", (5,)), array([1, 2])),
            (of("f8", (5,)), array(3, "u1")),
            (of("f8", (5,)), array(-1, "i1")),
        ],
        {},
        {"axis": 0},
    ),
)

_WIDTHS = [
    constant(w)
    for w in (
        1,
        0,
        (1, 2),
        ((1, 2), (0, 3)),
        ((1,), (2,)),
        [(0, 1)],
        -1,
        1.0,
        (1, 2, 3),
        {0: 1},
        {-1: (1, 2)},
        np.array([1, 2]),
        9,
    )
]
entry(
    "pad",
    many([(x, _WIDTHS[2]) for x in zoo()]),
    many([(x, w) for x in (of("f8"), of("u1"), of("f8", ()), of("f8", (0, 2))) for w in _WIDTHS]),
    many(
        [
            (x, w)
            for x in [*few()[::3], of("f8", (1, 3)), of("f8", (0, 2))]
            for w in _WIDTHS[2:4] + _WIDTHS[-1:]
        ],
        *each(
            mode=[
                "edge",
                "reflect",
                "symmetric",
                "wrap",
                "linear_ramp",
                "maximum",
                "mean",
                "median",
                "minimum",
                "bad",
            ]
        ),
    ),
    many(
        [(x, _WIDTHS[2]) for x in [*every_dtype(), *few()[::3]]],
        *each(constant_values=[7, (1, 2), 2.5, ((1, 2), (3, 4)), 300, -1, np.nan, 1j]),
    ),
    many(
        [(of("f8", (4,)), constant(2))],
        {"mode": "reflect", "reflect_type": "odd"},
        {"mode": "symmetric", "reflect_type": "odd"},
        {"mode": "edge", "constant_values": 1},
        {"mode": "maximum", "stat_length": 2},
        {"mode": "linear_ramp", "end_values": 3},
    ),
    many(
        [(of("f8"), _WIDTHS[0])],
        {"mode": "empty"},
        call=lambda f, x, w, **o: f(x, w, **o)[1:-1, 1:-1],
        label="empty",
    ),
)

# --- diagonals ------------------------------------------------------------------------

_DIAGONALS = each(offset=[1, -1, 5, -5]) + product(axis1=[0, -1], axis2=[1, 2, 0, 5])
entry("diagonal", one(zoo()), one([*CUBE, *few()[::3]], *_DIAGONALS))
entry("linalg.diagonal", one(zoo()), one(CUBE, *each(offset=[1, -1, 5])))
entry("trace", one(zoo()), one([*CUBE, *few()], *_DIAGONALS, *each(dtype=["f4", "u1", "i1", bool])))
entry("linalg.trace", one(zoo()), one(CUBE, *each(offset=[1, -1, 5], dtype=["f4", "u1"])))
entry("diag diagflat", one(zoo()), one([*CUBE, *few()[::3]], *each(k=[1, -1, 5, -5])))
entry("tril triu", one(zoo()), one([*CUBE, *few()[::3]], *each(k=[1, -1, 5, -5])))
entry("tril_indices_from triu_indices_from", one(zoo()), one(CUBE, *each(k=[1, -1, 5])))
entry("diag_indices_from", one([*zoo(), *CUBE]))

# --- creation -------------------------------------------------------------------------

_MADE = each(
    dtype=["f4", "u1", bool, "c16"],
    shape=[3, (2, 2), (), (0, 1), -1],
    order=["F", "X"],
    subok=[False],
)
entry("zeros_like ones_like", one(zoo()), one(CUBE + few()[::2], *_MADE))
entry(
    "empty_like",
    one(
        zoo() + few()[::2],
        {},
        *_MADE,
        every=3,
        call=lambda f, x, **o: [np.shape(f(x, **o)), f(x, **o).dtype],
    ),
)
_FILLS = [constant(v) for v in (3, -1, 300, 2.5, True, np.nan, 1j, [1, 2, 3], np.float32(2))]
entry(
    "full_like",
    many([(x, v) for x in every_dtype() for v in _FILLS]),
    many([(x, _FILLS[0]) for x in zoo()]),
    many(
        [(of("f4"), of(d, s)) for d in FEW for s in ((), (3,), (2, 3))],
        {},
        *each(dtype=["u1", "f8"], shape=[(2, 3), 3, ()]),
    ),
)
entry(
    "full",
    many(
        [
            (constant(s), x)
            for s in (3, (2, 3), (), 0, -1, [2], 2.0)
            for x in [*NUMBERS, of("f8", (3,)), of("u1", ()), of("f8", (2,))]
        ],
        {},
        *each(dtype=["f4", "u1"], order=["F"]),
    ),
)
_NESTED = [
    Operand(t, v)
    for t, v in (
        ("[1, 2.5]", [1, 2.5]),
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        ("[True, 2]", [True, 2]),
        ("[a, b]", [np.ones(2), np.zeros(2, "i4")]),
        ("[[1], [2, 3]]", [[1], [2, 3]]),
        ("[1j, f4]", [1j, np.float32(2)]),
        ("(u8, 300)", (np.uint8(3), 300)),
        ("[u8, -1]", [np.uint8(3), -1]),
        ("[f2, 1e9]", [np.float16(1), 1e9]),
        ("[i1, u1]", [np.int8(1), np.uint8(1)]),
        ("[2**63, 1]", [2**63, 1]),
        ("[u64, -1]", [np.uint64(1), -1]),
    )
]
entry(
    "array asarray asanyarray ascontiguousarray",
    one([*zoo(), *_NESTED]),
    one([*few()[::2], *_NESTED], *each(dtype=["f4", "u1", "i8", "c16", bool])),
)
entry("array", one(_NESTED + CUBE, *each(ndmin=[0, 2, 5], copy=[None, True])))
_ENDS = [(of(a, ()), of(b, ())) for a in FEW for b in FEW]
_ENDS += [(x, y) for x in NUMBERS for y in NUMBERS[:3]]
_ENDS += [
    (of("f8", (2, 1)), of("f4", (3,))),
    (of("f8", (0,)), of("f8", ())),
    (array(-3.7), array(2.9)),
    (array([-1.5, 2.5]), array([3.5, -4.5])),
    (array(5), array(5)),
]
entry(
    "linspace",
    many(_ENDS, {"num": 5}, scale=8),
    many(
        _ENDS[-8:] + _ENDS[::9],
        *product(num=[0, 1, 2, 7], endpoint=[..., False], retstep=[..., True]),
        *each(num=[-1, 2.0, np.int8(3)]),
        scale=8,
    ),
    many(_ENDS[-8:], *each(dtype=["f4", "i4", "i8", "u1", "c16", bool]), scale=8),
    many(_ENDS[-5:-2], *each(axis=[-1, 1, 3])),
)
entry(
    "meshgrid",
    many(
        [
            (),
            (of("f8", (3,)),),
            (of("f8", (3,)), of("u1", (2,))),
            (of("f8", ()), of("f8", (0,))),
            (of("f8", (2,)), of("f8", (3,)), of("f8", (4,))),
            (of("f8", (2, 2)), of("f8", (3,))),
        ],
        {},
        *each(sparse=[True], indexing=["ij", "xx"], copy=[False]),
    ),
)
entry("shape ndim", one([*zoo(), *CUBE]))
entry("size", one([*zoo(), *CUBE]), one(CUBE, *each(axis=[0, -1, (0, 1), 5, ()])))
entry(
    "result_type",
    many([(of(a), of(b, ())) for a in DTYPES for b in DTYPES]),
    many([(x, of(d)) for x in NUMBERS for d in FEW] + [(x,) for x in NUMBERS] + [()]),
    many([(of("f4"), constant(np.dtype("f8"), "f8")), (of("u1"), constant("i1"))]),
)
entry(
    "can_cast",
    many(
        [(of(d), constant(t)) for d in FEW for t in ("f4", "u1", "c16", "i8", bool)],
        {},
        *each(casting=["same_kind", "no", "unsafe", "bad"]),
    ),
)
entry("shares_memory may_share_memory", many([(of("f8"), of("f8"))]))
