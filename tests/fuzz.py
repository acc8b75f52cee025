"""The long run: `python tests/fuzz.py 20000 [seed]` checks that many random programs.

Each program is drawn by the strategies of the tests and goes through every check, by each
backend that there is; a failure prints the program (smallest first, as Hypothesis shrinks it)
and stops the run. `python tests/fuzz.py 20000 1 arrays` takes programs over larger arrays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from array_programs import array_programs, check_arrays
from program_checks import check_all
from programs import programs


def main(count: int, start: int, strategy: Any, check: Callable[[Any], None]) -> None:
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
    @given(strategy)
    def run(program: Any) -> None:
        nonlocal done
        check(program)
        done += 1

    while done < count:
        start += 1
        seed(start)(run)()
        print(f"{done} programs, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if "arrays" in sys.argv:
        main(int(sys.argv[1]), number, array_programs(), check_arrays)
    else:
        main(int(sys.argv[1]), number, programs(), check_all)
