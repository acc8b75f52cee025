"""Paired timing: contenders take turns in one process, and are compared turn by turn.

A machine drifts (clock, neighbours, caches), so absolute times of two separate runs say little.
Here each *round* measures every contender once, one straight after the other, and a ratio is
formed inside the round; the median of those ratios is what a row reports, with the spread.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from time import perf_counter_ns, sleep
from typing import Any

import numpy as np


def _nothing() -> None:
    """Default for :attr:`Contender.finish`: the work was over when the call returned."""


@dataclass(frozen=True)
class Contender:
    """One library doing the work of a row.

    Attributes:
        name: the library, as the table prints it.
        call: does one unit of the work. Training steps keep their own state.
        finish: waits for whatever ``call`` left running; timed once per loop, so that a library
            with asynchronous dispatch gets the benefit of it.
        outcome: the numbers that the work has led to, compared between contenders before timing.
    """

    name: str
    call: Callable[[], object]
    finish: Callable[[], object] = _nothing
    outcome: Callable[[], Iterable[object]] | None = None


@dataclass(frozen=True)
class Plan:
    """How much to measure: ``rounds`` samples, each the best of ``repeats`` loops.

    A loop repeats the call until it takes about ``loop_s`` seconds (0: one call a loop). Where
    ``pause_s`` is given, each contender has a pause and a call that isn't measured before it: idle
    threads of the library before it may spin on the other cores for that long.
    """

    rounds: int = 31
    repeats: int = 5
    loop_s: float = 2e-3
    pause_s: float = 0.0


@dataclass(frozen=True)
class Bar:
    """What a row must reach: ``value <= limit``, or ``value >= limit`` for a speed-up."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


Bars = Mapping[Any, Bar]  # by a peer's name, or by a tuple of names


@dataclass(frozen=True)
class Work:
    """What a row cannot do without, however it is compiled.

    Attributes:
        moved: bytes of arguments read and results written, once each.
        flops: those of its matrix products.
        dtype: the matrices'.
    """

    moved: int = 0
    flops: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Result:
    """One line of the table: our samples beside one peer's, and the figure formed from each pair.

    ``unit`` is that of ``ours`` and ``peers`` ("s" or "MiB"); ``figure_unit`` that of the figure
    ("×" for a ratio). Without a peer, the figures are our samples.
    """

    what: str
    peer: str
    ours: tuple[float, ...]
    peers: tuple[float, ...]
    figures: tuple[float, ...]
    bar: Bar | None = None
    unit: str = "s"
    figure_unit: str = "×"
    work: Work | None = None

    @property
    def figure(self) -> float:
        return float(np.median(self.figures))

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.bar.met(self.figure)


def check_agreement(
    contenders: Sequence[Contender], calls: int = 3, rtol: float = 1e-6, atol: float = 1e-9
) -> None:
    """Call each contender ``calls`` times and assert that all have come to the same numbers.

    Raises:
        AssertionError: naming the contender and the first output that differs.
    """
    reference: list[np.ndarray] | None = None
    for contender in contenders:
        assert contender.outcome is not None, f"{contender.name} offers nothing to check"
        for _ in range(calls):
            contender.call()
        contender.finish()
        got = [np.asarray(value) for value in contender.outcome()]
        reference = reference or got
        assert len(got) == len(reference) > 0, f"{contender.name}: {len(got)} outputs"
        for index, (value, expected) in enumerate(zip(got, reference, strict=True)):
            message = f"{contender.name} differs from {contenders[0].name} in output {index}"
            assert value.shape == expected.shape, message
            np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol, err_msg=message)


def interleave(contenders: Sequence[Contender], plan: Plan) -> dict[str, tuple[float, ...]]:
    """Seconds per call of each contender, one sample a round, every round measuring them all."""
    counts = [_calls_per_loop(contender, plan.loop_s) for contender in contenders]
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    turns = list(zip(contenders, counts, strict=True))
    gc.collect()
    gc.freeze()  # the collections between samples then look at young objects only
    gc.disable()
    try:
        for _ in range(plan.rounds):
            for contender, count in turns:
                if plan.pause_s:
                    sleep(plan.pause_s)
                    _time_loop(contender, 1)
                best = min(_time_loop(contender, count) for _ in range(plan.repeats))
                samples[contender.name].append(best / count)
                gc.collect()
            turns.reverse()  # so that no contender always follows the same other
    finally:
        gc.enable()
        gc.unfreeze()
    return {name: tuple(values) for name, values in samples.items()}


def compare(
    what: str,
    contenders: Sequence[Contender],
    bars: Bars,
    plan: Plan = Plan(),
    speed_up: bool = False,
    work: Work | None = None,
) -> list[Result]:
    """Measure the first contender (ours) beside each of the others.

    Args:
        what: the row's title.
        contenders: ours first, then the peers.
        bars: for the peers that the row has to be measured against, what must be reached; under
            several names, it holds for the fastest of them.
        plan: how much to measure.
        speed_up: report theirs / ours instead of ours / theirs.
        work: what bounds the row.
    """
    samples = interleave(contenders, plan)
    ours = samples[contenders[0].name]
    results = []
    for contender in contenders[1:]:
        theirs = samples[contender.name]
        pairs = zip(ours, theirs, strict=True)
        figures = tuple(b / a if speed_up else a / b for a, b in pairs)
        results.append(Result(what, contender.name, ours, theirs, figures, work=work))
    return _with_bars(results, bars)


def _with_bars(results: Sequence[Result], bars: Bars) -> list[Result]:
    """Each bar at the peer it is for: of several, the one with the least median."""
    chosen: dict[str, Bar] = {}
    for names, bar in bars.items():
        peers = [r for r in results if r.peer in ((names,) if isinstance(names, str) else names)]
        chosen[min(peers, key=lambda r: float(np.median(r.peers))).peer] = bar
    return [replace(result, bar=chosen.get(result.peer)) for result in results]


def _time_loop(contender: Contender, count: int) -> float:
    call = contender.call
    start = perf_counter_ns()
    for _ in repeat(None, count):
        call()
    contender.finish()
    return (perf_counter_ns() - start) * 1e-9


def _calls_per_loop(contender: Contender, loop_s: float) -> int:
    """Warm the contender up, and find how many calls fill ``loop_s``."""
    _time_loop(contender, 1)
    count = 1
    while (elapsed := _time_loop(contender, count)) < loop_s / 2:
        count *= 2
    return max(1, round(count * loop_s / elapsed)) if loop_s else 1
