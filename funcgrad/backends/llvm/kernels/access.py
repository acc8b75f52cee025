"""How kernels' vectors come from memory and go there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.backends.llvm.ir.types import memory_type
from funcgrad.backends.llvm.ir.writer import Value, Writer
from funcgrad.backends.llvm.kernels.packing import PackedPanel, packs_of
from funcgrad.backends.loops.nests.nest import Axis, Index, Kernel, Load, Param, Ref, Store
from funcgrad.records import NamedTuple

BOOL = np.dtype(bool)
# Elements so far apart are taken out of longer vectors rather than one by one.
MOST_STEP = 4


class Mask:
    """Which lanes of a vector are elements at all."""

    def __init__(self, lanes: int, count: int):
        self.lanes = lanes
        self.count = count

    @property
    def text(self) -> str:
        bits = ", ".join(f"i1 {'true' if i < self.count else 'false'}" for i in range(self.lanes))
        return f"<{bits}>"


class Window(NamedTuple):
    """Neighbouring elements of which each lane has as many as it steps over.

    Attributes:
        start: the first of them, as the constant of an index.
        step: how many there are.
        whole: whether each of them is stored.
        width: how many of the last lane's lie within the array, as far as anything reads them.
    """

    start: int
    step: int
    whole: bool
    width: int


def windows(
    body: Sequence[Any], axis: Axis, params: Sequence[Param]
) -> dict[tuple[int, Index], Window]:
    """The window of each access, by array and index, that can be made together with others."""
    groups: dict[Any, list[Any]] = {}
    for s in body:
        if type(s) in (Load, Store) and not s.index.dynamic:
            step = s.index.step(axis)
            if 1 < step <= MOST_STEP:
                groups.setdefault((type(s), s.array, s.index.terms, step), []).append(s.index)
    found = {}
    for (access, array, terms, step), indices in groups.items():
        rest = sorted({i.const for i in indices})
        while rest:
            near = [c for c in rest if c < rest[0] + step]
            rest = rest[len(near) :]
            start = _start(near, terms, step, params[array].size)
            whole = len(near) == step
            if access is Load or whole:
                window = Window(near[0], step, whole, near[-1] - near[0] + 1)
                if start is not None:
                    window = Window(start, step, whole, step)
                for const in near:
                    found[array, Index(const, terms)] = window
    return found


def _start(near: Sequence[int], terms: Any, step: int, size: int) -> int | None:
    """Where a window begins that has these constants, and no element outside of the array."""
    low = sum(min(0, s * (a.extent - 1)) for a, s in terms)
    high = sum(max(0, s * (a.extent - 1)) for a, s in terms)
    for start in (near[0], near[-1] - step + 1):
        if start + low >= 0 and start + step - 1 + high < size:
            return start
    return None


class Access:
    """Loads and stores of a kernel.

    Attributes:
        values, positions, bases: what scalars, axes and arrays are in LLVM's code.
        vector_axis, lanes, mask: what the loop that is being written makes vectors of.
        windows: accesses that are made together, `wide` and `waiting`: what has been loaded for
            several, and is to be stored with others.
        panels: where loads find elements that have been packed for them.
    """

    def __init__(self, w: Writer, kernel: Kernel):
        self.w = w
        self.kernel = kernel
        self.values: dict[Ref, Value] = {}
        self.positions: dict[Axis, Value] = {}
        self.bases: list[Value] = []
        self.vector_axis: Axis | None = None
        self.lanes = 1
        self.mask: Mask | None = None
        self.windows: dict[tuple[int, Index], Window] = {}
        self.wide: dict[Any, list[Value]] = {}
        self.waiting: dict[Any, dict[int, Value]] = {}
        self.panels = {(p.array, p.index): PackedPanel(w, p) for p in packs_of(kernel)}

    def _address_terms(self, index: Index) -> tuple[Value, int]:
        """The scalar part of an index (vector axis at its first lane), and the step of lanes."""
        w = self.w
        total = w.const(index.const, "i64")
        for axis, step in index.terms:
            term = self.positions[axis]
            if step != 1:
                term = w.op("mul", term, w.const(step, "i64"))
            total = term if total.ref == "0" else w.op("add", total, term)
        for ref, step in index.dynamic:
            if self.values[ref].lanes > 1:
                continue
            term = w.op("mul", self.values[ref], w.const(step, "i64"))
            total = term if total.ref == "0" else w.op("add", total, term)
        lane_step = index.step(self.vector_axis) if self.vector_axis is not None else 0
        return total, lane_step

    def _lane_terms(self, index: Index) -> list[tuple[Value, int]]:
        return [(self.values[r], s) for r, s in index.dynamic if self.values[r].lanes > 1]

    def _load(self, array: int, index: Index, dtype: np.dtype) -> Value:
        w, ty = self.w, memory_type(dtype)
        panel = self.panels.get((array, index)) if self.vector_axis is not None else None
        if panel is not None:
            row, column = self.positions[panel.pack.block], self.positions[panel.pack.inner]
            return self._from_memory(self._load_vector(panel.address(row, column), ty), dtype)
        start, step = self._address_terms(index)
        scattered = self._lane_terms(index)
        address = w.offset(self.bases[array], ty, start)
        window = self._window(array, index)
        if window is not None:
            value = self._load_between(window, array, index, ty)
        elif self.lanes == 1 or (step == 0 and not scattered):
            value = w.load(address, ty)
        elif step == 1 and not scattered:
            value = self._load_vector(address, ty)
        elif step == -1 and not scattered and self.mask is None:
            first = w.offset(address, ty, w.const(1 - self.lanes, "i64"))
            value = w.shuffle(w.load(first, ty, self.lanes), range(self.lanes)[::-1])
        else:
            value = self._load_lanes(address, ty, step, scattered)
        return self._from_memory(value, dtype)

    def _load_vector(self, address: Value, ty: str) -> Value:
        w, lanes = self.w, self.lanes
        if self.mask is None:
            return w.load(address, ty, lanes)
        return w.masked_load(address, ty, Value(self.mask.text, "i1", lanes))

    def _load_lanes(self, address: Value, ty: str, step: int, scattered: list[Any]) -> Value:
        """Element by element."""
        w = self.w
        count = self.mask.count if self.mask is not None else self.lanes
        value = w.const(0, ty, self.lanes)
        for lane in range(count):
            value = w.insert(
                value, w.load(self._lane(address, ty, step, scattered, lane), ty), lane
            )
        return value

    def _lane(self, address: Value, ty: str, step: int, scattered: list[Any], lane: int) -> Value:
        w = self.w
        place = w.const(lane * step, "i64")
        for value, scale in scattered:
            term = w.op("mul", w.extract(value, lane), w.const(scale, "i64"))
            place = term if place.ref == "0" else w.op("add", place, term)
        return address if place.ref == "0" else w.offset(address, ty, place)

    def _store(self, array: int, index: Index, value: Value) -> None:
        w = self.w
        dtype = self.kernel.params[array].dtype
        ty = memory_type(dtype)
        value = self._to_memory(value, dtype)
        start, step = self._address_terms(index)
        scattered = self._lane_terms(index)
        address = w.offset(self.bases[array], ty, start)
        window = self._window(array, index)
        if window is not None and window.whole:
            self._store_between(window, array, index, value)
        elif value.lanes == 1 or (step == 1 and not scattered and self.mask is None):
            w.store(value, address)
        elif step == 1 and not scattered:
            self._store_masked(value, address)
        elif step == -1 and not scattered and self.mask is None:
            first = w.offset(address, ty, w.const(1 - self.lanes, "i64"))
            w.store(w.shuffle(value, range(self.lanes)[::-1]), first)
        else:
            count = self.mask.count if self.mask is not None else self.lanes
            for lane in range(count):
                w.store(w.extract(value, lane), self._lane(address, ty, step, scattered, lane))

    def _store_masked(self, value: Value, address: Value) -> None:
        w = self.w
        assert self.mask is not None
        if self.mask.count == 1:
            # LLVM 22 writes as many bytes as there were before a conversion to smaller integers.
            w.store(w.extract(value, 0), address)
            return
        w.masked_store(value, address, Value(self.mask.text, "i1", value.lanes))

    def _from_memory(self, value: Value, dtype: np.dtype) -> Value:
        if dtype != BOOL:
            return value
        return self.w.compare("icmp ne", value, self.w.like(0, value))

    def _to_memory(self, value: Value, dtype: np.dtype) -> Value:
        return self.w.cast("zext", value, "i8") if dtype == BOOL else value

    # -- neighbours --------------------------------------------------------------------

    def _window(self, array: int, index: Index) -> Window | None:
        if self.lanes == 1 or self.mask is not None:
            return None
        return self.windows.get((array, index))

    def _load_between(self, window: Window, array: int, index: Index, ty: str) -> Value:
        """Every so many-th element, out of vectors that have all."""
        w, first, lanes = self.w, index._replace(const=window.start), self.lanes
        key = (array, first)
        # Two vectors that end where the last element does, and may share some in the middle.
        count = (lanes - 1) * window.step + window.width
        half = lanes * ((window.step + 1) // 2)
        exact = window.width < window.step
        if key not in self.wide:
            start, _ = self._address_terms(first)
            address = w.offset(self.bases[array], ty, start)
            if exact:
                end = w.offset(address, ty, w.const(count - half, "i64"))
                self.wide[key] = [w.load(address, ty, half), w.load(end, ty, half)]
            else:
                self.wide[key] = [w.load(address, ty, lanes * window.step)]
        picks = range(index.const - window.start, count, window.step)
        if exact:
            picks = [k if k < half else k + 2 * half - count for k in picks]
        return w.shuffle(self.wide[key][0], picks, *self.wide[key][1:])

    def _store_between(self, window: Window, array: int, index: Index, value: Value) -> None:
        """Store vectors with their elements side by side, once there are all of them."""
        w, first = self.w, index._replace(const=window.start)
        parts = self.waiting.setdefault((array, first), {})
        parts[index.const - window.start] = value
        if len(parts) < window.step:
            return
        start, _ = self._address_terms(first)
        ordered = [parts[k] for k in range(window.step)]
        address = w.offset(self.bases[array], value.ty, start)
        w.store(self._interleaved(ordered), address)

    def _interleaved(self, parts: list[Value]) -> Value:
        w, lanes = self.w, self.lanes
        count = len(parts)
        if count == 2:
            front, back = parts
        else:
            pairs = [*parts, parts[-1]] if count == 3 else parts
            side = range(2 * lanes)
            front, back = w.shuffle(pairs[0], side, pairs[1]), w.shuffle(pairs[2], side, pairs[3])
        picks = [k * lanes + i for i in range(lanes) for k in range(count)]
        return w.shuffle(front, picks, back)
