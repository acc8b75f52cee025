"""Where operations are computed or recorded, and what is noted of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from funcgrad.core.open_recorders import current, deferring, is_deferring, owner, set_source
from funcgrad.core.primitive import Primitive
from funcgrad.core.tracer import NO_VALUE, Recorder, Tracer
from funcgrad.source import SourceLine, user_line


def bind(prim: Primitive, *args: Any, **params: Any) -> Any:
    """Apply a primitive: compute it on arrays, record it where an operand is a tracer."""
    rec = None
    for a in args:
        if type(a) is Tracer and (rec is None or a.rec.level > rec.level):
            rec = a.rec
    if rec is None:
        if deferring and is_deferring():
            return owner().defer(prim, args, params)
        return prim.impl(*args, **params)
    return rec.record(prim, args, params)


def recorder_of(operands: Sequence[Any], use: str) -> Recorder | None:
    """Where an operation on these operands is recorded now; None where it is computed."""
    recorders = [a.rec for a in operands if type(a) is Tracer]
    if not recorders:
        return owner() if is_deferring() else None
    return max(recorders, key=lambda rec: rec.level).now(use)


def gradient_point(gradient: Any) -> Any:
    """Where `grad` has taken this gradient: the traced array it differentiated by.

    Of use to libraries whose functions take gradients and parameters, and whose users exchange
    them. Only where a function is recorded for later, as by `jit`, and of the very array that
    `grad` or `value_and_grad` has returned; of anything else it is None.

    >>> def step(w):
    ...     g = fg.grad(lambda w: w**2)(w)
    ...     print(fg.gradient_point(g) is w, fg.gradient_point(w))
    ...     return w - g
    >>> fg.jit(step)(1.0)
    True None
    np.float64(-1.0)
    """
    if type(gradient) is not Tracer:
        return None
    found = gradient.rec.gradients.get(id(gradient))
    return None if found is None else found[1]


def note_gradients(gradients: Iterable[Any], points: Iterable[Any]) -> None:
    """Note where tracers without values, which are a graph's, are gradients."""
    for gradient, point in zip(gradients, points, strict=True):
        if type(gradient) is Tracer and gradient.value is NO_VALUE:
            gradient.rec.gradients[id(gradient)] = gradient, point


def index_error(text: str) -> AbstractContextManager[None]:
    """What an index out of range in what is recorded within is to say.

    Of use to libraries whose functions index with what users give them under another name, such
    as labels. Where a negative one is not to count from the end, index with ``x - size``: such an
    index is told as x.

    Args:
        text: of the message, with ``{index}`` in place of the index.

    >>> @fg.jit
    ... def pick(table, word):
    ...     with fg.index_error("pick: there is no word {index}."):
    ...         return table[word]
    >>> pick(np.ones(3), np.array([1, 4]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    funcgrad.errors.IndexRangeError: pick: there is no word 4.
      at ...
    """
    line = current.source or user_line()
    return _recorded_at(None if line is None else line._replace(index_error=text))


@contextmanager
def _recorded_at(line: SourceLine | None) -> Generator[None]:
    before = set_source(line)
    try:
        yield
    finally:
        set_source(before)
