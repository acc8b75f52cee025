"""What belongs to a program's structure and not to its data: settings, static fields, keys.

Programs are made for static values, so two of them are the same only if no program could tell
them apart. Python's `==` says less: `1 == 1.0 == True` and `0.0 == -0.0`, and so `(1,) == (1.0,)`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from .errors import StaticArgumentError, at_line


class Static:
    """A static value, which hashes and compares by all that it consists of.

    >>> Static((2,)) == Static((2.0,)), Static((2,)) == Static((2,))
    (False, True)
    """

    __slots__ = ("_identity", "value")

    def __init__(self, value: Any):
        self.value = value
        self._identity: Hashable = None

    @property
    def identity(self) -> Hashable:
        # Most structures are never compared.
        if self._identity is None:
            self._identity = identity(self.value)
        return self._identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Static:
            return NotImplemented
        return self is other or self.identity == other.identity

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> Any:
        return Static, (self.value,)


class _Own:
    """A value that hashes and compares by its class's own methods."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        try:
            return hash(self.value)
        except Exception as error:
            raise at_line(
                StaticArgumentError,
                f"a static value of type {type(self.value).__name__}, in a static argument or a "
                "class's static fields, cannot be hashed, so it cannot be part of the cache's "
                "key; pass a tuple instead of a list, a frozen dataclass instead of a dict, and "
                f"an array as an ordinary argument or field ({error})",
            ) from None

    def __eq__(self, other: object) -> bool:
        assert type(other) is _Own
        if self.value is other.value:
            return True
        try:
            return bool(self.value == other.value)
        except Exception as error:
            raise at_line(
                StaticArgumentError,
                f"two static values of type {type(self.value).__name__} cannot be compared, so "
                "there is no telling which program is theirs: `==` must give True or False. "
                "Define `__eq__` so, or pass what is an array as an ordinary argument or field "
                f"({error})",
            ) from None


Rule = Callable[[Any], tuple[Hashable, ...]]


def identity(value: Any) -> Hashable:
    """Equal for two values only if they are of one type and consist of equal parts."""
    kind = type(value)
    rule = _RULES.get(kind)
    if rule is None:
        rule = _rule(kind)
    return (kind, *rule(value))


def _own(value: Any) -> tuple[Hashable, ...]:
    return (_Own(value),)


def _parts(value: Any) -> tuple[Hashable, ...]:
    return tuple(map(identity, value))


def _float(value: float) -> tuple[Hashable, ...]:
    # The sign of zero is kept, and NaN is itself.
    return (float.hex(value),)


_WHOLE = (bool, int, str, bytes, type(None), type, FunctionType, BuiltinFunctionType)
# The classes that a subclass is looked at as one of come before `object`.
_RULES: dict[type, Rule] = {
    float: _float,
    complex: lambda z: (z.real.hex(), z.imag.hex()),
    tuple: _parts,
    frozenset: lambda value: (frozenset(map(identity, value)),),
    range: lambda r: (r.start, r.stop, r.step),
    slice: lambda s: _parts((s.start, s.stop, s.step)),
    np.generic: lambda x: (x.dtype.str, x.tobytes()),
    Enum: lambda member: (id(member),),
    object: _own,
    **dict.fromkeys(_WHOLE, lambda value: (value,)),
}
# Equal ones of these may print differently: Decimal("1.0") and Decimal("1.00"), times of two zones.
_PRINTED = ("decimal", "_decimal", "datetime", "_datetime")


@lru_cache(maxsize=1024)
def _rule(kind: type) -> Rule:
    """How values of a class are compared that isn't among the above."""
    if kind.__module__ in _PRINTED:
        return lambda value: (repr(value),)
    names = _compared_fields(kind)
    if names is not None:
        return _together(kind, lambda value: _parts([getattr(value, name) for name in names]))
    base = next(base for base in kind.__mro__ if base in _RULES)
    if base in (object, np.generic, Enum):
        return _RULES[base]
    return _together(kind, _RULES[base]) if kind.__eq__ is not base.__eq__ else _RULES[base]


def dataclass_fields(cls: Any) -> Sequence[Any] | None:
    """The fields of a dataclass; None for other classes."""
    if not hasattr(cls, "__dataclass_fields__"):
        return None
    # Who has a dataclass has loaded this.
    from dataclasses import fields

    return fields(cls)


def _compared_fields(kind: Any) -> list[str] | None:
    """The fields by which dataclasses and classes of attrs are compared; None for others."""
    if kind.__eq__ is object.__eq__:
        return None
    fields = dataclass_fields(kind)
    if fields is not None:
        return [f.name for f in fields if f.compare]
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else [a.name for a in attributes if a.eq]


def _together(kind: type, parts: Rule) -> Rule:
    """By a class's own method, and by those parts that can be hashed."""

    def rule(value: Any) -> tuple[Hashable, ...]:
        found = parts(value)
        try:
            hash(found)
        except StaticArgumentError:
            found = ()
        return (_Own(value), *found)

    return rule
