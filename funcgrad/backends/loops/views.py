"""Views of buffers: strided parts, as NumPy's views of arrays are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from funcgrad.backends.loops.memory import Buffer
from funcgrad.core.graph import Eqn


class View(NamedTuple):
    """Part of a buffer, strides and offset counted in elements."""

    buffer: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def contiguous(self) -> bool:
        return self.strides == row_major(self.shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def contiguous(buffer: Buffer, shape: Sequence[int]) -> View:
    return View(buffer, tuple(shape), row_major(shape), 0)


def view_of(eqn: Eqn, base: View) -> View | None:
    """The view that an equation makes of its operand's; None where only a copy has it."""
    name, params, shape = eqn.prim.name, eqn.params, eqn.outs[0].aval.shape
    strides, offset = base.strides, base.offset
    if name == "transpose":
        return View(base.buffer, shape, tuple(strides[p] for p in params["perm"]), offset)
    if name == "broadcast_to":
        lead = (0,) * (len(shape) - len(base.shape))
        kept = tuple(0 if n == 1 else s for n, s in zip(base.shape, strides, strict=True))
        return View(base.buffer, shape, lead + kept, offset)
    if name == "flip":
        new = list(strides)
        for a in params["axes"]:
            offset += strides[a] * max(base.shape[a] - 1, 0)
            new[a] = -strides[a]
        return View(base.buffer, shape, tuple(new), offset)
    if name == "index":
        new = []
        for n, s, e in zip(base.shape, strides, params["idx"], strict=True):
            if type(e) is tuple:
                start, _, step = slice(*e).indices(n)
                offset += start * s if len(range(*slice(*e).indices(n))) else 0
                new.append(s * step)
            else:
                offset += (e % n) * s
        return View(base.buffer, shape, tuple(new), offset)
    if name == "reshape":
        new_strides = _reshaped(base, shape)
        return None if new_strides is None else View(base.buffer, shape, new_strides, offset)
    return base


def _reshaped(base: View, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The strides of a reshaped view, as NumPy finds them; None where it needs a copy."""
    if base.contiguous or not prod(shape):
        return row_major(shape)
    old = [(n, s) for n, s in zip(base.shape, base.strides, strict=True) if n != 1]
    new: list[int] = []
    i = 0
    for n in shape:
        if n == 1:
            new.append(0)
            continue
        if i >= len(old):
            return None
        length, step = old[i]
        if n == length:
            new.append(step)
            i += 1
        elif n < length and length % n == 0:
            new.append(step * (length // n))
            old[i] = (length // n, step)
        else:
            while n > length and i + 1 < len(old):
                following, small = old[i + 1]
                if step != small * following:
                    return None
                length, step = length * following, small
                i += 1
            if n != length:
                return None
            new.append(step)
            i += 1
    return tuple(new)
