"""How `funcgrad.random` makes its numbers; its functions are documented there.

Everything is a composition of NumPy calls over the two primitives of `primitives.random`, so
keys and parameters may be tracers, and derivatives flow where there are any.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import numpy as fnp
from funcgrad.core.binding import bind
from funcgrad.core.device import namespace, put_beside
from funcgrad.errors import ArgumentError, RandomKeyError, ShapeError
from funcgrad.primitives import random as primitives
from funcgrad.primitives import special
from funcgrad.primitives.elementwise import cast

_SQRT2 = math.sqrt(2.0)
_FLOATS = tuple(np.dtype(t) for t in (np.float64, np.float32, np.float16))


# --- keys -----------------------------------------------------------------------------


def key(seed: Any) -> Any:
    if isinstance(seed, int):
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(f"key: the seed {seed} does not fit in 64 bits")
        return np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    seed = as_array(seed)
    if seed.dtype.kind not in "iub" or seed.shape != ():
        raise RandomKeyError(
            f"key: the seed must be one integer, not {seed.dtype}{list(seed.shape)}. "
            "For several keys use split(key(seed), n), or fg.vmap(fg.random.key)(seeds)."
        )
    high = cast(seed >> 32, np.uint32) if seed.dtype.itemsize == 8 else np.uint32(0)
    return np.stack([high, cast(seed, np.uint32)])


def split(key: Any, num: Any = 2) -> Any:
    check_key("split", key)
    shape = check_shape("split", num)
    return bind(primitives.random_split, key, np.uint32(0), shape=shape)


def fold_in(key: Any, data: Any) -> Any:
    check_key("fold_in", key)
    if isinstance(data, int) and not 0 <= data < 2**32:
        raise ArgumentError(f"fold_in: data must be in [0, 2**32), not {data}")
    data = as_array(data)
    if data.dtype.kind not in "iub" or data.shape != ():
        raise RandomKeyError(
            f"fold_in: data must be one integer, not {data.dtype}{list(data.shape)}. "
            "For several keys use fg.vmap(fg.random.fold_in, in_axes=(None, 0))(key, data)."
        )
    return bind(primitives.random_split, key, _number(cast(data, np.uint32)), shape=())


# --- bits and continuous distributions ------------------------------------------------


def bits(key: Any, shape: Any, dtype: Any) -> Any:
    check_key("bits", key)
    kind = np.dtype(dtype)
    if kind.kind != "u":
        raise ArgumentError(f"bits: dtype must be an unsigned integer's, not {kind}")
    return _bits(key, check_shape("bits", shape), kind.itemsize * 8)


def uniform(key: Any, shape: Any, dtype: Any, minval: Any, maxval: Any) -> Any:
    check_key("uniform", key)
    kind, shape = check_float("uniform", dtype), check_shape("uniform", shape)
    check_broadcast("uniform", shape, minval=minval, maxval=maxval)
    unit = _unit(key, shape, kind)
    if _is_number(minval, 0) and _is_number(maxval, 1):
        return unit
    low, high = _number(cast(minval, kind)), _number(cast(maxval, kind))
    return np.maximum(low, bind(special.fma, unit, high - low, low))


def bernoulli(key: Any, p: Any, shape: Any) -> Any:
    check_key("bernoulli", key)
    p = p if isinstance(p, float) else as_array(p)
    kind = check_float("bernoulli", getattr(p, "dtype", np.float64))
    shape = shape_of(p) if shape is None else check_shape("bernoulli", shape)
    check_broadcast("bernoulli", shape, p=p)
    return _unit(key, shape, kind) < p


def normal(key: Any, shape: Any, dtype: Any) -> Any:
    check_key("normal", key)
    kind, shape = np.dtype(dtype), check_shape("normal", shape)
    if kind.kind != "c":
        return _normal(key, shape, check_float("normal", kind))
    part, keys = np.finfo(kind).dtype, split(key)
    real, imaginary = _normal(keys[0], shape, part), _normal(keys[1], shape, part)
    return (real + kind.type(1j) * imaginary) / kind.type(_SQRT2)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any, dtype: Any) -> Any:
    check_key("truncated_normal", key)
    kind = check_float("truncated_normal", dtype)
    if shape is None:
        shape = np.broadcast_shapes(shape_of(lower), shape_of(upper))
    shape = check_shape("truncated_normal", shape)
    check_broadcast("truncated_normal", shape, lower=lower, upper=upper)
    low, high, root = cast(lower, kind), cast(upper, kind), kind.type(_SQRT2)
    ends = bind(special.erf, low / root), bind(special.erf, high / root)
    out = bind(special.erfinv_of_draws, uniform(key, shape, kind, *ends)) * root
    inner = np.nextafter(low, kind.type(np.inf)), np.nextafter(high, kind.type(-np.inf))
    return np.minimum(np.maximum(out, inner[0]), inner[1])


def exponential(key: Any, shape: Any, dtype: Any) -> Any:
    check_key("exponential", key)
    kind = check_float("exponential", dtype)
    return -np.log1p(-_unit(key, check_shape("exponential", shape), kind))


def gumbel(key: Any, shape: Any, dtype: Any) -> Any:
    check_key("gumbel", key)
    kind = check_float("gumbel", dtype)
    return _gumbel(key, check_shape("gumbel", shape), kind)


def _bits(key: Any, shape: tuple[int, ...], width: int) -> Any:
    return bind(primitives.random_bits, key, shape=shape, width=width)


def _unit(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Uniform in [0, 1): as many random bits as the dtype has behind the point."""
    width, digits = dtype.itemsize * 8, np.finfo(dtype).nmant
    integers = _bits(key, shape, width)
    integers = integers >> integers.dtype.type(width - digits)
    return cast(integers, dtype) * dtype.type(2.0**-digits)


def _normal(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    # From the first number above -1: erfinv(-1) is infinite.
    low = np.nextafter(dtype.type(-1), dtype.type(0))
    draws = _unit(key, shape, dtype) * dtype.type(2) + low
    return bind(special.erfinv_of_draws, draws) * dtype.type(_SQRT2)


def _gumbel(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    draws = np.maximum(_unit(key, shape, dtype), np.finfo(dtype).tiny)
    return -np.log(-np.log(draws))


# --- integers and choices -------------------------------------------------------------


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Any:
    check_key("randint", key)
    kind, shape = np.dtype(dtype), check_shape("randint", shape)
    if kind.kind not in "iu":
        raise ArgumentError(f"randint: dtype must be an integer's, not {kind}")
    check_broadcast("randint", shape, minval=minval, maxval=maxval)
    unsigned = np.dtype(np.uint64 if kind.itemsize == 8 else np.uint32)
    low, span, full = _range(minval, maxval, kind, unsigned)
    # What is made of Python's numbers is on the host.
    low, span = (put_beside(key, x) if type(x) is np.ndarray else x for x in (low, span))
    offset = _below(split(key), shape or (1,), span, full, unsigned)
    return np.reshape(low + cast(offset, kind), shape)


def _below(keys: Any, shape: tuple[int, ...], span: Any, full: Any, unsigned: np.dtype) -> Any:
    """Integers in [0, span), or of any bits where `full` says so.

    They are what is left, modulo `span`, of integers of twice the bits of `unsigned`. Overflow
    is meant to wrap around here: NumPy warns of it for scalars, but not for arrays.
    """
    width = unsigned.itemsize * 8
    lower = _bits(keys[1], shape, width)
    half = unsigned.type(2 ** (width // 2))
    factor = half % span * (half % span) % span
    offset = lower % span
    if type(factor) is not np.ndarray or factor.any():
        upper = _bits(keys[0], shape, width)
        offset = (upper % span * factor + offset) % span
    if isinstance(full, bool):
        return lower if full else offset
    return np.where(full, lower, offset)


def _range(minval: Any, maxval: Any, kind: np.dtype, unsigned: np.dtype) -> tuple[Any, Any, Any]:
    """The lower bound, how many integers to choose from, and whether those are all there are.

    The first two have an axis at least; the count is 1 where it would be 0 or, as all of them
    are more than `unsigned` can tell, where the third is true.
    """
    least, most = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    if isinstance(minval, int) and isinstance(maxval, int):
        first, end = min(max(minval, least), most), min(max(maxval, least), most + 1)
        count = max(end - first, 1)
        full = count == 2 ** (unsigned.itemsize * 8)
        return np.array([first], kind), np.array([1 if full else count], unsigned), full
    wide = np.dtype(np.uint64 if kind == np.uint64 else np.int64)
    low = _clip(minval, least, most, wide)
    # One more than `most` can be told only in a wider dtype.
    high = _clip(maxval, least, most + (kind.itemsize < 8), wide)
    span = cast(high - low, unsigned)
    full = (span == 0) & (high > low)
    span = np.where((high <= low) | full, unsigned.type(1), span)
    return cast(low, kind), span, full


def _clip(bound: Any, least: int, most: int, wide: np.dtype) -> Any:
    """`bound` as `wide`, with an axis at least, and within [least, most]."""
    if isinstance(bound, int):
        return np.array([min(max(bound, least), most)], wide)
    bound = as_array(bound)
    if bound.dtype.kind not in "iub":
        raise ArgumentError(f"randint: bounds must be integers, not {bound.dtype}")
    bound = np.reshape(bound, bound.shape or (1,))
    if wide.kind == "u":
        return cast(np.maximum(bound, 0), wide)
    if bound.dtype == np.uint64:
        bound = np.minimum(bound, np.uint64(np.iinfo(np.int64).max))
    return np.minimum(np.maximum(cast(bound, wide), least), most)


def permutation(key: Any, x: Any, axis: int, independent: bool) -> Any:
    check_key("permutation", key)
    x = as_array(x)
    if x.shape == ():
        if x.dtype.kind not in "iu":
            raise ArgumentError(f"permutation: x must be an integer or an array, not {x.dtype}[]")
        return _order(key, (max(operator.index(x), 0),), 0)
    axis = check_axis("permutation", axis, x.ndim)
    if independent:
        return np.take_along_axis(x, _order(key, x.shape, axis), axis)
    return fnp.take(x, _order(key, (x.shape[axis],), 0), axis=axis)


def _order(key: Any, shape: tuple[int, ...], axis: int) -> Any:
    """A random order along an axis: indices, sorted by random 32-bit numbers.

    Equal numbers would favour the given order, so large arrays are sorted several times over.
    To sort a number with its index in one integer keeps equal numbers in order, and is faster
    than an argsort.
    """
    column = (-1, *(1,) * (len(shape) - 1 - axis))
    position = namespace(key).arange(shape[axis], dtype=np.uint64).reshape(column)
    order = np.broadcast_to(position.astype(np.int64), shape)
    rounds = math.ceil(3 * math.log(max(1, math.prod(shape))) / math.log(2**32 - 1))
    for i in range(rounds):
        keys = split(key)
        key, tags = keys[0], cast(_bits(keys[1], shape, 32), np.uint64)
        tagged = np.sort(tags << np.uint64(32) | position, axis=axis)
        ranks = cast(tagged & np.uint64(0xFFFFFFFF), np.int64)
        order = np.take_along_axis(order, ranks, axis) if i else ranks
    return order


def categorical(key: Any, logits: Any, axis: int, shape: Any, replace: bool) -> Any:
    check_key("categorical", key)
    logits = as_array(logits)
    kind = check_float("categorical", logits.dtype)
    axis = check_axis("categorical", axis, logits.ndim)
    count = logits.shape[axis]
    batch = logits.shape[:axis] + logits.shape[axis + 1 :]
    shape = batch if shape is None else check_shape("categorical", shape)
    check_broadcast("categorical", shape, logits=np.empty(batch, bool))
    lead = len(shape) - len(batch)
    if not replace:
        return _draw_without_replacement(key, logits, axis, shape, lead)
    if count == 0:
        raise ArgumentError(f"categorical: no categories on axis {axis} of {list(logits.shape)}")
    axis += lead
    noise = _gumbel(key, (*shape[:axis], count, *shape[axis:]), kind)
    return np.argmax(noise + logits, axis=axis)


def _draw_without_replacement(
    key: Any, logits: Any, axis: int, shape: tuple[int, ...], lead: int
) -> Any:
    """The first of a random order in which likely indices tend to come first."""
    draws = math.prod(shape[:lead])
    if draws > logits.shape[axis]:
        raise ArgumentError(
            f"categorical: {draws} draws without replacement from {logits.shape[axis]} categories"
        )
    scores = np.moveaxis(_gumbel(key, logits.shape, logits.dtype) + logits, axis, 0)
    if shape[lead:] != scores.shape[1:]:
        raise ShapeError(
            f"categorical without replacement: shape {shape} must end in {scores.shape[1:]}"
        )
    return np.reshape(np.argsort(-scores, axis=0, kind="stable")[:draws], shape)


def choice(key: Any, a: Any, shape: Any, replace: bool, p: Any, axis: int) -> Any:
    check_key("choice", key)
    a, shape = as_array(a), check_shape("choice", shape)
    axis = check_axis("choice", axis, a.ndim) if a.shape else 0
    count = a.shape[axis] if a.shape else operator.index(a)
    draws = math.prod(shape)
    if draws and (count <= 0 if replace else count < draws):
        how = "" if replace else " without replacement"
        raise ArgumentError(f"choice: {draws} draws{how} from {max(count, 0)}")
    if p is not None:
        picks = _weighted(key, as_array(p), count, shape, replace)
    elif replace:
        picks = randint(key, shape, 0, max(count, 1), np.int64)
    else:
        picks = np.reshape(_order(key, (count,), 0)[:draws], shape)
    return fnp.take(a, picks, axis=axis) if a.shape else picks


def _weighted(key: Any, p: Any, count: int, shape: tuple[int, ...], replace: bool) -> Any:
    if p.shape != (count,):
        raise ArgumentError(f"choice: p must be of shape {(count,)}, not {p.shape}")
    check_float("choice", p.dtype)
    # Running sums and draws of float16 would leave most of many elements out.
    p = p.astype(np.float32) if p.dtype == np.float16 else p
    kind = p.dtype
    if not replace:
        logits = np.where(p > 0, np.log(np.where(p > 0, p, 1)), -np.inf)
        scores = _gumbel(key, (count,), kind) + logits
        return np.reshape(np.argsort(-scores, kind="stable")[: math.prod(shape)], shape)
    total = np.cumsum(p)
    points = total[-1] * (1 - _unit(key, shape, kind))
    return np.sum(total < np.expand_dims(points, -1), axis=-1)


# --- checks ---------------------------------------------------------------------------


def as_array(x: Any) -> Any:
    """Arrays and tracers as they are, numbers and lists as arrays."""
    return x if hasattr(x, "dtype") and hasattr(x, "shape") else np.asarray(x)


def shape_of(x: Any) -> tuple[int, ...]:
    return x.shape if hasattr(x, "shape") else np.shape(x)


def _number(x: Any) -> Any:
    """Host arrays without axes as scalars, which meet a device's arrays as well."""
    return x[()] if type(x) is np.ndarray and not x.shape else x


def _is_number(x: Any, value: int) -> bool:
    return isinstance(x, int | float) and x == value


def check_key(name: str, key: Any) -> None:
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype == np.uint32 and shape == (2,):
        return
    if dtype == np.uint32 and shape and shape[-1] == 2:
        raise RandomKeyError(
            f"{name} takes one key, uint32[2], and was given an array of them, "
            f"uint32{list(shape)}. Map over it: fg.vmap(lambda key: fg.random.{name}(key, ...))."
        )
    given = type(key).__name__ if dtype is None or shape is None else f"{dtype}{list(shape)}"
    raise RandomKeyError(
        f"{name} takes a key, uint32[2], as its first argument, not {given}. Make one from a "
        "seed: fg.random.key(0)."
    )


def check_shape(name: str, shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Sequence) else (shape,)))
    except TypeError as error:
        raise ArgumentError(f"{name}: a shape is made of integers, not {shape!r}") from error
    if any(n < 0 for n in sizes):
        raise ArgumentError(f"{name}: a shape has no negative sizes; given was {shape!r}")
    return sizes


def check_float(name: str, dtype: Any) -> np.dtype:
    kind = np.dtype(dtype)
    if kind not in _FLOATS:
        raise ArgumentError(f"{name}: the dtype must be one of float64, 32 and 16, not {kind}")
    return kind


def check_axis(name: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ArgumentError(f"{name}: there is no axis {axis} in an array of {ndim} dimensions")
    return axis % ndim


def check_broadcast(name: str, shape: tuple[int, ...], **operands: Any) -> None:
    for operand, value in operands.items():
        have = shape_of(value)
        try:
            fits = np.broadcast_shapes(have, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"{name}: {operand} of shape {have} does not broadcast to {shape}")
