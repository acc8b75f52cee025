"""Products that sum, norms, and the methods and properties of an array."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from sweep.cases import each, entry, many, one, product
from sweep.inputs import (
    DTYPES,
    FEW,
    NUMBERS,
    Operand,
    array,
    constant,
    few,
    layouts,
    of,
    zoo,
)

# --- products -------------------------------------------------------------------------

_VECTORS = [(of(a, (3,)), of(b, (3,))) for a in DTYPES for b in DTYPES]
_MATRICES = [(of(a, (2, 3)), of(b, (3, 2))) for a in FEW for b in FEW]
_ODD = [(of(d, (3, 4), k), of(d, (4, 3), k)) for d in FEW for k in ("odd",)]
_ODD += [(of(d, (3, 4), "nan"), of(d, (4, 3))) for d in ("f2", "f4", "f8", "c16")]
_SHAPES = ((), (0,), (3,), (2, 3), (3, 2), (3, 3), (0, 3), (3, 0), (2, 3, 3), (2, 1, 3, 3), (1, 1))
_SHAPED = [(of("f8", s), of(d, t)) for s in _SHAPES for t in _SHAPES for d in ("f8", "u1")]
_NUMBERS = [(x, y) for x in NUMBERS[::2] for y in (of("f4", (3,)), of("u1", (2, 2)), NUMBERS[2])]
_LAID = [(x, y) for x in layouts("f8", (3, 3)) for y in layouts("f4", (3, 3))]
_ALL = many(_VECTORS + _MATRICES + _ODD + _SHAPED + _NUMBERS + _LAID, scale=8, every=2)

entry("dot inner vdot outer matmul linalg.matmul linalg.outer kron", _ALL)
entry(
    "vecdot matvec vecmat linalg.vecdot".replace(
        "matvec vecmat", "matvec vecmat" if hasattr(np, "matvec") else ""
    ),
    _ALL,
)
entry("vecdot linalg.vecdot", many(_SHAPED[::2], *each(axis=[0, -1, 3]), scale=8))
entry(
    "tensordot linalg.tensordot",
    _ALL,
    many(
        _SHAPED[::2] + _NUMBERS,
        *each(
            axes=[
                0,
                1,
                2,
                ([0], [1]),
                (0, 0),
                ([0, 1], [1, 0]),
                ([-1], [-2]),
                ((0, 0), (0, 1)),
                3,
                -1,
                ([], []),
            ]
        ),
        scale=8,
        every=6,
    ),
)
_CHAINS = [
    Operand(str(s), [np.ones(t) * 0.5 for t in s])
    for s in (
        [(2, 3), (3, 4)],
        [(3,), (3, 4), (4,)],
        [(2, 3), (3, 2), (2, 5)],
        [(2, 3)],
        [(2,), (3, 4)],
        [(2, 3), (4, 4), (4, 2)],
        [(2, 2), (2,), (2, 2)],
        [(2, 0), (0, 3), (3, 2)],
        [(3,), (3,)],
        [],
    )
]
_CHAINS += [
    Operand(f"[{a}, {b}]", [of(a, (2, 3)).value, of(b, (3, 2)).value]) for a in FEW for b in FEW
]
entry("linalg.multi_dot", one(_CHAINS, scale=8))

_SUBSCRIPTS = {
    "i,i": [(3,), (3,)],
    "ij,jk": [(2, 3), (3, 2)],
    "ij,jk->ki": [(2, 3), (3, 2)],
    "ii": [(3, 3)],
    "ii->i": [(3, 3)],
    "ij->": [(2, 3)],
    "ij->ji": [(2, 3)],
    "...j,j": [(2, 2, 3), (3,)],
    "i,j->ij": [(2,), (0,)],
    "ij,ij->i": [(2, 3), (1, 3)],
    "bij,bjk->bik": [(2, 2, 3), (2, 3, 2)],
    "i,i->": [(3,), (4,)],
    "ij": [(3,)],
    "i->j": [(3,)],
    "ij,jk,kl": [(2, 3), (3, 2), (2, 2)],
    ",": [(), ()],
    "": [()],
    "i->ii": [(3,)],
    "ij->...": [(2, 3)],
    "i.j": [(2, 3)],
    "I,i->Ii": [(2,), (3,)],
    " i , j -> i j ": [(2,), (3,)],
    "...,...->...": [(2, 3), (3,)],
    "iji->j": [(2, 3, 2)],
    "i,->i": [(3,), ()],
    "ij,j->": [(0, 3), (3,)],
    "abc,cd->": [(2, 3, 2), (2, 3)],
}
_DTYPE_PAIRS = [(a, b) for a in FEW for b in FEW]
_EINSUM: list[tuple[Any, ...]] = []
for _text, _shapes in _SUBSCRIPTS.items():
    for _d in ("f8", "f4", "u1", "b1", "c16", "f2", "i1"):
        _EINSUM.append((constant(_text), *(of(_d, s) for s in _shapes)))
entry(
    "einsum",
    many(_EINSUM, scale=8),
    many(
        [
            (constant(t), of(a, s), of(b, r))
            for t, s, r in (
                ("ij,jk", (2, 3), (3, 2)),
                ("i,j", (2,), (3,)),
                ("ij,kj->ik", (2, 3), (2, 3)),
                ("ij,ij", (2, 3), (2, 3)),
            )
            for a, b in _DTYPE_PAIRS
        ],
        scale=8,
    ),
    many(
        _EINSUM[::5],
        *each(
            optimize=[True, "greedy", False],
            dtype=["f4", "c16", "i4"],
            casting=["unsafe"],
            order=["F"],
        ),
        scale=8,
    ),
    many(
        [
            (of("f8", (2, 3)), constant([0, 1]), of("f8", (3, 2)), constant([1, 2])),
            (of("f8", (2, 3)), constant([0, 1]), constant([1, 0])),
            (of("f8", (2, 3)), constant([Ellipsis, 1]), constant([1, Ellipsis])),
        ]
    ),
)

# --- norms ----------------------------------------------------------------------------

_ORDERS = [None, 0, 1, 2, -1, -2, 3, 0.5, np.inf, -np.inf, "fro", "nuc", "bad"]
entry(
    "linalg.norm",
    one(zoo(), scale=8),
    one(
        [*few(), *few((3,)), of("f8", (2, 0))],
        *product(ord=_ORDERS, axis=[..., 0, (0, 1), (1, 0), (0,)], keepdims=[..., True]),
        scale=8,
        every=10,
    ),
)
entry(
    "linalg.vector_norm",
    one(zoo(), scale=8),
    one(
        [*few(), *few((3,))],
        *product(ord=[*_ORDERS[1:10], "bad"], axis=[..., 0, (0, 1)], keepdims=[..., True]),
        scale=8,
        every=6,
    ),
)
entry(
    "linalg.matrix_norm",
    one(zoo(), scale=8),
    one(
        [*few(), of("f8", (2, 2, 3))],
        *product(ord=_ORDERS[2:], keepdims=[..., True]),
        scale=8,
        every=2,
    ),
)

# --- methods and properties of an array -----------------------------------------------


def _method(name: str) -> Any:
    return lambda x, *args, **options: getattr(x, name)(*args, **options)


def method(name: str, *groups: Any) -> None:
    entry(f"ndarray.{name}", *groups, ours=_method(name), numpys=_method(name))


ARRAYS = [o for o in zoo() if isinstance(o.value, (np.ndarray, np.generic))]
_AXES = product(axis=[..., None, 0, -1, (0, 1), 5], keepdims=[..., True])
for _name in "sum prod max min any all mean var std argmax argmin".split():
    method(
        _name,
        one(ARRAYS, scale=64, every=2),
        one(few()[::2], *_AXES, scale=64, every=3),
        many([(x, constant(0)) for x in few()[::3]], scale=64),
    )
for _name in "cumsum cumprod".split():
    method(_name, one(ARRAYS, scale=8), one(few()[::2], *each(axis=[0, -1], dtype=["f4", "u1"])))
for _name in "conj conjugate copy flatten ravel squeeze transpose".split():
    method(_name, one(ARRAYS))
for _name in "flatten ravel copy".split():
    method(
        _name,
        one(layouts(), *each(order=["C", "F", "A", "K", "X"])),
        many([(x, constant("F")) for x in layouts()]),
    )
method("argsort", one(ARRAYS), one(few()[::2], *each(axis=[0, None], kind=["stable"])))
method(
    "argpartition",
    many(
        [(x, constant(1)) for x in few()],
        call=lambda f, x, k: np.take(np.take_along_axis(x, f(x, k), -1), [k], -1),
    ),
)
method(
    "astype",
    many([(x, constant(np.dtype(d), d)) for x in ARRAYS[::2] for d in DTYPES]),
    many(
        [(of("f8"), constant("f4"))],
        *each(casting=["safe", "same_kind", "bad"], order=["F"], copy=[False]),
    ),
    many(
        [
            (of("f8"), constant(t))
            for t in (float, int, bool, complex, "bad", "O", "S3", "M8[s]", ">f8", None)
        ]
    ),
)
_CHOICES = Operand("[f64, f64]", [np.ones(3), np.zeros(3)])
method(
    "choose",
    many([(array([0, 1, 1]), _CHOICES), (array([0, 1, 5]), _CHOICES)], {}, {"mode": "clip"}),
)
method(
    "clip",
    many([(x, constant(0), constant(2)) for x in ARRAYS]),
    one(few()[::2], {"min": 0}, {"max": 1}, {"min": None, "max": 1}, {}),
)
method("compress", many([(of("f8"), constant([True, False]))], {}, {"axis": 0}))
method("diagonal", one(ARRAYS), one([of("f8", (2, 3, 4))], {"offset": 1}, {"axis1": 2}))
method("dot", many([(of(a, (2, 3)), of(b, (3,))) for a in FEW for b in FEW], scale=8))
method("repeat", many([(x, constant(2)) for x in few()], {}, {"axis": 0}))
method(
    "reshape",
    many([(x, constant(s)) for x in few() for s in (-1, (3, -1))]),
    many([(of("f8"), constant(3), constant(2)), (of("f8"),)]),
    many([(x, constant(-1)) for x in layouts()], *each(order=["C", "F", "A", "X"])),
)
method("round", one(ARRAYS), one(few(), *each(decimals=[1, -1])))
method("searchsorted", many([(array([1.0, 2, 3]), of(d)) for d in FEW], {}, {"side": "right"}))
method("swapaxes", many([(x, constant(0), constant(-1)) for x in few()]))
method("squeeze", one([of("f8", (1, 3, 1))], {"axis": 0}, {"axis": 1}))
method("take", many([(x, constant([0, 1])) for x in few()], {}, {"axis": 0}))
method("trace", one(ARRAYS), one([of("u1", (3, 3))], {"dtype": "u1"}, {"offset": 1}))
method(
    "transpose",
    many(
        [
            (of("f8", (2, 3, 4)), constant(1), constant(0), constant(2)),
            (of("f8", (2, 3, 4)), constant((2, 0, 1))),
            (of("f8", (2, 3, 4)), constant(None)),
            (of("f8"), constant(0)),
        ]
    ),
)
method("nonzero", one(ARRAYS[::2], modes="plain eager"))
method(
    "item",
    one(ARRAYS, modes="plain eager"),
    many([(of("f8"), constant(1)), (of("f8"), constant((1, 2)))], modes="plain eager"),
)
method("tolist", one(ARRAYS, modes="plain eager"))
method("sort", one([of("f8")], call=lambda f, x: f(x)))
method("partition", many([(of("f8"), constant(1))]))
method("fill", many([(of("f8"), constant(1))]))
method("put", many([(of("f8"), constant(1), constant(2))]))

PROPERTIES = "T mT real imag nbytes itemsize shape size ndim dtype"
for _name in PROPERTIES.split():
    entry(
        f"ndarray.{_name}",
        one([o for o in ARRAYS if "swapped" not in o.text]),
        ours=attrgetter(_name),
        numpys=attrgetter(_name),
    )
