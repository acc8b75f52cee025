"""Recording: tracers stand for arrays while a user's function runs once.

A `Recorder` keeps a tape of equations over its tracers. A tracer that has a value computes
as it records (plain `grad`, `vjp`, `jvp`); one without is only known by its aval (`jit`,
`vmap`). An operation goes to the innermost recorder among its operands' own; so what does
not depend on an inner transformation's inputs is recorded outside it, and operands that
belong further out are captured. It goes no further out than the innermost recorder that
owns what is computed while it is open: a branch's or a loop's, which may never run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad.config import config
from funcgrad.core.aval import Aval, aval_of
from funcgrad.core.collector import MANY, Pause
from funcgrad.core.device import as_numbers, is_cupys
from funcgrad.core.graph import Const, Eqn, Graph, Var, live_eqns
from funcgrad.core.open_recorders import current, deferring, kept, owner
from funcgrad.core.ownership import native
from funcgrad.core.primitive import Primitive, folded, with_pullback
from funcgrad.core.snapshot import Held, is_snapshot
from funcgrad.errors import LeakedTracerError, NaNError, PrimitiveError, TracerArrayError
from funcgrad.records import NamedTuple
from funcgrad.source import SourceLine, user_line

# Arrays that operations capture are copied up to these sizes, eagerly and where graphs are made
# that are run at once; larger ones are held: nobody may write to them while the function is
# recorded. Programs, which are made once, have copies of all.
KEPT_BYTES = 1 << 14
CAPTURED_BYTES = 1 << 20
_ARRAYS = frozenset({np.ndarray, np.memmap})
# What nobody can write to.
_FLOATS = frozenset({float, np.float64, np.float32})
_NUMBERS = frozenset({float, int, complex, bool, np.float64, np.float32, np.int64})


class _NoValue:
    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE = _NoValue()


class Tracer:
    """Stands for an array while a function is recorded; used like one.

    Operators, methods and NumPy's protocols are in the table of `funcgrad.numpy.methods`, which
    installs them once.
    """

    __slots__ = ("_aval", "rec", "value")
    __array_priority__ = 1000

    def __init__(self, rec: Recorder, value: Any, aval: Aval | None = None):
        self.rec = rec
        self.value = value
        self._aval = aval

    if TYPE_CHECKING:  # What that table has, as far as the library itself uses it.

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __len__(self) -> int: ...
        def __mul__(self, other: Any) -> Any: ...
        def __array__(self) -> np.ndarray: ...

    def __copy__(self) -> Tracer:
        # Of an array that nobody can write to, itself is as good as a copy. Python's own copy
        # would bring a recording of its own along, whose equations lead nowhere.
        return self

    def __deepcopy__(self, memo: Any) -> Tracer:
        return self

    def __reduce__(self) -> Any:
        raise TracerArrayError.of(self)

    @property
    def aval(self) -> Aval:
        aval = self._aval
        if aval is None:
            aval = self._aval = aval_of(self.value)
        return aval

    @property
    def inexact(self) -> bool:
        value = self.value
        kind = type(value)
        if kind in _FLOATS:
            return True
        return (value if kind is np.ndarray else self.aval).dtype.kind in "fc"

    @property
    def shape(self) -> tuple[int, ...]:
        value = self.value
        return self.aval.shape if value is NO_VALUE else getattr(value, "shape", ())

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.aval.size


class Tape(NamedTuple):
    """A finished recording: its inputs, its equations, and pullbacks by equations' ids.

    Attributes:
        asks: some pullback is costly, or fails, for what nobody needs.
    """

    inputs: list[Tracer]
    eqns: list[Eqn]
    pulls: dict[int, Any]
    asks: bool


class Recorder:
    """The tape of one recording.

    Args:
        purpose: the transformation that records, for messages.
        concrete: values ride along where operands have them.
        reverse: what equations that hold graphs leave for reverse mode is kept.
        owns: what is computed of enclosing recordings' tracers alone while this one is open is
            recorded here, not there.
        defers: it may never run what it records. So it owns what is computed, of arrays alone,
            too, and computes nothing that could fail, or take long; neither do recordings
            within it.
        lasting: what it captures is used after the function that is recorded has returned.

    Attributes:
        level: how deeply recordings are nested where this one began.
        active: True while operations are recorded here; None while a recording within owns
            them; False before and after.
        asked: what the function did depended on the value of one of its tracers.
        captures: operands of enclosing recordings were met.
        pulls: under `reverse`, what equations kept on the way forward, by the equation's id.
        asks: of a pullback among these must be asked only what is needed, or one is missing.
        gradients: tracers that `grad` has returned, by their ids, and where it took them.
    """

    __slots__ = (
        "active",
        "asked",
        "asks",
        "captures",
        "concrete",
        "defers",
        "enclosing",
        "eqns",
        "frame",
        "gradients",
        "held",
        "inputs",
        "lasting",
        "level",
        "memo",
        "origins",
        "outer",
        "owns",
        "pause",
        "pulls",
        "purpose",
        "reverse",
        "suspended",
    )

    def __init__(
        self,
        purpose: str,
        concrete: bool,
        reverse: bool = False,
        owns: bool = False,
        defers: bool = False,
        lasting: bool = False,
    ):
        self.purpose = purpose
        self.concrete = concrete
        self.reverse = reverse
        self.owns = owns or defers
        self.defers = defers
        self.lasting = lasting
        self.pulls: dict[int, Any] = {}
        self.asks = False
        self.level = 0
        self.active: bool | None = False
        self.asked = False
        self.captures = False
        self.eqns: list[Eqn] = []
        self.inputs: list[Tracer] = []
        self.memo: dict[Any, Any] = {}
        self.held: Held | None = None
        self.pause: Pause | None = None
        self.origins: dict[int, Any] | None = None
        self.gradients: dict[int, tuple[Tracer, Any]] = {}

    def __enter__(self) -> Recorder:
        outer = self.outer = current.top
        self.level = 1 if outer is None else outer.level + 1
        enclosing = self.enclosing = current.owner
        if enclosing is not None and enclosing.defers:
            self.concrete, self.defers = False, True
        if self.owns:
            self._suspend(outer)
        self.active = True
        current.top = self
        return self

    def _suspend(self, outer: Recorder | None) -> None:
        """Own what the recorders around would record."""
        self.suspended: list[Recorder] = []
        while outer is not None and outer.active:
            outer.active = None
            self.suspended.append(outer)
            outer = outer.outer
        self.frame: FrameType | None = sys._getframe(2)
        current.owner = self
        if self.defers:
            deferring.append(self)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        outer = current.top = self.outer
        self.active = False
        if self.owns:
            current.owner = self.enclosing
            for recorder in self.suspended:
                recorder.active = True
            if self.defers:
                deferring.remove(self)
            self.frame = None
        self.outer = self.enclosing = None
        if self.pause is not None:
            self.pause.end()
        if outer is None and current.kept:
            current.kept = {}
        if self.held is not None:
            self.held.release(self.purpose, error)
        if kind is ValueError and isinstance(error.__cause__, TracerArrayError):
            # `array[0] = x`: NumPy puts an error of its own before ours, which tells more.
            raise error.__cause__ from None

    @property
    def stages(self) -> bool:
        """Whether its graph is for later, so that calls in it are inlined.

        That of `vmap` is run at once, batched.
        """
        return not self.concrete and self.purpose != "vmap"

    def input(self, value: Any) -> Tracer:
        """A new input that carries `value`'s own value where it has one."""
        if type(value) is Tracer:
            self.captures = True
            tracer = Tracer(self, value.value if self.concrete else NO_VALUE, value.aval)
            self._origin(tracer, value)
        elif self.concrete:
            tracer = Tracer(self, value if type(value) in _NUMBERS else self.keep(native(value)))
        else:
            tracer = Tracer(self, NO_VALUE, aval_of(native(value)))
            self._origin(tracer, value)
        self.inputs.append(tracer)
        return tracer

    def own_input(self, value: Any) -> Tracer:
        """A new input with a value that nobody else has."""
        tracer = Tracer(self, value)
        self.inputs.append(tracer)
        return tracer

    def _origin(self, tracer: Tracer, value: Any) -> None:
        """What a tracer without a value stands for, in case somebody needs that after all."""
        if not self.concrete:
            if self.origins is None:
                self.origins = {}
            self.origins[id(tracer)] = value

    def abstract_input(self, aval: Aval) -> Tracer:
        tracer = Tracer(self, NO_VALUE, aval)
        self.inputs.append(tracer)
        return tracer

    def record(self, prim: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if not self.active:
            recorder = self.now(prim.name)
            if recorder is not self:
                return recorder.record(prim, args, params)
        if not self.concrete:
            return self.stage(prim, args, params)
        values = []
        for a in args:
            if type(a) is Tracer:
                value = a.value
                if value is NO_VALUE:
                    return self.stage(prim, args, params)
                if a.rec is not self:
                    self.captures = True
                values.append(value)
            else:
                values.append(a if type(a) in _NUMBERS else self.keep(a))
        if prim.multiple and prim.kind == "higher-order":
            return self.record_graphs(prim, args, values, params)
        try:
            result = prim.impl(*values, **params) if params else prim.impl(*values)
        except (ValueError, TypeError, IndexError) as error:
            if not as_numbers(values):
                raise PrimitiveError.of(prim.name, list(map(aval_of, args)), error) from error
            result = prim.impl(*values, **params)
        source = None
        if config.debug_nans:
            source = current.source or user_line()
            check_nans(prim.name, result if prim.multiple else [result], source)
        if prim.multiple:
            outs = [Tracer(self, r) for r in result]
            self.eqns.append(Eqn(prim, args, params, outs, source, values))
            return outs
        out = Tracer(self, result)
        self.eqns.append(Eqn(prim, args, params, (out,), source, values))
        return out

    @property
    def ended(self) -> bool:
        return self.active is False

    def now(self, use: str) -> Recorder:
        """Where an operation on this recorder's tracers is recorded now.

        Raises:
            LeakedTracerError: the recording has ended.
        """
        if self.ended:
            raise LeakedTracerError.of(self.purpose, use)
        owning = owner()
        # In a thread that the user's function started nothing is suspended.
        return self if self.active or owning is None else owning

    def values_of(self, args: Sequence[Any]) -> list[Any] | None:
        """The operands' values, as they are now; None where one of them has none."""
        values: list[Any] = []
        for a in args:
            if type(a) is Tracer:
                if a.value is NO_VALUE:
                    return None
                if a.rec is not self:
                    self.captures = True
                values.append(a.value)
            else:
                values.append(a if type(a) in _NUMBERS else self.keep(a))
        if "cupy" in sys.modules:
            as_numbers(values)
        return values

    def keep(self, a: Any) -> Any:
        """What is captured, as it is now: a derivative will read it when the user may have written
        something else to it."""
        if type(a) in _ARRAYS:
            return a.copy("K") if a.nbytes <= KEPT_BYTES else self.hold(a)
        # CuPy's cannot be held, as nothing makes it read-only.
        return a.copy() if is_cupys(type(a)) else a

    def remembered(self, a: np.ndarray) -> np.ndarray:
        """A copy of an array for what runs at any time after this; itself where the outermost
        recorder is to hold it instead, as nothing will run after that one has ended."""
        return kept(a) if a.nbytes <= KEPT_BYTES or self._lasts() else a

    @property
    def outermost(self) -> Recorder:
        rec = self
        while rec.outer is not None:
            rec = rec.outer
        return rec

    def hold(self, a: np.ndarray) -> np.ndarray:
        """A captured array as it is now, without a copy if what is recorded is used at once."""
        if self.held is None:
            self.held = Held()
        return self.held.copy_of(a) if self.lasting else self.held.keep(a)

    def record_graphs(
        self, prim: Primitive, args: tuple, values: Sequence[Any], params: dict[str, Any]
    ) -> list[Tracer]:
        """Record a primitive that holds graphs, with what reverse mode will need of its run."""
        need = [type(a) is Tracer and a.rec is self and a.inexact for a in args]
        values = list(values)
        as_numbers(values)
        wanted = self.reverse and prim.pullback is not None and any(need)
        result, pull = with_pullback(prim, values, params, need) if wanted else (None, None)
        if result is None:
            result = prim.impl(*values, **params)
        self.asks = self.asks or wanted
        return self.append(prim, args, values, params, result, pull)

    def append(
        self,
        prim: Primitive,
        args: Sequence[Any],
        values: Sequence[Any],
        params: dict[str, Any],
        results: Sequence[Any],
        pull: Any = None,
    ) -> list[Tracer]:
        """Record a primitive whose results, and perhaps pullback, are known already."""
        source = None
        if config.debug_nans:
            source = current.source or user_line()
            check_nans(prim.name, results, source)
        # A list of one is made faster so.
        single = len(results) == 1
        outs = [Tracer(self, results[0])] if single else [Tracer(self, r) for r in results]
        eqn = Eqn(prim, args, params, outs, source, values)
        self.eqns.append(eqn)
        if pull is not None:
            self.pulls[id(eqn)] = pull
        return outs

    def stage(self, prim: Primitive, args: tuple, params: dict[str, Any]) -> Any:
        """Record without computing; shares equal equations and drops identities."""
        args = tuple([a if type(a) is Tracer else self._kept(a) for a in args])
        if prim.simplify is not None:
            known = prim.simplify(args, params)
            if known is not None:
                return known
        key: list[Any] = [prim]
        avals: list[Aval] = []
        for a in args:
            if type(a) is Tracer:
                if a.rec is not self:
                    self.captures = True
                key.append(id(a))
                avals.append(a._aval or a.aval)
            else:
                key.append(self._key(a))
                avals.append(aval_of(a))
        known = tuple(key) if not params else (*key, *params.items())
        outs = self.memo.get(known)
        if outs is None:
            outs = [Tracer(self, NO_VALUE, aval) for aval in self._inferred(prim, avals, params)]
            source = current.source or user_line()
            self.eqns.append(Eqn(prim, args, params, outs, source))
            self.memo[known] = outs
            if len(self.eqns) == MANY:
                self.pause = Pause()
        return list(outs) if prim.multiple else outs[0]

    def _inferred(
        self, prim: Primitive, avals: Sequence[Aval], params: dict[str, Any]
    ) -> Sequence[Aval]:
        """The avals of an operation's results: equal ones are one object, by which what repeats
        itself is known without a comparison."""
        # By ids, as long as what is known keeps the operands' alive.
        ids = map(id, avals)
        key = (prim, None, *ids, *params.items()) if params else (prim, None, *ids)
        known = self.memo.get(key)
        if known is None:
            try:
                found = prim.infer(avals, params)
            except (ValueError, TypeError, IndexError) as error:
                raise PrimitiveError.of(prim.name, avals, error) from error
            for aval in avals:
                self.memo.setdefault(aval, aval)
            known = self.memo[key] = [self.memo.setdefault(a, a) for a in found], avals
        return known[0]

    def _kept(self, a: Any) -> Any:
        if type(a) not in _ARRAYS:
            return a.copy() if is_cupys(type(a)) else a
        if is_snapshot(a):
            return a
        return kept(a) if a.nbytes <= CAPTURED_BYTES or self._lasts() else self.hold(a)

    def _lasts(self) -> bool:
        """Whether what it captures is used after all functions that are recorded have returned."""
        rec: Recorder | None = self
        while rec is not None and not rec.lasting:
            rec = rec.outer
        return rec is not None

    def defer(self, prim: Primitive, args: tuple, params: dict[str, Any]) -> Any:
        """What a primitive gives for constants, in a program that may never run.

        What is small is computed at once, if that does no harm; the rest is recorded.
        """
        if prim.kind != "higher-order":
            known = folded(prim, args, params)
            if known is not None:
                return known[0]
        return self.stage(prim, args, params)

    def _key(self, a: Any) -> Any:
        if isinstance(a, np.generic):
            return (a.dtype, a.tobytes())
        if type(a) in (int, float, complex, bool):
            return (type(a), repr(a))
        return id(a)

    def is_closed(self, outputs: Sequence[Any]) -> bool:
        """Whether the values that rode along are all there is to know of these results.

        They are not where operands or results are of an enclosing recording, or have no value.
        """
        if self.captures:
            return False
        for o in outputs:
            if type(o) is Tracer and (o.rec is not self or o.value is NO_VALUE):
                return False
        return True

    def take(self) -> Tape:
        """What was recorded, which the recorder forgets.

        Tracers refer to their recorder: if it kept the tape, arrays would live on until the
        garbage collector found the circle.
        """
        tape = Tape(self.inputs, self.eqns, self.pulls, self.asks)
        self.inputs, self.eqns, self.pulls, self.memo = [], [], {}, {}
        self.gradients = {}
        return tape

    def graph(self, outputs: Sequence[Any]) -> Graph:
        """Freeze what `outputs` depend on into a graph over this recorder's inputs; once."""
        tape = self.take()
        atoms: dict[int, Any] = {}

        def variables(tracers: Sequence[Tracer]) -> tuple[Var, ...]:
            made = tuple([Var(t._aval or t.aval) for t in tracers])
            atoms.update(zip(map(id, tracers), made, strict=True))
            return made

        def constant(a: Any) -> Const:
            made = Const(a)
            # Scalars' ids are not stable identities; only arrays and tracers are shared.
            if not made.is_literal:
                atoms[id(a)] = made
            return made

        inputs = variables(tape.inputs)
        eqns = []
        for eqn in live_eqns(tape.eqns, outputs):
            ins = eqn.ins
            if eqn.values is not None:
                ins = [a if type(a) is Tracer else v for a, v in zip(ins, eqn.values, strict=True)]
            ins = tuple([atoms.get(id(a)) or constant(a) for a in ins])
            eqns.append(Eqn(eqn.prim, ins, eqn.params, variables(eqn.outs), eqn.source))
        for out in outputs:
            if type(out) is Tracer and id(out) not in atoms:
                if out.rec is self or out.rec.ended:
                    raise LeakedTracerError.of(out.rec.purpose, "the result")
        return Graph(inputs, eqns, [atoms.get(id(o)) or constant(o) for o in outputs])


def deferred(purpose: str, lasting: bool = False) -> Recorder:
    """A recorder of what may never run: of a branch, a loop's body, or a graph made of those.

    Derivatives of graphs are `lasting`: they are kept with them, and rules capture arrays.
    """
    return Recorder(purpose, concrete=False, defers=True, lasting=lasting)


def check_nans(name: str, values: Sequence[Any], source: SourceLine | None) -> None:
    """Raise NaNError if any of a primitive's results has a NaN."""
    for value in values:
        if value is None or is_abstract(value):
            continue
        value = own_value(value)
        aval = aval_of(value)
        if aval.inexact and bool(np.isnan(value).any()):
            raise NaNError.of(name, source, aval.shape)


def is_abstract(x: Any) -> bool:
    """Whether `x` is a tracer that has no value."""
    return type(x) is Tracer and x.value is NO_VALUE


def own_value(x: Any) -> Any:
    """The array behind `x` if it has one, through however many recordings; else `x`."""
    return x.value if type(x) is Tracer and x.value is not NO_VALUE else x
