"""Functions that choose, index and update."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad as fg
from sweep.cases import each, entry, many, one, product
from sweep.inputs import (
    FEW,
    NUMBERS,
    Operand,
    array,
    constant,
    few,
    of,
    zoo,
)
from sweep.table_structure import CUBE, together

# --- choosing -------------------------------------------------------------------------

_INDICES = [
    constant(i)
    for i in (
        0,
        -1,
        2,
        5,
        -9,
        [0, 2],
        [[0], [1]],
        [],
        True,
        1.0,
        [True, False],
        np.array([1, 2], "u1"),
        np.uint64(1),
        np.array(1),
        [0, 9],
    )
]
_INDICES += [array([0, 2, 1], d) for d in ("i8", "u1", "u8", "i1")] + [
    array(200, "u1"),
    array([-1, 100], "i1"),
    array([True, False]),
    array([1.0]),
    of("i8", (0,)),
    array([2**64 - 1], "u8"),
]
entry(
    "take",
    many([(x, _INDICES[5]) for x in zoo()]),
    many(
        [
            (x, i)
            for x in (of("f8"), of("u1", (5,)), of("f8", (300,)), of("f8", ()), of("f8", (0,)))
            for i in _INDICES
        ],
        {},
        *product(axis=[..., 0, -1, 2], mode=["raise", "clip", "wrap"]),
        {"mode": "bad"},
        every=2,
    ),
)
# NumPy wraps an index by as many additions as it takes, so these are not wrapped.
entry(
    "take",
    many([(of("f8", (5,)), array([2**63 - 1, -(2**63)]))], *each(mode=["raise", "clip"])),
)
_PLACES = [
    array([[0, 2, 1], [1, 1, -1]]),
    array([[0], [2]], "u1"),
    array([[1, 0, 1]], "i1"),
    array([[5, 0, 0]]),
    array([1, 0]),
    array([[1.0]]),
    of("i8", (0, 3)),
    array([[True]]),
]
entry(
    "take_along_axis",
    many([(x, i) for x in few() for i in _PLACES]),
    many([(of("f8"), i) for i in _PLACES], *each(axis=[0, 1, None, 3])),
)
_CHOICES = [together(of(a, (3,)), of(b, (3,))) for a in FEW for b in FEW[:4]] + [
    together(of("f8", (2, 1)), of("f4", (3,))),
    together(*NUMBERS[:3]),
    of("f8", (3, 2)),
    together(of("f8", ())),
]
entry(
    "choose",
    many([(array([0, 1, 1], d), c) for d in ("i8", "u1", "b1") for c in _CHOICES]),
    many(
        [
            (array(i, d), c)
            for i in ([0, 5, -1], [[0], [1]], 1, [1, 200, 0])
            for d in ("i8", "i4")
            for c in _CHOICES[::9]
        ],
        *each(mode=["raise", "clip", "wrap"]),
    ),
    many([(array([0, 1, 200], "u1"), c) for c in _CHOICES[::9]], *each(mode=["clip", "wrap"])),
    many([(array([0.0, 1, 1]), c) for c in _CHOICES[::9]]),
)
_CONDITIONS = [
    constant(c)
    for c in ([True, False, True], [1, 0], [], [0.0, 2.5, 0], [True] * 9, [[True, False]], True)
]
entry(
    "compress", many([(c, x) for c in _CONDITIONS for x in zoo()[::3]], {}, *each(axis=[0, -1, 3]))
)
entry("extract", many([(c, x) for c in _CONDITIONS for x in zoo()[::3]]))
_POSITIONS = [
    constant(p)
    for p in (
        0,
        -1,
        1,
        5,
        [0, 1],
        [1, 1],
        [],
        slice(0, 2),
        slice(None, None, 2),
        [True, False, True],
        np.array([1], "u1"),
        [2, 0],
        [9],
        1.0,
        slice(None, None, -1),
        np.array([False] * 3),
        [-1, 0],
    )
]
entry(
    "delete",
    many([(x, _POSITIONS[0]) for x in zoo()]),
    many(
        [
            (x, p)
            for x in (of("f8"), of("u1", (3,)), of("f8", (0,)), of("f8", (3, 2)))
            for p in _POSITIONS
        ],
        {},
        *each(axis=[0, -1, 5]),
    ),
)
_INSERTED = [
    constant(7),
    constant(-1),
    constant(2.9),
    of("f8", ()),
    of("f4", (3,)),
    of("f8", (2, 1)),
    of("c16", ()),
    constant([1, 2]),
    of("u1", (2,)),
    of("f8", (1, 3)),
]
entry(
    "insert",
    many([(x, _POSITIONS[0], v) for x in zoo()[::2] for v in _INSERTED[:4]]),
    many(
        [
            (x, p, v)
            for x in (
                of("f8"),
                of("u1", (3,)),
                of("f8", (0,)),
                of("f8", (3, 2)),
                of("f8", (2, 2, 2)),
            )
            for p in _POSITIONS
            for v in _INSERTED
        ],
        {},
        *each(axis=[0, -1]),
        every=4,
    ),
)
entry("nonzero flatnonzero argwhere", one([*zoo(), *CUBE], modes="plain eager"))

# --- writing, which is refused --------------------------------------------------------

_WRITES = {
    "put": lambda f, x: f(x, [0], [7]),
    "place": lambda f, x: f(x, np.ones(np.shape(x), bool), [7]),
    "putmask": lambda f, x: f(x, np.ones(np.shape(x), bool), 7),
    "copyto": lambda f, x: f(x, 7),
    "put_along_axis": lambda f, x: f(x, np.array([[0]]), 7, 0),
    "fill_diagonal": lambda f, x: f(x, 7),
}
for _name, _call in _WRITES.items():
    entry(_name, one([of("f8"), of("u1")], call=_call))

# --- indexing and updating ------------------------------------------------------------

KEYS: dict[str, Any] = {
    str(k): k
    for k in (
        0,
        -1,
        5,
        -9,
        None,
        Ellipsis,
        slice(None),
        slice(None, None, -1),
        slice(1, None, 2),
        slice(5, 1),
        slice(-1, -9, -2),
        slice(None, None, 0),
        (),
        (0, 1),
        (0, 0, 0),
        (None, 0),
        (Ellipsis, 0),
        (0, Ellipsis, None),
        (Ellipsis, Ellipsis),
        (slice(None), None, 1),
        [0],
        [],
        [[0, 1]],
        [True, False],
        [0, 5],
        ([0, 1], [1, 2]),
        ([0, 1], [0, 1, 2]),
        (slice(None), [0]),
        ([0], slice(None)),
        ([[0], [1]], [0, 2]),
        (0, [1, 2]),
        True,
        False,
        1.0,
        "x",
        np.int8(1),
        np.uint8(1),
        np.True_,
        (True, 0),
        (None, [0], None),
        2**70,
        -(2**70),
        slice(2**70),
        (slice(None), slice(None), [0]),
        slice(1.0),
        ([0, 1], None, [1, 2]),
        ((0, 1),),
    )
}
KEYS |= {
    "mask": np.array([[True, False, True], [False, False, True]]),
    "row mask": np.array([True, False]),
    "long mask": np.array([True, False, True]),
    "mask, 0": (np.array([True, False]), 0),
    "u8": np.array([1, 0], "u1"),
    "u64": np.array([1, 0], "u8"),
    "i0": np.array(1),
    "bool0": np.array(True),
    "f8": np.array([1.0]),
    "u64 big": np.array([2**64 - 1], "u8"),
    "empty f8": np.array([]),
    "slice of arrays": slice(np.array(0), np.int8(2)),
    "b list, i": ([True, False], [1]),
    "empty mask": np.zeros((2, 0), bool),
    "2-d ints": np.array([[0, 1], [1, 0]]),
}
_READ = [of("f8"), of("u1"), of("c16", (2, 3, 2)), of("f8", ()), of("f8", (2,)), of("f8", (0, 3))]


def _key(text: str) -> Operand:
    return Operand(text, KEYS[text], False)


entry(
    "getitem",
    many([(x, _key(k)) for x in _READ for k in KEYS]),
    ours=lambda x, k: x[k],
    numpys=lambda x, k: x[k],
)
_TRACED_KEYS = [array([0, 1], d) for d in ("i8", "i1", "u1", "u8")] + [
    array(1),
    array(1, "u1"),
    array([-1]),
    array([5]),
    array([1.0]),
    of("i8", (0,)),
    array(200, "u1"),
    array([2**64 - 1], "u8"),
    array([[0, 1], [1, 0]]),
]
entry(
    "getitem",
    many([(x, k) for x in _READ for k in _TRACED_KEYS]),
    many([(x._replace(traced=False), k) for x in _READ[:3] for k in _TRACED_KEYS]),
    many([(of("f8"), array([True, False]))], modes="plain eager"),
)

_KINDS = {
    "set": lambda y, k, v: y.__setitem__(k, v),
    "add": lambda y, k, v: np.add.at(y, k, v),
    "subtract": lambda y, k, v: np.subtract.at(y, k, v),
    "multiply": lambda y, k, v: np.multiply.at(y, k, v),
    "min": lambda y, k, v: np.minimum.at(y, k, v),
    "max": lambda y, k, v: np.maximum.at(y, k, v),
    "divide": lambda y, k, v: np.divide.at(y, k, v),
    "power": lambda y, k, v: y.__setitem__(k, y[k] ** v),
}


def _ours_at(kind: str) -> Any:
    return lambda x, k, v: getattr(fg.at(x)[k], kind)(v)


def _numpys_at(kind: str) -> Any:
    def update(x: Any, k: Any, v: Any) -> Any:
        y = np.array(x)
        _KINDS[kind](y, k, v)
        return y

    return update


_WRITTEN = [
    constant(7),
    constant(-1),
    constant(300),
    constant(2.5),
    constant(np.float32(2)),
    of("f8", ()),
    of("u1", ()),
    of("f4", (3,)),
    constant(1j),
    constant(np.nan),
]
_AT_KEYS = [
    "0",
    "-1",
    "5",
    "Ellipsis",
    "slice(None, None, -1)",
    "(0, 1)",
    "[0]",
    "[]",
    "([0, 1], [1, 2])",
    "mask",
    "row mask",
    "u8",
    "u64",
    "True",
    "1.0",
    "2-d ints",
]
for _kind in _KINDS:
    entry(
        f"at.{_kind}",
        many(
            [
                (of(d), _key(k), v)
                for d in ("f8", "u1", "f4", "b1", "i8", "f2")
                for k in _AT_KEYS[:9:4]
                for v in _WRITTEN
            ]
        ),
        many(
            [(x, _key(k), v) for x in _READ for k in _AT_KEYS for v in (_WRITTEN[0], _WRITTEN[6])]
        ),
        many([(of("f8"), k, constant(2)) for k in _TRACED_KEYS]),
        ours=_ours_at(_kind),
        numpys=_numpys_at(_kind),
    )
entry(
    "at.set",
    many([(of("f8", (3,)), _key(k), constant(2)) for k in KEYS]),
    many([(of(d, (3,), "odd"), _key("0"), of(e, (), "")) for d in FEW for e in FEW]),
)
entry(
    "at.get",
    many([(of("f8"), _key(k)) for k in KEYS]),
    ours=lambda x, k: fg.at(x)[k].get(),
    numpys=lambda x, k: x[k],
)
entry(
    "at.apply",
    many([(of(d), _key(k)) for d in FEW for k in ("0", "[0]", "mask")]),
    ours=lambda x, k: fg.at(x)[k].apply(lambda p: p + p),
    numpys=lambda x, k: _doubled(x, k),
)


def _doubled(x: Any, k: Any) -> Any:
    y = np.array(x)
    y[k] = y[k] + y[k]
    return y
