"""Command line: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import multiprocessing

from benchmarks import environment, report, roofline, rows

ROOFLINE = "roofline"  # what the machine can do at most: no row, but the head of the report


def main() -> None:
    """Measure the rows asked for and print them; without names, all of them into results.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = [ROOFLINE, *rows.ROWS]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)} (default: all)"
    )
    asked = parser.parse_args().names
    unknown = sorted(set(asked) - set(known))
    if unknown:
        parser.error(f"no row called {', '.join(unknown)}; there are {', '.join(known)}")

    environment.set_threads()
    names, results, limits = [name for name in asked or rows.ROWS if name != ROOFLINE], [], None
    # A fresh process for each row: no thread pool, cache or heap is left over from another one.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        if not asked or ROOFLINE in asked:
            limits = pool.apply(roofline.measure)
            print(f"{ROOFLINE}: {limits}", flush=True)
        for name, measured in zip(names, pool.imap(rows.measure, names), strict=True):
            print(f"\n{name}\n{report.table(measured)}", flush=True)
            results += measured
    if not asked and limits is not None:
        report.write(results, environment.describe(), limits)
        print(f"wrote {report.RESULTS}")


if __name__ == "__main__":
    main()
