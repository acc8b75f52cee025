"""Small arrays in registers: an array is one vector, its elements in row-major order.

What moves elements about is then a shuffle with constant lanes, and a matrix product a few
multiplications of shuffled vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.common.dtypes import INT64, loop_dtypes, narrow_code, narrow_range
from funcgrad.backends.llvm.ir.frame import report
from funcgrad.backends.llvm.ir.scalar import SCALAR, apply, combine, convert, supports
from funcgrad.backends.llvm.ir.types import SUPPORTED, llvm_type, memory_type
from funcgrad.backends.llvm.ir.writer import FLOATS, Value, Writer, float_text
from funcgrad.backends.loops.fusion.values import reduction_of
from funcgrad.backends.loops.nests.views import (
    View,
    contiguous,
    elements,
    part,
    parts_of,
    row_major,
    view_of,
)
from funcgrad.core.graph import Const, Eqn
from funcgrad.primitives.contraction import matmul
from funcgrad.primitives.elementwise import convert as convert_p
from funcgrad.primitives.indexing import block_position
from funcgrad.primitives.integers import narrow

BOOL = np.dtype(bool)


# --- what can be written --------------------------------------------------------------


def is_elementwise(eqn: Eqn) -> bool:
    """Whether an equation is a scalar operation that LLVM code can be written for."""
    dtypes = [a.aval.dtype for a in (*eqn.ins, *eqn.outs)]
    if len(eqn.outs) != 1 or any(d not in SUPPORTED for d in dtypes):
        return False
    if eqn.prim is convert_p or eqn.prim is narrow:
        return True
    if eqn.params or (eqn.prim.kind != "elementwise" and eqn.prim.kind != "nondifferentiable"):
        return False
    name = eqn.prim.name
    return name in SCALAR and supports(name, *loop_dtypes(eqn))


def can_be_small(eqn: Eqn) -> bool:
    """Whether an equation on small arrays can be computed in registers."""
    if any(a.aval.dtype not in SUPPORTED or not a.aval.size for a in (*eqn.ins, *eqn.outs)):
        return False
    combined = eqn.prim.reduces or eqn.prim.running
    if combined:
        return supports(combined, eqn.outs[0].aval.dtype)
    if eqn.prim is matmul:
        return eqn.outs[0].aval.dtype.kind in "fiu"
    own = _rule(eqn) is not _elementwise and eqn.prim.kind != "higher-order"
    return own or is_elementwise(eqn)


# --- lanes ----------------------------------------------------------------------------


def lanes_of(shape: Sequence[int]) -> np.ndarray:
    return np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)


def pick(w: Writer, x: Value, lanes: np.ndarray) -> Value:
    """A vector of chosen lanes, in the order of an array of their numbers."""
    flat = lanes.ravel().tolist()
    if x.lanes == len(flat) and flat == list(range(len(flat))):
        return x
    return w.shuffle(x, flat)


def assemble(w: Writer, base: Value, parts: Sequence[tuple[Value, np.ndarray]]) -> Value:
    """`base` with each part's lanes put at the places given."""
    for x, places in parts:
        flat = places.ravel().tolist()
        if not flat:
            continue
        if base.lanes == 1:
            base = x
        elif x.lanes == 1:
            base = w.insert(base, x, flat[0])
        else:
            source = {place: lane for lane, place in enumerate(flat)}
            wide = w.shuffle(x, [source.get(i, -1) for i in range(base.lanes)])
            blend = [base.lanes + i if i in source else i for i in range(base.lanes)]
            base = w.shuffle(base, blend, wide)
    return base


def zeros(w: Writer, aval: Any) -> Value:
    return w.const(0, llvm_type(aval.dtype), max(aval.size, 1))


def constant_array(value: Any, dtype: np.dtype) -> Value:
    """A constant vector."""
    ty = llvm_type(dtype)
    flat = np.asarray(value, dtype).ravel().tolist()
    if ty in FLOATS:
        texts = [float_text(v, ty) for v in flat]
    elif ty == "i1":
        texts = ["true" if v else "false" for v in flat]
    else:
        texts = [str(v) for v in flat]
    if len(texts) == 1:
        return Value(texts[0], ty)
    return Value(f"<{', '.join(f'{ty} {t}' for t in texts)}>", ty, len(texts))


# --- memory ---------------------------------------------------------------------------


def load_view(w: Writer, base: Value, view: View, dtype: np.dtype) -> Value:
    """A view's elements as a vector."""
    ty, n = memory_type(dtype), int(np.prod(view.shape, dtype=np.int64))
    address = w.offset(base, ty, w.const(view.offset, "i64")) if view.offset else base
    if n == 1 or view.contiguous:
        value = w.load(address, ty, n)
    elif not any(s for s, k in zip(view.strides, view.shape, strict=True) if k > 1):
        value = w.splat(w.load(address, ty), n)
    else:
        value = w.const(0, ty, n)
        for lane, place in enumerate(elements(view._replace(offset=0)).ravel().tolist()):
            element = w.load(w.offset(address, ty, w.const(place, "i64")), ty)
            value = w.insert(value, element, lane)
    return to_bool(w, value) if dtype == BOOL else value


def to_bool(w: Writer, value: Value) -> Value:
    """Booleans as they are in memory, bytes, as they are in registers."""
    return w.compare("icmp ne", value, w.like(0, value))


def store_array(w: Writer, value: Value, base: Value, dtype: np.dtype) -> None:
    if dtype == BOOL:
        value = w.cast("zext", value, "i8")
    w.store(value, base)


# --- equations ------------------------------------------------------------------------


class Small:
    """Writes equations on small arrays.

    Args:
        outside: the value of an atom that none of the equations made.
        status: where an index out of range is reported.
    """

    def __init__(self, w: Writer, outside: Callable[[Any], Value], status: Value):
        self.w = w
        self.outside = outside
        self.status = status
        self.env: dict[int, Value] = {}

    def value(self, atom: Any) -> Value:
        found = self.env.get(id(atom))
        if found is None:
            if type(atom) is Const:
                found = constant_array(atom.value, atom.aval.dtype)
            else:
                found = self.outside(atom)
            self.env[id(atom)] = found
        return found

    def write(self, eqns: Sequence[Eqn]) -> None:
        for eqn in eqns:
            if eqn.prim.view and type(eqn.ins[0]) is not Const:
                # A view of what lies in memory is read as such, if anything reads it.
                if id(eqn.ins[0]) not in self.env:
                    continue
            found = _rule(eqn)(self, eqn)
            if eqn.prim.multiple:
                self.env.update(zip(map(id, eqn.outs), found, strict=True))
            else:
                self.env[id(eqn.outs[0])] = found


def _elementwise(small: Small, eqn: Eqn) -> Value:
    w, out = small.w, eqn.outs[0].aval
    args = []
    for atom, dtype in zip(eqn.ins, loop_dtypes(eqn), strict=True):
        value = small.value(atom)
        if atom.aval.shape != out.shape:
            value = pick(w, value, np.broadcast_to(lanes_of(atom.aval.shape), out.shape))
        args.append(convert(w, value, atom.aval.dtype, dtype))
    if eqn.prim is convert_p:
        return convert(w, args[0], eqn.ins[0].aval.dtype, out.dtype)
    return apply(w, eqn.prim.name, loop_dtypes(eqn), args)


def _view(small: Small, eqn: Eqn) -> Value:
    atom = eqn.ins[0]
    view = view_of(eqn, contiguous(None, atom.aval.shape))
    assert view is not None
    return pick(small.w, small.value(atom), elements(view))


def _assembled(small: Small, eqn: Eqn) -> Value:
    w, out = small.w, eqn.outs[0].aval
    base, parts = zeros(w, out), []
    for atom, found in zip(eqn.ins, parts_of(eqn), strict=True):
        value = convert(w, small.value(atom), atom.aval.dtype, out.dtype)
        places = elements(part(found, None, atom.aval.shape))
        if np.array_equal(places, lanes_of(out.shape)):
            base = value
        else:
            parts.append((value, places))
    return assemble(w, base, parts)


def _slices(lanes: np.ndarray, axes: Sequence[int]) -> list[np.ndarray]:
    """The lanes that are combined, one after the other, to reduce over these axes."""
    moved = np.moveaxis(lanes, axes, range(len(axes)))
    rest = moved.shape[len(axes) :]
    return list(moved.reshape((-1, *rest)))


def _reduce(small: Small, eqn: Eqn) -> Value:
    w, atom = small.w, eqn.ins[0]
    dtype, op = eqn.outs[0].aval.dtype, reduction_of(eqn)
    value = convert(w, small.value(atom), atom.aval.dtype, dtype)
    if not eqn.params["axes"]:
        return value
    parts = [pick(w, value, s) for s in _slices(lanes_of(atom.aval.shape), eqn.params["axes"])]
    while len(parts) > 1:
        half = len(parts) // 2
        pairs = [combine(w, op, dtype, parts[i], parts[i + half]) for i in range(half)]
        parts = pairs + parts[2 * half :]
    return parts[0]


def _running(small: Small, eqn: Eqn) -> Value:
    w, atom = small.w, eqn.ins[0]
    out, op = eqn.outs[0].aval, eqn.prim.running
    assert op is not None
    value = convert(w, small.value(atom), atom.aval.dtype, out.dtype)
    slices = _slices(lanes_of(out.shape), [eqn.params["axis"]])
    total, parts = None, []
    for lanes in slices:
        part = pick(w, value, lanes)
        total = part if total is None else combine(w, op, out.dtype, total, part)
        parts.append((total, lanes))
    return assemble(w, zeros(w, out), parts)


def _recurrence(small: Small, eqn: Eqn) -> Value:
    w, (a, b), out = small.w, eqn.ins, eqn.outs[0].aval
    coefficients, terms = small.value(a), small.value(b)
    slices = _slices(lanes_of(out.shape), [eqn.params["axis"]])
    state, parts = None, []
    for lanes in slices[::-1] if eqn.params["reverse"] else slices:
        term = pick(w, terms, lanes)
        if state is not None:
            factor = pick(w, coefficients, lanes)
            term = combine(w, "add", out.dtype, combine(w, "mul", out.dtype, factor, state), term)
        state = term
        parts.append((state, lanes))
    return assemble(w, zeros(w, out), parts)


def _position(small: Small, eqn: Eqn) -> Value:
    """argmax, argmin: the first of equals; the first NaN before all."""
    w, atom = small.w, eqn.ins[0]
    x, dtype = small.value(atom), atom.aval.dtype
    better = "greater" if eqn.prim.name == "argmax" else "less"
    slices = _slices(lanes_of(atom.aval.shape), [eqn.params["axis"]])
    best = pick(w, x, slices[0])
    where = w.const(0, "i64", best.lanes)
    for k, lanes in enumerate(slices[1:], 1):
        other = pick(w, x, lanes)
        wins = apply(w, better, (dtype, dtype), (other, best))
        if dtype.kind == "f":
            is_nan, known = w.compare("fcmp uno", other, other), w.compare("fcmp ord", best, best)
            wins = w.op("and", w.op("or", wins, is_nan), known)
        best = w.select(wins, other, best)
        where = w.select(wins, w.like(k, where), where)
    return where


def _matmul(small: Small, eqn: Eqn) -> Value:
    w, (a, b), out = small.w, eqn.ins, eqn.outs[0].aval
    x = convert(w, small.value(a), a.aval.dtype, out.dtype)
    y = convert(w, small.value(b), b.aval.dtype, out.dtype)
    left, right = lanes_of(a.aval.shape), lanes_of(b.aval.shape)
    left = left[None, :] if left.ndim == 1 else left
    right = right[:, None] if right.ndim == 1 else right
    total = None
    for k in range(left.shape[-1]):
        column, row = left[..., :, k, None], right[..., None, k, :]
        column, row = np.broadcast_arrays(column, row)
        p, q = pick(w, x, column), pick(w, y, row)
        if total is None:
            total = combine(w, "mul", out.dtype, p, q)
        elif out.dtype.kind == "f":
            total = w.intrinsic("fmuladd", p, q, total)
        else:
            total = w.op("add", total, w.op("mul", p, q))
    assert total is not None
    return total


def _gather(small: Small, eqn: Eqn) -> Value:
    """Elements at positions that are known only when it runs."""
    w, (x, *indices), axes = small.w, eqn.ins, eqn.params["axes"]
    shape, out = x.aval.shape, eqn.outs[0].aval
    strides = row_major(shape)
    block = np.broadcast_shapes(*(i.aval.shape for i in indices))
    start = block_position(axes)
    place = w.const(0, "i64", max(out.size, 1))
    number = lanes_of(block)
    spread = (1,) * start + block + (1,) * (len(out.shape) - start - len(block))
    for atom, axis in zip(indices, axes, strict=True):
        value = small.value(atom)
        value = pick(w, value, np.broadcast_to(lanes_of(atom.aval.shape), block))
        position = _checked(small, value, atom.aval.dtype, shape[axis])
        wide = pick(w, position, np.broadcast_to(number.reshape(spread), out.shape))
        place = w.op("add", place, w.op("mul", wide, w.like(strides[axis], wide)))
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    fixed = np.zeros(out.shape, np.int64)
    free = [i for i in range(len(out.shape)) if not start <= i < start + len(block)]
    for axis, i in zip(rest, free, strict=True):
        along = [1] * len(out.shape)
        along[i] = shape[axis]
        fixed = fixed + (np.arange(shape[axis]) * strides[axis]).reshape(along)
    place = w.op("add", place, constant_array(fixed, np.dtype(np.int64)))
    source = small.value(x)
    if source.lanes == 1:
        return w.splat(source, place.lanes)
    return _elements(w, source, place)


def _elements(w: Writer, source: Value, place: Value) -> Value:
    """A vector's elements at these places.

    They are loaded: LLVM 22 makes one permutation of as many extractions, and fails at that for
    some numbers of lanes where elements and places differ in size.
    """
    bits = source.ty == "i1"
    room = w.in_memory(w.cast("zext", source, "i8") if bits else source)
    ty = "i8" if bits else source.ty
    result = w.const(0, ty, place.lanes)
    for lane in range(place.lanes):
        element = w.load(w.offset(room, ty, w.extract(place, lane)), ty)
        result = element if place.lanes == 1 else w.insert(result, element, lane)
    return to_bool(w, result) if bits else result


def _checked(small: Small, index: Value, dtype: np.dtype, n: int) -> Value:
    """Indices as int64 counted from the start; those out of range are reported and become 0."""
    w = small.w
    index = convert(w, index, dtype, np.dtype(np.int64))
    if dtype.kind == "i":
        below = w.compare("icmp slt", index, w.like(0, index))
        index = w.select(below, w.op("add", index, w.like(n, index)), index)
    bad = w.compare("icmp uge", index, w.like(n, index))
    report(w, small.status, bad, index, n)
    return w.select(bad, w.like(0, index), index)


def _narrow(small: Small, eqn: Eqn) -> Value:
    """Python integers in a dtype that must hold them."""
    w, have, want = small.w, eqn.ins[0].aval.dtype, eqn.outs[0].aval.dtype
    value = convert(w, small.value(eqn.ins[0]), have, INT64)
    least, count = narrow_range(want)
    above = w.op("sub", value, w.like(least, value))
    bad = w.compare("icmp uge", above, w.like(count, above))
    report(w, small.status, bad, above, narrow_code(want))
    return convert(w, value, INT64, want)


RULES: dict[str, Callable[[Small, Eqn], Any]] = {
    "narrow": _narrow,
    "matmul": _matmul,
    "argmax": _position,
    "argmin": _position,
    "recurrence": _recurrence,
}


def _rule(eqn: Eqn) -> Callable[[Small, Eqn], Any]:
    prim = eqn.prim
    if prim.view:
        return _view
    if prim.assembles:
        return _assembled
    if prim.gathers:
        return _gather
    if prim.reduces:
        return _reduce
    return _running if prim.running else RULES.get(prim.name, _elementwise)
