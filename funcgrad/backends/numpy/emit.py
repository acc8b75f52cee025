"""From a graph to lines of straight NumPy.

Buffers that die are written to again (`out=`); inputs and constants never are. Small arrays
are left to NumPy's own cache of memory, which is faster than asking for a particular buffer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from funcgrad.backends.common.prepare import is_alias, prepare
from funcgrad.backends.common.spelling import dtype_name, spell
from funcgrad.backends.numpy.liveness import Memory, memory_of
from funcgrad.backends.numpy.masks import mask_by_bits
from funcgrad.backends.numpy.module import CUPY, Module
from funcgrad.core.aval import Aval
from funcgrad.core.device import CPU, Device
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.core.primitive import Primitive
from funcgrad.primitives.contraction import matmul
from funcgrad.primitives.elementwise import add, mul

# From this many bytes on, writing into a dead buffer beats allocating a new one.
REUSE_BYTES = 16384
# Below this size the conversion of a Python scalar takes longer than the arithmetic.
SCALAR_BYTES = 4096
COMMUTATIVE = (add, mul)
# Python allows twenty blocks in one another.
MAX_DEPTH = 15
INDENT = "    "

# How a primitive is written that is more than one expression: from the body, the equation and the
# operands' texts to the names of the results; it writes lines.
Emitter = Callable[["Body", Eqn, list[str]], list[str]]


class Body:
    """Writes one graph's equations; loops and branches nest bodies.

    Args:
        graph: as `as_calls` gives it.
        emitters: by the names of primitives.
        depth: how deeply its lines are indented.
    """

    def __init__(
        self,
        graph: Graph,
        module: Module,
        lines: list[str],
        emitters: Mapping[str, Emitter],
        depth: int = 1,
    ):
        self.graph = graph
        self.module = module
        self.lines = lines
        self.emitters = emitters
        self.depth = depth
        self.memory: Memory = memory_of(graph)
        self.dying = [list(roots) for roots in self.memory.dying]
        self.text_of: dict[int, str] = {}
        # Per root, the names that keep its memory alive, the buffer's own first.
        self.names_of: dict[int, list[str]] = {}
        self.pool: dict[Any, list[list[str]]] = {}
        # How many equations will look for a buffer of a kind, having none among their operands.
        self.wanted = Counter(
            _slot(e.outs[0].aval)
            for number, e in enumerate(graph.eqns)
            if _takes_out(e) and self._dying_operand(number, e) is None
        )

    def write(self, line: str) -> None:
        self.lines.append(INDENT * self.depth + line)

    def fresh(self) -> str:
        return self.module.names.fresh()

    def run(self, inputs: Sequence[str]) -> list[str]:
        """Write all equations; expressions for the outputs."""
        for var, text in zip(self.graph.inputs, inputs, strict=True):
            self.text_of[id(var)] = text
        for number, eqn in enumerate(self.graph.eqns):
            self._equation(number, eqn)
        return [self.strong(a) for a in self.graph.outputs]

    def block(self, graph: Graph, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
        """A nested graph's lines, one level deeper, and expressions for its outputs."""
        lines: list[str] = []
        if self.depth < MAX_DEPTH:
            return lines, self._nested(graph, lines, self.depth + 1).run(inputs)
        function = self._define(graph)
        outputs = [self.fresh() for _ in graph.outputs]
        call = f"{function}({', '.join(inputs)})"
        target = f"{', '.join(outputs)}, = " if outputs else ""
        return [INDENT * (self.depth + 1) + target + call], outputs

    def _nested(self, graph: Graph, lines: list[str], depth: int) -> Body:
        return Body(graph, self.module, lines, self.emitters, depth)

    def _define(self, graph: Graph) -> str:
        """A function of the module's that runs a graph; its result is a tuple."""
        name = self.module.names.unused("step")
        parameters = [self.fresh() for _ in graph.inputs]
        lines = [f"def {name}({', '.join(parameters)}):"]
        outputs = self._nested(graph, lines, 1).run(parameters)
        lines.append(f"{INDENT}return ({''.join(f'{o}, ' for o in outputs)})")
        self.module.functions.append("\n".join(lines))
        return name

    # -- operands ---------------------------------------------------------------------

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
            text = spell(value)
            return f"({text})" if text.startswith("-") else text
        return self.module.constant(value)

    def strong(self, atom: Any) -> str:
        """How an atom is written where nothing may depend on its being a Python number."""
        if type(atom) is Const and atom.is_literal:
            return self.module.constant(atom.aval.dtype.type(atom.value))
        return self.operand(atom)

    def _operands(self, eqn: Eqn) -> list[str]:
        if eqn.prim.name in self.emitters or is_alias(eqn):
            return [self.strong(a) for a in eqn.ins]
        if not eqn.prim.infix:
            return [self.operand(a) for a in eqn.ins]
        strong = next((a.aval for a in eqn.ins if type(a) is Var and not a.aval.weak), None)
        if strong is None:
            return [self.operand(a) for a in eqn.ins]
        on_host = eqn.outs[0].aval.device == CPU
        if on_host and strong.shape and strong.dtype.kind == "f" and strong.nbytes < SCALAR_BYTES:
            return [self._small_operand(a, strong.dtype) for a in eqn.ins]
        return [self.operand(a, strong.dtype) for a in eqn.ins]

    def _small_operand(self, atom: Any, dtype: np.dtype) -> str:
        """Beside a small array a scalar is kept as one: converting it takes as long as the sum."""
        if type(atom) is Const and not atom.aval.shape and atom.aval.dtype.kind in "fi":
            value = np.asarray(atom.value)
            if atom.aval.weak or value.dtype == dtype:
                return self.module.scalar(value.item(), dtype)
        return self.operand(atom, dtype)

    # -- equations --------------------------------------------------------------------

    def _equation(self, number: int, eqn: Eqn) -> None:
        ins = self._operands(eqn)
        emitter = self.emitters.get(eqn.prim.name)
        if emitter is not None:
            names = emitter(self, eqn, ins)
        elif is_alias(eqn):
            names = ins
        elif eqn.prim.multiple:
            names = [self.fresh() for _ in eqn.outs]
            self.write(f"{', '.join(names)}, = {self._expression(eqn, ins)}")
        else:
            names = [self._buffer(number, eqn, ins) or self._assign(eqn, ins)]
        for out, name in zip(eqn.outs, names, strict=True):
            self.text_of[id(out)] = name
            for root in self.memory.roots(out):
                known = self.names_of.setdefault(root, [])
                if name not in known:
                    known.append(name)
        self._release(number)

    def _assign(self, eqn: Eqn, ins: list[str]) -> str:
        name = self.fresh()
        self.write(f"{name} = {self._expression(eqn, ins)}")
        return name

    def _expression(self, eqn: Eqn, ins: list[str]) -> str:
        prim = eqn.prim
        small = eqn.outs[0].aval.nbytes < REUSE_BYTES
        if prim is matmul and small and all(len(a.aval.shape) <= 2 for a in eqn.ins):
            # The method costs a third of the operator's time on small operands, more on large.
            return f"{ins[0]}.dot({ins[1]})"
        if prim.infix:
            return f"{ins[0]} {prim.infix} {ins[1]}" if len(ins) == 2 else f"{prim.infix}{ins[0]}"
        if prim.source is not None and eqn.outs[0].aval.device == CPU:
            return prim.source(ins, eqn.params)
        params = [f"{k}={spell(v)}" for k, v in eqn.params.items()]
        return f"{self._callee(prim)}({', '.join([*ins, *params])})"

    def _callee(self, prim: Primitive) -> str:
        impl: Any = prim.impl
        if prim.foreign is not None:
            return self.module.helper(cast(Any, prim.foreign), impl)
        if isinstance(impl, np.ufunc) or getattr(np, impl.__name__, None) is impl:
            return f"np.{impl.__name__}"
        return self.module.helper(impl)

    # -- memory -----------------------------------------------------------------------

    def _buffer(self, number: int, eqn: Eqn, ins: list[str]) -> str | None:
        """Write the result into a dead buffer of its shape and dtype; that one's name."""
        if not _takes_out(eqn):
            return None
        slot = _slot(eqn.outs[0].aval)
        operand = self._dying_operand(number, eqn)
        if operand is None:
            self.wanted[slot] -= 1
        if eqn.outs[0].aval.nbytes < REUSE_BYTES:
            return None
        if operand is not None:
            self.dying[number].remove(operand)
            names = self.names_of.pop(operand)
        elif self.pool.get(slot):
            names = self.pool[slot].pop()
        else:
            return None
        buffer = names[0]
        if eqn.prim in COMMUTATIVE and ins[1] == buffer:
            ins = ins[::-1]
        if eqn.prim.infix and len(ins) == 2 and ins[0] == buffer and eqn.prim is not matmul:
            self.write(f"{buffer} {eqn.prim.infix}= {ins[1]}")
        else:
            self.write(f"{self._callee(eqn.prim)}({', '.join(ins)}, out={buffer})")
        self.names_of[id(eqn.outs[0])] = names
        return buffer

    def _dying_operand(self, number: int, eqn: Eqn) -> int | None:
        """An operand of the result's shape and dtype that nobody reads afterwards."""
        if eqn.prim is matmul:
            return None
        dying, slot = self.dying[number], _slot(eqn.outs[0].aval)
        for atom in eqn.ins:
            if id(atom) in dying and self.memory.is_own(atom) and _slot(atom.aval) == slot:
                return id(atom)
        return None

    def _release(self, number: int) -> None:
        """Keep dead buffers that will be wanted again; drop the names of the others."""
        dead: list[str] = []
        for root in self.dying[number]:
            aval = self.memory.owned[root]
            names = self.names_of.pop(root)
            if aval.nbytes < REUSE_BYTES:
                continue
            slot = _slot(aval)
            if root in self.memory.shared:
                dead += names
            elif self.wanted[slot] > len(self.pool.get(slot, ())):
                self.pool.setdefault(slot, []).append(names)
            else:
                dead += names
        if dead:
            self.write(f"del {', '.join(dict.fromkeys(dead))}")

    # -- results ----------------------------------------------------------------------

    def results(self, texts: Sequence[str], pass_inputs: bool) -> list[str]:
        """Expressions for the outputs as a caller may keep them: new arrays, each its own.

        With `pass_inputs`, what is an input or a view of one is passed on as it is.
        """
        given = {id(v) for v in self.graph.inputs} if pass_inputs else set()
        fresh = self.memory.fresh_outputs()
        results = []
        for atom, text, new in zip(self.graph.outputs, texts, fresh, strict=True):
            passed = self.memory.roots(atom) <= given and not self.memory.repeats(atom)
            if new or passed or (type(atom) is Const and atom.is_literal):
                results.append(text)
            elif atom.aval.device != CPU:
                results.append(f"{CUPY}.array({text})")
            else:
                # Of shape () it is a number, which nobody can write to.
                results.append(f"np.array({text})" if atom.aval.shape else f"{text}[()]")
        return results


def _slot(aval: Aval) -> Any:
    return (aval.shape, aval.dtype)


def _takes_out(eqn: Eqn) -> bool:
    prim = eqn.prim
    return (
        not prim.multiple
        and (prim.takes_out or (isinstance(prim.impl, np.ufunc) and prim.impl.nout == 1))
        and prim.source is None
        and not eqn.params
        and len(eqn.outs[0].aval.shape) > 0
        and not eqn.outs[0].aval.weak
    )


def _strong_input(var: Var, text: str, device: Device) -> str | None:
    """An expression that makes an input NumPy's own number, where it may be Python's.

    In a program of a device it may not be an array without axes either.
    """
    if var.aval.device != CPU:
        return None
    if var.aval.weak or (var.aval.dtype == bool and not var.aval.shape):
        return f"{dtype_name(var.aval.dtype)}({text})"
    return f"{text}[()]" if device != CPU and not var.aval.shape else None


def as_calls(graph: Graph) -> Graph:
    """The graph as it is written."""
    prepared = prepare(graph)
    return mask_by_bits(prepared) if prepared.device == CPU else prepared


def write_lines(
    graph: Graph,
    module: Module,
    emitters: Mapping[str, Emitter],
    leaves: Sequence[str],
    render: Callable[[Sequence[str]], str],
    pass_inputs: bool = False,
) -> list[str]:
    """The lines of a function's body.

    Args:
        graph: as `as_calls` gives it.
        leaves: the names of the graph's inputs.
        render: from the results' expressions to the one of the function's result.
        pass_inputs: results may be inputs.
    """
    lines: list[str] = []
    body = Body(graph, module, lines, emitters)
    inputs = list(leaves)
    for i, (var, leaf) in enumerate(zip(graph.inputs, leaves, strict=True)):
        strong = _strong_input(var, leaf, module.device)
        if strong is not None:
            inputs[i] = body.fresh()
            body.write(f"{inputs[i]} = {strong}")
    results = body.results(body.run(inputs), pass_inputs)
    body.write(f"return {render(results)}")
    return lines
