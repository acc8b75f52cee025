"""Schedules of the learning rate: plain functions of the number of updates made before.

>>> rate = nn.schedules.warmup_cosine(0.1, warmup_steps=10, steps=100)
>>> [round(float(rate(step)), 3) for step in (0, 5, 10, 55, 100)]
[0.0, 0.05, 0.1, 0.05, 0.0]
>>> nn.sgd(rate)
sgd(learning_rate=warmup_cosine(0.1, warmup_steps=10, steps=100))

They compute on integers, arrays and tracers alike; beyond their last step they stay as they are.
Names are optax's or PyTorch's, without ``_schedule`` and ``LR``; values are those of PyTorch's
schedulers where these are stepped after each update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np

import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError

from ._numbers import as_number, checked

Schedule = Callable[[Any], Any]
Make = TypeVar("Make", bound=Callable[..., Schedule])

__all__ = [
    "Plateau",
    "PlateauState",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "join",
    "linear",
    "multi_step",
    "one_cycle",
    "plateau",
    "polynomial",
    "step",
    "warmup",
    "warmup_cosine",
]


def _named(make: Make) -> Make:
    """Decorates what makes schedules: each is named after its call."""

    @wraps(make)
    def wrapper(*args: Any, **options: Any) -> Schedule:
        schedule = make(*args, **options)
        given = [*map(_shown, args), *[f"{name}={_shown(one)}" for name, one in options.items()]]
        schedule.__name__ = schedule.__qualname__ = f"{make.__name__}({', '.join(given)})"
        return schedule

    return wrapper  # type: ignore[return-value]


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, cast(Sequence[Any], value)))}]"
    return getattr(value, "__name__", None) or repr(as_number(value))


def _count(name: str, option: str, value: Any, low: int = 1) -> int:
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < low:
        raise ArgumentError(f"{name}: {option} must be an integer from {low} on, not {value!r:.60}")
    return number


def _share(step: Any, steps: int) -> Any:
    """How much of the steps is behind, from 0 to 1."""
    return np.minimum(step, steps) / steps


def _half_wave(start: Any, end: Any, share: Any) -> Any:
    """From start to end along half a cosine's wave."""
    return end + (start - end) * (0.5 * (1 + np.cos(math.pi * share)))


def _line(start: Any, end: Any, share: Any) -> Any:
    return start + (end - start) * share


@_named
def constant(value: float) -> Schedule:
    """The same rate at each step.

    >>> float(nn.schedules.constant(0.1)(7))
    0.1
    """

    def rate(step: Any) -> Any:
        return value + 0.0 * step

    return rate


@_named
def linear(start: float, end: float, steps: int) -> Schedule:
    """From one rate to another in a line; as optax's ``linear_schedule``, PyTorch's ``LinearLR``.

    Args:
        start, end: the rates.
        steps: after how many steps it has come to the end.

    >>> rate = nn.schedules.linear(0.0, 0.1, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 20)]
    [0.0, 0.05, 0.1, 0.1]
    """
    steps = _count("linear", "steps", steps)

    def rate(step: Any) -> Any:
        return _line(start, end, _share(step, steps))

    return rate


@_named
def step(start: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """Times `gamma` after every `step_size` steps; as PyTorch's ``StepLR``.

    >>> rate = nn.schedules.step(1.0, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.1, 0.01]
    """
    step_size = _count("step", "step_size", step_size)

    def rate(step: Any) -> Any:
        return start * gamma ** (step // step_size)

    return rate


@_named
def multi_step(start: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Times `gamma` at each milestone; as PyTorch's ``MultiStepLR``.

    >>> rate = nn.schedules.multi_step(1.0, [10, 15])
    >>> [round(float(rate(step)), 3) for step in (0, 9, 10, 15)]
    [1.0, 1.0, 0.1, 0.01]
    """
    places = [_count("multi_step", "milestones", place, 0) for place in milestones]

    def rate(step: Any) -> Any:
        passed: Any = sum((step >= place) * 1 for place in places)
        return start * gamma**passed

    return rate


@_named
def exponential(start: float, gamma: float) -> Schedule:
    """Times `gamma` after every step; as PyTorch's ``ExponentialLR``.

    >>> rate = nn.schedules.exponential(1.0, 0.5)
    >>> [float(rate(step)) for step in (0, 1, 2)]
    [1.0, 0.5, 0.25]
    """

    def rate(step: Any) -> Any:
        return start * gamma**step

    return rate


@_named
def polynomial(start: float, steps: int, power: float = 1.0, end: float = 0.0) -> Schedule:
    """``end + (start - end) * (1 - step / steps)**power``; as PyTorch's ``PolynomialLR``.

    >>> rate = nn.schedules.polynomial(1.0, 10, power=2.0)
    >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 20)]
    [1.0, 0.25, 0.0, 0.0]
    """
    steps = _count("polynomial", "steps", steps)

    def rate(step: Any) -> Any:
        return end + (start - end) * (1.0 - _share(step, steps)) ** power

    return rate


@_named
def cosine(start: float, steps: int, end: float = 0.0) -> Schedule:
    """Down along half a cosine's wave; as optax's ``cosine_decay_schedule``.

    Up to ``steps`` it is PyTorch's ``CosineAnnealingLR``, with ``T_max=steps`` and ``eta_min=end``.
    I. Loshchilov, F. Hutter (2016), *SGDR: Stochastic Gradient Descent with Warm Restarts*.

    >>> rate = nn.schedules.cosine(1.0, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.0, 0.0]
    """
    steps = _count("cosine", "steps", steps)

    def rate(step: Any) -> Any:
        return _half_wave(start, end, _share(step, steps))

    return rate


@_named
def cosine_restarts(start: float, steps: int, end: float = 0.0) -> Schedule:
    """:func:`cosine` again and again; as PyTorch's ``CosineAnnealingWarmRestarts(T_mult=1)``.

    >>> rate = nn.schedules.cosine_restarts(1.0, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 15)]
    [1.0, 0.5, 1.0, 0.5]
    """
    steps = _count("cosine_restarts", "steps", steps)

    def rate(step: Any) -> Any:
        return _half_wave(start, end, step % steps / steps)

    return rate


@_named
def warmup_cosine(
    peak: float, warmup_steps: int, steps: int, start: float = 0.0, end: float = 0.0
) -> Schedule:
    """Up in a line, down along a cosine; as optax's ``warmup_cosine_decay_schedule``.

    Args:
        peak: the highest rate.
        warmup_steps: the steps up to it.
        steps: all steps, those counted.
        start, end: the first and last rate.

    >>> rate = nn.schedules.warmup_cosine(1.0, 2, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup_steps = _count("warmup_cosine", "warmup_steps", warmup_steps)
    steps = _count("warmup_cosine", "steps", steps, warmup_steps + 1)
    return warmup(cosine(peak, steps - warmup_steps, end), warmup_steps, start)


@_named
def one_cycle(
    peak: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal: Literal["cos", "linear"] = "cos",
) -> Schedule:
    """Up to the peak and down to almost nothing; as PyTorch's ``OneCycleLR``.

    L. Smith, N. Topin (2017), *Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates*.

    Args:
        peak: the highest rate, ``max_lr`` in PyTorch.
        steps: all steps.
        pct_start: the share of steps on the way up.
        div_factor: the first rate is ``peak / div_factor``.
        final_div_factor: the last rate is the first one over it.
        anneal: both ways are half waves of a cosine, or lines.

    >>> rate = nn.schedules.one_cycle(1.0, 10)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 9)]
    [0.04, 0.52, 1.0, 0.0]
    """
    steps = _count("one_cycle", "steps", steps, 2)
    pct_start = checked("one_cycle", "pct_start", pct_start, 0, 1)
    ways = {"cos": _half_wave, "linear": _line}
    if anneal not in ways:
        raise ArgumentError(f"one_cycle: anneal must be 'cos' or 'linear', not {anneal!r:.60}")
    way, top, last = ways[anneal], pct_start * steps - 1, steps - 1
    first, lowest = peak / div_factor, peak / div_factor / final_div_factor

    def rate(step: Any) -> Any:
        up = np.clip(step / top, 0, 1) if top > 0 else 1.0
        down = np.clip((step - top) / (last - top), 0, 1) if last > top else 0.0
        return fnp.where(step <= top, way(first, peak, up), way(peak, lowest, down))

    return rate


@_named
def warmup(schedule: Schedule, steps: int, start: float = 0.0) -> Schedule:
    """In a line up to a schedule's first rate, then the schedule.

    Args:
        schedule: what follows; its first step comes after those of the warm-up.
        steps: of the warm-up.
        start: the first rate.

    >>> rate = nn.schedules.warmup(nn.schedules.exponential(1.0, 0.5), 2)
    >>> [float(rate(step)) for step in (0, 1, 2, 3)]
    [0.0, 0.5, 1.0, 0.5]
    """
    steps = _count("warmup", "steps", steps)

    def rising(step: Any) -> Any:
        return _line(start, schedule(step * 0), _share(step, steps))

    return join([rising, schedule], [steps])


@_named
def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other; as optax's ``join_schedules``, PyTorch's ``SequentialLR``.

    Args:
        schedules: two or more.
        boundaries: the step that each but the first begins at; it is given the steps since then.

    >>> first, second = nn.schedules.constant(1.0), nn.schedules.exponential(0.8, 0.5)
    >>> rate = nn.schedules.join([first, second], [2])
    >>> [float(rate(step)) for step in (0, 1, 2, 3)]
    [1.0, 1.0, 0.8, 0.4]
    """
    parts, places = list(schedules), [_count("join", "boundaries", one, 0) for one in boundaries]
    if len(parts) != len(places) + 1 or places != sorted(places):
        raise ArgumentError(
            f"join: takes one boundary fewer than schedules, each later than the one before; got "
            f"{len(parts)} schedules and the boundaries {places}"
        )

    def rate(step: Any) -> Any:
        now = parts[0](step)
        for schedule, place in zip(parts[1:], places, strict=True):
            # What has not begun is asked for its first rate: others may be infinite.
            now = fnp.where(step >= place, schedule(np.maximum(step - place, 0)), now)
        return now

    return rate


# -- Plateaus ------------------------------------------------------------------------------------


class PlateauState(NamedTuple):
    """The state of :func:`plateau`.

    Attributes:
        rate: the learning rate, an array without axes.
        best: the best metric so far.
        bad: how many updates in a row were no better.
        waiting: how many updates are still let pass after a reduction.

    >>> float(nn.schedules.plateau(0.1).init().rate)
    0.1
    """

    rate: Any
    best: Any
    bad: Any
    waiting: Any


class Plateau(NamedTuple):
    """What :func:`plateau` gives: two pure functions.

    Attributes:
        init: ``init() -> state``.
        update: ``update(state, metric) -> state``.

    >>> plateau = nn.schedules.plateau(0.1)
    >>> float(plateau.update(plateau.init(), 3.0).best)
    3.0
    """

    init: Callable[[], PlateauState]
    update: Callable[[PlateauState, Any], PlateauState]

    def by(self, score: str) -> Callable[[Sequence[Mapping[str, Any]]], Any]:
        """The rate that follows from a history of scores by name: what ``nn.fit(rate=...)`` takes.

        Args:
            score: the metric's name, such as ``"val_loss"``.

        >>> rate = nn.schedules.plateau(0.1, factor=0.5, patience=0).by("val_loss")
        >>> history = [{"val_loss": 2.0}, {"val_loss": 1.0}, {"val_loss": 1.5}]
        >>> [float(rate(history[:epochs])) for epochs in range(4)]
        [0.1, 0.1, 0.1, 0.05]
        """

        def rate(history: Sequence[Mapping[str, Any]]) -> Any:
            state = self.init()
            for scores in history:
                if score not in scores:
                    raise ArgumentError(
                        f"there is no score {score!r}; there are {', '.join(scores)}"
                    )
                state = self.update(state, scores[score])
            return state.rate

        return rate


def plateau(
    learning_rate: float,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_rate: float = 0.0,
    mode: Literal["min", "max"] = "min",
    threshold_mode: Literal["rel", "abs"] = "rel",
    eps: float = 1e-8,
) -> Plateau:
    """A rate that is reduced when a metric does not get better; as PyTorch's ``ReduceLROnPlateau``.

    The rate is in the state, and goes into the optimiser as an array:

    >>> plateau = nn.schedules.plateau(0.1, factor=0.5, patience=1)
    >>> @fg.jit
    ... def step(params, state, rate, grads):
    ...     return nn.adam(rate).update(grads, state, params)
    >>> params = np.zeros(2)
    >>> state, rates = nn.adam().init(params), plateau.init()
    >>> for metric in (3.0, 2.0, 2.0, 2.0):
    ...     params, state = step(params, state, rates.rate, np.ones(2))
    ...     rates = plateau.update(rates, metric)
    >>> float(rates.rate)
    0.05

    Args:
        learning_rate: the first rate.
        factor: what it is multiplied by, from 0 to below 1.
        patience: how many updates in a row may be no better.
        threshold: by how much a metric must be better to count.
        cooldown: how many updates are let pass after a reduction.
        min_rate: the lowest rate, ``min_lr`` in PyTorch.
        mode: whether lower or higher metrics are better.
        threshold_mode: whether the threshold is a share of the best metric, or a difference.
        eps: reductions by less are left out.

    Raises:
        ArgumentError: an option is out of range.
    """
    name = "plateau"
    first = checked(name, "learning_rate", learning_rate, 0)
    factor = checked(name, "factor", factor, 0, 1)
    if factor == 1:
        raise ArgumentError("plateau: factor must be below 1")
    patience, cooldown = (
        _count(name, "patience", patience, 0),
        _count(name, "cooldown", cooldown, 0),
    )
    for option, value, known in (
        ("mode", mode, ("min", "max")),
        ("threshold_mode", threshold_mode, ("rel", "abs")),
    ):
        if value not in known:
            raise ArgumentError(f"plateau: {option} must be one of {known}, not {value!r:.60}")
    sign = 1.0 if mode == "min" else -1.0

    def init() -> PlateauState:
        none = np.zeros((), np.int64)
        return PlateauState(np.asarray(first, np.float64), np.asarray(sign * np.inf), none, none)

    def wanted(best: Any) -> Any:
        return best * (1 - sign * threshold) if threshold_mode == "rel" else best - sign * threshold

    def update(state: PlateauState, metric: Any) -> PlateauState:
        metric = metric * np.ones(())
        better = sign * metric < sign * wanted(state.best)
        waits = state.waiting > 0
        bad = fnp.where(better | waits, 0, state.bad + 1)
        reduces = bad > patience
        lower = np.maximum(state.rate * factor, min_rate)
        lower = fnp.where(state.rate - lower > eps, lower, state.rate)
        return PlateauState(
            rate=fnp.where(reduces, lower, state.rate),
            best=fnp.where(better, metric, state.best),
            bad=fnp.where(reduces, 0, bad),
            waiting=fnp.where(reduces, cooldown, np.maximum(state.waiting - 1, 0)),
        )

    return Plateau(init, update)
