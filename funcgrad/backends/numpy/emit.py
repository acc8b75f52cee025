"""From a graph to lines of straight NumPy.

Buffers that die are written to again (`out=`), results are always fresh arrays. Small arrays
are left to NumPy's own cache of memory, which is faster than asking for a particular buffer.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.backends.numpy.module import Module, spell_python
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.core.printing import letters
from funcgrad.primitives.contraction import matmul
from funcgrad.primitives.elementwise import convert
from funcgrad.transforms.simplify import simplify

# From this many bytes on, writing into a dead buffer beats allocating a new one.
REUSE_BYTES = 16384
# Below this size the conversion of a Python scalar takes longer than the arithmetic.
SCALAR_BYTES = 4096
_RESERVED = frozenset({"np", *keyword.kwlist})

Emitter = Callable[["Body", Eqn, list[str]], list[str]]
EMITTERS: dict[str, Emitter] = {}


def emits(name: str) -> Callable[[Emitter], Emitter]:
    """Decorator: how the primitive of this name is written, if not as one expression."""

    def register(function: Emitter) -> Emitter:
        EMITTERS[name] = function
        return function

    return register


class Names:
    """Fresh variable names: a, b, ..., z, aa, ..."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self.taken = set(taken) | _RESERVED
        self.count = 0

    def fresh(self, hint: str = "") -> str:
        if hint and hint not in self.taken:
            self.taken.add(hint)
            return hint
        while True:
            name = letters(self.count)
            self.count += 1
            if name not in self.taken:
                self.taken.add(name)
                return name


class Body:
    """Writes one graph's equations; loops and branches nest bodies.

    Attributes:
        owned: ids of variables whose memory was allocated here, so may be written to.
    """

    def __init__(self, graph: Graph, module: Module, names: Names, lines: list[str], indent: str):
        self.graph = graph
        self.module = module
        self.names = names
        self.lines = lines
        self.indent = indent
        self.text_of: dict[int, str] = {}
        self.root: dict[int, int] = {}
        self.aliases: dict[int, list[str]] = {}
        self.owned: set[int] = set()
        self.pool: dict[Any, list[str]] = {}
        self.last_use = self._liveness()
        self.wanted = Counter(_slot(e.outs[0].aval) for e in graph.eqns if _takes_out(e))

    # -- what is known before the first line ------------------------------------------

    def _liveness(self) -> dict[int, int]:
        """The last equation that reads each variable's memory, views included."""
        last: dict[int, int] = {}
        for number, eqn in enumerate(self.graph.eqns):
            for out in eqn.outs:
                shares = eqn.prim.view and type(eqn.ins[0]) is Var
                self.root[id(out)] = self._root(eqn.ins[0]) if shares else id(out)
            for atom in (*eqn.ins, *eqn.outs):
                last[self._root(atom)] = number
        for atom in self.graph.outputs:
            last[self._root(atom)] = len(self.graph.eqns)
        return last

    def _root(self, atom: Any) -> int:
        return self.root.get(id(atom), id(atom))

    # -- writing ----------------------------------------------------------------------

    def write(self, line: str) -> None:
        self.lines.append(self.indent + line)

    def nested(self, graph: Graph, inputs: Sequence[str], extra: str = "    ") -> list[str]:
        """Write another graph's equations here, deeper; what its outputs are called."""
        inner = Body(simplify(graph), self.module, self.names, self.lines, self.indent + extra)
        return inner.run(inputs)

    def run(self, inputs: Sequence[str]) -> list[str]:
        """Write all equations; expressions for the outputs."""
        for var, text in zip(self.graph.inputs, inputs, strict=True):
            self.text_of[id(var)] = text
        for number, eqn in enumerate(self.graph.eqns):
            self._equation(number, eqn)
        return [self.operand(a) for a in self.graph.outputs]

    def operand(self, atom: Any, beside: np.dtype | None = None) -> str:
        """How an atom is written; `beside` an operand of that dtype a literal will do."""
        if type(atom) is not Const:
            return self.text_of[id(atom)]
        value = atom.value
        # A dtype equals None where it is float64: NumPy takes None for its default.
        known = beside is not None and isinstance(value, np.generic)
        if known and value.dtype == beside and value.dtype.kind == "f":
            value = value.item()
        if type(value) in (int, float, complex, bool):
            text = spell_python(value)
            return f"({text})" if text.startswith("-") else text
        return self.module.constant(value)

    def _operands(self, eqn: Eqn) -> list[str]:
        if not eqn.prim.infix:
            return [self.operand(a) for a in eqn.ins]
        strong = next((a.aval for a in eqn.ins if type(a) is Var and not a.aval.weak), None)
        if strong is None:
            return [self.operand(a) for a in eqn.ins]
        if strong.shape and strong.dtype.kind == "f" and strong.nbytes < SCALAR_BYTES:
            return [self._small_operand(a, strong.dtype) for a in eqn.ins]
        return [self.operand(a, strong.dtype) for a in eqn.ins]

    def _small_operand(self, atom: Any, dtype: np.dtype) -> str:
        """Beside a small array a scalar is kept as one: converting it takes as long as the sum."""
        if type(atom) is Const and not atom.aval.shape and atom.aval.dtype.kind in "fi":
            value = np.asarray(atom.value)
            if atom.aval.weak or value.dtype == dtype:
                return self.module.scalar(value.item(), dtype)
        return self.operand(atom, dtype)

    def _equation(self, number: int, eqn: Eqn) -> None:
        ins = self._operands(eqn)
        emitter = EMITTERS.get(eqn.prim.name)
        if emitter is not None:
            for out, text in zip(eqn.outs, emitter(self, eqn, ins), strict=True):
                self.text_of[id(out)] = text
            self._release(number, eqn, "")
            return
        if eqn.prim.multiple:
            outs = [self.names.fresh() for _ in eqn.outs]
            self.write(f"{', '.join(outs)}, = {self._expression(eqn, ins)}")
            for out, text in zip(eqn.outs, outs, strict=True):
                self._define(out, text, owned=True)
            self._release(number, eqn, "")
            return
        out = eqn.outs[0]
        buffer = self._buffer(number, eqn) if _takes_out(eqn) else None
        if buffer is None:
            name = self.names.fresh()
            self.write(f"{name} = {self._expression(eqn, ins)}")
        else:
            name = buffer
            self._write_into(buffer, eqn, ins)
        self._define(out, name, owned=not eqn.prim.view)
        self._release(number, eqn, buffer or "")

    def _define(self, out: Any, name: str, owned: bool) -> None:
        self.text_of[id(out)] = name
        self.aliases.setdefault(self._root(out), []).append(name)
        if owned:
            self.owned.add(id(out))

    def _expression(self, eqn: Eqn, ins: list[str]) -> str:
        prim = eqn.prim
        if prim is convert and eqn.ins[0].aval.dtype == eqn.outs[0].aval.dtype:
            # Only a weak number becomes a strong one: at run time it is one already.
            return ins[0]
        if prim is matmul and all(len(a.aval.shape) <= 2 for a in eqn.ins):
            # The method costs a third of the operator's time on small operands.
            return f"{ins[0]}.dot({ins[1]})"
        if prim.infix:
            return f"{ins[0]} {prim.infix} {ins[1]}" if len(ins) == 2 else f"{prim.infix}{ins[0]}"
        if prim.source is not None:
            return prim.source(ins, eqn.params)
        params = [f"{k}={_spell_param(v)}" for k, v in eqn.params.items()]
        return f"{self._callee(prim.impl)}({', '.join([*ins, *params])})"

    def _callee(self, impl: Any) -> str:
        if isinstance(impl, np.ufunc) or getattr(np, impl.__name__, None) is impl:
            return f"np.{impl.__name__}"
        return self.module.helper(impl)

    def _write_into(self, buffer: str, eqn: Eqn, ins: list[str]) -> None:
        if eqn.prim.infix and len(ins) == 2 and ins[0] == buffer and eqn.prim is not matmul:
            self.write(f"{buffer} {eqn.prim.infix}= {ins[1]}")
        else:
            self.write(f"np.{eqn.prim.impl.__name__}({', '.join(ins)}, out={buffer})")

    # -- memory -----------------------------------------------------------------------

    def _buffer(self, number: int, eqn: Eqn) -> str | None:
        """A dead buffer of the result's shape and dtype to write into."""
        aval = eqn.outs[0].aval
        slot = _slot(aval)
        self.wanted[slot] -= 1
        if aval.nbytes < REUSE_BYTES:
            return None
        if eqn.prim is not matmul:
            for atom in eqn.ins:
                if (
                    type(atom) is Var
                    and id(atom) in self.owned
                    and self._root(atom) == id(atom)
                    and self.last_use[id(atom)] == number
                    and _slot(atom.aval) == slot
                ):
                    return self.text_of[id(atom)]
        free = self.pool.get(slot)
        return free.pop() if free else None

    def _release(self, number: int, eqn: Eqn, reused: str) -> None:
        """Keep dead buffers that will be wanted again; drop the names of the others."""
        dead: list[str] = []
        for atom in {id(a): a for a in (*eqn.ins, *eqn.outs)}.values():
            if type(atom) is not Var:
                continue
            root = self._root(atom)
            if root not in self.owned or self.last_use[root] != number:
                continue
            self.owned.discard(root)
            names = self.aliases.pop(root)
            name = names[0]
            if name == reused:
                dead += [n for n in names[1:] if n != reused]
                continue
            aval = self._aval_of_root(root)
            slot = _slot(aval)
            if aval.nbytes >= REUSE_BYTES and self.wanted[slot] > len(self.pool.get(slot, ())):
                self.pool.setdefault(slot, []).append(name)
            elif aval.nbytes >= REUSE_BYTES:
                dead += names
        if dead:
            self.write(f"del {', '.join(dict.fromkeys(dead))}")

    def _aval_of_root(self, root: int) -> Aval:
        for eqn in self.graph.eqns:
            for out in eqn.outs:
                if id(out) == root:
                    return out.aval
        raise KeyError(root)


def _slot(aval: Aval) -> Any:
    return (aval.shape, aval.dtype)


def _takes_out(eqn: Eqn) -> bool:
    prim = eqn.prim
    return (
        not prim.multiple
        and isinstance(prim.impl, np.ufunc)
        and prim.impl.nout == 1
        and prim.source is None
        and not eqn.params
        and len(eqn.outs[0].aval.shape) > 0
        and not eqn.outs[0].aval.weak
    )


def _spell_param(value: Any) -> str:
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    if isinstance(value, tuple):
        inner = ", ".join(map(_spell_param, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return spell_python(value)
