"""Random numbers as pure functions of explicit keys.

A key is a plain array, ``uint32[2]``: it can sit in a pytree, be traced by ``jit`` and be
mapped over by ``vmap``. A function of this module gives the same numbers for the same key
every time; for fresh ones, make fresh keys with `split` or `fold_in`:

    >>> import funcgrad as fg
    >>> key = fg.random.key(0)
    >>> key, subkey = fg.random.split(key)
    >>> fg.random.uniform(subkey, (2,))
    array([0.08062437, 0.92394884])

The generator is Threefry-2x32 (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). Names, signatures and numbers are those of ``jax.random`` (JAX 0.5 and later, with its
default ``jax_threefry_partitionable=True``) for the same key and dtype:

- the same bits: `key`, `split`, `fold_in`, `bits`, `uniform`, `bernoulli`, `randint`,
  `permutation`, and `choice` without weights. (`uniform` over bounds other than 0 and 1 ends in
  a multiplication and an addition, rounded once here as JAX's compiler does where the
  processor has a fused multiply-add; where it has none, JAX's last bit can differ.)
- nearly the same, as logarithms of different libraries differ in their last digits: `normal`
  and `truncated_normal` (bounds within 3 of 0) within 5 units in the last place; `gumbel` within
  5 of those of the larger of 1 and itself; `exponential` within 150 in float64, where XLA's
  log1p loses two digits, and 2 in float32. So `categorical`, and `choice` with weights, pick
  the same but for a tie within that error.

Defaults are NumPy's, ``float64`` and ``int64``; they are JAX's when ``jax_enable_x64`` is set.
Where JAX has 32-bit defaults, ask for ``np.float32`` or ``np.int32`` here to get its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad import _sampling

if TYPE_CHECKING:
    # It documents NumPy's classes when it is imported, which takes long.
    from numpy.typing import ArrayLike, DTypeLike, NDArray

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
        >>> fg.random.key(42)
        array([ 0, 42], dtype=uint32)
    """
    return _sampling.key(seed)


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
        >>> fg.random.split(fg.random.key(0), 3)
        array([[1797259609, 2579123966],
               [ 928981903, 3453687069],
               [4146024105, 2718843009]], dtype=uint32)
    """
    return _sampling.split(key, num)


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
        >>> fg.random.fold_in(fg.random.key(0), 2)
        array([4146024105, 2718843009], dtype=uint32)
    """
    return _sampling.fold_in(key, data)


# --- bits and continuous distributions -------------------------------------------------


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
        >>> fg.random.bits(fg.random.key(0), (2,), np.uint32)
        array([4070199207, 4202968722], dtype=uint32)
    """
    return _sampling.bits(key, shape, dtype)


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
        >>> fg.random.uniform(fg.random.key(0), (3,), minval=-1, maxval=1)
        array([-0.16308578, -0.56740909,  0.93064292])
    """
    return _sampling.uniform(key, shape, dtype, minval, maxval)


def bernoulli(key: Key, p: ArrayLike = 0.5, shape: Shape | None = None) -> NDArray[np.bool_]:
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
        >>> fg.random.bernoulli(fg.random.key(0), 0.3, (4,))
        array([False,  True, False, False])
    """
    return _sampling.bernoulli(key, p, shape)


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
        >>> fg.random.normal(fg.random.key(0), (3,))
        array([-0.20584214, -0.78476578,  1.81608667])
    """
    return _sampling.normal(key, shape, dtype)


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
        >>> fg.random.truncated_normal(fg.random.key(0), -2.0, 2.0, (3,))
        array([-0.19635199, -0.74147057,  1.59059133])
    """
    return _sampling.truncated_normal(key, lower, upper, shape, dtype)


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
        >>> fg.random.exponential(fg.random.key(0), (2,))
        array([0.54207056, 0.24372319])
    """
    return _sampling.exponential(key, shape, dtype)


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
        >>> fg.random.gumbel(fg.random.key(0), (2,))
        array([ 0.13790566, -0.42599294])
    """
    return _sampling.gumbel(key, shape, dtype)


# --- integers and choices -------------------------------------------------------------


def randint(
    key: Key, shape: Shape, minval: ArrayLike, maxval: ArrayLike, dtype: DTypeLike = np.int64
) -> Array:
    """Integers uniform in [minval, maxval).

    Bounds beyond what `dtype` holds are clipped to it (so ``maxval=2**32`` makes the whole of
    ``uint32``). Where ``maxval <= minval`` the result is ``minval``, as bounds that are traced
    cannot be checked. The bias, from folding 64 bits (128 for 64-bit dtypes) into the range, is
    below 2**-32.

    Args:
        key: a key, ``uint32[2]``.
        shape: the result's shape.
        minval: lower bounds, integers, which broadcast to `shape`.
        maxval: upper bounds, integers, which broadcast to `shape`.
        dtype: an integer dtype.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: bounds or a dtype that are no integers, or a bad shape.
        ShapeError: the bounds do not broadcast to `shape`.

    Example:
        >>> fg.random.randint(fg.random.key(0), (5,), 0, 10)
        array([5, 1, 5, 7, 3])
    """
    return _sampling.randint(key, shape, minval, maxval, dtype)


def permutation(key: Key, x: ArrayLike, axis: int = 0, independent: bool = False) -> Array:
    """The integers below `x`, or the slices of `x` along an axis, in random order.

    Args:
        key: a key, ``uint32[2]``.
        x: a number of integers, or an array; derivatives flow through the latter.
        axis: the axis of `x` to permute along.
        independent: permute each vector along the axis on its own, instead of all alike.

    Returns:
        An array of the shape and dtype of `x`, or ``int64[x]``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: `x` is neither an integer nor an array with axes, or there is no such axis.

    Example:
        >>> fg.random.permutation(fg.random.key(0), 6)
        array([0, 1, 5, 4, 3, 2])
    """
    return _sampling.permutation(key, x, axis, independent)


def categorical(
    key: Key,
    logits: ArrayLike,
    axis: int = -1,
    shape: Shape | None = None,
    replace: bool = True,
) -> NDArray[np.int64]:
    """Indices drawn with probability softmax(logits), by the Gumbel-max trick.

    Args:
        key: a key, ``uint32[2]``.
        logits: unnormalised log-probabilities, of a float dtype.
        axis: the axis of the categories.
        shape: the result's shape, which ends in one that the shape of `logits` without its
            `axis` broadcasts to; by default that shape itself.
        replace: draw each time anew; otherwise no index comes twice along the leading axes
            that `shape` adds.

    Returns:
        Indices in [0, logits.shape[axis]), ``int64[shape]``.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: `logits` are of no float dtype or have no such axis, or there are fewer
            categories than draws without replacement.
        ShapeError: `shape` does not fit that of `logits`.

    Example:
        >>> fg.random.categorical(fg.random.key(0), np.log([0.1, 0.2, 0.7]), shape=(5,))
        array([2, 2, 2, 1, 1])
    """
    return _sampling.categorical(key, logits, axis, shape, replace)


def choice(
    key: Key,
    a: ArrayLike,
    shape: Shape = (),
    replace: bool = True,
    p: ArrayLike | None = None,
    axis: int = 0,
) -> Array:
    """Integers below `a`, or slices of `a` along an axis, drawn at random.

    Args:
        key: a key, ``uint32[2]``.
        a: a number of integers, or an array; derivatives flow through the latter.
        shape: the shape of the draws.
        replace: whether the same one may come again.
        p: probabilities, one for each; by default all alike.
        axis: the axis of `a` to draw along.

    Returns:
        ``int64[shape]``, or an array with `shape` in the place of the axis of `a`.

    Raises:
        RandomKeyError: `key` is no single key.
        ArgumentError: nothing to draw from, more draws without replacement than there are, a
            `p` of another length, or a bad shape or axis.

    Example:
        >>> fg.random.choice(fg.random.key(0), np.array([2.0, 3.0, 5.0]), (4,))
        array([2., 5., 5., 5.])
    """
    return _sampling.choice(key, a, shape, replace, p, axis)
