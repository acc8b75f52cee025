"""What users of PyTorch write for an option, and what it is here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from funcgrad.errors import ArgumentError

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = {
    "dim": "axis=",
    "batch_first": "nothing: sequences are always (batch, steps, features)",
    "inplace": "nothing: layers return new arrays",
    "device": "nothing, and move the parameters: fg.device_put(params, device)",
    "dtype": "nothing, and give it to init: layer.init(0, input_shape, dtype)",
    "return_indices": "nothing: pooling returns the elements alone",
    "input_shape": "nothing, and give it to init: layer.init(0, input_shape)",
    "unflattened_size": "sizes=",
    "collate_fn": "collate=",
    "prefetch_factor": "prefetch=",
    "generator": "seed=",
    "batch_sampler": "sampler= and batch_size=",
    "pin_memory_device": "device=",
    "persistent_workers": "nothing: threads begin with each epoch",
    "worker_init_fn": "nothing: the keys of random transforms follow from seed, epoch and index",
    "timeout": "nothing: workers are waited for",
    "train": 'split="train" or split="test"',
}
# Where a word means something else.
_OF_FLATTEN = {"dim": "start_dim= and end_dim="}


def check_options(name: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Raise an error for an option that there is not.

    Raises:
        ArgumentError: it is one of PyTorch's.
        TypeError: it is none.
    """
    names = [*known]
    for option in given:
        if option in names:
            continue
        hints = _OPTIONS | _OF_FLATTEN if name == "Flatten" else _OPTIONS
        hint = hints.get(option)
        if hint is not None and (not hint.startswith("axis") or "axis" in names):
            raise ArgumentError(f"{name}: instead of {option}= write {hint}") from None
        listed = f"it has {', '.join(names)}" if names else "it has none"
        raise TypeError(f"{name} has no option {option}=; {listed}") from None


def options_of(function: Callable[..., Any]) -> list[str] | None:
    """The names of a function's options; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.name != "self"]


def named_options(function: Function) -> Function:
    """Decorates a function, or a class's `__init__`, whose options PyTorch calls otherwise."""
    known, name = options_of(function), function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        if known is not None:
            check_options(name, known, options)
        return function(*args, **options)

    return checked  # type: ignore[return-value]
