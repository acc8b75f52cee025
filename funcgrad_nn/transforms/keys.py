"""Keys of samples, and random numbers from many of them at once.

A key is what :mod:`funcgrad.random` takes, ``uint32[2]``. Here it is a counter's 64 bits, and what
is drawn from it is a hash of them (the finaliser of SplitMix64: G. Steele, D. Lea, C. Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014): some operations of NumPy for a batch of
keys, where Threefry takes hundreds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from funcgrad.errors import RandomKeyError

States = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)


def sample_keys(
    seed: int, epoch: int, indices: ArrayLike, repeats: ArrayLike = 0
) -> NDArray[np.uint32]:
    """The keys of samples: what :class:`~funcgrad_nn.DataLoader` gives to random transforms.

    Args:
        seed: the loader's; a non-negative integer.
        epoch: the number of the epoch, from 0.
        indices: of samples in the loader's dataset; integers of shape ``(n,)`` or ``()``.
        repeats: how often each has come before in the epoch, 0 but where a sampler draws a sample
            again; integers likewise.

    Returns:
        ``uint32[n, 2]`` or ``uint32[2]``.

    >>> sample_keys(0, 3, [7, 8]).shape
    (2, 2)
    >>> bool((sample_keys(0, 3, 7) == sample_keys(0, 3, [6, 7])[1]).all())
    True
    """
    (base,) = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    counts = np.asarray(indices).astype(np.uint64)
    states = folded(folded(np.full(counts.shape, base), counts), np.asarray(repeats, np.uint64))
    return as_keys(states)


def as_keys(states: States) -> NDArray[np.uint32]:
    """Hashed counters as keys."""
    return np.array(states, order="C")[..., None].view(np.uint32)


def as_states(name: object, keys: Any, ndim: int) -> States:
    """A key (``ndim`` 0) or keys of a batch (1) as integers.

    Raises:
        RandomKeyError: it is none.
    """
    array = np.asarray(keys)
    if array.dtype != np.uint32 or array.ndim != ndim + 1 or array.shape[-1] != 2:
        wanted = "a key, uint32[2]" if ndim == 0 else "a key for each sample, uint32[n, 2]"
        raise RandomKeyError(
            f"{name} is random and needs {wanted}, not {array.dtype}{list(array.shape)}: "
            f"fg.random.key(0){'' if ndim == 0 else ', split into n'} makes one, and a "
            "DataLoader gives each sample its own."
        )
    return np.array(array, order="C").view(np.uint64)[..., 0]


def folded(states: States, number: int | NDArray[np.uint64]) -> States:
    """Other states, one for each of these and a number."""
    # NumPy warns of scalars that overflow, and of arrays never.
    with np.errstate(over="ignore"):
        x = states + (np.asarray(number, np.uint64) + np.uint64(1)) * _STEP
        x = (x ^ (x >> _30)) * _FIRST
        x = (x ^ (x >> _27)) * _SECOND
        return np.asarray(x ^ (x >> _31))


def uniform(states: States, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), of shape ``(*states.shape, count)``."""
    bits = folded(states[..., None], np.arange(count, dtype=np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(u: NDArray[np.float64], low: int, high: int) -> NDArray[np.intp]:
    """Uniform numbers as integers from `low` to `high`, both included."""
    return low + (u * (high - low + 1)).astype(np.intp)
