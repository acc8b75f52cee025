"""Small faults put into the library one at a time: how many of them do the tests notice?

    .venv/bin/python tests/mutants.py 200 --seed 0

Each mutant is one operator, number or condition of `funcgrad` changed, in memory; the files stay
as they are. The tests of its part run in a process of their own until one fails. Those that
survive are printed with their line, to be read: some change nothing that one could see.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "transforms": "snapshots scopes custom control jit checkpoint simplify captures static "
    "regressions half compositions contract",
    "primitives": "contract snapshots contraction indexing random special sorting gamma half "
    "numpy_reductions numpy_structure regressions",
    "backends/loops": "snapshots backends donation llvm_batches llvm_counts llvm_strides "
    "llvm_regressions llvm_padding native llvm_errors llvm_recipes contract",
}
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
SECONDS = 400


class Mutant(NamedTuple):
    path: str
    line: int
    before: str
    after: str
    source: str


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Nodes of a module, each with what it becomes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
            new: Any = copy.copy(node)
            new.op = SWAPS[type(node.op)]()
            yield node, new
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            new = copy.copy(node)
            new.ops = [SWAPS[type(node.ops[0])](), *node.ops[1:]]
            yield node, new
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield node, node.operand
        elif isinstance(node, ast.IfExp):
            new = copy.copy(node)
            new.body, new.orelse = node.orelse, node.body
            yield node, new
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, ast.copy_location(ast.Constant(value), node)


def mutants_of(path: Path) -> list[Mutant]:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    found = []
    for node, new in changes(ast.parse(source)):
        before = ast.get_source_segment(source, node)
        at: Any = node
        if before is None or at.lineno != at.end_lineno:
            continue
        row = lines[at.lineno - 1].encode()
        after = ast.unparse(ast.fix_missing_locations(new))
        text = row[: at.col_offset] + f"({after})".encode() + row[at.end_col_offset :]
        mutated = [*lines[: at.lineno - 1], text.decode(), *lines[at.lineno :]]
        name = str(path.relative_to(ROOT))
        found.append(Mutant(name, at.lineno, before, after, "".join(mutated)))
    return found


def is_noticed(mutant: Mutant, tests: str) -> bool:
    """Whether a test fails, or never ends."""
    files = [f"tests/test_{name}.py" for name in tests.split()]
    command = [sys.executable, __file__, "--child", "-x", "-q", "-p", "no:cacheprovider", *files]
    given = json.dumps([mutant.path, mutant.source])
    # What machine code is kept by doesn't know of the mutant.
    cache = "off" if "backends" in mutant.path else str(ROOT / "build" / "test-cache")
    environment = os.environ | {"FUNCGRAD_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, input=given, text=True, capture_output=True, env=environment, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def child() -> int:
    """Runs the tests with one module's source replaced."""
    import importlib.machinery as machinery

    import pytest

    path, source = json.load(sys.stdin)
    original = machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        if self.path == str(ROOT / path):
            return self.source_to_code(source.encode(), self.path)
        return original(self, fullname)

    machinery.SourceFileLoader.get_code = get_code
    sys.path.insert(0, str(ROOT))
    return int(pytest.main(sys.argv[2:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=PARTS, help="only this one")
    options = parser.parse_args()
    drawn = random.Random(options.seed)
    parts = [options.part] if options.part else [*PARTS]
    noticed = tried = 0
    for number in range(options.count):
        part = parts[number % len(parts)]
        path = drawn.choice(sorted((ROOT / "funcgrad" / part).glob("*.py")))
        choices = mutants_of(path)
        if not choices:
            continue
        mutant = drawn.choice(choices)
        tried += 1
        found = is_noticed(mutant, PARTS[part])
        noticed += found
        if not found:
            print(f"survives: {mutant.path}:{mutant.line}: {mutant.before} -> {mutant.after}")
        print(f"{noticed} of {tried} noticed", flush=True)


if __name__ == "__main__":
    if "--child" in sys.argv:
        sys.exit(child())
    main()
