"""Small faults put into the library one at a time: how many of them do the tests notice?

    .venv/bin/python tests/mutants.py record          # once, about ten minutes, into build/mutants/
    .venv/bin/python tests/mutants.py try 200 --seed 0
    .venv/bin/python tests/mutants.py try --at funcgrad/transforms/jvp.py:40

Each mutant is one operator, number or condition of `funcgrad` changed, in memory; the files stay
as they are. Of the recorded tests, those that execute the changed line run until one fails: of each
test function a case, the cheapest first, then of each another. A failure counts where the test
passes without the change. What survives is printed, to be read: some mutants change nothing that
one could see; so are lines that no recorded test executes. Tests that start interpreters of their
own do not see the change there.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.machinery
import json
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from _executed import COLLECTION, FOLDER, IMPORT, import_all, write_programs_anew  # noqa: E402

PARTS = ("transforms", "primitives", "backends/loops")
# Not recorded unless they are named: what starts interpreters, and what asks for other parts.
OTHERS = """
    benchmark_rows benchmarks conversions error_examples examples export files generated_tracebacks
    half llvm_cache llvm_codegen llvm_functions llvm_guards llvm_interrupts llvm_recipes
    llvm_runtime llvm_threads native nn_damage nn_data nn_datasets nn_demo nn_dtypes nn_idx nn_init
    nn_serialization nn_summary numpy_namespace packaging readme reference sweep sweep_finds
""".split()
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
# A test that takes so many times as long as recorded, and so many seconds more, never ends.
SLOWER, MORE_SECONDS = 20, 20
SURVIVES, FAILS = 0, 1
CACHE = type(cache(lambda: None))


# --- mutants ----------------------------------------------------------------------------


class Mutant(NamedTuple):
    """The `number`th change of a file."""

    path: str
    number: int
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after}"


@cache
def source_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def change(node: Any) -> Any:
    """What a node becomes; None where it stays."""
    new: Any = copy.copy(node)
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new.ops = [SWAPS[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        new = node.operand
    elif isinstance(node, ast.IfExp):
        new.body, new.orelse = node.orelse, node.body
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        new.value = not node.value if isinstance(node.value, bool) else node.value + 1
    else:
        return None
    return new


class Changer(ast.NodeTransformer):
    """Applies one change, if a number is given, and lists all."""

    def __init__(self, path: str, number: int | None = None):
        self.path, self.number = path, number
        self.found: list[Mutant] = []
        self.seen = 0

    def visit(self, node: Any) -> Any:
        if isinstance(node, ast.keyword) and node.arg == "strict":
            # Whether `zip` asks for equal lengths, which it gets.
            return node
        new = change(node)
        if new is not None:
            self.seen += 1
            if self.number is None:
                self.list(node, new)
            elif self.seen == self.number:
                return new
        return self.generic_visit(node)

    def list(self, node: Any, new: Any) -> None:
        line = source_of(self.path).splitlines()[node.lineno - 1].encode()
        before = line[node.col_offset : node.end_col_offset].decode()
        # One line is easier to read, and places within f-strings are wrong before Python 3.12.
        with contextlib.suppress(SyntaxError):
            if ast.unparse(ast.parse(before, mode="eval")) == ast.unparse(node):
                self.found.append(
                    Mutant(self.path, self.seen, node.lineno, before, ast.unparse(new))
                )


def mutants_of(path: str) -> list[Mutant]:
    changer = Changer(path)
    changer.visit(ast.parse(source_of(path)))
    return changer.found


def compiled(path: str, number: int | None) -> CodeType:
    tree = Changer(path, number).visit(ast.parse(source_of(path)))
    return compile(tree, str(ROOT / path), "exec", dont_inherit=True)


def every_mutant() -> list[Mutant]:
    files = sorted(file for part in PARTS for file in (ROOT / "funcgrad" / part).rglob("*.py"))
    return [m for file in files for m in mutants_of(file.relative_to(ROOT).as_posix())]


# --- a mutant in a process that has imported everything ------------------------------------


def pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    yield old, new
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (old, new)]
    for a, b in zip(*inner, strict=True):
        yield from pairs(a, b)


def alone(code: CodeType) -> CodeType:
    """Without the functions within."""
    return code.replace(
        co_consts=tuple(None if isinstance(c, CodeType) else c for c in code.co_consts)
    )


def identity(code: CodeType) -> Any:
    return code.co_filename, code.co_qualname, code.co_firstlineno, code.co_linetable


@cache
def living() -> dict[Any, list[FunctionType]]:
    """The library's functions by what identifies their code."""
    found = defaultdict(list)
    for value in gc.get_objects():
        if type(value) is FunctionType and value.__code__.co_filename.startswith(str(ROOT)):
            found[identity(value.__code__)].append(value)
    return found


@cache
def caches() -> list[Callable[[], None]]:
    """What empties the library's caches of what the unchanged code has found."""
    from funcgrad.core.lru_cache import LruCache

    found: list[Callable[[], None]] = []
    for value in gc.get_objects():
        # The machine's own state, such as the threads that are there, stays.
        name = getattr(value, "__module__", None) if type(value) is CACHE else None
        if str(name).startswith("funcgrad") and not str(name).startswith("funcgrad.backends.llvm"):
            found.append(value.cache_clear)
        elif type(value) is LruCache:
            found.append(value._entries.clear)
    return found


def replacements(mutant: Mutant) -> list[tuple[FunctionType, CodeType]]:
    """Functions and their code as the mutant has it; none where it has to be imported."""
    old, new = compiled(mutant.path, None), compiled(mutant.path, mutant.number)
    changed = [(a, b) for a, b in pairs(old, new) if a != b]
    found = [(f, b) for a, b in changed for f in living().get(identity(a), ())]
    own = next(a for a, b in changed if alone(a) != alone(b))
    within = next((a for a, _ in changed if a is not old and encloses(a, own)), None)
    return found if within is not None and identity(within) in living() else []


def encloses(outer: CodeType, inner: CodeType) -> bool:
    return any(code is inner for code, _ in pairs(outer, outer))


# --- which tests ----------------------------------------------------------------------------


class Executed:
    """What `record` has found: the tests that execute a line, and how long they take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        for file in FOLDER.glob("*.json"):
            self.seconds |= json.loads(file.read_text(encoding="utf-8"))
        self.data = [sqlite3.connect(file) for file in sorted(FOLDER.glob("*.lines*"))]
        if not self.data:
            sys.exit("first: .venv/bin/python tests/mutants.py record")

    @cache  # noqa: B019
    def bits(self, path: str) -> list[tuple[str, bytes]]:
        query = (
            "SELECT context, numbits FROM line_bits JOIN context ON context.id = context_id"
            " JOIN file ON file.id = file_id WHERE path = ?"
        )
        return [row for data in self.data for row in data.execute(query, (str(ROOT / path),))]

    def by(self, path: str, lines: range) -> set[str]:
        def has(bits: bytes, line: int) -> bool:
            return line // 8 < len(bits) and bool(bits[line // 8] >> line % 8 & 1)

        return {name for name, bits in self.bits(path) if any(has(bits, n) for n in lines)}

    def select(self, mutant: Mutant) -> tuple[list[str], bool]:
        """The tests that may notice a mutant, and whether its line runs on import."""
        found = self.by(mutant.path, range(mutant.line, mutant.line + 1))
        imported = IMPORT in found
        if not found or imported:
            statement = statement_at(mutant.path, mutant.line)
            found |= self.by(mutant.path, lines_of(statement))
            if not found:
                return [], False
            for name in names_of(statement):
                for path, line in mentions(name):
                    found |= self.by(path, range(line, line + 1))
            if found <= {IMPORT, COLLECTION}:
                found = self.by(mutant.path, range(1, 10_000))
        return self.ordered(found), imported

    def ordered(self, tests: set[str]) -> list[str]:
        functions = defaultdict(list)
        for name in sorted(tests & self.seconds.keys(), key=self.seconds.__getitem__):
            functions[name.partition("[")[0]].append(name)
        turns = [(turn, self.seconds[n], n) for f in functions.values() for turn, n in enumerate(f)]
        return [name for *_, name in sorted(turns)]


def statement_at(path: str, line: int) -> ast.stmt:
    """The innermost statement with a line."""
    found = [
        node
        for node in ast.walk(ast.parse(source_of(path)))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return min(found, key=lambda node: (node.end_lineno or 0) - node.lineno)


def lines_of(statement: ast.stmt) -> range:
    """Those of a statement, without the ones within."""
    body = getattr(statement, "body", None)
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


def names_of(statement: ast.stmt) -> set[str]:
    """What an assignment assigns to."""
    return {
        getattr(node, "id", getattr(node, "attr", ""))
        for node in ast.walk(statement)
        if isinstance(getattr(node, "ctx", None), ast.Store)
    }


@cache
def mentions(name: str) -> list[tuple[str, int]]:
    word = re.compile(rf"\b{re.escape(name)}\b")
    return [
        (path, number)
        for path in (f.relative_to(ROOT).as_posix() for f in (ROOT / "funcgrad").rglob("*.py"))
        for number, text in enumerate(source_of(path).splitlines(), 1)
        if word.search(text)
    ]


# --- running tests --------------------------------------------------------------------------


class Failures:
    """Whether a test has failed."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or report.failed


def cpu_seconds() -> float:
    """Of this process and of those that it has started."""
    return sum(os.times()[:4])


def run(items: Sequence[pytest.Item], seconds: float, expected: dict[str, float], tell: int) -> int:
    """Run tests until one fails; writes the name of each before it begins."""
    failures = Failures()
    items[0].config.pluginmanager.register(failures)
    start = cpu_seconds()
    for item, following in zip(items, [*items[1:], None], strict=True):
        if cpu_seconds() - start > seconds:
            break
        os.write(tell, item.nodeid.encode() + b"\n")
        signal.alarm(int(SLOWER * expected.get(item.nodeid, 1.0)) + MORE_SECONDS)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if failures.failed:
            return FAILS
    return SURVIVES


def in_a_fork(work: Callable[[int], int]) -> tuple[int, list[str]]:
    """The status of a process that does the work, and the lines that it has told."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = FAILS
        try:
            os.close(read)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 2)
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            status = work(write)
        finally:
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        told = file.read().splitlines()
    return os.waitpid(child, 0)[1], told


class Trier:
    """Takes the place of pytest's loop over the tests that it has collected."""

    def __init__(self, mutants: Sequence[Mutant], executed: Executed | None, options: Any):
        self.mutants, self.executed, self.options = mutants, executed, options
        self.is_sound = cache(self._is_sound)
        self.noticed = self.unexecuted = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        # The smallest example that fails is of no interest.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("default"), phases=phases)
        settings.load_profile("mutants")
        import_all()
        write_programs_anew()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.expected = self.executed.seconds if self.executed else {}
        living()
        caches()
        gc.freeze()
        for count, mutant in enumerate(self.mutants, 1):
            start = time.monotonic()
            print(f"{mutant}: {self.outcome(mutant)}, {time.monotonic() - start:.1f} s")
            print(f"{self.noticed} of {count} noticed, {self.unexecuted} not executed", flush=True)
        return True

    def outcome(self, mutant: Mutant) -> str:
        tests, imported = list(self.items), False
        if self.executed:
            tests, imported = self.executed.select(mutant)
        tests = [name for name in tests if name in self.items]
        if not tests:
            self.unexecuted += 1
            return "NOT EXECUTED by any of the tests"
        found = [] if imported else replacements(mutant)
        while tests:
            status, told = self.attempt(mutant, found, tests)
            if not status:
                return f"SURVIVES {len(told)} of {len(tests)} tests"
            if not told or self.is_sound(told[-1]):
                self.noticed += 1
                return f"noticed by {told[-1] if told else 'imports'} after {len(told) - 1} tests"
            tests = [name for name in tests if name not in told]
        return "SURVIVES: its tests are not sound"

    def attempt(self, mutant: Mutant, found: Any, tests: list[str]) -> tuple[int, list[str]]:
        if not found:
            return imported_anew(mutant, tests, self.options.seconds)

        def work(tell: int) -> int:
            for function, code in found:
                function.__code__ = code
            for clear in caches():
                clear()
            return run([self.items[n] for n in tests], self.options.seconds, self.expected, tell)

        return in_a_fork(work)

    def _is_sound(self, name: str) -> bool:
        """Whether a test passes where nothing is changed."""
        return not in_a_fork(lambda tell: run([self.items[name]], 1e9, self.expected, tell))[0]


# --- a mutant that is imported ----------------------------------------------------------------


class Few:
    """Runs tests in their order."""

    def __init__(self, tests: Sequence[str], seconds: float, tell: int):
        self.tests, self.seconds, self.tell = tests, seconds, tell
        self.status = FAILS

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        write_programs_anew()
        items = {item.nodeid: item for item in session.items}
        chosen = [items[name] for name in self.tests if name in items]
        self.status = run(chosen, self.seconds, {}, self.tell) if chosen else FAILS
        return True


def imported_anew(mutant: Mutant, tests: list[str], seconds: float) -> tuple[int, list[str]]:
    """The status of a process that imports the mutant and runs the tests, and which it began."""
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    read, write = os.pipe()
    given = json.dumps([mutant, files, tests, seconds, write])
    with subprocess.Popen(
        [sys.executable, __file__, "import"], stdin=subprocess.PIPE, pass_fds=[write],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, encoding="utf-8",
    ) as child:  # fmt: skip
        os.close(write)
        assert child.stdin
        child.stdin.write(given)
        child.stdin.close()
        with open(read, encoding="utf-8") as file:
            told = file.read().splitlines()
    return child.returncode, told


def import_and_run() -> int:
    given, files, tests, seconds, tell = json.load(sys.stdin)
    mutant = Mutant(*given)
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        if self.path == str(ROOT / mutant.path):
            return compiled(mutant.path, mutant.number)
        return original(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code
    few = Few(tests, seconds, tell)
    pytest.main(["-q", "-s", "-p", "no:cacheprovider", *files], plugins=[few])
    return few.status


# --- the commands -------------------------------------------------------------------------


def environment() -> dict[str, str]:
    parts = json.dumps(PARTS)
    given = {"FUNCGRAD_CACHE_DIR": str(FOLDER / "code"), "FUNCGRAD_MUTATED": parts}
    return given | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def record(options: Any) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file in [*FOLDER.glob("*.json"), *FOLDER.glob("*.lines*")]:
        file.unlink()
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(options.jobs), "-p", "_executed"]
    command += options.tests or recorded_files()
    return subprocess.call(command, cwd=ROOT, env=os.environ | environment())


def recorded_files() -> list[str]:
    apart = {f"test_{name}.py" for name in OTHERS}
    return sorted(str(f) for f in (ROOT / "tests").glob("test_*.py") if f.name not in apart)


def try_mutants(options: Any) -> int:
    every = every_mutant()
    if options.at:
        drawn = [m for m in every if f"{m.path}:{m.line}" in options.at]
    else:
        drawn = random.Random(options.seed).sample(every, options.count)
    print(f"{len(drawn)} of {len(every)} mutants", flush=True)
    number, _, total = options.share.partition("/")
    drawn = drawn[int(number) - 1 :: int(total)]
    os.environ.update(environment())
    executed = None if options.tests else Executed()
    files = options.tests
    if executed:
        files = sorted({name.partition("::")[0] for name in executed.seconds})
    trier = Trier(drawn, executed, options)
    pytest.main(["-q", "-s", "-p", "no:cacheprovider", *files], plugins=[trier])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("tests", nargs="*", help="files or options of pytest")
    recording.add_argument("--jobs", default=2)
    trying = commands.add_parser("try")
    trying.add_argument("count", type=int, nargs="?", default=200)
    trying.add_argument("--seed", type=int, default=0)
    trying.add_argument("--at", action="append", default=[], metavar="FILE:LINE")
    trying.add_argument("--share", default="1/1", help="2/3: the second of three processes")
    trying.add_argument("--tests", nargs="+", default=[], help="these instead of the recorded")
    trying.add_argument("--seconds", type=float, default=60.0, help="for a mutant's tests")
    commands.add_parser("import")
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.command == "import":
        return import_and_run()
    return record(options) if options.command == "record" else try_mutants(options)


if __name__ == "__main__":
    sys.exit(main())
