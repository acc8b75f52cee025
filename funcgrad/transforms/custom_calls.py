"""Calls of functions with derivative rules of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.evaluate import run_graph
from funcgrad.core.graph import Graph
from funcgrad.core.snapshot import same_bits
from funcgrad.core.tracer import NO_VALUE, Recorder, Tracer, own_value
from funcgrad.errors import (
    CustomRuleError,
    NotAnArrayError,
    NotDifferentiableError,
    at_line,
)
from funcgrad.primitives.elementwise import cast
from funcgrad.transforms.closures import Pairs, as_it_was, search
from funcgrad.transforms.trace import flatten_result, leaf_avals, lift_captures

LEAF = tree.structure(0)
_SCALARS = frozenset({np.float64, np.float32, np.complex128, np.complex64})
NUMBERS: frozenset[type[Any]] = _SCALARS | {float, int, complex, bool}


class ClosesOverTracers(Exception):
    """Results depend on tracers that are no operands: the function has to be traced."""


class Call:
    """One call of a custom function, as functions of flat operands.

    The operands are `(captured..., hidden..., leaves...)`: tracers the function closes over,
    tracers in its nondiff arguments, and the leaves of all other arguments.

    Attributes:
        flat: all arguments are leaves that are differentiated, which spares much.
        held: the arrays that the rules hold, as they were.
    """

    flat = True
    captured: Sequence[Tracer] = ()
    held: Pairs = ()
    n_closed = 0
    fixed_at: Sequence[int] = ()
    hidden_at: Sequence[int] = ()
    # What the function returns, where that is known.
    out_tree: Any = None
    out_avals: Sequence[Aval] | None = None
    _reads: Sequence[bool] = ()

    def __init__(self, custom: Any, operands: tuple[Any, ...]):
        self.custom = custom
        self.operands = operands

    @classmethod
    def of(cls, custom: Any, args: tuple[Any, ...]) -> Self:
        """The call with any arguments."""
        call = cls(custom, args)
        call._flatten(args)
        return call

    def _flatten(self, args: tuple[Any, ...]) -> None:
        custom, n = self.custom, len(args)
        self.flat = False
        self.fixed_at = [i for i in custom.nondiff_argnums if i < n]
        self.free_at = [i for i in range(n) if i not in self.fixed_at]
        self.fixed_leaves, self.fixed_tree = tree.flatten(tuple(args[i] for i in self.fixed_at))
        free = tuple(args[i] for i in self.free_at)
        leaves, self.in_tree = tree.flatten(free)
        leaf_avals(free, leaves, f"{custom.name}: a leaf of its arguments")
        self.hidden_at = [i for i, x in enumerate(self.fixed_leaves) if type(x) is Tracer]
        self.operands = (*(self.fixed_leaves[i] for i in self.hidden_at), *leaves)
        self.n_closed = len(self.hidden_at)

    def __repr__(self) -> str:
        return self.custom.name

    # -- arguments --------------------------------------------------------------------

    @functools.cached_property
    def free_at(self) -> list[int]:
        """The positions of the arguments that the rules are derivatives by."""
        return list(range(len(self.operands)))

    @functools.cached_property
    def in_tree(self) -> Any:
        """The structure of the tuple of these."""
        return tree.structure((0,) * len(self.operands))

    def fixed(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The nondiff arguments."""
        if not self.fixed_at:
            return ()
        leaves = list(self.fixed_leaves)
        for i, x in zip(self.hidden_at, operands[len(self.captured) :], strict=False):
            leaves[i] = x
        return self.fixed_tree.unflatten(leaves)

    def free(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The other arguments, of which the rules are derivatives."""
        return self._tuple(operands[self.n_closed :] if self.n_closed else operands)

    def _tuple(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        leaves = read_only(leaves)
        return tuple(leaves) if self.flat else self.in_tree.unflatten(leaves)

    def arguments(self, operands: Sequence[Any]) -> Sequence[Any]:
        if not self.fixed_at:
            return self.free(operands)
        values = dict(zip(self.fixed_at, self.fixed(operands), strict=True))
        values |= zip(self.free_at, self.free(operands), strict=True)
        return [values[i] for i in range(len(values))]

    # -- the function -----------------------------------------------------------------

    def primal(self, *operands: Any) -> list[Any]:
        """The function on values."""
        out = self.run(operands, self.custom.fun, self.arguments(operands))
        outs, self.out_tree = flat_result(out, self.custom)
        check_no_tracers(outs, operands)
        return outs

    def trace(self) -> Graph:
        """The function's graph; tracers that it closes over become operands."""
        with Recorder(self.custom.name, concrete=True, owns=True) as rec:
            graph = self._graph(rec, [rec.input(x) for x in self.operands])
        (closed,), self.captured = lift_captures(graph, also=search(*self.custom.rules)[0])
        self.n_closed = len(self.captured) + len(self.hidden_at)
        self._reads = closed.reads([True] * len(closed.outputs))
        return closed

    def graph(self, avals: Sequence[Aval]) -> Graph:
        """The function's graph for a call that nobody had to trace before."""
        with Recorder(self.custom.name, concrete=False, owns=True) as rec:
            return self._graph(rec, [rec.abstract_input(a) for a in avals])

    def _graph(self, rec: Recorder, operands: Sequence[Any]) -> Graph:
        out = self._unwritten(self.custom.fun, self.arguments(operands))
        outs, self.out_tree = flat_result(out, self.custom)
        self.out_avals = [aval_of(o) for o in outs]
        return rec.graph(outs)

    def look_at_function(self, operands: Sequence[Any]) -> None:
        """Learn what the function returns, once, as only the rules are run where values are."""
        self.custom.is_known = True
        try:
            self.graph([aval_of(x) for x in operands])
        except Exception:
            # It asks for values, or calls another library; or it fails, and will do so again.
            self.out_tree = self.out_avals = None

    # -- rules ------------------------------------------------------------------------

    def record(
        self, rec: Recorder, operands: Sequence[Any], values: Sequence[Any], graph: Any
    ) -> list[Tracer]:
        """Record the call where values ride along."""
        if not self.custom.is_known and graph is None:
            self.look_at_function(values)
        results = pull = None
        if rec.reverse:
            for a in operands:
                if type(a) is Tracer and a.rec is rec and a.inexact:
                    try:
                        results, pull = self.recorded(rec, operands, values)
                    except NotDifferentiableError:
                        # An error only if the backward pass comes there, which then raises it.
                        rec.asks = True
                    break
            if self.n_closed:
                rec.asks = True
        elif rec.purpose in ("jvp", "linearize"):
            results = self.recorded_forward(rec, values)
        prim, params = self.custom.primitive, {"graph": graph, "rule": self}
        if results is None:
            results = self.keep_results(rec, list(prim.impl(*values, **params)), values)
        return rec.append(prim, operands, values, params, results, pull)

    def recorded(self, rec: Recorder, operands: Sequence[Any], values: Sequence[Any]) -> Any:
        """Results and pullback, which does not change with arrays that the user writes to."""
        raise NotImplementedError

    def recorded_forward(self, rec: Recorder, values: Sequence[Any]) -> list[Any] | None:
        """Results, where forward mode needs more than these of its rule; else None."""
        return None

    def keep_results(self, rec: Recorder, outs: list[Any], values: Sequence[Any]) -> list[Any]:
        """What a rule gave, as it is now.

        Raises:
            ClosesOverTracers: it depends on more than the values.
        """
        kept: list[Any] = []
        for x in outs:
            if type(x) is Tracer:
                raise ClosesOverTracers
            kept.append(self.keep(rec, x, values))
        return kept

    def keep(self, rec: Recorder, x: Any, values: Sequence[Any]) -> Any:
        """A result or residual as it is now; it may be an array of the user's."""
        kind = type(x)
        if kind is np.ndarray:
            base = x.base
            if base is None:
                base = x
            for value in values:
                if base is value:
                    return x
            return rec.keep(x)
        if x is None or kind in NUMBERS:
            return x
        if kind is Tracer:
            # Of the recording that is differentiated nothing but values outlive its end.
            return own_value(x) if x.rec is rec else x
        if kind is tuple:
            return tuple([self.keep(rec, y, values) for y in x])
        if tree.structure(x) == LEAF:
            return rec.keep(x)
        return tree.map(lambda y: self.keep(rec, y, values), x)

    def remember(self, rec: Recorder, arrays: Sequence[np.ndarray]) -> None:
        """Have rules find these arrays, which they hold, as they are now, whenever they run."""
        fixed = [x for x in self.fixed_leaves if type(x) is np.ndarray] if self.fixed_at else []
        buffers = self.custom.buffers
        self.held = [(a, rec.remembered(a)) for a in (*arrays, *fixed) if id(a) not in buffers]
        if fixed:
            copies = {id(a): copy for a, copy in self.held}
            self.fixed_leaves = [copies.get(id(x), x) for x in self.fixed_leaves]

    def lock(self, rec: Recorder) -> None:
        """Refuse writes to those of the arrays, from now on, that were not copied."""
        for a, copy in self.held:
            if copy is a:
                rec.outermost.hold(a)

    def run(self, operands: Sequence[Any], rule: Callable[..., Any], args: Any) -> Any:
        """`rule(*args)`, in which what it holds is as it was when the function was called."""
        if self.captured:
            return self._within(operands, rule, args)
        return self._unwritten(rule, args)

    def _unwritten(self, rule: Callable[..., Any], args: Any) -> Any:
        if not self.held:
            return rule(*args)
        buffers = self.custom.buffers
        same: list[tuple[np.ndarray, np.ndarray]] = []
        written: dict[int, np.ndarray] = {}
        for a, copy in self.held:
            if copy is not a and id(a) not in buffers:
                if same_bits(a, copy):
                    same.append((a, copy))
                else:
                    written[id(a)] = copy
        if written:
            rule = as_it_was(rule, written, self.custom.name)
        found = rule(*args)
        for a, copy in same:
            if not same_bits(a, copy):
                # The rule itself writes there.
                buffers[id(a)] = a
        return found

    def _within(self, operands: Sequence[Any], rule: Callable[..., Any], args: Any) -> Any:
        """`rule(*args)`, in which tracers that are captured stand for what the operands are now.

        Where the equation is transformed after the recording it was made in has ended, those
        tracers belong to nothing that is still recorded.
        """
        pairs = zip(self.captured, operands, strict=False)
        stale = [(tracer, now) for tracer, now in pairs if tracer is not now]
        if not stale:
            return self._unwritten(rule, args)
        known = not any(type(now) is Tracer for _, now in stale)
        rec = Recorder(f"a rule of {self.custom.name}", concrete=known)
        with rec, _adopted(rec, stale):
            leaves, treedef = tree.flatten(self._unwritten(rule, args))
            recorded = recorded_by(rec, leaves)
            found = [leaves[i] for i in recorded]
            if rec.is_closed(found):
                found = [x.value for x in found]
            else:
                graph = rec.graph(found)
                found = None
        if found is None:
            found = run_graph(graph, [now for _, now in stale])
        for i, value in zip(recorded, found, strict=True):
            leaves[i] = value
        return treedef.unflatten(leaves)

    def check_results(self, which: str, outs: Sequence[Any], out_tree: Any) -> None:
        """Refuse results of a rule that are not those of the function."""
        if out_tree != self.out_tree:
            raise self.rule_error(
                which,
                "returns another structure than the function\n"
                f"  {self.out_tree} (function)\n  {out_tree} (rule)",
            )
        if self.out_avals is None:
            return
        for i, (out, like) in enumerate(zip(outs, self.out_avals, strict=True)):
            aval = aval_of(out)
            if aval.shape != like.shape or aval.dtype != like.dtype:
                raise self.rule_error(
                    which,
                    f"returns {aval.strong()}{leaf_place(self.out_tree, i)}, where the function "
                    f"returns {like.strong()}; they must be of equal shapes and dtypes",
                )

    def rule_error(self, which: str, message: str) -> CustomRuleError:
        """An error that names the rule and where it stands."""
        code = getattr(getattr(self.custom, f"_{which}"), "__code__", None)
        place = f"\n  the rule is at {code.co_filename}:{code.co_firstlineno}" if code else ""
        error = at_line(CustomRuleError, f"{self.custom.name}: its {which} rule {message}")
        return CustomRuleError(f"{error}{place}")

    def match(self, x: Any, like: Aval, which: str, what: str, place: Callable[[], str]) -> Any:
        """A tangent or cotangent with the dtype of what it belongs to; None where it has none."""
        if x is None or not like.inexact:
            return None
        try:
            aval = aval_of(x)
        except NotAnArrayError:
            where = place()
            raise self.rule_error(
                which,
                f"gave a {type(x).__name__} as {what}{where}, which is an array of shape "
                f"{like.shape}",
            ) from None
        if aval.shape != like.shape:
            raise self.rule_error(
                which,
                f"gave a {what} of shape {aval.shape}{place()}, but what it belongs to has shape "
                f"{like.shape}; they must be equal",
            )
        if aval.dtype.kind == "c" and like.dtype.kind == "f":
            raise self.rule_error(
                which,
                f"gave a complex {what}{place()}, but what it belongs to is real; its imaginary "
                "part would be lost. Return its real part",
            )
        return cast(x, like.dtype)

    def check_closed(self, asked: Sequence[Any]) -> None:
        """Refuse derivatives by what the rules say nothing of."""
        if not self.n_closed:
            return
        # What only the rules close over is no argument of the function.
        n_captured = len(self.captured)
        captured = any(a and r for a, r in zip(asked[:n_captured], self._reads, strict=False))
        if captured or any(asked[n_captured : self.n_closed]):
            what = "a value that it closes over" if captured else "an argument in nondiff_argnums"
            raise at_line(
                NotDifferentiableError,
                f"{self.custom.name} is differentiated by {what}, of which its "
                f"{self.custom.kind} rule says nothing. Make it an argument that the rule covers, "
                "or wrap it in fg.stop_gradient",
            )


def read_only(leaves: Sequence[Any]) -> list[Any]:
    """What a rule is given of arrays that others read, too: it must not write to them."""
    given: list[Any] = []
    for x in leaves:
        if type(x) is np.ndarray:
            x = x.view()
            # `write=False`; by name, or through `flags`, it takes several times as long.
            x.setflags(False)  # pyright: ignore[reportCallIssue]
        given.append(x)
    return given


def flat_result(out: Any, custom: Any) -> tuple[list[Any], Any]:
    """The leaves of what a custom function or its rule returns, and their structure.

    Python numbers become NumPy's, as in compiled code.
    """
    kind = type(out)
    if kind is np.ndarray:
        if out.dtype.kind in "fiucb" and out.dtype.isnative:
            return [out], LEAF
    elif kind is float:
        return [np.float64(out)], LEAF
    elif kind in _SCALARS or (
        kind is Tracer and (type(out.value) in _SCALARS or not out.aval.weak)
    ):
        return [out], LEAF
    leaves, treedef = flatten_result(out, custom.name)
    return [cast(x, aval_of(x).dtype) for x in leaves], treedef


def is_like(x: Any, y: Any) -> bool:
    """Whether one surely has the shape and dtype of the other, that of a float."""
    kind = type(x)
    if kind is not type(y) or kind is Tracer:
        x, y = own_value(x), own_value(y)
        kind = type(x)
        if kind is not type(y):
            return kind is np.float64 and type(y) is float
    if kind is np.ndarray:
        dtype = x.dtype
        return x.shape == y.shape and (dtype is y.dtype or dtype == y.dtype) and dtype.kind in "fc"
    return kind in _SCALARS


def any_tracer(values: Sequence[Any]) -> bool:
    return Tracer in map(type, values)


def check_no_tracers(outs: Sequence[Any], operands: Sequence[Any]) -> None:
    if any_tracer(outs) and not any_tracer(operands):
        raise ClosesOverTracers


def recorded_by(rec: Recorder, leaves: Sequence[Any]) -> list[int]:
    return [i for i, x in enumerate(leaves) if type(x) is Tracer and x.rec is rec]


@contextmanager
def _adopted(rec: Recorder, pairs: Sequence[tuple[Tracer, Any]]) -> Iterator[None]:
    """Make tracers inputs of this recording for a while, each with what it stands for now."""
    before = [(t, t.rec, t.value, t.aval) for t, _ in pairs]
    for t, now in pairs:
        t._aval, t.rec, t.value = t.aval, rec, now if rec.concrete else NO_VALUE
        rec.inputs.append(t)
    try:
        yield
    finally:
        for t, owner, value, aval in before:
            t.rec, t.value, t._aval = owner, value, aval


def leaf_place(treedef: Any, i: int) -> str:
    paths = tree.flatten_with_path(treedef.unflatten(range(treedef.num_leaves)))[0]
    path = tree.keystr(paths[i][0])
    return f" at {path}" if path else ""
