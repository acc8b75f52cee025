"""Reductions, statistics, running reductions, order."""

from __future__ import annotations

import numpy as np

from sweep.cases import each, entry, many, one, product
from sweep.inputs import (
    FEW,
    FLOATS,
    array,
    constant,
    every_dtype,
    few,
    of,
    zoo,
)

_AXES = [..., 0, -1, (0, 1), (), 5, (0, 0), (-1,)]
_MASK = np.array([True, False, True])
_NONE = np.zeros(3, bool)
_SOME_DTYPES = ["f2", "f4", "f8", "i1", "u1", "i8", "c8", bool]

_SHAPED = product(axis=_AXES, keepdims=[..., True])

# --- sums, products, extrema ----------------------------------------------------------

entry(
    "sum prod nansum nanprod",
    one(zoo(), scale=8),
    one(few(), *_SHAPED, scale=8, every=4),
    one(every_dtype((12,), "odd") + few()[-6:], *each(dtype=_SOME_DTYPES), scale=8, every=3),
    one(every_dtype(), *each(dtype=["u1", "f4"], initial=[3, 2.5, 300, np.float64(2)]), scale=8),
    one(few(), *each(where=[_MASK, _NONE, np.array([[True], [False]])]), scale=8),
    one(few()[::2], {"where": _MASK, "axis": 0, "initial": 5, "keepdims": True}, scale=8),
)
entry(
    "max min amax amin nanmax nanmin",
    one(zoo()),
    one(few(), *_SHAPED, every=4),
    one(every_dtype(), *each(initial=[3, 2.5, -1, 300, np.float32(7)])),
    one(
        few(),
        *product(where=[_MASK, _NONE], initial=[0, -1.5], axis=[..., 0]),
        {"where": _MASK},
    ),
    one([of("f8", (0,)), of("i4", (0, 3)), of("u1", (2, 0))], {"axis": 0}, {"initial": 3}),
)
entry(
    "argmax argmin",
    one(zoo()),
    one(few(), *product(axis=[..., None, 0, -1, 3], keepdims=[..., True])),
    one([of("f8", (2, 0)), of("f8", (0, 2))], {"axis": 0}, {"axis": 1}),
)
entry(
    "any all",
    one(zoo()),
    one(few(), *_SHAPED, every=4),
    one(few(), *each(where=[_MASK, _NONE])),
)
entry("count_nonzero", one(zoo()), one(few(), *_SHAPED, every=4))
entry("ptp", one(zoo()), one(few(), *_SHAPED, every=4))

# --- statistics -----------------------------------------------------------------------

entry(
    "mean nanmean",
    one(zoo(), scale=8),
    one(few(), *_SHAPED, scale=8, every=4),
    one(every_dtype() + every_dtype((12,), "odd"), *each(dtype=_SOME_DTYPES), scale=8, every=3),
    one(few(), *each(where=[_MASK, _NONE, np.array([[True], [False]])]), scale=8),
)
entry(
    "var std nanvar nanstd",
    one(zoo(), scale=64),
    one(few(), *_SHAPED, scale=64, every=4),
    one(every_dtype(), *each(dtype=["f4", "f8", "f2", "c8", "i4"]), scale=64),
    one(few(), *each(ddof=[1, 0.5, 6, 7], where=[_MASK, _NONE]), scale=64),
    one(few()[::3], {"correction": 1}, {"ddof": 1, "correction": 1}, scale=64),
    one(few()[::3], {"mean": np.ones((1, 1)), "keepdims": True}, scale=64),
)
entry(
    "average",
    one(zoo(), scale=8),
    one(few(), *product(axis=[..., 0, -1, (0, 1)], keepdims=[..., True]), scale=8),
    one(
        few(),
        {"weights": np.ones((2, 3))},
        {"weights": np.array([1, 2, 3], "u1"), "axis": 1},
        {"weights": np.array([1, 2, 3]), "axis": 1, "returned": True},
        {"weights": np.array([0.0, 0.0]), "axis": 0},
        {"weights": [1, 2, 3], "axis": -1, "keepdims": True},
        {"weights": np.ones(4), "axis": 1},
        {"weights": np.ones(3)},
        {"returned": True},
        scale=8,
    ),
    many(
        [(of(a), of(b)) for a in FEW for b in FEW],
        call=lambda f, a, w: f(a, weights=w),
        label="weights",
        scale=8,
    ),
)
_Q = [constant(q) for q in (0.5, 0, 1, 0.3, 1.0, [0.25, 0.75], [[0.1], [1]], 1.5, -0.1)]
_METHODS = """
    inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull
    linear median_unbiased normal_unbiased lower higher midpoint nearest
""".split()
for _name, _times in (("quantile", 1), ("percentile", 100)):
    _positions = [q._replace(value=(np.array(q.value) * _times).tolist()) for q in _Q]
    _positions = [constant(q.value) for q in _positions]
    _half = constant(0.5 * _times)
    _third = constant(0.3 * _times)
    for _prefix in ("", "nan"):
        entry(
            _prefix + _name,
            many([(x, _half) for x in zoo()], scale=4),
            many([(x, q) for x in few() for q in _positions], scale=4, every=2),
            many(
                [(x, _third) for x in few()],
                *product(axis=[..., 0, (0, 1), -1], keepdims=[..., True]),
                scale=4,
                every=3,
            ),
            many(
                [
                    (x, q)
                    for x in (of("f8"), of("i4"), of("f4", (5,)), of("f8", (2, 3), "nan"))
                    for q in (_half, _third, _positions[5])
                ],
                *each(method=_METHODS),
                scale=4,
            ),
            many(
                [
                    (of(d, (5,)), array([0.3 * _times, 0.6 * _times], e))
                    for d in FEW
                    for e in FLOATS
                ],
                scale=4,
            ),
            many(
                [(of("f8", (5,)), _half)],
                {"weights": np.arange(5)},
                {"weights": np.ones(5), "method": "inverted_cdf"},
            ),
            many([(of("f8", s), q) for s in ((0,), (0, 3), (1,), ()) for q in _positions[:4]]),
            many([(of("f8", (0, 3)), _half), (of("f8", (3, 0)), _half)], {"axis": 0}, {"axis": 1}),
        )
_ORDERED = [
    array(v, d)
    for d in FLOATS
    for v in (
        [np.inf, 5, 4],
        [np.nan, 5, 4, np.nan, 3],
        [np.nan, np.nan],
        [-np.inf, np.inf],
        [7.0],
        [1, 3000, 4000, 3001],
        [np.inf, np.inf, 1],
        [60000, 60000],
    )
]
entry(
    "median nanmedian",
    one(zoo()),
    one(
        few() + few((3, 4)),
        *product(axis=[..., 0, -1, (0, 1), (), 4], keepdims=[..., True]),
        every=2,
    ),
    one(_ORDERED),
    one([of("f8", s) for s in ((0,), (0, 3), (3, 0), (2, 0))], {}, {"axis": 0}, {"axis": 1}),
)

# --- running --------------------------------------------------------------------------

_RUNNING = [
    one(zoo(), scale=8),
    one(few(), *each(axis=[0, -1, 3]), scale=8),
    one(every_dtype((12,), "odd") + every_dtype(), *each(dtype=_SOME_DTYPES), scale=8, every=3),
]
entry("cumsum cumprod nancumsum nancumprod", *_RUNNING)
if hasattr(np, "cumulative_sum"):
    entry(
        "cumulative_sum cumulative_prod",
        *_RUNNING,
        one(few(), *product(axis=[..., 0, -1], include_initial=[True]), scale=8),
        one(few()[::3], {"dtype": "f4", "include_initial": True, "axis": 0}, scale=8),
    )

# --- order ----------------------------------------------------------------------------

entry(
    "sort argsort",
    one(zoo()),
    one(few(), *product(axis=[..., 0, None, 3], kind=[..., "stable", "heapsort"])),
    one(few()[::3], {"stable": True}, {"stable": True, "kind": "stable"}, {"kind": "bad"}),
)
entry("sort_complex", one(zoo()), one(few()))
# Only element kth is sure: NumPy leaves the others in an order of its own.
entry(
    "partition",
    many(
        [(x, constant(k)) for x in zoo() for k in (0, 1, -1)],
        call=lambda f, x, k: np.take(f(x, k), [k], -1),
    ),
    many(
        [(x, constant(1)) for x in few()],
        *each(axis=[0, -1, None]),
        call=lambda f, x, k, axis: np.take(f(x, k, axis=axis), [k], axis),
        label="axis",
    ),
    many(
        [(of("f8"), constant(k)) for k in (5, -5, [0, 1], [], 1.0)],
        call=lambda f, x, k: np.shape(f(x, k)),
        label="shape",
    ),
)
entry(
    "argpartition",
    many(
        [(x, constant(k)) for x in zoo() for k in (0, 1, -1)],
        call=lambda f, x, k: np.take(np.take_along_axis(x, f(x, k), -1), [k], -1),
    ),
    many(
        [(of("f8"), constant(k)) for k in (5, -5, [0, 1], [], 1.0)],
        call=lambda f, x, k: np.shape(f(x, k)),
        label="shape",
    ),
)
_SORTED = [array([1, 2, 2, 5], d) for d in FEW if d not in ("b1", "c16")] + [
    array([False, True]),
    array([1, 2j]),
    of("f8", (0,)),
    array([1.0, np.inf, np.nan]),
    of("f8"),
]
_FOUND = (
    [of(d, s, k) for d in FEW for s, k in (((2, 3), ""), ((12,), "odd"), ((), ""))]
    + [constant(n) for n in (2, 2.5, -1, 300, 2**63, True, [1, 2])]
    + [of("f8", (6,), "nan"), of("f8", (0,))]
)
entry(
    "searchsorted",
    many([(a, v) for a in _SORTED for v in _FOUND], every=2),
    many([(a, v) for a in _SORTED for v in _FOUND[::5]], {"side": "right"}, {"side": "bad"}),
    many([(array([3.0, 1, 2]), of("f8"))], {"sorter": np.array([1, 2, 0])}, {"sorter": [1, 2]}),
)
_BINS = _SORTED + [array(b, d) for d in ("f8", "i4", "u1") for b in ([5, 2, 2, 1], [1, 5, 2], [3])]
_BINS += [array([2, 2, 2.0]), array([np.inf, 1, -np.inf]), array([np.nan, 1, 2])]
entry("digitize", many([(v, b) for b in _BINS for v in _FOUND], {}, {"right": True}, every=2))
entry(
    "unique",
    one(zoo(), modes="plain eager"),
    one(
        few(),
        *each(return_index=[True], return_inverse=[True], return_counts=[True], axis=[0, 1]),
        {"return_index": True, "return_inverse": True, "return_counts": True},
        {"equal_nan": False},
        modes="plain eager",
    ),
)
