"""Graphs: flat lists of typed equations in A-normal form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.device import CPU, Device
from funcgrad.core.lru_cache import LruCache, Notice
from funcgrad.core.primitive import Primitive
from funcgrad.core.printing import Names, format_value
from funcgrad.errors import GraphError


class Var:
    """A variable: assigned once, known by identity, named only when printed."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval):
        self.aval = aval

    def __repr__(self) -> str:
        return f"<Var {self.aval}>"


class Const:
    """A captured value: a Python scalar, an array, or a tracer of an enclosing recording."""

    __slots__ = ("aval", "value")

    def __init__(self, value: Any):
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            # What no integer dtype holds meets only floats.
            value = float(value)
        self.value: Any = value
        self.aval = aval_of(value)

    @property
    def is_literal(self) -> bool:
        """Printed in place: scalars are, arrays and outer tracers get a name."""
        return type(self.value) in (int, float, complex, bool) or isinstance(self.value, np.generic)

    def __repr__(self) -> str:
        return f"<Const {self.aval}>"


Atom = Var | Const


def is_zero(x: Any) -> bool:
    """Whether an atom, or a value, is known to be zero in all its elements."""
    value: Any = x.value if type(x) is Const else x
    known = type(value) in (int, float, complex) or isinstance(value, (np.ndarray, np.generic))
    return known and not np.any(cast(Any, value))


class Eqn:
    """One equation: `outs = prim[params](*ins)`, with the user's line it came from.

    On a tape where values ride along, `values` are those of `ins`.
    """

    __slots__ = ("ins", "outs", "params", "prim", "source", "values")

    def __init__(
        self,
        prim: Primitive,
        ins: Sequence[Any],
        params: dict[str, Any],
        outs: Sequence[Any],
        source: Any = None,
        values: Sequence[Any] | None = None,
    ):
        self.prim = prim
        self.ins = ins
        self.params = params
        self.outs = outs
        self.source = source
        self.values = values

    def __repr__(self) -> str:
        return f"<Eqn {self.prim.name} {list(self.ins)} -> {list(self.outs)}>"


class Graph:
    """An immutable program: inputs, equations, outputs. Compared and hashed by identity.

    `derived` keeps what is derived of it, and `cache` what it is compiled to, so that a graph
    that sits in an equation (the body of a scan, say) is transformed and compiled once.

    Example:
        >>> graph = fg.make_graph(lambda x: x + x * x)(3.0)
        >>> [eqn.prim.name for eqn in graph.eqns]
        ['mul', 'add']
    """

    __slots__ = ("__weakref__", "cache", "derived", "eqns", "inputs", "outputs")

    def __init__(self, inputs: Iterable[Var], eqns: Iterable[Eqn], outputs: Iterable[Atom]):
        self.inputs = tuple(inputs)
        self.eqns = tuple(eqns)
        self.outputs = tuple(outputs)
        self.cache: dict[str, Any] = {}
        self.derived: LruCache[Any] | None = None

    @property
    def in_avals(self) -> tuple[Aval, ...]:
        return tuple([v.aval for v in self.inputs])

    @property
    def out_avals(self) -> tuple[Aval, ...]:
        return tuple([a.aval for a in self.outputs])

    @property
    def device(self) -> Device:
        """Where it runs: on the device of an array in it, where there is one that has its own."""
        atoms = [self.inputs, *(e.ins for e in self.eqns), *(e.outs for e in self.eqns)]
        for group in (*atoms, self.outputs):
            for atom in group:
                # Nearly always it is this very object.
                if atom.aval.device is not CPU and atom.aval.device != CPU:
                    return atom.aval.device
        return CPU

    def derive(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` derives of this graph, kept with it under `key`."""
        if self.derived is None:
            self.derived = LruCache(Notice("a function within a compiled one"))
        found = self.derived.get(key)
        return self.derived.put(key, make()) if found is None else found

    def restrict(self, inputs: Sequence[bool], outputs: Sequence[bool]) -> Graph:
        """The graph of the chosen outputs; it must not depend on inputs that are not chosen."""
        kept = [a for a, keep in zip(self.outputs, outputs, strict=True) if keep]
        chosen = [v for v, keep in zip(self.inputs, inputs, strict=True) if keep]
        return Graph(chosen, live_eqns(self.eqns, kept), kept)

    def reads(self, outputs: Sequence[bool]) -> list[bool]:
        """Which inputs the chosen outputs depend on."""
        kept = [a for a, keep in zip(self.outputs, outputs, strict=True) if keep]
        read = {id(a) for e in live_eqns(self.eqns, kept) for a in e.ins} | set(map(id, kept))
        return [id(v) in read for v in self.inputs]

    def consts(self) -> list[Const]:
        """Captured values that are no literals, each once, in order of first use."""
        seen: dict[int, Const] = {}
        for atom in self.atoms():
            if type(atom) is Const and not atom.is_literal:
                seen.setdefault(id(atom.value), atom)
        return list(seen.values())

    def atoms(self) -> Iterator[Atom]:
        """Every atom that is read, in order."""
        for eqn in self.eqns:
            yield from eqn.ins
        yield from self.outputs

    def subgraphs(self) -> Iterator[Graph]:
        for eqn in self.eqns:
            yield from graphs_in(eqn.params)

    def __str__(self) -> str:
        return format_graph(self)

    __repr__ = __str__

    def check(self) -> Graph:
        """Verify scoping, single assignment and types, sub-graphs included; return self.

        Raises:
            GraphError: the graph breaks a rule; the message names the equation.
        """
        bound: set[Var] = set()
        for var in self.inputs:
            _define(var, bound, "an input")
        for number, eqn in enumerate(self.eqns):
            where = f"equation {number} ({eqn.prim.name})"
            for atom in eqn.ins:
                _check_read(atom, bound, where)
            expected = eqn.prim.infer([a.aval for a in eqn.ins], eqn.params)
            if len(expected) != len(eqn.outs):
                raise GraphError(f"{where}: {len(eqn.outs)} results, rule says {len(expected)}")
            for out, aval in zip(eqn.outs, expected, strict=True):
                if _type(out.aval) != _type(aval):
                    raise GraphError(f"{where}: result is {out.aval}, the shape rule says {aval}")
                _define(out, bound, where)
            for sub in graphs_in(eqn.params):
                sub.check()
        for atom in self.outputs:
            _check_read(atom, bound, "the outputs")
        return self


# --- printing -------------------------------------------------------------------------


def format_graph(graph: Graph, indent: str = "", names: Names | None = None) -> str:
    """The program as text: `graph(inputs) { equations; return outputs }`."""
    names = names or Names()
    inner = indent + "  "
    header = ", ".join(f"{names.var(v)}: {v.aval}" for v in graph.inputs)
    lines = [line for eqn in graph.eqns for line in _format_eqn(eqn, inner, names)]
    outputs = ", ".join(names.atom(a) for a in graph.outputs)
    consts = (
        [f"{inner}{n}: {a.aval} = captured" for n, a in names.consts.items()] if not indent else []
    )
    body = "\n".join([*consts, *lines, f"{inner}return {outputs}".rstrip()])
    return f"graph({header}) {{\n{body}\n{indent}}}"


def _format_eqn(eqn: Eqn, indent: str, names: Names) -> list[str]:
    ins = ", ".join(names.atom(a) for a in eqn.ins)
    params = [f"{k}={_format_param(v, indent, names)}" for k, v in eqn.params.items()]
    outs = ", ".join(f"{names.var(v)}: {v.aval}" for v in eqn.outs)
    head = f"{eqn.prim.name}[{', '.join(params)}]" if params else eqn.prim.name
    return [f"{indent}{outs} = {head}({ins})"]


def _format_param(value: Any, indent: str, names: Names) -> str:
    if isinstance(value, Graph):
        return format_graph(value, indent + "  ", names)
    if isinstance(value, tuple):
        parts = [_format_param(v, indent, names) for v in cast(tuple[Any, ...], value)]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    return format_value(value)


# --- grammar and passes ---------------------------------------------------------------


def _type(aval: Aval) -> Any:
    return aval.shape, aval.dtype, aval.device


def _define(var: Any, bound: set[Var], where: str) -> None:
    if type(var) is not Var:
        raise GraphError(f"{where}: {var!r} is assigned, but is no variable")
    if var in bound:
        raise GraphError(f"{where}: a variable is assigned twice")
    bound.add(var)


def _check_read(atom: Any, bound: set[Var], where: str) -> None:
    if type(atom) is Var:
        if atom not in bound:
            raise GraphError(f"{where}: reads a variable before it is assigned")
    elif type(atom) is not Const:
        raise GraphError(f"{where}: {atom!r} is neither a variable nor a constant")


def graphs_in(params: dict[str, Any]) -> Sequence[Graph]:
    """The graphs among an equation's parameters."""
    found: list[Graph] = []
    for value in params.values():
        if type(value) is Graph:
            found.append(value)
        elif isinstance(value, tuple):
            found += [v for v in cast(tuple[Any, ...], value) if type(v) is Graph]
    return found


def with_graphs(params: dict[str, Any], change: Callable[[Graph], Graph]) -> dict[str, Any]:
    """An equation's parameters, the graphs among them changed; the same where there are none."""
    if not graphs_in(params):
        return params

    def changed(value: Any) -> Any:
        if type(value) is tuple:
            parts = cast(tuple[Any, ...], value)
            return tuple([change(v) if type(v) is Graph else v for v in parts])
        return change(value) if type(value) is Graph else value

    return {name: changed(value) for name, value in params.items()}


def live_eqns(eqns: Sequence[Eqn], outputs: Iterable[Any]) -> list[Eqn]:
    """The equations that the outputs depend on: one walk backwards removes dead code."""
    needed = {id(a) for a in outputs}
    live: list[Eqn] = []
    for eqn in reversed(eqns):
        outs = eqn.outs
        # Most have one result, for which `any` would take longer than all else.
        if id(outs[0]) in needed if len(outs) == 1 else any(id(o) in needed for o in outs):
            if eqn.prim.prune is not None:
                eqn = eqn.prim.prune(eqn, tuple(id(o) in needed for o in eqn.outs))
            live.append(eqn)
            needed.update(map(id, eqn.ins))
    live.reverse()
    return live


def split_invariant(body: Graph, n_consts: int) -> tuple[Graph, Graph]:
    """A loop's body in two: what no step changes, and the rest, which takes it as inputs."""
    fixed = {id(v) for v in body.inputs[:n_consts]}
    once: list[Eqn] = []
    rest: list[Eqn] = []
    for eqn in body.eqns:
        if all(id(a) in fixed or type(a) is not Var for a in eqn.ins):
            fixed.update(map(id, eqn.outs))
            once.append(eqn)
        else:
            rest.append(eqn)
    consts, others = body.inputs[:n_consts], body.inputs[n_consts:]
    if not once:
        return Graph(consts, (), ()), body
    made: dict[int, Any] = {id(o): o for eqn in once for o in eqn.outs}
    read = {id(a) for eqn in rest for a in eqn.ins} | {id(a) for a in body.outputs}
    shared = [var for key, var in made.items() if key in read]
    return Graph(consts, once, shared), Graph((*consts, *shared, *others), rest, body.outputs)
