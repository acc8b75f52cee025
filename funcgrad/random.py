"""Random numbers as pure functions of explicit keys.

A key is a plain array, ``uint32[2]``: it can sit in a pytree, be traced by ``jit`` and be
mapped over by ``vmap``. A function of this module gives the same numbers for the same key
every time; for fresh ones, make fresh keys with `split` or `fold_in`:

    >>> import funcgrad as fg
    >>> key = fg.random.key(0)
    >>> key, subkey = fg.random.split(key)
    >>> fg.random.uniform(subkey, (2,))
    array([0.51495076, 0.18542482])

The generator is Threefry-2x32 (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). Names, signatures and numbers are those of ``jax.random`` (JAX 0.5 and later, with its
default ``jax_threefry_partitionable=True``) for the same key and dtype:

- the same bits: `key`, `split`, `fold_in`, `bits`, `uniform`, `bernoulli`, `randint`,
  `permutation`, and `choice` without weights. (`uniform` over bounds other than 0 and 1 ends in
  a multiplication and an addition, rounded once here as JAX's compiler does where the
  processor has a fused multiply-add; where it has none, JAX's last bit can differ.)
- within a few units in the last place, as logarithms of different libraries differ: `normal`,
  `truncated_normal`, `exponential`, `gumbel`; and so the same picks but for a tie within that
  error: `categorical`, and `choice` with weights.

Defaults are NumPy's, ``float64`` and ``int64``; they are JAX's when ``jax_enable_x64`` is set.
Where JAX has 32-bit defaults, ask for ``np.float32`` or ``np.int32`` here to get its numbers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from funcgrad.core.tracer import Tracer, bind
from funcgrad.errors import ArgumentError, RandomKeyError, ShapeError
from funcgrad.primitives import random as _primitives
from funcgrad.primitives import special as _special
from funcgrad.primitives.elementwise import cast

Key = NDArray[np.uint32]
Array = NDArray[Any]
Shape = int | Sequence[int]

__all__ = [
    "bernoulli",
    "bits",
    "categorical",
    "choice",
    "exponential",
    "fold_in",
    "gumbel",
    "key",
    "normal",
    "permutation",
    "randint",
    "split",
    "truncated_normal",
    "uniform",
]

_SQRT2 = math.sqrt(2.0)
_FLOATS = tuple(np.dtype(t) for t in (np.float64, np.float32, np.float16))


# --- keys -----------------------------------------------------------------------------


def key(seed: ArrayLike) -> Key:
    """A key from an integer seed.

    Args:
        seed: a Python integer in [-2**63, 2**64), or a scalar of an integer dtype, traced or
            not. All 64 bits count. (JAX with its 32-bit defaults takes the lower 32 only.)

    Returns:
        The key, ``uint32[2]``: the seed's upper and lower 32 bits.

    Raises:
        RandomKeyError: the seed is no integer, or no scalar.
        ArgumentError: a Python integer of more than 64 bits.

    Example:
        >>> key(42)
        array([ 0, 42], dtype=uint32)
    """
    if isinstance(seed, int):
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(f"key: the seed {seed} does not fit in 64 bits")
        return np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    number = _as_array(seed)
    if number.dtype.kind not in "iub" or number.shape != ():
        raise RandomKeyError(
            f"key: the seed must be one integer, not {number.dtype}{list(number.shape)}. "
            "For several keys use split(key(seed), n), or fg.vmap(fg.random.key)(seeds)."
        )
    low = cast(number, np.uint32)
    high = cast(number >> 32, np.uint32) if number.dtype.itemsize == 8 else np.uint32(0)
    return np.stack([high, low])


def split(key: Key, num: Shape = 2) -> Key:
    """New keys from a key, independent of it and of one another.

    Args:
        key: a key, ``uint32[2]``; do not use it for anything else afterwards.
        num: how many, or the shape of an array of them.

    Returns:
        The keys, ``uint32[num, 2]`` or ``uint32[*num, 2]``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: `num` is negative or no integer.

    Example:
        >>> split(key(0), 3)
        array([[1797259609, 2579123966],
               [ 928981903, 3453687069],
               [4146024105, 2718843009]], dtype=uint32)
    """
    _check_key("split", key)
    shape = _check_shape("split", num)
    return bind(_primitives.random_split, key, np.zeros((), np.uint32), shape=shape)


def fold_in(key: Key, data: ArrayLike) -> Key:
    """A new key from a key and an integer: ``fold_in(key, i)`` is ``split(key, n)[i]``.

    It serves where the number of keys is not known, or the integer is traced: a key per step
    of a loop, per layer, per device.

    Args:
        key: a key, ``uint32[2]``.
        data: an integer in [0, 2**32), or a scalar of an integer dtype, traced or not, of
            which the lower 32 bits count.

    Returns:
        The key, ``uint32[2]``.

    Raises:
        RandomKeyError: `key` is no single key, or `data` no single integer.
        ArgumentError: a Python integer out of range.

    Example:
        >>> fold_in(key(0), 2)
        array([4146024105, 2718843009], dtype=uint32)
    """
    _check_key("fold_in", key)
    if isinstance(data, int):
        if not 0 <= data < 2**32:
            raise ArgumentError(f"fold_in: data must be in [0, 2**32), not {data}")
        start = np.array(data, np.uint32)
    else:
        number = _as_array(data)
        if number.dtype.kind not in "iub" or number.shape != ():
            raise RandomKeyError(
                f"fold_in: data must be one integer, not {number.dtype}{list(number.shape)}. "
                "For several keys use fg.vmap(fg.random.fold_in, in_axes=(None, 0))(key, data)."
            )
        start = cast(number, np.uint32)
    return bind(_primitives.random_split, key, start, shape=())


def _check_key(name: str, key: Any) -> None:
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype == np.uint32 and shape == (2,):
        return
    if dtype == np.uint32 and shape and shape[-1] == 2:
        raise RandomKeyError(
            f"{name} takes one key, uint32[2], and was given {shape[:-1]} of them, "
            f"uint32{list(shape)}. Map over them: fg.vmap(lambda key: fg.random.{name}(key, ...))."
        )
    given = type(key).__name__ if dtype is None or shape is None else f"{dtype}{list(shape)}"
    raise RandomKeyError(
        f"{name} takes a key, uint32[2], as its first argument, not {given}. Make one from a "
        "seed: fg.random.key(0)."
    )


# --- bits and uniform numbers ---------------------------------------------------------


def bits(key: Key, shape: Shape = (), dtype: DTypeLike = np.uint64) -> Array:
    """Random bits, as unsigned integers.

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        dtype: ``uint8``, ``uint16``, ``uint32`` or ``uint64``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is no unsigned integer, or a bad shape.

    Example:
        >>> bits(key(0), (2,), np.uint32)
        array([4070199207, 3202661630], dtype=uint32)
    """
    _check_key("bits", key)
    kind = np.dtype(dtype)
    if kind.kind != "u":
        raise ArgumentError(f"bits: dtype must be an unsigned integer's, not {kind}")
    return _bits(key, _check_shape("bits", shape), kind.itemsize * 8)


def _bits(key: Any, shape: tuple[int, ...], width: int) -> Any:
    return bind(_primitives.random_bits, key, shape=shape, width=width)


def uniform(
    key: Key,
    shape: Shape = (),
    dtype: DTypeLike = np.float64,
    minval: ArrayLike = 0.0,
    maxval: ArrayLike = 1.0,
) -> Array:
    """Numbers uniform in [minval, maxval).

    They are multiples of 2**-52 (2**-23 in float32) stretched to the bounds, through which
    derivatives flow.

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        dtype: ``float64``, ``float32`` or ``float16``.
        minval: lower bounds, which broadcast to `shape`.
        maxval: upper bounds, which broadcast to `shape`.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is no float, or a bad shape.
        ShapeError: the bounds do not broadcast to `shape`.

    Example:
        >>> uniform(key(0), (3,), np.float32, minval=-1, maxval=1)
        array([ 0.8953298 ,  0.49133706, -0.5642171 ], dtype=float32)
    """
    _check_key("uniform", key)
    kind, shape = _check_float("uniform", dtype), _check_shape("uniform", shape)
    _check_broadcast("uniform", shape, minval=minval, maxval=maxval)
    unit = _unit(key, shape, kind)
    if _is_number(minval, 0) and _is_number(maxval, 1):
        return unit
    low, high = cast(minval, kind), cast(maxval, kind)
    return np.maximum(low, bind(_special.fma, unit, high - low, low))


def _unit(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Uniform in [0, 1): as many random bits as the dtype has behind the point."""
    width, digits = dtype.itemsize * 8, np.finfo(dtype).nmant
    integers = _bits(key, shape, width) >> dtype.type(0).view(f"u{dtype.itemsize}").dtype.type(
        width - digits
    )
    return cast(integers, dtype) * dtype.type(2.0**-digits)


def bernoulli(
    key: Key, p: ArrayLike = 0.5, shape: Shape | None = None
) -> NDArray[np.bool_]:
    """True with probability `p`.

    Args:
        key: a key, ``uint32[2]``.
        p: probabilities, of a float dtype, in which the comparison is made.
        shape: the result's shape, to which `p` broadcasts; by default that of `p`.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: `p` is of no float dtype, or a bad shape.
        ShapeError: `p` does not broadcast to `shape`.

    Example:
        >>> bernoulli(key(0), 0.3, (4,))
        array([False, False, False,  True])
    """
    _check_key("bernoulli", key)
    chance = p if isinstance(p, float) else _as_array(p)
    kind = _check_float("bernoulli", np.float64 if isinstance(p, float) else chance.dtype)
    shape = np.shape(chance) if shape is None else _check_shape("bernoulli", shape)
    _check_broadcast("bernoulli", shape, p=chance)
    return _unit(key, shape, kind) < chance


# --- normal and other continuous distributions ----------------------------------------


def normal(key: Key, shape: Shape = (), dtype: DTypeLike = np.float64) -> Array:
    """Numbers of the normal distribution with mean 0 and variance 1.

    They are sqrt(2) erfinv(u), u uniform in (-1, 1), with M. Giles' approximation of erfinv
    ("Approximating the erfinv function", GPU Computing Gems 2, 2011).

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        dtype: ``float64``, ``float32`` or ``float16``; or ``complex128`` or ``complex64``, with
            independent real and imaginary parts of variance 1/2.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is neither float nor complex, or a bad shape.

    Example:
        >>> normal(key(0), (3,), np.float32)
        array([ 1.6226422 ,  2.0252647 , -0.43359444], dtype=float32)
    """
    _check_key("normal", key)
    kind, shape = np.dtype(dtype), _check_shape("normal", shape)
    if kind.kind == "c":
        part = np.zeros((), kind).real.dtype
        real, imaginary = (_normal(k, shape, part) for k in split(key))
        return (real + kind.type(1j) * imaginary) / kind.type(_SQRT2)
    return _normal(key, shape, _check_float("normal", kind))


def _normal(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    low = np.nextafter(dtype.type(-1), dtype.type(0))
    draws = _unit(key, shape, dtype) * dtype.type(2) + low
    return bind(_special.erfinv_of_draws, draws) * dtype.type(_SQRT2)


def truncated_normal(
    key: Key,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: Shape | None = None,
    dtype: DTypeLike = np.float64,
) -> Array:
    """Numbers of the standard normal distribution cut off at `lower` and `upper`.

    Derivatives flow through the bounds. Far in a tail (both bounds beyond 3, say) the
    distribution's inverse has few digits left, here and in JAX alike, and so has the agreement.

    Args:
        key: a key, ``uint32[2]``.
        lower: lower bounds.
        upper: upper bounds.
        shape: the result's shape, to which the bounds broadcast; by default what they
            broadcast to.
        dtype: ``float64``, ``float32`` or ``float16``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is no float, or a bad shape.
        ShapeError: the bounds do not broadcast to `shape`.

    Example:
        >>> truncated_normal(key(0), -2.0, 2.0, (3,), np.float32)
        array([ 1.4513962,  1.7156037, -0.4119577], dtype=float32)
    """
    _check_key("truncated_normal", key)
    kind = _check_float("truncated_normal", dtype)
    if shape is None:
        shape = np.broadcast_shapes(np.shape(lower), np.shape(upper))
    shape = _check_shape("truncated_normal", shape)
    _check_broadcast("truncated_normal", shape, lower=lower, upper=upper)
    low, high = cast(lower, kind), cast(upper, kind)
    root = kind.type(_SQRT2)
    ends = (bind(_special.erf, low / root), bind(_special.erf, high / root))
    draws = uniform(key, shape, kind, *ends)
    out = bind(_special.erfinv_of_draws, draws) * root
    inner = np.nextafter(low, kind.type(np.inf)), np.nextafter(high, kind.type(-np.inf))
    return np.minimum(np.maximum(out, inner[0]), inner[1])


def exponential(key: Key, shape: Shape = (), dtype: DTypeLike = np.float64) -> Array:
    """Numbers of the exponential distribution of rate 1: -log(1 - u), u uniform in [0, 1).

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        dtype: ``float64``, ``float32`` or ``float16``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is no float, or a bad shape.

    Example:
        >>> exponential(key(0), (2,), np.float32)
        array([2.9508893, 1.3694656], dtype=float32)
    """
    _check_key("exponential", key)
    kind = _check_float("exponential", dtype)
    return -np.log1p(-_unit(key, _check_shape("exponential", shape), kind))


def gumbel(key: Key, shape: Shape = (), dtype: DTypeLike = np.float64) -> Array:
    """Numbers of the standard Gumbel distribution: -log(-log(u)), u uniform in (0, 1).

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        dtype: ``float64``, ``float32`` or ``float16``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: a dtype that is no float, or a bad shape.

    Example:
        >>> gumbel(key(0), (2,), np.float32)
        array([2.9241807, 1.2239487], dtype=float32)
    """
    _check_key("gumbel", key)
    kind = _check_float("gumbel", dtype)
    return _gumbel(key, _check_shape("gumbel", shape), kind)


def _gumbel(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    draws = np.maximum(_unit(key, shape, dtype), np.finfo(dtype).tiny)
    return -np.log(-np.log(draws))
