"""What makes plain data of a tracer: numbers, text, indices, arrays.

Integers and booleans have no derivative, so that their values may go anywhere. A float's value
is given where it is asked for by name, with a warning if a derivative is cut by that, and
refused where NumPy would take it without asking.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.evaluate import known_value
from funcgrad.core.notices import is_told, tell
from funcgrad.core.tracer import NO_VALUE, Tracer
from funcgrad.errors import (
    CutDerivativeWarning,
    LeakedTracerError,
    OperandTypeError,
    TracerArrayError,
    TracerValueError,
    at_line,
)
from funcgrad.source import caller_operation, constructs_around, line_of, user_frame


def concrete_value(tracer: Tracer, use: str) -> Any:
    """The value that rides along.

    Raises:
        LeakedTracerError: its recording has ended.
        TracerValueError: there is none, as under jit and vmap.
    """
    if tracer.rec.ended:
        raise LeakedTracerError.of(tracer.rec.purpose, use)
    tracer.rec.asked = True
    value = known_value(tracer)
    if value is NO_VALUE:
        raise TracerValueError.of(tracer, use)
    return value


def known_integers(tracer: Tracer) -> Any:
    """The value of integers or booleans, for a plain array of them.

    Raises:
        LeakedTracerError: the recording has ended.
        TracerArrayError: they are floats, or not known.
    """
    if tracer.rec.ended:
        raise LeakedTracerError.of(tracer.rec.purpose, "NumPy")
    value = NO_VALUE if tracer.aval.inexact else known_value(tracer)
    if value is NO_VALUE:
        raise TracerArrayError.of(tracer)
    return value


def known_arguments(x: Any) -> Any:
    """Arguments with known integers and booleans for tracers; None if there are other tracers."""
    try:
        return _with_known_integers(x)
    except TracerArrayError:
        return None


def _with_known_integers(x: Any) -> Any:
    if type(x) is Tracer:
        return known_integers(x)
    if type(x) in (list, tuple):
        return type(x)(map(_with_known_integers, x))
    if type(x) is dict:
        return {key: _with_known_integers(value) for key, value in x.items()}
    return x


# --- warnings of derivatives that end --------------------------------------------------

# What takes a number or text to tell it to someone.
_TELLING = frozenset(
    "print write debug info warning warn error critical exception log raise assert".split()
)


def _is_differentiated(tracer: Tracer) -> bool:
    """Whether what is differentiated by has part in a tracer; the equations tell, backwards."""
    rec = tracer.rec
    inputs, needed = set(map(id, rec.inputs)), {id(tracer)}
    if id(tracer) in inputs:
        return True
    for eqn in reversed(rec.eqns):
        if needed.isdisjoint(map(id, eqn.outs)):
            continue
        needed.difference_update(map(id, eqn.outs))
        if eqn.prim.jvp is None:
            continue
        for a in eqn.ins:
            if type(a) is not Tracer or not a.aval.inexact:
                continue
            if id(a) in inputs or (a.rec is not rec and _is_differentiated(a)):
                return True
            needed.add(id(a))
    return False


def _note(tracer: Tracer, use: str) -> None:
    """Warn if a derivative ends here, unless the user only has it told."""
    frame = user_frame()
    if frame is None or not tracer.aval.inexact:
        return
    line = line_of(frame)
    if is_told(CutDerivativeWarning, line) or not _is_differentiated(tracer):
        return
    if _TELLING.isdisjoint(constructs_around(frame)):
        tell(CutDerivativeWarning, CutDerivativeWarning.message(tracer, use), line)


# --- numbers --------------------------------------------------------------------------


def _plain(name: str, convert: Callable[[Any], Any]) -> Callable[[Tracer], Any]:
    """`__bool__`, `__int__` and their like: their results have no derivative to cut."""

    def method(self: Tracer) -> Any:
        return convert(concrete_value(self, f"{name}(x)"))

    return method


def _number(name: str, convert: Callable[[Any], Any]) -> Callable[[Tracer], Any]:
    """`__float__` and `__complex__`: for `float(x)`, but not for what else would use them.

    `math.sin(x)`, `np.float64(x)` and `array[0] = x` ask for a float in the same way; they
    would lose the derivative without a word.
    """

    def method(self: Tracer) -> Any:
        operation, called = caller_operation(2)
        # A binary operation gets here only as `text % x`.
        by_name = called == name or operation == "BINARY_OP"
        if not self.rec.ended and self.aval.inexact and not by_name:
            raise TracerArrayError.of(self)
        value = concrete_value(self, f"{name}(x)")
        _note(self, f"{name}(x)")
        return convert(value)

    return method


def _item(self: Tracer, *args: Any) -> Any:
    value = concrete_value(self, "item()")
    _note(self, "x.item()")
    return (value if hasattr(value, "item") else np.asarray(value)).item(*args)


def _tolist(self: Tracer) -> Any:
    value = concrete_value(self, "tolist()")
    _note(self, "x.tolist()")
    return (value if hasattr(value, "tolist") else np.asarray(value)).tolist()


def _index(self: Tracer) -> int:
    return operator.index(concrete_value(self, "use as an index"))


def _to_array(self: Tracer, dtype: Any = None, copy: Any = None) -> Any:
    return np.array(known_integers(self), dtype)


def _round(self: Tracer, ndigits: Any = None) -> Any:
    """Python's `round`: an integer, or with a number of digits what `np.round` gives."""
    if self.shape:
        raise at_line(OperandTypeError, f"round(x) of a traced {self.aval}; write np.round(x)")
    if ndigits is not None:
        return np.round(self, ndigits)
    number: Any = np.asarray(concrete_value(self, "round(x)"))[()]
    return round(number)


# --- text -----------------------------------------------------------------------------


def _repr(self: Tracer) -> str:
    if self.rec.ended:
        return f"Tracer({self.aval}, leaked out of {self.rec.purpose})"
    value = "" if self.value is NO_VALUE else f", value={self.value!r}"
    return f"Tracer({self.aval}{value})"


def _text_value(self: Tracer, use: str) -> Any:
    """What text is made of; where no value is known, a text that says so."""
    if not self.rec.ended and self.value is NO_VALUE:
        return repr(self)
    value = concrete_value(self, use)
    _note(self, use)
    return value


def _str(self: Tracer) -> str:
    return str(_text_value(self, "str(x)"))


def _format(self: Tracer, spec: str) -> str:
    value = _text_value(self, 'f"{x}"')
    if self.value is not NO_VALUE:
        return format(value, spec)
    try:
        return format(value, spec)
    except ValueError:
        # A format for numbers.
        return format(concrete_value(self, f'f"{{x:{spec}}}"'), spec)


CONVERSIONS: dict[str, Any] = {
    "__bool__": _plain("bool", bool),
    "__int__": _plain("int", int),
    "__trunc__": _plain("math.trunc", math.trunc),
    "__floor__": _plain("math.floor", math.floor),
    "__ceil__": _plain("math.ceil", math.ceil),
    "__float__": _number("float", float),
    "__complex__": _number("complex", complex),
    "__round__": _round,
    "__index__": _index,
    "__array__": _to_array,
    "__repr__": _repr,
    "__str__": _str,
    "__format__": _format,
    "item": _item,
    "tolist": _tolist,
}
