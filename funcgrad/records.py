"""Classes of a few named values, made in microseconds.

`typing.NamedTuple` and `dataclasses` compile much code for each class that they make: for those of
this package that took as long as to load half of it.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

R = TypeVar("R", bound="Record")


@dataclass_transform(eq_default=False)
class Record:
    """An object with the attributes that its class annotates, those that have a value last.

    Example:
        >>> class Size(Record):
        ...     width: int
        ...     height: int = 1
        >>> Size(3).height, Size(3, height=2).height
        (1, 2)
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _needed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._fields = cls.__match_args__ = (*cls._fields, *cls.__annotations__)
        cls._needed = frozenset([name for name in cls._fields if not hasattr(cls, name)])

    def __init__(self, *values: Any, **named: Any) -> None:
        found, fields = self.__dict__, self._fields
        found.update(zip(fields, values, strict=False))
        found.update(named)
        if len(found) != len(values) + len(named) or not self._needed <= found.keys():
            raise TypeError(f"{type(self).__name__} takes {', '.join(fields)}")
        if named and not found.keys() <= {*fields}:
            raise TypeError(f"{type(self).__name__} takes only {', '.join(fields)}")


@dataclass_transform(eq_default=True, frozen_default=True)
class Value(Record):
    """A record that is known by its class and values, and does not change."""

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __repr__(self) -> str:
        pairs = zip(self._fields, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


def replace(record: R, **changes: Any) -> R:
    """A record of the same values but for these."""
    kind = type(record)
    return kind(**{name: getattr(record, name) for name in kind._fields} | changes)


class _Tuple(tuple[Any, ...]):
    """What named tuples share."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _make(cls, values: Iterable[Any]) -> _Tuple:
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}")
        return made

    def _replace(self, /, **changes: Any) -> _Tuple:
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise ValueError(f"{type(self).__name__} takes only {', '.join(self._fields)}")
        return made

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        pairs = zip(self._fields, self, strict=True)
        return f"{type(self).__name__}({', '.join([f'{name}={value!r}' for name, value in pairs])})"


@cache
def _constructor(count: int) -> Any:
    """The code of what makes a tuple of so many values."""
    names = [f"_{i}" for i in range(count)]
    text = f"lambda {', '.join(['_cls', *names])}: new(_cls, ({''.join(f'{n}, ' for n in names)}))"
    return eval(text).__code__


_NAMES = {"new": tuple.__new__}

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Kind(type):
        """Makes named tuples of what is written as their base's subclasses.

        Those of `typing` and `collections` compile a function for each.
        """

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            # From Python 3.14 on, the class tells what a namespace may not.
            noted = namespace.get("__annotations__") or type(name, (), namespace).__annotations__
            fields = tuple(noted)
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            code = _constructor(len(fields)).replace(co_varnames=("_cls", *fields))
            made = FunctionType(code, _NAMES, "__new__", tuple(defaults.values()))
            made.__qualname__ = f"{name}.__new__"
            getters = {field: collections._tuplegetter(i, "") for i, field in enumerate(fields)}
            own = {
                "__slots__": (),
                "__new__": made,
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
            }
            return type(name, (_Tuple,), {**namespace, **getters, **own})

    NamedTuple = type.__new__(_Kind, "NamedTuple", (), {})
