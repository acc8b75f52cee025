"""Threefry-2x32: the block function and the layout of its counters.

The source of these kernels is copied into exported programs: they use NumPy alone.

The generator is counter based: each 64-bit counter is encrypted on its own under a 64-bit key,
so any element of any array of random bits can be computed without the ones before it.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011 (Threefry-2x32 with 20 rounds, constants of Random123).
"""

from __future__ import annotations

import numpy as np

from funcgrad.core.device import is_numpys, zeros_beside

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # Skein's key schedule constant, its low 32 bits
_MASK = 0xFFFFFFFF

# Up to this many counters Python's integers beat NumPy's dispatch (107 ufunc calls a block).
_FEW = 10
# Counters encrypted together: three such uint32 rows stay in a core's second-level cache.
_COUNTERS_AT_ONCE = 1 << 15

_SHIFTS = tuple(
    tuple((np.uint32(r), np.uint32(32 - r)) for r in rotations) for rotations in _ROTATIONS
)
_STEPS = tuple(np.uint32(i) for i in range(6))


def random_bits(key: np.ndarray, *, shape: tuple[int, ...], width: int) -> np.ndarray:
    """Random bits for each key: the counters 0, 1, ... in C order, encrypted.

    `key` is uint32[*batch, 2]; the result is uint{width}[*batch, *shape]. The two words that a
    counter encrypts to are put one after the other for a width of 64, and xor-ed, then
    truncated, for less.
    """
    out = zeros_beside(key, (*key.shape[:-1], *shape), f"u{width // 8}")
    if out.size:
        keys = key.reshape(-1, 2)
        _fill(out.reshape(len(keys), -1), keys, zeros_beside(key, len(keys), np.uint64))
    return out


def random_split(key: np.ndarray, start: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """New keys from each key: the counters start, start + 1, ... in C order, encrypted.

    `key` is uint32[*batch, 2] and `start` an unsigned integer[*batch] (the batches broadcast);
    the result is uint32[*batch, *shape, 2].
    """
    batch = np.broadcast_shapes(key.shape[:-1], np.shape(start))
    out = zeros_beside(key, (*batch, *shape, 2), np.uint32)
    if out.size:
        keys = np.broadcast_to(key, (*batch, 2)).reshape(-1, 2)
        starts = (zeros_beside(key, batch, np.uint64) + start).reshape(-1)
        _fill(out.reshape(len(keys), -1, 2), keys, starts)
    return out


def block(k0: int, k1: int, x0: int, x1: int) -> tuple[int, int]:
    """The block function on Python integers: the counter (x0, x1) encrypted under (k0, k1)."""
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = (x0 + k0) & _MASK, (x1 + k1) & _MASK
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 = (x0 + x1) & _MASK
            x1 = ((x1 << r | x1 >> (32 - r)) & _MASK) ^ x0
        x0 = (x0 + schedule[(i + 1) % 3]) & _MASK
        x1 = (x1 + schedule[(i + 2) % 3] + i + 1) & _MASK
    return x0, x1


def _fill(out: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> None:
    """Write to out[i, j] what the counter starts[i] + j encrypts to under keys[i]."""
    if is_numpys(out) and out.shape[0] * out.shape[1] <= _FEW:
        _fill_few(out, keys, starts)
    else:
        _fill_blocks(out, keys, starts)


def _fill_few(out: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> None:
    words = [
        [block(k0, k1, (start + j) >> 32 & _MASK, (start + j) & _MASK) for j in range(out.shape[1])]
        for (k0, k1), start in zip(keys.tolist(), starts.tolist(), strict=True)
    ]
    x0, x1 = np.array(words, np.uint32).transpose(2, 0, 1)
    _store(out, x0, x1)


def _fill_blocks(out: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> None:
    rows, columns = out.shape[:2]
    width = min(columns, _COUNTERS_AT_ONCE)
    height = min(rows, _COUNTERS_AT_ONCE // width)
    offsets = np.arange(width, dtype=np.uint64, like=out)
    scratch = zeros_beside(out, (3, height * width), np.uint32)
    for top in range(0, rows, height):
        some = slice(top, top + height)
        schedule = _key_words(keys[some], width)
        for left in range(0, columns, width):
            part = out[some, left : left + width]
            counters = starts[some, None] + np.uint64(left) + offsets[: part.shape[1]]
            x0, x1, spare = scratch[:, : counters.size]
            x0[...] = (counters >> np.uint64(32)).ravel()
            x1[...] = counters.ravel()
            _encrypt([k[: counters.size] for k in schedule], x0, x1, spare)
            _store(part, x0.reshape(counters.shape), x1.reshape(counters.shape))


def _key_words(keys: np.ndarray, width: int) -> list[np.ndarray]:
    """The three key words: of one key, to broadcast; of many, repeated to run along the block."""
    k0, k1 = keys.T
    words = [k0, k1, k0 ^ k1 ^ np.uint32(_PARITY)]
    return words if len(keys) == 1 else [np.repeat(k, width) for k in words]


def _encrypt(schedule: list[np.ndarray], x0: np.ndarray, x1: np.ndarray, spare: np.ndarray) -> None:
    """The block function on arrays, in place."""
    x0 += schedule[0]
    x1 += schedule[1]
    for i in range(5):
        for left, right in _SHIFTS[i % 2]:
            x0 += x1
            np.left_shift(x1, left, spare)
            x1 >>= right
            x1 |= spare
            x1 ^= x0
        x0 += schedule[(i + 1) % 3]
        x1 += schedule[(i + 2) % 3]
        x1 += _STEPS[i + 1]


def _store(out: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> None:
    """Both words as a key, or one after the other in 64 bits, or folded into 32 or fewer."""
    if out.ndim == 3:
        out[..., 0] = x0
        out[..., 1] = x1
    elif out.itemsize == 8:
        out[...] = x0
        out <<= np.uint64(32)
        out |= x1
    else:
        out[...] = x0 ^ x1
