"""Arguments that options of `jit` name; static ones are taken out of calls, and put back when
tracing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad._static import Static
from funcgrad.errors import ArgumentError, StaticArgumentError, at_line

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
# Per static argument: its number or name, and its value.
Statics = tuple[tuple[int | str, Static], ...]


class NamedArguments:
    """Which arguments of a function an option of `jit` names, by number and by name.

    An argument that is named by its number is so by its name, and the other way round.

    Args:
        option: the option's name without its ending: "static" or "donate".

    Raises:
        ArgumentError: the function has no such parameter.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        numbers: int | Sequence[int],
        names: str | Sequence[str],
        option: str,
    ):
        self.numbers = (numbers,) if isinstance(numbers, int) else tuple(numbers)
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.option = option
        if self:
            parameters = parameters_of(fun)
            if parameters is not None:
                self._complete(getattr(fun, "__name__", str(fun)), parameters)

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names)

    def _complete(self, fun: str, parameters: Sequence[inspect.Parameter]) -> None:
        positional = [p.name for p in parameters if p.kind in _POSITIONAL]
        by_name = [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY]
        kinds = {p.kind for p in parameters}
        count = len(positional)
        variadic = inspect.Parameter.VAR_POSITIONAL in kinds
        for i in self.numbers:
            if not variadic and not -count <= i < count:
                raise at_line(
                    ArgumentError,
                    f"jit: {self.option}_argnums has {i}, but {fun} takes {count} positional "
                    "arguments",
                )
        for name in self.names:
            if name not in by_name and inspect.Parameter.VAR_KEYWORD not in kinds:
                raise at_line(
                    ArgumentError,
                    f"jit: {self.option}_argnames has {name!r}, which is no parameter of {fun}; "
                    f"it has {sorted(by_name)}",
                )
        # Counted from the end, a number means another argument where some are left out.
        numbers = [i if variadic or i >= 0 else i + count for i in self.numbers]
        named = [positional[i] for i in numbers if 0 <= i < count and positional[i] in by_name]
        numbers += [positional.index(n) for n in self.names if n in positional]
        self.numbers = tuple(dict.fromkeys(numbers))
        self.names = tuple(dict.fromkeys((*self.names, *named)))

    def among(self, count: int) -> set[int]:
        """The numbers that mean one of so many positional arguments, counted from the start."""
        return {i % count for i in self.numbers if -count <= i < count}


class StaticArguments(NamedArguments):
    """The static arguments of a function."""

    def split(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Statics, tuple[Any, ...], dict[str, Any]]:
        """The static arguments of a call, and the others.

        Raises:
            StaticArgumentError: a static argument cannot be hashed.
        """
        numbers = self.among(len(args))
        fixed = [(i, Static(args[i])) for i in sorted(numbers)]
        named = [(name, Static(kwargs[name])) for name in self.names if name in kwargs]
        static: Statics = (*fixed, *named)
        for where, value in static:
            _check_hashable(where, value)
        rest = tuple([a for i, a in enumerate(args) if i not in numbers])
        return static, rest, {k: v for k, v in kwargs.items() if k not in self.names}


def _check_hashable(where: int | str, static: Static) -> None:
    try:
        hash(static)
    except StaticArgumentError:
        raise at_line(
            StaticArgumentError,
            f"jit: static argument {where!r} of type {type(static.value).__name__} cannot be "
            "hashed, so it cannot be part of the cache's key; pass a tuple instead of a list, a "
            "frozen dataclass instead of a dict, or make the argument an ordinary one",
        ) from None


def with_static(fun: Callable[..., Any], static: Statics) -> Callable[..., Any]:
    """`fun` as a function of its other arguments."""
    if not static:
        return fun
    by_number = {where: given.value for where, given in static if isinstance(where, int)}
    by_name = {where: given.value for where, given in static if isinstance(where, str)}

    def rest(*args: Any, **kwargs: Any) -> Any:
        supply = iter(args)
        total = len(args) + len(by_number)
        full = [by_number[i] if i in by_number else next(supply) for i in range(total)]
        return fun(*full, **kwargs, **by_name)

    return rest


def parameters_of(fun: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """A function's parameters, or None where it does not tell them."""
    try:
        return list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return None


def names_of_rest(fun: Callable[..., Any], static: Statics, count: int) -> list[str]:
    """The names of the positional arguments that are left beside static ones, `count` of them."""
    names = [p.name for p in parameters_of(fun) or () if p.kind in _POSITIONAL]
    fixed = {where for where, _ in static}
    free = [name for i, name in enumerate(names) if i not in fixed]
    return [free[i] if i < len(free) else f"arg{i}" for i in range(count)]
