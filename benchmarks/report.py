"""Turns results into the table of ``results.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Result
from benchmarks.roofline import Roofline

RESULTS = Path(__file__).with_name("results.md")
HEADER = """\
| what | funcgrad | peer | peer's | ratio: median [min … max] | bar | met? |
| --- | ---: | --- | ---: | ---: | --- | --- |
"""
INTRODUCTION = """\
# Benchmarks

Written by `make bench`. Each row does the same work in each library and checks first that the
numbers agree. The contenders take turns in one process; a sample is the best of several loops, a
ratio is formed from two neighbouring samples, and the table shows the median and the range of
those ratios. A time is a median over the samples. Rows with a bar come first; the others are shown
to put it into proportion.

"""

BOUNDS_INTRODUCTION = """\
The bytes of a row's arguments and results, each moved once, and the arithmetic of its matrix
products: what they would take at the machine's best rates, as measured above, and what funcgrad
takes.

"""
BOUNDS_HEADER = """\
| what | bytes | products | at least | funcgrad | times that |
| --- | ---: | ---: | ---: | ---: | ---: |
"""


def table(results: Iterable[Result]) -> str:
    """The results as a Markdown table."""
    return HEADER + "".join(_line(result) for result in results)


def write(
    results: Sequence[Result], machine: str, roofline: Roofline, path: Path = RESULTS
) -> None:
    """Write the whole page: machine, rows with a bar, the rest, and what bounds them."""
    barred = [result for result in results if result.bar is not None]
    others = [result for result in results if result.bar is None]
    text = f"{INTRODUCTION}Machine: {machine}.\n\nIts limits: {roofline}.\n\n{table(barred)}"
    if others:
        text += f"\n## For comparison\n\n{table(others)}"
    text += f"\n## What bounds a row\n\n{BOUNDS_INTRODUCTION}{_bounds(results, roofline)}"
    path.write_text(text, encoding="utf-8")


def _bounds(results: Iterable[Result], roofline: Roofline) -> str:
    """A line for each row that says what its work is."""
    lines = {}
    for result in results:
        if result.work is not None:
            least, ours = roofline.least_seconds(result.work), float(np.median(result.ours))
            work = f"{result.work.moved * 1e-6:.3g} MB", f"{result.work.flops * 1e-9:.3g} GFLOP"
            cells = (result.what, *work, _amount(least, "s"), _amount(ours, "s"))
            lines[result.what] = f"| {' | '.join(cells)} | {ours / least:.3g} × |\n"
    return BOUNDS_HEADER + "".join(lines.values())


def _line(result: Result) -> str:
    met = {None: "", True: "yes", False: "**no**"}[result.met]
    low, middle, high = min(result.figures), result.figure, max(result.figures)
    if result.figure_unit == "×":
        figure = f"{middle:.3g} × [{low:.3g} … {high:.3g}]"
        bar = "" if result.bar is None else f"{result.bar} ×"
    else:
        alone = result.figures == result.ours  # else it is by how much we are above the peer
        figure = f"{'' if alone else '+'}{_amount(middle, result.figure_unit)} "
        figure += f"[{_amount(low, result.figure_unit)} … {_amount(high, result.figure_unit)}]"
        sense = "" if result.bar is None else str(result.bar)[0]
        bar = "" if result.bar is None else f"{sense} {_amount(result.bar.limit, 's')}"
    cells = (
        result.what,
        _amount(float(np.median(result.ours)), result.unit),
        result.peer or "none",
        _amount(float(np.median(result.peers)), result.unit) if result.peers else "",
        figure,
        bar,
        met,
    )
    return "| " + " | ".join(cells) + " |\n"


def _amount(value: float, unit: str) -> str:
    """A quantity with three significant figures and a fitting prefix."""
    if unit != "s":
        return f"{value:.3g} {unit}"
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value / 1e-9:.3g} ns"
