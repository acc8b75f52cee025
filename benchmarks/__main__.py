"""Command line: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import multiprocessing

from benchmarks import environment, report, rows


def main() -> None:
    """Measure the rows asked for and print them; without names, all of them into results.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(rows.ROWS)} (default: all)"
    )
    asked = parser.parse_args().names
    unknown = sorted(set(asked) - set(rows.ROWS))
    if unknown:
        parser.error(f"no row called {', '.join(unknown)}; there are {', '.join(rows.ROWS)}")

    environment.set_threads()
    names, results = asked or list(rows.ROWS), []
    # A fresh process for each row: no thread pool, cache or heap is left over from another one.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        for name, measured in zip(names, pool.imap(rows.measure, names), strict=True):
            print(f"\n{name}\n{report.table(measured)}", flush=True)
            results += measured
    if not asked:
        report.write(results, environment.describe())
        print(f"wrote {report.RESULTS}")


if __name__ == "__main__":
    main()
