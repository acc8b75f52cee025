"""The ways to run a case, each beside NumPy's own answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad as fg
from sweep.cases import Case
from sweep.compare import Answer, Raised, difference, split

MODES = ("plain", "eager", "vmap", "numpy", "llvm")
# Compiled programs hold this many cases.
BATCH = 40


def attempt(call: Callable[[], Any]) -> Answer | Raised:
    """NumPy's and ours alike, without the warnings, which are no part of an answer."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return split(call())
        except Exception as error:
            return Raised(error)


def copied(x: Any) -> Any:
    """Operands of its own for each call: some functions write to them."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(copied, x))
    if not isinstance(x, np.ndarray):
        return x
    made = x.copy("K") if x.flags.forc or not x.ndim else x
    made.flags.writeable = x.flags.writeable
    return made


def reference(case: Case) -> Answer | Raised:
    return attempt(lambda: case.run(case.numpys, copied(case.traced)))


def plain(case: Case) -> Answer | Raised:
    return attempt(lambda: case.run(case.ours, copied(case.traced)))


def eager(case: Case) -> Answer | Raised:
    """As under `grad`: values ride along."""
    return _transformed(case, lambda f: fg.vjp(f, *copied(case.traced))[0])


def _transformed(case: Case, transform: Callable[[Callable[..., Any]], Any]) -> Answer | Raised:
    """What `transform` gives for the case's function of traced operands."""
    structures = []

    def function(*traced: Any) -> Any:
        answer = split(case.run(case.ours, traced))
        structures.append(answer.structure)
        return answer.leaves

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            leaves = transform(function)
        except Exception as error:
            return Raised(error)
    return Answer(leaves, structures[0])


# --- vmap -----------------------------------------------------------------------------


def _stackable(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return all(map(_stackable, x))
    return isinstance(x, (np.ndarray, np.generic))


def _stacked(x: Any) -> Any:
    """Two of it: itself, and its elements one further."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(_stacked, x))
    return np.stack([x, np.roll(x, 1)])


def _member(x: Any, i: int) -> Any:
    return type(x)(_member(item, i) for item in x) if isinstance(x, (list, tuple)) else x[i]


def _loop(case: Case, stacked: Sequence[Any]) -> Answer | Raised:
    """NumPy's answers one by one, stacked."""
    answers = []
    for i in range(2):
        operands = [_member(x, i) for x in stacked]
        answer = attempt(lambda operands=operands: case.run(case.numpys, operands))
        if isinstance(answer, Raised):
            return answer
        answers.append(answer)
    first, second = answers
    if str(first.structure) != str(second.structure):
        return Raised(ValueError("the structures differ"))
    pairs = list(zip(first.leaves, second.leaves, strict=True))
    if any(np.shape(a) != np.shape(b) for a, b in pairs):
        return Raised(ValueError("the shapes differ"))
    return Answer([np.stack(pair) for pair in pairs], first.structure)


def vectorised(case: Case) -> tuple[Answer | Raised, Answer | Raised] | None:
    """Under `vmap`, and by a loop."""
    traced = case.traced
    if not traced or not all(map(_stackable, traced)):
        return None
    stacked = [_stacked(x) for x in traced]
    answer = _transformed(case, lambda f: fg.vmap(f)(*stacked))
    return answer, _loop(case, stacked)


# --- jit ------------------------------------------------------------------------------


def compiled(cases: Sequence[Case], backend: str) -> list[Answer | Raised]:
    """All in one program, as far as each can be traced; alone where that fails at run time."""
    found: dict[int, Any] = {}

    def program(operands: list[list[Any]]) -> list[list[Any]]:
        results = []
        for i, (case, traced) in enumerate(zip(cases, operands, strict=True)):
            try:
                answer = split(case.run(case.ours, traced))
            except Exception as error:
                found[i] = Raised(error)
                continue
            found[i] = answer.structure
            results.append(answer.leaves)
        return results

    operands = [copied(case.traced) for case in cases]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            results = iter(fg.jit(program, backend=backend)(operands))
        except Exception as error:
            if len(cases) == 1:
                return [Raised(error)]
            middle = len(cases) // 2
            return compiled(cases[:middle], backend) + compiled(cases[middle:], backend)
    return [
        x if isinstance(x, Raised) else Answer(next(results), x)
        for x in (found[i] for i in range(len(cases)))
    ]


# --- all ------------------------------------------------------------------------------


def differences(cases: Sequence[Case], mode: str) -> list[tuple[Case, str | None]]:
    """How each case in this mode differs from NumPy, for those that have the mode."""
    cases = [c for c in cases if not c.modes or mode in c.modes.split()]
    if mode == "vmap":
        results = [(c, vectorised(c)) for c in cases]
        return [(c, difference(*r, c.scale)) for c, r in results if r is not None]
    if mode in ("numpy", "llvm"):
        actual = []
        for start in range(0, len(cases), BATCH):
            actual += compiled(cases[start : start + BATCH], mode)
    else:
        actual = [plain(c) if mode == "plain" else eager(c) for c in cases]
    return [(c, difference(a, reference(c), c.scale)) for c, a in zip(cases, actual, strict=True)]
