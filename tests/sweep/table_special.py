"""`funcgrad.scipy.special` beside SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from funcgrad.scipy import special
from sweep.cases import each, entry, many, one, product
from sweep.inputs import FEW, NUMBERS, array, constant, few, of, zoo


def _as_float(x: Any) -> tuple[Any, Any]:
    """As `special` has it: integers as float64, float16 computed in float32."""
    x = np.asarray(x) if isinstance(x, (list, tuple)) else x
    dtype = np.asarray(x).dtype
    if dtype.kind in "iub":
        return np.asarray(x).astype("f8")[()], None
    if dtype.itemsize == 2:
        return np.asarray(x).astype("f4")[()], np.dtype("f2")
    return x, None


def _beside_numbers(args: Any) -> list[Any]:
    """Python's numbers in the dtype of the others, as NumPy has it and not all of SciPy's."""
    others = [np.asarray(a).dtype for a in args if type(a) not in (int, float, complex)]
    floats = [d if d.kind in "fc" else np.dtype("f8") for d in others]
    if not others or len(others) == len(args):
        return list(args)
    dtype = np.result_type(*floats, *(a for a in args if type(a) in (int, float, complex)))
    return [np.asarray(a).astype(dtype)[()] for a in args]


def _reference(function: Callable[..., Any], arrays: int) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        last = len(args) if arrays < 0 else arrays
        floats = [_as_float(a) for a in _beside_numbers(args[:last])]
        halves = [small for _, small in floats]
        result = function(*(a for a, _ in floats), *args[last:], **options)
        b = options.get("b")
        half = type(b) is not np.ndarray and all(h is not None for h in halves)
        if half and isinstance(result, tuple):
            return tuple(r.astype("f2") for r in result)
        return result.astype("f2") if half else result

    return call


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, np.zeros((), np.asarray(x).dtype))


def _entry(name: str, *groups: Any, arrays: int = 1) -> None:
    theirs = getattr(scipy.special, name, None) or _softplus
    entry(
        f"special.{name}",
        *groups,
        ours=getattr(special, name),
        numpys=_reference(theirs, arrays),
    )


_LARGE = [
    array(v, d)
    for d in ("f4", "f8")
    for v in (
        [1e-30, 1e-8, 0.1, 0.999, 1.0, 1.001, 2.0, 5.0, 10.0, 30.0, 100.0],
        [-1e-8, -0.1, -0.5, -1.0, -2.5, -10.0, -30.5, -100.0],
        [1e4, 1e8, 1e15, -1e4, 0.25, 0.75, 0.9999],
    )
]
for _name in """
    erf erfc erfinv ndtr ndtri log_ndtr expit log_expit softplus logit entr gammaln digamma psi
""".split():
    _entry(_name, one([*zoo(), *_LARGE], scale=32))
_PAIRS = [(of(a), of(b, (3,))) for a in FEW for b in FEW]
_PAIRS += [
    (of(d, (12, 1), "odd"), of(d, (12,), "odd")) for d in ("f2", "f4", "f8", "i1", "u8", "b1")
]
_PAIRS += [(x, y) for x in NUMBERS for y in (of("f4", (3,)), of("i4", (3,)), NUMBERS[2])]
_PAIRS += [(of("f8", (6, 1), "nan"), of("f8", (7,), "nan")), (of("f8", (0,)), of("f8", ()))]
for _name in "xlogy xlog1py rel_entr betaln".split():
    _entry(_name, many(_PAIRS, scale=64), arrays=2)
entry(
    "special.polygamma",
    many([(constant(n), x) for n in (0, 1, 2, 5) for x in [*zoo()[::2], *_LARGE]], scale=4096),
    many([(constant(n), array([0.5, 2.0])) for n in (-1, 1.5, True, 101, np.int8(2))]),
    ours=special.polygamma,
    numpys=lambda n, x: _reference(lambda y: scipy.special.polygamma(n, y), 1)(x),
)
entry(
    "special.multigammaln",
    many([(x, constant(d)) for d in (1, 2, 3) for x in (array([2.5, 3.0]), array(3), of("u1"))]),
    many([(array(v), constant(d)) for v in (0.1, -1.0, np.inf) for d in (2, 0, -1, 1.5)]),
    ours=special.multigammaln,
    numpys=_reference(scipy.special.multigammaln, 1),
)
for _name in "logsumexp softmax log_softmax".split():
    _entry(_name, one(zoo(), scale=32), one(few(), *each(axis=[0, -1, (0, 1), 3]), scale=32))
_entry(
    "logsumexp",
    one(few(), *product(axis=[..., 0], keepdims=[True], return_sign=[..., True]), scale=32),
    one(
        few(),
        {"b": np.array([1.0, -2, 3])},
        {"b": 2},
        {"b": np.array([1, 0, -1]), "return_sign": True},
        scale=32,
    ),
)
