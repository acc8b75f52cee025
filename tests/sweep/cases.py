"""A call with its operands, and short ways to write many of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product as _product
from typing import Any

import numpy as np

import funcgrad.numpy as fnp
from sweep.inputs import Operand

Options = dict[str, Any]


@dataclass
class Case:
    """One call: `call(function, *operands, **options)`.

    Attributes:
        name: of the function, as in the table.
        text: the call, for reports and for the table of known differences.
        ours: the function that takes tracers.
        numpys: the same, for arrays alone: the reference.
        modes: in which it makes sense; all by default.
        scale: how many times the usual tolerance the results may differ.
    """

    name: str
    text: str
    ours: Callable[..., Any]
    numpys: Callable[..., Any]
    operands: tuple[Operand, ...]
    options: Options
    modes: str = ""
    scale: float = 1

    @property
    def traced(self) -> list[Any]:
        return [o.value for o in self.operands if o.traced]

    def run(self, function: Callable[..., Any], traced: Sequence[Any]) -> Any:
        given = iter(traced)
        args = [next(given) if o.traced else o.value for o in self.operands]
        return function(*args, **self.options)


@dataclass
class Entry:
    """A function with what it is called with."""

    ours: Callable[..., Any]
    numpys: Callable[..., Any]
    groups: list[Group]


@dataclass
class Group:
    """Operands times options, each option with each tuple of operands.

    Attributes:
        call: how the function is called, where not with the operands alone: `call(f, *operands)`.
        label: what tells it in reports.
        every: only each so many-th case is taken, where more would find the same.
    """

    operands: list[tuple[Operand, ...]]
    options: list[Options] = field(default_factory=lambda: [{}])
    call: Callable[..., Any] | None = None
    label: str = ""
    modes: str = ""
    scale: float = 1
    every: int = 1


TABLE: dict[str, Entry] = {}


def find(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def entry(
    names: str,
    *groups: Group,
    ours: Callable[..., Any] | None = None,
    numpys: Callable[..., Any] | None = None,
) -> None:
    """Fill in the table for these functions of `funcgrad.numpy` (or for `ours` and `numpys`)."""
    for name in names.split():
        made = TABLE.get(name)
        if made is None:
            made = TABLE[name] = Entry(
                find(fnp, name) if ours is None else ours,
                find(np, name) if numpys is None else numpys,
                [],
            )
        made.groups += groups


def one(operands: Iterable[Operand], *options: Options, **more: Any) -> Group:
    """A function of one array."""
    return Group([(o,) for o in operands], list(options) or [{}], **more)


def many(operands: Iterable[tuple[Operand, ...]], *options: Options, **more: Any) -> Group:
    return Group(list(operands), list(options) or [{}], **more)


def product(**choices: Sequence[Any]) -> list[Options]:
    """Every combination of these options' values; a value `...` leaves the option out."""
    found = []
    for values in _product(*choices.values()):
        pairs = zip(choices, values, strict=True)
        found.append({key: value for key, value in pairs if value is not ...})
    return found


def each(**choices: Sequence[Any]) -> list[Options]:
    """Each value of each option by itself."""
    return [{key: value} for key, values in choices.items() for value in values]


def cases_of(name: str) -> list[Case]:
    made = TABLE[name]
    found = []
    for group in made.groups:
        ours, numpys = made.ours, made.numpys
        if group.call is not None:
            ours, numpys = _calling(group.call, ours), _calling(group.call, numpys)
        calls = [(operands, options) for operands in group.operands for options in group.options]
        # From another place for each function, so that together they see nearly all.
        start = zlib.crc32(name.encode()) % group.every
        for operands, options in calls[start :: group.every]:
            text = _text(f"{name}{group.label and ' ' + group.label}", operands, options)
            found.append(
                Case(name, text, ours, numpys, operands, options, group.modes, group.scale)
            )
    return found


def sample(cases: Iterable[Case], every: int) -> list[Case]:
    """About one in so many; which ones depends on each case alone."""
    return [case for case in cases if zlib.crc32(case.text.encode()) % every == 0]


def _calling(call: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: call(function, *args, **options)


def _text(name: str, operands: Sequence[Operand], options: Options) -> str:
    parts = [o.text if o.traced else f"'{o.text}'" for o in operands]
    parts += [f"{key}={_option_text(value)}" for key, value in options.items()]
    return f"{name}({', '.join(parts)})"


def _option_text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()}"
    return value.__name__ if isinstance(value, type) else repr(value)
