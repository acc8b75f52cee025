"""The long run: `python tests/fuzz.py 20000 [seed]` checks that many random programs.

Each program is drawn by the strategies of the tests and goes through every check, by each
backend that there is; a failure prints the program (smallest first, as Hypothesis shrinks it)
and stops the run. Every second program is over arrays of all dtypes; with `typed` behind the
seed all are. `python tests/fuzz.py 20000 1 arrays` takes programs over larger arrays, and
`python tests/fuzz.py 20000 1 guarded` runs these in guarded memory, where the process ends at the
first access that goes astray; the last line printed is then that program.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import one_of

import funcgrad as fg
from array_programs import ArrayProgram, array_programs, check_arrays, weighted
from program_checks import check_all
from programs import Program, programs
from typed_programs import TypedProgram, check_typed, typed_programs


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


def check_either(program: Program | TypedProgram) -> None:
    check = check_typed if isinstance(program, TypedProgram) else check_all
    check(program)


def check_guarded() -> Callable[[ArrayProgram], None]:
    """The check that native code, value and gradient, touches no memory but its arrays'."""
    import faulthandler

    from _guards import Guards

    faulthandler.enable()
    guards = Guards()
    guards.install()

    def check(program: ArrayProgram) -> None:
        print(program, flush=True)
        for guards.at_end in (True, False):
            args = [guards.copy(a) for a in program.arguments()]
            fg.jit(program, backend="llvm")(*args)
            if program.smooth:
                gradient = fg.grad(weighted(program), argnums=tuple(range(len(args))))
                fg.jit(gradient, backend="llvm")(*args)

    return check


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if "guarded" in sys.argv:
        main(int(sys.argv[1]), number, array_programs(), check_guarded())
    elif "arrays" in sys.argv:
        main(int(sys.argv[1]), number, array_programs(), check_arrays)
    elif "typed" in sys.argv:
        main(int(sys.argv[1]), number, typed_programs(), check_typed)
    else:
        main(int(sys.argv[1]), number, one_of(programs(), typed_programs()), check_either)
