"""What is made for one kind of arguments after another, as far as it was of use lately."""

from __future__ import annotations

import itertools
from typing import Any, Generic, TypeVar

from funcgrad.config import config
from funcgrad.core.notices import warn_at
from funcgrad.errors import ProgramLimitWarning
from funcgrad.source import user_line

_V = TypeVar("_V")
_clock = itertools.count()


class _Entry(Generic[_V]):
    __slots__ = ("used", "value")

    def __init__(self, value: _V):
        self.value = value
        self.used = next(_clock)


class Notice:
    """A warning, given once, that a function has been compiled too often."""

    __slots__ = ("_is_given", "_what")

    def __init__(self, what: str):
        self._what = what
        self._is_given = False

    def give(self, limit: int) -> None:
        if not self._is_given:
            self._is_given = True
            warn_at(user_line(), ProgramLimitWarning, _message(self._what, limit))


class LruCache(Generic[_V]):
    """A dict of at most `config.max_programs` values: the least recently used one goes first.

    It takes no lock: entries are added whole, and at worst two threads make a value twice.
    """

    __slots__ = ("_entries", "_notice")

    def __init__(self, notice: Notice):
        self._notice = notice
        self._entries: dict[Any, _Entry[_V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def keys(self) -> list[Any]:
        """From the one that was added first on."""
        return list(self._entries)

    def get(self, key: Any) -> _V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        # A time rather than a place among the others: hashing a key takes longer than all else.
        entry.used = next(_clock)
        return entry.value

    def put(self, key: Any, value: _V) -> _V:
        """The value, or what another thread has put there meanwhile."""
        found = self._entries.setdefault(key, _Entry(value)).value
        limit = config.max_programs
        if limit is not None and len(self._entries) > limit:
            self._give_up(limit)
        return found

    def _give_up(self, limit: int) -> None:
        self._notice.give(limit)
        by_use = sorted(self._entries.items(), key=lambda item: item[1].used)
        for key, _ in by_use[: len(by_use) - limit]:
            self._entries.pop(key, None)


def _message(what: str, limit: int) -> str:
    return (
        f"{what} has been compiled for {limit} kinds of arguments, and gives up the programs used "
        "least recently: with ever new shapes or static arguments each call compiles. Pad arrays "
        "to a few sizes, pass changing numbers as ordinary arguments, or set "
        "fg.config.max_programs to more, or to None for no limit."
    )
