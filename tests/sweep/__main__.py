"""`python -m sweep [--mode MODE] [--every N] [--jobs N] [names]`: the whole sweep."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from sweep.cases import sample
from sweep.known import KNOWN, Known, explain
from sweep.modes import MODES, differences
from sweep.table import TABLE, cases_of


class Found(NamedTuple):
    """What a function's cases came to in one mode."""

    name: str
    mode: str
    compared: int
    unexplained: list[tuple[str, str]]
    explained: Counter[Known]


def examine(task: tuple[str, str, int]) -> Found:
    name, mode, every = task
    # Machine code takes ten times as long to make as all else.
    every *= 4 if mode == "llvm" else 1
    found = differences(sample(cases_of(name), every), mode)
    unexplained, explained = [], Counter[Known]()
    for case, difference in found:
        if difference is None:
            continue
        line = explain(case, mode, difference)
        if line is None:
            unexplained.append((case.text, difference))
        else:
            explained[line] += 1
    return Found(name, mode, len(found), unexplained, explained)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="sweep", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions, as 'nan*'; all by default")
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--every", type=int, default=1, help="take every n-th case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--show", type=int, default=6, help="differences shown for each function")
    parser.add_argument("--dump", help="write all unexplained differences to this JSON file")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    names = [
        name
        for name in sorted(TABLE)
        if not options.names or any(fnmatch.fnmatch(name, p) for p in options.names)
    ]
    modes = options.mode or MODES
    tasks = [(name, mode, options.every) for name in names for mode in modes]
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            found = list(pool.map(examine, tasks))
    else:
        found = list(map(examine, tasks))
    if options.dump:
        rows = [[f.name, f.mode, *d] for f in found for d in f.unexplained]
        Path(options.dump).write_text(json.dumps(rows), encoding="utf-8")
    return report(found, options, complete=len(names) == len(TABLE) and options.every == 1)


def report(found: list[Found], options: Any, complete: bool) -> int:
    explained = sum((f.explained for f in found), Counter[Known]())
    unexplained = 0
    kinds: Counter[str] = Counter()
    for f in found:
        unexplained += len(f.unexplained)
        kinds.update(difference.partition(":")[0] for _, difference in f.unexplained)
        for text, difference in f.unexplained[: options.show]:
            print(f"{f.mode:6} {text}\n       {difference}")
        more = len(f.unexplained) - options.show
        if more > 0:
            print(f"       ... {more} more of {f.name} in {f.mode}")
    modes = Counter[str]()
    for f in found:
        modes[f.mode] += f.compared
    functions = len({f.name for f in found})
    print(f"\n{functions} functions, {modes.total()} comparisons: {dict(modes)}")
    print(f"explained differences: {explained.total()}, by {len(explained)} lines")
    for line in KNOWN:
        if line in explained:
            print(f"  {explained[line]:6} {line.names}: {line.kinds}: {line.reason}")
    stale = [line for line in KNOWN if line not in explained] if complete else []
    for line in stale:
        print(f"  explains nothing any more: {line}")
    print(f"unexplained differences: {unexplained} {dict(kinds)}")
    return bool(unexplained or stale)


if __name__ == "__main__":
    sys.exit(main())
