"""The long run: `python tests/fuzz.py 20000 [seed]` checks that many random programs.

Each program is drawn by the strategy of the tests and goes through every check; a failure
prints the program (smallest first, as Hypothesis shrinks it) and stops the run.
"""

from __future__ import annotations

import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from program_checks import check_all
from programs import Program, programs


def main(count: int, start: int) -> None:
    done = 0
    began = time.perf_counter()
    chunk = 500

    @settings(
        max_examples=chunk,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(programs())
    def run(program: Program) -> None:
        nonlocal done
        check_all(program)
        done += 1

    while done < count:
        start += 1
        seed(start)(run)()
        print(f"{done} programs, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
